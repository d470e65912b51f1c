/* Away: what waits for long is rows alone. A retry that is due later than retry_window_ms, and a key that is blocked by a dead letter, cost no
 * memory, however many there are.
 *
 *                       at the end of a turn
 *     entry, key ─────────────────────────────────> rows: held, its done bit; of a retry: sched 'a' | due; of a key: its members and its list
 *        ^                                              │
 *        ├── due within the window: effect `back`, readers, engine_back
 *        ├── named by a late settle, a redrive, a drop ─┤   the whole key comes back, and goes again at the end of the turn if it still can
 *        └── another of its key is redriven ────────────┘
 *
 * A message that is away is done for floor and scan, as a dead letter under `park: message` is; when it is back it is an entry at an offset that
 * is done, as a redriven one. A key goes as a whole: the head, and its front behind it, are `members` of one row. What else of it there is stands
 * in its list, to which the scan goes on appending: for that the row is read, and the key is in memory for this turn, its members are not.
 *
 * What is away is counted in the cursor row of the group's first partition, and is part of the group's other counts.
 *
 * A purge does not walk over what is away. It counts: what says an older number is not there any more. A sweep (purge.c) removes such rows.
 */
#include "engine/memory.h"
#include "base/planted.h"

enum {
    FRONT_MAX = 256,           /* a key with a larger front stays in memory */
    BACK_ROWS_MAX = 1024,      /* come back in one turn */
    LOOK_MS_MAX = 10000        /* the wall clock may be set forward: looked at again */
};

static void counts_changed(struct engine *en, struct group *g) { mark_dirty(&en->dirty_parts, &g->parts[0]->dirty); }

static uint64_t *count_of(struct away_counts *a, uint8_t state)
{
    return state == AWAY_BLOCKED ? &a->blocked : state == AWAY_WAITING ? &a->waiting : &a->retrying;
}

/* A retry of before the last purge, whose row is still there. */
bool away_purged(const struct group *g, const struct held_row *row)
{
    return row->state == HELD_RETRYING && row->purges != g->away.purges && !PLANTED(purged_comes_back);
}

static bool none_away(const struct group *g) { return g->away.retrying + g->away.blocked + g->away.waiting == 0; }

static bool far(const struct engine *en, const struct entry *e)
{
    return e->state == ENTRY_BLOCKED ||
           (e->state == ENTRY_RETRYING && e->due_ms > en->wall_ms && e->due_ms - en->wall_ms > en->limits->retry_window_ms);
}

/* ---------------------------------------------------------------- rows of a time */

static void time_put(struct engine *en, const struct key *k)
{
    buf_clear(&en->row);
    buf_put_u8(&en->row, ROW_FORMAT);
    row_put(en, FAM_SCHED, k);
}

static void low_put(struct engine *en)
{
    struct key k = key_sched_away_low();
    buf_clear(&en->row);
    sched_low_row_put(&en->row, &(struct sched_low_row){.low_ms = en->away.low_ms});
    row_put(en, FAM_SCHED, &k);
    en->away.low_known = true;
}

static void time_here(struct engine *en, struct entry *e)
{
    struct key k = key_sched_retry(e->due_ms, e->part->group->id, e->part->partition->id, e->offset);
    time_put(en, &k);
    e->has_time = true;
}

static void time_away(struct engine *en, const struct entry *e)
{
    struct key k = key_sched_away(e->due_ms, e->part->group->id, e->part->partition->id, e->offset);
    time_put(en, &k);
    if (e->due_ms < en->away.next_ms)
        en->away.next_ms = e->due_ms;
    if (!en->away.low_known) {
        en->away.low_ms = en->wall_ms;
        low_put(en);
    }
}

bool entry_may_go(struct engine *en, struct entry *e)
{
    if (!far(en, e))
        return false;
    mark_dirty(&en->leaving, &e->link);
    if (e->key != NULL)
        mark_dirty(&en->dirty_keys, &e->key->dirty);
    return true;
}

void entry_time(struct engine *en, struct entry *e)
{
    if (!entry_may_go(en, e))
        time_here(en, e);
}

/* ---------------------------------------------------------------- going */

static uint8_t state_of(const struct entry *e)
{
    return e->state == ENTRY_BLOCKED ? AWAY_BLOCKED : e->state == ENTRY_RETRYING ? AWAY_RETRYING : AWAY_WAITING;
}

/* In a front it waits for the head, whatever its own time is: that is known when it is back. */
static uint8_t state_in_front(struct group *g, const struct entry *e)
{
    uint8_t state = state_of(e);
    if (state != AWAY_RETRYING || PLANTED(away_front_retries))
        return state;
    g->retrying--;
    g->waiting++;
    return AWAY_WAITING;
}

/* `timed`: it comes back when it is due; others do with the head of their key, or when they are redriven. */
static void entry_go(struct engine *en, struct entry *e, uint8_t state, bool timed)
{
    struct group_part *p = e->part;
    struct group *g = p->group;
    assert(e->has_row && e->state != ENTRY_LEASED && e->state != ENTRY_READY);
    ++*count_of(&g->away, state);
    counts_changed(en, g);
    en->counters.away_messages++;
    if (e->state == ENTRY_RETRYING)
        timer_clear(en, &e->timer);
    list_remove(&e->link);
    list_remove(&e->of_key);
    if (e->has_time) {
        struct key k = key_sched_retry(e->due_ms, g->id, p->partition->id, e->offset);
        row_remove(en, FAM_SCHED, &k);
    }
    if (timed)
        time_away(en, e);
    if (!e->redriven && !PLANTED(away_not_done)) {
        done_set(&p->done, e->offset);
        g->redriven++;
        mark_dirty(&en->dirty_parts, &p->dirty);
    }
    entry_unpace(e);
    e->key = NULL;
    entry_forget(en, e);
}

static bool key_may_go(const struct engine *en, const struct key_queue *k)
{
    uint32_t n = 0;
    if (k->members_n > 0 || k->head == NULL || !far(en, k->head) || !list_empty(&k->run))
        return false;
    LIST_EACH (node, &k->front)
        if (++n > FRONT_MAX)
            return false;
    return true;
}

static void key_go(struct engine *en, struct key_queue *k)
{
    struct group *g = k->group;
    uint32_t n = 1, at = 0;
    LIST_EACH (node, &k->front)
        n++;
    k->members = mem_array(n, sizeof *k->members);
    k->members_n = n;
    struct list_node *next = list_first(&k->front);
    for (struct entry *e = k->head; e != NULL; at++) {
        uint8_t state = at == 0 ? state_of(e) : state_in_front(g, e);
        k->members[at] = (struct key_member){.partition = e->part->partition->id, .offset = e->offset, .state = state};
        struct entry *behind = next != NULL ? container_of(next, struct entry, of_key) : NULL;
        next = next != NULL ? list_after(&k->front, next) : NULL;
        entry_go(en, e, state, at == 0 && state == AWAY_RETRYING);
        e = behind;
    }
    k->head = NULL;
    k->changed = true;
    list_remove(&k->unsure);
    key_header_remove(en, k);
    g->away.keys++;
    g->away.behind += PLANTED(away_list_uncounted) ? 0 : k->list.count;
}

static void away_write(struct engine *en, struct key_queue *k)
{
    struct key key = key_away(k->group->id, k->hash);
    key_chunk_write(en, k);
    buf_clear(&en->row);
    away_row_put(&en->row, &(struct away_row){.list = k->list, .purges = k->group->away.purges, .members = k->members, .members_n = k->members_n});
    row_put(en, FAM_KEYS, &key);
    k->changed = false;
}

void away_key_changed(struct engine *en, struct key_queue *k)
{
    k->changed = true;
    counts_changed(en, k->group);
    mark_dirty(&en->dirty_keys, &k->dirty);
}

/* Of a key that was touched: its rows, and it leaves the memory if it can. */
void away_key_end(struct engine *en, struct key_queue *k)
{
    if (key_may_go(en, k))
        key_go(en, k);
    if (k->members_n == 0) {
        key_write(en, k->group, k);
        return;
    }
    if (k->changed)
        away_write(en, k);
    if (!flow_remembers(en, k))
        key_forget(en, k);
}

/* ---------------------------------------------------------------- coming back */

static void damaged(struct engine *en, const struct group *g, uint32_t partition, uint64_t offset, const char *why)
{
    struct err e = {0};
    err_set(&e, E_DAMAGED, "offset %llu of partition id %u is away in group %u, and %s", (unsigned long long)offset, partition, g->id, why);
    engine_fail(en, &e);
}

bool held_read(struct engine *en, const struct group *g, uint32_t partition, uint64_t offset, struct held_row *row)
{
    struct key k = key_held(g->id, partition, offset);
    struct view v;
    struct err e = {0};
    if (!row_read(en, FAM_HELD, &k, &v))
        return false;
    if (held_row_get(v, row, &e) != E_OK) {
        row_fail(en, FAM_HELD, key_view(&k), &e);
        return false;
    }
    return true;
}

/* An entry again, in no state yet. NULL: the engine failed. */
static struct entry *entry_again(struct engine *en, struct group *g, const struct key_member *m, bool timed)
{
    struct group_part *p = group_part_of(en, g, m->partition);
    struct held_row row;
    if (p == NULL || !held_read(en, g, m->partition, m->offset, &row)) {
        damaged(en, g, m->partition, m->offset, "it has no held row");
        return NULL;
    }
    struct entry *e = entry_new(en, p, m->offset);
    e->has_key = row.has_key;
    e->key_hash = row.key_hash;
    e->due_ms = row.due_ms;
    e->token = row.token;
    e->size = row.size;
    e->grants = row.grants;
    e->failures = row.failures;
    e->priority = priority_bounded(row.priority);
    e->ttl_until_ms = row.expires_ms;
    e->has_row = true;
    entry_present(e);
    struct compactable *compact = p->partition->compact;
    if (compact != NULL && m->offset < compact->back_low)
        compact->back_low = m->offset;
    --*count_of(&g->away, m->state);
    --*(m->state == AWAY_BLOCKED ? &g->blocked : m->state == AWAY_WAITING ? &g->waiting : &g->retrying);
    counts_changed(en, g);
    en->counters.back_messages++;
    if (timed) {
        struct key k = key_sched_away(row.due_ms, g->id, m->partition, m->offset);
        row_remove(en, FAM_SCHED, &k);
    }
    return e;
}

/* Its state, but for being ready or waiting: false. */
static bool state_again(struct engine *en, struct entry *e, uint8_t was)
{
    bool waits = was == AWAY_BLOCKED || (e->due_ms > en->wall_ms && !PLANTED(away_back_early));
    if (was == AWAY_BLOCKED) {
        e->state = ENTRY_BLOCKED;
        e->part->group->blocked++;
    } else if (waits) {
        entry_retry_arm(en, e, e->due_ms - en->wall_ms);
    }
    if (waits)
        entry_time(en, e);
    else
        time_here(en, e);
    return waits;
}

static struct entry *message_back(struct engine *en, struct group *g, uint32_t partition, uint64_t offset)
{
    struct entry *e = entry_again(en, g, &(struct key_member){.partition = partition, .offset = offset, .state = AWAY_RETRYING}, true);
    if (e != NULL && !state_again(en, e, AWAY_RETRYING))
        entry_ready(en, e);
    return e;
}

void away_key_back(struct engine *en, struct key_queue *k)
{
    struct group *g = k->group;
    struct key key = key_away(g->id, k->hash);
    struct key_member *members = k->members;
    uint32_t n = k->members_n;
    k->members = NULL;
    k->members_n = 0;
    k->changed = false;
    row_remove(en, FAM_KEYS, &key);
    g->away.keys--;
    g->away.behind -= k->list.count;
    counts_changed(en, g);
    mark_dirty(&en->dirty_keys, &k->dirty);
    for (uint32_t i = 0; i < n; i++) {
        struct entry *e = entry_again(en, g, &members[i], i == 0 && members[i].state == AWAY_RETRYING);
        if (e == NULL)
            break;
        e->key = k;
        if (i == 0)
            k->head = e;
        bool waits = state_again(en, e, members[i].state);
        if (i > 0 && !waits) {
            e->state = ENTRY_WAITING;
            g->waiting++;
        }
        if (i > 0)
            key_front_add(e);
        else if (!waits)
            entry_ready(en, e);
    }
    mem_free(members);
}

/* What a purge left of a key: its dead letters, and nothing behind them. */
static void drop_purged(struct key_queue *k)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < k->members_n; i++)
        if (k->members[i].state == AWAY_BLOCKED)
            k->members[n++] = k->members[i];
    k->members_n = n;
    k->list = (struct list_header_row){0};
    k->changed = true;
}

static bool key_row_read(struct engine *en, const struct group *g, uint64_t hash, struct away_row *row)
{
    struct key key = key_away(g->id, hash);
    struct view v;
    struct err e = {0};
    if (!row_read(en, FAM_KEYS, &key, &v))
        return false;
    if (away_row_get(v, row, &e) != E_OK) {
        row_fail(en, FAM_KEYS, key_view(&key), &e);
        return false;
    }
    return true;
}

/* A key that is away, in memory for this turn. NULL: it is not away. */
static struct key_queue *key_read(struct engine *en, struct group *g, uint64_t hash)
{
    struct away_row row;
    struct key_member m = {0};
    bool bad = false;
    if (!key_row_read(en, g, hash, &row))
        return NULL;
    struct key_queue *k = key_queue_get(g, hash, true);
    k->members = mem_array(row.members_n, sizeof *k->members);
    while (away_row_next(&row.members_raw, &m, &bad))
        k->members[k->members_n++] = m;
    k->list = row.list;
    if (row.purges != g->away.purges && !PLANTED(away_list_not_purged))
        drop_purged(k);
    k->has_rows = k->list.count > 0;
    mark_dirty(&en->dirty_keys, &k->dirty);
    if (k->members_n > 0)
        return k;
    struct key key = key_away(g->id, hash);
    row_remove(en, FAM_KEYS, &key);
    g->away.keys--;
    counts_changed(en, g);
    key_forget(en, k);
    return NULL;
}

struct key_queue *key_find(struct engine *en, struct group *g, uint64_t hash, bool make)
{
    struct key_queue *k = key_queue_get(g, hash, false);
    if (k == NULL && g->away.keys > 0 && !PLANTED(away_key_unasked))
        k = key_read(en, g, hash);
    return k == NULL && make ? key_queue_get(g, hash, true) : k;
}

bool away_key_look(struct engine *en, const struct group *g, uint64_t hash, struct key_member *head, uint64_t *behind)
{
    const struct key_queue *k = key_queue_get((struct group *)g, hash, false);
    struct away_row row;
    bool bad = false;
    if (k != NULL) {
        if (k->members_n == 0)
            return false;
        *head = k->members[0];
        *behind = k->list.count + k->members_n - 1;
        return true;
    }
    if (g->away.keys == 0 || !key_row_read(en, g, hash, &row))
        return false;
    bool old = row.purges != g->away.purges;
    *head = (struct key_member){0};
    *behind = old ? 0 : row.list.count + row.members_n - 1;
    bool found = false;
    for (struct key_member m = {0}; away_row_next(&row.members_raw, &m, &bad);) {
        bool there = !old || m.state == AWAY_BLOCKED;
        *behind += old && there && found;
        if (there && !found)
            *head = m;
        found |= there;
    }
    return found;
}

/* The entry of a message that is away, of which `row` is the held row. */
struct entry *away_back(struct engine *en, struct group_part *p, uint64_t offset, const struct held_row *row)
{
    struct group *g = p->group;
    if (!row->has_key || g->config.order != ORDER_KEY)
        return message_back(en, g, p->partition->id, offset);
    struct key_queue *k = key_find(en, g, row->key_hash, false);
    if (k != NULL && k->members_n > 0)
        away_key_back(en, k);
    struct entry *e = map_get(&p->entries, offset);
    if (e == NULL)
        damaged(en, g, p->partition->id, offset, "it is not with its key");
    return e;
}

struct entry *entry_find(struct engine *en, struct group_part *p, uint64_t offset, uint64_t token)
{
    struct entry *e = map_get(&p->entries, offset);
    struct held_row row;
    if (e != NULL || token == 0 || none_away(p->group) || !done_has(&p->done, offset) || !held_read(en, p->group, p->partition->id, offset, &row))
        return e;
    if (row.state != HELD_RETRYING || row.token != token || away_purged(p->group, &row) || PLANTED(away_token_lost))
        return NULL;
    return away_back(en, p, offset, &row);
}

/* ---------------------------------------------------------------- when it is due */

static void place_remove(struct engine *en, const struct back_place *b)
{
    struct key k = key_sched_away(b->due_ms, b->group, b->partition, b->offset);
    row_remove(en, FAM_SCHED, &k);
}

/* What readers found may have come back meanwhile, or be of a group that is gone or was purged. */
static void place_back(struct engine *en, const struct back_place *b)
{
    struct group *g = map_get(&en->groups, b->group);
    const struct partition *partition = table_get(&en->partitions, b->partition);
    struct held_row row;
    if (g == NULL || partition == NULL || partition->topic != g->topic || !held_read(en, g, b->partition, b->offset, &row) ||
        row.state != HELD_RETRYING || row.due_ms != b->due_ms) {
        place_remove(en, b);
        return;
    }
    struct group_part *p = group_part(g, partition);
    if (map_get(&p->entries, b->offset) != NULL)
        return;
    if (away_purged(g, &row)) {
        struct key k = key_held(b->group, b->partition, b->offset);
        row_remove(en, FAM_HELD, &k);
        copy_remove(en, p, b->offset);
        place_remove(en, b);
        return;
    }
    away_back(en, p, b->offset, &row);
}

void engine_back(struct engine *en, const struct back *b)
{
    struct away *a = &en->away;
    a->asked = false;
    for (uint32_t i = 0; i < b->places_n && engine_failed(en) == NULL; i++)
        place_back(en, &b->places[i]);
    if (b->next_ms < a->next_ms)
        a->next_ms = b->next_ms;
    uint64_t low = a->next_ms < a->back.to_ms ? a->next_ms : a->back.to_ms;
    if (b->places_n == 0)
        return;
    a->low_ms = low;
    low_put(en);
}

static void looked(struct engine *en, struct timer *t)
{
    (void)en;
    (void)t; /* away_turn_end looks at the end of every turn */
}

/* Retries go by the wall clock of the engine, which goes on when the one outside is not believed. */
static void ask(struct engine *en)
{
    struct away *a = &en->away;
    uint64_t until = en->wall_ms + en->limits->retry_window_ms;
    if (a->asked || a->next_ms == UINT64_MAX || en->stopping) {
        timer_clear(en, &a->timer);
        return;
    }
    if (a->next_ms <= until) {
        a->back = (struct effect_back){.from_ms = a->low_ms, .to_ms = until, .rows_max = BACK_ROWS_MAX};
        en->fx.back = &a->back;
        a->asked = true;
        a->next_ms = UINT64_MAX; /* lowered by what goes from now on */
        timer_clear(en, &a->timer);
        return;
    }
    /* a clock that was set back a little is waited for: until then en->wall_ms stands still */
    uint64_t behind = !en->wall_suspect && en->now.wall_ms < en->wall_ms ? en->wall_ms - en->now.wall_ms : 0;
    uint64_t wait = a->next_ms - until + behind;
    timer_set(en, &a->timer, en->now.mono_ms + (wait < LOOK_MS_MAX ? wait : LOOK_MS_MAX), looked);
}

void away_turn_end(struct engine *en)
{
    for (struct list_node *n; (n = list_pop_front(&en->dirty_keys)) != NULL;)
        away_key_end(en, container_of(n, struct key_queue, dirty));
    for (struct list_node *n; (n = list_pop_front(&en->leaving)) != NULL;) {
        struct entry *e = container_of(n, struct entry, link);
        if (e->key == NULL && far(en, e))
            entry_go(en, e, state_of(e), true);
        else if (!e->has_time)
            time_here(en, e);
    }
    ask(en);
}

/* ---------------------------------------------------------------- after a restart */

void away_load(struct engine *en, struct group *g, const struct away_counts *counts)
{
    g->away = *counts;
    g->retrying += counts->retrying;
    g->blocked += counts->blocked;
    g->waiting += counts->waiting;
    g->behind += counts->behind;
    g->redriven += counts->retrying + counts->blocked + counts->waiting;
    if (counts->swept != counts->purges)
        group_sweep(en, g);
}

int away_load_low(struct engine *en, struct err *e)
{
    struct key k = key_sched_away_low();
    struct sched_low_row r = {0};
    struct view v;
    en->away.next_ms = UINT64_MAX;
    if (!row_read(en, FAM_SCHED, &k, &v))
        return en->failed.code != E_OK ? err_set(e, en->failed.code, "%s", en->failed.text) : E_OK;
    int code = sched_low_row_get(v, &r, e);
    en->away.low_known = true;
    en->away.low_ms = r.low_ms;
    if (!PLANTED(away_forgotten))
        en->away.next_ms = r.low_ms;
    return code;
}

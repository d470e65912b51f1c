/* Compaction by key: of each key the last message stays, what it superseded goes, and offsets stay what they are.
 *
 *     start . . . . . . . . . . clean . . . . . . . . . . . to . . . . . . floor of the slowest group, age . . . visible . . end
 *       |  every key once        |  appended since            |  not looked at                                   |
 *       |                        |  keys are gathered here    |
 *       |  what these supersede is removed                    |
 *
 * A pass is made by readers in rounds (broker/compactread.c); this file says when, and puts what a round brought: rows of the log, whole, in one
 * turn. It goes no further than every queue group is done, so nobody holds what it removes; and what a dead letter points to stays.
 * Which of these stay though a later message supersedes them is remembered (`left`), so that a later pass removes them, and no tombstone goes
 * before what it removes. Where they are more than are remembered, `clean` stays before the first of the others, and the next pass looks at the
 * keys since then again; `passed` says where the last pass ended.
 *
 * A tombstone goes when tombstone_ms have passed since the first pass that removed everything before it: who read an older value has so long to
 * meet it. `marks` of the row say when which part was passed first.
 */
#include "base/planted.h"
#include "engine/task.h"

enum {
    LOOK_MAX = 1024,            /* partitions looked at in one turn */
    DAMAGED_REST_MS = 600000,   /* a log that does not read is tried again then */
    STUCK_REST_MS = 3600000     /* ... and one whose keys do not fit the memory, from what is held on */
};

void compaction_free(struct compaction *c)
{
    if (c == NULL)
        return;
    if (c->work_free != NULL)
        c->work_free(c->work);
    ref_drop(c->hold);
    mem_free(c);
}

/* ---------------------------------------------------------------- what is refused */

int compact_check(const struct topic *t, const struct op_batch *b, struct err *e)
{
    if (!t->config.compacted || b->keyless == 0)
        return E_OK;
    return err_set(e, E_INVALID_ARGUMENT, "record %u has no key: topic '%s' is compacted, so each message needs one", b->keyless - 1, t->name);
}

/* ---------------------------------------------------------------- rows and memory */

static void row_write(struct engine *en, struct compactable *x)
{
    struct key k = key_compaction(x->partition->id);
    buf_clear(&en->row);
    compaction_row_put(&en->row, &x->row);
    row_put(en, FAM_META, &k);
    x->has_row = true;
}

static void look_fire(struct engine *en, struct timer *t);

static void arm(struct engine *en, uint64_t ms)
{
    if (en->compact.n > 0)
        timer_set(en, &en->compact.timer, en->now.mono_ms + ms, look_fire);
}

void compact_add(struct engine *en, struct partition *p)
{
    struct compactable *x = mem_zalloc(sizeof *x);
    x->partition = p;
    p->compact = x;
    list_push_back(&en->compact.all, &x->link);
    en->compact.n++;
    if (en->compact.n == 1)
        arm(en, en->limits->compact_interval_ms);
}

void compact_forget(struct partition *p)
{
    if (p->compact != NULL)
        list_remove(&p->compact->link);
    mem_free(p->compact);
    p->compact = NULL;
}

void compact_rows_remove(struct engine *en, const struct partition *p)
{
    struct key k = key_compaction(p->id);
    if (p->compact == NULL)
        return;
    if (p->compact->has_row)
        row_remove(en, FAM_META, &k);
    en->compact.n--;
}

int compact_load(struct engine *en, struct view key, struct view value, struct err *e)
{
    uint32_t id = 0;
    struct partition *p = key_read_id(key, 'c', &id) ? table_get(&en->partitions, id) : NULL;
    if (p == NULL || p->compact == NULL)
        return err_set(e, E_DAMAGED, "compaction of partition id %u, which is not compacted", id);
    p->compact->has_row = true;
    return compaction_row_get(value, &p->compact->row, e);
}

uint64_t compact_removed_bytes(const struct partition *p)
{
    uint64_t all = p->row.end_bytes - p->row.start_bytes, removed = p->compact != NULL ? p->compact->row.removed_bytes : 0;
    return removed < all ? removed : all;
}

/* It is counted where the broker looks whether a family has more on disk than it should. */
static void removed_set(struct engine *en, struct partition *p, uint64_t removed)
{
    en->log_bytes[p->family] += compact_removed_bytes(p);
    p->compact->row.removed_bytes = removed;
    en->log_bytes[p->family] -= compact_removed_bytes(p);
}

static uint64_t higher(uint64_t a, uint64_t b) { return a > b ? a : b; }

uint64_t compact_dirty_bytes(const struct partition *p)
{
    return p->compact != NULL ? p->row.end_bytes - higher(p->compact->row.passed_bytes, p->row.start_bytes) : 0;
}

/* ---------------------------------------------------------------- how far a pass may go */

/* Below it this group is done with everything, and nothing is present again. */
static uint64_t part_bound(const struct group_part *p)
{
    uint64_t bound = p->done.floor;
    LIST_EACH (n, &p->present) {
        uint64_t offset = container_of(n, struct entry, present)->offset;
        bound = offset < bound ? offset : bound;
    }
    return bound;
}

/* What a replay has picked of the log, and not made present yet, begins here; UINT64_MAX: it has nothing of this partition. */
static uint64_t pick_bound(const struct task *t, const struct partition *p)
{
    bool has = (t->looking || t->picked != NULL) && replays_log(&t->row) && t->group->topic == p->topic && t->row.at_partition == p->index;
    return has && !PLANTED(compact_passes_picked) ? t->row.at_offset : UINT64_MAX;
}

static uint64_t bound_of(const struct engine *en, const struct partition *p)
{
    uint64_t bound = p->visible;
    LIST_EACH (n, &en->tasks) {
        uint64_t most = pick_bound(container_of(n, struct task, link), p);
        bound = most < bound ? most : bound;
    }
    for (size_t i = 0; i < p->topic->groups_n; i++) {
        struct group *g = p->topic->groups[i];
        uint64_t most = g->config.mode == MODE_QUEUE && !PLANTED(compact_passes_groups) ? part_bound(group_part(g, p)) : bound;
        bound = most < bound ? most : bound;
    }
    return bound;
}

/* Tombstones below it may go; 0: none. */
static uint64_t tombstones_to(const struct engine *en, const struct compaction_row *row)
{
    uint64_t to = 0, keep_ms = PLANTED(tombstone_early) ? 0 : en->limits->tombstone_ms;
    if (row->tombstones == 0 || en->wall_suspect)
        return 0;
    for (uint32_t i = 0; i < row->marks_n; i++)
        if (en->wall_ms - row->marks[i].ms >= keep_ms && en->wall_ms >= row->marks[i].ms)
            to = row->marks[i].offset;
    return to;
}

/* ---------------------------------------------------------------- a pass */

/* Goes to a reader when this turn is written. */
static void send(struct engine *en, const struct partition *p, struct compaction *c)
{
    ref_drop(c->hold);
    c->hold = NULL;
    c->rows_n = 0;
    c->next_group = en->next.group;
    c->redriven = en->counters.redriven_messages;
    p->compact->back_low = UINT64_MAX;
    en->fx.compaction = c;
    en->compact.under_way = true;
}

static void begin(struct engine *en, const struct compactable *x, uint64_t end, uint64_t worth_bytes, uint64_t tombstones)
{
    const struct partition *p = x->partition;
    const struct topic *t = p->topic;
    struct compaction *c = mem_zalloc(sizeof *c + t->groups_n * sizeof c->groups[0]);
    c->partition = p->id;
    c->family = p->family;
    c->start = p->row.start;
    c->clean = higher(x->row.clean, p->row.start);
    c->passed = higher(x->row.passed, p->row.start);
    c->passed_bytes = higher(x->row.passed_bytes, p->row.start_bytes);
    c->end = end;
    c->log_end = p->row.end;
    c->before_ms = en->wall_ms - (en->limits->compact_lag_ms < en->wall_ms ? en->limits->compact_lag_ms : en->wall_ms) + 1;
    c->tombstones_to = tombstones;
    c->worth_bytes = worth_bytes;
    c->memory_max = en->limits->compact_memory_bytes;
    c->left_n = x->row.left_n;
    memcpy(c->left, x->row.left, c->left_n * sizeof c->left[0]);
    for (size_t i = 0; i < t->groups_n; i++)
        c->groups[c->groups_n++] = t->groups[i]->id;
    send(en, p, c);
}

/* Whether there is enough for a pass; then it begins. What lies below the bound is known by offset only, so its bytes are estimated here and
 * looked at again by the reader. */
static bool look(struct engine *en, const struct compactable *x)
{
    const struct partition *p = x->partition;
    const struct compaction_row *row = &x->row;
    if (en->now.mono_ms < x->after_ms)
        return false;
    uint64_t end = bound_of(en, p), passed = higher(row->passed, p->row.start), passed_bytes = higher(row->passed_bytes, p->row.start_bytes);
    uint64_t all = p->row.end - passed, below = end > passed ? end - passed : 0;
    uint64_t tombstones = end >= passed || PLANTED(compact_passes_present) ? tombstones_to(en, row) : 0; /* what is present again below is in no row while it is leased */
    uint64_t dirty = below > 0 ? (uint64_t)((double)(p->row.end_bytes - passed_bytes) * (double)below / (double)all) : 0;
    uint64_t kept = passed_bytes - p->row.start_bytes, percent = en->limits->compact_dirty_min;
    kept -= row->removed_bytes < kept ? row->removed_bytes : kept;
    uint64_t worth = higher(en->limits->compact_bytes_min, (uint64_t)((double)kept * (double)percent / (double)(100 - percent)));
    uint64_t since = higher(row->last_ms, p->row.first_time_ms);
    bool old = below > 0 && en->wall_ms >= since && en->wall_ms - since >= en->limits->compact_age_max_ms;
    if (tombstones == 0 && !old && (below == 0 || dirty < worth))
        return false;
    begin(en, x, end, old || tombstones > 0 ? 0 : worth, tombstones);
    return true;
}

static bool no_space(const struct engine *en) { return en->disk_free < en->limits->disk_reserve_bytes; }

static void look_fire(struct engine *en, struct timer *t)
{
    struct compacting *all = &en->compact;
    size_t looked = 0, most = all->n < LOOK_MAX ? all->n : LOOK_MAX;
    (void)t;
    if (all->under_way || en->stopping)
        return;
    for (; looked < most && !all->under_way && !no_space(en); looked++) {
        struct list_node *n = list_pop_front(&all->all);
        list_push_back(&all->all, n);
        look(en, container_of(n, struct compactable, link));
    }
    if (!all->under_way)
        arm(en, en->limits->compact_interval_ms);
}

/* Something became present again while the round was read: what it did not see may be needed. */
static bool disturbed(const struct engine *en, const struct partition *p, const struct compaction *c)
{
    return c->next_group != en->next.group || c->redriven != en->counters.redriven_messages ||
           p->compact->back_low < c->end || bound_of(en, p) < c->end || no_space(en) ||
           p->row.start > c->start;
}

/* The rows of one round. */
static void apply(struct engine *en, struct partition *p, struct compaction *c)
{
    struct compaction_row *row = &p->compact->row;
    for (uint32_t i = 0; i < c->rows_n; i++) {
        const struct compacted_row *r = &c->rows[i];
        struct key first = key_log(p->id, r->first), last = key_log(p->id, r->last);
        if (r->first < r->last)
            puts_remove_range(&en->fx.puts, p->family, key_view(&first), key_view(&last));
        puts_pieces(&en->fx.puts, p->family, key_view(&last), &r->value, 1);
        en->counters.puts += 1 + (r->first < r->last);
        en->counters.compacted_messages += r->removed;
        if (r->bytes > r->value.size) {
            en->counters.compacted_bytes += r->bytes - r->value.size;
            removed_set(en, p, row->removed_bytes + (r->bytes - r->value.size));
        }
    }
    if (c->rows_n == 0)
        return;
    row_write(en, p->compact);
    buf_append(&en->holds, &c->hold, sizeof c->hold); /* let go when the turn is written */
    en->compact.last = (struct effect_compacted){.partition = p->id, .last_offset = c->rows[c->rows_n - 1].last};
    en->fx.compacted = &en->compact.last;
    c->hold = NULL;
    c->rows_n = 0;
}

/* What lies below was passed first now. With every mark taken the last one moves on: what it stood for waits longer. */
static void mark_add(struct compaction_row *row, uint64_t offset, uint64_t ms)
{
    uint64_t last = row->marks_n > 0 ? row->marks[row->marks_n - 1].offset : 0;
    if (offset <= last)
        return;
    row->marks_n += row->marks_n < COMPACTION_MARKS_MAX;
    row->marks[row->marks_n - 1].offset = offset;
    row->marks[row->marks_n - 1].ms = ms;
}

/* What it says of tombstones is said of all below: the marks that were used are needed no more. */
static void marks_drop(struct compaction_row *row, uint64_t used)
{
    uint32_t n = 0;
    while (n < row->marks_n && row->marks[n].offset <= used)
        n++;
    row->marks_n -= n;
    memmove(row->marks, row->marks + n, row->marks_n * sizeof row->marks[0]);
}

static void finish(struct engine *en, struct partition *p, const struct compaction *c)
{
    struct compactable *x = p->compact;
    struct compaction_row *row = &x->row;
    uint64_t clean = c->left_from < c->to ? c->left_from : c->to;
    if (!c->worth) {
        x->after_ms = en->now.mono_ms + higher(en->limits->compact_interval_ms, en->limits->compact_lag_ms / 8);
        return;
    }
    row->clean = clean;
    row->left_n = c->left_n;
    memcpy(row->left, c->left, c->left_n * sizeof c->left[0]);
    if (c->to >= c->passed) {
        uint64_t all = c->to_bytes - p->row.start_bytes;
        row->passed = c->to;
        row->passed_bytes = c->to_bytes;
        removed_set(en, p, all > c->kept_bytes ? all - c->kept_bytes : 0);
        row->tombstones = c->tombstones;
        row->last_ms = en->wall_ms;
    }
    marks_drop(row, c->tombstones_to);
    if (row->tombstones > 0)
        mark_add(row, row->clean, en->wall_ms);
    row_write(en, x);
    en->counters.compactions++;
    if (clean == c->to)
        return;
    /* the next pass begins again where more is held than is remembered; where the keys since then do not fit, it comes no further either */
    x->after_ms = en->now.mono_ms + (c->to < c->passed ? STUCK_REST_MS : en->limits->compact_interval_ms);
    if (c->to < c->passed)
        notice(en, "topic '%s', partition %u is compacted up to offset %llu only: dead letters keep what is at %llu and behind it, and "
               "compact_memory_bytes does not hold the keys since then", p->topic->name, p->index, (unsigned long long)c->to, (unsigned long long)clean);
}

void compact_returned(struct engine *en, struct compaction *c)
{
    struct partition *p = table_get(&en->partitions, c->partition);
    en->compact.under_way = false;
    arm(en, 1); /* perhaps there is another one to do */
    if (p == NULL || en->stopping) {
        compaction_free(c);
        return;
    }
    struct compactable *x = p->compact;
    if (c->code != E_OK) {
        x->after_ms = en->now.mono_ms + DAMAGED_REST_MS;
        notice(en, "topic '%s', partition %u is not compacted: %s", p->topic->name, p->index, c->error.text);
    } else if (disturbed(en, p, c)) {
        x->after_ms = en->now.mono_ms + en->limits->compact_interval_ms;
        en->counters.compactions_given_up++;
    } else {
        apply(en, p, c);
        if (!c->over) {
            send(en, p, c);
            return;
        }
        finish(en, p, c);
    }
    compaction_free(c);
}

/* What groups let go of a log: everything below their floor, once what they hold of it is copied.
 *
 *      start . . h . . . . p . . . . . want . . . floor          h: held, alone in a row;  p: present again, an entry
 *                │         │
 *                └─ copy ──┴─ copy: a batch of one record with its header, read by who finds nothing in the log
 *
 * Held messages are found by walking their rows, entries by the list of those that are present. Readers bring the bytes (effect `copy`), a few at
 * a time and not faster than a rate; then the cut may go over them. A row that is put meanwhile, below what was walked over, is walked to again.
 *
 * What a group has not done holds the log up to the topic's hard cap. Then it is lost, in order of offsets and a bounded number in a turn: what
 * has a row of its own stays, and is present; what is ready, leased or not read is done; a position behind a key stays in its list, is counted
 * as stale and passed over when its turn comes (keylist.c).
 */
#include "base/planted.h"
#include "engine/memory.h"

enum {
    COPY_PLACES = 64,           /* messages copied at once */
    HELD_ROWS = 1024,           /* rows looked at in one step */
    LOST_STEPS = 4096           /* offsets in one turn */
};

/* ---------------------------------------------------------------- copies */

void copies_free(struct copies *c)
{
    if (c == NULL)
        return;
    buf_free(&c->bytes);
    mem_free(c);
}

/* From now on copies of messages of this partition may exist, also after a restart. */
static void copies_begin(struct engine *en, struct partition *p)
{
    if (p->trims == NULL)
        trims_write(en, p);
}

void copy_remove(struct engine *en, const struct group_part *p, uint64_t offset)
{
    if (p->partition->trims == NULL || PLANTED(copy_left))
        return;
    struct key k = key_copy(p->group->id, p->partition->id, offset);
    row_remove(en, FAM_SCHED, &k);
}

void copy_bring(struct engine *en, struct group_part *p, uint64_t offset, struct view copy)
{
    struct key k = key_copy(p->group->id, p->partition->id, offset);
    struct entry *e = map_get(&p->entries, offset);
    buf_clear(&en->row);
    buf_append(&en->row, copy.data, copy.size);
    row_put(en, FAM_SCHED, &k);
    e->copied = true;
    en->counters.copied_messages++;
}

void copies_held(struct engine *en, struct group_part *p, uint64_t offset)
{
    p->held_turn = en->turn;
    if (offset < p->copied)
        p->copied = offset;
}

static bool row_gone(const struct engine *en, const struct key *k)
{
    struct view ignored;
    return puts_find(&en->fx.puts, FAM_HELD, key_view(k), &ignored) == PUTS_REMOVED;
}

/* Held rows between what is copied and `want`, as many as go at once. p->copied moves over them. */
static struct copies *held_places(struct engine *en, struct group_part *p, uint64_t want)
{
    struct copies *c = mem_zalloc(sizeof *c + COPY_PLACES * sizeof c->places[0]);
    uint32_t group = p->group->id, partition = p->partition->id;
    uint64_t from = p->copied > p->partition->row.start ? p->copied : p->partition->row.start, offset;
    struct key first = key_held(group, partition, from), end = key_held(group, partition, want);
    struct err e = {0};
    int rows = 0;
    struct store_iter *it = store_iter(en->store, FAM_HELD);
    store_iter_seek(it, key_view(&first));
    p->copied = want;
    for (; store_iter_valid(it) && view_cmp(store_iter_key(it), key_view(&end)) < 0; store_iter_next(it)) {
        if (!key_read_held(store_iter_key(it), &group, &partition, &offset)) {
            err_set(&e, E_DAMAGED, "its key does not read");
            row_bad(FAM_HELD, store_iter_key(it), &e);
            break;
        }
        if (c->places_n == COPY_PLACES || rows++ == HELD_ROWS) {
            p->copied = offset;
            break;
        }
        struct key k = key_held(group, partition, offset);
        if (!row_gone(en, &k))
            c->places[c->places_n++] = (struct copy_place){.offset = offset};
    }
    if (e.code != E_OK || store_iter_status(it, &e) != E_OK)
        engine_fail(en, &e);
    store_iter_close(it);
    c->from = from;
    return c;
}

static struct copies *present_places(const struct group_part *p, uint64_t want)
{
    struct copies *c = mem_zalloc(sizeof *c + COPY_PLACES * sizeof c->places[0]);
    c->from = UINT64_MAX;
    LIST_EACH (n, &p->present) {
        const struct entry *e = container_of(n, struct entry, present);
        if (!e->copied && e->offset >= p->partition->row.start && e->offset < want && c->places_n < COPY_PLACES)
            c->places[c->places_n++] = (struct copy_place){.offset = e->offset};
    }
    return c;
}

static void copies_ask(struct engine *en, struct group_part *p, struct copies *c)
{
    c->group = p->group->id;
    c->partition = p->partition->id;
    copies_begin(en, p->partition);
    buf_append(&en->copies, &c, sizeof(struct copies *));
    p->partition->trimming->copying = true;
}

enum release_step release_copy(struct engine *en, struct group_part *p, uint64_t want)
{
    struct retention *r = &en->retention;
    if (p->partition->trimming->copying)
        return RELEASE_WAITS;
    if (p->held_turn == en->turn || en->now.mono_ms < r->copy_ms)
        return RELEASE_LATER;
    struct copies *c = NULL;
    if (p->copied < want) {
        c = held_places(en, p, want);
        bool failed = engine_failed(en) != NULL;
        if (c->places_n == 0 || failed) {
            copies_free(c);
            if (p->copied < want || failed)
                return RELEASE_LATER;
            c = NULL;
        }
    }
    if (c == NULL)
        c = present_places(p, want);
    if (c->places_n == 0) {
        copies_free(c);
        return RELEASE_ALL;
    }
    copies_ask(en, p, c);
    return RELEASE_WAITS;
}

/* A copy of what nobody holds any more would never be removed. */
static bool wanted(struct engine *en, const struct group_part *p, uint64_t offset)
{
    struct key k = key_held(p->group->id, p->partition->id, offset);
    struct view ignored;
    const struct entry *e = map_get(&p->entries, offset);
    return (e != NULL && e->redriven) || row_read(en, FAM_HELD, &k, &ignored);
}

static void bytes_free(struct ref *r) { copies_free(r->owner); }

void engine_copied(struct engine *en, struct copies *c)
{
    struct partition *partition = table_get(&en->partitions, c->partition);
    struct group *g = map_get(&en->groups, c->group);
    if (partition != NULL && partition->trimming != NULL) {
        partition->trimming->copying = false;
        retention_go_on(en, en->now.mono_ms); /* also if the group is gone */
    }
    if (partition == NULL || g == NULL || partition->topic != g->topic || partition->trimming == NULL) {
        copies_free(c);
        return;
    }
    struct group_part *p = group_part(g, partition);
    struct ref *hold = ref_wrap(c->bytes.data, c->bytes.size, bytes_free, c);
    buf_append(&en->holds, &hold, sizeof hold);
    if (c->code != E_OK && c->from < p->copied) /* again, from there */
        p->copied = c->from;
    for (uint32_t i = 0; i < c->places_n && c->code == E_OK; i++) {
        const struct copy_place *place = &c->places[i];
        struct entry *e = map_get(&p->entries, place->offset);
        struct key k = key_copy(g->id, partition->id, place->offset);
        struct view value = view_of(c->bytes.data + place->at, place->size);
        if (e != NULL)
            e->copied = true; /* also if it does not read: then there is nothing to keep */
        if (place->code != E_OK || !wanted(en, p, place->offset))
            continue;
        puts_pieces(&en->fx.puts, FAM_SCHED, key_view(&k), &value, 1);
        en->counters.puts++;
        en->counters.copied_messages++;
    }
    uint64_t rest = c->code != E_OK ? 1000 : c->bytes.size * 1000 / en->limits->copy_bytes_per_s;
    en->retention.copy_ms = en->now.mono_ms + rest;
    retention_go_on(en, en->retention.copy_ms);
}

/* ---------------------------------------------------------------- the hard cap */

/* It stays, from now on as a redriven message is: present, at an offset that is done. */
static void stays(struct engine *en, struct entry *e)
{
    struct group_part *p = e->part;
    if (!e->redriven) {
        entry_present(e);
        p->group->redriven++;
    }
    done_set(&p->done, e->offset);
    mark_dirty(&en->dirty_parts, &p->dirty);
}

static void lost(struct engine *en, struct group_part *p, uint64_t n)
{
    p->lost += PLANTED(loss_uncounted) ? 0 : n;
    p->lost_changed = true;
    p->partition->trimming->lost += n;
    en->counters.lost_messages += n;
    mark_dirty(&en->dirty_parts, &p->dirty);
}

/* The first that is not done, and known. */
static void one_lost(struct engine *en, struct group_part *p, uint64_t offset)
{
    struct entry *e = map_get(&p->entries, offset);
    if (e != NULL && e->has_row) {
        stays(en, e);
        return;
    }
    if (e != NULL) {
        key_run_cut(en, e);
        entry_done(en, e);
    } else { /* behind its key */
        done_set(&p->done, offset);
        p->group->behind--;
        p->stale++;
    }
    lost(en, p, 1);
}

static void unread_lost(struct engine *en, struct group_part *p, uint64_t to, uint64_t bytes)
{
    lost(en, p, to - p->done.floor);
    done_raise(&p->done, to);
    load_end(en, p); /* what comes of it is not looked at */
    p->cursor = p->scanned = to;
    lag_scanned(p, bytes);
    group_stir(en, p->group);
}

static enum release_step lose(struct engine *en, struct group_part *p, uint64_t to, uint64_t bytes)
{
    if (p->group->config.mode == MODE_STREAM) {
        lost(en, p, to - p->done.floor);
        commit_lost(en, p, to);
        return RELEASE_ALL;
    }
    for (int i = 0; p->done.floor < to; i++) {
        if (i == LOST_STEPS || en->failed.code != E_OK)
            return RELEASE_LATER;
        if (p->done.floor < p->cursor) {
            one_lost(en, p, p->done.floor);
        } else if (part_rescans(p)) { /* what is ready and what is behind its key is told apart by reading it again */
            queue_load(en, p);
            return RELEASE_LATER;
        } else {
            unread_lost(en, p, to, bytes);
        }
    }
    return RELEASE_ALL;
}

enum release_step release_lose(struct engine *en, struct group_part *p, uint64_t to, uint64_t bytes)
{
    const struct partition *partition = p->partition;
    struct trimming *w = partition->trimming;
    enum release_step step = group_floor(p->group, partition->index) >= to ? RELEASE_ALL : lose(en, p, to, bytes);
    if (step == RELEASE_ALL && w->lost > 0)
        notice(en, "topic '%s', partition %u: %llu messages before offset %llu are older than the hard cap, and group '%s' had not done them: they are lost to it",
               partition->topic->name, partition->index, (unsigned long long)w->lost, (unsigned long long)to, p->group->name);
    w->lost = step == RELEASE_ALL ? 0 : w->lost;
    return step;
}

/* ---------------------------------------------------------------- rows */

void lost_write(struct engine *en, struct group_part *p)
{
    if (!p->lost_changed)
        return;
    struct key k = key_lost(p->group->id, p->partition->id);
    buf_clear(&en->row);
    lost_row_put(&en->row, &(struct lost_row){.lost = p->lost, .stale = p->stale});
    row_put(en, FAM_GROUPS, &k);
    p->lost_changed = false;
}

int lost_load(struct group_part *p, struct view value, struct err *e)
{
    struct lost_row row;
    int code = lost_row_get(value, &row, e);
    if (code != E_OK)
        return code;
    p->lost = row.lost;
    p->stale = row.stale;
    p->group->behind -= row.stale; /* lists are counted with all that is in them */
    if (p->group->stream != NULL)
        commit_load_gap(p);
    return E_OK;
}

uint64_t group_lost(const struct group *g)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < g->topic->config.partitions; i++)
        n += g->parts[i]->lost;
    return n;
}

/* ---------------------------------------------------------------- what was lost, for who asks */

enum lost_sure lost_at(const struct group_part *p, uint64_t offset)
{
    struct capped c;
    if (p->lost == 0 || offset >= p->done.floor || !retention_capped(p->partition, &c))
        return LOST_NOT;
    for (uint32_t i = 0; i < c.n; i++)
        if (offset >= c.at[i].from && offset < c.at[i].to)
            return p->lost >= c.offsets ? LOST_SURELY : LOST_PERHAPS;
    return LOST_NOT;
}

bool lost_explain(struct op *op, const struct group_part *p, uint64_t offset)
{
    enum lost_sure sure = lost_at(p, offset);
    struct wire_explain_reply *r = &op->reply.explain;
    struct err text = {0};
    if (sure == LOST_NOT || PLANTED(loss_explained_done))
        return false;
    err_set(&text, E_OK, "%s: partition %u is gone up to offset %llu, older than the topic's hard cap, with %llu messages that the group had not done",
            sure == LOST_SURELY ? "lost" : "lost, or done before", p->partition->index, (unsigned long long)p->partition->row.start,
            (unsigned long long)p->lost);
    r->fact = EXPLAIN_LOST;
    r->reason = VIEW_LIT("hard cap");
    r->depth = p->lost;
    r->text = op_text(op, text.text);
    return true;
}

void lost_describe(struct engine *en, struct op *op, const struct group *g, struct wire_group *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->topic->config.partitions; i++)
        n += g->parts[i]->lost > 0;
    struct wire_group_loss *losses = op_take(en, op, n, sizeof *losses);
    out->losses = losses;
    for (uint32_t i = 0; i < g->topic->config.partitions; i++) {
        const struct group_part *p = g->parts[i];
        struct capped c;
        if (p->lost == 0)
            continue;
        struct wire_group_loss *l = &losses[out->losses_n++];
        *l = (struct wire_group_loss){.lost = p->lost, .to = p->done.floor, .partition = p->partition->id, .index = i};
        if (!retention_capped(p->partition, &c))
            continue;
        l->from = c.at[0].from;
        l->to = c.at[c.n - 1].to;
        l->from_time_ms = c.first_ms;
        l->to_time_ms = c.last_ms;
    }
}

/* The engine's counters against a recount of the rows: see model.h. */
#include <string.h>

#include "base/mem.h"
#include "model.h"

static int group_of_row(const struct world *w, uint32_t id)
{
    int group = model_group(w, id);
    return group == NONE ? GROUPS : group; /* of a topic that comes and goes */
}

/* The row of a message that waits for its retry at this time, or the row that a key says: is it there, and how? */
static bool held_as(const struct world *w, uint32_t group, uint32_t partition, uint64_t offset, struct held_row *row)
{
    struct key k = key_held(group, partition, offset);
    struct buf value = {0};
    struct err e = {0};
    bool found = false;
    int code = store_get(w->mem, FAM_HELD, key_view(&k), &value, &found, &e);
    bool good = code == E_OK && found && held_row_get(buf_view(&value), row, &e) == E_OK;
    buf_free(&value);
    return good;
}

/* Members of keys that are away: each has the row that it should have; a head that waits for its retry has a time, and that counts once. */
static void away_members(struct world *w, size_t timed[GROUPS + 1])
{
    struct store_iter *it = store_iter(w->mem, FAM_KEYS);
    uint32_t group;
    uint64_t hash;
    for (store_iter_seek(it, (struct view){0}); store_iter_valid(it); store_iter_next(it)) {
        struct away_row row;
        struct key_member m = {0};
        struct err e = {0};
        bool bad = false;
        if (!key_read_away(store_iter_key(it), &group, &hash))
            continue;
        if (away_row_get(store_iter_value(it), &row, &e) != E_OK) {
            world_fail(w, "a key that is away does not read: %s", e.text);
            break;
        }
        for (uint32_t i = 0; away_row_next(&row.members_raw, &m, &bad); i++) {
            struct held_row held;
            if (!held_as(w, group, m.partition, m.offset, &held) || (held.state == HELD_PARKED) != (m.state == AWAY_BLOCKED))
                world_fail(w, "offset %llu is away with its key, and its row does not say so",
                           (unsigned long long)m.offset);
            timed[group_of_row(w, group)] += i > 0 || m.state != AWAY_RETRYING;
        }
    }
    store_iter_close(it);
}

/* What is held for a time is somewhere: near, with a time; away, with a time; or away with its key. */
void model_held_rows(struct world *w)
{
    size_t waits[GROUPS + 1] = {0}, timed[GROUPS + 1] = {0};
    uint32_t group, partition;
    uint64_t offset, due;
    struct held_row row;
    struct store_iter *it = store_iter(w->mem, FAM_SCHED);
    for (store_iter_seek(it, (struct view){0}); store_iter_valid(it); store_iter_next(it)) {
        struct view k = store_iter_key(it);
        if (key_read_sched_retry(k, &due, &group, &partition, &offset))
            timed[group_of_row(w, group)]++;
        else if (key_read_sched_away(k, &due, &group, &partition, &offset)) /* or it is of a group that is gone */
            timed[group_of_row(w, group)] +=
                held_as(w, group, partition, offset, &row) && row.state == HELD_RETRYING && row.due_ms == due;
    }
    store_iter_close(it);
    away_members(w, timed);
    it = store_iter(w->mem, FAM_HELD);
    for (store_iter_seek(it, (struct view){0}); store_iter_valid(it); store_iter_next(it)) {
        struct err e = {0};
        if (!key_read_held(store_iter_key(it), &group, &partition, &offset) ||
            held_row_get(store_iter_value(it), &row, &e) != E_OK)
            world_fail(w, "a held row does not read");
        else
            waits[group_of_row(w, group)] += row.state == HELD_RETRYING || row.blocking;
    }
    store_iter_close(it);
    for (int i = 0; i <= GROUPS; i++)
        if (waits[i] != timed[i])
            world_fail(w, "group %d: %zu held messages wait, %zu have a time or a key", i, waits[i], timed[i]);
}

static bool census(const struct world *w, int group, struct engine_census *c)
{
    struct view topic, name;
    setup_names(group, &topic, &name);
    return engine_census(loop_engine(w->loop), topic, name, c);
}

/* The engine's counts and the distance from floor to end must agree. */
void model_census(struct world *w)
{
    for (int i = 0; i < GROUPS; i++) {
        struct engine_census c;
        if (!census(w, i, &c) || c.scanning_again)
            continue;
        w->model->scanned[i] = true;
        uint64_t sum = c.done_above_floor + c.leased + c.ready + c.retrying + c.blocked + c.waiting +
                       c.throttled + c.behind + c.unscanned - c.redriven;
        if (sum != c.end - c.floor)
            world_fail(w,
                       "group %d: floor %llu end %llu, but done %llu leased %llu ready %llu retrying %llu "
                       "blocked %llu waiting %llu "
                       "throttled %llu behind %llu unscanned %llu redriven %llu",
                       i, (unsigned long long)c.floor, (unsigned long long)c.end,
                       (unsigned long long)c.done_above_floor, (unsigned long long)c.leased,
                       (unsigned long long)c.ready, (unsigned long long)c.retrying,
                       (unsigned long long)c.blocked, (unsigned long long)c.waiting,
                       (unsigned long long)c.throttled, (unsigned long long)c.behind,
                       (unsigned long long)c.unscanned, (unsigned long long)c.redriven);
        w->totals->blocked_keys += c.blocked > 0;
    }
}

/* ---------------------------------------------------------------- the recount */

struct recount {
    uint64_t floor, end, done, leased, blocked, behind, stale, held, parked, redriven, seen, unseen;
};

/* Offsets that stand in lists behind their keys; a head that is still in its list does not count. */
struct listed {
    uint8_t *at[PARTS];
}; /* 1: behind, 2: the head */

static void list_chunk(struct world *w, int group, struct view chunk, uint32_t skip, bool head,
                       struct listed *l)
{
    struct list_position at = {0};
    bool bad = false;
    for (uint32_t i = 0; list_chunk_next(&chunk, &at, &bad); i++) {
        int part = model_part(w, at.partition);
        if (i < skip)
            continue;
        if (part == NONE || at.offset >= w->model->parts[part].end) {
            world_fail(w, "group %d: a list names partition %u offset %llu, which the log has not", group,
                       at.partition, (unsigned long long)at.offset);
            return;
        }
        if (l->at[part][at.offset] != 0)
            world_fail(w, "group %d: offset %llu stands in a list twice", group,
                       (unsigned long long)at.offset);
        l->at[part][at.offset] = head && i == skip ? 2 : 1;
    }
    if (bad)
        world_fail(w, "group %d: a chunk of a list does not read", group);
}

static void list_read(struct world *w, int group, uint64_t hash, const struct list_header_row *header, struct listed *l)
{
    struct buf value = {0};
    struct err e = {0};
    for (uint32_t chunk = header->first; header->count > 0 && chunk <= header->last; chunk++) {
        struct key k = key_list(w->model->group_ids[group], hash, chunk);
        bool found = false, first = chunk == header->first;
        if (store_get(w->mem, FAM_KEYS, key_view(&k), &value, &found, &e) != E_OK || !found)
            world_fail(w, "group %d: a list has no chunk %u", group, chunk);
        else
            list_chunk(w, group, buf_view(&value), first ? header->skip : 0, first && header->head_in_list, l);
    }
    buf_free(&value);
}

/* Lists of keys that are in memory, and of those that are away. */
static void lists_read(struct world *w, int group, uint64_t purges, struct listed *l)
{
    struct store_iter *it = store_iter(w->mem, FAM_KEYS);
    for (store_iter_seek(it, (struct view){0}); store_iter_valid(it); store_iter_next(it)) {
        struct view key = store_iter_key(it), value = store_iter_value(it);
        struct list_header_row header = {0};
        struct away_row away;
        struct err e = {0};
        uint64_t hash;
        uint32_t id, chunk;
        bool here = key_read_list_header(key, &id, &hash), there = !here && key_read_away(key, &id, &hash);
        if (!here && !there && !key_read_list(key, &id, &hash, &chunk))
            world_fail(w, "a key of a list does not read");
        if ((!here && !there) || id != w->model->group_ids[group])
            continue;
        if (here && list_header_get(value, &header, &e) != E_OK)
            world_fail(w, "a header of a list does not read: %s", e.text);
        if (there && away_row_get(value, &away, &e) != E_OK)
            world_fail(w, "a key that is away does not read: %s", e.text);
        if (w->failed)
            break;
        if (there && away.purges == purges)
            header = away.list;
        list_read(w, group, hash, &header, l);
    }
    store_iter_close(it);
}

static void count_one(struct world *w, int group, struct message *m, uint8_t listed, bool scanned,
                      struct recount *r)
{
    const struct spot *s = &model_view(m, group)->is;
    bool parked = s->held == HELD_PARKED, dead = parked && !s->blocking,
         redriven = s->done && !spot_absent(s);
    bool stale = listed == 1 && s->done; /* lost, and still in its list, also when it was replayed since: the engine says how many */
    r->stale += stale;
    listed = stale ? 0 : listed;
    int places = (s->done && !dead && !redriven) + (s->token != 0) + (s->held != 0) + (listed != 0);
    if (places > 1 || (dead && !s->done) || (redriven && !model_view(m, group)->redriven))
        world_fail(w, "message %llu of group %d is in %d places: done %d leased %d held %d%s listed %d",
                   (unsigned long long)m->id, group, places, s->done, s->token != 0, s->held,
                   s->blocking ? " blocking" : "", listed);
    if (places > 0 && !scanned)
        world_fail(w, "message %llu of group %d is behind the cursor and somewhere",
                   (unsigned long long)m->id, group);
    r->parked += parked;
    r->redriven += redriven;
    r->done += s->done && (uint64_t)m->offset >= w->model->rows[group][m->part % PARTITIONS].floor;
    r->leased += s->token != 0;
    r->blocked += parked && s->blocking;
    r->behind += listed == 1;
    r->held += s->held == HELD_RETRYING || listed == 2;
    r->seen += places == 0 && scanned;
    r->unseen += !scanned;
}

static struct recount recount(struct world *w, int group)
{
    struct model *o = w->model;
    struct recount r = {0};
    struct listed l = {0};
    for (int p = 0; p < PARTS; p++)
        l.at[p] = mem_array(o->parts[p].end + 1, 1);
    lists_read(w, group, o->rows[group][0].purges, &l);
    for (int p = 0; p < PARTS && !w->failed; p++) {
        if (o->parts[p].topic != group / GROUPS_PER_TOPIC)
            continue;
        const struct group_rows *rows = &o->rows[group][p % PARTITIONS];
        uint64_t parked = r.parked;
        r.floor += rows->floor;
        r.end += o->parts[p].end;
        for (size_t at = 0; at < o->parts[p].end; at++)
            count_one(w, group, &o->messages[o->parts[p].log[at]], l.at[p][at], at < rows->cursor, &r);
        if (r.parked - parked != rows->parked)
            world_fail(w, "group %d part %d: %llu messages are parked, its row says %llu", group, p,
                       (unsigned long long)(r.parked - parked), (unsigned long long)rows->parked);
    }
    for (int p = 0; p < PARTS; p++)
        mem_free(l.at[p]);
    return r;
}

static void same(struct world *w, int group, const char *what, uint64_t engine, uint64_t rows)
{
    if (engine != rows)
        world_fail(w, "group %d: %s: the engine counts %llu, the rows say %llu", group, what,
                   (unsigned long long)engine, (unsigned long long)rows);
}

void model_recount(struct world *w)
{
    for (int i = 0; i < GROUPS && !w->failed; i++) {
        struct engine_census c;
        if (!census(w, i, &c))
            continue;
        struct recount r = recount(w, i);
        same(w, i, "floor", c.floor, r.floor);
        same(w, i, "end", c.end, r.end);
        same(w, i, "done", c.done_above_floor, r.done);
        same(w, i, "leased", c.leased, r.leased);
        same(w, i, "blocked", c.blocked, r.blocked);
        same(w, i, "behind", c.behind, r.behind);
        uint64_t stale = 0;
        for (int p = 0; p < PARTITIONS; p++)
            stale += w->model->rows[i][p].stale;
        same(w, i, "lost and listed", stale, r.stale);
        same(w, i, "parked", c.parked, r.parked);
        same(w, i, "redriven", c.redriven, r.redriven);
        if (!c.scanning_again) {
            same(w, i, "not scanned", c.unscanned, r.unseen);
            same(w, i, "ready and retrying", c.ready + c.retrying + c.waiting + c.throttled, r.held + r.seen);
        }
    }
    model_copies_check(w);
    w->totals->recounts++;
}

/* ---- who hears of changes alone knows what who asks for all does */

static void *lag_hash(const struct wire_lag *l)
{
    const uint64_t facts[] = {l->lag_messages, l->in_flight, l->delayed, l->parked, l->ack_rate_milli, l->scale_value, l->lost};
    return (void *)(uintptr_t)(key_hash(view_of(facts, sizeof facts)) | 1);
}

/* Takes what changed since the last time; `told` (may be NULL) gets the groups. */
static void take_changes(struct world *w, struct map *told)
{
    uint64_t end = 0;
    for (bool more = true; more && !w->failed;) {
        const struct wire_request request = {.verb = VERB_GROUP_LAG, .list.limit = 1 + (uint32_t)rng_below(&w->rng, 5)};
        struct op *op = world_ask_changes(w, &request, true, w->lags_changed, end);
        if (op == NULL)
            return;
        for (uint32_t i = 0; i < op->reply.lag.rows_n; i++) {
            map_put(&w->lags, op->reply.lag.rows[i].group_id, lag_hash(&op->reply.lag.rows[i]));
            if (told != NULL)
                map_put(told, op->reply.lag.rows[i].group_id, op);
        }
        more = op->reply.lag.more;
        if (more && (op->reply.lag.rows_n == 0 || op->changed <= w->lags_changed))
            world_fail(w, "a page of changes goes nowhere");
        w->lags_changed = op->changed;
        end = op->changed_end;
        world_answered(op);
    }
}

/* What changed while we asked, the second time tells. */
static void lag_changes(struct world *w)
{
    struct map told = {0};
    take_changes(w, NULL);
    struct op *op = w->failed ? NULL : world_ask(w, &(struct wire_request){.verb = VERB_GROUP_LAG});
    if (op == NULL)
        return;
    take_changes(w, &told);
    for (uint32_t i = 0; i < op->reply.lag.rows_n && !w->failed; i++) {
        const struct wire_lag *l = &op->reply.lag.rows[i];
        if (map_get(&told, l->group_id) != NULL)
            continue;
        void *before = map_put(&w->lags, l->group_id, lag_hash(l));
        if (before != NULL && before != lag_hash(l))
            world_fail(w, "the lag of group %u changed, and nobody was told", l->group_id);
    }
    map_free(&told);
    world_answered(op);
}

void model_lag(struct world *w)
{
    lag_changes(w);
    if (w->failed)
        return;
    uint64_t turn = w->model->turn;
    struct op *op = world_ask(w, &(struct wire_request){.verb = VERB_GROUP_LAG});
    if (op == NULL)
        return;
    if (!world_all_written(w)) /* it may speak of what is not written */
        turn = UINT64_MAX;
    bool written =
        engine_effects(loop_engine(w->loop))->puts.count == 0; /* else the engine is ahead of its rows */
    for (uint32_t i = 0; i < op->reply.lag.rows_n && written && turn == w->model->turn && !w->failed; i++) {
        const struct wire_lag *lag = &op->reply.lag.rows[i];
        int group = model_group(w, lag->group_id);
        struct engine_census c;
        if (group == NONE || !census(w, group, &c))
            continue;
        struct recount r = recount(w, group);
        same(w, group, "lag", lag->lag_messages, r.end - r.floor - r.done - c.blocked + c.redriven);
        same(w, group, "in flight", lag->in_flight, r.leased);
        same(w, group, "dead letters", lag->parked, r.parked);
        uint64_t waiting = 0;
        for (size_t k = 0; k < w->model->scheds_n; k++)
            waiting += w->model->scheds[k].waits && w->model->scheds[k].topic == group / GROUPS_PER_TOPIC
                           ? w->model->scheds[k].count
                           : 0;
        same(w, group, "delayed", lag->delayed, c.retrying + waiting);
        w->totals->lags++;
    }
    world_answered(op);
}

void model_nothing_leased(struct world *w)
{
    struct engine_totals t;
    engine_totals(loop_engine(w->loop), &t);
    if (t.leased > 0)
        world_fail(w, "%llu messages are leased, and every session was without a pipe for its grace",
                   (unsigned long long)t.leased);
}

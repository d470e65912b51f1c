/* The engine's frame: a turn from its beginning to its end, the table of verbs, timers and rows. */
#include "engine/memory.h"
#include "base/planted.h"

#include <stdarg.h>

const struct engine_limits engine_limits_default = {
#define X(name, unit, def, min, max, help) .name = def,
#include "engine/limits.def"
#undef X
};

void engine_fail(struct engine *en, const struct err *why)
{
    if (en->failed.code == E_OK)
        en->failed = *why;
}

const struct err *engine_failed(const struct engine *en) { return en->failed.code != E_OK ? &en->failed : NULL; }
uint32_t engine_epoch(const struct engine *en) { return en->epoch; }
uint64_t engine_turn(const struct engine *en) { return en->turn; }
const struct engine_counters *engine_counters(const struct engine *en) { return &en->counters; }
struct effects *engine_effects(struct engine *en) { return &en->fx; }

/* ---------------------------------------------------------------- timers */

void timer_set(struct engine *en, struct timer *t, uint64_t due_ms, void (*fire)(struct engine *, struct timer *))
{
    t->fire = fire;
    if (heap_contains(&en->timers, &t->node))
        heap_update(&en->timers, &t->node, due_ms, heap_seq(&en->timers));
    else
        heap_push(&en->timers, &t->node, due_ms, heap_seq(&en->timers));
}

void timer_clear(struct engine *en, struct timer *t)
{
    if (heap_contains(&en->timers, &t->node))
        heap_remove(&en->timers, &t->node);
}

static void timers_fire(struct engine *en)
{
    for (struct heap_node *n; (n = heap_peek(&en->timers)) != NULL && n->due <= en->now.mono_ms;) {
        struct timer *t = container_of(n, struct timer, node);
        heap_remove(&en->timers, n);
        t->fire(en, t);
    }
    for (struct heap_node *n; (n = heap_peek(&en->waits)) != NULL && n->due <= en->now.mono_ms;)
        wait_over(en, container_of(n, struct op, timer));
}

uint64_t engine_deadline(const struct engine *en)
{
    const struct heap_node *t = heap_peek(&en->timers), *w = heap_peek(&en->waits);
    uint64_t due = t != NULL ? t->due : UINT64_MAX;
    return w != NULL && w->due < due ? w->due : due;
}

/* ---------------------------------------------------------------- rows */

bool row_read(struct engine *en, enum store_family f, const struct key *k, struct view *value)
{
    switch (PLANTED(own_puts_unseen) ? PUTS_UNKNOWN : puts_find(&en->fx.puts, f, key_view(k), value)) {
    case PUTS_ROW:
        return true;
    case PUTS_REMOVED:
        return false;
    case PUTS_UNKNOWN:
        break;
    }
    bool found = false;
    struct err e = {0};
    if (store_get(en->store, f, key_view(k), &en->scratch, &found, &e) != E_OK) {
        engine_fail(en, &e);
        return false;
    }
    *value = buf_view(&en->scratch);
    return found;
}

int row_bad(enum store_family f, struct view key, struct err *e)
{
    return err_prefix(e, "%s: row %s", store_family_name(f), key_text(key).hex);
}

void row_fail(struct engine *en, enum store_family f, struct view key, struct err *why)
{
    row_bad(f, key, why);
    engine_fail(en, why);
}

void row_put(struct engine *en, enum store_family f, const struct key *k)
{
    puts_row(&en->fx.puts, f, key_view(k), buf_view(&en->row));
    en->counters.puts++;
}

void row_remove(struct engine *en, enum store_family f, const struct key *k)
{
    puts_remove(&en->fx.puts, f, key_view(k));
    en->counters.puts++;
}

void mark_dirty(struct list *dirty, struct list_node *n)
{
    if (!list_linked(n))
        list_push_back(dirty, n);
}

void notice(struct engine *en, const char *fmt, ...)
{
    struct effect_notice n = {0};
    va_list args;
    va_start(args, fmt);
    err_vset(&n.line, E_OK, fmt, args);
    va_end(args);
    buf_append(&en->notices, &n, sizeof n);
}

/* ---------------------------------------------------------------- verbs */

static void do_health(struct engine *en, struct op *op)
{
    struct wire_health_reply *h = &op->reply.health;
    op->reply.body = BODY_HEALTH;
    h->status = op_text(op, en->stopping ? "stopping" : en->disk_free < en->limits->disk_reserve_bytes ? "read_only" : "ok");
    h->reason = op_text(op, en->stopping ? "" : en->disk_free < en->limits->disk_reserve_bytes ? "disk below its reserve"
                            : en->wall_suspect ? "the wall clock was set: what goes by it pauses until it is back or the broker restarts" : "");
    h->epoch = en->epoch;
    h->turn = en->turn;
    h->topics = (uint32_t)en->topics_n;
    h->groups = en->groups_n;
    h->sessions = (uint32_t)en->sessions_n;
    answer_now(en, op);
}

/* The store's business: nothing of it is known here. */
static void do_backup(struct engine *en, struct op *op)
{
    op->reply.body = BODY_BACKUP;
    op->read = READ_BACKUP;
    answer_now(en, op);
}

/* Nor is anything of worker daemons: they come and go, and no row tells of them. */
static void do_workers(struct engine *en, struct op *op)
{
    op->read = READ_WORKERS;
    answer_now(en, op);
}

typedef void read_fn(struct engine *en, struct op *op);
typedef void session_fn(struct engine *en, struct op *op, struct session *s);

/* `read`: needs no session when the broker itself asks. `with`: needs a session. `numbered`: stands in a lane. */
static const struct verb {
    read_fn *read;
    session_fn *with;
    bool numbered;
    bool while_stopping;
} verbs[VERB_COUNT] = {
    [VERB_HELLO] = {.read = session_hello},
    [VERB_BYE] = {.read = session_bye, .while_stopping = true},
    [VERB_PRODUCE] = {.with = log_produce, .numbered = true},
    [VERB_FETCH] = {.with = log_fetch, .while_stopping = true},
    [VERB_RECEIVE] = {.with = queue_receive},
    [VERB_SETTLE] = {.with = settle_request, .numbered = true, .while_stopping = true},
    [VERB_TOPIC_CREATE] = {.with = topic_create, .numbered = true},
    [VERB_TOPIC_ALTER] = {.with = topic_alter, .numbered = true},
    [VERB_TOPIC_DELETE] = {.with = topic_delete, .numbered = true},
    [VERB_TOPIC_LIST] = {.read = topic_list, .while_stopping = true},
    [VERB_OFFSET_FOR] = {.read = log_offset_for, .while_stopping = true},
    [VERB_GROUP_CREATE] = {.with = group_create, .numbered = true},
    [VERB_GROUP_ALTER] = {.with = group_alter, .numbered = true},
    [VERB_GROUP_DELETE] = {.with = group_delete, .numbered = true},
    [VERB_GROUP_LIST] = {.read = group_list, .while_stopping = true},
    [VERB_GROUP_LAG] = {.read = lag_list, .while_stopping = true},
    [VERB_HELD_LIST] = {.read = held_list, .while_stopping = true},
    [VERB_HEALTH] = {.read = do_health, .while_stopping = true},
    [VERB_GROUP_CONTROL] = {.with = group_control, .numbered = true},
    [VERB_HELD_CHANGE] = {.with = held_change, .numbered = true},
    [VERB_TASK_LIST] = {.read = task_list, .while_stopping = true},
    [VERB_TASK_CANCEL] = {.with = task_cancel, .numbered = true},
    [VERB_SCHED_LIST] = {.read = sched_list, .while_stopping = true},
    [VERB_SCHED_CHANGE] = {.with = sched_change, .numbered = true},
    [VERB_EXPLAIN] = {.read = explain, .while_stopping = true},
    [VERB_STATE_GET] = {.read = state_get, .while_stopping = true},
    [VERB_GROUP_JOIN] = {.with = members_join},
    [VERB_GROUP_HEARTBEAT] = {.with = members_heartbeat},
    [VERB_GROUP_LEAVE] = {.with = members_leave, .while_stopping = true},
    [VERB_GROUP_COMMIT] = {.with = commit_request, .numbered = true, .while_stopping = true},
    [VERB_GROUP_SEEK] = {.with = commit_seek, .numbered = true},
    [VERB_GROUP_MEMBERS] = {.read = members_list, .while_stopping = true},
    [VERB_BACKUP] = {.read = do_backup},
    [VERB_WORKER_REPORT] = {.read = do_workers, .while_stopping = true},
    [VERB_WORKER_LIST] = {.read = do_workers, .while_stopping = true},
    [VERB_WORKER_CONTROL] = {.read = do_workers},
};

bool engine_reads(enum wire_verb verb)
{
    if (verb == VERB_HELLO || verb == VERB_BYE)
        return false; /* they put the session's row */
    return verb == VERB_FETCH || (verb < VERB_COUNT && verbs[verb].read != NULL);
}

void engine_op(struct engine *en, struct op *op)
{
    memset(&op->reply, 0, sizeof op->reply);
    err_clear(&op->error);
    op->read = READ_NONE;
    op->with_state = false;
    op->session = op->lane = NULL;
    list_init(&op->waits);
    assert(!list_linked(&op->wait));

    enum wire_verb verb = op->request.verb;
    const struct verb *v = verb > VERB_NONE && verb < VERB_COUNT ? &verbs[verb] : NULL;
    if (v == NULL || (v->read == NULL && v->with == NULL)) {
        answer(en, op, E_UNSUPPORTED, "verb %u", (unsigned)verb);
        return;
    }
    if (en->stopping && !v->while_stopping) {
        op->reply.retry_after_ms = 1000;
        answer(en, op, E_SHUTTING_DOWN, NULL);
        return;
    }
    if (v->read != NULL && (op->pipe == 0 || verb == VERB_HELLO)) {
        v->read(en, op);
        return;
    }
    struct session *s = session_of(en, op);
    if (s == NULL)
        return;
    if (v->read != NULL) {
        v->read(en, op);
        return;
    }
    if (!v->numbered) {
        v->with(en, op, s);
        return;
    }
    if (lane_begin(en, s, op) == LANE_NEW)
        v->with(en, op, s);
}

/* ---------------------------------------------------------------- a turn */

/* The wall clock never goes back, and is believed while it goes as the monotonic one does, or comes back to a time that was seen before. A step
 * of more than clock_step_ms_max is not: time then goes on from where both were last seen to agree, until the clock is back there. A restart
 * takes the clock as it is. */
static void clock_look(struct engine *en)
{
    uint64_t max = PLANTED(clock_step_believed) ? 0 : en->limits->clock_step_ms_max, wall = en->now.wall_ms;
    uint64_t expected = en->clock.wall_ms + (en->now.mono_ms - en->clock.mono_ms);
    uint64_t ahead = expected > en->wall_ms ? expected : en->wall_ms;
    bool stepped = max != 0 && ((wall > ahead && wall - ahead > max) || (wall < expected && expected - wall > max));
    en->counters.clock_steps += stepped && !en->wall_suspect;
    en->wall_suspect = stepped;
    if (stepped)
        wall = expected;
    else
        en->clock = en->now;
    if (wall > en->wall_ms || PLANTED(clock_goes_back))
        en->wall_ms = wall;
}

void engine_turn_begin(struct engine *en, struct engine_now now)
{
    assert(!en->in_turn);
    assert(now.mono_ms >= en->now.mono_ms);
    en->in_turn = true;
    en->turn++;
    en->counters.turns++;
    en->now = now;
    clock_look(en);
    timers_fire(en);
}

static void write_epoch(struct engine *en)
{
    struct key k = key_meta_epoch();
    buf_clear(&en->row);
    epoch_row_put(&en->row, &(struct epoch_row){.epoch = en->epoch, .turn = en->turn, .wall_ms = en->wall_ms});
    row_put(en, FAM_META, &k);
}

/* Rows that were changed, once each: however often a turn touched them. */
void engine_turn_end(struct engine *en)
{
    assert(en->in_turn);
    queue_stirred(en);
    sched_turn_end(en);
    for (struct list_node *n; (n = list_pop_front(&en->dirty_partitions)) != NULL;) {
        struct partition *p = container_of(n, struct partition, dirty);
        log_write(en, p);
        lag_changed_topic(en, p->topic);
    }
    away_turn_end(en);
    for (struct list_node *n; (n = list_pop_front(&en->dirty_leases)) != NULL;)
        lease_write(en, container_of(n, struct lease, dirty));
    for (struct list_node *n; (n = list_pop_front(&en->dirty_parts)) != NULL;) {
        struct group_part *p = container_of(n, struct group_part, dirty);
        done_write(en, p);
        lag_changed(en, p->group);
    }
    for (struct list_node *n; (n = list_pop_front(&en->dirty_lanes)) != NULL;)
        lane_write(en, container_of(n, struct lane, dirty));
    dedup_write(en);
    for (struct list_node *n; (n = list_pop_front(&en->dirty_tasks)) != NULL;)
        task_write(en, n);

    struct effects *fx = &en->fx;
    fx->puts.epoch = en->epoch;
    fx->puts.turn = en->turn;
    if (fx->puts.count > 0 || !en->epoch_written) {
        write_epoch(en);
        fx->need_sync |= !en->epoch_written;
        en->epoch_written = true;
    }
    fx->loads = (const struct effect_load *)(void *)en->loads.data;
    fx->loads_n = en->loads.size / sizeof *fx->loads;
    fx->cuts = (const struct effect_cut *)(void *)en->cuts.data;
    fx->cuts_n = en->cuts.size / sizeof *fx->cuts;
    fx->copies = (struct copies *const *)(void *)en->copies.data;
    fx->copies_n = en->copies.size / sizeof *fx->copies;
    fx->matches = (struct match *const *)(void *)en->matches.data;
    fx->matches_n = en->matches.size / sizeof *fx->matches;
    fx->picks = (struct pick *const *)(void *)en->picks.data;
    fx->picks_n = en->picks.size / sizeof *fx->picks;
    fx->appends = (const struct effect_append *)(void *)en->appends_fx.data;
    fx->appends_n = en->appends_fx.size / sizeof *fx->appends;
    fx->hints = (const struct effect_hint *)(void *)en->hints.data;
    fx->hints_n = en->hints.size / sizeof *fx->hints;
    fx->notices = (const struct effect_notice *)(void *)en->notices.data;
    fx->notices_n = en->notices.size / sizeof *fx->notices;
    fx->partitions = (const struct effect_partition *)(void *)en->partitions_fx.data;
    fx->partitions_n = en->partitions_fx.size / sizeof *fx->partitions;
    fx->drop_pipes = (const uint64_t *)(void *)en->drops.data;
    fx->drop_pipes_n = en->drops.size / sizeof *fx->drop_pipes;
    en->in_turn = false;
}

/* What a burst took, such as the making of a large topic, goes back. */
static void effects_rewind(struct buf *b)
{
    enum { KEPT_BYTES = 1 << 20 };
    if (b->cap > KEPT_BYTES)
        buf_free(b);
    else
        buf_clear(b);
}

void engine_effects_clear(struct engine *en)
{
    assert(!en->in_turn);
    puts_clear(&en->fx.puts);
    for (size_t i = 0; i < en->holds.size / sizeof(struct ref *); i++)
        ref_drop(((struct ref **)(void *)en->holds.data)[i]);
    effects_rewind(&en->holds);
    en->fx.due = NULL;
    en->fx.compaction = NULL;
    en->fx.compacted = NULL;
    en->fx.back = NULL;
    effects_rewind(&en->loads);
    effects_rewind(&en->cuts);
    effects_rewind(&en->copies);
    en->fx.cuts_n = en->fx.copies_n = 0;
    effects_rewind(&en->matches);
    effects_rewind(&en->picks);
    effects_rewind(&en->appends);
    effects_rewind(&en->appends_fx);
    effects_rewind(&en->hints);
    effects_rewind(&en->notices);
    en->fx.notices_n = 0;
    effects_rewind(&en->partitions_fx);
    effects_rewind(&en->drops);
    en->fx.loads_n = en->fx.matches_n = en->fx.picks_n = en->fx.appends_n = en->fx.hints_n = en->fx.partitions_n = en->fx.drop_pipes_n = 0;
    en->fx.need_sync = en->fx.shows_when_written = false;
}

void engine_written(struct engine *en, uint64_t turn) { log_visible(en, &en->for_written, turn); }
void engine_durable(struct engine *en, uint64_t turn)
{
    en->durable = turn;
    log_visible(en, &en->for_durable, turn);
}
void engine_loaded(struct engine *en, const struct loaded *l) { queue_loaded(en, l); }
void engine_due(struct engine *en, const struct due *d) { sched_due(en, d); }
void engine_compacted(struct engine *en, struct compaction *c) { compact_returned(en, c); }
void engine_disk(struct engine *en, uint64_t free_bytes) { en->disk_free = free_bytes; }

void engine_pipe_lost(struct engine *en, uint64_t pipe)
{
    struct session *s = map_get(&en->pipes, pipe);
    if (s != NULL)
        session_detach(en, s);
}

void engine_stop(struct engine *en)
{
    en->stopping = true;
    for (struct heap_node *n; (n = heap_peek(&en->waits)) != NULL;) {
        struct op *op = container_of(n, struct op, timer);
        wait_end(en, op);
        op->reply.retry_after_ms = 1000;
        answer(en, op, E_SHUTTING_DOWN, NULL);
    }
}

void engine_unreadable(struct engine *en, uint32_t group, uint32_t partition, uint64_t offset, uint64_t token, int code,
                       struct view error)
{
    struct group *g = map_get(&en->groups, group);
    struct partition *p = table_get(&en->partitions, partition);
    if (g == NULL || p == NULL || p->topic != g->topic)
        return;
    struct entry *e = map_get(&group_part(g, p)->entries, offset);
    if (e == NULL || e->token != token || e->state == ENTRY_BLOCKED)
        return;
    en->counters.damaged_messages++;
    entry_park(en, e, code == E_GAP ? VIEW_LIT("gone") : VIEW_LIT("damaged"), error);
}

/* ---------------------------------------------------------------- life */

enum { ENTRIES_KEPT = 16384 /* some 4 MB */ };

int engine_open(struct engine **out, struct store *store, const struct engine_limits *limits, struct engine_now now, uint64_t seed,
                struct err *e)
{
    struct engine *en = mem_zalloc(sizeof *en);
    en->store = store;
    en->limits = limits;
    en->entries = (struct pool){.size = sizeof(struct entry), .kept_max = ENTRIES_KEPT};
    en->now = en->clock = now;
    en->began_ms = now.mono_ms;
    en->sched.next_ms = UINT64_MAX;
    en->disk_free = UINT64_MAX;
    rng_seed(&en->rng, seed);
    puts_init(&en->fx.puts);
    list_init(&en->fx.done);
    list_init(&en->dirty_partitions);
    list_init(&en->dirty_parts);
    list_init(&en->lag_changed);
    list_init(&en->dirty_keys);
    list_init(&en->leaving);
    list_init(&en->dirty_leases);
    list_init(&en->dirty_lanes);
    list_init(&en->dirty_tasks);
    list_init(&en->tasks);
    list_init(&en->stirred);
    retention_init(en);
    list_init(&en->compact.all);
    int code = engine_load(en, e);
    if (code != E_OK) {
        engine_close(en);
        return code;
    }
    en->epoch += !PLANTED(epoch_stays);
    *out = en;
    return E_OK;
}

void engine_close(struct engine *en)
{
    if (en == NULL)
        return;
    assert(heap_peek(&en->waits) == NULL);
    sessions_close(en);
    tasks_forget(en, NULL);
    for (size_t i = 0; i < en->topics_n; i++) {
        for (size_t k = 0; k < en->topics[i]->groups_n; k++)
            group_free(en, en->topics[i]->groups[k]);
        topic_free(en->topics[i]);
    }
    dedup_free(en);
    mem_free(en->topics);
    table_free(&en->partitions);
    map_free(&en->groups);
    map_free(&en->sessions);
    map_free(&en->pipes);
    heap_free(&en->timers);
    heap_free(&en->waits);
    heap_free(&en->retention.due);
    puts_free(&en->fx.puts);
    for (size_t i = 0; i < en->holds.size / sizeof(struct ref *); i++)
        ref_drop(((struct ref **)(void *)en->holds.data)[i]);
    struct buf *bufs[] = {&en->holds, &en->cuts, &en->copies, &en->notices, &en->sched.name, &en->loads, &en->matches, &en->picks, &en->hints, &en->partitions_fx, &en->drops,
                          &en->appends_fx, &en->appends, &en->scratch, &en->row};
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++)
        buf_free(bufs[i]);
    pool_free(&en->entries);
    mem_free(en->for_written.at);
    mem_free(en->for_durable.at);
    mem_free(en);
}

void engine_totals(const struct engine *en, struct engine_totals *out)
{
    *out = (struct engine_totals){.topics = (uint32_t)en->topics_n, .partitions = (uint32_t)table_count(&en->partitions),
                                  .groups = en->groups_n, .sessions = (uint32_t)en->sessions_n, .ready = en->ready,
                                  .scheduled_batches = en->sched.batches, .scheduled_messages = en->sched.messages,
                                  .clock_stepped = en->wall_suspect};
    memcpy(out->log_bytes, en->log_bytes, sizeof out->log_bytes);
    for (struct map_it it = map_iter(&en->groups); map_next(&it);) {
        const struct group *g = it.value;
        out->leased += g->leased;
        out->held += g->retrying + g->blocked;
    }
    for (struct map_it it = map_iter(&en->sessions); map_next(&it);)
        for (const struct session *s = it.value; s != NULL; s = s->collision)
            out->waiting += s->waiting_n;
}

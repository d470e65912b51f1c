/* One history: see sim.h. What happens next is drawn from the seed; after each step what must be true is looked at. */
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "client.h"
#include "tap.h"

void world_fail(struct world *w, const char *fmt, ...)
{
    if (w->failed)
        return;
    w->failed = true;
    va_list args;
    va_start(args, fmt);
    printf("seed %llu, at %llu ms: ", (unsigned long long)w->seed, (unsigned long long)w->now.mono_ms);
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
}

void world_trace(struct world *w, const char *fmt, ...)
{
    if (!w->trace)
        return;
    va_list args;
    va_start(args, fmt);
    printf("%8llu  ", (unsigned long long)w->now.mono_ms);
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
}

uint64_t turn_time(const struct world *w, uint64_t turn)
{
    return turn < w->turn_cap ? w->turn_time[turn] : 0;
}

static void turn_time_set(struct world *w, uint64_t turn)
{
    if (turn >= w->turn_cap) {
        size_t cap = w->turn_cap > 0 ? 2 * w->turn_cap : 1024;
        w->turn_time = mem_resize(w->turn_time, cap, sizeof *w->turn_time);
        w->turn_cap = cap;
    }
    w->turn_time[turn] = w->now.mono_ms;
}

/* ---------------------------------------------------------------- the broker */

static void on_hint(void *user, uint32_t group, const char *topic, const char *name)
{
    struct world *w = user;
    (void)group, (void)topic, (void)name;
    w->totals->hints++;
}

static void on_drop_pipe(void *user, uint64_t pipe)
{
    struct world *w = user;
    for (int i = 0; i < CLIENTS; i++)
        if (w->clients[i].pipe == pipe)
            client_lose_pipe(w, &w->clients[i], true);
}

static void broker_open(struct world *w)
{
    struct err e = {0};
    struct loop_options o = {.store = w->store,
                             .limits = &w->limits,
                             .tail_cache_bytes = 4096,
                             .seed = w->seed,
                             .hint = on_hint,
                             .drop_pipe = on_drop_pipe,
                             .user = w};
    w->synced = UINT64_MAX; /* opening syncs what it answers */
    map_free(&w->lags);
    w->lags_changed = 0;
    if (loop_open(&w->loop, &o, w->now, &e) != E_OK) {
        world_fail(w, "the broker does not open: %s", e.text);
        return;
    }
    w->synced = engine_turn(loop_engine(w->loop));
}

static void count_engine(struct world *w)
{
    const struct engine_counters *c = engine_counters(loop_engine(w->loop));
    w->totals->repeats += c->repeats;
    w->totals->out_of_order += c->out_of_order;
    w->totals->expired_leases += c->expired_leases;
    w->totals->returned_leases += c->returned_leases;
    w->totals->spilled += c->spilled_messages;
    w->totals->came_back += c->back_messages;
    w->totals->generations += c->dedup_generations;
    w->totals->compactions += c->compactions;
    w->totals->compactions_given_up += c->compactions_given_up;
    w->totals->timers += c->expired_leases + c->nacked_messages;
}

static void broker_close(struct world *w)
{
    w->broker_down = true;
    count_engine(w);
    loop_close(w->loop);
    w->loop = NULL;
    w->broker_down = false;
}

static void broker_crash(struct world *w, bool cut)
{
    uint64_t unsynced = store_mem_unsynced(w->mem), keep = cut ? rng_below(&w->rng, unsynced + 1) : unsynced;
    world_trace(w, "the broker %s, %llu of %llu unsynced writes are kept", cut ? "loses power" : "is killed",
                (unsigned long long)keep, (unsigned long long)unsynced);
    broker_close(w);
    store_mem_crash(w->mem, keep);
    store_mem_faults(w->mem, &(struct store_mem_faults){0});
    for (int i = 0; i < CLIENTS; i++)
        client_lose_pipe(w, &w->clients[i], false);
    w->totals->broker_kills += !cut;
    w->totals->power_cuts += cut;
    w->totals->torn_writes += cut && keep < unsynced;
    model_after_crash(w, cut);
    if (!w->failed)
        broker_open(w);
}

bool world_all_written(const struct world *w)
{
    return engine_effects(loop_engine(w->loop))->puts.count == 0;
}

/* An engine opened from the store must know what the live one knows. */
static void check_digest(struct world *w)
{
    struct engine *other;
    struct err e = {0};
    if (engine_open(&other, w->store, &w->limits, w->now, 1, &e) != E_OK) {
        world_fail(w, "a second engine does not open: %s", e.text);
        return;
    }
    if (engine_digest(other) != engine_digest(loop_engine(w->loop)))
        world_fail(w, "the engine rebuilt from the store differs from the live one");
    engine_close(other);
    w->totals->digests++;
}

void world_turn(struct world *w)
{
    turn_time_set(w, engine_turn(loop_engine(w->loop)) + 1);
    uint64_t due;
    int turns = 0;
    do
        due = loop_turn(w->loop, w->now);
    while (due == 0 && ++turns < 3 && (turn_time_set(w, engine_turn(loop_engine(w->loop)) + 1), true));
}

static void on_asked(struct op *op)
{
    op->node[0] = op;
}

struct op *world_ask(struct world *w, const struct wire_request *request)
{
    return world_ask_changes(w, request, false, 0, 0);
}

struct op *world_ask_changes(struct world *w, const struct wire_request *request, bool changes, uint64_t changed, uint64_t changed_end)
{
    struct op *op = mem_zalloc(sizeof *op);
    arena_init(&op->arena, 1 << 20);
    op->request = *request;
    op->changes = changes;
    op->changed = changed;
    op->changed_end = changed_end;
    op->bytes = 100;
    op->done = on_asked;
    if (loop_submit(w->loop, op) != E_OK)
        world_fail(w, "the inbox is full");
    for (int turns = 0; turns < 2000;
         turns++) { /* two: what only the log knows is read between them; more, while writes are refused */
        world_turn(w);
        if (op->node[0] == op)
            return op;
        w->now.mono_ms += turns > 0;
        w->now.wall_ms += turns > 0;
    }
    world_fail(w, "verb %d was not answered", request->verb);
    return NULL;
}

void world_answered(struct op *op)
{
    buf_free(&op->payload);
    arena_free(&op->arena);
    mem_free(op);
}

static void turn(struct world *w)
{
    world_turn(w);
    if (!world_all_written(w)) {
        w->totals->stalls++;
        return;
    }
    if (rng_chance(&w->rng, 1, 4))
        model_census(w);
    if (rng_chance(&w->rng, 1, 32)) {
        check_digest(w);
        model_held_rows(w);
        model_latest(w);
        model_recount(w);
    }
    if (!w->failed && rng_chance(&w->rng, 1, 100))
        model_lag(w);
    if (!w->failed && rng_chance(&w->rng, 1, 100))
        model_tasks_list(w);
    if (!w->failed && rng_chance(&w->rng, 1, 100))
        model_scheds_list(w);
}

void world_sync(struct world *w)
{
    uint64_t last = engine_turn(loop_engine(w->loop)), before = w->synced;
    w->synced = world_all_written(w) ? last : last - 1;
    size_t ends[PARTS];
    for (int i = 0; i < PARTS; i++) {
        ends[i] = w->model->parts[i].synced_end;
        w->model->parts[i].synced_end = w->model->parts[i].end;
    }
    if (loop_sync(w->loop) == E_OK)
        return;
    w->synced = before;
    for (int i = 0; i < PARTS; i++)
        w->model->parts[i].synced_end = ends[i];
    world_trace(w, "a sync fails");
    w->totals->sync_failures++;
    broker_crash(w, true);
}

/* ---------------------------------------------------------------- a history */

static void pass_time(struct world *w)
{
    uint64_t x = rng_below(&w->rng, 100);
    uint64_t ms = rng_below(&w->rng, x < 60 ? 10 : x < 92 ? 200 : x < 99 ? 4000 : 40000);
    w->now.mono_ms += ms;
    w->now.wall_ms += ms;
    if (rng_chance(&w->rng, 1, 400)) {
        uint64_t day = 86400000;
        w->now.wall_ms = rng_chance(&w->rng, 1, 2) ? w->now.wall_ms + rng_below(&w->rng, 10000)
                                                   : w->now.wall_ms - rng_below(&w->rng, day);
        w->totals->clock_jumps++;
        w->clock_jumped_at = w->now.mono_ms;
        model_clock_jumped(w);
    }
}

static void fault(struct world *w)
{
    uint64_t x = rng_below(&w->rng, 10);
    struct store_mem_faults f = {0};
    if (x < 6) {
        f.fail_write_at = rng_between(&w->rng, 1, 3);
        f.write_code = x < 4 ? E_DISK_FULL : E_OVERLOADED;
        f.fail_writes = (uint32_t)rng_between(&w->rng, 1, 4);
    } else {
        f.fail_sync_at = rng_between(&w->rng, 1, 3);
    }
    store_mem_faults(w->mem, &f);
}

/* All pipes are lost at once. When the grace is over nobody holds anything. */
static void everybody_leaves(struct world *w)
{
    for (int i = 0; i < CLIENTS; i++)
        client_lose_pipe(w, &w->clients[i], true);
    turn(w);
    bool seen = world_all_written(w);
    w->now.mono_ms += w->limits.session_grace_ms;
    w->now.wall_ms += w->limits.session_grace_ms;
    if (!w->failed)
        turn(w);
    if (!w->failed && seen && world_all_written(w))
        model_nothing_leased(w);
}

static void event(struct world *w)
{
    w->totals->events++;
    pass_time(w);
    client_act(w, &w->clients[rng_below(&w->rng, CLIENTS)]);
    client_send_due(w, &w->clients[rng_below(&w->rng, CLIENTS)]);
    if (rng_chance(&w->rng, 7, 10))
        turn(w);
    if (!w->failed && rng_chance(&w->rng, 4, 10))
        world_sync(w);
    if (!w->failed && rng_chance(&w->rng, 1, 300))
        everybody_leaves(w);
    if (!w->failed && rng_chance(&w->rng, 1, 120))
        fault(w);
    if (!w->failed && rng_chance(&w->rng, 1, 150))
        broker_crash(w, rng_chance(&w->rng, 1, 2));
}

static bool drained(struct world *w)
{
    for (int i = 0; i < GROUPS; i++) {
        struct view topic, group;
        struct engine_census c;
        setup_names(i, &topic, &group);
        if (!engine_census(loop_engine(w->loop), topic, group, &c) || c.scanning_again || c.unscanned > 0 ||
            c.ready > 0 || c.leased > 0 || c.retrying > 0 || c.throttled > 0)
            return false;
    }
    for (int i = 0; i < CLIENTS; i++)
        LIST_EACH (n, &w->clients[i].requests)
            if (container_of(n, struct request, link)->kind != R_RECEIVE)
                return false;
    return model_tasks_idle(w) && model_scheds_idle(w);
}

static void drain_all(struct world *w)
{
    for (int i = 0; i < 4000 && !w->failed; i++) {
        w->now.mono_ms += 100;
        w->now.wall_ms += 100;
        for (int c = 0; c < CLIENTS; c++) {
            w->clients[c].paused_until = 0;
            client_act(w, &w->clients[c]);
        }
        turn(w);
        if (!w->failed)
            world_sync(w);
        if (!w->failed && drained(w))
            return;
    }
    for (int i = 0; i < GROUPS; i++) {
        struct view topic, group;
        struct engine_census c;
        setup_names(i, &topic, &group);
        if (engine_census(loop_engine(w->loop), topic, group, &c))
            printf("  group %d: done %llu leased %llu ready %llu retrying %llu blocked %llu behind %llu "
                   "unscanned %llu%s\n",
                   i, (unsigned long long)c.done_above_floor, (unsigned long long)c.leased,
                   (unsigned long long)c.ready, (unsigned long long)c.retrying, (unsigned long long)c.blocked,
                   (unsigned long long)c.behind, (unsigned long long)c.unscanned,
                   c.scanning_again ? " scanning again" : "");
    }
    for (int i = 0; i < CLIENTS; i++)
        LIST_EACH (n, &w->clients[i].requests) {
            const struct request *r = container_of(n, struct request, link);
            printf("  client %d: verb %d lane %u seq %llu\n", i, r->verb, r->lane,
                   (unsigned long long)r->seq);
        }
    world_fail(w, "the groups did not drain");
}

static void drain(struct world *w)
{
    w->draining = true;
    store_mem_faults(w->mem, &(struct store_mem_faults){0});
    if (w->now.wall_ms < w->model->wall_ms)
        w->now.wall_ms = w->model->wall_ms;
    broker_crash(w, false); /* a broker that begins takes the clock as it is */
    drain_all(w);
    if (w->failed || rng_chance(&w->rng, 1, 2))
        return;
    client_drop_all(&w->clients[0]);
    drain_all(w);
}

/* Nobody produces any more: what goes with time alone goes. */
static void rest(struct world *w)
{
    for (int i = 0; i < 24 && !w->failed; i++) {
        w->now.mono_ms += 2000;
        w->now.wall_ms += 2000;
        turn(w);
        if (!w->failed)
            world_sync(w);
    }
}

bool world_run(uint64_t seed, uint32_t events, bool trace, struct sim_totals *totals)
{
    struct world *w = mem_zalloc(sizeof *w);
    w->seed = seed;
    w->trace = trace;
    w->totals = totals;
    rng_seed(&w->rng, seed);
    w->now = (struct engine_now){.mono_ms = 1000, .wall_ms = UINT64_C(1700000000000)};
    w->limits = engine_limits_default;
    w->limits.session_ttl_ms = 60000;
    w->limits.session_grace_ms = 1500; /* shorter than leases, so that it is what ends them */
    w->limits.load_records_max = 64;
    static const uint32_t windows[] = {0, 1, 50, 400, 2000, 10000};
    w->limits.retry_window_ms = windows[rng_below(&w->rng, sizeof windows / sizeof windows[0])];
    w->limits.disk_reserve_bytes = 0;
    w->limits.compact_bytes_min = 1;
    w->limits.compact_dirty_min = rng_between(&w->rng, 1, 50);
    w->limits.compact_lag_ms = rng_chance(&w->rng, 1, 2) ? 0 : 5000;
    w->limits.compact_interval_ms = 500;
    if (rng_chance(&w->rng, 1, 2))
        w->limits.compact_age_max_ms = 5000;
    w->limits.compact_memory_bytes = rng_chance(&w->rng, 1, 2) ? 1 : 65536; /* a row a pass */
    w->limits.tombstone_ms = rng_chance(&w->rng, 1, 2) ? 0 : rng_below(&w->rng, 20000);
    w->limits.retention_interval_ms = 500;
    w->mem = store_mem_new();
    w->store = tap_new(w->mem, model_written, w);
    model_init(w);
    clients_init(w);
    w->draining = true; /* nothing is lost while the world is made */
    broker_open(w);
    setup(w);
    w->scratch = 0;
    w->draining = false;
    for (uint32_t i = 0; i < events && !w->failed; i++)
        event(w);
    if (!w->failed)
        drain(w);
    if (!w->failed)
        rest(w);
    if (!w->failed)
        model_end(w);
    if (w->loop != NULL)
        broker_close(w);
    clients_free(w);
    store_close(w->store);
    store_close(w->mem);
    model_free(w);
    mem_free(w->turn_time);
    map_free(&w->lags);
    bool good = !w->failed;
    mem_free(w);
    return good;
}

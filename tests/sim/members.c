/* Runs histories of stream groups: see members.h.
 *
 *     sim-members                    an hour of virtual time with eight members, then short histories, SLUICE_SIM_SEEDS of them (20)
 *     sim-members --seeds N [--from S] [--ms T]
 *     sim-members --seed S [--ms T]  one, with its trace
 */
#include "members.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

enum { HOUR_MS = 3600000, SHORT_MS = 120000, BEGIN_MS = 1000 };

void world_fail(struct world *w, const char *fmt, ...)
{
    if (w->failed)
        return;
    w->failed = true;
    va_list args;
    va_start(args, fmt);
    printf("seed %llu, at %llu ms: ", (unsigned long long)w->seed, (unsigned long long)world_ms(w));
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
    printf("%8llu  ", (unsigned long long)world_ms(w));
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
}

/* ---------------------------------------------------------------- the network */

struct flight {
    struct op op;
    struct list_node link;
    struct client *client; /* NULL: of the world itself */
    uint64_t pipe, due_ms, sent_ms;
    bool back, done;
};

static void flight_free(struct flight *f)
{
    list_remove(&f->link);
    arena_free(&f->op.arena);
    buf_free(&f->op.payload);
    mem_free(f);
}

static uint64_t delay(struct world *w) { return rng_below(&w->rng, rng_chance(&w->rng, 1, 20) ? 300 : 5); }

/* The answer leaves the broker. */
static void on_done(struct op *op)
{
    struct flight *f = container_of(op, struct flight, op);
    if (f->client == NULL) {
        f->done = true;
        return;
    }
    struct client *c = f->client;
    struct world *w = c->world;
    if (op->request.verb == VERB_GROUP_COMMIT && !w->down)
        model_committed(w, op);
    if (w->down || c->pipe != f->pipe) {
        flight_free(f);
        return;
    }
    f->back = true;
    f->due_ms = world_ms(w) + delay(w);
    c->last_in = f->due_ms = f->due_ms > c->last_in ? f->due_ms : c->last_in;
    list_push_back(&w->flights, &f->link);
}

static void *keep(struct op *op, const void *data, size_t size)
{
    void *copy = arena_take(&op->arena, size > 0 ? size : 1);
    if (size > 0)
        memcpy(copy, data, size);
    return copy;
}

static struct flight *flight_new(const struct wire_request *r, uint64_t pipe)
{
    struct flight *f = mem_zalloc(sizeof *f);
    arena_init(&f->op.arena, 1 << 20);
    f->op.request = *r;
    f->op.pipe = f->pipe = pipe;
    f->op.bytes = 100;
    f->op.done = on_done;
    struct wire_group_heartbeat *h = &f->op.request.heartbeat;
    struct wire_group_commit *commit = &f->op.request.commit;
    if (r->verb == VERB_GROUP_HEARTBEAT)
        h->released = keep(&f->op, h->released, h->released_n * sizeof *h->released);
    if (r->verb == VERB_GROUP_COMMIT)
        commit->items = keep(&f->op, commit->items, commit->items_n * sizeof *commit->items);
    return f;
}

void world_send(struct client *c, const struct wire_request *r)
{
    struct world *w = c->world;
    struct flight *f = flight_new(r, c->pipe);
    f->client = c;
    f->sent_ms = world_ms(w);
    f->due_ms = f->sent_ms + delay(w);
    c->last_out = f->due_ms = f->due_ms > c->last_out ? f->due_ms : c->last_out;
    list_push_back(&w->flights, &f->link);
}

/* A pipe that was lost carries nothing. Replies wait for a member that hangs. */
static void flights_land(struct world *w)
{
    LIST_EACH_SAFE (n, &w->flights) {
        struct flight *f = container_of(n, struct flight, link);
        struct client *c = f->client;
        bool said_and_gone = !f->back && c->pipe == 0 && c->life == DEAD; /* the last words of one that left arrive */
        if (c->pipe != f->pipe && !said_and_gone) {
            flight_free(f);
            continue;
        }
        if (f->due_ms > world_ms(w) || (f->back && c->life == HUNG))
            continue;
        list_remove(&f->link);
        if (!f->back) {
            if (loop_submit(w->loop, &f->op) != E_OK)
                world_fail(w, "the inbox is full");
            continue;
        }
        client_reply(c, &f->op, f->sent_ms);
        flight_free(f);
    }
}

/* ---------------------------------------------------------------- the broker */

static void on_drop_pipe(void *user, uint64_t pipe)
{
    struct world *w = user;
    for (int i = 0; i < MEMBERS; i++)
        if (w->clients[i].pipe == pipe)
            client_lose_pipe(&w->clients[i], true);
}

static void broker_open(struct world *w)
{
    struct err e = {0};
    struct loop_options o = {.store = w->mem, .limits = &w->limits, .tail_cache_bytes = 4096, .seed = w->seed, .drop_pipe = on_drop_pipe,
                             .user = w};
    if (loop_open(&w->loop, &o, w->now, &e) != E_OK)
        world_fail(w, "the broker does not open: %s", e.text);
}

static void turn(struct world *w)
{
    for (int i = 0; i < 3 && loop_turn(w->loop, w->now) == 0; i++)
        ;
}

/* A request of the world itself, answered before time goes on. The caller frees the flight. */
static struct flight *ask(struct world *w, struct wire_request r)
{
    r.session = (struct id128){1, 1};
    struct flight *f = flight_new(&r, w->admin_pipe);
    if (r.verb == VERB_PRODUCE)
        f->op.batch = (struct op_batch){.last_delta = r.produce.count - 1};
    if (loop_submit(w->loop, &f->op) != E_OK)
        world_fail(w, "the inbox is full");
    for (int i = 0; i < 10 && !f->done; i++) {
        turn(w);
        loop_sync(w->loop);
        turn(w);
    }
    if (!f->done || f->op.reply.code != E_OK)
        world_fail(w, "verb %d: %s %s", r.verb, f->done ? error_name(f->op.reply.code) : "no answer", f->op.error.text);
    return f;
}

static void admin_hello(struct world *w, bool resume)
{
    w->admin_pipe = ++w->pipes;
    struct wire_request r = {.verb = VERB_HELLO, .hello = {.version_min = 1, .version_max = 1, .resume = resume}};
    flight_free(ask(w, r));
}

static struct flight *ask_numbered(struct world *w, struct wire_request r)
{
    uint64_t *seq = r.verb == VERB_PRODUCE ? &w->lane_seq[r.produce.partition - w->partition] : &w->admin_seq;
    r.replies_seen = *seq;
    r.seq = ++*seq;
    return ask(w, r);
}

static void setup(struct world *w)
{
    admin_hello(w, false);
    struct wire_request r = {.verb = VERB_TOPIC_CREATE, .topic = {.name = VIEW_LIT("t"), .config = {.partitions = PARTITIONS}}};
    struct flight *f = ask_numbered(w, r);
    if (!w->failed)
        w->partition = f->op.reply.topics.topics[0].partitions[0].id;
    flight_free(f);
    r = (struct wire_request){.verb = VERB_GROUP_CREATE, .group = {.topic = VIEW_LIT("t"), .name = VIEW_LIT("g"), .config = {.mode = MODE_STREAM}}};
    f = ask_numbered(w, r);
    if (!w->failed)
        w->group = f->op.reply.groups.groups[0].id;
    flight_free(f);
}

static void produce(struct world *w)
{
    uint32_t p = (uint32_t)rng_below(&w->rng, PARTITIONS), n = 1 + (uint32_t)rng_below(&w->rng, 20);
    struct wire_request r = {.verb = VERB_PRODUCE, .lane = w->partition + p,
                             .produce = {.partition = w->partition + p, .count = n, .batch = VIEW_LIT("0123456789abcdef")}};
    flight_free(ask_numbered(w, r));
    w->ends[p] += n;
}

/* Back to somewhere: what was done is done again, nothing is left out. */
static void seek(struct world *w)
{
    uint32_t p = (uint32_t)rng_below(&w->rng, PARTITIONS);
    struct wire_place place = {.partition = w->partition + p, .offset = rng_below(&w->rng, w->done[p] + 1)};
    struct wire_request r = {.verb = VERB_GROUP_SEEK,
                             .seek = {.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .to = SEEK_TO_OFFSETS, .items = &place, .items_n = 1}};
    struct flight *f = ask_numbered(w, r);
    if (!w->failed)
        model_sought(w, (int)p, place.offset, f->op.turn);
    w->totals->seeks++;
    flight_free(f);
}

static void broker_crash(struct world *w, bool cut)
{
    uint64_t unsynced = store_mem_unsynced(w->mem), kept = cut ? rng_below(&w->rng, unsynced + 1) : unsynced;
    world_trace(w, "the broker %s, %llu of %llu unsynced writes are kept", cut ? "loses power" : "is killed", (unsigned long long)kept,
                (unsigned long long)unsynced);
    w->down = true;
    loop_close(w->loop);
    w->loop = NULL;
    w->down = false;
    store_mem_crash(w->mem, kept);
    for (int i = 0; i < MEMBERS; i++)
        client_lose_pipe(&w->clients[i], false);
    broker_open(w);
    if (w->failed)
        return;
    w->totals->broker_kills += !cut;
    w->totals->power_cuts += cut;
    model_broker_began(w, cut);
    admin_hello(w, true);
}

static void check_digest(struct world *w)
{
    struct engine *other;
    struct err e = {0};
    if (engine_effects(loop_engine(w->loop))->puts.count > 0)
        return;
    if (engine_open(&other, w->mem, &w->limits, w->now, 1, &e) != E_OK) {
        world_fail(w, "a second engine does not open: %s", e.text);
        return;
    }
    if (engine_digest(other) != engine_digest(loop_engine(w->loop)))
        world_fail(w, "the engine rebuilt from the store differs from the live one");
    engine_close(other);
    w->totals->digests++;
}

/* ---------------------------------------------------------------- a history */

static void event(struct world *w)
{
    struct client *c = &w->clients[rng_below(&w->rng, MEMBERS)];
    uint64_t x = rng_below(&w->rng, 100);
    if (x >= 96) {
        broker_crash(w, x >= 98);
        return;
    }
    if (x >= 88) {
        seek(w);
        return;
    }
    if (c->life != RUNNING)
        return;
    if (x < 25) {
        world_trace(w, "member %d hangs", c->index);
        w->totals->hangs++;
        client_hang(c, rng_below(&w->rng, rng_chance(&w->rng, 1, 2) ? 2000 : 8000));
    } else if (x < 45) {
        world_trace(w, "member %d dies", c->index);
        w->totals->deaths++;
        client_die(c, rng_below(&w->rng, 5000));
        if (c->name[0] == '\0' && c->index % 4 == 2 && rng_chance(&w->rng, 1, 4)) /* comes back as another one calls itself */
            snprintf(c->name, sizeof c->name, "s%d", c->index + 1);
        else if (c->index % 4 == 3 && c->name[0] == '\0')
            snprintf(c->name, sizeof c->name, "s%d", c->index);
    } else if (x < 65) {
        world_trace(w, "member %d leaves", c->index);
        client_leave(c, rng_below(&w->rng, 5000));
    } else {
        world_trace(w, "member %d loses its pipe", c->index);
        w->totals->pipes_lost++;
        client_lose_pipe(c, rng_chance(&w->rng, 1, 2));
    }
}

static void millisecond(struct world *w)
{
    w->now.mono_ms++;
    w->now.wall_ms++;
    flights_land(w);
    for (int i = 0; i < MEMBERS; i++)
        client_step(&w->clients[i]);
    if (rng_chance(&w->rng, 1, 150) && !w->failed)
        produce(w);
    turn(w);
    if (world_ms(w) >= w->sync_at) {
        loop_sync(w->loop);
        w->sync_at = world_ms(w) + 1 + rng_below(&w->rng, rng_chance(&w->rng, 1, 10) ? 400 : 20);
    }
    model_step(w);
    if (rng_chance(&w->rng, 1, 2000) && !w->failed)
        check_digest(w);
    if (world_ms(w) >= w->next_event && !w->failed) {
        event(w);
        w->next_event = world_ms(w) + rng_below(&w->rng, 2000);
    }
}

static bool history(uint64_t seed, uint64_t ms, bool trace, struct totals *totals)
{
    struct world *w = mem_zalloc(sizeof *w);
    w->seed = seed;
    w->trace = trace;
    w->totals = totals;
    rng_seed(&w->rng, seed);
    w->now = (struct engine_now){.mono_ms = BEGIN_MS, .wall_ms = UINT64_C(1700000000000)};
    w->limits = engine_limits_default;
    w->limits.disk_reserve_bytes = 0;
    w->mem = store_mem_new();
    list_init(&w->flights);
    broker_open(w);
    setup(w);
    for (int i = 0; i < MEMBERS; i++)
        client_init(w, i);
    for (int p = 0; p < PARTITIONS; p++)
        w->failed_ms[p] = BEGIN_MS;
    uint64_t moved = totals->revoked, allowed = totals->allowed_moves;
    while (world_ms(w) < BEGIN_MS + ms && !w->failed)
        millisecond(w);
    if (!w->failed && totals->revoked - moved > totals->allowed_moves - allowed)
        world_fail(w, "%llu partitions were taken from members that live, %llu joins explain only %llu",
                   (unsigned long long)(totals->revoked - moved), (unsigned long long)totals->joins,
                   (unsigned long long)(totals->allowed_moves - allowed));
    bool good = !w->failed;
    w->down = true;
    loop_close(w->loop);
    LIST_EACH_SAFE (n, &w->flights)
        flight_free(container_of(n, struct flight, link));
    store_close(w->mem);
    mem_free(w);
    return good;
}

static bool print_totals(const struct totals *t, bool all)
{
    bool missing = false;
#define X(name)                                                    \
    printf("  %-16s %llu\n", #name, (unsigned long long)t->name);  \
    if (t->name == 0 && all) {                                     \
        printf("  ^ never happened\n");                            \
        missing = true;                                            \
    }
    TOTALS(X)
#undef X
    return missing;
}

int main(int argc, char **argv)
{
    const char *seeds_env = getenv("SLUICE_SIM_SEEDS");
    uint64_t seeds = seeds_env != NULL ? strtoull(seeds_env, NULL, 10) : 20, from = 1, ms = SHORT_MS, failures = 0;
    bool trace = false, hour = argc == 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t n = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--seed") == 0) {
            from = n;
            seeds = 1;
            trace = true;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            seeds = n;
        } else if (strcmp(argv[i], "--from") == 0) {
            from = n;
        } else if (strcmp(argv[i], "--ms") == 0) {
            ms = n;
        } else {
            fprintf(stderr, "sim-members: unknown option '%s'\n", argv[i]);
            return 2;
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    log_setup("sim", trace ? LOG_INFO : (enum log_level)(LOG_ERROR + 1));
    struct totals totals = {0};
    if (hour) {
        failures += !history(1, HOUR_MS, false, &totals);
        printf("%d members, %d partitions, session timeout %d ms, an hour of virtual time:\n", MEMBERS, PARTITIONS, TIMEOUT_MS);
        print_totals(&totals, false);
    }
    for (uint64_t s = from; s < from + seeds && failures < 5; s++)
        if (!history(s, ms, trace, &totals)) {
            printf("seed %llu failed; replay it with: sim-members --seed %llu --ms %llu\n", (unsigned long long)s, (unsigned long long)s,
                   (unsigned long long)ms);
            failures++;
        }
    printf("%llu histories of %llu ms%s\n", (unsigned long long)seeds, (unsigned long long)ms, hour ? ", with the hour" : "");
    bool missing = print_totals(&totals, seeds >= 20);
    printf("%llu failed\n", (unsigned long long)failures);
    return failures > 0 || missing ? 1 : 0;
}

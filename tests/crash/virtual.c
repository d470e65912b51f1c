/* See virtual.h. */
#include "virtual.h"

#include <time.h>

enum {
    SYNC_EVERY = 64,        /* turns */
    PATIENCE_TURNS = 10000, /* of a millisecond each, before a request is waited for in real time */
    PATIENCE_MS = 60000     /* for one request at most */
};

static void on_fatal(void *user, const struct err *why)
{
    (void)user;
    fail_msg("the broker stopped: %s", why->text);
}

void virtual_open(struct virtual *v)
{
    struct err e = {0};
    struct store_rocks_options disk = {.path = v->dir, .memory_bytes = 32 << 20, .wal_bytes_max = 64 << 20, .reserve_file_bytes = UINT64_MAX};
    struct loop_options o = {.limits = &v->limits, .tail_cache_bytes = 1 << 20, .seed = 1, .fatal = on_fatal};
    if (store_rocks_open(&v->store, &disk, &e) != E_OK)
        fail_msg("the store does not open: %s", e.text);
    o.store = v->store;
    if (loop_open(&v->loop, &o, v->now, &e) != E_OK)
        fail_msg("the loop does not open: %s", e.text);
}

void virtual_new(struct virtual *v, const char *name)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(v->dir, sizeof v->dir, "%s/sluice-%s-XXXXXX", tmp != NULL && strlen(tmp) < 32 ? tmp : "/tmp", name);
    assert_non_null(mkdtemp(v->dir));
    v->limits = engine_limits_default;
    v->limits.disk_reserve_bytes = 0;
    v->now = (struct engine_now){.mono_ms = 1000, .wall_ms = UINT64_C(1800000000000)};
    virtual_open(v);
}

void virtual_close(struct virtual *v)
{
    loop_close(v->loop);
    store_close(v->store);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void virtual_remove(struct virtual *v) { nftw(v->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

void virtual_sync(struct virtual *v) { assert_int_equal(loop_sync(v->loop), E_OK); }

uint64_t virtual_turns(struct virtual *v)
{
    uint64_t before, due;
    do {
        before = engine_turn(loop_engine(v->loop));
        due = loop_turn(v->loop, v->now);
        if (++v->turns % SYNC_EVERY == 0)
            virtual_sync(v);
    } while (engine_turn(loop_engine(v->loop)) != before || due <= v->now.mono_ms);
    return due;
}

void virtual_pass(struct virtual *v, uint64_t until_wall_ms)
{
    for (;;) {
        uint64_t due = virtual_turns(v), left = until_wall_ms - v->now.wall_ms;
        if (left == 0)
            return;
        uint64_t step = due - v->now.mono_ms < left ? due - v->now.mono_ms : left;
        v->now.mono_ms += step;
        v->now.wall_ms += step;
    }
}

/* ---------------------------------------------------------------- requests */

static void on_done(struct op *op) { container_of(op, struct call, op)->done = true; }

void call_free(struct call *c)
{
    arena_free(&c->op.arena);
    ref_drop(c->op.hold);
    buf_free(&c->op.payload);
    memset(c, 0, sizeof *c);
}

struct wire_request *call_prepare(struct call *c, enum wire_verb verb)
{
    call_free(c);
    arena_init(&c->op.arena, SIZE_MAX);
    c->op.pipe = 7;
    c->op.bytes = 100;
    c->op.done = on_done;
    c->op.request = (struct wire_request){.session = {1, 2}, .verb = verb};
    return &c->op.request;
}

void call_give(struct virtual *v, struct call *c) { assert_int_equal(loop_submit(v->loop, &c->op), E_OK); }

/* A receive that finds nothing read ahead is given a moment; a store that does not keep up is waited for, in real time too: it
 * flushes and compacts in threads of its own. */
void call_wait(struct virtual *v, struct call *calls, uint32_t n)
{
    uint32_t done = 0;
    uint64_t until = clock_mono_ms() + PATIENCE_MS;
    for (int i = 0; i < PATIENCE_TURNS || clock_mono_ms() < until; i++) {
        virtual_turns(v);
        while (done < n && calls[done].done)
            done++;
        if (done == n)
            return;
        virtual_sync(v);
        v->now.mono_ms++;
        v->now.wall_ms++;
        if (i >= PATIENCE_TURNS)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    fail_msg("a request is not answered");
}

const struct wire_reply *call_ask(struct virtual *v, struct call *c)
{
    call_give(v, c);
    call_wait(v, c, 1);
    if (c->op.reply.code != E_OK)
        fail_msg("refused: %.*s", (int)c->op.reply.detail.size, (const char *)c->op.reply.detail.data);
    return &c->op.reply;
}

void virtual_hello(struct virtual *v, struct call *c, bool resume)
{
    call_prepare(c, VERB_HELLO)->hello = (struct wire_hello){.version_min = 1, .version_max = 1, .name = VIEW_LIT("A"), .resume = resume};
    call_ask(v, c);
}

/* ---------------------------------------------------------------- measures */

uint64_t peak_kb(void)
{
    char line[256];
    unsigned long long kb = 0;
    FILE *f = fopen("/proc/self/status", "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL && sscanf(line, "VmHWM: %llu", &kb) != 1)
        ;
    fclose(f);
    return kb;
}

double seconds_since(uint64_t *ns)
{
    uint64_t before = *ns;
    *ns = clock_mono_ns();
    return (double)(*ns - before) / 1e9;
}

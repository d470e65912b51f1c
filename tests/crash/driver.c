/* See driver.h. */
#include "driver.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "schemas/errors.h"
#include "store/store_rocks.h"

enum { TURNS_MAX = 1000, MOMENTS = 3, MOMENT_MS = 50 };

void driver_wrong(struct driver *d, const char *fmt, ...)
{
    if (!driver_fine(d))
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(d->wrong, sizeof d->wrong, fmt, args);
    va_end(args);
}

/* ---------------------------------------------------------------- life */

void driver_open_store(struct driver *d, const char *path)
{
    struct err e = {0};
    struct store_rocks_options o = {.path = path, .memory_bytes = 16 << 20, .wal_bytes_max = 16 << 20, .reserve_file_bytes = UINT64_MAX,
                                    .background_threads = 1};
    if (store_rocks_open(&d->store, &o, &e) != E_OK)
        driver_wrong(d, "the store does not open: %s", e.text);
}

static void on_fatal(void *user, const struct err *why)
{
    driver_wrong(user, "the broker stopped: %s", why->text);
}

void driver_open_loop(struct driver *d)
{
    struct err e = {0};
    d->limits = engine_limits_default;
    d->limits.disk_reserve_bytes = 0;
    struct loop_options o = {.store = d->store, .limits = &d->limits, .tail_cache_bytes = 1 << 20, .seed = 1, .fatal = on_fatal, .user = d};
    if (driver_fine(d) && loop_open(&d->loop, &o, d->now, &e) != E_OK)
        driver_wrong(d, "the broker does not open: %s", e.text);
}

void driver_close(struct driver *d)
{
    loop_close(d->loop);
    store_close(d->store);
    d->loop = NULL;
    d->store = NULL;
}

/* ---------------------------------------------------------------- turns */

void driver_pass(struct driver *d, uint64_t ms)
{
    d->now.mono_ms += ms;
    d->now.wall_ms += ms;
}

void driver_turns(struct driver *d)
{
    for (int i = 0; i < TURNS_MAX && driver_fine(d); i++) {
        uint64_t before = engine_turn(loop_engine(d->loop)), due = loop_turn(d->loop, d->now);
        loop_sync(d->loop);
        if (engine_turn(loop_engine(d->loop)) == before && due > d->now.mono_ms)
            return;
    }
    driver_wrong(d, "the turns do not end");
}

/* ---------------------------------------------------------------- requests */

static void on_done(struct op *op) { container_of(op, struct call, op)->done = true; }

void driver_call(const struct driver *d, struct call *c, enum wire_verb verb)
{
    *c = (struct call){.op = {.pipe = 7, .bytes = 100, .done = on_done, .request = {.session = d->session, .verb = verb}}};
    arena_init(&c->op.arena, SIZE_MAX);
}

void driver_number(struct driver *d, struct call *c, uint32_t lane)
{
    c->op.request.lane = lane;
    c->op.request.seq = ++d->seq[lane];
    c->op.request.replies_seen = d->seq[lane] - 1;
}

const struct wire_reply *driver_ask(struct driver *d, struct call *c)
{
    if (!driver_fine(d))
        return NULL;
    if (loop_submit(d->loop, &c->op) != E_OK)
        driver_wrong(d, "an operation was not taken");
    driver_turns(d);
    for (int i = 0; i < MOMENTS && driver_fine(d) && !c->done; i++) { /* what does not wait is given a moment */
        driver_pass(d, MOMENT_MS);
        driver_turns(d);
    }
    if (!c->done)
        driver_wrong(d, "an operation is not answered");
    else if (c->op.reply.code != E_OK)
        driver_wrong(d, "an operation is refused: %s %.*s", error_name(c->op.reply.code), (int)c->op.reply.detail.size,
                     (const char *)c->op.reply.detail.data);
    return driver_fine(d) ? &c->op.reply : NULL;
}

void driver_call_end(struct call *c)
{
    arena_free(&c->op.arena);
    buf_free(&c->op.payload);
    ref_drop(c->op.hold);
}

void driver_hello(struct driver *d, const char *name, bool resume)
{
    struct call c;
    driver_call(d, &c, VERB_HELLO);
    c.op.request.hello = (struct wire_hello){.version_min = 1, .version_max = 1, .name = view_of_str(name), .resume = resume};
    if (driver_ask(d, &c) != NULL)
        driver_call_end(&c);
}

struct view driver_value(const struct wire_delivery *x, uint32_t i, size_t *at)
{
    const struct wire_record *r = &x->records[i];
    size_t key = r->key_size > 0 ? r->key_size - 1 : 0, value = r->value_size > 0 ? r->value_size - 1 : 0;
    struct view v = view_of(x->data.data + *at + key + r->headers_size, value);
    *at += key + r->headers_size + value;
    return v;
}

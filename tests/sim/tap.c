/* Showing what is written: see tap.h. */
#include "tap.h"

#include "base/mem.h"
#include "schemas/errors.h"

struct tap {
    struct store base;
    struct store *inner;
    void (*written)(void *user, const struct puts *p);
    void *user;
};

static struct tap *tap_of(struct store *s)
{
    return container_of(s, struct tap, base);
}

static int tap_get(struct store *s, enum store_family f, struct view key, struct buf *out, bool *found,
                   struct err *e)
{
    return store_get(tap_of(s)->inner, f, key, out, found, e);
}

static struct store_iter *tap_iter(struct store *s, enum store_family f)
{
    return store_iter(tap_of(s)->inner, f);
}

static int tap_write(struct store *s, const struct puts *p, struct err *e)
{
    struct tap *t = tap_of(s);
    int code = store_write(t->inner, p, e);
    if (code == E_OK)
        t->written(t->user, p);
    return code;
}

static int tap_sync(struct store *s, struct err *e)
{
    return store_sync(tap_of(s)->inner, e);
}
static void tap_stats(struct store *s, struct store_stats *out)
{
    store_stats(tap_of(s)->inner, out);
}
static int tap_reclaim(struct store *s, enum store_family f, struct err *e)
{
    return store_reclaim(tap_of(s)->inner, f, e);
}
static void tap_close(struct store *s)
{
    mem_free(tap_of(s));
}

struct store *tap_new(struct store *inner, void (*written)(void *user, const struct puts *p), void *user)
{
    static const struct store_ops ops = {.get = tap_get,
                                         .iter = tap_iter,
                                         .write = tap_write,
                                         .sync = tap_sync,
                                         .stats = tap_stats,
                                         .reclaim = tap_reclaim,
                                         .close = tap_close};
    struct tap *t = mem_zalloc(sizeof *t);
    *t = (struct tap){.base = {.ops = &ops}, .inner = inner, .written = written, .user = user};
    return &t->base;
}

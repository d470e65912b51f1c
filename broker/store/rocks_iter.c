/* A walk over a family. */
#include <assert.h>

#include "base/mem.h"
#include "schemas/errors.h"
#include "store/rocks.h"

struct rocks_iter {
    struct store_iter base;
    struct store_rocks *store;
    enum store_family family;
    rocksdb_iterator_t *it;
    struct key
        at; /* where the last move began: at the key sought, or behind the row left. Longer keys are cut. */
};

static struct rocks_iter *iter_of(const struct store_iter *it)
{
    return container_of(it, struct rocks_iter, base);
}

static void set_at(struct rocks_iter *i, struct view key)
{
    i->at.size = (uint8_t)(key.size < sizeof i->at.bytes ? key.size : sizeof i->at.bytes);
    memcpy(i->at.bytes, key.data, i->at.size);
}

static void iter_seek(struct store_iter *it, struct view key)
{
    struct rocks_iter *i = iter_of(it);
    set_at(i, key);
    rocksdb_iter_seek(i->it, (const char *)key.data, key.size);
}

static bool iter_valid(const struct store_iter *it)
{
    return rocksdb_iter_valid(iter_of(it)->it);
}

static struct view iter_key(const struct store_iter *it)
{
    size_t size;
    const char *data = rocksdb_iter_key(iter_of(it)->it, &size);
    return view_of(data, size);
}

static struct view iter_value(struct store_iter *it)
{
    size_t size;
    const char *data = rocksdb_iter_value(iter_of(it)->it, &size);
    return view_of(data, size);
}

static void iter_next(struct store_iter *it)
{
    struct rocks_iter *i = iter_of(it);
    assert(iter_valid(it));
    set_at(i, iter_key(it));
    if (i->at.size < sizeof i->at.bytes)
        i->at.bytes[i->at.size++] = 0; /* the next key there can be */
    rocksdb_iter_next(i->it);
}

static int iter_status(const struct store_iter *it, struct err *e)
{
    struct rocks_iter *i = iter_of(it);
    char *text = NULL;
    rocksdb_iter_get_error(i->it, &text);
    return text == NULL ? E_OK : rocks_read_error(i->store, i->family, key_view(&i->at), true, text, e);
}

static void iter_close(struct store_iter *it)
{
    struct rocks_iter *i = iter_of(it);
    rocksdb_iter_destroy(i->it);
    mem_free(i);
}

static const struct store_iter_ops iter_ops = {
    .seek = iter_seek,
    .next = iter_next,
    .valid = iter_valid,
    .key = iter_key,
    .value = iter_value,
    .status = iter_status,
    .close = iter_close,
};

struct store_iter *rocks_iter(struct store *s, enum store_family f)
{
    struct store_rocks *r = container_of(s, struct store_rocks, base);
    struct rocks_iter *i = mem_zalloc(sizeof *i);
    i->base.ops = &iter_ops;
    i->store = r;
    i->family = f;
    i->it =
        rocksdb_create_iterator_cf(r->db, r->read, r->family[f]);
    return &i->base;
}

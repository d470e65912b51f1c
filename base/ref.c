#include "base/ref.h"

#include <assert.h>

#include "base/mem.h"

struct ref *ref_wrap(const void *data, size_t size, void (*free_fn)(struct ref *r), void *owner)
{
    struct ref *r = mem_alloc(sizeof *r);
    atomic_init(&r->count, 1);
    r->data = data;
    r->size = size;
    r->free = free_fn;
    r->owner = owner;
    return r;
}

struct ref *ref_new_copy(const void *data, size_t size)
{
    /* One allocation: the bytes lie behind the struct. */
    struct ref *r = mem_alloc(sizeof *r + size);
    uint8_t *copy = (uint8_t *)(r + 1);
    if (size != 0)
        memcpy(copy, data, size);
    atomic_init(&r->count, 1);
    r->data = copy;
    r->size = size;
    r->free = NULL;
    r->owner = NULL;
    return r;
}

struct ref *ref_take(struct ref *r)
{
    if (r == NULL)
        return NULL;
    unsigned before = atomic_fetch_add_explicit(&r->count, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
    return r;
}

void ref_drop(struct ref *r)
{
    if (r == NULL)
        return;
    /* Release: what this holder read, it read before the bytes go. Acquire: the last one sees that
       of all others. */
    unsigned before = atomic_fetch_sub_explicit(&r->count, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1)
        return;
    if (r->free != NULL)
        r->free(r);
    mem_free(r);
}

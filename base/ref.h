/*
 * Bytes that never change and that several threads hold. The last one to let go frees them.
 *
 * Take and drop may be called by any thread that holds a reference. Nobody writes to `data` once a
 * second one holds it.
 */
#ifndef BASE_REF_H
#define BASE_REF_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct ref {
    atomic_uint count;
    const uint8_t *data;
    size_t size;
    void (*free)(struct ref *r); /* gives back what lies behind data; NULL: nothing to do */
    void *owner;                 /* for `free` */
};

/* A copy of `size` bytes, held once. */
struct ref *ref_new_copy(const void *data, size_t size) MUST_USE;

/*
 * Wraps bytes that exist, held once. When the last holder lets go `free_fn` is called once, in that
 * thread, to give back `data` (with r->owner as the caller's own handle); the struct itself is
 * freed after it. `free_fn` may be NULL.
 */
struct ref *ref_wrap(const void *data, size_t size, void (*free_fn)(struct ref *r), void *owner) MUST_USE;

/* One more holder; returns `r`. NULL gives NULL. */
struct ref *ref_take(struct ref *r);

/* One holder less; the last one frees. NULL is good. */
void ref_drop(struct ref *r);

/* The bytes, borrowed from the reference. NULL gives an absent view. */
static inline struct view ref_view(const struct ref *r)
{
    return r != NULL ? view_of(r->data, r->size) : view_of(NULL, 0);
}

#endif

/*
 * Memory for many things of one size that come and go: what was given back is taken again, without a search for a place.
 *
 * All zero but `size` is a good pool. One thread at a time.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>

#include "base/macros.h"

BASE_BEGIN

struct pool {
    size_t size;     /* of one; at least that of a pointer */
    size_t kept_max; /* how many may lie unused; what is more goes back to the system */
    void *kept;      /* each begins with the next */
    size_t kept_n;
};

/* One, all zero. Never NULL. */
void *pool_take(struct pool *p) MUST_USE;
/* NULL is good. */
void pool_give(struct pool *p, void *thing);
/* Frees what lies unused. What is out must have been given back, or is freed with mem_free. */
void pool_free(struct pool *p);

BASE_END

#endif

#include "base/pool.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

/* A pool would hide from the address sanitizer that something is used after it was given back. */
#ifdef __SANITIZE_ADDRESS__
enum { KEEPS = 0 };
#else
enum { KEEPS = 1 };
#endif

void *pool_take(struct pool *p)
{
    assert(p->size >= sizeof(void *));
    if (p->kept_n == 0)
        return mem_zalloc(p->size);
    void *thing = p->kept;
    memcpy(&p->kept, thing, sizeof p->kept);
    p->kept_n--;
    return memset(thing, 0, p->size);
}

void pool_give(struct pool *p, void *thing)
{
    if (thing == NULL || !KEEPS || p->kept_n >= p->kept_max) {
        mem_free(thing);
        return;
    }
    memcpy(thing, &p->kept, sizeof p->kept);
    p->kept = thing;
    p->kept_n++;
}

void pool_free(struct pool *p)
{
    while (p->kept_n > 0) {
        void *thing = p->kept;
        memcpy(&p->kept, thing, sizeof p->kept);
        p->kept_n--;
        mem_free(thing);
    }
}

/* When those who consume are through: so many messages came, or none for so long that no more will. Any thread. */
#ifndef BENCH_GOAL_H
#define BENCH_GOAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

#define GOAL_QUIET_NS UINT64_C(15000000000)

struct goal {
    const atomic_uint_fast64_t *until; /* UINT64_MAX: not known yet; NULL: `messages` */
    uint64_t messages;            /* 0: there is none */
    atomic_uint_fast64_t done, last_ns;
};

static inline void goal_init(struct goal *g, const atomic_uint_fast64_t *until, uint64_t messages)
{
    g->until = until;
    g->messages = messages;
    atomic_init(&g->done, 0);
    atomic_init(&g->last_ns, clock_mono_ns());
}

static inline void goal_add(struct goal *g, uint64_t messages)
{
    atomic_fetch_add(&g->done, messages);
    if (messages > 0)
        atomic_store(&g->last_ns, clock_mono_ns());
}

static inline bool goal_reached(const struct goal *g)
{
    uint64_t messages = g->until != NULL ? atomic_load(g->until) : g->messages;
    if (messages == 0 && g->until == NULL)
        return false;
    if (atomic_load(&g->done) >= messages)
        return true;
    uint64_t quiet_from = atomic_load(&g->last_ns) + GOAL_QUIET_NS; /* before the clock: others may move it to now meanwhile */
    return messages != UINT64_MAX && clock_mono_ns() > quiet_from;
}

#endif

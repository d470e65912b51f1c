/* A walk over the rows of one kind in `sched`, in order of time. Rows of other kinds that stand between are passed by seeking: however many of
 * them are due in one millisecond, they cost one step.
 */
#ifndef STORE_SCHED_WALK_H
#define STORE_SCHED_WALK_H

#include "store/keys.h"
#include "store/store.h"

struct sched_walk {
    struct store_iter *it;
    enum sched_kind kind;
    uint32_t seeks_left;
    uint64_t low_ms;
    bool valid;
};

/* Begins at the first row of `kind` at or behind `from`. After `seeks_max` steps over others it ends. */
void sched_walk_open(struct sched_walk *w, struct store *s, enum sched_kind kind, const struct key *from, uint32_t seeks_max);
void sched_walk_next(struct sched_walk *w);
static inline bool sched_walk_valid(const struct sched_walk *w) { return w->valid; } /* it->key and it->value are such a row */
/* What was not met is not due before: the row's own time where the walk stands at one; UINT64_MAX at the end of all. */
static inline uint64_t sched_walk_low(const struct sched_walk *w) { return w->low_ms; }
static inline int sched_walk_status(const struct sched_walk *w, struct err *e) { return store_iter_status(w->it, e); }
void sched_walk_close(struct sched_walk *w);

#endif

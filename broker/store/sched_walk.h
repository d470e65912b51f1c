/* A walk over the rows of one kind in `sched`, in order of time. What stands between is passed by seeking: batches and what is away lie apart
 * from the rest, and other kinds are few or one of a millisecond.
 */
#ifndef STORE_SCHED_WALK_H
#define STORE_SCHED_WALK_H

#include "store/keys.h"
#include "store/store.h"

struct sched_walk {
    struct store_iter *it;
    enum sched_kind kind;
    uint64_t due_ms;
    bool valid;
};

/* Begins at the first row of `kind` at or behind `from`. */
void sched_walk_open(struct sched_walk *w, struct store *s, enum sched_kind kind, const struct key *from);
void sched_walk_next(struct sched_walk *w);
static inline bool sched_walk_valid(const struct sched_walk *w) { return w->valid; } /* it->key and it->value are such a row */
static inline uint64_t sched_walk_due(const struct sched_walk *w) { return w->due_ms; } /* UINT64_MAX at the end */
static inline int sched_walk_status(const struct sched_walk *w, struct err *e) { return store_iter_status(w->it, e); }
void sched_walk_close(struct sched_walk *w);

#endif

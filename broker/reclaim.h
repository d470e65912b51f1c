/* Giving disk space back: a thread that compacts a family of logs once enough of what it keeps on disk is of no log any more.
 *
 * It compares what the store keeps of a family with the bytes of the logs in it, so it knows what to do after a restart as well, and nobody has to say
 * what was removed. One family at a time, with a rest after each.
 */
#ifndef BROKER_RECLAIM_H
#define BROKER_RECLAIM_H

#include "store/store.h"

struct reclaim;

struct reclaim_options {
    struct store *store;                 /* outlives it */
    uint64_t interval_ms;                /* between two looks */
    uint64_t bytes_min;                  /* less is not worth a compaction */
    void (*failed)(void *user, const struct err *why); /* the store failed. Its thread */
    void *user;
};
int reclaim_start(struct reclaim **out, const struct reclaim_options *options, struct err *e);
/* Bytes of the logs in each family. Any thread, never waits long. */
void reclaim_tell(struct reclaim *r, const uint64_t log_bytes[FAM_COUNT]);
/* Compactions done, and bytes given back by them. Any thread. */
void reclaim_counts(struct reclaim *r, uint64_t *times, uint64_t *bytes);
/* Waits for a compaction that is under way. NULL is fine. */
void reclaim_stop(struct reclaim *r);

/* Whether `garbage` bytes of a family are worth a compaction: one that copies its tables, of `index` bytes, where `kept` are of logs. */
bool reclaim_worth(uint64_t garbage, uint64_t kept, uint64_t index, uint64_t bytes_min);

#endif

/* The end of the logs in memory: partitions as readers know them, and the batches that were appended last.
 *
 * The loop adds what each turn wrote; readers look before they ask the store. A batch is kept as the buffer in which it was received,
 * so nothing is copied; the oldest go when the bytes pass the bound. What a partition holds here is one run of offsets up to its end.
 *
 * tail_add, tail_partition: the loop. Everything else: any thread.
 */
#ifndef BROKER_TAIL_H
#define BROKER_TAIL_H

#include "engine/engine.h"
#include "schemas/stored.h"

struct tail;

struct tail *tail_new(size_t bytes_max);
void tail_free(struct tail *t);
void tail_partition(struct tail *t, const struct effect_partition *p);
void tail_add(struct tail *t, const struct effect_append *a);
/* Batches up to this offset are not what the store has any more. */
void tail_forget(struct tail *t, const struct effect_compacted *c);
size_t tail_bytes(struct tail *t);

/* False: no such partition. */
bool tail_lookup(struct tail *t, uint32_t partition, enum store_family *family, uint64_t *start);

struct tail_batch {
    uint8_t header[STORED_HEADER_SIZE];
    struct view batch;
    struct ref *hold; /* the taker's */
};
/* Takes up to `n` batches of a partition, the first one holding offset `from`. 0: they are not here; ask the store. */
size_t tail_take(struct tail *t, uint32_t partition, uint64_t from, struct tail_batch *out, size_t n);

/* Whether everything of a partition from `from` to before `to` is here, in batches of at most `most` bytes; how many are in `bytes`. */
bool tail_has(struct tail *t, uint32_t partition, uint64_t from, uint64_t to, size_t most, size_t *bytes);

#endif

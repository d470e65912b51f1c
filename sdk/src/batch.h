/*
 * Messages that came: leased from a queue group, or read from the log.
 *
 * The bytes of leased messages stay in the answer they came in, which several batches may share; those that were read stand in
 * the batch's own memory, as they were compressed. A batch holds its client, so it may be freed after the client was closed.
 */
#ifndef SDK_BATCH_H
#define SDK_BATCH_H

#include <sluice/sluice.h>
#include <stdatomic.h>

#include "sdk/answer.h"

struct group;
struct taker;

/* Memory of a batch. */
struct chunk {
    struct chunk *next;
    uint8_t bytes[];
};

struct lease {
    uint64_t token;
    uint32_t partition; /* id */
    atomic_bool settled;
};

struct sluice_batch {
    struct sluice *client;
    const struct group *group; /* NULL: read from the log, nothing to settle */
    size_t count;
    struct sluice_delivery *messages;
    struct lease *leases;  /* of leased messages, by index */
    struct answer *answer; /* of leased messages: their bytes */
    struct chunk *chunks;  /* of messages that were read: their bytes */
    size_t charged;
};

/* The batch for what a taker got; the taker's answer is the batch's, or dropped. Damaged messages are left out and parked. */
struct sluice_batch *batch_of_portions(struct sluice *s, struct group *g, struct taker *t);

/* An empty batch of messages that are read. */
struct sluice_batch *batch_new(struct sluice *s);

/* A message's bytes as the user sees them. */
static inline struct sluice_bytes bytes_of(struct view v)
{
    return (struct sluice_bytes){v.data, v.size};
}

/* How many bytes of a delivery's data belong to a record on the wire. */
size_t record_bytes(const struct wire_record *r);

/* Key, headers and value of a record on the wire, which stand at `data`; absent where the record says so. */
void record_views(const struct wire_record *r, const uint8_t *data, struct sluice_delivery *out);

#endif

/*
 * Messages that came: leased from a queue group, or read from the log.
 *
 * The bytes of leased messages stay in the answer they came in, which several batches may share; those that were read stand in
 * the batch's own memory, as they were compressed. A batch holds its client, so it may be freed after the client was closed.
 *
 * Units that settle messages of a batch hold it too: only when they are decided is it known what is to be given back.
 */
#ifndef SDK_BATCH_H
#define SDK_BATCH_H

#include <sluice/sluice.h>
#include <stdatomic.h>

#include "sdk/answer.h"

struct group;
struct taker;
struct settling;

/* Memory of a batch. */
struct chunk {
    struct chunk *next;
    uint8_t bytes[];
};

struct lease {
    const struct group *group;
    uint64_t token;
    uint32_t partition; /* id */
    atomic_bool settled;
};

struct sluice_batch {
    struct sluice *client;
    atomic_uint refs;
    bool leased; /* else read from the log: nothing to settle */
    size_t count;
    struct sluice_delivery *messages;
    struct lease *leases;  /* of leased messages, by index */
    struct answer *answer; /* of leased messages: their bytes */
    struct chunk *chunks;  /* of messages that were read: their bytes */
    size_t charged;
};

/* The batch for what a taker got; the taker's answer is the batch's, or dropped. Damaged messages are left out and parked. */
struct sluice_batch *batch_of_portions(struct sluice *s, struct taker *t);

/* One more holder, one less: the last one gives back what is not settled, and frees. */
void batch_take(struct sluice_batch *b);
void batch_drop(struct sluice_batch *b);

/* Checks that an item can be settled by this client; the n-th of those given. */
int batch_check_item(struct sluice *s, const struct sluice_settle *x, size_t n, struct sluice_error *err);

/* Marks all messages that the items end as settled, or none. unclaim: they are not, after all. */
int batch_claim(const struct sluice_settle *items, size_t count, struct sluice_error *err);
void batch_unclaim(struct sluice_batch *b, size_t i);

/* What an item is on the wire; and into a settling, with its note. */
void batch_put_item(struct settling *to, const struct sluice_settle *from);

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

/* The check of produce: a whole batch, of records that belong where they are sent.
 *
 * All of it is done per column, without decompressing anything (schemas/codec.h). The bytes of single records are covered by the
 * hash of the batch, which is computed here once, and by their own sums, which whoever takes the batch apart checks.
 */
#include "api/checks.h"
#include "schemas/records.h"

/* Whether every key's hash gives this partition. No branches, so that several records are looked at at a time. */
static bool keys_fit(const struct batch_columns *c, const struct partition_facts *p)
{
    uint64_t wrong = 0;
    if ((p->count & (p->count - 1)) == 0) {
        for (uint32_t i = 0; i < c->count; i++)
            wrong |= ((c->key_hash[i] ^ p->index) & (p->count - 1)) * (c->key_size[i] != 0);
    } else {
        for (uint32_t i = 0; i < c->count; i++)
            wrong |= (c->key_hash[i] % p->count ^ p->index) * (c->key_size[i] != 0);
    }
    return wrong == 0;
}

static int check_keys(const struct batch_columns *c, const struct partition_facts *p,
                      const struct wire_produce *w, struct err *e)
{
    if (c->key_hash == NULL || p->count == 1 || keys_fit(c, p))
        return E_OK;
    uint32_t i = 0;
    while (c->key_size[i] == 0 || key_partition(c->key_hash[i], p->count) == p->index)
        i++;
    return err_set(e, E_WRONG_PARTITION,
                   "record %u: its key belongs to partition %u of %u, not to %u (id %u)", i,
                   key_partition(c->key_hash[i], p->count), p->count, p->index, w->partition);
}

/* Bytes of key, headers and value of one record. */
static uint64_t record_bytes(const struct batch_columns *c, uint32_t i)
{
    uint64_t key = c->key_size != NULL ? c->key_size[i] : 0;
    uint64_t headers = c->headers_size != NULL ? c->headers_size[i] : 0;
    uint64_t value = c->value_size[i];
    return key - (key != 0) + headers + value - (value != 0);
}

static int check_sizes(const struct batch_columns *c, const struct partition_facts *p, struct err *e)
{
    uint64_t largest = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        uint64_t bytes = record_bytes(c, i);
        largest = bytes > largest ? bytes : largest;
    }
    if (largest <= p->message_bytes_max)
        return E_OK;
    uint32_t i = 0;
    while (record_bytes(c, i) != largest)
        i++;
    return err_set(e, E_TOO_LARGE, "record %u has %llu bytes, the topic's message_bytes_max is %u", i,
                   (unsigned long long)largest, p->message_bytes_max);
}

/* The batch is what the producer hashed, and is well formed. */
static int check_batch(const struct wire_produce *w, struct batch_columns *c, struct err *e)
{
    uint64_t hash = batch_hash(w->batch);
    if (hash != w->batch_hash)
        return err_set(e, E_INVALID_ARGUMENT,
                       "produce.batch has the hash %016llx, not %016llx as produce.batch_hash says",
                       (unsigned long long)hash, (unsigned long long)w->batch_hash);
    if (codec_batch_open(w->batch, c, e) != E_OK)
        return err_set(e, E_INVALID_ARGUMENT, "produce.batch: %s", e->text);
    if (c->count != w->count)
        return err_set(e, E_INVALID_ARGUMENT, "produce.batch has %u records, not %u as produce.count says",
                       c->count, w->count);
    if (c->offset_delta != NULL)
        return err_set(e, E_INVALID_ARGUMENT, "produce.batch.offset_delta is not a producer's to give");
    return E_OK;
}

int check_produce(struct api *a, struct op *op, struct err *e)
{
    const struct wire_produce *w = &op->request.produce;
    struct partition_facts facts;
    struct batch_columns columns;
    if (!partitions_find(a->partitions, w->partition, &facts))
        return err_set(e, E_PARTITION_NOT_FOUND, "partition id %u", w->partition);
    if (op->request.lane != w->partition)
        return err_set(e, E_INVALID_ARGUMENT, "produce.lane is %u: the lane of partition id %u is %u",
                       op->request.lane, w->partition, w->partition);
    int code = check_at_most("produce.delay_ms", w->delay_ms, "delay_ms_max", a->limits->delay_ms_max, e);
    if (code == E_OK)
        code = check_batch(w, &columns, e);
    if (code == E_OK)
        code = check_keys(&columns, &facts, w, e);
    if (code == E_OK)
        code = check_sizes(&columns, &facts, e);
    if (code != E_OK)
        return code;
    op->payload_records = columns.count;
    op->last_delta = columns.count - 1;
    return E_OK;
}

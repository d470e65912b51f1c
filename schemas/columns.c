/* The check of a batch's columns: one pass per column, in loops without branches; nothing is decompressed. */
#include "schemas/columns.h"

#include "schemas/errors.h"
#include "schemas/records.h"

/* What a column of sizes stands for: bytes of all records, and of the largest. */
struct sizes {
    uint64_t total;
    uint32_t largest;
};

/* Sizes as they are; NULL: all 0. */
static struct sizes sizes_plain(const uint32_t *size, uint32_t count)
{
    struct sizes s = {0};
    for (uint32_t i = 0; size != NULL && i < count; i++) {
        s.total += size[i];
        s.largest = size[i] > s.largest ? size[i] : s.largest;
    }
    return s;
}

/* Sizes stored as length + 1, 0 for what is absent. */
static struct sizes sizes_optional(const uint32_t *size, uint32_t count)
{
    struct sizes s = {0};
    for (uint32_t i = 0; size != NULL && i < count; i++) {
        uint32_t bytes = size[i] - (size[i] != 0);
        s.total += bytes;
        s.largest = bytes > s.largest ? bytes : s.largest;
    }
    return s;
}

static int limit_check(const char *what, uint32_t largest, uint32_t max, struct err *e)
{
    if (largest <= max)
        return E_OK;
    return err_set(e, E_DAMAGED, "batch: %s of %u bytes, the limit is %u", what, largest, max);
}

static int required_check(const struct batch_columns *c, struct err *e)
{
    if (c->count == 0 || c->count > WIRE_BATCH_RECORDS_MAX)
        return err_set(e, E_DAMAGED, "batch: %u records, not 1 to %d", c->count, WIRE_BATCH_RECORDS_MAX);
    if (c->value_size == NULL || c->sum == NULL)
        return err_set(e, E_DAMAGED, "batch: the column %s is missing",
                       c->sum != NULL ? "value_size" : "sum");
    if ((c->key_size == NULL) != (c->key_hash == NULL))
        return err_set(e, E_DAMAGED, "batch: of key_size and key_hash one is missing");
    if (c->codec > BATCH_ZSTD)
        return err_set(e, E_DAMAGED, "batch: codec %u is not known", c->codec);
    return E_OK;
}

static int values_check(const struct batch_columns *c, struct err *e)
{
    uint8_t priority = 0;
    for (uint32_t i = 0; c->priority != NULL && i < c->count; i++)
        priority = c->priority[i] > priority ? c->priority[i] : priority;
    if (priority > BATCH_PRIORITY_MAX)
        return err_set(e, E_DAMAGED, "batch: priority %u, the limit is %d", priority, BATCH_PRIORITY_MAX);

    bool ascending = true;
    for (uint32_t i = 1; c->offset_delta != NULL && i < c->count; i++)
        ascending &= c->offset_delta[i] > c->offset_delta[i - 1];
    if (!ascending)
        return err_set(e, E_DAMAGED, "batch: offset_delta does not ascend");
    return E_OK;
}

/* The blocks of a section lie one behind the other, raw and stored, and end with it. */
static int blocks_check(const char *what, const struct batch_block *block, uint32_t n, struct view section,
                        uint64_t raw, uint8_t codec, struct err *e)
{
    struct batch_block last = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t raw_size = block[i].raw_end - last.raw_end;
        uint32_t stored_size = block[i].stored_end - last.stored_end;
        if (block[i].raw_end <= last.raw_end || block[i].stored_end <= last.stored_end)
            return err_set(e, E_DAMAGED, "batch: block %u of %s does not ascend", i, what);
        if (raw_size > WIRE_BLOCK_RAW_MAX)
            return err_set(e, E_DAMAGED, "batch: block %u of %s has %u bytes, the limit is %d", i, what,
                           raw_size, WIRE_BLOCK_RAW_MAX);
        if (stored_size > raw_size || (codec == BATCH_NONE && stored_size != raw_size))
            return err_set(e, E_DAMAGED, "batch: block %u of %s has %u bytes stored for %u", i, what,
                           stored_size, raw_size);
        last = block[i];
    }
    if (last.stored_end != section.size)
        return err_set(e, E_DAMAGED, "batch: blocks of %s end at %u of %zu bytes", what, last.stored_end,
                       section.size);
    if (last.raw_end != raw)
        return err_set(e, E_DAMAGED, "batch: blocks of %s hold %u bytes, the records %llu", what,
                       last.raw_end, (unsigned long long)raw);
    return E_OK;
}

int columns_check(const struct batch_columns *c, struct err *e)
{
    int rc = required_check(c, e);
    if (rc != E_OK)
        return rc;

    struct sizes keys = sizes_optional(c->key_size, c->count);
    struct sizes headers = sizes_plain(c->headers_size, c->count);
    struct sizes values = sizes_optional(c->value_size, c->count);
    if ((rc = limit_check("key", keys.largest, WIRE_KEY_MAX, e)) != E_OK ||
        (rc = limit_check("headers", headers.largest, WIRE_HEADERS_BYTES_MAX, e)) != E_OK ||
        (rc = limit_check("value", values.largest, WIRE_MESSAGE_MAX, e)) != E_OK ||
        (rc = values_check(c, e)) != E_OK)
        return rc;

    rc = blocks_check("meta", c->meta_blocks, c->meta_blocks_n, c->meta, keys.total + headers.total, c->codec,
                      e);
    if (rc == E_OK)
        rc = blocks_check("values", c->value_blocks, c->value_blocks_n, c->values, values.total, c->codec, e);
    return rc;
}

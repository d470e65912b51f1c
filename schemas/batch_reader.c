/* Reads single records out of a batch: finds their bytes in the blocks, opens a block when it must, checks the sum.
 *
 * A record's bytes in a section are the raw bytes from at[i] to at[i] + size:
 *
 *     within one block               a view into it, opened or, if it is stored as it is, into the batch
 *     over blocks stored as they are  a view into the batch: what lies together raw lies together stored
 *     over other blocks              put together in `joined`
 */
#include <assert.h>

#include "base/mem.h"
#include "schemas/blocks.h"
#include "schemas/errors.h"

/* Sizes of keys and values are stored as length + 1, 0 is absent. */
static size_t length(uint32_t stored)
{
    return stored != 0 ? stored - 1 : 0;
}

static uint32_t entry(const uint32_t *column, uint32_t i)
{
    return column != NULL ? column[i] : 0;
}

static size_t meta_size(const struct batch_columns *c, uint32_t i)
{
    return length(entry(c->key_size, i)) + entry(c->headers_size, i);
}

int batch_reader_open(struct batch_reader *r, struct view bytes, struct err *e)
{
    *r = (struct batch_reader){0};
    int rc = codec_batch_open(bytes, &r->c, e);
    if (rc != E_OK)
        return rc;
    const struct batch_columns *c = &r->c;
    r->meta =
        (struct batch_section){.blocks = c->meta_blocks, .blocks_n = c->meta_blocks_n, .stored = c->meta};
    r->values =
        (struct batch_section){.blocks = c->value_blocks, .blocks_n = c->value_blocks_n, .stored = c->values};

    r->meta.at = mem_array(c->count, sizeof *r->meta.at);
    r->values.at = mem_array(c->count, sizeof *r->values.at);
    for (uint32_t i = 1; i < c->count; i++) {
        r->meta.at[i] = r->meta.at[i - 1] + meta_size(c, i - 1);
        r->values.at[i] = r->values.at[i - 1] + length(c->value_size[i - 1]);
    }
    return E_OK;
}

static void section_free(struct batch_section *s)
{
    mem_free(s->at);
    mem_free(s->memory);
    buf_free(&s->joined);
}

void batch_reader_close(struct batch_reader *r)
{
    section_free(&r->meta);
    section_free(&r->values);
    block_opener_free(r->zstd);
    *r = (struct batch_reader){0};
}

/* ---- blocks */

static struct batch_block block_begin(const struct batch_section *s, uint32_t i)
{
    return i != 0 ? s->blocks[i - 1] : (struct batch_block){0};
}

static bool stored_raw(const struct batch_section *s, uint32_t i)
{
    struct batch_block begin = block_begin(s, i), end = s->blocks[i];
    return end.raw_end - begin.raw_end == end.stored_end - begin.stored_end;
}

/* The block that holds the raw byte `at`. Mostly it is the open one or the one behind it. */
static uint32_t block_find(const struct batch_section *s, uint64_t at)
{
    if (s->raw_size != 0 && at >= s->raw_at) {
        if (at < s->blocks[s->index].raw_end)
            return s->index;
        if (at < s->blocks[s->index + 1].raw_end)
            return s->index + 1;
    }
    uint32_t low = 0, high = s->blocks_n - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (at < s->blocks[middle].raw_end)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Makes block i the open one; false: it is damaged, and none is open. */
static bool block_use(struct batch_reader *r, struct batch_section *s, uint32_t i)
{
    if (s->raw_size != 0 && s->index == i)
        return true;
    struct batch_block begin = block_begin(s, i), end = s->blocks[i];
    uint32_t raw_size = end.raw_end - begin.raw_end;
    const uint8_t *stored = s->stored.data + begin.stored_end;
    s->raw = stored;
    if (!stored_raw(s, i)) {
        if (s->memory == NULL)
            s->memory = mem_alloc(WIRE_BLOCK_RAW_MAX);
        s->raw = s->memory;
        s->raw_size = 0;
        if (!block_open(r->c.codec, stored, end.stored_end - begin.stored_end, s->memory, raw_size, &r->zstd))
            return false;
    }
    s->index = i;
    s->raw_at = begin.raw_end;
    s->raw_size = raw_size;
    return true;
}

/* ---- bytes of a record */

static int join(struct batch_reader *r, struct batch_section *s, uint32_t first, uint64_t at, size_t size,
                struct view *out, struct err *e)
{
    buf_clear(&s->joined);
    if (buf_try_reserve(&s->joined, size) == NULL)
        return err_set(e, E_NO_MEMORY, "no memory for %zu bytes", size);
    for (uint32_t i = first; s->joined.size < size; i++) {
        if (!block_use(r, s, i))
            return err_set(e, E_DAMAGED, "block %u does not open", i);
        size_t skip = i == first ? at - s->raw_at : 0;
        size_t part = s->raw_size - skip;
        if (part > size - s->joined.size)
            part = size - s->joined.size;
        buf_append(&s->joined, s->raw + skip, part);
    }
    *out = buf_view(&s->joined);
    return E_OK;
}

/* `size` raw bytes from `at`, which codec_batch_open has found to be within the blocks. */
static int section_read(struct batch_reader *r, struct batch_section *s, uint64_t at, size_t size,
                        struct view *out, struct err *e)
{
    if (size == 0) {
        *out = VIEW_LIT("");
        return E_OK;
    }
    uint32_t first = block_find(s, at), last = first;
    bool raw = stored_raw(s, first);
    while (at + size > s->blocks[last].raw_end)
        raw &= stored_raw(s, ++last);
    if (raw) {
        struct batch_block begin = block_begin(s, first);
        *out = view_of(s->stored.data + begin.stored_end + (at - begin.raw_end), size);
        return E_OK;
    }
    if (first != last)
        return join(r, s, first, at, size, out, e);
    if (!block_use(r, s, first))
        return err_set(e, E_DAMAGED, "block %u does not open", first);
    *out = view_of(s->raw + (at - s->raw_at), size);
    return E_OK;
}

int batch_reader_get(struct batch_reader *r, uint32_t i, struct record *out, struct err *e)
{
    const struct batch_columns *c = &r->c;
    assert(i < c->count);
    uint32_t key_size = entry(c->key_size, i), headers_size = entry(c->headers_size, i),
             value_size = c->value_size[i];
    size_t key_bytes = length(key_size);

    struct view meta, value;
    int rc = section_read(r, &r->meta, r->meta.at[i], key_bytes + headers_size, &meta, e);
    if (rc == E_OK)
        rc = section_read(r, &r->values, r->values.at[i], length(value_size), &value, e);
    if (rc != E_OK) {
        err_prefix(e, "record %u", i);
        return rc;
    }
    const uint8_t *headers = meta.data + key_bytes;
    if (record_sum(key_size, headers_size, value_size, meta.data, headers, value.data) != c->sum[i])
        return err_set(e, E_DAMAGED, "record %u: the sum is wrong", i);

    *out = (struct record){
        .key = key_size != 0 ? view_of(meta.data, key_bytes) : view_of(NULL, 0),
        .value = value_size != 0 ? value : view_of(NULL, 0),
        .headers = headers_size != 0 ? view_of(headers, headers_size) : view_of(NULL, 0),
        .timestamp_ms = c->timestamp_ms + (uint64_t)(c->timestamp_delta != NULL ? c->timestamp_delta[i] : 0),
        .ttl_ms = entry(c->ttl_ms, i),
        .priority = c->priority != NULL ? c->priority[i] : 0,
        .message_id = c->message_id != NULL ? c->message_id[i] : (struct id128){0},
    };
    return E_OK;
}

int batch_reader_key(struct batch_reader *r, uint32_t i, struct view *key, struct err *e)
{
    assert(i < r->c.count);
    uint32_t size = entry(r->c.key_size, i);
    *key = view_of(NULL, 0);
    int rc = size == 0 ? E_OK : section_read(r, &r->meta, r->meta.at[i], length(size), key, e);
    if (rc != E_OK)
        err_prefix(e, "record %u", i);
    return rc;
}

/* ---- places */

uint32_t batch_offset_delta(const struct batch_columns *c, uint32_t i)
{
    return c->offset_delta != NULL ? c->offset_delta[i] : i;
}

uint32_t batch_index_at(const struct batch_columns *c, uint64_t offset_delta)
{
    uint32_t low = 0, high = c->count;
    if (c->offset_delta == NULL)
        return offset_delta < high ? (uint32_t)offset_delta : high;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (c->offset_delta[mid] < offset_delta)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Gathers records into a batch: one array per column, raw bytes per section, and where the blocks end.
 *
 *     add     columns grow by an entry, sections by the record's bytes; blocks are cut where they are full
 *     finish  blocks are compressed one by one, columns nobody used are left out, all becomes one FlatBuffer
 *
 * Everything is kept for the next batch, so a warm builder allocates nothing.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "schemas/blocks.h"
#include "schemas/errors.h"

enum {
    BATCH_RAW_MAX = 1 << 30, /* bytes of both sections; a FlatBuffer ends at 2 GiB */
    BATCH_ALIGN = 16,
    GROW_MIN = 64, /* entries of the first arrays */
    DULL_MAX = 4,  /* blocks in a row that saved nothing: from then on only one in so many is tried, until one does */
    DULL_TRY = 8,
};

/* Bytes of one kind of all records, and their blocks. `block` holds the closed ones; one more begins at `open_at`. */
struct section {
    struct buf raw, stored;
    struct batch_block *block;
    uint32_t blocks_n, blocks_cap;
    uint32_t open_at;
    uint32_t dull, passed; /* blocks in a row, also of batches before, that saved nothing; of which were not tried lately */
};

struct batch_builder {
    struct section meta, values;

    /* The columns, `cap` entries each. */
    uint32_t count, cap;
    int32_t *timestamp_delta;
    uint64_t *key_hash;
    uint32_t *key_size, *headers_size, *value_size, *sum, *ttl_ms, *offset_delta;
    uint8_t *priority;
    struct id128 *message_id;

    uint64_t timestamp_ms; /* of record 0 */
    struct {
        bool timestamp_delta, key, headers, ttl, priority, message_id, offset_delta;
    } used; /* by some record of this batch */

    struct ZSTD_CCtx_s *zstd;
};

struct batch_builder *batch_builder_new(void)
{
    return mem_zalloc(sizeof(struct batch_builder));
}

static void section_free(struct section *s)
{
    buf_free(&s->raw);
    buf_free(&s->stored);
    mem_free(s->block);
}

void batch_builder_free(struct batch_builder *b)
{
    if (b == NULL)
        return;
    section_free(&b->meta);
    section_free(&b->values);
    mem_free(b->timestamp_delta);
    mem_free(b->key_hash);
    mem_free(b->key_size);
    mem_free(b->headers_size);
    mem_free(b->value_size);
    mem_free(b->sum);
    mem_free(b->ttl_ms);
    mem_free(b->offset_delta);
    mem_free(b->priority);
    mem_free(b->message_id);
    block_packer_free(b->zstd);
    mem_free(b);
}

uint32_t batch_builder_count(const struct batch_builder *b)
{
    return b->count;
}

size_t batch_builder_bytes(const struct batch_builder *b)
{
    return b->meta.raw.size + b->values.raw.size;
}

/* ---- sections and blocks */

static void block_close(struct section *s, uint32_t end)
{
    if (s->blocks_n == s->blocks_cap) {
        s->blocks_cap = s->blocks_cap != 0 ? 2 * s->blocks_cap : GROW_MIN;
        s->block = mem_resize(s->block, s->blocks_cap, sizeof *s->block);
    }
    s->block[s->blocks_n++] = (struct batch_block){.raw_end = end, .stored_end = end};
    s->open_at = end;
}

/* Before a record's bytes: what does not fit into the rest of the open block begins the next one. */
static void section_begin(struct section *s, size_t bytes)
{
    size_t filled = s->raw.size - s->open_at;
    if (filled != 0 && filled + bytes > WIRE_BLOCK_RAW_MAX)
        block_close(s, (uint32_t)s->raw.size);
}

/* After them: what is longer than a block fills as many as it needs. */
static void section_end(struct section *s)
{
    while (s->raw.size - s->open_at > WIRE_BLOCK_RAW_MAX)
        block_close(s, s->open_at + WIRE_BLOCK_RAW_MAX);
}

/* Whether the next block is worth trying: what did not compress so far hardly will. */
static bool pack_due(struct section *s)
{
    if (s->dull < DULL_MAX)
        return true;
    s->passed = (s->passed + 1) % DULL_TRY;
    return s->passed == 0;
}

static bool pack_one(struct section *s, enum batch_codec codec, uint32_t from, uint32_t size, struct ZSTD_CCtx_s **zstd)
{
    if (!pack_due(s))
        return false;
    bool saved = block_pack(codec, s->raw.data + from, size, &s->stored, zstd);
    s->dull = saved ? 0 : s->dull + (s->dull < DULL_MAX);
    return saved;
}

/* Compresses what is worth it. False: not one block was saved, and the section is stored as it is: so nothing is copied until one is. */
static bool section_pack(struct section *s, enum batch_codec codec, struct ZSTD_CCtx_s **zstd)
{
    bool saved = false;
    uint32_t from = 0;
    buf_clear(&s->stored);
    buf_reserve(&s->stored, s->raw.size);
    for (uint32_t i = 0; i < s->blocks_n; i++) {
        struct batch_block *block = &s->block[i];
        uint32_t size = block->raw_end - from;
        if (!saved)
            s->stored.size = from; /* the room of those before */
        bool packed = pack_one(s, codec, from, size, zstd);
        if (packed && !saved && from > 0)
            memcpy(s->stored.data, s->raw.data, from);
        saved |= packed;
        if (saved && !packed)
            buf_append(&s->stored, s->raw.data + from, size);
        from = block->raw_end;
        block->stored_end = saved ? (uint32_t)s->stored.size : from;
    }
    return saved;
}

static void section_clear(struct section *s)
{
    buf_clear(&s->raw);
    buf_clear(&s->stored);
    s->blocks_n = 0;
    s->open_at = 0;
}

/* ---- adding */

static void grow(struct batch_builder *b)
{
    b->cap = b->cap != 0 ? 2 * b->cap : GROW_MIN;
    b->timestamp_delta = mem_resize(b->timestamp_delta, b->cap, sizeof *b->timestamp_delta);
    b->key_hash = mem_resize(b->key_hash, b->cap, sizeof *b->key_hash);
    b->key_size = mem_resize(b->key_size, b->cap, sizeof *b->key_size);
    b->headers_size = mem_resize(b->headers_size, b->cap, sizeof *b->headers_size);
    b->value_size = mem_resize(b->value_size, b->cap, sizeof *b->value_size);
    b->sum = mem_resize(b->sum, b->cap, sizeof *b->sum);
    b->ttl_ms = mem_resize(b->ttl_ms, b->cap, sizeof *b->ttl_ms);
    b->offset_delta = mem_resize(b->offset_delta, b->cap, sizeof *b->offset_delta);
    b->priority = mem_resize(b->priority, b->cap, sizeof *b->priority);
    b->message_id = mem_resize(b->message_id, b->cap, sizeof *b->message_id);
}

/* Whether any batch could take the record. */
static int record_check(const struct record *r, struct err *e)
{
    if (r->key.size > WIRE_KEY_MAX)
        return err_set(e, E_TOO_LARGE, "key: %zu bytes, the limit is %d", r->key.size, WIRE_KEY_MAX);
    if (r->value.size > WIRE_MESSAGE_MAX)
        return err_set(e, E_TOO_LARGE, "value: %zu bytes, the limit is %d", r->value.size, WIRE_MESSAGE_MAX);
    if (r->priority > BATCH_PRIORITY_MAX)
        return err_set(e, E_INVALID_ARGUMENT, "priority: %u, the limit is %d", r->priority,
                       BATCH_PRIORITY_MAX);
    if (r->headers.size == 0)
        return E_OK;
    struct err why = {0};
    int rc = headers_check(r->headers, &why);
    return rc == E_OK ? E_OK : err_set(e, rc == E_LIMIT ? E_TOO_LARGE : rc, "%s", why.text);
}

/* Whether this batch takes it. */
static int room_check(const struct batch_builder *b, const struct record *r, int32_t *delta, struct err *e)
{
    if (b->count == WIRE_BATCH_RECORDS_MAX)
        return err_set(e, E_LIMIT, "batch: full with %d records", WIRE_BATCH_RECORDS_MAX);
    if (r->key.size + r->headers.size + r->value.size > BATCH_RAW_MAX - batch_builder_bytes(b))
        return err_set(e, E_LIMIT, "batch: full with %zu bytes", batch_builder_bytes(b));
    int64_t distance = 0;
    if (b->count != 0 && (__builtin_sub_overflow(r->timestamp_ms, b->timestamp_ms, &distance) ||
                          distance < INT32_MIN || distance > INT32_MAX))
        return err_set(e, E_LIMIT, "batch: a timestamp too far from that of its first record");
    *delta = (int32_t)distance;
    return E_OK;
}

static void bytes_add(struct buf *b, struct view bytes)
{
    if (bytes.size != 0)
        memcpy(b->data + b->size, bytes.data, bytes.size);
    b->size += bytes.size;
}

/* Two pieces of one record, for which there is room. */
static void section_add(struct section *s, struct view first, struct view second)
{
    section_begin(s, first.size + second.size);
    bytes_add(&s->raw, first);
    bytes_add(&s->raw, second);
    section_end(s);
}

static void columns_add(struct batch_builder *b, const struct record *r, int32_t delta)
{
    if (b->count == b->cap)
        grow(b);
    uint32_t i = b->count++;
    if (i == 0)
        b->timestamp_ms = r->timestamp_ms;

    bool has_key = r->key.data != NULL;
    b->timestamp_delta[i] = delta;
    b->key_hash[i] = has_key ? key_hash(r->key) : 0;
    b->key_size[i] = has_key ? (uint32_t)r->key.size + 1 : 0;
    b->headers_size[i] = (uint32_t)r->headers.size;
    b->value_size[i] = r->value.data != NULL ? (uint32_t)r->value.size + 1 : 0;
    b->sum[i] = record_sum(b->key_size[i], b->headers_size[i], b->value_size[i], r->key.data, r->headers.data,
                           r->value.data);
    b->ttl_ms[i] = r->ttl_ms;
    b->priority[i] = r->priority;
    b->message_id[i] = r->message_id;

    b->used.timestamp_delta |= delta != 0;
    b->used.key |= has_key;
    b->used.headers |= r->headers.size != 0;
    b->used.ttl |= r->ttl_ms != 0;
    b->used.priority |= r->priority != 0;
    b->used.message_id |= !id128_is_zero(r->message_id);
}

int batch_builder_add(struct batch_builder *b, const struct record *r, struct err *e)
{
    int32_t delta = 0;
    int rc = record_check(r, e);
    if (rc == E_OK)
        rc = room_check(b, r, &delta, e);
    if (rc != E_OK)
        return rc;
    size_t meta_bytes = r->key.size + r->headers.size;
    if (buf_try_reserve(&b->meta.raw, meta_bytes) == NULL ||
        buf_try_reserve(&b->values.raw, r->value.size) == NULL)
        return err_set(e, E_NO_MEMORY, "batch: no memory for a record of %zu bytes",
                       meta_bytes + r->value.size);
    columns_add(b, r, delta);
    section_add(&b->meta, r->key, r->headers);
    section_add(&b->values, r->value, view_of(NULL, 0));
    return E_OK;
}

int batch_builder_add_at(struct batch_builder *b, const struct record *r, uint32_t offset_delta, struct err *e)
{
    assert(b->count == 0 || (b->used.offset_delta && offset_delta > b->offset_delta[b->count - 1]));
    int rc = batch_builder_add(b, r, e);
    if (rc != E_OK)
        return rc;
    b->offset_delta[b->count - 1] = offset_delta;
    b->used.offset_delta = true;
    return E_OK;
}

/* ---- finishing */

static struct batch_columns columns(const struct batch_builder *b)
{
    return (struct batch_columns){
        .count = b->count,
        .timestamp_ms = b->timestamp_ms,
        .timestamp_delta = b->used.timestamp_delta ? b->timestamp_delta : NULL,
        .key_hash = b->used.key ? b->key_hash : NULL,
        .key_size = b->used.key ? b->key_size : NULL,
        .headers_size = b->used.headers ? b->headers_size : NULL,
        .value_size = b->value_size,
        .sum = b->sum,
        .ttl_ms = b->used.ttl ? b->ttl_ms : NULL,
        .priority = b->used.priority ? b->priority : NULL,
        .message_id = b->used.message_id ? b->message_id : NULL,
        .offset_delta = b->used.offset_delta ? b->offset_delta : NULL,
        .meta_blocks = b->meta.block,
        .value_blocks = b->values.block,
        .meta_blocks_n = b->meta.blocks_n,
        .value_blocks_n = b->values.blocks_n,
    };
}

static void section_close(struct section *s)
{
    if (s->raw.size != s->open_at)
        block_close(s, (uint32_t)s->raw.size);
}

/* An absent vector where there are no bytes. */
static struct view bytes_of(const struct buf *b)
{
    return b->size != 0 ? buf_view(b) : view_of(NULL, 0);
}

/* The encoder builds from the end of the room it gets: the batch is `out`'s last bytes, with some before it that mean nothing. */
static int append(const struct batch_columns *c, struct buf *out, struct view *batch)
{
    static const uint8_t zeros[BATCH_ALIGN];
    buf_append(out, zeros, -out->size % BATCH_ALIGN);
    size_t cap = codec_batch_bound(c);
    struct codec_space space = {.data = buf_reserve(out, cap), .cap = cap};
    int rc = codec_batch_encode(c, &space);
    if (rc != E_OK)
        return rc;
    out->size += space.at + space.size;
    *batch = view_of(space.data + space.at, space.size);
    return E_OK;
}

int batch_builder_take(struct batch_builder *b, enum batch_codec codec, struct buf *out, struct view *batch, uint64_t *hash,
                       struct err *e)
{
    if (b->count == 0)
        return err_set(e, E_INVALID_ARGUMENT, "batch: no records");
    section_close(&b->meta);
    section_close(&b->values);

    bool meta_saved = codec != BATCH_NONE && section_pack(&b->meta, codec, &b->zstd);
    bool values_saved = codec != BATCH_NONE && section_pack(&b->values, codec, &b->zstd);
    struct batch_columns c = columns(b);
    c.codec = meta_saved || values_saved ? (uint8_t)codec : BATCH_NONE;
    c.meta = bytes_of(meta_saved ? &b->meta.stored : &b->meta.raw);
    c.values = bytes_of(values_saved ? &b->values.stored : &b->values.raw);

    int rc = append(&c, out, batch);
    if (rc != E_OK)
        return err_set(e, rc, "batch: %zu bytes are too many", batch_builder_bytes(b));
    if (hash != NULL)
        *hash = batch_hash(*batch);

    section_clear(&b->meta);
    section_clear(&b->values);
    b->count = 0;
    memset(&b->used, 0, sizeof b->used);
    return E_OK;
}

int batch_builder_finish(struct batch_builder *b, enum batch_codec codec, struct buf *out, uint64_t *hash, struct err *e)
{
    size_t from = (out->size + BATCH_ALIGN - 1) / BATCH_ALIGN * BATCH_ALIGN;
    struct view batch;
    int rc = batch_builder_take(b, codec, out, &batch, hash, e);
    if (rc != E_OK)
        return rc;
    memmove(out->data + from, batch.data, batch.size);
    out->size = from + batch.size;
    return E_OK;
}

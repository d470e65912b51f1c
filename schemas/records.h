/* Records in batches: how a producer builds one, how anybody reads one record again.
 *
 * A batch is a FlatBuffer of columns and two sections of blocks (batch.fbs). This file knows blocks, compression and the sums;
 * codec.cc knows the FlatBuffer.
 *
 * The sum of a record: low 32 bits of XXH3-64 over key_size, headers_size, value_size (as stored, u32 LE each), then the bytes
 * of key, headers, value. It survives slicing: who gets one record can check it without the batch.
 */
#ifndef SCHEMAS_RECORDS_H
#define SCHEMAS_RECORDS_H

#include "schemas/codec.h"

enum batch_codec { BATCH_NONE = 0, BATCH_LZ4 = 1, BATCH_ZSTD = 2 };
enum { BATCH_PRIORITY_MAX = 9 };

struct header { struct view name, value; };

/* One record as a producer gives it. key.data NULL = no key; value.data NULL = absent value (tombstone). */
struct record {
    struct view key, value;
    struct view headers; /* encoded, see headers_put */
    uint64_t timestamp_ms;
    uint32_t ttl_ms;  /* 0 = none */
    uint8_t priority; /* 0..9 */
    struct id128 message_id; /* zero = none */
};

/* Headers encoded: u16 LE name length, name, u32 LE value length, value. put appends to a buffer that holds nothing else: OK,
 * LIMIT (count, bytes), INVALID_ARGUMENT (name empty or over 65,535). next: false at the end or when malformed (then *bad is
 * true). check: OK, LIMIT, INVALID_ARGUMENT (malformed). */
int headers_put(struct buf *b, struct view name, struct view value, struct err *e);
bool headers_next(struct view *rest, struct header *out, bool *bad);
bool headers_find(struct view headers, struct view name, struct view *value);
int headers_check(struct view headers, struct err *e);

uint64_t key_hash(struct view key);                 /* XXH3-64; never called for an absent key */
struct id128 message_id_hash(struct view text);     /* XXH3-128 */
struct id128 state_key_hash(struct view key);       /* XXH3-128 */
uint32_t key_partition(uint64_t hash, uint32_t partitions); /* hash mod N */
uint64_t batch_hash(struct view bytes);             /* XXH3-64 of the whole batch */
uint32_t record_sum(uint32_t key_size, uint32_t headers_size, uint32_t value_size, const uint8_t *key, const uint8_t *headers,
                    const uint8_t *value);

/* ---- building. A builder gathers records (their bytes are copied) and is used again after each finish. One thread.
 * add: LIMIT when the batch is full (count, bytes, or a timestamp more than 24 days from the first): finish it and add again;
 * TOO_LARGE when no batch takes this record (the text names the limit); INVALID_ARGUMENT; NO_MEMORY. */
struct batch_builder;
struct batch_builder *batch_builder_new(void);
void batch_builder_free(struct batch_builder *b);
int batch_builder_add(struct batch_builder *b, const struct record *r, struct err *e);
/* As that, at an offset behind the batch's first: for a batch of which records were removed (compaction). Ascending; all of a batch or none. */
int batch_builder_add_at(struct batch_builder *b, const struct record *r, uint32_t offset_delta, struct err *e);
uint32_t batch_builder_count(const struct batch_builder *b);
size_t batch_builder_bytes(const struct batch_builder *b); /* raw bytes gathered */
/* Compresses block by block with `codec`; a block that does not save an eighth is stored as it is, and a batch none of whose
 * blocks was saved has codec none. After a few in a row that did not, most are not tried until one does again. Pads `out` with zeros to a multiple of 16, appends the batch and empties the builder.
 * `hash` (may be NULL) gets the batch_hash. INVALID_ARGUMENT when nothing was added. */
int batch_builder_finish(struct batch_builder *b, enum batch_codec codec, struct buf *out, uint64_t *hash, struct err *e);
/* As that, but the batch lies somewhere in what was appended, at a multiple of 16 if `out` was empty: so nothing of it is moved. */
int batch_builder_take(struct batch_builder *b, enum batch_codec codec, struct buf *out, struct view *batch, uint64_t *hash,
                       struct err *e);

/* ---- reading. A reader keeps the last opened block of each section, so reading in order opens each block once. One thread.
 * The views in `out` are good until the next call with this reader or its close; `batch` bytes must outlive the reader. */
struct batch_section {
    const struct batch_block *blocks;
    uint32_t blocks_n;
    struct view stored;
    uint64_t *at; /* where each record begins, in raw bytes; made at open */
    /* the open block: its bytes are those of `stored` or, decompressed, those of `memory` */
    uint32_t index, raw_at, raw_size; /* raw_size 0: none is open */
    const uint8_t *raw;
    uint8_t *memory;
    struct buf joined; /* a record that spans compressed blocks is put together here */
};
struct batch_reader {
    struct batch_columns c;
    struct batch_section meta, values;
    struct ZSTD_DCtx_s *zstd; /* made when the first such block is opened */
};
int batch_reader_open(struct batch_reader *r, struct view bytes, struct err *e); /* DAMAGED */
/* Record i of c.count: bytes and fields, its sum checked. DAMAGED (which names the record; others stay readable), NO_MEMORY. */
int batch_reader_get(struct batch_reader *r, uint32_t i, struct record *out, struct err *e);
/* Only its key, without looking at its value or its sum; data NULL: it has none. DAMAGED, NO_MEMORY. */
int batch_reader_key(struct batch_reader *r, uint32_t i, struct view *key, struct err *e);
/* Where record i stands behind the batch's first offset. */
uint32_t batch_offset_delta(const struct batch_columns *c, uint32_t i);
/* The first record at or behind this place; c->count: none. */
uint32_t batch_index_at(const struct batch_columns *c, uint64_t offset_delta);
void batch_reader_close(struct batch_reader *r);

#endif

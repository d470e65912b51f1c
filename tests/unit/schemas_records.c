#include "schemas_records.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "schemas/errors.h"

void records_init(struct records *r)
{
    *r = (struct records){0};
    arena_init(&r->bytes, SIZE_MAX);
}

void records_free(struct records *r)
{
    mem_free(r->record);
    arena_free(&r->bytes);
}

static struct view copy(struct records *r, struct view v)
{
    if (v.data == NULL)
        return v;
    uint8_t *p = arena_take(&r->bytes, v.size);
    assert(p != NULL);
    if (v.size != 0)
        memcpy(p, v.data, v.size);
    return view_of(p, v.size);
}

void records_add(struct records *r, struct record record)
{
    if (r->n == r->cap) {
        r->cap = r->cap != 0 ? 2 * r->cap : 16;
        r->record = mem_resize(r->record, r->cap, sizeof *r->record);
    }
    record.key = copy(r, record.key);
    record.value = copy(r, record.value);
    record.headers = copy(r, record.headers);
    r->record[r->n++] = record;
}

/* ---- random ones */

static struct view random_bytes(struct records *r, struct rng *rng, size_t size, bool easy)
{
    uint8_t *p = arena_take(&r->bytes, size);
    assert(p != NULL);
    if (easy)
        memset(p, 'a' + (int)rng_below(rng, 3), size);
    else
        rng_fill(rng, p, size);
    return view_of(p, size);
}

static struct view random_optional(struct records *r, struct rng *rng, size_t size, bool easy)
{
    if (rng_chance(rng, 1, 8))
        return view_of(NULL, 0);
    return random_bytes(r, rng, rng_chance(rng, 1, 8) ? 0 : size, easy);
}

static void random_headers(struct rng *rng, struct buf *b)
{
    for (uint64_t i = rng_below(rng, 4); i > 0; i--) {
        char value[40];
        int size = snprintf(value, sizeof value, "%llx", (unsigned long long)rng_next(rng));
        int rc = headers_put(b, VIEW_LIT("trace"), view_of(value, (size_t)size), NULL);
        assert(rc == E_OK);
    }
}

void records_random(struct records *r, struct rng *rng, uint32_t n, size_t value_max)
{
    enum { KEYS = 1, HEADERS = 2, TIMES = 4, TTL = 8, PRIORITY = 16, IDS = 32 };
    uint64_t columns = rng_next(rng);
    struct buf headers = {0};
    for (uint32_t i = 0; i < n; i++) {
        bool easy = rng_chance(rng, 1, 2);
        struct record x = {.timestamp_ms = 1700000000000};
        x.value = random_optional(r, rng, value_max != 0 ? rng_below(rng, value_max) : 0, easy);
        buf_clear(&headers);
        if (columns & KEYS)
            x.key = random_optional(r, rng, 1 + rng_below(rng, 40), easy);
        if (columns & HEADERS)
            random_headers(rng, &headers);
        if (columns & TIMES)
            x.timestamp_ms += rng_below(rng, 100000) - 50000;
        if (columns & TTL)
            x.ttl_ms = (uint32_t)rng_below(rng, 3) * 1000;
        if (columns & PRIORITY)
            x.priority = (uint8_t)rng_below(rng, BATCH_PRIORITY_MAX + 1);
        if (columns & IDS && rng_chance(rng, 1, 2))
            x.message_id = (struct id128){rng_next(rng), rng_next(rng)};
        x.headers = headers.size != 0 ? buf_view(&headers) : view_of(NULL, 0);
        records_add(r, x);
    }
    buf_free(&headers);
}

/* ---- golden ones */

void records_golden(struct records *r)
{
    struct buf headers = {0};
    int rc = headers_put(&headers, VIEW_LIT("content-type"), VIEW_LIT("image/jpeg"), NULL);
    assert(rc == E_OK);
    rc = headers_put(&headers, VIEW_LIT("empty"), VIEW_LIT(""), NULL);
    assert(rc == E_OK);

    records_add(r, (struct record){.key = VIEW_LIT("photo-1"),
                                   .value = VIEW_LIT("the first value"),
                                   .headers = buf_view(&headers),
                                   .timestamp_ms = 1700000000000,
                                   .ttl_ms = 60000,
                                   .priority = 3,
                                   .message_id = message_id_hash(VIEW_LIT("order-7"))});
    records_add(r,
                (struct record){.key = VIEW_LIT("photo-2"), .timestamp_ms = 1700000000005}); /* a tombstone */
    records_add(r,
                (struct record){.key = VIEW_LIT(""), .value = VIEW_LIT(""), .timestamp_ms = 1699999999999});
    char text[600];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "abcdefgh"[i % 8];
    records_add(r, (struct record){
                       .value = view_of(text, sizeof text), .timestamp_ms = 1700000000000, .priority = 9});
    buf_free(&headers);
}

struct view records_batch(const struct records *r, enum batch_codec codec, struct buf *out)
{
    struct batch_builder *b = batch_builder_new();
    struct err e = {0};
    for (uint32_t i = 0; i < r->n; i++) {
        if (batch_builder_add(b, &r->record[i], &e) != E_OK) {
            fprintf(stderr, "record %u: %s\n", i, e.text);
            abort();
        }
    }
    size_t begin = (out->size + 15) / 16 * 16;
    uint64_t hash;
    if (batch_builder_finish(b, codec, out, &hash, &e) != E_OK) {
        fprintf(stderr, "%s\n", e.text);
        abort();
    }
    batch_builder_free(b);
    struct view batch = view_of(out->data + begin, out->size - begin);
    assert(hash == batch_hash(batch));
    return batch;
}

bool record_eq(const struct record *a, const struct record *b)
{
    return view_eq(a->key, b->key) && view_eq(a->value, b->value) && view_eq(a->headers, b->headers) &&
           a->timestamp_ms == b->timestamp_ms && a->ttl_ms == b->ttl_ms && a->priority == b->priority &&
           id128_eq(a->message_id, b->message_id);
}

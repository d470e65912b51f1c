#include "unit.h"

#include "base/mem.h"
#include "base/rng.h"
#include "schemas/blocks.h"
#include "schemas/errors.h"
#include "schemas_records.h"

static const enum batch_codec codecs[] = {BATCH_NONE, BATCH_LZ4, BATCH_ZSTD};

/* ---- help */

static void assert_opens(struct batch_reader *r, struct view batch)
{
    struct err e = {0};
    if (batch_reader_open(r, batch, &e) != E_OK)
        fail_msg("%s", e.text);
}

static void assert_reads(struct batch_reader *r, uint32_t i, const struct record *expected)
{
    struct err e = {0};
    struct record back;
    if (batch_reader_get(r, i, &back, &e) != E_OK)
        fail_msg("%s", e.text);
    assert_true(record_eq(&back, expected));
}

static void assert_comes_back(const struct records *r, enum batch_codec codec)
{
    struct buf out = {0};
    struct batch_reader reader;
    assert_opens(&reader, records_batch(r, codec, &out));
    assert_int_equal(reader.c.count, r->n);
    for (uint32_t i = 0; i < r->n; i++)
        assert_reads(&reader, i, &r->record[i]);
    batch_reader_close(&reader);
    buf_free(&out);
}

static void assert_comes_back_by_every_codec(const struct records *r)
{
    for (size_t i = 0; i < ARRAY_LEN(codecs); i++)
        assert_comes_back(r, codecs[i]);
}

static struct records random_records(uint64_t seed, uint32_t n, size_t value_max)
{
    struct records r;
    struct rng rng;
    records_init(&r);
    rng_seed(&rng, seed);
    records_random(&r, &rng, n, value_max);
    return r;
}

static struct view filled(struct records *r, size_t size, bool easy)
{
    struct rng rng;
    rng_seed(&rng, size);
    uint8_t *p = arena_take(&r->bytes, size);
    if (easy)
        memset(p, 'x', size);
    else
        rng_fill(&rng, p, size);
    return view_of(p, size);
}

/* ---- what goes in comes out */

static void records_come_back_whatever_they_are(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 150; seed++) {
        static const size_t value_max[] = {0, 30, 1000, 100000};
        struct records r = random_records(seed, 1 + (uint32_t)(seed * 7 % 60), value_max[seed % 4]);
        assert_comes_back_by_every_codec(&r);
        records_free(&r);
    }
}

static void absent_and_empty_differ(void **state)
{
    (void)state;
    struct records r;
    records_init(&r);
    records_add(&r, (struct record){.key = VIEW_LIT(""), .value = VIEW_LIT("")});
    records_add(&r, (struct record){.value = VIEW_LIT("")});
    records_add(&r, (struct record){.key = VIEW_LIT("")});
    records_add(&r, (struct record){0});
    assert_comes_back_by_every_codec(&r);
    records_free(&r);
}

static void a_batch_of_nothing_but_tombstones_comes_back(void **state)
{
    (void)state;
    struct records r;
    records_init(&r);
    records_add(&r, (struct record){0});
    assert_comes_back_by_every_codec(&r);
    records_free(&r);
}

static void records_longer_than_a_block_come_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {32767, 32768, 32769, 65535, 65536, 65537, 300000};
    for (int easy = 0; easy < 2; easy++) {
        struct records r;
        records_init(&r);
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            records_add(&r, (struct record){.value = VIEW_LIT("small")});
            records_add(&r, (struct record){.value = filled(&r, sizes[i], easy)});
        }
        assert_comes_back_by_every_codec(&r);
        records_free(&r);
    }
}

static void a_record_over_blocks_of_both_kinds_comes_back(void **state)
{
    (void)state;
    struct records r;
    records_init(&r);
    struct view value = filled(&r, 5 * WIRE_BLOCK_RAW_MAX, false);
    memset((uint8_t *)value.data + WIRE_BLOCK_RAW_MAX, 'x', 2 * WIRE_BLOCK_RAW_MAX);
    records_add(&r, (struct record){.value = value});
    assert_comes_back_by_every_codec(&r);
    records_free(&r);
}

static void as_many_as_65536_records_come_back_and_no_more(void **state)
{
    (void)state;
    struct batch_builder *b = batch_builder_new();
    struct err e = {0};
    for (uint32_t i = 0; i < WIRE_BATCH_RECORDS_MAX; i++) {
        struct record r = {.key = view_of(&i, 2), .value = view_of(&i, 4)};
        assert_int_equal(batch_builder_add(b, &r, NULL), E_OK);
    }
    struct record one_more = {.value = VIEW_LIT("v")};
    assert_int_equal(batch_builder_add(b, &one_more, &e), E_LIMIT);
    assert_has(e.text, "65536");
    assert_int_equal(batch_builder_count(b), WIRE_BATCH_RECORDS_MAX);

    struct buf out = {0};
    struct batch_reader reader;
    assert_int_equal(batch_builder_finish(b, BATCH_LZ4, &out, NULL, NULL), E_OK);
    assert_opens(&reader, buf_view(&out));
    for (uint32_t i = 0; i < WIRE_BATCH_RECORDS_MAX; i++) {
        struct record r = {.key = view_of(&i, 2), .value = view_of(&i, 4)};
        assert_reads(&reader, i, &r);
    }
    batch_reader_close(&reader);
    assert_int_equal(batch_builder_add(b, &one_more, NULL), E_OK);
    batch_builder_free(b);
    buf_free(&out);
}

static void records_are_read_in_any_order(void **state)
{
    (void)state;
    struct records r = random_records(5, 300, 3000);
    struct rng rng;
    rng_seed(&rng, 9);
    for (size_t c = 0; c < ARRAY_LEN(codecs); c++) {
        struct buf out = {0};
        struct batch_reader reader;
        assert_opens(&reader, records_batch(&r, codecs[c], &out));
        for (int n = 0; n < 2000; n++) {
            uint32_t i = (uint32_t)rng_below(&rng, r.n);
            assert_reads(&reader, i, &r.record[i]);
        }
        batch_reader_close(&reader);
        buf_free(&out);
    }
    records_free(&r);
}

/* ---- what is stored */

static void columns_nobody_used_are_not_stored(void **state)
{
    (void)state;
    struct records r;
    struct buf out = {0};
    struct batch_columns c;
    records_init(&r);
    records_add(&r, (struct record){.value = VIEW_LIT("v"), .timestamp_ms = 5});
    records_add(&r, (struct record){.value = VIEW_LIT("w"), .timestamp_ms = 5});
    assert_int_equal(codec_batch_open(records_batch(&r, BATCH_LZ4, &out), &c, NULL), E_OK);
    assert_int_equal(c.timestamp_ms, 5);
    assert_true(c.timestamp_delta == NULL && c.key_hash == NULL && c.key_size == NULL &&
                c.headers_size == NULL && c.ttl_ms == NULL && c.priority == NULL && c.message_id == NULL &&
                c.offset_delta == NULL && c.meta_blocks_n == 0 && c.meta.data == NULL);
    buf_free(&out);
    records_free(&r);
}

static void a_column_used_by_one_record_is_stored_for_all(void **state)
{
    (void)state;
    struct records r;
    struct buf out = {0}, headers = {0};
    struct batch_columns c;
    headers_put(&headers, VIEW_LIT("n"), VIEW_LIT("v"), NULL);
    records_init(&r);
    records_add(&r, (struct record){.value = VIEW_LIT("v"), .timestamp_ms = 5});
    records_add(&r, (struct record){.key = VIEW_LIT("k"),
                                    .headers = buf_view(&headers),
                                    .timestamp_ms = 4,
                                    .ttl_ms = 7,
                                    .priority = 9,
                                    .message_id = {1, 2}});
    assert_int_equal(codec_batch_open(records_batch(&r, BATCH_NONE, &out), &c, NULL), E_OK);
    assert_true(c.timestamp_delta[0] == 0 && c.timestamp_delta[1] == -1);
    assert_true(c.key_hash[0] == 0 && c.key_hash[1] == key_hash(VIEW_LIT("k")));
    assert_true(c.key_size[0] == 0 && c.key_size[1] == 2);
    assert_true(c.headers_size[0] == 0 && c.headers_size[1] == headers.size);
    assert_true(c.value_size[0] == 2 && c.value_size[1] == 0);
    assert_true(c.ttl_ms[0] == 0 && c.ttl_ms[1] == 7);
    assert_true(c.priority[0] == 0 && c.priority[1] == 9);
    assert_true(id128_is_zero(c.message_id[0]) && id128_eq(c.message_id[1], (struct id128){1, 2}));
    buf_free(&out);
    buf_free(&headers);
    records_free(&r);
}

static void what_does_not_compress_is_stored_as_it_is(void **state)
{
    (void)state;
    struct records r;
    records_init(&r);
    for (size_t size = 1000; size < 1030; size++)
        records_add(&r, (struct record){.value = filled(&r, size, false)});
    for (size_t i = 0; i < ARRAY_LEN(codecs); i++) {
        struct buf out = {0};
        struct batch_columns c;
        assert_int_equal(codec_batch_open(records_batch(&r, codecs[i], &out), &c, NULL), E_OK);
        assert_int_equal(c.codec, BATCH_NONE);
        assert_int_equal(c.values.size, c.value_blocks[c.value_blocks_n - 1].raw_end);
        buf_free(&out);
    }
    records_free(&r);
}

static void a_block_is_compressed_only_if_that_saves_an_eighth(void **state)
{
    (void)state;
    /* Values of which a growing part is easy. */
    for (size_t easy = 0; easy < 8000; easy += 250) {
        struct records r;
        records_init(&r);
        struct view value = filled(&r, 8000, false);
        memset((uint8_t *)value.data, 'x', easy);
        records_add(&r, (struct record){.value = value});
        for (size_t i = 1; i < ARRAY_LEN(codecs); i++) {
            struct buf out = {0};
            struct batch_columns c;
            assert_int_equal(codec_batch_open(records_batch(&r, codecs[i], &out), &c, NULL), E_OK);
            uint32_t stored = c.value_blocks[0].stored_end;
            assert_true(stored == 8000 || stored <= 7000);
            assert_int_equal(c.codec, stored == 8000 ? BATCH_NONE : codecs[i]);
            assert_true(easy < 1250 || stored <= 7000);
            assert_true(easy >= 750 || stored == 8000);
            buf_free(&out);
        }
        records_free(&r);
    }
}

static void a_record_that_fits_into_a_block_is_never_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct records r = random_records(seed, 100, seed % 2 ? 9000 : 60000);
        struct buf out = {0};
        struct batch_columns c;
        assert_int_equal(codec_batch_open(records_batch(&r, BATCH_LZ4, &out), &c, NULL), E_OK);
        uint32_t at = 0;
        for (uint32_t i = 0, block = 0; i < r.n; i++) {
            uint32_t end = at + (uint32_t)r.record[i].value.size;
            while (block < c.value_blocks_n && c.value_blocks[block].raw_end <= at)
                block++;
            if (end - at <= WIRE_BLOCK_RAW_MAX && end != at)
                assert_true(end <= c.value_blocks[block].raw_end);
            at = end;
        }
        buf_free(&out);
        records_free(&r);
    }
}

static void a_longer_one_begins_a_block_and_fills_it(void **state)
{
    (void)state;
    struct records r;
    struct buf out = {0};
    struct batch_columns c;
    records_init(&r);
    records_add(&r, (struct record){.value = filled(&r, 100, true)});
    records_add(&r, (struct record){.value = filled(&r, 70000, true)});
    records_add(&r, (struct record){.value = filled(&r, 1000, true)});
    assert_int_equal(codec_batch_open(records_batch(&r, BATCH_LZ4, &out), &c, NULL), E_OK);
    assert_int_equal(c.value_blocks_n, 4);
    assert_int_equal(c.value_blocks[0].raw_end, 100);
    assert_int_equal(c.value_blocks[1].raw_end, 100 + 32768);
    assert_int_equal(c.value_blocks[2].raw_end, 100 + 65536);
    assert_int_equal(c.value_blocks[3].raw_end, 71100);
    buf_free(&out);
    records_free(&r);
}

static void a_block_is_filled_to_its_last_byte_and_not_beyond(void **state)
{
    (void)state;
    for (size_t over = 0; over < 2; over++) {
        struct records r;
        struct buf out = {0};
        struct batch_columns c;
        records_init(&r);
        records_add(&r, (struct record){.value = filled(&r, 10000, true)});
        records_add(&r, (struct record){.value = filled(&r, WIRE_BLOCK_RAW_MAX - 10000 + over, true)});
        assert_int_equal(codec_batch_open(records_batch(&r, BATCH_LZ4, &out), &c, NULL), E_OK);
        assert_int_equal(c.value_blocks_n, 1 + over);
        assert_int_equal(c.value_blocks[0].raw_end, over ? 10000 : WIRE_BLOCK_RAW_MAX);
        buf_free(&out);
        records_free(&r);
    }
}

static void a_block_opens_to_exactly_its_size_or_not_at_all(void **state)
{
    (void)state;
    static uint8_t raw[1000], back[1001];
    for (size_t i = 1; i < ARRAY_LEN(codecs); i++) {
        struct ZSTD_CCtx_s *packer = NULL;
        struct ZSTD_DCtx_s *opener = NULL;
        struct buf b = {0};
        assert_true(block_pack(codecs[i], raw, sizeof raw, &b, &packer));
        uint32_t size = (uint32_t)b.size;
        assert_true(block_open(codecs[i], b.data, size, back, 1000, &opener));
        assert_memory_equal(back, raw, sizeof raw);
        assert_false(block_open(codecs[i], b.data, size, back, 1001, &opener));
        assert_false(block_open(codecs[i], b.data, size, back, 999, &opener));
        assert_false(block_open(codecs[i], b.data, size - 1, back, 1000, &opener));
        assert_false(block_open(BATCH_NONE, b.data, size, back, 1000, &opener));
        block_packer_free(packer);
        block_opener_free(opener);
        buf_free(&b);
    }
}

/* Our builder begins a block with each record that is longer than one; others need not. */
static void blocks_that_are_cut_anywhere_are_read(void **state)
{
    (void)state;
    enum { RECORDS = 5, SIZE = 1000, CUT = 700, BLOCKS = (RECORDS * SIZE + CUT - 1) / CUT };
    uint8_t raw[RECORDS * SIZE];
    uint32_t sizes[RECORDS], sums[RECORDS];
    for (size_t i = 0; i < RECORDS; i++) {
        memset(raw + i * SIZE, 'a' + (int)i, SIZE);
        raw[i * SIZE] = '!';
        sizes[i] = SIZE + 1;
        sums[i] = record_sum(0, 0, SIZE + 1, NULL, NULL, raw + i * SIZE);
    }
    for (size_t k = 0; k < ARRAY_LEN(codecs); k++) {
        struct batch_block blocks[BLOCKS];
        struct ZSTD_CCtx_s *packer = NULL;
        struct buf stored = {0};
        for (uint32_t i = 0; i < BLOCKS; i++) {
            uint32_t from = i * CUT, end = from + CUT < sizeof raw ? from + CUT : (uint32_t)sizeof raw;
            if (!block_pack(codecs[k], raw + from, end - from, &stored, &packer))
                buf_append(&stored, raw + from, end - from);
            blocks[i] = (struct batch_block){end, (uint32_t)stored.size};
        }
        struct batch_columns c = {.count = RECORDS,
                                  .codec = (uint8_t)codecs[k],
                                  .value_size = sizes,
                                  .sum = sums,
                                  .value_blocks = blocks,
                                  .value_blocks_n = BLOCKS,
                                  .values = buf_view(&stored)};
        size_t cap = codec_batch_bound(&c);
        struct codec_space s = {.data = mem_alloc(cap), .cap = cap};
        struct batch_reader reader;
        assert_int_equal(codec_batch_encode(&c, &s), E_OK);
        assert_opens(&reader, view_of(s.data + s.at, s.size));
        for (uint32_t n = 0; n < 4 * RECORDS; n++) {
            uint32_t i = n * 3 % RECORDS;
            struct record expected = {.value = view_of(raw + i * SIZE, SIZE)};
            assert_reads(&reader, i, &expected);
        }
        batch_reader_close(&reader);
        block_packer_free(packer);
        mem_free(s.data);
        buf_free(&stored);
    }
}

static void a_batch_begins_at_a_multiple_of_16_behind_what_is_there(void **state)
{
    (void)state;
    struct records r = random_records(3, 10, 100);
    struct buf out = {0};
    for (int n = 0; n < 20; n++) {
        buf_append(&out, "0123456", (size_t)n % 8);
        size_t before = out.size;
        struct view batch = records_batch(&r, BATCH_LZ4, &out);
        size_t begin = (before + 15) / 16 * 16;
        assert_ptr_equal(batch.data, out.data + begin);
        for (size_t i = before; i < begin; i++)
            assert_int_equal(out.data[i], 0);
        struct batch_columns c;
        assert_int_equal(codec_batch_open(batch, &c, NULL), E_OK);
    }
    buf_free(&out);
    records_free(&r);
}

static void the_same_records_give_the_same_bytes(void **state)
{
    (void)state;
    struct records r = random_records(4, 200, 2000);
    for (size_t i = 0; i < ARRAY_LEN(codecs); i++) {
        struct buf a = {0}, b = {0};
        assert_true(view_eq(records_batch(&r, codecs[i], &a), records_batch(&r, codecs[i], &b)));
        buf_free(&a);
        buf_free(&b);
    }
    records_free(&r);
}

/* ---- the builder */

static void a_builder_is_empty_after_each_batch(void **state)
{
    (void)state;
    struct records full = random_records(6, 50, 500);
    struct batch_builder *b = batch_builder_new();
    struct buf first = {0}, second = {0}, headers = {0};
    headers_put(&headers, VIEW_LIT("n"), VIEW_LIT("v"), NULL);
    struct record rich = {.key = VIEW_LIT("k"),
                          .value = VIEW_LIT("v"),
                          .headers = buf_view(&headers),
                          .ttl_ms = 1,
                          .priority = 1,
                          .message_id = {1, 1},
                          .timestamp_ms = 77};
    struct record poor = {.value = VIEW_LIT("v")};

    assert_int_equal(batch_builder_add(b, &poor, NULL), E_OK);
    assert_int_equal(batch_builder_finish(b, BATCH_LZ4, &first, NULL, NULL), E_OK);
    assert_int_equal(batch_builder_add(b, &rich, NULL), E_OK);
    assert_int_equal(batch_builder_count(b), 1);
    assert_int_equal(batch_builder_bytes(b), 1 + headers.size + 1);
    assert_int_equal(batch_builder_finish(b, BATCH_ZSTD, &second, NULL, NULL), E_OK);
    assert_int_equal(batch_builder_count(b), 0);
    assert_int_equal(batch_builder_bytes(b), 0);
    buf_clear(&second);
    assert_int_equal(batch_builder_add(b, &poor, NULL), E_OK);
    assert_int_equal(batch_builder_finish(b, BATCH_LZ4, &second, NULL, NULL), E_OK);
    assert_true(view_eq(buf_view(&first), buf_view(&second)));

    batch_builder_free(b);
    buf_free(&first);
    buf_free(&second);
    buf_free(&headers);
    records_free(&full);
}

enum { MIXED = 60, MIXED_SIZE = WIRE_BLOCK_RAW_MAX };

/* Record i, a block of its own, is noise or text. Returns the size of the batch that it ends in. */
static size_t mixed_batch(struct batch_builder *b, const bool noise[MIXED])
{
    uint8_t *bytes = mem_alloc(MIXED * MIXED_SIZE);
    struct record record[MIXED] = {0};
    struct buf out = {0};
    struct batch_reader r;
    struct rng rng;
    rng_seed(&rng, 5);
    for (size_t i = 0; i < MIXED; i++) {
        uint8_t *at = bytes + i * MIXED_SIZE;
        for (size_t k = 0; k < MIXED_SIZE; k++)
            at[k] = noise[i] ? (uint8_t)rng_next(&rng) : (uint8_t)('a' + k % 11);
        record[i].value = view_of(at, MIXED_SIZE);
        assert_int_equal(batch_builder_add(b, &record[i], NULL), E_OK);
    }
    assert_int_equal(batch_builder_finish(b, BATCH_LZ4, &out, NULL, NULL), E_OK);
    assert_opens(&r, buf_view(&out));
    for (uint32_t i = 0; i < MIXED; i++)
        assert_reads(&r, i, &record[i]);
    size_t size = out.size;
    batch_reader_close(&r);
    buf_free(&out);
    mem_free(bytes);
    return size;
}

static void what_compresses_among_what_does_not_comes_back(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct batch_builder *b = batch_builder_new();
        struct rng rng;
        rng_seed(&rng, seed);
        for (int round = 0; round < 3; round++) {
            bool noise[MIXED];
            for (size_t i = 0; i < MIXED; i++)
                noise[i] = rng_below(&rng, 8) < seed;
            mixed_batch(b, noise);
        }
        batch_builder_free(b);
    }
}

static void compression_is_found_again_within_eight_blocks_of_noise_that_ended(void **state)
{
    (void)state;
    bool noise[MIXED], text[MIXED] = {false};
    memset(noise, true, sizeof noise);
    struct batch_builder *b = batch_builder_new();
    size_t best = mixed_batch(b, text), most = mixed_batch(b, noise);
    assert_true(most > MIXED * MIXED_SIZE);
    mixed_batch(b, noise);
    assert_true(mixed_batch(b, text) <= best + 8 * MIXED_SIZE);
    assert_int_equal(mixed_batch(b, text), best);
    batch_builder_free(b);
}

static void a_batch_that_is_not_moved_is_the_same(void **state)
{
    (void)state;
    struct records r = random_records(11, 200, 5000);
    struct batch_builder *b = batch_builder_new();
    struct buf moved = {0}, taken = {0};
    struct view batch;
    uint64_t hash, other;
    for (uint32_t i = 0; i < r.n; i++)
        assert_int_equal(batch_builder_add(b, &r.record[i], NULL), E_OK);
    assert_int_equal(batch_builder_finish(b, BATCH_LZ4, &moved, &hash, NULL), E_OK);
    for (uint32_t i = 0; i < r.n; i++)
        assert_int_equal(batch_builder_add(b, &r.record[i], NULL), E_OK);
    assert_int_equal(batch_builder_take(b, BATCH_LZ4, &taken, &batch, &other, NULL), E_OK);
    assert_true(view_eq(buf_view(&moved), batch));
    assert_true(batch.data >= taken.data && batch.data + batch.size <= taken.data + taken.size);
    assert_int_equal((uintptr_t)batch.data % 16, 0);
    assert_int_equal(hash, other);
    batch_builder_free(b);
    buf_free(&moved);
    buf_free(&taken);
    records_free(&r);
}

/* What compaction leaves of a batch: fewer records, each at its old place, and else as they were. */
static void a_batch_with_holes_comes_back_at_its_places(void **state)
{
    (void)state;
    struct records all = random_records(9, 50, 40000);
    struct batch_builder *b = batch_builder_new();
    struct buf out = {0};
    struct batch_reader r;
    struct view key;
    for (uint32_t i = 3; i < all.n; i += 4)
        assert_int_equal(batch_builder_add_at(b, &all.record[i], i, NULL), E_OK);
    assert_int_equal(batch_builder_finish(b, BATCH_ZSTD, &out, NULL, NULL), E_OK);
    assert_opens(&r, buf_view(&out));
    assert_int_equal(r.c.count, all.n / 4);
    for (uint32_t i = 0; i < r.c.count; i++) {
        assert_int_equal(batch_offset_delta(&r.c, i), 4 * i + 3);
        assert_reads(&r, i, &all.record[4 * i + 3]);
        assert_int_equal(batch_reader_key(&r, i, &key, NULL), E_OK);
        assert_true(view_eq(key, all.record[4 * i + 3].key));
    }
    for (uint64_t place = 0; place <= all.n; place++)
        assert_int_equal(batch_index_at(&r.c, place), place / 4 < r.c.count ? place / 4 : r.c.count);
    batch_reader_close(&r);
    batch_builder_free(b);
    buf_free(&out);
    records_free(&all);
}

static void a_batch_of_no_records_is_refused(void **state)
{
    (void)state;
    struct batch_builder *b = batch_builder_new();
    struct buf out = {0};
    assert_int_equal(batch_builder_finish(b, BATCH_LZ4, &out, NULL, NULL), E_INVALID_ARGUMENT);
    assert_int_equal(out.size, 0);
    batch_builder_free(b);
    batch_builder_free(NULL);
}

static void a_warm_builder_allocates_nothing(void **state)
{
    (void)state;
    struct records r = random_records(8, 500, 3000);
    struct batch_builder *b = batch_builder_new();
    struct buf out = {0};
    for (int round = 0; round < 2; round++) {
        if (round == 1)
            mem_fail_at(1); /* which would end the process */
        buf_clear(&out);
        for (uint32_t i = 0; i < r.n; i++)
            assert_int_equal(batch_builder_add(b, &r.record[i], NULL), E_OK);
        assert_int_equal(batch_builder_finish(b, BATCH_LZ4, &out, NULL, NULL), E_OK);
    }
    mem_fail_at(0);
    batch_builder_free(b);
    buf_free(&out);
    records_free(&r);
}

static void a_record_without_memory_is_refused_and_leaves_the_batch_as_it_was(void **state)
{
    (void)state;
    static uint8_t big[1 << 20];
    struct batch_builder *b = batch_builder_new();
    struct record small = {.key = VIEW_LIT("k"), .value = VIEW_LIT("v")};
    struct record large = {.key = VIEW_LIT("k"), .value = view_of(big, sizeof big)};
    assert_int_equal(batch_builder_add(b, &small, NULL), E_OK);
    mem_fail_at(1);
    assert_int_equal(batch_builder_add(b, &large, NULL), E_NO_MEMORY);
    mem_fail_at(0);
    assert_int_equal(batch_builder_count(b), 1);
    assert_int_equal(batch_builder_bytes(b), 2);
    batch_builder_free(b);
}

static void assert_refused(struct record r, int code, const char *said)
{
    struct batch_builder *b = batch_builder_new();
    struct record good = {.value = VIEW_LIT("v"), .timestamp_ms = 1700000000000};
    struct err e = {0};
    assert_int_equal(batch_builder_add(b, &good, NULL), E_OK);
    assert_int_equal(batch_builder_add(b, &r, &e), code);
    assert_int_equal(e.code, code);
    assert_has(e.text, said);
    assert_int_equal(batch_builder_add(b, &r, NULL), code);
    assert_int_equal(batch_builder_count(b), 1);
    assert_int_equal(batch_builder_bytes(b), 1);
    batch_builder_free(b);
}

static void what_no_batch_takes_is_refused_and_the_limit_named(void **state)
{
    (void)state;
    static uint8_t bytes[WIRE_KEY_MAX + 1];
    struct buf headers = {0};
    assert_refused((struct record){.key = view_of(bytes, sizeof bytes)}, E_TOO_LARGE,
                   "key: 4097 bytes, the limit is 4096");
    for (int i = 0; i <= WIRE_HEADERS_MAX; i++)
        buf_append(&headers, "\1\0n\1\0\0\0v", 8);
    assert_refused((struct record){.headers = buf_view(&headers)}, E_TOO_LARGE,
                   "headers: 65 of them, the limit is 64");
    assert_refused((struct record){.headers = view_of(headers.data, 11)}, E_INVALID_ARGUMENT,
                   "headers: malformed after header 1");
    assert_refused((struct record){.priority = 10}, E_INVALID_ARGUMENT, "priority: 10, the limit is 9");
    uint8_t *huge = mem_zalloc(WIRE_MESSAGE_MAX + 1);
    assert_refused((struct record){.value = view_of(huge, WIRE_MESSAGE_MAX + 1)}, E_TOO_LARGE,
                   "value: 67108865 bytes, the limit is 67108864");
    mem_free(huge);
    buf_free(&headers);
}

static void a_timestamp_too_far_for_this_batch_asks_for_the_next(void **state)
{
    (void)state;
    static const uint64_t first = 1700000000000;
    assert_refused((struct record){.timestamp_ms = first + INT32_MAX + 1ull}, E_LIMIT, "timestamp");
    assert_refused((struct record){.timestamp_ms = first + INT32_MIN - 1ull}, E_LIMIT, "timestamp");
    assert_refused((struct record){.timestamp_ms = 0}, E_LIMIT, "timestamp");
    assert_refused((struct record){.timestamp_ms = UINT64_MAX}, E_LIMIT, "timestamp");

    struct records r;
    records_init(&r);
    records_add(&r, (struct record){.timestamp_ms = first});
    records_add(&r, (struct record){.timestamp_ms = first + INT32_MAX});
    records_add(&r, (struct record){.timestamp_ms = first + INT32_MIN});
    assert_comes_back(&r, BATCH_NONE);
    records_free(&r);
}

static void the_largest_record_comes_back(void **state)
{
    (void)state;
    struct records r;
    records_init(&r);
    struct view value = filled(&r, WIRE_MESSAGE_MAX, true);
    records_add(&r, (struct record){.key = filled(&r, WIRE_KEY_MAX, true), .value = value});
    assert_comes_back(&r, BATCH_LZ4);
    assert_comes_back(&r, BATCH_NONE);
    records_free(&r);
}

/* ---- damage */

static void every_flipped_byte_of_a_section_is_noticed(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(codecs); k++) {
        struct records r = random_records(11, 40, 300);
        struct buf out = {0};
        struct batch_columns c;
        struct view batch = records_batch(&r, codecs[k], &out);
        assert_int_equal(codec_batch_open(batch, &c, NULL), E_OK);
        const struct view sections[] = {c.meta, c.values};
        for (size_t s = 0; s < ARRAY_LEN(sections); s++) {
            for (size_t at = 0; at < sections[s].size; at++) {
                struct batch_reader reader;
                uint8_t *byte = (uint8_t *)sections[s].data + at;
                *byte ^= (uint8_t)(1 << at % 8);
                assert_opens(&reader, batch);
                uint32_t wrong = 0;
                for (uint32_t i = 0; i < r.n; i++) {
                    struct record back;
                    int rc = batch_reader_get(&reader, i, &back, NULL);
                    assert_true(rc == E_DAMAGED || (rc == E_OK && record_eq(&back, &r.record[i])));
                    wrong += rc != E_OK;
                }
                assert_true(c.codec != BATCH_NONE || wrong == 1);
                batch_reader_close(&reader);
                *byte ^= (uint8_t)(1 << at % 8);
            }
        }
        buf_free(&out);
        records_free(&r);
    }
}

static void a_changed_size_is_noticed(void **state)
{
    (void)state;
    struct records r;
    struct buf out = {0};
    struct batch_reader reader;
    struct err e = {0};
    struct record back;
    records_init(&r);
    records_add(&r, (struct record){.value = VIEW_LIT("0123456789")});
    records_add(&r, (struct record){.value = VIEW_LIT("0123456789")});
    struct view batch = records_batch(&r, BATCH_NONE, &out);
    assert_opens(&reader, batch);
    uint32_t *size = (uint32_t *)reader.c.value_size;
    size[0]--, size[1]++;
    batch_reader_close(&reader);
    assert_opens(&reader, batch);
    assert_int_equal(batch_reader_get(&reader, 0, &back, &e), E_DAMAGED);
    assert_has(e.text, "record 0");
    assert_int_equal(batch_reader_get(&reader, 1, &back, &e), E_DAMAGED);
    assert_has(e.text, "record 1");
    batch_reader_close(&reader);
    buf_free(&out);
    records_free(&r);
}

/* A value split over compressed blocks of which one is damaged: that record is lost, its neighbours are not. */
static void a_damaged_block_costs_only_its_own_records(void **state)
{
    (void)state;
    struct records r;
    struct buf out = {0};
    struct batch_reader reader;
    struct record back;
    struct err e = {0};
    records_init(&r);
    records_add(&r, (struct record){.value = filled(&r, 30000, true)});
    records_add(&r, (struct record){.value = filled(&r, 100000, true)});
    records_add(&r, (struct record){.value = filled(&r, 30000, true)});
    struct view batch = records_batch(&r, BATCH_LZ4, &out);
    assert_opens(&reader, batch);
    memset((uint8_t *)reader.c.values.data + reader.c.value_blocks[1].stored_end, 0xff, 20);
    assert_reads(&reader, 0, &r.record[0]);
    assert_int_equal(batch_reader_get(&reader, 1, &back, &e), E_DAMAGED);
    assert_string_equal(e.text, "record 1: block 2 does not open");
    assert_reads(&reader, 2, &r.record[2]);
    assert_reads(&reader, 0, &r.record[0]);
    batch_reader_close(&reader);
    buf_free(&out);
    records_free(&r);
}

/* A block that fails to open has already overwritten the one that was open. */
static void the_block_before_a_damaged_one_is_read_again(void **state)
{
    (void)state;
    for (size_t k = 1; k < ARRAY_LEN(codecs); k++) {
        struct records r;
        struct buf out = {0};
        struct batch_reader reader;
        struct record back;
        records_init(&r);
        for (int i = 0; i < 2; i++) {
            struct view value = filled(&r, 30000, true);
            for (size_t at = 0; at < value.size; at += 50)
                memcpy((uint8_t *)value.data + at, &(uint32_t){(uint32_t)at * 7919u + (uint32_t)i}, 4);
            records_add(&r, (struct record){.value = value});
        }
        assert_opens(&reader, records_batch(&r, codecs[k], &out));
        const struct batch_block *block = reader.c.value_blocks;
        assert_int_equal(reader.c.value_blocks_n, 2);
        uint32_t middle = (block[0].stored_end + block[1].stored_end) / 2;
        memset((uint8_t *)reader.c.values.data + middle, 0xff, 300);
        assert_reads(&reader, 0, &r.record[0]);
        assert_int_equal(batch_reader_get(&reader, 1, &back, NULL), E_DAMAGED);
        assert_reads(&reader, 0, &r.record[0]);
        batch_reader_close(&reader);
        buf_free(&out);
        records_free(&r);
    }
}

/* ---- batches that hold together and still are wrong */

/* Two records with keys "k1", "k2", values "value one" and "value two", each section a block. */
struct parts {
    struct batch_columns c;
    uint64_t key_hash[2];
    uint32_t key_size[2], headers_size[2], value_size[2], sum[2], ttl_ms[2], offset_delta[3];
    uint8_t priority[2];
    struct batch_block meta[2], values[2];
};

static void parts_init(struct parts *p)
{
    *p = (struct parts){
        .key_hash = {1, 2},
        .key_size = {3, 3},
        .value_size = {10, 10},
        .offset_delta = {0, 5, 6},
        .meta = {{2, 2}, {4, 4}},
        .values = {{9, 9}, {18, 18}},
    };
    p->c = (struct batch_columns){
        .count = 2,
        .key_hash = p->key_hash,
        .key_size = p->key_size,
        .headers_size = p->headers_size,
        .value_size = p->value_size,
        .sum = p->sum,
        .ttl_ms = p->ttl_ms,
        .offset_delta = p->offset_delta,
        .priority = p->priority,
        .meta_blocks = p->meta,
        .meta_blocks_n = 2,
        .value_blocks = p->values,
        .value_blocks_n = 2,
        .meta = VIEW_LIT("k1k2"),
        .values = VIEW_LIT("value onevalue two"),
    };
}

static int open_parts(const struct parts *p, struct err *e)
{
    size_t cap = codec_batch_bound(&p->c);
    struct codec_space s = {.data = mem_alloc(cap), .cap = cap};
    struct batch_columns back;
    assert_int_equal(codec_batch_encode(&p->c, &s), E_OK);
    int rc = codec_batch_open(view_of(s.data + s.at, s.size), &back, e);
    mem_free(s.data);
    return rc;
}

#define assert_parts_refused(change, said)               \
    do {                                                 \
        struct parts p;                                  \
        struct err e = {0};                              \
        parts_init(&p);                                  \
        change;                                          \
        assert_int_equal(open_parts(&p, &e), E_DAMAGED); \
        assert_has(e.text, said);                        \
    } while (0)

static void columns_that_do_not_fit_together_are_refused(void **state)
{
    (void)state;
    struct parts good;
    parts_init(&good);
    assert_int_equal(open_parts(&good, NULL), E_OK);

    assert_parts_refused(p.c.sum = NULL, "sum is missing");
    assert_parts_refused(p.c.value_size = NULL, "value_size is missing");
    assert_parts_refused(p.c.key_hash = NULL, "key_hash one is missing");
    assert_parts_refused(p.c.key_size = NULL, "key_hash one is missing");
    assert_parts_refused(p.c.codec = 3, "codec 3");
    assert_parts_refused(p.priority[1] = 10, "priority 10");
    assert_parts_refused(p.offset_delta[1] = 0, "offset_delta");
    assert_parts_refused(p.key_size[0] = WIRE_KEY_MAX + 2, "key of 4097 bytes, the limit is 4096");
    assert_parts_refused(p.headers_size[0] = WIRE_HEADERS_BYTES_MAX + 1,
                         "headers of 16385 bytes, the limit is 16384");
    assert_parts_refused(p.value_size[0] = WIRE_MESSAGE_MAX + 2, "value of 67108865 bytes");
    assert_parts_refused(p.key_size[0] = 2, "blocks of meta hold 4 bytes, the records 3");
    assert_parts_refused(p.value_size[1] = 0, "blocks of values hold 18 bytes, the records 9");
    assert_parts_refused(p.value_size[1] = 11, "blocks of values hold 18 bytes, the records 19");
}

static void a_count_of_0_or_more_than_65536_is_refused(void **state)
{
    (void)state;
    enum { MANY = WIRE_BATCH_RECORDS_MAX + 1 };
    static uint32_t zeros[MANY];
    struct parts p = {.c = {.count = MANY, .value_size = zeros, .sum = zeros}};
    struct err e = {0};
    assert_int_equal(open_parts(&p, &e), E_DAMAGED);
    assert_has(e.text, "65537 records");
    p = (struct parts){0};
    assert_int_equal(open_parts(&p, &e), E_DAMAGED);
    assert_has(e.text, "0 records");
}

static void bad_blocks_are_refused(void **state)
{
    (void)state;
    static const uint8_t zeros[40000];
    assert_parts_refused(p.values[1].stored_end = 17, "block 1 of values has 8 bytes stored for 9");
    assert_parts_refused(p.values[0].stored_end = 10, "block 0 of values has 10 bytes stored for 9");
    assert_parts_refused(p.values[1].raw_end = 9, "block 1 of values does not ascend");
    assert_parts_refused(p.values[1].raw_end = 3, "block 1 of values does not ascend");
    assert_parts_refused(p.values[1].stored_end = 9, "block 1 of values does not ascend");
    assert_parts_refused(p.meta[0] = (struct batch_block){0}, "block 0 of meta does not ascend");
    assert_parts_refused(p.c.value_blocks_n = 1, "blocks of values end at 9 of 18 bytes");
    assert_parts_refused(p.c.value_blocks_n = 0, "blocks of values end at 0 of 18 bytes");
    assert_parts_refused(p.c.values.size = 17, "blocks of values end at 18 of 17 bytes");
    assert_parts_refused(p.c.values = view_of(NULL, 0), "blocks of values end at 18 of 0 bytes");
    assert_parts_refused((p.c.codec = BATCH_LZ4, p.c.value_blocks_n = 0, p.c.values = view_of(NULL, 0)),
                         "blocks of values hold 0 bytes, the records 18");
    assert_parts_refused((p.values[0] = (struct batch_block){32769, 32769}, p.c.value_blocks_n = 1,
                          p.c.values = view_of(zeros, 32769)),
                         "block 0 of values has 32769 bytes, the limit is 32768");
}

static void a_column_of_another_length_is_refused(void **state)
{
    (void)state;
    /* The encoder writes all columns `count` long, so the count is what is changed. */
    struct records r;
    struct buf out = {0};
    struct batch_columns c;
    struct err e = {0};
    records_init(&r);
    for (int i = 0; i < 77; i++)
        records_add(&r, (struct record){.value = VIEW_LIT("v")});
    struct view batch = records_batch(&r, BATCH_NONE, &out);
    bool found = false;
    for (size_t at = 0; at + 4 <= batch.size; at += 4) {
        uint8_t *p = (uint8_t *)batch.data + at;
        if (get_u32(p) != 77)
            continue;
        put_u32(p, 76);
        found |= codec_batch_open(batch, &c, &e) == E_DAMAGED &&
                 strstr(e.text, "77 entries for 76 records") != NULL;
        put_u32(p, 77);
    }
    assert_true(found);
    buf_free(&out);
    records_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back_whatever_they_are),
        cmocka_unit_test(absent_and_empty_differ),
        cmocka_unit_test(a_batch_of_nothing_but_tombstones_comes_back),
        cmocka_unit_test(records_longer_than_a_block_come_back),
        cmocka_unit_test(a_record_over_blocks_of_both_kinds_comes_back),
        cmocka_unit_test(as_many_as_65536_records_come_back_and_no_more),
        cmocka_unit_test(records_are_read_in_any_order),
        cmocka_unit_test(columns_nobody_used_are_not_stored),
        cmocka_unit_test(a_column_used_by_one_record_is_stored_for_all),
        cmocka_unit_test(what_does_not_compress_is_stored_as_it_is),
        cmocka_unit_test(a_block_is_compressed_only_if_that_saves_an_eighth),
        cmocka_unit_test(a_record_that_fits_into_a_block_is_never_cut),
        cmocka_unit_test(a_longer_one_begins_a_block_and_fills_it),
        cmocka_unit_test(a_block_is_filled_to_its_last_byte_and_not_beyond),
        cmocka_unit_test(a_block_opens_to_exactly_its_size_or_not_at_all),
        cmocka_unit_test(blocks_that_are_cut_anywhere_are_read),
        cmocka_unit_test(a_batch_begins_at_a_multiple_of_16_behind_what_is_there),
        cmocka_unit_test(the_same_records_give_the_same_bytes),
        cmocka_unit_test(a_builder_is_empty_after_each_batch),
        cmocka_unit_test(a_batch_with_holes_comes_back_at_its_places),
        cmocka_unit_test(what_compresses_among_what_does_not_comes_back),
        cmocka_unit_test(compression_is_found_again_within_eight_blocks_of_noise_that_ended),
        cmocka_unit_test(a_batch_that_is_not_moved_is_the_same),
        cmocka_unit_test(a_batch_of_no_records_is_refused),
        cmocka_unit_test(a_warm_builder_allocates_nothing),
        cmocka_unit_test(a_record_without_memory_is_refused_and_leaves_the_batch_as_it_was),
        cmocka_unit_test(what_no_batch_takes_is_refused_and_the_limit_named),
        cmocka_unit_test(a_timestamp_too_far_for_this_batch_asks_for_the_next),
        cmocka_unit_test(the_largest_record_comes_back),
        cmocka_unit_test(every_flipped_byte_of_a_section_is_noticed),
        cmocka_unit_test(a_changed_size_is_noticed),
        cmocka_unit_test(a_damaged_block_costs_only_its_own_records),
        cmocka_unit_test(the_block_before_a_damaged_one_is_read_again),
        cmocka_unit_test(columns_that_do_not_fit_together_are_refused),
        cmocka_unit_test(a_count_of_0_or_more_than_65536_is_refused),
        cmocka_unit_test(bad_blocks_are_refused),
        cmocka_unit_test(a_column_of_another_length_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

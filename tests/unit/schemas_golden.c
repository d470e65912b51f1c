/*
 * The format on the wire and on disk, held against bytes that were written once. When a change of format is meant, this writes
 * them anew: SLUICE_GOLDEN=write ctest -R unit-schemas-golden. What was stored or sent before must then still be read, so
 * golden bytes of the old format are kept beside the new ones, not replaced.
 */
#include "unit.h"

#include "base/mem.h"
#include "golden.h"
#include "schemas/errors.h"
#include "schemas_messages.h"
#include "schemas_records.h"

enum { ARENA_LIMIT = 1 << 20 };

static struct golden *messages, *before, *batches;
static size_t messages_n, before_n, batches_n;

static const struct {
    const char *name;
    enum batch_codec codec;
} codecs[] = {{"batch-none", BATCH_NONE}, {"batch-lz4", BATCH_LZ4}, {"batch-zstd", BATCH_ZSTD}};

/* The full sample of a kind, and its bytes. */
struct sample {
    union message message;
    struct see see;
    struct arena arena;
    struct codec_space space;
};

static struct view sample_make(struct sample *s, const struct kind *k)
{
    *s = (struct sample){0};
    arena_init(&s->arena, ARENA_LIMIT);
    s->see = (struct see){.mode = SEE_FULL, .arena = &s->arena};
    message_fill(k, &s->message, &s->see);
    s->space.cap = message_bound(k, &s->message);
    s->space.data = mem_alloc(s->space.cap);
    assert_int_equal(message_encode(k, &s->message, &s->space), E_OK);
    return view_of(s->space.data + s->space.at, s->space.size);
}

static void sample_free(struct sample *s)
{
    arena_free(&s->arena);
    buf_free(&s->see.out);
    mem_free(s->space.data);
}

static void write_messages(FILE *to)
{
    fprintf(
        to,
        "# A request of every verb, a reply of every body, a packet of every kind, with every field set.\n");
    for (size_t i = 0; i < kinds_n; i++) {
        struct sample s;
        golden_put(to, kinds[i].name, sample_make(&s, &kinds[i]));
        sample_free(&s);
    }
}

static void write_batches(FILE *to)
{
    fprintf(to, "# The same four records by each codec.\n");
    struct records r;
    records_init(&r);
    records_golden(&r);
    for (size_t i = 0; i < ARRAY_LEN(codecs); i++) {
        struct buf out = {0};
        golden_put(to, codecs[i].name, records_batch(&r, codecs[i].codec, &out));
        buf_free(&out);
    }
    records_free(&r);
}

static void write_file(const char *path, void (*fill)(FILE *))
{
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    fill(to);
    assert_int_equal(fclose(to), 0);
}

static const struct golden *find(const struct golden *all, size_t n, const char *name)
{
    const struct golden *g = golden_find(all, n, name);
    if (g == NULL)
        fail_msg("no golden bytes for %s", name);
    return g;
}

static void every_message_is_encoded_as_it_always_was(void **state)
{
    (void)state;
    for (size_t i = 0; i < kinds_n; i++) {
        const struct golden *g = find(messages, messages_n, kinds[i].name);
        struct sample s;
        if (!view_eq(sample_make(&s, &kinds[i]), view_of(g->bytes, g->size)))
            fail_msg("the bytes of %s have changed", kinds[i].name);
        sample_free(&s);
    }
}

static void every_message_of_old_is_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < kinds_n; i++) {
        const struct golden *g = find(messages, messages_n, kinds[i].name);
        struct sample s;
        struct see other = {0};
        struct arena a;
        struct err e = {0};
        union message m;
        sample_make(&s, &kinds[i]);
        arena_init(&a, ARENA_LIMIT);
        if (message_decode(&kinds[i], view_of(g->bytes, g->size), &m, &a, &e) != E_OK)
            fail_msg("%s: %s", kinds[i].name, e.text);
        message_write(&kinds[i], &s.message, &s.see);
        message_write(&kinds[i], &m, &other);
        if (!view_eq(buf_view(&s.see.out), buf_view(&other.out)))
            fail_msg("%s was:\n%s\nis:\n%s", kinds[i].name, buf_str(&s.see.out), buf_str(&other.out));
        buf_free(&other.out);
        arena_free(&a);
        sample_free(&s);
    }
}

/* Messages as they were with fewer fields: what they had is there, the rest has its default, and says so again when it is sent on. */
static void messages_of_the_contract_before_are_understood(void **state)
{
    (void)state;
    size_t met = 0;
    for (size_t i = 0; i < kinds_n; i++) {
        const struct golden *g = golden_find(before, before_n, kinds[i].name);
        if (g == NULL)
            continue;
        met++;
        struct arena a, b;
        struct err e = {0};
        union message m, again;
        struct see was = {.mode = SEE_WRITE}, is = {.mode = SEE_WRITE};
        arena_init(&a, ARENA_LIMIT);
        arena_init(&b, ARENA_LIMIT);
        if (message_decode(&kinds[i], view_of(g->bytes, g->size), &m, &a, &e) != E_OK)
            fail_msg("%s: %s", kinds[i].name, e.text);
        struct codec_space space = {.cap = message_bound(&kinds[i], &m)};
        space.data = mem_alloc(space.cap);
        assert_int_equal(message_encode(&kinds[i], &m, &space), E_OK);
        assert_int_equal(message_decode(&kinds[i], view_of(space.data + space.at, space.size), &again, &b, &e), E_OK);
        message_write(&kinds[i], &m, &was);
        message_write(&kinds[i], &again, &is);
        assert_string_equal(buf_str(&was.out), buf_str(&is.out));
        if (strcmp(kinds[i].name, "request-produce") == 0) {
            const struct wire_produce *p = &m.request.produce;
            assert_true(p->partition == 0x32000006 && p->count == 0x32000007 && p->batch_hash == 0x6400000000000008);
            assert_true(view_eq(p->batch, VIEW_LIT("batch-9")));
            assert_true(p->delay_ms == 0x640000000000000a && p->at_ms == 0 && p->cron.size == 0 && p->name.size == 0);
        }
        buf_free(&was.out);
        buf_free(&is.out);
        mem_free(space.data);
        arena_free(&a);
        arena_free(&b);
    }
    assert_int_equal(met, before_n);
}

static void a_batch_is_encoded_as_it_always_was(void **state)
{
    (void)state;
    const struct golden *g = find(batches, batches_n, "batch-none");
    struct records r;
    struct buf out = {0};
    records_init(&r);
    records_golden(&r);
    struct view batch = records_batch(&r, BATCH_NONE, &out);
    assert_true(view_eq(batch, view_of(g->bytes, g->size)));
    buf_free(&out);
    records_free(&r);
}

static void batches_of_old_are_read_whatever_their_codec(void **state)
{
    (void)state;
    struct records r;
    records_init(&r);
    records_golden(&r);
    for (size_t i = 0; i < ARRAY_LEN(codecs); i++) {
        const struct golden *g = find(batches, batches_n, codecs[i].name);
        struct batch_reader reader;
        assert_int_equal(batch_reader_open(&reader, view_of(g->bytes, g->size), NULL), E_OK);
        assert_int_equal(reader.c.codec, codecs[i].codec);
        assert_int_equal(reader.c.count, r.n);
        for (uint32_t at = 0; at < r.n; at++) {
            struct record back;
            assert_int_equal(batch_reader_get(&reader, at, &back, NULL), E_OK);
            assert_true(record_eq(&back, &r.record[at]));
        }
        batch_reader_close(&reader);
    }
    records_free(&r);
}

/* Keys find their partitions, and ids their duplicates, by these. */
static void the_hashes_are_those_they_always_were(void **state)
{
    (void)state;
    assert_int_equal(key_hash(VIEW_LIT("")), 0x2d06800538d394c2);
    assert_int_equal(key_hash(VIEW_LIT("photo-1")), 0xdcee7d824b80b3df);
    assert_int_equal(key_partition(0xdcee7d824b80b3df, 12), 7);
    struct id128 id = message_id_hash(VIEW_LIT("order-7"));
    assert_int_equal(id.lo, 0xf7ad37c0ce664fea);
    assert_int_equal(id.hi, 0x559a54927d0be7df);
    assert_int_equal(pub_channel_hash(VIEW_LIT("photos")), 0x691cc97d);

    /* Short records are hashed another way than long ones, to the same effect. */
    static const uint8_t bytes[2000] = {1, 2, 3};
    assert_int_equal(record_sum(0, 0, 0, NULL, NULL, NULL), 0x69c2a4f0);
    assert_int_equal(record_sum(4, 5, 12, bytes, bytes + 3, bytes + 8), 0xd348f498);
    assert_int_equal(record_sum(4, 5, 1991, bytes, bytes + 3, bytes + 8), 0x59e3c460);
}

static int load(void **state)
{
    (void)state;
    const char *wish = getenv("SLUICE_GOLDEN");
    if (wish != NULL && strcmp(wish, "write") == 0) {
        write_file(GOLDEN_DIR "/messages.hex", write_messages);
        write_file(GOLDEN_DIR "/batches.hex", write_batches);
    }
    messages = golden_load(GOLDEN_DIR "/messages.hex", &messages_n);
    before = golden_load(GOLDEN_DIR "/messages-1.hex", &before_n);
    batches = golden_load(GOLDEN_DIR "/batches.hex", &batches_n);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    golden_free(messages, messages_n);
    golden_free(before, before_n);
    golden_free(batches, batches_n);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_is_encoded_as_it_always_was),
        cmocka_unit_test(every_message_of_old_is_understood),
        cmocka_unit_test(messages_of_the_contract_before_are_understood),
        cmocka_unit_test(a_batch_is_encoded_as_it_always_was),
        cmocka_unit_test(batches_of_old_are_read_whatever_their_codec),
        cmocka_unit_test(the_hashes_are_those_they_always_were),
    };
    return cmocka_run_group_tests(tests, load, unload);
}

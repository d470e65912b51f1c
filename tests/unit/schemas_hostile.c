/*
 * Bytes that nobody wrote who means well. Whatever they are, decoding refuses them or gives a struct every view of which can be
 * read; memory stays within the arena's limit.
 */
#include "unit.h"

#include "base/mem.h"
#include "golden.h"
#include "schemas/errors.h"
#include "schemas_messages.h"
#include "schemas_records.h"

enum { ARENA_LIMIT = 1 << 20, DAMAGES = 20000, DAMAGE_MAX = 4 };

static struct golden *messages, *batches;
static size_t messages_n, batches_n;

static const struct kind *kind_of(const struct golden *g)
{
    for (size_t i = 0; i < kinds_n; i++) {
        if (strcmp(kinds[i].name, g->name) == 0)
            return &kinds[i];
    }
    fail_msg("no kind %s", g->name);
    return NULL;
}

/* Decodes, and if that succeeds reads all there is. */
static int try_message(const struct kind *k, struct view bytes, struct buf *out, struct err *e)
{
    union message m;
    struct arena a;
    arena_init(&a, ARENA_LIMIT);
    int rc = message_decode(k, bytes, &m, &a, e);
    if (rc == E_OK) {
        struct see v = {.out = *out};
        message_write(k, &m, &v);
        *out = v.out;
    }
    assert_true(a.used <= ARENA_LIMIT);
    arena_free(&a);
    return rc;
}

static int try_batch(struct view bytes, struct buf *out, struct err *e)
{
    struct batch_reader r;
    int rc = batch_reader_open(&r, bytes, e);
    if (rc != E_OK)
        return rc;
    buf_clear(out);
    struct see v = {.mode = SEE_WRITE, .out = *out};
    see_columns(&v, &r.c);
    for (uint32_t i = 0; i < r.c.count; i++) {
        struct record record;
        if (batch_reader_get(&r, i, &record, NULL) != E_OK)
            continue;
        buf_append(&v.out, record.key.data, record.key.size);
        buf_append(&v.out, record.headers.data, record.headers.size);
        buf_append(&v.out, record.value.data, record.value.size);
    }
    *out = v.out;
    batch_reader_close(&r);
    return E_OK;
}

/* A copy in memory of its own, so that a read past its end is seen. */
static struct view copy(const struct golden *g, size_t size)
{
    return view_of(mem_dup(g->bytes, size), size);
}

static void damage(struct rng *rng, struct view bytes)
{
    for (uint64_t n = rng_between(rng, 1, DAMAGE_MAX); n > 0; n--)
        ((uint8_t *)bytes.data)[rng_below(rng, bytes.size)] = (uint8_t)rng_next(rng);
}

static void no_cut_message_reads_beyond_its_end(void **state)
{
    (void)state;
    struct buf out = {0};
    for (size_t i = 0; i < messages_n; i++) {
        for (size_t size = 0; size < messages[i].size; size++) {
            struct view bytes = copy(&messages[i], size);
            try_message(kind_of(&messages[i]), bytes, &out, NULL);
            mem_free((void *)bytes.data);
        }
    }
    buf_free(&out);
}

static void no_damaged_message_is_more_than_refused(void **state)
{
    (void)state;
    struct buf out = {0};
    struct rng rng;
    rng_seed(&rng, 1);
    for (size_t i = 0; i < messages_n; i++) {
        struct view bytes = copy(&messages[i], messages[i].size);
        for (int n = 0; n < DAMAGES; n++) {
            memcpy((void *)bytes.data, messages[i].bytes, bytes.size);
            damage(&rng, bytes);
            int rc = try_message(kind_of(&messages[i]), bytes, &out, NULL);
            assert_true(rc == E_OK || rc == E_BAD_FRAME || rc == E_TOO_LARGE);
        }
        mem_free((void *)bytes.data);
    }
    buf_free(&out);
}

static void no_cut_batch_is_opened(void **state)
{
    (void)state;
    struct buf out = {0};
    for (size_t i = 0; i < batches_n; i++) {
        for (size_t size = 0; size < batches[i].size; size++) {
            struct view bytes = copy(&batches[i], size);
            try_batch(bytes, &out, NULL);
            mem_free((void *)bytes.data);
        }
    }
    buf_free(&out);
}

static void no_damaged_batch_is_more_than_refused(void **state)
{
    (void)state;
    struct buf out = {0};
    struct rng rng;
    rng_seed(&rng, 2);
    for (size_t i = 0; i < batches_n; i++) {
        struct view bytes = copy(&batches[i], batches[i].size);
        for (int n = 0; n < DAMAGES; n++) {
            memcpy((void *)bytes.data, batches[i].bytes, bytes.size);
            damage(&rng, bytes);
            int rc = try_batch(bytes, &out, NULL);
            assert_true(rc == E_OK || rc == E_DAMAGED);
        }
        mem_free((void *)bytes.data);
    }
    buf_free(&out);
}

static void noise_is_refused(void **state)
{
    (void)state;
    struct buf out = {0};
    struct rng rng;
    rng_seed(&rng, 3);
    for (int n = 0; n < DAMAGES; n++) {
        size_t size = rng_below(&rng, 400);
        uint8_t *bytes = mem_alloc(size);
        rng_fill(&rng, bytes, size);
        for (size_t i = 0; i < kinds_n; i += 13)
            try_message(&kinds[i], view_of(bytes, size), &out, NULL);
        assert_int_equal(try_batch(view_of(bytes, size), &out, NULL), E_DAMAGED);
        mem_free(bytes);
    }
    buf_free(&out);
}

/* ---- messages that hold together and still are wrong */

static struct view encode_request(const struct wire_request *r)
{
    size_t cap = codec_request_bound(r) + 16;
    struct codec_space s = {.data = mem_alloc(cap), .cap = cap};
    assert_int_equal(codec_request_encode(r, &s), E_OK);
    struct view bytes = view_of(mem_dup(s.data + s.at, s.size), s.size);
    mem_free(s.data);
    return bytes;
}

static struct view encode_reply(const struct wire_reply *r)
{
    size_t cap = codec_reply_bound(r);
    struct codec_space s = {.data = mem_alloc(cap), .cap = cap};
    assert_int_equal(codec_reply_encode(r, &s), E_OK);
    struct view bytes = view_of(mem_dup(s.data + s.at, s.size), s.size);
    mem_free(s.data);
    return bytes;
}

static void assert_request_refused(struct view bytes, const char *said)
{
    struct wire_request out;
    struct err e = {0};
    struct arena a;
    arena_init(&a, ARENA_LIMIT);
    assert_int_equal(codec_request_decode(bytes, &out, &a, &e), E_BAD_FRAME);
    assert_has(e.text, said);
    arena_free(&a);
    mem_free((void *)bytes.data);
}

static void assert_reply_refused(const struct wire_reply *r, const char *said)
{
    struct view bytes = encode_reply(r);
    struct wire_reply out;
    struct err e = {0};
    struct arena a;
    arena_init(&a, ARENA_LIMIT);
    assert_int_equal(codec_reply_decode(bytes, &out, &a, &e), E_BAD_FRAME);
    assert_has(e.text, said);
    arena_free(&a);
    mem_free((void *)bytes.data);
}

static void a_note_that_is_not_there_is_refused(void **state)
{
    (void)state;
    struct wire_settle_item item = {.note = 2};
    struct wire_note note = {.reason = VIEW_LIT("why")};
    struct wire_unit unit = {.items = &item, .items_n = 1};
    struct wire_settle single = {.singles = &item, .singles_n = 1, .notes = &note, .notes_n = 1};
    struct wire_settle units = {.units = &unit, .units_n = 1, .notes = &note, .notes_n = 1};
    assert_request_refused(encode_request(&(struct wire_request){.verb = VERB_SETTLE, .settle = single}),
                           "note");
    assert_request_refused(encode_request(&(struct wire_request){.verb = VERB_SETTLE, .settle = units}),
                           "note");
}

static void a_delivery_that_is_not_what_its_records_say_is_refused(void **state)
{
    (void)state;
    struct wire_record record = {.key_size = 4, .value_size = 3};
    struct wire_state_row row = {.index = 1};
    struct wire_delivery d = {.records = &record, .records_n = 1, .data = VIEW_LIT("keyv")};
    struct wire_reply r = {.body = BODY_RECEIVE, .receive = {.deliveries = &d, .deliveries_n = 1}};
    assert_reply_refused(&r, "as long as its records say");
    d.data = VIEW_LIT("keyval");
    assert_reply_refused(&r, "as long as its records say");
    record.headers_size = UINT32_MAX;
    record.key_size = UINT32_MAX;
    assert_reply_refused(&r, "as long as its records say");
    record = (struct wire_record){.key_size = 4, .value_size = 3};
    d.data = VIEW_LIT("keyva");
    d.state = &row;
    d.state_n = 1;
    assert_reply_refused(&r, "a state belongs to no record");
}

static void a_held_row_without_its_record_is_refused(void **state)
{
    (void)state;
    struct wire_held row = {.record = 0};
    struct wire_reply r = {.body = BODY_HELD, .held = {.rows = &row, .rows_n = 1}};
    assert_reply_refused(&r, "a row names a record");
}

static void a_request_of_a_type_not_known_is_refused_by_its_number(void **state)
{
    (void)state;
    struct view bytes = encode_request(&(struct wire_request){.verb = VERB_HEALTH, .lane = 1});
    bool found = false;
    for (size_t i = 0; i < bytes.size && !found; i++) {
        uint8_t *p = (uint8_t *)bytes.data + i;
        struct wire_request out;
        struct err e = {0};
        uint8_t was = *p;
        *p = 77;
        found = codec_request_decode(bytes, &out, NULL, &e) == E_BAD_FRAME &&
                strstr(e.text, "type 77 is not known");
        *p = was;
    }
    assert_true(found);
    mem_free((void *)bytes.data);
}

static void a_batch_that_is_not_16_aligned_is_refused(void **state)
{
    (void)state;
    /* Whatever points at the batch is made to point 8 bytes on, at bytes that look like a vector of 32. */
    uint8_t batch[64] = {0};
    put_u32(batch + 4, 32);
    struct view bytes = encode_request(
        &(struct wire_request){.verb = VERB_PRODUCE, .produce = {.batch = view_of(batch, sizeof batch)}});
    struct wire_request out;
    assert_int_equal(codec_request_decode(bytes, &out, NULL, NULL), E_OK);
    uint32_t vector = (uint32_t)(out.produce.batch.data - bytes.data) - 4;
    for (uint32_t at = 0; at + 4 <= bytes.size; at += 4) {
        if (at + get_u32(bytes.data + at) == vector)
            put_u32((uint8_t *)bytes.data + at, vector + 8 - at);
    }
    assert_request_refused(bytes, "batch: not aligned to 16 bytes");
}

/* What eight produces point at instead of their own batches: the longest. */
static void a_batch_that_several_produces_share_is_refused(void **state)
{
    (void)state;
    enum { PRODUCES = 8 };
    static uint8_t big[4096];
    memset(big, 'b', sizeof big);
    struct wire_produce produce[PRODUCES];
    for (size_t i = 0; i < PRODUCES; i++)
        produce[i] = (struct wire_produce){.batch = VIEW_LIT("small")};
    produce[PRODUCES - 1].batch = view_of(big, sizeof big);
    struct wire_unit unit = {.produces = produce, .produces_n = PRODUCES};
    struct view bytes =
        encode_request(&(struct wire_request){.verb = VERB_SETTLE, .settle = {.units = &unit, .units_n = 1}});

    struct wire_request out;
    struct arena a;
    arena_init(&a, ARENA_LIMIT);
    assert_int_equal(codec_request_decode(bytes, &out, &a, NULL), E_OK);
    uint32_t vector[PRODUCES]; /* where the vectors begin, with their counts */
    for (size_t i = 0; i < PRODUCES; i++)
        vector[i] = (uint32_t)(out.settle.units[0].produces[i].batch.data - bytes.data) - 4;
    arena_free(&a);
    for (size_t i = 0; i < PRODUCES - 1; i++) {
        for (uint32_t at = 0; at + 4 <= bytes.size; at += 4) {
            if (at + get_u32(bytes.data + at) == vector[i])
                put_u32((uint8_t *)bytes.data + at, vector[PRODUCES - 1] - at);
        }
    }
    assert_request_refused(bytes, "batch: shares bytes with another field");
}

static int load(void **state)
{
    (void)state;
    messages = golden_load(GOLDEN_DIR "/messages.hex", &messages_n);
    batches = golden_load(GOLDEN_DIR "/batches.hex", &batches_n);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    golden_free(messages, messages_n);
    golden_free(batches, batches_n);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_cut_message_reads_beyond_its_end),
        cmocka_unit_test(no_damaged_message_is_more_than_refused),
        cmocka_unit_test(no_cut_batch_is_opened),
        cmocka_unit_test(no_damaged_batch_is_more_than_refused),
        cmocka_unit_test(noise_is_refused),
        cmocka_unit_test(a_note_that_is_not_there_is_refused),
        cmocka_unit_test(a_delivery_that_is_not_what_its_records_say_is_refused),
        cmocka_unit_test(a_held_row_without_its_record_is_refused),
        cmocka_unit_test(a_request_of_a_type_not_known_is_refused_by_its_number),
        cmocka_unit_test(a_batch_that_is_not_16_aligned_is_refused),
        cmocka_unit_test(a_batch_that_several_produces_share_is_refused),
    };
    return cmocka_run_group_tests(tests, load, unload);
}

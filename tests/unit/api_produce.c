#include "unit.h"

#include "api/api.h"
#include "schemas/errors.h"
#include "schemas/records.h"

/* ---- an api that knows partition id 5, index 1 of `count`, messages of at most 100 bytes */

enum { PARTITION = 5, INDEX = 1, MESSAGE_MAX = 100 };

static unsigned submitted, refused;

static int keep(void *ctx, struct op *op)
{
    (void)ctx;
    (void)op;
    submitted++;
    return E_OK;
}

static void finish(struct op *op)
{
    (void)op;
    refused++;
}

static struct api *open_api(uint32_t count)
{
    const struct api_options o = {
        .limits = &engine_limits_default, .message_bytes_max = 1 << 20, .port = {keep, NULL}};
    struct api *api = api_new(&o);
    api_partition_set(api, PARTITION, INDEX < count ? INDEX : 0, count);
    return api;
}

/* A key that belongs to partition `index` of `count`. */
static void key_for(uint32_t index, uint32_t count, char key[16])
{
    for (unsigned i = 0;; i++) {
        int n = snprintf(key, 16, "key-%u", i);
        if (key_partition(key_hash(view_of(key, (size_t)n)), count) == index)
            return;
    }
}

struct batch {
    struct batch_builder *builder;
    struct buf bytes;
    struct wire_produce w;
};

static void batch_begin(struct batch *b)
{
    *b = (struct batch){.builder = batch_builder_new()};
}

static void batch_add(struct batch *b, const char *key, size_t value_size)
{
    static const uint8_t zeros[4096];
    const struct record r = {.key = view_of_str(key), .value = view_of(zeros, value_size), .timestamp_ms = 1};
    struct err e;
    assert_int_equal(batch_builder_add(b->builder, &r, &e), E_OK);
    b->w.count++;
}

static void batch_end(struct batch *b)
{
    struct err e;
    assert_int_equal(batch_builder_finish(b->builder, BATCH_LZ4, &b->bytes, &b->w.batch_hash, &e), E_OK);
    b->w.batch = buf_view(&b->bytes);
    b->w.partition = PARTITION;
}

static void batch_free(struct batch *b)
{
    batch_builder_free(b->builder);
    buf_free(&b->bytes);
}

static char text[ERR_TEXT_MAX];
static struct op_batch found;

static int produce(struct api *api, const struct wire_produce *w)
{
    struct op op = {
        .done = finish,
        .pipe = 1,
        .request = {.session = {1, 1}, .verb = VERB_PRODUCE, .lane = w->partition, .seq = 1, .produce = *w}};
    unsigned before = submitted;
    api_op_begin(&op);
    api_submit(api, &op);
    snprintf(text, sizeof text, "%s", op.error.text);
    found = op.batch;
    int code = submitted > before ? E_OK : op.reply.code;
    api_op_end(&op);
    return code;
}

/* ---- */

static void a_whole_batch_goes_through_with_its_count(void **state)
{
    (void)state;
    struct api *api = open_api(1);
    struct batch b;
    batch_begin(&b);
    for (int i = 0; i < 10; i++)
        batch_add(&b, i % 2 == 0 ? "k" : NULL, 10);
    batch_end(&b);
    assert_int_equal(produce(api, &b.w), E_OK);
    assert_int_equal(found.last_delta, 9);
    batch_free(&b);
    api_free(api);
}

/* For topics that are compacted, which the engine knows. */
static void the_first_record_without_a_key_is_found(void **state)
{
    (void)state;
    struct api *api = open_api(1);
    for (uint32_t at = 0; at <= 10; at++) {
        struct batch b;
        batch_begin(&b);
        for (uint32_t i = 0; i < 10; i++)
            batch_add(&b, i == at || (at < 10 && i == 9) ? NULL : "k", 10);
        batch_end(&b);
        assert_int_equal(produce(api, &b.w), E_OK);
        assert_int_equal(found.keyless, at < 10 ? at + 1 : 0);
        batch_free(&b);
    }
    struct batch none;
    batch_begin(&none);
    batch_add(&none, NULL, 10);
    batch_end(&none);
    assert_int_equal(produce(api, &none.w), E_OK);
    assert_int_equal(found.keyless, 1);
    batch_free(&none);
    api_free(api);
}

static void an_unknown_partition_is_named(void **state)
{
    (void)state;
    struct api *api = open_api(1);
    struct batch b;
    batch_begin(&b);
    batch_add(&b, NULL, 1);
    batch_end(&b);
    b.w.partition = 77;
    assert_int_equal(produce(api, &b.w), E_PARTITION_NOT_FOUND);
    assert_has(text, "77");
    b.w.partition = UINT32_MAX;
    assert_int_equal(produce(api, &b.w), E_PARTITION_NOT_FOUND);
    b.w.partition = PARTITION;
    assert_int_equal(produce(api, &b.w), E_OK);
    api_partition_gone(api, PARTITION); /* that went with its topic, as partitions do */
    assert_int_equal(produce(api, &b.w), E_TOPIC_DELETED);
    assert_has(text, "5");
    batch_free(&b);
    api_free(api);
}

static void the_first_key_of_another_partition_is_found(void **state)
{
    (void)state;
    const uint32_t counts[] = {2, 3, 4, 7, 64, 1000};
    for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
        struct api *api = open_api(counts[c]);
        char ours[16], theirs[16];
        key_for(INDEX, counts[c], ours);
        key_for(0, counts[c], theirs);
        struct batch b;
        batch_begin(&b);
        batch_add(&b, NULL, 1);
        batch_add(&b, ours, 1);
        batch_end(&b);
        assert_int_equal(produce(api, &b.w), E_OK);
        assert_true(found.partitions == counts[c] && found.misfit == 0);
        batch_free(&b);

        batch_begin(&b);
        batch_add(&b, NULL, 1);
        batch_add(&b, ours, 1);
        batch_add(&b, theirs, 1);
        batch_end(&b);
        assert_int_equal(produce(api, &b.w), E_OK);
        assert_true(found.partitions == counts[c] && found.misfit == 3);
        batch_free(&b);
        api_free(api);
    }
}

static void records_without_a_key_may_go_anywhere(void **state)
{
    (void)state;
    struct api *api = open_api(7);
    struct batch b;
    batch_begin(&b);
    for (int i = 0; i < 100; i++)
        batch_add(&b, NULL, 5);
    batch_end(&b);
    assert_int_equal(produce(api, &b.w), E_OK);
    batch_free(&b);
    api_free(api);
}

static void the_engine_is_told_of_the_largest_message_what_it_has_and_which_it_is(void **state)
{
    (void)state;
    struct api *api = open_api(1);
    struct batch b;
    batch_begin(&b);
    batch_add(&b, "0123456789", MESSAGE_MAX - 10);
    batch_add(&b, NULL, MESSAGE_MAX);
    batch_end(&b);
    assert_int_equal(produce(api, &b.w), E_OK);
    assert_true(found.largest == MESSAGE_MAX && found.largest_at == 0);
    batch_free(&b);

    batch_begin(&b);
    batch_add(&b, NULL, 1);
    batch_add(&b, "0123456789", MESSAGE_MAX - 9);
    batch_end(&b);
    assert_int_equal(produce(api, &b.w), E_OK);
    assert_true(found.largest == MESSAGE_MAX + 1 && found.largest_at == 1);
    batch_free(&b);
    api_free(api);
}

static void a_batch_that_is_not_what_was_hashed_is_refused(void **state)
{
    (void)state;
    struct api *api = open_api(1);
    struct batch b;
    batch_begin(&b);
    batch_add(&b, "k", 50);
    batch_end(&b);
    for (size_t i = 0; i < b.bytes.size; i++) {
        b.bytes.data[i] ^= 0x10;
        assert_int_equal(produce(api, &b.w), E_INVALID_ARGUMENT);
        assert_has(text, "batch_hash");
        b.bytes.data[i] ^= 0x10;
    }
    assert_int_equal(produce(api, &b.w), E_OK);
    batch_free(&b);
    api_free(api);
}

static void damage_with_a_recomputed_hash_never_gets_past_the_structure(void **state)
{
    (void)state;
    struct api *api = open_api(1);
    struct batch b;
    batch_begin(&b);
    for (int i = 0; i < 5; i++)
        batch_add(&b, "k", 50);
    batch_end(&b);
    for (size_t i = 0; i < b.bytes.size; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            b.bytes.data[i] ^= (uint8_t)(1u << bit);
            b.w.batch_hash = batch_hash(b.w.batch);
            int code = produce(api, &b.w); /* either it is still a batch, or it is refused; nothing else */
            assert_true(code == E_OK || code == E_INVALID_ARGUMENT || code == E_TOO_LARGE);
            b.bytes.data[i] ^= (uint8_t)(1u << bit);
        }
    }
    batch_free(&b);
    api_free(api);
}

static void count_and_lane_must_fit(void **state)
{
    (void)state;
    struct api *api = open_api(1);
    struct batch b;
    batch_begin(&b);
    batch_add(&b, NULL, 1);
    batch_end(&b);
    b.w.count = 2;
    assert_int_equal(produce(api, &b.w), E_INVALID_ARGUMENT);
    assert_has(text, "produce.count");
    b.w.count = 1;
    struct op op = {.done = finish, .request = {.verb = VERB_PRODUCE, .lane = 0, .seq = 1, .produce = b.w}};
    api_submit(api, &op);
    assert_int_equal(op.reply.code, E_INVALID_ARGUMENT);
    assert_has(op.error.text, "lane");
    batch_free(&b);
    api_free(api);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_batch_goes_through_with_its_count),
        cmocka_unit_test(the_first_record_without_a_key_is_found),
        cmocka_unit_test(an_unknown_partition_is_named),
        cmocka_unit_test(the_first_key_of_another_partition_is_found),
        cmocka_unit_test(records_without_a_key_may_go_anywhere),
        cmocka_unit_test(the_engine_is_told_of_the_largest_message_what_it_has_and_which_it_is),
        cmocka_unit_test(a_batch_that_is_not_what_was_hashed_is_refused),
        cmocka_unit_test(damage_with_a_recomputed_hash_never_gets_past_the_structure),
        cmocka_unit_test(count_and_lane_must_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

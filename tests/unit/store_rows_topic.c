/* Rows of topics and groups, of sessions, and of what a group has done. */
#include "store_rows_kit.h"

#include "base/rng.h"

/* ---------------------------------------------------------------- what holds for every row */

static void a_topic_comes_back_with_its_partitions_in_order(void **state)
{
    (void)state;
    for (int x = 0; x < 2; x++) {
        struct topic_row a, b_;
        struct buf b = {0};
        topics(x, &a);
        topic_row_put(&b, &a);
        assert_ok(topic_row_get(buf_view(&b), &b_, &err));
        VEQ(name);
        EQ(created_ms);
        EQ(config.partitions);
        EQ(config.retention_ms);
        EQ(config.retention_bytes);
        EQ(config.hard_cap_ms);
        EQ(config.durability);
        EQ(config.compacted);
        EQ(config.message_bytes_max);
        EQ(config.backlog_bytes_max);
        EQ(config.backlog_age_max_ms);
        EQ(config.dedup_ms);
        EQ(config.ttl_ms);
        EQ(log_class);
        for (uint32_t i = 0; i < a.config.partitions; i++)
            assert_int_equal(topic_row_partition(&b_, i), three_ids[i]);
        buf_free(&b);
    }
}

static void a_topic_of_no_known_log_class_is_refused(void **state)
{
    (void)state;
    for (int class = 0; class < 256; class ++) {
        struct topic_row r = {.log_class = (uint8_t) class}, back;
        struct buf b = {0};
        topic_row_put(&b, &r);
        assert_int_equal(topic_row_get(buf_view(&b), &back, NULL),
                         class < LOG_CLASS_COUNT ? E_OK : E_DAMAGED);
        buf_free(&b);
    }
}

static void a_group_comes_back(void **state)
{
    (void)state;
    for (int x = 0; x < 2; x++) {
        struct group_row a, b_;
        struct buf b = {0};
        groups(x, &a);
        group_row_put(&b, &a);
        assert_ok(group_row_get(buf_view(&b), &b_, &err));
        VEQ(name);
        EQ(topic);
        EQ(created_ms);
        EQ(config.mode);
        EQ(config.order);
        EQ(config.park);
        EQ(config.from);
        EQ(config.lease_ms);
        EQ(config.max_deliveries);
        EQ(config.backoff_min_ms);
        EQ(config.backoff_max_ms);
        EQ(config.run_max);
        EQ(config.in_flight_max);
        EQ(config.expired);
        EQ(config.rate_milli);
        EQ(config.key_rate_milli);
        EQ(config.key_in_flight_max);
        EQ(config.idle_expiry_ms);
        EQ(paused);
        EQ(used_ms);
        buf_free(&b);
    }
}

/* A broker that has nothing away writes what an older one reads. */
static void a_cursor_without_anything_away_keeps_its_first_format(void **state)
{
    (void)state;
    struct buf b = {0};
    cursor_row_put(&b, &(struct cursor_row){.floor = 1, .cursor = 2, .ready_low = 3, .parked = 4});
    assert_int_equal(b.data[0], 1);
    buf_clear(&b);
    cursor_row_put(&b, &(struct cursor_row){.floor = 1, .away = {.swept = 1}});
    assert_int_equal(b.data[0], 2);
    buf_free(&b);
}

/* ---------------------------------------------------------------- lanes */

static void a_lane_comes_back_with_its_results(void **state)
{
    (void)state;
    struct buf b = {0};
    struct lane_row r;
    lane_row_put(&b, MAX64, MAX64 - 1, results, ARRAY_LEN(results));
    assert_ok(lane_row_get(buf_view(&b), &r, &err));
    assert_true(r.base == MAX64 && r.done == MAX64 - 1 && r.results_n == ARRAY_LEN(results));
    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        struct result a = results[i], b_;
        bool bad;
        assert_true(lane_row_next(&r.results_raw, &b_, &bad));
        EQ(seq);
        EQ(turn);
        EQ(level);
        EQ(verb);
        VEQ(body);
    }
    bool bad;
    struct result none;
    assert_false(lane_row_next(&r.results_raw, &none, &bad));
    assert_false(bad);
    buf_free(&b);
}

/* ---------------------------------------------------------------- done chunks */

static void assert_done(const uint8_t bits[DONE_CHUNK_BYTES], size_t size_max)
{
    struct buf b = {0};
    uint8_t back[DONE_CHUNK_BYTES];
    done_row_put(&b, bits);
    assert_in_range(b.size, 0, size_max);
    memset(back, 0x5a, sizeof back);
    assert_ok(done_row_get(buf_view(&b), back, &err));
    assert_memory_equal(bits, back, sizeof back);
    buf_free(&b);
}

static void a_done_chunk_is_as_short_as_what_is_not_obvious(void **state)
{
    (void)state;
    uint8_t bits[DONE_CHUNK_BYTES] = {0};
    assert_done(bits, 8); /* nothing */
    memset(bits, 0xff, sizeof bits);
    assert_done(bits, 8); /* everything */
    memset(bits + 300, 0, sizeof bits - 300);
    assert_done(bits, 8); /* a prefix */
    bits[300] = 0x0f;
    bits[302] = 0x01;
    assert_done(bits, 11); /* and a little ragged edge */
    memset(bits, 0x55, sizeof bits);
    assert_done(bits, DONE_CHUNK_BYTES + 8);
    bits[DONE_CHUNK_BYTES - 1] = 0;
    bits[0] = 0xff;
    assert_done(bits, DONE_CHUNK_BYTES + 8);
    memset(bits, 0, sizeof bits);
    bits[DONE_CHUNK_BYTES - 1] = 0x80;
    assert_done(bits, DONE_CHUNK_BYTES + 8);
}

static void any_done_chunk_comes_back(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 5);
    for (int i = 0; i < 3000; i++) {
        uint8_t bits[DONE_CHUNK_BYTES] = {0};
        uint64_t ones = rng_below(&r, DONE_CHUNK_BYTES + 1),
                 random = rng_below(&r, DONE_CHUNK_BYTES + 1 - ones);
        memset(bits, 0xff, ones);
        rng_fill(&r, bits + ones, random);
        assert_done(bits, DONE_CHUNK_BYTES + 8);
    }
}

/* A bit that changed would be a message delivered twice, or never. */
static void a_done_chunk_with_any_bit_changed_is_refused(void **state)
{
    (void)state;
    uint8_t bits[DONE_CHUNK_BYTES] = {0}, back[DONE_CHUNK_BYTES];
    memset(bits, 0xff, 100);
    bits[101] = 0x3c;
    struct buf b = {0};
    done_row_put(&b, bits);
    for (size_t i = 0; i < 8 * b.size; i++) {
        b.data[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_not_equal(done_row_get(buf_view(&b), back, NULL), E_OK);
        b.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_ok(done_row_get(buf_view(&b), back, &err));
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_topic_comes_back_with_its_partitions_in_order),
        cmocka_unit_test(a_topic_of_no_known_log_class_is_refused),
        cmocka_unit_test(a_group_comes_back),
        cmocka_unit_test(a_cursor_without_anything_away_keeps_its_first_format),
        cmocka_unit_test(a_lane_comes_back_with_its_results),
        cmocka_unit_test(a_done_chunk_is_as_short_as_what_is_not_obvious),
        cmocka_unit_test(any_done_chunk_comes_back),
        cmocka_unit_test(a_done_chunk_with_any_bit_changed_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

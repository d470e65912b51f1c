/* Lag: how far a group is behind, and whether it will catch up. */
#include "engine_kit.h"

static void lag_counts_what_is_not_done_wherever_it_is(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 2), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a a b c");
    kit_produce(k, p + 1, "d");
    assert_int_equal(kit_lag(k, "t", "g").lag_messages, 5);
    kit_receive(k, A, g, 3);
    kit_receive(k, A, g, 3);
    struct wire_lag lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.lag_messages, 5);
    assert_int_equal(lag.in_flight, 4);
    assert_int_equal(lag.scale_value, 5);
    kit_ack(k, A, g, "3");
    kit_settle_delay(k, A, g, SETTLE_NACK, "2", 60000);
    kit_settle(k, A, g, SETTLE_PARK, "1/0");
    lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.lag_messages, 3); /* 0 leased, 1 behind it, 2 delayed */
    assert_int_equal(lag.in_flight, 1);
    assert_int_equal(lag.delayed, 1);
    assert_int_equal(lag.parked, 1);
    assert_int_equal(lag.scale_value, 2); /* what is delayed or parked needs no worker */
    kit_free(k);
}

static void a_group_that_is_through_has_no_lag_and_no_age(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b");
    kit_receive(k, A, g, 2);
    kit_ack(k, A, g, "0 1");
    kit_pass(k, 3600000);
    struct wire_lag lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.lag_messages, 0);
    assert_int_equal(lag.lag_bytes, 0);
    assert_int_equal(lag.oldest_age_ms, 0);
    assert_int_equal(lag.drain_eta_ms, 0);
    assert_int_equal(lag.status, LAG_OK);
    kit_free(k);
}

static void the_age_is_that_of_the_oldest_message_that_is_not_done(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a");
    kit_pass(k, 10000);
    kit_produce(k, p, "b");
    kit_receive(k, A, g, 2);
    kit_pass(k, 5000);
    assert_in_range(kit_lag(k, "t", "g").oldest_age_ms, 15000, 15100);
    kit_ack(k, A, g, "0");
    assert_in_range(kit_lag(k, "t", "g").oldest_age_ms, 5000, 5100);
    kit_free(k);
}

static void nothing_acked_for_a_minute_is_a_stall_and_slow_is_a_warning(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b c");
    assert_int_equal(kit_lag(k, "t", "g").status, LAG_OK);
    kit_pass(k, 61000);
    struct wire_lag lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.status, LAG_STALL);
    assert_true(lag.drain_eta_ms == UINT64_MAX);
    kit_receive(k, A, g, 1);
    kit_ack(k, A, g, "0");
    lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.status, LAG_WARN);
    assert_int_equal(lag.ack_rate_milli, 16); /* one in a minute */
    assert_in_range(lag.drain_eta_ms, 110000, 130000); /* two more */
    kit_free(k);
}

static void the_rate_is_that_of_the_last_minute(void **state)
{
    (void)state;
    struct rate r = {0};
    for (uint64_t s = 0; s < 60; s++)
        rate_count(&r, 5000 + 1000 * s, 30);
    assert_int_equal(rate_milli(&r, 64999), 30000);
    assert_int_equal(rate_milli(&r, 64999 + 30000), 15000);
    assert_int_equal(rate_milli(&r, 64999 + 60000), 0);
    rate_count(&r, UINT64_C(1) << 50, 60);
    assert_int_equal(rate_milli(&r, UINT64_C(1) << 50), 1000);
    struct rate young = {0};
    rate_count(&young, 0, 60);
    assert_int_equal(rate_milli(&young, 0), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lag_counts_what_is_not_done_wherever_it_is),
        cmocka_unit_test(a_group_that_is_through_has_no_lag_and_no_age),
        cmocka_unit_test(the_age_is_that_of_the_oldest_message_that_is_not_done),
        cmocka_unit_test(nothing_acked_for_a_minute_is_a_stall_and_slow_is_a_warning),
        cmocka_unit_test(the_rate_is_that_of_the_last_minute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Which key goes first, and what goes nowhere because its time passed. */
#include "engine_kit.h"

/* As if many were wanted: what is produced from now on is read ahead. */
static void want_many(struct kit_world w) { ((struct group *)map_get(&w.k->engine->groups, w.g))->demand = 100; }

static void produce(struct kit_world w, uint8_t priority, const char *keys)
{
    w.k->message_priority = priority;
    kit_produce(w.k, w.p, keys);
    w.k->message_priority = 0;
}

static void produce_ttl(struct kit_world w, uint32_t ttl_ms, const char *keys)
{
    w.k->message_ttl_ms = ttl_ms;
    kit_produce(w.k, w.p, keys);
    w.k->message_ttl_ms = 0;
}

/* ---------------------------------------------------------------- priority */

static void of_what_is_ready_the_highest_priority_goes_first_and_equals_in_order(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    produce(w, 0, "a -");
    produce(w, 9, "- b");
    produce(w, 3, "c");
    produce(w, 9, "-");
    struct call *c = kit_receive_wait(w.k, A, 0, w.g, 10, 1000);
    assert_string_equal(kit_deliveries(w.k, &kit_reply(c)->receive), "2 3 5 4 0 1");
    kit_free(w.k);
}

static void a_priority_never_passes_an_older_message_of_its_key(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    produce(w, 0, "a b");
    produce(w, 9, "a");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 1");
    kit_ack(w.k, A, w.g, "0 1");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "2");
    kit_free(w.k);
}

static void what_waits_long_enough_goes_before_what_is_more_urgent(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    w.k->limits.priority_age_ms = 1000;
    want_many(w);
    produce(w, 2, "-");
    produce(w, 0, "- -");
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "0"); /* 1 and 2 are ready from here on */
    want_many(w);
    kit_pass(w.k, 1500);
    produce(w, 2, "-");
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "3"); /* 1.5 against 2 */
    kit_pass(w.k, 1000);
    kit_settle(w.k, A, w.g, SETTLE_RELEASE, "3");
    assert_string_equal(kit_receive(w.k, A, w.g, 3), "1 2 3"); /* 2.5 against 2 */
    kit_free(w.k);
}

static void a_priority_goes_with_a_message_into_lists_rows_and_leases(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.lease_ms = 60000});
    produce(w, 1, "a b c");
    produce(w, 7, "a"); /* in a list */
    produce(w, 8, "d e");
    assert_string_equal(kit_receive(w.k, A, w.g, 5), "4 5 0 1 2");
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "4", 1000); /* a row */
    kit_settle(w.k, A, w.g, SETTLE_PARK, "5");
    kit_ack(w.k, A, w.g, "0");
    kit_restart(w.k);
    kit_settle(w.k, A, w.g, SETTLE_RELEASE, "2 1"); /* from leases that were rows */
    kit_redrive(w.k, w.g, w.p, 5);
    kit_pass(w.k, 1000);
    want_many(w);
    produce(w, 0, "- x");
    struct call *c = kit_receive_wait(w.k, A, 0, w.g, 10, 0);
    assert_string_equal(kit_deliveries(w.k, &kit_reply(c)->receive), "5 4 3 2 1 6 7");
    kit_free(w.k);
}

/* The lowest ready message of any priority says where a restart begins to look. */
static void nothing_ready_is_lost_over_a_restart_whatever_its_priority(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    produce(w, 5, "-");
    produce(w, 0, "-");
    produce(w, 5, "- -");
    produce(w, 9, "-");
    assert_string_equal(kit_receive(w.k, A, w.g, 3), "4 0 2");
    kit_ack(w.k, A, w.g, "4 0 2");
    kit_restart(w.k);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "3 1");
    kit_ack(w.k, A, w.g, "3 1");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 5");
    kit_free(w.k);
}

static void partitions_take_turns_within_a_priority(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 2), g = kit_group(k, "t", "g", NULL);
    want_many((struct kit_world){k, p, g});
    for (int i = 0; i < 2; i++) {
        k->message_priority = (uint8_t)(4 * i);
        kit_produce(k, p, "- -");
        kit_produce(k, p + 1, "- -");
    }
    assert_string_equal(kit_receive(k, A, g, 1), "2");
    assert_string_equal(kit_receive(k, A, g, 1), "1/2");
    assert_string_equal(kit_receive(k, A, g, 3), "3 1/3 1/0");
    assert_string_equal(kit_receive(k, A, g, 3), "0 1 1/1");
    kit_free(k);
}

/* ---------------------------------------------------------------- time to live */

static void a_message_whose_time_passed_is_not_delivered(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    produce_ttl(w, 1000, "a b -");
    produce_ttl(w, 2000, "a");
    kit_produce(w.k, w.p, "b");
    kit_receive(w.k, A, w.g, 1);
    kit_settle(w.k, A, w.g, SETTLE_RELEASE, "0");
    kit_pass(w.k, 1000);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "3 4");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 3 leased 2");
    assert_int_equal(engine_counters(w.k->engine)->expired_messages, 3);
    kit_free(w.k);
}

static void a_topic_says_how_long_messages_live_that_do_not_say_it_themselves(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 1, .ttl_ms = 1000}), g = kit_group(k, "t", "g", NULL);
    struct kit_world w = {k, p, g};
    kit_produce(k, p, "-");
    produce_ttl(w, 5000, "-");
    kit_pass(k, 1000);
    assert_string_equal(kit_receive(k, A, g, 10), "1");
    kit_free(k);
}

static void a_message_that_is_held_when_its_time_passes_can_still_be_settled(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.lease_ms = 60000});
    produce_ttl(w, 1000, "a b");
    kit_receive(w.k, A, w.g, 2);
    kit_pass(w.k, 5000);
    assert_string_equal(kit_ack(w.k, A, w.g, "0"), "");
    kit_restart(w.k); /* the lease's row says it too */
    kit_settle(w.k, A, w.g, SETTLE_RELEASE, "1");
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 2");
    kit_free(w.k);
}

static void a_group_may_park_what_its_time_passed_and_a_redrive_delivers_it(void **state)
{
    (void)state;
    for (int key = 0; key < 2; key++) {
        struct kit_world w = kit_world((struct wire_group_config){.expired = EXPIRED_PARK, .park = key ? PARK_KEY : PARK_MESSAGE});
        produce_ttl(w, 1000, "a");
        kit_produce(w.k, w.p, "a");
        kit_pass(w.k, 1000);
        assert_string_equal(kit_receive(w.k, A, w.g, 10), key ? "" : "1");
        assert_string_equal(kit_held(w.k, "t", "g", HELD_PARKED), "0 parked(expired)");
        kit_restart(w.k);
        kit_pass(w.k, 3600000);
        kit_redrive(w.k, w.g, w.p, 0);
        assert_string_equal(kit_receive(w.k, A, w.g, 1), "0");
        kit_free(w.k);
    }
}

static void a_retry_lives_no_longer_than_its_message(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    produce_ttl(w, 2000, "a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 3000);
    kit_restart(w.k);
    kit_pass(w.k, 3000);
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1");
    kit_free(w.k);
}

static void many_expired_messages_are_passed_in_bounded_turns_and_nobody_waits_in_vain(void **state)
{
    (void)state;
    for (int wait = 0; wait < 2; wait++) {
        struct kit_world w = kit_world((struct wire_group_config){0});
        w.k->watch = false;
        w.k->message_ttl_ms = 1000;
        kit_produce_many(w.k, w.p, "a", 5000);
        w.k->message_ttl_ms = 0;
        kit_produce(w.k, w.p, "a");
        kit_receive(w.k, A, w.g, 1);
        kit_pass(w.k, 60000);
        uint64_t before = engine_counters(w.k->engine)->expired_messages, turn = engine_turn(w.k->engine);
        struct call *c = kit_receive_wait(w.k, A, 0, w.g, 1, wait ? 5000 : 0);
        for (int i = 0; i < 100 && !c->answered; i++) {
            uint64_t expired = engine_counters(w.k->engine)->expired_messages - before;
            assert_in_range(expired, 0, 1024 * (engine_turn(w.k->engine) - turn));
            kit_pass(w.k, 1);
        }
        assert_string_equal(kit_deliveries(w.k, &kit_reply(c)->receive), "5000");
        assert_true(engine_turn(w.k->engine) - turn >= 5);
        kit_free(w.k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_what_is_ready_the_highest_priority_goes_first_and_equals_in_order),
        cmocka_unit_test(a_priority_never_passes_an_older_message_of_its_key),
        cmocka_unit_test(what_waits_long_enough_goes_before_what_is_more_urgent),
        cmocka_unit_test(a_priority_goes_with_a_message_into_lists_rows_and_leases),
        cmocka_unit_test(nothing_ready_is_lost_over_a_restart_whatever_its_priority),
        cmocka_unit_test(partitions_take_turns_within_a_priority),
        cmocka_unit_test(a_message_whose_time_passed_is_not_delivered),
        cmocka_unit_test(a_topic_says_how_long_messages_live_that_do_not_say_it_themselves),
        cmocka_unit_test(a_message_that_is_held_when_its_time_passes_can_still_be_settled),
        cmocka_unit_test(a_group_may_park_what_its_time_passed_and_a_redrive_delivers_it),
        cmocka_unit_test(a_retry_lives_no_longer_than_its_message),
        cmocka_unit_test(many_expired_messages_are_passed_in_bounded_turns_and_nobody_waits_in_vain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

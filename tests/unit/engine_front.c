/* What is present again: in front of what waits in the list of its key, behind who holds the key, and known after a restart. */
#include "engine_kit.h"

/* Receives what there is, and parks these. */
static void park(struct kit_world w, const char *messages)
{
    kit_receive(w.k, A, w.g, 10);
    assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_PARK, messages), "");
}

static void a_redriven_message_without_a_key_is_delivered_again_with_its_counts_at_nothing(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "- -");
    kit_receive(w.k, A, w.g, 2);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 0);
    park(w, "0");
    kit_ack(w.k, A, w.g, "1");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 2 parked 1");
    assert_true(kit_redrive(w.k, w.g, w.p, 0));
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 2 ready 1 redriven 1");
    assert_int_equal(kit_lag(w.k, "t", "g").lag_messages, 1);
    struct call *c = kit_receive_wait(w.k, A, 0, w.g, 1, 0);
    assert_int_equal(kit_record(kit_reply(c), 0)->failures, 0);
    assert_int_equal(kit_record(kit_reply(c), 0)->grants, 1);
    kit_deliveries(w.k, &c->op.reply.receive);
    assert_string_equal(kit_ack(w.k, A, w.g, "0"), "");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 2");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "");
    kit_free(w.k);
}

static void what_is_not_parked_is_not_redriven(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    park(w, "0");
    struct held_row row = {.state = HELD_PARKED};
    assert_true(kit_redrive(w.k, w.g, w.p, 0));
    kit_begin(w.k); /* by who read the row before */
    struct group *g = map_get(&w.k->engine->groups, w.g);
    assert_false(entry_redrive(w.k->engine, g->parts[0], 0, &row));
    entry_drop_parked(w.k->engine, g->parts[0], 0, &row);
    kit_end(w.k);
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 ready 1 redriven 1");
    assert_int_equal(group_waiting(g), 1);
    kit_take(w, "0");
    assert_int_equal(group_waiting(g), 0);
    kit_free(w.k);
}

static void a_redriven_message_goes_before_a_younger_one_that_is_ready(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a a");
    park(w, "0");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 ready 1 behind 1 parked 1"); /* 1 stands in its list */
    kit_redrive(w.k, w.g, w.p, 0);
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 ready 1 waiting 1 behind 1 redriven 1");
    kit_take(w, "0 1 2");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 3");
    kit_free(w.k);
}

static void a_ready_message_that_only_the_scan_knew_steps_down_and_is_not_lost(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct kit_world w = kit_world((struct wire_group_config){0});
        kit_produce(w.k, w.p, "a -");
        park(w, "0");
        kit_produce(w.k, w.p, "- a a"); /* 3 is found by the scan */
        assert_string_equal(kit_receive(w.k, A, w.g, 1), "2");
        kit_redrive(w.k, w.g, w.p, 0);
        if (restart)
            kit_restart(w.k);
        kit_take(w, "0 3 4");
        kit_free(w.k);
    }
}

static void a_redriven_message_waits_for_who_holds_its_key_and_then_goes_before_the_list(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct kit_world w = kit_world((struct wire_group_config){0});
        kit_produce(w.k, w.p, "a a a a a");
        park(w, "0");
        park(w, "1");
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "2");
        kit_redrive(w.k, w.g, w.p, 1);
        kit_redrive(w.k, w.g, w.p, 0);
        assert_string_equal(kit_receive(w.k, B, w.g, 10), "");
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 2 leased 1 waiting 2 behind 2 redriven 2");
        if (restart)
            kit_restart(w.k);
        assert_string_equal(kit_receive(w.k, B, w.g, 10), "");
        kit_ack(w.k, A, w.g, "2");
        kit_take(w, "0 1 3 4");
        kit_free(w.k);
    }
}

static void a_message_that_waits_for_its_retry_does_not_hold_back_an_older_one(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct kit_world w = kit_world((struct wire_group_config){0});
        kit_produce(w.k, w.p, "a a a");
        park(w, "0");
        kit_receive(w.k, A, w.g, 1);
        kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "1", 5000);
        kit_redrive(w.k, w.g, w.p, 0);
        if (restart)
            kit_restart(w.k);
        kit_take(w, "0");
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 retrying 1 behind 1");
        kit_pass(w.k, 5000);
        kit_take(w, "1 2");
        kit_free(w.k);
    }
}

static void a_retry_that_falls_due_while_an_older_one_is_held_waits_for_it(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a a");
    park(w, "0");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "1", 1000);
    kit_redrive(w.k, w.g, w.p, 0);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0");
    kit_pass(w.k, 2000);
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 leased 1 waiting 1 behind 1 redriven 1");
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "");
    kit_ack(w.k, A, w.g, "0");
    kit_take(w, "1 2");
    kit_free(w.k);
}

/* The scan after a restart meets the ready message that had no row only after the redriven one is loaded. */
static void after_a_restart_a_redriven_message_does_not_let_the_list_pass_what_is_still_to_be_found(void **state)
{
    (void)state;
    for (int order = 0; order < 2; order++) {
        struct kit_world w = kit_world((struct wire_group_config){0});
        kit_produce(w.k, w.p, "a -");
        park(w, "0");
        kit_ack(w.k, A, w.g, "1");
        kit_produce(w.k, w.p, "- a a - -");
        assert_string_equal(kit_receive(w.k, A, w.g, 1), "2"); /* 3 is ready, 4 behind it */
        kit_restart(w.k);
        w.k->hold_loads = true;
        kit_redrive(w.k, w.g, w.p, 0);
        struct call *c = kit_receive_wait(w.k, B, 0, w.g, 10, 1000);
        assert_false(c->answered);
        if (order > 0)
            kit_restart(w.k); /* now it is loaded as a row */
        w.k->hold_loads = false;
        kit_quiet(w.k);
        if (order > 0)
            c = kit_receive_wait(w.k, B, 0, w.g, 10, 1000);
        assert_string_equal(kit_deliveries(w.k, &kit_reply(c)->receive), "0 5 6");
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 2 leased 4 waiting 1 behind 1 redriven 1");
        kit_ack(w.k, B, w.g, "5 6 0");
        kit_take(w, "3 4");
        kit_ack(w.k, A, w.g, "2");
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 7");
        kit_free(w.k);
    }
}

static void after_a_restart_a_redriven_message_whose_key_has_nothing_else_goes_when_the_scan_is_through(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a - b - -");
    park(w, "0");
    kit_redrive(w.k, w.g, w.p, 0);
    kit_ack(w.k, A, w.g, "1 2 3");
    kit_settle(w.k, A, w.g, SETTLE_RELEASE, "4");
    kit_restart(w.k);
    kit_produce(w.k, w.p, "a");
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "0 4");
    kit_ack(w.k, B, w.g, "4 0");
    kit_take(w, "5");
    kit_free(w.k);
}

static void a_redriven_message_that_is_parked_again_is_parked_once(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.max_deliveries = 1});
    kit_produce(w.k, w.p, "a a");
    for (int i = 0; i < 3; i++) {
        park(w, "0");
        kit_redrive(w.k, w.g, w.p, 0);
    }
    kit_receive(w.k, A, w.g, 1);
    kit_settle(w.k, A, w.g, SETTLE_NACK, "0");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 ready 1 parked 1");
    kit_take(w, "1");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "0 parked(max_deliveries)");
    kit_free(w.k);
}

static void under_park_key_a_redriven_message_lets_its_key_go_on_in_order(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct kit_world w = kit_world((struct wire_group_config){.park = PARK_KEY});
        kit_produce(w.k, w.p, "a a a");
        park(w, "0");
        if (restart)
            kit_restart(w.k);
        assert_string_equal(kit_receive(w.k, B, w.g, 10), "");
        assert_true(kit_redrive(w.k, w.g, w.p, 0));
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 ready 1 behind 2 redriven 1");
        if (restart)
            kit_restart(w.k);
        struct call *c = kit_receive_wait(w.k, A, 0, w.g, 1, 0);
        assert_int_equal(kit_record(kit_reply(c), 0)->grants, 1);
        kit_deliveries(w.k, &c->op.reply.receive);
        kit_settle(w.k, A, w.g, SETTLE_RELEASE, "0");
        kit_take(w, "0 1 2");
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 3");
        kit_free(w.k);
    }
}

static void a_dropped_message_is_gone_and_under_park_key_its_key_goes_on(void **state)
{
    (void)state;
    for (int key = 0; key < 2; key++) {
        struct kit_world w = kit_world((struct wire_group_config){.park = key ? PARK_KEY : PARK_MESSAGE});
        kit_produce(w.k, w.p, "a a");
        park(w, "0");
        kit_drop_parked(w.k, w.g, w.p, 0);
        assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "");
        kit_restart(w.k);
        kit_take(w, "1");
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 2");
        kit_free(w.k);
    }
}

static void a_late_ack_of_a_message_that_stepped_down_counts(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.lease_ms = 1000});
    kit_produce(w.k, w.p, "a a a");
    park(w, "0");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "1");
    kit_pass(w.k, 1000); /* runs out: 1 is ready again, its token still good */
    kit_redrive(w.k, w.g, w.p, 0);
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 ready 1 waiting 1 behind 1 redriven 1");
    assert_string_equal(kit_ack(w.k, A, w.g, "1"), "");
    kit_take(w, "0 2");
    kit_free(w.k);
}

static void under_park_key_a_late_park_blocks_in_its_place(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct kit_world w = kit_world((struct wire_group_config){.lease_ms = 1000});
        kit_produce(w.k, w.p, "a a a");
        park(w, "0");
        kit_alter_group(w.k, "t", "g", (struct wire_group_config){.park = PARK_KEY}, GROUP_SET_PARK);
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "1");
        kit_pass(w.k, 1000);
        kit_redrive(w.k, w.g, w.p, 0);
        assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_PARK, "1"), "");
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 ready 1 blocked 1 behind 1 parked 1 redriven 1");
        if (restart)
            kit_restart(w.k);
        kit_take(w, "0");
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 2 blocked 1 behind 1 parked 1 redriven 1 away 1");
        kit_redrive(w.k, w.g, w.p, 1);
        kit_take(w, "1 2");
        kit_free(w.k);
    }
}

static void a_key_whose_head_fails_goes_on_with_an_older_one_that_was_redriven_meanwhile(void **state)
{
    (void)state;
    for (int retry = 0; retry < 2; retry++) {
        struct kit_world w = kit_world((struct wire_group_config){0});
        kit_produce(w.k, w.p, "a a a");
        park(w, "0");
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "1");
        kit_redrive(w.k, w.g, w.p, 0);
        kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "1", retry ? 5000 : 0);
        assert_string_equal(kit_receive(w.k, B, w.g, 10), "0");
        assert_string_equal(kit_ack(w.k, B, w.g, "0"), "");
        kit_pass(w.k, 5000);
        kit_take(w, "1 2");
        kit_free(w.k);
    }
}

static void under_park_key_a_head_that_is_parked_lets_an_older_redriven_one_go_first(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a a");
    park(w, "0");
    kit_alter_group(w.k, "t", "g", (struct wire_group_config){.park = PARK_KEY}, GROUP_SET_PARK);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "1");
    kit_redrive(w.k, w.g, w.p, 0);
    assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_PARK, "1"), "");
    kit_take(w, "0");
    kit_redrive(w.k, w.g, w.p, 1);
    kit_take(w, "1 2");
    kit_free(w.k);
}

static void a_key_goes_on_after_a_restart_when_its_redriven_head_was_acknowledged_before_it_was_found(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.lease_ms = 1000});
    kit_produce(w.k, w.p, "a a a -");
    park(w, "0");
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "1");
    kit_redrive(w.k, w.g, w.p, 0);
    assert_string_equal(kit_ack(w.k, A, w.g, "1"), "");
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "0");
    kit_pass(w.k, 1000); /* runs out; its token is still good */
    kit_produce(w.k, w.p, "-");
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "3");
    w.k->hold_loads = true; /* 4 was read ahead, and is to be found again */
    kit_restart(w.k);
    assert_string_equal(kit_ack(w.k, A, w.g, "0"), "");
    kit_restart(w.k);
    w.k->hold_loads = false;
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "2 4");
    kit_free(w.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_redriven_message_without_a_key_is_delivered_again_with_its_counts_at_nothing),
        cmocka_unit_test(what_is_not_parked_is_not_redriven),
        cmocka_unit_test(a_redriven_message_goes_before_a_younger_one_that_is_ready),
        cmocka_unit_test(a_ready_message_that_only_the_scan_knew_steps_down_and_is_not_lost),
        cmocka_unit_test(a_redriven_message_waits_for_who_holds_its_key_and_then_goes_before_the_list),
        cmocka_unit_test(a_message_that_waits_for_its_retry_does_not_hold_back_an_older_one),
        cmocka_unit_test(a_retry_that_falls_due_while_an_older_one_is_held_waits_for_it),
        cmocka_unit_test(after_a_restart_a_redriven_message_does_not_let_the_list_pass_what_is_still_to_be_found),
        cmocka_unit_test(after_a_restart_a_redriven_message_whose_key_has_nothing_else_goes_when_the_scan_is_through),
        cmocka_unit_test(a_redriven_message_that_is_parked_again_is_parked_once),
        cmocka_unit_test(under_park_key_a_redriven_message_lets_its_key_go_on_in_order),
        cmocka_unit_test(a_dropped_message_is_gone_and_under_park_key_its_key_goes_on),
        cmocka_unit_test(a_late_ack_of_a_message_that_stepped_down_counts),
        cmocka_unit_test(under_park_key_a_late_park_blocks_in_its_place),
        cmocka_unit_test(a_key_whose_head_fails_goes_on_with_an_older_one_that_was_redriven_meanwhile),
        cmocka_unit_test(under_park_key_a_head_that_is_parked_lets_an_older_redriven_one_go_first),
        cmocka_unit_test(a_key_goes_on_after_a_restart_when_its_redriven_head_was_acknowledged_before_it_was_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

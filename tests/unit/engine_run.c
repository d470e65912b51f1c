/* Runs: several messages of a key in one lease, settled from their beginning. */
#include "engine_kit.h"

static struct kit_world begin_run(uint32_t run_max) { return kit_world((struct wire_group_config){.run_max = run_max, .lease_ms = 10000}); }

static uint32_t grants_of(struct kit_world w, uint64_t offset)
{
    struct group *g = map_get(&w.k->engine->groups, w.g);
    return ((struct entry *)map_get(&g->parts[0]->entries, offset))->grants;
}

static void a_run_is_the_next_of_a_key_up_to_its_bound_in_order(void **state)
{
    (void)state;
    struct kit_world w = begin_run(3);
    kit_produce(w.k, w.p, "a a b a a - a b");
    kit_receive(w.k, B, w.g, 0);
    kit_settle(w.k, B, w.g, SETTLE_RELEASE, "0");
    assert_string_equal(kit_receive(w.k, A, w.g, 20), "0 1 3 2 7 5");
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 6 behind 2");
    assert_string_equal(kit_receive(w.k, B, w.g, 20), "");
    kit_free(w.k);
}

static void without_runs_a_key_gives_one_message(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a a");
    assert_string_equal(kit_receive(w.k, A, w.g, 20), "0");
    kit_free(w.k);
}

static void a_run_is_bounded_by_the_receive_in_messages_and_in_bytes(void **state)
{
    (void)state;
    struct kit_world w = begin_run(10);
    kit_produce(w.k, w.p, "a a a a a a");
    assert_string_equal(kit_receive(w.k, A, w.g, 4), "0 1 2 3");
    kit_ack(w.k, A, w.g, "0 1 2 3");
    w.k->message_size = 1000;
    kit_produce(w.k, w.p, "b b b b");
    kit_ack(w.k, A, w.g, (kit_receive(w.k, A, w.g, 2), "4 5"));
    struct wire_request r = kit_request(w.k, A, VERB_RECEIVE);
    r.receive = (struct wire_receive){.counter = ++w.k->counter[A][0], .groups = &w.g, .groups_n = 1, .max_messages = 10, .max_bytes = 2500,
                                      .wait_ms = 1000};
    assert_string_equal(kit_deliveries(w.k, &kit_ask(w.k, r, A)->receive), "6 7");
    kit_free(w.k);
}

static void a_run_is_settled_as_a_prefix(void **state)
{
    (void)state;
    struct kit_world w = begin_run(4);
    kit_produce(w.k, w.p, "a a a a a");
    assert_string_equal(kit_receive(w.k, A, w.g, 4), "0 1 2 3");
    assert_string_equal(kit_ack(w.k, A, w.g, "1"), "OUT_OF_ORDER");
    assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_NACK, "2"), "OUT_OF_ORDER");
    assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_PARK, "3"), "OUT_OF_ORDER");
    assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_RELEASE, "1"), "OUT_OF_ORDER");
    assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_EXTEND, "2"), "");
    assert_string_equal(kit_ack(w.k, A, w.g, "0 1"), "");
    assert_string_equal(kit_receive(w.k, B, w.g, 4), ""); /* 4 waits for all of the run */
    assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_PARK, "2"), "");
    assert_string_equal(kit_ack(w.k, A, w.g, "3"), "");
    assert_string_equal(kit_receive(w.k, B, w.g, 4), "4");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 4 leased 1 parked 1");
    kit_free(w.k);
}

static void a_unit_may_settle_a_run_from_its_beginning_and_is_refused_whole_from_elsewhere(void **state)
{
    (void)state;
    struct kit_world w = begin_run(4);
    kit_produce(w.k, w.p, "a a a a");
    kit_receive(w.k, A, w.g, 4);
    struct wire_settle_item items[] = {kit_item(w.k, w.g, SETTLE_ACK, "0"), kit_item(w.k, w.g, SETTLE_ACK, "2")};
    assert_int_equal(kit_unit(w.k, A, items, 2), E_OUT_OF_ORDER);
    items[0].verb = SETTLE_EXTEND;
    items[1].offset = 1;
    assert_int_equal(kit_unit(w.k, A, items, 2), E_OUT_OF_ORDER);
    items[0].verb = SETTLE_NACK; /* its run ends there */
    assert_int_equal(kit_unit(w.k, A, items, 2), E_OUT_OF_ORDER);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 4");
    items[0].verb = SETTLE_ACK;
    assert_int_equal(kit_unit(w.k, A, items, 2), E_OK);
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 2 leased 2");
    items[0] = kit_item(w.k, w.g, SETTLE_RELEASE, "2");
    items[1] = kit_item(w.k, w.g, SETTLE_RELEASE, "3");
    assert_int_equal(kit_unit(w.k, A, items, 2), E_OK);
    assert_string_equal(kit_receive(w.k, B, w.g, 4), "2 3");
    kit_free(w.k);
}

static void what_fails_takes_the_rest_of_its_run_back_uncounted(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct kit_world w = begin_run(4);
        kit_produce(w.k, w.p, "a a a a a");
        kit_receive(w.k, A, w.g, 4);
        kit_ack(w.k, A, w.g, "0");
        if (how == 0)
            kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "1", 0);
        else if (how == 1)
            kit_settle(w.k, A, w.g, SETTLE_RELEASE, "1");
        else if (how == 2)
            kit_pass(w.k, 10000);
        else
            kit_ask(w.k, kit_request(w.k, A, VERB_BYE), A);
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 ready 1 waiting 2 behind 1");
        assert_int_equal(grants_of(w, 1), how != 1);
        assert_int_equal(grants_of(w, 2), 0);
        assert_int_equal(grants_of(w, 3), 0);
        if (how < 3)
            assert_string_equal(kit_ack(w.k, A, w.g, "2"), "LEASE_LOST");
        struct call *c = kit_receive_wait(w.k, B, 0, w.g, 10, 0);
        assert_string_equal(kit_deliveries(w.k, &kit_reply(c)->receive), "1 2 3 4");
        assert_int_equal(kit_record(kit_reply(c), 1)->failures, how == 0 || how == 2);
        assert_int_equal(kit_record(kit_reply(c), 2)->failures, 0);
        assert_int_equal(kit_record(kit_reply(c), 2)->grants, 1);
        assert_string_equal(kit_ack(w.k, B, w.g, "1 2 3 4"), "");
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 5");
        kit_free(w.k);
    }
}

static void a_last_failure_parks_its_message_and_still_takes_the_rest_back(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.run_max = 4, .max_deliveries = 1});
    kit_produce(w.k, w.p, "a a a");
    kit_receive(w.k, A, w.g, 4);
    kit_settle(w.k, A, w.g, SETTLE_NACK, "0");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 ready 1 waiting 1 parked 1");
    assert_string_equal(kit_receive(w.k, B, w.g, 4), "1 2");
    kit_free(w.k);
}

static void under_park_key_a_parked_one_takes_the_rest_back_and_blocks_it(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct kit_world w = kit_world((struct wire_group_config){.run_max = 4, .park = PARK_KEY});
        kit_produce(w.k, w.p, "a a a a");
        kit_receive(w.k, A, w.g, 3);
        kit_ack(w.k, A, w.g, "0");
        kit_settle(w.k, A, w.g, SETTLE_PARK, "1");
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 3 blocked 1 waiting 1 behind 1 parked 1 redriven 2 away 2");
        if (restart)
            kit_restart(w.k);
        assert_string_equal(kit_receive(w.k, B, w.g, 4), "");
        kit_redrive(w.k, w.g, w.p, 1);
        assert_string_equal(kit_receive(w.k, B, w.g, 4), "1 2 3");
        kit_free(w.k);
    }
}

static void a_run_survives_a_restart(void **state)
{
    (void)state;
    struct kit_world w = begin_run(4);
    kit_produce(w.k, w.p, "a a a a a a");
    kit_receive(w.k, A, w.g, 4);
    kit_ack(w.k, A, w.g, "0");
    kit_restart(w.k);
    assert_string_equal(kit_receive(w.k, B, w.g, 4), "");
    assert_string_equal(kit_ack(w.k, A, w.g, "2"), "OUT_OF_ORDER");
    assert_string_equal(kit_ack(w.k, A, w.g, "1 2"), "");
    assert_string_equal(kit_receive(w.k, B, w.g, 4), "");
    assert_string_equal(kit_ack(w.k, A, w.g, "3"), "");
    assert_string_equal(kit_receive(w.k, B, w.g, 4), "4 5");
    kit_free(w.k);
}

static void a_repeated_receive_gets_the_same_run(void **state)
{
    (void)state;
    struct kit_world w = begin_run(4);
    kit_produce(w.k, w.p, "a b a a");
    struct call *c = kit_receive_wait(w.k, A, 0, w.g, 4, 1000);
    assert_true(c->answered);
    w.k->counter[A][0]--;
    struct call *again = kit_receive_wait(w.k, A, 0, w.g, 4, 1000);
    assert_string_equal(kit_deliveries(w.k, &kit_reply(again)->receive), kit_deliveries(w.k, &kit_reply(c)->receive));
    kit_free(w.k);
}

static void who_extends_a_message_keeps_what_is_behind_it_in_the_run(void **state)
{
    (void)state;
    struct kit_world w = begin_run(4);
    kit_produce(w.k, w.p, "a a a");
    kit_receive(w.k, A, w.g, 4);
    kit_pass(w.k, 6000);
    kit_settle(w.k, A, w.g, SETTLE_EXTEND, "0");
    kit_pass(w.k, 6000);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 3");
    assert_string_equal(kit_ack(w.k, A, w.g, "0"), "");
    kit_pass(w.k, 4000);
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 ready 1 waiting 1");
    kit_free(w.k);
}

static void one_that_runs_out_before_its_predecessor_goes_back_uncounted(void **state)
{
    (void)state;
    struct kit_world w = begin_run(4);
    kit_produce(w.k, w.p, "a a a");
    kit_receive(w.k, A, w.g, 4);
    kit_settle_delay(w.k, A, w.g, SETTLE_EXTEND, "1", 1000);
    kit_pass(w.k, 1000);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 waiting 2");
    assert_int_equal(engine_counters(w.k->engine)->expired_leases, 0);
    kit_ack(w.k, A, w.g, "0");
    assert_string_equal(kit_receive(w.k, B, w.g, 4), "1 2");
    kit_free(w.k);
}

static void a_run_takes_what_was_redriven_before_what_stands_in_the_list(void **state)
{
    (void)state;
    struct kit_world w = begin_run(4);
    kit_produce(w.k, w.p, "a a a a a a");
    kit_receive(w.k, A, w.g, 2);
    kit_settle(w.k, A, w.g, SETTLE_PARK, "0 1");
    kit_receive(w.k, A, w.g, 1);
    kit_redrive(w.k, w.g, w.p, 1);
    kit_redrive(w.k, w.g, w.p, 0);
    kit_ack(w.k, A, w.g, "2");
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "0 1 3 4");
    kit_restart(w.k);
    assert_string_equal(kit_ack(w.k, B, w.g, "0 1 3"), "");
    assert_string_equal(kit_ack(w.k, B, w.g, "4"), "");
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "5");
    kit_free(w.k);
}

static void a_run_ends_before_what_may_not_go_now(void **state)
{
    (void)state;
    struct kit_world w = begin_run(10);
    kit_produce(w.k, w.p, "a a");
    w.k->message_ttl_ms = 1000;
    kit_produce(w.k, w.p, "a");
    w.k->message_ttl_ms = 0;
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle(w.k, A, w.g, SETTLE_RELEASE, "0");
    kit_pass(w.k, 1000);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 1");
    kit_ack(w.k, A, w.g, "0 1");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "3");
    kit_free(w.k);
}

/* The loop says that the bytes of one in the middle cannot be read. */
static void a_damaged_message_in_the_middle_is_parked_and_its_run_goes_on(void **state)
{
    (void)state;
    for (int key = 0; key < 2; key++) {
        struct kit_world w = kit_world((struct wire_group_config){.run_max = 4, .park = key ? PARK_KEY : PARK_MESSAGE});
        kit_produce(w.k, w.p, "a a a");
        kit_receive(w.k, A, w.g, 4);
        kit_begin(w.k);
        engine_unreadable(w.k->engine, w.g, w.p, 1, kit_token(w.k, w.g, w.p, 1), E_DAMAGED, VIEW_LIT("test"));
        kit_end(w.k);
        if (key) {
            assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 blocked 1 waiting 1 parked 1");
            assert_string_equal(kit_ack(w.k, A, w.g, "0"), "");
            assert_string_equal(kit_receive(w.k, B, w.g, 4), "");
        } else {
            assert_string_equal(kit_ack(w.k, A, w.g, "2"), "OUT_OF_ORDER");
            assert_string_equal(kit_ack(w.k, A, w.g, "0 2"), "");
            assert_string_equal(kit_where(w.k, "t", "g"), "floor 3 parked 1");
        }
        kit_free(w.k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_the_next_of_a_key_up_to_its_bound_in_order),
        cmocka_unit_test(without_runs_a_key_gives_one_message),
        cmocka_unit_test(a_run_is_bounded_by_the_receive_in_messages_and_in_bytes),
        cmocka_unit_test(a_run_is_settled_as_a_prefix),
        cmocka_unit_test(a_unit_may_settle_a_run_from_its_beginning_and_is_refused_whole_from_elsewhere),
        cmocka_unit_test(what_fails_takes_the_rest_of_its_run_back_uncounted),
        cmocka_unit_test(a_last_failure_parks_its_message_and_still_takes_the_rest_back),
        cmocka_unit_test(under_park_key_a_parked_one_takes_the_rest_back_and_blocks_it),
        cmocka_unit_test(a_run_survives_a_restart),
        cmocka_unit_test(a_repeated_receive_gets_the_same_run),
        cmocka_unit_test(who_extends_a_message_keeps_what_is_behind_it_in_the_run),
        cmocka_unit_test(one_that_runs_out_before_its_predecessor_goes_back_uncounted),
        cmocka_unit_test(a_run_takes_what_was_redriven_before_what_stands_in_the_list),
        cmocka_unit_test(a_run_ends_before_what_may_not_go_now),
        cmocka_unit_test(a_damaged_message_in_the_middle_is_parked_and_its_run_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

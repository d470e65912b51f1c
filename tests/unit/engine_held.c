/* Out of the flow: retried when it is due and not before, parked when it failed too often. */
#include "engine_kit.h"

static void a_nacked_message_comes_back_after_its_delay_and_not_before(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 2000);
    assert_string_equal(kit_held(w.k, "t", "g", HELD_RETRYING), "0 retrying");
    kit_pass(w.k, 1949); /* kit_receive gives it 50 ms */
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "");
    kit_pass(w.k, 51);
    struct call *c = kit_receive_wait(w.k, A, 0, w.g, 1, 0);
    assert_int_equal(kit_record(kit_reply(c), 0)->failures, 1);
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "");
    kit_free(w.k);
}

static void a_nack_with_a_delay_of_zero_comes_back_at_once(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 0);
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "0");
    kit_free(w.k);
}

static void backoff_doubles_up_to_its_bound_and_is_never_nothing(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.max_deliveries = 8, .backoff_min_ms = 100, .backoff_max_ms = 1000, .order = ORDER_NONE});
    kit_produce_many(w.k, w.p, "-", 200);
    w.k->watch = false;
    static const uint64_t most[] = {100, 200, 400, 800, 1000, 1000, 1000};
    for (size_t attempt = 0; attempt < ARRAY_LEN(most); attempt++) {
        uint64_t longest = 0;
        struct group *g = map_get(&w.k->engine->groups, w.g);
        while (g->leased < 200)
            kit_receive(w.k, A, w.g, 200);
        kit_begin(w.k);
        for (uint64_t o = 0; o < 200; o++) {
            struct entry *e = map_get(&g->parts[0]->entries, o);
            entry_failed(w.k->engine, e, UINT64_MAX, VIEW_LIT("test"), (struct view){0});
            uint64_t delay = e->timer.node.due - w.k->now.mono_ms;
            assert_in_range(delay, 1, most[attempt]);
            longest = delay > longest ? delay : longest;
        }
        kit_end(w.k);
        assert_true(longest > most[attempt] / 2); /* full jitter: they are spread over all of it */
        kit_pass(w.k, 1000);
    }
    kit_free(w.k);
}

static void a_message_that_failed_max_deliveries_times_is_parked_and_its_key_goes_on(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.max_deliveries = 3});
    kit_produce(w.k, w.p, "a a");
    for (int i = 0; i < 3; i++) {
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "0");
        kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 0);
    }
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "1");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_PARKED), "0 parked(max_deliveries)");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 leased 1 parked 1");
    kit_free(w.k);
}

static void failures_are_counted_over_restarts_and_expiries(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.max_deliveries = 4, .lease_ms = 1000});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 500);
    kit_restart(w.k);
    kit_pass(w.k, 500);
    kit_receive(w.k, A, w.g, 1);
    kit_restart(w.k);
    kit_pass(w.k, 1000); /* expired */
    kit_restart(w.k);
    struct call *c = kit_receive_wait(w.k, A, 0, w.g, 1, 1000);
    assert_int_equal(kit_record(kit_reply(c), 0)->failures, 2);
    assert_int_equal(kit_record(kit_reply(c), 0)->grants, 3);
    kit_free(w.k);
}

static void under_park_key_the_rest_of_the_key_waits_and_other_keys_go_on(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.max_deliveries = 1, .park = PARK_KEY});
    kit_produce(w.k, w.p, "a a b - a");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 2 3");
    kit_settle(w.k, A, w.g, SETTLE_NACK, "0");
    kit_settle(w.k, A, w.g, SETTLE_NACK, "3"); /* without a key there is nothing to hold back */
    kit_ack(w.k, A, w.g, "2");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 done 2 blocked 1 behind 2 parked 2 redriven 1 away 1");
    kit_restart(w.k);
    kit_produce(w.k, w.p, "b a");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "5");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 done 2 leased 1 blocked 1 behind 3 parked 2 redriven 1 away 1");
    kit_pass(w.k, 86400000);
    assert_string_equal(kit_ack(w.k, A, w.g, "0"), "LEASE_LOST");
    kit_free(w.k);
}

static void a_message_granted_too_often_without_an_answer_is_parked(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.max_deliveries = 2});
    kit_produce(w.k, w.p, "a");
    for (int i = 0; i < 8; i++) { /* what the broker's clients cause by going away is no failure */
        assert_string_equal(kit_receive(w.k, B, w.g, 1), "0");
        kit_lose_pipe(w.k, B);
        kit_pass(w.k, w.k->limits.session_grace_ms);
        assert_int_equal(kit_hello(w.k, B, true), E_OK);
    }
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "0 parked(grants)");
    kit_free(w.k);
}

static void retries_come_back_in_the_order_in_which_they_are_due(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c");
    kit_receive(w.k, A, w.g, 3);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 3000);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "1", 1000);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "2", 2000);
    kit_restart(w.k);
    kit_pass(w.k, 5000);
    assert_string_equal(kit_receive(w.k, A, w.g, 3), "1 2 0");
    kit_free(w.k);
}

static void a_delay_runs_on_over_a_restart_and_neither_shorter_nor_longer(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 8000);
    kit_pass(w.k, 2000);
    kit_restart(w.k);
    kit_pass(w.k, 5999);
    assert_string_equal(kit_where(w.k, "t", "g"), "retrying 1");
    kit_pass(w.k, 1);
    assert_string_equal(kit_where(w.k, "t", "g"), "ready 1");
    kit_free(w.k);
}

static void what_became_due_while_the_broker_was_away_is_ready_when_it_is_back(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b");
    kit_receive(w.k, A, w.g, 2);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 1000);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "1", 9000);
    w.k->now.wall_ms += 5000; /* nobody was there to see it pass */
    kit_restart(w.k);
    assert_string_equal(kit_receive(w.k, A, w.g, 2), "0");
    kit_pass(w.k, 4000);
    assert_string_equal(kit_receive(w.k, A, w.g, 2), "1");
    kit_free(w.k);
}

static void a_wall_clock_that_goes_back_delays_no_retry(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 1000);
    w.k->now.wall_ms -= 86400000;
    kit_pass(w.k, 1000);
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "0");
    kit_free(w.k);
}

static void the_longest_delay_is_bounded(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    w.k->limits.delay_ms_max = 1000;
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", UINT32_MAX);
    kit_pass(w.k, 1000);
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "0");
    kit_free(w.k);
}

static void settled_and_parked_messages_leave_no_row_to_be_retried(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c d");
    kit_receive(w.k, A, w.g, 4);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0 1 2", 1000);
    kit_ack(w.k, A, w.g, "0"); /* while it waits for its retry */
    kit_settle(w.k, A, w.g, SETTLE_PARK, "1");
    kit_pass(w.k, 1000);
    kit_receive(w.k, A, w.g, 4);
    assert_int_equal(kit_rows(w.k, FAM_SCHED, NULL), 0);
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "1 parked(parked)");
    kit_free(w.k);
}

/* ---------------------------------------------------------------- the list of what is held */

static const struct wire_reply *list(struct kit_world w, struct wire_held_list l)
{
    struct wire_request r = kit_request(w.k, A, VERB_HELD_LIST);
    r.held = l;
    r.held.topic = VIEW_LIT("t");
    r.held.group = VIEW_LIT("g");
    return kit_ask(w.k, r, A);
}

static void the_list_of_what_is_held_has_pages_and_states(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c d");
    kit_receive(w.k, A, w.g, 4);
    kit_settle(w.k, A, w.g, SETTLE_PARK, "0 2");
    kit_settle(w.k, A, w.g, SETTLE_NACK, "1");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "0 parked(parked) 1 retrying 2 parked(parked)");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_RETRYING), "1 retrying");
    const struct wire_reply *page = list(w, (struct wire_held_list){.limit = 2});
    assert_int_equal(page->held.rows_n, 2);
    assert_true(page->held.more);
    page = list(w, (struct wire_held_list){.limit = 2, .has_after = true, .after_partition = w.p, .after_offset = 1});
    assert_int_equal(page->held.rows_n, 1);
    assert_int_equal(page->held.rows[0].offset, 2);
    assert_false(page->held.more);
    kit_free(w.k);
}

/* Was a bug: behind the last offset there is, the list began again. */
static void the_list_behind_the_highest_offset_is_empty(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle(w.k, A, w.g, SETTLE_PARK, "0");
    assert_int_equal(list(w, (struct wire_held_list){.has_after = true, .after_partition = w.p, .after_offset = UINT64_MAX})->held.rows_n, 0);
    assert_int_equal(list(w, (struct wire_held_list){.has_after = true, .after_partition = UINT32_MAX, .after_offset = UINT64_MAX})->held.rows_n, 0);
    kit_free(w.k);
}

/* Was a bug: a page with its payload was as large as its messages were. */
static void a_page_with_payload_is_bounded_in_bytes_and_holds_one_message_at_least(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    w.k->message_size = 1000;
    kit_produce(w.k, w.p, "a b c");
    kit_receive(w.k, A, w.g, 3);
    kit_settle(w.k, A, w.g, SETTLE_PARK, "0 1 2");
    const struct wire_reply *page = list(w, (struct wire_held_list){.payload = true, .max_bytes = 2500});
    assert_int_equal(page->held.rows_n, 2);
    assert_true(page->held.more);
    assert_int_equal(page->held.delivery.records_n, 2);
    assert_int_equal(list(w, (struct wire_held_list){.payload = true, .max_bytes = 1})->held.rows_n, 1);
    assert_int_equal(list(w, (struct wire_held_list){.max_bytes = 1})->held.rows_n, 3); /* no payload: rows only */
    kit_free(w.k);
}

/* ---------------------------------------------------------------- damage */

static void an_unreadable_message_is_parked_unless_it_was_settled_meanwhile(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c");
    kit_receive(w.k, A, w.g, 3);
    uint64_t token = kit_token(w.k, w.g, w.p, 0);
    kit_ack(w.k, A, w.g, "1");
    kit_begin(w.k);
    for (uint64_t o = 0; o < 2; o++)
        engine_unreadable(w.k->engine, w.g, w.p, o, token, E_DAMAGED, VIEW_LIT("bad bytes"));
    engine_unreadable(w.k->engine, w.g, w.p, 2, token + 1, E_DAMAGED, VIEW_LIT("an older grant"));
    engine_unreadable(w.k->engine, w.g, w.p, 99, token, E_DAMAGED, VIEW_LIT("nothing there"));
    engine_unreadable(w.k->engine, 99, w.p, 0, token, E_DAMAGED, VIEW_LIT("no group"));
    engine_unreadable(w.k->engine, w.g, 99, 0, token, E_DAMAGED, VIEW_LIT("no partition"));
    kit_end(w.k);
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "0 parked(damaged)");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 2 leased 1 parked 1");
    kit_free(w.k);
}

static void what_does_not_read_when_it_is_scanned_is_parked_as_damaged_and_seen(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b");
    w.k->logs[w.p].damaged = true;
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "0 parked(damaged) 1 parked(damaged)");
    w.k->logs[w.p].damaged = false;
    kit_produce(w.k, w.p, "c");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "2");
    kit_free(w.k);
}

static void an_offset_without_a_record_counts_as_done(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c d");
    w.k->logs[w.p].records[1].gone = w.k->logs[w.p].records[3].gone = true;
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 2");
    kit_ack(w.k, A, w.g, "0 2");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 4");
    kit_free(w.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nacked_message_comes_back_after_its_delay_and_not_before),
        cmocka_unit_test(a_nack_with_a_delay_of_zero_comes_back_at_once),
        cmocka_unit_test(backoff_doubles_up_to_its_bound_and_is_never_nothing),
        cmocka_unit_test(a_message_that_failed_max_deliveries_times_is_parked_and_its_key_goes_on),
        cmocka_unit_test(failures_are_counted_over_restarts_and_expiries),
        cmocka_unit_test(under_park_key_the_rest_of_the_key_waits_and_other_keys_go_on),
        cmocka_unit_test(a_message_granted_too_often_without_an_answer_is_parked),
        cmocka_unit_test(retries_come_back_in_the_order_in_which_they_are_due),
        cmocka_unit_test(a_delay_runs_on_over_a_restart_and_neither_shorter_nor_longer),
        cmocka_unit_test(what_became_due_while_the_broker_was_away_is_ready_when_it_is_back),
        cmocka_unit_test(a_wall_clock_that_goes_back_delays_no_retry),
        cmocka_unit_test(the_longest_delay_is_bounded),
        cmocka_unit_test(settled_and_parked_messages_leave_no_row_to_be_retried),
        cmocka_unit_test(the_list_of_what_is_held_has_pages_and_states),
        cmocka_unit_test(the_list_behind_the_highest_offset_is_empty),
        cmocka_unit_test(a_page_with_payload_is_bounded_in_bytes_and_holds_one_message_at_least),
        cmocka_unit_test(an_unreadable_message_is_parked_unless_it_was_settled_meanwhile),
        cmocka_unit_test(what_does_not_read_when_it_is_scanned_is_parked_as_damaged_and_seen),
        cmocka_unit_test(an_offset_without_a_record_counts_as_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

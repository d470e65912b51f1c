/* Leases: one holder at a time, until when, and what a token is good for. */
#include "engine_kit.h"

#include <time.h>

static struct kit_world begin(void) { return kit_world((struct wire_group_config){.lease_ms = 5000, .max_deliveries = 3}); }

static void a_leased_message_is_given_to_nobody_else_until_its_lease_ends(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a");
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "0");
    kit_pass(w.k, 4900);
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "");
    kit_pass(w.k, 100);
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "0");
    kit_free(w.k);
}

static void an_expiry_is_a_failure_and_counts_towards_parking(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a");
    for (uint32_t failures = 0; failures < 3; failures++) {
        struct call *c = kit_receive_wait(w.k, A, 0, w.g, 1, 1000);
        assert_int_equal(kit_record(kit_reply(c), 0)->failures, failures);
        kit_pass(w.k, 5000);
    }
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "0 parked(lease expired)");
    kit_free(w.k);
}

static void the_token_of_an_expired_lease_is_good_until_the_message_is_granted_again(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a b");
    kit_receive(w.k, A, w.g, 2);
    kit_pass(w.k, 5000);
    assert_string_equal(kit_where(w.k, "t", "g"), "ready 2");
    assert_string_equal(kit_ack(w.k, A, w.g, "0"), ""); /* late, and nobody else has it */
    struct wire_settle_item late = kit_item(w.k, w.g, SETTLE_ACK, "1");
    assert_string_equal(kit_receive(w.k, B, w.g, 2), "1");
    assert_int_equal(kit_unit(w.k, A, &late, 1), E_LEASE_LOST);
    assert_string_equal(kit_ack(w.k, B, w.g, "1"), "");
    kit_free(w.k);
}

static void what_came_back_can_not_be_extended_and_a_late_nack_counts_no_second_failure(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    kit_pass(w.k, 5000);
    assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_EXTEND, "0"), "LEASE_LOST");
    assert_string_equal(kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 60000), "");
    struct call *c = kit_receive_wait(w.k, B, 0, w.g, 1, 1000);
    assert_int_equal(kit_record(kit_reply(c), 0)->failures, 1);
    kit_free(w.k);
}

static void extending_moves_the_end_and_each_message_has_its_own(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a b c");
    kit_receive(w.k, A, w.g, 3);
    kit_pass(w.k, 4000);
    kit_settle_delay(w.k, A, w.g, SETTLE_EXTEND, "1", 0);     /* a full term: until 9,000 */
    kit_settle_delay(w.k, A, w.g, SETTLE_EXTEND, "2", 2000);  /* until 6,000 */
    kit_pass(w.k, 999);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 3");
    kit_pass(w.k, 1);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 2 ready 1");
    kit_pass(w.k, 1000);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 ready 2");
    kit_pass(w.k, 2999);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 ready 2");
    kit_pass(w.k, 1);
    assert_string_equal(kit_where(w.k, "t", "g"), "ready 3");
    kit_free(w.k);
}

static void extending_may_shorten_and_is_bounded(void **state)
{
    (void)state;
    struct kit_world w = begin();
    w.k->limits.lease_ms_max = 20000;
    kit_produce(w.k, w.p, "a b");
    kit_receive(w.k, A, w.g, 2);
    kit_settle_delay(w.k, A, w.g, SETTLE_EXTEND, "0", 100);
    kit_settle_delay(w.k, A, w.g, SETTLE_EXTEND, "1", UINT32_MAX);
    kit_pass(w.k, 100);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 ready 1");
    kit_pass(w.k, 19900);
    assert_string_equal(kit_where(w.k, "t", "g"), "ready 2");
    kit_free(w.k);
}

/* Was a bug: each extension looked at every message of its lease. 65,536 of them took 4 billion steps. */
static void extending_every_message_of_a_large_lease_takes_no_long_time(void **state)
{
    (void)state;
    struct kit_world w = begin();
    w.k->watch = false;
    enum { N = 60000 };
    kit_produce_many(w.k, w.p, "-", N);
    struct wire_request r = kit_request(w.k, A, VERB_RECEIVE);
    r.receive = (struct wire_receive){.counter = 1, .groups = &w.g, .groups_n = 1, .max_messages = N, .wait_ms = 100};
    struct call *c = kit_call(w.k, r, A);
    uint64_t token = kit_reply(c)->receive.deliveries[0].token;
    uint32_t n = kit_reply(c)->receive.deliveries[0].records_n;
    r.receive.counter = 2;
    for (uint64_t got = n; got < N; r.receive.counter++) { /* the reads ahead come by pages */
        c = kit_call(w.k, r, A);
        got += kit_reply(c)->receive.deliveries[0].records_n;
        if (kit_reply(c)->receive.deliveries[0].records_n > n) {
            n = kit_reply(c)->receive.deliveries[0].records_n;
            token = kit_reply(c)->receive.deliveries[0].token;
        }
    }
    assert_true(n > 20000);
    struct wire_settle_item *items = mem_array(n, sizeof *items);
    uint64_t first = 0;
    while (((struct entry *)map_get(&((struct group *)map_get(&w.k->engine->groups, w.g))->parts[0]->entries, first))->token != token)
        first++;
    for (uint32_t i = 0; i < n; i++)
        items[i] = (struct wire_settle_item){.token = token, .group = w.g, .partition = w.p, .offset = first + i, .verb = SETTLE_EXTEND,
                                             .delay_ms = 6000 + i};
    clock_t began = clock();
    assert_int_equal(kit_unit(w.k, A, items, n), E_OK);
    assert_true((double)(clock() - began) / CLOCKS_PER_SEC < 2);
    kit_pass(w.k, 5999);
    assert_int_equal(((struct group *)map_get(&w.k->engine->groups, w.g))->leased, n);
    mem_free(items);
    kit_free(w.k);
}

static void part_of_a_lease_can_be_settled_and_the_rest_runs_on(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a b c");
    kit_receive(w.k, A, w.g, 3);
    kit_ack(w.k, A, w.g, "1");
    kit_restart(w.k);
    assert_string_equal(kit_where(w.k, "t", "g"), "done 1 leased 2");
    kit_ack(w.k, A, w.g, "0 2");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 3");
    struct store_iter *it = store_iter(w.k->store, FAM_LEASES);
    store_iter_seek(it, VIEW_LIT(""));
    assert_false(store_iter_valid(it)); /* no row is left */
    store_iter_close(it);
    kit_free(w.k);
}

static void a_lease_survives_a_restart_with_a_full_new_term_and_its_token(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a b");
    kit_receive(w.k, A, w.g, 2);
    kit_pass(w.k, 4999);
    kit_restart(w.k);
    kit_pass(w.k, 4999);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 2");
    assert_string_equal(kit_ack(w.k, A, w.g, "0"), "");
    kit_pass(w.k, 1);
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 ready 1");
    struct call *c = kit_receive_wait(w.k, B, 0, w.g, 1, 0);
    assert_int_equal(kit_record(kit_reply(c), 1)->failures, 1);
    assert_int_equal(kit_record(kit_reply(c), 1)->grants, 2);
    kit_free(w.k);
}

static void a_token_is_never_given_twice(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a");
    uint64_t last = 0;
    for (int i = 0; i < 6; i++) {
        assert_string_equal(kit_receive(w.k, A, w.g, 1), "0");
        uint64_t token = kit_token(w.k, w.g, w.p, 0);
        assert_true(token > last);
        last = token;
        kit_settle(w.k, A, w.g, SETTLE_RELEASE, "0");
        if (i % 2 == 1)
            kit_restart(w.k);
    }
    kit_free(w.k);
}

/* ---------------------------------------------------------------- slots */

static struct call *receive(struct kit_world w, uint32_t slot, uint64_t counter, uint32_t wait_ms)
{
    struct wire_request r = kit_request(w.k, A, VERB_RECEIVE);
    r.receive = (struct wire_receive){.slot = slot, .counter = counter, .groups = &w.g, .groups_n = 1, .max_messages = 2, .wait_ms = wait_ms};
    return kit_call(w.k, r, A);
}

static void a_repeated_receive_is_answered_with_the_same_leases_as_far_as_they_stand(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a b c d");
    struct call *c = receive(w, 4, 1, 100);
    assert_string_equal(kit_deliveries(w.k, &kit_reply(c)->receive), "0 1");
    uint64_t token = kit_token(w.k, w.g, w.p, 0);
    kit_pass(w.k, 1000);
    c = receive(w, 4, 1, 100);
    assert_string_equal(kit_deliveries(w.k, &kit_reply(c)->receive), "0 1");
    assert_int_equal(kit_token(w.k, w.g, w.p, 0), token);
    assert_int_equal(kit_reply(c)->receive.deliveries[0].lease_ms, 4000); /* what is left of it */
    kit_ack(w.k, A, w.g, "0");
    kit_restart(w.k);
    c = receive(w, 4, 1, 100);
    assert_string_equal(kit_deliveries(w.k, &kit_reply(c)->receive), "1");
    assert_int_equal(kit_record(kit_reply(c), 1)->grants, 1);
    c = receive(w, 4, 2, 100); /* the reply before was seen */
    assert_string_equal(kit_deliveries(w.k, &kit_reply(c)->receive), "2 3");
    kit_free(w.k);
}

static void slots_are_apart(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a b c d");
    assert_string_equal(kit_deliveries(w.k, &kit_reply(receive(w, 0, 1, 100))->receive), "0 1");
    assert_string_equal(kit_deliveries(w.k, &kit_reply(receive(w, 59, 1, 100))->receive), "2 3");
    assert_string_equal(kit_deliveries(w.k, &kit_reply(receive(w, 0, 1, 100))->receive), "0 1");
    assert_int_equal(kit_reply(receive(w, 60, 1, 100))->code, E_INVALID_ARGUMENT);
    assert_int_equal(kit_reply(receive(w, UINT32_MAX, 1, 100))->code, E_INVALID_ARGUMENT);
    kit_free(w.k);
}

static void a_counter_that_went_by_is_told_so(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a");
    receive(w, 0, UINT64_MAX, 100);
    assert_int_equal(kit_reply(receive(w, 0, 7, 100))->code, E_AGAIN);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1");
    kit_free(w.k);
}

static void a_newer_receive_takes_the_place_of_the_one_that_waits_in_its_slot(void **state)
{
    (void)state;
    struct kit_world w = begin();
    struct call *older = receive(w, 0, 1, 10000), *newer = receive(w, 0, 2, 10000);
    assert_int_equal(kit_reply(older)->code, E_AGAIN);
    assert_false(newer->answered);
    kit_produce(w.k, w.p, "a");
    assert_string_equal(kit_deliveries(w.k, &kit_reply(newer)->receive), "0");
    kit_free(w.k);
}

static const struct wire_reply *settle_and_receive(struct kit_world w, uint64_t seq, uint32_t slot, uint64_t counter)
{
    struct wire_receive carried = {.slot = slot, .counter = counter, .groups = &w.g, .groups_n = 1, .max_messages = 1, .wait_ms = 5000};
    struct wire_request r = kit_request(w.k, B, VERB_SETTLE);
    r.seq = seq;
    r.settle.receive = &carried;
    return kit_ask(w.k, r, B);
}

static void a_settle_that_carries_a_receive_is_repeated_with_the_same_leases(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a b c");
    kit_receive(w.k, A, w.g, 1); /* reads ahead */
    assert_string_equal(kit_deliveries(w.k, &settle_and_receive(w, 1, 0, 1)->settle.receive), "1");
    assert_string_equal(kit_deliveries(w.k, &settle_and_receive(w, 1, 0, 1)->settle.receive), "1");
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 2 ready 1");
    kit_free(w.k);
}

/* Were bugs: a settle could carry a counter that had gone by, a repeat of it was granted anew, and one that waited turned the slot back. */
static void a_carried_receive_keeps_to_its_slot(void **state)
{
    (void)state;
    struct kit_world w = begin();
    struct wire_request r = kit_request(w.k, B, VERB_RECEIVE);
    r.receive = (struct wire_receive){.counter = 1, .groups = &w.g, .groups_n = 1, .max_messages = 1, .wait_ms = 60000};
    struct call *waiting = kit_call(w.k, r, B);
    assert_false(settle_and_receive(w, 1, 0, 0)->settle.has_receive);
    assert_false(waiting->answered);
    assert_true(settle_and_receive(w, 2, 0, 2)->settle.has_receive);
    assert_int_equal(kit_reply(waiting)->code, E_AGAIN);
    kit_produce(w.k, w.p, "a b");
    kit_receive(w.k, A, w.g, 1);
    assert_string_equal(kit_deliveries(w.k, &settle_and_receive(w, 3, 0, 3)->settle.receive), "1");
    assert_false(settle_and_receive(w, 4, 0, 2)->settle.has_receive);
    assert_string_equal(kit_deliveries(w.k, &settle_and_receive(w, 3, 0, 3)->settle.receive), "1");
    assert_false(settle_and_receive(w, 5, LANE_WINDOW, 1)->settle.has_receive);
    assert_false(settle_and_receive(w, 5, LANE_WINDOW, 1)->settle.has_receive);
    kit_free(w.k);
}

static void a_session_gives_all_its_leases_back_and_only_its_own(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_produce(w.k, w.p, "a b c d");
    kit_receive(w.k, B, w.g, 1);
    kit_receive(w.k, C, w.g, 1);
    kit_receive(w.k, B, w.g, 2);
    kit_ask(w.k, kit_request(w.k, B, VERB_BYE), B);
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 ready 3");
    assert_string_equal(kit_ack(w.k, C, w.g, "1"), "");
    kit_free(w.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leased_message_is_given_to_nobody_else_until_its_lease_ends),
        cmocka_unit_test(an_expiry_is_a_failure_and_counts_towards_parking),
        cmocka_unit_test(the_token_of_an_expired_lease_is_good_until_the_message_is_granted_again),
        cmocka_unit_test(what_came_back_can_not_be_extended_and_a_late_nack_counts_no_second_failure),
        cmocka_unit_test(extending_moves_the_end_and_each_message_has_its_own),
        cmocka_unit_test(extending_may_shorten_and_is_bounded),
        cmocka_unit_test(extending_every_message_of_a_large_lease_takes_no_long_time),
        cmocka_unit_test(part_of_a_lease_can_be_settled_and_the_rest_runs_on),
        cmocka_unit_test(a_lease_survives_a_restart_with_a_full_new_term_and_its_token),
        cmocka_unit_test(a_token_is_never_given_twice),
        cmocka_unit_test(a_repeated_receive_is_answered_with_the_same_leases_as_far_as_they_stand),
        cmocka_unit_test(slots_are_apart),
        cmocka_unit_test(a_counter_that_went_by_is_told_so),
        cmocka_unit_test(a_newer_receive_takes_the_place_of_the_one_that_waits_in_its_slot),
        cmocka_unit_test(a_settle_that_carries_a_receive_is_repeated_with_the_same_leases),
        cmocka_unit_test(a_carried_receive_keeps_to_its_slot),
        cmocka_unit_test(a_session_gives_all_its_leases_back_and_only_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

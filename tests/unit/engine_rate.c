/* Rates of handing out: of a group, of a key; exact however many receivers there are. */
#include "engine_kit.h"

static struct group *group_of(struct kit_world w) { return map_get(&w.k->engine->groups, w.g); }

/* All clients ask again and again for so long; how many messages were handed out. */
static uint64_t ask_for(struct kit_world w, uint64_t ms)
{
    uint64_t before = engine_counters(w.k->engine)->delivered_messages;
    for (uint64_t end = w.k->now.mono_ms + ms; w.k->now.mono_ms < end; kit_pass(w.k, 1))
        for (int who = A; who < CLIENTS; who++)
            kit_receive_wait(w.k, who, 0, w.g, 50, 60000);
    return engine_counters(w.k->engine)->delivered_messages - before;
}

static void a_group_gives_no_more_than_its_rate_after_a_seconds_worth(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.rate_milli = 20 * 1000, .order = ORDER_NONE});
    w.k->watch = false;
    kit_produce_many(w.k, w.p, "-", 300);
    assert_string_equal(kit_receive(w.k, A, w.g, 12), "0 1 2 3 4 5 6 7 8 9 10 11");
    kit_receive(w.k, B, w.g, 50);
    assert_in_range(group_of(w)->leased, 20, 21); /* some ms passed */
    uint64_t before = group_of(w)->leased;
    for (int i = 0; i < 40; i++) {
        kit_pass(w.k, 50);
        kit_receive_wait(w.k, C, 0, w.g, 50, 0);
    }
    assert_in_range(group_of(w)->leased - before, 39, 41);
    kit_free(w.k);
}

static void a_receive_that_waits_is_answered_when_the_group_may_give_again(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.rate_milli = 500}); /* one in two seconds */
    kit_produce(w.k, w.p, "a b c");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0");
    struct call *c = kit_receive_wait(w.k, B, 0, w.g, 10, 60000);
    kit_pass(w.k, 1900);
    assert_false(c->answered);
    kit_pass(w.k, 100);
    assert_string_equal(kit_deliveries(w.k, &kit_reply(c)->receive), "1");
    kit_free(w.k);
}

static void a_rate_is_exact_over_any_number_of_receivers(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.rate_milli = 30 * 1000, .order = ORDER_NONE});
    w.k->watch = false;
    kit_produce_many(w.k, w.p, "-", 400);
    uint64_t first = ask_for(w, 1000), then = ask_for(w, 3000);
    assert_in_range(first, 58, 62); /* a second's worth at once, and that of the second */
    assert_in_range(then, 88, 92);
    kit_free(w.k);
}

static void a_key_that_goes_too_fast_waits_and_the_others_go_on(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.key_rate_milli = 1000});
    kit_produce(w.k, w.p, "a a b a b -");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 2 5");
    kit_ack(w.k, A, w.g, "0 2 5");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 done 2 throttled 2 behind 1");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
    kit_produce(w.k, w.p, "c");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "6");
    kit_pass(w.k, 1000);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "1 4");
    kit_free(w.k);
}

static void a_key_is_remembered_when_nothing_of_it_is_left(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.key_rate_milli = 500});
    kit_produce(w.k, w.p, "a -");
    kit_receive(w.k, A, w.g, 10);
    kit_ack(w.k, A, w.g, "0 1");
    assert_int_equal(map_count(&group_of(w)->keys), 1);
    group_of(w)->demand = 10;
    kit_produce(w.k, w.p, "a a"); /* the scan meets them while their key is too fast */
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 2 throttled 1 behind 1");
    kit_pass(w.k, 2000);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "2");
    kit_ack(w.k, A, w.g, "2");
    kit_pass(w.k, 2000);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "3");
    kit_ack(w.k, A, w.g, "3");
    kit_pass(w.k, 60000);
    assert_int_equal(map_count(&group_of(w)->keys), 0);
    kit_free(w.k);
}

static void a_throttled_message_survives_a_restart(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.key_rate_milli = 1000});
    kit_produce(w.k, w.p, "a -");
    kit_receive(w.k, A, w.g, 10);
    kit_ack(w.k, A, w.g, "0 1");
    group_of(w)->demand = 10;
    kit_produce(w.k, w.p, "a a b");
    kit_pass(w.k, 10);
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 2 ready 1 throttled 1 behind 1");
    kit_restart(w.k);
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "2");
    kit_ack(w.k, A, w.g, "2");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "4");
    kit_pass(w.k, 1000);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "3");
    kit_free(w.k);
}

static void each_message_of_a_run_counts(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.run_max = 5, .key_rate_milli = 2000});
    kit_produce(w.k, w.p, "a a a a");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 1");
    kit_ack(w.k, A, w.g, "0 1");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 2 throttled 1 behind 1");
    kit_free(w.k);
}

static void a_redriven_message_waits_for_the_time_of_its_key_before_a_younger_one(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.key_rate_milli = 1000});
    kit_produce(w.k, w.p, "a a");
    kit_receive(w.k, A, w.g, 10);
    kit_settle(w.k, A, w.g, SETTLE_PARK, "0");
    kit_redrive(w.k, w.g, w.p, 0);
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 waiting 1 throttled 1 redriven 1");
    kit_pass(w.k, 1000);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0");
    kit_ack(w.k, A, w.g, "0");
    kit_pass(w.k, 1000);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "1");
    kit_free(w.k);
}

static void a_group_at_a_limit_does_not_call_receivers_in_vain(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){.rate_milli = 1000});
    kit_produce(w.k, w.p, "a b c");
    kit_receive(w.k, A, w.g, 10);
    size_t before = w.k->hints;
    kit_receive(w.k, A, w.g, 10);
    assert_int_equal(w.k->hints, before);
    kit_pass(w.k, 1000);
    assert_int_equal(w.k->hints, before + 1);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "1");
    kit_free(w.k);
}

/* Was a bug, of the bound in flight first: each look at a receive that waited took memory for all that it might get. */
static void a_receive_that_waits_at_a_limit_takes_no_memory_for_what_it_does_not_get(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        struct kit_world w = kit_world((struct wire_group_config){.rate_milli = how == 0 ? 1000 : 0, .in_flight_max = how == 1 ? 1 : 0, .order = ORDER_NONE});
        w.k->watch = false;
        w.k->message_ttl_ms = how == 2 ? 10 : 0;
        kit_produce_many(w.k, w.p, "-", 5000);
        kit_receive(w.k, A, w.g, 1);
        group_of(w)->demand = 2000;
        kit_pass(w.k, 10); /* in the last case all are expired */
        struct call *c = kit_receive_wait(w.k, B, 0, w.g, 1000, 500);
        size_t before = c->op.arena.used;
        for (int i = 0; i < 300 && !c->answered; i++) {
            kit_begin(w.k);
            group_stir(w.k->engine, group_of(w));
            kit_end(w.k);
            kit_pass(w.k, 1);
        }
        assert_false(c->answered);
        assert_in_range(c->op.arena.used - before, 0, 4096);
        kit_free(w.k);
    }
}

static void limits_that_cannot_be_kept_are_refused_with_why(void **state)
{
    (void)state;
    const struct { struct wire_group_config config; const char *why; } cases[] = {
        {{.key_in_flight_max = 2}, "one message, or one run"},
    };
    struct kit *k = kit_new();
    kit_topic(k, "t", 1);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct wire_request r = kit_request(k, A, VERB_GROUP_CREATE);
        r.group = (struct wire_group_set){.topic = VIEW_LIT("t"), .name = VIEW_LIT("g"), .config = cases[i].config};
        r.seq = ++k->seq[A][0];
        r.replies_seen = r.seq - 1;
        struct call *c = kit_call(k, r, A);
        k->seq[A][0]--;
        assert_int_equal(kit_reply(c)->code, E_UNSUPPORTED);
        assert_has(c->op.error.text, cases[i].why);
    }
    kit_group(k, "t", "g", &(struct wire_group_config){.key_in_flight_max = 1});
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_gives_no_more_than_its_rate_after_a_seconds_worth),
        cmocka_unit_test(a_receive_that_waits_is_answered_when_the_group_may_give_again),
        cmocka_unit_test(a_rate_is_exact_over_any_number_of_receivers),
        cmocka_unit_test(a_key_that_goes_too_fast_waits_and_the_others_go_on),
        cmocka_unit_test(a_key_is_remembered_when_nothing_of_it_is_left),
        cmocka_unit_test(a_throttled_message_survives_a_restart),
        cmocka_unit_test(each_message_of_a_run_counts),
        cmocka_unit_test(a_redriven_message_waits_for_the_time_of_its_key_before_a_younger_one),
        cmocka_unit_test(a_group_at_a_limit_does_not_call_receivers_in_vain),
        cmocka_unit_test(a_receive_that_waits_at_a_limit_takes_no_memory_for_what_it_does_not_get),
        cmocka_unit_test(limits_that_cannot_be_kept_are_refused_with_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Purging: everything up to the end is done, but what is parked. */
#include "engine_kit.h"

#include <time.h>

static uint64_t purge(struct kit *k, const char *group)
{
    const struct wire_reply *r = kit_control(k, "t", group, GROUP_PURGE);
    assert_int_equal(r->code, E_OK);
    return r->depth;
}

static void purged_messages_are_never_handed_out_and_what_is_produced_after_is(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 2), g = kit_group(k, "t", "g", NULL), other = kit_group(k, "t", "other", NULL);
    kit_produce(k, p, "a b a a c");
    kit_produce(k, p + 1, "x x y");
    kit_receive(k, A, g, 9);
    assert_string_equal(kit_ack(k, A, g, "1"), "");
    assert_int_equal(kit_rows(k, FAM_GROUPS, NULL), 5); /* four cursors, and what is done above a floor */
    assert_string_equal(kit_settle_delay(k, A, g, SETTLE_NACK, "1/0", 5000), "");
    struct call *waiting = kit_receive_wait(k, C, 1, other, 1, 1000);
    assert_int_equal(purge(k, "g"), 7);
    assert_string_equal(kit_where(k, "t", "g"), "floor 8");
    assert_int_equal(kit_rows(k, FAM_GROUPS, NULL), 4);
    assert_string_equal(kit_receive(k, B, g, 20), "");
    kit_pass(k, 60000);
    assert_string_equal(kit_receive(k, B, g, 20), "");
    kit_produce(k, p, "a d");
    assert_string_equal(kit_receive(k, B, g, 20), "5 6");
    kit_restart(k);
    assert_string_equal(kit_receive(k, A, g, 20), "");
    assert_true(waiting->answered);
    assert_int_equal(strlen(kit_receive(k, A, other, 20)) > 0, true); /* another group's are its own */
    assert_int_equal(purge(k, "other"), 10);
    assert_int_equal(purge(k, "other"), 0);
    kit_free(k);
}

static void who_holds_a_purged_message_has_lost_it(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b a");
    assert_string_equal(kit_receive(k, A, g, 2), "0 1");
    assert_int_equal(purge(k, "g"), 3);
    assert_string_equal(kit_ack(k, A, g, "0"), "LEASE_LOST");
    assert_string_equal(kit_settle(k, A, g, SETTLE_EXTEND, "1"), "LEASE_LOST");
    assert_int_equal(kit_rows(k, FAM_LEASES, NULL) + kit_rows(k, FAM_KEYS, NULL) + kit_rows(k, FAM_HELD, NULL) + kit_rows(k, FAM_SCHED, NULL), 0);
    kit_pass(k, 60000); /* no timer of it is left */
    kit_lose_pipe(k, A);
    kit_pass(k, 60000);
    assert_string_equal(kit_where(k, "t", "g"), "floor 3");
    kit_free(k);
}

static void dead_letters_survive_a_purge_and_can_be_redriven(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a a b");
    kit_receive(k, A, g, 1);
    kit_settle(k, A, g, SETTLE_PARK, "0");
    kit_receive(k, A, g, 2);
    assert_int_equal(purge(k, "g"), 2);
    assert_string_equal(kit_held(k, "t", "g", HELD_ANY), "0 parked(parked)");
    assert_string_equal(kit_where(k, "t", "g"), "floor 3 parked 1");
    assert_true(kit_redrive(k, g, p, 0));
    assert_string_equal(kit_receive(k, A, g, 9), "0");
    assert_int_equal(purge(k, "g"), 1); /* present again, and purged */
    assert_string_equal(kit_where(k, "t", "g"), "floor 3");
    assert_string_equal(kit_ack(k, A, g, "0"), "LEASE_LOST");
    assert_int_equal(kit_rows(k, FAM_HELD, NULL), 0);
    kit_free(k);
}

static void a_dead_letter_that_blocks_its_key_goes_on_doing_so_and_what_waited_behind_it_is_purged(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", &(struct wire_group_config){.park = PARK_KEY});
    kit_produce(k, p, "a a a b b");
    assert_string_equal(kit_receive(k, A, g, 2), "0 3");
    kit_settle(k, A, g, SETTLE_PARK, "0");
    assert_int_equal(purge(k, "g"), 4);
    assert_string_equal(kit_where(k, "t", "g"), "floor 5 blocked 1 parked 1 redriven 1 away 1");
    assert_int_equal(kit_lag(k, "t", "g").scale_value, 0);
    kit_produce(k, p, "a b");
    assert_string_equal(kit_receive(k, A, g, 9), "6"); /* 5 waits behind 0 */
    kit_restart(k);
    kit_ack(k, A, g, "6");
    assert_string_equal(kit_receive(k, A, g, 9), "");
    kit_produce(k, p, "a");
    assert_int_equal(purge(k, "g"), 2); /* and again */
    kit_produce(k, p, "a");
    assert_true(kit_redrive(k, g, p, 0));
    assert_string_equal(kit_receive(k, A, g, 9), "0");
    kit_ack(k, A, g, "0");
    assert_string_equal(kit_receive(k, A, g, 9), "8");
    kit_ack(k, A, g, "8");
    assert_string_equal(kit_where(k, "t", "g"), "floor 9");
    kit_free(k);
}

/* A redriven message that is parked again blocks, and must not count as one that is on its way. */
static void dead_letters_that_block_do_not_hold_up_a_redrive(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", &(struct wire_group_config){.park = PARK_KEY});
    const struct group *group = map_get(&k->engine->groups, g);
    kit_produce(k, p, "a b");
    kit_receive(k, A, g, 2);
    kit_settle(k, A, g, SETTLE_PARK, "0 1");
    purge(k, "g");
    assert_int_equal(group_waiting(group), 0);
    assert_true(kit_redrive(k, g, p, 1));
    assert_int_equal(group_waiting(group), 1);
    kit_receive(k, A, g, 1);
    kit_settle(k, A, g, SETTLE_PARK, "1");
    assert_int_equal(group_waiting(group), 0);
    kit_restart(k);
    group = map_get(&k->engine->groups, g);
    assert_int_equal(group_waiting(group), 0);
    kit_drop_parked(k, g, p, 0);
    kit_drop_parked(k, g, p, 1);
    assert_int_equal(group_waiting(group), 0);
    assert_string_equal(kit_where(k, "t", "g"), "floor 2");
    kit_free(k);
}

static void what_was_being_read_ahead_when_the_group_was_purged_is_not_handed_out(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b");
    k->hold_loads = true;
    struct call *c = kit_receive_wait(k, A, 1, g, 9, 60000);
    assert_int_equal(k->loads_n, 1);
    assert_int_equal(purge(k, "g"), 2);
    kit_produce(k, p, "c d"); /* read ahead anew, before the first is answered */
    assert_int_equal(k->loads_n, 2);
    assert_false(c->answered);
    k->hold_loads = false;
    kit_quiet(k);
    assert_string_equal(kit_deliveries(k, &kit_reply(c)->receive), "2 3");
    kit_free(k);
}

static void a_purge_that_is_repeated_is_done_once_and_says_the_same(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b c");
    assert_int_equal(purge(k, "g"), 3);
    kit_restart(k);
    kit_produce(k, p, "d");
    struct wire_request r = kit_request(k, A, VERB_GROUP_CONTROL);
    r.control = (struct wire_group_control){.topic = VIEW_LIT("t"), .name = VIEW_LIT("g"), .act = GROUP_PURGE};
    r.seq = k->seq[A][0];
    r.replies_seen = r.seq - 1;
    const struct wire_reply *reply = kit_ask(k, r, A);
    assert_int_equal(reply->code, E_OK);
    assert_int_equal(reply->depth, 3);
    assert_string_equal(kit_where(k, "t", "g"), "floor 3 unscanned 1");
    kit_free(k);
}

static void a_purge_in_the_turn_of_everything_else_covers_what_came_before_it(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a a b b c");
    kit_receive(k, A, g, 3);
    struct wire_settle_item items[] = {kit_item(k, g, SETTLE_NACK, "0"), kit_item(k, g, SETTLE_ACK, "2")};
    struct wire_request settle = kit_request(k, A, VERB_SETTLE), control = kit_request(k, A, VERB_GROUP_CONTROL), again = settle;
    settle.settle = (struct wire_settle){.singles = items, .singles_n = 2};
    settle.seq = ++k->seq[A][0];
    control.control = (struct wire_group_control){.topic = VIEW_LIT("t"), .name = VIEW_LIT("g"), .act = GROUP_PURGE};
    control.seq = ++k->seq[A][0];
    struct wire_settle_item late = kit_item(k, g, SETTLE_ACK, "4");
    again.settle = (struct wire_settle){.singles = &late, .singles_n = 1};
    again.seq = ++k->seq[A][0];
    kit_begin(k);
    struct call *calls[] = {kit_call(k, settle, A), kit_call(k, control, A), kit_call(k, again, A)};
    kit_end(k);
    kit_quiet(k);
    assert_null(kit_reply(calls[0])->settle.codes);
    assert_int_equal(kit_reply(calls[1])->depth, 4);
    assert_int_equal(kit_reply(calls[2])->settle.codes[0], E_LEASE_LOST);
    assert_string_equal(kit_where(k, "t", "g"), "floor 5");
    assert_int_equal(kit_rows(k, FAM_LEASES, NULL) + kit_rows(k, FAM_KEYS, NULL) + kit_rows(k, FAM_HELD, NULL) + kit_rows(k, FAM_SCHED, NULL), 0);
    kit_free(k);
}

static void a_purge_costs_what_is_in_memory_however_long_the_backlog(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    for (int i = 0; i < 40; i++) /* one key with two million and more waiting, most of them in its list */
        kit_produce_many(k, p, "a", 60000);
    for (int i = 0; i < 300; i++)
        kit_receive(k, A, g, 1000);
    struct engine_census c;
    engine_census(k->engine, VIEW_LIT("t"), VIEW_LIT("g"), &c);
    assert_in_range(c.behind, 100000, 2400000);
    uint64_t puts = engine_counters(k->engine)->puts;
    clock_t began = clock();
    assert_int_equal(purge(k, "g"), 2400000);
    assert_in_range(engine_counters(k->engine)->puts - puts, 1, 20);
    assert_true((double)(clock() - began) / CLOCKS_PER_SEC < 1); /* the store in RAM removes its rows one by one */
    assert_int_equal(kit_rows(k, FAM_KEYS, NULL), 0);
    kit_free(k);
}

/* Everything that may happen to messages, with purges between: the kit adds up all of them and restarts after every step. */
static void purges_between_everything_else_lose_and_invent_nothing(void **state)
{
    (void)state;
    for (int seed = 1; seed <= 30; seed++) {
        struct kit *k = kit_new();
        struct rng r;
        rng_seed(&r, (uint64_t)seed);
        struct wire_group_config config = {.park = seed % 2 ? PARK_KEY : PARK_MESSAGE, .max_deliveries = 2, .order = seed % 5 ? ORDER_KEY : ORDER_NONE,
                                           .run_max = 1 + seed % 3, .key_rate_milli = seed % 5 && seed % 4 == 3 ? 200 : 0};
        uint32_t p = kit_topic(k, "t", 2), g = kit_group(k, "t", "g", &config);
        static const char *const keys[2][6] = {{"a", "b", "a b", "-", "a a a", "c b - a"}, {"u", "v", "u v", "-", "u u u", "w v - u"}};
        for (int i = 0; i < 250; i++) {
            uint32_t index = (uint32_t)rng_below(&r, 2);
            switch (rng_below(&r, 8)) {
            case 0:
            case 1:
                kit_produce(k, p + index, keys[index][rng_below(&r, 6)]);
                break;
            case 2:
            case 3: {
                char *got = strdup(kit_receive(k, rng_chance(&r, 1, 2) ? A : B, g, 1 + (uint32_t)rng_below(&r, 3)));
                if (got[0] != '\0')
                    kit_settle_delay(k, A, g, 1 + (enum settle_verb)rng_below(&r, 4), got, (uint32_t)rng_below(&r, 3000));
                free(got);
                break;
            }
            case 4:
                kit_receive(k, A, g, 2);
                break;
            case 5:
                kit_pass(k, rng_below(&r, 20000));
                break;
            case 6:
                if (rng_chance(&r, 1, 3))
                    kit_restart(k);
                break;
            default: {
                if (!rng_chance(&r, 1, 4))
                    break;
                struct engine_census before, after;
                engine_census(k->engine, VIEW_LIT("t"), VIEW_LIT("g"), &before);
                uint64_t purged = purge(k, "g");
                engine_census(k->engine, VIEW_LIT("t"), VIEW_LIT("g"), &after);
                assert_int_equal(after.floor, before.end);
                assert_int_equal(after.parked, before.parked);
                assert_int_equal(after.blocked, before.blocked);
                assert_int_equal(after.leased + after.ready + after.retrying + after.waiting + after.throttled + after.behind + after.unscanned, 0);
                if (!before.scanning_again)
                    assert_int_equal(purged, before.leased + before.ready + before.retrying + before.waiting + before.throttled + before.behind + before.unscanned);
                assert_string_equal(kit_receive(k, C, g, 50), "");
            }
            }
        }
        kit_free(k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(purged_messages_are_never_handed_out_and_what_is_produced_after_is),
        cmocka_unit_test(who_holds_a_purged_message_has_lost_it),
        cmocka_unit_test(dead_letters_survive_a_purge_and_can_be_redriven),
        cmocka_unit_test(a_dead_letter_that_blocks_its_key_goes_on_doing_so_and_what_waited_behind_it_is_purged),
        cmocka_unit_test(dead_letters_that_block_do_not_hold_up_a_redrive),
        cmocka_unit_test(what_was_being_read_ahead_when_the_group_was_purged_is_not_handed_out),
        cmocka_unit_test(a_purge_that_is_repeated_is_done_once_and_says_the_same),
        cmocka_unit_test(a_purge_in_the_turn_of_everything_else_covers_what_came_before_it),
        cmocka_unit_test(a_purge_costs_what_is_in_memory_however_long_the_backlog),
        cmocka_unit_test(purges_between_everything_else_lose_and_invent_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

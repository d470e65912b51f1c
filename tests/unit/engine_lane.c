/* Numbers: a retry is not a duplicate, in order where order is asked for, and nothing is kept for ever. */
#include "engine_kit.h"

static struct wire_request produce(struct kit_world w, uint64_t seq, uint64_t seen)
{
    struct wire_request r = kit_request(w.k, B, VERB_PRODUCE);
    r.lane = w.p;
    r.seq = seq;
    r.replies_seen = seen;
    r.produce = (struct wire_produce){.partition = w.p, .count = 2, .batch = VIEW_LIT("batch")};
    return r;
}

static const struct wire_reply *numbered_produce(struct kit_world w, uint64_t seq, uint64_t seen) { return kit_ask(w.k, produce(w, seq, seen), B); }

static struct wire_request make_group(struct kit_world w, const char *name, uint64_t seq, uint64_t seen)
{
    struct wire_request r = kit_request(w.k, B, VERB_GROUP_CREATE);
    r.seq = seq;
    r.replies_seen = seen;
    r.group = (struct wire_group_set){.topic = VIEW_LIT("t"), .name = view_of_str(name)};
    return r;
}

static const struct wire_reply *numbered_group(struct kit_world w, const char *name, uint64_t seq, uint64_t seen)
{
    return kit_ask(w.k, make_group(w, name, seq, seen), B);
}

static uint64_t end_of(struct kit_world w) { return ((struct partition *)table_get(&w.k->engine->partitions, w.p))->row.end; }

static void a_repeat_is_answered_with_the_first_result_and_done_once(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    assert_int_equal(numbered_produce(w, 1, 0)->produce.base_offset, 0);
    const struct wire_reply *first = numbered_produce(w, 2, 0);
    assert_false(first->produce.duplicate);
    w.k->now.wall_ms += 5000;
    const struct wire_reply *again = numbered_produce(w, 2, 0);
    assert_int_equal(again->code, E_OK);
    assert_false(again->produce.duplicate); /* the reply of the first, to the letter */
    assert_int_equal(again->produce.base_offset, 2);
    assert_int_equal(again->produce.count, 2);
    assert_int_equal(again->produce.append_time_ms, first->produce.append_time_ms);
    assert_int_equal(again->durability, DURABILITY_DISK);
    assert_int_equal(end_of(w), 4);
    kit_free(w.k);
}

static void a_repeat_in_the_same_turn_is_done_once_too(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    kit_begin(w.k);
    struct call *a = kit_call(w.k, produce(w, 1, 0), B), *b = kit_call(w.k, produce(w, 1, 0), B);
    kit_end(w.k);
    assert_int_equal(kit_reply(a)->produce.base_offset, kit_reply(b)->produce.base_offset);
    assert_int_equal(end_of(w), 2);
    kit_free(w.k);
}

static void an_ordered_lane_takes_only_the_next_number(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    assert_int_equal(numbered_produce(w, 2, 0)->code, E_OUT_OF_ORDER);
    assert_int_equal(numbered_produce(w, UINT64_MAX, 0)->code, E_OUT_OF_ORDER);
    assert_int_equal(numbered_produce(w, 1, 0)->code, E_OK);
    assert_int_equal(numbered_produce(w, 3, 0)->code, E_OUT_OF_ORDER);
    assert_int_equal(numbered_produce(w, 2, 0)->code, E_OK);
    assert_int_equal(end_of(w), 4);
    kit_free(w.k);
}

static void a_refused_request_keeps_its_number_and_its_successors_wait(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    w.k->limits.disk_reserve_bytes = 100;
    kit_begin(w.k);
    engine_disk(w.k->engine, 10);
    kit_end(w.k);
    assert_int_equal(numbered_produce(w, 1, 0)->code, E_DISK_FULL);
    assert_int_equal(numbered_produce(w, 2, 0)->code, E_OUT_OF_ORDER);
    kit_begin(w.k);
    engine_disk(w.k->engine, 1000);
    kit_end(w.k);
    assert_int_equal(numbered_produce(w, 2, 0)->code, E_OUT_OF_ORDER);
    assert_int_equal(numbered_produce(w, 1, 0)->produce.base_offset, 0);
    assert_int_equal(numbered_produce(w, 2, 0)->produce.base_offset, 2);
    kit_free(w.k);
}

static void the_unordered_lane_is_open_for_sixty_numbers_above_the_lowest_that_is_missing(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    assert_int_equal(numbered_group(w, "g60", 60, 0)->code, E_OK);
    assert_int_equal(numbered_group(w, "g61", 61, 0)->code, E_OUT_OF_ORDER);
    assert_int_equal(numbered_group(w, "g2", 2, 0)->code, E_OK);
    assert_int_equal(numbered_group(w, "g61", 61, 0)->code, E_OUT_OF_ORDER);
    assert_int_equal(numbered_group(w, "g1", 1, 0)->code, E_OK); /* 1 and 2 are done: 62 is the highest now */
    assert_int_equal(numbered_group(w, "g62", 62, 0)->code, E_OK);
    assert_int_equal(numbered_group(w, "g63", 63, 0)->code, E_OUT_OF_ORDER);
    kit_free(w.k);
}

static void numbers_of_the_unordered_lane_are_done_once_in_any_order(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    static const uint64_t order[] = {3, 1, 5, 2, 4};
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        char name[8];
        snprintf(name, sizeof name, "n%d", (int)order[i]);
        const struct wire_reply *r = numbered_group(w, name, order[i], 0);
        assert_int_equal(r->code, E_OK);
        assert_true(r->groups.created);
        for (size_t j = 0; j <= i; j++) { /* the same number once more: the result of the first, not "exists" */
            snprintf(name, sizeof name, "n%d", (int)order[j]);
            r = numbered_group(w, name, order[j], 0);
            assert_int_equal(r->code, E_OK);
            assert_true(r->groups.created);
        }
    }
    kit_free(w.k);
}

static void results_are_kept_until_the_client_has_seen_them(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    for (uint64_t seq = 1; seq <= 5; seq++)
        numbered_produce(w, seq, 0);
    assert_int_equal(numbered_produce(w, 3, 2)->produce.base_offset, 4);
    assert_int_equal(numbered_produce(w, 2, 0)->code, E_INVALID_ARGUMENT); /* it said that it saw it */
    assert_int_equal(numbered_produce(w, 5, 4)->produce.base_offset, 8);
    assert_int_equal(end_of(w), 10);
    kit_free(w.k);
}

static void results_and_numbers_survive_a_restart(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    for (uint64_t seq = 1; seq <= 3; seq++)
        numbered_produce(w, seq, 1);
    numbered_group(w, "two", 2, 0);
    kit_restart(w.k);
    assert_int_equal(numbered_produce(w, 2, 1)->produce.base_offset, 2);
    assert_int_equal(numbered_produce(w, 3, 1)->produce.base_offset, 4);
    assert_true(numbered_group(w, "two", 2, 0)->groups.created);
    assert_int_equal(numbered_produce(w, 5, 1)->code, E_OUT_OF_ORDER);
    assert_int_equal(numbered_produce(w, 4, 1)->produce.base_offset, 6);
    assert_true(numbered_group(w, "one", 1, 0)->groups.created);
    assert_int_equal(end_of(w), 8);
    kit_free(w.k);
}

static void a_number_that_was_seen_answered_is_over_even_if_a_power_cut_took_its_effect(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    assert_int_equal(numbered_produce(w, 5, 4)->code, E_OK); /* 1 to 4 stood on `os`, and are gone with the power */
    assert_int_equal(numbered_produce(w, 6, 4)->code, E_OK);
    kit_free(w.k);
}

static void another_request_under_a_used_number_is_refused(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    assert_int_equal(numbered_group(w, "g1", 1, 0)->code, E_OK);
    struct wire_request r = kit_request(w.k, B, VERB_TOPIC_CREATE);
    r.seq = 1;
    r.topic.name = VIEW_LIT("other");
    assert_int_equal(kit_ask(w.k, r, B)->code, E_INVALID_ARGUMENT);
    assert_null(topic_find(w.k->engine, VIEW_LIT("other")));
    kit_free(w.k);
}

static void a_request_without_a_number_or_in_a_lane_that_is_not_its_own_is_refused(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    assert_int_equal(numbered_produce(w, 0, 0)->code, E_INVALID_ARGUMENT);
    struct wire_request r = produce(w, 1, 0);
    r.lane = 0;
    assert_int_equal(kit_ask(w.k, r, B)->code, E_INVALID_ARGUMENT);
    r.lane = w.p + 1;
    assert_int_equal(kit_ask(w.k, r, B)->code, E_INVALID_ARGUMENT);
    r = make_group(w, "x", 1, 0);
    r.lane = w.p;
    assert_int_equal(kit_ask(w.k, r, B)->code, E_INVALID_ARGUMENT);
    r = produce(w, 1, 0);
    r.lane = r.produce.partition = 999;
    assert_int_equal(kit_ask(w.k, r, B)->code, E_PARTITION_NOT_FOUND);
    kit_free(w.k);
}

static void a_replies_seen_that_lies_harms_nobody_but_its_lane(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    assert_int_equal(numbered_produce(w, 1, UINT64_MAX)->code, E_OK); /* not below its own number: not believed */
    assert_int_equal(numbered_produce(w, UINT64_MAX, UINT64_MAX - 1)->code, E_OK);
    assert_int_equal(numbered_produce(w, UINT64_MAX, UINT64_MAX - 1)->produce.base_offset, 2);
    assert_int_equal(end_of(w), 4);
    assert_int_equal(numbered_produce(w, 2, 1)->code, E_INVALID_ARGUMENT);
    assert_int_equal(numbered_group(w, "g1", UINT64_MAX, UINT64_MAX - 1)->code, E_OK);
    assert_int_equal(numbered_group(w, "g2", UINT64_MAX - 3, 0)->code, E_INVALID_ARGUMENT);
    assert_int_equal(end_of(w), 4);
    assert_int_equal(kit_produce(w.k, w.p, "a"), E_OK);
    kit_free(w.k);
}

/* Was a bug: a client that never said what it saw made the broker keep, and write again each turn, every result it ever got. */
static void a_client_that_never_says_what_it_saw_is_refused_in_the_end(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    w.k->watch = false;
    uint64_t seq = 1;
    while (numbered_produce(w, seq, 0)->code == E_OK && seq < 1000)
        seq++;
    assert_int_equal(seq, LANE_RESULTS_MAX + 1);
    assert_int_equal(numbered_produce(w, seq, 0)->code, E_LIMIT);
    assert_int_equal(numbered_produce(w, seq - 1, 0)->code, E_OK); /* repeats are answered all the same */
    assert_int_equal(numbered_produce(w, seq, seq - 1)->code, E_OK);
    kit_free(w.k);
}

static void large_results_that_nobody_sees_are_bounded_in_bytes(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    w.k->watch = false;
    struct wire_settle_item *items = mem_array(WIRE_ITEMS_MAX, sizeof *items);
    for (uint32_t i = 0; i < WIRE_ITEMS_MAX; i++) /* each is refused, so each has a code to keep */
        items[i] = (struct wire_settle_item){.token = 1, .group = w.g, .partition = w.p, .offset = i, .verb = SETTLE_ACK};
    struct wire_request r = kit_request(w.k, B, VERB_SETTLE);
    r.settle = (struct wire_settle){.singles = items, .singles_n = WIRE_ITEMS_MAX};
    int code = E_OK;
    for (r.seq = 1; code == E_OK && r.seq < 60; r.seq++)
        code = kit_ask(w.k, r, B)->code;
    assert_int_equal(code, E_LIMIT);
    mem_free(items);
    kit_free(w.k);
}

static void a_session_made_anew_in_the_turn_in_which_its_like_ended_has_no_numbers(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    numbered_produce(w, 1, 0);
    kit_begin(w.k);
    kit_call(w.k, kit_request(w.k, B, VERB_BYE), B);
    struct wire_request hello = kit_request(w.k, B, VERB_HELLO);
    hello.hello = (struct wire_hello){.version_min = 1, .version_max = 1};
    kit_call(w.k, hello, B);
    struct call *c = kit_call(w.k, produce(w, 1, 0), B);
    kit_end(w.k);
    assert_int_equal(kit_reply(c)->code, E_OK);
    assert_false(kit_reply(c)->produce.duplicate);
    assert_int_equal(end_of(w), 4);
    kit_free(w.k);
}

static void lanes_of_a_session_are_limited(void **state)
{
    (void)state;
    struct kit_world w = kit_world((struct wire_group_config){0});
    w.k->limits.lanes_per_session_max = 2;
    uint32_t p = kit_topic(w.k, "many", 3);
    assert_int_equal(kit_produce_by(w.k, B, p, "a"), E_OK);
    assert_int_equal(kit_produce_by(w.k, B, p + 1, "a"), E_OK);
    assert_int_equal(kit_produce_by(w.k, B, p + 2, "a"), E_LIMIT);
    assert_int_equal(kit_produce_by(w.k, B, p, "a"), E_OK);
    kit_free(w.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_repeat_is_answered_with_the_first_result_and_done_once),
        cmocka_unit_test(a_repeat_in_the_same_turn_is_done_once_too),
        cmocka_unit_test(an_ordered_lane_takes_only_the_next_number),
        cmocka_unit_test(a_refused_request_keeps_its_number_and_its_successors_wait),
        cmocka_unit_test(the_unordered_lane_is_open_for_sixty_numbers_above_the_lowest_that_is_missing),
        cmocka_unit_test(numbers_of_the_unordered_lane_are_done_once_in_any_order),
        cmocka_unit_test(results_are_kept_until_the_client_has_seen_them),
        cmocka_unit_test(results_and_numbers_survive_a_restart),
        cmocka_unit_test(a_number_that_was_seen_answered_is_over_even_if_a_power_cut_took_its_effect),
        cmocka_unit_test(another_request_under_a_used_number_is_refused),
        cmocka_unit_test(a_request_without_a_number_or_in_a_lane_that_is_not_its_own_is_refused),
        cmocka_unit_test(a_replies_seen_that_lies_harms_nobody_but_its_lane),
        cmocka_unit_test(a_client_that_never_says_what_it_saw_is_refused_in_the_end),
        cmocka_unit_test(large_results_that_nobody_sees_are_bounded_in_bytes),
        cmocka_unit_test(a_session_made_anew_in_the_turn_in_which_its_like_ended_has_no_numbers),
        cmocka_unit_test(lanes_of_a_session_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

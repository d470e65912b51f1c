/* Handing out: to whom, in which order, how much, and who waits how long. */
#include "engine_kit.h"

static struct wire_request receive(struct kit *k, int who, uint32_t slot, const uint32_t *groups, uint32_t groups_n)
{
    struct wire_request r = kit_request(k, who, VERB_RECEIVE);
    r.receive = (struct wire_receive){.slot = slot, .counter = ++k->counter[who][slot], .groups = groups, .groups_n = groups_n, .max_messages = 10};
    return r;
}

static void without_order_every_message_may_go_at_once(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", &(struct wire_group_config){.order = ORDER_NONE});
    kit_produce(k, p, "a a a");
    assert_string_equal(kit_receive(k, A, g, 10), "0 1 2");
    kit_free(k);
}

static void messages_without_a_key_are_not_ordered(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "- - a - a");
    assert_string_equal(kit_receive(k, A, g, 10), "0 1 2 3");
    kit_free(k);
}

static void each_group_gets_every_message(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL), h = kit_group(k, "t", "h", NULL);
    kit_produce(k, p, "a b");
    assert_string_equal(kit_receive(k, A, g, 10), "0 1");
    kit_ack(k, A, g, "0 1");
    assert_string_equal(kit_receive(k, A, h, 10), "0 1");
    kit_free(k);
}

static void a_group_from_the_end_gets_only_what_comes_later(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_produce(k, p, "a b");
    uint32_t g = kit_group(k, "t", "g", &(struct wire_group_config){.from = FROM_END});
    kit_produce(k, p, "a");
    assert_string_equal(kit_receive(k, A, g, 10), "2");
    kit_free(k);
}

static void partitions_take_turns(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 3), g = kit_group(k, "t", "g", NULL);
    for (uint32_t i = 0; i < 3; i++)
        kit_produce(k, p + i, "- - -");
    struct call *c = kit_receive_wait(k, C, 1, g, 2, 1000);
    assert_string_equal(kit_deliveries(k, &kit_reply(c)->receive), "0 1"); /* what lies together is read together */
    assert_string_equal(kit_receive(k, A, g, 1), "1/0");
    assert_string_equal(kit_receive(k, A, g, 1), "2/0");
    assert_string_equal(kit_receive(k, A, g, 2), "2 1/1");
    assert_string_equal(kit_receive(k, A, g, 6), "2/1 2/2 1/2");
    kit_free(k);
}

/* Was a bug: a partition with a long backlog was read ahead first, each time. */
static void a_long_backlog_in_one_partition_does_not_keep_the_others_from_being_read(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    uint32_t p = kit_topic(k, "t", 2), g = kit_group(k, "t", "g", NULL);
    kit_produce_many(k, p, "-", 5000);
    kit_produce(k, p + 1, "-");
    bool met = false;
    for (int i = 0; i < 200 && !met; i++)
        met = strcmp(kit_receive(k, A, g, 1), "1/0") == 0;
    assert_true(met);
    kit_free(k);
}

/* Was a bug: each partition was asked for all that was wanted, so many partitions brought many times as much. */
static void reading_ahead_counts_what_is_on_its_way(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    uint32_t p = kit_topic(k, "t", 50), g = kit_group(k, "t", "g", NULL);
    for (uint32_t i = 0; i < 50; i++)
        kit_produce_many(k, p + i, "-", 200);
    k->hold_loads = true;
    kit_receive_wait(k, A, 0, g, 100, 1000);
    uint64_t records = 0;
    for (size_t i = 0; i < k->loads_n; i++)
        records += k->loads[i].records;
    assert_in_range(records, 100, 264);
    k->hold_loads = false;
    kit_quiet(k);
    kit_free(k);
}

/* Was a bug: what one group had read ahead and left used up the room of all the others, for ever. */
static void a_group_that_reads_and_leaves_does_not_starve_the_others(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    k->limits.ready_max = 1000;
    uint32_t p = kit_topic(k, "t", 1), hog = kit_group(k, "t", "hog", NULL), g = kit_group(k, "t", "g", NULL);
    kit_produce_many(k, p, "-", 5000);
    kit_receive_wait(k, B, 0, hog, 2000, 1000);
    kit_ask(k, kit_request(k, B, VERB_BYE), B);
    assert_true(k->engine->ready >= 1000);
    assert_string_equal(kit_receive(k, A, g, 1), "0");
    kit_free(k);
}

static void the_read_ahead_of_a_group_that_is_deleted_meanwhile_is_nobodys(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b c");
    k->hold_loads = true;
    struct call *c = kit_receive_wait(k, B, 0, g, 10, 5000);
    assert_int_equal(k->loads_n, 1);
    assert_int_equal(kit_delete_group(k, "t", "g"), E_OK);
    assert_int_equal(kit_reply(c)->code, E_GROUP_NOT_FOUND);
    assert_int_equal(k->engine->loading, 0);
    uint32_t again = kit_group(k, "t", "g", NULL);
    assert_true(again > g);
    struct call *d = kit_receive_wait(k, B, 0, again, 10, 5000);
    assert_int_equal(k->loads_n, 2); /* the old answer and the new one come in the same turn */
    k->hold_loads = false;
    kit_quiet(k);
    assert_string_equal(kit_deliveries(k, &kit_reply(d)->receive), "0 1 2");
    kit_free(k);
}

static void the_read_ahead_of_a_topic_that_is_deleted_meanwhile_is_nobodys(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b c");
    k->hold_loads = true;
    struct call *c = kit_receive_wait(k, B, 0, g, 10, 5000);
    assert_int_equal(kit_delete_topic(k, "t"), E_OK);
    assert_int_equal(kit_reply(c)->code, E_TOPIC_DELETED);
    uint32_t other = kit_topic(k, "t", 1);
    assert_true(other > p);
    k->hold_loads = false;
    kit_quiet(k);
    kit_free(k);
}

static void a_long_poll_is_answered_by_the_next_message_first_come_first_served(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    struct call *a = kit_receive_wait(k, A, 0, g, 1, 5000), *b = kit_receive_wait(k, B, 0, g, 1, 5000), *c = kit_receive_wait(k, C, 0, g, 1, 5000);
    kit_produce(k, p, "a b");
    assert_string_equal(kit_deliveries(k, &kit_reply(a)->receive), "0");
    assert_string_equal(kit_deliveries(k, &kit_reply(b)->receive), "1");
    assert_false(c->answered);
    kit_ack(k, A, g, "0");
    kit_produce(k, p, "a");
    assert_string_equal(kit_deliveries(k, &kit_reply(c)->receive), "2");
    kit_free(k);
}

static void a_long_poll_ends_empty_when_its_time_is_up(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic(k, "t", 1);
    uint32_t g = kit_group(k, "t", "g", NULL);
    struct call *c = kit_receive_wait(k, A, 0, g, 1, 2000);
    kit_pass(k, 1999);
    assert_false(c->answered);
    kit_pass(k, 1);
    assert_int_equal(kit_reply(c)->code, E_OK);
    assert_int_equal(c->op.reply.receive.deliveries_n, 0);
    assert_int_equal(c->op.reply.receive.counter, 1);
    c = kit_receive_wait(k, A, 0, g, 1, UINT32_MAX); /* nobody waits for ever */
    kit_pass(k, k->limits.wait_ms_max);
    assert_true(c->answered);
    kit_free(k);
}

static void a_receive_that_does_not_wait_is_answered_at_once_when_there_is_nothing(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    assert_true(kit_receive_wait(k, A, 0, g, 1, 0)->answered);
    k->hold_loads = true;
    kit_produce(k, p, "a");
    struct call *c = kit_receive_wait(k, A, 0, g, 1, 0); /* what is in the log and not read yet is given a moment */
    assert_false(c->answered);
    kit_pass(k, 50);
    assert_int_equal(kit_reply(c)->receive.deliveries_n, 0);
    k->hold_loads = false;
    kit_quiet(k);
    assert_string_equal(kit_receive(k, A, g, 1), "0");
    kit_free(k);
}

static void one_long_poll_too_many_ends_the_oldest(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic(k, "t", 1);
    uint32_t g = kit_group(k, "t", "g", NULL);
    struct call *calls[13];
    for (uint32_t i = 0; i < 13; i++)
        calls[i] = kit_receive_wait(k, A, i, g, 1, 10000);
    assert_int_equal(kit_reply(calls[0])->code, E_AGAIN);
    for (uint32_t i = 1; i < 13; i++)
        assert_false(calls[i]->answered);
    assert_false(kit_receive_wait(k, B, 0, g, 1, 10000)->answered); /* another session has its own twelve */
    assert_false(calls[1]->answered);
    kit_free(k);
}

static void a_receive_of_several_groups_takes_from_each_and_is_one_operation(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), q = kit_topic(k, "u", 1);
    uint32_t groups[] = {kit_group(k, "t", "g", NULL), kit_group(k, "u", "g", NULL)};
    struct wire_request r = receive(k, A, 0, groups, 2);
    r.receive.wait_ms = 5000;
    struct call *c = kit_call(k, r, A);
    assert_false(c->answered);
    kit_produce(k, q, "x");
    assert_int_equal(kit_reply(c)->receive.deliveries_n, 1);
    assert_int_equal(kit_reply(c)->receive.deliveries[0].group, groups[1]);
    kit_produce(k, p, "a b"); /* it left the other queue too */
    kit_produce(k, q, "y");
    kit_receive(k, B, groups[0], 1);
    kit_receive(k, B, groups[1], 1);
    kit_settle(k, B, groups[0], SETTLE_RELEASE, "0");
    kit_settle(k, B, groups[1], SETTLE_RELEASE, "1");
    r = receive(k, A, 0, groups, 2);
    c = kit_call(k, r, A);
    assert_int_equal(kit_reply(c)->receive.deliveries_n, 2);
    assert_string_equal(kit_deliveries(k, &kit_reply(c)->receive), "0 1 1");
    kit_free(k);
}

static void a_receive_that_names_a_group_many_times_gets_each_message_once(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    uint32_t groups[300];
    for (size_t i = 0; i < ARRAY_LEN(groups); i++)
        groups[i] = g;
    struct wire_request r = receive(k, A, 0, groups, ARRAY_LEN(groups));
    assert_int_equal(kit_ask(k, r, A)->receive.deliveries_n, 0);
    r = receive(k, A, 0, groups, ARRAY_LEN(groups));
    r.receive.wait_ms = 5000;
    struct call *c = kit_call(k, r, A);
    kit_produce(k, p, "a b c");
    assert_string_equal(kit_deliveries(k, &kit_reply(c)->receive), "0 1 2");
    kit_free(k);
}

static void an_unknown_group_is_named(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic(k, "t", 1);
    uint32_t groups[] = {kit_group(k, "t", "g", NULL), 4711};
    struct call *c = kit_call(k, receive(k, A, 0, groups, 2), A);
    assert_int_equal(kit_reply(c)->code, E_GROUP_NOT_FOUND);
    assert_has(c->op.error.text, "4711");
    kit_free(k);
}

static void a_reply_is_bounded_in_bytes_and_one_message_always_fits(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    k->message_size = 1000;
    kit_produce(k, p, "- - - -");
    struct wire_request r = receive(k, A, 0, &g, 1);
    r.receive.max_bytes = 2500;
    r.receive.wait_ms = 1000;
    assert_string_equal(kit_deliveries(k, &kit_ask(k, r, A)->receive), "0 1");
    r.receive.counter++;
    r.receive.max_bytes = 1;
    assert_string_equal(kit_deliveries(k, &kit_ask(k, r, A)->receive), "2");
    kit_free(k);
}

/* Was a bug: each group of a receive could add one message more, whatever its size. */
static void the_bound_in_bytes_is_that_of_the_reply_and_not_of_each_group(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->message_size = 1000;
    uint32_t groups[3], p[3];
    for (int i = 0; i < 3; i++) {
        char name[2] = {(char)('t' + i), '\0'};
        p[i] = kit_topic(k, name, 1);
        groups[i] = kit_group(k, name, "g", NULL);
        kit_produce(k, p[i], "-");
    }
    struct wire_request r = receive(k, A, 0, groups, 3);
    r.receive.max_bytes = 1500;
    r.receive.wait_ms = 1000;
    k->hold_loads = true;
    struct call *c = kit_call(k, r, A);
    k->hold_loads = false;
    kit_quiet(k);
    assert_int_equal(kit_reply(c)->receive.deliveries_n, 1);
    kit_free(k);
}

static void a_group_hands_out_no_more_than_may_be_in_flight(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", &(struct wire_group_config){.in_flight_max = 2});
    kit_produce(k, p, "- - - -");
    assert_string_equal(kit_receive(k, A, g, 10), "0 1");
    assert_string_equal(kit_receive(k, B, g, 10), "");
    struct call *c = kit_receive_wait(k, B, 0, g, 10, 5000);
    kit_ack(k, A, g, "0");
    assert_string_equal(kit_deliveries(k, &kit_reply(c)->receive), "2");
    kit_free(k);
}

/* Was a bug: two groups with messages and no room in flight stirred each other, and the turn never ended. */
static void two_groups_that_may_not_give_do_not_keep_the_turn_going(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), q = kit_topic(k, "u", 1);
    const struct wire_group_config one = {.in_flight_max = 1};
    uint32_t groups[] = {kit_group(k, "t", "g", &one), kit_group(k, "u", "g", &one)};
    kit_produce(k, p, "- - -");
    kit_produce(k, q, "- - -");
    kit_receive(k, A, groups[0], 1);
    kit_receive(k, A, groups[1], 1);
    struct wire_request r = receive(k, B, 0, groups, 2);
    r.receive.wait_ms = 5000;
    struct call *c = kit_call(k, r, B);
    kit_produce(k, p, "-"); /* stirs the first */
    assert_false(c->answered);
    kit_ack(k, A, groups[1], "0");
    assert_string_equal(kit_deliveries(k, &kit_reply(c)->receive), "1");
    kit_free(k);
}

static void a_hint_is_given_once_when_a_group_that_had_nothing_has_something(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_receive(k, A, g, 1);
    size_t before = k->hints;
    kit_produce(k, p, "a");
    assert_int_equal(k->hints, before + 1);
    kit_produce(k, p, "b");
    assert_int_equal(k->hints, before + 1); /* on the edge only */
    kit_free(k);
}

static void a_receive_over_topics_of_both_kinds_stands_on_the_disk(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t d = kit_topic(k, "d", 1), o = kit_topic_of(k, "o", (struct wire_topic_config){.durability = DURABILITY_OS});
    uint32_t groups[] = {kit_group(k, "o", "g", NULL), kit_group(k, "d", "g", NULL)};
    kit_produce(k, o, "- -");
    struct wire_request r = receive(k, A, 0, groups, 2);
    r.receive.max_messages = 1;
    r.receive.wait_ms = 1000;
    assert_int_equal(kit_ask(k, r, A)->durability, DURABILITY_OS);
    kit_produce(k, d, "-");
    kit_receive(k, B, groups[1], 1);
    kit_settle(k, B, groups[1], SETTLE_RELEASE, "0");
    r.receive.max_messages = 5;
    r.receive.counter++;
    assert_int_equal(kit_ask(k, r, A)->durability, DURABILITY_DISK);
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_order_every_message_may_go_at_once),
        cmocka_unit_test(messages_without_a_key_are_not_ordered),
        cmocka_unit_test(each_group_gets_every_message),
        cmocka_unit_test(a_group_from_the_end_gets_only_what_comes_later),
        cmocka_unit_test(partitions_take_turns),
        cmocka_unit_test(a_long_backlog_in_one_partition_does_not_keep_the_others_from_being_read),
        cmocka_unit_test(reading_ahead_counts_what_is_on_its_way),
        cmocka_unit_test(a_group_that_reads_and_leaves_does_not_starve_the_others),
        cmocka_unit_test(the_read_ahead_of_a_group_that_is_deleted_meanwhile_is_nobodys),
        cmocka_unit_test(the_read_ahead_of_a_topic_that_is_deleted_meanwhile_is_nobodys),
        cmocka_unit_test(a_long_poll_is_answered_by_the_next_message_first_come_first_served),
        cmocka_unit_test(a_long_poll_ends_empty_when_its_time_is_up),
        cmocka_unit_test(a_receive_that_does_not_wait_is_answered_at_once_when_there_is_nothing),
        cmocka_unit_test(one_long_poll_too_many_ends_the_oldest),
        cmocka_unit_test(a_receive_of_several_groups_takes_from_each_and_is_one_operation),
        cmocka_unit_test(a_receive_that_names_a_group_many_times_gets_each_message_once),
        cmocka_unit_test(an_unknown_group_is_named),
        cmocka_unit_test(a_reply_is_bounded_in_bytes_and_one_message_always_fits),
        cmocka_unit_test(the_bound_in_bytes_is_that_of_the_reply_and_not_of_each_group),
        cmocka_unit_test(a_group_hands_out_no_more_than_may_be_in_flight),
        cmocka_unit_test(two_groups_that_may_not_give_do_not_keep_the_turn_going),
        cmocka_unit_test(a_hint_is_given_once_when_a_group_that_had_nothing_has_something),
        cmocka_unit_test(a_receive_over_topics_of_both_kinds_stands_on_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

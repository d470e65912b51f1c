/* Groups that nobody uses any more, and what is answered of topics that are gone. */
#include "engine_kit.h"

enum { HOUR = 3600000 };

static bool there(struct kit *k, const char *group)
{
    struct wire_request r = kit_request(k, A, VERB_GROUP_LIST);
    r.list = (struct wire_list){.topic = VIEW_LIT("t"), .name = view_of_str(group)};
    return kit_ask(k, r, A)->code == E_OK;
}

static uint32_t group_of(struct kit *k, uint64_t idle_ms)
{
    return kit_group(k, "t", "g", &(struct wire_group_config){.idle_expiry_ms = idle_ms});
}

/* ---------------------------------------------------------------- idle groups */

static void a_group_nobody_uses_is_deleted_when_its_time_is_up_and_not_before(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    group_of(k, HOUR);
    kit_group(k, "t", "other", NULL); /* these stay for ever */
    kit_pass(k, HOUR - 1);
    assert_true(there(k, "g"));
    kit_produce(k, p, "a"); /* producing is not using */
    kit_pass(k, 1);
    assert_false(there(k, "g"));
    assert_int_equal(engine_counters(k->engine)->groups_expired, 1);
    kit_pass(k, UINT64_C(1000) * HOUR);
    assert_true(there(k, "other"));
    kit_restart(k);
    assert_false(there(k, "g"));
    kit_free(k);
}

static void receiving_settling_waiting_and_holding_are_using(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = group_of(k, HOUR);
    k->limits.wait_ms_max = 3 * HOUR;
    kit_produce(k, p, "a b c");
    kit_pass(k, HOUR - 1);
    assert_string_equal(kit_receive(k, A, g, 1), "0");
    struct wire_settle_item item = kit_item(k, g, SETTLE_EXTEND, "0");
    item.delay_ms = 3 * HOUR;
    assert_int_equal(kit_unit(k, A, &item, 1), E_OK);
    kit_pass(k, 2 * HOUR); /* held */
    assert_true(there(k, "g"));
    kit_ack(k, A, g, "0");
    kit_pass(k, HOUR - 1);
    assert_string_equal(kit_receive(k, A, g, 3), "1 2");
    kit_settle(k, A, g, SETTLE_PARK, "1 2");
    kit_receive_wait(k, A, 1, g, 1, 2 * HOUR);
    kit_pass(k, 2 * HOUR);
    assert_true(there(k, "g"));
    kit_pass(k, HOUR - 1);
    kit_control(k, "t", "g", GROUP_PAUSE); /* nor does who operates it find it gone */
    kit_pass(k, HOUR - 1);
    assert_true(there(k, "g"));
    kit_pass(k, 1);
    assert_false(there(k, "g"));
    kit_free(k);
}

/* With what a turn tells its log. */
static size_t pass_with_notices(struct kit *k, uint64_t ms, char *last)
{
    size_t n = 0;
    for (uint64_t until = k->now.mono_ms + ms; k->now.mono_ms < until;) {
        uint64_t due = engine_deadline(k->engine), at = due < until ? due : until;
        k->now.wall_ms += at - k->now.mono_ms;
        k->now.mono_ms = at;
        kit_begin(k);
        engine_turn_end(k->engine);
        const struct effects *fx = engine_effects(k->engine);
        for (size_t i = 0; i < fx->notices_n; i++, n++)
            snprintf(last, 600, "%s", fx->notices[i].line.text);
        k->engine->in_turn = true;
        kit_end(k);
    }
    return n;
}

static void who_keeps_the_broker_is_warned_a_tenth_of_the_time_before(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic(k, "t", 1);
    uint32_t g = group_of(k, 10 * HOUR);
    char last[600];
    assert_int_equal(pass_with_notices(k, 9 * HOUR - 1, last), 0);
    assert_int_equal(pass_with_notices(k, 1, last), 1);
    assert_has(last, "topic=t group=g");
    assert_has(last, "left_ms=3600000");
    kit_receive(k, A, g, 1); /* who comes back is warned again */
    assert_int_equal(pass_with_notices(k, 9 * HOUR - 1, last), 0);
    assert_int_equal(pass_with_notices(k, 1, last), 1);
    assert_int_equal(pass_with_notices(k, HOUR - 1, last), 0);
    assert_int_equal(pass_with_notices(k, 1, last), 1);
    assert_has(last, "deleted");
    assert_false(there(k, "g"));
    kit_free(k);
}

static void the_time_goes_on_over_restarts_and_what_the_broker_was_down_does_not_count(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = group_of(k, HOUR);
    for (int i = 0; i < 5; i++) { /* five times fifteen minutes and more, used in the first */
        kit_produce(k, p, "a");
        if (i == 0)
            kit_receive(k, A, g, 1);
        if (i == 1)
            kit_ack(k, A, g, "0");
        assert_true(there(k, "g"));
        kit_pass(k, HOUR / 4);
        kit_produce(k, p, "a");
        k->now.mono_ms += 48 * HOUR; /* down */
        k->now.wall_ms += 48 * (uint64_t)HOUR;
        kit_restart(k);
    }
    assert_false(there(k, "g"));
    kit_free(k);
}

static void being_used_is_written_once_a_minute_at_most(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    kit_topic(k, "t", 1);
    uint32_t g = group_of(k, HOUR);
    uint64_t puts = engine_counters(k->engine)->puts;
    for (int i = 0; i < 600; i++) {
        kit_receive(k, A, g, 1);
        kit_pass(k, 1000);
    }
    assert_in_range(engine_counters(k->engine)->puts - puts, 9, 40);
    kit_free(k);
}

static void an_expiry_can_be_given_and_taken_later(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic(k, "t", 1);
    group_of(k, 0);
    kit_pass(k, 100 * HOUR);
    kit_alter_group(k, "t", "g", (struct wire_group_config){.idle_expiry_ms = HOUR}, GROUP_SET_IDLE_EXPIRY_MS);
    kit_pass(k, HOUR - 1); /* from then on */
    assert_true(there(k, "g"));
    kit_alter_group(k, "t", "g", (struct wire_group_config){0}, GROUP_SET_IDLE_EXPIRY_MS);
    kit_pass(k, 100 * HOUR);
    assert_true(there(k, "g"));
    kit_free(k);
}

/* ---------------------------------------------------------------- topics that are gone */

static void what_waits_for_a_topic_is_answered_when_it_is_deleted(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 2), other = kit_topic(k, "u", 1), g = kit_group(k, "t", "g", NULL), h = kit_group(k, "u", "h", NULL);
    uint32_t groups[] = {h, g};
    struct wire_request r = kit_request(k, B, VERB_RECEIVE);
    r.receive = (struct wire_receive){.slot = 1, .counter = 1, .groups = groups, .groups_n = 2, .max_messages = 1, .wait_ms = 60000};
    struct call *receive = kit_call(k, r, B);
    struct wire_fetch_from from[] = {{.partition = other}, {.partition = p + 1}, {.partition = p}};
    r = kit_request(k, C, VERB_FETCH);
    r.fetch = (struct wire_fetch){.from = from, .from_n = 3, .wait_ms = 60000};
    struct call *fetch = kit_call(k, r, C);
    assert_false(receive->answered || fetch->answered);
    assert_int_equal(kit_delete_topic(k, "t"), E_OK);
    assert_int_equal(kit_reply(receive)->code, E_TOPIC_DELETED);
    assert_int_equal(kit_reply(fetch)->code, E_TOPIC_DELETED);
    kit_produce(k, other, "a"); /* they are in no queue of what stays */
    kit_pass(k, 60000);
    kit_free(k);
}

static void ids_of_what_went_with_its_topic_are_answered_so(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL), h = kit_group(k, "t", "h", NULL);
    kit_produce(k, p, "a b");
    kit_receive(k, A, g, 1);
    struct wire_settle_item item = kit_item(k, g, SETTLE_ACK, "0");
    kit_delete_group(k, "t", "h");
    kit_delete_topic(k, "t");
    for (int restarted = 0; restarted < 2; restarted++) {
        assert_int_equal(kit_produce(k, p, "a"), E_TOPIC_DELETED);
        assert_int_equal(kit_produce(k, 0, "a"), E_INVALID_ARGUMENT);
        assert_int_equal(kit_produce(k, p + 1, "a"), E_PARTITION_NOT_FOUND);
        struct wire_request r = kit_request(k, A, VERB_OFFSET_FOR);
        r.offset_for.partition = p;
        assert_int_equal(kit_ask(k, r, A)->code, E_TOPIC_DELETED);
        struct wire_fetch_from from[] = {{.partition = p}, {.partition = p + 1}};
        r = kit_request(k, A, VERB_FETCH);
        r.fetch = (struct wire_fetch){.from = from, .from_n = 2};
        const struct wire_reply *reply = kit_ask(k, r, A);
        assert_int_equal(reply->fetch.parts[0].code, E_TOPIC_DELETED);
        assert_int_equal(reply->fetch.parts[1].code, E_PARTITION_NOT_FOUND);
        assert_int_equal(kit_unit(k, A, &item, 1), E_TOPIC_DELETED);
        /* a group's id does not say of which topic it was: known until the broker ends */
        assert_int_equal(kit_reply(kit_receive_wait(k, A, 2, g, 1, 0))->code, restarted ? E_GROUP_NOT_FOUND : E_TOPIC_DELETED);
        assert_int_equal(kit_reply(kit_receive_wait(k, A, 2, h, 1, 0))->code, E_GROUP_NOT_FOUND);
        assert_int_equal(kit_reply(kit_receive_wait(k, A, 2, 99, 1, 0))->code, E_GROUP_NOT_FOUND);
        kit_restart(k);
    }
    kit_free(k);
}

static void lanes_of_partitions_that_are_gone_are_dropped(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->limits.lanes_per_session_max = 5;
    kit_topic(k, "stays", 1);
    kit_produce(k, 1, "a");
    for (int round = 0; round < 10; round++) { /* or its lanes were used up */
        uint32_t p = kit_topic(k, "t", 3);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(kit_produce(k, p + i, "a"), E_OK);
        assert_int_equal(kit_delete_topic(k, "t"), E_OK);
        if (round == 5)
            kit_restart(k);
    }
    assert_int_equal(kit_produce(k, 1, "a"), E_OK);
    const struct session *s = session_find(k->engine, (struct id128){A, 1});
    assert_int_equal(map_count(&s->lanes), 2);
    assert_in_range(kit_rows(k, FAM_SESSIONS, NULL), 3 + 2, 3 + 2 + 3); /* those that were not in memory go with the session */
    kit_produce_by(k, B, 1, "a");
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_nobody_uses_is_deleted_when_its_time_is_up_and_not_before),
        cmocka_unit_test(receiving_settling_waiting_and_holding_are_using),
        cmocka_unit_test(who_keeps_the_broker_is_warned_a_tenth_of_the_time_before),
        cmocka_unit_test(the_time_goes_on_over_restarts_and_what_the_broker_was_down_does_not_count),
        cmocka_unit_test(being_used_is_written_once_a_minute_at_most),
        cmocka_unit_test(an_expiry_can_be_given_and_taken_later),
        cmocka_unit_test(what_waits_for_a_topic_is_answered_when_it_is_deleted),
        cmocka_unit_test(ids_of_what_went_with_its_topic_are_answered_so),
        cmocka_unit_test(lanes_of_partitions_that_are_gone_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

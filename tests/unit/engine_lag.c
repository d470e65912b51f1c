/* Lag: how far a group is behind, and whether it will catch up. */
#include "engine_kit.h"

static void lag_counts_what_is_not_done_wherever_it_is(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 2), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a a b c");
    kit_produce(k, p + 1, "d");
    assert_int_equal(kit_lag(k, "t", "g").lag_messages, 5);
    kit_receive(k, A, g, 3);
    kit_receive(k, A, g, 3);
    struct wire_lag lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.lag_messages, 5);
    assert_int_equal(lag.in_flight, 4);
    assert_int_equal(lag.scale_value, 5);
    kit_ack(k, A, g, "3");
    kit_settle_delay(k, A, g, SETTLE_NACK, "2", 60000);
    kit_settle(k, A, g, SETTLE_PARK, "1/0");
    lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.lag_messages, 3); /* 0 leased, 1 behind it, 2 delayed */
    assert_int_equal(lag.in_flight, 1);
    assert_int_equal(lag.delayed, 1);
    assert_int_equal(lag.parked, 1);
    assert_int_equal(lag.scale_value, 2); /* what is delayed or parked needs no worker */
    kit_free(k);
}

static void a_group_that_is_through_has_no_lag_and_no_age(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b");
    kit_receive(k, A, g, 2);
    kit_ack(k, A, g, "0 1");
    kit_pass(k, 3600000);
    struct wire_lag lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.lag_messages, 0);
    assert_int_equal(lag.lag_bytes, 0);
    assert_int_equal(lag.oldest_age_ms, 0);
    assert_int_equal(lag.drain_eta_ms, 0);
    assert_int_equal(lag.status, LAG_OK);
    kit_free(k);
}

static void the_age_is_that_of_the_oldest_message_that_is_not_done(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a");
    kit_pass(k, 10000);
    kit_produce(k, p, "b");
    kit_receive(k, A, g, 2);
    kit_pass(k, 5000);
    assert_in_range(kit_lag(k, "t", "g").oldest_age_ms, 15000, 15100);
    kit_ack(k, A, g, "0");
    assert_in_range(kit_lag(k, "t", "g").oldest_age_ms, 5000, 5100);
    kit_free(k);
}

static void nothing_acked_for_a_minute_is_a_stall_and_slow_is_a_warning(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b c");
    assert_int_equal(kit_lag(k, "t", "g").status, LAG_OK);
    kit_pass(k, 61000);
    struct wire_lag lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.status, LAG_STALL);
    assert_true(lag.drain_eta_ms == UINT64_MAX);
    kit_receive(k, A, g, 1);
    kit_ack(k, A, g, "0");
    lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.status, LAG_WARN);
    assert_int_equal(lag.ack_rate_milli, 16); /* one in a minute */
    assert_in_range(lag.drain_eta_ms, 110000, 130000); /* two more */
    kit_free(k);
}

static void dead_letters_are_no_lag_and_redriven_ones_are(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    const struct wire_group_config config = {.park = PARK_KEY};
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", &config);
    kit_produce(k, p, "a a -");
    kit_receive(k, A, g, 3);
    kit_settle(k, A, g, SETTLE_PARK, "0 2");
    struct wire_lag lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.lag_messages, 1); /* 1, behind what blocks its key */
    assert_int_equal(lag.parked, 2);
    assert_int_equal(lag.scale_value, 1);
    struct wire_request r = kit_request(k, A, VERB_HELD_CHANGE);
    r.held_change = (struct wire_held_change){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .act = TASK_REDRIVE};
    assert_int_equal(kit_ask_numbered(k, r, A)->code, E_OK);
    kit_pass(k, 10);
    lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.lag_messages, 3);
    assert_int_equal(lag.parked, 0);
    assert_int_equal(lag.scale_value, 3);
    const struct partition *log = table_get(&k->engine->partitions, p);
    assert_int_equal(lag.lag_bytes, log->row.end_bytes);
    kit_free(k);
}

static void bytes_of_what_was_not_read_are_those_of_the_log(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    const struct wire_group_config config = {.order = ORDER_NONE}, end = {.from = FROM_END};
    uint32_t p = kit_topic(k, "t", 1);
    kit_group(k, "t", "g", &config);
    const struct partition_row *row = &((struct partition *)table_get(&k->engine->partitions, p))->row;
    kit_produce_many(k, p, "-", 10000);
    uint64_t first = row->end_bytes;
    kit_group(k, "t", "late", &end);
    for (int i = 0; i < 9; i++) /* batches of one: the mean says nothing of them */
        kit_produce(k, p, "-");
    assert_int_equal(kit_lag(k, "t", "g").lag_bytes, row->end_bytes);
    assert_int_equal(kit_lag(k, "t", "late").lag_bytes, row->end_bytes - first);
    assert_true(row->end_bytes - first > 100 * (first / 10000));

    kit_restart(k); /* the place of its cursor in bytes is forgotten */
    row = &((struct partition *)table_get(&k->engine->partitions, p))->row;
    size_t asked = k->asks_made;
    assert_int_equal(kit_lag(k, "t", "late").lag_bytes, row->end_bytes - first);
    assert_int_equal(k->asks_made, asked + 1);
    assert_int_equal(kit_lag(k, "t", "late").lag_bytes, row->end_bytes - first);
    assert_int_equal(k->asks_made, asked + 1); /* it was told, and remembers */
    assert_int_equal(kit_lag(k, "t", "g").lag_bytes, row->end_bytes);
    kit_free(k);
}

static void bytes_after_a_purge_are_those_that_came_since(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b c");
    struct wire_request r = kit_request(k, A, VERB_GROUP_CONTROL);
    r.control = (struct wire_group_control){.topic = VIEW_LIT("t"), .name = VIEW_LIT("g"), .act = GROUP_PURGE};
    assert_int_equal(kit_ask_numbered(k, r, A)->code, E_OK);
    assert_int_equal(kit_lag(k, "t", "g").lag_bytes, 0);
    const struct partition_row *row = &((struct partition *)table_get(&k->engine->partitions, p))->row;
    uint64_t before = row->end_bytes;
    kit_produce(k, p, "d e");
    assert_int_equal(kit_lag(k, "t", "g").lag_bytes, row->end_bytes - before);
    kit_free(k);
}

static void the_age_is_known_after_a_restart_too(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a");
    kit_pass(k, 10000);
    kit_produce(k, p, "b b");
    kit_pass(k, 10000);
    kit_produce(k, p, "c");
    kit_receive(k, A, g, 10);
    kit_ack(k, A, g, "0");
    kit_settle_delay(k, A, g, SETTLE_NACK, "1", 300000); /* its row does not say when it was appended */
    kit_pass(k, 5000);
    kit_restart(k);
    assert_in_range(kit_lag(k, "t", "g").oldest_age_ms, 15000, 15200);
    kit_pass(k, 20000);
    size_t asked = k->asks_made;
    assert_in_range(kit_lag(k, "t", "g").oldest_age_ms, 35000, 35200);
    assert_int_equal(k->asks_made, asked);
    kit_pass(k, 275000);
    assert_string_equal(kit_receive(k, A, g, 10), "3 1");
    kit_ack(k, A, g, "1"); /* 2 is the head from its list, which says no time either */
    assert_in_range(kit_lag(k, "t", "g").oldest_age_ms, 310000, 310500);
    kit_free(k);
}

static void a_damaged_log_leaves_an_estimate(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b c d");
    kit_receive(k, A, g, 2);
    kit_ack(k, A, g, "0");
    kit_restart(k);
    k->logs[p].damaged = true;
    struct wire_lag lag = kit_lag(k, "t", "g");
    assert_int_equal(lag.lag_messages, 3);
    assert_true(lag.lag_bytes > 0);
    kit_free(k);
}

static void long_work_a_pause_and_a_new_start_are_no_stall(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    const struct wire_group_config config = {.lease_ms = 600000};
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", &config);
    kit_produce(k, p, "a b");
    kit_receive(k, A, g, 1);
    kit_group(k, "t", "idle", NULL);
    kit_pass(k, 300000);
    assert_int_equal(kit_lag(k, "t", "g").status, LAG_WARN); /* somebody works, and may for ten minutes */
    assert_int_equal(kit_lag(k, "t", "idle").status, LAG_STALL);
    kit_restart(k);
    kit_pass(k, 30000);
    assert_int_equal(kit_lag(k, "t", "g").status, LAG_WARN);
    assert_int_equal(kit_lag(k, "t", "idle").status, LAG_WARN);
    kit_pass(k, 31000);
    assert_int_equal(kit_lag(k, "t", "idle").status, LAG_STALL);
    kit_receive(k, A, g, 1);
    kit_pass(k, 570000);
    assert_int_equal(kit_lag(k, "t", "g").status, LAG_STALL);
    kit_control(k, "t", "g", GROUP_PAUSE);
    assert_int_equal(kit_lag(k, "t", "g").status, LAG_WARN);
    k->watch = false;
    kit_free(k);
}

static void the_rate_is_that_of_the_last_minute(void **state)
{
    (void)state;
    struct rate r = {0};
    for (uint64_t s = 0; s < 60; s++)
        rate_count(&r, 5000 + 1000 * s, 30);
    assert_int_equal(rate_milli(&r, 64999), 30000);
    assert_int_equal(rate_milli(&r, 64999 + 30000), 15000);
    assert_int_equal(rate_milli(&r, 64999 + 60000), 0);
    rate_count(&r, UINT64_C(1) << 50, 60);
    assert_int_equal(rate_milli(&r, UINT64_C(1) << 50), 1000);
    struct rate young = {0};
    rate_count(&young, 0, 60);
    assert_int_equal(rate_milli(&young, 0), 1000);
}

/* The groups whose lag changed behind *from, as "g h"; *from goes on. Pages of two. */
static const char *changed(struct kit *k, uint64_t *from, struct wire_lag *last)
{
    static char names[100];
    uint64_t end = 0;
    names[0] = '\0';
    for (bool more = true; more;) {
        struct call *c = mem_zalloc(sizeof *c);
        list_push_back(&k->calls, &c->link);
        arena_init(&c->op.arena, SIZE_MAX);
        c->op.request = (struct wire_request){.verb = VERB_GROUP_LAG, .list.limit = 2};
        c->op.changes = true;
        c->op.changed = *from;
        c->op.changed_end = end;
        kit_begin(k);
        engine_op(k->engine, &c->op);
        kit_end(k);
        kit_quiet(k);
        const struct wire_lag_reply *lag = &kit_reply(c)->lag;
        for (uint32_t i = 0; i < lag->rows_n; i++) {
            size_t n = strlen(names);
            snprintf(names + n, sizeof names - n, "%s%.*s", n > 0 ? " " : "", (int)lag->rows[i].group.size,
                     (const char *)lag->rows[i].group.data);
            *last = lag->rows[i];
        }
        more = lag->more;
        *from = c->op.changed;
        end = c->op.changed_end;
    }
    return names;
}

static void who_knows_all_up_to_a_change_is_told_of_those_behind_it(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    struct wire_lag row;
    uint64_t mine = 0, other = 0;
    uint32_t t = kit_topic(k, "t", 1), u = kit_topic(k, "u", 1), g = kit_group(k, "t", "g", NULL);
    kit_group(k, "t", "h", NULL);
    kit_group(k, "u", "i", NULL);
    assert_string_equal(changed(k, &mine, &row), "g h i");
    assert_string_equal(changed(k, &mine, &row), "");
    kit_produce(k, u, "a");
    assert_string_equal(changed(k, &mine, &row), "i");
    assert_int_equal(row.lag_messages, 1);
    kit_produce(k, t, "a");
    kit_receive(k, A, g, 1);
    kit_settle_delay(k, A, g, SETTLE_NACK, "0", 2000);
    assert_string_equal(changed(k, &mine, &row), "g h"); /* once each, though g changed thrice */
    assert_int_equal(kit_lag(k, "t", "g").delayed, 1);
    assert_string_equal(changed(k, &mine, &row), "");
    kit_pass(k, 2500); /* its time has come, and nobody did anything */
    assert_string_equal(changed(k, &mine, &row), "g");
    assert_int_equal(row.delayed, 0);
    assert_int_equal(row.scale_value, 1);
    assert_string_equal(changed(k, &other, &row), "i h g"); /* what one was told does not concern another */
    assert_string_equal(changed(k, &mine, &row), "");
    kit_free(k);
}

static void a_group_whose_rate_falls_by_itself_changes_until_it_is_nothing(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    struct wire_lag row;
    uint64_t from = 0;
    uint32_t t = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, t, "a");
    kit_receive(k, A, g, 1);
    kit_ack(k, A, g, "0");
    for (int s = 0; s < 50; s += 10) {
        assert_string_equal(changed(k, &from, &row), "g");
        assert_true(row.ack_rate_milli > 0);
        kit_pass(k, 10000);
    }
    kit_pass(k, 11000);
    assert_string_equal(changed(k, &from, &row), "g");
    assert_int_equal(row.ack_rate_milli, 0);
    assert_string_equal(changed(k, &from, &row), "");
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lag_counts_what_is_not_done_wherever_it_is),
        cmocka_unit_test(a_group_that_is_through_has_no_lag_and_no_age),
        cmocka_unit_test(the_age_is_that_of_the_oldest_message_that_is_not_done),
        cmocka_unit_test(nothing_acked_for_a_minute_is_a_stall_and_slow_is_a_warning),
        cmocka_unit_test(dead_letters_are_no_lag_and_redriven_ones_are),
        cmocka_unit_test(bytes_of_what_was_not_read_are_those_of_the_log),
        cmocka_unit_test(bytes_after_a_purge_are_those_that_came_since),
        cmocka_unit_test(the_age_is_known_after_a_restart_too),
        cmocka_unit_test(a_damaged_log_leaves_an_estimate),
        cmocka_unit_test(long_work_a_pause_and_a_new_start_are_no_stall),
        cmocka_unit_test(the_rate_is_that_of_the_last_minute),
        cmocka_unit_test(who_knows_all_up_to_a_change_is_told_of_those_behind_it),
        cmocka_unit_test(a_group_whose_rate_falls_by_itself_changes_until_it_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

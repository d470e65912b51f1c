/* What is refused at a limit, what the refusal says, and what goes on meanwhile. */
#include "engine_kit.h"

static const struct wire_reply *produce(struct kit *k, int who, uint32_t p, uint32_t count)
{
    static const uint8_t bytes[1000];
    struct wire_request r = kit_request(k, who, VERB_PRODUCE);
    r.lane = p;
    r.produce = (struct wire_produce){.partition = p, .count = count, .batch = view_of(bytes, sizeof bytes)};
    return kit_ask_numbered(k, r, who);
}

static int produce_later(struct kit *k, uint32_t p, uint64_t ms)
{
    kit_pass(k, ms);
    return kit_produce(k, p, "-");
}

/* Produces until that is refused; how often it was not. */
static int fill(struct kit *k, uint32_t p, const char *keys)
{
    int taken = 0;
    while (taken < 100 && kit_produce(k, p, keys) == E_OK)
        taken++;
    return taken;
}

static void below_the_reserve_of_the_disk_nothing_is_taken_and_everything_else_goes_on(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    k->limits.disk_reserve_bytes = 1000;
    kit_produce(k, p, "- -");
    engine_disk(k->engine, 999);
    const struct wire_reply *r = produce(k, A, p, 1);
    assert_int_equal(r->code, E_DISK_FULL);
    assert_true(r->retry_after_ms > 0);
    assert_has((const char *)r->detail.data, "disk_reserve_bytes = 1000");
    assert_string_equal(kit_receive(k, A, g, 2), "0 1");
    assert_string_equal(kit_ack(k, A, g, "0 1"), "");
    engine_disk(k->engine, 1000);
    assert_int_equal(kit_produce(k, p, "-"), E_OK);
    kit_free(k);
}

static void a_full_topic_says_how_much_is_waiting_and_how_long_that_takes(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.backlog_bytes_max = 400});
    uint32_t fast = kit_group(k, "t", "fast", NULL), slow = kit_group(k, "t", "slow", NULL), other = kit_topic(k, "u", 1);
    fill(k, p, "- - - -");
    kit_pass(k, 1000);
    uint64_t there = k->logs[p].n;
    const struct wire_reply *r = produce(k, A, p, 1);
    assert_int_equal(r->code, E_OVERLOADED);
    assert_int_equal(r->depth, there);
    assert_int_equal(r->drain_ms, UINT64_MAX); /* nobody does */
    assert_true(r->retry_after_ms > 0);
    kit_receive(k, A, fast, 5);
    assert_string_equal(kit_ack(k, A, fast, "0 1 2 3 4"), ""); /* acks go on, */
    kit_receive(k, A, slow, 3);
    assert_string_equal(kit_ack(k, A, slow, "0 1 2"), "");
    assert_int_equal(kit_produce(k, other, "a"), E_OK); /* and other topics */
    kit_pass(k, 1000);
    r = produce(k, A, p, 1); /* the slow one did 3 in a minute */
    assert_int_equal(r->depth, there - 3);
    assert_int_equal(r->drain_ms, (there - 3) * 20000);
    for (const char *rest; *(rest = kit_receive(k, A, slow, 100)) != '\0';) /* what is done is no backlog, though it is in the log */
        assert_string_equal(kit_ack(k, A, slow, rest), "");
    for (const char *rest; *(rest = kit_receive(k, A, fast, 100)) != '\0';)
        assert_string_equal(kit_ack(k, A, fast, rest), "");
    kit_pass(k, 1000);
    assert_int_equal(kit_produce(k, p, "-"), E_OK);
    kit_free(k);
}

static void a_full_topic_is_full_whichever_of_its_partitions_is_and_at_once(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 2, .backlog_bytes_max = 400});
    kit_group(k, "t", "g", NULL);
    /* within the time in which its backlog is looked at once; a batch is about 100 bytes with its header */
    assert_in_range(fill(k, p, "-"), 2, 6);
    assert_int_equal(kit_produce(k, p + 1, "-"), E_OVERLOADED);
    kit_free(k);
}

static void a_topic_whose_slowest_group_is_behind_for_too_long_takes_no_more_until_it_caught_up(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.backlog_age_max_ms = 60000}), other = kit_topic(k, "u", 1);
    uint32_t g = kit_group(k, "t", "g", NULL), fast = kit_group(k, "t", "fast", NULL);
    kit_produce(k, p, "-");
    assert_int_equal(produce_later(k, p, 30000), E_OK);
    assert_int_equal(produce_later(k, p, 30000), E_OK); /* not older than that */
    kit_receive(k, A, fast, 3);
    kit_ack(k, A, fast, "0 1 2");
    kit_pass(k, 1000);
    const struct wire_reply *r = produce(k, A, p, 1);
    assert_int_equal(r->code, E_OVERLOADED);
    assert_int_equal(r->depth, 3);
    assert_int_equal(r->drain_ms, UINT64_MAX);
    assert_has((const char *)r->detail.data, "backlog-age-max");
    assert_int_equal(kit_produce(k, other, "-"), E_OK);
    assert_string_equal(kit_receive(k, A, g, 1), "0");
    assert_int_equal(produce(k, A, p, 1)->code, E_OVERLOADED); /* held is not done */
    assert_string_equal(kit_ack(k, A, g, "0"), "");
    kit_pass(k, 1000);
    assert_int_equal(kit_produce(k, p, "-"), E_OK); /* the next is 32 s old */
    kit_pass(k, 29000);
    assert_int_equal(kit_produce(k, p, "-"), E_OVERLOADED);
    kit_delete_group(k, "t", "g");
    kit_pass(k, 1000);
    assert_int_equal(kit_produce(k, p, "-"), E_OK); /* nobody waits for it any more */
    kit_free(k);
}

static void without_groups_age_is_no_limit(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.backlog_age_max_ms = 1000});
    kit_produce(k, p, "-");
    assert_int_equal(produce_later(k, p, 3600000), E_OK);
    kit_free(k);
}

/* Was a bug: a group that was done with everything for an hour was an hour behind as soon as there was something. */
static void the_first_message_after_a_pause_is_not_as_old_as_the_last_one_before(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.backlog_age_max_ms = 10000});
    uint32_t g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "-");
    kit_receive(k, A, g, 1);
    kit_ack(k, A, g, "0");
    k->hold_loads = true; /* what comes is not read ahead */
    assert_int_equal(produce_later(k, p, 3600000), E_OK);
    assert_int_equal(kit_lag(k, "t", "g").oldest_age_ms, 0);
    assert_int_equal(produce_later(k, p, 9000), E_OK);
    assert_int_equal(kit_lag(k, "t", "g").oldest_age_ms, 9000);
    assert_int_equal(produce_later(k, p, 1001), E_OVERLOADED);
    kit_free(k);
}

static void the_age_of_what_was_not_read_ahead_is_known_to_a_third_and_never_more_than_it_is(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    struct rng r;
    rng_seed(&r, 4);
    uint64_t floor = 0, known = 0;
    for (int i = 0; i < 3000; i++) {
        kit_pass(k, rng_below(&r, rng_chance(&r, 1, 50) ? 100000 : 500));
        kit_produce(k, p, "a"); /* behind its key, where only its place is known */
        if (rng_chance(&r, 1, 3)) {
            kit_deliveries(k, &kit_receive_wait(k, A, 0, g, 1, 0)->op.reply.receive);
            char text[24];
            snprintf(text, sizeof text, "%llu", (unsigned long long)floor);
            assert_string_equal(kit_ack(k, A, g, text), "");
            floor++;
        }
        if (floor == k->logs[p].n)
            continue;
        uint64_t age = k->now.wall_ms - k->logs[p].records[floor].time, said = kit_lag(k, "t", "g").oldest_age_ms;
        assert_in_range(said, age * 2 / 3 > 200 ? age * 2 / 3 - 200 : 0, age);
        known += said == age;
    }
    assert_true(known > 0 && floor > 500);
    kit_free(k);
}

static void a_client_that_is_too_fast_is_told_exactly_when_to_come_back(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->limits.client_messages_per_s = 10;
    uint32_t p = kit_topic(k, "t", 1), q = kit_topic(k, "u", 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(produce(k, A, i % 2 ? p : q, 2)->code, E_OK); /* of whatever topic */
    const struct wire_reply *r = produce(k, A, p, 3);
    assert_int_equal(r->code, E_OVERLOADED);
    assert_int_equal(r->retry_after_ms, 300);
    assert_int_equal(produce(k, B, p, 3)->code, E_OK); /* another client */
    kit_pass(k, 299);
    r = produce(k, A, p, 3);
    assert_int_equal(r->code, E_OVERLOADED);
    assert_int_equal(r->retry_after_ms, 1);
    kit_pass(k, 1);
    assert_int_equal(produce(k, A, p, 3)->code, E_OK);
    kit_pass(k, 60000); /* what was not used for long is one second's worth */
    assert_int_equal(produce(k, A, p, 10)->code, E_OK);
    assert_int_equal(produce(k, A, p, 1)->retry_after_ms, 100);
    kit_free(k);
}

static void a_batch_above_a_seconds_worth_passes_alone_and_is_paid_off_after(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->limits.client_bytes_per_s = 100; /* batches have 1,000 */
    uint32_t p = kit_topic(k, "t", 1);
    assert_int_equal(produce(k, A, p, 1)->code, E_OK);
    const struct wire_reply *r = produce(k, A, p, 1);
    assert_int_equal(r->code, E_OVERLOADED);
    assert_int_equal(r->retry_after_ms, 10000);
    kit_pass(k, 9999);
    assert_int_equal(produce(k, A, p, 1)->retry_after_ms, 1);
    kit_pass(k, 1);
    assert_int_equal(produce(k, A, p, 1)->code, E_OK);
    kit_free(k);
}

static void a_fast_client_can_still_read_and_settle_and_a_unit_counts_what_it_produces(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->limits.client_messages_per_s = 4;
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b c d");
    assert_int_equal(kit_produce(k, p, "a"), E_OVERLOADED);
    assert_string_equal(kit_receive(k, A, g, 10), "0 1 2 3");
    assert_string_equal(kit_ack(k, A, g, "0"), "");
    struct wire_settle_item item = kit_item(k, g, SETTLE_ACK, "1");
    struct wire_produce out = {.partition = p, .count = 1, .batch = VIEW_LIT("bytes")};
    struct wire_unit unit = {.items = &item, .items_n = 1, .produces = &out, .produces_n = 1};
    struct wire_request r = kit_request(k, A, VERB_SETTLE);
    r.settle = (struct wire_settle){.units = &unit, .units_n = 1};
    const struct wire_reply *reply = kit_ask_numbered(k, r, A);
    assert_int_equal(reply->settle.codes[0], E_OVERLOADED);
    assert_int_equal(reply->retry_after_ms, 250);
    assert_string_equal(kit_where(k, "t", "g"), "floor 1 leased 3"); /* whole or absent */
    kit_pass(k, 250);
    assert_null(kit_ask_numbered(k, r, A)->settle.codes);
    assert_int_equal(kit_ask_numbered(k, r, A)->settle.codes[0], E_LEASE_LOST);
    k->logs[p].n++;
    assert_int_equal(kit_produce(k, p, "a"), E_OVERLOADED);
    kit_free(k);
}

static void who_holds_all_that_it_may_is_given_more_when_it_settles(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->limits.client_in_flight_max = 3;
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL), h = kit_group(k, "t", "h", NULL);
    kit_produce(k, p, "a b c d");
    assert_string_equal(kit_receive(k, A, g, 2), "0 1");
    assert_string_equal(kit_receive(k, A, h, 2), "0"); /* over all groups */
    assert_string_equal(kit_receive(k, A, h, 2), "");  /* empty, and not an error */
    assert_string_equal(kit_receive(k, C, h, 5), "1 2 3");
    struct call *a = kit_receive_wait(k, A, 5, h, 2, 30000), *b = kit_receive_wait(k, B, 5, h, 2, 30000);
    kit_produce(k, p, "g h i");
    assert_false(a->answered);
    assert_string_equal(kit_deliveries(k, &kit_reply(b)->receive), "4 5"); /* who waits behind it is served */
    assert_string_equal(kit_ack(k, A, g, "1"), "");                        /* of another group */
    assert_string_equal(kit_deliveries(k, &kit_reply(a)->receive), "6");
    kit_free(k);
}

static void a_receive_at_the_limit_is_given_what_is_read_ahead_only_later(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->limits.client_in_flight_max = 2;
    uint32_t p = kit_topic(k, "t", 1), q = kit_topic(k, "u", 1), g = kit_group(k, "t", "g", NULL), h = kit_group(k, "u", "h", NULL);
    kit_produce(k, p, "a b");
    assert_string_equal(kit_receive(k, A, g, 2), "0 1");
    struct call *c = kit_receive_wait(k, A, 5, h, 2, 30000); /* nothing there, and at the limit */
    kit_produce(k, q, "a");
    assert_false(c->answered);
    kit_ack(k, A, g, "0");
    assert_string_equal(kit_deliveries(k, &kit_reply(c)->receive), "0");
    kit_free(k);
}

static void what_a_client_holds_is_counted_through_expiry_restart_and_deleted_groups(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->limits.client_in_flight_max = 4;
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL), h = kit_group(k, "t", "h", NULL);
    kit_produce(k, p, "a b c d e f");
    assert_string_equal(kit_receive(k, A, g, 3), "0 1 2");
    kit_restart(k);
    assert_string_equal(kit_receive(k, A, h, 6), "0");
    kit_pass(k, 30000); /* the leases run out */
    assert_string_equal(kit_receive(k, A, h, 6), "0 1 2 3");
    assert_string_equal(kit_receive(k, A, g, 6), "");
    assert_int_equal(kit_delete_group(k, "t", "h"), E_OK);
    assert_string_equal(kit_receive(k, A, g, 6), "0 1 2 3");
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(below_the_reserve_of_the_disk_nothing_is_taken_and_everything_else_goes_on),
        cmocka_unit_test(a_full_topic_says_how_much_is_waiting_and_how_long_that_takes),
        cmocka_unit_test(a_full_topic_is_full_whichever_of_its_partitions_is_and_at_once),
        cmocka_unit_test(a_topic_whose_slowest_group_is_behind_for_too_long_takes_no_more_until_it_caught_up),
        cmocka_unit_test(without_groups_age_is_no_limit),
        cmocka_unit_test(the_first_message_after_a_pause_is_not_as_old_as_the_last_one_before),
        cmocka_unit_test(the_age_of_what_was_not_read_ahead_is_known_to_a_third_and_never_more_than_it_is),
        cmocka_unit_test(a_client_that_is_too_fast_is_told_exactly_when_to_come_back),
        cmocka_unit_test(a_batch_above_a_seconds_worth_passes_alone_and_is_paid_off_after),
        cmocka_unit_test(a_fast_client_can_still_read_and_settle_and_a_unit_counts_what_it_produces),
        cmocka_unit_test(who_holds_all_that_it_may_is_given_more_when_it_settles),
        cmocka_unit_test(a_receive_at_the_limit_is_given_what_is_read_ahead_only_later),
        cmocka_unit_test(what_a_client_holds_is_counted_through_expiry_restart_and_deleted_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

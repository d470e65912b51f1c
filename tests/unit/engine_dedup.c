/* Message ids: what was produced before is not appended again, within the topic's window. */
#include "engine_kit.h"

#include "base/mem.h"

static uint64_t end_of(struct kit *k, uint32_t p) { return ((struct partition *)table_get(&k->engine->partitions, p))->row.end; }

static void assert_duplicate(const struct wire_reply *r, uint64_t offset)
{
    assert_int_equal(r->code, E_OK);
    assert_true(r->produce.duplicate);
    assert_int_equal(r->produce.base_offset, offset);
}

static void assert_new(const struct wire_reply *r, uint64_t offset)
{
    assert_int_equal(r->code, E_OK);
    assert_false(r->produce.duplicate);
    assert_int_equal(r->produce.base_offset, offset);
}

static void a_message_with_an_id_that_was_produced_is_answered_with_where_it_is(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_produce(k, p, "a b");
    assert_new(kit_produce_ids(k, A, p, "x y"), 2);
    const struct wire_reply *again = kit_produce_ids(k, B, p, "x y"); /* by whomever */
    assert_duplicate(again, 2);
    assert_int_equal(again->produce.partition, p);
    assert_int_equal(again->produce.count, 2);
    assert_int_equal(again->produce.append_time_ms, k->now.wall_ms);
    assert_int_equal(again->durability, DURABILITY_DISK);
    assert_duplicate(kit_produce_ids(k, B, p, "y"), 3);
    assert_int_equal(end_of(k, p), 4);
    assert_int_equal(engine_counters(k->engine)->duplicate_messages, 3);
    kit_free(k);
}

static void a_batch_of_which_some_were_produced_is_refused_with_which_and_its_number_is_not_used(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_produce_ids(k, A, p, "x y");
    const struct wire_reply *r = kit_produce_ids(k, A, p, "u x - v y");
    assert_int_equal(r->code, E_DUPLICATE);
    assert_int_equal(r->body, BODY_PRODUCE);
    assert_int_equal(r->produce.duplicates_n, 2);
    assert_int_equal(r->produce.duplicates[0], 1);
    assert_int_equal(r->produce.duplicates[1], 4);
    assert_int_equal(end_of(k, p), 2);
    assert_new(kit_produce_ids(k, A, p, "u - v"), 2); /* the rest, by the same number */
    assert_duplicate(kit_produce_ids(k, A, p, "v"), 4);
    kit_free(k);
}

static void a_client_is_told_that_some_were_produced_when_they_are_on_disk(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_produce_ids(k, A, p, "x");
    const struct wire_reply *r = kit_produce_ids(k, B, p, "x y");
    const struct op *op = (const struct op *)((const char *)r - offsetof(struct op, reply));
    assert_int_equal(r->code, E_DUPLICATE);
    assert_int_equal(op->level, DURABILITY_DISK);
    assert_in_range(op->turn, 1, k->durable);
    kit_free(k);
}

static void an_id_twice_in_one_batch_is_a_duplicate_the_second_time(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    const struct wire_reply *r = kit_produce_ids(k, A, p, "x y x - -");
    assert_int_equal(r->code, E_DUPLICATE);
    assert_int_equal(r->produce.duplicates_n, 1);
    assert_int_equal(r->produce.duplicates[0], 2);
    assert_int_equal(end_of(k, p), 0);
    assert_new(kit_produce_ids(k, A, p, "x y - -"), 0); /* a refused batch leaves no ids behind */
    kit_free(k);
}

static void messages_without_ids_are_never_duplicates_and_leave_no_rows(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    assert_new(kit_produce_ids(k, A, p, "- -"), 0);
    assert_new(kit_produce_ids(k, A, p, "- -"), 2);
    kit_produce(k, p, "a a");
    assert_int_equal(kit_rows(k, FAM_DEDUP_A, NULL) + kit_rows(k, FAM_DEDUP_B, NULL), 0);
    kit_free(k);
}

static void a_repeat_is_found_over_a_restart_of_the_broker(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_produce_ids(k, A, p, "x y");
    kit_restart(k);
    assert_duplicate(kit_produce_ids(k, B, p, "y"), 1);
    kit_pass(k, 700000); /* into another generation */
    kit_produce_ids(k, A, p, "z");
    kit_restart(k);
    assert_duplicate(kit_produce_ids(k, B, p, "z"), 2);
    assert_new(kit_produce_ids(k, B, p, "x"), 3);
    kit_free(k);
}

static void two_topics_have_ids_of_their_own_and_one_has_them_over_its_partitions(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 2), q = kit_topic(k, "u", 1);
    kit_produce_ids(k, A, p, "x");
    assert_new(kit_produce_ids(k, A, q, "x"), 0);
    const struct wire_reply *r = kit_produce_ids(k, A, p + 1, "x");
    assert_duplicate(r, 0);
    assert_int_equal(r->produce.partition, p);
    kit_restart(k);
    struct wire_request repeat = kit_request(k, A, VERB_PRODUCE); /* and so it is kept */
    repeat.lane = p + 1;
    repeat.seq = k->seq[A][p + 1];
    repeat.produce = (struct wire_produce){.partition = p + 1, .count = 1, .batch = VIEW_LIT("bytes")};
    r = kit_ask(k, repeat, A);
    assert_duplicate(r, 0);
    assert_int_equal(r->produce.partition, p);
    kit_free(k);
}

static void a_topic_can_do_without(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.dedup_ms = UINT64_MAX});
    assert_new(kit_produce_ids(k, A, p, "x x"), 0);
    assert_new(kit_produce_ids(k, A, p, "x"), 2);
    assert_int_equal(kit_rows(k, FAM_DEDUP_A, NULL) + kit_rows(k, FAM_DEDUP_B, NULL), 0);
    kit_free(k);
}

/* At every age, whatever the other topics' windows and whenever generations turned. */
static void an_id_is_remembered_for_exactly_the_window_of_its_topic(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    static const uint64_t windows[] = {1000, 7000, 60000, 600000};
    uint32_t p[4];
    for (size_t i = 0; i < 4; i++) {
        char name[] = {(char)('a' + i), '\0'};
        p[i] = kit_topic_of(k, name, (struct wire_topic_config){.dedup_ms = windows[i]});
    }
    struct rng r;
    rng_seed(&r, 9);
    uint64_t produced[4][26] = {{0}};
    size_t met = 0;
    for (int n = 0; n < 4000; n++) {
        size_t t = rng_below(&r, 4), id = rng_below(&r, 26);
        kit_pass(k, rng_below(&r, windows[rng_below(&r, 4)] / 20));
        char text[] = {(char)('A' + id), '\0'};
        bool known = produced[t][id] != 0 && k->now.wall_ms - produced[t][id] < windows[t];
        const struct wire_reply *reply = kit_produce_ids(k, A, p[t], text);
        assert_int_equal(reply->code, E_OK);
        if (reply->produce.duplicate != known)
            fail_msg("after %llu ms of %llu: %d", (unsigned long long)(k->now.wall_ms - produced[t][id]), (unsigned long long)windows[t],
                     reply->produce.duplicate);
        if (!known)
            produced[t][id] = k->now.wall_ms;
        met += known;
    }
    assert_in_range(met, 200, 3800);
    assert_in_range(engine_counters(k->engine)->dedup_generations, 5, 1000);
    kit_free(k);
}

static void an_old_generation_is_dropped_whole_also_when_nothing_is_produced_any_more(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_produce_ids(k, A, p, "x y z");
    kit_pass(k, 599999);
    assert_int_equal(kit_rows(k, FAM_DEDUP_A, NULL), 3);
    kit_pass(k, 1);
    assert_int_equal(kit_rows(k, FAM_DEDUP_A, NULL), 3); /* the one before, now */
    kit_produce_ids(k, A, p, "u");
    assert_int_equal(kit_rows(k, FAM_DEDUP_B, NULL), 1);
    kit_restart(k);
    kit_pass(k, 600000);
    assert_int_equal(kit_rows(k, FAM_DEDUP_A, NULL), 0);
    assert_int_equal(kit_rows(k, FAM_DEDUP_B, NULL), 1);
    kit_pass(k, 600000);
    assert_int_equal(kit_rows(k, FAM_DEDUP_A, NULL) + kit_rows(k, FAM_DEDUP_B, NULL), 0);
    assert_int_equal(engine_counters(k->engine)->dedup_early, 0);
    uint64_t turns = engine_counters(k->engine)->dedup_generations;
    kit_pass(k, 6000000);
    assert_int_equal(engine_counters(k->engine)->dedup_generations, turns); /* and then there is nothing to do */
    kit_free(k);
}

static void rows_are_bounded_by_their_number_and_the_newest_half_is_kept(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    k->limits.dedup_entries_max = 1000;
    uint32_t p = kit_topic(k, "t", 1);
    char id[16];
    for (int i = 0; i < 5000; i++) {
        snprintf(id, sizeof id, "%d", i);
        assert_int_equal(kit_produce_ids(k, A, p, id)->code, E_OK);
        assert_in_range(kit_rows(k, FAM_DEDUP_A, NULL) + kit_rows(k, FAM_DEDUP_B, NULL), 1, 1000);
        if (i >= 500 && i % 100 == 0) {
            snprintf(id, sizeof id, "%d", i - 499);
            assert_true(kit_produce_ids(k, A, p, id)->produce.duplicate);
        }
    }
    assert_true(engine_counters(k->engine)->dedup_early >= 8);
    kit_free(k);
}

/* One turn may fill more than a generation; what was noted early in it is dropped by the same list of puts. */
static void a_generation_that_turns_twice_in_one_turn_keeps_the_newest(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->limits.dedup_entries_max = 4;
    uint32_t p = kit_topic(k, "t", 1);
    kit_begin(k);
    static const char *const batches[] = {"a b", "c d", "e f", "a", "e"};
    struct call *calls[5];
    struct id128 ids[5][2] = {0};
    for (size_t i = 0; i < 5; i++) {
        struct wire_request r = kit_request(k, B, VERB_PRODUCE);
        r.lane = p;
        r.seq = i + 1;
        r.produce = (struct wire_produce){.partition = p, .count = (uint32_t)strlen(batches[i]) / 2 + 1, .batch = VIEW_LIT("bytes")};
        for (size_t n = 0; n < r.produce.count; n++)
            ids[i][n].lo = (uint8_t)batches[i][2 * n];
        k->message_ids = ids[i];
        calls[i] = kit_call(k, r, B);
    }
    k->message_ids = NULL;
    kit_end(k);
    assert_false(kit_reply(calls[3])->produce.duplicate); /* forgotten */
    assert_true(kit_reply(calls[4])->produce.duplicate);
    assert_int_equal(kit_reply(calls[4])->produce.base_offset, 4);
    kit_free(k);
}

static void what_is_produced_before_is_answered_also_when_nothing_more_may_be_produced(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_produce_ids(k, A, p, "x");
    kit_begin(k);
    engine_disk(k->engine, 0);
    kit_end(k);
    assert_int_equal(kit_produce_ids(k, B, p, "y")->code, E_DISK_FULL);
    assert_duplicate(kit_produce_ids(k, B, p, "x"), 0);
    kit_begin(k);
    engine_disk(k->engine, UINT64_MAX);
    kit_end(k);
    assert_new(kit_produce_ids(k, B, p, "y"), 1); /* what was refused was not remembered */
    kit_free(k);
}

static void a_unit_whose_outputs_were_produced_before_is_whole_and_appends_nothing(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), q = kit_topic(k, "out", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b c d");
    kit_receive(k, A, g, 4);
    kit_produce_ids(k, A, q, "x");
    static const struct { const char *message; uint64_t ids[2][2]; int code; uint64_t end; } cases[] = {
        {"0", {{'x', 0}, {'u', 0}}, E_OK, 2},              /* x is skipped, u appended */
        {"1", {{'x', 'v'}, {'w', 0}}, E_DUPLICATE, 2},     /* part of the first was: nothing of the unit is done */
        {"2", {{'v', 0}, {'v', 0}}, E_DUPLICATE, 2},       /* the same twice in one unit */
        {"3", {{'v', 0}, {'w', 0}}, E_OK, 4},              /* what was refused was not remembered */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct wire_settle_item item = kit_item(k, g, SETTLE_ACK, cases[i].message);
        struct id128 ids[4] = {0}, *next = ids;
        struct wire_produce produces[2];
        for (size_t n = 0; n < 2; n++) {
            uint32_t count = cases[i].ids[n][1] != 0 ? 2 : 1;
            for (size_t m = 0; m < count; m++)
                *next++ = (struct id128){.lo = cases[i].ids[n][m], .hi = cases[i].ids[n][m]};
            produces[n] = (struct wire_produce){.partition = q, .count = count, .batch = VIEW_LIT("bytes")};
        }
        struct wire_unit unit = {.items = &item, .items_n = 1, .produces = produces, .produces_n = 2};
        struct wire_request r = kit_request(k, A, VERB_SETTLE);
        r.settle = (struct wire_settle){.units = &unit, .units_n = 1};
        k->message_ids = ids;
        const struct wire_reply *reply = kit_ask_numbered(k, r, A);
        k->message_ids = NULL;
        assert_int_equal(reply->settle.codes != NULL ? reply->settle.codes[0] : E_OK, cases[i].code);
        assert_int_equal(end_of(k, q), cases[i].end);
        if (i == 0)
            assert_true(reply->settle.outputs[0].duplicate && !reply->settle.outputs[1].duplicate);
    }
    assert_string_equal(kit_where(k, "t", "g"), "floor 1 done 1 leased 2");
    kit_free(k);
}

static void a_batch_of_very_many_ids_is_compared_in_a_moment(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    uint32_t p = kit_topic(k, "t", 1);
    enum { N = WIRE_BATCH_RECORDS_MAX / 4 }; /* as many as the store in RAM takes in a moment */
    struct id128 *ids = mem_array(N, sizeof *ids);
    for (uint32_t i = 0; i < N; i++)
        ids[i] = (struct id128){.lo = (uint64_t)i << 20, .hi = i + 1};
    struct wire_request r = kit_request(k, B, VERB_PRODUCE);
    r.lane = p;
    r.produce = (struct wire_produce){.partition = p, .count = N, .batch = VIEW_LIT("bytes")};
    k->message_ids = ids;
    assert_int_equal(kit_ask_numbered(k, r, B)->code, E_OK);
    assert_true(kit_ask_numbered(k, r, B)->produce.duplicate);
    k->message_ids = NULL;
    assert_int_equal(kit_rows(k, FAM_DEDUP_A, NULL) + kit_rows(k, FAM_DEDUP_B, NULL), N);
    assert_true(k->engine->dedup.seen_cap >= N);
    kit_produce_ids(k, A, p, "x");
    assert_in_range(k->engine->dedup.seen_cap, 1, 4096); /* its memory is given back */
    mem_free(ids);
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_with_an_id_that_was_produced_is_answered_with_where_it_is),
        cmocka_unit_test(a_batch_of_which_some_were_produced_is_refused_with_which_and_its_number_is_not_used),
        cmocka_unit_test(a_client_is_told_that_some_were_produced_when_they_are_on_disk),
        cmocka_unit_test(an_id_twice_in_one_batch_is_a_duplicate_the_second_time),
        cmocka_unit_test(messages_without_ids_are_never_duplicates_and_leave_no_rows),
        cmocka_unit_test(a_repeat_is_found_over_a_restart_of_the_broker),
        cmocka_unit_test(two_topics_have_ids_of_their_own_and_one_has_them_over_its_partitions),
        cmocka_unit_test(a_topic_can_do_without),
        cmocka_unit_test(an_id_is_remembered_for_exactly_the_window_of_its_topic),
        cmocka_unit_test(an_old_generation_is_dropped_whole_also_when_nothing_is_produced_any_more),
        cmocka_unit_test(rows_are_bounded_by_their_number_and_the_newest_half_is_kept),
        cmocka_unit_test(a_generation_that_turns_twice_in_one_turn_keeps_the_newest),
        cmocka_unit_test(what_is_produced_before_is_answered_also_when_nothing_more_may_be_produced),
        cmocka_unit_test(a_unit_whose_outputs_were_produced_before_is_whole_and_appends_nothing),
        cmocka_unit_test(a_batch_of_very_many_ids_is_compared_in_a_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

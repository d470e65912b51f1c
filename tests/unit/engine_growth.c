/* Topics that get more partitions while everything goes on: a key keeps its order, whichever partition it is in. */
#include "engine_kit.h"

#include "schemas/records.h"

static const struct wire_reply *grow(struct kit *k, uint32_t partitions)
{
    struct wire_request r = kit_request(k, A, VERB_TOPIC_ALTER);
    r.topic = (struct wire_topic_set){.name = VIEW_LIT("t"), .config.partitions = partitions, .mask = TOPIC_SET_PARTITIONS};
    return kit_ask_numbered(k, r, A);
}

/* A key that belongs to partition `index` of `count`. */
static const char *key_of(uint32_t index, uint32_t count)
{
    static char keys[8][8];
    static unsigned turn;
    char *key = keys[turn++ % ARRAY_LEN(keys)];
    for (unsigned i = 0;; i++) {
        snprintf(key, sizeof keys[0], "k%u", i);
        if (key_partition(key_hash(view_of_str(key)), count) == index)
            return key;
    }
}

/* What comes is acknowledged, until nothing does. */
static const char *drain(struct kit_world w)
{
    static char text[512];
    text[0] = '\0';
    for (const char *got; (got = kit_receive(w.k, B, w.g, 1))[0] != '\0';) {
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", text[0] != '\0' ? " " : "", got);
        assert_string_equal(kit_ack(w.k, B, w.g, got), "");
    }
    return text;
}

static void what_a_key_has_in_the_old_partition_comes_before_what_it_has_in_the_new_one(void **state)
{
    (void)state;
    struct kit_world w = kit_world_of(1, (struct wire_group_config){0});
    const char *moves = key_of(1, 2);
    kit_produce(w.k, w.p, moves);
    kit_produce(w.k, w.p, moves);
    assert_int_equal(grow(w.k, 2)->code, E_OK);
    kit_produce(w.k, w.p + 1, moves);
    kit_produce(w.k, w.p + 1, key_of(1, 2));
    assert_string_equal(drain(w), "0 1 1/0 1/1");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 4");
    kit_free(w.k);
}

static void a_group_that_is_behind_does_not_read_the_new_partition_before_the_fence(void **state)
{
    (void)state;
    struct kit_world w = kit_world_of(1, (struct wire_group_config){0});
    const char *stays = key_of(0, 2), *moves = key_of(1, 2);
    kit_produce_many(w.k, w.p, stays, 300);
    kit_produce(w.k, w.p, moves); /* further than is read ahead */
    assert_int_equal(grow(w.k, 2)->code, E_OK);
    kit_produce(w.k, w.p + 1, moves);
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "0");
    assert_string_equal(kit_receive(w.k, C, w.g, 1), "300"); /* and not 1/0 */
    assert_string_equal(kit_receive(w.k, C, w.g, 1), "");
    assert_string_equal(kit_ack(w.k, C, w.g, "300"), "");
    assert_string_equal(kit_receive(w.k, C, w.g, 1), "1/0");
    kit_free(w.k);
}

/* The partition between has nothing, so the group is at its end from the beginning: that says nothing of the first. */
static void nor_a_partition_of_the_next_growth_where_the_one_between_got_nothing(void **state)
{
    (void)state;
    struct kit_world w = kit_world_of(1, (struct wire_group_config){0});
    const char *moves = key_of(3, 4);
    kit_produce_many(w.k, w.p, key_of(0, 4), 300);
    kit_produce(w.k, w.p, moves); /* further than is read ahead */
    assert_int_equal(grow(w.k, 2)->code, E_OK);
    assert_int_equal(grow(w.k, 4)->code, E_OK);
    kit_produce(w.k, w.p + 3, moves);
    kit_restart(w.k);
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "0");
    assert_string_equal(kit_receive(w.k, C, w.g, 1), "300"); /* and not 3/0 */
    assert_string_equal(kit_receive(w.k, C, w.g, 1), "");
    assert_string_equal(kit_ack(w.k, C, w.g, "300"), "");
    assert_string_equal(kit_receive(w.k, C, w.g, 1), "3/0");
    kit_free(w.k);
}

/* What is ready was found by the scan and has no row. What waits behind it in the list of its key has a higher partition and a lower offset. */
static void what_was_ready_in_the_old_partition_is_found_again_before_what_waits_in_the_new_one(void **state)
{
    (void)state;
    struct kit_world w = kit_world_of(1, (struct wire_group_config){0});
    kit_produce(w.k, w.p, "-");
    kit_produce(w.k, w.p, key_of(1, 2));
    assert_int_equal(grow(w.k, 2)->code, E_OK);
    kit_produce(w.k, w.p + 1, key_of(1, 2));
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "0");
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 ready 1 behind 1");
    kit_restart(w.k);
    assert_string_equal(drain(w), "1 1/0");
    kit_free(w.k);
}

static void what_waits_in_the_new_partition_is_known_again_behind_what_waits_in_the_old_one(void **state)
{
    (void)state;
    struct kit_world w = kit_world_of(1, (struct wire_group_config){0});
    const char *moves = key_of(1, 2);
    kit_produce(w.k, w.p, moves);
    kit_produce(w.k, w.p, moves);
    kit_produce(w.k, w.p, moves);
    assert_int_equal(grow(w.k, 2)->code, E_OK);
    kit_produce(w.k, w.p + 1, "-");
    kit_produce(w.k, w.p + 1, moves); /* at 1, and the list begins at 1 of the old one */
    kit_produce(w.k, w.p + 1, moves);
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "0");
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 ready 1 behind 4");
    kit_restart(w.k);
    assert_string_equal(kit_receive(w.k, C, w.g, 5), "1/0");
    assert_string_equal(kit_settle(w.k, C, w.g, SETTLE_NACK, "1/0"), "");
    assert_string_equal(kit_where(w.k, "t", "g"), "leased 1 retrying 1 behind 4");
    assert_string_equal(kit_ack(w.k, B, w.g, "0"), "");
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "1");
    assert_string_equal(kit_ack(w.k, B, w.g, "1"), "");
    assert_string_equal(drain(w), "2 1/1 1/2");
    kit_free(w.k);
}

static void a_redriven_message_of_an_old_partition_waits_for_what_the_scan_finds_in_the_new_one(void **state)
{
    (void)state;
    struct kit_world w = kit_world_of(2, (struct wire_group_config){0});
    const char *moves = key_of(3, 4); /* of partition 1, then of 3 */
    kit_produce(w.k, w.p + 1, moves);
    kit_receive(w.k, B, w.g, 1);
    assert_string_equal(kit_settle(w.k, B, w.g, SETTLE_PARK, "1/0"), "");
    assert_int_equal(grow(w.k, 4)->code, E_OK);
    kit_produce(w.k, w.p, "-");
    kit_produce(w.k, w.p + 3, moves);
    kit_produce(w.k, w.p + 3, moves);
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "0");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 leased 1 ready 1 behind 1 parked 1");
    w.k->hold_loads = true;
    kit_restart(w.k);
    assert_true(kit_redrive(w.k, w.g, w.p + 1, 0));
    struct call *early = kit_receive_wait(w.k, C, 0, w.g, 1, 100);
    assert_false(early->answered); /* the next would be the head of the list */
    kit_pass(w.k, 100);
    w.k->hold_loads = false;
    kit_quiet(w.k);
    assert_string_equal(drain(w), "1/0 3/0 3/1");
    kit_free(w.k);
}

static void it_waits_for_the_old_partition_too_where_the_new_one_has_nothing(void **state)
{
    (void)state;
    struct kit_world w = kit_world_of(1, (struct wire_group_config){0});
    const char *moves = key_of(1, 2);
    kit_produce(w.k, w.p, moves);
    kit_receive(w.k, B, w.g, 1);
    assert_string_equal(kit_settle(w.k, B, w.g, SETTLE_PARK, "0"), "");
    kit_produce(w.k, w.p, "-");
    kit_produce(w.k, w.p, moves);
    kit_produce(w.k, w.p, moves);
    assert_int_equal(grow(w.k, 2)->code, E_OK);
    assert_string_equal(kit_receive(w.k, B, w.g, 1), "1");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 leased 1 ready 1 behind 1 parked 1");
    w.k->hold_loads = true;
    kit_restart(w.k);
    assert_true(kit_redrive(w.k, w.g, w.p, 0));
    struct call *early = kit_receive_wait(w.k, C, 0, w.g, 1, 100);
    assert_false(early->answered);
    kit_pass(w.k, 100);
    w.k->hold_loads = false;
    kit_quiet(w.k);
    assert_string_equal(drain(w), "0 2 3");
    kit_free(w.k);
}

static void a_group_made_later_reads_in_the_same_order(void **state)
{
    (void)state;
    struct kit_world w = kit_world_of(1, (struct wire_group_config){0});
    const char *moves = key_of(3, 4);
    kit_produce(w.k, w.p, moves);
    assert_int_equal(grow(w.k, 2)->code, E_OK);
    kit_produce(w.k, w.p + 1, moves);
    assert_int_equal(grow(w.k, 4)->code, E_OK);
    kit_produce(w.k, w.p + 3, moves);
    w.g = kit_group(w.k, "t", "later", NULL);
    assert_string_equal(drain(w), "0 1/0 3/0");
    w.g = kit_group(w.k, "t", "end", &(struct wire_group_config){.from = FROM_END});
    assert_string_equal(drain(w), "");
    kit_produce(w.k, w.p + 3, moves);
    assert_string_equal(drain(w), "3/1");
    kit_free(w.k);
}

static void a_batch_that_was_checked_against_fewer_partitions_is_refused_and_its_repeat_is_not(void **state)
{
    (void)state;
    struct kit_world w = kit_world_of(1, (struct wire_group_config){0});
    struct wire_request r = kit_request(w.k, A, VERB_PRODUCE);
    r.lane = w.p;
    r.seq = 1;
    r.produce = (struct wire_produce){.partition = w.p, .count = 1, .batch = VIEW_LIT("a")};
    w.k->checked_partitions = 1;
    assert_int_equal(kit_ask(w.k, r, A)->code, E_OK);
    assert_int_equal(grow(w.k, 2)->code, E_OK);
    const struct wire_reply *again = kit_ask(w.k, r, A); /* its result, though its keys may belong elsewhere by now */
    assert_true(again->code == E_OK && again->produce.base_offset == 0);

    r.seq = 2;
    const struct wire_reply *refused = kit_ask(w.k, r, A);
    assert_int_equal(refused->code, E_WRONG_PARTITION);
    assert_has((const char *)refused->detail.data, "2 partitions now");
    w.k->checked_partitions = 2;
    w.k->checked_misfit = 1;
    refused = kit_ask(w.k, r, A);
    assert_int_equal(refused->code, E_WRONG_PARTITION);
    assert_has((const char *)refused->detail.data, "record 0");
    w.k->checked_misfit = 0;
    assert_int_equal(kit_ask(w.k, r, A)->produce.base_offset, 1); /* under the same number */

    const struct wire_produce output = {.partition = w.p, .count = 1, .batch = VIEW_LIT("b")};
    w.k->checked_partitions = 1;
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, A, (struct wire_unit){.produces = &output, .produces_n = 1})), E_WRONG_PARTITION);
    w.k->checked_partitions = 0; /* without keys it may go anywhere */
    assert_int_equal(kit_unit_code(kit_unit_of(w.k, A, (struct wire_unit){.produces = &output, .produces_n = 1})), E_OK);
    kit_free(w.k);
}

static void what_waits_for_its_time_goes_to_where_its_key_belongs_by_then(void **state)
{
    (void)state;
    struct kit_world w = kit_world_of(1, (struct wire_group_config){0});
    struct batch_builder *builder = batch_builder_new();
    const struct record record = {.key = view_of_str(key_of(1, 2)), .timestamp_ms = 1};
    struct buf bytes = {0};
    struct err e = {0};
    struct wire_request r = kit_request(w.k, A, VERB_PRODUCE);
    r.lane = w.p;
    r.produce = (struct wire_produce){.partition = w.p, .count = 1, .delay_ms = 1000};
    assert_int_equal(batch_builder_add(builder, &record, &e), E_OK);
    assert_int_equal(batch_builder_finish(builder, BATCH_NONE, &bytes, &r.produce.batch_hash, &e), E_OK);
    r.produce.batch = buf_view(&bytes);
    assert_int_equal(kit_ask_numbered(w.k, r, A)->code, E_OK);
    assert_int_equal(grow(w.k, 2)->code, E_OK);
    kit_pass(w.k, 1000);
    const struct partition *old = table_get(&w.k->engine->partitions, w.p), *new = table_get(&w.k->engine->partitions, w.p + 1);
    assert_int_equal(old->row.end, 0);
    assert_int_equal(new->row.end, 1);
    batch_builder_free(builder);
    buf_free(&bytes);
    kit_free(w.k);
}

static void partitions_grow_by_a_whole_factor_within_the_limits_or_not_at_all(void **state)
{
    (void)state;
    struct kit_world w = kit_world_of(2, (struct wire_group_config){0});
    static const uint32_t refused[] = {1, 3, 5};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        const struct wire_reply *r = grow(w.k, refused[i]);
        assert_int_equal(r->code, E_UNSUPPORTED);
        assert_has((const char *)r->detail.data, "2 can become 4 or 6");
    }
    w.k->limits.topic_partitions_max = 4;
    assert_int_equal(grow(w.k, 6)->code, E_LIMIT);
    w.k->limits.topic_partitions_max = 100;
    w.k->limits.partitions_max = 5;
    assert_int_equal(grow(w.k, 6)->code, E_LIMIT);
    w.k->limits.partitions_max = 6;
    const struct wire_reply *r = grow(w.k, 6);
    assert_int_equal(r->code, E_OK);
    assert_int_equal(r->topics.topics[0].partitions_n, 6);
    assert_int_equal(grow(w.k, 6)->code, E_OK); /* it is so */
    kit_restart(w.k);
    assert_int_equal(grow(w.k, 2)->code, E_UNSUPPORTED);
    assert_int_equal(topic_find(w.k->engine, VIEW_LIT("t"))->config.partitions, 6);
    assert_int_equal(kit_delete_topic(w.k, "t"), E_OK);
    assert_int_equal(w.k->gone_partitions, 6);
    kit_free(w.k);
}

/* Nothing of it is done: what is in memory is what a restart knows, and no row was put. */
static void refuses_to_grow(struct kit *k, uint32_t partitions, int code, const char *text)
{
    uint64_t rows = store_mem_digest(k->store), puts = engine_counters(k->engine)->puts;
    uint32_t before = topic_find(k->engine, VIEW_LIT("t"))->config.partitions, next = k->engine->next.partition;
    const struct wire_reply *r = grow(k, partitions);
    assert_int_equal(r->code, code);
    assert_has((const char *)r->detail.data, text);
    assert_int_equal(topic_find(k->engine, VIEW_LIT("t"))->config.partitions, before);
    assert_int_equal(k->engine->next.partition, next);
    assert_int_equal(engine_counters(k->engine)->puts, puts);
    assert_true(store_mem_digest(k->store) == rows);
}

static void a_compacted_topic_does_not_grow(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 2, .compacted = true});
    refuses_to_grow(k, 4, E_UNSUPPORTED, "partitions of a compacted topic do not grow");
    assert_int_equal(grow(k, 2)->code, E_OK); /* it is so */
    kit_free(k);
}

static void an_id_of_a_partition_is_not_given_twice(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    kit_topic(k, "t", 2);
    k->watch = false;
    k->engine->next.partition = UINT32_MAX - 1;
    refuses_to_grow(k, 4, E_LIMIT, "every id of a partition was used once");
    k->engine->next.partition = UINT32_MAX - 2;
    assert_int_equal(grow(k, 4)->code, E_OK);
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_key_has_in_the_old_partition_comes_before_what_it_has_in_the_new_one),
        cmocka_unit_test(a_group_that_is_behind_does_not_read_the_new_partition_before_the_fence),
        cmocka_unit_test(nor_a_partition_of_the_next_growth_where_the_one_between_got_nothing),
        cmocka_unit_test(what_was_ready_in_the_old_partition_is_found_again_before_what_waits_in_the_new_one),
        cmocka_unit_test(what_waits_in_the_new_partition_is_known_again_behind_what_waits_in_the_old_one),
        cmocka_unit_test(a_redriven_message_of_an_old_partition_waits_for_what_the_scan_finds_in_the_new_one),
        cmocka_unit_test(it_waits_for_the_old_partition_too_where_the_new_one_has_nothing),
        cmocka_unit_test(a_group_made_later_reads_in_the_same_order),
        cmocka_unit_test(a_batch_that_was_checked_against_fewer_partitions_is_refused_and_its_repeat_is_not),
        cmocka_unit_test(what_waits_for_its_time_goes_to_where_its_key_belongs_by_then),
        cmocka_unit_test(partitions_grow_by_a_whole_factor_within_the_limits_or_not_at_all),
        cmocka_unit_test(a_compacted_topic_does_not_grow),
        cmocka_unit_test(an_id_of_a_partition_is_not_given_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The logs: offsets, bytes and times of what is appended, and when who may see it. */
#include "engine_kit.h"

#include <time.h>

#include "schemas/stored.h"

static struct partition *partition(struct kit *k, uint32_t id) { return table_get(&k->engine->partitions, id); }

static struct call *fetch(struct kit *k, uint32_t p, uint64_t offset, uint32_t wait_ms)
{
    struct wire_fetch_from from = {.partition = p, .offset = offset};
    struct wire_request r = kit_request(k, C, VERB_FETCH);
    r.fetch = (struct wire_fetch){.from = &from, .from_n = 1, .wait_ms = wait_ms};
    return kit_call(k, r, C);
}

static const struct wire_fetch_part *part_of_reply(const struct call *c) { return &kit_reply(c)->fetch.parts[0]; }

/* The entries of all rows of a partition, in order. */
static size_t entries(struct kit *k, uint32_t p, struct stored_header *out, size_t max, size_t *rows)
{
    struct store_iter *it = store_iter(k->store, FAM_LOG_DAYS);
    struct key prefix = key_log_prefix(p);
    size_t n = 0;
    *rows = 0;
    for (store_iter_seek(it, key_view(&prefix)); store_iter_valid(it) && key_has_prefix(store_iter_key(it), &prefix); store_iter_next(it)) {
        struct buf copy = {0};
        struct view batch;
        struct err e = {0};
        buf_append(&copy, store_iter_value(it).data, store_iter_value(it).size);
        for (struct view rest = buf_view(&copy); rest.size > 0; n++) {
            assert_true(n < max);
            assert_int_equal(stored_next(&rest, &out[n], &batch, &e), E_OK);
        }
        buf_free(&copy);
        ++*rows;
    }
    store_iter_close(it);
    return n;
}

static void offsets_follow_each_other_and_a_turn_is_one_row(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_begin(k);
    struct call *calls[3];
    for (uint32_t i = 0; i < 3; i++) {
        struct wire_request r = kit_request(k, B, VERB_PRODUCE);
        r.lane = p;
        r.seq = i + 1;
        r.produce = (struct wire_produce){.partition = p, .count = i + 1, .batch = VIEW_LIT("seventeen bytes..")};
        calls[i] = kit_call(k, r, B);
    }
    kit_end(k);
    kit_produce(k, p, "a");
    assert_int_equal(kit_reply(calls[0])->produce.base_offset, 0);
    assert_int_equal(kit_reply(calls[1])->produce.base_offset, 1);
    assert_int_equal(kit_reply(calls[2])->produce.base_offset, 3);
    struct stored_header h[8];
    size_t rows;
    assert_int_equal(entries(k, p, h, 8, &rows), 4);
    assert_int_equal(rows, 2);
    static const uint64_t bases[] = {0, 1, 3, 6};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(h[i].base_offset, bases[i]);
    kit_free(k);
}

static void cumulative_bytes_count_every_byte_that_is_stored(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    for (int i = 0; i < 3; i++)
        kit_produce(k, p, "a b");
    kit_restart(k);
    kit_produce(k, p, "a");
    struct stored_header h[8];
    size_t rows;
    uint64_t sum = 0;
    size_t n = entries(k, p, h, 8, &rows);
    for (size_t i = 0; i < n; i++) {
        sum += stored_entry_size(h[i].size);
        assert_int_equal(h[i].cumulative_bytes, sum);
    }
    assert_int_equal(partition(k, p)->row.end_bytes, sum);
    kit_free(k);
}

static void append_times_never_go_back(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_produce(k, p, "a");
    uint64_t first = partition(k, p)->row.last_time_ms;
    k->now.wall_ms -= 3600000;
    kit_produce(k, p, "a");
    assert_int_equal(partition(k, p)->row.last_time_ms, first);
    kit_restart(k); /* not over a restart either */
    kit_produce(k, p, "a");
    assert_int_equal(partition(k, p)->row.last_time_ms, first);
    k->now.wall_ms += 3600000 + 5;
    kit_produce(k, p, "a");
    assert_int_equal(partition(k, p)->row.last_time_ms, first + 5);
    kit_free(k);
}

static void a_disk_topic_shows_what_is_synced_and_an_os_topic_what_is_written(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t d = kit_topic(k, "d", 1), o = kit_topic_of(k, "o", (struct wire_topic_config){.durability = DURABILITY_OS});
    k->hold_syncs = true;
    kit_produce(k, d, "a b");
    kit_produce(k, o, "a b");
    assert_int_equal(part_of_reply(fetch(k, d, 0, 0))->end, 0);
    assert_int_equal(part_of_reply(fetch(k, o, 0, 0))->end, 2);
    k->hold_syncs = false;
    kit_produce(k, o, "c"); /* this turn's sync is that of all before it */
    kit_quiet(k);
    assert_int_equal(part_of_reply(fetch(k, d, 0, 0))->end, 2);
    kit_free(k);
}

static void after_a_restart_everything_that_is_there_is_seen(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    k->hold_syncs = true;
    kit_produce(k, p, "a b");
    k->hold_syncs = false;
    kit_restart(k); /* opening syncs */
    assert_int_equal(part_of_reply(fetch(k, p, 0, 0))->end, 2);
    kit_free(k);
}

static void a_fetch_waits_until_its_offset_is_seen_or_its_time_is_up(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    struct call *a = fetch(k, p, 0, 5000);
    assert_false(a->answered);
    kit_produce(k, p, "a");
    assert_int_equal(part_of_reply(a)->end, 1);
    struct call *b = fetch(k, p, 1, 5000);
    kit_pass(k, 4999);
    assert_false(b->answered);
    kit_pass(k, 1);
    assert_int_equal(part_of_reply(b)->end, 1);
    assert_int_equal(part_of_reply(b)->code, E_OK);
    kit_free(k);
}

static void a_fetch_that_waits_is_not_woken_by_what_lies_below_its_offset(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    k->hold_syncs = true;
    kit_produce(k, p, "a");
    kit_produce(k, p, "b");
    kit_produce(k, p, "c");
    struct call *c = fetch(k, p, 2, 5000); /* appended and not yet seen */
    uint64_t last = k->written;
    for (uint64_t turn = last - 3; turn < last - 1; turn++) { /* the first two become durable */
        k->durable = turn;
        kit_begin(k);
        kit_end(k);
        assert_false(c->answered);
    }
    k->hold_syncs = false;
    k->durable = k->written;
    kit_begin(k);
    kit_end(k);
    kit_quiet(k);
    assert_int_equal(part_of_reply(c)->end, 3);
    kit_free(k);
}

/* Was a bug: each place in the queue looked at each part of its fetch again: 65,536 of both. */
static void a_fetch_that_names_a_partition_many_times_costs_no_more_than_its_size(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    uint32_t p = kit_topic(k, "t", 1);
    enum { N = WIRE_ITEMS_MAX };
    k->hold_syncs = true;
    for (int i = 0; i < 4; i++)
        kit_produce(k, p, "a");
    struct wire_fetch_from *from = mem_array(N, sizeof *from);
    for (uint32_t i = 0; i < N; i++)
        from[i] = (struct wire_fetch_from){.partition = p, .offset = 4};
    struct wire_request r = kit_request(k, C, VERB_FETCH);
    r.fetch = (struct wire_fetch){.from = from, .from_n = N, .wait_ms = 5000};
    struct call *c = kit_call(k, r, C);
    uint64_t last = k->written;
    clock_t began = clock();
    for (uint64_t turn = last - 4; turn <= last; turn++) {
        k->durable = turn;
        kit_begin(k);
        kit_end(k);
    }
    assert_true((double)(clock() - began) / CLOCKS_PER_SEC < 2);
    assert_false(c->answered);
    mem_free(from);
    kit_free(k);
}

static void an_offset_beyond_the_end_and_an_unknown_partition_are_said_in_their_parts(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_produce(k, p, "a");
    struct wire_fetch_from from[] = {{.partition = p, .offset = 2}, {.partition = p, .offset = UINT64_MAX}, {.partition = 999},
                                      {.partition = UINT32_MAX}, {.partition = p, .offset = 1}};
    struct wire_request r = kit_request(k, C, VERB_FETCH);
    r.fetch = (struct wire_fetch){.from = from, .from_n = ARRAY_LEN(from), .wait_ms = 5000};
    const struct wire_reply *reply = kit_ask(k, r, C); /* at once: there is news */
    static const int codes[] = {E_OFFSET_OUT_OF_RANGE, E_OFFSET_OUT_OF_RANGE, E_PARTITION_NOT_FOUND, E_PARTITION_NOT_FOUND, E_OK};
    for (size_t i = 0; i < ARRAY_LEN(from); i++)
        assert_int_equal(reply->fetch.parts[i].code, codes[i]);
    kit_free(k);
}

static void below_the_disk_reserve_produces_are_refused_and_acks_go_on(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b");
    kit_receive(k, A, g, 2);
    kit_begin(k);
    engine_disk(k->engine, k->limits.disk_reserve_bytes - 1);
    kit_end(k);
    assert_int_equal(kit_produce(k, p, "a"), E_DISK_FULL);
    assert_string_equal(kit_ack(k, A, g, "0"), "");
    struct call *c = kit_call(k, kit_request(k, A, VERB_HEALTH), A);
    assert_true(view_eq(kit_reply(c)->health.status, VIEW_LIT("read_only")));
    kit_begin(k);
    engine_disk(k->engine, k->limits.disk_reserve_bytes);
    kit_end(k);
    assert_int_equal(kit_produce(k, p, "a"), E_OK);
    kit_free(k);
}

static void a_topic_that_is_full_says_how_much_it_holds(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.backlog_bytes_max = 150});
    assert_int_equal(kit_produce(k, p, "a"), E_OK);
    assert_int_equal(kit_produce(k, p, "a"), E_OK);
    struct wire_request r = kit_request(k, B, VERB_PRODUCE);
    r.lane = p;
    r.seq = 1;
    r.produce = (struct wire_produce){.partition = p, .count = 1, .batch = VIEW_LIT("x")};
    const struct wire_reply *reply = kit_ask(k, r, B);
    assert_int_equal(reply->code, E_OVERLOADED);
    assert_int_equal(reply->depth, 2);
    assert_true(reply->retry_after_ms > 0);
    kit_free(k);
}

static void a_message_without_a_key_is_refused_where_the_topic_is_compacted(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.compacted = true}), other = kit_topic(k, "u", 1);
    const struct partition *log = table_get(&k->engine->partitions, p);
    k->checked_keyless = 2;
    struct wire_request r = kit_request(k, B, VERB_PRODUCE);
    r.lane = p;
    r.produce = (struct wire_produce){.partition = p, .count = 2, .batch = VIEW_LIT("x")};
    const struct wire_reply *reply = kit_ask_numbered(k, r, B);
    assert_int_equal(reply->code, E_INVALID_ARGUMENT);
    assert_has((const char *)reply->detail.data, "record 1 has no key: topic 't' is compacted, so each message needs one");
    struct wire_produce both[] = {{.partition = other, .count = 2, .batch = VIEW_LIT("x")}, {.partition = p, .count = 2, .batch = VIEW_LIT("x")}};
    assert_int_equal(kit_unit_code(kit_unit_of(k, B, (struct wire_unit){.produces = both, .produces_n = 2})), E_INVALID_ARGUMENT);
    assert_int_equal(log->row.end, 0);
    assert_int_equal(((const struct partition *)table_get(&k->engine->partitions, other))->row.end, 0); /* a unit is done whole */
    assert_int_equal(kit_produce(k, other, "- -"), E_OK);
    k->checked_keyless = 0;
    assert_int_equal(kit_produce(k, p, "a b"), E_OK);
    kit_free(k);
}

/* Where a time begins in a log is for readers to find; the engine says which log, and what of it is to be seen. */
static void an_offset_for_a_time_is_looked_for_between_the_start_and_what_is_visible(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    kit_produce(k, p, "a b c");
    k->hold_syncs = true;
    kit_produce(k, p, "d");
    struct wire_request r = kit_request(k, A, VERB_OFFSET_FOR);
    r.offset_for = (struct wire_offset_for){.partition = p, .time_ms = 1};
    const struct call *c = kit_call(k, r, A);
    assert_int_equal(kit_reply(c)->code, E_OK);
    assert_int_equal(c->op.read, READ_OFFSET);
    assert_int_equal(kit_reply(c)->offset.start, 0);
    assert_int_equal(kit_reply(c)->offset.end, 3);
    r.offset_for.partition = p + 1;
    c = kit_call(k, r, A);
    assert_int_equal(kit_reply(c)->code, E_PARTITION_NOT_FOUND);
    assert_int_equal(c->op.read, READ_NONE);
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offsets_follow_each_other_and_a_turn_is_one_row),
        cmocka_unit_test(cumulative_bytes_count_every_byte_that_is_stored),
        cmocka_unit_test(append_times_never_go_back),
        cmocka_unit_test(a_disk_topic_shows_what_is_synced_and_an_os_topic_what_is_written),
        cmocka_unit_test(after_a_restart_everything_that_is_there_is_seen),
        cmocka_unit_test(a_fetch_waits_until_its_offset_is_seen_or_its_time_is_up),
        cmocka_unit_test(a_fetch_that_waits_is_not_woken_by_what_lies_below_its_offset),
        cmocka_unit_test(a_fetch_that_names_a_partition_many_times_costs_no_more_than_its_size),
        cmocka_unit_test(an_offset_beyond_the_end_and_an_unknown_partition_are_said_in_their_parts),
        cmocka_unit_test(below_the_disk_reserve_produces_are_refused_and_acks_go_on),
        cmocka_unit_test(a_topic_that_is_full_says_how_much_it_holds),
        cmocka_unit_test(a_message_without_a_key_is_refused_where_the_topic_is_compacted),
        cmocka_unit_test(an_offset_for_a_time_is_looked_for_between_the_start_and_what_is_visible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Retention: when messages go, what keeps them, and what who comes late is told. */
#include "engine_kit.h"

enum { HOUR = 3600000 };

static struct partition *partition(struct kit *k, uint32_t id) { return table_get(&k->engine->partitions, id); }
static uint64_t start_of(struct kit *k, uint32_t p) { return partition(k, p)->row.start; }

/* Rows of a log as they stand in the store. */
static size_t log_rows(struct kit *k, uint32_t p)
{
    size_t n = 0;
    struct key prefix = key_log_prefix(p);
    for (enum store_family f = FAM_LOG_HOURS; f < FAM_COUNT; f++) {
        struct store_iter *it = store_iter(k->store, f);
        for (store_iter_seek(it, key_view(&prefix)); store_iter_valid(it) && key_has_prefix(store_iter_key(it), &prefix); store_iter_next(it))
            n++;
        store_iter_close(it);
    }
    return n;
}

/* What the copy of a message says; "": there is none. */
static const char *copy_of(struct kit *k, uint32_t group, uint32_t p, uint64_t offset)
{
    static char text[64];
    struct key key = key_copy(group, p, offset);
    struct buf value = {0};
    struct err e = {0};
    bool found;
    assert_int_equal(store_get(k->store, FAM_SCHED, key_view(&key), &value, &found, &e), E_OK);
    snprintf(text, sizeof text, "%.*s", found ? (int)value.size : 0, (const char *)value.data);
    buf_free(&value);
    return text;
}

static struct kit *kit_quick(void)
{
    struct kit *k = kit_new();
    k->limits.retention_interval_ms = 100;
    return k;
}

static const struct wire_fetch_part *fetch(struct kit *k, uint32_t p, uint64_t offset)
{
    struct wire_fetch_from from = {.partition = p, .offset = offset};
    struct wire_request r = kit_request(k, C, VERB_FETCH);
    r.fetch = (struct wire_fetch){.from = &from, .from_n = 1};
    return &kit_ask(k, r, C)->fetch.parts[0];
}

static const struct wire_reply *alter(struct kit *k, struct wire_topic_config to, uint64_t mask)
{
    struct wire_request r = kit_request(k, A, VERB_TOPIC_ALTER);
    r.topic = (struct wire_topic_set){.name = VIEW_LIT("t"), .config = to, .mask = mask};
    return kit_ask_numbered(k, r, A);
}

/* What a walk over all partitions counts. */
static void check_bytes(struct kit *k)
{
    uint64_t all = 0, counted = 0;
    struct engine_totals t;
    engine_totals(k->engine, &t);
    for (int f = 0; f < FAM_COUNT; f++)
        counted += t.log_bytes[f];
    const struct partition *p;
    for (uint64_t id = 0; (p = table_from(&k->engine->partitions, &id)) != NULL; id++)
        all += p->row.end_bytes - p->row.start_bytes;
    assert_int_equal(counted, all);
}

static void messages_go_when_they_are_older_than_the_topic_keeps_them_and_not_before(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = HOUR});
    kit_produce(k, p, "a b c");
    kit_pass(k, HOUR / 2);
    kit_produce(k, p, "a b");
    kit_pass(k, HOUR / 2 - 1);
    assert_int_equal(start_of(k, p), 0);
    kit_pass(k, 1000);
    assert_int_equal(start_of(k, p), 3);
    assert_int_equal(log_rows(k, p), 1);
    assert_int_equal(engine_counters(k->engine)->trimmed_messages, 3);
    check_bytes(k);
    kit_restart(k);
    check_bytes(k);
    kit_pass(k, HOUR / 2);
    assert_int_equal(start_of(k, p), 5);
    assert_int_equal(log_rows(k, p), 0);
    kit_produce(k, p, "a"); /* a log that was emptied begins again */
    kit_pass(k, HOUR - 1);
    assert_int_equal(start_of(k, p), 5);
    kit_pass(k, 1000);
    assert_int_equal(start_of(k, p), 6);
    check_bytes(k);
    kit_free(k);
}

static void a_topic_keeps_as_many_bytes_as_it_is_told_its_largest_partitions_are_cut_first(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 3, .retention_ms = UINT64_MAX});
    for (int i = 0; i < 30; i++)
        kit_produce(k, p, "a");
    for (int i = 0; i < 20; i++)
        kit_produce(k, p + 1, "a");
    kit_produce(k, p + 2, "a");
    uint64_t row = partition(k, p + 2)->row.end_bytes;
    kit_pass(k, 10000);
    assert_int_equal(start_of(k, p), 0);
    assert_int_equal(alter(k, (struct wire_topic_config){.retention_bytes = 21 * row}, TOPIC_SET_RETENTION_BYTES)->code, E_OK);
    kit_pass(k, 1000);
    assert_int_equal(start_of(k, p), 20);
    assert_int_equal(start_of(k, p + 1), 10);
    assert_int_equal(start_of(k, p + 2), 0);
    kit_produce(k, p + 2, "a");
    kit_pass(k, 1000);
    uint64_t all = 0;
    for (uint32_t i = 0; i < 3; i++)
        all += partition(k, p + i)->row.end_bytes - partition(k, p + i)->row.start_bytes;
    assert_true(all >= 21 * row && all <= 22 * row); /* whole rows go: less is never kept than was asked for */
    check_bytes(k);
    kit_free(k);
}

static void what_a_group_has_not_done_stays(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = HOUR, .hard_cap_ms = UINT64_MAX});
    uint32_t g = kit_group(k, "t", "g", NULL), other = kit_group(k, "t", "other", NULL);
    kit_produce(k, p, "a b c");
    kit_produce(k, p, "a b c");
    assert_string_equal(kit_receive(k, A, g, 4), "0 1 2");
    kit_pass(k, 2 * HOUR);
    assert_int_equal(start_of(k, p), 0);
    assert_string_equal(kit_receive(k, A, g, 4), "0 1 2");
    kit_ack(k, A, g, "0 1 2");
    kit_pass(k, 1000);
    assert_int_equal(start_of(k, p), 0); /* the other one has done nothing */
    assert_int_equal(kit_delete_group(k, "t", "other"), E_OK);
    (void)other;
    kit_pass(k, 1000);
    assert_int_equal(start_of(k, p), 3);
    assert_string_equal(kit_receive(k, A, g, 4), "3 4 5");
    kit_ack(k, A, g, "3 4");
    kit_pass(k, 1000);
    assert_int_equal(start_of(k, p), 3); /* a row goes whole, or stays */
    kit_restart(k);
    kit_pass(k, 1000);
    assert_int_equal(start_of(k, p), 3);
    kit_ack(k, A, g, "5");
    kit_pass(k, 1000);
    assert_int_equal(start_of(k, p), 6);
    kit_free(k);
}

static void what_was_done_and_is_present_again_is_copied_while_it_is_leased(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = HOUR, .hard_cap_ms = UINT64_MAX});
    uint32_t g = kit_group(k, "t", "g", &(struct wire_group_config){.lease_ms = 6 * HOUR});
    kit_produce(k, p, "a");
    kit_produce(k, p, "b");
    kit_receive(k, A, g, 2);
    kit_settle(k, A, g, SETTLE_PARK, "0");
    kit_ack(k, A, g, "1");
    assert_true(kit_redrive(k, g, p, 0));
    assert_string_equal(kit_receive(k, A, g, 2), "0"); /* its row is the lease's now */
    kit_pass(k, 2 * HOUR);
    assert_int_equal(start_of(k, p), 2);
    assert_string_equal(copy_of(k, g, p, 0), "copy of 0");
    kit_ack(k, A, g, "0");
    assert_string_equal(copy_of(k, g, p, 0), "");
    kit_free(k);
}

static void who_stands_before_the_start_is_told_what_is_gone_from_when_to_when_and_why(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = HOUR});
    uint64_t began = k->now.wall_ms;
    for (int i = 0; i < 4; i++) {
        kit_produce(k, p, "a b");
        kit_pass(k, HOUR / 4);
    }
    for (int again = 0; again < 2; again++) {
        kit_pass(k, 1000);
        assert_int_equal(start_of(k, p), 2);
        const struct wire_fetch_part *part = fetch(k, p, 1);
        assert_true(part->has_gap);
        assert_int_equal(part->code, E_OK);
        assert_int_equal(part->start, 2);
        assert_int_equal(part->gap.from, 1);
        assert_int_equal(part->gap.to, 2);
        assert_int_equal(part->gap.from_time_ms, began);
        assert_int_equal(part->gap.to_time_ms, began);
        assert_int_equal(part->gap.why, GAP_RETENTION);
        kit_restart(k);
    }
    assert_false(fetch(k, p, 2)->has_gap);
    kit_pass(k, HOUR / 4);
    const struct wire_gap *gap = &fetch(k, p, 3)->gap;
    assert_int_equal(gap->to, 4);
    assert_int_equal(gap->from_time_ms, began + HOUR / 4); /* not that of what went before */
    gap = &fetch(k, p, 0)->gap;
    assert_int_equal(gap->from_time_ms, began);
    assert_int_equal(gap->to_time_ms, began + HOUR / 4);
    kit_free(k);
}

static void many_removals_are_remembered_in_few_places_the_newest_best(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    k->watch = false;
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = HOUR});
    uint64_t began = k->now.wall_ms;
    for (int i = 0; i < 500; i++) {
        kit_produce(k, p, "a");
        kit_pass(k, 60000);
    }
    k->watch = true;
    uint64_t start = start_of(k, p);
    assert_true(start >= 439 && start <= 441);
    assert_int_equal(partition(k, p)->trims->n, TRIMS_MAX);
    for (uint64_t o = 0; o < start; o += 7) {
        const struct wire_gap gap = fetch(k, p, o)->gap;
        uint64_t was = began + o * 60000, age = began + start * 60000 - was;
        assert_int_equal(gap.to, start);
        if (!(gap.from_time_ms <= was && was - gap.from_time_ms <= 4 * (age + 60000)))
            fail_msg("offset %llu: off by %llu of age %llu", (unsigned long long)o, (unsigned long long)(was - gap.from_time_ms) / 60000, (unsigned long long)age / 60000);
        assert_int_equal(gap.to_time_ms, began + (start - 1) * 60000);
    }
    kit_restart(k);
    assert_int_equal(start_of(k, p), start);
    kit_free(k);
}

static void a_wall_clock_that_is_not_believed_removes_nothing(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = HOUR});
    kit_produce(k, p, "a b c");
    k->now.wall_ms += 10 * (uint64_t)HOUR; /* set */
    kit_pass(k, HOUR / 2);
    assert_int_equal(start_of(k, p), 0);
    k->now.wall_ms -= 10 * (uint64_t)HOUR;
    kit_pass(k, HOUR / 4);
    assert_int_equal(start_of(k, p), 0);
    kit_pass(k, HOUR / 2);
    assert_int_equal(start_of(k, p), 3);
    kit_free(k);
}

static void a_setting_that_is_altered_holds_for_what_is_there(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = UINT64_MAX});
    kit_produce(k, p, "a b c");
    kit_pass(k, 100 * (uint64_t)HOUR);
    assert_int_equal(start_of(k, p), 0);
    assert_int_equal(alter(k, (struct wire_topic_config){.retention_ms = 90 * (uint64_t)HOUR}, TOPIC_SET_RETENTION_MS)->code, E_OK);
    kit_pass(k, 1000);
    assert_int_equal(start_of(k, p), 3);
    kit_free(k);
}

static void a_topic_may_go_while_its_log_is_looked_at(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 2, .retention_ms = HOUR});
    kit_produce(k, p, "a b c");
    kit_produce(k, p + 1, "a b c");
    k->hold_cuts = true;
    kit_pass(k, HOUR + 1000);
    assert_int_equal(k->cuts_n, 2);
    assert_int_equal(kit_delete_topic(k, "t"), E_OK);
    assert_int_equal(log_rows(k, p) + log_rows(k, p + 1), 0);
    check_bytes(k);
    k->hold_cuts = false;
    kit_quiet(k);
    kit_restart(k);
    check_bytes(k);
    kit_free(k);
}

/* The broker looks at who is due, not at everybody. */
static void partitions_that_lose_nothing_cost_nothing(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    k->watch = false;
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 40, .retention_ms = HOUR});
    kit_produce(k, p, "a");
    for (uint32_t i = 1; i < 40; i++)
        kit_produce(k, p + i, "a");
    kit_pass(k, 30 * 60000);
    kit_produce(k, p, "b");
    uint64_t turns = engine_counters(k->engine)->turns;
    kit_pass(k, 20 * 60000);
    assert_true(engine_counters(k->engine)->turns - turns < 10);
    assert_int_equal(k->cuts_n, 0);
    kit_free(k);
}

/* ---------------------------------------------------------------- held messages are copied */

static void dead_letters_are_copied_before_their_log_goes_and_the_copies_go_with_them(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = HOUR, .hard_cap_ms = UINT64_MAX});
    uint32_t g = kit_group(k, "t", "g", NULL), other = kit_group(k, "t", "other", NULL);
    kit_produce(k, p, "a b c d e");
    kit_receive(k, A, g, 5);
    kit_settle(k, A, g, SETTLE_PARK, "0 1 3");
    kit_ack(k, A, g, "2 4");
    kit_receive(k, A, other, 5);
    kit_settle(k, A, other, SETTLE_PARK, "1");
    kit_ack(k, A, other, "0 2 3 4");
    kit_pass(k, HOUR + 5000);
    assert_int_equal(start_of(k, p), 5);
    assert_string_equal(copy_of(k, g, p, 0), "copy of 0");
    assert_string_equal(copy_of(k, g, p, 1), "copy of 1");
    assert_string_equal(copy_of(k, g, p, 2), "");
    assert_string_equal(copy_of(k, g, p, 3), "copy of 3");
    assert_string_equal(copy_of(k, other, p, 1), "copy of 1");
    assert_int_equal(engine_counters(k->engine)->copied_messages, 4);
    kit_restart(k);
    assert_true(kit_redrive(k, g, p, 0));
    assert_string_equal(kit_receive(k, A, g, 5), "0");
    assert_string_equal(copy_of(k, g, p, 0), "copy of 0"); /* it may fail again */
    kit_settle(k, A, g, SETTLE_PARK, "0");
    assert_string_equal(copy_of(k, g, p, 0), "copy of 0");
    assert_true(kit_redrive(k, g, p, 0));
    kit_receive(k, A, g, 5);
    kit_restart(k);
    kit_ack(k, A, g, "0");
    assert_string_equal(copy_of(k, g, p, 0), "");
    kit_drop_parked(k, g, p, 1);
    assert_string_equal(copy_of(k, g, p, 1), "");
    assert_string_equal(copy_of(k, other, p, 1), "copy of 1");
    assert_int_equal(kit_delete_group(k, "t", "g"), E_OK);
    assert_string_equal(copy_of(k, g, p, 3), "");
    assert_string_equal(copy_of(k, other, p, 1), "copy of 1");
    assert_int_equal(kit_delete_topic(k, "t"), E_OK);
    assert_string_equal(copy_of(k, other, p, 1), "");
    kit_free(k);
}

static void a_log_is_not_cut_over_what_is_not_copied_yet(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = HOUR, .hard_cap_ms = UINT64_MAX});
    uint32_t g = kit_group(k, "t", "g", &(struct wire_group_config){.lease_ms = 6 * HOUR});
    kit_produce(k, p, "a b c d");
    kit_receive(k, A, g, 4);
    kit_settle(k, A, g, SETTLE_PARK, "0 1");
    kit_ack(k, A, g, "2 3");
    k->hold_copies = true;
    kit_pass(k, HOUR + 5000);
    assert_int_equal(k->copies_n, 1);
    assert_int_equal(start_of(k, p), 0);
    kit_drop_parked(k, g, p, 1); /* meanwhile */
    assert_true(kit_redrive(k, g, p, 0));
    assert_string_equal(kit_receive(k, A, g, 4), "0");
    kit_pass(k, 5000);
    assert_int_equal(start_of(k, p), 0);
    kit_restart(k); /* what was asked is forgotten, and asked again */
    assert_int_equal(k->copies_n, 0);
    k->hold_copies = false;
    kit_pass(k, 5000);
    assert_int_equal(start_of(k, p), 4);
    assert_string_equal(copy_of(k, g, p, 0), "copy of 0"); /* it is leased */
    assert_string_equal(copy_of(k, g, p, 1), "");
    kit_ack(k, A, g, "0");
    assert_string_equal(copy_of(k, g, p, 0), "");
    kit_free(k);
}

/* What readers bring for it serves the next cut: a dead letter that counts as copied has its copy. */
static void a_cut_that_is_given_up_while_copies_are_made_forgets_none(void **state)
{
    (void)state;
    for (int goes = 0; goes < 2; goes++) {
        struct kit *k = kit_quick();
        uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = HOUR, .hard_cap_ms = UINT64_MAX});
        uint32_t next = kit_topic_of(k, "next", (struct wire_topic_config){.retention_ms = HOUR + 7000, .hard_cap_ms = UINT64_MAX});
        uint32_t g = kit_group(k, "t", "g", NULL);
        kit_produce(k, p, "a b");
        kit_produce(k, next, "a"); /* when it is too old, what is under way is looked at, too */
        kit_receive(k, A, g, 2);
        kit_settle(k, A, g, SETTLE_PARK, "0");
        kit_ack(k, A, g, "1");
        k->hold_copies = true;
        kit_pass(k, HOUR + 5000);
        assert_int_equal(k->copies_n, 1);
        if (goes)
            assert_int_equal(kit_delete_group(k, "t", "g"), E_OK);
        else
            alter(k, (struct wire_topic_config){.retention_ms = HOUR + 60000}, TOPIC_SET_RETENTION_MS);
        kit_pass(k, 5000);
        assert_int_equal(start_of(k, next), 1);
        k->hold_copies = false;
        kit_pass(k, 1000);
        kit_pass(k, 120000);
        assert_int_equal(start_of(k, p), 2);
        assert_string_equal(copy_of(k, g, p, 0), goes ? "" : "copy of 0");
        kit_free(k);
    }
}

static void many_held_messages_are_copied_a_few_at_a_time_and_no_faster_than_they_may(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    k->watch = false;
    k->limits.copy_bytes_per_s = 10000; /* a copy is 9 to 12 bytes here: a thousand in a second */
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = HOUR, .hard_cap_ms = UINT64_MAX});
    uint32_t g = kit_group(k, "t", "g", &(struct wire_group_config){.order = ORDER_NONE});
    kit_produce_many(k, p, "-", 3000);
    for (int i = 0; i < 30; i++) {
        char all[8192];
        snprintf(all, sizeof all, "%s", kit_receive(k, A, g, 100));
        kit_settle(k, A, g, SETTLE_PARK, all);
    }
    kit_pass(k, HOUR - 60000);
    uint64_t began = k->now.mono_ms;
    while (start_of(k, p) == 0)
        kit_pass(k, 100);
    assert_true(k->now.mono_ms - began > 60000 + 2500);
    assert_int_equal(engine_counters(k->engine)->copied_messages, 3000);
    assert_true(k->copies_made >= 3000 / 64);
    k->watch = true;
    kit_restart(k);
    kit_free(k);
}

/* ---------------------------------------------------------------- the hard cap */

static struct wire_topic_config capped(void) { return (struct wire_topic_config){.retention_ms = HOUR, .hard_cap_ms = 3 * HOUR}; }

static uint64_t lost(struct kit *k, uint32_t g) { return group_lost(map_get(&k->engine->groups, g)); }

static void what_nobody_has_done_is_kept_up_to_the_hard_cap_and_then_lost_and_counted(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", capped()), g = kit_group(k, "t", "g", NULL), done = kit_group(k, "t", "done", NULL);
    kit_produce(k, p, "a b c");
    kit_receive(k, A, done, 3);
    kit_ack(k, A, done, "0 1 2");
    kit_pass(k, 2 * HOUR);
    kit_produce(k, p, "d e");
    kit_pass(k, HOUR - 1000);
    assert_int_equal(start_of(k, p), 0);
    kit_pass(k, 5000);
    assert_int_equal(start_of(k, p), 3);
    assert_int_equal(lost(k, g), 3);
    assert_int_equal(lost(k, done), 0);
    assert_int_equal(fetch(k, p, 1)->gap.why, GAP_HARD_CAP);
    assert_int_equal(engine_counters(k->engine)->lost_messages, 3);
    assert_string_equal(kit_where(k, "t", "g"), "floor 3 unscanned 2");
    kit_restart(k);
    assert_int_equal(lost(k, g), 3);
    assert_string_equal(kit_receive(k, A, g, 9), "3 4");
    kit_free(k);
}

static void who_holds_a_message_at_the_hard_cap_has_lost_it(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", capped()), g = kit_group(k, "t", "g", &(struct wire_group_config){.lease_ms = 12 * HOUR, .run_max = 2});
    kit_produce(k, p, "a b a b");
    kit_produce(k, p, "a c");
    assert_string_equal(kit_receive(k, A, g, 2), "0 2");
    assert_string_equal(kit_receive(k, B, g, 1), "1");
    kit_pass(k, 3 * HOUR - 5000);
    kit_produce(k, p, "a b");
    kit_pass(k, 10000);
    assert_int_equal(start_of(k, p), 6);
    assert_string_equal(kit_ack(k, B, g, "1"), "LEASE_LOST");
    assert_string_equal(kit_ack(k, A, g, "0"), "LEASE_LOST");
    assert_int_equal(lost(k, g), 5);              /* 2 was given back unbegun, and has a row: it stays */
    assert_string_equal(copy_of(k, g, p, 2), "copy of 2");
    assert_string_equal(kit_receive(k, C, g, 9), "2 6 7");
    kit_ack(k, C, g, "2 6 7");
    assert_string_equal(copy_of(k, g, p, 2), "");
    assert_string_equal(kit_where(k, "t", "g"), "floor 8");
    kit_free(k);
}

static void what_is_held_at_the_hard_cap_is_copied_and_stays(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", capped()), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b c a");
    kit_receive(k, A, g, 3);
    kit_settle_delay(k, A, g, SETTLE_NACK, "0", 4 * HOUR);
    kit_settle(k, A, g, SETTLE_PARK, "1");
    kit_ack(k, A, g, "2");
    kit_pass(k, 3 * HOUR + 5000);
    assert_int_equal(start_of(k, p), 4);
    assert_int_equal(lost(k, g), 1); /* 3, behind its key */
    assert_string_equal(copy_of(k, g, p, 0), "copy of 0");
    assert_string_equal(copy_of(k, g, p, 1), "copy of 1");
    kit_restart(k);
    kit_produce(k, p, "a");
    kit_pass(k, HOUR);
    assert_string_equal(kit_receive(k, A, g, 9), "0"); /* its retry; 4 is behind it, 3 is passed over */
    kit_ack(k, A, g, "0");
    assert_string_equal(copy_of(k, g, p, 0), "");
    assert_string_equal(kit_receive(k, A, g, 9), "4");
    kit_ack(k, A, g, "4");
    assert_string_equal(kit_where(k, "t", "g"), "floor 5 parked 1");
    assert_true(kit_redrive(k, g, p, 1));
    assert_string_equal(kit_receive(k, A, g, 9), "1");
    kit_free(k);
}

/* Its position stays in the list of its key, and is passed over there, though the message is present again. */
static void what_was_lost_behind_its_key_can_be_replayed_as_long_as_the_log_has_it(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    k->limits.copy_bytes_per_s = 10; /* the log stays while the dead letters of the other group are copied */
    uint32_t p = kit_topic_of(k, "t", capped()), g = kit_group(k, "t", "g", NULL), slow = kit_group(k, "t", "slow", &(struct wire_group_config){.order = ORDER_NONE});
    kit_produce(k, p, "a a a");
    kit_produce_many(k, p, "-", 100);
    kit_receive(k, A, g, 1);
    kit_settle_delay(k, A, g, SETTLE_NACK, "0", 4 * HOUR);
    for (int i = 0; i < 3; i++) {
        char all[8192];
        snprintf(all, sizeof all, "%s", kit_receive(k, A, slow, 60));
        kit_settle(k, A, slow, SETTLE_PARK, all);
        snprintf(all, sizeof all, "%s", kit_receive(k, A, g, 60));
        kit_ack(k, A, g, all);
    }
    kit_pass(k, 3 * HOUR + 5000);
    assert_int_equal(start_of(k, p), 0);
    assert_int_equal(lost(k, g), 2);
    struct wire_request r = kit_request(k, A, VERB_HELD_CHANGE);
    r.held_change = (struct wire_held_change){.act = TASK_REPLAY, .source = REPLAY_LOG, .topic = VIEW_LIT("t"), .group = VIEW_LIT("g"),
                                              .from_offset = 1, .to_offset = 2};
    assert_int_equal(kit_ask_numbered(k, r, A)->code, E_OK);
    kit_pass(k, 100);
    kit_restart(k);
    kit_produce(k, p, "a");
    kit_pass(k, HOUR);
    assert_string_equal(kit_receive(k, A, g, 9), "0");
    kit_ack(k, A, g, "0");
    assert_string_equal(kit_receive(k, A, g, 9), "1"); /* and 2 does not come */
    kit_restart(k);
    kit_ack(k, A, g, "1");
    assert_string_equal(kit_receive(k, A, g, 9), "103");
    kit_ack(k, A, g, "103");
    assert_string_equal(kit_where(k, "t", "g"), "floor 104");
    kit_free(k);
}

static void many_messages_behind_a_key_are_lost_and_the_key_goes_on(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    k->watch = false;
    uint32_t p = kit_topic_of(k, "t", capped()), g = kit_group(k, "t", "g", &(struct wire_group_config){.park = PARK_KEY, .lease_ms = 12 * HOUR});
    kit_produce_many(k, p, "a", 5000);
    kit_produce(k, p, "b");
    kit_receive(k, A, g, 1);
    kit_settle(k, A, g, SETTLE_PARK, "0"); /* blocks the others */
    assert_string_equal(kit_receive(k, A, g, 9), "5000");
    kit_pass(k, 2 * HOUR);
    kit_produce_many(k, p, "a", 10);
    assert_string_equal(kit_receive(k, A, g, 9), "");
    k->watch = true;
    kit_pass(k, HOUR + 5000);
    assert_int_equal(start_of(k, p), 5001);
    assert_int_equal(lost(k, g), 5000);
    assert_string_equal(kit_ack(k, A, g, "5000"), "LEASE_LOST");
    kit_restart(k);
    assert_true(kit_redrive(k, g, p, 0));
    assert_string_equal(kit_receive(k, A, g, 9), "0");
    kit_ack(k, A, g, "0");
    assert_string_equal(kit_receive(k, A, g, 9), "5001");
    kit_restart(k);
    kit_ack(k, A, g, "5001");
    assert_string_equal(kit_receive(k, A, g, 9), "5002");
    kit_free(k);
}

/* Was a bug: what a restart makes of the rows was said to be another, since it did not read again what was done meanwhile. */
static void a_restart_reads_again_from_where_the_one_before_did_though_all_of_it_is_done(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    k->limits.retry_window_ms = 24 * HOUR;
    uint32_t p = kit_topic_of(k, "t", capped()), g = kit_group(k, "t", "g", &(struct wire_group_config){.lease_ms = 12 * HOUR});
    kit_produce(k, p, "a a");
    kit_receive(k, A, g, 1);
    kit_settle_delay(k, A, g, SETTLE_NACK, "0", 4 * HOUR);
    kit_pass(k, 3 * HOUR + 5000);
    assert_int_equal(lost(k, g), 1); /* 1, behind its key */
    kit_produce(k, p, "b c");
    assert_string_equal(kit_receive(k, A, g, 1), "2"); /* and 3 is ready: from there on a restart reads */
    assert_string_equal(kit_receive(k, A, g, 1), "3");
    kit_restart(k);
    assert_string_equal(kit_ack(k, A, g, "0"), ""); /* late: nobody is head of its key while that is read */
    assert_string_equal(kit_ack(k, A, g, "2"), "");
    assert_string_equal(kit_ack(k, A, g, "3"), "");
    kit_restart(k);
    kit_produce(k, p, "a");
    assert_string_equal(kit_receive(k, A, g, 9), "4");
    kit_ack(k, A, g, "4");
    assert_string_equal(kit_where(k, "t", "g"), "floor 5");
    kit_free(k);
}

static void what_is_scanned_again_after_a_restart_is_lost_too_without_anybody_who_asks(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", capped()), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b a b a b c");
    assert_string_equal(kit_receive(k, A, g, 1), "0"); /* the others are read ahead */
    kit_restart(k);
    kit_pass(k, 3 * HOUR + 5000);
    assert_int_equal(start_of(k, p), 7);
    assert_int_equal(lost(k, g), 6);
    assert_string_equal(copy_of(k, g, p, 0), "copy of 0"); /* it came back from its lease, and has a row */
    assert_string_equal(kit_receive(k, A, g, 9), "0");
    kit_produce(k, p, "a b");
    assert_string_equal(kit_receive(k, B, g, 9), "8");
    kit_ack(k, A, g, "0");
    assert_string_equal(kit_receive(k, B, g, 9), "7");
    kit_free(k);
}

static void a_purge_after_a_loss_leaves_nothing(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", capped()), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a a a");
    kit_receive(k, A, g, 1);
    kit_settle_delay(k, A, g, SETTLE_NACK, "0", 9 * HOUR);
    kit_pass(k, 3 * HOUR + 5000);
    assert_int_equal(start_of(k, p), 3);
    assert_int_equal(lost(k, g), 2);
    kit_produce(k, p, "a b");
    kit_receive(k, A, g, 1);
    assert_int_equal(kit_control(k, "t", "g", GROUP_PURGE)->code, E_OK);
    assert_string_equal(kit_where(k, "t", "g"), "floor 5");
    kit_pass(k, 10 * HOUR);
    assert_string_equal(copy_of(k, g, p, 0), "");
    assert_int_equal(lost(k, g), 2);
    kit_produce(k, p, "a");
    assert_string_equal(kit_receive(k, A, g, 9), "5");
    kit_free(k);
}

static void settings_that_are_altered_while_a_cut_is_under_way_are_kept_to(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", capped()), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b");
    kit_receive(k, A, g, 1);
    kit_settle(k, A, g, SETTLE_PARK, "0");
    k->hold_cuts = true;
    kit_pass(k, 3 * HOUR + 5000);
    assert_int_equal(k->cuts_n, 1);
    assert_int_equal(alter(k, (struct wire_topic_config){.retention_ms = 9 * HOUR, .hard_cap_ms = 9 * HOUR},
                           TOPIC_SET_RETENTION_MS | TOPIC_SET_HARD_CAP_MS)->code, E_OK);
    k->hold_cuts = false;
    kit_pass(k, HOUR);
    assert_int_equal(start_of(k, p), 0);
    assert_int_equal(lost(k, g), 0);
    kit_pass(k, 6 * HOUR);
    assert_int_equal(start_of(k, p), 2);
    kit_free(k);
}

static void a_group_that_is_made_while_a_log_is_cut_gets_what_it_was_promised(void **state)
{
    (void)state;
    struct kit *k = kit_quick();
    uint32_t p = kit_topic_of(k, "t", capped()), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a");
    kit_produce(k, p, "b");
    kit_receive(k, A, g, 1);
    kit_ack(k, A, g, "0");
    k->hold_cuts = true;
    kit_pass(k, HOUR + 5000);
    assert_int_equal(k->cuts_n, 1);
    uint32_t late = kit_group(k, "t", "late", NULL);
    k->hold_cuts = false;
    kit_pass(k, 5000);
    assert_int_equal(start_of(k, p), 0);
    assert_string_equal(kit_receive(k, A, late, 9), "0 1");
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_go_when_they_are_older_than_the_topic_keeps_them_and_not_before),
        cmocka_unit_test(a_topic_keeps_as_many_bytes_as_it_is_told_its_largest_partitions_are_cut_first),
        cmocka_unit_test(what_a_group_has_not_done_stays),
        cmocka_unit_test(what_was_done_and_is_present_again_is_copied_while_it_is_leased),
        cmocka_unit_test(who_stands_before_the_start_is_told_what_is_gone_from_when_to_when_and_why),
        cmocka_unit_test(many_removals_are_remembered_in_few_places_the_newest_best),
        cmocka_unit_test(a_wall_clock_that_is_not_believed_removes_nothing),
        cmocka_unit_test(a_setting_that_is_altered_holds_for_what_is_there),
        cmocka_unit_test(a_topic_may_go_while_its_log_is_looked_at),
        cmocka_unit_test(partitions_that_lose_nothing_cost_nothing),
        cmocka_unit_test(dead_letters_are_copied_before_their_log_goes_and_the_copies_go_with_them),
        cmocka_unit_test(a_log_is_not_cut_over_what_is_not_copied_yet),
        cmocka_unit_test(a_cut_that_is_given_up_while_copies_are_made_forgets_none),
        cmocka_unit_test(many_held_messages_are_copied_a_few_at_a_time_and_no_faster_than_they_may),
        cmocka_unit_test(what_nobody_has_done_is_kept_up_to_the_hard_cap_and_then_lost_and_counted),
        cmocka_unit_test(who_holds_a_message_at_the_hard_cap_has_lost_it),
        cmocka_unit_test(what_is_held_at_the_hard_cap_is_copied_and_stays),
        cmocka_unit_test(what_was_lost_behind_its_key_can_be_replayed_as_long_as_the_log_has_it),
        cmocka_unit_test(many_messages_behind_a_key_are_lost_and_the_key_goes_on),
        cmocka_unit_test(a_restart_reads_again_from_where_the_one_before_did_though_all_of_it_is_done),
        cmocka_unit_test(what_is_scanned_again_after_a_restart_is_lost_too_without_anybody_who_asks),
        cmocka_unit_test(a_purge_after_a_loss_leaves_nothing),
        cmocka_unit_test(settings_that_are_altered_while_a_cut_is_under_way_are_kept_to),
        cmocka_unit_test(a_group_that_is_made_while_a_log_is_cut_gets_what_it_was_promised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Compaction by key, through the real loop and its readers: what stays, what goes, and that nobody is told of a gap. */
#include "loop_kit.h"

#include <inttypes.h>

enum { MINUTE = 60000, HOUR = 60 * MINUTE };

static uint32_t partition;
static char text[1 << 16];

/* ---- a compacted topic "c" */

static struct call *numbered(struct kit *k, enum wire_verb verb, uint32_t lane)
{
    struct call *c = kit_new_call(k, verb);
    c->op.request.lane = lane;
    c->op.request.seq = ++k->seq[lane];
    c->op.request.replies_seen = k->seq[lane] - 1;
    return c;
}

static struct kit *kit_with(uint64_t memory, size_t tail)
{
    struct kit options = {.limits = engine_limits_default, .tail_cache_bytes = tail};
    options.limits.compact_bytes_min = 1;
    options.limits.compact_dirty_min = 1;
    options.limits.compact_lag_ms = 0;
    options.limits.compact_interval_ms = 1000;
    options.limits.compact_age_max_ms = UINT64_MAX;
    options.limits.tombstone_ms = HOUR;
    if (memory != 0)
        options.limits.compact_memory_bytes = memory;
    struct kit *k = kit_new(&options);
    struct call *c = numbered(k, VERB_TOPIC_CREATE, 0);
    c->op.request.topic = (struct wire_topic_set){.name = VIEW_LIT("c"), .config = {.compacted = true}};
    partition = kit_ask(k, c)->topics.topics[0].partitions[0].id;
    return k;
}

static struct kit *kit_small(void) { return kit_with(0, 1); }

static struct call *group_call(struct kit *k, const char *name)
{
    struct call *c = numbered(k, VERB_GROUP_CREATE, 0);
    c->op.request.group = (struct wire_group_set){.topic = VIEW_LIT("c"), .name = view_of_str(name)};
    return c;
}

static uint32_t make_group(struct kit *k, const char *name) { return kit_ask(k, group_call(k, name))->groups.groups[0].id; }

/* "a=1 b=2 a": the last is a tombstone of a. One batch, so one row of the log. */
static struct call *produce_call(struct kit *k, const char *records)
{
    struct call *c = numbered(k, VERB_PRODUCE, partition);
    struct wire_produce *p = &c->op.request.produce;
    struct batch_builder *b = batch_builder_new();
    struct buf bytes = {0};
    struct err e = {0};
    for (const char *at = records; *at != '\0'; p->count++) {
        size_t size = strcspn(at, " "), key = strcspn(at, "= ");
        struct record r = {.key = view_of(at, key), .timestamp_ms = k->now.wall_ms + p->count};
        if (key < size)
            r.value = view_of(at + key + 1, size - key - 1);
        assert_int_equal(batch_builder_add(b, &r, &e), E_OK);
        at += size + (at[size] == ' ');
    }
    assert_int_equal(batch_builder_finish(b, BATCH_LZ4, &bytes, &p->batch_hash, &e), E_OK);
    batch_builder_free(b);
    c->op.hold = ref_new_copy(bytes.data, bytes.size);
    buf_free(&bytes);
    p->partition = partition;
    p->batch = ref_view(c->op.hold);
    c->op.batch.last_delta = p->count - 1;
    return c;
}

static void produce(struct kit *k, const char *records) { assert_int_equal(kit_ask(k, produce_call(k, records))->code, E_OK); }

/* What a reader from this offset on finds, and where it then stands: "1=x 4=y ..5". */
static const char *from(struct kit *k, uint64_t offset)
{
    const struct wire_reply *r = kit_ask(k, kit_fetch(k, partition, offset, 0));
    assert_int_equal(r->fetch.parts[0].code, E_OK);
    assert_false(r->fetch.parts[0].has_gap);
    snprintf(text, sizeof text, "%s", kit_values(r));
    return text;
}

static uint64_t counter(struct kit *k, size_t at) { return *(const uint64_t *)(const void *)((const char *)engine_counters(loop_engine(k->loop)) + at); }
#define COUNTER(k, name) counter(k, offsetof(struct engine_counters, name))

/* Lets the broker look, as often as it wants to. */
static void passes(struct kit *k)
{
    for (int i = 0; i < 4; i++)
        kit_pass(k, 1000);
}

static const struct wire_topic *topic(struct kit *k)
{
    struct call *c = kit_new_call(k, VERB_TOPIC_LIST);
    c->op.request.list.name = VIEW_LIT("c");
    return &kit_ask(k, c)->topics.topics[0];
}

static uint64_t bytes_kept(struct kit *k) { return topic(k)->partitions[0].bytes; }

static size_t rows_kept(struct kit *k, uint64_t *bytes)
{
    struct store_iter *it = store_iter(k->slow.mem, FAM_LOG_COMPACTED);
    size_t n = 0;
    *bytes = 0;
    for (store_iter_seek(it, (struct view){0}); store_iter_valid(it); store_iter_next(it), n++)
        *bytes += store_iter_value(it).size;
    store_iter_close(it);
    return n;
}

/* ---- groups */

struct got { uint64_t offsets[64], token; uint32_t n, group; };

static struct got receive(struct kit *k, uint32_t group, uint32_t most)
{
    struct call *c = kit_new_call(k, VERB_RECEIVE);
    c->group = group;
    c->op.request.receive = (struct wire_receive){.counter = ++k->counter, .groups = &c->group, .groups_n = 1, .max_messages = most};
    const struct wire_reply *r = kit_ask(k, c);
    struct got g = {.group = group};
    assert_int_equal(r->code, E_OK);
    if (r->receive.deliveries_n > 0) {
        g.n = r->receive.deliveries[0].records_n;
        g.token = r->receive.deliveries[0].token;
        for (uint32_t i = 0; i < g.n; i++)
            g.offsets[i] = r->receive.deliveries[0].records[i].offset;
    }
    return g;
}

static const char *offsets(const struct got *g)
{
    static char out[512];
    out[0] = '\0';
    for (uint32_t i = 0; i < g->n; i++)
        sprintf(out + strlen(out), "%s%" PRIu64, i > 0 ? " " : "", g->offsets[i]);
    return out;
}

static void settle(struct kit *k, const struct got *g, enum settle_verb verb)
{
    struct wire_settle_item *items = mem_array(64, sizeof *items);
    struct call *c = numbered(k, VERB_SETTLE, 0);
    for (uint32_t i = 0; i < g->n; i++)
        items[i] = (struct wire_settle_item){.group = g->group, .partition = partition, .offset = g->offsets[i], .token = g->token, .verb = verb};
    c->op.request.settle = (struct wire_settle){.singles = items, .singles_n = g->n};
    const struct wire_reply *r = kit_ask(k, c);
    assert_int_equal(r->code, E_OK);
    for (uint32_t i = 0; i < r->settle.codes_n; i++)
        assert_int_equal(r->settle.codes[i], E_OK);
    mem_free(items);
}

static void drain(struct kit *k, uint32_t group)
{
    for (struct got g; (g = receive(k, group, 64)).n > 0;)
        settle(k, &g, SETTLE_ACK);
}

/* ---- what stays */

static void of_each_key_the_latest_stays_at_its_offset(void **state)
{
    (void)state;
    for (int tail = 0; tail < 2; tail++) {
        struct kit *k = kit_with(0, tail ? 1 << 20 : 1);
        produce(k, "a=1 b=2 a=3");
        produce(k, "c=4 a=5");
        produce(k, "d=6");
        produce(k, "b=7");
        passes(k);
        /* the newest row is left alone, and nothing that it supersedes is looked at yet */
        assert_string_equal(from(k, 0), "1=2 3=4 4=5 5=6 6=7");
        produce(k, "e=8");
        passes(k);
        assert_string_equal(from(k, 0), "3=4 4=5 5=6 6=7 7=8");
        kit_reopen(k);
        assert_string_equal(from(k, 0), "3=4 4=5 5=6 6=7 7=8");
        kit_free(k);
    }
}

static void a_reader_that_stands_where_messages_were_goes_on_behind_them(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    for (int i = 0; i < 20; i++)
        produce(k, i == 9 ? "b=x" : "a=1 a=2 a=3");
    passes(k);
    const char *expected[] = {"27=x 54=3 55=1 56=2 57=3", "54=3 55=1 56=2 57=3"};
    for (uint64_t o = 0; o <= 54; o++)
        assert_string_equal(from(k, o), expected[o > 27]);
    assert_string_equal(from(k, 58), "");
    kit_free(k);
}

static void what_goes_leaves_the_disk_and_the_topic_says_so(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    for (int i = 0; i < 300; i++)
        produce(k, i % 2 == 0 ? "a=1 b=2" : "c=3 b=4");
    uint64_t before = bytes_kept(k), bytes;
    assert_int_equal(rows_kept(k, &bytes), 300);
    assert_int_equal(bytes, before);
    passes(k);
    assert_in_range(rows_kept(k, &bytes), 3, 5); /* not a row for each that is gone */
    assert_true(bytes < before / 50);
    assert_int_equal(bytes_kept(k), bytes);
    assert_int_equal(COUNTER(k, compacted_messages), 600 - 3 - 2);
    kit_reopen(k);
    assert_int_equal(bytes_kept(k), bytes);
    kit_free(k);
}

/* Keys that do not fit the memory of one pass are passed by the next. */
static void more_keys_than_fit_the_memory_take_more_passes(void **state)
{
    (void)state;
    struct kit *k = kit_with(300000, 1);
    char record[4096 + 16], key[4001];
    memset(key, 'k', 4000);
    key[4000] = '\0';
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 100; i++) {
            snprintf(record, sizeof record, "%s%03d=%d", key, i, round);
            produce(k, record);
        }
    produce(k, "end=1");
    for (int i = 0; i < 10; i++)
        passes(k);
    assert_true(COUNTER(k, compactions) > 3);
    assert_int_equal(COUNTER(k, compacted_messages), 200);
    const char *left = from(k, 0);
    char expected[64];
    for (int i = 0; i < 100; i++) {
        snprintf(expected, sizeof expected, "%d=2", 200 + i);
        assert_non_null(strstr(left, expected));
    }
    kit_free(k);
}

static void little_that_is_new_is_worth_no_pass_until_it_is_old(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    k->limits.compact_dirty_min = 50;
    k->limits.compact_age_max_ms = HOUR;
    char record[3000];
    for (int i = 0; i < 20; i++) {
        snprintf(record, sizeof record, "key%d=%02000d", i, i);
        produce(k, record);
    }
    produce(k, "z=1");
    passes(k);
    uint64_t before = COUNTER(k, compactions);
    produce(k, "key3=new");
    produce(k, "z=2");
    passes(k);
    assert_int_equal(COUNTER(k, compactions), before);
    kit_pass(k, HOUR);
    passes(k);
    assert_true(COUNTER(k, compactions) > before);
    assert_int_equal(COUNTER(k, compacted_messages), 1); /* z=1 is superseded by the newest row, which is not looked at */
    kit_free(k);
}

static void the_young_are_left_alone(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    k->limits.compact_lag_ms = 10 * MINUTE;
    produce(k, "a=1");
    produce(k, "a=2");
    kit_pass(k, 5 * MINUTE);
    produce(k, "a=3");
    produce(k, "a=4");
    passes(k);
    assert_string_equal(from(k, 0), "0=1 1=2 2=3 3=4");
    kit_pass(k, 6 * MINUTE);
    passes(k);
    assert_string_equal(from(k, 0), "1=2 2=3 3=4");
    kit_free(k);
}

/* ---- tombstones */

static void a_tombstone_removes_its_key_and_goes_after_its_delay(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    produce(k, "a=1 b=1");
    kit_pass(k, 2 * HOUR); /* its age does not count: who reads must have time to meet it */
    produce(k, "a");
    produce(k, "z=1");
    passes(k);
    assert_string_equal(from(k, 0), "1=1 2= 3=1");
    assert_true(topic(k)->tombstones == 1 && topic(k)->dirty_min == 1 && topic(k)->tombstone_ms == HOUR);
    kit_pass(k, HOUR - 20000);
    kit_reopen(k);
    passes(k);
    assert_string_equal(from(k, 0), "1=1 2= 3=1");
    kit_pass(k, 20000);
    passes(k);
    assert_string_equal(from(k, 0), "1=1 3=1");
    assert_string_equal(from(k, 2), "3=1");
    assert_int_equal(topic(k)->tombstones, 0);
    kit_free(k);
}

static void a_key_that_is_written_again_is_there_again(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    produce(k, "a=1");
    produce(k, "a");
    produce(k, "a=2 b=1");
    produce(k, "z=1");
    passes(k);
    kit_pass(k, 2 * HOUR);
    passes(k);
    assert_string_equal(from(k, 0), "2=2 3=1 4=1");
    kit_free(k);
}

static void an_empty_value_is_no_tombstone(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    produce(k, "a=1");
    produce(k, "a=");
    produce(k, "z=1");
    passes(k);
    kit_pass(k, 2 * HOUR);
    passes(k);
    assert_string_equal(from(k, 0), "1= 2=1");
    kit_free(k);
}

static void a_message_without_a_key_is_refused_by_the_topics_name(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    struct call *c = produce_call(k, "a=1 b=2");
    c->op.batch.keyless = 2;
    const struct wire_reply *r = kit_ask(k, c);
    assert_int_equal(r->code, E_INVALID_ARGUMENT);
    char why[256];
    snprintf(why, sizeof why, "%.*s", (int)r->detail.size, (const char *)r->detail.data);
    assert_has(why, "record 1 has no key: topic 'c' is compacted");
    kit_free(k);
}

/* ---- groups */

static void what_a_group_has_not_done_is_not_compacted(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    uint32_t g = make_group(k, "g");
    produce(k, "a=1");
    produce(k, "a=2");
    produce(k, "a=3");
    produce(k, "z=1");
    passes(k);
    assert_string_equal(from(k, 0), "0=1 1=2 2=3 3=1");
    struct got got = receive(k, g, 1); /* the head of a, and what is behind it waits */
    settle(k, &got, SETTLE_ACK);
    got = receive(k, g, 1);
    settle(k, &got, SETTLE_ACK);
    passes(k);
    assert_string_equal(from(k, 0), "1=2 2=3 3=1");
    drain(k, g);
    passes(k);
    assert_string_equal(from(k, 0), "2=3 3=1");
    produce(k, "a=4 a=5 a=6");
    produce(k, "z=2");
    drain(k, g);
    passes(k);
    assert_string_equal(from(k, 0), "3=1 6=6 7=2");
    kit_free(k);
}

static void a_new_group_gets_what_is_left_and_is_through_with_the_rest(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    for (int i = 0; i < 50; i++)
        produce(k, i == 20 ? "b=1 c=2" : "a=1 a=2");
    passes(k);
    uint32_t g = make_group(k, "late");
    struct got got = receive(k, g, 64);
    assert_string_equal(offsets(&got), "40 41 97"); /* of a the newest that was passed; the next wait behind it */
    kit_reopen(k);
    got = receive(k, g, 64);
    drain(k, g);
    kit_pass(k, 31000);
    drain(k, g);
    struct engine_census census;
    assert_true(engine_census(loop_engine(k->loop), VIEW_LIT("c"), VIEW_LIT("late"), &census));
    assert_int_equal(census.floor, 100);
    assert_int_equal(census.parked, 0);
    assert_int_equal(COUNTER(k, damaged_messages), 0);
    kit_free(k);
}

static void redrive_all(struct kit *k)
{
    struct call *c = numbered(k, VERB_HELD_CHANGE, 0);
    c->op.request.held_change = (struct wire_held_change){.topic = VIEW_LIT("c"), .group = VIEW_LIT("g"), .act = TASK_REDRIVE};
    assert_int_equal(kit_ask(k, c)->code, E_OK);
    passes(k);
}

/* It has no row while somebody holds it, and lies below what was compacted before. */
static void a_tombstone_that_was_replayed_stays_until_it_is_done_again(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    uint32_t g = make_group(k, "g");
    produce(k, "a=1 b=1");
    produce(k, "a");
    produce(k, "z=1");
    drain(k, g);
    passes(k);
    assert_string_equal(from(k, 0), "1=1 2= 3=1");
    kit_pass(k, HOUR - 20000);
    struct call *c = numbered(k, VERB_HELD_CHANGE, 0);
    c->op.request.held_change = (struct wire_held_change){.topic = VIEW_LIT("c"), .group = VIEW_LIT("g"), .act = TASK_REPLAY,
                                                          .source = REPLAY_LOG, .from_offset = 2, .to_offset = 3};
    assert_int_equal(kit_ask(k, c)->code, E_OK);
    kit_pass(k, 10);
    kit_pass(k, 10);
    struct got got = receive(k, g, 64);
    assert_string_equal(offsets(&got), "2");
    kit_pass(k, 20000);
    passes(k);
    assert_string_equal(from(k, 0), "1=1 2= 3=1");
    settle(k, &got, SETTLE_ACK);
    passes(k);
    assert_string_equal(from(k, 0), "1=1 3=1");
    kit_free(k);
}

static void a_dead_letter_keeps_its_message_until_it_is_done(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    uint32_t g = make_group(k, "g");
    produce(k, "a=0 a=1 a=2 b=1");
    struct got got = receive(k, g, 1);
    settle(k, &got, SETTLE_ACK);
    got = receive(k, g, 1);
    assert_string_equal(offsets(&got), "1");
    settle(k, &got, SETTLE_PARK);
    produce(k, "a=3");
    produce(k, "z=1");
    drain(k, g);
    passes(k);
    assert_string_equal(from(k, 0), "1=1 3=1 4=3 5=1");
    produce(k, "a=4 a=5 a=6 a=7");
    produce(k, "a");
    produce(k, "z=2");
    drain(k, g);
    passes(k);
    assert_string_equal(from(k, 0), "1=1 3=1 5=1 10= 11=2");
    /* the tombstone waits for what it removes, however long */
    kit_pass(k, 2 * HOUR);
    passes(k);
    assert_string_equal(from(k, 0), "1=1 3=1 5=1 10= 11=2");
    kit_reopen(k);
    redrive_all(k);
    got = receive(k, g, 64);
    assert_string_equal(offsets(&got), "1");
    produce(k, "y=1 y=2 y=3 y=4");
    produce(k, "y=5");
    passes(k);
    assert_has(from(k, 0), "1=1 "); /* somebody has it in hand */
    settle(k, &got, SETTLE_ACK);
    drain(k, g);
    passes(k);
    passes(k);
    assert_string_equal(from(k, 0), "3=1 10= 11=2 15=4 16=5");
    kit_pass(k, 2 * HOUR);
    passes(k);
    assert_string_equal(from(k, 0), "3=1 11=2 15=4 16=5");
    assert_int_equal(COUNTER(k, damaged_messages), 0);
    kit_free(k);
}

static void what_a_replay_has_picked_is_not_compacted_before_it_is_delivered(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    uint32_t g = make_group(k, "g");
    produce(k, "a=1 b=1 a=2 b=2");
    produce(k, "z=1");
    drain(k, g);
    struct call *c = numbered(k, VERB_HELD_CHANGE, 0);
    c->op.request.held_change = (struct wire_held_change){.topic = VIEW_LIT("c"), .group = VIEW_LIT("g"), .act = TASK_REPLAY, .source = REPLAY_LOG,
                                                          .rate_milli = 100}; /* one in ten seconds: the others are picked, and wait */
    k->limits.compact_interval_ms = 60000; /* it looks after the first pick */
    assert_int_equal(kit_ask(k, c)->code, E_OK);
    k->limits.compact_interval_ms = 1000;
    for (int i = 0; i < 100; i++) {
        kit_pass(k, 1000);
        drain(k, g);
    }
    assert_int_equal(COUNTER(k, replayed_messages), 5);
    assert_int_equal(COUNTER(k, damaged_messages), 0);
    struct engine_census census;
    assert_true(engine_census(loop_engine(k->loop), VIEW_LIT("c"), VIEW_LIT("g"), &census));
    assert_int_equal(census.parked, 0);
    passes(k);
    assert_string_equal(from(k, 0), "2=2 3=2 4=1");
    kit_free(k);
}

static void a_pass_that_meets_a_new_group_is_given_up_and_made_again(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    produce(k, "a=1");
    produce(k, "a=2");
    produce(k, "a=3");
    kit_turn(k);
    k->now.mono_ms += 1000;
    k->now.wall_ms += 1000;
    kit_ask(k, group_call(k, "g")); /* made in the turn in which the pass begins */
    assert_int_equal(COUNTER(k, compactions_given_up), 1);
    assert_string_equal(from(k, 0), "0=1 1=2 2=3");
    struct call *c = numbered(k, VERB_GROUP_DELETE, 0);
    c->op.request.group = (struct wire_group_set){.topic = VIEW_LIT("c"), .name = VIEW_LIT("g")};
    assert_int_equal(kit_ask(k, c)->code, E_OK);
    passes(k);
    assert_string_equal(from(k, 0), "1=2 2=3");
    kit_free(k);
}

/* ---- what goes wrong */

static void a_log_that_does_not_read_is_not_rewritten(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    for (int i = 0; i < 6; i++)
        produce(k, "a=wwwwwwww");
    struct key row = key_log(partition, 2);
    struct buf value = {0};
    struct puts l;
    bool found;
    struct err e = {0};
    assert_int_equal(store_get(k->slow.mem, FAM_LOG_COMPACTED, key_view(&row), &value, &found, &e), E_OK);
    assert_true(found);
    uint8_t *w = memmem(value.data, value.size, "wwwwwwww", 8); /* only its sums say that it is damaged */
    assert_non_null(w);
    *w ^= 1;
    puts_init(&l);
    puts_row(&l, FAM_LOG_COMPACTED, key_view(&row), buf_view(&value));
    assert_int_equal(store_write(k->slow.mem, &l, &e), E_OK);
    puts_free(&l);
    buf_free(&value);
    passes(k);
    assert_int_equal(COUNTER(k, compactions), 0);
    uint64_t bytes;
    assert_int_equal(rows_kept(k, &bytes), 6);
    assert_int_equal(atomic_load(&k->fatals), 0);
    kit_free(k);
}

static void a_topic_that_goes_takes_its_compaction_with_it(void **state)
{
    (void)state;
    struct kit *k = kit_small();
    for (int i = 0; i < 6; i++)
        produce(k, "a=1");
    passes(k);
    for (int i = 0; i < 6; i++)
        produce(k, "a=1");
    k->now.mono_ms += 1000;
    k->now.wall_ms += 1000;
    struct call *c = numbered(k, VERB_TOPIC_DELETE, 0);
    c->op.request.topic = (struct wire_topic_set){.name = VIEW_LIT("c")};
    assert_int_equal(kit_ask(k, c)->code, E_OK); /* while a pass is under way */
    passes(k);
    uint64_t bytes;
    assert_int_equal(rows_kept(k, &bytes), 0);
    struct key row = key_compaction(partition);
    struct buf value = {0};
    struct err e = {0};
    bool found;
    assert_int_equal(store_get(k->slow.mem, FAM_META, key_view(&row), &value, &found, &e), E_OK);
    assert_false(found);
    buf_free(&value);
    kit_reopen(k);
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_each_key_the_latest_stays_at_its_offset),
        cmocka_unit_test(a_reader_that_stands_where_messages_were_goes_on_behind_them),
        cmocka_unit_test(what_goes_leaves_the_disk_and_the_topic_says_so),
        cmocka_unit_test(more_keys_than_fit_the_memory_take_more_passes),
        cmocka_unit_test(little_that_is_new_is_worth_no_pass_until_it_is_old),
        cmocka_unit_test(the_young_are_left_alone),
        cmocka_unit_test(a_tombstone_removes_its_key_and_goes_after_its_delay),
        cmocka_unit_test(a_key_that_is_written_again_is_there_again),
        cmocka_unit_test(an_empty_value_is_no_tombstone),
        cmocka_unit_test(a_message_without_a_key_is_refused_by_the_topics_name),
        cmocka_unit_test(what_a_group_has_not_done_is_not_compacted),
        cmocka_unit_test(a_new_group_gets_what_is_left_and_is_through_with_the_rest),
        cmocka_unit_test(a_tombstone_that_was_replayed_stays_until_it_is_done_again),
        cmocka_unit_test(a_dead_letter_keeps_its_message_until_it_is_done),
        cmocka_unit_test(what_a_replay_has_picked_is_not_compacted_before_it_is_delivered),
        cmocka_unit_test(a_pass_that_meets_a_new_group_is_given_up_and_made_again),
        cmocka_unit_test(a_log_that_does_not_read_is_not_rewritten),
        cmocka_unit_test(a_topic_that_goes_takes_its_compaction_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

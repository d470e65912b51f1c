/* Rows that no start reads, and that are met when they are needed: the broker stops, and says which row of which family it was. What only a
 * reader walks over, or a task, is answered, or ends the task. Nothing is guessed, nothing is passed over. */
#include "engine_kit.h"

#include "schemas/records.h"

enum { NOBODY = 77, HOUR = 3600000 };

#define BAD VIEW_LIT("\x01")   /* of a good format, and then nothing */
#define NEWER VIEW_LIT("\x09")

static struct kit_world begin(struct wire_group_config config)
{
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = UINT64_MAX, .hard_cap_ms = UINT64_MAX});
    return (struct kit_world){k, p, kit_group(k, "t", "g", &config)};
}

static struct key held(struct kit_world w, uint64_t offset) { return key_held(w.g, w.p, offset); }

/* Its key as a person would read it out of an error. */
static const char *held_text(struct kit_world w, uint64_t offset)
{
    static char text[64];
    snprintf(text, sizeof text, "held: row %08x%08x%016llx: ", w.g, w.p, (unsigned long long)offset);
    return text;
}

/* Messages of keys a to e; one is far away, for each of `keys`. */
static struct kit_world with_retries(const char *keys, const char *messages)
{
    struct kit_world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, keys);
    kit_receive(w.k, A, w.g, 10);
    assert_string_equal(kit_settle_delay(w.k, A, w.g, SETTLE_NACK, messages, 60000), "");
    return w;
}

/* `messages` are dead letters; they block their keys if `park` says so. */
static struct kit_world with_dead(const char *keys, const char *messages, uint8_t park)
{
    struct kit_world w = begin((struct wire_group_config){.park = park});
    kit_produce(w.k, w.p, keys);
    kit_receive(w.k, A, w.g, 10);
    assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_PARK, messages), "");
    return w;
}

static uint64_t hash(const char *key) { return key_hash(view_of_str(key)); }

static void asks(struct kit_world w, struct wire_held_change change)
{
    struct wire_request r = kit_request(w.k, A, VERB_HELD_CHANGE);
    r.held_change = change;
    r.held_change.topic = VIEW_LIT("t");
    r.held_change.group = VIEW_LIT("g");
    r.seq = ++w.k->seq[A][0];
    r.replies_seen = r.seq - 1;
    kit_call(w.k, r, A);
}

static void purges(struct kit_world w)
{
    struct wire_request r = kit_request(w.k, A, VERB_GROUP_CONTROL);
    r.control = (struct wire_group_control){.topic = VIEW_LIT("t"), .name = VIEW_LIT("g"), .act = GROUP_PURGE};
    r.seq = ++w.k->seq[A][0];
    r.replies_seen = r.seq - 1;
    kit_call(w.k, r, A);
}

static void settles(struct kit_world w, enum settle_verb verb, const char *message)
{
    struct wire_settle_item item = kit_item(w.k, w.g, verb, message);
    struct wire_request r = kit_request(w.k, A, VERB_SETTLE);
    r.settle = (struct wire_settle){.singles = &item, .singles_n = 1};
    r.seq = ++w.k->seq[A][0];
    r.replies_seen = r.seq - 1;
    kit_call(w.k, r, A);
}

/* ---------------------------------------------------------------- what is away */

static void a_retry_that_is_due_and_whose_row_does_not_read_is_named(void **state)
{
    (void)state;
    for (int key = 0; key < 2; key++) {
        struct kit_world w = with_retries(key ? "a" : "-", "0");
        kit_row_put(w.k, FAM_HELD, held(w, 0), BAD);
        kit_pass(w.k, 60000);
        kit_stops(w.k, E_DAMAGED, held_text(w, 0));
    }
    struct kit_world w = with_retries("a", "0");
    kit_row_put(w.k, FAM_HELD, held(w, 0), NEWER);
    kit_pass(w.k, 60000);
    kit_stops(w.k, E_FORMAT_NEWER, "held row has format 9");

    w = with_retries("a", "0");
    kit_row_damage(w.k, FAM_HELD, held(w, 0));
    kit_pass(w.k, 60000);
    kit_stops(w.k, E_DAMAGED, "row 0000000100000001");
}

static void a_late_settle_of_a_retry_whose_row_does_not_read_settles_nothing(void **state)
{
    (void)state;
    struct kit_world w = with_retries("a b", "0 1");
    kit_row_put(w.k, FAM_HELD, held(w, 1), BAD);
    settles(w, SETTLE_ACK, "1");
    kit_stops(w.k, E_DAMAGED, held_text(w, 1));
}

/* The key of a message that is away: its row stands for all of it. */
static void a_key_that_is_away_and_does_not_read_is_named(void **state)
{
    (void)state;
    char text[128];
    struct kit_world w = with_retries("a a", "0");
    struct key away = key_away(w.g, hash("a"));
    snprintf(text, sizeof text, "keys: row %s: away key row", key_text(key_view(&away)).hex);
    kit_row_put(w.k, FAM_KEYS, away, BAD);
    kit_produce(w.k, w.p, "a");
    kit_call(w.k, kit_request(w.k, A, VERB_GROUP_LAG), A);
    kit_stops(w.k, E_DAMAGED, text); /* the scan met another of the key */

    w = with_retries("a a", "0");
    kit_row_put(w.k, FAM_KEYS, away, BAD);
    kit_pass(w.k, 60000);
    kit_stops(w.k, E_DAMAGED, text); /* its head is due */
}

static void a_message_that_is_away_without_its_key_is_named(void **state)
{
    (void)state;
    struct kit_world w = with_retries("a", "0");
    kit_row_remove(w.k, FAM_KEYS, key_away(w.g, hash("a")));
    kit_pass(w.k, 60000);
    kit_stops(w.k, E_DAMAGED, "offset 0 of partition id 1 is away in group 1, and it is not with its key");

    for (int act = TASK_REDRIVE; act <= TASK_DROP; act++) {
        w = with_dead("a", "0", PARK_KEY);
        kit_row_remove(w.k, FAM_KEYS, key_away(w.g, hash("a")));
        asks(w, (struct wire_held_change){.act = (uint8_t)act});
        kit_pass(w.k, 100);
        kit_stops(w.k, E_DAMAGED, "offset 0 of partition id 1 is away in group 1, and it is not with its key");
    }
}

/* Two of a run came back: one is the head, which is parked, the other stands in its front. Both are away. */
static struct kit_world with_front(void)
{
    struct kit_world w = begin((struct wire_group_config){.park = PARK_KEY, .run_max = 3});
    kit_produce(w.k, w.p, "a a a");
    assert_string_equal(kit_receive(w.k, A, w.g, 3), "0 1 2");
    assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_PARK, "0"), "");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 3 blocked 1 waiting 2 parked 1 redriven 3 away 3");
    return w;
}

static void a_key_comes_back_whole_or_not_at_all(void **state)
{
    (void)state;
    for (uint64_t gone = 1; gone < 3; gone++) {
        char text[128];
        snprintf(text, sizeof text, "offset %llu of partition id 1 is away in group 1, and it has no held row", (unsigned long long)gone);
        struct kit_world w = with_front();
        kit_row_remove(w.k, FAM_HELD, held(w, gone));
        asks(w, (struct wire_held_change){.act = TASK_REDRIVE});
        kit_pass(w.k, 100);
        kit_stops(w.k, E_DAMAGED, text);
    }
    struct kit_world w = with_front();
    struct key_member lost[] = {{.partition = w.p, .offset = 0, .state = AWAY_BLOCKED}, {.partition = NOBODY, .offset = 1, .state = AWAY_WAITING}};
    struct buf row = {0};
    away_row_put(&row, &(struct away_row){.members = lost, .members_n = 2});
    kit_row_put(w.k, FAM_KEYS, key_away(w.g, hash("a")), buf_view(&row));
    buf_free(&row);
    asks(w, (struct wire_held_change){.act = TASK_DROP});
    kit_pass(w.k, 100);
    kit_stops(w.k, E_DAMAGED, "offset 1 of partition id 77 is away in group 1");
}

/* ---------------------------------------------------------------- the list of a key */

/* Key a: one is leased, three are behind it. */
static struct kit_world with_list(void)
{
    struct kit_world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a a a");
    assert_string_equal(kit_receive(w.k, A, w.g, 9), "0");
    return w;
}

static void put_chunk(struct kit_world w, struct list_position p)
{
    struct buf row = {0};
    struct list_position before = {0};
    list_chunk_append(&row, &before, p);
    kit_row_put(w.k, FAM_KEYS, key_list(w.g, hash("a"), 1), buf_view(&row));
    buf_free(&row);
    w.k->may_stop = true;
}

static void restart_on(struct kit_world w)
{
    kit_restart(w.k); /* the head is leased, so the list is not read */
    settles(w, SETTLE_ACK, "0");
}

static void a_list_behind_a_key_that_does_not_read_is_named(void **state)
{
    (void)state;
    struct kit_world w = with_list();
    kit_row_remove(w.k, FAM_KEYS, key_list(w.g, hash("a"), 1));
    restart_on(w);
    kit_stops(w.k, E_DAMAGED, "chunk 1 does not read");

    w = with_list();
    kit_row_put(w.k, FAM_KEYS, key_list(w.g, hash("a"), 1), VIEW_LIT("\xff"));
    restart_on(w);
    kit_stops(w.k, E_DAMAGED, "chunk 1 does not read");

    w = with_list(); /* behind a partition of another topic, or of none */
    put_chunk(w, (struct list_position){.partition = NOBODY, .offset = 1, .size = 1});
    restart_on(w);
    kit_stops(w.k, E_DAMAGED, "chunk 1 names a partition that is none of its topic");

    w = with_list();
    struct buf row = {0};
    list_header_put(&row, &(struct list_header_row){.first = 1, .skip = 3, .last = 1, .count = 3});
    kit_row_put(w.k, FAM_KEYS, key_list_header(w.g, hash("a")), buf_view(&row));
    buf_free(&row);
    restart_on(w);
    kit_stops(w.k, E_DAMAGED, "chunk 1 ends before the place of its header");
}

/* ---------------------------------------------------------------- a purge's sweep */

static void a_sweep_passes_over_no_row_that_does_not_read(void **state)
{
    (void)state;
    struct kit_world w = with_retries("- -", "0 1");
    kit_row_put(w.k, FAM_HELD, held(w, 1), BAD);
    purges(w);
    kit_stops(w.k, E_DAMAGED, held_text(w, 1));

    w = with_retries("- -", "0 1");
    kit_row_put(w.k, FAM_HELD, key_held(w.g, NOBODY, 3), BAD);
    purges(w);
    kit_stops(w.k, E_DAMAGED, "held: row 000000010000004d0000000000000003: it names no partition of topic 't'");

    w = with_retries("- -", "0 1");
    kit_row_put(w.k, FAM_HELD, kit_key_cut(held(w, 1), 9), BAD);
    purges(w);
    kit_stops(w.k, E_DAMAGED, "held: row 000000010000000100: its key does not read");

    w = with_retries("a", "0");
    kit_row_put(w.k, FAM_KEYS, key_away(w.g, hash("a")), BAD);
    purges(w);
    kit_stops(w.k, E_DAMAGED, "away key row");

    w = with_retries("a", "0");
    kit_row_put(w.k, FAM_KEYS, kit_key_cut(key_away(w.g, hash("a")), 10), BAD);
    purges(w);
    kit_stops(w.k, E_DAMAGED, "its key does not read");

    w = with_retries("- -", "0 1");
    kit_row_damage(w.k, FAM_HELD, held(w, 1));
    purges(w);
    kit_stops(w.k, E_DAMAGED, "row 00000001000000010000000000000001 is damaged");
}

/* ---------------------------------------------------------------- tasks */

/* What a task says that came to such a row: it did what was before it, and says why it goes no further. */
static void fails(struct kit_world w, uint64_t id, uint64_t changed, const char *text)
{
    kit_pass(w.k, 1000);
    struct wire_task_row t = kit_task(w.k, id);
    assert_int_equal(t.state, TASK_FAILED);
    assert_int_equal(t.changed, changed);
    assert_has((const char *)t.error.data, text);
    assert_null(engine_failed(w.k->engine));
    kit_restart(w.k);
    assert_has((const char *)kit_task(w.k, id).error.data, text);
    kit_free(w.k);
}

static uint64_t begins(struct kit_world w, struct wire_held_change change)
{
    const struct wire_reply *r = kit_change_held(w.k, "t", "g", change);
    assert_int_equal(r->code, E_OK);
    return r->tasks.tasks[0].id;
}

static void a_task_ends_at_a_row_that_does_not_read_and_says_which(void **state)
{
    (void)state;
    struct kit_world w = with_dead("- - -", "0 1 2", PARK_MESSAGE);
    kit_row_put(w.k, FAM_HELD, held(w, 1), BAD);
    fails(w, begins(w, (struct wire_held_change){.act = TASK_DROP}), 1, held_text(w, 1));

    w = with_dead("- - -", "0 1 2", PARK_MESSAGE); /* a partition of no topic: behind all others */
    kit_row_put(w.k, FAM_HELD, key_held(w.g, NOBODY, 3), BAD);
    fails(w, begins(w, (struct wire_held_change){.act = TASK_REDRIVE}), 3, "held: row 000000010000004d0000000000000003: it names no partition of topic 't'");

    w = with_dead("- - -", "0 1 2", PARK_MESSAGE);
    kit_row_put(w.k, FAM_HELD, kit_key_cut(held(w, 1), 9), BAD); /* before them */
    fails(w, begins(w, (struct wire_held_change){.act = TASK_DROP}), 0, "held: row 000000010000000100: it names no partition of topic 't'");

    w = with_dead("- - -", "0 1 2", PARK_MESSAGE);
    kit_row_damage(w.k, FAM_HELD, held(w, 1));
    uint64_t id = begins(w, (struct wire_held_change){.act = TASK_DROP});
    kit_pass(w.k, 1000);
    assert_int_equal(kit_task(w.k, id).state, TASK_FAILED);
    assert_int_equal(kit_task(w.k, id).changed, 1);
    assert_has((const char *)kit_task(w.k, id).error.data, "row 00000001000000010000000000000001 is damaged");
    kit_free(w.k);
}

/* Those whose bytes readers look at, among them one that changes meanwhile. */
static void a_task_ends_at_a_row_that_does_not_read_any_more_when_readers_have_looked(void **state)
{
    (void)state;
    const struct wire_held_filter of_a = {.has_key = true, .key = VIEW_LIT("a")};
    struct kit_world w = with_dead("a a a", "0", PARK_MESSAGE);
    for (const char *next = "1 2"; *next != '\0'; next += next[1] == ' ' ? 2 : 1) {
        const char message[] = {*next, '\0'};
        assert_string_equal(kit_receive(w.k, A, w.g, 1), message);
        assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_PARK, message), "");
    }
    w.k->hold_matches = true;
    uint64_t id = begins(w, (struct wire_held_change){.act = TASK_DROP, .filter = &of_a});
    kit_pass(w.k, 10);
    assert_int_equal(w.k->matches_n, 1);
    kit_row_put(w.k, FAM_HELD, held(w, 1), BAD);
    w.k->hold_matches = false;
    fails(w, id, 1, held_text(w, 1));
}

static void a_task_that_comes_to_a_row_of_a_newer_version_stops_the_broker(void **state)
{
    (void)state;
    struct kit_world w = with_dead("- -", "0 1", PARK_MESSAGE);
    kit_row_put(w.k, FAM_HELD, held(w, 1), NEWER);
    asks(w, (struct wire_held_change){.act = TASK_DROP});
    kit_pass(w.k, 100);
    kit_stops(w.k, E_FORMAT_NEWER, held_text(w, 1));
}

/* A match that was asked for before the walk met the row is given up with it. */
static void what_a_task_would_have_asked_of_readers_goes_with_it(void **state)
{
    (void)state;
    const struct wire_held_filter of_a = {.has_key = true, .key = VIEW_LIT("a")};
    struct kit_world w = with_dead("a b", "0 1", PARK_MESSAGE);
    kit_row_put(w.k, FAM_HELD, held(w, 1), BAD);
    fails(w, begins(w, (struct wire_held_change){.act = TASK_DROP, .filter = &of_a}), 0, held_text(w, 1));
}

/* ---------------------------------------------------------------- looking */

static const struct wire_reply *listed(struct kit_world w)
{
    struct wire_request r = kit_request(w.k, A, VERB_HELD_LIST);
    r.held = (struct wire_held_list){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g")};
    return kit_ask(w.k, r, A);
}

static void a_list_of_what_is_held_is_refused_at_a_row_that_does_not_read(void **state)
{
    (void)state;
    struct kit_world w = with_dead("- - -", "0 1 2", PARK_MESSAGE);
    kit_row_put(w.k, FAM_HELD, held(w, 1), BAD);
    const struct wire_reply *r = listed(w);
    assert_int_equal(r->code, E_DAMAGED);
    assert_int_equal(r->body, BODY_NONE);
    assert_has((const char *)r->detail.data, held_text(w, 1));
    assert_null(engine_failed(w.k->engine)); /* it is only looked at */
    kit_free(w.k);

    w = with_dead("- - -", "0 1 2", PARK_MESSAGE);
    kit_row_put(w.k, FAM_HELD, kit_key_cut(held(w, 1), 9), BAD);
    r = listed(w);
    assert_int_equal(r->code, E_DAMAGED);
    assert_has((const char *)r->detail.data, "held: row 000000010000000100: its key does not read");
    kit_free(w.k);

    w = with_dead("- - -", "0 1 2", PARK_MESSAGE);
    kit_row_damage(w.k, FAM_HELD, held(w, 1));
    r = listed(w);
    assert_int_equal(r->code, E_DAMAGED);
    assert_has((const char *)r->detail.data, "row 00000001000000010000000000000001 is damaged");
    kit_free(w.k);
}

static void an_explanation_does_not_take_a_row_that_does_not_read_for_none(void **state)
{
    (void)state;
    struct kit_world w = with_dead("- - -", "0 1 2", PARK_MESSAGE);
    struct wire_request r = kit_request(w.k, A, VERB_EXPLAIN);
    kit_row_put(w.k, FAM_HELD, held(w, 1), BAD);
    r.explain = (struct wire_explain){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .has_offset = true, .partition = w.p, .offset = 1};
    kit_call(w.k, r, A);
    kit_stops(w.k, E_DAMAGED, held_text(w, 1));
}

/* ---------------------------------------------------------------- the log goes */

static void nothing_of_a_log_goes_while_what_is_held_of_it_does_not_read(void **state)
{
    (void)state;
    for (int damaged = 0; damaged < 2; damaged++) {
        struct kit *k = kit_new();
        k->limits.retention_interval_ms = 100;
        uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = HOUR, .hard_cap_ms = UINT64_MAX});
        struct kit_world w = {k, p, kit_group(k, "t", "g", NULL)};
        kit_produce(k, p, "- - -");
        kit_receive(k, A, w.g, 3);
        kit_settle(k, A, w.g, SETTLE_PARK, "1");
        kit_ack(k, A, w.g, "0 2");
        struct key longer = held(w, 1);
        longer.bytes[longer.size++] = 0;
        if (damaged)
            kit_row_damage(k, FAM_HELD, held(w, 1));
        else
            kit_row_put(k, FAM_HELD, longer, BAD);
        kit_pass(k, HOUR + 5000);
        const struct partition *partition = table_get(&k->engine->partitions, p);
        assert_int_equal(partition->row.start, 0);
        assert_true(kit_row_there(k, partition->family, key_log(p, 2)));
        kit_stops(k, E_DAMAGED, damaged ? "row 00000001000000010000000000000001 is damaged"
                                        : "held: row 0000000100000001000000000000000100: its key does not read");
    }
}

/* ---------------------------------------------------------------- ids, scheduled batches */

static void an_id_whose_row_does_not_read_is_not_taken_for_a_new_one(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){0});
    const struct id128 id = {5, 6};
    struct wire_request r = kit_request(w.k, A, VERB_PRODUCE);
    w.k->message_ids = &id;
    r.lane = w.p;
    r.produce = (struct wire_produce){.partition = w.p, .count = 1, .batch = VIEW_LIT("x")};
    assert_int_equal(kit_ask_numbered(w.k, r, A)->code, E_OK);
    struct key row = key_dedup(1, id);
    assert_true(kit_row_there(w.k, FAM_DEDUP_A, row));
    kit_row_put(w.k, FAM_DEDUP_A, row, BAD);
    r.seq = ++w.k->seq[A][w.p];
    r.replies_seen = r.seq - 1;
    w.k->message_ids = &id;
    kit_call(w.k, r, A);
    kit_stops(w.k, E_DAMAGED, "dedup.a: row ");
}

static void lists(struct kit_world w)
{
    struct wire_request r = kit_request(w.k, A, VERB_SCHED_LIST);
    r.sched.limit = 10;
    kit_call(w.k, r, A);
}

static void schedules(struct kit_world w)
{
    struct wire_request r = kit_request(w.k, A, VERB_PRODUCE);
    r.lane = w.p;
    r.produce = (struct wire_produce){.partition = w.p, .count = 1, .batch = VIEW_LIT("x"), .name = VIEW_LIT("n"), .delay_ms = 60000};
    assert_int_equal(kit_ask_numbered(w.k, r, A)->code, E_OK);
}

static void a_list_of_what_waits_for_its_time_meets_no_row_that_it_passes_over(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){0});
    schedules(w);
    struct key batch = key_sched_batch(w.k->now.wall_ms + 60000, 1, message_id_hash(VIEW_LIT("n")));
    assert_true(kit_row_there(w.k, FAM_SCHED, batch));
    kit_row_put(w.k, FAM_SCHED, kit_key_cut(batch, (uint8_t)(batch.size - 4)), BAD);
    lists(w);
    kit_stops(w.k, E_DAMAGED, "a scheduled batch's key does not read");

    w = begin((struct wire_group_config){0});
    schedules(w);
    kit_row_damage(w.k, FAM_SCHED, batch);
    lists(w);
    kit_stops(w.k, E_DAMAGED, "is damaged");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_retry_that_is_due_and_whose_row_does_not_read_is_named),
        cmocka_unit_test(a_late_settle_of_a_retry_whose_row_does_not_read_settles_nothing),
        cmocka_unit_test(a_key_that_is_away_and_does_not_read_is_named),
        cmocka_unit_test(a_message_that_is_away_without_its_key_is_named),
        cmocka_unit_test(a_key_comes_back_whole_or_not_at_all),
        cmocka_unit_test(a_list_behind_a_key_that_does_not_read_is_named),
        cmocka_unit_test(a_sweep_passes_over_no_row_that_does_not_read),
        cmocka_unit_test(a_task_ends_at_a_row_that_does_not_read_and_says_which),
        cmocka_unit_test(a_task_ends_at_a_row_that_does_not_read_any_more_when_readers_have_looked),
        cmocka_unit_test(a_task_that_comes_to_a_row_of_a_newer_version_stops_the_broker),
        cmocka_unit_test(what_a_task_would_have_asked_of_readers_goes_with_it),
        cmocka_unit_test(a_list_of_what_is_held_is_refused_at_a_row_that_does_not_read),
        cmocka_unit_test(an_explanation_does_not_take_a_row_that_does_not_read_for_none),
        cmocka_unit_test(nothing_of_a_log_goes_while_what_is_held_of_it_does_not_read),
        cmocka_unit_test(an_id_whose_row_does_not_read_is_not_taken_for_a_new_one),
        cmocka_unit_test(a_list_of_what_waits_for_its_time_meets_no_row_that_it_passes_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

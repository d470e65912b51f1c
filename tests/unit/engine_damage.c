/* Rows that do not read, or speak of what is not there: a broker that finds one does not begin, and one that meets it later stops; it says
 * which row, and guesses nothing. */
#include "engine_kit.h"

#include "schemas/records.h"

enum { NOBODY = 77 }; /* an id of nothing */

struct damage { struct kit *k; uint32_t p, other, g, stream; struct buf value; };

/* Two topics, a group that leases and one of members. */
static struct damage begin(void)
{
    struct damage d = {.k = kit_new()};
    d.p = kit_topic(d.k, "t", 1);
    d.other = kit_topic(d.k, "u", 1);
    d.g = kit_group(d.k, "t", "g", NULL);
    d.stream = kit_group(d.k, "t", "s", &(struct wire_group_config){.mode = MODE_STREAM});
    kit_produce(d.k, d.p, "a a b -");
    kit_receive(d.k, A, d.g, 1);
    return d;
}

static void put(struct damage *d, enum store_family f, struct key key, struct view value) { kit_row_put(d->k, f, key, value); }

/* A broker that begins on it says `text`. */
static void refused(struct damage *d, int code, const char *text)
{
    struct engine *other = NULL;
    struct err e = {0};
    assert_int_equal(engine_open(&other, d->k->store, &d->k->limits, d->k->now, 1, &e), code);
    assert_has(e.text, text);
    buf_free(&d->value);
    kit_free(d->k);
}

static void a_key_that_does_not_read_is_named_at_the_start(void **state)
{
    (void)state;
    const struct { enum store_family family; struct key key; const char *text; } keys[] = {
        {FAM_META, kit_key_cut(key_topic(1), 3), "a topic's key"},
        {FAM_META, kit_key_cut(key_group(1), 3), "a group's key"},
        {FAM_META, key_partition_row(NOBODY), "a partition without a topic: 77"},
        {FAM_META, kit_key_cut(key_partition_row(1), 2), "a partition without a topic: 0"},
        {FAM_META, key_trims(NOBODY), "what was removed of a partition without a topic: 77"},
        {FAM_META, key_compaction(NOBODY), "partition id 77, which is not compacted"},
        {FAM_META, key_compaction(1), "partition id 1, which is not compacted"},
        {FAM_GROUPS, key_cursor(NOBODY, 1), "a cursor's key"},
        {FAM_GROUPS, key_cursor(1, NOBODY), "a cursor's key"},
        {FAM_GROUPS, kit_key_cut(key_cursor(1, 1), 4), "a cursor's key"},
        {FAM_GROUPS, key_member(1, (struct id128){1, 2}, 3), "a member's key"}, /* of a queue group */
        {FAM_GROUPS, key_claim(1, 1), "a commit's key"},
        {FAM_GROUPS, key_done(NOBODY, 1, 0), "a done chunk's key"},
        {FAM_GROUPS, key_task(NOBODY, 1), "a task's key"},
        {FAM_GROUPS, key_lost(NOBODY, 1), "the key of what a group lost"},
        {FAM_KEYS, key_list_header(NOBODY, 5), "the list of a key of group"},
        {FAM_SCHED, key_sched_retry(5, 1, 1, 3), "a retry's key"}, /* without its held row */
        {FAM_SCHED, key_sched_count(NOBODY), "is counted for topic 77, which is not there"},
        {FAM_LEASES, key_lease(NOBODY, 5), "a lease's key"},
        {FAM_SESSIONS, kit_key_cut(key_session((struct id128){1, 2}), 9), "a session's key"},
    };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct damage d = begin();
        char row[128];
        snprintf(row, sizeof row, "%s: row %s: ", store_family_name(keys[i].family), key_text(key_view(&keys[i].key)).hex);
        put(&d, keys[i].family, keys[i].key, VIEW_LIT("\x01"));
        refused(&d, E_DAMAGED, keys[i].text);
        d = begin();
        put(&d, keys[i].family, keys[i].key, VIEW_LIT("\x01"));
        refused(&d, E_DAMAGED, row);
    }
}

static void a_value_that_does_not_read_is_refused_at_the_start(void **state)
{
    (void)state;
    struct damage d = begin();
    uint32_t g = d.g, s = d.stream, p = d.p;
    kit_free(d.k);
    const struct { enum store_family family; struct key key; } rows[] = {
        {FAM_META, key_meta_format()}, {FAM_META, key_meta_epoch()}, {FAM_META, key_meta_next()}, {FAM_META, key_topic(1)},
        {FAM_META, key_group(g)}, {FAM_META, key_partition_row(p)}, {FAM_META, key_trims(p)}, {FAM_META, key_dedup_generation()},
        {FAM_GROUPS, key_cursor(g, p)}, {FAM_GROUPS, key_done(g, p, 0)}, {FAM_GROUPS, key_task(g, 1)}, {FAM_GROUPS, key_claim(s, p)},
        {FAM_GROUPS, key_member(s, (struct id128){1, 2}, 3)}, {FAM_KEYS, key_list_header(g, 5)}, {FAM_SCHED, key_sched_low()},
        {FAM_SCHED, key_sched_away_low()}, {FAM_SCHED, key_sched_count(1)}, {FAM_LEASES, key_lease(g, 5)},
        {FAM_SESSIONS, key_session((struct id128){1, 2})}, {FAM_GROUPS, key_lost(g, p)}, {FAM_STATE, key_state(g, state_key_hash(VIEW_LIT("a")))}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char row[128];
        snprintf(row, sizeof row, "%s: row %s", store_family_name(rows[i].family), key_text(key_view(&rows[i].key)).hex);
        d = begin();
        put(&d, rows[i].family, rows[i].key, VIEW_LIT("\x01"));
        if (rows[i].family != FAM_STATE) /* whose values are not read by a start */
            refused(&d, E_DAMAGED, "row");
        else
            kit_free(d.k);
        d = begin(); /* and as the store finds it */
        put(&d, rows[i].family, rows[i].key, VIEW_LIT("\x01"));
        kit_row_damage(d.k, rows[i].family, rows[i].key);
        refused(&d, E_DAMAGED, row);
    }
    for (int unread = 0; unread < 2; unread++) {
        d = begin();
        put(&d, FAM_HELD, key_held(g, p, 3), VIEW_LIT("\x01"));
        put(&d, FAM_SCHED, key_sched_retry(5, g, p, 3), VIEW_LIT("\x01"));
        if (unread)
            kit_row_damage(d.k, FAM_HELD, key_held(g, p, 3));
        refused(&d, E_DAMAGED, "held: row 00000001000000010000000000000003");
    }
}

/* Key a has one behind its head, which a restart takes from there. */
static void the_list_of_a_key_whose_head_stands_in_it_is_read_at_the_start(void **state)
{
    (void)state;
    for (int unread = 0; unread < 2; unread++) {
        struct damage d = begin(); /* one a is leased */
        kit_ack(d.k, A, d.g, "0");
        struct key chunk = key_list(d.g, key_hash(VIEW_LIT("a")), 1);
        assert_true(kit_row_there(d.k, FAM_KEYS, chunk));
        if (unread)
            kit_row_damage(d.k, FAM_KEYS, chunk);
        else
            kit_row_remove(d.k, FAM_KEYS, chunk);
        refused(&d, E_DAMAGED, unread ? key_text(key_view(&chunk)).hex : "chunk 1 does not read");
    }
}

/* Up to format 3 a list's header was its chunk 0. */
static void a_list_of_an_older_version_without_its_header_is_refused(void **state)
{
    (void)state;
    const struct { struct key key; const char *text; } rows[] = {
        {key_list(1, 5, 2), "keys: row 00000001000000000000000500000002: the list of a key of group 1"}, /* a chunk, and no header before it */
        {kit_key_cut(key_list(1, 5, 0), 13), "keys: row 00000001000000000000000500: the list of a key of group 1"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct damage d = begin();
        format_row_put(&d.value, &(struct format_row){.format = 3});
        put(&d, FAM_META, key_meta_format(), buf_view(&d.value));
        put(&d, FAM_KEYS, rows[i].key, VIEW_LIT("\x01"));
        refused(&d, E_DAMAGED, rows[i].text);
    }
}

/* A replay of the log is under way. */
static struct damage replaying(uint64_t *id)
{
    struct damage d = begin();
    d.k->hold_matches = true;
    const struct wire_reply *r = kit_change_held(d.k, "t", "g", (struct wire_held_change){.act = TASK_REPLAY, .source = REPLAY_LOG, .rate_milli = 1});
    assert_int_equal(r->code, E_OK);
    *id = r->tasks.tasks[0].id;
    assert_int_equal(kit_task(d.k, *id).state, TASK_RUNNING);
    return d;
}

static void a_replay_that_does_not_say_where_it_ends_is_not_gone_on_with(void **state)
{
    (void)state;
    uint64_t id, ends[] = {3, 3};
    struct damage d = replaying(&id);
    kit_row_remove(d.k, FAM_GROUPS, key_task_ends(d.g, id));
    refused(&d, E_DAMAGED, "where replay 1 ends is gone");

    d = replaying(&id);
    kit_row_damage(d.k, FAM_GROUPS, key_task_ends(d.g, id));
    refused(&d, E_DAMAGED, "is damaged");

    d = replaying(&id);
    put(&d, FAM_GROUPS, key_task_ends(d.g, id), VIEW_LIT("\x01"));
    refused(&d, E_DAMAGED, "groups: row 6b000000010000000000000001");

    d = replaying(&id);
    task_ends_row_put(&d.value, ends, 2);
    put(&d, FAM_GROUPS, key_task_ends(d.g, id), buf_view(&d.value));
    refused(&d, E_DAMAGED, "replay 1 ends in 2 partitions, its topic has 1");
}

/* Whichever row it is that the store cannot get. */
static void a_start_that_cannot_get_a_row_is_refused_whichever_it_is(void **state)
{
    (void)state;
    uint64_t id;
    struct damage d = replaying(&id);
    kit_receive(d.k, A, d.g, 1);
    assert_string_equal(kit_settle_delay(d.k, A, d.g, SETTLE_NACK, "0", 100), ""); /* a retry that is near, */
    kit_ack(d.k, A, d.g, "2"); /* of key b: the list of key a stays */
    uint64_t n = 1;
    for (;; n++) {
        struct engine *other = NULL;
        struct err e = {0};
        store_mem_faults(d.k->store, &(struct store_mem_faults){.fail_get_at = n});
        int code = engine_open(&other, d.k->store, &d.k->limits, d.k->now, 1, &e);
        if (code == E_OK) {
            engine_close(other);
            break;
        }
        assert_int_equal(code, E_DAMAGED);
        assert_has(e.text, "is damaged");
    }
    assert_true(n > 8); /* format, epoch, ids, where the replay ends, the retry, two lows, dedup */
    store_mem_faults(d.k->store, &(struct store_mem_faults){0});
    kit_free(d.k);
}

static void data_of_a_newer_version_is_not_touched(void **state)
{
    (void)state;
    struct damage d = begin();
    format_row_put(&d.value, &(struct format_row){.format = META_FORMAT + 1});
    put(&d, FAM_META, key_meta_format(), buf_view(&d.value));
    refused(&d, E_FORMAT_NEWER, "this version reads");
}

static void what_a_row_of_meta_speaks_of_must_be_there(void **state)
{
    (void)state;
    struct damage d = begin();
    uint32_t ids[] = {d.other};
    topic_row_put(&d.value, &(struct topic_row){.name = VIEW_LIT("u"), .config = {.partitions = 1}, .log_class = 200, .partitions = ids});
    put(&d, FAM_META, key_topic(2), buf_view(&d.value));
    refused(&d, E_DAMAGED, "topic row is damaged");

    d = begin();
    group_row_put(&d.value, &(struct group_row){.name = VIEW_LIT("x"), .topic = NOBODY, .config = {.mode = MODE_QUEUE}});
    put(&d, FAM_META, key_group(NOBODY), buf_view(&d.value));
    refused(&d, E_DAMAGED, "the topic of group 77");

    d = begin();
    partition_row_put(&d.value, &(struct partition_row){.parent = d.p});
    put(&d, FAM_META, key_partition_row(d.other), buf_view(&d.value));
    refused(&d, E_DAMAGED, "the parent of partition");

    d = begin();
    claim_row_put(&d.value, &(struct claim_row){.held = CLAIM_OWNED, .session = {1, 2}, .member = 3});
    put(&d, FAM_GROUPS, key_claim(d.stream, d.p), buf_view(&d.value));
    refused(&d, E_DAMAGED, "the owner of partition");
}

static void put_lease(struct damage *d, uint64_t token, struct lease_row row, const struct lease_entry *entries, uint32_t n)
{
    row.entries = entries;
    row.entries_n = n;
    row.lease_ms = 1000;
    buf_clear(&d->value);
    lease_row_put(&d->value, &row);
    put(d, FAM_LEASES, key_lease(d->g, token), buf_view(&d->value));
}

static struct id128 someone(const struct damage *d) { return kit_request(d->k, A, VERB_RECEIVE).session; }

static void a_lease_that_cannot_be_is_named_at_the_start(void **state)
{
    (void)state;
    struct damage d = begin();
    struct lease_entry of_a = {.partition = d.p, .offset = 1, .has_key = true, .key_hash = key_hash(VIEW_LIT("a"))};
    struct lease_entry again = {.partition = d.p, .offset = 0}, lost = {.partition = NOBODY};
    put_lease(&d, 5, (struct lease_row){.session = {1, 2}}, &of_a, 1);
    refused(&d, E_DAMAGED, "the session of lease 5");

    d = begin();
    put_lease(&d, 5, (struct lease_row){.session = someone(&d), .slot = LANE_WINDOW}, &of_a, 1);
    refused(&d, E_DAMAGED, "the slot of lease 5");

    d = begin();
    put_lease(&d, 5, (struct lease_row){.session = someone(&d)}, &lost, 1);
    refused(&d, E_DAMAGED, "a message of lease 5");

    d = begin(); /* one that another lease has: the row of the older token is read first */
    put_lease(&d, UINT64_MAX, (struct lease_row){.session = someone(&d)}, &again, 1);
    refused(&d, E_DAMAGED, "a message of lease");

    d = begin(); /* offset 0 of the same key is leased already */
    put_lease(&d, UINT64_MAX, (struct lease_row){.session = someone(&d)}, &of_a, 1);
    refused(&d, E_DAMAGED, "a key that is leased twice");
}

/* ---------------------------------------------------------------- met later */

/* The request is stepped, and the engine stops for a row that does not read. */
static void stops(struct damage *d, struct wire_request r, const char *text)
{
    kit_call(d->k, r, A);
    kit_stops(d->k, E_DAMAGED, text);
}

static struct wire_request numbered(struct damage *d, enum wire_verb verb)
{
    struct wire_request r = kit_request(d->k, A, verb);
    r.seq = 100;
    r.replies_seen = 99;
    return r;
}

static void a_row_that_a_request_needs_and_that_does_not_read_stops_the_broker(void **state)
{
    (void)state;
    struct view bad = VIEW_LIT("\x01");
    struct damage d = begin();
    struct wire_request r = kit_request(d.k, A, VERB_STATE_GET);
    put(&d, FAM_STATE, key_state(d.g, state_key_hash(VIEW_LIT("a"))), bad);
    r.state_get = (struct wire_state_get){.group = d.g, .key = VIEW_LIT("a")};
    stops(&d, r, "state: row 00000001");

    d = begin();
    put(&d, FAM_SCHED, key_sched_name(1, message_id_hash(VIEW_LIT("n"))), bad);
    r = numbered(&d, VERB_SCHED_CHANGE);
    r.sched = (struct wire_sched){.topic = VIEW_LIT("t"), .name = VIEW_LIT("n"), .act = SCHED_CANCEL};
    stops(&d, r, "scheduled name row is damaged");

    d = begin(); /* a name whose batch is not there */
    sched_name_row_put(&d.value, &(struct sched_name_row){.name = VIEW_LIT("n"), .due_ms = d.k->now.wall_ms + 5000, .partition = d.p, .count = 1});
    put(&d, FAM_SCHED, key_sched_name(1, message_id_hash(VIEW_LIT("n"))), buf_view(&d.value));
    buf_free(&d.value);
    r = numbered(&d, VERB_SCHED_CHANGE);
    r.sched = (struct wire_sched){.topic = VIEW_LIT("t"), .name = VIEW_LIT("n"), .act = SCHED_MOVE, .delay_ms = 1000};
    stops(&d, r, "a batch that waits in topic 't' until");

    d = begin();
    r = numbered(&d, VERB_PRODUCE);
    put(&d, FAM_SESSIONS, key_lane(someone(&d), d.other), bad);
    r.lane = d.other;
    r.produce = (struct wire_produce){.partition = d.other, .count = 1, .batch = VIEW_LIT("x")};
    stops(&d, r, "lane row is damaged");
}

static void what_is_not_there_is_answered_by_name(void **state)
{
    (void)state;
    struct damage d = begin();
    const struct { struct wire_request r; int code; const char *text; bool numbered; } asked[] = {
        {{.verb = VERB_TOPIC_LIST, .list.name = VIEW_LIT("x")}, E_TOPIC_NOT_FOUND, "'x'; create it with: sluice topic create x", false},
        {{.verb = VERB_GROUP_LAG, .list = {.topic = VIEW_LIT("x"), .name = VIEW_LIT("g")}}, E_TOPIC_NOT_FOUND, "'x'", false},
        {{.verb = VERB_HELD_LIST, .held = {.topic = VIEW_LIT("x"), .group = VIEW_LIT("g")}}, E_TOPIC_NOT_FOUND, "'x'", false},
        {{.verb = VERB_HELD_LIST, .held = {.topic = VIEW_LIT("t"), .group = VIEW_LIT("x")}}, E_GROUP_NOT_FOUND, "'x' of topic 't'", false},
        {{.verb = VERB_HELD_CHANGE, .held_change = {.topic = VIEW_LIT("x"), .group = VIEW_LIT("g"), .act = TASK_DROP}}, E_TOPIC_NOT_FOUND, "'x'", true},
        {{.verb = VERB_SCHED_LIST, .sched.topic = VIEW_LIT("x")}, E_TOPIC_NOT_FOUND, "'x'", false},
        {{.verb = VERB_SCHED_CHANGE, .sched = {.topic = VIEW_LIT("x"), .name = VIEW_LIT("n"), .act = SCHED_CANCEL}}, E_TOPIC_NOT_FOUND, "'x'", true},
        {{.verb = VERB_SCHED_CHANGE, .sched = {.topic = VIEW_LIT("t"), .name = VIEW_LIT("n"), .act = SCHED_CANCEL}}, E_SCHEDULE_NOT_FOUND, "'n' of topic 't'", true},
        {{.verb = VERB_EXPLAIN, .explain = {.topic = VIEW_LIT("x"), .group = VIEW_LIT("g")}}, E_TOPIC_NOT_FOUND, "'x'", false},
        {{.verb = VERB_EXPLAIN, .explain = {.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .has_offset = true, .partition = NOBODY}}, E_PARTITION_NOT_FOUND, "77", false},
        {{.verb = VERB_EXPLAIN, .explain = {.topic = VIEW_LIT("t"), .group = VIEW_LIT("s"), .has_offset = true, .partition = NOBODY}}, E_PARTITION_NOT_FOUND, "77", false},
        /* a partition that is there is of another topic, and that was not deleted */
        {{.verb = VERB_EXPLAIN, .explain = {.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .has_offset = true, .partition = d.other}}, E_PARTITION_NOT_FOUND, "2", false},
        {{.verb = VERB_EXPLAIN, .explain = {.topic = VIEW_LIT("t"), .group = VIEW_LIT("s"), .has_offset = true, .partition = d.other}}, E_PARTITION_NOT_FOUND, "2", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
        struct wire_request q = asked[i].r;
        uint64_t rows = store_mem_digest(d.k->store);
        q.session = kit_request(d.k, A, q.verb).session;
        const struct wire_reply *answer = asked[i].numbered ? kit_ask_numbered(d.k, q, A) : kit_ask(d.k, q, A);
        assert_int_equal(answer->code, asked[i].code);
        assert_has((const char *)answer->detail.data, asked[i].text);
        assert_true(store_mem_digest(d.k->store) == rows);
    }
    struct wire_request r = kit_request(d.k, A, VERB_STATE_GET);
    r.state_get = (struct wire_state_get){.group = NOBODY, .key = VIEW_LIT("a")};
    const struct wire_reply *reply = kit_ask(d.k, r, A);
    assert_int_equal(reply->code, E_GROUP_NOT_FOUND);
    assert_has((const char *)reply->detail.data, "group id 77");

    r = kit_request(d.k, A, VERB_GROUP_COMMIT);
    r.commit = (struct wire_group_commit){.group = NOBODY};
    reply = kit_ask_numbered(d.k, r, A);
    assert_int_equal(reply->code, E_GROUP_NOT_FOUND);
    assert_has((const char *)reply->detail.data, "group id 77");

    r = kit_request(d.k, A, (enum wire_verb)(VERB_COUNT + 3));
    assert_int_equal(kit_ask(d.k, r, A)->code, E_UNSUPPORTED);

    r = kit_request(d.k, A, VERB_GROUP_CONTROL);
    r.control = (struct wire_group_control){.topic = VIEW_LIT("t"), .name = VIEW_LIT("g"), .act = 99};
    assert_int_equal(kit_ask_numbered(d.k, r, A)->code, E_INVALID_ARGUMENT);
    kit_free(d.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_that_does_not_read_is_named_at_the_start),
        cmocka_unit_test(a_value_that_does_not_read_is_refused_at_the_start),
        cmocka_unit_test(the_list_of_a_key_whose_head_stands_in_it_is_read_at_the_start),
        cmocka_unit_test(a_list_of_an_older_version_without_its_header_is_refused),
        cmocka_unit_test(a_replay_that_does_not_say_where_it_ends_is_not_gone_on_with),
        cmocka_unit_test(a_start_that_cannot_get_a_row_is_refused_whichever_it_is),
        cmocka_unit_test(data_of_a_newer_version_is_not_touched),
        cmocka_unit_test(what_a_row_of_meta_speaks_of_must_be_there),
        cmocka_unit_test(a_lease_that_cannot_be_is_named_at_the_start),
        cmocka_unit_test(a_row_that_a_request_needs_and_that_does_not_read_stops_the_broker),
        cmocka_unit_test(what_is_not_there_is_answered_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

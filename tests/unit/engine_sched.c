/* Batches that wait for their time: never early, once, whatever happens meanwhile. */
#include "engine_kit.h"

#include <time.h>

#include "schemas/records.h"
#include "schemas/stored.h"
#include "store/sched_walk.h"

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };
static const uint64_t day = UINT64_C(24) * HOUR, year = UINT64_C(365) * 24 * HOUR;

/* ---------------------------------------------------------------- a produce that waits */

static struct wire_request later(struct kit *k, uint32_t p, struct wire_produce w)
{
    struct wire_request r = kit_request(k, A, VERB_PRODUCE);
    r.lane = p;
    w.partition = p;
    w.count = w.count != 0 ? w.count : 1;
    if (w.batch.data == NULL)
        w.batch = VIEW_LIT("what waits");
    w.batch_hash = batch_hash(w.batch);
    r.produce = w;
    return r;
}

static const struct wire_reply *produce(struct kit *k, uint32_t p, struct wire_produce w) { return kit_ask_numbered(k, later(k, p, w), A); }

static uint64_t delay(struct kit *k, uint32_t p, const char *name, uint64_t ms)
{
    const struct wire_reply *r = produce(k, p, (struct wire_produce){.delay_ms = ms, .name = view_of_str(name)});
    assert_int_equal(r->code, E_OK);
    return r->produce.due_ms;
}

static uint64_t end_of(struct kit *k, uint32_t p) { return ((struct partition *)table_get(&k->engine->partitions, p))->row.end; }

/* The batches of a log: append times, and what they hold, as "+0 one +5000 two", from `since`. */
static const char *logged(struct kit *k, uint32_t p, uint64_t since)
{
    static char texts[4][4096];
    static int turn;
    char *text = texts[turn++ % 4], *at = text;
    struct store_iter *it = store_iter(k->store, FAM_LOG_DAYS);
    struct key prefix = key_log_prefix(p);
    text[0] = '\0';
    for (store_iter_seek(it, key_view(&prefix)); store_iter_valid(it) && key_has_prefix(store_iter_key(it), &prefix); store_iter_next(it)) {
        struct buf copy = {0};
        struct stored_header h;
        struct view batch;
        struct err e = {0};
        buf_append(&copy, store_iter_value(it).data, store_iter_value(it).size);
        for (struct view rest = buf_view(&copy); rest.size > 0;) {
            assert_int_equal(stored_next(&rest, &h, &batch, &e), E_OK);
            at += snprintf(at, (size_t)(text + 4096 - at), "%s%+lld %.*s", at == text ? "" : " ", (long long)(h.append_time_ms - since),
                           (int)batch.size, (const char *)batch.data);
        }
        buf_free(&copy);
    }
    store_iter_close(it);
    return text;
}

static size_t rows(struct kit *k, enum sched_kind kind)
{
    struct key from = key_sched_from(0, kind);
    struct sched_walk w;
    size_t n = 0;
    for (sched_walk_open(&w, k->store, kind, &from); sched_walk_valid(&w); sched_walk_next(&w))
        n++;
    sched_walk_close(&w);
    return n;
}

static const struct wire_reply *change(struct kit *k, const char *name, enum sched_act act, uint64_t at_ms, uint64_t delay_ms)
{
    struct wire_request r = kit_request(k, B, VERB_SCHED_CHANGE);
    r.sched = (struct wire_sched){.topic = VIEW_LIT("t"), .name = view_of_str(name), .act = (uint8_t)act, .at_ms = at_ms, .delay_ms = delay_ms};
    return kit_ask_numbered(k, r, B);
}

static const struct wire_reply *list(struct kit *k, struct wire_sched w)
{
    struct wire_request r = kit_request(k, C, VERB_SCHED_LIST);
    r.sched = w;
    return kit_ask(k, r, C);
}

/* The names of all that waits, read in pages of `limit`. */
static const char *names(struct kit *k, struct wire_sched w)
{
    static char text[4096];
    char *at = text;
    text[0] = '\0';
    for (bool more = true; more;) {
        const struct wire_reply *r = list(k, w);
        if (r->code != E_OK)
            return error_name(r->code);
        for (uint32_t i = 0; i < r->sched.rows_n; i++) {
            const struct wire_scheduled *s = &r->sched.rows[i];
            at += sprintf(at, "%s%.*s", at == text ? "" : " ", (int)s->name.size, (const char *)s->name.data);
            w.after_ms = s->due_ms;
            w.after_id = s->id;
        }
        more = r->sched.more;
        assert_true(!more || r->sched.rows_n > 0);
    }
    return text;
}

/* ---------------------------------------------------------------- delays */

static void a_delayed_batch_is_appended_when_its_time_has_come_and_not_before(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    uint64_t begin = k->now.wall_ms;
    const struct wire_reply *r = produce(k, p, (struct wire_produce){.delay_ms = 5 * SECOND, .count = 3});
    assert_int_equal(r->code, E_OK);
    assert_int_equal(r->produce.due_ms, begin + 5 * SECOND);
    assert_int_equal(r->produce.count, 3);
    assert_int_equal(r->produce.partition, p);
    assert_int_equal(r->produce.base_offset, 0);
    assert_int_equal(r->produce.append_time_ms, 0);
    assert_true(r->produce.name.size > 0);
    assert_int_equal(r->durability, DURABILITY_DISK);
    kit_pass(k, 5 * SECOND - 1);
    assert_int_equal(end_of(k, p), 0);
    kit_pass(k, 1);
    assert_int_equal(end_of(k, p), 3);
    assert_string_equal(logged(k, p, begin), "+5000 what waits");
    assert_int_equal(rows(k, SCHED_KIND_BATCH), 0);
    assert_int_equal(rows(k, SCHED_KIND_NAME), 0);
    assert_int_equal(rows(k, SCHED_KIND_COUNT), 0);
    assert_int_equal(engine_counters(k->engine)->scheduled_messages, 3);
    assert_int_equal(engine_counters(k->engine)->scheduled_appended, 3);
    kit_pass(k, HOUR);
    assert_int_equal(end_of(k, p), 3);
    kit_free(k);
}

static void batches_are_appended_in_the_order_of_their_times(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    uint64_t begin = k->now.wall_ms;
    produce(k, p, (struct wire_produce){.delay_ms = 102, .batch = VIEW_LIT("c")});
    produce(k, p, (struct wire_produce){.delay_ms = 100, .batch = VIEW_LIT("a")});
    produce(k, p, (struct wire_produce){.at_ms = begin + 101, .batch = VIEW_LIT("b")});
    kit_pass(k, 1000);
    assert_string_equal(logged(k, p, begin), "+100 a +101 b +102 c");
    kit_free(k);
}

static void what_became_due_while_the_broker_was_down_is_appended_at_its_start(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    uint64_t begin = k->now.wall_ms;
    delay(k, p, "soon", 5 * SECOND);
    delay(k, p, "late", 2 * HOUR);
    k->now.mono_ms += HOUR;
    k->now.wall_ms += HOUR;
    kit_restart(k);
    kit_quiet(k);
    assert_string_equal(logged(k, p, begin), "+3600000 what waits");
    kit_pass(k, HOUR - 1);
    assert_int_equal(end_of(k, p), 1);
    kit_restart(k);
    kit_pass(k, 1);
    assert_int_equal(end_of(k, p), 2);
    kit_free(k);
}

static void receivers_get_it_when_it_is_appended(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    struct call *c = kit_receive_wait(k, B, 0, g, 10, 30000);
    delay(k, p, "x", 5 * SECOND);
    kit_logged(k, p, "a");
    kit_pass(k, 4999);
    assert_false(c->answered);
    kit_pass(k, 1);
    assert_string_equal(kit_deliveries(k, &kit_reply(c)->receive), "0");
    kit_free(k);
}

static void a_time_that_has_passed_is_now(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    const struct wire_reply *r = produce(k, p, (struct wire_produce){.at_ms = k->now.wall_ms - HOUR});
    assert_int_equal(r->code, E_OK);
    assert_int_equal(r->produce.due_ms, 0);
    assert_int_equal(r->produce.append_time_ms, k->now.wall_ms);
    assert_int_equal(end_of(k, p), 1);
    delay(k, p, "x", HOUR); /* and replaces what waits under its name */
    assert_int_equal(produce(k, p, (struct wire_produce){.at_ms = 1, .name = VIEW_LIT("x")})->code, E_OK);
    assert_int_equal(end_of(k, p), 2);
    kit_pass(k, 2 * HOUR);
    assert_int_equal(end_of(k, p), 2);
    kit_free(k);
}

static void a_time_too_far_away_is_refused_by_its_limit(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    uint64_t now = k->now.wall_ms;
    assert_int_equal(produce(k, p, (struct wire_produce){.at_ms = now + year})->code, E_OK);
    const struct wire_reply *r = produce(k, p, (struct wire_produce){.at_ms = now + year + 1});
    assert_int_equal(r->code, E_LIMIT);
    assert_non_null(strstr((const char *)r->detail.data, "delay_ms_max"));
    assert_int_equal(produce(k, p, (struct wire_produce){.delay_ms = UINT64_MAX})->code, E_LIMIT);
    assert_int_equal(rows(k, SCHED_KIND_BATCH), 1);
    kit_free(k);
}

static void a_repeat_is_answered_as_the_first_was_and_nothing_waits_twice(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    struct wire_request r = later(k, p, (struct wire_produce){.delay_ms = SECOND});
    r.seq = 1;
    const struct wire_reply *first = kit_ask(k, r, A), *second = kit_ask(k, r, A);
    assert_int_equal(second->code, E_OK);
    assert_int_equal(second->produce.due_ms, first->produce.due_ms);
    assert_true(view_eq(second->produce.name, first->produce.name));
    kit_pass(k, MINUTE);
    assert_int_equal(end_of(k, p), 1);
    kit_free(k);
}

static void room_is_asked_for_when_it_is_accepted_and_not_when_it_is_due(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 1, .backlog_bytes_max = 150});
    delay(k, p, "x", SECOND);
    kit_produce(k, p, "a a");
    kit_produce(k, p, "a a");
    assert_int_equal(produce(k, p, (struct wire_produce){.delay_ms = SECOND})->code, E_OVERLOADED);
    engine_disk(k->engine, 0);
    assert_int_equal(produce(k, p, (struct wire_produce){.delay_ms = SECOND})->code, E_DISK_FULL);
    uint64_t before = end_of(k, p);
    kit_pass(k, SECOND);
    assert_int_equal(end_of(k, p), before + 1);
    kit_free(k);
}

static void a_unit_lets_messages_wait_with_its_acks(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b");
    assert_string_equal(kit_receive(k, A, g, 2), "0 1");
    struct wire_settle_item ack = kit_item(k, g, SETTLE_ACK, "0");
    struct wire_produce outputs[] = {later(k, p, (struct wire_produce){.delay_ms = SECOND}).produce,
                                     later(k, p, (struct wire_produce){.cron = VIEW_LIT("no cron")}).produce};
    const struct wire_reply *r = kit_unit_of(k, A, (struct wire_unit){.items = &ack, .items_n = 1, .produces = outputs, .produces_n = 2});
    assert_int_equal(kit_unit_code(r), E_INVALID_ARGUMENT);
    assert_int_equal(rows(k, SCHED_KIND_BATCH), 0);
    r = kit_unit_of(k, A, (struct wire_unit){.items = &ack, .items_n = 1, .produces = outputs, .produces_n = 1});
    assert_int_equal(kit_unit_code(r), E_OK);
    assert_int_equal(r->settle.outputs[0].due_ms, k->now.wall_ms + SECOND);
    assert_true(r->settle.outputs[0].name.size > 0);
    kit_logged(k, p, "c");
    kit_pass(k, SECOND);
    assert_int_equal(end_of(k, p), 3);
    kit_free(k);
}

/* ---------------------------------------------------------------- names */

static void a_name_that_waits_is_replaced(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 2), other = kit_topic(k, "u", 1);
    uint64_t begin = k->now.wall_ms;
    produce(k, p, (struct wire_produce){.delay_ms = HOUR, .name = VIEW_LIT("x"), .batch = VIEW_LIT("first")});
    produce(k, other, (struct wire_produce){.delay_ms = HOUR, .name = VIEW_LIT("x"), .batch = VIEW_LIT("of another topic")});
    produce(k, p + 1, (struct wire_produce){.delay_ms = SECOND, .name = VIEW_LIT("x"), .batch = VIEW_LIT("second")});
    assert_int_equal(rows(k, SCHED_KIND_BATCH), 2);
    kit_pass(k, 2 * HOUR);
    assert_string_equal(logged(k, p, begin), "");
    assert_string_equal(logged(k, p + 1, begin), "+1000 second");
    assert_string_equal(logged(k, other, begin), "+3600000 of another topic");
    kit_free(k);
}

static void one_that_is_replaced_under_the_same_time_is_the_new_one(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    uint64_t begin = k->now.wall_ms;
    for (int i = 0; i < 2; i++)
        produce(k, p, (struct wire_produce){.at_ms = begin + SECOND, .name = VIEW_LIT("x"), .batch = i == 0 ? VIEW_LIT("old") : VIEW_LIT("new")});
    assert_int_equal(rows(k, SCHED_KIND_BATCH), 1);
    kit_pass(k, SECOND);
    assert_string_equal(logged(k, p, begin), "+1000 new");
    kit_free(k);
}

static void a_name_that_the_broker_makes_is_never_made_again(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    char first[64];
    const struct wire_reply *r = produce(k, p, (struct wire_produce){.delay_ms = SECOND});
    snprintf(first, sizeof first, "%.*s", (int)r->produce.name.size, (const char *)r->produce.name.data);
    delay(k, p, "1-3", HOUR); /* somebody's own, which looks like the one after the next */
    for (int i = 0; i < 3; i++)
        delay(k, p, "", HOUR);
    kit_restart(k);
    delay(k, p, "", HOUR);
    assert_int_equal(rows(k, SCHED_KIND_NAME), 6);
    kit_pass(k, SECOND);
    assert_int_equal(list(k, (struct wire_sched){.topic = VIEW_LIT("t"), .name = view_of_str(first)})->code, E_SCHEDULE_NOT_FOUND);
    assert_int_equal(rows(k, SCHED_KIND_NAME), 5);
    kit_free(k);
}

static void what_is_cancelled_does_not_come(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    delay(k, p, "x", SECOND);
    delay(k, p, "y", SECOND);
    assert_int_equal(change(k, "x", SCHED_CANCEL, 0, 0)->code, E_OK);
    assert_int_equal(change(k, "x", SCHED_CANCEL, 0, 0)->code, E_SCHEDULE_NOT_FOUND);
    assert_int_equal(engine_counters(k->engine)->scheduled_cancelled, 1);
    kit_restart(k);
    kit_pass(k, MINUTE);
    assert_int_equal(end_of(k, p), 1);
    kit_free(k);
}

static void what_is_moved_comes_at_its_new_time_only(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    uint64_t begin = k->now.wall_ms;
    produce(k, p, (struct wire_produce){.delay_ms = SECOND, .name = VIEW_LIT("later"), .batch = VIEW_LIT("l")});
    produce(k, p, (struct wire_produce){.delay_ms = HOUR, .name = VIEW_LIT("sooner"), .batch = VIEW_LIT("s")});
    produce(k, p, (struct wire_produce){.delay_ms = HOUR, .name = VIEW_LIT("now"), .batch = VIEW_LIT("n")});
    assert_int_equal(change(k, "later", SCHED_MOVE, begin + MINUTE, 0)->code, E_OK);
    assert_int_equal(change(k, "sooner", SCHED_MOVE, 0, 500)->code, E_OK);
    assert_int_equal(change(k, "now", SCHED_MOVE, begin - 5, 0)->code, E_OK);
    assert_int_equal(change(k, "later", SCHED_MOVE, begin + year + 1, 0)->code, E_LIMIT);
    assert_int_equal(change(k, "nobody", SCHED_MOVE, 0, 0)->code, E_SCHEDULE_NOT_FOUND);
    kit_restart(k);
    kit_pass(k, 2 * HOUR);
    assert_string_equal(logged(k, p, begin), "+0 n +500 s +60000 l");
    assert_int_equal(rows(k, SCHED_KIND_BATCH), 0);
    kit_free(k);
}

static void what_is_changed_while_readers_fetch_it_is_as_it_was_changed(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    uint64_t begin = k->now.wall_ms;
    static const char *const all[] = {"cancelled", "moved", "replaced", "hurried", "left"};
    for (size_t i = 0; i < 5; i++)
        produce(k, p, (struct wire_produce){.delay_ms = SECOND, .name = view_of_str(all[i]), .batch = view_of_str(all[i])});
    k->hold_due = true;
    kit_pass(k, SECOND);
    assert_true(k->due_fetched);
    assert_int_equal(k->due.batches_n, 5);
    assert_int_equal(change(k, "cancelled", SCHED_CANCEL, 0, 0)->code, E_OK);
    assert_int_equal(change(k, "moved", SCHED_MOVE, 0, MINUTE)->code, E_OK);
    assert_int_equal(change(k, "hurried", SCHED_MOVE, begin, 0)->code, E_OK);
    produce(k, p, (struct wire_produce){.delay_ms = HOUR, .name = VIEW_LIT("replaced"), .batch = VIEW_LIT("new")});
    assert_int_equal(end_of(k, p), 0);
    k->hold_due = false;
    kit_pass(k, 0);
    assert_int_equal(end_of(k, p), 2);
    kit_pass(k, 2 * HOUR);
    const char *log = logged(k, p, begin);
    assert_non_null(strstr(log, "+1000 left"));
    assert_non_null(strstr(log, "+1000 hurried"));
    assert_non_null(strstr(log, "+61000 moved +3601000 new"));
    assert_null(strstr(log, "cancelled"));
    assert_int_equal(end_of(k, p), 4);
    assert_int_equal(rows(k, SCHED_KIND_BATCH), 0);
    kit_free(k);
}

/* ---------------------------------------------------------------- cron */

static uint64_t utc(const char *text)
{
    struct tm tm = {0};
    assert_non_null(strptime(text, "%Y-%m-%d %H:%M", &tm));
    return (uint64_t)timegm(&tm) * 1000;
}

static void a_cron_entry_comes_at_each_of_its_times(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    uint32_t p = kit_topic(k, "t", 1);
    uint64_t begin = k->now.wall_ms, first = begin - begin % HOUR + HOUR;
    const struct wire_reply *r = produce(k, p, (struct wire_produce){.cron = VIEW_LIT("@hourly"), .name = VIEW_LIT("x"), .batch = VIEW_LIT("h")});
    assert_int_equal(r->code, E_OK);
    assert_int_equal(r->produce.due_ms, first);
    kit_pass(k, first + HOUR + MINUTE - begin);
    kit_restart(k);
    kit_pass(k, HOUR);
    assert_string_equal(logged(k, p, first), "+0 h +3600000 h +7200000 h");
    assert_int_equal(rows(k, SCHED_KIND_BATCH), 1);
    r = list(k, (struct wire_sched){.topic = VIEW_LIT("t"), .name = VIEW_LIT("x")});
    assert_int_equal(r->sched.rows[0].due_ms, first + 3 * HOUR);
    assert_true(view_eq(r->sched.rows[0].cron, VIEW_LIT("@hourly")));
    assert_int_equal(change(k, "x", SCHED_CANCEL, 0, 0)->code, E_OK);
    kit_pass(k, 2 * HOUR);
    assert_int_equal(end_of(k, p), 3);
    kit_free(k);
}

static void cron_times_missed_while_the_broker_was_down_come_once(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    k->now.wall_ms = utc("2024-03-01 10:30");
    kit_restart(k);
    produce(k, p, (struct wire_produce){.cron = VIEW_LIT("0 * * * *"), .name = VIEW_LIT("x"), .batch = VIEW_LIT("h")});
    k->now.wall_ms = utc("2024-03-05 07:45");
    kit_restart(k);
    kit_quiet(k);
    assert_int_equal(end_of(k, p), 1);
    kit_pass(k, 15 * MINUTE - 1);
    assert_int_equal(end_of(k, p), 1);
    kit_pass(k, 1);
    assert_string_equal(logged(k, p, utc("2024-03-05 07:45")), "+0 h +900000 h");
    kit_free(k);
}

static void a_cron_that_never_comes_is_refused_when_it_is_produced(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    const struct wire_reply *r = produce(k, p, (struct wire_produce){.cron = VIEW_LIT("0 0 31 2 *")});
    assert_int_equal(r->code, E_INVALID_ARGUMENT);
    assert_non_null(strstr((const char *)r->detail.data, "'0 0 31 2 *'"));
    assert_int_equal(produce(k, p, (struct wire_produce){.cron = VIEW_LIT("tomorrow")})->code, E_INVALID_ARGUMENT);
    assert_int_equal(rows(k, SCHED_KIND_NAME), 0);
    kit_free(k);
}

/* ---------------------------------------------------------------- looking */

static void a_list_is_in_order_of_time_and_its_pages_join(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), u = kit_topic(k, "u", 1);
    delay(k, p, "c", 300);
    delay(k, p, "a", 100);
    delay(k, u, "b", 200);
    delay(k, u, "d", 400);
    delay(k, p, "e", 500);
    for (uint32_t limit = 1; limit < 7; limit++) {
        assert_string_equal(names(k, (struct wire_sched){.limit = limit}), "a b c d e");
        assert_string_equal(names(k, (struct wire_sched){.limit = limit, .topic = VIEW_LIT("t")}), "a c e");
        assert_string_equal(names(k, (struct wire_sched){.limit = limit, .topic = VIEW_LIT("u")}), "b d");
    }
    assert_string_equal(names(k, (struct wire_sched){.topic = VIEW_LIT("v")}), "TOPIC_NOT_FOUND");
    const struct wire_reply *r = list(k, (struct wire_sched){.topic = VIEW_LIT("t"), .name = VIEW_LIT("c")});
    assert_int_equal(r->sched.rows_n, 1);
    assert_int_equal(r->sched.rows[0].due_ms, k->now.wall_ms + 300);
    assert_int_equal(r->sched.rows[0].created_ms, k->now.wall_ms);
    assert_int_equal(r->sched.rows[0].bytes, strlen("what waits"));
    assert_int_equal(r->sched.rows[0].partition, p);
    assert_true(view_eq(r->sched.rows[0].topic, VIEW_LIT("t")));
    assert_int_equal(list(k, (struct wire_sched){.topic = VIEW_LIT("t"), .name = VIEW_LIT("b")})->code, E_SCHEDULE_NOT_FOUND);
    assert_int_equal(list(k, (struct wire_sched){.name = VIEW_LIT("c")})->code, E_INVALID_ARGUMENT);
    kit_free(k);
}

static void pages_join_within_one_millisecond_too(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    uint32_t p = kit_topic(k, "t", 1), u = kit_topic(k, "u", 1);
    for (int i = 0; i < 40; i++)
        delay(k, i % 2 == 0 ? p : u, "", MINUTE);
    for (uint32_t limit = 1; limit < 50; limit += 12) {
        const char *text = names(k, (struct wire_sched){.limit = limit});
        size_t n = 1;
        for (const char *c = text; *c != '\0'; c++)
            n += *c == ' ';
        assert_int_equal(n, 40);
    }
    kit_free(k);
}

static void a_page_looks_at_a_bounded_part_of_what_waits(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    uint32_t p = kit_topic(k, "t", 1), u = kit_topic(k, "u", 1);
    struct buf large = {0};
    memset(buf_reserve(&large, 3 << 20), 'l', 3 << 20);
    large.size = 3 << 20;
    for (uint64_t i = 0; i < 5; i++)
        produce(k, p, (struct wire_produce){.delay_ms = SECOND + i, .batch = buf_view(&large)});
    const struct wire_reply *r = list(k, (struct wire_sched){.limit = 5});
    assert_in_range(r->sched.rows_n, 1, 3); /* of 8 MiB */
    assert_true(r->sched.more);
    assert_int_equal(strlen(names(k, (struct wire_sched){.limit = 5})), strlen("1-1 1-2 1-3 1-4 1-5"));
    buf_free(&large);
    for (uint64_t i = 0; i < 20001; i++)
        delay(k, p, "", MINUTE + i);
    delay(k, u, "found", HOUR);
    r = list(k, (struct wire_sched){.topic = VIEW_LIT("u")});
    assert_int_equal(r->code, E_LIMIT);
    assert_string_equal(names(k, (struct wire_sched){.topic = VIEW_LIT("u"), .after_ms = k->now.wall_ms + 2 * MINUTE}), "found");
    assert_int_equal(list(k, (struct wire_sched){.topic = VIEW_LIT("u"), .name = VIEW_LIT("found")})->code, E_OK);
    kit_free(k);
}

static void what_waits_is_counted_by_topic_over_restarts(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 2), u = kit_topic(k, "u", 1);
    kit_group(k, "t", "g", NULL);
    kit_group(k, "u", "g", NULL);
    produce(k, p, (struct wire_produce){.delay_ms = SECOND, .count = 3, .name = VIEW_LIT("x")});
    produce(k, p + 1, (struct wire_produce){.delay_ms = HOUR, .count = 4, .name = VIEW_LIT("y")});
    produce(k, u, (struct wire_produce){.delay_ms = HOUR, .count = 50});
    kit_restart(k);
    assert_int_equal(kit_lag(k, "t", "g").delayed, 7);
    assert_int_equal(kit_lag(k, "t", "g").scale_value, 0);
    produce(k, p, (struct wire_produce){.delay_ms = HOUR, .count = 5, .name = VIEW_LIT("y")}); /* replaced */
    assert_int_equal(kit_lag(k, "t", "g").delayed, 8);
    assert_int_equal(change(k, "y", SCHED_CANCEL, 0, 0)->code, E_OK);
    assert_int_equal(kit_lag(k, "t", "g").delayed, 3);
    kit_logged(k, p, "a b c");
    kit_pass(k, SECOND);
    kit_restart(k);
    assert_int_equal(kit_lag(k, "t", "g").delayed, 0);
    assert_int_equal(kit_lag(k, "t", "g").lag_messages, 3);
    assert_int_equal(kit_lag(k, "u", "g").delayed, 50);
    struct engine_totals totals;
    engine_totals(k->engine, &totals);
    assert_int_equal(totals.scheduled_messages, 50);
    assert_int_equal(totals.scheduled_batches, 1);
    kit_free(k);
}

/* ---------------------------------------------------------------- what else can happen */

static void what_waits_goes_with_its_topic(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), u = kit_topic(k, "u", 1);
    delay(k, p, "x", SECOND);
    delay(k, u, "x", SECOND);
    produce(k, p, (struct wire_produce){.cron = VIEW_LIT("* * * * *")});
    assert_int_equal(kit_delete_topic(k, "t"), E_OK);
    assert_string_equal(names(k, (struct wire_sched){0}), "x");
    assert_int_equal(rows(k, SCHED_KIND_NAME), 1);
    uint32_t again = kit_topic(k, "t", 1);
    kit_restart(k);
    kit_pass(k, HOUR);
    assert_int_equal(end_of(k, again), 0);
    assert_int_equal(end_of(k, u), 1);
    assert_int_equal(rows(k, SCHED_KIND_BATCH), 0); /* when it was due, at the latest */
    kit_free(k);
}

static void what_is_due_at_once_is_fetched_in_bounded_steps(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->watch = false;
    k->limits.sched_load_bytes = 50;
    uint32_t p = kit_topic(k, "t", 1);
    for (int i = 0; i < 30; i++)
        delay(k, p, "", SECOND);
    struct buf large = {0};
    memset(buf_reserve(&large, 5000), 'l', 5000);
    large.size = 5000;
    produce(k, p, (struct wire_produce){.delay_ms = SECOND + 1, .batch = buf_view(&large)});
    k->now.mono_ms += MINUTE / 2;
    k->now.wall_ms += MINUTE / 2;
    size_t turns = 0;
    for (uint64_t end = 0; end < 31; turns++) {
        kit_begin(k);
        kit_end(k);
        assert_in_range(end_of(k, p) - end, 0, 4);
        end = end_of(k, p);
        assert_true(turns < 100);
    }
    assert_true(turns >= 8);
    buf_free(&large);
    kit_free(k);
}

static void retries_between_are_passed_and_left_alone(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b c");
    assert_string_equal(kit_receive(k, A, g, 3), "0 1 2");
    kit_settle_delay(k, A, g, SETTLE_NACK, "0", 2 * SECOND);
    kit_settle_delay(k, A, g, SETTLE_NACK, "1", 30 * SECOND);
    kit_settle_delay(k, A, g, SETTLE_NACK, "2", MINUTE);
    delay(k, p, "x", 3 * SECOND);
    delay(k, p, "y", 40 * SECOND);
    kit_logged(k, p, "d e");
    kit_restart(k);
    kit_pass(k, 35 * SECOND);
    assert_int_equal(end_of(k, p), 4);
    assert_string_equal(kit_receive(k, A, g, 10), "0 1");
    assert_string_equal(kit_receive(k, A, g, 10), "3");
    kit_pass(k, 5 * SECOND);
    assert_int_equal(end_of(k, p), 5);
    kit_free(k);
}

static void a_damaged_batch_is_not_appended_and_stays_listed(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    struct wire_request r = later(k, p, (struct wire_produce){.delay_ms = SECOND, .name = VIEW_LIT("x")});
    r.produce.batch_hash++;
    assert_int_equal(kit_ask_numbered(k, r, A)->code, E_OK);
    delay(k, p, "y", SECOND);
    kit_pass(k, HOUR);
    assert_int_equal(end_of(k, p), 1);
    assert_int_equal(engine_counters(k->engine)->damaged_messages, 1);
    assert_string_equal(names(k, (struct wire_sched){0}), "x");
    assert_int_equal(change(k, "x", SCHED_CANCEL, 0, 0)->code, E_OK);
    assert_string_equal(names(k, (struct wire_sched){0}), "");
    kit_free(k);
}

/* ---------------------------------------------------------------- clocks */

static const char *health(struct kit *k)
{
    static char text[200];
    const struct wire_reply *r = kit_ask(k, kit_request(k, A, VERB_HEALTH), A);
    snprintf(text, sizeof text, "%.*s", (int)r->health.reason.size, (const char *)r->health.reason.data);
    return text;
}

static void a_wall_clock_set_forward_brings_nothing_early(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    delay(k, p, "x", 2 * HOUR);
    assert_string_equal(health(k), "");
    k->now.wall_ms += year;
    k->watch = false; /* many turns in which nothing happens */
    kit_pass(k, HOUR);
    assert_int_equal(end_of(k, p), 0);
    assert_non_null(strstr(health(k), "wall clock"));
    assert_int_equal(engine_counters(k->engine)->clock_steps, 1);
    uint64_t turn = engine_turn(k->engine);
    kit_pass(k, 2 * HOUR); /* due by any clock, but which is right is not known */
    assert_int_equal(end_of(k, p), 0);
    assert_true(engine_turn(k->engine) - turn < 3 * HOUR / SECOND); /* looked at now and then, not all the time */
    k->watch = true;
    k->now.wall_ms -= year;
    kit_pass(k, MINUTE);
    assert_int_equal(end_of(k, p), 1);
    assert_string_equal(health(k), "");
    kit_free(k);
}

static void time_goes_on_while_the_wall_clock_is_not_believed(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    uint64_t begin = k->now.wall_ms;
    k->now.wall_ms += year;
    kit_pass(k, MINUTE);
    produce(k, p, (struct wire_produce){.batch = VIEW_LIT("x")});
    assert_string_equal(logged(k, p, begin), "+60000 x");
    kit_free(k);
}

static void nothing_expires_while_the_wall_clock_is_not_believed(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 1, .ttl_ms = 10 * SECOND}), g = kit_group(k, "t", "g", NULL);
    kit_produce(k, p, "a b");
    k->now.wall_ms += year;
    kit_pass(k, MINUTE);
    assert_string_equal(kit_receive(k, A, g, 1), "0");
    k->now.wall_ms -= year;
    kit_pass(k, 0);
    assert_string_equal(kit_receive(k, A, g, 1), "");
    kit_free(k);
}

static void a_clock_that_comes_back_to_where_it_was_is_believed(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    k->now.wall_ms -= HOUR;
    kit_restart(k); /* takes that for right, but time does not go back */
    delay(k, p, "x", 30 * SECOND);
    k->now.wall_ms += HOUR;
    kit_pass(k, 30 * SECOND);
    assert_int_equal(end_of(k, p), 1);
    assert_string_equal(health(k), "");
    kit_free(k);
}

static void a_restart_takes_the_clock_as_it_is(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    delay(k, p, "x", 2 * HOUR);
    k->now.wall_ms += day;
    kit_pass(k, SECOND);
    assert_int_equal(end_of(k, p), 0);
    kit_restart(k);
    kit_quiet(k);
    assert_int_equal(end_of(k, p), 1);
    assert_string_equal(health(k), "");
    kit_free(k);
}

static void a_clock_set_back_is_waited_for(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    uint64_t due = delay(k, p, "x", 30 * SECOND);
    k->now.wall_ms -= 50 * SECOND; /* within what is believed */
    kit_pass(k, 79 * SECOND);
    assert_int_equal(end_of(k, p), 0);
    kit_pass(k, SECOND);
    assert_int_equal(end_of(k, p), 1);
    assert_int_equal(k->engine->wall_ms, due);
    kit_free(k);
}

static void with_no_bound_on_steps_the_clock_is_always_believed(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    k->limits.clock_step_ms_max = 0;
    uint32_t p = kit_topic(k, "t", 1);
    delay(k, p, "x", 2 * HOUR);
    k->now.wall_ms += day;
    kit_pass(k, 10 * SECOND);
    assert_int_equal(end_of(k, p), 1);
    assert_string_equal(health(k), "");
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_delayed_batch_is_appended_when_its_time_has_come_and_not_before),
        cmocka_unit_test(batches_are_appended_in_the_order_of_their_times),
        cmocka_unit_test(what_became_due_while_the_broker_was_down_is_appended_at_its_start),
        cmocka_unit_test(receivers_get_it_when_it_is_appended),
        cmocka_unit_test(a_time_that_has_passed_is_now),
        cmocka_unit_test(a_time_too_far_away_is_refused_by_its_limit),
        cmocka_unit_test(a_repeat_is_answered_as_the_first_was_and_nothing_waits_twice),
        cmocka_unit_test(room_is_asked_for_when_it_is_accepted_and_not_when_it_is_due),
        cmocka_unit_test(a_unit_lets_messages_wait_with_its_acks),
        cmocka_unit_test(a_name_that_waits_is_replaced),
        cmocka_unit_test(one_that_is_replaced_under_the_same_time_is_the_new_one),
        cmocka_unit_test(a_name_that_the_broker_makes_is_never_made_again),
        cmocka_unit_test(what_is_cancelled_does_not_come),
        cmocka_unit_test(what_is_moved_comes_at_its_new_time_only),
        cmocka_unit_test(what_is_changed_while_readers_fetch_it_is_as_it_was_changed),
        cmocka_unit_test(a_cron_entry_comes_at_each_of_its_times),
        cmocka_unit_test(cron_times_missed_while_the_broker_was_down_come_once),
        cmocka_unit_test(a_cron_that_never_comes_is_refused_when_it_is_produced),
        cmocka_unit_test(a_list_is_in_order_of_time_and_its_pages_join),
        cmocka_unit_test(pages_join_within_one_millisecond_too),
        cmocka_unit_test(a_page_looks_at_a_bounded_part_of_what_waits),
        cmocka_unit_test(what_waits_is_counted_by_topic_over_restarts),
        cmocka_unit_test(what_waits_goes_with_its_topic),
        cmocka_unit_test(what_is_due_at_once_is_fetched_in_bounded_steps),
        cmocka_unit_test(retries_between_are_passed_and_left_alone),
        cmocka_unit_test(a_damaged_batch_is_not_appended_and_stays_listed),
        cmocka_unit_test(a_wall_clock_set_forward_brings_nothing_early),
        cmocka_unit_test(time_goes_on_while_the_wall_clock_is_not_believed),
        cmocka_unit_test(nothing_expires_while_the_wall_clock_is_not_believed),
        cmocka_unit_test(a_clock_that_comes_back_to_where_it_was_is_believed),
        cmocka_unit_test(a_restart_takes_the_clock_as_it_is),
        cmocka_unit_test(a_clock_set_back_is_waited_for),
        cmocka_unit_test(with_no_bound_on_steps_the_clock_is_always_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

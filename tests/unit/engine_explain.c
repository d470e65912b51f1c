/* The one fact that keeps a message, a key or a group from being delivered. */
#include "engine_kit.h"

struct world { struct kit *k; uint32_t p, g; };

static struct world begin(struct wire_group_config config)
{
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 2);
    return (struct world){k, p, kit_group(k, "t", "g", &config)};
}

static const struct wire_explain_reply *explain_of(struct world w, struct wire_explain x)
{
    struct wire_request r = kit_request(w.k, A, VERB_EXPLAIN);
    r.explain = x;
    r.explain.topic = VIEW_LIT("t");
    r.explain.group = VIEW_LIT("g");
    const struct wire_reply *reply = kit_ask(w.k, r, A);
    assert_int_equal(reply->code, E_OK);
    assert_int_equal(reply->body, BODY_EXPLAIN);
    return &reply->explain;
}

static const struct wire_explain_reply *message(struct world w, uint32_t index, uint64_t offset)
{
    return explain_of(w, (struct wire_explain){.has_offset = true, .partition = w.p + index, .offset = offset});
}

static const struct wire_explain_reply *key(struct world w, const char *text)
{
    return explain_of(w, (struct wire_explain){.has_key = true, .key = view_of_str(text)});
}

static const struct wire_explain_reply *group(struct world w) { return explain_of(w, (struct wire_explain){0}); }

static void assert_text(const struct wire_explain_reply *r, const char *text)
{
    char copy[1024];
    snprintf(copy, sizeof copy, "%.*s", (int)r->text.size, (const char *)r->text.data);
    assert_string_equal(copy, text);
}

/* Somebody asks, and goes on asking: what is ready is only waiting to be taken. */
static void ask(struct world w) { kit_receive(w.k, C, w.g, 1); }

/* ---------------------------------------------------------------- of a message */

static void a_leased_message_names_who_holds_it_and_until_when(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.max_deliveries = 5, .lease_ms = 30000});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 0);
    kit_receive(w.k, A, w.g, 1);
    uint64_t granted = w.k->now.wall_ms; /* 2023-11-14T22:13:20Z and a moment */
    kit_pass(w.k, 12300);
    const struct wire_explain_reply *r = message(w, 0, 0);
    assert_int_equal(r->fact, EXPLAIN_LEASED);
    assert_text(r, "leased to 'test' until 2023-11-14T22:13:50Z (attempt 2 of 5), held 12.3 s so far");
    assert_int_equal(r->until_ms, granted + 30000);
    assert_int_equal(r->since_ms, granted);
    assert_int_equal(r->attempts, 2);
    assert_true(view_eq(r->session, VIEW_LIT("test")));
    kit_restart(w.k); /* a full new term */
    assert_int_equal(message(w, 0, 0)->until_ms, w.k->now.wall_ms + 30000);
    kit_free(w.k);
}

static void times_are_days_of_the_calendar(void **state)
{
    (void)state;
    static const struct { uint64_t ms; const char *text; } times[] = {
        {UINT64_C(1704067199000), "until 2023-12-31T23:59:59Z"}, {UINT64_C(1704067200000), "until 2024-01-01T00:00:00Z"},
        {UINT64_C(1709251199000), "until 2024-02-29T23:59:59Z"}, {UINT64_C(1709251200000), "until 2024-03-01T00:00:00Z"},
        {UINT64_C(1740787200000), "until 2025-03-01T00:00:00Z"}, {UINT64_C(4107542400000), "until 2100-03-01T00:00:00Z"}};
    struct world w = begin((struct wire_group_config){.lease_ms = 30000});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        w.k->now.wall_ms = times[i].ms - 30000;
        kit_restart(w.k); /* a full new term */
        assert_non_null(strstr((const char *)message(w, 0, 0)->text.data, times[i].text));
    }
    kit_free(w.k);
}

static void a_retrying_message_says_when_it_comes_back(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 60000);
    const struct wire_explain_reply *r = message(w, 0, 0);
    assert_int_equal(r->fact, EXPLAIN_RETRYING);
    assert_int_equal(r->until_ms, w.k->now.wall_ms + 60000);
    assert_int_equal(r->attempts, 1);
    assert_text(r, "retrying after 1 failed attempt, next at 2023-11-14T22:14:20Z");
    r = message(w, 0, 1);
    assert_int_equal(r->fact, EXPLAIN_BEHIND);
    assert_int_equal(r->offset, 0);
    kit_pass(w.k, 60000);
    kit_receive(w.k, A, w.g, 1);
    const struct wire_note note = {.reason = VIEW_LIT("timeout"), .error = VIEW_LIT("no answer in 5 s")};
    struct wire_settle_item item = kit_item(w.k, w.g, SETTLE_NACK, "0");
    item.note = 1;
    item.flags = SETTLE_HAS_DELAY;
    item.delay_ms = 10000;
    struct wire_request q = kit_request(w.k, A, VERB_SETTLE);
    q.settle = (struct wire_settle){.singles = &item, .singles_n = 1, .notes = &note, .notes_n = 1};
    assert_int_equal(kit_ask_numbered(w.k, q, A)->code, E_OK);
    kit_restart(w.k);
    r = message(w, 0, 0);
    assert_text(r, "retrying after 2 failed attempts, next at 2023-11-14T22:14:30Z: timeout: no answer in 5 s");
    assert_true(view_eq(r->reason, VIEW_LIT("timeout")));
    kit_free(w.k);
}

static void a_parked_message_says_why_and_since_when_whether_it_blocks_its_key_or_not(void **state)
{
    (void)state;
    for (int park = PARK_MESSAGE; park <= PARK_KEY; park++) {
        struct world w = begin((struct wire_group_config){.max_deliveries = 1, .park = (uint8_t)park});
        kit_produce(w.k, w.p, "a a");
        kit_receive(w.k, A, w.g, 1);
        kit_settle(w.k, A, w.g, SETTLE_NACK, "0");
        uint64_t since = w.k->now.wall_ms;
        kit_pass(w.k, 5000);
        const struct wire_explain_reply *r = message(w, 0, 0);
        assert_int_equal(r->fact, EXPLAIN_PARKED);
        assert_text(r, "parked since 2023-11-14T22:13:20Z after 1 failed attempt (max_deliveries): redrive or drop it");
        assert_int_equal(r->since_ms, since);
        assert_true(view_eq(r->reason, VIEW_LIT("max_deliveries")));
        r = message(w, 0, 1);
        if (park == PARK_KEY) {
            assert_int_equal(r->fact, EXPLAIN_BEHIND);
            assert_int_equal(r->partition, w.p);
            assert_int_equal(r->offset, 0);
            assert_text(r, "behind partition 0 offset 0 of the same key, which is parked since 2023-11-14T22:13:20Z after 1 failed attempt "
                           "(max_deliveries): redrive or drop it");
        } else {
            assert_int_equal(r->fact, EXPLAIN_NO_RECEIVER);
        }
        kit_free(w.k);
    }
}

static void what_is_behind_its_key_is_found_by_the_bytes_of_the_log(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b b a");
    kit_receive(w.k, A, w.g, 10);
    size_t asked = w.k->asks_made;
    const struct wire_explain_reply *r = message(w, 0, 3);
    assert_int_equal(w.k->asks_made, asked + 1);
    assert_int_equal(r->fact, EXPLAIN_BEHIND);
    assert_int_equal(r->offset, 0);
    assert_int_equal(message(w, 0, 2)->offset, 1);
    kit_ack(w.k, A, w.g, "0");
    r = message(w, 0, 3); /* now it is the head */
    assert_int_equal(r->fact, EXPLAIN_READY);
    assert_text(r, "ready: the next receive gets it");
    kit_free(w.k);
}

static void what_was_not_read_ahead_says_how_many_are_before_it(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
    kit_produce_many(w.k, w.p, "-", 3000);
    kit_receive(w.k, A, w.g, 3);
    kit_ack(w.k, A, w.g, "0 2");
    const struct wire_explain_reply *r = message(w, 0, 2500);
    assert_int_equal(r->fact, EXPLAIN_BACKLOG);
    assert_int_equal(r->depth, 2498);
    assert_text(r, "2498 messages of its partition are before it");
    kit_pass(w.k, 60000);
    r = message(w, 0, 2500);
    assert_int_equal(r->fact, EXPLAIN_NO_RECEIVER);
    assert_text(r, "nobody asks for messages of this group: no receive for 60.0 s");
    kit_free(w.k);
}

static void done_gone_and_never_there_are_told_apart(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c");
    kit_receive(w.k, A, w.g, 10);
    kit_ack(w.k, A, w.g, "0 2");
    assert_int_equal(message(w, 0, 0)->fact, EXPLAIN_DONE); /* below the floor */
    assert_int_equal(message(w, 0, 2)->fact, EXPLAIN_DONE); /* above it */
    assert_text(message(w, 0, 2), "acknowledged or dropped");
    assert_int_equal(message(w, 0, 1)->fact, EXPLAIN_LEASED);
    const struct wire_explain_reply *r = message(w, 0, 3);
    assert_int_equal(r->fact, EXPLAIN_NO_SUCH_OFFSET);
    assert_text(r, "partition 0 ends at offset 3");
    assert_int_equal(message(w, 1, 0)->fact, EXPLAIN_NO_SUCH_OFFSET);
    struct wire_request q = kit_request(w.k, A, VERB_EXPLAIN);
    q.explain = (struct wire_explain){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .has_offset = true, .partition = 99};
    assert_int_equal(kit_ask(w.k, q, A)->code, E_PARTITION_NOT_FOUND);
    q.explain.group = VIEW_LIT("nobody");
    assert_int_equal(kit_ask(w.k, q, A)->code, E_GROUP_NOT_FOUND);
    kit_free(w.k);
}

static void what_is_not_yet_on_disk_says_so(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    w.k->hold_syncs = true;
    kit_produce(w.k, w.p, "a");
    assert_int_equal(message(w, 0, 0)->fact, EXPLAIN_NOT_VISIBLE);
    w.k->hold_syncs = false;
    kit_begin(w.k);
    kit_end(w.k);
    kit_quiet(w.k);
    kit_pass(w.k, 1);
    assert_int_equal(message(w, 0, 0)->fact, EXPLAIN_NO_RECEIVER);
    kit_free(w.k);
}

static void what_outlived_its_ttl_says_so_wherever_it_waits(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    struct world w = {.k = k, .p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 1, .ttl_ms = 10000})};
    w.g = kit_group(k, "t", "g", &(struct wire_group_config){.expired = EXPIRED_PARK});
    kit_produce(k, w.p, "a a b c");
    assert_string_equal(kit_receive(k, A, w.g, 1), "0");
    kit_pass(k, 9000);
    assert_int_equal(message(w, 0, 1)->fact, EXPLAIN_BEHIND);
    kit_pass(k, 1000);
    const struct wire_explain_reply *r = message(w, 0, 1); /* behind its key */
    assert_int_equal(r->fact, EXPLAIN_EXPIRED);
    assert_text(r, "its ttl ended at 2023-11-14T22:13:30Z: it is parked when its turn comes");
    assert_int_equal(message(w, 0, 2)->fact, EXPLAIN_EXPIRED); /* ready */
    assert_int_equal(message(w, 0, 0)->fact, EXPLAIN_LEASED);  /* it has begun */
    kit_free(k);
}

static void a_redriven_message_is_what_it_is_now_and_not_done(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle(w.k, A, w.g, SETTLE_PARK, "0");
    kit_receive(w.k, A, w.g, 1);
    struct wire_request r = kit_request(w.k, A, VERB_HELD_CHANGE);
    r.held_change = (struct wire_held_change){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .act = TASK_REDRIVE};
    assert_int_equal(kit_ask_numbered(w.k, r, A)->code, E_OK);
    kit_pass(w.k, 100);
    const struct wire_explain_reply *x = message(w, 0, 0); /* in the front: 1 is leased */
    assert_int_equal(x->fact, EXPLAIN_BEHIND);
    assert_int_equal(x->offset, 1);
    kit_ack(w.k, A, w.g, "1");
    assert_int_equal(message(w, 0, 0)->fact, EXPLAIN_READY);
    kit_free(w.k);
}

/* ---------------------------------------------------------------- of a key, of a group */

static void of_a_key_its_head_speaks(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a a");
    kit_receive(w.k, A, w.g, 10);
    const struct wire_explain_reply *r = key(w, "a");
    assert_int_equal(r->fact, EXPLAIN_LEASED);
    assert_int_equal(r->offset, 0);
    assert_int_equal(r->depth, 2);
    assert_int_equal(key(w, "z")->fact, EXPLAIN_EMPTY);
    assert_int_equal(key(w, "z")->depth, 0);
    kit_free(w.k);
    w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "z");
    assert_int_equal(key(w, "z")->fact, EXPLAIN_EMPTY);
    assert_int_equal(key(w, "z")->depth, 1); /* it may be the one that was not read */
    kit_free(w.k);
    w = begin((struct wire_group_config){.order = ORDER_NONE});
    assert_int_equal(key(w, "a")->fact, EXPLAIN_EMPTY);
    kit_free(w.k);
}

static void a_full_group_says_its_limit(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.in_flight_max = 2});
    kit_produce(w.k, w.p, "a b c");
    kit_receive(w.k, A, w.g, 10);
    const struct wire_explain_reply *r = group(w);
    assert_int_equal(r->fact, EXPLAIN_THROTTLED);
    assert_text(r, "group limit: 2 of 2 in flight");
    assert_int_equal(message(w, 0, 2)->fact, EXPLAIN_THROTTLED);
    kit_free(w.k);
}

static void of_a_group_the_most_of_what_it_has_speaks(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.park = PARK_KEY});
    const struct wire_explain_reply *r = group(w);
    assert_int_equal(r->fact, EXPLAIN_EMPTY);
    assert_text(r, "the group is through with its topic; parked: 0");
    kit_produce(w.k, w.p, "a a");
    assert_int_equal(group(w)->fact, EXPLAIN_NO_RECEIVER);
    assert_int_equal(group(w)->depth, 2);
    kit_receive(w.k, A, w.g, 10);
    assert_int_equal(group(w)->fact, EXPLAIN_LEASED);
    assert_text(group(w), "leased: 1, behind their keys: 1, nothing else is there");
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 100000);
    assert_int_equal(group(w)->fact, EXPLAIN_RETRYING);
    kit_pass(w.k, 100000);
    kit_receive(w.k, A, w.g, 10);
    kit_settle(w.k, A, w.g, SETTLE_PARK, "0");
    r = group(w);
    assert_int_equal(r->fact, EXPLAIN_PARKED);
    assert_text(r, "parked and holding back their keys: 1, behind them: 1; redrive or drop them");
    kit_free(w.k);
}

static void a_group_whose_messages_are_still_to_come_says_so(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    struct wire_request r = kit_request(w.k, A, VERB_PRODUCE);
    r.lane = w.p;
    r.produce = (struct wire_produce){.partition = w.p, .count = 1, .batch = VIEW_LIT("later"), .delay_ms = 60000};
    assert_int_equal(kit_ask_numbered(w.k, r, A)->code, E_OK);
    assert_int_equal(group(w)->fact, EXPLAIN_SCHEDULED);
    assert_text(group(w), "the group is through with its topic; waiting for their time to be appended: 1");
    assert_int_equal(kit_lag(w.k, "t", "g").delayed, 1);
    assert_int_equal(kit_lag(w.k, "t", "g").lag_messages, 0);
    kit_free(w.k);
}

static void a_paused_group_says_so_of_what_could_go_out(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b");
    ask(w);
    kit_control(w.k, "t", "g", GROUP_PAUSE);
    w.k->watch = false;
    assert_int_equal(group(w)->fact, EXPLAIN_PAUSED);
    assert_int_equal(message(w, 0, 1)->fact, EXPLAIN_PAUSED);
    assert_int_equal(message(w, 0, 0)->fact, EXPLAIN_LEASED);
    kit_free(w.k);
}

static void what_goes_too_fast_names_the_rate_and_when_it_goes_on(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.key_rate_milli = 500});
    kit_produce(w.k, w.p, "a a a b");
    kit_ack(w.k, A, w.g, kit_receive(w.k, A, w.g, 1));
    const struct wire_explain_reply *r = message(w, 0, 1);
    assert_int_equal(r->fact, EXPLAIN_THROTTLED);
    assert_text(r, "ready when its key may go on: key rate 500 messages per 1,000 seconds");
    assert_in_range(r->until_ms, w.k->now.wall_ms + 1900, w.k->now.wall_ms + 2000);
    assert_int_equal(message(w, 0, 2)->fact, EXPLAIN_THROTTLED); /* as its head */
    assert_int_equal(message(w, 0, 3)->fact, EXPLAIN_READY);
    kit_free(w.k);
    w = begin((struct wire_group_config){.rate_milli = 500});
    kit_produce(w.k, w.p, "a b");
    kit_receive(w.k, A, w.g, 1);
    r = message(w, 0, 1);
    assert_int_equal(r->fact, EXPLAIN_THROTTLED);
    assert_text(r, "group rate: 500 messages per 1,000 seconds");
    kit_pass(w.k, 2000);
    assert_int_equal(message(w, 0, 1)->fact, EXPLAIN_READY);
    kit_free(w.k);
}

static void explaining_changes_nothing(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.park = PARK_KEY});
    kit_produce(w.k, w.p, "a a b -");
    kit_receive(w.k, A, w.g, 10);
    kit_settle(w.k, A, w.g, SETTLE_PARK, "0");
    uint64_t digest = engine_digest(w.k->engine), puts = engine_counters(w.k->engine)->puts;
    for (uint64_t o = 0; o < 5; o++)
        message(w, 0, o);
    key(w, "a");
    group(w);
    assert_int_equal(engine_counters(w.k->engine)->puts, puts);
    assert_true(engine_digest(w.k->engine) == digest);
    kit_free(w.k);
}

static const struct wire_explain_reply *after_the_cap(struct world *w, const char *keys, const char *done)
{
    *w = begin((struct wire_group_config){0});
    struct kit *k = w->k;
    w->p = kit_topic_of(k, "capped", (struct wire_topic_config){.retention_ms = 3600000, .hard_cap_ms = 2 * 3600000});
    w->g = kit_group(k, "capped", "g", NULL);
    kit_produce(k, w->p, keys);
    if (done[0] != '\0') {
        kit_receive(k, A, w->g, done[1] != '\0' ? 3 : 1); /* what was handed out has a row, and would stay */
        kit_ack(k, A, w->g, done);
    }
    kit_pass(k, 3 * 3600000);
    struct wire_request q = kit_request(k, A, VERB_EXPLAIN);
    q.explain = (struct wire_explain){.topic = VIEW_LIT("capped"), .group = VIEW_LIT("g"), .has_offset = true, .partition = w->p, .offset = 1};
    return &kit_ask(k, q, A)->explain;
}

static void what_a_group_lost_at_the_hard_cap_is_said_to_be_lost_and_not_done(void **state)
{
    (void)state;
    struct world w;
    const struct wire_explain_reply *r = after_the_cap(&w, "a b c", "");
    assert_int_equal(r->fact, EXPLAIN_LOST);
    assert_int_equal(r->depth, 3);
    assert_text(r, "lost: partition 0 is gone up to offset 3, older than the topic's hard cap, with 3 messages that the group had not done");
    kit_free(w.k);
    r = after_the_cap(&w, "a b c", "0"); /* offset 1 was not, but which were is not remembered */
    assert_int_equal(r->fact, EXPLAIN_LOST);
    assert_text(r, "lost, or done before: partition 0 is gone up to offset 3, older than the topic's hard cap, with 2 messages that the group had not done");
    kit_free(w.k);
    r = after_the_cap(&w, "a b c", "0 1 2");
    assert_int_equal(r->fact, EXPLAIN_DONE);
    kit_free(w.k);
}

static const struct wire_group *shown(struct kit *k, const char *name)
{
    struct wire_request q = kit_request(k, A, VERB_GROUP_LIST);
    q.list = (struct wire_list){.topic = VIEW_LIT("capped"), .name = name != NULL ? view_of_str(name) : view_of(NULL, 0)};
    const struct wire_reply *r = kit_ask(k, q, A);
    assert_int_equal(r->groups.groups_n, 1);
    return &r->groups.groups[0];
}

static void what_a_group_lost_is_in_its_lag_and_told_by_partition_to_who_asks_for_it_by_name(void **state)
{
    (void)state;
    struct world w;
    after_the_cap(&w, "a b c", "0");
    assert_int_equal(kit_lag(w.k, "capped", "g").lost, 2);
    const struct wire_group *g = shown(w.k, "g");
    assert_true(g->lost == 2 && g->losses_n == 1);
    assert_true(g->losses[0].lost == 2 && g->losses[0].from == 0 && g->losses[0].to == 3 && g->losses[0].partition == w.p && g->losses[0].index == 0);
    assert_true(g->losses[0].from_time_ms != 0 && g->losses[0].from_time_ms == g->losses[0].to_time_ms);
    kit_restart(w.k);
    g = shown(w.k, "g");
    assert_true(g->lost == 2 && g->losses_n == 1 && g->losses[0].to == 3);
    g = shown(w.k, NULL);
    assert_true(g->lost == 2 && g->losses_n == 0);
    kit_group(w.k, "capped", "late", NULL);
    assert_true(shown(w.k, "late")->lost == 0 && shown(w.k, "late")->losses_n == 0);
    kit_free(w.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leased_message_names_who_holds_it_and_until_when),
        cmocka_unit_test(times_are_days_of_the_calendar),
        cmocka_unit_test(a_retrying_message_says_when_it_comes_back),
        cmocka_unit_test(a_parked_message_says_why_and_since_when_whether_it_blocks_its_key_or_not),
        cmocka_unit_test(what_is_behind_its_key_is_found_by_the_bytes_of_the_log),
        cmocka_unit_test(what_was_not_read_ahead_says_how_many_are_before_it),
        cmocka_unit_test(done_gone_and_never_there_are_told_apart),
        cmocka_unit_test(what_is_not_yet_on_disk_says_so),
        cmocka_unit_test(what_outlived_its_ttl_says_so_wherever_it_waits),
        cmocka_unit_test(a_redriven_message_is_what_it_is_now_and_not_done),
        cmocka_unit_test(of_a_key_its_head_speaks),
        cmocka_unit_test(a_full_group_says_its_limit),
        cmocka_unit_test(of_a_group_the_most_of_what_it_has_speaks),
        cmocka_unit_test(a_group_whose_messages_are_still_to_come_says_so),
        cmocka_unit_test(a_paused_group_says_so_of_what_could_go_out),
        cmocka_unit_test(what_goes_too_fast_names_the_rate_and_when_it_goes_on),
        cmocka_unit_test(explaining_changes_nothing),
        cmocka_unit_test(what_a_group_lost_at_the_hard_cap_is_said_to_be_lost_and_not_done),
        cmocka_unit_test(what_a_group_lost_is_in_its_lag_and_told_by_partition_to_who_asks_for_it_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

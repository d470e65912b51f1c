/* Tasks over dead letters: what they redrive and drop, at which pace, and that nothing is done twice. */
#include "engine_kit.h"

struct world { struct kit *k; uint32_t p, g; };

static struct world begin(struct wire_group_config config)
{
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    return (struct world){k, p, kit_group(k, "t", "g", &config)};
}

/* Parks what is received next, all of it. */
static void park(struct world w, uint32_t n, const char *reason)
{
    static struct wire_settle_item items[4096];
    const struct wire_note note = {.reason = view_of_str(reason)};
    for (uint32_t left = n; left > 0;) {
        struct call *c = kit_receive_wait(w.k, A, 0, w.g, left < 4096 ? left : 4096, 1000);
        const struct wire_delivery *d = &kit_reply(c)->receive.deliveries[0];
        for (uint32_t i = 0; i < d->records_n; i++)
            items[i] = (struct wire_settle_item){.token = d->token, .offset = d->records[i].offset, .partition = d->records[i].partition,
                                                 .group = w.g, .verb = SETTLE_PARK, .note = 1};
        struct wire_request r = kit_request(w.k, A, VERB_SETTLE);
        r.settle = (struct wire_settle){.singles = items, .singles_n = d->records_n, .notes = &note, .notes_n = 1};
        const struct wire_reply *reply = kit_ask_numbered(w.k, r, A);
        assert_int_equal(reply->code, E_OK);
        assert_int_equal(reply->settle.codes_n, 0);
        left -= d->records_n;
    }
}

static const struct wire_reply *change(struct world w, struct wire_held_change change)
{
    struct wire_request r = kit_request(w.k, A, VERB_HELD_CHANGE);
    r.held_change = change;
    r.held_change.topic = VIEW_LIT("t");
    r.held_change.group = VIEW_LIT("g");
    return kit_ask_numbered(w.k, r, A);
}

static uint64_t start(struct world w, struct wire_held_change c)
{
    const struct wire_reply *reply = change(w, c);
    assert_int_equal(reply->code, E_OK);
    assert_int_equal(reply->body, BODY_TASKS);
    assert_int_equal(reply->tasks.tasks_n, 1);
    assert_int_equal(reply->tasks.tasks[0].state, TASK_RUNNING);
    return reply->tasks.tasks[0].id;
}

static const struct wire_reply *list(struct world w, struct wire_task t)
{
    struct wire_request r = kit_request(w.k, A, VERB_TASK_LIST);
    r.task = t;
    return kit_ask(w.k, r, A);
}

/* "done seen 3 matched 2 changed 2" */
static const char *task(struct world w, uint64_t id)
{
    static const char *const states[] = {"", "running", "done", "cancelled", "failed"};
    static char texts[8][128];
    static unsigned turn;
    const struct wire_reply *reply = list(w, (struct wire_task){.id = id});
    char *text = texts[turn++ % 8];
    if (reply->code != E_OK)
        return error_name(reply->code);
    const struct wire_task_row *t = &reply->tasks.tasks[0];
    snprintf(text, sizeof texts[0], "%s seen %llu matched %llu changed %llu", states[t->state], (unsigned long long)t->seen,
             (unsigned long long)t->matched, (unsigned long long)t->changed);
    return text;
}

static int cancel(struct world w, uint64_t id)
{
    struct wire_request r = kit_request(w.k, A, VERB_TASK_CANCEL);
    r.task.id = id;
    return kit_ask_numbered(w.k, r, A)->code;
}

static void a_repeat_of_the_request_that_began_a_task_is_answered_with_that_task(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_DROP, .rate_milli = 5000});
    w.k->seq[A][0]--; /* the same number again */
    const struct wire_reply *again = change(w, (struct wire_held_change){.act = TASK_DROP, .rate_milli = 5000});
    assert_int_equal(again->code, E_OK);
    assert_int_equal(again->tasks.tasks_n, 1);
    assert_int_equal(again->tasks.tasks[0].id, id);
    assert_int_equal(again->tasks.tasks[0].rate_milli, 5000);
    assert_true(view_eq(again->tasks.tasks[0].group, VIEW_LIT("g")));
    assert_int_equal(list(w, (struct wire_task){0})->tasks.tasks_n, 1);
    kit_free(w.k);
}

static const struct wire_held_filter of_a = {.has_key = true, .key = {(const uint8_t *)"a", 1}};
static const struct wire_held_filter of_b = {.has_key = true, .key = {(const uint8_t *)"b", 1}};

/* ---------------------------------------------------------------- dropping */

static void a_drop_leaves_nothing_parked_and_touches_nothing_else(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c d");
    park(w, 2, "bad");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "2", 60000);
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_DROP});
    kit_pass(w.k, 100);
    assert_string_equal(task(w, id), "done seen 2 matched 2 changed 2");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "2 retrying");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 3 ready 1 retrying 1 redriven 1 away 1");
    assert_int_equal(engine_counters(w.k->engine)->dropped_messages, 2);
    kit_free(w.k);
}

static void dropping_what_blocks_a_key_lets_the_key_go_on(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.park = PARK_KEY});
    kit_produce(w.k, w.p, "a a");
    park(w, 1, "bad");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
    start(w, (struct wire_held_change){.act = TASK_DROP});
    kit_pass(w.k, 100);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "1");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 leased 1");
    kit_free(w.k);
}

static void what_is_parked_after_a_task_began_is_not_meant(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c");
    park(w, 2, "bad");
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_DROP, .rate_milli = 1000}); /* one a second */
    kit_pass(w.k, 500);
    park(w, 1, "bad");
    kit_pass(w.k, 10000);
    assert_string_equal(task(w, id), "done seen 2 matched 2 changed 2");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "2 parked(bad)");
    kit_free(w.k);
}

static void a_dry_run_counts_and_changes_nothing(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c");
    park(w, 3, "bad");
    uint64_t drop = start(w, (struct wire_held_change){.act = TASK_DROP, .dry_run = true});
    uint64_t redrive = start(w, (struct wire_held_change){.act = TASK_REDRIVE, .dry_run = true});
    kit_pass(w.k, 100);
    assert_string_equal(task(w, drop), "done seen 3 matched 3 changed 0");
    assert_string_equal(task(w, redrive), "done seen 3 matched 3 changed 0");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 3 parked 3");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "0 parked(bad) 1 parked(bad) 2 parked(bad)");
    kit_free(w.k);
}

/* ---------------------------------------------------------------- redriving */

static void redriven_messages_come_in_their_old_order_with_their_counts_at_nothing(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.max_deliveries = 2});
    kit_produce(w.k, w.p, "a a b a");
    park(w, 4, "bad");
    kit_produce(w.k, w.p, "a");
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_REDRIVE});
    kit_pass(w.k, 100);
    assert_string_equal(task(w, id), "done seen 4 matched 4 changed 4");
    assert_int_equal(engine_counters(w.k->engine)->redriven_messages, 4);
    assert_string_equal(kit_held(w.k, "t", "g", HELD_PARKED), "");
    kit_restart(w.k);
    struct call *c = kit_receive_wait(w.k, A, 0, w.g, 10, 1000);
    assert_int_equal(kit_record(kit_reply(c), 0)->failures, 0);
    assert_string_equal(kit_deliveries(w.k, &kit_reply(c)->receive), "0 2");
    kit_ack(w.k, A, w.g, "0 2");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "1");
    kit_ack(w.k, A, w.g, "1");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "3");
    kit_ack(w.k, A, w.g, "3");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "4");
    kit_ack(w.k, A, w.g, "4");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 5");
    kit_free(w.k);
}

static void what_a_task_redrove_and_fails_again_stays_parked(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE, .max_deliveries = 1});
    kit_produce_many(w.k, w.p, "-", 10);
    park(w, 10, "bad");
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_REDRIVE, .rate_milli = 1000});
    for (int i = 0; i < 30; i++) {
        kit_pass(w.k, 500);
        const char *got = kit_receive(w.k, A, w.g, 1);
        if (got[0] != '\0')
            kit_settle(w.k, A, w.g, SETTLE_NACK, got);
    }
    assert_string_equal(task(w, id), "done seen 10 matched 10 changed 10");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 10 parked 10");
    kit_free(w.k);
}

static void a_redrive_rests_while_a_thousand_redriven_messages_are_not_done(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
    kit_produce_many(w.k, w.p, "-", 1500);
    park(w, 1500, "bad");
    w.k->watch = false;
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_REDRIVE});
    kit_pass(w.k, 60000);
    assert_string_equal(task(w, id), "running seen 1000 matched 1000 changed 1000");
    kit_restart(w.k);
    kit_pass(w.k, 60000);
    assert_string_equal(task(w, id), "running seen 1000 matched 1000 changed 1000");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1500 ready 1000 parked 500 redriven 1000");
    for (int i = 0; i < 15; i++) {
        kit_ack(w.k, A, w.g, kit_receive(w.k, A, w.g, 100));
        kit_pass(w.k, 200);
    }
    kit_pass(w.k, 200);
    assert_string_equal(task(w, id), "done seen 1500 matched 1500 changed 1500");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1500");
    kit_free(w.k);
}

static void redriving_what_blocks_a_key_brings_it_before_the_rest_of_the_key(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.park = PARK_KEY});
    kit_produce(w.k, w.p, "a a b");
    kit_receive(w.k, A, w.g, 1);
    kit_settle(w.k, A, w.g, SETTLE_PARK, "0");
    start(w, (struct wire_held_change){.act = TASK_REDRIVE, .filter = &(struct wire_held_filter){.has_key = true, .key = VIEW_LIT("a")}});
    kit_pass(w.k, 100);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 2");
    kit_ack(w.k, A, w.g, "0");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "1");
    kit_free(w.k);
}

/* ---------------------------------------------------------------- filters */

static const char *after_drop(struct world w, const struct wire_held_filter *f)
{
    start(w, (struct wire_held_change){.act = TASK_DROP, .filter = f});
    kit_pass(w.k, 1000);
    return kit_held(w.k, "t", "g", HELD_PARKED);
}

static void each_condition_of_a_filter_holds_alone_and_together(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c d e f");
    uint64_t begun = w.k->now.wall_ms;
    park(w, 2, "x");
    kit_pass(w.k, 10000);
    park(w, 2, "y");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "4", 0);
    park(w, 2, "xy"); /* 4 failed twice */
    assert_string_equal(kit_held(w.k, "t", "g", HELD_PARKED), "0 parked(x) 1 parked(x) 2 parked(y) 3 parked(y) 4 parked(xy) 5 parked(xy)");

    assert_string_equal(after_drop(w, &(struct wire_held_filter){.attempts_min = 3}),
                        "0 parked(x) 1 parked(x) 2 parked(y) 3 parked(y) 4 parked(xy) 5 parked(xy)");
    assert_string_equal(after_drop(w, &(struct wire_held_filter){.attempts_min = 2, .attempts_max = 2}),
                        "0 parked(x) 1 parked(x) 2 parked(y) 3 parked(y) 5 parked(xy)");
    assert_string_equal(after_drop(w, &(struct wire_held_filter){.has_offset = true, .partition = w.p, .offset = 5}),
                        "0 parked(x) 1 parked(x) 2 parked(y) 3 parked(y)");
    assert_string_equal(after_drop(w, &(struct wire_held_filter){.has_offset = true, .partition = w.p + 1, .offset = 3}),
                        "0 parked(x) 1 parked(x) 2 parked(y) 3 parked(y)");
    assert_string_equal(after_drop(w, &(struct wire_held_filter){.reason = VIEW_LIT("x"), .after_ms = begun + 5000}),
                        "0 parked(x) 1 parked(x) 2 parked(y) 3 parked(y)");
    assert_string_equal(after_drop(w, &(struct wire_held_filter){.reason = VIEW_LIT("y"), .before_ms = begun + 5000}),
                        "0 parked(x) 1 parked(x) 2 parked(y) 3 parked(y)");
    assert_string_equal(after_drop(w, &(struct wire_held_filter){.before_ms = begun + 5000, .has_key = true, .key = VIEW_LIT("b")}),
                        "0 parked(x) 2 parked(y) 3 parked(y)");
    assert_string_equal(after_drop(w, &(struct wire_held_filter){.reason = VIEW_LIT("x")}), "2 parked(y) 3 parked(y)");
    assert_string_equal(after_drop(w, &(struct wire_held_filter){.after_ms = begun + 5000}), "");
    kit_free(w.k);
}

static void a_key_is_compared_by_its_bytes_and_by_readers(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b a - a");
    park(w, 5, "bad");
    struct kit_record *lookalike = &w.k->logs[w.p].records[2]; /* another key of the same hash */
    strcpy(lookalike->key, "aa");
    size_t before = w.k->matches_made;
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_DROP, .filter = &of_a});
    kit_pass(w.k, 100);
    assert_string_equal(task(w, id), "done seen 5 matched 2 changed 2");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "1 parked(bad) 2 parked(bad) 3 parked(bad)");
    assert_int_equal(w.k->matches_made, before + 1); /* one question for all of them */
    kit_free(w.k);
}

static void what_was_dropped_while_readers_looked_is_not_dropped_again(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a");
    park(w, 2, "bad");
    w.k->hold_matches = true;
    uint64_t slow = start(w, (struct wire_held_change){.act = TASK_DROP, .filter = &of_a});
    kit_pass(w.k, 100);
    assert_string_equal(task(w, slow), "running seen 0 matched 0 changed 0");
    uint64_t fast = start(w, (struct wire_held_change){.act = TASK_DROP, .limit = 1});
    kit_pass(w.k, 100);
    assert_string_equal(task(w, fast), "done seen 1 matched 1 changed 1");
    w.k->hold_matches = false;
    kit_pass(w.k, 100);
    kit_pass(w.k, 100);
    assert_string_equal(task(w, slow), "done seen 2 matched 1 changed 1");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 2");
    kit_free(w.k);
}

static void what_was_parked_again_while_readers_looked_stays_parked(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    park(w, 1, "bad");
    w.k->hold_matches = true;
    uint64_t slow = start(w, (struct wire_held_change){.act = TASK_DROP, .filter = &of_a});
    kit_pass(w.k, 100);
    start(w, (struct wire_held_change){.act = TASK_REDRIVE});
    kit_pass(w.k, 100);
    park(w, 1, "worse");
    w.k->hold_matches = false;
    kit_pass(w.k, 100);
    kit_pass(w.k, 100);
    assert_string_equal(task(w, slow), "done seen 1 matched 0 changed 0");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "0 parked(worse)");
    kit_free(w.k);
}

static void tasks_that_meet_a_message_in_the_same_turn_do_it_once(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
    kit_produce_many(w.k, w.p, "-", 600);
    park(w, 600, "bad");
    kit_begin(w.k);
    uint64_t ids[3];
    struct call *calls[3];
    for (int i = 0; i < 3; i++) {
        struct wire_request r = kit_request(w.k, A, VERB_HELD_CHANGE);
        r.seq = ++w.k->seq[A][0];
        r.replies_seen = r.seq - 1;
        r.held_change = (struct wire_held_change){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .act = i == 1 ? TASK_REDRIVE : TASK_DROP};
        calls[i] = kit_call(w.k, r, A);
    }
    kit_end(w.k);
    for (int i = 0; i < 3; i++)
        ids[i] = kit_reply(calls[i])->tasks.tasks[0].id;
    kit_pass(w.k, 1000);
    uint64_t changed = 0;
    for (int i = 0; i < 3; i++)
        changed += list(w, (struct wire_task){.id = ids[i]})->tasks.tasks[0].changed;
    assert_int_equal(changed, 600);
    assert_int_equal(engine_counters(w.k->engine)->dropped_messages + engine_counters(w.k->engine)->redriven_messages, 600);
    assert_int_equal(kit_lag(w.k, "t", "g").parked, 0);
    kit_free(w.k);
}

static void readers_that_cannot_look_now_are_asked_again(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a");
    park(w, 2, "bad");
    w.k->hold_matches = true;
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_DROP, .filter = &of_a});
    kit_pass(w.k, 100);
    assert_int_equal(w.k->matches_n, 1);
    struct match *m = w.k->matches[--w.k->matches_n];
    m->code = E_NO_MEMORY;
    kit_begin(w.k);
    engine_matched(w.k->engine, m);
    kit_end(w.k);
    w.k->hold_matches = false;
    kit_pass(w.k, 5000);
    assert_string_equal(task(w, id), "done seen 2 matched 2 changed 2");
    kit_free(w.k);
}

/* ---------------------------------------------------------------- pace and bounds */

static void a_task_keeps_to_its_rate(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
    kit_produce_many(w.k, w.p, "-", 100);
    park(w, 100, "bad");
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_DROP, .rate_milli = 10000}); /* ten a second */
    kit_pass(w.k, 1000);
    const struct wire_task_row *t = &list(w, (struct wire_task){.id = id})->tasks.tasks[0];
    assert_in_range(t->changed, 9, 11);
    kit_pass(w.k, 4000);
    t = &list(w, (struct wire_task){.id = id})->tasks.tasks[0];
    assert_in_range(t->changed, 49, 51);
    kit_pass(w.k, 10000);
    assert_string_equal(task(w, id), "done seen 100 matched 100 changed 100");
    kit_free(w.k);
}

static void what_readers_found_is_kept_while_the_rate_holds_it_back(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.park = PARK_MESSAGE});
    for (int i = 0; i < 10; i++)
        kit_produce(w.k, w.p, "a");
    for (int i = 0; i < 10; i++)
        park(w, 1, "bad");
    size_t before = w.k->matches_made;
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_DROP, .rate_milli = 1000,
                                                     .filter = &(struct wire_held_filter){.has_key = true, .key = VIEW_LIT("a")}});
    kit_pass(w.k, 4500);
    assert_string_equal(task(w, id), "running seen 5 matched 5 changed 5");
    kit_pass(w.k, 10000);
    assert_string_equal(task(w, id), "done seen 10 matched 10 changed 10");
    assert_int_equal(w.k->matches_made, before + 1);
    kit_free(w.k);
}

static void a_limit_ends_a_task_after_so_many_matched(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
    kit_produce_many(w.k, w.p, "-", 1000);
    park(w, 1000, "bad");
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_DROP, .limit = 700});
    kit_pass(w.k, 1000);
    assert_string_equal(task(w, id), "done seen 700 matched 700 changed 700");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1000 parked 300");
    kit_free(w.k);
}

static void one_turn_looks_at_a_bounded_number_of_rows(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
    kit_produce_many(w.k, w.p, "-", 1000);
    park(w, 1000, "bad");
    w.k->watch = false;
    start(w, (struct wire_held_change){.act = TASK_DROP});
    uint64_t before = 0;
    for (int i = 0; i < 100; i++) {
        kit_pass(w.k, 1);
        uint64_t dropped = engine_counters(w.k->engine)->dropped_messages;
        assert_true(dropped - before <= 2 * 256); /* the deadline of this millisecond and of the next */
        before = dropped;
    }
    assert_int_equal(before, 1000);
    kit_free(w.k);
}

static void many_tasks_share_a_turn_and_all_of_them_end(void **state)
{
    (void)state;
    enum { TASKS = 30 };
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
    kit_produce_many(w.k, w.p, "-", 2000);
    park(w, 2000, "bad");
    w.k->watch = false;
    for (int i = 0; i < TASKS; i++)
        start(w, (struct wire_held_change){.act = TASK_DROP, .dry_run = true});
    uint64_t before = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t seen = 0;
        uint32_t ended = 0;
        const struct wire_task_reply *all = &list(w, (struct wire_task){0})->tasks;
        for (uint32_t t = 0; t < all->tasks_n; t++) {
            seen += all->tasks[t].seen;
            ended += all->tasks[t].state == TASK_DONE;
        }
        assert_true(seen - before <= 3 * 8 * 256); /* what was asked here had a turn of its own */
        before = seen;
        if (ended == TASKS)
            break;
        kit_pass(w.k, 1);
    }
    assert_int_equal(before, TASKS * 2000);
    kit_free(w.k);
}

static void a_task_that_rests_asks_for_no_turns_but_its_own(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b");
    park(w, 2, "bad");
    start(w, (struct wire_held_change){.act = TASK_DROP, .rate_milli = 10}); /* one in a hundred seconds */
    kit_pass(w.k, 10);
    uint64_t turns = engine_counters(w.k->engine)->turns;
    kit_pass(w.k, 90000);
    assert_true(engine_counters(w.k->engine)->turns - turns < 20);
    kit_free(w.k);
}

/* ---------------------------------------------------------------- life of a task */

static void a_task_goes_on_where_it_was_after_a_restart(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
    kit_produce_many(w.k, w.p, "-", 20);
    park(w, 20, "bad");
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_DROP, .rate_milli = 1000, .limit = 15,
                                                     .filter = &(struct wire_held_filter){.reason = VIEW_LIT("bad")}});
    for (int i = 0; i < 10; i++) {
        kit_pass(w.k, 2000);
        kit_restart(w.k);
    }
    kit_pass(w.k, 2000);
    assert_string_equal(task(w, id), "done seen 15 matched 15 changed 15");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 20 parked 5");
    kit_free(w.k);
}

static void questions_to_readers_are_asked_again_after_a_restart(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b");
    park(w, 2, "bad");
    w.k->hold_matches = true;
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_DROP, .filter = &of_b});
    kit_pass(w.k, 10);
    kit_restart(w.k);
    w.k->hold_matches = false;
    kit_pass(w.k, 10);
    assert_string_equal(task(w, id), "done seen 2 matched 1 changed 1");
    kit_free(w.k);
}

static void a_cancelled_task_stops_where_it_is(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
    kit_produce_many(w.k, w.p, "-", 10);
    park(w, 10, "bad");
    uint64_t id = start(w, (struct wire_held_change){.act = TASK_DROP, .rate_milli = 1000});
    kit_pass(w.k, 2500);
    assert_int_equal(cancel(w, id), E_OK);
    kit_pass(w.k, 60000);
    kit_restart(w.k);
    kit_pass(w.k, 60000);
    assert_string_equal(task(w, id), "cancelled seen 3 matched 3 changed 3");
    assert_int_equal(cancel(w, id), E_OK); /* it has ended: nothing to do */
    assert_string_equal(task(w, id), "cancelled seen 3 matched 3 changed 3");
    assert_int_equal(cancel(w, id + 1), E_TASK_NOT_FOUND);
    assert_string_equal(task(w, id + 1), "TASK_NOT_FOUND");
    kit_free(w.k);
}

static void only_so_many_run_at_once_and_only_so_many_that_ended_are_kept(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    w.k->limits.tasks_max = 2;
    w.k->limits.tasks_kept_max = 3;
    kit_produce(w.k, w.p, "a b");
    park(w, 2, "bad");
    const struct wire_held_change slow = {.act = TASK_DROP, .rate_milli = 1};
    uint64_t first = start(w, slow), second = start(w, slow);
    assert_int_equal(change(w, slow)->code, E_OVERLOADED);
    cancel(w, second);
    for (int i = 0; i < 5; i++) {
        start(w, (struct wire_held_change){.act = TASK_DROP, .dry_run = true});
        kit_pass(w.k, 100);
    }
    const struct wire_reply *all = list(w, (struct wire_task){0});
    assert_int_equal(all->tasks.tasks_n, 4);
    assert_int_equal(all->tasks.tasks[0].id, first);
    assert_int_equal(all->tasks.tasks[1].id, second + 3);
    kit_restart(w.k);
    all = list(w, (struct wire_task){.limit = 2, .after = first});
    assert_int_equal(all->tasks.tasks_n, 2);
    assert_int_equal(all->tasks.tasks[0].id, second + 3);
    assert_true(all->tasks.more);
    kit_free(w.k);
}

static void a_deleted_group_takes_its_tasks_along(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b");
    park(w, 2, "bad");
    uint32_t other = kit_group(w.k, "t", "other", NULL);
    (void)other;
    w.k->hold_matches = true;
    start(w, (struct wire_held_change){.act = TASK_DROP, .rate_milli = 1});
    start(w, (struct wire_held_change){.act = TASK_DROP, .filter = &of_b});
    kit_pass(w.k, 10);
    kit_delete_group(w.k, "t", "g");
    w.k->hold_matches = false;
    kit_pass(w.k, 10000);
    assert_int_equal(list(w, (struct wire_task){0})->tasks.tasks_n, 0);
    kit_restart(w.k);
    assert_int_equal(list(w, (struct wire_task){0})->tasks.tasks_n, 0);
    struct store_iter *it = store_iter(w.k->store, FAM_GROUPS);
    struct key tasks = key_meta_prefix('k');
    store_iter_seek(it, key_view(&tasks));
    assert_false(store_iter_valid(it) && key_has_prefix(store_iter_key(it), &tasks));
    store_iter_close(it);
    assert_int_equal(change(w, (struct wire_held_change){.act = TASK_DROP})->code, E_GROUP_NOT_FOUND);
    kit_free(w.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_repeat_of_the_request_that_began_a_task_is_answered_with_that_task),
        cmocka_unit_test(a_drop_leaves_nothing_parked_and_touches_nothing_else),
        cmocka_unit_test(dropping_what_blocks_a_key_lets_the_key_go_on),
        cmocka_unit_test(what_is_parked_after_a_task_began_is_not_meant),
        cmocka_unit_test(a_dry_run_counts_and_changes_nothing),
        cmocka_unit_test(redriven_messages_come_in_their_old_order_with_their_counts_at_nothing),
        cmocka_unit_test(what_a_task_redrove_and_fails_again_stays_parked),
        cmocka_unit_test(a_redrive_rests_while_a_thousand_redriven_messages_are_not_done),
        cmocka_unit_test(redriving_what_blocks_a_key_brings_it_before_the_rest_of_the_key),
        cmocka_unit_test(each_condition_of_a_filter_holds_alone_and_together),
        cmocka_unit_test(a_key_is_compared_by_its_bytes_and_by_readers),
        cmocka_unit_test(what_was_dropped_while_readers_looked_is_not_dropped_again),
        cmocka_unit_test(what_was_parked_again_while_readers_looked_stays_parked),
        cmocka_unit_test(tasks_that_meet_a_message_in_the_same_turn_do_it_once),
        cmocka_unit_test(readers_that_cannot_look_now_are_asked_again),
        cmocka_unit_test(a_task_keeps_to_its_rate),
        cmocka_unit_test(what_readers_found_is_kept_while_the_rate_holds_it_back),
        cmocka_unit_test(a_limit_ends_a_task_after_so_many_matched),
        cmocka_unit_test(one_turn_looks_at_a_bounded_number_of_rows),
        cmocka_unit_test(many_tasks_share_a_turn_and_all_of_them_end),
        cmocka_unit_test(a_task_that_rests_asks_for_no_turns_but_its_own),
        cmocka_unit_test(a_task_goes_on_where_it_was_after_a_restart),
        cmocka_unit_test(questions_to_readers_are_asked_again_after_a_restart),
        cmocka_unit_test(a_cancelled_task_stops_where_it_is),
        cmocka_unit_test(only_so_many_run_at_once_and_only_so_many_that_ended_are_kept),
        cmocka_unit_test(a_deleted_group_takes_its_tasks_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Replays: which messages are present again, in which order, and what they leave alone. */
#include "engine_kit.h"

struct world { struct kit *k; uint32_t p, g; };

static struct world begin(struct wire_group_config config)
{
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 1);
    return (struct world){k, p, kit_group(k, "t", "g", &config)};
}

static const struct wire_reply *ask(struct kit *k, const char *group, struct wire_held_change change)
{
    struct wire_request r = kit_request(k, A, VERB_HELD_CHANGE);
    r.held_change = change;
    r.held_change.act = TASK_REPLAY;
    if (change.source == 0)
        r.held_change.source = REPLAY_LOG;
    r.held_change.topic = VIEW_LIT("t");
    r.held_change.group = view_of_str(group);
    return kit_ask_numbered(k, r, A);
}

static uint64_t replay(struct kit *k, const char *group, struct wire_held_change change)
{
    const struct wire_reply *reply = ask(k, group, change);
    assert_int_equal(reply->code, E_OK);
    assert_int_equal(reply->tasks.tasks_n, 1);
    assert_int_equal(reply->tasks.tasks[0].act, TASK_REPLAY);
    return reply->tasks.tasks[0].id;
}

/* "done seen 3 matched 2 changed 2", and "left 1" and "lost 1" where there are any. */
static const char *task(struct kit *k, uint64_t id)
{
    static const char *const states[] = {"", "running", "done", "cancelled", "failed"};
    static char texts[8][160];
    static unsigned turn;
    struct wire_request r = kit_request(k, A, VERB_TASK_LIST);
    r.task.id = id;
    const struct wire_reply *reply = kit_ask(k, r, A);
    char *text = texts[turn++ % 8];
    if (reply->code != E_OK)
        return error_name(reply->code);
    const struct wire_task_row *t = &reply->tasks.tasks[0];
    int n = snprintf(text, sizeof texts[0], "%s seen %llu matched %llu changed %llu", states[t->state], (unsigned long long)t->seen,
                     (unsigned long long)t->matched, (unsigned long long)t->changed);
    if (t->left > 0)
        n += snprintf(text + n, sizeof texts[0] - (size_t)n, " left %llu", (unsigned long long)t->left);
    if (t->lost > 0)
        snprintf(text + n, sizeof texts[0] - (size_t)n, " lost %llu", (unsigned long long)t->lost);
    return text;
}

/* Receives, one after another, all that there is, as "0 2 3", and acknowledges it. */
static const char *drain(struct kit *k, uint32_t group)
{
    static char all[8][65536];
    static unsigned turn;
    char *text = all[turn++ % 8];
    size_t n = 0;
    text[0] = '\0';
    for (;;) {
        const struct call *c = kit_receive_wait(k, A, 0, group, 1, 60);
        kit_pass(k, 60);
        const char *got = kit_deliveries(k, &kit_reply(c)->receive);
        if (got[0] == '\0')
            return text;
        assert_string_equal(kit_ack(k, A, group, got), "");
        n += (size_t)snprintf(text + n, sizeof all[0] - n, "%s%s", n > 0 ? " " : "", got);
    }
}

static void park(struct kit *k, uint32_t group, const char *message)
{
    assert_string_equal(kit_receive(k, A, group, 1), message);
    assert_string_equal(kit_settle(k, A, group, SETTLE_PARK, message), "");
}

static const struct wire_held_filter of_a = {.has_key = true, .key = {(const uint8_t *)"a", 1}};

/* ---------------------------------------------------------------- the set */

static void a_replay_of_one_key_brings_its_messages_again_in_order_and_no_others(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b a c a b a");
    drain(w.k, w.g);
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 7");
    strcpy(w.k->logs[w.p].records[4].key, "aa"); /* another key of the same hash */
    uint64_t id = replay(w.k, "g", (struct wire_held_change){.filter = &of_a});
    assert_string_equal(drain(w.k, w.g), "0 2 6");
    assert_string_equal(task(w.k, id), "done seen 7 matched 3 changed 3");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 7");
    assert_int_equal(engine_counters(w.k->engine)->replayed_messages, 3);
    kit_free(w.k);
}

static void a_replay_of_offsets_brings_those_of_the_range_in_each_partition_asked_for(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    uint32_t p = kit_topic(k, "t", 3), g = kit_group(k, "t", "g", &(struct wire_group_config){.order = ORDER_NONE});
    for (uint32_t i = 0; i < 3; i++)
        kit_produce(k, p + i, "- - - - -");
    assert_int_equal(strlen(drain(k, g)), 5 * 2 + 10 * 4 - 1);
    uint64_t id = replay(k, "g", (struct wire_held_change){.from_offset = 1, .to_offset = 3});
    assert_string_equal(drain(k, g), "1 2 1/1 1/2 2/1 2/2");
    assert_string_equal(task(k, id), "done seen 6 matched 6 changed 6");
    id = replay(k, "g", (struct wire_held_change){.from_offset = 3, .has_partition = true, .partition = p + 1});
    assert_string_equal(drain(k, g), "1/3 1/4");
    assert_string_equal(task(k, id), "done seen 2 matched 2 changed 2");
    id = replay(k, "g", (struct wire_held_change){.filter = &(struct wire_held_filter){.has_offset = true, .partition = p + 2, .offset = 4}});
    assert_string_equal(drain(k, g), "2/4");
    kit_free(k);
}

static void a_replay_of_a_time_brings_what_was_appended_in_it(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b");
    kit_pass(w.k, 10000);
    uint64_t from = w.k->now.wall_ms;
    kit_produce(w.k, w.p, "a b a");
    kit_pass(w.k, 10000);
    uint64_t to = w.k->now.wall_ms;
    kit_produce(w.k, w.p, "a");
    drain(w.k, w.g);
    replay(w.k, "g", (struct wire_held_change){.from_ms = from, .to_ms = to});
    assert_string_equal(drain(w.k, w.g), "2 3 4");
    replay(w.k, "g", (struct wire_held_change){.from_ms = to});
    assert_string_equal(drain(w.k, w.g), "5");
    replay(w.k, "g", (struct wire_held_change){.to_ms = from, .filter = &of_a});
    assert_string_equal(drain(w.k, w.g), "0");
    kit_free(w.k);
}

static void a_replay_of_what_is_parked_brings_that_and_nothing_that_was_done(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a b a");
    park(w.k, w.g, "0");
    kit_ack(w.k, A, w.g, kit_receive(w.k, A, w.g, 1));
    park(w.k, w.g, "3"); /* the next of a key that went on goes first */
    park(w.k, w.g, "2");
    uint64_t id = replay(w.k, "g", (struct wire_held_change){.source = REPLAY_PARKED, .filter = &of_a, .to_offset = 3});
    kit_pass(w.k, 100);
    assert_string_equal(task(w.k, id), "done seen 3 matched 1 changed 1");
    id = replay(w.k, "g", (struct wire_held_change){.source = REPLAY_PARKED});
    kit_pass(w.k, 100);
    assert_string_equal(task(w.k, id), "done seen 2 matched 2 changed 2");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_PARKED), "");
    assert_string_equal(drain(w.k, w.g), "0 2 3");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 4");
    kit_free(w.k);
}

static void what_is_parked_comes_again_by_a_replay_of_the_log_too(void **state)
{
    (void)state;
    for (int park_as = PARK_MESSAGE; park_as <= PARK_KEY; park_as++) {
        struct world w = begin((struct wire_group_config){.park = (uint8_t)park_as});
        kit_produce(w.k, w.p, "b a a");
        kit_ack(w.k, A, w.g, kit_receive(w.k, A, w.g, 1));
        park(w.k, w.g, "1");
        kit_restart(w.k);
        uint64_t id = replay(w.k, "g", (struct wire_held_change){.from_offset = 0, .to_offset = 2});
        kit_pass(w.k, 100);
        assert_string_equal(task(w.k, id), "done seen 2 matched 2 changed 2");
        assert_string_equal(kit_held(w.k, "t", "g", HELD_PARKED), "");
        assert_string_equal(drain(w.k, w.g), "0 1 2");
        assert_string_equal(kit_where(w.k, "t", "g"), "floor 3");
        kit_free(w.k);
    }
}

static void what_failed_in_one_group_can_be_replayed_in_another(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    uint32_t other = kit_group(w.k, "t", "other", NULL);
    kit_produce(w.k, w.p, "a b c d");
    drain(w.k, other);
    uint64_t then = w.k->now.wall_ms;
    park(w.k, w.g, "0");
    kit_receive(w.k, A, w.g, 2);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "1", 60000);
    kit_settle(w.k, A, w.g, SETTLE_RELEASE, "2"); /* it did not fail */
    replay(w.k, "other", (struct wire_held_change){.source = REPLAY_PARKED, .of = VIEW_LIT("g")});
    assert_string_equal(drain(w.k, other), "0");
    replay(w.k, "other", (struct wire_held_change){.source = REPLAY_FAILED, .of = VIEW_LIT("g")});
    assert_string_equal(drain(w.k, other), "0 1");
    replay(w.k, "other", (struct wire_held_change){.source = REPLAY_FAILED, .of = VIEW_LIT("g"), .from_ms = then + 1});
    assert_string_equal(drain(w.k, other), ""); /* appended before */
    assert_string_equal(kit_held(w.k, "t", "g", HELD_PARKED), "0 parked(parked)");
    kit_free(w.k);
}

/* ---------------------------------------------------------------- what it leaves alone */

static void what_is_present_is_left_as_it_is_and_counted(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c d d e");
    kit_ack(w.k, A, w.g, kit_receive(w.k, A, w.g, 1));
    assert_string_equal(kit_receive(w.k, A, w.g, 3), "1 2 3");
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "2", 5000);
    uint64_t id = replay(w.k, "g", (struct wire_held_change){0});
    kit_pass(w.k, 100);
    assert_string_equal(task(w.k, id), "done seen 6 matched 1 changed 1 left 5");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 leased 2 ready 2 retrying 1 behind 1 redriven 1");
    id = replay(w.k, "g", (struct wire_held_change){0}); /* what it brought is present, too */
    kit_pass(w.k, 100);
    assert_string_equal(task(w.k, id), "done seen 6 matched 0 changed 0 left 6");
    kit_ack(w.k, A, w.g, "1 3");
    kit_pass(w.k, 5000);
    assert_string_equal(drain(w.k, w.g), "0 4 2 5");
    kit_free(w.k);
}

static void what_is_replayed_waits_while_another_of_its_key_is_leased(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a a a a");
    for (int i = 0; i < 3; i++)
        kit_ack(w.k, A, w.g, kit_receive(w.k, A, w.g, 1));
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "3");
    replay(w.k, "g", (struct wire_held_change){.filter = &of_a});
    kit_pass(w.k, 1000);
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "");
    kit_restart(w.k);
    assert_string_equal(kit_receive(w.k, B, w.g, 10), "");
    kit_ack(w.k, A, w.g, "3");
    assert_string_equal(drain(w.k, w.g), "0 1 2 4");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 5");
    kit_free(w.k);
}

static void a_replay_ends_where_the_group_was_when_it_began(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c");
    drain(w.k, w.g);
    w.k->hold_loads = true;
    kit_produce(w.k, w.p, "d e"); /* nobody has looked at them yet */
    uint64_t id = replay(w.k, "g", (struct wire_held_change){.rate_milli = 1000});
    w.k->hold_loads = false;
    kit_produce(w.k, w.p, "f");
    for (int i = 0; i < 10; i++) { /* they are done before the replay could come to them */
        kit_ack(w.k, A, w.g, kit_receive(w.k, A, w.g, 5));
        kit_pass(w.k, 1000);
        if (i == 1)
            kit_restart(w.k);
    }
    assert_string_equal(task(w.k, id), "done seen 3 matched 3 changed 3");
    assert_string_equal(drain(w.k, w.g), "");
    kit_free(w.k);
}

static void a_replayed_message_that_fails_is_tried_and_parked_like_any_other(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.max_deliveries = 2});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 0);
    kit_ack(w.k, A, w.g, kit_receive(w.k, A, w.g, 1));
    replay(w.k, "g", (struct wire_held_change){0});
    kit_pass(w.k, 100);
    for (int i = 0; i < 2; i++) {
        const struct call *c = kit_receive_wait(w.k, A, 0, w.g, 1, 1000);
        assert_int_equal(kit_record(kit_reply(c), 0)->failures, i); /* its counts begin anew */
        kit_deliveries(w.k, &kit_reply(c)->receive);
        kit_settle_delay(w.k, A, w.g, SETTLE_NACK, "0", 0);
    }
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1 parked 1");
    kit_free(w.k);
}

/* ---------------------------------------------------------------- pace, place, count */

static void a_dry_run_says_what_a_replay_then_does_and_changes_nothing(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b a c a");
    park(w.k, w.g, "0");
    kit_ack(w.k, A, w.g, kit_receive(w.k, A, w.g, 2));
    kit_receive(w.k, A, w.g, 1);
    const char *before = kit_where(w.k, "t", "g");
    uint64_t id = replay(w.k, "g", (struct wire_held_change){.filter = &of_a, .dry_run = true});
    kit_pass(w.k, 100);
    assert_string_equal(task(w.k, id), "done seen 5 matched 2 changed 0 left 1");
    assert_string_equal(kit_where(w.k, "t", "g"), before);
    id = replay(w.k, "g", (struct wire_held_change){.filter = &of_a});
    kit_pass(w.k, 100);
    assert_string_equal(task(w.k, id), "done seen 5 matched 2 changed 2 left 1");
    kit_free(w.k);
}

static void a_replay_goes_on_after_a_restart_and_brings_each_message_once(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
    kit_produce_many(w.k, w.p, "-", 20);
    drain(w.k, w.g);
    uint64_t id = replay(w.k, "g", (struct wire_held_change){.rate_milli = 2000, .limit = 15, .from_offset = 2});
    char all[1000] = "";
    for (int i = 0; i < 12; i++) {
        kit_pass(w.k, 1000);
        const char *got = kit_receive(w.k, A, w.g, 20);
        kit_ack(w.k, A, w.g, got);
        strcat(strcat(all, got), got[0] != '\0' ? " " : "");
        kit_restart(w.k);
    }
    assert_string_equal(all, "2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 ");
    assert_string_equal(task(w.k, id), "done seen 15 matched 15 changed 15");
    kit_free(w.k);
}

static void a_replay_rests_while_a_thousand_of_its_messages_are_not_done(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
    w.k->watch = false;
    kit_produce_many(w.k, w.p, "-", 1500);
    for (int i = 0; i < 30; i++) {
        kit_ack(w.k, A, w.g, kit_receive(w.k, A, w.g, 100));
        kit_pass(w.k, 60);
    }
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1500");
    uint64_t id = replay(w.k, "g", (struct wire_held_change){0});
    kit_pass(w.k, 60000);
    assert_string_equal(task(w.k, id), "running seen 1000 matched 1000 changed 1000");
    for (int i = 0; i < 30; i++) {
        kit_ack(w.k, A, w.g, kit_receive(w.k, A, w.g, 100));
        kit_pass(w.k, 200);
    }
    assert_string_equal(task(w.k, id), "done seen 1500 matched 1500 changed 1500");
    assert_string_equal(kit_where(w.k, "t", "g"), "floor 1500");
    kit_free(w.k);
}

static uint64_t brought_by(struct kit *k, uint64_t id)
{
    struct wire_request r = kit_request(k, A, VERB_TASK_LIST);
    r.task.id = id;
    return kit_ask(k, r, A)->tasks.tasks[0].changed;
}

/* Receives and acknowledges; how many it were. */
static unsigned some(struct kit *k, uint32_t group, uint32_t most)
{
    const char *got = kit_receive(k, A, group, most);
    unsigned n = got[0] != '\0';
    for (const char *c = got; *c != '\0'; c++)
        n += *c == ' ';
    assert_string_equal(kit_ack(k, A, group, got), "");
    return n;
}

/* Whatever the receivers take at once, and how often, and whoever began first. */
static void tasks_of_a_group_share_its_bound_and_none_waits_for_the_end_of_another(void **state)
{
    (void)state;
    enum { TASKS = 4, EACH = 1000, BOUND = 1000 };
    static const struct { uint32_t messages, ms; } paces[] = {{100, 1}, {10, 1}, {100, 10}, {100, 7}, {400, 50}, {3, 1}};
    for (size_t i = 0; i < ARRAY_LEN(paces); i++) {
        struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
        uint64_t ids[TASKS], settled = 0;
        w.k->watch = false;
        kit_produce_many(w.k, w.p, "-", TASKS * EACH);
        for (int left = EACH; left > 0; left -= 250)
            kit_settle(w.k, A, w.g, SETTLE_PARK, kit_receive(w.k, A, w.g, 250));
        kit_control(w.k, "t", "g", GROUP_PURGE);
        for (uint32_t t = 0; t < TASKS; t++) { /* the first has all there is before the others begin; the last goes over dead letters */
            uint64_t from = (t + 1) % TASKS * EACH;
            ids[t] = replay(w.k, "g", (struct wire_held_change){.source = from == 0 ? REPLAY_PARKED : REPLAY_LOG, .from_offset = from,
                                                                .to_offset = from + EACH});
            kit_pass(w.k, t == 0 ? 100 : 0);
        }
        for (uint64_t all = 0; settled < TASKS * EACH; all = 0) {
            bool half = settled < TASKS * EACH / 2;
            settled += some(w.k, w.g, paces[i].messages);
            kit_pass(w.k, paces[i].ms);
            for (int t = 0; t < TASKS; t++) {
                uint64_t n = brought_by(w.k, ids[t]);
                if (half && settled >= TASKS * EACH / 2)
                    assert_in_range(n, EACH / 6, EACH);
                all += n;
            }
            assert_in_range(all - settled, 0, BOUND);
        }
        for (int t = 0; t < TASKS; t++)
            assert_string_equal(task(w.k, ids[t]), "done seen 1000 matched 1000 changed 1000");
        kit_free(w.k);
    }
}

static void what_the_log_has_no_more_is_counted_as_lost(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c d e f");
    drain(w.k, w.g);
    w.k->watch = false; /* what follows is not in a row */
    w.k->logs[w.p].records[4].gone = true;
    ((struct partition *)table_get(&w.k->engine->partitions, w.p))->row.start = 3;
    uint64_t id = replay(w.k, "g", (struct wire_held_change){.has_from = true, .from_offset = 1});
    assert_string_equal(drain(w.k, w.g), "3 5");
    assert_string_equal(task(w.k, id), "done seen 2 matched 2 changed 2 lost 3");
    id = replay(w.k, "g", (struct wire_held_change){0}); /* from wherever it begins */
    kit_pass(w.k, 100);
    assert_string_equal(task(w.k, id), "done seen 2 matched 2 changed 2 lost 1");
    kit_free(w.k);
}

static void retention_takes_nothing_that_was_replayed_while_it_looked(void **state)
{
    (void)state;
    enum { HOUR = 3600000 };
    struct kit *k = kit_new();
    k->limits.retention_interval_ms = 100;
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 1, .retention_ms = HOUR});
    uint32_t g = kit_group(k, "t", "g", &(struct wire_group_config){.order = ORDER_NONE});
    for (int i = 0; i < 4; i++)
        kit_produce(k, p, "-");
    kit_ack(k, A, g, kit_receive(k, A, g, 3)); /* the last is not done: so retention looks twice */
    k->hold_cuts = true;
    kit_pass(k, 2 * HOUR);
    kit_begin(k); /* the first answer comes, and the second question goes out */
    kit_end(k);
    k->hold_cuts = false;
    kit_begin(k);
    kit_end(k);
    k->hold_cuts = true;
    assert_int_equal(k->cuts_n, 1);
    uint64_t id = replay(k, "g", (struct wire_held_change){.from_offset = 1, .to_offset = 2});
    kit_pass(k, 1000);
    assert_string_equal(task(k, id), "done seen 1 matched 1 changed 1");
    k->hold_cuts = false;
    kit_pass(k, 2 * HOUR);
    kit_pass(k, 1000);
    assert_int_equal(((struct partition *)table_get(&k->engine->partitions, p))->row.start, 3); /* 1 is copied */
    assert_string_equal(drain(k, g), "1 3");
    kit_pass(k, 2 * HOUR);
    assert_int_equal(((struct partition *)table_get(&k->engine->partitions, p))->row.start, 4);
    kit_free(k);
}

static uint32_t group_id(struct kit *k, const char *name)
{
    const struct topic *t = topic_find(k->engine, VIEW_LIT("t"));
    for (size_t i = 0; i < t->groups_n; i++)
        if (strcmp(t->groups[i]->name, name) == 0) {
            k->group_topic_first[t->groups[i]->id] = t->partitions[0]->id;
            return t->groups[i]->id;
        }
    return 0;
}

static uint64_t copies_of(struct kit *k, uint32_t group)
{
    struct key prefix = key_copy_prefix(group);
    struct store_iter *it = store_iter(k->store, FAM_SCHED);
    uint64_t n = 0;
    for (store_iter_seek(it, key_view(&prefix)); store_iter_valid(it) && key_has_prefix(store_iter_key(it), &prefix); store_iter_next(it))
        n++;
    store_iter_close(it);
    return n;
}

/* Dead letters 0, 1 and 4 of g, of which the log has no more than 4; all others are done in g and other. */
static struct world begin_old(void)
{
    enum { HOUR = 3600000 };
    struct kit *k = kit_new();
    k->limits.retention_interval_ms = 100;
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.partitions = 1, .retention_ms = HOUR});
    uint32_t g = kit_group(k, "t", "g", NULL), other = kit_group(k, "t", "other", NULL);
    for (int i = 0; i < 2; i++) {
        kit_produce(k, p, i == 0 ? "a b a b" : "a b");
        drain(k, other);
        kit_receive(k, A, g, 10);
        kit_settle(k, A, g, SETTLE_PARK, i == 0 ? "0 1" : "4");
        kit_ack(k, A, g, i == 0 ? "" : "5");
        drain(k, g);
        kit_pass(k, HOUR - 60000 * i);
    }
    kit_pass(k, 1000);
    assert_int_equal(((struct partition *)table_get(&k->engine->partitions, p))->row.start, 4);
    assert_int_equal(copies_of(k, g), 2);
    assert_string_equal(kit_held(k, "t", "g", HELD_PARKED), "0 parked(parked) 1 parked(parked) 4 parked(parked)");
    return (struct world){k, p, other};
}

static void what_only_another_group_has_a_copy_of_is_replayed_with_a_copy_of_its_own(void **state)
{
    (void)state;
    struct world w = begin_old();
    uint64_t id = replay(w.k, "other", (struct wire_held_change){.source = REPLAY_PARKED, .of = VIEW_LIT("g"), .filter = &of_a});
    kit_pass(w.k, 100);
    assert_string_equal(task(w.k, id), "done seen 3 matched 2 changed 2");
    assert_int_equal(copies_of(w.k, w.g), 1);
    kit_restart(w.k);
    assert_string_equal(drain(w.k, w.g), "0 4");
    assert_int_equal(copies_of(w.k, w.g), 0);
    id = replay(w.k, "g", (struct wire_held_change){.source = REPLAY_PARKED, .into = VIEW_LIT("again"), .dry_run = true});
    kit_pass(w.k, 100);
    assert_string_equal(task(w.k, id), "done seen 3 matched 3 changed 0");
    id = replay(w.k, "g", (struct wire_held_change){.source = REPLAY_PARKED, .into = VIEW_LIT("again"), .to_ms = w.k->now.wall_ms});
    assert_string_equal(drain(w.k, group_id(w.k, "again")), "0 1 4");
    assert_string_equal(task(w.k, id), "done seen 3 matched 3 changed 3");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_PARKED), "0 parked(parked) 1 parked(parked) 4 parked(parked)");
    kit_free(w.k);
}

static void copies_that_do_not_go_at_once_are_asked_for_again(void **state)
{
    (void)state;
    struct world w = begin_old();
    w.k->match_bytes_max = 1;
    w.k->matches_made = 0;
    uint64_t id = replay(w.k, "other", (struct wire_held_change){.source = REPLAY_PARKED, .of = VIEW_LIT("g")});
    kit_pass(w.k, 100);
    assert_int_equal(w.k->matches_made, 2);
    assert_string_equal(task(w.k, id), "done seen 3 matched 3 changed 3");
    assert_int_equal(copies_of(w.k, w.g), 2);
    assert_string_equal(drain(w.k, w.g), "0 1 4");
    kit_free(w.k);
}

static void what_goes_from_the_log_while_a_replay_asks_is_brought_from_its_copy(void **state)
{
    (void)state;
    struct world w = begin_old();
    uint64_t from = w.k->now.wall_ms - 3600000;
    w.k->hold_matches = true;
    uint64_t id = replay(w.k, "other", (struct wire_held_change){.source = REPLAY_PARKED, .of = VIEW_LIT("g"), .from_ms = from});
    kit_pass(w.k, 7200000); /* 4 was in the log when it was asked for, and is not any more */
    assert_int_equal(((struct partition *)table_get(&w.k->engine->partitions, w.p))->row.start, 6);
    w.k->hold_matches = false;
    kit_pass(w.k, 1);
    kit_pass(w.k, 100); /* it has asked again */
    assert_string_equal(task(w.k, id), "done seen 3 matched 1 changed 1");
    assert_string_equal(drain(w.k, w.g), "4");
    kit_free(w.k);
}

static void a_copy_that_is_gone_is_counted_as_lost(void **state)
{
    (void)state;
    struct world w = begin_old();
    struct key k = key_copy(w.g - 1, w.p, 1);
    struct puts puts;
    struct err e = {0};
    puts_init(&puts);
    puts_remove(&puts, FAM_SCHED, key_view(&k));
    assert_int_equal(store_write(w.k->store, &puts, &e), E_OK);
    puts_free(&puts);
    uint64_t id = replay(w.k, "other", (struct wire_held_change){.source = REPLAY_PARKED, .of = VIEW_LIT("g")});
    kit_pass(w.k, 100);
    assert_string_equal(task(w.k, id), "done seen 3 matched 2 changed 2 lost 1");
    assert_string_equal(drain(w.k, w.g), "0 4");
    kit_free(w.k);
}

static void a_cancelled_replay_brings_nothing_more(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c d");
    drain(w.k, w.g);
    uint64_t id = replay(w.k, "g", (struct wire_held_change){.rate_milli = 1000});
    kit_pass(w.k, 1500);
    struct wire_request r = kit_request(w.k, A, VERB_TASK_CANCEL);
    r.task.id = id;
    assert_int_equal(kit_ask_numbered(w.k, r, A)->code, E_OK);
    kit_pass(w.k, 10000);
    assert_string_equal(task(w.k, id), "cancelled seen 2 matched 2 changed 2");
    assert_string_equal(drain(w.k, w.g), "0 1");
    kit_free(w.k);
}

/* ---------------------------------------------------------------- into a new group */

static void a_new_group_gets_what_is_replayed_into_it_and_nothing_else(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.max_deliveries = 3});
    kit_produce(w.k, w.p, "a b a c");
    uint64_t id = replay(w.k, "g", (struct wire_held_change){.filter = &of_a, .into = VIEW_LIT("again")});
    uint32_t again = group_id(w.k, "again");
    kit_produce(w.k, w.p, "a d");
    kit_restart(w.k);
    assert_string_equal(drain(w.k, again), "0 2");
    kit_produce(w.k, w.p, "a");
    kit_pass(w.k, 1000);
    assert_string_equal(drain(w.k, again), "");
    assert_string_equal(task(w.k, id), "done seen 4 matched 2 changed 2");
    assert_string_equal(kit_where(w.k, "t", "again"), "floor 7"); /* it keeps nothing of the log */
    assert_int_equal(topic_find(w.k->engine, VIEW_LIT("t"))->groups[0]->config.max_deliveries, 3);
    replay(w.k, "again", (struct wire_held_change){.filter = &of_a, .from_offset = 3});
    assert_string_equal(drain(w.k, again), "4 6");
    assert_string_equal(drain(w.k, w.g), "0 2 4 6 1 3 5"); /* the other was not disturbed */
    kit_free(w.k);
}

static void a_new_group_that_goes_on_gets_new_messages_behind_those_of_the_replay(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b a");
    uint64_t id = replay(w.k, "g", (struct wire_held_change){.into = VIEW_LIT("again"), .follow = true, .rate_milli = 1000});
    uint32_t again = group_id(w.k, "again");
    kit_produce(w.k, w.p, "a c");
    assert_string_equal(kit_receive(w.k, A, again, 10), "0");
    kit_ack(w.k, A, again, "0");
    kit_restart(w.k);
    assert_string_equal(kit_receive(w.k, A, again, 10), ""); /* 2 is not there yet: 3 waits for it */
    kit_pass(w.k, 10000);
    assert_string_equal(task(w.k, id), "done seen 3 matched 3 changed 3");
    assert_string_equal(drain(w.k, again), "1 2 3 4");
    kit_produce(w.k, w.p, "a");
    assert_string_equal(drain(w.k, again), "5");
    kit_free(w.k);
}

static void a_new_group_of_what_is_parked_gets_that(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b c");
    park(w.k, w.g, "0");
    park(w.k, w.g, "1");
    uint64_t id = replay(w.k, "g", (struct wire_held_change){.source = REPLAY_PARKED, .into = VIEW_LIT("again"), .dry_run = true});
    kit_pass(w.k, 100);
    assert_string_equal(task(w.k, id), "done seen 2 matched 2 changed 0");
    assert_int_equal(group_id(w.k, "again"), 0);
    id = replay(w.k, "g", (struct wire_held_change){.source = REPLAY_PARKED, .into = VIEW_LIT("again")});
    uint32_t again = group_id(w.k, "again");
    assert_string_equal(drain(w.k, again), "0 1");
    assert_string_equal(task(w.k, id), "done seen 2 matched 2 changed 2");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_PARKED), "0 parked(parked) 1 parked(parked)");
    kit_free(w.k);
}

static void what_cannot_be_replayed_is_refused_and_makes_nothing(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    uint32_t other = kit_topic(w.k, "u", 1);
    assert_int_equal(ask(w.k, "no", (struct wire_held_change){0})->code, E_GROUP_NOT_FOUND);
    assert_int_equal(ask(w.k, "g", (struct wire_held_change){.of = VIEW_LIT("no"), .into = VIEW_LIT("x")})->code, E_GROUP_NOT_FOUND);
    assert_int_equal(ask(w.k, "g", (struct wire_held_change){.into = VIEW_LIT("g")})->code, E_EXISTS);
    assert_int_equal(ask(w.k, "g", (struct wire_held_change){.has_partition = true, .partition = other, .into = VIEW_LIT("x")})->code,
                     E_PARTITION_NOT_FOUND);
    kit_group(w.k, "t", "s", &(struct wire_group_config){.mode = MODE_STREAM});
    const struct wire_reply *r = ask(w.k, "g", (struct wire_held_change){.of = VIEW_LIT("s"), .into = VIEW_LIT("x")});
    assert_int_equal(r->code, E_WRONG_MODE);
    assert_has((const char *)r->detail.data, "a replay is for groups of mode queue");
    w.k->limits.groups_max = 2;
    assert_int_equal(ask(w.k, "g", (struct wire_held_change){.into = VIEW_LIT("x")})->code, E_LIMIT);
    assert_int_equal(group_id(w.k, "x"), 0);
    assert_string_equal(task(w.k, 1), "TASK_NOT_FOUND");
    kit_free(w.k);
}

static void who_seeks_in_a_queue_group_is_told_of_replay(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){0});
    struct wire_request r = kit_request(w.k, A, VERB_GROUP_SEEK);
    r.seek.topic = VIEW_LIT("t");
    r.seek.group = VIEW_LIT("g");
    const struct wire_reply *reply = kit_ask_numbered(w.k, r, A);
    assert_int_equal(reply->code, E_WRONG_MODE);
    assert_has((const char *)reply->detail.data, "sluice group replay");
    kit_free(w.k);
}

static void a_replay_of_a_group_that_goes_fails_and_says_so(void **state)
{
    (void)state;
    struct world w = begin((struct wire_group_config){.order = ORDER_NONE});
    kit_produce(w.k, w.p, "- - -");
    for (int i = 0; i < 3; i++)
        kit_settle(w.k, A, w.g, SETTLE_PARK, kit_receive(w.k, A, w.g, 1));
    uint64_t id = replay(w.k, "g", (struct wire_held_change){.source = REPLAY_PARKED, .into = VIEW_LIT("again"), .rate_milli = 1000});
    kit_pass(w.k, 100);
    kit_delete_group(w.k, "t", "g");
    kit_pass(w.k, 5000);
    assert_string_equal(task(w.k, id), "failed seen 1 matched 1 changed 1");
    kit_delete_group(w.k, "t", "again"); /* and its tasks with it */
    assert_string_equal(task(w.k, id), "TASK_NOT_FOUND");
    kit_restart(w.k);
    kit_free(w.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_of_one_key_brings_its_messages_again_in_order_and_no_others),
        cmocka_unit_test(a_replay_of_offsets_brings_those_of_the_range_in_each_partition_asked_for),
        cmocka_unit_test(a_replay_of_a_time_brings_what_was_appended_in_it),
        cmocka_unit_test(a_replay_of_what_is_parked_brings_that_and_nothing_that_was_done),
        cmocka_unit_test(what_is_parked_comes_again_by_a_replay_of_the_log_too),
        cmocka_unit_test(what_failed_in_one_group_can_be_replayed_in_another),
        cmocka_unit_test(what_is_present_is_left_as_it_is_and_counted),
        cmocka_unit_test(what_is_replayed_waits_while_another_of_its_key_is_leased),
        cmocka_unit_test(a_replay_ends_where_the_group_was_when_it_began),
        cmocka_unit_test(a_replayed_message_that_fails_is_tried_and_parked_like_any_other),
        cmocka_unit_test(a_dry_run_says_what_a_replay_then_does_and_changes_nothing),
        cmocka_unit_test(a_replay_goes_on_after_a_restart_and_brings_each_message_once),
        cmocka_unit_test(a_replay_rests_while_a_thousand_of_its_messages_are_not_done),
        cmocka_unit_test(tasks_of_a_group_share_its_bound_and_none_waits_for_the_end_of_another),
        cmocka_unit_test(what_the_log_has_no_more_is_counted_as_lost),
        cmocka_unit_test(retention_takes_nothing_that_was_replayed_while_it_looked),
        cmocka_unit_test(what_only_another_group_has_a_copy_of_is_replayed_with_a_copy_of_its_own),
        cmocka_unit_test(copies_that_do_not_go_at_once_are_asked_for_again),
        cmocka_unit_test(what_goes_from_the_log_while_a_replay_asks_is_brought_from_its_copy),
        cmocka_unit_test(a_copy_that_is_gone_is_counted_as_lost),
        cmocka_unit_test(a_cancelled_replay_brings_nothing_more),
        cmocka_unit_test(a_new_group_gets_what_is_replayed_into_it_and_nothing_else),
        cmocka_unit_test(a_new_group_that_goes_on_gets_new_messages_behind_those_of_the_replay),
        cmocka_unit_test(a_new_group_of_what_is_parked_gets_that),
        cmocka_unit_test(what_cannot_be_replayed_is_refused_and_makes_nothing),
        cmocka_unit_test(who_seeks_in_a_queue_group_is_told_of_replay),
        cmocka_unit_test(a_replay_of_a_group_that_goes_fails_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

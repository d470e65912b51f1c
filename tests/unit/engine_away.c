/* Away: what waits for long costs no memory, comes back in time, in order, under its token, and is known after a restart without being read. */
#include "engine_kit.h"

#include "base/mem.h"

/* A retry that is due in more than 10 s is away. */
static struct kit_world begin(struct wire_group_config config)
{
    struct kit *k = kit_new();
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.retention_ms = UINT64_MAX, .hard_cap_ms = UINT64_MAX});
    assert_int_equal(k->limits.retry_window_ms, 10000);
    return (struct kit_world){k, p, kit_group(k, "t", "g", &config)};
}

static struct group *group_of(struct kit_world w) { return map_get(&w.k->engine->groups, w.g); }
static size_t entries(struct kit_world w) { return map_count(&group_of(w)->parts[0]->entries); }
static size_t keys(struct kit_world w) { return map_count(&group_of(w)->keys); }
static const char *where(struct kit_world w) { return kit_where(w.k, "t", "g"); }

static bool is_time(struct view key) { uint64_t due; return key_read_sched_kind(key, &due) == SCHED_KIND_AWAY; }
static bool is_near(struct view key) { uint64_t due; return key_read_sched_kind(key, &due) == SCHED_KIND_RETRY; }

static void nack(struct kit_world w, const char *messages, uint32_t delay_ms)
{
    assert_string_equal(kit_settle_delay(w.k, A, w.g, SETTLE_NACK, messages, delay_ms), "");
}

/* ---------------------------------------------------------------- retries */

static void a_retry_that_is_far_away_is_in_no_memory_and_comes_when_it_is_due_and_not_before(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct kit_world w = begin((struct wire_group_config){0});
        kit_produce(w.k, w.p, "a -");
        assert_string_equal(kit_receive(w.k, A, w.g, 2), "0 1");
        nack(w, "0 1", 60000);
        assert_int_equal(entries(w) + keys(w), 0);
        assert_string_equal(where(w), "floor 2 retrying 2 redriven 2 away 2");
        assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "0 retrying 1 retrying");
        struct wire_lag lag = kit_lag(w.k, "t", "g");
        assert_int_equal(lag.lag_messages, 2);
        assert_int_equal(lag.delayed, 2);
        assert_int_equal(lag.scale_value, 0);
        if (restart)
            kit_restart(w.k);
        assert_int_equal(entries(w) + keys(w), 0);
        kit_pass(w.k, 59999);
        assert_string_equal(kit_receive(w.k, A, w.g, 2), "");
        assert_int_equal(kit_rows(w.k, FAM_SCHED, is_time), 0);
        if (restart)
            kit_restart(w.k);
        kit_pass(w.k, 1);
        struct call *c = kit_receive_wait(w.k, A, 0, w.g, 2, 0);
        assert_string_equal(kit_deliveries(w.k, &kit_reply(c)->receive), "0 1");
        assert_int_equal(kit_record(kit_reply(c), 0)->failures, 1);
        assert_int_equal(kit_record(kit_reply(c), 0)->grants, 2);
        assert_string_equal(kit_ack(w.k, A, w.g, "0 1"), "");
        assert_string_equal(where(w), "floor 2");
        assert_int_equal(kit_rows(w.k, FAM_HELD, NULL) + kit_rows(w.k, FAM_KEYS, NULL), 0);
        kit_free(w.k);
    }
}

static void a_retry_within_the_window_stays_and_one_a_millisecond_later_goes(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b");
    kit_receive(w.k, A, w.g, 2);
    nack(w, "0", 10000);
    assert_int_equal(entries(w), 2);
    nack(w, "1", 10001);
    assert_int_equal(entries(w), 1);
    assert_string_equal(where(w), "done 1 retrying 2 redriven 1 away 1");
    kit_pass(w.k, 1); /* now it is near */
    assert_int_equal(entries(w), 2);
    assert_int_equal(kit_rows(w.k, FAM_SCHED, is_near), 2);
    kit_free(w.k);
}

static void a_key_whose_head_is_away_is_in_no_memory_and_keeps_its_order(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a b a a");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 1");
    kit_ack(w.k, A, w.g, "1");
    nack(w, "0", 60000);
    assert_int_equal(entries(w) + keys(w), 0);
    assert_string_equal(where(w), "floor 2 retrying 1 behind 2 redriven 1 away 1");
    kit_produce(w.k, w.p, "a b a");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "5"); /* those of key a wait behind it */
    kit_ack(w.k, A, w.g, "5");
    assert_int_equal(entries(w) + keys(w), 0);
    kit_restart(w.k);
    assert_string_equal(where(w), "floor 2 done 1 retrying 1 behind 4 redriven 1 away 1");
    kit_produce(w.k, w.p, "a");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
    assert_int_equal(entries(w) + keys(w), 0);
    kit_pass(w.k, 60000);
    kit_take(w, "0 2 3 4 6 7");
    assert_string_equal(where(w), "floor 8");
    assert_int_equal(kit_rows(w.k, FAM_HELD, NULL) + kit_rows(w.k, FAM_KEYS, NULL), 0);
    kit_free(w.k);
}

static void a_list_behind_a_key_that_is_away_may_have_many_chunks(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    nack(w, "0", 3600000);
    w.k->watch = false;
    for (int i = 0; i < 20; i++) {
        kit_produce_many(w.k, w.p, "a", 100);
        assert_string_equal(kit_receive(w.k, A, w.g, 100), "");
    }
    assert_int_equal(entries(w) + keys(w), 0);
    assert_string_equal(where(w), "floor 1 retrying 1 behind 2000 redriven 1 away 1");
    kit_restart(w.k);
    kit_pass(w.k, 3600000);
    for (uint64_t i = 0; i <= 2000; i++) {
        char expected[8];
        snprintf(expected, sizeof expected, "%llu", (unsigned long long)i);
        assert_string_equal(kit_receive(w.k, A, w.g, 10), expected);
        kit_ack(w.k, A, w.g, expected);
    }
    assert_string_equal(where(w), "floor 2001");
    assert_int_equal(kit_rows(w.k, FAM_KEYS, NULL), 0);
    kit_free(w.k);
}

static void a_message_goes_away_again_as_often_as_it_fails_and_is_parked_at_last(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){.max_deliveries = 3});
    kit_produce(w.k, w.p, "a a");
    for (int i = 0; i < 3; i++) {
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "0");
        nack(w, "0", 30000);
        kit_pass(w.k, 30000);
    }
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "0 parked(max_deliveries)");
    kit_take(w, "1");
    assert_int_equal(engine_counters(w.k->engine)->away_messages, 2);
    assert_int_equal(engine_counters(w.k->engine)->back_messages, 2);
    kit_free(w.k);
}

static void retries_of_many_keys_come_in_the_order_of_their_times_however_many_are_due_at_once(void **state)
{
    (void)state;
    enum { N = 3000 };
    struct kit_world w = begin((struct wire_group_config){.order = ORDER_NONE, .backoff_min_ms = 100000, .backoff_max_ms = 100000, .lease_ms = 1000});
    w.k->watch = false;
    kit_produce_many(w.k, w.p, "-", N);
    struct call *c = kit_receive_wait(w.k, A, 0, w.g, N, 1000);
    kit_pass(w.k, 1);
    uint32_t n = 0;
    for (uint32_t i = 0; i < 10 && n < N; i++) {
        if (kit_reply(c)->receive.deliveries_n > 0)
            n += kit_reply(c)->receive.deliveries[0].records_n;
        c = kit_receive_wait(w.k, A, 0, w.g, N, 1000);
        kit_pass(w.k, 1);
        if (!c->answered)
            break;
    }
    struct group *g = group_of(w);
    assert_int_equal(g->leased, N);
    kit_begin(w.k);
    for (uint64_t o = 0; o < N; o++) /* all at the same time */
        entry_retry(w.k->engine, map_get(&g->parts[0]->entries, o), 50000);
    kit_end(w.k);
    assert_int_equal(entries(w), 0);
    kit_pass(w.k, 39999);
    assert_int_equal(entries(w), 0);
    kit_pass(w.k, 1); /* the first of them in time; bounded in one turn, so the others in the next */
    assert_int_equal(entries(w), N);
    assert_int_equal(g->retrying, N);
    kit_pass(w.k, 10000);
    assert_int_equal(g->ready, N);
    assert_int_equal(kit_rows(w.k, FAM_SCHED, is_time), 0);
    kit_free(w.k);
}

/* ---------------------------------------------------------------- tokens */

static void a_late_ack_finds_a_message_that_is_away_and_its_key_goes_on(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct kit_world w = begin((struct wire_group_config){.lease_ms = 1000, .backoff_min_ms = 60000});
        kit_produce(w.k, w.p, "a a -");
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 2");
        kit_pass(w.k, 1000); /* the leases ran out: both come again at once */
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 2");
        nack(w, "0 2", 60000);
        assert_int_equal(entries(w), 0);
        if (restart)
            kit_restart(w.k);
        assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_EXTEND, "0"), "LEASE_LOST");
        assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_NACK, "0"), ""); /* its failure was counted */
        assert_int_equal(entries(w), 0);
        assert_string_equal(kit_ack(w.k, A, w.g, "0 2"), "");
        assert_string_equal(where(w), "floor 1 done 1 ready 1");
        assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "");
        kit_take(w, "1");
        kit_pass(w.k, 120000);
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
        assert_int_equal(kit_rows(w.k, FAM_SCHED, is_time) + kit_rows(w.k, FAM_KEYS, NULL), 0);
        kit_free(w.k);
    }
}

static void an_older_token_than_the_last_is_lost_while_the_message_is_away(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    uint64_t older = kit_token(w.k, w.g, w.p, 0);
    nack(w, "0", 0);
    kit_receive(w.k, A, w.g, 1);
    nack(w, "0", 60000);
    struct wire_settle_item item = {.token = older, .partition = w.p, .group = w.g, .verb = SETTLE_ACK};
    assert_int_equal(kit_unit(w.k, A, &item, 1), E_LEASE_LOST);
    item.token = 0;
    assert_int_equal(kit_unit(w.k, A, &item, 1), E_LEASE_LOST);
    assert_int_equal(entries(w), 0);
    kit_free(w.k);
}

static void a_late_park_of_a_message_that_is_away_blocks_its_key(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){.park = PARK_KEY});
    kit_produce(w.k, w.p, "a a");
    kit_receive(w.k, A, w.g, 1);
    nack(w, "0", 60000);
    assert_string_equal(kit_settle(w.k, A, w.g, SETTLE_PARK, "0"), "");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "0 parked(parked)");
    kit_produce(w.k, w.p, "b");
    kit_pass(w.k, 120000);
    kit_take(w, "2");
    assert_string_equal(where(w), "floor 1 done 1 blocked 1 behind 1 parked 1 redriven 1 away 1");
    kit_free(w.k);
}

static void what_was_settled_while_readers_looked_does_not_come_back(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a - a");
    kit_receive(w.k, A, w.g, 2);
    nack(w, "0 1", 60000);
    w.k->hold_back = true;
    kit_pass(w.k, 50000);
    assert_true(w.k->back_found);
    assert_int_equal(w.k->back.places_n, 2);
    assert_string_equal(kit_ack(w.k, A, w.g, "0 1"), "");
    w.k->hold_back = false;
    kit_pass(w.k, 100000);
    kit_take(w, "2");
    assert_string_equal(where(w), "floor 3");
    assert_int_equal(kit_rows(w.k, FAM_SCHED, is_time), 0);
    kit_free(w.k);
}

static void what_was_set_back_again_while_readers_looked_comes_at_its_new_time(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a");
    kit_receive(w.k, A, w.g, 1);
    nack(w, "0", 60000);
    w.k->hold_back = true;
    kit_pass(w.k, 50000);
    assert_true(w.k->back_found);
    kit_begin(w.k); /* a late park and a redrive, and it fails anew */
    struct group_part *p = group_of(w)->parts[0];
    struct entry *e = entry_find(w.k->engine, p, 0, kit_token(w.k, w.g, w.p, 0));
    assert_non_null(e);
    entry_retry(w.k->engine, e, 100000);
    kit_end(w.k);
    assert_int_equal(entries(w), 0);
    w.k->hold_back = false;
    kit_pass(w.k, 99999);
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "");
    kit_pass(w.k, 1);
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "0");
    kit_free(w.k);
}

/* ---------------------------------------------------------------- blocked keys */

static void blocked_keys_are_in_no_memory_and_a_redrive_brings_each_back_in_order(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct kit_world w = begin((struct wire_group_config){.park = PARK_KEY, .max_deliveries = 1});
        kit_produce(w.k, w.p, "a b a b");
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 1");
        nack(w, "0 1", 0);
        assert_int_equal(entries(w) + keys(w), 0);
        assert_int_equal(kit_rows(w.k, FAM_SCHED, is_near) + kit_rows(w.k, FAM_SCHED, is_time), 0);
        kit_produce(w.k, w.p, "a");
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
        assert_string_equal(where(w), "floor 2 blocked 2 behind 3 parked 2 redriven 2 away 2");
        if (restart)
            kit_restart(w.k);
        kit_pass(w.k, UINT64_C(86400000) * 400);
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
        assert_true(kit_redrive(w.k, w.g, w.p, 0));
        if (restart)
            kit_restart(w.k);
        assert_string_equal(where(w), "floor 2 ready 1 blocked 1 behind 3 parked 1 redriven 2 away 1");
        kit_take(w, "0 2 4");
        kit_drop_parked(w.k, w.g, w.p, 1);
        kit_take(w, "3");
        assert_string_equal(where(w), "floor 5");
        assert_int_equal(kit_rows(w.k, FAM_HELD, NULL) + kit_rows(w.k, FAM_KEYS, NULL), 0);
        kit_free(w.k);
    }
}

static void a_redriven_message_goes_before_a_head_that_is_away_and_that_comes_when_it_is_due(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle(w.k, A, w.g, SETTLE_PARK, "0");
    kit_receive(w.k, A, w.g, 1);
    nack(w, "1", 60000);
    assert_int_equal(entries(w), 0);
    assert_true(kit_redrive(w.k, w.g, w.p, 0)); /* older: it is the head, the other stands behind it */
    kit_restart(w.k);
    kit_take(w, "0");
    assert_int_equal(entries(w), 0); /* the other is the head again, and away again */
    kit_pass(w.k, 60000);
    kit_take(w, "1 2");
    kit_free(w.k);
}

static void a_redriven_message_that_is_younger_goes_away_with_the_head_of_its_key(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a a a");
    for (int i = 0; i < 2; i++) {
        kit_receive(w.k, A, w.g, 1);
        kit_settle(w.k, A, w.g, SETTLE_PARK, i == 0 ? "0" : "1");
    }
    assert_true(kit_redrive(w.k, w.g, w.p, 0));
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0");
    nack(w, "0", 60000);
    assert_string_equal(where(w), "floor 3 retrying 1 waiting 1 parked 1 redriven 2 away 2");
    assert_true(kit_redrive(w.k, w.g, w.p, 1));
    assert_int_equal(entries(w) + keys(w), 0);
    assert_string_equal(where(w), "floor 3 retrying 1 waiting 2 redriven 3 away 3");
    assert_int_equal(group_waiting(group_of(w)), 0); /* tasks do not wait for it */
    kit_restart(w.k);
    kit_pass(w.k, 60000);
    kit_take(w, "0 1 2");
    assert_string_equal(where(w), "floor 3");
    kit_free(w.k);
}

static void the_rest_of_a_run_goes_away_with_its_first(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){.run_max = 3});
    kit_produce(w.k, w.p, "a a a a");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 1 2");
    nack(w, "0", 60000);
    assert_int_equal(entries(w) + keys(w), 0);
    assert_string_equal(where(w), "floor 3 retrying 1 waiting 2 behind 1 redriven 3 away 3");
    kit_restart(w.k);
    assert_string_equal(where(w), "floor 3 retrying 1 waiting 2 behind 1 redriven 3 away 3");
    kit_pass(w.k, 60000);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 1 2");
    assert_string_equal(kit_ack(w.k, A, w.g, "0 1 2"), "");
    kit_take(w, "3");
    kit_free(w.k);
}

/* A retry that stepped down for an older message, which then blocks the key: it waits for its key, and for its own time only if that is later. */
static void a_retry_behind_a_dead_letter_waits_for_its_key_and_is_no_retry_meanwhile(void **state)
{
    (void)state;
    for (int round = 0; round < 4; round++) {
        bool restart = round % 2 != 0, early = round >= 2;
        struct kit_world w = begin((struct wire_group_config){0});
        kit_produce(w.k, w.p, "a a a");
        kit_receive(w.k, A, w.g, 1);
        kit_settle(w.k, A, w.g, SETTLE_PARK, "0");
        assert_int_equal(kit_alter_group(w.k, "t", "g", (struct wire_group_config){.park = PARK_KEY}, GROUP_SET_PARK)->code, E_OK);
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "1");
        nack(w, "1", 60000);
        assert_true(kit_redrive(w.k, w.g, w.p, 0));
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "0");
        kit_settle(w.k, A, w.g, SETTLE_PARK, "0");
        assert_string_equal(where(w), "floor 2 blocked 1 waiting 1 behind 1 parked 1 redriven 2 away 2");
        assert_int_equal(kit_lag(w.k, "t", "g").delayed, 0);
        if (restart)
            kit_restart(w.k);
        kit_pass(w.k, early ? 30000 : 120000);
        assert_string_equal(where(w), "floor 2 blocked 1 waiting 1 behind 1 parked 1 redriven 2 away 2");
        assert_int_equal(entries(w) + keys(w), 0);
        assert_true(kit_redrive(w.k, w.g, w.p, 0));
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "0");
        kit_ack(w.k, A, w.g, "0");
        if (early) {
            assert_string_equal(where(w), "floor 2 retrying 1 behind 1 redriven 1 away 1");
            kit_pass(w.k, 29999);
            assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
            kit_pass(w.k, 1);
        }
        kit_take(w, "1 2");
        assert_string_equal(where(w), "floor 3");
        assert_int_equal(kit_rows(w.k, FAM_HELD, NULL) + kit_rows(w.k, FAM_KEYS, NULL) + kit_rows(w.k, FAM_SCHED, is_time), 0);
        kit_free(w.k);
    }
}

/* Redrives rest while a thousand redriven messages wait; what was away is not redriven, however much of it is back. */
static void what_came_back_does_not_hold_back_a_redrive(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){.order = ORDER_NONE});
    w.k->watch = false;
    kit_produce_many(w.k, w.p, "-", 1200);
    struct group *g = group_of(w);
    while (g->leased < 1200)
        kit_receive(w.k, A, w.g, 1200);
    kit_begin(w.k);
    for (uint64_t o = 0; o < 1200; o++)
        entry_retry(w.k->engine, map_get(&g->parts[0]->entries, o), 50000);
    kit_end(w.k);
    kit_pass(w.k, 50000);
    assert_int_equal(g->ready, 1200);
    assert_int_equal(g->redriven, 1200);
    assert_int_equal(group_waiting(g), 0);
    kit_free(w.k);
}

/* ---------------------------------------------------------------- a group that goes, or is emptied */

static void a_purge_ends_what_is_away_but_dead_letters(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct kit_world w = begin((struct wire_group_config){.park = PARK_KEY, .run_max = 2});
        kit_produce(w.k, w.p, "a b c c - a b");
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 5 1 6 2 3 4");
        kit_settle(w.k, A, w.g, SETTLE_PARK, "0");
        nack(w, "1 2 4", 60000);
        assert_string_equal(where(w), "floor 7 retrying 3 blocked 1 waiting 3 parked 1 redriven 7 away 7");
        kit_produce(w.k, w.p, "a c");
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
        const struct wire_reply *r = kit_control(w.k, "t", "g", GROUP_PURGE);
        assert_int_equal(r->code, E_OK);
        assert_int_equal(r->depth, 8); /* all but the dead letter */
        assert_string_equal(where(w), "floor 9 blocked 1 parked 1 redriven 1 away 1");
        assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "0 parked(parked)");
        assert_string_equal(kit_ack(w.k, A, w.g, "1"), "LEASE_LOST");
        if (restart)
            kit_restart(w.k);
        assert_int_equal(kit_rows(w.k, FAM_SCHED, is_time), 0);
        assert_int_equal(kit_rows(w.k, FAM_KEYS, NULL), 1); /* of the blocked key */
        kit_produce(w.k, w.p, "a b");
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "10"); /* its key stays blocked */
        kit_ack(w.k, A, w.g, "10");
        kit_pass(w.k, 120000);
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "");
        assert_true(kit_redrive(w.k, w.g, w.p, 0));
        assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 9");
        kit_ack(w.k, A, w.g, "0 9");
        assert_string_equal(where(w), "floor 11");
        kit_free(w.k);
    }
}

/* Many rows are removed some at a time, and a restart in between loses none of that; meanwhile nothing of them is there any more. */
static void the_rows_that_a_purge_leaves_go_in_bounded_steps(void **state)
{
    (void)state;
    enum { N = 1000 };
    struct kit_world w = begin((struct wire_group_config){0});
    w.k->watch = false;
    for (int i = 0; i < N; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        kit_produce(w.k, w.p, key);
    }
    struct group *g = group_of(w);
    while (g->leased < N)
        kit_receive(w.k, A, w.g, N);
    kit_begin(w.k);
    for (uint64_t o = 0; o < N; o++)
        entry_retry(w.k->engine, map_get(&g->parts[0]->entries, o), 60000 + o);
    kit_end(w.k);
    assert_int_equal(g->away.keys, N);
    kit_begin(w.k);
    assert_int_equal(group_purge(w.k->engine, g), N);
    kit_end(w.k);
    assert_true(kit_rows(w.k, FAM_HELD, NULL) >= N - 256);
    assert_string_equal(where(w), "floor 1000");
    assert_string_equal(kit_held(w.k, "t", "g", HELD_ANY), "");
    kit_produce(w.k, w.p, "k7 k8");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "1000 1001"); /* those keys are free at once */
    kit_ack(w.k, A, w.g, "1000 1001");
    kit_restart(w.k);
    kit_pass(w.k, 100);
    g = group_of(w);
    assert_int_equal(kit_rows(w.k, FAM_HELD, NULL) + kit_rows(w.k, FAM_KEYS, NULL) + kit_rows(w.k, FAM_SCHED, is_time), 0);
    assert_int_equal(g->away.keys, 0);
    assert_int_equal(g->away.swept, g->away.purges);
    kit_pass(w.k, 120000);
    assert_string_equal(where(w), "floor 1002");
    kit_free(w.k);
}

static void a_group_or_topic_that_is_deleted_leaves_no_row_when_its_retries_were_due(void **state)
{
    (void)state;
    for (int topic = 0; topic < 2; topic++) {
        struct kit_world w = begin((struct wire_group_config){.park = PARK_KEY});
        kit_produce(w.k, w.p, "a - b a b");
        kit_receive(w.k, A, w.g, 3);
        nack(w, "0 1", 60000);
        kit_settle(w.k, A, w.g, SETTLE_PARK, "2");
        kit_receive(w.k, A, w.g, 10);
        assert_int_equal(topic ? kit_delete_topic(w.k, "t") : kit_delete_group(w.k, "t", "g"), E_OK);
        assert_int_equal(kit_rows(w.k, FAM_HELD, NULL) + kit_rows(w.k, FAM_KEYS, NULL), 0);
        assert_int_equal(kit_rows(w.k, FAM_SCHED, is_time), 2);
        kit_restart(w.k);
        kit_pass(w.k, 60000);
        assert_int_equal(kit_rows(w.k, FAM_SCHED, is_time), 0);
        kit_free(w.k);
    }
}

/* ---------------------------------------------------------------- looking */

static void explaining_says_of_what_is_away_what_it_waits_for_and_brings_nothing_back(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){.run_max = 2});
    kit_produce(w.k, w.p, "a a a -");
    kit_receive(w.k, A, w.g, 10);
    nack(w, "0 3", 60000);
    uint64_t due = w.k->now.wall_ms + 60000;
    const struct wire_explain_reply *r = kit_explain(w, (struct wire_explain){.has_offset = true, .partition = w.p, .offset = 0});
    assert_int_equal(r->fact, EXPLAIN_RETRYING);
    assert_int_equal(r->until_ms, due);
    r = kit_explain(w, (struct wire_explain){.has_offset = true, .partition = w.p, .offset = 3});
    assert_int_equal(r->fact, EXPLAIN_RETRYING);
    for (uint64_t offset = 1; offset < 3; offset++) { /* in the front, and in the list */
        r = kit_explain(w, (struct wire_explain){.has_offset = true, .partition = w.p, .offset = offset});
        assert_int_equal(r->fact, EXPLAIN_BEHIND);
        assert_int_equal(r->offset, 0);
        assert_int_equal(r->until_ms, due);
    }
    r = kit_explain(w, (struct wire_explain){.has_key = true, .key = VIEW_LIT("a")});
    assert_int_equal(r->fact, EXPLAIN_RETRYING);
    assert_int_equal(r->offset, 0);
    assert_int_equal(r->depth, 2);
    r = kit_explain(w, (struct wire_explain){.has_key = true, .key = VIEW_LIT("b")});
    assert_int_equal(r->fact, EXPLAIN_EMPTY);
    r = kit_explain(w, (struct wire_explain){0});
    assert_int_equal(r->fact, EXPLAIN_RETRYING);
    assert_int_equal(entries(w) + keys(w), 0);
    assert_int_equal(engine_counters(w.k->engine)->back_messages, 0);
    kit_free(w.k);
}

static void explaining_names_the_dead_letter_that_blocks_a_key(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){.park = PARK_KEY});
    kit_produce(w.k, w.p, "a a");
    kit_receive(w.k, A, w.g, 1);
    kit_settle(w.k, A, w.g, SETTLE_PARK, "0");
    kit_restart(w.k);
    kit_produce(w.k, w.p, "a"); /* not scanned: nobody asks */
    const struct wire_explain_reply *r = kit_explain(w, (struct wire_explain){.has_key = true, .key = VIEW_LIT("a")});
    assert_int_equal(r->fact, EXPLAIN_PARKED);
    assert_int_equal(r->offset, 0);
    for (uint64_t offset = 1; offset < 3; offset++) {
        r = kit_explain(w, (struct wire_explain){.has_offset = true, .partition = w.p, .offset = offset});
        assert_int_equal(r->fact, EXPLAIN_BEHIND);
        assert_true(view_eq(r->reason, VIEW_LIT("parked")));
    }
    assert_int_equal(kit_explain(w, (struct wire_explain){.has_offset = true, .partition = w.p, .offset = 0})->fact, EXPLAIN_PARKED);
    kit_free(w.k);
}

/* ---------------------------------------------------------------- clocks, settings, versions */

static void a_key_that_is_away_is_not_given_faster_than_its_rate_for_that(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){.key_rate_milli = 10}); /* a message in 100 s */
    kit_produce(w.k, w.p, "a a");
    kit_receive(w.k, A, w.g, 1);
    nack(w, "0", 20000);
    assert_int_equal(entries(w), 0);
    kit_pass(w.k, 99999);
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "");
    kit_pass(w.k, 1);
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "0");
    nack(w, "0", 200000);
    kit_pass(w.k, 120000); /* nothing is spent any more */
    assert_int_equal(entries(w) + keys(w), 0);
    kit_free(w.k);
}

/* Away retries go on while the wall clock is not believed, by the one of the engine. */
static void a_retry_that_is_away_comes_in_time_while_the_wall_clock_is_not_believed(void **state)
{
    (void)state;
    for (int back = 0; back < 2; back++) {
        struct kit_world w = begin((struct wire_group_config){0});
        kit_produce(w.k, w.p, "a");
        kit_receive(w.k, A, w.g, 1);
        nack(w, "0", 60000);
        w.k->now.wall_ms += back ? -UINT64_C(86400000) : UINT64_C(86400000);
        kit_pass(w.k, 59999);
        assert_string_equal(kit_receive(w.k, A, w.g, 1), "");
        kit_pass(w.k, 1);
        assert_string_equal(kit_receive(w.k, A, w.g, 1), "0");
        kit_free(w.k);
    }
}

static void what_waits_is_away_from_the_next_start_on_when_the_window_was_made_smaller(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){0});
    kit_produce(w.k, w.p, "a - a");
    kit_receive(w.k, A, w.g, 10);
    nack(w, "0 1", 9000);
    assert_int_equal(entries(w), 2);
    w.k->limits.retry_window_ms = 1000;
    kit_restart(w.k);
    assert_int_equal(entries(w) + keys(w), 0);
    assert_string_equal(where(w), "floor 2 retrying 2 behind 1 redriven 2 away 2");
    kit_pass(w.k, 9000);
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 1");
    kit_free(w.k);
}

/* Rows as an older version left them: headers of lists were their chunk 0. */
static void the_rows_of_format_3_are_taken_over(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){.park = PARK_KEY});
    kit_produce(w.k, w.p, "a b a a b");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "0 1");
    w.k->watch = false;
    struct puts l;
    puts_init(&l);
    uint64_t hash = 0;
    uint32_t group;
    struct store_iter *it = store_iter(w.k->store, FAM_KEYS);
    for (store_iter_seek(it, VIEW_LIT("")); store_iter_valid(it); store_iter_next(it))
        if (key_read_list_header(store_iter_key(it), &group, &hash)) {
            struct key was = key_list(group, hash, 0);
            puts_row(&l, FAM_KEYS, key_view(&was), store_iter_value(it));
            puts_remove(&l, FAM_KEYS, store_iter_key(it));
        }
    store_iter_close(it);
    assert_true(hash != 0);
    struct buf format = {0};
    struct key k = key_meta_format();
    format_row_put(&format, &(struct format_row){.format = 3, .created_ms = 1});
    puts_row(&l, FAM_META, key_view(&k), buf_view(&format));
    buf_free(&format);
    assert_int_equal(store_write(w.k->store, &l, NULL), E_OK);
    puts_free(&l);
    kit_restart(w.k);
    assert_string_equal(where(w), "leased 2 behind 3");
    w.k->watch = true;
    kit_restart(w.k);
    assert_string_equal(where(w), "leased 2 behind 3");
    kit_ack(w.k, A, w.g, "0 1");
    assert_string_equal(kit_receive(w.k, A, w.g, 10), "2 4");
    kit_ack(w.k, A, w.g, "2 4");
    kit_take(w, "3");
    kit_free(w.k);
}

static void nothing_is_looked_for_where_nothing_is_away(void **state)
{
    (void)state;
    struct kit_world w = begin((struct wire_group_config){.park = PARK_KEY});
    kit_produce(w.k, w.p, "a b a");
    kit_receive(w.k, A, w.g, 10);
    kit_ack(w.k, A, w.g, "0 1");
    kit_take(w, "2");
    assert_int_equal(kit_rows(w.k, FAM_SCHED, NULL), 0);
    assert_true(w.k->engine->away.next_ms == UINT64_MAX);
    assert_int_equal(group_of(w)->away.keys, 0);
    kit_free(w.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_retry_that_is_far_away_is_in_no_memory_and_comes_when_it_is_due_and_not_before),
        cmocka_unit_test(a_retry_within_the_window_stays_and_one_a_millisecond_later_goes),
        cmocka_unit_test(a_key_whose_head_is_away_is_in_no_memory_and_keeps_its_order),
        cmocka_unit_test(a_list_behind_a_key_that_is_away_may_have_many_chunks),
        cmocka_unit_test(a_message_goes_away_again_as_often_as_it_fails_and_is_parked_at_last),
        cmocka_unit_test(retries_of_many_keys_come_in_the_order_of_their_times_however_many_are_due_at_once),
        cmocka_unit_test(a_late_ack_finds_a_message_that_is_away_and_its_key_goes_on),
        cmocka_unit_test(an_older_token_than_the_last_is_lost_while_the_message_is_away),
        cmocka_unit_test(a_late_park_of_a_message_that_is_away_blocks_its_key),
        cmocka_unit_test(what_was_settled_while_readers_looked_does_not_come_back),
        cmocka_unit_test(what_was_set_back_again_while_readers_looked_comes_at_its_new_time),
        cmocka_unit_test(blocked_keys_are_in_no_memory_and_a_redrive_brings_each_back_in_order),
        cmocka_unit_test(a_redriven_message_goes_before_a_head_that_is_away_and_that_comes_when_it_is_due),
        cmocka_unit_test(a_redriven_message_that_is_younger_goes_away_with_the_head_of_its_key),
        cmocka_unit_test(the_rest_of_a_run_goes_away_with_its_first),
        cmocka_unit_test(a_retry_behind_a_dead_letter_waits_for_its_key_and_is_no_retry_meanwhile),
        cmocka_unit_test(what_came_back_does_not_hold_back_a_redrive),
        cmocka_unit_test(a_purge_ends_what_is_away_but_dead_letters),
        cmocka_unit_test(the_rows_that_a_purge_leaves_go_in_bounded_steps),
        cmocka_unit_test(a_group_or_topic_that_is_deleted_leaves_no_row_when_its_retries_were_due),
        cmocka_unit_test(explaining_says_of_what_is_away_what_it_waits_for_and_brings_nothing_back),
        cmocka_unit_test(explaining_names_the_dead_letter_that_blocks_a_key),
        cmocka_unit_test(a_key_that_is_away_is_not_given_faster_than_its_rate_for_that),
        cmocka_unit_test(a_retry_that_is_away_comes_in_time_while_the_wall_clock_is_not_believed),
        cmocka_unit_test(what_waits_is_away_from_the_next_start_on_when_the_window_was_made_smaller),
        cmocka_unit_test(the_rows_of_format_3_are_taken_over),
        cmocka_unit_test(nothing_is_looked_for_where_nothing_is_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

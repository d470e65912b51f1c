/* A pass of compaction that comes back without what it was to bring. What passes do to a log is the simulator's, which reads it. */
#include "engine_kit.h"

/* Enough for a pass, and time for it. */
static struct kit_world begin(void)
{
    struct kit *k = kit_new();
    k->limits.compact_bytes_min = 1;
    k->limits.compact_lag_ms = 0;
    uint32_t p = kit_topic_of(k, "t", (struct wire_topic_config){.compacted = true});
    struct kit_world w = {k, p, kit_group(k, "t", "g", NULL)};
    kit_produce(k, p, "a a b");
    kit_produce(k, p, "a c");
    kit_receive(k, A, w.g, 10);
    kit_ack(k, A, w.g, "0 2 4");
    kit_receive(k, A, w.g, 10);
    kit_ack(k, A, w.g, "1");
    kit_receive(k, A, w.g, 10);
    kit_ack(k, A, w.g, "3");
    kit_pass(k, k->limits.compact_interval_ms);
    assert_non_null(k->compaction);
    assert_int_equal(k->compaction->partition, p);
    return w;
}

static void comes_back(struct kit *k)
{
    struct compaction *c = k->compaction;
    k->compaction = NULL;
    kit_begin(k);
    engine_compacted(k->engine, c);
    kit_end(k);
}

static void a_log_that_does_not_read_is_not_compacted_and_is_tried_again_later(void **state)
{
    (void)state;
    struct kit_world w = begin();
    uint64_t puts = engine_counters(w.k->engine)->puts;
    w.k->compaction->code = err_set(&w.k->compaction->error, E_DAMAGED, "'x.sst' is damaged");
    comes_back(w.k);
    assert_string_equal(w.k->notice.text, "topic 't', partition 0 is not compacted: 'x.sst' is damaged");
    assert_int_equal(engine_counters(w.k->engine)->compactions + engine_counters(w.k->engine)->compacted_messages, 0);
    assert_int_equal(engine_counters(w.k->engine)->puts, puts); /* nothing of it was done */
    assert_null(engine_failed(w.k->engine));                  /* and everything else goes on */
    assert_int_equal(kit_produce(w.k, w.p, "a"), E_OK);
    assert_string_equal(kit_receive(w.k, A, w.g, 1), "5");
    assert_string_equal(kit_ack(w.k, A, w.g, "5"), "");
    kit_pass(w.k, 600000 - 1000);
    assert_null(w.k->compaction);
    kit_pass(w.k, 1000 + w.k->limits.compact_interval_ms);
    assert_non_null(w.k->compaction);
    kit_free(w.k);
}

/* It may need what the round leaves out. */
static void a_round_is_given_up_when_a_group_came_while_it_was_read(void **state)
{
    (void)state;
    struct kit_world w = begin();
    kit_group(w.k, "t", "new", NULL);
    uint64_t puts = engine_counters(w.k->engine)->puts;
    comes_back(w.k);
    assert_int_equal(engine_counters(w.k->engine)->compactions_given_up, 1);
    assert_int_equal(engine_counters(w.k->engine)->puts, puts);
    kit_free(w.k);
}

static void a_pass_over_a_topic_that_was_deleted_meanwhile_is_dropped(void **state)
{
    (void)state;
    struct kit_world w = begin();
    assert_int_equal(kit_delete_topic(w.k, "t"), E_OK);
    uint64_t puts = engine_counters(w.k->engine)->puts;
    w.k->compaction->code = E_DAMAGED;
    comes_back(w.k);
    assert_string_equal(w.k->notice.text, "");
    assert_int_equal(engine_counters(w.k->engine)->puts, puts);
    kit_free(w.k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_that_does_not_read_is_not_compacted_and_is_tried_again_later),
        cmocka_unit_test(a_round_is_given_up_when_a_group_came_while_it_was_read),
        cmocka_unit_test(a_pass_over_a_topic_that_was_deleted_meanwhile_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

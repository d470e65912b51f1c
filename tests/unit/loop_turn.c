/* A turn by hand: what leaves when, and what happens when the disk says no. */
#include "loop_kit.h"

static void faults(struct kit *k, struct store_mem_faults f) { store_mem_faults(k->slow.mem, &f); }

static uint64_t syncs(struct kit *k)
{
    struct loop_status s;
    loop_status(k->loop, &s);
    return s.syncs;
}

static void a_disk_reply_never_leaves_before_its_sync(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    struct call *c = kit_send(k, kit_produce(k, DISK, "one"));
    assert_false(c->done);
    kit_turn(k);
    kit_turn(k);
    assert_false(c->done);
    assert_int_equal(loop_sync(k->loop), E_OK);
    assert_true(c->done);
    assert_int_equal(c->op.reply.durability, DURABILITY_DISK);
    assert_int_equal(store_mem_unsynced(k->slow.mem), 0);
    kit_free(k);
}

static void an_os_reply_leaves_when_it_is_written(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    struct call *os = kit_send(k, kit_produce(k, OS, "one")), *disk = kit_send(k, kit_produce(k, DISK, "one"));
    kit_turn(k);
    assert_true(os->done);
    assert_int_equal(os->op.reply.durability, DURABILITY_OS);
    assert_false(disk->done);
    loop_sync(k->loop);
    assert_true(disk->done);
    kit_free(k);
}

static void one_sync_serves_every_turn_written_before_it(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    struct call *calls[5];
    uint64_t before = syncs(k);
    for (int i = 0; i < 5; i++) {
        calls[i] = kit_send(k, kit_produce(k, DISK, "one"));
        kit_turn(k);
    }
    assert_int_equal(syncs(k), before);
    loop_sync(k->loop);
    assert_int_equal(syncs(k), before + 1);
    for (int i = 0; i < 5; i++)
        assert_true(calls[i]->done);
    kit_free(k);
}

static void leases_of_a_disk_topic_leave_after_their_sync_too(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    kit_ask(k, kit_produce(k, DISK, "one two"));
    struct call *c = kit_send(k, kit_receive(k, DISK, 2, 1000));
    for (int i = 0; i < 5; i++)
        kit_turn(k);
    assert_false(c->done);
    loop_sync(k->loop);
    assert_string_equal(kit_values(&c->op.reply), "0=one 1=two");
    kit_free(k);
}

static void a_repeat_of_what_is_not_synced_yet_waits_for_the_sync_like_the_first(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    struct call *first = kit_send(k, kit_produce(k, DISK, "one"));
    kit_turn(k);
    struct call *again = kit_produce(k, DISK, "one");
    again->op.request.seq = first->op.request.seq;
    again->op.request.replies_seen = first->op.request.replies_seen;
    kit_send(k, again);
    kit_turn(k);
    assert_false(first->done || again->done);
    loop_sync(k->loop);
    assert_true(first->done && again->done);
    assert_int_equal(again->op.reply.produce.base_offset, first->op.reply.produce.base_offset);
    kit_free(k);
}

static void readers_see_a_disk_topic_only_up_to_the_last_sync(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    kit_send(k, kit_produce(k, DISK, "one"));
    kit_turn(k);
    struct call *early = kit_send(k, kit_fetch(k, k->partition[DISK], 0, 0)), *waiting = kit_send(k, kit_fetch(k, k->partition[DISK], 0, 5000));
    kit_turn(k);
    assert_string_equal(kit_values(&early->op.reply), "");
    assert_false(waiting->done);
    loop_sync(k->loop);
    kit_turn(k);
    assert_string_equal(kit_values(&waiting->op.reply), "0=one");
    kit_free(k);
}

static void a_turn_without_puts_writes_nothing(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    struct loop_status before, behind;
    loop_status(k->loop, &before);
    struct call *c = kit_send(k, kit_fetch(k, k->partition[DISK], 0, 0));
    kit_turn(k);
    assert_true(c->done);
    loop_status(k->loop, &behind);
    assert_int_equal(behind.writes, before.writes);
    kit_free(k);
}

/* ---------------------------------------------------------------- a full disk */

static void a_full_disk_keeps_the_batch_refuses_changes_serves_reads_and_recovers(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    kit_ask(k, kit_produce(k, DISK, "one"));
    faults(k, (struct store_mem_faults){.fail_write_at = 1, .write_code = E_DISK_FULL, .fail_writes = 3});
    struct call *kept = kit_send(k, kit_produce(k, DISK, "two"));
    kit_turn(k);
    loop_sync(k->loop);
    assert_false(kept->done);

    struct call *refused = kit_send(k, kit_produce(k, DISK, "three")), *hello = kit_send(k, kit_hello(k, true));
    struct call *read = kit_send(k, kit_fetch(k, k->partition[DISK], 0, 60000)), *late = kit_send(k, kit_fetch(k, k->partition[DISK], 1, 60000));
    struct call *health = kit_send(k, kit_new_call(k, VERB_HEALTH));
    kit_turn(k);
    assert_int_equal(refused->op.reply.code, E_DISK_FULL);
    assert_true(refused->op.reply.retry_after_ms > 0);
    assert_int_equal(hello->op.reply.code, E_DISK_FULL);
    assert_string_equal(kit_values(&read->op.reply), "0=one");
    assert_true(late->done); /* nobody waits meanwhile */
    assert_string_equal(kit_values(&late->op.reply), "");
    assert_true(health->done);
    assert_false(kept->done);
    static const enum wire_verb changes[] = {VERB_BYE, VERB_RECEIVE, VERB_SETTLE, VERB_TOPIC_CREATE, VERB_TOPIC_DELETE, VERB_GROUP_CREATE, VERB_GROUP_DELETE};
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        struct call *c = kit_send(k, kit_new_call(k, changes[i]));
        kit_turn(k);
        assert_int_equal(c->op.reply.code, E_DISK_FULL);
    }
    struct loop_status s;
    k->now.mono_ms += 500;
    k->now.wall_ms += 500;
    kit_turn(k); /* the second refusal */
    kit_turn(k);
    loop_status(k->loop, &s);
    assert_true(s.read_only);
    assert_false(kept->done);
    k->now.mono_ms += 500;
    kit_turn(k); /* the third */
    k->now.mono_ms += 1000;
    kit_turn(k);
    loop_sync(k->loop);
    assert_true(kept->done);
    assert_int_equal(kept->op.reply.code, E_OK);
    assert_int_equal(kept->op.reply.produce.base_offset, 1);
    refused->op.request.seq = k->seq[k->partition[DISK]];
    assert_int_equal(kit_ask(k, refused)->produce.base_offset, 2); /* the same request again */
    assert_string_equal(kit_values(kit_ask(k, kit_fetch(k, k->partition[DISK], 0, 0))), "0=one 1=two 2=three");
    kit_free(k);
}

static void what_was_acknowledged_can_be_read_while_the_disk_is_full(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    struct call *waits = kit_send(k, kit_fetch(k, k->partition[DISK], 0, 60000));
    struct call *acked = kit_send(k, kit_produce(k, DISK, "one"));
    kit_turn(k);
    faults(k, (struct store_mem_faults){.fail_write_at = 1, .write_code = E_DISK_FULL, .fail_writes = 100});
    kit_send(k, kit_produce(k, DISK, "two"));
    kit_turn(k);
    assert_false(acked->done);
    loop_sync(k->loop); /* of the turn before */
    assert_true(acked->done);
    kit_turn(k);
    assert_true(waits->done);
    assert_string_equal(kit_values(&waits->op.reply), "0=one");
    assert_string_equal(kit_values(kit_ask(k, kit_fetch(k, k->partition[DISK], 0, 0))), "0=one");
    faults(k, (struct store_mem_faults){0});
    kit_free(k);
}

static void what_came_while_the_disk_was_full_and_changes_nothing_for_others_is_done_afterwards(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    kit_ask(k, kit_produce(k, DISK, "one two"));
    kit_ask(k, kit_receive(k, DISK, 1, 1000));
    struct call *waits = kit_send(k, kit_fetch(k, k->partition[OS], 0, 60000));
    kit_round(k);
    faults(k, (struct store_mem_faults){.fail_write_at = 1, .write_code = E_DISK_FULL});
    kit_send(k, kit_produce(k, DISK, "three"));
    kit_turn(k);
    loop_pipe_lost(k->loop, 7); /* waits for its turn */
    kit_turn(k);
    assert_false(waits->done);
    k->now.mono_ms += 1000;
    kit_round(k);
    assert_int_equal(waits->op.reply.code, E_CLOSED);
    assert_int_equal(kit_ask(k, kit_hello(k, true))->code, E_OK);
    assert_int_equal(atomic_load(&k->dropped), 0); /* the pipe was known to be lost, so nobody was thrown out */
    kit_free(k);
}

static void a_stalled_store_takes_the_same_path_and_is_asked_again_soon(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    faults(k, (struct store_mem_faults){.fail_write_at = 1, .write_code = E_OVERLOADED});
    struct call *c = kit_send(k, kit_produce(k, DISK, "one"));
    uint64_t due = loop_turn(k->loop, k->now);
    assert_in_range(due, k->now.mono_ms + 1, k->now.mono_ms + 2);
    k->now.mono_ms = due;
    kit_turn(k);
    loop_sync(k->loop);
    assert_int_equal(c->op.reply.code, E_OK);
    assert_true(c->done);
    kit_free(k);
}

static void os_replies_of_a_refused_turn_wait_as_well(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    faults(k, (struct store_mem_faults){.fail_write_at = 1, .write_code = E_DISK_FULL});
    struct call *c = kit_send(k, kit_produce(k, OS, "one"));
    kit_turn(k);
    struct call *read = kit_send(k, kit_fetch(k, k->partition[OS], 0, 0));
    kit_turn(k);
    assert_false(c->done);
    assert_string_equal(kit_values(&read->op.reply), "");
    k->now.mono_ms += 1000;
    kit_turn(k);
    assert_true(c->done);
    kit_free(k);
}

/* Was a bug: what was refused to the end had "an unknown outcome", which ends the client, and so had its long polls. */
static void a_broker_that_ends_while_the_disk_is_full_says_that_nothing_was_done(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    struct call *poll = kit_send(k, kit_receive(k, DISK, 1, 60000));
    kit_turn(k);
    faults(k, (struct store_mem_faults){.fail_write_at = 1, .write_code = E_DISK_FULL, .fail_writes = 1000});
    struct call *c = kit_send(k, kit_produce(k, DISK, "one"));
    kit_turn(k);
    loop_close(k->loop);
    k->loop = NULL;
    assert_int_equal(c->op.reply.code, E_SHUTTING_DOWN);
    assert_int_equal(poll->op.reply.code, E_SHUTTING_DOWN);
    kit_free(k);
}

/* ---------------------------------------------------------------- a store that fails */

static void a_failed_sync_lets_nothing_out_and_is_fatal(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    faults(k, (struct store_mem_faults){.fail_sync_at = 1});
    struct call *disk = kit_send(k, kit_produce(k, DISK, "one"));
    kit_turn(k);
    assert_int_equal(loop_sync(k->loop), E_STORE_FAILED);
    assert_int_equal(atomic_load(&k->fatals), 1);
    assert_int_equal(k->fatal.code, E_STORE_FAILED);
    assert_false(disk->done);
    struct call *os = kit_send(k, kit_produce(k, OS, "one")); /* nothing is stepped any more */
    kit_turn(k);
    loop_sync(k->loop);
    assert_false(disk->done || os->done);
    assert_int_equal(atomic_load(&k->fatals), 1);
    loop_close(k->loop);
    k->loop = NULL;
    assert_int_equal(disk->op.reply.code, E_STORE_FAILED); /* its outcome is unknown */
    assert_int_equal(os->op.reply.code, E_SHUTTING_DOWN);  /* this one was not begun */
    kit_free(k);
}

static void a_failed_write_is_fatal_and_its_replies_do_not_leave_as_good(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    faults(k, (struct store_mem_faults){.fail_write_at = 1, .write_code = E_STORE_FAILED});
    struct call *disk = kit_send(k, kit_produce(k, DISK, "one")), *os = kit_send(k, kit_produce(k, OS, "one"));
    kit_turn(k);
    loop_sync(k->loop);
    assert_false(disk->done || os->done);
    assert_int_equal(atomic_load(&k->fatals), 1);
    loop_close(k->loop);
    k->loop = NULL;
    assert_int_equal(disk->op.reply.code, E_STORE_FAILED);
    assert_int_equal(os->op.reply.code, E_STORE_FAILED);
    kit_free(k);
}

static void a_row_that_does_not_read_inside_a_step_is_fatal(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    kit_ask(k, kit_produce(k, DISK, "one"));
    kit_reopen(k); /* lanes are read when they are first used */
    faults(k, (struct store_mem_faults){.fail_get_at = 1});
    struct call *c = kit_send(k, kit_produce(k, DISK, "two"));
    kit_turn(k);
    assert_int_equal(atomic_load(&k->fatals), 1);
    assert_int_equal(k->fatal.code, E_DAMAGED);
    assert_false(c->done);
    kit_free(k);
}

static void a_restart_after_a_failed_sync_knows_what_was_synced_and_nothing_that_was_cut(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL);
    kit_ask(k, kit_produce(k, DISK, "one"));
    faults(k, (struct store_mem_faults){.fail_sync_at = 1});
    struct call *lost = kit_send(k, kit_produce(k, DISK, "two"));
    kit_turn(k);
    loop_sync(k->loop);
    loop_close(k->loop);
    k->loop = NULL;
    store_mem_crash(k->slow.mem, 0);
    faults(k, (struct store_mem_faults){0});
    struct err e = {0};
    struct loop_options o = {.store = k->store, .limits = &k->limits};
    assert_int_equal(loop_open(&k->loop, &o, k->now, &e), E_OK);
    assert_int_equal(kit_ask(k, kit_hello(k, true))->code, E_OK);
    assert_string_equal(kit_values(kit_ask(k, kit_fetch(k, k->partition[DISK], 0, 0))), "0=one");
    assert_int_equal(kit_ask(k, lost)->produce.base_offset, 1); /* the repeat is new */
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_reply_never_leaves_before_its_sync),
        cmocka_unit_test(an_os_reply_leaves_when_it_is_written),
        cmocka_unit_test(one_sync_serves_every_turn_written_before_it),
        cmocka_unit_test(leases_of_a_disk_topic_leave_after_their_sync_too),
        cmocka_unit_test(a_repeat_of_what_is_not_synced_yet_waits_for_the_sync_like_the_first),
        cmocka_unit_test(readers_see_a_disk_topic_only_up_to_the_last_sync),
        cmocka_unit_test(a_turn_without_puts_writes_nothing),
        cmocka_unit_test(a_full_disk_keeps_the_batch_refuses_changes_serves_reads_and_recovers),
        cmocka_unit_test(what_was_acknowledged_can_be_read_while_the_disk_is_full),
        cmocka_unit_test(what_came_while_the_disk_was_full_and_changes_nothing_for_others_is_done_afterwards),
        cmocka_unit_test(a_stalled_store_takes_the_same_path_and_is_asked_again_soon),
        cmocka_unit_test(os_replies_of_a_refused_turn_wait_as_well),
        cmocka_unit_test(a_broker_that_ends_while_the_disk_is_full_says_that_nothing_was_done),
        cmocka_unit_test(a_failed_sync_lets_nothing_out_and_is_fatal),
        cmocka_unit_test(a_failed_write_is_fatal_and_its_replies_do_not_leave_as_good),
        cmocka_unit_test(a_row_that_does_not_read_inside_a_step_is_fatal),
        cmocka_unit_test(a_restart_after_a_failed_sync_knows_what_was_synced_and_nothing_that_was_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

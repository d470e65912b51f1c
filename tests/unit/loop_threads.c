/* The loop with its threads: what a slow disk holds up and what it does not, and how it stops. */
#include "loop_kit.h"

static struct kit *start(void)
{
    struct kit *k = kit_new(&(struct kit){.reader_threads = 2});
    struct err e = {0};
    assert_int_equal(loop_start(k->loop, &e), E_OK);
    return k;
}

static void wait_for_sync_under_way(struct kit *k)
{
    pthread_mutex_lock(&k->slow.lock);
    while (k->slow.syncing == 0)
        pthread_cond_wait(&k->slow.changed, &k->slow.lock);
    pthread_mutex_unlock(&k->slow.lock);
}

static void while_a_sync_runs_disk_replies_wait_os_replies_leave_and_reads_are_answered(void **state)
{
    (void)state;
    struct kit *k = start();
    struct loop_status before, behind;
    loop_status(k->loop, &before);
    kit_hold_sync(k, true);
    struct call *calls[20];
    calls[0] = kit_send(k, kit_produce(k, DISK, "one"));
    wait_for_sync_under_way(k);
    for (int i = 1; i < 20; i++)
        calls[i] = kit_send(k, kit_produce(k, DISK, "one"));
    struct call *os = kit_send(k, kit_produce(k, OS, "two"));
    assert_true(kit_wait(os, 5000));
    struct call *read = kit_send(k, kit_fetch(k, k->partition[OS], 0, 5000));
    assert_true(kit_wait(read, 5000));
    assert_string_equal(kit_values(&read->op.reply), "0=two");
    usleep(20000);
    for (int i = 0; i < 20; i++)
        assert_false(calls[i]->done);
    kit_hold_sync(k, false);
    for (int i = 0; i < 20; i++)
        assert_true(kit_wait(calls[i], 5000));
    loop_status(k->loop, &behind);
    assert_in_range(behind.syncs, before.syncs + 2, before.syncs + 3); /* the one that ran, and one for all that waited */
    kit_free(k);
}

static void a_stop_ends_what_waits_and_syncs_what_was_written(void **state)
{
    (void)state;
    struct kit *k = start();
    struct call *poll = kit_send(k, kit_receive(k, DISK, 1, 60000));
    struct call *c = kit_send(k, kit_produce(k, OS, "one"));
    assert_true(kit_wait(c, 5000));
    assert_true(kit_wait(poll, 1) == false);
    struct call *last = kit_send(k, kit_produce(k, OS, "two"));
    loop_stop(k->loop, 5000);
    assert_true(poll->done);
    assert_int_equal(poll->op.reply.code, E_SHUTTING_DOWN);
    assert_true(last->done);
    assert_int_equal(last->op.reply.code, E_OK);
    assert_int_equal(store_mem_unsynced(k->slow.mem), 0);
    kit_free(k);
}

static void a_failed_sync_stops_both_threads_and_the_loop_can_be_closed(void **state)
{
    (void)state;
    struct kit *k = start();
    store_mem_faults(k->slow.mem, &(struct store_mem_faults){.fail_sync_at = 1});
    struct call *c = kit_send(k, kit_produce(k, DISK, "one"));
    for (int i = 0; i < 5000 && atomic_load(&k->fatals) == 0; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&k->fatals), 1);
    assert_false(c->done);
    loop_close(k->loop);
    k->loop = NULL;
    assert_int_equal(c->op.reply.code, E_STORE_FAILED);
    kit_free(k);
}

static void a_full_inbox_refuses_and_the_operation_stays_the_callers(void **state)
{
    (void)state;
    struct kit *k = kit_new(NULL); /* nobody takes anything out */
    struct call *big = kit_new_call(k, VERB_HEALTH), *more = kit_new_call(k, VERB_HEALTH);
    big->op.bytes = (size_t)300 << 20;
    kit_send(k, big);
    assert_int_equal(loop_submit(k->loop, &more->op), E_OVERLOADED);
    kit_turn(k);
    assert_true(big->done);
    assert_int_equal(kit_ask(k, more)->code, E_OK);
    kit_free(k);
}

/* ---- who brings work takes the turn with it */

enum { HELPERS = 3, ROUNDS = 400 };

struct helper {
    pthread_t thread;
    struct kit *k;
    struct call *calls[ROUNDS];
    int unanswered;
};

static void *help_often(void *arg)
{
    struct helper *h = arg;
    for (int i = 0; i < ROUNDS; i++) {
        h->calls[i]->op.helps = true;
        kit_send(h->k, h->calls[i]);
        loop_help(h->k->loop);
        h->unanswered += !kit_wait(h->calls[i], 5000);
    }
    return NULL;
}

static void what_helpers_bring_at_the_same_time_is_all_answered(void **state)
{
    (void)state;
    struct kit *k = start();
    struct helper helpers[HELPERS] = {{.k = k}, {.k = k}, {.k = k}};
    for (int i = 0; i < HELPERS * ROUNDS; i++)
        helpers[i % HELPERS].calls[i / HELPERS] = kit_new_call(k, VERB_HEALTH);
    for (int i = 0; i < HELPERS; i++)
        assert_int_equal(pthread_create(&helpers[i].thread, NULL, help_often, &helpers[i]), 0);
    for (int i = 0; i < HELPERS; i++) {
        pthread_join(helpers[i].thread, NULL);
        assert_int_equal(helpers[i].unanswered, 0);
    }
    kit_free(k);
}

/* A turn that a helper takes may bring a deadline that is nearer than the one to which the loop's thread sleeps. */
static void a_deadline_that_a_helper_brings_is_kept(void **state)
{
    (void)state;
    bool in_time = false;
    for (int tries = 0; tries < 5 && !in_time; tries++) { /* a machine that stands still meanwhile is no fault of the loop's */
        struct kit *k = start();
        struct call *poll = kit_receive(k, DISK, 1, 30);
        poll->op.helps = true;
        kit_send(k, poll);
        loop_help(k->loop);
        in_time = kit_wait(poll, 400); /* the loop's thread gets up by itself each half second */
        assert_true(kit_wait(poll, 10000));
        kit_free(k);
    }
    assert_true(in_time);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(while_a_sync_runs_disk_replies_wait_os_replies_leave_and_reads_are_answered),
        cmocka_unit_test(a_stop_ends_what_waits_and_syncs_what_was_written),
        cmocka_unit_test(a_failed_sync_stops_both_threads_and_the_loop_can_be_closed),
        cmocka_unit_test(what_helpers_bring_at_the_same_time_is_all_answered),
        cmocka_unit_test(a_deadline_that_a_helper_brings_is_kept),
        cmocka_unit_test(a_full_inbox_refuses_and_the_operation_stays_the_callers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

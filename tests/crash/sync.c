/*
 * What an acknowledgement stands on, seen from the disk: the shim makes each sync of the write-ahead log take 300 ms, or fail.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "crash.h"

enum { SLOW_MS = 300, CLIENTS = 30, WAIT_MS = 20000, AT_ONCE_MS = 100 };

struct sync_test {
    struct broker_proc broker;
    struct syncshim *shim;
    struct sluice *client;
};

static int begin(void **state)
{
    struct sync_test *t = calloc(1, sizeof *t);
    broker_prepare(&t->broker, NULL);
    t->shim = crash_shim(&t->broker);
    snprintf(t->shim->suffix, sizeof t->shim->suffix, ".log");
    broker_restart(&t->broker);
    t->client = crash_open(t->broker.url);
    crash_topic(t->client, "disk", SLUICE_DISK);
    crash_topic(t->client, "os", SLUICE_OS);
    *state = t;
    return 0;
}

static int end(void **state)
{
    struct sync_test *t = *state;
    if (t->client != NULL)
        sluice_close(t->client, 0, NULL, NULL);
    broker_end(&t->broker);
    crash_shim_off(&t->broker, t->shim);
    free(t);
    return 0;
}

/* A sync that began and ended within [from, to]. */
static bool synced_within(const struct syncshim *shim, uint64_t from, uint64_t to)
{
    unsigned n = atomic_load(&shim->syncs_n);
    for (unsigned i = n > SYNCSHIM_SYNCS ? n - SYNCSHIM_SYNCS : 0; i < n; i++) {
        const struct syncshim_sync *s = &shim->syncs[i % SYNCSHIM_SYNCS];
        uint64_t ended = atomic_load(&s->ended_ns);
        if (s->began_ns >= from && ended != 0 && ended <= to)
            return true;
    }
    return false;
}

static void a_disk_ack_leaves_only_after_a_sync_that_began_after_it_was_asked_for(void **state)
{
    struct sync_test *t = *state;
    atomic_store(&t->shim->delay_ms, SLOW_MS);
    for (int i = 0; i < 5; i++) {
        struct sluice_error err;
        uint64_t asked = clock_mono_ns();
        crash_ok(crash_publish(t->client, "disk", "x", &err), &err);
        uint64_t acked = clock_mono_ns();
        assert_true(synced_within(t->shim, asked, acked));
        assert_true(acked - asked >= SLOW_MS * UINT64_C(1000000));
    }
}

static void count_ack(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    if (error == NULL && receipt->durability == SLUICE_DISK)
        atomic_fetch_add((atomic_uint *)user, 1);
}

static void one_sync_serves_everything_that_waited(void **state)
{
    struct sync_test *t = *state;
    struct sluice *clients[CLIENTS];
    struct sluice_message m = {.size = sizeof m, .topic = "disk", .value = SLUICE_STR("x")};
    struct sluice_error err;
    for (int i = 0; i < CLIENTS; i++) { /* the first message of each finds out about the topic */
        clients[i] = crash_open(t->broker.url);
        crash_ok(sluice_publish(clients[i], &m, NULL, &err), &err);
    }
    atomic_store(&t->shim->delay_ms, SLOW_MS);
    atomic_uint acked = 0;
    unsigned before = atomic_load(&t->shim->syncs_n);
    for (int i = 0; i < CLIENTS; i++)
        crash_ok(sluice_publish_async(clients[i], &m, count_ack, &acked, &err), &err);
    EVENTUALLY (WAIT_MS, atomic_load(&acked) == CLIENTS)
        ;
    unsigned syncs = atomic_load(&t->shim->syncs_n) - before;
    print_message("%d clients acknowledged by %u syncs\n", CLIENTS, syncs);
    assert_in_range(syncs, 1, 4); /* one is out when the first arrive, one serves the rest; a late client may need another */
    atomic_store(&t->shim->delay_ms, 0);
    for (int i = 0; i < CLIENTS; i++)
        crash_close(clients[i]);
}

static void an_os_topic_beside_it_answers_at_once(void **state)
{
    struct sync_test *t = *state;
    struct sluice_message m = {.size = sizeof m, .topic = "disk", .value = SLUICE_STR("x")};
    struct sluice_error err;
    crash_ok(crash_publish(t->client, "os", "x", &err), &err);
    crash_ok(crash_publish(t->client, "disk", "x", &err), &err);
    atomic_store(&t->shim->delay_ms, SLOW_MS);
    uint64_t slowest_ms = 0;
    unsigned late = 0;
    for (int i = 0; i < 20; i++) {
        atomic_uint acked = 0;
        crash_ok(sluice_publish_async(t->client, &m, count_ack, &acked, &err), &err);
        uint64_t asked = clock_mono_ms();
        crash_ok(crash_publish(t->client, "os", "x", &err), &err);
        uint64_t took = clock_mono_ms() - asked;
        slowest_ms = took > slowest_ms ? took : slowest_ms;
        late += took >= AT_ONCE_MS;
        EVENTUALLY (WAIT_MS, atomic_load(&acked) == 1)
            ;
    }
    print_message("slowest of 20 os acknowledgements while the disk syncs: %" PRIu64 " ms\n", slowest_ms);
    assert_in_range(late, 0, 5); /* the machine may stand still now and then; if they waited for a sync, hardly one would be in time */
}

static void when_syncs_fail_no_ack_leaves_and_the_broker_stops_and_names_the_file(void **state)
{
    struct sync_test *t = *state;
    struct sluice_error err;
    for (int i = 0; i < 10; i++) {
        char value[16];
        snprintf(value, sizeof value, "v%d", i);
        crash_ok(crash_publish(t->client, "disk", value, &err), &err);
    }
    atomic_store(&t->shim->error, EIO);
    struct sluice_message m = {.size = sizeof m, .topic = "disk", .value = SLUICE_STR("lost")};
    atomic_uint acked = 0;
    crash_ok(sluice_publish_async(t->client, &m, count_ack, &acked, &err), &err);
    assert_int_equal(broker_wait(&t->broker), 1);
    assert_int_equal(sluice_close(t->client, 100, NULL, &err), SLUICE_NOT_DELIVERED);
    t->client = NULL;
    assert_int_equal(atomic_load(&acked), 0);
    char *log = broker_log(&t->broker);
    assert_has(log, ".log");
    assert_has(log, "store failed");
    free(log);
    atomic_store(&t->shim->error, 0);
    broker_restart(&t->broker);
    crash_expect_log(t->broker.url, "disk", "v", 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_disk_ack_leaves_only_after_a_sync_that_began_after_it_was_asked_for, begin, end),
        cmocka_unit_test_setup_teardown(one_sync_serves_everything_that_waited, begin, end),
        cmocka_unit_test_setup_teardown(an_os_topic_beside_it_answers_at_once, begin, end),
        cmocka_unit_test_setup_teardown(when_syncs_fail_no_ack_leaves_and_the_broker_stops_and_names_the_file, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

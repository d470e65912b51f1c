/*
 * A disk that fills up, and has space again. The shim plays the disk: a number of bytes that can be written yet.
 */
#include <inttypes.h>
#include <string.h>
#include <sys/wait.h>

#include "storm.h"

enum {
    MB = 1000000,
    ROUNDS = 4,
    WAIT_MS = 30000,
    REQUEST_MS = 1500, /* of a client that is to see a refusal */
};

struct disk_test {
    struct storm storm;
    struct syncshim *shim;
};

static void set_space(struct disk_test *t, int64_t bytes)
{
    atomic_store(&t->shim->space, bytes);
}

/* One that gives up soon. */
static struct sluice *open_impatient(const char *url)
{
    struct sluice *s = NULL;
    struct sluice_error err;
    struct sluice_options o = {.size = sizeof o, .broker = url, .request_timeout_ms = REQUEST_MS};
    crash_ok(sluice_open(&s, &o, &err), &err);
    return s;
}

/* A broker with one message of topic "t". */
static struct sluice *start_with_a_message(struct disk_test *t, const char *const *args)
{
    t->storm.broker.args = args;
    broker_restart(&t->storm.broker);
    struct sluice *s = open_impatient(t->storm.broker.url);
    struct sluice_error err;
    crash_topic(s, "t", SLUICE_DISK);
    crash_ok(crash_publish(s, "t", "v0", &err), &err);
    return s;
}

/* In a call that ends while it is sent once more the outcome is not known; else it is the refusal. */
static int publish_refused(struct sluice *s, struct sluice_error *err)
{
    int code = crash_publish(s, "t", "refused", err);
    for (int i = 0; i < 10 && code == SLUICE_TIMEOUT; i++)
        code = crash_publish(s, "t", "refused", err);
    return code;
}

static bool is_read_only(struct disk_test *t)
{
    if (!broker_runs(&t->storm.broker))
        fail_msg("the broker ended: %s", broker_log(&t->storm.broker));
    return broker_metric(&t->storm.broker, "sluice_read_only") == 1;
}

static bool is_below_reserve(struct disk_test *t)
{
    return broker_metric(&t->storm.broker, "sluice_below_reserve") == 1;
}

/* ---------------------------------------------------------------- tests */

static void a_full_disk_under_load_refuses_and_recovers_by_itself_and_nothing_acked_is_lost(void **state)
{
    static const struct load_options topics[] = {
        {.topic = "safe", .partitions = 4, .durability = SLUICE_DISK, .producers = 3, .consumers = 3, .backlog_max = 5000},
        {.topic = "fast", .partitions = 1, .durability = SLUICE_OS, .producers = 1, .consumers = 1, .backlog_max = 5000},
    };
    static const char *const args[] = {"--set", "limits.disk_reserve_bytes=0", "--set", "limits.store_memory_bytes=16MiB", NULL};
    struct disk_test *t = *state;
    t->storm.broker.args = args;
    broker_restart(&t->storm.broker);
    storm_begin(&t->storm, crash_seed(), topics, 2);
    for (int round = 0; round < ROUNDS; round++) {
        storm_work(&t->storm);
        set_space(t, (int64_t)rng_below(&t->storm.rng, 3 * MB));
        EVENTUALLY(WAIT_MS, is_read_only(t));
        storm_read(&t->storm, false); /* reads go on */
        bool killed = round % 2 == 1;
        if (killed)
            broker_kill(&t->storm.broker);
        set_space(t, INT64_MAX);
        if (killed)
            broker_restart(&t->storm.broker);
        storm_work(&t->storm); /* it writes again, without being asked to */
        storm_read(&t->storm, true);
    }
    struct storm_totals sum = storm_finish(&t->storm);
    print_message("disk full: %d times, 0 lost of %" PRIu64 "\n", ROUNDS, sum.ledger.published);
}

static void below_the_reserve_produces_are_refused_while_acks_and_reads_go_on(void **state)
{
    struct disk_test *t = *state;
    broker_restart(&t->storm.broker);
    struct sluice *s = open_impatient(t->storm.broker.url);
    struct sluice_error err;
    crash_topic(s, "t", SLUICE_DISK);
    crash_ok(sluice_group_create(s, "t", "g", NULL, NULL, &err), &err);
    for (int i = 0; i < 3; i++)
        crash_ok(crash_publish(s, "t", (const char *[]){"v0", "v1", "v2"}[i], &err), &err);

    set_space(t, 100 * MB);
    EVENTUALLY(WAIT_MS, is_below_reserve(t));
    assert_int_equal(publish_refused(s, &err), SLUICE_DISK_FULL);
    assert_true(err.retry_after_ms > 0);
    struct sluice_batch *b;
    crash_ok(sluice_receive(s, "t", "g", NULL, &b, &err), &err);
    assert_int_equal(sluice_batch_count(b), 3);
    for (size_t i = 0; i < 3; i++)
        crash_ok(sluice_ack(b, i, &err), &err);
    sluice_batch_free(b);
    crash_expect_log(t->storm.broker.url, "t", "v", 3);

    set_space(t, INT64_MAX);
    EVENTUALLY(WAIT_MS, !is_below_reserve(t));
    crash_ok(crash_publish(s, "t", "v3", &err), &err);
    crash_expect_log(t->storm.broker.url, "t", "v", 4);
    crash_close(s);
}

static void a_broker_killed_on_a_full_disk_starts_by_giving_up_its_reserve_file(void **state)
{
    static const char *const args[] = {"--set", "limits.disk_reserve_bytes=1MiB", NULL};
    struct disk_test *t = *state;
    struct sluice *s = start_with_a_message(t, args);
    struct sluice_error err;
    set_space(t, 0);
    EVENTUALLY(WAIT_MS, is_below_reserve(t));
    assert_int_equal(publish_refused(s, &err), SLUICE_DISK_FULL);
    sluice_close(s, 0, NULL, NULL);
    broker_kill(&t->storm.broker);
    broker_restart(&t->storm.broker);
    crash_expect_log(t->storm.broker.url, "t", "v", 1);
    char *log = broker_log(&t->storm.broker);
    assert_has(log, "the reserve file is given up");
    free(log);
}

static void without_any_space_a_broker_does_not_start_and_says_why(void **state)
{
    static const char *const args[] = {"--set", "limits.reserve_file_bytes=0", NULL};
    struct disk_test *t = *state;
    struct sluice *s = start_with_a_message(t, args);
    crash_close(s);
    broker_kill(&t->storm.broker);

    set_space(t, 0);
    broker_spawn(&t->storm.broker);
    assert_int_equal(broker_wait(&t->storm.broker), 1);
    char *log = broker_log(&t->storm.broker);
    assert_has(log, "DISK_FULL");
    assert_has(log, t->storm.broker.data);
    free(log);

    set_space(t, INT64_MAX);
    broker_restart(&t->storm.broker);
    crash_expect_log(t->storm.broker.url, "t", "v", 1);
}

/* ---------------------------------------------------------------- life */

static struct disk_test disk;

static int begin(void **state)
{
    disk = (struct disk_test){.shim = NULL};
    broker_prepare(&disk.storm.broker, NULL);
    disk.shim = crash_shim(&disk.storm.broker);
    *state = &disk;
    return 0;
}

static int end(void **state)
{
    struct disk_test *t = *state;
    storm_end(&t->storm);
    crash_shim_off(&t->storm.broker, t->shim);
    return 0;
}

#define DISK_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DISK_TEST(a_full_disk_under_load_refuses_and_recovers_by_itself_and_nothing_acked_is_lost),
        DISK_TEST(below_the_reserve_produces_are_refused_while_acks_and_reads_go_on),
        DISK_TEST(a_broker_killed_on_a_full_disk_starts_by_giving_up_its_reserve_file),
        DISK_TEST(without_any_space_a_broker_does_not_start_and_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

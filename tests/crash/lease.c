/*
 * What a queue group knows of its messages is on disk: leases, failures, delays and dead letters are there after kill -9.
 */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "crash.h"

#define TOPIC "t"
#define GROUP "g"

enum {
    LEASE_MS = 5000, /* long enough for a restart, and for clients to find it */
    MAX_DELIVERIES = 4,
    WAIT_MS = 20000,
    NOTHING_MS = 300, /* how long nothing must come */
};

struct lease_test {
    struct broker_proc broker;
    struct sluice *holder, *other;
};

/* ---------------------------------------------------------------- what tests use */

static struct sluice_batch *receive(struct sluice *s, uint32_t wait_ms)
{
    struct sluice_receive_options o = {.size = sizeof o, .max_messages = 10, .wait_ms = wait_ms};
    struct sluice_batch *b;
    struct sluice_error err;
    crash_ok(sluice_receive(s, TOPIC, GROUP, &o, &b, &err), &err);
    return b;
}

/* Receives exactly this one. */
static struct sluice_batch *receive_value(struct sluice *s, const char *value, uint32_t attempt)
{
    struct sluice_batch *b = receive(s, WAIT_MS);
    assert_int_equal(sluice_batch_count(b), 1);
    const struct sluice_delivery *d = sluice_batch_message(b, 0);
    assert_int_equal(d->value.size, strlen(value));
    assert_memory_equal(d->value.data, value, d->value.size);
    assert_int_equal(d->attempt, attempt);
    return b;
}

static void expect_nothing(struct sluice *s)
{
    struct sluice_batch *b = receive(s, NOTHING_MS);
    assert_int_equal(sluice_batch_count(b), 0);
    sluice_batch_free(b);
}

static void nack(struct sluice_batch *b, uint32_t delay_ms)
{
    struct sluice_error err;
    crash_ok(sluice_nack(b, 0, delay_ms, "it would not", &err), &err);
    sluice_batch_free(b);
}

static void ack(struct sluice_batch *b)
{
    struct sluice_error err;
    crash_ok(sluice_ack(b, 0, &err), &err);
    sluice_batch_free(b);
}

static void publish(struct lease_test *t, const char *value)
{
    struct sluice_message m = {.size = sizeof m, .topic = TOPIC, .key = SLUICE_STR("key"), .value = sluice_str(value)};
    struct sluice_error err;
    crash_ok(sluice_publish(t->other, &m, NULL, &err), &err);
}

static void kill_and_restart(struct lease_test *t)
{
    broker_kill(&t->broker);
    broker_restart(&t->broker);
}

static struct sluice_lag lag(struct lease_test *t)
{
    struct sluice_lag_list *l;
    struct sluice_error err;
    crash_ok(sluice_group_lag(t->other, TOPIC, GROUP, &l, &err), &err);
    assert_int_equal(l->count, 1);
    struct sluice_lag row = l->rows[0];
    sluice_lag_free(l);
    return row;
}

/* ---------------------------------------------------------------- tests */

static void a_holder_can_ack_after_kill_9_what_it_received_before(void **state)
{
    struct lease_test *t = *state;
    publish(t, "a");
    struct sluice_batch *b = receive_value(t->holder, "a", 1);
    kill_and_restart(t);
    assert_int_equal(lag(t).in_flight, 1);
    ack(b);
    expect_nothing(t->other);
    assert_int_equal(lag(t).lag_messages, 0);
    kill_and_restart(t);
    expect_nothing(t->other);
    assert_int_equal(lag(t).lag_messages, 0);
}

static void a_leased_message_and_its_key_are_nobody_elses_for_a_full_term_after_kill_9(void **state)
{
    struct lease_test *t = *state;
    publish(t, "a");
    publish(t, "b");
    struct sluice_batch *b = receive_value(t->holder, "a", 1);
    broker_kill(&t->broker);
    uint64_t restarted = clock_mono_ms();
    broker_restart(&t->broker);
    struct sluice_batch *again = receive_value(t->other, "a", 2); /* a term that ends is a failure */
    assert_true(clock_mono_ms() - restarted >= LEASE_MS);
    struct sluice_error err;
    assert_int_equal(sluice_ack(b, 0, &err), SLUICE_LEASE_LOST);
    sluice_batch_free(b);
    ack(again);
    ack(receive_value(t->other, "b", 1));
}

static void failures_are_counted_over_kill_9_and_kill_9_is_none(void **state)
{
    struct lease_test *t = *state;
    publish(t, "a");
    nack(receive_value(t->holder, "a", 1), 0);
    kill_and_restart(t);
    nack(receive_value(t->other, "a", 2), 0);
    struct sluice_batch *b = receive_value(t->holder, "a", 3);
    kill_and_restart(t);
    struct sluice_error err;
    crash_ok(sluice_release(b, 0, &err), &err);
    sluice_batch_free(b);
    kill_and_restart(t);
    ack(receive_value(t->other, "a", 3));
}

static void a_nacked_message_comes_back_after_its_delay_and_not_before_over_kill_9(void **state)
{
    enum { DELAY_MS = 2000 };
    struct lease_test *t = *state;
    publish(t, "a");
    publish(t, "b");
    uint64_t asked = clock_mono_ms();
    nack(receive_value(t->holder, "a", 1), DELAY_MS);
    kill_and_restart(t);
    ack(receive_value(t->other, "a", 2)); /* before b, which is behind it */
    assert_true(clock_mono_ms() - asked >= DELAY_MS);
    ack(receive_value(t->other, "b", 1));
}

static void a_dead_letter_keeps_its_reason_and_its_count_over_kill_9(void **state)
{
    struct lease_test *t = *state;
    struct sluice_error err;
    publish(t, "a");
    publish(t, "b");
    for (uint32_t attempt = 1; attempt <= MAX_DELIVERIES; attempt++)
        nack(receive_value(t->holder, "a", attempt), 0);
    struct sluice_batch *b = receive_value(t->holder, "b", 1);
    crash_ok(sluice_park(b, 0, "no good", "nobody wants it", &err), &err);
    sluice_batch_free(b);
    kill_and_restart(t);
    struct sluice_dlq *dlq;
    crash_ok(sluice_dlq_list(t->other, TOPIC, GROUP, NULL, &dlq, &err), &err);
    assert_int_equal(sluice_dlq_count(dlq), 2);
    const struct sluice_dead_letter *first = sluice_dlq_at(dlq, 0), *second = sluice_dlq_at(dlq, 1);
    assert_memory_equal(first->message.value.data, "a", 1);
    assert_int_equal(first->message.attempt, MAX_DELIVERIES);
    assert_string_equal(first->last_error, "it would not");
    assert_memory_equal(second->message.value.data, "b", 1);
    assert_string_equal(second->reason, "no good");
    assert_string_equal(second->last_error, "nobody wants it");
    sluice_dlq_free(dlq);
    assert_int_equal(lag(t).parked, 2);
    expect_nothing(t->other);
}

/* ---------------------------------------------------------------- life */

static int begin(void **state)
{
    struct lease_test *t = calloc(1, sizeof *t);
    struct sluice_group_options g = {.size = sizeof g, .lease_ms = LEASE_MS, .max_deliveries = MAX_DELIVERIES};
    struct sluice_error err;
    broker_start(&t->broker, NULL);
    t->holder = crash_open(t->broker.url);
    t->other = crash_open(t->broker.url);
    crash_topic(t->other, TOPIC, SLUICE_DISK);
    crash_ok(sluice_group_create(t->other, TOPIC, GROUP, &g, NULL, &err), &err);
    *state = t;
    return 0;
}

static int end(void **state)
{
    struct lease_test *t = *state;
    sluice_close(t->holder, 1000, NULL, NULL);
    sluice_close(t->other, 1000, NULL, NULL);
    broker_end(&t->broker);
    free(t);
    return 0;
}

#define LEASE_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LEASE_TEST(a_holder_can_ack_after_kill_9_what_it_received_before),
        LEASE_TEST(a_leased_message_and_its_key_are_nobody_elses_for_a_full_term_after_kill_9),
        LEASE_TEST(failures_are_counted_over_kill_9_and_kill_9_is_none),
        LEASE_TEST(a_nacked_message_comes_back_after_its_delay_and_not_before_over_kill_9),
        LEASE_TEST(a_dead_letter_keeps_its_reason_and_its_count_over_kill_9),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

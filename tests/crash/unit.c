/*
 * Units: acks, outputs and state of one piece of work are whole or absent, whoever is killed in them, and their effect is there once.
 *
 * The work is that of units.h; a settle carries up to 100 of them. The broker is killed at random in it, and the worker with it or not.
 * SLUICE_UNIT_KILLS says how often.
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/rng.h"
#include "crash.h"
#include "units.h"

enum { UNITS = 100, WORKERS = 16 };

static const char *const broker_args[] = {"--no-publish", "--no-http", "--set", "limits.session_grace_ms=300ms", NULL};
static struct broker_proc broker;

static void units_are_whole_or_absent_whoever_is_killed(void **state)
{
    (void)state;
    uint64_t kills = crash_number("SLUICE_UNIT_KILLS", 20), messages = 0, workers_killed = 0;
    struct rng rng;
    rng_seed(&rng, crash_seed());
    broker_start(&broker, broker_args);
    struct sluice *s = crash_open(broker.url);
    units_topics(s);
    pid_t worker = units_start(broker.url);
    for (uint64_t i = 0; i < kills; i++) {
        units_publish(s, "in", messages, UNITS);
        messages += UNITS;
        struct timespec t = {.tv_nsec = (long)rng_below(&rng, 60000000)}; /* anywhere in a settle, and between two */
        nanosleep(&t, NULL);
        bool both = rng_chance(&rng, 1, 2);
        if (both)
            kill(worker, SIGKILL);
        broker_kill(&broker);
        if (both) {
            units_kill(worker);
            worker = units_start(broker.url);
            workers_killed++;
        }
        broker_restart(&broker);
    }
    units_expect(s, messages);
    units_kill(worker);
    printf("broker killed %" PRIu64 " times, the worker %" PRIu64 ": %" PRIu64 " units of %d outputs, each whole and there once\n", kills,
           workers_killed, messages, UNITS_OUTPUTS);
    crash_close(s);
    broker_end(&broker);
}

/* ---------------------------------------------------------------- one row, many writers */

static atomic_uint_fast64_t conflicts, increments;

static bool increment(struct sluice *s, struct sluice_batch *b, size_t i)
{
    struct sluice_state *now;
    struct sluice_unit *u;
    struct sluice_error err;
    char text[24] = "0";
    crash_ok(sluice_state_get(s, "inc", "g", SLUICE_STR("n"), &now, &err), &err);
    if (now->version != 0)
        snprintf(text, sizeof text, "%.*s", (int)now->value.size, (const char *)now->value.data);
    snprintf(text, sizeof text, "%" PRIu64, (uint64_t)strtoull(text, NULL, 10) + 1);
    crash_ok(sluice_unit_begin(s, &u, &err), &err);
    crash_ok(sluice_unit_ack(u, b, i, &err), &err);
    crash_ok(sluice_unit_state_put(u, "inc", "g", SLUICE_STR("n"), now->version, sluice_str(text), &err), &err);
    sluice_state_free(now);
    int code = sluice_unit_commit(u, NULL, &err);
    if (code == SLUICE_CONFLICT) {
        atomic_fetch_add(&conflicts, 1);
        crash_ok(sluice_release(b, i, &err), &err); /* no failure: it comes again */
        return false;
    }
    crash_ok(code, &err);
    return true;
}

static void *increments_of_one(void *arg)
{
    struct sluice *s = crash_open(broker.url);
    uint64_t all = *(uint64_t *)arg;
    while (atomic_load(&increments) < all) {
        struct sluice_receive_options o = {.size = sizeof o, .max_messages = 1, .wait_ms = 200};
        struct sluice_batch *b;
        struct sluice_error err;
        crash_ok(sluice_receive(s, "inc", "g", &o, &b, &err), &err);
        for (size_t i = 0; i < sluice_batch_count(b); i++) {
            assert_int_equal(sluice_batch_message(b, i)->attempt, 1);
            if (increment(s, b, i))
                atomic_fetch_add(&increments, 1);
        }
        sluice_batch_free(b);
    }
    crash_close(s);
    return NULL;
}

static void increments_of_one_row_by_many_workers_are_all_there(void **state)
{
    (void)state;
    uint64_t all = crash_number("SLUICE_INCREMENTS", 10000);
    pthread_t threads[WORKERS];
    struct sluice_error err;
    struct sluice_state *n;
    broker_start(&broker, broker_args);
    struct sluice *s = crash_open(broker.url);
    units_topic(s, "inc", true);
    units_publish(s, "inc", 0, all);
    uint64_t began = clock_mono_ms();
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, increments_of_one, &all), 0);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    crash_ok(sluice_state_get(s, "inc", "g", SLUICE_STR("n"), &n, &err), &err);
    char text[24];
    snprintf(text, sizeof text, "%.*s", (int)n->value.size, (const char *)n->value.data);
    sluice_state_free(n);
    printf("%" PRIu64 " increments by %d workers: the row says %s after %" PRIu64 " conflicts, %" PRIu64 " ms\n", all, WORKERS, text,
           (uint64_t)atomic_load(&conflicts), clock_mono_ms() - began);
    assert_int_equal(strtoull(text, NULL, 10), all);
    assert_int_equal(units_lag(s, "inc"), 0);
    assert_true(atomic_load(&conflicts) > 0);
    crash_close(s);
    broker_end(&broker);
}

int main(int argc, char **argv)
{
    units_main(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(units_are_whole_or_absent_whoever_is_killed),
                                       cmocka_unit_test(increments_of_one_row_by_many_workers_are_all_there)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

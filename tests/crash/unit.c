/*
 * Units: acks, outputs and state of one piece of work are whole or absent, whoever is killed in them, and their effect is there once.
 *
 * A worker, in a process of its own, receives messages, and for each commits a unit: the ack, 50 messages to three topics, the state of
 * its key. A settle carries up to 100 of them. Broker and worker are killed at random in it, together or one of them. In the end every
 * message has each of its outputs once and its state was written once. SLUICE_UNIT_KILLS says how often.
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "crash.h"

enum { UNITS = 100, OUTPUTS = 50, TOPICS = 3, DEADLINE_MS = 180000, WORKERS = 16 };

static const char *const out_topics[TOPICS] = {"out0", "out1", "out2"};
static const char *const broker_args[] = {"--no-publish", "--no-http", "--set", "limits.session_grace_ms=300ms", NULL};
static struct broker_proc broker;

static void make(struct sluice *s, const char *topic, bool group)
{
    struct sluice_error err;
    crash_topic(s, topic, SLUICE_DISK);
    struct sluice_group_options o = {.size = sizeof o, .lease_ms = 20000};
    if (group)
        crash_ok(sluice_group_create(s, topic, "g", &o, NULL, &err), &err);
}

static uint64_t lag(struct sluice *s, const char *topic)
{
    struct sluice_lag_list *l;
    struct sluice_error err;
    crash_ok(sluice_group_lag(s, topic, "g", &l, &err), &err);
    uint64_t n = l->rows[0].lag_messages + l->rows[0].in_flight;
    assert_int_equal(l->rows[0].parked, 0);
    sluice_lag_free(l);
    return n;
}

static void publish_ids(struct sluice *s, const char *topic, uint64_t from, uint64_t n)
{
    struct sluice_error err;
    for (uint64_t id = from; id < from + n; id++) {
        char text[24];
        snprintf(text, sizeof text, "%" PRIu64, id);
        struct sluice_message m = {.size = sizeof m, .topic = topic, .key = sluice_str(text), .value = sluice_str(text)};
        crash_ok(sluice_publish_async(s, &m, NULL, NULL, &err), &err);
    }
    crash_ok(sluice_flush(s, DEADLINE_MS, &err), &err);
}

/* ---------------------------------------------------------------- the worker */

static void committed(void *user, const struct sluice_error *error, const struct sluice_receipt *receipts, size_t count)
{
    atomic_uint *open = user;
    (void)receipts;
    if (error == NULL && count != OUTPUTS)
        abort();
    atomic_fetch_sub(open, 1);
}

/* The unit of one message. False: it could not even be asked for. */
static bool commit(struct sluice *s, struct sluice_batch *b, size_t i, atomic_uint *open)
{
    const struct sluice_delivery *d = sluice_batch_message(b, i);
    struct sluice_unit *u;
    struct sluice_error err;
    if (sluice_unit_begin(s, &u, &err) != 0)
        return false;
    bool good = sluice_unit_ack(u, b, i, &err) == 0 &&
                sluice_unit_state_put(u, "in", "g", d->key, d->state_version, d->value, &err) == 0;
    for (int k = 0; k < OUTPUTS && good; k++) {
        char text[48];
        snprintf(text, sizeof text, "%.*s %d", (int)d->value.size, (const char *)d->value.data, k);
        struct sluice_message m = {.size = sizeof m, .topic = out_topics[k % TOPICS], .value = sluice_str(text)};
        good = sluice_unit_publish(u, &m, &err) == 0;
    }
    atomic_fetch_add(open, 1);
    if (good && sluice_unit_commit_async(u, committed, open, &err) == 0)
        return true;
    atomic_fetch_sub(open, 1);
    sluice_unit_free(u);
    return false;
}

/* Until it is killed, at the latest with the test. What fails is not its business: it comes again. */
static void work(const char *url)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct sluice_options o = {.size = sizeof o, .broker = url};
    struct sluice_error err;
    static atomic_uint open;
    for (;;) {
        struct sluice *s;
        if (sluice_open(&s, &o, &err) != 0)
            continue;
        for (;;) {
            struct sluice_receive_options r = {.size = sizeof r, .max_messages = UNITS, .wait_ms = 1000};
            struct sluice_batch *b;
            if (sluice_receive(s, "in", "g", &r, &b, &err) != 0)
                break;
            for (size_t i = 0; i < sluice_batch_count(b); i++)
                if (!commit(s, b, i, &open))
                    break;
            while (atomic_load(&open) > 0)
                nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
            sluice_batch_free(b);
        }
        sluice_close(s, 0, NULL, NULL);
    }
}

static pid_t start_worker(void)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) { /* anew: the threads of the client are not there in a copy */
        execl("/proc/self/exe", "crash-unit", "--worker", broker.url, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void kill_worker(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ---------------------------------------------------------------- what came of it */

/* Counts each output of each message; a unit that was done in part, or twice, shows here. */
static void count_outputs(struct sluice *s, uint64_t messages)
{
    uint8_t (*seen)[OUTPUTS] = calloc(messages, sizeof *seen);
    uint64_t total = 0;
    struct sluice_error err;
    for (int t = 0; t < TOPICS; t++) {
        struct sluice_reader *r;
        struct sluice_batch *b;
        size_t n;
        crash_ok(sluice_reader_open(s, out_topics[t], 0, NULL, &r, &err), &err);
        do {
            crash_ok(sluice_reader_read(r, 0, &b, &err), &err);
            n = sluice_batch_count(b);
            for (size_t i = 0; i < n; i++, total++) {
                const struct sluice_delivery *d = sluice_batch_message(b, i);
                char text[48];
                uint64_t id;
                int k;
                snprintf(text, sizeof text, "%.*s", (int)d->value.size, (const char *)d->value.data);
                assert_int_equal(sscanf(text, "%" SCNu64 " %d", &id, &k), 2);
                assert_in_range(id, 0, messages - 1);
                assert_int_equal(k % TOPICS, t);
                if (seen[id][k]++ != 0)
                    fail_msg("output %d of message %" PRIu64 " is there twice", k, id);
            }
            sluice_batch_free(b);
        } while (n > 0);
        sluice_reader_close(r);
    }
    for (uint64_t id = 0; id < messages; id++)
        for (int k = 0; k < OUTPUTS; k++)
            if (seen[id][k] == 0)
                fail_msg("output %d of message %" PRIu64 " is missing", k, id);
    free(seen);
    assert_int_equal(total, messages * OUTPUTS);
}

static void expect_states(struct sluice *s, uint64_t messages)
{
    for (uint64_t id = 0; id < messages; id += 7) {
        char text[24];
        struct sluice_state *state;
        struct sluice_error err;
        snprintf(text, sizeof text, "%" PRIu64, id);
        crash_ok(sluice_state_get(s, "in", "g", sluice_str(text), &state, &err), &err);
        assert_int_equal(state->value.size, strlen(text));
        assert_memory_equal(state->value.data, text, strlen(text));
        sluice_state_free(state);
    }
}

static void units_are_whole_or_absent_whoever_is_killed(void **state)
{
    (void)state;
    uint64_t kills = crash_number("SLUICE_UNIT_KILLS", 20), messages = 0, workers_killed = 0;
    struct rng rng;
    rng_seed(&rng, crash_seed());
    broker_start(&broker, broker_args);
    struct sluice *s = crash_open(broker.url);
    make(s, "in", true);
    for (int t = 0; t < TOPICS; t++)
        make(s, out_topics[t], false);
    pid_t worker = start_worker();
    for (uint64_t i = 0; i < kills; i++) {
        publish_ids(s, "in", messages, UNITS);
        messages += UNITS;
        struct timespec t = {.tv_nsec = (long)rng_below(&rng, 60000000)}; /* anywhere in a settle, and between two */
        nanosleep(&t, NULL);
        bool both = rng_chance(&rng, 1, 2);
        if (both)
            kill(worker, SIGKILL);
        broker_kill(&broker);
        if (both) {
            kill_worker(worker);
            worker = start_worker();
            workers_killed++;
        }
        broker_restart(&broker);
    }
    EVENTUALLY(DEADLINE_MS, lag(s, "in") == 0);
    kill_worker(worker);
    count_outputs(s, messages);
    expect_states(s, messages);
    printf("broker killed %" PRIu64 " times, the worker %" PRIu64 ": %" PRIu64 " units of %d outputs, each whole and there once\n", kills,
           workers_killed, messages, OUTPUTS);
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
    make(s, "inc", true);
    publish_ids(s, "inc", 0, all);
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
    assert_int_equal(lag(s, "inc"), 0);
    assert_true(atomic_load(&conflicts) > 0);
    crash_close(s);
    broker_end(&broker);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--worker") == 0)
        work(argv[2]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(units_are_whole_or_absent_whoever_is_killed),
                                       cmocka_unit_test(increments_of_one_row_by_many_workers_are_all_there)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "units.h"

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "crash.h"

enum { AT_ONCE = 100, OUTPUTS = UNITS_OUTPUTS, TOPICS = 3, DEADLINE_MS = 180000 };

#define WORKER "--worker"

static const char *const out_topics[TOPICS] = {"out0", "out1", "out2"};

void units_topic(struct sluice *s, const char *topic, bool group)
{
    struct sluice_error err;
    crash_topic(s, topic, SLUICE_DISK);
    struct sluice_group_options o = {.size = sizeof o, .lease_ms = 20000};
    if (group)
        crash_ok(sluice_group_create(s, topic, "g", &o, NULL, &err), &err);
}

void units_topics(struct sluice *s)
{
    units_topic(s, "in", true);
    for (int t = 0; t < TOPICS; t++)
        units_topic(s, out_topics[t], false);
}

uint64_t units_lag(struct sluice *s, const char *topic)
{
    struct sluice_lag_list *l;
    struct sluice_error err;
    crash_ok(sluice_group_lag(s, topic, "g", &l, &err), &err);
    uint64_t n = l->rows[0].lag_messages + l->rows[0].in_flight;
    assert_int_equal(l->rows[0].parked, 0);
    sluice_lag_free(l);
    return n;
}

void units_publish(struct sluice *s, const char *topic, uint64_t from, uint64_t n)
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
            struct sluice_receive_options r = {.size = sizeof r, .max_messages = AT_ONCE, .wait_ms = 1000};
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

pid_t units_start(const char *url)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) { /* anew: the threads of the client are not there in a copy */
        execl("/proc/self/exe", "worker", WORKER, url, (char *)NULL);
        _exit(127);
    }
    return pid;
}

void units_kill(pid_t worker)
{
    if (worker == 0)
        return;
    kill(worker, SIGKILL);
    waitpid(worker, NULL, 0);
}

void units_main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], WORKER) == 0)
        work(argv[2]);
}

/* ---------------------------------------------------------------- what came of it */

static uint64_t end_of(struct sluice *s, const char *topic)
{
    struct sluice_topic_list *l;
    struct sluice_error err;
    crash_ok(sluice_topics(s, topic, &l, &err), &err);
    uint64_t end = l->topics[0].partitions[0].end;
    sluice_topics_free(l);
    return end;
}

/* Counts each output of each message; a unit that was done in part, or twice, shows here. */
static void count_outputs(struct sluice *s, uint64_t messages)
{
    uint8_t (*seen)[OUTPUTS] = calloc(messages, sizeof *seen);
    uint64_t total = 0;
    struct sluice_error err;
    for (int t = 0; t < TOPICS; t++) {
        struct sluice_reader *r;
        struct sluice_batch *b;
        uint64_t end = end_of(s, out_topics[t]);
        crash_ok(sluice_reader_open(s, out_topics[t], 0, NULL, &r, &err), &err);
        while (sluice_reader_offset(r) < end) {
            crash_ok(sluice_reader_read(r, 0, &b, &err), &err);
            size_t n = sluice_batch_count(b);
            if (n == 0)
                fail_msg("a read of topic '%s' finds nothing at %" PRIu64 ", and the log ends at %" PRIu64, out_topics[t],
                         sluice_reader_offset(r), end);
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
        }
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

void units_expect(struct sluice *s, uint64_t messages)
{
    EVENTUALLY (DEADLINE_MS, units_lag(s, "in") == 0)
        ;
    /* A message counts as done as soon as that is decided, and what its unit published is seen once it is on the disk: when this is, which came
       later. */
    crash_topic(s, "seen", SLUICE_DISK);
    count_outputs(s, messages);
    expect_states(s, messages);
}

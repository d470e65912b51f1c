/*
 * kill -9 under everything at once, again and again, with ledgers that are not killed. $SLUICE_CRASH_CYCLES says how often (100).
 *
 * At every instant there are: producers and consumers of a disk and an os topic, order by key (load.h); messages that wait for their time,
 * are moved and cancelled (later.h); parked, redriven, delayed and held ones (letters.h); members of a stream group (streams.h); units of
 * work in a process that is killed as well (units.h). After each cycle what is new in the logs is read and each ledger asked, in the end everything must be there.
 *
 * A killed process leaves what it wrote to the kernel, so a topic that is written but not synced keeps its word here as well.
 */
#include <inttypes.h>
#include <signal.h>
#include <time.h>

#include "base/clock.h"
#include "later.h"
#include "letters.h"
#include "storm.h"
#include "streams.h"
#include "units.h"

enum {
    CYCLES = 100,
    READ_ALL_EVERY = 20,  /* cycles */
    KILL_TWICE_EVERY = 5, /* cycles: the second time while it starts */
    START_MS = 150,
    ACKED_MAX = 600,      /* messages of each log topic in a cycle, at most */
    UNITS_MAX = 20,       /* published in a cycle, at most */
    FINISH_MS = 60000,
};

struct mixed {
    struct storm storm;
    struct later *later;
    struct letters *letters;
    struct streams *streams;
    struct sluice *client;
    pid_t worker;
    uint64_t units, workers_killed;
};

static void expect_nothing_wrong(struct mixed *m)
{
    const char *wrong = later_wrong(m->later);
    if (wrong == NULL)
        wrong = letters_wrong(m->letters);
    if (wrong == NULL)
        wrong = streams_wrong(m->streams);
    if (wrong != NULL)
        fail_msg("%s", wrong);
}

static void kill_while_it_starts(struct storm *s)
{
    broker_spawn(&s->broker);
    nanosleep(&(struct timespec){.tv_nsec = (long)rng_below(&s->rng, START_MS) * 1000000}, NULL);
    broker_kill(&s->broker);
}

/* What a cycle asks of the broker before it is killed. */
static void work(struct mixed *m)
{
    uint64_t n = rng_between(&m->storm.rng, 1, UNITS_MAX);
    units_publish(m->client, "in", m->units, n);
    m->units += n;
    storm_work(&m->storm);
}

static void kill_both(struct mixed *m)
{
    bool both = rng_chance(&m->storm.rng, 1, 3);
    if (both)
        kill(m->worker, SIGKILL);
    broker_kill(&m->storm.broker);
    if (!both)
        return;
    units_kill(m->worker);
    m->worker = units_start(m->storm.broker.url);
    m->workers_killed++;
}

static void after_kill_9_under_everything_nothing_acked_is_lost_comes_back_or_is_there_twice(void **state)
{
    static const struct load_options topics[] = {
        {.topic = "safe", .partitions = 4, .durability = SLUICE_DISK, .producers = 2, .consumers = 2, .backlog_max = 500},
        {.topic = "fast", .partitions = 2, .durability = SLUICE_OS, .producers = 1, .consumers = 2, .backlog_max = 500},
    };
    static const char *const args[] = {"--no-publish", "--no-http", "--set", "limits.session_grace_ms=10s", NULL};
    struct mixed *m = *state;
    struct storm *s = &m->storm;
    uint64_t cycles = crash_number("SLUICE_CRASH_CYCLES", CYCLES), all_ms = 0, slowest_ms = 0, began_ms = clock_mono_ms();
    broker_start(&s->broker, args);
    s->acked_max = ACKED_MAX;
    storm_begin(s, crash_seed(), topics, 2);
    m->client = crash_open(s->broker.url);
    units_topics(m->client);
    m->worker = units_start(s->broker.url);
    m->later = later_start(s->broker.url, rng_next(&s->rng));
    m->letters = letters_start(s->broker.url, rng_next(&s->rng));
    m->streams = streams_start(s->broker.url, topics[0].topic, topics[0].partitions, rng_next(&s->rng));
    for (uint64_t cycle = 1; cycle <= cycles; cycle++) {
        work(m);
        kill_both(m);
        if (cycle % KILL_TWICE_EVERY == 0)
            kill_while_it_starts(s);
        uint64_t ms = clock_mono_ms();
        broker_restart(&s->broker);
        ms = clock_mono_ms() - ms;
        all_ms += ms;
        slowest_ms = ms > slowest_ms ? ms : slowest_ms;
        storm_read(s, cycle % READ_ALL_EVERY == 0);
        later_read(m->later);
        letters_look(m->letters);
        expect_nothing_wrong(m);
    }
    later_finish(m->later, FINISH_MS);
    letters_finish(m->letters, FINISH_MS);
    expect_nothing_wrong(m);
    struct storm_totals t = storm_finish(s);
    streams_finish(m->streams, FINISH_MS);
    expect_nothing_wrong(m);
    units_expect(m->client, m->units);
    struct later_totals later = later_totals(m->later);
    struct letters_totals letters = letters_totals(m->letters);
    struct streams_totals streams = streams_totals(m->streams);
    print_message("%" PRIu64 " messages, %" PRIu64 " deliveries, of them %" PRIu64 " again as asked for, %" PRIu64 " reconnects, %" PRIu64
                  " requests repeated; restart in %" PRIu64 " ms, at most %" PRIu64 "\n",
                  t.ledger.published, t.ledger.delivered, t.ledger.again, t.clients.reconnects, t.clients.repeated,
                  cycles > 0 ? all_ms / cycles : 0, slowest_ms);
    print_message("%" PRIu64 " scheduled, of them %" PRIu64 " moved and %" PRIu64 " cancelled; %" PRIu64 " parked and redriven, %" PRIu64
                  " delayed, by %" PRIu64 " redrives; %" PRIu64 " units of %d outputs, their worker killed %" PRIu64 " times; %" PRIu64 " s\n",
                  later.published, later.moved, later.cancelled, letters.parked, letters.delayed, letters.redrives, m->units,
                  UNITS_OUTPUTS, m->workers_killed, (clock_mono_ms() - began_ms) / 1000);
    print_message("by a stream group: %" PRIu64 " handed out, %" PRIu64 " of them again as not committed, %" PRIu64 " commits, %" PRIu64 " joins\n",
                  streams.handed_out, streams.again, streams.commits, streams.joins);
    assert_true(t.clients.reconnects >= cycles);
    assert_true(t.clients.repeated > 0); /* else nothing was shown of repeats */
    assert_true(later.moved > 0 && later.cancelled > 0 && letters.parked > 0 && letters.delayed > 0 && letters.done == letters.published && streams.commits > 0);
    print_message("kill -9: %" PRIu64 " cycles, 0 lost\n", cycles);
}

static struct mixed mixed;

static int begin(void **state)
{
    *state = &mixed;
    return 0;
}

static int end(void **state)
{
    struct mixed *m = *state;
    units_kill(m->worker);
    later_free(m->later);
    letters_free(m->letters);
    streams_free(m->streams);
    sluice_close(m->client, 0, NULL, NULL);
    storm_end(&m->storm);
    return 0;
}

int main(int argc, char **argv)
{
    units_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(after_kill_9_under_everything_nothing_acked_is_lost_comes_back_or_is_there_twice, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

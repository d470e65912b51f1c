/*
 * kill -9 under load, again and again, with a ledger that is not killed. $SLUICE_CRASH_CYCLES says how often (50).
 *
 * A killed process leaves what it wrote to the kernel, so a topic that is written but not synced keeps its word here as well.
 */
#include <inttypes.h>
#include <time.h>

#include "base/clock.h"
#include "storm.h"

enum {
    CYCLES = 50,
    READ_ALL_EVERY = 10,  /* cycles */
    KILL_TWICE_EVERY = 5, /* cycles: the second time while it starts */
    START_MS = 150,
};

static void kill_while_it_starts(struct storm *s)
{
    broker_spawn(&s->broker);
    nanosleep(&(struct timespec){.tv_nsec = (long)rng_below(&s->rng, START_MS) * 1000000}, NULL);
    broker_kill(&s->broker);
}

static void after_kill_9_under_load_nothing_acked_is_lost_comes_back_or_is_there_twice(void **state)
{
    static const struct load_options topics[] = {
        {.topic = "safe", .partitions = 4, .durability = SLUICE_DISK, .producers = 3, .consumers = 3, .backlog_max = 5000},
        {.topic = "fast", .partitions = 2, .durability = SLUICE_OS, .producers = 2, .consumers = 2, .backlog_max = 5000},
    };
    struct storm *s = *state;
    uint64_t cycles = crash_number("SLUICE_CRASH_CYCLES", CYCLES), all_ms = 0, slowest_ms = 0;
    broker_start(&s->broker, NULL);
    storm_begin(s, crash_seed(), topics, 2);
    for (uint64_t cycle = 1; cycle <= cycles; cycle++) {
        storm_work(s);
        broker_kill(&s->broker);
        if (cycle % KILL_TWICE_EVERY == 0)
            kill_while_it_starts(s);
        uint64_t ms = clock_mono_ms();
        broker_restart(&s->broker);
        ms = clock_mono_ms() - ms;
        all_ms += ms;
        slowest_ms = ms > slowest_ms ? ms : slowest_ms;
        storm_read(s, cycle % READ_ALL_EVERY == 0);
    }
    struct storm_totals t = storm_finish(s);
    print_message("kill -9: %" PRIu64 " cycles, 0 lost\n", cycles);
    print_message("%" PRIu64 " messages, %" PRIu64 " deliveries, of them %" PRIu64 " again as asked for, %" PRIu64 " reconnects, %" PRIu64
                  " requests repeated; restart in %" PRIu64 " ms, at most %" PRIu64 "\n",
                  t.ledger.published, t.ledger.delivered, t.ledger.again, t.clients.reconnects, t.clients.repeated,
                  cycles > 0 ? all_ms / cycles : 0, slowest_ms);
    assert_true(t.clients.reconnects >= cycles);
    assert_true(t.clients.repeated > 0); /* else nothing was shown of repeats */
}

static struct storm storm;

static int begin(void **state)
{
    *state = &storm;
    return 0;
}

static int end(void **state)
{
    storm_end(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(after_kill_9_under_load_nothing_acked_is_lost_comes_back_or_is_there_twice, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

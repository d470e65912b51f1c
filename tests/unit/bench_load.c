/* Load, and what is counted of it (tests/bench/load.c). */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "bench/load.h"
#include "unit.h"

enum { MS = 1000000 };

static void wait_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * MS};
    nanosleep(&t, NULL);
}

/* How many latencies are at least so long. */
static uint64_t at_least(const struct hist *h, double us)
{
    uint64_t n = 0;
    for (double p = 100.0 / (double)h->total; p < 100 + 50.0 / (double)h->total; p += 100.0 / (double)h->total)
        n += hist_us(h, p < 100 ? p : 100) >= us;
    return n;
}

/* A server that answers at once, but that its first answer takes 300 ms. */
static int stalls_once(struct load_lane *l, struct err *e)
{
    (void)e;
    bool first = true;
    load_ready(l);
    for (struct load_ticket t; load_next(l, &t); first = false) {
        if (first)
            wait_ms(300);
        load_done(l, &t);
    }
    return 0;
}

static struct outcome run(load_lane_fn *fn, struct load_options o, struct hist *h)
{
    struct outcome out = {.latency = h};
    struct err e = {0};
    o.fn = fn;
    o.lanes = o.lanes != 0 ? o.lanes : 1;
    assert_int_equal(load_run(&o, &out, &e), 0);
    return out;
}

static void what_was_to_be_sent_during_a_stall_is_late_by_it(void **state)
{
    (void)state;
    struct hist *h = hist_new();
    run(stalls_once, (struct load_options){.batch = 1, .window = 1, .rate = 100, .seconds = 0.6}, h);
    assert_int_equal(h->total, 60);
    assert_in_range(at_least(h, 100000), 20, 60); /* those of the first 200 ms, at least */
    free(h);
}

static void in_the_closed_loop_one_waits_and_no_other_was_to_be_sent(void **state)
{
    (void)state;
    struct hist *h = hist_new();
    run(stalls_once, (struct load_options){.batch = 1, .window = 1, .messages = 1000}, h);
    assert_int_equal(h->total, 1000);
    assert_true(h->max_us >= 300000);
    free(h);
}

static int answers(struct load_lane *l, struct err *e)
{
    (void)e;
    load_ready(l);
    for (struct load_ticket t; load_next(l, &t);)
        load_done(l, &t);
    return 0;
}

static void what_was_to_be_sent_in_the_warm_up_is_not_counted(void **state)
{
    (void)state;
    struct hist *h = hist_new();
    run(answers, (struct load_options){.lanes = 2, .batch = 10, .window = 4, .rate = 10000, .warmup = 0.2, .seconds = 0.3}, h);
    assert_int_equal(h->total, 3000); /* of 5,000 */
    free(h);
}

static void a_number_of_messages_is_sent_exactly_whatever_the_batch(void **state)
{
    (void)state;
    struct hist *h = hist_new();
    struct outcome out = run(answers, (struct load_options){.lanes = 3, .batch = 7, .window = 2, .messages = 1000}, h);
    assert_int_equal(out.messages, 1000);
    assert_int_equal(h->total, 1000);
    assert_true(out.seconds > 0);
    free(h);
}

/* Answers only when as many are out as may be. */
struct crowd {
    struct load_ticket out[4];
    unsigned count, most;
};

static int answers_late(struct load_lane *l, struct err *e)
{
    struct crowd *c = l->user;
    (void)e;
    load_ready(l);
    for (struct load_ticket t; load_next(l, &t);) {
        c->out[c->count++] = t;
        c->most = c->count > c->most ? c->count : c->most;
        while (c->count == 4)
            for (; c->count > 0; c->count--)
                load_done(l, &c->out[c->count - 1]);
    }
    return 0;
}

static void as_many_batches_are_out_as_the_window_has(void **state)
{
    (void)state;
    struct crowd crowd = {.count = 0};
    struct load_options o = {.batch = 1, .window = 4, .messages = 100, .user = &crowd};
    run(answers_late, o, NULL);
    assert_int_equal(crowd.most, 4);
}

static void a_stall_is_a_gap_and_a_steady_answer_has_none(void **state)
{
    (void)state;
    struct gaps gaps = {.least_ns = 250 * (uint64_t)MS}, none = {.least_ns = 10000 * (uint64_t)MS};
    run(stalls_once, (struct load_options){.batch = 1, .window = 1, .rate = 100, .seconds = 0.6, .gaps = &gaps}, NULL);
    assert_true(gaps.count >= 1);
    assert_true(gaps.list[0].to_ns - gaps.list[0].from_ns >= 299 * (uint64_t)MS);
    assert_true(gaps.longest_ns >= gaps.list[0].to_ns - gaps.list[0].from_ns);
    run(answers, (struct load_options){.batch = 1, .window = 1, .messages = 1000, .gaps = &none}, NULL);
    assert_int_equal(none.count, 0);

    struct gaps late = {.least_ns = 1};
    struct outcome out =
        run(stalls_once, (struct load_options){.batch = 1, .window = 1, .rate = 100, .warmup = 0.4, .seconds = 0.2, .gaps = &late}, NULL);
    assert_true(late.count > 0);
    for (size_t i = 0; i < late.count; i++)
        assert_true(late.list[i].from_ns >= out.begin_ns); /* that of the warm-up is none */
}

static int fails(struct load_lane *l, struct err *e)
{
    if (l->index == 1)
        return err_set(e, EIO, "it broke");
    return answers(l, e);
}

static void a_lane_that_fails_ends_the_others_and_is_told(void **state)
{
    (void)state;
    struct load_options o = {.lanes = 3, .batch = 1, .window = 1, .seconds = 3600, .fn = fails};
    struct outcome out = {0};
    struct err e = {0};
    assert_int_equal(load_run(&o, &out, &e), EIO);
    assert_string_equal(e.text, "it broke");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_to_be_sent_during_a_stall_is_late_by_it),
        cmocka_unit_test(in_the_closed_loop_one_waits_and_no_other_was_to_be_sent),
        cmocka_unit_test(what_was_to_be_sent_in_the_warm_up_is_not_counted),
        cmocka_unit_test(a_number_of_messages_is_sent_exactly_whatever_the_batch),
        cmocka_unit_test(as_many_batches_are_out_as_the_window_has),
        cmocka_unit_test(a_stall_is_a_gap_and_a_steady_answer_has_none),
        cmocka_unit_test(a_lane_that_fails_ends_the_others_and_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

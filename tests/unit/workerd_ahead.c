/* How many tasks may be held ahead of the places that children have, in virtual time. */
#include "unit.h"

#include "workerd/ahead.h"

static struct ahead a;
static struct ahead_limits limits;
static uint64_t now_ms, finished;

static int set_up(void **state)
{
    (void)state;
    now_ms = 5000;
    finished = 77; /* before this one began to count */
    ahead_begin(&a, now_ms);
    ahead_count(&a, finished, now_ms += 100);
    ahead_count(&a, finished, now_ms += 100);
    limits = (struct ahead_limits){.bytes = AHEAD_BYTES_MAX};
    return 0;
}

/* So many are finished in each millisecond, of which the loop turns in each. */
static void work(uint64_t per_ms, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++)
        ahead_count(&a, finished += per_ms, ++now_ms);
}

/* One is finished after each such time, and only then the loop turns. */
static void work_slowly(uint64_t each_ms, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        ahead_count(&a, ++finished, now_ms += each_ms);
}

static void nothing_is_held_ahead_before_anything_was_done(void **state)
{
    (void)state;
    assert_int_equal(ahead_most(&a, &limits), 0);
}

static void a_fast_handler_is_held_ahead_what_it_does_in_a_moment(void **state)
{
    (void)state;
    work(10, 100);
    assert_int_equal(ahead_most(&a, &limits), 200);
    work(20, 100);
    assert_int_equal(ahead_most(&a, &limits), 400);
}

static void a_slow_handler_is_held_nothing_ahead(void **state)
{
    (void)state;
    work_slowly(5, 100);
    assert_int_equal(ahead_most(&a, &limits), 4);
    work_slowly(21, 100);
    assert_int_equal(ahead_most(&a, &limits), 0);
    work_slowly(3000, 5);
    assert_int_equal(ahead_most(&a, &limits), 0);
}

static void what_is_held_ahead_has_a_bound_in_number(void **state)
{
    (void)state;
    work(1000, 200);
    assert_int_equal(ahead_most(&a, &limits), AHEAD_MAX);
}

static void what_is_held_ahead_has_a_bound_in_bytes(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        ahead_fetched(&a, 1 << 20);
    work(10, 100);
    assert_int_equal(ahead_most(&a, &limits), 4);
    limits.bytes = 1 << 20;
    assert_int_equal(ahead_most(&a, &limits), 1);
    for (int i = 0; i < 20000; i++) /* they are smaller now */
        ahead_fetched(&a, 1 << 10);
    assert_int_equal(ahead_most(&a, &limits), 200);
}

static void of_a_group_with_a_limit_there_is_the_most_of_it_for_others(void **state)
{
    (void)state;
    work(10, 100);
    limits.in_flight_max = 100;
    assert_int_equal(ahead_most(&a, &limits), 25);
    limits.in_flight_max = 3;
    assert_int_equal(ahead_most(&a, &limits), 0);
}

static void who_gets_slow_is_held_nothing_ahead_soon(void **state)
{
    (void)state;
    work(10, 100);
    work(0, 60); /* a hiccup */
    assert_int_equal(ahead_most(&a, &limits), 200);
    work(0, 60);
    assert_int_equal(ahead_most(&a, &limits), 0);
    work(10, 100);
    ahead_count(&a, finished, now_ms += AHEAD_LONG_MS); /* nothing happened, so the loop did not turn */
    assert_int_equal(ahead_most(&a, &limits), 0);
}

#define AHEAD(test) cmocka_unit_test_setup(test, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        AHEAD(nothing_is_held_ahead_before_anything_was_done),
        AHEAD(a_fast_handler_is_held_ahead_what_it_does_in_a_moment),
        AHEAD(a_slow_handler_is_held_nothing_ahead),
        AHEAD(what_is_held_ahead_has_a_bound_in_number),
        AHEAD(what_is_held_ahead_has_a_bound_in_bytes),
        AHEAD(of_a_group_with_a_limit_there_is_the_most_of_it_for_others),
        AHEAD(who_gets_slow_is_held_nothing_ahead_soon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* When those who consume are through (tests/bench/goal.h). */
#include "unit.h"

#include "bench/goal.h"

static void it_is_reached_with_the_last_message_and_not_before(void **state)
{
    (void)state;
    struct goal g;
    goal_init(&g, NULL, 100);
    goal_add(&g, 99);
    assert_false(goal_reached(&g));
    goal_add(&g, 1);
    assert_true(goal_reached(&g));
}

static void what_never_ends_has_none(void **state)
{
    (void)state;
    struct goal g;
    goal_init(&g, NULL, 0);
    goal_add(&g, 1000000);
    assert_false(goal_reached(&g));
}

/* Was a bug: a message that another thread counted between two looks at the clock ended the run, which then was void. */
static void a_message_that_just_came_is_no_silence(void **state)
{
    (void)state;
    struct goal g;
    goal_init(&g, NULL, 100);
    goal_add(&g, 1);
    atomic_store(&g.last_ns, clock_mono_ns() + 1000000000); /* later than our own look */
    assert_false(goal_reached(&g));
}

static void silence_ends_it(void **state)
{
    (void)state;
    struct goal g;
    goal_init(&g, NULL, 100);
    goal_add(&g, 1);
    atomic_store(&g.last_ns, clock_mono_ns() - GOAL_QUIET_NS - 1);
    assert_true(goal_reached(&g));
    atomic_uint_fast64_t until = UINT64_MAX; /* but not before it is known how many come */
    g.until = &until;
    assert_false(goal_reached(&g));
    atomic_store(&until, 1);
    assert_true(goal_reached(&g));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_reached_with_the_last_message_and_not_before),
        cmocka_unit_test(what_never_ends_has_none),
        cmocka_unit_test(a_message_that_just_came_is_no_silence),
        cmocka_unit_test(silence_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

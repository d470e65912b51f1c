/* Interleaved runs (tests/bench/pairs.c). */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "bench/pairs.h"
#include "unit.h"

struct machine { /* gets slower with each run; `said` is who ran */
    double speed;
    char said[64];
};

struct side { struct machine *machine; char name; double factor; int fails_at; };

static int run(void *user, double *out, struct err *e)
{
    struct side *s = user;
    size_t n = strlen(s->machine->said);
    if ((int)n == s->fails_at)
        return err_set(e, EIO, "%c fails", s->name);
    s->machine->said[n] = s->name;
    s->machine->speed *= 0.9;
    *out = s->factor * s->machine->speed;
    return 0;
}

static void sides_take_turns_and_a_machine_that_slows_down_meets_both(void **state)
{
    (void)state;
    struct machine m = {.speed = 1000};
    struct side a = {&m, 'a', 3, -1}, b = {&m, 'b', 1, -1};
    struct pairs p;
    struct err e = {0};
    assert_int_equal(pairs_run(&p, 5, run, &a, run, &b, &e), 0);
    assert_string_equal(m.said, "ababababab");
    assert_true(fabs(pairs_ratio(&p) - 3 / 0.9) < 1e-9); /* a run apart, not five */
    assert_true(pairs_a(&p) > pairs_b(&p));
}

static void one_run_that_was_disturbed_changes_nothing(void **state)
{
    (void)state;
    struct pairs p = {.runs = 5, .a = {10, 10, 1, 10, 10}, .b = {5, 5, 5, 5, 5000}};
    assert_true(pairs_ratio(&p) == 2);
    assert_true(pairs_a(&p) == 10);
    assert_true(pairs_b(&p) == 5);
}

static void the_median_of_an_even_count_is_between_the_two_in_the_middle(void **state)
{
    (void)state;
    assert_true(median((const double[]){4, 1, 3, 2}, 4) == 2.5);
    assert_true(median((const double[]){7}, 1) == 7);
    assert_true(isnan(median(NULL, 0)));
}

static void an_error_ends_it(void **state)
{
    (void)state;
    struct machine m = {.speed = 1};
    struct side a = {&m, 'a', 1, -1}, b = {&m, 'b', 1, 3};
    struct pairs p;
    struct err e = {0};
    assert_int_equal(pairs_run(&p, 5, run, &a, run, &b, &e), EIO);
    assert_string_equal(e.text, "b fails");
    assert_string_equal(m.said, "aba");
    assert_int_equal(p.runs, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sides_take_turns_and_a_machine_that_slows_down_meets_both),
        cmocka_unit_test(one_run_that_was_disturbed_changes_nothing),
        cmocka_unit_test(the_median_of_an_even_count_is_between_the_two_in_the_middle),
        cmocka_unit_test(an_error_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

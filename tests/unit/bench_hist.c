/* The histogram of latencies (tests/bench/hist.c). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "bench/hist.h"
#include "unit.h"

#define US UINT64_C(1000)

static void every_latency_is_kept_to_three_digits(void **state)
{
    (void)state;
    struct hist *h = hist_new();
    struct rng r;
    rng_seed(&r, 1);
    for (int i = 0; i < 3000; i++) {
        uint64_t us = 1 + rng_next(&r) % (UINT64_C(1) << rng_between(&r, 1, 29));
        hist_clear(h);
        hist_record(h, us * US, 1);
        hist_record(h, HIST_US_MAX * US, 1); /* so that it is not the maximum that is told */
        double told = hist_us(h, 50);
        assert_true(told >= (double)us && told <= (double)us * 1.001 + 0.5);
    }
    free(h);
}

static void a_percentile_is_what_so_many_do_not_exceed(void **state)
{
    (void)state;
    struct hist *h = hist_new();
    for (uint64_t us = 1; us <= 1000; us++)
        hist_record(h, us * US, 1);
    assert_true(hist_us(h, 50) == 500);
    assert_true(hist_us(h, 99) == 990);
    assert_true(hist_us(h, 99.9) == 999);
    assert_true(hist_us(h, 99.99) == 1000);
    assert_true(hist_us(h, 100) == 1000);
    assert_true(hist_us(h, 0) == 1);
    assert_true(hist_mean_us(h) == 500.5);
    free(h);
}

static void one_slow_among_many_is_the_maximum_and_no_median(void **state)
{
    (void)state;
    struct hist *h = hist_new();
    hist_record(h, 10 * US, 9999);
    hist_record(h, 5000001 * US, 1);
    assert_true(hist_us(h, 99.99) == 10);
    assert_true(hist_us(h, 99.999) == 5000001);
    assert_int_equal(h->max_us, 5000001);
    assert_int_equal(h->total, 10000);
    free(h);
}

static void a_fraction_of_a_microsecond_is_rounded_up_and_too_long_is_the_longest(void **state)
{
    (void)state;
    struct hist *h = hist_new();
    hist_record(h, 1, 1);
    assert_int_equal(h->max_us, 1);
    hist_record(h, UINT64_MAX, 1);
    assert_int_equal(h->max_us, HIST_US_MAX);
    free(h);
}

static void two_histograms_added_are_one_of_both(void **state)
{
    (void)state;
    struct hist *a = hist_new(), *b = hist_new(), *both = hist_new();
    struct rng r;
    rng_seed(&r, 2);
    for (int i = 0; i < 1000; i++) {
        uint64_t ns = rng_below(&r, 100000000);
        hist_record(i % 3 == 0 ? a : b, ns, 1);
        hist_record(both, ns, 1);
    }
    hist_add(a, b);
    assert_memory_equal(a->counts, both->counts, sizeof a->counts);
    assert_int_equal(a->total, both->total);
    assert_int_equal(a->max_us, both->max_us);
    assert_int_equal(a->min_us, both->min_us);
    free(a);
    free(b);
    free(both);
}

static void a_file_has_value_percentile_and_count(void **state)
{
    (void)state;
    char path[] = "/tmp/bench-hist-XXXXXX", text[256];
    close(mkstemp(path));
    struct hist *h = hist_new();
    hist_record(h, 5 * US, 3);
    hist_record(h, 70 * US, 1);
    struct err e = {0};
    assert_int_equal(hist_write(h, path, &e), 0);
    FILE *f = fopen(path, "r");
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    unlink(path);
    assert_string_equal(text, "# us percentile count\n5 75.000000 3\n70 100.000000 4\n");
    assert_int_not_equal(hist_write(h, "/nowhere/at/all", &e), 0);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_latency_is_kept_to_three_digits),
        cmocka_unit_test(a_percentile_is_what_so_many_do_not_exceed),
        cmocka_unit_test(one_slow_among_many_is_the_maximum_and_no_median),
        cmocka_unit_test(a_fraction_of_a_microsecond_is_rounded_up_and_too_long_is_the_longest),
        cmocka_unit_test(two_histograms_added_are_one_of_both),
        cmocka_unit_test(a_file_has_value_percentile_and_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "unit.h"

#include <time.h>

#include "base/clock.h"

static void monotonic_time_never_goes_back(void **state)
{
    (void)state;
    uint64_t last = clock_mono_ns();
    for (int i = 0; i < 10000; i++) {
        uint64_t now = clock_mono_ns();
        assert_true(now >= last);
        last = now;
    }
}

static void monotonic_time_counts_real_time_in_its_units(void **state)
{
    (void)state;
    uint64_t ns = clock_mono_ns(), ms = clock_mono_ms();
    assert_in_range(ms - ns / 1000000, 0, 1000);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    assert_in_range(clock_mono_ns() - ns, 20000000, 20000000000);
    assert_in_range(clock_mono_ms() - ms, 19, 20000);
}

static void wall_time_is_the_date_in_milliseconds(void **state)
{
    (void)state;
    uint64_t ms = clock_wall_ms();
    assert_in_range(ms / 1000, (uint64_t)time(NULL) - 2, (uint64_t)time(NULL) + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic_time_never_goes_back),
        cmocka_unit_test(monotonic_time_counts_real_time_in_its_units),
        cmocka_unit_test(wall_time_is_the_date_in_milliseconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "unit.h"

#include <signal.h>
#include <sys/time.h>

#include "base/entropy.h"
#include "base/mem.h"

static void two_fills_differ_and_fill_everything(void **state)
{
    (void)state;
    uint8_t a[1024] = {0}, b[1024] = {0}, ever[1024] = {0};
    entropy_fill(a, sizeof a);
    entropy_fill(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    for (int round = 0; round < 8; round++) {
        entropy_fill(a, sizeof a);
        for (size_t i = 0; i < sizeof a; i++)
            ever[i] |= a[i];
    }
    /* A byte that was written is 0 eight times in a row once in 2^64. */
    for (size_t i = 0; i < sizeof ever; i++)
        assert_int_not_equal(ever[i], 0);
}

static void nothing_outside_the_size_is_written(void **state)
{
    (void)state;
    for (int round = 0; round < 8; round++) {
        uint8_t bytes[18];
        memset(bytes, 0xaa, sizeof bytes);
        entropy_fill(bytes + 1, 16);
        assert_int_equal(bytes[0], 0xaa);
        assert_int_equal(bytes[17], 0xaa);
    }
    entropy_fill(NULL, 0);
}

static void on_alarm(int signal_number)
{
    (void)signal_number;
}

static void a_signal_does_not_cut_a_fill_short(void **state)
{
    (void)state;
    /* The system hands out what it has so far when a signal comes. */
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_alarm}, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{.tv_usec = 1000}, {.tv_usec = 1000}}, NULL);
    size_t size = 16u << 20;
    uint8_t *bytes = mem_zalloc(size);
    for (int round = 0; round < 4; round++) {
        entropy_fill(bytes, size);
        assert_memory_not_equal(bytes + size - 16, (uint8_t[16]){0}, 16);
        memset(bytes, 0, size);
    }
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    mem_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_fills_differ_and_fill_everything),
        cmocka_unit_test(nothing_outside_the_size_is_written),
        cmocka_unit_test(a_signal_does_not_cut_a_fill_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

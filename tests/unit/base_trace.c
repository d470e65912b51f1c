#include "unit.h"

#include "base/trace.h"

struct seen {
    uint64_t times[16];
    size_t count;
};

static void note(const struct trace_event *ev, void *arg)
{
    struct seen *seen = arg;
    assert_string_equal(ev->tag, "step");
    assert_int_equal(ev->arg[0], ev->time + 1);
    assert_int_equal(ev->arg[3], ev->time + 4);
    seen->times[seen->count++] = ev->time;
}

static void the_last_events_are_told_oldest_first(void **state)
{
    (void)state;
    for (uint64_t added = 0; added < 12; added++) {
        struct trace t;
        struct seen seen = {.count = 0};
        trace_init(&t, 4);
        for (uint64_t i = 0; i < added; i++)
            trace_add(&t, i, "step", i + 1, i + 2, i + 3, i + 4);
        trace_each(&t, note, &seen);
        size_t kept = added < 4 ? added : 4;
        assert_int_equal(seen.count, kept);
        for (size_t i = 0; i < kept; i++)
            assert_int_equal(seen.times[i], added - kept + i);
        trace_free(&t);
    }
}

static void a_ring_of_one_keeps_the_last(void **state)
{
    (void)state;
    struct trace t;
    struct seen seen = {.count = 0};
    trace_init(&t, 1);
    trace_add(&t, 1, "step", 2, 3, 4, 5);
    trace_add(&t, 2, "step", 3, 4, 5, 6);
    trace_each(&t, note, &seen);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.times[0], 2);
    trace_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_events_are_told_oldest_first),
        cmocka_unit_test(a_ring_of_one_keeps_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

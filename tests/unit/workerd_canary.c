/* Which version of a handler is the worse one, in virtual time. */
#include "unit.h"

#include "base/macros.h"
#include "base/rng.h"
#include "workerd/canary.h"

enum { TIME_MS = 60000 };

static const char *const names[] = {"wait", "promote", "roll back"};

static void add(struct canary *c, bool of_new, unsigned n, unsigned failed)
{
    for (unsigned i = 0; i < n; i++)
        canary_verdict(c, of_new, i < failed);
}

static const struct {
    const char *title;
    unsigned old_n, old_failed, new_n, new_failed;
    uint64_t age_ms;
    enum canary_decision decision;
} cases[] = {
    {"nothing happened yet", 0, 0, 0, 0, 0, CANARY_WAIT},
    {"all is well, but not for long enough", 1000, 0, 100, 0, TIME_MS - 1, CANARY_WAIT},
    {"all is well for long enough", 1000, 0, 100, 0, TIME_MS, CANARY_PROMOTE},
    {"too few tasks", 1000, 0, CANARY_TASKS_MIN - 1, 0, TIME_MS, CANARY_WAIT},
    {"too few tasks for very long", 0, 0, 0, 0, 10 * TIME_MS, CANARY_PROMOTE},
    {"the new one fails on everything", 100, 0, 5, 5, 10, CANARY_ROLL_BACK},
    {"few failures say nothing", 100, 0, 4, 4, 10, CANARY_WAIT},
    {"it fails on everything, and nothing is known of the old one", 0, 0, 20, 20, 10, CANARY_ROLL_BACK},
    {"both fail on everything", 100, 100, 50, 50, 10, CANARY_WAIT},
    {"both fail now and then", 1000, 100, 100, 12, TIME_MS, CANARY_PROMOTE},
    {"it fails three times as often", 1000, 100, 100, 30, 10, CANARY_ROLL_BACK},
    {"it fails less", 1000, 300, 100, 5, TIME_MS, CANARY_PROMOTE},
    {"it is worse at the end of the time", 1000, 0, 100, 20, TIME_MS, CANARY_ROLL_BACK},
};

static void a_version_that_fails_more_is_rolled_back_and_one_as_good_is_promoted(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct canary c = {.percent = 10, .time_ms = TIME_MS, .since_ms = 5000};
        add(&c, false, cases[i].old_n, cases[i].old_failed);
        add(&c, true, cases[i].new_n, cases[i].new_failed);
        enum canary_decision d = canary_decide(&c, 5000 + cases[i].age_ms);
        if (d != cases[i].decision)
            fail_msg("%s: %s", cases[i].title, names[d]);
    }
}

/* Of a hundred canaries of a thousand tasks, one in ten of them new, looked at after each task: how many are rolled back. */
static unsigned rolled_back(unsigned old_percent, unsigned new_percent)
{
    unsigned n = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct rng r;
        rng_seed(&r, seed);
        struct canary c = {.percent = 10, .time_ms = TIME_MS};
        bool back = false;
        for (int i = 0; i < 1000 && !back; i++) {
            bool of_new = rng_chance(&r, 1, 10);
            canary_verdict(&c, of_new, rng_chance(&r, of_new ? new_percent : old_percent, 100));
            back = canary_decide(&c, 0) == CANARY_ROLL_BACK;
        }
        n += back;
    }
    return n;
}

static void chance_rolls_back_few_and_spares_few(void **state)
{
    (void)state;
    assert_int_equal(rolled_back(0, 0), 0);
    assert_in_range(rolled_back(1, 1), 0, 2);
    assert_in_range(rolled_back(10, 10), 0, 5);
    assert_in_range(rolled_back(50, 50), 0, 5);
    assert_in_range(rolled_back(100, 100), 0, 0);
    assert_in_range(rolled_back(1, 20), 95, 100);
    assert_in_range(rolled_back(10, 50), 95, 100);
    assert_in_range(rolled_back(0, 100), 100, 100);
}

static void a_key_is_always_with_the_same_version(void **state)
{
    (void)state;
    unsigned taken = 0, placed = 0;
    char key[16];
    for (uint32_t i = 0; i < 10000; i++) {
        int n = snprintf(key, sizeof key, "key-%u", i);
        bool first = canary_takes(10, view_of(key, (size_t)n), 0, i);
        assert_int_equal(canary_takes(10, view_of(key, (size_t)n), 7, i + 1), first);
        assert_true(!first || canary_takes(20, view_of(key, (size_t)n), 0,
                                           i)); /* a larger part has the smaller in it */
        taken += first;
        placed += canary_takes(10, (struct view){0}, i % 16, i / 16);
    }
    assert_in_range(taken, 900, 1100);
    assert_in_range(placed, 900, 1100);
}

static void it_is_looked_at_again_when_its_time_is_over(void **state)
{
    (void)state;
    struct canary c = {.percent = 10, .time_ms = TIME_MS, .since_ms = 5000};
    uint64_t due = canary_due_ms(&c, 5000);
    assert_int_equal(due, 5000 + TIME_MS);
    assert_int_equal(canary_decide(&c, due), CANARY_WAIT);
    due = canary_due_ms(&c, due);
    assert_int_equal(due, 5000 + 10 * TIME_MS);
    assert_int_equal(canary_decide(&c, due), CANARY_PROMOTE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_version_that_fails_more_is_rolled_back_and_one_as_good_is_promoted),
        cmocka_unit_test(chance_rolls_back_few_and_spares_few),
        cmocka_unit_test(a_key_is_always_with_the_same_version),
        cmocka_unit_test(it_is_looked_at_again_when_its_time_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

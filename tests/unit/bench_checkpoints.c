/* What is said of backups under load: how long they took, and which times without an answer fell into them. */
#include "unit.h"

#include "bench/checkpoints.h"

enum { MS = 1000000 };

static void how_long_they_took_is_said_of_all(void **state)
{
    (void)state;
    struct checkpoints_made *m = calloc(1, sizeof *m);
    assert_int_equal(checkpoints_longest_ns(m), 0);
    assert_true(checkpoints_mean_ns(m) == 0);
    m->count = 3;
    m->list[0] = (struct gap){100 * MS, 110 * MS};
    m->list[1] = (struct gap){200 * MS, 250 * MS};
    m->list[2] = (struct gap){300 * MS, 330 * MS};
    assert_int_equal(checkpoints_longest_ns(m), 50 * MS);
    assert_true(checkpoints_mean_ns(m) == 30 * MS);
    free(m);
}

static void a_gap_that_shares_an_instant_with_one_met_it(void **state)
{
    (void)state;
    struct checkpoints_made *m = calloc(1, sizeof *m);
    m->count = 2;
    m->list[0] = (struct gap){100, 200};
    m->list[1] = (struct gap){300, 400};
    static const struct { struct gap gap; bool met; } all[] = {
        {{0, 100}, false}, {{0, 101}, true}, {{150, 160}, true}, {{199, 500}, true}, {{200, 300}, false}, {{250, 301}, true}, {{400, 900}, false},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        assert_int_equal(checkpoints_meet(m, &all[i].gap), all[i].met);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(how_long_they_took_is_said_of_all),
        cmocka_unit_test(a_gap_that_shares_an_instant_with_one_met_it),
    };
    return cmocka_run_group_tests_name("bench-checkpoints", tests, NULL, NULL);
}

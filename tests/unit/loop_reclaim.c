/* When disk space is worth a compaction. */
#include "unit.h"

#include "broker/reclaim.h"

enum { MB = 1 << 20 };

static void space_is_given_back_where_it_is_much_against_what_stays_and_what_it_costs(void **state)
{
    (void)state;
    assert_true(reclaim_worth(2000 * (uint64_t)MB, 1000 * (uint64_t)MB, MB, 64 * MB));
    assert_false(reclaim_worth(63 * MB, 0, 0, 64 * MB));               /* little */
    assert_true(reclaim_worth(64 * MB, 0, 0, 64 * MB));
    assert_false(reclaim_worth(64 * MB, 513 * (uint64_t)MB, MB, 64 * MB));    /* little against what stays */
    assert_false(reclaim_worth(100 * MB, 300 * MB, 400 * MB, 64 * MB)); /* small values lie in the tables: all of them would be copied */
    assert_true(reclaim_worth(200 * MB, 300 * MB, 400 * MB, 64 * MB));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(space_is_given_back_where_it_is_much_against_what_stays_and_what_it_costs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

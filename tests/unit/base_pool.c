#include "unit.h"

#include "base/mem.h"
#include "base/pool.h"

struct thing { char name[40]; };

static void what_is_taken_is_all_zero_also_when_it_was_used_before(void **state)
{
    (void)state;
    struct pool p = {.size = sizeof(struct thing), .kept_max = 4};
    static const struct thing zero;
    for (int i = 0; i < 10; i++) {
        struct thing *t = pool_take(&p);
        assert_memory_equal(t, &zero, sizeof zero);
        memset(t, 'x', sizeof *t);
        pool_give(&p, t);
    }
    pool_free(&p);
}

static void what_is_out_is_nobody_elses(void **state)
{
    (void)state;
    struct pool p = {.size = sizeof(struct thing), .kept_max = 4};
    struct thing *t[8];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < 8; i++) {
            t[i] = pool_take(&p);
            snprintf(t[i]->name, sizeof t[i]->name, "thing %zu", i);
        }
        for (size_t i = 0; i < 8; i++) {
            char name[40];
            snprintf(name, sizeof name, "thing %zu", i);
            assert_string_equal(t[i]->name, name);
            pool_give(&p, t[i]);
        }
    }
    pool_free(&p);
}

static void no_more_than_the_bound_lies_unused(void **state)
{
    (void)state;
    struct pool p = {.size = sizeof(struct thing), .kept_max = 3};
    void *t[5];
    for (size_t i = 0; i < 5; i++)
        t[i] = pool_take(&p);
    for (size_t i = 0; i < 5; i++)
        pool_give(&p, t[i]);
    assert_in_range(p.kept_n, 0, 3);
    pool_give(&p, NULL);
    pool_free(&p);
    assert_int_equal(p.kept_n, 0);
    assert_null(p.kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_taken_is_all_zero_also_when_it_was_used_before),
        cmocka_unit_test(what_is_out_is_nobody_elses),
        cmocka_unit_test(no_more_than_the_bound_lies_unused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "unit.h"

#include <malloc.h>

#include "base/rng.h"
#include "base/table.h"

/* Any non-NULL pointer that can be told from the others. */
static void *value_of(uint64_t n)
{
    return (void *)(uintptr_t)(n + 1);
}

static void an_empty_table_has_no_number(void **state)
{
    (void)state;
    struct table t = {0};
    uint64_t at = 0;
    assert_null(table_get(&t, 0));
    assert_null(table_get(&t, UINT32_MAX));
    assert_null(table_del(&t, 7));
    assert_null(table_from(&t, &at));
    assert_int_equal(table_count(&t), 0);
    table_free(&t);
}

static void a_number_has_the_value_that_was_put_last(void **state)
{
    (void)state;
    struct table t = {0};
    static const uint32_t numbers[] = {0, 1, TABLE_PAGE - 1, TABLE_PAGE, 5 * TABLE_PAGE + 3, 100000000};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        assert_null(table_put(&t, numbers[i], value_of(i)));
    assert_ptr_equal(table_put(&t, TABLE_PAGE, value_of(77)), value_of(3));
    assert_ptr_equal(table_get(&t, TABLE_PAGE), value_of(77));
    assert_ptr_equal(table_get(&t, TABLE_PAGE - 1), value_of(2));
    assert_ptr_equal(table_get(&t, 100000000), value_of(5));
    assert_null(table_get(&t, 99999999));
    assert_null(table_get(&t, UINT32_MAX));
    assert_int_equal(table_count(&t), ARRAY_LEN(numbers));
    size_t met = 0;
    for (uint64_t at = 0; table_from(&t, &at) != NULL; at++)
        assert_int_equal(at, numbers[met++]);
    assert_int_equal(met, ARRAY_LEN(numbers));
    assert_ptr_equal(table_del(&t, 0), value_of(0));
    assert_null(table_del(&t, 0));
    assert_null(table_get(&t, 0));
    assert_int_equal(table_count(&t), ARRAY_LEN(numbers) - 1);
    table_free(&t);
}

enum { NUMBERS = 3 * TABLE_PAGE + 100 };

static void any_history_gives_what_a_plain_array_does(void **state)
{
    (void)state;
    struct table t = {0};
    void *model[NUMBERS] = {0};
    size_t count = 0;
    struct rng r;
    rng_seed(&r, 1);
    for (int step = 0; step < 60000; step++) {
        uint32_t i = (uint32_t)rng_below(&r, NUMBERS);
        bool filling = step / 10000 % 2 == 0; /* in between nearly everything goes, and pages with it */
        if (rng_chance(&r, filling ? 3 : 1, filling ? 4 : 400)) {
            void *value = value_of(rng_below(&r, 1000000));
            assert_ptr_equal(table_put(&t, i, value), model[i]);
            count += model[i] == NULL;
            model[i] = value;
        } else {
            assert_ptr_equal(table_del(&t, i), model[i]);
            count -= model[i] != NULL;
            model[i] = NULL;
        }
        assert_int_equal(table_count(&t), count);
        if (step % 500 != 0)
            continue;
        uint64_t expected = 0;
        void *value;
        for (uint64_t at = 0; (value = table_from(&t, &at)) != NULL; at++, expected++) {
            while (expected < at)
                assert_null(model[expected++]);
            assert_ptr_equal(value, model[at]);
            assert_ptr_equal(table_get(&t, (uint32_t)at), value);
        }
        while (expected < NUMBERS)
            assert_null(model[expected++]);
    }
    table_free(&t);
}

static size_t memory_in_use(void)
{
    struct mallinfo2 m = mallinfo2(); /* of zeros where a sanitizer has the memory */
    return m.uordblks + m.hblkhd;
}

/* As partitions of topics that are made and deleted for years: their ids are never given out again. */
static void numbers_that_are_gone_leave_next_to_nothing(void **state)
{
    (void)state;
    enum { LIVING = 1000, EVER = 10000000 };
    struct table t = {0};
    size_t before = memory_in_use();
    for (uint32_t i = 0; i < EVER; i++) {
        table_put(&t, i, value_of(i));
        if (i >= LIVING)
            assert_ptr_equal(table_del(&t, i - LIVING), value_of(i - LIVING));
    }
    assert_int_equal(table_count(&t), LIVING);
    assert_true(memory_in_use() - before < (1 << 20)); /* a pointer for each would be 80 MB */
    table_free(&t);
    assert_true(memory_in_use() <= before + (64 << 10)); /* the allocator counts a few that it has ready as in use */
}

static void asking_for_a_number_takes_no_memory(void **state)
{
    (void)state;
    struct table t = {0};
    for (uint32_t i = 0; i < TABLE_PAGE; i++)
        table_put(&t, i, value_of(i));
    size_t before = memory_in_use();
    for (uint64_t i = 2 * TABLE_PAGE - 1; i <= UINT32_MAX; i = 2 * i + 1) {
        assert_null(table_get(&t, (uint32_t)i));
        assert_null(table_del(&t, (uint32_t)i));
    }
    assert_null(table_get(&t, UINT32_MAX));
    assert_null(table_del(&t, UINT32_MAX));
    uint64_t at = UINT64_C(1) << 40;
    assert_null(table_from(&t, &at));
    assert_true(memory_in_use() <= before);
    table_free(&t);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_table_has_no_number),
        cmocka_unit_test(a_number_has_the_value_that_was_put_last),
        cmocka_unit_test(any_history_gives_what_a_plain_array_does),
        cmocka_unit_test(numbers_that_are_gone_leave_next_to_nothing),
        cmocka_unit_test(asking_for_a_number_takes_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "unit.h"

#include "base/rng.h"

/* Worked out apart from this code, after the papers on splitmix64 and xoshiro256**, and never to
   change: seeds are written down. */
static void a_seed_gives_the_same_numbers_for_ever(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 42);
    assert_true(rng_next(&r) == UINT64_C(0x15780b2e0c2ec716));
    assert_true(rng_next(&r) == UINT64_C(0x6104d9866d113a7e));
    assert_true(rng_next(&r) == UINT64_C(0xae17533239e499a1));
    uint64_t last = 0;
    for (int n = 4; n <= 1000; n++)
        last = rng_next(&r);
    assert_true(last == UINT64_C(0x8de5848c61ab8968));
}

static void different_seeds_give_different_numbers(void **state)
{
    (void)state;
    struct rng a, b;
    rng_seed(&a, 0);
    rng_seed(&b, 1);
    int same = 0;
    for (int i = 0; i < 100; i++)
        same += rng_next(&a) == rng_next(&b);
    assert_int_equal(same, 0);
}

static void numbers_below_n_are_even_and_never_n(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 3);
    int seen[10] = {0};
    for (int i = 0; i < 100000; i++) {
        uint64_t x = rng_below(&r, 10);
        assert_true(x < 10);
        seen[x]++;
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(seen[i], 9500, 10500);
    assert_int_equal(rng_below(&r, 1), 0);

    /* 3/4 of the range: without leaving numbers out, the lower third would come twice as often as
       it should. */
    uint64_t n = UINT64_C(3) << 62, low = 0;
    for (int i = 0; i < 30000; i++)
        low += rng_below(&r, n) < n / 3;
    assert_in_range(low, 9500, 10500);
}

static void a_range_includes_both_its_ends(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 4);
    bool lo = false, hi = false;
    for (int i = 0; i < 200; i++) {
        uint64_t x = rng_between(&r, 5, 8);
        assert_in_range(x, 5, 8);
        lo |= x == 5;
        hi |= x == 8;
    }
    assert_true(lo && hi);
    assert_int_equal(rng_between(&r, 9, 9), 9);
    rng_between(&r, 0, UINT64_MAX);
}

static void a_chance_is_taken_as_often_as_it_says(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 5);
    int taken = 0;
    for (int i = 0; i < 40000; i++) {
        taken += rng_chance(&r, 1, 4);
        assert_false(rng_chance(&r, 0, 4));
        assert_true(rng_chance(&r, 4, 4));
    }
    assert_in_range(taken, 9600, 10400);
}

static void filling_fills_exactly_what_was_asked(void **state)
{
    (void)state;
    for (size_t size = 0; size < 20; size++) {
        uint8_t bytes[22], again[22];
        struct rng r;
        rng_seed(&r, 6);
        memset(bytes, 0, sizeof bytes);
        memset(again, 0, sizeof again);
        rng_fill(&r, bytes + 1, size);
        rng_seed(&r, 6);
        rng_fill(&r, again + 1, size);
        assert_memory_equal(bytes, again, sizeof bytes);
        assert_int_equal(bytes[0] | bytes[size + 1], 0);
        if (size >= 8)
            assert_memory_not_equal(bytes + 1, (uint8_t[8]){0}, 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_gives_the_same_numbers_for_ever),
        cmocka_unit_test(different_seeds_give_different_numbers),
        cmocka_unit_test(numbers_below_n_are_even_and_never_n),
        cmocka_unit_test(a_range_includes_both_its_ends),
        cmocka_unit_test(a_chance_is_taken_as_often_as_it_says),
        cmocka_unit_test(filling_fills_exactly_what_was_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

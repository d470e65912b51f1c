#include "unit.h"

#include <signal.h>

#include "base/map.h"
#include "base/rng.h"

/* Any non-NULL pointer that can be told from the others. */
static void *value_of(uint64_t n)
{
    return (void *)(uintptr_t)(n + 1);
}

static void an_empty_map_has_no_key(void **state)
{
    (void)state;
    struct map m = {0};
    assert_null(map_get(&m, 0));
    assert_null(map_del(&m, 0));
    assert_int_equal(map_count(&m), 0);
    struct map_it it = map_iter(&m);
    assert_false(map_next(&it));
    map_free(&m);
}

static void a_key_has_the_value_that_was_put_last(void **state)
{
    (void)state;
    struct map m = {0};
    static const uint64_t keys[] = {0, 1, 8, 16, UINT64_MAX, UINT64_C(1) << 63};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        assert_null(map_put(&m, keys[i], value_of(i)));
    assert_ptr_equal(map_put(&m, 8, value_of(77)), value_of(2));
    assert_ptr_equal(map_get(&m, 8), value_of(77));
    assert_ptr_equal(map_get(&m, 0), value_of(0));
    assert_ptr_equal(map_get(&m, UINT64_MAX), value_of(4));
    assert_int_equal(map_count(&m), ARRAY_LEN(keys));
    assert_ptr_equal(map_del(&m, 0), value_of(0));
    assert_null(map_del(&m, 0));
    assert_null(map_get(&m, 0));
    assert_int_equal(map_count(&m), ARRAY_LEN(keys) - 1);
    map_free(&m);
}

enum { KEYS = 300 };

/* Keys are spread thinly or densely by `stride`, so that runs of neighbours, wraps and collisions
   all happen. */
static void run_against_model(uint64_t seed, uint64_t stride)
{
    struct map m = {0};
    void *model[KEYS] = {0};
    size_t count = 0;
    struct rng r;
    rng_seed(&r, seed);
    for (int step = 0; step < 6000; step++) {
        size_t i = rng_below(&r, KEYS);
        bool filling = step / 1000 % 2 == 0;
        if (rng_chance(&r, filling ? 3 : 1, 4)) {
            void *value = value_of(rng_below(&r, 1000000));
            assert_ptr_equal(map_put(&m, i * stride, value), model[i]);
            count += model[i] == NULL;
            model[i] = value;
        } else {
            assert_ptr_equal(map_del(&m, i * stride), model[i]);
            count -= model[i] != NULL;
            model[i] = NULL;
        }
        assert_int_equal(map_count(&m), count);
        if (step % 50 != 0)
            continue;
        for (size_t k = 0; k < KEYS; k++)
            assert_ptr_equal(map_get(&m, k * stride), model[k]);
        size_t seen = 0;
        for (struct map_it it = map_iter(&m); map_next(&it); seen++)
            assert_ptr_equal(it.value, model[it.key / stride]);
        assert_int_equal(seen, count);
    }
    map_free(&m);
}

static void any_history_of_puts_and_deletes_leaves_exactly_what_is_expected(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        run_against_model(seed, 1);
        run_against_model(seed, 1024);
        run_against_model(seed, UINT64_C(0x100000001));
    }
}

static void visiting_sees_every_key_once(void **state)
{
    (void)state;
    struct map m = {0};
    bool seen[1000] = {false};
    for (uint64_t k = 0; k < 1000; k++)
        map_put(&m, k, value_of(k));
    size_t count = 0;
    for (struct map_it it = map_iter(&m); map_next(&it); count++) {
        assert_false(seen[it.key]);
        seen[it.key] = true;
        assert_ptr_equal(it.value, value_of(it.key));
    }
    assert_int_equal(count, 1000);
    map_free(&m);
}

static void the_same_history_gives_the_same_order(void **state)
{
    (void)state;
    struct map a = {0}, b = {0};
    for (int which = 0; which < 2; which++) {
        struct map *m = which == 0 ? &a : &b;
        struct rng r;
        rng_seed(&r, 5);
        for (int i = 0; i < 3000; i++) {
            if (rng_chance(&r, 2, 3))
                map_put(m, rng_below(&r, 500), value_of(1));
            else
                map_del(m, rng_below(&r, 500));
        }
    }
    struct map_it x = map_iter(&a), y = map_iter(&b);
    while (map_next(&x)) {
        assert_true(map_next(&y));
        assert_int_equal(x.key, y.key);
    }
    assert_false(map_next(&y));
    map_free(&a);
    map_free(&b);
}

static void a_map_gives_memory_back_when_it_empties(void **state)
{
    (void)state;
    struct map m = {0};
    for (uint64_t k = 0; k < 100000; k++)
        map_put(&m, k, value_of(k));
    assert_true(m.cap <= 2 * 100000 * 4 / 3);
    for (uint64_t k = 0; k < 99990; k++)
        map_del(&m, k);
    assert_true(m.cap <= 128);
    for (uint64_t k = 99990; k < 100000; k++)
        assert_ptr_equal(map_get(&m, k), value_of(k));
    map_free(&m);
}

static void keys_that_differ_only_high_or_only_low_do_not_pile_up(void **state)
{
    (void)state;
    static const unsigned shifts[] = {0, 12, 32, 44};
    for (size_t s = 0; s < ARRAY_LEN(shifts); s++) {
        struct map m = {0};
        for (uint64_t k = 0; k < 10000; k++)
            map_put(&m, k << shifts[s], value_of(k));
        size_t longest = 0, run = 0;
        for (size_t i = 0; i < m.cap; i++) {
            run = m.slots[i].value != NULL ? run + 1 : 0;
            longest = run > longest ? run : longest;
        }
        assert_true(longest < 200); /* at this load a random placement stays far below */
        map_free(&m);
    }
}

static void change_while_visiting(void *arg)
{
    (void)arg;
    struct map m = {0};
    map_put(&m, 1, value_of(1));
    map_put(&m, 2, value_of(2));
    for (struct map_it it = map_iter(&m); map_next(&it);)
        map_del(&m, it.key);
}

static void removing_while_visiting_is_caught(void **state)
{
    (void)state;
    char said[400];
    assert_int_equal(death_of(change_while_visiting, NULL, said, sizeof said), SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_has_no_key),
        cmocka_unit_test(a_key_has_the_value_that_was_put_last),
        cmocka_unit_test(any_history_of_puts_and_deletes_leaves_exactly_what_is_expected),
        cmocka_unit_test(visiting_sees_every_key_once),
        cmocka_unit_test(the_same_history_gives_the_same_order),
        cmocka_unit_test(a_map_gives_memory_back_when_it_empties),
        cmocka_unit_test(keys_that_differ_only_high_or_only_low_do_not_pile_up),
        cmocka_unit_test(removing_while_visiting_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

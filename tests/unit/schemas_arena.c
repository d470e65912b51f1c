#include "unit.h"

#include "base/mem.h"
#include "schemas/codec.h"

static void memory_is_zero_and_16_aligned_and_stays_where_it_is(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    uint8_t *p[200];
    for (size_t i = 0; i < 200; i++) {
        p[i] = arena_take(&a, i);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        for (size_t at = 0; at < i; at++)
            assert_int_equal(p[i][at], 0);
        memset(p[i], (int)i, i);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t at = 0; at < i; at++)
            assert_int_equal(p[i][at], (uint8_t)i);
    }
    arena_free(&a);
}

static void no_more_than_the_limit_is_ever_taken(void **state)
{
    (void)state;
    for (size_t limit = 0; limit < 5000; limit += 7) {
        struct arena a;
        arena_init(&a, limit);
        size_t got = 0;
        while (arena_take(&a, 48) != NULL)
            got += 48;
        assert_true(got <= limit && a.used <= limit);
        assert_true(limit < 2000 || got > limit / 2);
        arena_free(&a);
    }
}

static void a_request_beyond_the_limit_leaves_room_for_a_smaller_one(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 4096);
    assert_null(arena_take(&a, 4096));
    assert_null(arena_take(&a, SIZE_MAX));
    assert_null(arena_take(&a, SIZE_MAX - 8));
    assert_non_null(arena_take(&a, 3000));
    arena_free(&a);
}

static void memory_that_is_not_there_is_an_answer(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    mem_fail_at(1);
    assert_null(arena_take(&a, 100));
    assert_non_null(arena_take(&a, 100));
    mem_fail_at(0);
    arena_free(&a);
}

static void an_arena_may_be_freed_twice_and_used_again(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 2048);
    assert_non_null(arena_take(&a, 1500));
    arena_free(&a);
    arena_free(&a);
    assert_int_equal(a.used, 0);
    assert_non_null(arena_take(&a, 1500));
    arena_free(&a);
}

static void bytes_are_copied_only_if_they_are_not_8_aligned(void **state)
{
    (void)state;
    _Alignas(16) static const uint8_t bytes[24] = "0123456789abcdefghijklm";
    struct buf copy = {0};
    struct view same = codec_aligned(view_of(bytes + 8, 10), &copy);
    assert_ptr_equal(same.data, bytes + 8);
    struct view moved = codec_aligned(view_of(bytes + 3, 10), &copy);
    assert_int_equal((uintptr_t)moved.data % 8, 0);
    assert_true(view_eq(moved, view_of(bytes + 3, 10)));
    buf_free(&copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zero_and_16_aligned_and_stays_where_it_is),
        cmocka_unit_test(no_more_than_the_limit_is_ever_taken),
        cmocka_unit_test(a_request_beyond_the_limit_leaves_room_for_a_smaller_one),
        cmocka_unit_test(memory_that_is_not_there_is_an_answer),
        cmocka_unit_test(an_arena_may_be_freed_twice_and_used_again),
        cmocka_unit_test(bytes_are_copied_only_if_they_are_not_8_aligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

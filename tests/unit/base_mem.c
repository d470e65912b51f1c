#include "unit.h"

#include <signal.h>

#include "base/mem.h"

static void what_asks_gets_memory(void **state)
{
    (void)state;
    char *p = mem_alloc(100);
    memset(p, 7, 100);
    p = mem_realloc(p, 200);
    assert_int_equal(p[99], 7);
    mem_free(p);

    uint32_t *zeros = mem_array(10, sizeof *zeros);
    for (int i = 0; i < 10; i++)
        assert_int_equal(zeros[i], 0);
    zeros = mem_resize(zeros, 20, sizeof *zeros);
    mem_free(zeros);

    char *z = mem_zalloc(64);
    assert_int_equal(z[0] | z[63], 0);
    mem_free(z);
    mem_free(NULL);
}

static void a_size_of_zero_gives_a_pointer_that_can_be_freed(void **state)
{
    (void)state;
    void *all[] = {mem_alloc(0),   mem_zalloc(0), mem_array(0, 8),  mem_realloc(NULL, 0),
                   mem_dup("", 0), mem_try(0),    mem_dup(NULL, 0), mem_try_realloc(NULL, 0)};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        assert_non_null(all[i]);
        all[i] = mem_realloc(all[i], 0);
        assert_non_null(all[i]);
        mem_free(all[i]);
    }
}

static void a_copy_has_the_same_bytes_elsewhere(void **state)
{
    (void)state;
    const char *text = "a\0b";
    char *copy = mem_dup(text, 3);
    assert_memory_equal(copy, text, 3);
    assert_ptr_not_equal(copy, text);
    mem_free(copy);

    char *whole = mem_strdup("photo"), *part = mem_strndup("photo", 2), *none = mem_strndup(NULL, 0);
    assert_string_equal(whole, "photo");
    assert_string_equal(part, "ph");
    assert_string_equal(none, "");
    mem_free(whole);
    mem_free(part);
    mem_free(none);
    assert_null(mem_strdup(NULL));
}

static void a_try_may_be_refused_and_leaves_the_old_memory(void **state)
{
    (void)state;
    char *p = mem_strdup("kept");
    mem_fail_at(1);
    assert_null(mem_try_realloc(p, 1000));
    assert_string_equal(p, "kept");
    mem_free(p);
    assert_null(mem_try(SIZE_MAX / 2));
}

static void the_nth_request_fails_and_only_that_one(void **state)
{
    (void)state;
    mem_fail_at(3);
    for (int i = 1; i <= 5; i++) {
        void *p = mem_try(8);
        assert_int_equal(p == NULL, i == 3);
        mem_free(p);
    }
    mem_fail_at(1);
    mem_fail_at(0);
    void *p = mem_try(8);
    assert_non_null(p);
    mem_free(p);
}

static jmp_buf back;
static size_t wanted;

static void leave(size_t size)
{
    wanted = size;
    longjmp(back, 1);
}

static void a_request_that_must_not_fail_goes_to_the_handler(void **state)
{
    (void)state;
    mem_on_exhausted(leave);
    mem_fail_at(1);
    if (setjmp(back) == 0) {
        mem_free(mem_alloc(1234));
        fail_msg("it returned");
    }
    assert_int_equal(wanted, 1234);

    if (setjmp(back) == 0) {
        mem_free(mem_array(SIZE_MAX / 2, 3)); /* 3/2 of all there is would wrap to a small number */
        fail_msg("it returned");
    }
    assert_int_equal(wanted, SIZE_MAX);
    mem_on_exhausted(NULL);
}

static void ask_for_17(void *arg)
{
    (void)arg;
    mem_fail_at(1);
    mem_free(mem_zalloc(17));
}

static void without_memory_the_process_says_so_and_aborts(void **state)
{
    (void)state;
    char said[200];
    assert_int_equal(death_of(ask_for_17, NULL, said, sizeof said), SIGABRT);
    assert_has(said, "out of memory: 17 bytes\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_asks_gets_memory),
        cmocka_unit_test(a_size_of_zero_gives_a_pointer_that_can_be_freed),
        cmocka_unit_test(a_copy_has_the_same_bytes_elsewhere),
        cmocka_unit_test(a_try_may_be_refused_and_leaves_the_old_memory),
        cmocka_unit_test(the_nth_request_fails_and_only_that_one),
        cmocka_unit_test(a_request_that_must_not_fail_goes_to_the_handler),
        cmocka_unit_test(without_memory_the_process_says_so_and_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

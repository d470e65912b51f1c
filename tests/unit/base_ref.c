#include "unit.h"

#include <pthread.h>

#include "base/mem.h"
#include "base/ref.h"

static atomic_int freed;

static void count_free(struct ref *r)
{
    assert_ptr_equal(r->owner, &freed);
    atomic_fetch_add(&freed, 1);
}

static void a_copy_outlives_what_it_was_made_of(void **state)
{
    (void)state;
    char text[] = "bytes";
    struct ref *r = ref_new_copy(text, 5);
    memset(text, 0, sizeof text);
    assert_true(view_eq(ref_view(r), VIEW_LIT("bytes")));
    ref_drop(r);

    struct ref *empty = ref_new_copy(NULL, 0);
    assert_true(view_eq(ref_view(empty), VIEW_LIT("")));
    ref_drop(empty);
}

static void wrapped_bytes_are_freed_once_by_the_last_holder(void **state)
{
    (void)state;
    atomic_store(&freed, 0);
    static const char text[] = "bytes";
    struct ref *r = ref_wrap(text, 5, count_free, &freed);
    assert_ptr_equal(r->data, text);
    assert_ptr_equal(ref_take(r), r);
    ref_drop(r);
    assert_int_equal(atomic_load(&freed), 0);
    ref_drop(r);
    assert_int_equal(atomic_load(&freed), 1);
}

static void bytes_that_nobody_owns_are_wrapped_without_a_free(void **state)
{
    (void)state;
    struct ref *r = ref_wrap("static", 6, NULL, NULL);
    ref_drop(r);
}

static void no_reference_is_a_reference_to_nothing(void **state)
{
    (void)state;
    assert_null(ref_take(NULL));
    ref_drop(NULL);
    assert_null(ref_view(NULL).data);
}

static void *take_and_drop(void *arg)
{
    struct ref *r = arg;
    for (int i = 0; i < 20000; i++) {
        struct ref *mine = ref_take(r);
        assert_int_equal(mine->data[0], 'x');
        ref_drop(mine);
    }
    ref_drop(r);
    return NULL;
}

static void threads_that_share_it_free_it_once(void **state)
{
    (void)state;
    atomic_store(&freed, 0);
    struct ref *r = ref_wrap("x", 1, count_free, &freed);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, take_and_drop, ref_take(r));
    ref_drop(r);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&freed), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_outlives_what_it_was_made_of),
        cmocka_unit_test(wrapped_bytes_are_freed_once_by_the_last_holder),
        cmocka_unit_test(bytes_that_nobody_owns_are_wrapped_without_a_free),
        cmocka_unit_test(no_reference_is_a_reference_to_nothing),
        cmocka_unit_test(threads_that_share_it_free_it_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "unit.h"

#include "base/macros.h"
#include "base/nearest.h"

static const char *const keys[] = {"retention",  "retention_bytes", "partitions",
                                   "durability", "lease",           "ttl"};

static const char *among_keys(const char *word)
{
    return nearest(word, keys, ARRAY_LEN(keys));
}

static void one_slip_of_each_kind_is_recognised(void **state)
{
    (void)state;
    assert_string_equal(among_keys("retension"), "retention");  /* wrong */
    assert_string_equal(among_keys("retntion"), "retention");   /* missing */
    assert_string_equal(among_keys("retenttion"), "retention"); /* too many */
    assert_string_equal(among_keys("retnetion"), "retention");  /* swapped */
    assert_string_equal(among_keys("lease"), "lease");
}

static void a_swap_is_one_slip(void **state)
{
    (void)state;
    static const char *const names[] = {"tll"};
    assert_string_equal(nearest("ltl", names, 1), "tll");
    static const char *const topic[] = {"topic"};
    assert_string_equal(nearest("otpic", topic, 1), "topic");
    assert_null(nearest("otpci", topic, 1)); /* two of them, and a word of five bears one */
}

static void what_is_far_from_everything_has_no_neighbour(void **state)
{
    (void)state;
    assert_null(among_keys("colour"));
    assert_null(among_keys("x"));
    assert_null(nearest("retention", NULL, 0));
}

static void a_short_word_bears_one_slip_and_a_long_one_more(void **state)
{
    (void)state;
    assert_string_equal(among_keys("tl"), "ttl");
    assert_null(among_keys("tx"));
    assert_string_equal(among_keys("partishon"), "partitions"); /* three in nine letters */
    assert_null(among_keys("bardishon"));
}

static void the_nearest_wins_and_of_equals_the_first(void **state)
{
    (void)state;
    static const char *const names[] = {"aaab", "aaac", "aaxx"};
    assert_string_equal(nearest("aaad", names, 3), "aaab");
    assert_string_equal(nearest("aaxc", (const char *const[]){"aaab", "aaxx"}, 2), "aaxx");
}

static void words_of_any_length_are_safe(void **state)
{
    (void)state;
    char word[200];
    for (size_t size = 0; size < sizeof word; size++) {
        memset(word, 'r', size);
        word[size] = '\0';
        const char *const names[] = {word, "retention"};
        const char *found = nearest(word, names, 2);
        if (size <= 64)
            assert_ptr_equal(found, word);
        else
            assert_null(found);
        nearest("retention", names, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_slip_of_each_kind_is_recognised),
        cmocka_unit_test(a_swap_is_one_slip),
        cmocka_unit_test(what_is_far_from_everything_has_no_neighbour),
        cmocka_unit_test(a_short_word_bears_one_slip_and_a_long_one_more),
        cmocka_unit_test(the_nearest_wins_and_of_equals_the_first),
        cmocka_unit_test(words_of_any_length_are_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

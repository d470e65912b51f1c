#include "unit.h"

#include "web/path.h"

static void percent_and_two_digits_are_one_byte(void **state)
{
    (void)state;
    char out[32];
    assert_true(path_decode("/liv%65z", out, sizeof out));
    assert_string_equal(out, "/livez");
    assert_true(path_decode("%2F%6d%6D", out, sizeof out));
    assert_string_equal(out, "/mm");
    assert_true(path_decode("", out, sizeof out));
    assert_string_equal(out, "");
}

static void what_is_not_well_formed_is_refused_at_every_end(void **state)
{
    (void)state;
    char out[32];
    static const char *const bad[] = {"%", "/%", "/a%4", "/%zz", "/%4z", "/%-1", "/%00", "/livez%00x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(path_decode(bad[i], out, sizeof out));
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    char out[4];
    assert_true(path_decode("abc", out, sizeof out));
    assert_false(path_decode("abcd", out, sizeof out));
    assert_false(path_decode("%61%62%63%64", out, sizeof out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percent_and_two_digits_are_one_byte),
        cmocka_unit_test(what_is_not_well_formed_is_refused_at_every_end),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

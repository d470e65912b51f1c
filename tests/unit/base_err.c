#include "unit.h"

#include "base/err.h"

static void an_error_holds_its_code_and_its_sentence(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(err_set(&e, 7, "topic '%s' is unknown", "t"), 7);
    assert_int_equal(e.code, 7);
    assert_string_equal(e.text, "topic 't' is unknown");
    err_clear(&e);
    assert_int_equal(e.code, 0);
    assert_string_equal(e.text, "");
}

static void who_wants_no_sentence_still_gets_the_code(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, 7, "x"), 7);
    assert_int_equal(err_prefix(NULL, "x"), 0);
    err_clear(NULL);
}

static void context_goes_in_front_and_keeps_the_code(void **state)
{
    (void)state;
    struct err e = {0};
    err_set(&e, 7, "'7' has no unit");
    assert_int_equal(err_prefix(&e, "topics.%s", "photos"), 7);
    assert_int_equal(err_prefix(&e, "config %s", "a.yaml"), 7);
    assert_string_equal(e.text, "config a.yaml: topics.photos: '7' has no unit");
}

static void the_new_sentence_may_quote_the_old_one(void **state)
{
    (void)state;
    struct err e = {0};
    err_set(&e, 1, "inner");
    err_set(&e, 2, "outer(%s)", e.text);
    assert_string_equal(e.text, "outer(inner)");
    assert_int_equal(err_prefix(&e, "%s", e.text), 2);
    assert_string_equal(e.text, "outer(inner): outer(inner)");
}

static void a_sentence_that_just_fits_is_not_cut(void **state)
{
    (void)state;
    char text[ERR_TEXT_MAX];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct err e = {0};
    err_set(&e, 1, "%s", text);
    assert_string_equal(e.text, text);
}

static void a_long_sentence_ends_with_three_dots(void **state)
{
    (void)state;
    char text[3 * ERR_TEXT_MAX];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct err e = {0};
    err_set(&e, 1, "%s", text);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    assert_string_equal(e.text + ERR_TEXT_MAX - 5, "a...");
    err_prefix(&e, "%s", text);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    assert_string_equal(e.text + ERR_TEXT_MAX - 5, "a...");
}

static void a_cut_never_splits_a_character(void **state)
{
    (void)state;
    for (int shift = 0; shift < 4; shift++) {
        struct err e = {0};
        char text[2 * ERR_TEXT_MAX] = "";
        memset(text, 'a', (size_t)shift);
        while (strlen(text) < ERR_TEXT_MAX + 20)
            strcat(text, "\xe2\x82\xac"); /* the euro sign, three bytes */
        err_set(&e, 1, "%s", text);
        size_t kept = strlen(e.text) - strlen("...");
        assert_string_equal(e.text + kept, "...");
        assert_int_equal((kept - (size_t)shift) % 3, 0);
        assert_true(kept > ERR_TEXT_MAX - 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_holds_its_code_and_its_sentence),
        cmocka_unit_test(who_wants_no_sentence_still_gets_the_code),
        cmocka_unit_test(context_goes_in_front_and_keeps_the_code),
        cmocka_unit_test(the_new_sentence_may_quote_the_old_one),
        cmocka_unit_test(a_sentence_that_just_fits_is_not_cut),
        cmocka_unit_test(a_long_sentence_ends_with_three_dots),
        cmocka_unit_test(a_cut_never_splits_a_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

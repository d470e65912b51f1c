#include "unit.h"

#include "base/mem.h"
#include "base/text.h"

static void base64_pads_to_four(void **state)
{
    (void)state;
    static const char *const expected[] = {"", "YQ==", "YWI=", "YWJj", "YWJjZA=="};
    for (size_t size = 0; size < 5; size++) {
        struct buf b = {0};
        put_base64(&b, "abcd", size);
        assert_string_equal(buf_str(&b), expected[size]);
        buf_free(&b);
    }
}

static void text_becomes_utf8_by_losing_what_is_not(void **state)
{
    (void)state;
    char *text = utf8_text("ok \xc3\xa9", 5);
    assert_string_equal(text, "ok \xc3\xa9");
    mem_free(text);
    text = utf8_text("no \xe9 \0.", 7);
    assert_string_equal(text, "no ? ?.");
    mem_free(text);
    text = utf8_text("\xc3\xa9 \xed\xa0\x80 \xc3", 8); /* a character, a surrogate, half a character */
    assert_string_equal(text, "\xc3\xa9 ??? ?");
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_pads_to_four),
        cmocka_unit_test(text_becomes_utf8_by_losing_what_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "unit.h"

#include "exec/speech.h"

static void say(struct speech *s, const char *text)
{
    speech_add(s, text, strlen(text));
    speech_pass(s, false);
}

static void the_last_line_that_says_something_is_kept(void **state)
{
    (void)state;
    struct speech s = {0};
    say(&s, "first\nsecond\r\n\n  \n");
    assert_string_equal(s.last, "second");
    say(&s, "half a ");
    assert_string_equal(s.last, "second");
    say(&s, "line\n");
    assert_string_equal(s.last, "half a line");
    say(&s, "no newline");
    speech_pass(&s, true);
    assert_string_equal(s.last, "no newline");
    speech_clear(&s);
    assert_string_equal(s.last, "");
    speech_free(&s);
}

static void a_long_last_line_is_cut_between_characters(void **state)
{
    (void)state;
    struct speech s = {0};
    char text[3000];
    for (size_t i = 0; i < sizeof text - 2; i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    text[0] = text[1] = 'a';
    memmove(text + 1, text + 2, sizeof text - 4); /* one byte, so that the cut would fall into a character */
    text[sizeof text - 3] = '\0';
    say(&s, text);
    speech_pass(&s, true);
    assert_int_equal(strlen(s.last), SPEECH_LAST_MAX - 1);
    assert_null(strchr(s.last, '?'));
    speech_free(&s);
}

static void speak(void *arg)
{
    (void)arg;
    struct speech s = {0};
    say(&s, "one\ntw");
    fputs("|", stderr);
    say(&s, "o\nthree");
    speech_pass(&s, true);
    speech_free(&s);
}

static void lines_are_passed_on_whole(void **state)
{
    (void)state;
    char said[64];
    assert_int_equal(death_of(speak, NULL, said, sizeof said), 0);
    assert_string_equal(said, "one\n|two\nthree\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_line_that_says_something_is_kept),
        cmocka_unit_test(a_long_last_line_is_cut_between_characters),
        cmocka_unit_test(lines_are_passed_on_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

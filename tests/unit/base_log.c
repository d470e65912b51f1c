#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <regex.h>

#include "base/log.h"

/* What `fn` wrote to stderr. */
static const char *said_by(void (*fn)(void))
{
    static char text[1 << 20];
    FILE *file = tmpfile();
    int kept = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    fn();
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void assert_matches(const char *text, const char *pattern)
{
    regex_t re;
    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int result = regexec(&re, text, 0, NULL, 0);
    regfree(&re);
    if (result != 0)
        fail_msg("'%s' does not match %s", text, pattern);
}

static void say_listening(void)
{
    log_info("listening url=%s topics=%d", LOG_STR("tcp://127.0.0.1:1"), 3);
}

static void a_line_is_time_level_program_words_and_pairs(void **state)
{
    (void)state;
    log_setup("broker", LOG_INFO);
    assert_matches(said_by(say_listening),
                   "^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "
                   "info broker listening url=tcp://127.0.0.1:1 topics=3\n$");
}

static void say_all_levels(void)
{
    log_debug("one");
    log_info("two");
    log_warn("three");
    log_error("four");
}

static void levels_below_the_lowest_are_not_written(void **state)
{
    (void)state;
    log_setup("t", LOG_WARN);
    const char *said = said_by(say_all_levels);
    assert_null(strstr(said, "one"));
    assert_null(strstr(said, "two"));
    assert_has(said, " warn t three\n");
    assert_has(said, " error t four\n");
    assert_true(log_wants(LOG_WARN) && !log_wants(LOG_INFO));

    log_setup("t", LOG_DEBUG);
    assert_has(said_by(say_all_levels), " debug t one\n");
}

static void say_two_lines(void)
{
    log_error("first\nsecond\x1b[31m\ttab");
}

static void one_call_is_one_line_whatever_is_in_it(void **state)
{
    (void)state;
    log_setup("t", LOG_INFO);
    const char *said = said_by(say_two_lines);
    assert_has(said, "first\\nsecond\\x1b[31m\\ttab\n");
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
}

static void say_much(void)
{
    char text[3 * LOG_LINE_MAX];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    log_error("%s", text);
}

static void a_line_that_is_too_long_is_cut_and_still_ends(void **state)
{
    (void)state;
    const char *said = said_by(say_much);
    assert_int_equal(strlen(said), LOG_LINE_MAX);
    assert_int_equal(said[LOG_LINE_MAX - 1], '\n');
}

static void say_to_nobody(void)
{
    close(STDERR_FILENO);
    errno = ENOENT;
    log_error("x");
    assert_int_equal(errno, ENOENT);
}

static void a_line_that_cannot_be_written_leaves_errno_alone(void **state)
{
    (void)state;
    said_by(say_to_nobody);
}

enum { THREADS = 4, LINES = 300 };

static void *talk(void *arg)
{
    char filler[200];
    memset(filler, *(const char *)arg, sizeof filler);
    filler[sizeof filler - 1] = '\0';
    for (int i = 0; i < LINES; i++)
        log_info("%s end", filler);
    return NULL;
}

static void talk_in_threads(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, talk, (void *)(uintptr_t) & "abcd"[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    log_setup("t", LOG_INFO);
    const char *at = said_by(talk_in_threads);
    int lines = 0;
    for (; *at != '\0'; lines++) {
        const char *body = strstr(at, " info t ") + strlen(" info t ");
        assert_int_equal(strspn(body, (char[]){body[0], '\0'}), 199);
        assert_memory_equal(body + 199, " end\n", 5);
        at = body + 199 + 5;
    }
    assert_int_equal(lines, THREADS * LINES);
}

static void a_value_is_quoted_when_it_must_be(void **state)
{
    (void)state;
    static const struct {
        const char *value, *shown;
    } cases[] = {
        {"plain-1.2_3", "plain-1.2_3"},
        {"tcp://[::1]:7400", "tcp://[::1]:7400"},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"say \"hi\"", "\"say \\\"hi\\\"\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"a\nb\tc\x01", "\"a\\nb\\tc\\x01\""},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"", "\"\""},
        {NULL, "-"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(LOG_STR(cases[i].value), cases[i].shown);

    struct log_text t;
    assert_string_equal(log_value(&t, "a\0b", 3), "\"a\\x00b\"");
}

static void a_long_value_is_cut_and_still_closed(void **state)
{
    (void)state;
    char text[1000];
    memset(text, ' ', sizeof text);
    text[sizeof text - 1] = '\0';
    struct log_text t;
    log_str(&t, text);
    assert_int_equal(t.text[0], '"');
    assert_string_equal(t.text + strlen(t.text) - 5, " ...\"");
    assert_true(strlen(t.text) < sizeof t.text);

    memset(text, '\x02', sizeof text - 1);
    log_str(&t, text);
    assert_string_equal(t.text + strlen(t.text) - 8, "\\x02...\"");
}

static void a_level_is_known_by_its_name_only(void **state)
{
    (void)state;
    enum log_level level = LOG_ERROR;
    struct err e = {0};
    assert_int_equal(log_level_parse("debug", &level, &e), 0);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_level_parse("warn", &level, &e), 0);
    assert_int_equal(level, LOG_WARN);
    assert_int_equal(log_level_parse("loud", &level, &e), EINVAL);
    assert_int_equal(level, LOG_WARN);
    assert_string_equal(e.text, "loud is not a log level; write debug, info, warn or error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_time_level_program_words_and_pairs),
        cmocka_unit_test(levels_below_the_lowest_are_not_written),
        cmocka_unit_test(one_call_is_one_line_whatever_is_in_it),
        cmocka_unit_test(a_line_that_is_too_long_is_cut_and_still_ends),
        cmocka_unit_test(a_line_that_cannot_be_written_leaves_errno_alone),
        cmocka_unit_test(lines_of_threads_do_not_mix),
        cmocka_unit_test(a_value_is_quoted_when_it_must_be),
        cmocka_unit_test(a_long_value_is_cut_and_still_closed),
        cmocka_unit_test(a_level_is_known_by_its_name_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "unit.h"

#include "base/macros.h"
#include "cli/args.h"

enum { WORDS_MAX = 32 };

/* Parses a line given as words that one blank separates. `e` may be looked at afterwards; args_free is the caller's. */
static int parse(struct args *a, const char *line, struct err *e)
{
    static char text[1024];
    static char *argv[WORDS_MAX];
    int argc = 0;
    snprintf(text, sizeof text, "sluice %s", line);
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    err_clear(e);
    return args_parse(a, argc, argv, e);
}

static void accept(struct args *a, const char *line)
{
    struct err e = {0};
    if (parse(a, line, &e) != 0)
        fail_msg("'%s' was refused: %s", line, e.text);
}

static void refuse(const char *line, const char *says)
{
    struct args a;
    struct err e = {0};
    if (parse(&a, line, &e) != STATUS_USAGE)
        fail_msg("'%s' was accepted", line);
    assert_has(e.text, says);
    args_free(&a);
}

static void options_stand_anywhere_on_the_line(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "-b tcp://h:1 -o json topic create t --partitions 4",
        "topic -b tcp://h:1 create --partitions 4 -o json t",
        "--partitions=4 topic -ojson create t -btcp://h:1",
        "topic create --output=json t --partitions=4 --broker=tcp://h:1",
        "topic create --output=json --partitions=4 --broker tcp://h:1 -- t",
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct args a;
        accept(&a, lines[i]);
        assert_string_equal(a.command->noun, "topic");
        assert_string_equal(a.command->verb, "create");
        assert_string_equal(args_operand(&a, 0), "t");
        assert_null(args_operand(&a, 1));
        assert_string_equal(args_text(&a, "broker", ""), "tcp://h:1");
        assert_int_equal(args_number(&a, "partitions", 1), 4);
        assert_true(args_json(&a));
        args_free(&a);
    }
}

static void a_value_may_look_like_an_option(void **state)
{
    (void)state;
    struct args a;
    accept(&a, "consume t --from -15m -n 3");
    assert_string_equal(args_text(&a, "from", ""), "-15m");
    assert_int_equal(args_number(&a, "count", 0), 3);
    args_free(&a);
    accept(&a, "produce t -K -- file");
    assert_string_equal(args_text(&a, "key-separator", ""), "--");
    args_free(&a);
}

static void behind_two_dashes_nothing_is_an_option(void **state)
{
    (void)state;
    struct args a;
    accept(&a, "produce t -- -k");
    assert_string_equal(args_operand(&a, 1), "-k");
    assert_false(args_has(&a, "key"));
    args_free(&a);
    accept(&a, "produce t -");
    assert_string_equal(args_operand(&a, 1), "-");
    args_free(&a);
}

static void the_last_of_two_counts_and_repeatable_ones_are_kept_in_order(void **state)
{
    (void)state;
    struct args a;
    accept(&a, "produce t -k a -H x=1 -k b -H y=2");
    assert_string_equal(args_text(&a, "key", ""), "b");
    assert_int_equal(a.given_count, 4);
    assert_string_equal(a.given[1].text, "x=1");
    assert_string_equal(a.given[3].text, "y=2");
    args_free(&a);
}

static void an_empty_value_is_a_value(void **state)
{
    (void)state;
    char *argv[] = {(char *)"sluice", (char *)"produce", (char *)"t", (char *)"-k", (char *)"", NULL};
    struct args a;
    struct err e = {0};
    assert_int_equal(args_parse(&a, 5, argv, &e), 0);
    assert_string_equal(args_text(&a, "key", NULL), "");
    args_free(&a);
}

static void an_unknown_word_is_answered_with_the_nearest(void **state)
{
    (void)state;
    refuse("topc ls", "unknown command 'topc'; did you mean 'topic'?");
    refuse("topic creat t", "unknown verb 'creat'; did you mean 'create'?");
    refuse("topic create t --partition 3", "unknown option '--partition'; did you mean '--partitions'?");
    refuse("topic create t --durability dsk", "--durability: 'dsk' is not one of disk|os");
    refuse("binding ls", "unknown command 'binding'");
    refuse("group sekk g", "unknown verb 'sekk'");
    refuse("", "a command is missing");
    refuse("group", "a verb is missing");
}

/* What follows an unknown option may be its value: it is not blamed for being no command. */
static void an_unknown_option_is_named_before_the_words_behind_it(void **state)
{
    (void)state;
    refuse("--brokr tcp://h:1 topic ls", "unknown option '--brokr'; did you mean '--broker'?");
    refuse("topic ls --foo bar", "unknown option '--foo'");
    refuse("topic ls -x", "unknown option '-x'");
}

static void an_option_of_another_command_is_unknown(void **state)
{
    (void)state;
    refuse("topic ls -g g", "unknown option '-g'");
    refuse("topic ls --group g", "unknown option '--group'");
}

static void operands_are_counted(void **state)
{
    (void)state;
    refuse("topic create", "NAME is missing");
    refuse("topic ls t", "'t' is one word too many");
    refuse("produce", "TOPIC is missing");
    refuse("produce t file more", "'more' is one word too many");
}

static void what_is_required_must_be_there(void **state)
{
    (void)state;
    refuse("group create g", "--topic TOPIC is missing");
    refuse("dlq ls t", "--group GROUP is missing");
    refuse("consume t --from", "--from needs a value: start|end|OFFSET|TIME");
    refuse("consume t -n", "--count needs a value: N");
    refuse("topic rm t --yes=really", "--yes takes no value");
}

static void names_are_checked_before_anything_is_done(void **state)
{
    (void)state;
    refuse("topic create a/b", "the name 'a/b' of a topic may hold only");
    refuse("produce a/b", "the name 'a/b' of a topic");
    refuse("consume t -g a/b", "--group: the name 'a/b' of a group");
    refuse("group create a/b --topic t", "the name 'a/b' of a group");
    refuse("group create g --topic a/b", "--topic: the name 'a/b' of a topic");
}

static void values_are_checked_by_their_kind(void **state)
{
    (void)state;
    refuse("topic create t --partitions 0", "--partitions: '0' is out of range");
    refuse("topic create t --partitions many", "--partitions: 'many' is not a whole number");
    refuse("topic create t --retention 7", "'7' has no unit");
    refuse("topic create t --retention 0ms", "'0ms' is too small: at least 1ms");
    refuse("topic create t --retention-bytes 5q", "unknown unit");
    refuse("group create g --topic t --lease 50ms", "'50ms' is out of range: 100ms to 12h");
    refuse("consume t -g g --exec x --parallel 0", "--parallel: '0' is out of range: 1 to 512");

    struct args a;
    accept(&a, "topic create t --retention forever --retention-bytes 2GiB");
    assert_true(args_number(&a, "retention", 0) == UINT64_MAX);
    assert_int_equal(args_number(&a, "retention-bytes", 0), 2LL << 30);
    args_free(&a);
    accept(&a, "group create g --topic t --mode stream --park key --lease 2s");
    assert_int_equal(args_number(&a, "mode", 0), 2);
    assert_int_equal(args_number(&a, "park", 0), 2);
    assert_int_equal(args_number(&a, "lease", 0), 2000);
    assert_int_equal(args_number(&a, "order", 0), 0);
    args_free(&a);
}

static void help_wins_over_what_is_missing(void **state)
{
    (void)state;
    static const char *const lines[] = {"topic create --help", "-h topic create", "topic --help", "--help",
                                        "group create --foo -h"};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct args a;
        accept(&a, lines[i]);
        assert_true(a.wants_help);
        args_free(&a);
    }
    struct args a;
    accept(&a, "--version");
    assert_true(a.wants_version);
    args_free(&a);
    refuse("topic creat --help", "did you mean 'create'?");
}

static void a_rate_is_said_per_second_minute_or_hour(void **state)
{
    (void)state;
    const struct option o = {.name = "rate", .kind = OPTION_RATE, .value = "N/s"};
    static const struct {
        const char *text;
        uint64_t milli;
    } good[] = {{"50/s", 50000}, {"0.5/s", 500}, {"100/m", 1667}, {"36/h", 10}, {"none", 0}};
    static const char *const bad[] = {"50", "/s", "-1/s", "x/s", "1/d", "0/s", "1/h", "1e30/s", "1/s "};
    uint64_t n;
    struct err e;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(option_parse(&o, good[i].text, &n, &e), 0);
        assert_int_equal(n, good[i].milli);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(option_parse(&o, bad[i], &n, &e), STATUS_USAGE);
    assert_has(e.text, "is no rate");
}

static void none_and_forever_are_no_bound_where_there_may_be_none(void **state)
{
    (void)state;
    const struct option term = {.name = "ttl", .kind = OPTION_TERM, .value = "D", .min = 1, .max = UINT64_MAX};
    const struct option size = {.name = "s", .kind = OPTION_SIZE, .value = "S", .min = 1, .max = UINT64_MAX};
    const struct option bounded = {.name = "s", .kind = OPTION_SIZE, .value = "S", .min = 1, .max = 100};
    uint64_t n = 0;
    struct err e;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(option_parse(&term, (const char *[]){"forever", "none", "off"}[i], &n, &e), 0);
        assert_true(n == UINT64_MAX);
    }
    n = 0;
    assert_int_equal(option_parse(&size, "none", &n, &e), 0);
    assert_true(n == UINT64_MAX);
    assert_int_equal(option_parse(&bounded, "none", &n, &e), STATUS_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_stand_anywhere_on_the_line),
        cmocka_unit_test(a_value_may_look_like_an_option),
        cmocka_unit_test(behind_two_dashes_nothing_is_an_option),
        cmocka_unit_test(the_last_of_two_counts_and_repeatable_ones_are_kept_in_order),
        cmocka_unit_test(an_empty_value_is_a_value),
        cmocka_unit_test(an_unknown_word_is_answered_with_the_nearest),
        cmocka_unit_test(a_rate_is_said_per_second_minute_or_hour),
        cmocka_unit_test(none_and_forever_are_no_bound_where_there_may_be_none),
        cmocka_unit_test(an_unknown_option_is_named_before_the_words_behind_it),
        cmocka_unit_test(an_option_of_another_command_is_unknown),
        cmocka_unit_test(operands_are_counted),
        cmocka_unit_test(what_is_required_must_be_there),
        cmocka_unit_test(names_are_checked_before_anything_is_done),
        cmocka_unit_test(values_are_checked_by_their_kind),
        cmocka_unit_test(help_wins_over_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

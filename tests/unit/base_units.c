#include "unit.h"

#include <errno.h>

#include "base/macros.h"
#include "base/rng.h"
#include "base/units.h"

enum { UNTOUCHED = 424242 };

struct good {
    const char *text;
    uint64_t value;
};

struct bad {
    const char *text;
    const char *says; /* a part of the error besides the quoted input */
};

typedef int parser(const char *text, uint64_t *out, struct err *e);

static void accept(parser *parse, const struct good *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = UNTOUCHED;
        struct err e = {0};
        if (parse(cases[i].text, &value, &e) != 0)
            fail_msg("'%s' was refused: %s", cases[i].text, e.text);
        if (value != cases[i].value)
            fail_msg("'%s' was read as %ju", cases[i].text, (uintmax_t)value);
    }
}

static void refuse(parser *parse, const struct bad *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = UNTOUCHED;
        struct err e = {0};
        if (parse(cases[i].text, &value, &e) != EINVAL)
            fail_msg("'%s' was accepted", cases[i].text);
        assert_int_equal(value, UNTOUCHED);
        char quoted[64];
        snprintf(quoted, sizeof quoted, "'%s'", cases[i].text);
        assert_has(e.text, quoted);
        assert_has(e.text, cases[i].says);
        assert_int_equal(parse(cases[i].text, &value, NULL), EINVAL);
    }
}

static void a_duration_is_a_number_and_a_unit(void **state)
{
    (void)state;
    static const struct good cases[] = {
        {"0ms", 0},      {"250ms", 250},    {"30s", 30000},     {"5m", 300000},
        {"1h", 3600000}, {"7d", 604800000}, {"2w", 1209600000}, {"18446744073709551615ms", UINT64_MAX},
        {"007s", 7000},
    };
    accept(duration_parse, cases, ARRAY_LEN(cases));
}

static void a_duration_without_a_good_unit_is_refused_with_the_units(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"30", "has no unit: a duration is a whole number and ms, s, m, h, d or w"},
        {"0", "has no unit"},
        {"30x", "unknown unit: a duration is a whole number and ms, s, m, h, d or w"},
        {"30S", "unknown unit"},
        {"30s ", "unknown unit"},
        {"1h30m", "unknown unit"},
        {"1.5h", "unknown unit"},
        {"", "is not a duration"},
        {"s", "is not a duration"},
        {"-5s", "is not a duration"},
        {" 5s", "is not a duration"},
        {"+5s", "is not a duration"},
        {"18446744073709551616ms", "too large"},
        {"18446744073709551615s", "too large"},
        {"99999999999999999999999999ms", "too large"},
        {"20000000000000000000000ms", "too large"},
        {"99999999999999999999999999w", "too large"},
    };
    refuse(duration_parse, cases, ARRAY_LEN(cases));
}

static void a_size_counts_in_thousands_or_in_1024s(void **state)
{
    (void)state;
    static const struct good cases[] = {
        {"0", 0},
        {"512", 512},
        {"512B", 512},
        {"3kB", 3000},
        {"1MB", 1000000},
        {"1GB", 1000000000},
        {"2TB", UINT64_C(2000000000000)},
        {"3KiB", 3072},
        {"64MiB", 67108864},
        {"1GiB", 1073741824},
        {"16777215TiB", UINT64_C(16777215) << 40},
        {"18446744073709551615", UINT64_MAX},
    };
    accept(size_parse, cases, ARRAY_LEN(cases));
}

static void a_size_that_is_unclear_or_too_large_is_refused(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"64mb", "unknown unit: a size is a whole number and nothing or B, kB, MB, GB"},
        {"64M", "unknown unit"},
        {"64KB", "unknown unit"},
        {"1.5GB", "unknown unit"},
        {"1 GB", "unknown unit"},
        {"", "is not a size"},
        {"-1", "is not a size"},
        {"MB", "is not a size"},
        {"0x10", "unknown unit"},
        {"16777216TiB", "too large"},
        {"18446744073709551616", "too large"},
    };
    refuse(size_parse, cases, ARRAY_LEN(cases));
}

static void what_is_printed_reads_back_as_the_same_quantity(void **state)
{
    (void)state;
    char text[UNITS_TEXT_MAX];
    assert_string_equal(duration_format(text, 0), "0ms");
    assert_string_equal(duration_format(text, 250), "250ms");
    assert_string_equal(duration_format(text, 90000), "90s");
    assert_string_equal(duration_format(text, 86400000), "1d");
    assert_string_equal(duration_format(text, 604800000), "1w");
    assert_string_equal(size_format(text, 0), "0");
    assert_string_equal(size_format(text, 1000), "1000");
    assert_string_equal(size_format(text, 67108864), "64MiB");
    assert_string_equal(size_format(text, UINT64_C(1) << 50), "1024TiB");

    struct rng r;
    rng_seed(&r, 1);
    for (int i = 0; i < 20000; i++) {
        uint64_t value = rng_next(&r) >> rng_below(&r, 64) << rng_below(&r, 64), back;
        assert_int_equal(duration_parse(duration_format(text, value), &back, NULL), 0);
        assert_true(back == value);
        assert_int_equal(size_parse(size_format(text, value), &back, NULL), 0);
        assert_true(back == value);
        value %= UINT64_C(253402300800000); /* the year 10000 */
        assert_int_equal(time_parse(time_format(text, value), 0, &back, NULL), 0);
        assert_true(back == value);
    }
}

static void the_largest_values_print_in_their_room(void **state)
{
    (void)state;
    char text[UNITS_TEXT_MAX];
    assert_string_equal(duration_format(text, UINT64_MAX), "18446744073709551615ms");
    assert_string_equal(size_format(text, UINT64_MAX), "18446744073709551615");
    assert_string_equal(time_format(text, UINT64_MAX), "584556019-04-03T14:25:51.615Z");
}

/* 2026-11-22T04:32:39.123Z */
#define NOW_MS UINT64_C(1795321959123)

static int parse_time(const char *text, uint64_t *out, struct err *e)
{
    return time_parse(text, NOW_MS, out, e);
}

static void a_time_is_rfc_3339_or_so_long_ago(void **state)
{
    (void)state;
    static const struct good cases[] = {
        {"2026-11-22T04:32:39.123Z", NOW_MS},
        {"2026-11-22T04:32:39.123999999Z", NOW_MS},
        {"2026-11-22T05:32:39.123+01:00", NOW_MS},
        {"2026-11-21T23:02:39.123-05:30", NOW_MS},
        {"2026-11-22t04:32:39.1z", NOW_MS - 23},
        {"2026-11-22T04:32:39Z", NOW_MS - 123},
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01T00:30:00+00:30", 0},
        {"2024-02-29T00:00:00Z", UINT64_C(1709164800000)},
        {"9999-12-31T23:59:59.999Z", UINT64_C(253402300799999)},
        {"-15m", NOW_MS - 900000},
        {"-0s", NOW_MS},
    };
    accept(parse_time, cases, ARRAY_LEN(cases));
}

static void a_time_that_does_not_exist_or_is_half_written_is_refused(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"", "is not a time: write one as"},
        {"yesterday", "or -15m for 15 minutes ago"},
        {"2026-11-22", "is not a time"},
        {"2026-11-22 04:32:39Z", "is not a time"},
        {"2026-11-22T04:32:39", "is not a time"},
        {"2026-11-22T04:32:39.Z", "is not a time"},
        {"2026-11-22T04:32:39Zx", "is not a time"},
        {"2026-11-22T04:32:39+1:00", "is not a time"},
        {"2026-11-22T04:32:39+24:00", "is not a time"},
        {"2026-11-22T04:32:39+00:60", "is not a time"},
        {"2026-13-01T00:00:00Z", "is not a time"},
        {"2026-00-01T00:00:00Z", "is not a time"},
        {"2026-02-29T00:00:00Z", "is not a time"},
        {"2026-04-31T00:00:00Z", "is not a time"},
        {"2026-11-22T24:00:00Z", "is not a time"},
        {"2026-11-22T23:60:00Z", "is not a time"},
        {"2026-11-22T23:59:60Z", "is not a time"},
        {"1795321959123", "is not a time"},
        {"-15", "is not a time"},
        {"15m", "is not a time"},
        {"1969-12-31T23:59:59Z", "before 1970"},
        {"1970-01-01T00:00:00+00:01", "before 1970"},
        {"-18446744073709551615ms", "before 1970"},
    };
    refuse(parse_time, cases, ARRAY_LEN(cases));
}

static int parse_count(const char *text, uint64_t *out, struct err *e)
{
    return count_parse(text, 1, 100, out, e);
}

static void a_count_is_a_whole_number_in_its_range(void **state)
{
    (void)state;
    static const struct good good[] = {{"1", 1}, {"42", 42}, {"100", 100}};
    static const struct bad bad[] = {
        {"", "is not a whole number"},     {"x", "is not a whole number"},
        {"1.0", "is not a whole number"},  {"-1", "is not a whole number"},
        {"1k", "is not a whole number"},   {"0", "is out of range: 1 to 100"},
        {"101", "out of range: 1 to 100"}, {"18446744073709551617", "out of range"},
    };
    accept(parse_count, good, ARRAY_LEN(good));
    refuse(parse_count, bad, ARRAY_LEN(bad));
    uint64_t value;
    assert_int_equal(count_parse("18446744073709551615", 0, UINT64_MAX, &value, NULL), 0);
    assert_true(value == UINT64_MAX);
}

static void a_name_has_1_to_200_of_the_allowed_characters(void **state)
{
    (void)state;
    char name[202];
    memset(name, 'n', sizeof name);
    struct err e = {0};
    assert_int_equal(name_check("topic", VIEW_LIT("Az09._-"), &e), 0);
    assert_int_equal(name_check("topic", view_of(name, 1), &e), 0);
    assert_int_equal(name_check("topic", view_of(name, 200), &e), 0);
    assert_int_equal(name_check("topic", view_of(name, 201), &e), EINVAL);
    assert_has(e.text, "of a topic is longer than 200 bytes");
    assert_int_equal(name_check("group", VIEW_LIT(""), &e), EINVAL);
    assert_string_equal(e.text, "the name of a group must not be empty");
    assert_int_equal(name_check("group", view_of(NULL, 0), &e), EINVAL);
    assert_int_equal(name_check("topic", VIEW_LIT("a b"), &e), EINVAL);
    assert_string_equal(e.text, "the name 'a b' of a topic may hold only A-Z a-z 0-9 . _ -");
    int allowed = 0;
    for (int c = 0; c < 256; c++)
        allowed += name_check("topic", view_of(&(uint8_t){(uint8_t)c}, 1), NULL) == 0;
    assert_int_equal(allowed, 26 + 26 + 10 + 3);
}

static void an_error_quotes_even_hostile_input_on_one_short_line(void **state)
{
    (void)state;
    char hostile[5000];
    memset(hostile, '\n', sizeof hostile - 1);
    hostile[0] = '\x1b';
    hostile[1] = '%';
    hostile[2] = (char)0xff;
    hostile[sizeof hostile - 1] = '\0';
    struct err e = {0};
    uint64_t value;
    duration_parse(hostile, &value, &e);
    assert_has(e.text, "'?%????");
    assert_has(e.text, "...' is not a duration: write a whole number and ms, s, m, h, d or w");
    assert_null(strchr(e.text, '\n'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_duration_is_a_number_and_a_unit),
        cmocka_unit_test(a_duration_without_a_good_unit_is_refused_with_the_units),
        cmocka_unit_test(a_size_counts_in_thousands_or_in_1024s),
        cmocka_unit_test(a_size_that_is_unclear_or_too_large_is_refused),
        cmocka_unit_test(what_is_printed_reads_back_as_the_same_quantity),
        cmocka_unit_test(the_largest_values_print_in_their_room),
        cmocka_unit_test(a_time_is_rfc_3339_or_so_long_ago),
        cmocka_unit_test(a_time_that_does_not_exist_or_is_half_written_is_refused),
        cmocka_unit_test(a_count_is_a_whole_number_in_its_range),
        cmocka_unit_test(a_name_has_1_to_200_of_the_allowed_characters),
        cmocka_unit_test(an_error_quotes_even_hostile_input_on_one_short_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

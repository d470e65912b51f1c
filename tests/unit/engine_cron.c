/* Times of cron: which minutes are named, and the next of them, in UTC. */
#include "unit.h"

#include <time.h>

#include "engine/cron.h"
#include "schemas/errors.h"

static uint64_t ms_of(const char *text) /* "2024-02-29 12:30", in seconds of its own: "2024-02-29 12:30:01" */
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%d %H:%M", &tm);
    assert_non_null(end);
    if (*end == ':')
        tm.tm_sec = atoi(end + 1);
    return (uint64_t)timegm(&tm) * 1000;
}

static const char *next(const char *cron, uint64_t after_ms)
{
    static char text[64];
    struct cron c;
    struct err e = {0};
    if (cron_parse(view_of_str(cron), &c, &e) != E_OK)
        fail_msg("%s", e.text);
    uint64_t ms = cron_next(&c, after_ms);
    if (ms == 0)
        return "never";
    assert_int_equal(ms % 60000, 0);
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M", &tm);
    return text;
}

static void check_next(const char *cron, const char *after, const char *expected)
{
    const char *is = next(cron, ms_of(after));
    if (strcmp(is, expected) != 0)
        fail_msg("'%s' behind %s is %s, not %s", cron, after, is, expected);
}

static void a_time_is_behind_the_one_given_even_by_a_millisecond(void **state)
{
    (void)state;
    check_next("* * * * *", "2024-05-05 10:00", "2024-05-05 10:01");
    check_next("* * * * *", "2024-05-05 10:00:59", "2024-05-05 10:01");
    assert_string_equal(next("0 10 * * *", ms_of("2024-05-05 10:00") - 1), "2024-05-05 10:00");
    check_next("0 10 * * *", "2024-05-05 10:00", "2024-05-06 10:00");
    check_next("30 4 * * *", "2023-12-31 23:59", "2024-01-01 04:30");
}

static void fields_are_lists_of_numbers_ranges_and_steps(void **state)
{
    (void)state;
    check_next("*/15 * * * *", "2024-05-05 10:31", "2024-05-05 10:45");
    check_next("*/15 * * * *", "2024-05-05 10:45", "2024-05-05 11:00");
    check_next("5,50 9-17 * * *", "2024-05-05 17:50", "2024-05-06 09:05");
    check_next("0 8-18/5 * * *", "2024-05-05 13:00", "2024-05-05 18:00");
    check_next("0 8-18/5 * * *", "2024-05-05 18:00", "2024-05-06 08:00");
    check_next("59 23 31 12 *", "2024-12-31 23:59", "2025-12-31 23:59");
    check_next("0 0 * jan,JUL *", "2024-01-31 12:00", "2024-07-01 00:00");
    check_next("  7\t1-2,5-6/1,9 * *   * ", "2024-05-05 03:00", "2024-05-05 05:07");
}

static void months_end_where_they_end_and_leap_years_have_their_day(void **state)
{
    (void)state;
    check_next("0 0 31 * *", "2024-01-31 00:00", "2024-03-31 00:00");
    check_next("0 0 31 * *", "2024-03-31 00:00", "2024-05-31 00:00");
    check_next("0 0 30 * *", "2023-01-30 00:00", "2023-03-30 00:00");
    check_next("0 0 29 2 *", "2023-01-01 00:00", "2024-02-29 00:00");
    check_next("0 0 29 2 *", "2024-02-29 00:00", "2028-02-29 00:00");
    check_next("0 0 29 2 *", "2096-02-29 00:00", "2104-02-29 00:00"); /* 2100 has none */
    check_next("0 0 29 2 *", "1999-02-28 00:00", "2000-02-29 00:00"); /* 2000 has one */
    check_next("30 12 28 2 *", "2024-02-28 12:30", "2025-02-28 12:30");
    check_next("0 0 1 * *", "2024-02-29 23:59", "2024-03-01 00:00");
    check_next("0 0 1 * *", "2023-02-28 23:59", "2023-03-01 00:00");
}

static void weekdays_go_from_sunday_to_sunday(void **state)
{
    (void)state;
    check_next("0 9 * * 1", "2024-05-05 10:00", "2024-05-06 09:00"); /* a Sunday; Monday */
    check_next("0 9 * * 0", "2024-05-05 10:00", "2024-05-12 09:00");
    check_next("0 9 * * 7", "2024-05-05 08:00", "2024-05-05 09:00");
    check_next("0 9 * * sun", "2024-05-05 08:00", "2024-05-05 09:00");
    check_next("0 9 * * MON-FRI", "2024-05-03 09:00", "2024-05-06 09:00");
    check_next("0 9 * * FRI-SUN", "2024-05-05 08:00", "2024-05-05 09:00");
    check_next("0 9 * * 5-7", "2024-05-06 08:00", "2024-05-10 09:00");
    check_next("0 9 * * */3", "2024-05-05 09:00", "2024-05-08 09:00"); /* 0, 3, 6 */
}

static void with_both_day_fields_given_either_is_enough(void **state)
{
    (void)state;
    check_next("0 0 13 * 5", "2024-05-05 00:00", "2024-05-10 00:00"); /* a Friday */
    check_next("0 0 13 * 5", "2024-05-10 00:00", "2024-05-13 00:00"); /* the 13th, a Monday */
    check_next("0 0 13 * *", "2024-05-05 00:00", "2024-05-13 00:00");
    check_next("0 0 */2 * 5", "2024-05-05 00:00", "2024-05-17 00:00"); /* begins with a star: an odd day that is a Friday */
    check_next("0 0 31 2 MON", "2024-01-31 00:00", "2024-02-05 00:00");
}

static void short_names_stand_for_what_they_say(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"@hourly", "2024-05-05 11:00"},  {"@daily", "2024-05-06 00:00"},   {"@midnight", "2024-05-06 00:00"}, {"@weekly", "2024-05-12 00:00"},
        {"@monthly", "2024-06-01 00:00"}, {" @Yearly ", "2025-01-01 00:00"}, {"@annually", "2025-01-01 00:00"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        check_next(names[i][0], "2024-05-05 10:30", names[i][1]);
}

static void a_time_that_never_comes_is_known(void **state)
{
    (void)state;
    check_next("0 0 31 2 *", "2024-05-05 10:30", "never");
    check_next("0 0 30 2 *", "2024-05-05 10:30", "never");
    check_next("0 0 31 4,6,9,11 *", "2024-05-05 10:30", "never");
}

static void what_is_no_time_is_refused_by_its_field(void **state)
{
    (void)state;
    static const struct { const char *cron, *says; } bad[] = {
        {"", "has 0 fields"},
        {"* * * *", "has 4 fields"},
        {"* * * * * *", "more than five"},
        {"60 * * * *", "'60' is no minute"},
        {"* 24 * * *", "'24' is no hour"},
        {"* * 0 * *", "'0' is no day"},
        {"* * 32 * *", "'32' is no day"},
        {"* * * 13 *", "'13' is no month"},
        {"* * * 0 *", "'0' is no month"},
        {"* * * FOO *", "'FOO' is no month"},
        {"* * * * 8", "'8' is no weekday"},
        {"* * * * MON-", "'MON-' is no weekday"},
        {"5-3 * * * *", "'5-3' is no minute"},
        {"*/0 * * * *", "'*/0' is no minute"},
        {"5/15 * * * *", "'5/15' is no minute"},
        {"1,,2 * * * *", "'1,,2' is no minute"},
        {"1, * * * *", "'1,' is no minute"},
        {"-1 * * * *", "'-1' is no minute"},
        {"00000 * * * *", "'00000' is no minute"},
        {"4294967297 * * * *", "is no minute"},
        {"1x * * * *", "'1x' is no minute"},
        {"JAN * * * *", "'JAN' is no minute"},
        {"@fortnightly", "not one of @hourly"},
        {"@daily 5", "not one of @hourly"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct cron c;
        struct err e = {0};
        if (cron_parse(view_of_str(bad[i].cron), &c, &e) != E_INVALID_ARGUMENT || strstr(e.text, bad[i].says) == NULL)
            fail_msg("'%s': %s", bad[i].cron, e.text);
    }
}

/* Minute by minute through years, by the C library's own calendar. */
static void no_minute_is_missed_and_none_is_made_up(void **state)
{
    (void)state;
    struct cron c;
    struct err e = {0};
    assert_int_equal(cron_parse(VIEW_LIT("17 3,15 1-7,29 * TUE"), &c, &e), E_OK);
    uint64_t at = ms_of("1999-12-31 00:00"), expected = cron_next(&c, at), met = 0;
    for (uint64_t end = ms_of("2001-03-02 00:00"); at < end;) {
        at += 60000;
        time_t t = (time_t)(at / 1000);
        struct tm tm;
        gmtime_r(&t, &tm);
        bool day = tm.tm_mday <= 7 || tm.tm_mday == 29 || tm.tm_wday == 2;
        bool matches = tm.tm_min == 17 && (tm.tm_hour == 3 || tm.tm_hour == 15) && day;
        assert_int_equal(matches, at == expected);
        if (matches) {
            expected = cron_next(&c, at);
            met++;
        }
    }
    assert_true(met > 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_time_is_behind_the_one_given_even_by_a_millisecond),
        cmocka_unit_test(fields_are_lists_of_numbers_ranges_and_steps),
        cmocka_unit_test(months_end_where_they_end_and_leap_years_have_their_day),
        cmocka_unit_test(weekdays_go_from_sunday_to_sunday),
        cmocka_unit_test(with_both_day_fields_given_either_is_enough),
        cmocka_unit_test(short_names_stand_for_what_they_say),
        cmocka_unit_test(a_time_that_never_comes_is_known),
        cmocka_unit_test(what_is_no_time_is_refused_by_its_field),
        cmocka_unit_test(no_minute_is_missed_and_none_is_made_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

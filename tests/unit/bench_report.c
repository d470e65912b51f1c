/* What the bench prints (tests/bench/report.c), and when a run is void (bench.c). */
#include <jansson.h>
#include <math.h>

#include "bench/bench.h"
#include "unit.h"

/* The line that a report printed; freed by the caller. */
static json_t *line_of(const char *id, double value, const char *note, unsigned *below)
{
    char text[1000];
    FILE *f = tmpfile();
    struct report r = {.out = f, .json = true};
    report_row(&r, id, value, note);
    rewind(f);
    assert_non_null(fgets(text, sizeof text, f));
    assert_null(fgets(text + strlen(text), 2, f)); /* one line */
    fclose(f);
    *below = r.below;
    json_t *row = json_loads(text, 0, NULL);
    assert_non_null(row);
    return row;
}

static void check_row(const char *id, double value, bool ok)
{
    unsigned below;
    json_t *row = line_of(id, value, NULL, &below);
    const char *const fields[] = {"id", "what", "value", "unit", "floor", "aim", "ok"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        assert_non_null(json_object_get(row, fields[i]));
    assert_string_equal(json_string_value(json_object_get(row, "id")), id);
    assert_int_equal(json_is_true(json_object_get(row, "ok")), ok);
    assert_int_equal(below, !ok);
    json_decref(row);
}

static void a_row_is_ok_from_its_floor_on_whichever_way_is_better(void **state)
{
    (void)state;
    check_row("P3", 1e6, true); /* more is better */
    check_row("P3", 999999, false);
    check_row("P11", 3, true); /* less is better */
    check_row("P11", 3.01, false);
}

static void a_row_without_a_value_is_null_and_not_ok(void **state)
{
    (void)state;
    unsigned below;
    json_t *row = line_of("P9", NAN, "the broker was gone", &below);
    assert_true(json_is_null(json_object_get(row, "value")));
    assert_true(json_is_false(json_object_get(row, "ok")));
    assert_has(json_string_value(json_object_get(row, "what")), "; the broker was gone");
    assert_int_equal(below, 1);
    json_decref(row);
    row = line_of("P9", INFINITY, NULL, &below); /* as of a time that was 0 */
    assert_true(json_is_null(json_object_get(row, "value")));
    assert_true(json_is_false(json_object_get(row, "ok")));
    json_decref(row);
}

static void a_row_says_which_share_of_which_limit_it_takes_if_that_is_known(void **state)
{
    (void)state;
    char text[2000];
    FILE *f = tmpfile();
    struct report r = {.out = f, .json = true};
    report_row_of(&r, "P3", 2e6, NULL, 0.25, "loopback tcp");
    report_row_of(&r, "P3", 2e6, NULL, NAN, NULL);
    rewind(f);
    assert_non_null(fgets(text, sizeof text, f));
    json_t *row = json_loads(text, 0, NULL);
    assert_true(json_real_value(json_object_get(row, "share")) == 0.25);
    assert_string_equal(json_string_value(json_object_get(row, "of")), "loopback tcp");
    json_decref(row);
    assert_non_null(fgets(text, sizeof text, f));
    assert_null(strstr(text, "share"));
    fclose(f);
}

static void what_failed_has_all_of_its_rows_and_none_twice(void **state)
{
    (void)state;
    char text[4000];
    FILE *f = tmpfile();
    struct report r = {.out = f, .json = true};
    report_row(&r, "P8.produce", 1, NULL);
    report_failed(&r, "P8 P12.message", "killed");
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    assert_has(text, "{\"id\":\"P8.queue\"");
    assert_has(text, "{\"id\":\"P12.message\"");
    assert_null(strstr(text, "P12.broker"));
    assert_null(strstr(strstr(text, "P8.produce") + 1, "P8.produce"));
}

static void a_number_keeps_four_digits_and_large_ones_are_whole(void **state)
{
    (void)state;
    static const struct { double value; const char *text; } cases[] = {
        {1234567.8, "1234568"}, {0.123456, "0.1235"}, {12.3456, "12.35"}, {3, "3"}, {0, "0"}, {INFINITY, "null"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *n = report_number(cases[i].value);
        char *text = json_dumps(n, JSON_ENCODE_ANY | JSON_REAL_PRECISION(4));
        assert_string_equal(text, cases[i].text);
        free(text);
        json_decref(n);
    }
}

static void a_run_that_lost_or_repeated_is_void(void **state)
{
    (void)state;
    const struct verdict bad[] = {{.lost = 1}, {.repeated = 1}, {.reordered = 1}, {.damaged = 1}};
    struct err e = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *fields = json_object();
        assert_int_equal(bench_verdict(fields, &bad[i], &e), BENCH_VOID);
        assert_has(e.text, "void: 1 ");
        assert_true(json_is_string(json_object_get(fields, "void")));
        json_decref(fields);
    }
    json_t *fields = json_object();
    assert_int_equal(bench_verdict(fields, &(struct verdict){.expected = 7, .seen = 7}, &e), 0);
    assert_true(json_is_false(json_object_get(fields, "void")));
    assert_int_equal(json_integer_value(json_object_get(fields, "verified")), 7);
    json_decref(fields);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_is_ok_from_its_floor_on_whichever_way_is_better),
        cmocka_unit_test(a_row_without_a_value_is_null_and_not_ok),
        cmocka_unit_test(a_row_says_which_share_of_which_limit_it_takes_if_that_is_known),
        cmocka_unit_test(what_failed_has_all_of_its_rows_and_none_twice),
        cmocka_unit_test(a_number_keeps_four_digits_and_large_ones_are_whole),
        cmocka_unit_test(a_run_that_lost_or_repeated_is_void),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

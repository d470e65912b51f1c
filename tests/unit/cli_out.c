#include "unit.h"

#include <fcntl.h>
#include <signal.h>

#include "cli/command.h"
#include "cli/out.h"

/* What is written to standard output between these two. */
static int real_stdout = -1, end_to_read = -1;

static void catch_output(void)
{
    int ends[2];
    fflush(NULL);
    assert_int_equal(pipe(ends), 0);
    real_stdout = dup(STDOUT_FILENO);
    dup2(ends[1], STDOUT_FILENO);
    close(ends[1]);
    end_to_read = ends[0];
}

static void expect_output(const char *expected)
{
    char text[4096] = "";
    assert_int_equal(out_end(STATUS_OK), STATUS_OK);
    dup2(real_stdout, STDOUT_FILENO);
    close(real_stdout);
    ssize_t size = read(end_to_read, text, sizeof text - 1);
    assert_true(size >= 0);
    text[size] = '\0';
    close(end_to_read);
    assert_string_equal(text, expected);
}

static void columns_are_as_wide_as_their_widest_cell(void **state)
{
    (void)state;
    struct table t;
    catch_output();
    table_begin(&t, 3, (const char *const[]){"TOPIC", ">N", "LAST"});
    table_cell(&t, "a");
    table_cell(&t, "%d", 12345);
    table_cell(&t, "x");
    table_cell(&t, "longer-name");
    table_cell(&t, "%d", 1);
    table_cell(&t, "y");
    table_end(&t);
    expect_output("TOPIC            N  LAST\n"
                  "a            12345  x\n"
                  "longer-name      1  y\n");
}

static void letters_are_counted_not_bytes(void **state)
{
    (void)state;
    struct table t;
    catch_output();
    table_begin(&t, 2, (const char *const[]){"K", "V"});
    table_cell(&t, "é");
    table_cell(&t, "1");
    table_cell(&t, "ab");
    table_cell(&t, "2");
    table_end(&t);
    expect_output("K   V\n"
                  "é   1\n"
                  "ab  2\n");
}

static void a_table_without_rows_prints_nothing(void **state)
{
    (void)state;
    struct table t;
    catch_output();
    table_begin(&t, 2, (const char *const[]){"K", "V"});
    table_end(&t);
    expect_output("");
}

static void data_does_not_play_with_the_terminal(void **state)
{
    (void)state;
    struct table t;
    catch_output();
    table_begin(&t, 1, (const char *const[]){"KEY"});
    table_cell(&t, "a\033[31mb\n\tc\x7f");
    table_end(&t);
    expect_output("KEY\na\\x1b[31mb\\n\\tc\\x7f\n");
}

static void an_object_is_one_line(void **state)
{
    (void)state;
    catch_output();
    out_json(json_pack("{s:s, s:f, s:n}", "a", "x\ny", "b", 0.1, "c"));
    expect_output("{\"a\":\"x\\ny\",\"b\":0.1,\"c\":null}\n");
}

static void quantities_are_rounded_for_people(void **state)
{
    (void)state;
    char text[UNITS_TEXT_MAX];
    assert_string_equal(short_bytes(text, 0), "0 B");
    assert_string_equal(short_bytes(text, 1023), "1023 B");
    assert_string_equal(short_bytes(text, 1536), "1.5 KiB");
    assert_string_equal(short_bytes(text, 300ULL << 20), "300 MiB");
    assert_string_equal(short_seconds(text, 0), "0s");
    assert_string_equal(short_seconds(text, 0.25), "250ms");
    assert_string_equal(short_seconds(text, 4.23), "4.2s");
    assert_string_equal(short_seconds(text, 59.97), "1m00s");
    assert_string_equal(short_seconds(text, 192), "3m12s");
    assert_string_equal(short_seconds(text, 7500), "2h05m");
    assert_string_equal(short_seconds(text, 273600), "3d04h");
    assert_string_equal(short_seconds(text, -1), "never");
    assert_string_equal(term_text(text, UINT64_MAX), "forever");
    assert_string_equal(term_text(text, 604800000), "1w");
}

static void a_reader_that_went_away_is_no_error(void *arg)
{
    int ends[2];
    signal(SIGPIPE, SIG_IGN);
    if (pipe(ends) != 0)
        _exit(1);
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    out_text("lost");
    *(int *)arg = out_flush() || out_end(STATUS_OK) != STATUS_OK;
    _exit(*(int *)arg);
}

static void a_full_disk_is_an_error(void *arg)
{
    int full = open("/dev/full", O_WRONLY);
    dup2(full, STDOUT_FILENO);
    out_text("lost");
    *(int *)arg = out_end(STATUS_OK) != STATUS_ERROR;
    _exit(*(int *)arg);
}

static void output_that_cannot_be_written_ends_it_quietly_or_with_the_reason(void **state)
{
    (void)state;
    char said[256];
    int result = 0;
    assert_int_equal(death_of(a_reader_that_went_away_is_no_error, &result, said, sizeof said), 0);
    assert_string_equal(said, "");
    assert_int_equal(death_of(a_full_disk_is_an_error, &result, said, sizeof said), 0);
    assert_has(said, "sluice: standard output: No space left on device");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
        cmocka_unit_test(letters_are_counted_not_bytes),
        cmocka_unit_test(a_table_without_rows_prints_nothing),
        cmocka_unit_test(data_does_not_play_with_the_terminal),
        cmocka_unit_test(an_object_is_one_line),
        cmocka_unit_test(quantities_are_rounded_for_people),
        cmocka_unit_test(output_that_cannot_be_written_ends_it_quietly_or_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

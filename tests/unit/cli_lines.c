#include "unit.h"

#include "cli/lines.h"

/* A reader of a pipe that holds these bytes and is closed, or stays open with *open_end. */
static struct lines lines_of(const char *bytes, size_t size, int *open_end)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], bytes, size), (ssize_t)size);
    if (open_end != NULL)
        *open_end = ends[1];
    else
        close(ends[1]);
    return (struct lines){.fd = ends[0], .wake_fd = {-1, -1}};
}

static void expect_line(struct lines *l, const char *bytes, size_t size)
{
    struct view line;
    assert_int_equal(lines_next(l, &line), LINES_LINE);
    assert_int_equal(line.size, size);
    assert_non_null(line.data);
    assert_memory_equal(line.data, bytes, size);
}

static void end(struct lines *l)
{
    struct view line;
    assert_int_equal(lines_next(l, &line), LINES_END);
    close(l->fd);
    lines_free(l);
}

static void a_line_ends_at_its_newline_and_the_last_one_needs_none(void **state)
{
    (void)state;
    struct lines l = lines_of("one\ntwo", 7, NULL);
    expect_line(&l, "one", 3);
    expect_line(&l, "two", 3);
    end(&l);
    l = lines_of("one\n", 4, NULL);
    expect_line(&l, "one", 3);
    end(&l);
    l = lines_of("", 0, NULL);
    end(&l);
}

static void an_empty_line_is_a_line(void **state)
{
    (void)state;
    struct lines l = lines_of("\n\na\n", 4, NULL);
    expect_line(&l, "", 0);
    expect_line(&l, "", 0);
    expect_line(&l, "a", 1);
    end(&l);
}

static void a_line_may_hold_any_byte(void **state)
{
    (void)state;
    struct lines l = lines_of("a\0b\r\xff\n\0", 7, NULL);
    expect_line(&l, "a\0b\r\xff", 5);
    expect_line(&l, "\0", 1);
    end(&l);
}

static void a_line_is_given_out_as_soon_as_it_is_there(void **state)
{
    (void)state;
    int open_end;
    struct lines l = lines_of("now\nla", 6, &open_end);
    expect_line(&l, "now", 3);
    assert_int_equal(write(open_end, "ter\n", 4), 4);
    expect_line(&l, "later", 5);
    close(open_end);
    end(&l);
}

static void waiting_ends_when_it_is_woken(void **state)
{
    (void)state;
    int open_end, wake[2];
    struct view line;
    struct lines l = lines_of("half", 4, &open_end);
    assert_int_equal(pipe(wake), 0);
    assert_int_equal(write(wake[1], "!", 1), 1);
    l.wake_fd[1] = wake[0];
    while (lines_next(&l, &line) == LINES_LINE)
        fail_msg("a half line was given out");
    close(open_end);
    close(wake[0]);
    close(wake[1]);
    close(l.fd);
    lines_free(&l);
}

static void a_line_may_be_longer_than_a_read(void **state)
{
    (void)state;
    enum { SIZE = 3000000 };
    FILE *f = tmpfile();
    assert_non_null(f);
    for (int i = 0; i < SIZE; i++)
        fputc('a' + i % 26, f);
    fputs("\nz\n", f);
    fflush(f);
    rewind(f);
    struct lines l = {.fd = fileno(f), .wake_fd = {-1, -1}};
    struct view line;
    assert_int_equal(lseek(l.fd, 0, SEEK_SET), 0);
    assert_int_equal(lines_next(&l, &line), LINES_LINE);
    assert_int_equal(line.size, SIZE);
    assert_int_equal(line.data[SIZE - 1], 'a' + (SIZE - 1) % 26);
    expect_line(&l, "z", 1);
    assert_int_equal(lines_next(&l, &line), LINES_END);
    lines_free(&l);
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_ends_at_its_newline_and_the_last_one_needs_none),
        cmocka_unit_test(an_empty_line_is_a_line),
        cmocka_unit_test(a_line_may_hold_any_byte),
        cmocka_unit_test(a_line_is_given_out_as_soon_as_it_is_there),
        cmocka_unit_test(waiting_ends_when_it_is_woken),
        cmocka_unit_test(a_line_may_be_longer_than_a_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

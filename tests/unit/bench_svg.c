/* Plots (tests/bench/svg.c). */
#include "bench/svg.h"
#include "unit.h"

static char text[20000];

static void draw(const struct svg_line *lines, size_t count)
{
    FILE *f = tmpfile();
    svg_write(f, &(struct svg_plot){.title = "rate < limit & more", .x_name = "x", .y_name = "y", .lines = lines, .count = count});
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
}

/* The points of a line as numbers. */
static unsigned points_of(unsigned line, double x[8], double y[8])
{
    char begin[40];
    snprintf(begin, sizeof begin, "line-%u\" stroke=", line);
    const char *at = strstr(text, begin);
    assert_non_null(at);
    at = strstr(at, "points=\"");
    assert_non_null(at);
    at += strlen("points=\"");
    unsigned n = 0;
    for (int used = 0; n < 8 && sscanf(at, " %lf,%lf%n", &x[n], &y[n], &used) == 2; at += used)
        n++;
    return n;
}

static void a_line_has_its_points_in_decades_of_equal_width(void **state)
{
    (void)state;
    double x[] = {1, 10, 100}, y[] = {1000, 10, 100000}, px[8], py[8];
    struct svg_line lines[] = {{"one", 3, x, y}, {"two", 1, x, y}};
    draw(lines, 2);
    assert_int_equal(points_of(0, px, py), 3);
    assert_true(px[0] < px[1] && px[1] < px[2]);
    assert_true(px[1] - px[0] - (px[2] - px[1]) < 0.2 && px[1] - px[0] - (px[2] - px[1]) > -0.2);
    assert_true(py[1] > py[0] && py[0] > py[2]); /* down is less */
    assert_true(py[1] - py[0] - (py[0] - py[2]) < 0.2 && py[1] - py[0] - (py[0] - py[2]) > -0.2);
    assert_int_equal(points_of(1, px, py), 1);
    assert_has(text, ">one</text>");
    assert_has(text, ">two</text>");
    assert_has(text, ">100k</text>");
}

static void what_would_be_markup_is_written_as_text(void **state)
{
    (void)state;
    double v[] = {5};
    draw(&(struct svg_line){"a<b", 1, v, v}, 1);
    assert_has(text, "rate &#60; limit &#38; more");
    assert_null(strstr(text, "a<b"));
    assert_has(text, "</svg>\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_its_points_in_decades_of_equal_width),
        cmocka_unit_test(what_would_be_markup_is_written_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

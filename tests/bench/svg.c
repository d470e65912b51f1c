/* See svg.h. */
#include "svg.h"

#include <math.h>

enum { WIDTH = 760, HEIGHT = 420, LEFT = 70, RIGHT = 190, TOP = 40, BOTTOM = 50, COLOURS = 8 };

static const char *const colours[COLOURS] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f"};

/* Whole powers of ten that hold all values. */
struct axis { int low, high; };

static struct axis axis_of(const struct svg_plot *p, int which)
{
    double least = INFINITY, most = 0;
    for (size_t i = 0; i < p->count; i++) {
        const double *v = which == 0 ? p->lines[i].x : p->lines[i].y;
        for (size_t k = 0; k < p->lines[i].count; k++) {
            least = fmin(least, v[k]);
            most = fmax(most, v[k]);
        }
    }
    if (most <= 0)
        return (struct axis){0, 1};
    struct axis a = {(int)floor(log10(least)), (int)ceil(log10(most))};
    a.high += a.high == a.low;
    return a;
}

static double place(struct axis a, double value, double from, double to)
{
    return from + (log10(value) - a.low) / (a.high - a.low) * (to - from);
}

static double x_of(struct axis a, double value)
{
    return place(a, value, LEFT, WIDTH - RIGHT);
}

static double y_of(struct axis a, double value)
{
    return place(a, value, HEIGHT - BOTTOM, TOP);
}

static void put_text(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '<' || *text == '&' || *text == '>')
            fprintf(out, "&#%d;", *text);
        else
            fputc(*text, out);
    }
}

static void put_label(FILE *out, double x, double y, const char *anchor, const char *text)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    put_text(out, text);
    fprintf(out, "</text>\n");
}

static void number_mark(int power, char *out, size_t size)
{
    if (power >= 3 && power < 9)
        snprintf(out, size, "%.0f%c", pow(10, power % 3), power < 6 ? 'k' : 'M');
    else
        snprintf(out, size, "%g", pow(10, power));
}

static void put_grid(FILE *out, const struct svg_plot *p, struct axis x, struct axis y)
{
    char mark[32];
    for (int i = x.low; i <= x.high; i++) {
        (p->x_mark != NULL ? p->x_mark : number_mark)(i, mark, sizeof mark);
        double at = x_of(x, pow(10, i));
        fprintf(out, "<path class=\"grid\" d=\"M%.1f %d V%d\"/>\n", at, TOP, HEIGHT - BOTTOM);
        put_label(out, at, HEIGHT - BOTTOM + 18, "middle", mark);
    }
    for (int i = y.low; i <= y.high; i++) {
        number_mark(i, mark, sizeof mark);
        double at = y_of(y, pow(10, i));
        fprintf(out, "<path class=\"grid\" d=\"M%d %.1f H%d\"/>\n", LEFT, at, WIDTH - RIGHT);
        put_label(out, LEFT - 8, at + 4, "end", mark);
    }
    put_label(out, LEFT, TOP - 16, "start", p->title);
    put_label(out, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 10, "middle", p->x_name);
    fprintf(out, "<text transform=\"translate(16 %d) rotate(-90)\" text-anchor=\"middle\">", HEIGHT / 2);
    put_text(out, p->y_name);
    fprintf(out, "</text>\n");
}

static void put_line(FILE *out, const struct svg_line *l, size_t number, struct axis x, struct axis y)
{
    const char *colour = colours[number % COLOURS];
    fprintf(out, "<polyline class=\"line line-%zu\" stroke=\"%s\" points=\"", number, colour);
    for (size_t i = 0; i < l->count; i++)
        fprintf(out, "%s%.1f,%.1f", i > 0 ? " " : "", x_of(x, l->x[i]), y_of(y, l->y[i]));
    fprintf(out, "\"/>\n<path class=\"line line-%zu\" stroke=\"%s\" d=\"M%d %zu h20\"/>\n", number, colour, WIDTH - RIGHT + 14,
            TOP + 10 + 20 * number);
    put_label(out, WIDTH - RIGHT + 40, TOP + 14.0 + 20.0 * (double)number, "start", l->name);
}

void svg_write(FILE *out, const struct svg_plot *p)
{
    struct axis x = axis_of(p, 0), y = axis_of(p, 1);
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n", WIDTH, HEIGHT);
    fprintf(out, "<style>.grid{stroke:#ddd;fill:none}.line{fill:none;stroke-width:1.5}</style>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n");
    put_grid(out, p, x, y);
    for (size_t i = 0; i < p->count; i++)
        put_line(out, &p->lines[i], i, x, y);
    fprintf(out, "</svg>\n");
}

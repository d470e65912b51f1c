/* A plot of lines as SVG, both axes logarithmic. Colours are given by classes, so that a page can change them. */
#ifndef BENCH_SVG_H
#define BENCH_SVG_H

#include <stddef.h>
#include <stdio.h>

struct svg_line {
    const char *name;
    size_t count;
    double *x, *y; /* above 0 */
};

struct svg_plot {
    const char *title, *x_name, *y_name;
    /* What stands at a mark of the x axis, for 10^power; NULL: the number. Writes at most `size` bytes. */
    void (*x_mark)(int power, char *out, size_t size);
    const struct svg_line *lines;
    size_t count;
};

void svg_write(FILE *out, const struct svg_plot *p);

#endif

/*
 * sluice-bench plot: an SVG on stdout, a line for each file. Of histograms (--hist A,B) the latency by percentile, drawn by nines; of
 * points (--points A,B: two numbers a line) one against the other: a rate by partitions, consumers or backlog.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "svg.h"

enum { FILES_MAX = 16 };

struct files {
    struct svg_line lines[FILES_MAX];
    char names[FILES_MAX][PATH_MAX];
    size_t count;
};

static void add_point(struct svg_line *l, double x, double y)
{
    if (!(x > 0) || !(y > 0))
        return;
    if ((l->count & (l->count - 1)) == 0) { /* it grows at powers of two */
        size_t cap = l->count == 0 ? 1 : 2 * l->count;
        l->x = realloc(l->x, cap * sizeof *l->x);
        l->y = realloc(l->y, cap * sizeof *l->y);
        if (l->x == NULL || l->y == NULL)
            abort();
    }
    l->x[l->count] = x;
    l->y[l->count++] = y;
}

/* A percentile by its nines: 90 is 10, 99 is 100. The last of a histogram is 100, which has no place. */
static void add_latency(struct svg_line *l, double us, double percentile)
{
    if (percentile < 100)
        add_point(l, 100 / (100 - percentile), us);
}

static int read_file(struct svg_line *l, const char *path, bool hist, struct err *e)
{
    char text[256];
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return err_set(e, errno, "%s: %s", path, strerror(errno));
    int code = 0;
    for (unsigned number = 1; code == 0 && fgets(text, sizeof text, f) != NULL; number++) {
        double a, b;
        if (text[0] == '#' || text[0] == '\n')
            continue;
        if (sscanf(text, "%lf %lf", &a, &b) != 2)
            code = err_set(e, EINVAL, "%s:%u: no two numbers", path, number);
        else if (hist)
            add_latency(l, a, b);
        else
            add_point(l, a, b);
    }
    fclose(f);
    if (code == 0 && l->count == 0)
        code = err_set(e, EINVAL, "%s: nothing to draw", path);
    return code;
}

/* Its name in the plot is the file's, without directory and ending. */
static int add_file(struct files *all, const char *path, size_t size, bool hist, struct err *e)
{
    if (all->count == FILES_MAX || size >= PATH_MAX)
        return err_set(e, EINVAL, "more than %d files, or too long a name", FILES_MAX);
    char *name = all->names[all->count];
    memcpy(name, path, size);
    name[size] = '\0';
    struct svg_line *l = &all->lines[all->count++];
    int code = read_file(l, name, hist, e);
    char *slash = strrchr(name, '/'), *dot = strrchr(name, '.');
    if (dot != NULL && (slash == NULL || dot > slash + 1))
        *dot = '\0';
    l->name = slash != NULL ? slash + 1 : name;
    return code;
}

static void nines_mark(int power, char *out, size_t size)
{
    if (power < 2)
        snprintf(out, size, "%s", power == 0 ? "0 %" : "90 %");
    else
        snprintf(out, size, "99%s%.*s %%", power > 2 ? "." : "", power - 2, "99999999");
}

int command_plot(struct bench *b, struct err *e)
{
    const char *list = b->o.hist != NULL ? b->o.hist : b->o.points;
    struct files *all = calloc(1, sizeof *all);
    if (all == NULL)
        abort();
    int code = list != NULL ? 0 : err_set(e, EINVAL, "name files with --hist or --points");
    for (const char *at = list; at != NULL && code == 0; at = strchr(at, ',')) {
        at += *at == ',';
        code = add_file(all, at, strcspn(at, ","), b->o.hist != NULL, e);
    }
    if (code == 0) {
        struct svg_plot p = {.title = b->o.title != NULL ? b->o.title : "", .lines = all->lines, .count = all->count,
                             .x_name = b->o.hist != NULL ? "of all messages" : "", .y_name = b->o.hist != NULL ? "latency, us" : ""};
        p.x_mark = b->o.hist != NULL ? nines_mark : NULL;
        svg_write(b->report.out, &p);
    }
    for (size_t i = 0; i < all->count; i++) {
        free(all->lines[i].x);
        free(all->lines[i].y);
    }
    free(all);
    return code;
}

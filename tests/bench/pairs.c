/* See pairs.h. */
#include "pairs.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int pairs_run(struct pairs *p, size_t runs, pairs_fn *a, void *a_user, pairs_fn *b, void *b_user, struct err *e)
{
    assert(runs <= PAIRS_MAX);
    p->runs = 0;
    while (p->runs < runs) {
        int code = a(a_user, &p->a[p->runs], e);
        if (code == 0)
            code = b(b_user, &p->b[p->runs], e);
        if (code != 0)
            return code;
        p->runs++;
    }
    return 0;
}

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

double median(const double *values, size_t count)
{
    double sorted[PAIRS_MAX];
    assert(count <= PAIRS_MAX);
    if (count == 0)
        return NAN;
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, by_value);
    return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

double pairs_ratio(const struct pairs *p)
{
    double ratios[PAIRS_MAX];
    for (size_t i = 0; i < p->runs; i++)
        ratios[i] = p->a[i] / p->b[i];
    return median(ratios, p->runs);
}

double pairs_a(const struct pairs *p)
{
    return median(p->a, p->runs);
}

double pairs_b(const struct pairs *p)
{
    return median(p->b, p->runs);
}

/*
 * Interleaved runs, A B A B .., so that what the machine does meanwhile meets both, and the median of the ratios of neighbours.
 */
#ifndef BENCH_PAIRS_H
#define BENCH_PAIRS_H

#include <stddef.h>

#include "base/err.h"

enum { PAIRS_MAX = 64 };

struct pairs {
    size_t runs;
    double a[PAIRS_MAX], b[PAIRS_MAX];
};

/* One run of one side; its figure in `out`. */
typedef int pairs_fn(void *user, double *out, struct err *e);

/* `runs` times (at most PAIRS_MAX) A, then B. Stops at the first error and returns it. */
int pairs_run(struct pairs *p, size_t runs, pairs_fn *a, void *a_user, pairs_fn *b, void *b_user, struct err *e);

double median(const double *values, size_t count); /* of an even count the mean of the two in the middle; NaN of none */
double pairs_ratio(const struct pairs *p);         /* the median of a[i] / b[i] */
double pairs_a(const struct pairs *p);             /* the median of a side */
double pairs_b(const struct pairs *p);

#endif

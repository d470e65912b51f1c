/*
 * A histogram of latencies: 1 us to 1000 s, three significant digits, in a fixed 170 kB. Below 2,048 us each microsecond has its
 * own count, above it each power of two is parted into 1,024. (The layout is HdrHistogram's.) One thread at a time.
 */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

#include "base/err.h"

enum { HIST_FINE = 2048, HIST_HALF = HIST_FINE / 2, HIST_OCTAVES = 19, HIST_COUNTS = HIST_FINE + HIST_OCTAVES * HIST_HALF };
#define HIST_US_MAX UINT64_C(1000000000)

struct hist {
    uint64_t total, min_us, max_us;
    double sum_us;
    uint64_t counts[HIST_COUNTS];
};

struct hist *hist_new(void); /* empty; free() it */
void hist_clear(struct hist *h);

/* `times` latencies of so many ns, rounded up to a whole us; what is above 1000 s counts as that. */
void hist_record(struct hist *h, uint64_t ns, uint64_t times);
void hist_add(struct hist *h, const struct hist *other);

/* The latency that `percentile` of 100 do not exceed, in us: the upper end of its step, at most the maximum. 0 when empty. */
double hist_us(const struct hist *h, double percentile);
double hist_mean_us(const struct hist *h);

/* A line for each step that has any: value in us, share of all at or below it, count at or below it. */
int hist_write(const struct hist *h, const char *path, struct err *e);

#endif

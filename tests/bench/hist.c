/* See hist.h. */
#include "hist.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

struct hist *hist_new(void)
{
    struct hist *h = malloc(sizeof *h);
    if (h == NULL)
        abort();
    hist_clear(h);
    return h;
}

void hist_clear(struct hist *h)
{
    memset(h, 0, sizeof *h);
    h->min_us = UINT64_MAX;
}

/* Octave k holds HIST_FINE * 2^k up to twice that, in steps of 2^(k+1). */
static size_t step_of(uint64_t us)
{
    if (us < HIST_FINE)
        return us;
    unsigned octave = 63 - (unsigned)__builtin_clzll(us) - 11;
    return HIST_FINE + octave * HIST_HALF + ((us >> (octave + 1)) - HIST_HALF);
}

static uint64_t step_end(size_t step)
{
    if (step < HIST_FINE)
        return step;
    unsigned octave = (unsigned)((step - HIST_FINE) / HIST_HALF);
    uint64_t within = (step - HIST_FINE) % HIST_HALF + HIST_HALF;
    return ((within + 1) << (octave + 1)) - 1;
}

void hist_record(struct hist *h, uint64_t ns, uint64_t times)
{
    uint64_t us = ns / 1000 + (ns % 1000 != 0);
    if (us > HIST_US_MAX)
        us = HIST_US_MAX;
    if (times == 0)
        return;
    h->counts[step_of(us)] += times;
    h->total += times;
    h->sum_us += (double)us * (double)times;
    if (us > h->max_us)
        h->max_us = us;
    if (us < h->min_us)
        h->min_us = us;
}

void hist_add(struct hist *h, const struct hist *other)
{
    for (size_t i = 0; i < HIST_COUNTS; i++)
        h->counts[i] += other->counts[i];
    h->total += other->total;
    h->sum_us += other->sum_us;
    if (other->max_us > h->max_us)
        h->max_us = other->max_us;
    if (other->min_us < h->min_us)
        h->min_us = other->min_us;
}

static uint64_t end_seen(const struct hist *h, size_t step)
{
    uint64_t end = step_end(step);
    return end < h->max_us ? end : h->max_us;
}

double hist_us(const struct hist *h, double percentile)
{
    if (h->total == 0)
        return 0;
    uint64_t rank = (uint64_t)ceil(percentile * (double)h->total / 100 - 1e-6), seen = 0; /* 99.9 is not exact */
    if (rank == 0)
        return (double)h->min_us;
    for (size_t i = 0; i < HIST_COUNTS; i++) {
        seen += h->counts[i];
        if (seen >= rank)
            return (double)end_seen(h, i);
    }
    return (double)h->max_us;
}

double hist_mean_us(const struct hist *h)
{
    return h->total == 0 ? 0 : h->sum_us / (double)h->total;
}

int hist_write(const struct hist *h, const char *path, struct err *e)
{
    FILE *f = fopen(path, "we");
    if (f == NULL)
        return err_set(e, errno, "%s: %s", path, strerror(errno));
    fprintf(f, "# us percentile count\n");
    uint64_t seen = 0;
    for (size_t i = 0; i < HIST_COUNTS; i++) {
        if (h->counts[i] == 0)
            continue;
        seen += h->counts[i];
        fprintf(f, "%llu %.6f %llu\n", (unsigned long long)end_seen(h, i), 100 * (double)seen / (double)h->total,
                (unsigned long long)seen);
    }
    bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad)
        return err_set(e, EIO, "%s: cannot be written", path);
    return 0;
}

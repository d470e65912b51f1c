/* What `sluice-bench neighbours` and its handlers share. */
#ifndef BENCH_NEIGHBOUR_H
#define BENCH_NEIGHBOUR_H

#include <stdatomic.h>
#include <stdint.h>

enum { NEIGHBOUR_ROWS_MAX = 1 << 23 };

struct neighbour_message {
    uint64_t intended_ns; /* monotonic */
    uint64_t bad;
};

struct neighbour_row {
    uint64_t intended_ns, done_ns;
};

/* A file in memory that the good ones append to. */
struct neighbour_table {
    _Atomic uint64_t count;
    struct neighbour_row rows[NEIGHBOUR_ROWS_MAX];
};

#endif

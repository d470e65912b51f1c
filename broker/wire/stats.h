/* What wire counts, in any thread. */
#ifndef WIRE_STATS_H
#define WIRE_STATS_H

#include <stdatomic.h>
#include <stdint.h>

struct wire_counters {
#define X(name, help) atomic_uint_fast64_t name;
#include "wire/counters.def"
#undef X
};

#define COUNT(counters, name) COUNT_BY(counters, name, 1)
#define COUNT_BY(counters, name, n) \
    (void)atomic_fetch_add_explicit(&(counters)->name, (n), memory_order_relaxed)

#endif

/*
 * The two clocks. Monotonic time never steps and says nothing about the date: for deadlines, leases
 * and rates. Wall time is the date and may step either way: for what people read and what must mean
 * something after a restart. Any thread.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Monotonic time in nanoseconds and in milliseconds, from one origin. */
uint64_t clock_mono_ns(void);
uint64_t clock_mono_ms(void);

/* Milliseconds since 1970-01-01T00:00:00Z. */
uint64_t clock_wall_ms(void);

#endif

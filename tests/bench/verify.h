/*
 * What was acknowledged must come, once, whole, and in the order of its stream. A stream is what has one order: one producer and
 * one partition, or one key. One thread at a time.
 */
#ifndef BENCH_VERIFY_H
#define BENCH_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "payload.h"

struct verify; /* streams 0 to count-1 */

struct verdict {
    uint64_t expected, seen; /* seen: once each */
    uint64_t lost, repeated, reordered, damaged;
};

/* `ordered`: within a stream numbers must rise. */
struct verify *verify_new(uint32_t streams, bool ordered);
void verify_free(struct verify *v);

/* Numbers 0 to count-1 of the stream were acknowledged. What is beyond them may come or not, but once. */
void verify_produced(struct verify *v, uint32_t stream, uint64_t count);
/* A message came. What it says of itself is left in `head` (may be NULL); false when it is damaged. */
bool verify_seen(struct verify *v, const void *data, size_t size, struct payload_head *head);
uint64_t verify_count(const struct verify *v); /* that came, once each */

struct verdict verify_end(const struct verify *v);
bool verdict_good(const struct verdict *d);
/* "2 lost, 1 damaged"; "" when good. Returns `out`. */
char *verdict_text(const struct verdict *d, char out[160]);

#endif

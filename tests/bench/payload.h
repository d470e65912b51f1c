/*
 * The bytes of a message of the bench: who made it, its number, when it was meant to be sent, a checksum over all of it, and a
 * body that follows from seed, stream and number. The body does not compress, unless it is asked for. Any thread.
 */
#ifndef BENCH_PAYLOAD_H
#define BENCH_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAYLOAD_MIN = 32, PAYLOAD_MAX = 1 << 20 };

struct payload {
    uint64_t seed;
    size_t size; /* PAYLOAD_MIN to PAYLOAD_MAX */
    bool compressible;
};

struct payload_head {
    uint64_t number;      /* in its stream, from 0 */
    uint64_t intended_ns; /* monotonic; 0: it has no time */
    uint32_t stream;
};

/* Writes p->size bytes. */
void payload_fill(const struct payload *p, const struct payload_head *head, void *out);
/* False when these are not the bytes that payload_fill wrote. */
bool payload_read(const void *data, size_t size, struct payload_head *head);

#endif

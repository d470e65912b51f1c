/*
 * How many tasks of a handler the daemon may hold for its children beyond what these have places for.
 *
 *     broker --- hundreds in one request ---> [ wait in the daemon ] --- as places fall free ---> [ pipeline of a child ]
 *
 * A pipeline is short, as what is in it is late when the process ends and no other can take it. If nothing else was held, a fast handler
 * would cost a request for each few tasks. So as many are held as get done in AHEAD_MS, by what was done in the last stretches of that time: a
 * handler that takes longer for its pipeline than that gets nothing ahead, and nobody else waits for longer than that for what lies here. Who
 * suddenly takes longer is known after AHEAD_STRETCHES: then what waits is too much, and goes back to whoever has room.
 *
 * It is bounded by number and by bytes, and is a quarter at most of what the group may have in flight over all.
 *
 * Pure: time is an argument.
 */
#ifndef WORKERD_AHEAD_H
#define WORKERD_AHEAD_H

#include <stddef.h>
#include <stdint.h>

enum {
    AHEAD_MS = 20,
    AHEAD_STRETCHES = 5, /* that are remembered */
    AHEAD_LONG_MS = AHEAD_STRETCHES * AHEAD_MS, /* who waited for that long, and would not be fetched now, goes back */
    AHEAD_MAX = 1024, /* tasks */
    AHEAD_BYTES_MAX = 4 << 20,
};

/* All zero but for the time is a good one. */
struct ahead {
    uint64_t since_ms, finished; /* the stretch that is counted: its begin, and what was finished by then */
    uint32_t done[AHEAD_STRETCHES];
    unsigned at;           /* the next of these */
    uint64_t tasks, bytes; /* fetched: sums that are halved now and then, for the mean size */
};

struct ahead_limits {
    uint64_t bytes;         /* AHEAD_BYTES_MAX or less */
    uint32_t in_flight_max; /* of the group, over all who receive; 0: none */
};

void ahead_begin(struct ahead *a, uint64_t now_ms);

/* A task of that size came. */
void ahead_fetched(struct ahead *a, size_t bytes);
/* Time passes. `finished`, ever: verdicts of any kind. */
void ahead_count(struct ahead *a, uint64_t finished, uint64_t now_ms);

/* How many may be held in all, if the children have fewer places. */
uint32_t ahead_most(const struct ahead *a, const struct ahead_limits *l);

#endif

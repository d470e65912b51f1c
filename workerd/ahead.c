#include "workerd/ahead.h"

enum { FADE_TASKS = 512, SHARE_OF_GROUP = 4 };

void ahead_begin(struct ahead *a, uint64_t now_ms)
{
    *a = (struct ahead){.since_ms = now_ms};
}

void ahead_fetched(struct ahead *a, size_t bytes)
{
    if (a->tasks >= FADE_TASKS) {
        a->tasks /= 2;
        a->bytes /= 2;
    }
    a->tasks++;
    a->bytes += bytes;
}

/* A turn may come late: then it is the mean of all the stretches that went by. */
void ahead_count(struct ahead *a, uint64_t finished, uint64_t now_ms)
{
    uint64_t passed = now_ms - a->since_ms;
    if (passed < AHEAD_MS)
        return;
    uint64_t done = (finished - a->finished) * AHEAD_MS / passed;
    for (uint64_t i = 0; i < passed / AHEAD_MS && i < AHEAD_STRETCHES; i++) {
        a->done[a->at] = done < AHEAD_MAX ? (uint32_t)done : AHEAD_MAX;
        a->at = (a->at + 1) % AHEAD_STRETCHES;
    }
    a->since_ms = now_ms;
    a->finished = finished;
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint32_t ahead_most(const struct ahead *a, const struct ahead_limits *l)
{
    uint64_t most = 0;
    for (unsigned i = 0; i < AHEAD_STRETCHES; i++)
        most = a->done[i] > most ? a->done[i] : most;
    if (a->bytes > 0)
        most = lesser(most, l->bytes * a->tasks / a->bytes);
    if (l->in_flight_max > 0)
        most = lesser(most, l->in_flight_max / SHARE_OF_GROUP);
    return (uint32_t)most;
}

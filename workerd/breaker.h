/*
 * When a handler fails on everything, something behind it is out: then every further delivery is a wasted one.
 *
 *              nearly all of the last verdicts failed
 *     CLOSED ------------------------------------------> OPEN  <-----------+
 *        ^                                                | pause over     | the probe failed: a longer pause
 *        |                the probe went well             v                |
 *        +--------------------------------------------- HALF_OPEN ---------+
 *
 * CLOSED takes tasks, OPEN takes none, HALF_OPEN takes one at a time, the probe. The pattern is Michael Nygard's ("Release It!"). The window by
 * count and the least number of verdicts in it are as in resilience4j and Hystrix, the single probe as in Hystrix, the pause that grows with each
 * time as the ejection time of Envoy's outlier detection; the jitter keeps many daemons from probing together.
 *
 * Pure: time is an argument, randomness follows from a seed.
 */
#ifndef WORKERD_BREAKER_H
#define WORKERD_BREAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

enum {
    BREAKER_WINDOW_MAX = 256,
    BREAKER_AGE_MS = 300000, /* a verdict older than this says nothing about now */
};

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker_config {
    bool on; /* off: stays CLOSED */
    uint32_t
        window; /* verdicts that are looked at, 2 to BREAKER_WINDOW_MAX; judged once half of them are there */
    uint32_t percent;      /* so many of a hundred failed: it opens */
    uint32_t pause_ms;     /* the first pause; doubled each time */
    uint32_t pause_ms_max; /* at least pause_ms */
};

/* What became of a task, as far as it says something about the handler. */
enum breaker_verdict {
    BREAKER_OK,
    BREAKER_FAILED, /* to be retried, crashed, or the process did not start */
    BREAKER_MUTE,   /* parked, or given back: it says nothing */
};

struct breaker {
    struct breaker_config config;
    enum breaker_state state;
    struct rng rng;

    /* the window: a ring of verdicts since it closed */
    struct {
        uint64_t at_ms;
        bool failed;
    } verdicts[BREAKER_WINDOW_MAX];
    uint32_t first, count, failed;

    uint64_t until_ms; /* OPEN: the end of the pause */
    uint64_t since_ms; /* when it came to its state */
    uint32_t pauses;   /* one after the other without a good time between */
    uint32_t pause_ms; /* the present or last one */
    bool probing;      /* HALF_OPEN: the probe is there */
    uint64_t opened;   /* how often, of all its life */
};

void breaker_init(struct breaker *b, const struct breaker_config *config, uint64_t seed, uint64_t now_ms);

/* Other bounds from now on. If they differ it begins anew, CLOSED. */
void breaker_configure(struct breaker *b, const struct breaker_config *config, uint64_t now_ms);

/* A verdict on a task; `probe`: it was the probe. True: the state changed. What was begun before it opened and ends later changes nothing. */
bool breaker_verdict(struct breaker *b, enum breaker_verdict v, bool probe, uint64_t now_ms);

/* Time passes. True: the pause is over, a probe may be fetched. */
bool breaker_step(struct breaker *b, uint64_t now_ms);
/* When breaker_step has something to do; UINT64_MAX: never. */
uint64_t breaker_due_ms(const struct breaker *b);

/* How many tasks may be fetched now. */
uint32_t breaker_room(const struct breaker *b);
/* HALF_OPEN: the probe is there. breaker_verdict with `probe` ends it. */
void breaker_probe(struct breaker *b);

const char *breaker_state_name(enum breaker_state s);

#endif

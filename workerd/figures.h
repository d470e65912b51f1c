/*
 * What the daemon knows of itself, as figures: filled by the loop, copied to whoever looks (watch.c, service.c).
 */
#ifndef WORKERD_FIGURES_H
#define WORKERD_FIGURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/units.h"
#include "workerd/breaker.h"
#include "workerd/command.h"
#include "workerd/run.h"

enum {
    FIGURES_TIMES = 15,       /* bounds of the service times */
    FIGURES_VERSION_MAX = 64, /* bytes */
    FIGURES_TEXT_MAX = 320,
};

/* Service times: how many took up to each bound and longer than the one before; the last is without a bound. */
struct figures_times {
    uint64_t counts[FIGURES_TIMES + 1];
    uint64_t n, sum_ms;
};

extern const uint32_t figures_bounds_ms[FIGURES_TIMES];

void figures_time(struct figures_times *t, uint64_t ms);

struct figures_handler {
    char name[NAME_MAX_BYTES + 1], topic[NAME_MAX_BYTES + 1], group[NAME_MAX_BYTES + 1];
    char version[FIGURES_VERSION_MAX]; /* of the file in force, as the process that started last said; "" before */
    char canary_version[FIGURES_VERSION_MAX]; /* of the one that is tried */
    uint32_t canary_percent;                  /* of the keys are with that; 0: there is none */
    char versions[2 * FIGURES_VERSION_MAX + 16]; /* both in one line: "1.2.3 (10% 2.0.0)" */
    uint64_t versions_dropped;                /* ever */
    struct run_counts counts;
    uint64_t restarts; /* processes that ended without being told to */
    uint32_t up, busy, wanted, had; /* had: what was wanted before it last changed */
    uint32_t calls; /* under way, in all threads of the processes */
    uint64_t held; /* tasks without an outcome */
    uint32_t least, most;     /* processes */
    bool paused;              /* people said so */
    const char *why, *moved;  /* as many are wanted; it last changed; static */
    char error[ERR_TEXT_MAX]; /* of the last failure; "" before */
    struct command_taken taken;
    enum breaker_state breaker;
    uint64_t breaker_opened;
    struct figures_times times;
};

struct figures {
    enum run_state state;
    bool reachable;   /* the broker */
    uint64_t reloads; /* of the configuration, tried, ever */
    /* In one line: "ready", "ready; breaker open: email", "starting: handler 'email' has 1 of 2 processes up" */
    char text[FIGURES_TEXT_MAX];
    size_t handlers_n;
    struct figures_handler *handlers;
};

/* Writes `text` from the rest. */
void figures_describe(struct figures *f);

/* READY, and the broker can be reached. An open breaker is no reason: nobody sends tasks here that could go elsewhere. */
bool figures_ready(const struct figures *f);

/* `to` becomes like `from`; its memory is used again. */
void figures_copy(struct figures *to, const struct figures *from);
void figures_free(struct figures *f);

#endif

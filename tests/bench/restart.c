/*
 * sluice-bench restart: a broker with much data is killed, and started again: how long until it acknowledges a message. Row P11. The
 * data is in the system's caches, as far as they go.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "bench.h"
#include "rows.h"
#include "stage.h"

#define QUICK_BYTES UINT64_C(2000000000)
#define FULL_BYTES UINT64_C(20000000000)

struct restarted { double ready_s, first_s; };

static int kill_and_restart(struct bench *b, struct place *at, struct stage *s, struct restarted *out, struct err *e)
{
    struct outcome o = {0};
    struct work w = {.size = 100, .durability = SLUICE_DISK, .batch = 1, .window = 1, .connections = 1, .messages = 1, .seed = b->o.seed};
    server_kill(&at->broker.server);
    uint64_t start = clock_mono_ns();
    int code = broker_start(&at->broker, b->o.bin, at->dir, NULL, e);
    out->ready_s = (double)(clock_mono_ns() - start) / 1e9;
    if (code == 0)
        code = stage_publish(s, &w, false, &o, e);
    out->first_s = (double)(clock_mono_ns() - start) / 1e9;
    return code;
}

static int fill(struct stage *s, uint64_t bytes, uint64_t seed, struct err *e)
{
    struct outcome out = {0};
    struct work w = {.size = 16000, .durability = SLUICE_OS, .batch = 16, .window = 8, .connections = 1, .messages = bytes / 16000,
                     .seed = seed, .progress = true};
    return stage_publish(s, &w, false, &out, e);
}

static int measure(struct bench *b, struct place *at, uint64_t bytes, struct restarted *all, unsigned runs, struct err *e)
{
    struct stage s = {0};
    struct verdict d;
    int code = stage_open(&s, &at->broker, SLUICE_OS, 1, 0, 1, SLUICE_ORDER_NONE, e);
    if (code == 0)
        code = fill(&s, bytes, b->o.seed, e);
    for (unsigned i = 0; i < runs && code == 0; i++)
        code = kill_and_restart(b, at, &s, &all[i], e);
    if (code == 0)
        code = stage_check_log(&s, &d, e);
    stage_leave(&s);
    return code;
}

int rows_restart(struct bench *b, struct err *e)
{
    struct place at;
    struct restarted all[PAIRS_MAX];
    double ready[PAIRS_MAX], first[PAIRS_MAX];
    unsigned runs = bench_runs(&b->o);
    uint64_t bytes = b->o.quick ? QUICK_BYTES : FULL_BYTES;
    if (b->o.messages > 0)
        bytes = b->o.messages * 16000;
    int code = place_open(&at, &b->o, e);
    if (code == 0 && !bench_owns(&at, e))
        code = e->code;
    if (code == 0)
        code = measure(b, &at, bytes, all, runs, e);
    for (unsigned i = 0; i < runs && code == 0; i++) {
        ready[i] = all[i].ready_s;
        first[i] = all[i].first_s;
    }
    if (code == 0) {
        char note[120];
        snprintf(note, sizeof note, "%.1f GB, to the first message on disk; ready after %.2f s", (double)bytes / 1e9, median(ready, runs));
        report_row(&b->report, "P11", median(first, runs), note);
    }
    place_close(&at);
    return code;
}

int command_restart(struct bench *b, struct err *e)
{
    return rows_restart(b, e);
}

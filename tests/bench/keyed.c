/* Handlers that wait 1 ms for each message of a keyed group: how the rate grows with their number. Rows P14. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "rows.h"
#include "stage.h"

enum { HANDLER_US = 1000, KEYS = 10000, BATCH = 16, COUNTS = 4, LEAST = 1, MIDDLE = 16, MOST = 64 };

static const uint32_t counts[COUNTS] = {LEAST, MIDDLE, 32, MOST};

/* One handler does at most 1,000 messages a second. */
static int fill(struct stage *s, uint32_t handlers, double seconds, uint64_t seed, struct err *e)
{
    struct outcome out = {0};
    struct work w = {.size = 100, .durability = SLUICE_OS, .batch = 1000, .window = 4, .connections = 1, .seed = seed,
                     .messages = (uint64_t)(seconds * handlers * 1e6 / HANDLER_US) + KEYS};
    return stage_publish(s, &w, false, &out, e);
}

static int rate_of(struct bench *b, struct broker *at, uint32_t handlers, double *rate, struct err *e)
{
    struct stage s = {0};
    struct outcome out = {0};
    struct work w = {.size = 100, .durability = SLUICE_OS, .batch = BATCH, .window = 8, .connections = handlers, .warmup = 0.5,
                     .seconds = bench_seconds(&b->o, 5, 2), .seed = b->o.seed};
    int code = stage_open(&s, at, w.durability, 1, KEYS, 1, SLUICE_ORDER_KEY, e);
    if (code == 0)
        code = fill(&s, handlers, w.warmup + w.seconds, w.seed, e);
    if (code == 0) {
        struct verify *v = verify_new(KEYS, true);
        code = stage_lease(&s, &w, v, HANDLER_US, &out, e);
        struct verdict d;
        if (code == 0)
            code = stage_check_group(&s, v, &d, e);
        verify_free(v);
    }
    *rate = outcome_rate(&out);
    stage_close(&s);
    return code;
}

static double best(const double rates[COUNTS])
{
    double most = 0;
    for (unsigned i = 0; i < COUNTS; i++)
        most = rates[i] > most ? rates[i] : most;
    return most;
}

int rows_keyed(struct bench *b, struct err *e)
{
    struct place at;
    double grown[PAIRS_MAX], kept[PAIRS_MAX], one[PAIRS_MAX], many[PAIRS_MAX], most[PAIRS_MAX];
    unsigned runs = bench_runs(&b->o);
    int code = place_open(&at, &b->o, e);
    for (unsigned i = 0; i < runs && code == 0; i++) {
        double rates[COUNTS];
        for (unsigned k = 0; k < COUNTS && code == 0; k++)
            code = rate_of(b, &at.broker, counts[k], &rates[k], e);
        if (code != 0)
            break;
        one[i] = rates[0];
        many[i] = rates[1];
        most[i] = rates[COUNTS - 1];
        grown[i] = rates[1] / rates[0];
        kept[i] = rates[COUNTS - 1] / best(rates);
    }
    if (code == 0) {
        char note[160];
        snprintf(note, sizeof note, "os, %d keys, %d leased at a time; %.0f/s against %.0f/s", KEYS, BATCH, median(many, runs), median(one, runs));
        bench_row(b, "P14.16", median(grown, runs), note, (struct share){median(many, runs) / 16e3, "what 16 can do that wait 1 ms"});
        snprintf(note, sizeof note, "os, best of 1, 16, 32 and 64; %.0f/s", median(most, runs));
        bench_row(b, "P14.64", median(kept, runs), note, (struct share){median(most, runs) / 64e3, "what 64 can do that wait 1 ms"});
    }
    place_close(&at);
    return code;
}

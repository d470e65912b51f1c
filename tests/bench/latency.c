/*
 * sluice-bench latency: from when a message was meant to be sent to when it was there, at an offered rate. And the rows of messages
 * that go through: P3 as many as can be, P6 at 20,000 a second.
 */
#include <stdlib.h>

#include "bench.h"
#include "flow.h"
#include "rows.h"

enum { WINDOW_OPEN = 20000 }; /* of the open loop: never what holds a batch back, unless the broker is seconds late */

static const struct work offered = {.size = 100, .durability = SLUICE_OS, .batch = 1, .window = WINDOW_OPEN, .rate = 20000};

/* One flow through a topic of its own. f->consumed.latency is the caller's. */
static int through(struct broker *at, const struct work *w, uint32_t partitions, bool queue, struct flow *f, struct err *e)
{
    struct stage s = {0};
    int code = stage_open(&s, at, w->durability, partitions, 0, w->connections, queue ? SLUICE_ORDER_NONE : STAGE_NO_GROUP, e);
    if (code == 0)
        code = flow_run(&s, w, queue, f, e);
    stage_close(&s);
    return code;
}

/* ---------------------------------------------------------------- the command */

static int show(struct bench *b, struct broker *at, const struct work *w, bool queue, struct err *e)
{
    struct flow f = {.consumed.latency = hist_new()};
    int code = through(at, w, bench_partitions(&b->o), queue, &f, e);
    if (code == 0 || code == BENCH_VOID) {
        struct outcome out = f.produced;
        out.latency = f.consumed.latency;
        json_t *fields = bench_fields("latency", w, &out);
        bench_share(fields, machine_share_round(50, hist_us(out.latency, 50)));
        json_object_set_new(fields, "to", json_string(queue ? "a queue group" : "a reader of the log"));
        json_object_set_new(fields, "through_per_s", report_number(f.rate));
        bench_verdict(fields, &f.verdict, NULL);
        report_object(&b->report, fields);
        if (code == 0 && !queue)
            code = bench_hist(&b->o, &out, e);
    }
    free(f.consumed.latency);
    return code;
}

int command_latency(struct bench *b, struct err *e)
{
    struct place at;
    struct work w = bench_work(&b->o, &offered);
    int code = place_open(&at, &b->o, e);
    if (code == 0)
        code = show(b, &at.broker, &w, false, e);
    if (code == 0)
        code = show(b, &at.broker, &w, true, e);
    place_close(&at);
    return code;
}

/* ---------------------------------------------------------------- rows */

int rows_latency(struct bench *b, struct err *e)
{
    struct place at;
    double p50[PAIRS_MAX], p99[PAIRS_MAX];
    unsigned runs = bench_runs(&b->o);
    int code = place_open(&at, &b->o, e);
    for (unsigned i = 0; i < runs && code == 0; i++) {
        struct flow f = {.consumed.latency = hist_new()};
        struct work w = offered;
        w.connections = 1;
        w.warmup = 1;
        w.seconds = bench_seconds(&b->o, 10, 3);
        w.seed = b->o.seed;
        code = through(&at.broker, &w, 1, false, &f, e);
        p50[i] = hist_us(f.consumed.latency, 50);
        p99[i] = hist_us(f.consumed.latency, 99);
        free(f.consumed.latency);
    }
    if (code == 0) {
        bench_row(b, "P6.p50", median(p50, runs), NULL, machine_share_round(50, median(p50, runs)));
        bench_row(b, "P6.p99", median(p99, runs), NULL, machine_share_round(99, median(p99, runs)));
    }
    place_close(&at);
    return code;
}

int rows_through(struct bench *b, struct err *e)
{
    struct place at;
    double rates[PAIRS_MAX];
    unsigned runs = bench_runs(&b->o);
    int code = place_open(&at, &b->o, e);
    for (unsigned i = 0; i < runs && code == 0; i++) {
        struct flow f = {0};
        struct work w = {.size = 100, .durability = SLUICE_OS, .batch = 1000, .window = 4, .connections = 1, .warmup = 1,
                         .seconds = bench_seconds(&b->o, 10, 3), .seed = b->o.seed};
        code = through(&at.broker, &w, 1, false, &f, e);
        rates[i] = f.rate;
    }
    if (code == 0)
        bench_row(b, "P3", median(rates, runs), "batches of 1,000, 4 out, one reader of the log; the bench on the same cores",
                  machine_share(NULL, 2 * 100 * median(rates, runs)));
    place_close(&at);
    return code;
}

/* What durable publishing asks of the disk: rows P4, syncs per million messages, and P13, bytes written per byte. */
#include <math.h>
#include <poll.h>
#include <stdlib.h>

#include "bench.h"
#include "rows.h"
#include "stage.h"

enum { REST_MS = 500, REST_MAX = 60 };

/* ---------------------------------------------------------------- syncs */

static int syncs_per_million(struct bench *b, struct broker *at, double *out, struct err *e)
{
    struct stage s = {0};
    struct outcome o = {0};
    struct verdict d;
    struct work w = {.size = 100, .durability = SLUICE_DISK, .batch = 100, .window = 16, .connections = 8,
                     .seconds = bench_seconds(&b->o, 5, 2), .seed = b->o.seed};
    int code = stage_open(&s, at, w.durability, 1, 0, w.connections, STAGE_NO_GROUP, e);
    double before = broker_metric(at, "sluice_syncs_total");
    if (code == 0)
        code = stage_publish(&s, &w, false, &o, e);
    double after = broker_metric(at, "sluice_syncs_total");
    if (code == 0)
        code = stage_check_log(&s, &d, e);
    *out = (after - before) / ((double)stage_count(&s) / 1e6);
    stage_close(&s);
    return code;
}

int rows_syncs(struct bench *b, struct err *e)
{
    struct place at;
    double values[PAIRS_MAX];
    unsigned runs = bench_runs(&b->o);
    int code = place_open(&at, &b->o, e);
    if (code == 0 && !bench_owns(&at, e))
        code = e->code;
    for (unsigned i = 0; i < runs && code == 0; i++)
        code = syncs_per_million(b, &at.broker, &values[i], e);
    if (code == 0)
        report_row(&b->report, "P4", median(values, runs), "8 connections, 16 batches of 100 out on each");
    place_close(&at);
    return code;
}

/* ---------------------------------------------------------------- bytes */

/* Until the broker has written what it had to write behind. */
static uint64_t written_at_rest(const struct broker *at)
{
    struct usage before, now;
    usage_of(at->server.pid, &before);
    for (unsigned i = 0, same = 0; i < REST_MAX && same < 4; i++) {
        poll(NULL, 0, REST_MS);
        usage_of(at->server.pid, &now);
        same = now.written_bytes - before.written_bytes < 65536 ? same + 1 : 0;
        before = now;
    }
    return before.written_bytes;
}

int rows_written(struct bench *b, struct err *e)
{
    struct place at;
    struct stage s = {0};
    struct outcome out = {0};
    struct verdict d;
    uint64_t bytes = b->o.quick ? UINT64_C(1000000000) : UINT64_C(4000000000);
    struct work w = {.size = 1000, .durability = SLUICE_DISK, .batch = 100, .window = 8, .connections = 1, .messages = bytes / 1000,
                     .seed = b->o.seed};
    int code = place_open(&at, &b->o, e);
    if (code == 0 && !bench_owns(&at, e))
        code = e->code;
    if (code == 0)
        code = stage_open(&s, &at.broker, w.durability, 1, 0, 1, STAGE_NO_GROUP, e);
    uint64_t before = code == 0 ? written_at_rest(&at.broker) : 0;
    if (code == 0)
        code = stage_publish(&s, &w, false, &out, e);
    uint64_t after = code == 0 ? written_at_rest(&at.broker) : 0;
    if (code == 0)
        code = stage_check_log(&s, &d, e);
    if (code == 0)
        bench_row(b, "P13", (double)(after - before) / (double)bytes,
                  b->o.quick ? "disk, batches of 100; 1 GB, what is written behind included" : "disk, batches of 100; 4 GB, what is written behind included",
                  (struct share){(double)bytes / (double)(after - before), "writing each byte once"});
    stage_close(&s);
    place_close(&at);
    return code;
}

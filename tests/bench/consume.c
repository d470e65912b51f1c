/* sluice-bench consume: reads a log again and again from its start: what catching up costs. Row P9. */
#include <math.h>
#include <stdlib.h>

#include "bench.h"
#include "rows.h"
#include "stage.h"
#include "tail.h"

enum { CACHED_BYTES = 40 << 20 }; /* of payload: less than tail_cache_bytes */

static int fill(struct stage *s, const struct work *w, struct err *e)
{
    struct outcome out = {0};
    struct work filling = {.durability = w->durability, .size = w->size, .batch = 256, .window = 4, .connections = 1, .seed = w->seed,
                           .compressible = w->compressible, .messages = w->messages > 0 ? w->messages : CACHED_BYTES / w->size};
    return stage_publish(s, &filling, false, &out, e);
}

/* Fills the log, reads it for the work's time, and verifies it. */
static int catch_up(struct broker *at, const struct options *o, const struct work *w, struct outcome *out, struct verdict *d,
                    struct err *e)
{
    struct stage s = {0};
    int code = stage_open(&s, at, w->durability, bench_partitions(o), 0, 1, STAGE_NO_GROUP, e);
    if (code == 0)
        code = fill(&s, w, e);
    if (code == 0) {
        struct work reading = *w;
        struct tail t = {.url = at->url, .topic = s.topic, .partitions = s.partitions, .work = &reading, .server = &at->server,
                         .again = true};
        reading.messages = 0;
        code = tail_run(&t, out, e);
    }
    if (code == 0)
        code = stage_check_log(&s, d, e);
    stage_close(&s);
    return code;
}

/* GB of payload that a second of the broker's processor time reads. */
static double per_core(const struct work *w, const struct outcome *out)
{
    return out->server.cpu_seconds > 0 ? (double)out->messages * w->size / 1e9 / out->server.cpu_seconds : NAN;
}

static const struct work usual = {.size = 1000, .durability = SLUICE_OS};

int command_consume(struct bench *b, struct err *e)
{
    struct place at;
    struct verdict d;
    struct work w = bench_work(&b->o, &usual);
    struct outcome out = {.latency = hist_new()};
    int code = place_open(&at, &b->o, e);
    if (w.connections < bench_partitions(&b->o))
        w.connections = bench_partitions(&b->o);
    if (code == 0)
        code = catch_up(&at.broker, &b->o, &w, &out, &d, e);
    if (code == 0 || code == BENCH_VOID) {
        json_t *fields = bench_fields("consume", &w, &out);
        bench_share(fields, machine_share(NULL, outcome_rate(&out) * w.size));
        json_object_set_new(fields, "gb_per_s_per_server_core", report_number(per_core(&w, &out)));
        code = bench_verdict(fields, &d, e);
        report_object(&b->report, fields);
    }
    if (code == 0)
        code = bench_hist(&b->o, &out, e);
    place_close(&at);
    free(out.latency);
    return code;
}

int rows_catch_up(struct bench *b, struct err *e)
{
    struct place at;
    double values[PAIRS_MAX];
    unsigned runs = bench_runs(&b->o);
    int code = place_open(&at, &b->o, e);
    if (code == 0 && !bench_owns(&at, e))
        code = e->code;
    for (unsigned i = 0; i < runs && code == 0; i++) {
        struct work w = usual;
        struct outcome out = {0};
        struct verdict d;
        w.connections = 1;
        w.batch = w.window = 1;
        w.warmup = 0.5;
        w.seconds = bench_seconds(&b->o, 5, 2);
        code = catch_up(&at.broker, &b->o, &w, &out, &d, e);
        if (code == 0)
            code = bench_verdict(NULL, &d, e);
        values[i] = per_core(&w, &out);
    }
    if (code == 0)
        bench_row(b, "P9", median(values, runs), NULL, machine_share(NULL, median(values, runs) * 1e9));
    place_close(&at);
    return code;
}

/* sluice-bench queue: what was published before is leased and acknowledged by a queue group. */
#include <stdlib.h>

#include "bench.h"
#include "stage.h"

/* As much as is needed, and by as many: publishing takes longer than leasing will, at the weaker durability, as nothing is lost here. */
static int fill(struct stage *s, const struct work *w, struct err *e)
{
    struct work filling = *w;
    struct outcome out = {0};
    filling.rate = 0;
    filling.batch = 1000;
    filling.window = 4;
    filling.seconds = 2 * (filling.seconds + filling.warmup);
    filling.warmup = 0;
    return stage_publish(s, &filling, false, &out, e);
}

static int measure(struct bench *b, struct stage *s, const struct work *w, struct outcome *out, struct err *e)
{
    int code = fill(s, w, e);
    if (code != 0)
        return code;
    struct verdict d;
    struct verify *v = verify_new(s->streams, s->keys > 0);
    code = stage_lease(s, w, v, 0, out, e);
    if (code == 0)
        code = stage_check_group(s, v, &d, e);
    if (code == 0 || code == BENCH_VOID) {
        json_t *fields = bench_fields("queue", w, out);
        bench_share(fields, machine_share(NULL, outcome_rate(out) * w->size));
        bench_verdict(fields, &d, NULL);
        report_object(&b->report, fields);
    }
    verify_free(v);
    return code != 0 ? code : bench_hist(&b->o, out, e);
}

int command_queue(struct bench *b, struct err *e)
{
    struct place at;
    struct stage s = {0};
    struct work w = bench_work(&b->o, &(struct work){0});
    struct outcome out = {.latency = hist_new()};
    int code = place_open(&at, &b->o, e);
    if (code == 0)
        code = stage_open(&s, &at.broker, w.durability, bench_partitions(&b->o), b->o.keys, w.connections,
                          b->o.keys > 0 ? SLUICE_ORDER_KEY : SLUICE_ORDER_NONE, e);
    if (code == 0)
        code = measure(b, &s, &w, &out, e);
    stage_close(&s);
    place_close(&at);
    free(out.latency);
    return code;
}

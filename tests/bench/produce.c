/* sluice-bench produce: publishes, counts what was acknowledged, and reads everything back. */
#include <stdlib.h>

#include "bench.h"
#include "stage.h"

static int measure(struct bench *b, const char *dir, struct stage *s, const struct work *w, struct outcome *out, struct err *e)
{
    struct verdict d;
    int code = stage_publish(s, w, false, out, e);
    if (code != 0)
        return code;
    code = stage_check_log(s, &d, e);
    if (code != 0 && code != BENCH_VOID)
        return code;
    json_t *fields = bench_fields("produce", w, out);
    bench_share(fields, machine_share(w->durability == SLUICE_DISK ? dir : NULL, outcome_rate(out) * w->size));
    bench_verdict(fields, &d, NULL);
    report_object(&b->report, fields);
    return code != 0 ? code : bench_hist(&b->o, out, e);
}

int command_produce(struct bench *b, struct err *e)
{
    struct place at;
    struct stage s = {0};
    struct work w = bench_work(&b->o, &(struct work){0});
    struct outcome out = {.latency = hist_new()};
    int code = place_open(&at, &b->o, e);
    if (code == 0)
        code = stage_open(&s, &at.broker, w.durability, bench_partitions(&b->o), b->o.keys, w.connections, STAGE_NO_GROUP, e);
    if (code == 0)
        code = measure(b, at.dir, &s, &w, &out, e);
    stage_close(&s);
    place_close(&at);
    free(out.latency);
    return code;
}

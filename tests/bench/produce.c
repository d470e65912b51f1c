/* sluice-bench produce: publishes, counts what was acknowledged, and reads everything back. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"
#include "client.h"
#include "publish.h"
#include "readback.h"

static int make_topic(const char *url, const char *topic, const struct bench *b, const struct work *w, struct err *e)
{
    struct sluice *s;
    int code = client_open(&s, url, 0, 0, 0, e);
    if (code != 0)
        return code;
    code = client_topic(s, topic, (uint32_t)b->o.partitions, w->durability, e);
    client_close(s);
    return code;
}

/* Without keys the messages of a lane go round the partitions, so only one partition has an order. */
static int check(const struct publish *p, bool ordered, json_t *fields, struct err *e)
{
    struct verify *v = verify_new(publish_streams(p), ordered);
    for (uint32_t i = 0; i < publish_streams(p); i++)
        verify_produced(v, i, p->numbers[i]);
    int code = readback(p->url, p->topic, v, e);
    struct verdict d = verify_end(v);
    if (code == 0)
        code = bench_verdict(fields, &d, e);
    verify_free(v);
    return code;
}

static int measure(struct bench *b, struct place *at, struct err *e)
{
    char topic[64];
    snprintf(topic, sizeof topic, "bench-%d", (int)getpid());
    struct work w = bench_work(&b->o, &(struct work){0});
    struct outcome out = {.latency = hist_new()};
    struct publish p = {.url = at->broker.url, .topic = topic, .work = &w, .server = &at->broker.server, .keys = b->o.keys};
    p.numbers = calloc(publish_streams(&p), sizeof *p.numbers);
    int code = make_topic(p.url, topic, b, &w, e);
    if (code == 0)
        code = publish_run(&p, &out, e);
    if (code == 0) {
        json_t *fields = bench_fields("produce", &w, &out);
        code = check(&p, b->o.partitions <= 1 || p.keys > 0, fields, e);
        report_object(&b->report, fields);
    }
    if (code == 0)
        code = bench_hist(&b->o, &out, e);
    free(p.numbers);
    free(out.latency);
    return code;
}

int command_produce(struct bench *b, struct err *e)
{
    struct place at;
    int code = place_open(&at, &b->o, e);
    if (code == 0)
        code = measure(b, &at, e);
    place_close(&at);
    return code;
}

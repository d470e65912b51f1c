/* See stage.h. */
#include "stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"
#include "client.h"
#include "lease.h"
#include "publish.h"
#include "readback.h"

int stage_open(struct stage *s, struct broker *b, int durability, uint32_t partitions, uint64_t keys, uint32_t streams, int group,
               struct err *e)
{
    static unsigned number;
    *s = (struct stage){.broker = b, .partitions = partitions, .keys = keys, .streams = keys > 0 ? (uint32_t)keys : streams};
    snprintf(s->topic, sizeof s->topic, "bench-%d-%u", (int)getpid(), number++);
    s->numbers = calloc(s->streams, sizeof *s->numbers);
    if (s->numbers == NULL)
        abort();
    int code = client_open(&s->client, b->url, 0, 0, 0, e);
    if (code != 0)
        return code;
    code = client_topic(s->client, s->topic, partitions, durability, e);
    return code != 0 || group == STAGE_NO_GROUP ? code : client_group(s->client, s->topic, "bench", group, e);
}

void stage_close(struct stage *s)
{
    if (s->client != NULL)
        sluice_topic_delete(s->client, s->topic, NULL);
    stage_leave(s);
}

void stage_leave(struct stage *s)
{
    if (s->client != NULL)
        sluice_close(s->client, 0, NULL, NULL);
    free(s->numbers);
    s->client = NULL;
    s->numbers = NULL;
}

uint64_t stage_count(const struct stage *s)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->streams; i++)
        n += s->numbers[i];
    return n;
}

int stage_publish(struct stage *s, const struct work *w, bool timed, struct outcome *out, struct err *e)
{
    struct publish p = {.url = s->broker->url, .topic = s->topic, .work = w, .server = &s->broker->server, .keys = s->keys,
                        .timed = timed, .numbers = s->numbers};
    return publish_run(&p, out, e);
}

int stage_lease(struct stage *s, const struct work *w, struct verify *verify, uint32_t handler_us, struct outcome *out, struct err *e)
{
    atomic_uint_fast64_t there = stage_count(s) - s->taken;
    struct lease c = {.url = s->broker->url, .topic = s->topic, .group = "bench", .work = w, .server = &s->broker->server,
                      .verify = verify, .handler_us = handler_us, .until = w->messages > 0 ? NULL : &there};
    int code = lease_run(&c, out, e);
    s->taken += c.taken;
    return code;
}

bool stage_ordered(const struct stage *s)
{
    return s->partitions == 1 || s->keys > 0;
}

struct verify *stage_verify(const struct stage *s, bool ordered)
{
    struct verify *v = verify_new(s->streams, ordered);
    for (uint32_t i = 0; i < s->streams; i++)
        verify_produced(v, i, s->numbers[i]);
    return v;
}

int stage_check_log(struct stage *s, struct verdict *d, struct err *e)
{
    struct verify *v = stage_verify(s, stage_ordered(s));
    int code = readback(s->broker->url, s->topic, v, e);
    *d = verify_end(v);
    verify_free(v);
    return code != 0 ? code : bench_verdict(NULL, d, e);
}

int stage_check_group(struct stage *s, const struct verify *v, struct verdict *d, struct err *e)
{
    struct sluice_error err;
    uint64_t left;
    if (sluice_group_purge(s->client, s->topic, "bench", &left, &err) != 0)
        return client_err(e, "purge", &err);
    *d = verify_end(v);
    d->expected = stage_count(s);
    if (d->seen + left < d->expected)
        d->lost = d->expected - d->seen - left;
    else
        d->repeated += d->seen + left - d->expected;
    return bench_verdict(NULL, d, e);
}

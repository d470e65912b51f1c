/* See flow.h. */
#include "flow.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "bench.h"
#include "lease.h"
#include "tail.h"

enum { BATCH_MIN = 100, WINDOW = 8 };

struct consumer {
    struct stage *stage;
    struct work work;
    struct verify *verify;
    bool queue;
    atomic_uint_fast64_t until; /* so many were produced; UINT64_MAX: it is not known yet */
    struct outcome *out;
    int code;
    struct err err;
};

static void *consume(void *arg)
{
    struct consumer *c = arg;
    struct stage *s = c->stage;
    struct lease l = {.url = s->broker->url, .topic = s->topic, .group = "bench", .work = &c->work, .verify = c->verify,
                      .until = &c->until, .end_to_end = true};
    struct tail t = {.url = s->broker->url, .topic = s->topic, .partitions = s->partitions, .work = &c->work, .verify = c->verify,
                     .until = &c->until, .end_to_end = true};
    c->code = c->queue ? lease_run(&l, c->out, &c->err) : tail_run(&t, c->out, &c->err);
    return NULL;
}

static int finish(struct consumer *c, struct flow *f, const struct stage *s, struct err *e)
{
    for (uint32_t i = 0; i < s->streams; i++)
        verify_produced(c->verify, i, s->numbers[i]);
    f->verdict = verify_end(c->verify);
    f->rate = (double)f->consumed.messages / ((double)(f->consumed.end_ns - f->produced.begin_ns) / 1e9);
    return c->code != 0 ? err_set(e, c->code, "%s", c->err.text) : bench_verdict(NULL, &f->verdict, e);
}

int flow_run(struct stage *s, const struct work *w, bool queue, struct flow *f, struct err *e)
{
    struct consumer c = {.stage = s, .work = *w, .queue = queue, .until = UINT64_MAX, .out = &f->consumed};
    pthread_t thread;
    c.work.messages = UINT64_MAX;
    c.work.seconds = c.work.warmup = c.work.rate = 0;
    c.work.progress = false;
    c.work.batch = w->batch > BATCH_MIN ? w->batch : BATCH_MIN;
    c.work.window = WINDOW;
    if (!queue)
        c.work.connections = s->partitions;
    c.verify = verify_new(s->streams, stage_ordered(s));
    if (pthread_create(&thread, NULL, consume, &c) != 0)
        return err_set(e, EAGAIN, "no thread");
    int code = stage_publish(s, w, true, &f->produced, e);
    atomic_store(&c.until, stage_count(s)); /* nothing was consumed of what is not acknowledged, in the end */
    pthread_join(thread, NULL);
    if (code == 0)
        code = finish(&c, f, s, e);
    verify_free(c.verify);
    return code;
}

/*
 * sluice-bench backlog: publishing, and lease and ack, with a backlog of many messages against an empty broker. Two brokers run side
 * by side, one with the backlog, and take turns. Rows P8 and P12.message.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "rows.h"
#include "stage.h"

#define BACKLOG_USUAL UINT64_C(10000000)

enum { FIRST_PART = 3 }; /* caches are full after a third of the backlog: what memory grows by from then on is the messages' */

struct backlog {
    struct bench *bench;
    struct place full, empty;
    struct stage stage;           /* of the full one */
    struct work work;
    uint64_t messages;
    double message_bytes;         /* of RAM */
    struct verify *taken;         /* of the full one */
};

/* ---------------------------------------------------------------- the backlog */

/* In batches as those of the other side: a receive reads and checks whole batches, so larger ones would be what is measured. */
static int fill_to(struct backlog *x, uint64_t messages, struct err *e)
{
    struct outcome out = {0};
    struct work w = {.size = x->work.size, .durability = x->work.durability, .batch = x->work.batch, .window = 8, .connections = 1,
                     .messages = messages - stage_count(&x->stage), .seed = x->work.seed, .progress = true};
    return stage_publish(&x->stage, &w, false, &out, e);
}

static int fill(struct backlog *x, struct err *e)
{
    struct usage some = {0}, all = {0};
    int code = fill_to(x, x->messages / FIRST_PART, e);
    usage_of(x->full.broker.server.pid, &some);
    if (code == 0)
        code = fill_to(x, x->messages, e);
    usage_of(x->full.broker.server.pid, &all);
    x->message_bytes = ((double)all.rss_bytes - (double)some.rss_bytes) / (double)(x->messages - x->messages / FIRST_PART);
    if (x->message_bytes < 0)
        x->message_bytes = 0;
    return code;
}

/* ---------------------------------------------------------------- the four sides */

static int publish_full(void *user, double *rate, struct err *e)
{
    struct backlog *x = user;
    struct outcome out = {0};
    int code = stage_publish(&x->stage, &x->work, false, &out, e);
    *rate = outcome_rate(&out);
    return code;
}

static int publish_empty(void *user, double *rate, struct err *e)
{
    struct backlog *x = user;
    struct stage s = {0};
    struct outcome out = {0};
    struct verdict d;
    int code = stage_open(&s, &x->empty.broker, x->work.durability, 1, 0, 1, SLUICE_ORDER_NONE, e);
    if (code == 0)
        code = stage_publish(&s, &x->work, false, &out, e);
    if (code == 0)
        code = stage_check_log(&s, &d, e);
    *rate = outcome_rate(&out);
    stage_close(&s);
    return code;
}

static int lease_full(void *user, double *rate, struct err *e)
{
    struct backlog *x = user;
    struct outcome out = {0};
    int code = stage_lease(&x->stage, &x->work, x->taken, 0, &out, e);
    *rate = outcome_rate(&out);
    return code;
}

/* As much is there as will be taken, and is taken. */
static int lease_empty(void *user, double *rate, struct err *e)
{
    struct backlog *x = user;
    struct stage s = {0};
    struct outcome filled = {0}, out = {0};
    struct work filling = x->work;
    int code = stage_open(&s, &x->empty.broker, x->work.durability, 1, 0, 1, SLUICE_ORDER_NONE, e);
    filling.seconds += filling.warmup;
    filling.warmup = 0;
    if (code == 0)
        code = stage_publish(&s, &filling, false, &filled, e);
    struct verify *v = verify_new(1, false);
    if (code == 0)
        code = stage_lease(&s, &x->work, v, 0, &out, e);
    struct verdict d;
    if (code == 0)
        code = stage_check_group(&s, v, &d, e);
    *rate = outcome_rate(&out);
    verify_free(v);
    stage_close(&s);
    return code;
}

/* ---------------------------------------------------------------- the whole */

static int measure(struct backlog *x, struct pairs *produce, struct pairs *queue, struct err *e)
{
    unsigned runs = bench_runs(&x->bench->o);
    struct verdict d;
    int code = pairs_run(produce, runs, publish_full, x, publish_empty, x, e);
    if (code == 0)
        code = pairs_run(queue, runs, lease_full, x, lease_empty, x, e);
    if (code == 0)
        code = stage_check_log(&x->stage, &d, e);
    return code != 0 ? code : stage_check_group(&x->stage, x->taken, &d, e);
}

int rows_backlog(struct bench *b, struct err *e)
{
    struct backlog x = {.bench = b, .messages = b->o.messages > 0 ? b->o.messages : BACKLOG_USUAL};
    struct pairs produce, queue;
    char note[120];
    x.work = bench_work(&b->o, &(struct work){.durability = SLUICE_OS, .batch = 100, .window = 8, .warmup = 0.5});
    x.taken = verify_new(1, false);
    x.work.messages = 0;
    x.work.seconds = bench_seconds(&b->o, 5, 2);
    x.work.connections = 1;
    int code = place_open(&x.full, &b->o, e);
    if (code == 0 && !bench_owns(&x.full, e))
        code = e->code;
    if (code == 0)
        code = place_open(&x.empty, &b->o, e);
    if (code == 0)
        code = stage_open(&x.stage, &x.full.broker, x.work.durability, 1, 0, 1, SLUICE_ORDER_NONE, e);
    if (code == 0)
        code = fill(&x, e);
    if (code == 0)
        code = measure(&x, &produce, &queue, e);
    if (code == 0) {
        const char *durability = durability_name(x.work.durability);
        snprintf(note, sizeof note, "%s, %llu messages; %.0f/s against %.0f/s", durability, (unsigned long long)x.messages,
                 pairs_a(&produce), pairs_b(&produce));
        bench_row(b, "P8.produce", pairs_ratio(&produce), note, machine_share(NULL, pairs_a(&produce) * x.work.size));
        snprintf(note, sizeof note, "%s, %llu messages; %.0f/s against %.0f/s", durability, (unsigned long long)x.messages,
                 pairs_a(&queue), pairs_b(&queue));
        bench_row(b, "P8.queue", pairs_ratio(&queue), note, machine_share(NULL, pairs_a(&queue) * x.work.size));
        snprintf(note, sizeof note, "from %llu to %llu", (unsigned long long)(x.messages / FIRST_PART), (unsigned long long)x.messages);
        report_row(&b->report, "P12.message", x.message_bytes, note);
    }
    verify_free(x.taken);
    stage_close(&x.stage);
    place_close(&x.empty);
    place_close(&x.full);
    return code;
}

int command_backlog(struct bench *b, struct err *e)
{
    return rows_backlog(b, e);
}

/*
 * sluice-bench partitions: publishing to a topic of many partitions against one of a single one, in brokers of their own that take
 * turns; and what a partition that nothing came to costs in memory. Rows P10.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "rows.h"
#include "stage.h"

enum { REST_MS = 1000 };

struct side {
    struct bench *bench;
    struct place place;
    struct stage stage;
    struct work work;
};

/* More than a broker allows unless it is told to. */
static const char *const roomy[] = {"--set", "limits.topic_partitions_max=100000", "--set", "limits.partitions_max=200000",
                                    "--set", "limits.lanes_per_session_max=100001", NULL};

static int open_side(struct side *x, struct bench *b, uint32_t partitions, double *idle_bytes, struct err *e)
{
    struct usage before, after;
    x->bench = b;
    x->work = bench_work(&b->o, &(struct work){.durability = SLUICE_OS});
    x->work.messages = 0;
    x->work.seconds = bench_seconds(&b->o, 5, 2);
    int code = workdir_make(b->o.dir, x->place.dir, e);
    if (code == 0)
        code = broker_start(&x->place.broker, b->o.bin, x->place.dir, roomy, e);
    if (code != 0)
        return code;
    poll(NULL, 0, REST_MS);
    usage_of(x->place.broker.server.pid, &before);
    code = stage_open(&x->stage, &x->place.broker, x->work.durability, partitions, 0, x->work.connections, STAGE_NO_GROUP, e);
    poll(NULL, 0, REST_MS);
    usage_of(x->place.broker.server.pid, &after);
    *idle_bytes = ((double)after.rss_bytes - (double)before.rss_bytes) / partitions;
    return code;
}

static int close_side(struct side *x, int code, struct err *e)
{
    struct verdict d;
    if (code == 0)
        code = stage_check_log(&x->stage, &d, e);
    stage_close(&x->stage);
    place_close(&x->place);
    return code;
}

static int publish(void *user, double *rate, struct err *e)
{
    struct side *x = user;
    struct outcome out = {0};
    int code = stage_publish(&x->stage, &x->work, false, &out, e);
    *rate = outcome_rate(&out);
    return code;
}

static int against_one(struct bench *b, uint32_t partitions, const char *id, double *idle_bytes, struct err *e)
{
    struct side many = {0}, one = {0};
    struct pairs p;
    double unused;
    char note[120];
    int code = open_side(&many, b, partitions, idle_bytes, e);
    if (code == 0)
        code = open_side(&one, b, 1, &unused, e);
    if (code == 0)
        code = pairs_run(&p, bench_runs(&b->o), publish, &many, publish, &one, e);
    code = close_side(&many, code, e);
    code = close_side(&one, code, e);
    if (code == 0) {
        snprintf(note, sizeof note, "%s, no keys: a batch a partition in turn; %.0f/s against %.0f/s", durability_name(many.work.durability),
                 pairs_a(&p), pairs_b(&p));
        bench_row(b, id, pairs_ratio(&p), note, machine_share(NULL, pairs_a(&p) * many.work.size));
    }
    return code;
}

int rows_partitions(struct bench *b, struct err *e)
{
    double idle_bytes;
    if (b->o.broker != NULL)
        return err_set(e, EINVAL, "this needs brokers of its own, without -b");
    int code = against_one(b, 10000, "P10.10k", &idle_bytes, e);
    if (code == 0)
        code = against_one(b, 100000, "P10.100k", &idle_bytes, e);
    if (code == 0)
        report_row(&b->report, "P10.ram", idle_bytes, "of 100,000");
    return code;
}

int command_partitions(struct bench *b, struct err *e)
{
    return rows_partitions(b, e);
}

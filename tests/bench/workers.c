/*
 * sluice-bench workers: what was published before is worked on by the worker daemon with a handler that does nothing. Rows P15.
 *
 * All is published before the clock starts. What is done is known from the broker, by the group's lag. At the end the three must agree:
 * what the broker says it has no more, what the daemon says it did, and how many the handler says it was called with; nothing failed or
 * was lost, and (with --keys) each key was in order.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "bench.h"
#include "client.h"
#include "rows.h"
#include "stage.h"

enum { LOOK_MS = 10, DAEMON_ARGS = 4 };

/* What is published for a second of measuring, or of warm-up: more than can be done in it. */
#define PER_SECOND_BATCH 1e6
#define PER_SECOND_SINGLE 400e3

struct daemon {
    struct server server;
    char config[PATH_MAX];
};

static int write_config(struct daemon *d, const struct stage *s, const struct work *w, const char *handler, struct err *e)
{
    FILE *f = fopen(d->config, "we");
    if (f == NULL)
        return err_set(e, errno, "%s: %s", d->config, strerror(errno));
    fprintf(f,
            "broker: %s\nhandlers:\n  - name: empty\n    file: %s\n    topic: %s\n    group: bench\n    processes: %u\n    pipeline: %u\n"
            "    batch_max: %u\n",
            s->broker->url, handler, s->topic, w->connections, w->window > 256 ? 256 : w->window, w->batch);
    return fclose(f) == 0 ? 0 : err_set(e, errno, "%s: %s", d->config, strerror(errno));
}

static int daemon_start(struct daemon *d, const struct stage *s, const char *dir, const struct options *o, const struct work *w,
                        struct err *e)
{
    char program[PATH_MAX], handler[PATH_MAX];
    *d = (struct daemon){0};
    if (snprintf(d->config, sizeof d->config, "%s/workerd.yaml", dir) >= (int)sizeof d->config)
        return err_set(e, ENAMETOOLONG, "%s: the path is too long", dir);
    int code = broker_program(o->bin, "sluice-workerd", program, e);
    if (code == 0)
        code = broker_program(o->bin, w->batch > 1 ? "bench-empty-batch.so" : "bench-empty-single.so", handler, e);
    if (code == 0)
        code = write_config(d, s, w, handler, e);
    const char *argv[DAEMON_ARGS] = {program, "-c", d->config, NULL};
    struct server_spec spec = {.name = "workerd", .argv = argv, .dir = dir, .ready_line = true};
    return code != 0 ? code : server_start(&d->server, &spec, e);
}

static int lag_of(const struct stage *s, uint64_t *left, struct err *e)
{
    struct sluice_lag_list *l;
    struct sluice_error err;
    if (sluice_group_lag(s->client, s->topic, "bench", &l, &err) != 0)
        return client_err(e, "lag", &err);
    *left = l->count == 1 ? l->rows[0].lag_messages : 0;
    sluice_lag_free(l);
    return 0;
}

/* Waits until no more than `most` are left, or the time has come. */
static int await(const struct stage *s, uint64_t most, uint64_t until_ns, uint64_t *left, struct err *e)
{
    int code;
    while ((code = lag_of(s, left, e)) == 0 && *left > most && clock_mono_ns() < until_ns)
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000}, NULL);
    return code;
}

/* From when the first messages are done, and after the warm-up, until the time is up or nothing is left. */
static int watch(const struct stage *s, const struct daemon *d, const struct work *w, struct outcome *out, struct usage *daemon,
                 struct err *e)
{
    uint64_t all = stage_count(s), before, after, now = clock_mono_ns();
    int code = await(s, all - 1, now + UINT64_C(10000000000), &before, e);
    if (code == 0)
        code = await(s, 0, clock_mono_ns() + (uint64_t)(w->warmup * 1e9), &before, e);
    struct usage server, own, server_before, own_before;
    usage_of(s->broker->server.pid, &server_before);
    usage_of(d->server.pid, &own_before);
    out->begin_ns = clock_mono_ns();
    if (code == 0)
        code = await(s, 0, out->begin_ns + (uint64_t)(w->seconds * 1e9), &after, e);
    out->end_ns = clock_mono_ns();
    usage_of(s->broker->server.pid, &server);
    usage_of(d->server.pid, &own);
    usage_since(&server, &server_before);
    usage_since(&own, &own_before);
    if (code != 0)
        return code;
    if (after >= before)
        return err_set(e, ENODATA, "nothing was done while it was measured");
    out->messages = before - after;
    out->seconds = (double)(out->end_ns - out->begin_ns) / 1e9;
    out->server = server;
    *daemon = own;
    return 0;
}

/* What the daemon and its processes said at their end. */
struct said {
    bool ended;
    uint64_t done, failed, lost, handled, disordered;
};

static void take_line(const char *line, struct said *said)
{
    uint64_t retried, parked, crashed, back, handled, disordered;
    const char *end = strstr(line, "drained handler=empty "), *of_handler = strstr(line, " handled=");
    if (end != NULL && sscanf(end, "drained handler=empty done=%" SCNu64 " retried=%" SCNu64 " parked=%" SCNu64 " crashed=%" SCNu64
                                   " given_back=%" SCNu64 " lost=%" SCNu64,
                              &said->done, &retried, &parked, &crashed, &back, &said->lost) == 6) {
        said->ended = true;
        said->failed = retried + parked + crashed;
    }
    if (of_handler != NULL && sscanf(of_handler, " handled=%" SCNu64 " disordered=%" SCNu64, &handled, &disordered) == 2) {
        said->handled += handled;
        said->disordered += disordered;
    }
}

/* All that the group has no more was handled and done, once, and nothing else became of anything. */
static int check(const struct stage *s, const struct daemon *d, struct err *e)
{
    char line[1024];
    struct said said = {0};
    uint64_t left;
    int code = lag_of(s, &left, e);
    FILE *f = fopen(d->server.log, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        take_line(line, &said);
    if (f != NULL)
        fclose(f);
    if (code != 0)
        return code;
    if (!said.ended)
        return err_set(e, BENCH_VOID, "void: the daemon did not end as it should");
    if (said.done + left != stage_count(s) || said.handled != said.done || said.failed + said.lost + said.disordered > 0)
        return err_set(e, BENCH_VOID,
                       "void: %" PRIu64 " were published, %" PRIu64 " handled, %" PRIu64 " done, %" PRIu64 " are left; %" PRIu64
                       " failed, %" PRIu64 " were lost, %" PRIu64 " came out of order",
                       stage_count(s), said.handled, said.done, left, said.failed, said.lost, said.disordered);
    return 0;
}

static int fill(struct stage *s, const struct work *w, struct err *e)
{
    struct outcome out = {0};
    double per_second = w->batch > 1 ? PER_SECOND_BATCH : PER_SECOND_SINGLE;
    struct work filling = {.size = w->size, .durability = w->durability, .batch = 1000, .window = 4, .connections = 1, .seed = w->seed,
                           .messages = w->messages > 0 ? w->messages : (uint64_t)(per_second * (w->warmup + w->seconds))};
    return stage_publish(s, &filling, false, &out, e);
}

static int measure(struct bench *b, struct broker *at, const char *dir, const struct work *w, struct outcome *out, struct usage *own,
                   struct err *e)
{
    struct stage s = {0};
    struct daemon d = {0};
    int order = b->o.keys > 0 ? SLUICE_ORDER_KEY : SLUICE_ORDER_NONE;
    int code = stage_open(&s, at, w->durability, bench_partitions(&b->o), b->o.keys, 1, order, e);
    if (code == 0)
        code = fill(&s, w, e);
    if (code == 0)
        code = daemon_start(&d, &s, dir, &b->o, w, e);
    if (code == 0)
        code = watch(&s, &d, w, out, own, e);
    server_stop(&d.server);
    if (code == 0)
        code = check(&s, &d, e);
    if (d.server.log[0] != '\0')
        remove(d.server.log);
    stage_close(&s);
    return code;
}

enum { PIPELINE = 8, PIPELINE_WIDE = 256 }; /* the daemon's default, and the most */

/* One process does most: there are two processors for it, the daemon and the broker. */
static struct work work_of(const struct options *o, bool batches)
{
    return bench_work(o,
                      &(struct work){.durability = SLUICE_OS, .batch = batches ? 500 : 1, .window = PIPELINE, .seconds = 5, .warmup = 0.5});
}

int command_workers(struct bench *b, struct err *e)
{
    struct place at;
    struct work w = work_of(&b->o, b->o.batch != 1);
    struct outcome out = {0};
    struct usage own = {0};
    int code = place_open(&at, &b->o, e);
    if (code == 0 && !bench_owns(&at, e))
        code = EINVAL;
    if (code == 0)
        code = measure(b, &at.broker, at.dir, &w, &out, &own, e);
    if (code == 0) {
        json_t *fields = bench_fields("workers", &w, &out);
        json_object_set_new(fields, "daemon_cpu_s_per_million", report_number(own.cpu_seconds / ((double)out.messages / 1e6)));
        report_object(&b->report, fields);
    }
    place_close(&at);
    return code;
}

static int rate_of(struct bench *b, struct place *at, bool batches, uint32_t pipeline, double *rate, struct err *e)
{
    struct work w = work_of(&b->o, batches);
    struct outcome out = {0};
    struct usage own = {0};
    w.window = pipeline;
    w.seconds = bench_seconds(&b->o, 5, 2);
    w.progress = false;
    int code = measure(b, &at->broker, at->dir, &w, &out, &own, e);
    *rate = outcome_rate(&out);
    return code;
}

int rows_workers(struct bench *b, struct err *e)
{
    struct place at;
    double batches[PAIRS_MAX], single[PAIRS_MAX], wide[PAIRS_MAX];
    unsigned runs = bench_runs(&b->o);
    int code = place_open(&at, &b->o, e);
    if (code == 0 && !bench_owns(&at, e))
        code = EINVAL;
    for (unsigned i = 0; i < runs && code == 0; i++) {
        code = rate_of(b, &at, true, PIPELINE, &batches[i], e);
        if (code == 0)
            code = rate_of(b, &at, false, PIPELINE, &single[i], e);
        if (code == 0)
            code = rate_of(b, &at, false, PIPELINE_WIDE, &wide[i], e);
    }
    if (code == 0) {
        bench_row(b, "P15.batch", median(batches, runs), "one process, batches of up to 500", (struct share){0});
        bench_row(b, "P15.single", median(single, runs), "one process, a pipeline of 8, the default", (struct share){0});
        bench_row(b, "P15.wide", median(wide, runs), "one process, a pipeline of 256", (struct share){0});
    }
    place_close(&at);
    return code;
}

/*
 * sluice-bench steady: minutes of publishing at 70 % of what goes, while the store flushes and compacts and retention removes what is
 * old, with a backup each minute, and the times in which nothing at all was acknowledged. A straw-man runs beside it on the same disk, at a small rate: what stops
 * that too was the machine.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "checkpoints.h"
#include "client.h"
#include "readback.h"
#include "stage.h"

#define RETAINED_BYTES UINT64_C(256000000)

enum { CHECKPOINT_SECONDS = 60, LONG_MS = 200, BESIDE_MS = 100, WINDOW_OPEN = 4096, BESIDE_RATE = 500, BESIDE_BATCH = 5, TRY_SECONDS = 5 };

static const double part_of_all = 0.7;

static const struct work usual = {.size = 1000, .batch = 100, .window = 8, .durability = SLUICE_DISK};

/* ---------------------------------------------------------------- the straw-man beside it */

struct beside {
    const struct rival *rival;
    void *run;
    struct work work;
    struct outcome out;
    struct gaps gaps;
    pthread_t thread;
    int code;
    struct err err;
};

static void *run_beside(void *arg)
{
    struct beside *x = arg;
    x->code = x->rival->produce(x->run, &x->work, &x->out, &x->err);
    return NULL;
}

static int beside_start(struct beside *x, const char *parent, const struct work *w, struct err *e)
{
    char dir[PATH_MAX];
    x->rival = rival_find("strawman");
    x->gaps.least_ns = BESIDE_MS * UINT64_C(1000000);
    x->work = (struct work){.durability = w->durability, .size = w->size, .batch = BESIDE_BATCH, .window = 32, .connections = 1,
                            .rate = BESIDE_RATE, .seconds = w->warmup + w->seconds, .seed = w->seed, .gaps = &x->gaps};
    int code = workdir_below(parent, "strawman", dir, e);
    if (code == 0)
        code = x->rival->start(dir, &x->work, &x->run, e);
    if (code == 0 && pthread_create(&x->thread, NULL, run_beside, x) != 0)
        abort();
    return code;
}

static int beside_end(struct beside *x, struct err *e)
{
    pthread_join(x->thread, NULL);
    x->rival->stop(x->run);
    return x->code != 0 ? err_set(e, x->code, "%s", x->err.text) : 0;
}

/* Whether the straw-man stood still for a part of it. */
static bool shared(const struct gap *g, const struct gaps *beside)
{
    for (size_t i = 0; i < beside->count; i++) {
        uint64_t from = beside->list[i].from_ns > g->from_ns ? beside->list[i].from_ns : g->from_ns;
        uint64_t to = beside->list[i].to_ns < g->to_ns ? beside->list[i].to_ns : g->to_ns;
        if (to > from && to - from >= BESIDE_MS * UINT64_C(1000000))
            return true;
    }
    return false;
}

/* ---------------------------------------------------------------- the run */

static int retain(struct stage *s, uint64_t bytes, struct err *e)
{
    struct sluice_error err;
    struct sluice_topic_options o = {.size = sizeof o, .retention_bytes = bytes};
    return sluice_topic_alter(s->client, s->topic, &o, SLUICE_TOPIC_RETENTION_BYTES, &err) == 0 ? 0 : client_err(e, "alter", &err);
}

/* What retention removed is not lost: the log begins behind it. */
static int check(struct stage *s, struct verdict *d, struct err *e)
{
    struct sluice_topic_list *list;
    struct sluice_error err;
    int code = retain(s, 0, e);
    if (code == 0)
        code = stage_check_log(s, d, e);
    if (code != 0 && code != BENCH_VOID)
        return code;
    if (sluice_topics(s->client, s->topic, &list, &err) != 0)
        return client_err(e, "topics", &err);
    uint64_t removed = list->topics[0].partitions[0].start;
    sluice_topics_free(list);
    d->lost = d->lost > removed ? d->lost - removed : removed - d->lost;
    return bench_verdict(NULL, d, e);
}

/* As much as goes. */
static int capacity(struct stage *s, const struct work *w, double *rate, struct err *e)
{
    struct work trying = *w;
    struct outcome out = {0};
    trying.rate = 0;
    trying.seconds = TRY_SECONDS;
    int code = stage_publish(s, &trying, false, &out, e);
    *rate = outcome_rate(&out);
    return code;
}

static json_t *fields_of(const struct work *w, const struct outcome *out, const struct beside *x, const struct checkpoints_made *made, double most)
{
    const struct gaps *g = w->gaps;
    unsigned alone = 0, met = 0;
    for (size_t i = 0; i < g->count; i++) {
        alone += !shared(&g->list[i], &x->gaps);
        met += checkpoints_meet(made, &g->list[i]);
    }
    json_t *f = bench_fields("steady", w, out);
    json_object_set_new(f, "capacity_per_s", report_number(most));
    json_object_set_new(f, "longest_gap_ms", report_number((double)g->longest_ns / 1e6));
    json_object_set_new(f, "strawman_longest_gap_ms", report_number((double)x->gaps.longest_ns / 1e6));
    json_object_set_new(f, "gaps_of_200_ms", json_integer((json_int_t)g->count));
    json_object_set_new(f, "gaps_of_200_ms_alone", json_integer(alone));
    json_object_set_new(f, "gaps_of_200_ms_in_checkpoints", json_integer(met));
    json_object_set_new(f, "checkpoints", json_integer((json_int_t)made->count));
    json_object_set_new(f, "checkpoint_mean_ms", report_number(checkpoints_mean_ns(made) / 1e6));
    json_object_set_new(f, "checkpoint_longest_ms", report_number((double)checkpoints_longest_ns(made) / 1e6));
    json_object_set_new(f, "checkpoint_bytes", json_integer((json_int_t)made->bytes));
    return f;
}

/* The load, and backups meanwhile. */
static int publish(struct bench *b, struct stage *s, const struct work *w, struct outcome *out, struct checkpoints_made *made, struct err *e)
{
    double every = b->o.checkpoint_every >= 0 ? b->o.checkpoint_every : CHECKPOINT_SECONDS;
    struct checkpoints *c = NULL;
    int code = every > 0 ? checkpoints_start(&c, s->broker->url, every, e) : 0;
    if (code != 0)
        return code;
    code = stage_publish(s, w, false, out, e);
    int other = c != NULL ? checkpoints_stop(c, made, code == 0 ? e : NULL) : 0;
    return code != 0 ? code : other;
}

static int measure(struct bench *b, struct place *at, struct stage *s, struct work *w, struct outcome *out, struct beside *x, struct checkpoints_made *made,
                   struct err *e)
{
    double most;
    struct verdict d = {0};
    int code = capacity(s, w, &most, e);
    if (code == 0)
        code = retain(s, RETAINED_BYTES, e);
    if (code == 0)
        code = beside_start(x, at->dir, w, e);
    if (code != 0)
        return code;
    struct gaps gaps = {.least_ns = LONG_MS * UINT64_C(1000000)};
    w->gaps = &gaps;
    w->rate = b->o.rate > 0 ? b->o.rate : most * part_of_all;
    w->window = WINDOW_OPEN;
    code = publish(b, s, w, out, made, e);
    int other = beside_end(x, code == 0 ? e : NULL);
    code = code != 0 ? code : other;
    if (code == 0)
        code = check(s, &d, e);
    if (code == 0 || code == BENCH_VOID) {
        json_t *fields = fields_of(w, out, x, made, most);
        bench_verdict(fields, &d, NULL);
        report_object(&b->report, fields);
    }
    return code != 0 ? code : bench_hist(&b->o, out, e);
}

/* A broker that makes backups beside its data. */
static int start(struct place *at, const struct options *o, struct err *e)
{
    char setting[PATH_MAX + 32];
    const char *const more[] = {"--set", setting, NULL};
    *at = (struct place){0};
    if (o->broker != NULL)
        return err_set(e, EINVAL, "this needs a broker of its own, without -b");
    int code = workdir_make(o->dir, at->dir, e);
    snprintf(setting, sizeof setting, "backup_dir=%s/backups", at->dir);
    return code != 0 ? code : broker_start(&at->broker, o->bin, at->dir, more, e);
}

int command_steady(struct bench *b, struct err *e)
{
    struct place at;
    struct stage s = {0};
    struct work w = bench_work(&b->o, &usual);
    struct outcome out = {.latency = hist_new()};
    struct beside *x = calloc(1, sizeof *x);
    struct checkpoints_made *made = calloc(1, sizeof *made);
    if (x == NULL || made == NULL)
        abort();
    w.seconds = bench_seconds(&b->o, 600, 60);
    w.messages = 0;
    int code = start(&at, &b->o, e);
    if (code == 0)
        code = stage_open(&s, &at.broker, w.durability, 1, 0, w.connections, STAGE_NO_GROUP, e);
    if (code == 0)
        code = measure(b, &at, &s, &w, &out, x, made, e);
    stage_close(&s);
    place_close(&at);
    free(x);
    free(made);
    free(out.latency);
    return code;
}

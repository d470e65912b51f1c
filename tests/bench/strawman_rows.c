/* Our figures against what the machine allows: see strawman.h. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "machine.h"
#include "pairs.h"
#include "strawman.h"

enum { RUNS = 5, RUNS_QUICK = 3 };

static size_t runs_of(const struct options *o)
{
    return o->runs > 0 ? o->runs : o->quick ? RUNS_QUICK : RUNS;
}

/* ---------------------------------------------------------------- one side of a pair */

struct side {
    const struct rival *rival;
    const char *dir;
    struct work work;
    void *run; /* NULL: each run begins with a server and a directory of its own; else all are of this one */
};

static int load_side(const struct side *s, void *run, double *rate, double *p50_us, struct err *e)
{
    struct outcome out = {.latency = hist_new()};
    int code = s->rival->produce(run, &s->work, &out, e);
    if (code == 0 && s->rival->check != NULL)
        code = s->rival->check(run, e);
    *rate = outcome_rate(&out);
    *p50_us = hist_us(out.latency, 50);
    free(out.latency);
    return code;
}

static int rate_side(void *user, double *rate, struct err *e)
{
    struct side *s = user;
    char dir[PATH_MAX];
    void *run;
    double p50_us;
    int code = workdir_below(s->dir, s->rival->name, dir, e);
    if (code == 0 && (code = s->rival->start(dir, &s->work, &run, e)) == 0) {
        code = load_side(s, run, rate, &p50_us, e);
        s->rival->stop(run);
    }
    workdir_remove(dir);
    return code;
}

static int latency_side(void *user, double *p50_us, struct err *e)
{
    struct side *s = user;
    double rate;
    return load_side(s, s->run, &rate, p50_us, e);
}

/* ---------------------------------------------------------------- P2 */

static const struct { uint32_t size; const char *id; } sizes[] = {{100, "P2"}, {1024, "P2.1k"}, {16384, "P2.16k"}};
enum { SIZES = sizeof sizes / sizeof *sizes };

static struct work produce_work(const struct options *o, uint32_t size)
{
    const struct work base = {.size = size, .seconds = o->quick ? 2 : 4};
    struct work w = bench_work(o, &base);
    w.size = size;
    w.durability = SLUICE_DISK;
    w.rate = 0;
    return w;
}

int rows_strawman(struct bench *b, struct err *e)
{
    char dir[PATH_MAX], note[160];
    int code = workdir_make(b->o.dir, dir, e);
    for (size_t i = 0; code == 0 && i < SIZES; i++) {
        struct work w = produce_work(&b->o, sizes[i].size);
        struct side ours = {.rival = &rival_sluice, .dir = dir, .work = w}, man = {.rival = &rival_strawman, .dir = dir, .work = w};
        struct pairs p;
        code = pairs_run(&p, runs_of(&b->o), rate_side, &ours, rate_side, &man, e);
        if (code != 0)
            break;
        snprintf(note, sizeof note, "batches of %u, %u out: %.0f of %.0f messages/s", w.batch, w.window, pairs_a(&p), pairs_b(&p));
        bench_row(b, sizes[i].id, pairs_ratio(&p), note, (struct share){pairs_ratio(&p), "straw-man"});
    }
    workdir_remove(dir);
    return code;
}

/* ---------------------------------------------------------------- P5 */

enum { ROUND_BYTES = 100, SINGLE_RUNS = 4 };
#define SINGLE_SECONDS 0.4

struct bare {
    const char *dir;
    double seconds;
};

static int bare_side(void *user, double *figure, struct err *e)
{
    struct bare *s = user;
    struct hist *h = hist_new();
    *figure = machine_round_synced(s->dir, ROUND_BYTES, s->seconds, h, e);
    free(h);
    return isfinite(*figure) ? 0 : e->code;
}

/* Many short turns: what a sync takes changes from one second to the next. The round trip and the sync are measured as one, in the
 * same process that syncs: on a busy machine the sum of two medians says little. */
int rows_single(struct bench *b, struct err *e)
{
    char dir[PATH_MAX], note[160];
    const struct work w = {.durability = SLUICE_DISK, .size = 100, .batch = 1, .window = 1, .connections = 1,
                           .seconds = SINGLE_SECONDS, .warmup = SINGLE_SECONDS / 4, .seed = b->o.seed};
    struct side ours = {.rival = &rival_sluice, .dir = dir, .work = w};
    struct bare bare = {dir, SINGLE_SECONDS};
    struct pairs p;
    int code = workdir_make(b->o.dir, dir, e);
    if (code != 0)
        return code;
    code = ours.rival->start(dir, &w, &ours.run, e);
    if (code == 0) {
        code = pairs_run(&p, SINGLE_RUNS * runs_of(&b->o), latency_side, &ours, bare_side, &bare, e);
        ours.rival->stop(ours.run);
    }
    if (code == 0) {
        snprintf(note, sizeof note, "medians of p50: %.0f us of %.0f", pairs_a(&p), pairs_b(&p));
        bench_row(b, "P5", pairs_ratio(&p), note, (struct share){1 / pairs_ratio(&p), "nng round trip and fdatasync"});
    }
    workdir_remove(dir);
    return code;
}

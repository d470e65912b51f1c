/*
 * `sluice-bench compare`: Sluice and each peer in turns, at the same durability, size, batch and number of batches that are out.
 *
 * For each peer and durability both are started, with their data below the same directory. Then for each size, after rounds that are
 * not counted: Sluice publishes, the peer publishes, Sluice leases and acknowledges all of it, the peer does, and again for each run.
 * A run is as many messages as take about its time, by the side's own rate of the round before, and all of them are taken out again,
 * so each is verified: what was lost, came twice or was damaged makes the row void. Over how many connections the batches that are out
 * are spread is each side's own choice, the one that it is fastest with.
 */
#include "compare.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../pairs.h"

/* 50 batches of 100 are out: what redis-benchmark sends at once with -P 100 -c 50. */
enum { BATCH = 100, OUT = 50, ROUNDS_BEFORE = 2, PATIENCE_S = 60 };

enum side { OURS, THEIRS, SIDES };
enum half { PRODUCE, QUEUE, HALVES };
static const uint32_t sizes[] = {100, 1024};

struct figure {
    double rate[PAIRS_MAX], p99_us[PAIRS_MAX];
};

/* One peer at one durability. */
struct contest {
    struct bench *bench;
    const struct rival *rival[SIDES];
    void *run[SIDES];
    int durability;
    char version[40];
};

/* One size of it. */
struct heat {
    const struct contest *contest;
    uint32_t size;
    bool halves[HALVES];
    uint64_t messages[SIDES]; /* of the next round */
    size_t runs;
    struct figure figures[HALVES][SIDES];
};

/* ---------------------------------------------------------------- a round */

static double seconds_of(const struct options *o)
{
    return o->seconds > 0 ? o->seconds : o->quick ? 0.6 : 3;
}

static struct work work_of(const struct heat *h, int side)
{
    const struct options *o = &h->contest->bench->o;
    const struct rival *r = h->contest->rival[side];
    struct work w = bench_work(o, &(struct work){.batch = BATCH, .window = OUT, .connections = 1});
    uint32_t out = w.window * w.connections, most = r->connections != 0 ? r->connections : 1;
    w.connections = most < out ? most : out;
    w.window = out / w.connections;
    w.size = h->size;
    w.durability = h->contest->durability;
    w.messages = h->messages[side];
    w.seconds = PATIENCE_S;
    w.rate = 0;
    w.progress = false;
    return w;
}

static int measure(struct heat *h, int half, int side, struct err *e)
{
    const struct rival *r = h->contest->rival[side];
    struct work w = work_of(h, side);
    struct outcome out = {.latency = hist_new()};
    int code = (half == QUEUE ? r->queue : r->produce)(h->contest->run[side], &w, &out, e);
    h->figures[half][side].rate[h->runs] = outcome_rate(&out);
    h->figures[half][side].p99_us[h->runs] = hist_us(out.latency, 99);
    free(out.latency);
    if (code == 0 && out.messages < w.messages)
        code = err_set(e, ETIMEDOUT, "void: %llu of %llu messages in %d s", (unsigned long long)out.messages,
                       (unsigned long long)w.messages, PATIENCE_S);
    if (code != 0)
        err_prefix(e, "%s: %s", r->name, half == QUEUE ? "queue" : "produce");
    return code;
}

static int one_round(struct heat *h, struct err *e)
{
    int code = 0;
    for (int half = 0; half < HALVES; half++)
        for (int side = 0; side < SIDES && code == 0 && h->halves[half]; side++)
            code = measure(h, half, side, e);
    for (int side = 0; side < SIDES && code == 0; side++) {
        double next = h->figures[PRODUCE][side].rate[h->runs] * seconds_of(&h->contest->bench->o);
        h->messages[side] = next > BATCH * OUT ? (uint64_t)next : BATCH * OUT;
    }
    return code;
}

static int rounds(struct heat *h, struct err *e)
{
    const struct options *o = &h->contest->bench->o;
    size_t runs = o->runs != 0 ? o->runs : o->quick ? 3 : 5;
    int code = 0;
    h->messages[OURS] = h->messages[THEIRS] = BATCH * OUT;
    for (int i = 0; i < ROUNDS_BEFORE && code == 0; i++)
        code = one_round(h, e);
    while (code == 0 && h->runs < runs) {
        code = one_round(h, e);
        h->runs += code == 0;
    }
    return code;
}

/* ---------------------------------------------------------------- rows */

static void report_pair(const struct heat *h, const char *what, const char *unit, const double *ours, const double *theirs, bool less)
{
    double ratios[PAIRS_MAX];
    for (size_t i = 0; i < h->runs; i++)
        ratios[i] = less ? theirs[i] / ours[i] : ours[i] / theirs[i];
    const struct contest *c = h->contest;
    report_versus(&c->bench->report, &(struct versus){.what = what, .peer = c->rival[THEIRS]->name, .version = c->version, .unit = unit,
                                                      .durability = c->durability, .ours = median(ours, h->runs),
                                                      .theirs = median(theirs, h->runs), .ratio = median(ratios, h->runs)});
}

static void report_half(const struct heat *h, int half)
{
    char what[64];
    const struct figure *f = h->figures[half];
    const char *name = half == QUEUE ? "lease + ack" : "produce";
    snprintf(what, sizeof what, "%s %u B", name, h->size);
    report_pair(h, what, "messages/s", f[OURS].rate, f[THEIRS].rate, false);
    snprintf(what, sizeof what, "%s %u B, p99", name, h->size);
    report_pair(h, what, "us", f[OURS].p99_us, f[THEIRS].p99_us, true);
}

/* A row without figures, and why. */
static void report_blank(struct bench *b, const struct rival *peer, const char *version, int durability, const char *what, const char *why)
{
    report_versus(&b->report, &(struct versus){.what = what, .peer = peer->name, .version = version, .unit = "messages/s", .note = why,
                                               .durability = durability, .ours = NAN, .theirs = NAN, .ratio = NAN});
}

/* ---------------------------------------------------------------- a contest */

static int contest_open(struct contest *c, const char *dir, struct err *e)
{
    static const char *const names[SIDES] = {"ours", "theirs"};
    struct work w = {.durability = c->durability, .size = sizes[0], .batch = BATCH, .window = OUT, .connections = 1};
    for (int side = 0; side < SIDES; side++) {
        char below[PATH_MAX];
        int code = workdir_below(dir, names[side], below, e);
        if (code == 0)
            code = c->rival[side]->start(below, &w, &c->run[side], e);
        if (code != 0)
            return err_prefix(e, "%s", c->rival[side]->name);
    }
    snprintf(c->version, sizeof c->version, "%s", c->rival[THEIRS]->version(c->run[THEIRS]));
    return 0;
}

static void contest_close(struct contest *c)
{
    for (int side = 0; side < SIDES; side++)
        if (c->run[side] != NULL)
            c->rival[side]->stop(c->run[side]);
}

/* All sizes; what fails is a row, and the rest goes on. */
static int contest_rows(struct contest *c, struct err *e)
{
    int code = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && code == 0; i++) {
        struct heat *h = calloc(1, sizeof *h);
        if (h == NULL)
            abort();
        h->contest = c;
        h->size = sizes[i];
        h->halves[PRODUCE] = true;
        h->halves[QUEUE] = c->rival[THEIRS]->queue != NULL;
        code = rounds(h, e);
        for (int half = 0; half < HALVES && code == 0; half++)
            if (h->halves[half])
                report_half(h, half);
        free(h);
    }
    if (code == 0 && c->rival[THEIRS]->queue == NULL)
        report_blank(c->bench, c->rival[THEIRS], c->version, c->durability, "lease + ack", c->rival[THEIRS]->lacks_queue);
    return code;
}

static void compare_with(struct bench *b, const struct rival *peer, int durability, const char *dir)
{
    struct contest c = {.bench = b, .rival = {rival_find("sluice"), peer}, .durability = durability};
    struct err e = {0};
    int code = contest_open(&c, dir, &e);
    if (code == 0)
        code = contest_rows(&c, &e);
    contest_close(&c);
    if (code != 0) {
        report_blank(b, peer, c.version, durability, "failed", e.text);
        b->report.below++;
    }
}

static bool wanted(const struct options *o, const struct rival *r)
{
    size_t size = strlen(r->name);
    if (r->kind != RIVAL_PEER)
        return false;
    for (const char *at = o->peers; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, r->name, size) == 0 && (at[size] == ',' || at[size] == '\0'))
            return true;
    }
    return o->peers == NULL;
}

int command_compare(struct bench *b, struct err *e)
{
    char dir[PATH_MAX], why[160];
    int code = workdir_make(b->o.dir, dir, e);
    if (code != 0)
        return code;
    for (size_t i = 0; rivals[i] != NULL; i++) {
        const struct rival *r = rivals[i];
        if (!wanted(&b->o, r))
            continue;
        bool there = r->present == NULL || r->present(why);
        for (int durability = SLUICE_DISK; durability <= SLUICE_OS; durability++) {
            if (b->o.durability != 0 && b->o.durability != durability)
                continue;
            if (!there)
                report_blank(b, r, "", durability, "absent", why);
            else if (!(durability == SLUICE_DISK ? r->disk : r->os))
                report_blank(b, r, "", durability, "lacks it", r->lacks_durability);
            else
                compare_with(b, r, durability, dir);
        }
    }
    workdir_remove(dir);
    return 0;
}

/*
 * `sluice-bench compare`: Sluice and each peer in turns, at the same durability, size, batch and number of batches that are out.
 *
 * For each peer and durability both are started, with their data below the same directory. Then for each size, after rounds that are
 * not counted: Sluice publishes, the peer does; then both at one rate, half of what the slower can, for the latency; then Sluice leases
 * and acknowledges all of it, the peer does; and again for each run. A run is as many messages as take about its time, by the side's
 * own best rates so far, and all of them are taken out again, so each is verified: what was lost, came twice or was damaged makes
 * the row void. Over how many connections the batches that are out are spread is each side's own choice, the one that it is fastest with.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../rows.h"

/* 50 batches of 100 are out: what redis-benchmark sends at once with -P 100 -c 50. */
enum { BATCH = 100, OUT = 50, ROUNDS_BEFORE = 2, MESSAGES_FIRST = 1000, PATIENCE_S = 60 };

enum side { OURS, THEIRS, SIDES };
enum phase { PRODUCE, PACED, QUEUE, PHASES };
static const char *const phase_names[PHASES] = {"produce", "produce at a rate", "lease + ack"};
static const uint32_t sizes[] = {100, 1024};

/* The rows of the suite that are against a peer: at the first of the sizes. */
static const struct against {
    const char *id, *peer;
    int durability, phase;
} against[] = {
    {"P1.redis", "redis", SLUICE_DISK, PRODUCE},
    {"P1.rabbitmq", "rabbitmq", SLUICE_DISK, PRODUCE},
    {"P7.rabbitmq", "rabbitmq", SLUICE_DISK, QUEUE},
    {"P7.redis", "redis", SLUICE_OS, QUEUE},
};

/* One peer at one durability. */
struct contest {
    struct bench *bench;
    const struct rival *rival[SIDES];
    void *run[SIDES];
    int durability;
    char version[40];
    const char *dir; /* where the data of both is */
    bool rows_only; /* only what is in `against` */
};

/* One size of it. */
struct heat {
    const struct contest *contest;
    uint32_t size;
    bool counts;              /* this round does */
    uint64_t messages[SIDES]; /* to publish in the next round */
    uint64_t waiting[SIDES];  /* published and not taken */
    double rate;              /* of the paced phase */
    size_t runs;
    double figures[PHASES][SIDES][PAIRS_MAX]; /* messages/s, for the paced phase the p99 in us */
};

/* ---------------------------------------------------------------- a round */

static double seconds_of(const struct options *o)
{
    return o->seconds > 0 ? o->seconds : o->quick ? 0.3 : 3;
}

static struct work work_of(const struct heat *h, int phase, int side)
{
    const struct options *o = &h->contest->bench->o;
    const struct rival *r = h->contest->rival[side];
    struct work w = bench_work(o, &(struct work){.batch = BATCH, .window = OUT, .connections = 1});
    uint32_t out = w.window * w.connections, most = r->connections != 0 ? r->connections : 1;
    if (h->contest->durability == SLUICE_OS && r->connections_os != 0)
        most = r->connections_os;
    if (phase == QUEUE && r->connections_queue != 0)
        most = r->connections_queue;
    w.connections = most < out ? most : out;
    w.window = out / w.connections;
    w.size = h->size;
    w.durability = h->contest->durability;
    w.seconds = PATIENCE_S;
    w.rate = 0;
    w.progress = false;
    return w;
}

/* What the phase has to do with how many messages. */
static uint64_t messages_of(const struct heat *h, int phase, int side)
{
    if (phase == PACED)
        return (uint64_t)(h->rate * seconds_of(&h->contest->bench->o)) + 1;
    return phase == QUEUE ? h->waiting[side] : h->messages[side];
}

static int measure(struct heat *h, int phase, int side, struct err *e)
{
    const struct rival *r = h->contest->rival[side];
    struct work w = work_of(h, phase, side);
    struct outcome out = {.latency = hist_new()};
    w.messages = messages_of(h, phase, side);
    w.rate = phase == PACED ? h->rate : 0;
    int code = (phase == QUEUE ? r->queue : r->produce)(h->contest->run[side], &w, &out, e);
    h->figures[phase][side][h->runs] = phase == PACED ? hist_us(out.latency, 99) : outcome_rate(&out);
    h->waiting[side] += phase == QUEUE ? -out.messages : out.messages;
    free(out.latency);
    if (code == 0 && (phase == QUEUE ? h->waiting[side] != 0 : out.messages < w.messages))
        code = err_set(e, ETIMEDOUT, "void: %llu of %llu messages in %d s", (unsigned long long)out.messages,
                       (unsigned long long)w.messages, PATIENCE_S);
    if (code != 0)
        err_prefix(e, "%s: %s", r->name, phase_names[phase]);
    return code;
}

static bool has_queue(const struct heat *h)
{
    return h->contest->rival[THEIRS]->queue != NULL;
}

static int one_round(struct heat *h, struct err *e)
{
    int code = 0;
    for (int phase = 0; phase < PHASES; phase++) {
        if ((phase == PACED && !h->counts) || (phase == QUEUE && !has_queue(h)))
            continue;
        for (int side = 0; side < SIDES && code == 0; side++)
            code = measure(h, phase, side, e);
    }
    h->rate = HUGE_VAL;
    for (int side = 0; side < SIDES && code == 0; side++) {
        double rate = h->figures[PRODUCE][side][h->runs], both = rate;
        if (has_queue(h)) /* as much time for both together as for two of one */
            both = 2 / (1 / rate + 1 / h->figures[QUEUE][side][h->runs]);
        uint64_t next = (uint64_t)(both * seconds_of(&h->contest->bench->o));
        h->messages[side] = next > h->messages[side] ? next : h->messages[side]; /* a round that was disturbed is not the measure */
        h->rate = rate / 2 < h->rate ? rate / 2 : h->rate;
    }
    return code;
}

static int rounds(struct heat *h, struct err *e)
{
    const struct options *o = &h->contest->bench->o;
    size_t runs = o->runs != 0 ? o->runs : o->quick ? 3 : 5;
    int code = 0;
    h->messages[OURS] = h->messages[THEIRS] = MESSAGES_FIRST;
    for (int i = 0; i < ROUNDS_BEFORE && code == 0; i++)
        code = one_round(h, e);
    h->counts = true;
    while (code == 0 && h->runs < runs) {
        code = one_round(h, e);
        h->runs += code == 0;
    }
    return code;
}

/* ---------------------------------------------------------------- rows */

/* The median of the ratios of neighbours, above 1 where ours is better. */
static double ratio_of(const struct heat *h, int phase)
{
    const double *ours = h->figures[phase][OURS], *theirs = h->figures[phase][THEIRS];
    double ratios[PAIRS_MAX];
    for (size_t i = 0; i < h->runs; i++)
        ratios[i] = phase == PACED ? theirs[i] / ours[i] : ours[i] / theirs[i];
    return median(ratios, h->runs);
}

/* Of ours. */
static struct share share_of(const struct heat *h, int phase)
{
    const struct contest *c = h->contest;
    double ours = median(h->figures[phase][OURS], h->runs);
    bool durable = phase == PRODUCE && c->durability == SLUICE_DISK;
    return phase == PACED ? machine_share_round(99, ours) : machine_share(durable ? c->dir : NULL, ours * h->size);
}

static void report_phase(const struct heat *h, int phase)
{
    char what[64];
    const struct contest *c = h->contest;
    struct share s = share_of(h, phase);
    if (phase == PACED)
        snprintf(what, sizeof what, "produce %u B, p99 at half the slower's rate", h->size);
    else
        snprintf(what, sizeof what, "%s %u B", phase_names[phase], h->size);
    report_versus(&c->bench->report, &(struct versus){.what = what, .peer = c->rival[THEIRS]->name, .version = c->version,
                                                      .unit = phase == PACED ? "us" : "messages/s", .durability = c->durability,
                                                      .ours = median(h->figures[phase][OURS], h->runs),
                                                      .theirs = median(h->figures[phase][THEIRS], h->runs), .ratio = ratio_of(h, phase),
                                                      .share = s.share, .of = s.of});
}

/* h NULL: there are no figures, and the note says why. */
static void report_against(const struct contest *c, const struct heat *h, const char *why)
{
    char note[320];
    for (size_t i = 0; i < sizeof against / sizeof *against; i++) {
        const struct against *a = &against[i];
        if (a->durability != c->durability || strcmp(a->peer, c->rival[THEIRS]->name) != 0)
            continue;
        if (h != NULL)
            snprintf(note, sizeof note, "%s %s: %.0f/s against %.0f/s", c->rival[THEIRS]->title, c->version,
                     median(h->figures[a->phase][OURS], h->runs), median(h->figures[a->phase][THEIRS], h->runs));
        bench_row(c->bench, a->id, h != NULL ? ratio_of(h, a->phase) : NAN, h != NULL ? note : why,
                  h != NULL ? share_of(h, a->phase) : (struct share){.share = NAN});
    }
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

/* What nobody took is read back. */
static int check_logs(const struct contest *c, struct err *e)
{
    int code = 0;
    for (int side = 0; side < SIDES && code == 0; side++)
        if (c->rival[side]->check != NULL)
            code = c->rival[side]->check(c->run[side], e);
    return code;
}

static int contest_rows(struct contest *c, struct err *e)
{
    int code = 0;
    size_t count = c->rows_only ? 1 : sizeof sizes / sizeof *sizes;
    for (size_t i = 0; i < count && code == 0; i++) {
        struct heat *h = calloc(1, sizeof *h);
        if (h == NULL)
            abort();
        h->contest = c;
        h->size = sizes[i];
        code = rounds(h, e);
        for (int phase = 0; phase < PHASES && code == 0 && !c->rows_only; phase++)
            if (phase != QUEUE || has_queue(h))
                report_phase(h, phase);
        if (code == 0 && i == 0)
            report_against(c, h, NULL);
        free(h);
    }
    if (code == 0 && c->rival[THEIRS]->queue == NULL)
        code = check_logs(c, e);
    if (code == 0 && c->rival[THEIRS]->queue == NULL)
        report_blank(c->bench, c->rival[THEIRS], c->version, c->durability, "lease + ack", c->rival[THEIRS]->lacks_queue);
    return code;
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

static bool is_against(const char *peer, int durability)
{
    for (size_t i = 0; i < sizeof against / sizeof *against; i++)
        if (against[i].durability == durability && strcmp(against[i].peer, peer) == 0)
            return true;
    return false;
}

/* What fails is a row that says so, and the others go on; true when it did. */
static bool contest_fails(struct contest *c, const char *dir)
{
    const struct rival *r = c->rival[THEIRS];
    struct err e = {0};
    int code = contest_open(c, dir, &e);
    if (code == 0)
        code = contest_rows(c, &e);
    contest_close(c);
    if (code == 0)
        return false;
    report_against(c, NULL, e.text);
    if (!c->rows_only)
        report_blank(c->bench, r, c->version, c->durability, "failed", e.text);
    return true;
}

/* True when it failed; that it is not there, or lacks the durability, is no failure. */
static bool compare_fails(struct bench *b, const struct rival *r, int durability, bool rows_only, const char *dir)
{
    char why[160];
    struct contest c = {.bench = b, .rival = {rival_find("sluice"), r}, .durability = durability, .dir = dir, .rows_only = rows_only};
    bool there = r->present == NULL || r->present(why), has = durability == SLUICE_DISK ? r->disk : r->os;
    if (there && has)
        return contest_fails(&c, dir);
    report_against(&c, NULL, there ? r->lacks_durability : why);
    if (!rows_only)
        report_blank(b, r, "", durability, there ? "lacks it" : "absent", there ? r->lacks_durability : why);
    return false;
}

static int compare(struct bench *b, bool rows_only, struct err *e)
{
    char dir[PATH_MAX];
    unsigned failed = 0;
    int code = workdir_make(b->o.dir, dir, e);
    if (code != 0)
        return code;
    for (size_t i = 0; rivals[i] != NULL; i++) {
        for (int durability = SLUICE_DISK; durability <= SLUICE_OS; durability++) {
            bool asked = b->o.durability == 0 || b->o.durability == durability || rows_only;
            if (asked && wanted(&b->o, rivals[i]) && (!rows_only || is_against(rivals[i]->name, durability)))
                failed += compare_fails(b, rivals[i], durability, rows_only, dir);
        }
    }
    workdir_remove(dir);
    return failed == 0 ? 0 : err_set(e, EIO, "%u of the comparisons failed", failed);
}

int command_compare(struct bench *b, struct err *e)
{
    return compare(b, false, e);
}

int rows_peers(struct bench *b, struct err *e)
{
    return compare(b, true, e);
}

/*
 * sluice-bench neighbours: a good handler at 30 % of what it can do, alone, and in turns with that beside three in the same daemon that do
 * harm: one leaks 10 MB a message, one hangs on one in fifty, one crashes on one in a hundred, at random.
 *
 * What is done is known from the handlers themselves (neighbour.h) and from what the daemon says at its end; of each topic everything
 * must be done or parked, of the good one's everything done, once, and at once. The others are done with before it is alone again.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/rng.h"
#include "bench.h"
#include "client.h"
#include "hist.h"
#include "neighbour.h"
#include "pairs.h"

#define SECOND_NS UINT64_C(1000000000)
#define SHARE 0.3 /* of what it can do alone */

enum { SOLO_S = 3, AHEAD = 20000, DRAIN_S = 60, LOOK_MS = 10, WARMUP_S = 1, PROCESSES = 2 };

/* `per_second` messages, of which one in `bad_in` is bad. */
static const struct kind {
    const char *name;
    unsigned per_second, bad_in;
    const char *limits;
} kinds[] = {
    {"good", 0, 0, ""},
    {"leak", 20, 0, "    memory: 256MiB\n"},
    {"hang", 20, 50, "    timeout: 500ms\n"},
    {"segv", 100, 100, ""},
};
enum { GOOD, KINDS = ARRAY_LEN(kinds) };

struct scene {
    struct bench *bench;
    struct place place;
    struct server daemon;
    struct sluice *client;
    struct neighbour_table *table;
    struct rng rng;
    char table_path[PATH_MAX], config_path[PATH_MAX];
    uint64_t published[KINDS], done[KINDS], parked[KINDS], failed[KINDS];
};

/* What was measured of the good one, run by run. */
struct phase {
    double rate[PAIRS_MAX]; /* done per second */
    double p50_us[PAIRS_MAX], p99_us[PAIRS_MAX], max_us[PAIRS_MAX];
};

/* ---- the stage ---- */

static int make_table(struct scene *s, struct err *e)
{
    snprintf(s->table_path, sizeof s->table_path, "/dev/shm/sluice-bench-%d", (int)getpid());
    int fd = open(s->table_path, O_CREAT | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
    if (fd >= 0 && ftruncate(fd, sizeof *s->table) == 0)
        s->table = mmap(NULL, sizeof *s->table, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    return s->table != NULL && s->table != MAP_FAILED ? 0 : err_set(e, errno, "%s: %s", s->table_path, strerror(errno));
}

static int make_group(struct scene *s, const char *name, struct err *e)
{
    struct sluice_error err;
    struct sluice_group_options o = {.size = sizeof o, .max_deliveries = 2, .backoff_min_ms = 50, .backoff_max_ms = 200};
    int code = client_topic(s->client, name, 1, SLUICE_OS, e);
    if (code == 0 && sluice_group_create(s->client, name, name, &o, NULL, &err) != 0)
        code = client_err(e, "create a group", &err);
    return code;
}

static int write_config(struct scene *s, const char *handler, struct err *e)
{
    FILE *f = fopen(s->config_path, "we");
    if (f == NULL)
        return err_set(e, errno, "%s: %s", s->config_path, strerror(errno));
    fprintf(f, "broker: %s\nhandlers:\n", s->place.broker.url);
    for (size_t i = 0; i < KINDS; i++)
        fprintf(f,
                "  - name: %s\n    file: %s\n    topic: %s\n    processes: %d\n    pipeline: 64\n%s"
                "    config: {act: %s, file: %s}\n",
                kinds[i].name, handler, kinds[i].name, i == GOOD ? PROCESSES : 1, kinds[i].limits, kinds[i].name,
                s->table_path);
    return fclose(f) == 0 ? 0 : err_set(e, errno, "%s: %s", s->config_path, strerror(errno));
}

static int start_daemon(struct scene *s, struct err *e)
{
    char program[PATH_MAX], handler[PATH_MAX];
    int code = broker_program(s->bench->o.bin, "sluice-workerd", program, e);
    if (code == 0)
        code = broker_program(s->bench->o.bin, "bench-neighbour.so", handler, e);
    if (code == 0)
        code = write_config(s, handler, e);
    const char *argv[] = {program, "-c", s->config_path, NULL};
    struct server_spec spec = {.name = "workerd", .argv = argv, .dir = s->place.dir, .ready_line = true};
    return code != 0 ? code : server_start(&s->daemon, &spec, e);
}

static int set_the_scene(struct scene *s, struct err *e)
{
    int code = place_open(&s->place, &s->bench->o, e);
    if (code == 0 && !bench_owns(&s->place, e))
        code = EINVAL;
    snprintf(s->config_path, sizeof s->config_path, "%.*s/workerd.yaml", PATH_MAX - 16, s->place.dir);
    if (code == 0)
        code = make_table(s, e);
    if (code == 0)
        code = client_open(&s->client, s->place.broker.url, 0, 0, SLUICE_COMPRESSION_NONE, e);
    for (size_t i = 0; i < KINDS && code == 0; i++)
        code = make_group(s, kinds[i].name, e);
    return code;
}

static void leave(struct scene *s)
{
    server_stop(&s->daemon);
    if (s->client != NULL)
        client_close(s->client);
    if (s->table != NULL && s->table != MAP_FAILED)
        munmap(s->table, sizeof *s->table);
    unlink(s->table_path);
    place_close(&s->place);
}

/* ---- messages ---- */

static int publish(struct scene *s, size_t kind, uint64_t intended_ns, struct err *e)
{
    struct sluice_error err;
    struct neighbour_message m = {.intended_ns = intended_ns,
                                  .bad = kinds[kind].bad_in != 0 && rng_chance(&s->rng, 1, kinds[kind].bad_in)};
    s->published[kind]++;
    struct sluice_message message = {.size = sizeof message, .topic = kinds[kind].name, .value = {&m, sizeof m}};
    return sluice_publish_async(s->client, &message, NULL, NULL, &err) == 0 ? 0 : client_err(e, "publish", &err);
}

static int flush(struct scene *s, struct err *e)
{
    struct sluice_error err;
    return sluice_flush(s->client, CLIENT_TIMEOUT_MS, &err) == 0 ? 0 : client_err(e, "flush", &err);
}

static void nap(long ns)
{
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

static int await_good(struct scene *s, struct err *e)
{
    uint64_t until = clock_mono_ns() + DRAIN_S * SECOND_NS;
    while (atomic_load(&s->table->count) < s->published[GOOD] && clock_mono_ns() < until)
        nap(LOOK_MS * 1000000L);
    return atomic_load(&s->table->count) >= s->published[GOOD] ? 0 : err_set(e, BENCH_VOID, "void: the good handler left some undone");
}

/* Until nothing of a topic is left to do. */
static int await_drained(struct scene *s, size_t kind, struct err *e)
{
    uint64_t left = 1;
    for (uint64_t until = clock_mono_ns() + DRAIN_S * SECOND_NS; left > 0 && clock_mono_ns() < until; nap(LOOK_MS * 1000000L)) {
        struct sluice_lag_list *l;
        struct sluice_error err;
        if (sluice_group_lag(s->client, kinds[kind].name, kinds[kind].name, &l, &err) != 0)
            return client_err(e, "lag", &err);
        left = l->rows[0].lag_messages;
        s->parked[kind] = l->rows[0].parked;
        sluice_lag_free(l);
    }
    return left == 0 ? 0 : err_set(e, BENCH_VOID, "void: %" PRIu64 " messages of %s are neither done nor parked", left, kinds[kind].name);
}

/* ---- what is measured ---- */

/* The most that the good handler does in a second, of messages that are published meanwhile, always so many ahead that it waits for none. Not
   of a backlog: the load that it is offered is to be a part of one that could be offered, and publishing takes of the same processors. */
static int solo_maximum(struct scene *s, double *rate, struct err *e)
{
    int code = start_daemon(s, e);
    uint64_t from = clock_mono_ns() + WARMUP_S * SECOND_NS, to = from + SOLO_S * SECOND_NS, before = 0;
    for (uint64_t now; code == 0 && (now = clock_mono_ns()) < to; nap(200000)) {
        uint64_t done = atomic_load(&s->table->count);
        if (now < from)
            before = done;
        while (code == 0 && s->published[GOOD] < done + AHEAD)
            code = publish(s, GOOD, now, e);
    }
    *rate = (double)(atomic_load(&s->table->count) - before) / SOLO_S;
    if (code == 0)
        code = flush(s, e);
    return code == 0 ? await_good(s, e) : code;
}

/* Whether the options ask for this neighbour. */
static bool is_asked_for(const struct scene *s, size_t kind)
{
    const char *only = s->bench->o.only;
    return only == NULL || strstr(only, kinds[kind].name) != NULL;
}

static int offer(struct scene *s, double rate, double seconds, bool with_neighbours, struct err *e)
{
    uint64_t begin = clock_mono_ns(), end = begin + (uint64_t)((seconds + WARMUP_S) * 1e9), sent[KINDS] = {0};
    int code = 0;
    for (uint64_t now; code == 0 && (now = clock_mono_ns()) < end; nap(200000)) {
        for (size_t k = 0; k < KINDS; k++) {
            double per_second = k == GOOD ? rate : with_neighbours && is_asked_for(s, k) ? kinds[k].per_second : 0;
            for (; code == 0 && (double)sent[k] < (double)(now - begin) / 1e9 * per_second; sent[k]++)
                code = publish(s, k, begin + (uint64_t)((double)sent[k] / per_second * 1e9), e);
        }
    }
    return code == 0 ? flush(s, e) : code;
}

/* Run `i` of a phase. What the neighbours had to do is done with at its end. */
static int measure(struct scene *s, double rate, double seconds, bool with_neighbours, struct phase *out, size_t i, struct err *e)
{
    uint64_t first = s->published[GOOD], from = clock_mono_ns() + WARMUP_S * SECOND_NS, to = from + (uint64_t)(seconds * 1e9), done = 0;
    struct hist *latency = hist_new();
    int code = offer(s, rate, seconds, with_neighbours, e);
    if (code == 0)
        code = await_good(s, e);
    if (code == 0 && s->published[GOOD] > NEIGHBOUR_ROWS_MAX)
        code = err_set(e, EINVAL, "more than %d good messages: fewer --runs or --seconds", NEIGHBOUR_ROWS_MAX);
    for (uint64_t n = first; code == 0 && n < s->published[GOOD]; n++) {
        const struct neighbour_row *r = &s->table->rows[n];
        done += r->done_ns >= from && r->done_ns < to;
        if (r->intended_ns >= from)
            hist_record(latency, r->done_ns - r->intended_ns, 1);
    }
    out->rate[i] = (double)done / seconds;
    out->p50_us[i] = hist_us(latency, 50);
    out->p99_us[i] = hist_us(latency, 99);
    out->max_us[i] = (double)latency->max_us;
    free(latency);
    for (size_t k = 0; k < KINDS && code == 0; k++)
        code = await_drained(s, k, e);
    return code;
}

/* ---- what became of everything ---- */

static void read_counts(struct scene *s)
{
    char line[1024], *at;
    FILE *f = fopen(s->daemon.log, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        for (size_t k = 0; k < KINDS; k++) {
            char head[64];
            uint64_t done, retried, parked, crashed;
            snprintf(head, sizeof head, "drained handler=%s ", kinds[k].name);
            if ((at = strstr(line, head)) == NULL ||
                sscanf(at + strlen(head), "done=%" SCNu64 " retried=%" SCNu64 " parked=%" SCNu64 " crashed=%" SCNu64, &done, &retried,
                       &parked, &crashed) != 4)
                continue;
            s->done[k] = done;
            s->failed[k] = retried + parked + crashed;
        }
    }
    if (f != NULL)
        fclose(f);
}

static int check(struct scene *s, struct err *e)
{
    server_stop(&s->daemon);
    read_counts(s);
    for (size_t k = 0; k < KINDS; k++) {
        if (s->done[k] + s->parked[k] != s->published[k])
            return err_set(e, BENCH_VOID, "void: of %s %" PRIu64 " were published, %" PRIu64 " done, %" PRIu64 " parked", kinds[k].name,
                           s->published[k], s->done[k], s->parked[k]);
    }
    if (atomic_load(&s->table->count) != s->published[GOOD])
        return err_set(e, BENCH_VOID, "void: some good messages were done twice");
    return s->failed[GOOD] == 0 ? 0 : err_set(e, BENCH_VOID, "void: %" PRIu64 " good messages failed", s->failed[GOOD]);
}

static json_t *phase_fields(const struct phase *p, size_t runs)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "messages_per_s", report_number(median(p->rate, runs)), "p50_us",
                     report_number(median(p->p50_us, runs)), "p99_us", report_number(median(p->p99_us, runs)), "max_us",
                     report_number(median(p->max_us, runs)));
}

/* The median of the ratios of neighbouring runs. */
static json_t *ratio(const double *beside, const double *alone, size_t runs)
{
    struct pairs p = {.runs = runs};
    memcpy(p.a, beside, runs * sizeof *beside);
    memcpy(p.b, alone, runs * sizeof *alone);
    return report_number(pairs_ratio(&p));
}

static void report(struct scene *s, double most, double offered, const struct phase *alone, const struct phase *beside, size_t runs)
{
    json_t *f = json_pack("{s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "command", "neighbours", "runs", (json_int_t)runs, "solo_maximum",
                          report_number(most), "offered", report_number(offered), "alone", phase_fields(alone, runs), "beside",
                          phase_fields(beside, runs), "rate_ratio", ratio(beside->rate, alone->rate, runs), "p99_ratio",
                          ratio(beside->p99_us, alone->p99_us, runs));
    for (size_t k = 0; k < KINDS; k++)
        json_object_set_new(f, kinds[k].name,
                            json_pack("{s:I, s:I, s:I, s:I}", "published", (json_int_t)s->published[k], "done", (json_int_t)s->done[k],
                                      "parked", (json_int_t)s->parked[k], "failures", (json_int_t)s->failed[k]));
    report_object(&s->bench->report, f);
}

int command_neighbours(struct bench *b, struct err *e)
{
    struct scene s = {.bench = b};
    static struct phase alone, beside;
    double most = 0, seconds = bench_seconds(&b->o, 5, 3);
    size_t runs = bench_runs(&b->o);
    rng_seed(&s.rng, b->o.seed);
    int code = set_the_scene(&s, e);
    if (code == 0)
        code = solo_maximum(&s, &most, e);
    for (size_t i = 0; code == 0 && i < runs; i++) {
        code = measure(&s, most * SHARE, seconds, false, &alone, i, e);
        if (code == 0)
            code = measure(&s, most * SHARE, seconds, true, &beside, i, e);
    }
    if (code == 0)
        code = check(&s, e);
    if (code == 0)
        report(&s, most, most * SHARE, &alone, &beside, runs);
    leave(&s);
    return code;
}

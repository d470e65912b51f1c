/* sluice-bench limits: what this machine can do, and what the straw-man makes of it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "machine.h"
#include "strawman.h"

static const struct { size_t bytes; const char *name; } syncs[] = {{4096, "4 KB"}, {65536, "64 KB"}, {1 << 20, "1 MB"}},
                                                        rounds[] = {{64, "64 B"}, {65536, "64 KB"}, {1 << 20, "1 MB"}};
static const uint32_t sizes[] = {100, 1024, 16384};

#define EACH(i, a) (size_t i = 0; code == 0 && i < sizeof(a) / sizeof *(a); i++)

/* A limit with a latency. `bytes`: that each moves. */
static void report_each(struct bench *b, const char *what, const char *of, double bytes, const struct hist *h)
{
    char limit[64];
    double rate = hist_mean_us(h) > 0 ? 1e6 / hist_mean_us(h) : NAN;
    snprintf(limit, sizeof limit, "%s %s", what, of);
    report_object(&b->report, json_pack("{s:s, s:o, s:o, s:o, s:o}", "limit", limit, "per_s", report_number(rate), "mb_per_s",
                                        report_number(rate * bytes / 1e6), "p50_us", report_number(hist_us(h, 50)), "p99_us",
                                        report_number(hist_us(h, 99))));
}

static void report_bytes(struct bench *b, const char *limit, double bytes_per_s)
{
    report_object(&b->report, json_pack("{s:s, s:o}", "limit", limit, "mb_per_s", report_number(bytes_per_s / 1e6)));
}

static int disk(struct bench *b, const char *dir, double seconds, struct hist *h, struct err *e)
{
    int code = 0;
    for EACH (i, syncs) {
        hist_clear(h);
        if (isnan(machine_fdatasync(dir, syncs[i].bytes, seconds, h, e)))
            code = e->code;
        else
            report_each(b, "pwrite and fdatasync of", syncs[i].name, (double)syncs[i].bytes, h);
    }
    double rate = code == 0 ? machine_write(dir, seconds, e) : NAN;
    if (code == 0 && isnan(rate))
        code = e->code;
    if (code == 0)
        report_bytes(b, "sequential write, synced at the end", rate);
    return code;
}

static int loopback(struct bench *b, const char *dir, double seconds, struct hist *h, struct err *e)
{
    double rate = machine_tcp(seconds, e);
    if (isnan(rate))
        return e->code;
    report_bytes(b, "loopback tcp, one connection", rate);
    hist_clear(h);
    if (isnan(machine_tcp_round(seconds, h, e)))
        return e->code;
    report_each(b, "loopback tcp round trip of", "64 B", 64, h);
    int code = 0;
    for EACH (i, rounds) {
        hist_clear(h);
        if (isnan(machine_round(rounds[i].bytes, seconds, h, e)))
            code = e->code;
        else
            report_each(b, "nng round trip of", rounds[i].name, (double)rounds[i].bytes, h);
    }
    hist_clear(h);
    if (code == 0 && isnan(machine_round_synced(dir, 100, seconds, h, e)))
        code = e->code;
    if (code == 0)
        report_each(b, "nng round trip, pwrite and fdatasync of", "100 B", 100, h);
    return code;
}

static int straw_man(struct bench *b, const char *parent, uint32_t size, int durability, double seconds, struct err *e)
{
    char dir[PATH_MAX];
    void *run;
    const struct work base = {.size = size, .durability = durability, .seconds = seconds, .warmup = seconds / 4};
    struct work w = bench_work(&b->o, &base);
    w.size = size;
    w.durability = durability;
    w.seconds = seconds;
    struct outcome out = {.latency = hist_new()};
    int code = workdir_below(parent, "strawman", dir, e);
    if (code == 0 && (code = rival_strawman.start(dir, &w, &run, e)) == 0) {
        code = rival_strawman.produce(run, &w, &out, e);
        rival_strawman.stop(run);
    }
    if (code == 0) {
        json_t *fields = bench_fields("limits", &w, &out);
        json_object_del(fields, "command");
        json_t *object = json_pack("{s:s}", "limit", "straw-man");
        json_object_update(object, fields);
        json_decref(fields);
        report_object(&b->report, object);
    }
    free(out.latency);
    workdir_remove(dir);
    return code;
}

int command_limits(struct bench *b, struct err *e)
{
    char dir[PATH_MAX];
    double seconds = b->o.seconds > 0 ? b->o.seconds : b->o.quick ? 1 : 3;
    struct hist *h = hist_new();
    int code = workdir_make(b->o.dir, dir, e);
    if (code == 0)
        code = disk(b, dir, seconds, h, e);
    if (code == 0) {
        report_bytes(b, "memcpy, one thread", machine_memcpy(seconds));
        code = loopback(b, dir, seconds, h, e);
    }
    for EACH (i, sizes) {
        code = straw_man(b, dir, sizes[i], SLUICE_DISK, seconds, e);
        if (code == 0)
            code = straw_man(b, dir, sizes[i], SLUICE_OS, seconds, e);
    }
    free(h);
    workdir_remove(dir);
    return code;
}

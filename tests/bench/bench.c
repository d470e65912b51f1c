/* See bench.h. */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define OR(value, other) ((value) != 0 ? (value) : (other))

struct work bench_work(const struct options *o, const struct work *base)
{
    return (struct work){
        .durability = OR(o->durability, OR(base->durability, SLUICE_DISK)),
        .size = (uint32_t)OR(o->size, OR(base->size, 100)),
        .batch = (uint32_t)OR(o->batch, OR(base->batch, 100)),
        .window = (uint32_t)OR(o->window, OR(base->window, 8)),
        .connections = (uint32_t)OR(o->connections, OR(base->connections, 1)),
        .rate = OR(o->rate, base->rate),
        .seconds = o->seconds >= 0 ? o->seconds : OR(base->seconds, o->messages > 0 ? 0 : 5),
        .warmup = o->warmup >= 0 ? o->warmup : OR(base->warmup, 1),
        .messages = OR(o->messages, base->messages),
        .seed = o->seed,
        .compressible = o->compressible,
        .progress = true,
    };
}

int place_open(struct place *p, const struct options *o, struct err *e)
{
    *p = (struct place){0};
    if (o->broker != NULL) {
        snprintf(p->broker.url, sizeof p->broker.url, "%s", o->broker);
        return 0;
    }
    int code = workdir_make(o->dir, p->dir, e);
    return code != 0 ? code : broker_start(&p->broker, o->bin, p->dir, NULL, e);
}

void place_close(struct place *p)
{
    broker_stop(&p->broker);
    if (p->dir[0] != '\0')
        workdir_remove(p->dir);
}

static json_t *latencies(const struct hist *h)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "mean", report_number(hist_mean_us(h)), "p50", report_number(hist_us(h, 50)),
                     "p90", report_number(hist_us(h, 90)), "p99", report_number(hist_us(h, 99)), "p99.9",
                     report_number(hist_us(h, 99.9)), "p99.99", report_number(hist_us(h, 99.99)), "max",
                     report_number((double)h->max_us));
}

json_t *bench_fields(const char *command, const struct work *w, const struct outcome *out)
{
    double rate = outcome_rate(out), million = (double)out->messages / 1e6, bytes = (double)out->messages * w->size;
    json_t *f = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:o, s:I, s:o, s:o, s:o}", "command", command, "durability",
                          durability_name(w->durability), "size", (int)w->size, "batch", (int)w->batch, "window", (int)w->window,
                          "connections", (int)w->connections, "offered", report_number(w->rate > 0 ? w->rate : NAN), "messages",
                          (json_int_t)out->messages, "seconds", report_number(out->seconds), "messages_per_s", report_number(rate),
                          "mb_per_s", report_number(rate * w->size / 1e6));
    if (out->latency != NULL && out->latency->total > 0)
        json_object_set_new(f, "latency_us", latencies(out->latency));
    bool known = out->server.rss_bytes > 0;
    json_object_set_new(f, "server_cpu_s_per_million", report_number(known ? out->server.cpu_seconds / million : NAN));
    json_object_set_new(f, "client_cpu_s_per_million", report_number(out->self.cpu_seconds / million));
    json_object_set_new(f, "written_per_byte", report_number(known ? (double)out->server.written_bytes / bytes : NAN));
    json_object_set_new(f, "server_rss_mb", report_number(known ? (double)out->server.rss_bytes / 1e6 : NAN));
    return f;
}

void bench_share(json_t *fields, struct share s)
{
    if (s.of == NULL)
        return;
    json_object_set_new(fields, "share", report_number(s.share));
    json_object_set_new(fields, "of", json_string(s.of));
}

void bench_row(struct bench *b, const char *id, double value, const char *note, struct share s)
{
    report_row_of(&b->report, id, value, note, s.share, s.of);
}

int bench_verdict(json_t *fields, const struct verdict *d, struct err *e)
{
    char text[160];
    bool good = verdict_good(d);
    if (fields != NULL) {
        json_object_set_new(fields, "verified", json_integer((json_int_t)d->seen));
        json_object_set_new(fields, "void", good ? json_false() : json_string(verdict_text(d, text)));
    }
    return good ? 0 : err_set(e, BENCH_VOID, "void: %s of %llu", verdict_text(d, text), (unsigned long long)d->expected);
}

int bench_hist(const struct options *o, const struct outcome *out, struct err *e)
{
    return o->hist != NULL && out->latency != NULL ? hist_write(out->latency, o->hist, e) : 0;
}

unsigned bench_runs(const struct options *o)
{
    return o->runs > 0 ? (unsigned)o->runs : o->quick ? 3 : 5;
}

double bench_seconds(const struct options *o, double full, double quick)
{
    return o->seconds >= 0 ? o->seconds : o->quick ? quick : full;
}

bool bench_owns(const struct place *p, struct err *e)
{
    if (p->broker.server.pid == 0)
        err_set(e, EINVAL, "this needs a broker of its own, without -b");
    return p->broker.server.pid != 0;
}

uint32_t bench_partitions(const struct options *o)
{
    return o->partitions > 0 ? (uint32_t)o->partitions : 1;
}

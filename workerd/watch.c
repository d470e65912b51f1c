#include "workerd/watch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "web/metrics.h"
#include "web/web.h"

enum {
    STATUS_OK = 200,
    STATUS_UNAVAILABLE = 503,
    CONNECTIONS_MAX = 64,
    IDLE_MS_MAX = 10000,
    CONNECTION_BYTES_MAX = 32768,
};

struct watch {
    struct web *web;
    pthread_mutex_t lock;
    struct figures latest; /* under lock */
};

/* A copy for one request, so that rendering keeps nobody waiting. */
static struct figures take(struct web_request *r)
{
    struct watch *w = web_user(r);
    struct figures f = {.state = RUN_STARTING};
    pthread_mutex_lock(&w->lock);
    figures_copy(&f, &w->latest);
    pthread_mutex_unlock(&w->lock);
    return f;
}

/* ---- health ---- */

static void get_livez(struct web_request *r)
{
    web_text(r, STATUS_OK, "ok\n");
}

static void get_readyz(struct web_request *r)
{
    struct figures f = take(r);
    char text[FIGURES_TEXT_MAX + 16];
    bool ready = figures_ready(&f);
    snprintf(text, sizeof text, "%s%s\n", ready ? "" : "not ready: ", f.text);
    web_text(r, ready ? STATUS_OK : STATUS_UNAVAILABLE, text);
    figures_free(&f);
}

/* ---- metrics ---- */

typedef double number_fn(const struct figures_handler *h);

#define NUMBER(name, value)                             \
    static double name(const struct figures_handler *h) \
    {                                                   \
        return (double)(value);                         \
    }
NUMBER(processes_of, h->up)
NUMBER(busy_of, h->busy)
NUMBER(calls_of, h->calls)
NUMBER(wanted_of, h->wanted)
NUMBER(had_of, h->had)
NUMBER(restarts_of, h->restarts)
NUMBER(held_of, h->held)
NUMBER(opened_of, h->breaker_opened)
NUMBER(canary_of, h->canary_percent)
NUMBER(dropped_of, h->versions_dropped)
NUMBER(halved_of, h->counts.halved)
NUMBER(published_of, h->counts.lag_published)
NUMBER(asked_of, h->counts.lag_asked)
#undef NUMBER

/* One sample a handler. */
static const struct family {
    const char *name, *help;
    enum metric_type type;
    number_fn *of;
} families[] = {
    {"sluice_worker_processes", "processes that are up", METRIC_GAUGE, processes_of},
    {"sluice_worker_busy_processes", "processes that have a task", METRIC_GAUGE, busy_of},
    {"sluice_worker_running_calls", "calls of the handler under way, a task or a batch each; as many as there are threads at most", METRIC_GAUGE,
     calls_of},
    {"sluice_worker_wanted_processes", "processes that there should be", METRIC_GAUGE, wanted_of},
    {"sluice_worker_had_processes", "processes that there should be before that last changed", METRIC_GAUGE, had_of},
    {"sluice_worker_restarts_total", "processes that ended without being told to", METRIC_COUNTER,
     restarts_of},
    {"sluice_worker_held_tasks", "tasks that are leased and have no outcome", METRIC_GAUGE, held_of},
    {"sluice_worker_breaker_opened_total", "times that the breaker opened", METRIC_COUNTER, opened_of},
    {"sluice_worker_canary_percent", "of the keys that are with a new version on trial", METRIC_GAUGE, canary_of},
    {"sluice_worker_versions_dropped_total", "new versions that did not start, or failed more than the old one", METRIC_COUNTER, dropped_of},
    {"sluice_worker_halved_batches_total", "times a process ended with several tasks, as a batch or in threads, whose halves were tried apart",
     METRIC_COUNTER, halved_of},
    {"sluice_worker_lag_published_total", "answers for scaling that the broker's publications gave", METRIC_COUNTER, published_of},
    {"sluice_worker_lag_asked_total", "answers for scaling that the broker was asked for", METRIC_COUNTER, asked_of},
};

static const struct outcome_name {
    const char *name;
    size_t at; /* in struct run_counts */
} outcomes[] = {
#define OUTCOME(name)                            \
    {                                            \
#name, offsetof(struct run_counts, name) \
    }
    OUTCOME(done), OUTCOME(retried), OUTCOME(parked), OUTCOME(crashed), OUTCOME(given_back), OUTCOME(lost),
    OUTCOME(conflicts),
#undef OUTCOME
};

static struct metric_label label(const char *name, const char *value)
{
    return (struct metric_label){name, view_of_str(value)};
}

static void put_outcomes(const struct figures *f, struct buf *out)
{
    static const char name[] = "sluice_worker_tasks_total";
    metric_family(out, name, METRIC_COUNTER, "tasks, by what became of them");
    for (size_t i = 0; i < f->handlers_n; i++) {
        for (size_t o = 0; o < ARRAY_LEN(outcomes); o++) {
            const struct metric_label labels[] = {label("handler", f->handlers[i].name),
                                                  label("outcome", outcomes[o].name)};
            uint64_t n;
            memcpy(&n, (const char *)&f->handlers[i].counts + outcomes[o].at, sizeof n);
            metric_sample(out, name, labels, ARRAY_LEN(labels), (double)n);
        }
    }
}

static void put_breakers(const struct figures *f, struct buf *out)
{
    static const char name[] = "sluice_worker_breaker";
    metric_family(out, name, METRIC_GAUGE, "1 for the state that the breaker is in");
    for (size_t i = 0; i < f->handlers_n; i++) {
        for (int s = BREAKER_CLOSED; s <= BREAKER_HALF_OPEN; s++) {
            const struct metric_label labels[] = {label("handler", f->handlers[i].name),
                                                  label("state", breaker_state_name((enum breaker_state)s))};
            metric_sample(out, name, labels, ARRAY_LEN(labels),
                          f->handlers[i].breaker == (enum breaker_state)s);
        }
    }
}

static void put_info(const struct figures *f, struct buf *out)
{
    static const char name[] = "sluice_worker_handler_info";
    metric_family(out, name, METRIC_GAUGE, "1; what the handler is are its labels");
    for (size_t i = 0; i < f->handlers_n; i++) {
        const struct figures_handler *h = &f->handlers[i];
        const struct metric_label labels[] = {label("handler", h->name), label("topic", h->topic),
                                              label("group", h->group), label("version", h->version),
                                              label("part", "all")};
        const struct metric_label canary[] = {labels[0], labels[1], labels[2], label("version", h->canary_version),
                                              label("part", "canary")};
        metric_sample(out, name, labels, ARRAY_LEN(labels), 1);
        if (h->canary_percent > 0)
            metric_sample(out, name, canary, ARRAY_LEN(canary), 1);
    }
}

static void put_reasons(const struct figures *f, struct buf *out)
{
    static const char name[] = "sluice_worker_scale_info";
    metric_family(out, name, METRIC_GAUGE, "1; why so many processes are wanted, and why that last changed, are its labels");
    for (size_t i = 0; i < f->handlers_n; i++) {
        const struct figures_handler *h = &f->handlers[i];
        const struct metric_label labels[] = {label("handler", h->name), label("why", h->why),
                                              label("moved", h->moved)};
        metric_sample(out, name, labels, ARRAY_LEN(labels), 1);
    }
}

/* A histogram of Prometheus: each bucket holds what those below it hold. */
static void put_times(const struct figures *f, struct buf *out)
{
    static const char name[] = "sluice_worker_service_seconds";
    metric_family(out, name, METRIC_HISTOGRAM, "time from the begin of a task to its verdict");
    for (size_t i = 0; i < f->handlers_n; i++) {
        const struct figures_times *t = &f->handlers[i].times;
        const struct metric_label of = label("handler", f->handlers[i].name);
        uint64_t below = 0;
        for (size_t b = 0; b <= FIGURES_TIMES; b++) {
            char bound[32] = "+Inf";
            if (b < FIGURES_TIMES)
                snprintf(bound, sizeof bound, "%g", figures_bounds_ms[b] / 1000.0);
            const struct metric_label labels[] = {of, label("le", bound)};
            below += t->counts[b];
            metric_sample(out, "sluice_worker_service_seconds_bucket", labels, ARRAY_LEN(labels),
                          (double)below);
        }
        metric_sample(out, "sluice_worker_service_seconds_sum", &of, 1, (double)t->sum_ms / 1000);
        metric_sample(out, "sluice_worker_service_seconds_count", &of, 1, (double)t->n);
    }
}

static void get_metrics(struct web_request *r)
{
    struct figures f = take(r);
    struct buf out = {0};
    metrics_process(&out, "daemon");
    metric(&out, "sluice_worker_ready", METRIC_GAUGE, "1 when /readyz says 200", figures_ready(&f));
    metric(&out, "sluice_worker_broker_reachable", METRIC_GAUGE, "0 while the broker does not answer",
           f.reachable);
    put_info(&f, &out);
    put_outcomes(&f, &out);
    for (size_t n = 0; n < ARRAY_LEN(families); n++) {
        metric_family(&out, families[n].name, families[n].type, families[n].help);
        for (size_t i = 0; i < f.handlers_n; i++) {
            const struct metric_label of = label("handler", f.handlers[i].name);
            metric_sample(&out, families[n].name, &of, 1, families[n].of(&f.handlers[i]));
        }
    }
    put_reasons(&f, &out);
    put_breakers(&f, &out);
    put_times(&f, &out);
    web_reply(r, STATUS_OK, "text/plain; version=0.0.4; charset=utf-8", out.data, out.size);
    buf_free(&out);
    figures_free(&f);
}

/* ---- for those who scale ---- */

static void get_scale(struct web_request *r)
{
    struct figures f = take(r);
    json_t *handlers = json_object();
    json_int_t wanted = 0;
    for (size_t i = 0; i < f.handlers_n; i++) {
        const struct figures_handler *h = &f.handlers[i];
        wanted += h->wanted;
        json_object_set_new(handlers, h->name,
                            json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s}", "topic", h->topic, "group", h->group,
                                      "wanted", (json_int_t)h->wanted, "up", (json_int_t)h->up, "busy",
                                      (json_int_t)h->busy, "had", (json_int_t)h->had, "why", h->why, "moved",
                                      h->moved));
    }
    json_t *whole = json_pack("{s:I, s:o}", "wanted", wanted, "handlers", handlers);
    char *text = json_dumps(whole, JSON_COMPACT);
    json_decref(whole);
    web_reply(r, STATUS_OK, "application/json", text, strlen(text));
    free(text);
    figures_free(&f);
}

/* ---- a life ---- */

static const struct web_route routes[] = {
    {"/livez", get_livez, NULL},
    {"/readyz", get_readyz, NULL},
    {"/metrics", get_metrics, NULL},
    {"/scale.json", get_scale, NULL},
};

int watch_start(struct watch **out, const char *address, struct err *e)
{
    struct watch *w = mem_zalloc(sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    figures_describe(&w->latest);
    int code = web_start(&w->web,
                         &(struct web_options){.address = address,
                                               .routes = routes,
                                               .routes_n = ARRAY_LEN(routes),
                                               .user = w,
                                               .connections_max = CONNECTIONS_MAX,
                                               .idle_ms = IDLE_MS_MAX,
                                               .connection_bytes_max = CONNECTION_BYTES_MAX},
                         e);
    if (code == E_OK)
        *out = w;
    else
        watch_stop(w);
    return code;
}

void watch_stop(struct watch *w)
{
    if (w == NULL)
        return;
    web_stop(w->web);
    figures_free(&w->latest);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}

const char *watch_address(const struct watch *w)
{
    return web_address(w->web);
}

void watch_publish(struct watch *w, const struct figures *f)
{
    pthread_mutex_lock(&w->lock);
    figures_copy(&w->latest, f);
    pthread_mutex_unlock(&w->lock);
}

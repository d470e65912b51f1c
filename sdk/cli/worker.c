/* sluice worker ls | scale | pause | resume */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli/client.h"
#include "cli/help.h"
#include "cli/out.h"

/* ---- ls ---- */

static const char *state_name(const struct sluice_worker *w, const struct sluice_worker_handler *h)
{
    static const char *const names[] = {
        [SLUICE_WORKER_RUNNING] = "running", [SLUICE_WORKER_PAUSED] = "paused", [SLUICE_WORKER_RESTING] = "resting", [SLUICE_WORKER_STOPPING] = "stopping",
        [SLUICE_WORKER_STARTING] = "starting"};
    if (w->gone)
        return "gone";
    return h->state >= SLUICE_WORKER_RUNNING && h->state <= SLUICE_WORKER_STARTING ? names[h->state] : "unknown";
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static json_t *row_json(const struct sluice_worker *w, const struct sluice_worker_handler *h)
{
    /* clang-format off */
    return json_pack("{s:s, s:s, s:I, s:s?, s:I, s:s, s:s, s:s, s:s?, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:s?, s:s?, s:b, s:I}",
                     "daemon", w->name,
                     "host", w->host,
                     "pid", (json_int_t)w->pid,
                     "daemon_version", or_null(w->version),
                     "started_ms", (json_int_t)w->started_ms,
                     "handler", h->name,
                     "topic", h->topic,
                     "group", h->group,
                     "version", or_null(h->version),
                     "state", state_name(w, h),
                     "processes", (json_int_t)h->up,
                     "busy", (json_int_t)h->busy,
                     "wanted", (json_int_t)h->wanted,
                     "min", (json_int_t)h->least,
                     "max", (json_int_t)h->most,
                     "in_flight", (json_int_t)h->in_flight,
                     "done", (json_int_t)h->done,
                     "failed", (json_int_t)h->failed,
                     "rate", h->done_rate,
                     "failed_rate", h->failed_rate,
                     "why", or_null(h->why),
                     "last_error", or_null(h->error),
                     "asked", h->asked > h->taken,
                     "heard_ms", (json_int_t)w->heard_ms);
    /* clang-format on */
}

static void row_text(struct table *t, const struct sluice_worker *w, const struct sluice_worker_handler *h)
{
    char since[UNITS_TEXT_MAX];
    table_cell(t, "%s", w->host);
    table_cell(t, "%s", w->name);
    table_cell(t, "%s", h->name);
    table_cell(t, "%s/%s", h->topic, h->group);
    table_cell(t, "%s", h->version[0] != '\0' ? h->version : "-");
    table_cell(t, "%" PRIu32 "/%" PRIu32, h->up, h->most);
    table_cell(t, "%" PRIu32, h->busy);
    table_cell(t, "%.1f", h->done_rate);
    table_cell(t, "%" PRIu64, h->failed);
    if (w->gone)
        table_cell(t, "gone for %s", short_seconds(since, (double)w->heard_ms / 1000));
    else
        table_cell(t, "%s%s", state_name(w, h), h->asked > h->taken ? ", asked" : "");
}

static void show(const struct args *a, const struct sluice_worker_list *l)
{
    struct table t;
    size_t shown = 0;
    table_begin(&t, 10, (const char *const[]){"HOST", "NAME", "HANDLER", "TOPIC/GROUP", "VERSION", ">PROCS", ">BUSY", ">RATE", ">ERRORS", "STATE"});
    for (size_t i = 0; i < l->count; i++) {
        for (size_t n = 0; n < l->rows[i].handlers_count; n++, shown++) {
            if (args_json(a))
                out_json(row_json(&l->rows[i], &l->rows[i].handlers[n]));
            else
                row_text(&t, &l->rows[i], &l->rows[i].handlers[n]);
        }
    }
    table_end(&t);
    if (shown == 0 && !args_json(a))
        talk("no worker daemon reports to this broker%s", args_has(a, "topic") || args_has(a, "handler") || args_has(a, "on") ? " that fits" : "");
}

int worker_ls(const struct args *a)
{
    struct sluice *s;
    int status = client_open(a, &s);
    if (status != 0)
        return status;
    const struct sluice_worker_filter which = {
        .size = sizeof which, .daemon = args_text(a, "on", NULL), .handler = args_text(a, "handler", NULL), .topic = args_text(a, "topic", NULL)};
    struct sluice_error err = {0};
    struct sluice_worker_list *l = NULL;
    if (sluice_workers(s, &which, &l, &err) != 0)
        status = client_fail(&err, NULL, NULL);
    else
        show(a, l);
    sluice_workers_free(l);
    client_close(a, s);
    return status;
}

/* ---- scale, pause, resume ---- */

struct order {
    const char *done, *undone; /* "paused", "pause" */
    struct sluice_worker_filter which;
    struct sluice_worker_control what;
    char topic[SLUICE_NAME_MAX + 1];
    uint64_t number;
    uint32_t reached;
};

/* HANDLER, or TOPIC/GROUP. */
static int take_operand(const struct args *a, struct order *o)
{
    const char *text = args_operand(a, 0), *slash = strchr(text, '/');
    struct err e;
    o->which.size = sizeof o->which;
    o->which.daemon = args_text(a, "on", NULL);
    if (slash == NULL) {
        o->which.handler = text;
        return name_check("handler", view_of_str(text), &e) == 0 ? 0 : help_refuse(a, "%s", e.text);
    }
    struct view topic = view_of(text, (size_t)(slash - text));
    if (name_check("topic", topic, &e) != 0 || name_check("group", view_of_str(slash + 1), &e) != 0)
        return help_refuse(a, "%s", e.text);
    snprintf(o->topic, sizeof o->topic, "%.*s", (int)topic.size, text);
    o->which.topic = o->topic;
    o->which.group = slash + 1;
    return 0;
}

/* How far it is. */
struct progress {
    uint32_t confirmed, refused, waiting;
};

static struct progress look(const struct order *o, const struct sluice_worker_list *l)
{
    struct progress p = {0};
    for (size_t i = 0; i < l->count; i++) {
        for (size_t n = 0; n < l->rows[i].handlers_count; n++) {
            const struct sluice_worker_handler *h = &l->rows[i].handlers[n];
            bool taken = h->taken >= o->number;
            p.confirmed += taken && h->taken_code == 0;
            p.refused += taken && h->taken_code != 0;
            p.waiting += !taken && h->asked >= o->number && !l->rows[i].gone;
        }
    }
    return p;
}

static void say_one(const struct args *a, const struct order *o, const struct sluice_worker *w, const struct sluice_worker_handler *h)
{
    bool taken = h->taken >= o->number, done = taken && h->taken_code == 0;
    const char *why = done ? NULL : taken ? (h->taken_text[0] != '\0' ? h->taken_text : sluice_code_text(h->taken_code))
                      : w->gone ? "the daemon is gone" : "the daemon did not say that it took it";
    if (args_json(a))
        out_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:s?}", "daemon", w->name, "host", w->host, "handler", h->name, "topic", h->topic, "group",
                           h->group, "asked", o->undone, "done", done, "error", why));
    else if (!done)
        talk("could not %s handler '%s' on '%s' (%s): %s", o->undone, h->name, w->name, w->host, why);
    else if (o->what.act == SLUICE_WORKER_SCALE)
        talk("scaled handler '%s' on '%s' (%s) to %" PRIu32 "-%" PRIu32 " processes", h->name, w->name, w->host, h->least, h->most);
    else
        talk("%s handler '%s' on '%s' (%s)", o->done, h->name, w->name, w->host);
}

static int conclude(const struct args *a, const struct order *o, const struct sluice_worker_list *l)
{
    struct progress p = look(o, l);
    uint32_t said = 0;
    for (size_t i = 0; i < l->count; i++) {
        for (size_t n = 0; n < l->rows[i].handlers_count; n++) {
            const struct sluice_worker_handler *h = &l->rows[i].handlers[n];
            if (h->asked < o->number && h->taken < o->number)
                continue; /* came later */
            say_one(a, o, &l->rows[i], h);
            said++;
        }
    }
    if (said < o->reached)
        talk("%" PRIu32 " more did not say that they took it: their daemons ended, or the broker was restarted meanwhile and forgot it",
             o->reached - said);
    return p.refused > 0 ? STATUS_ERROR : p.confirmed < o->reached ? STATUS_TIMEOUT : STATUS_OK;
}

/* A daemon hears of it with its next report, and confirms at once. */
static int wait_for(const struct args *a, struct sluice *s, const struct order *o)
{
    enum { PAUSE_MS = 50 };
    uint64_t until = clock_mono_ms() + client_timeout_ms(a);
    for (;;) {
        struct sluice_error err = {0};
        struct sluice_worker_list *l;
        if (sluice_workers(s, &o->which, &l, &err) != 0)
            return client_fail(&err, NULL, NULL);
        struct progress p = look(o, l);
        if (p.waiting == 0 || clock_mono_ms() >= until) {
            progress_end();
            int status = conclude(a, o, l);
            sluice_workers_free(l);
            return status;
        }
        sluice_workers_free(l);
        progress("%" PRIu32 " of %" PRIu32 " took it", p.confirmed + p.refused, o->reached);
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
    }
}

static int order(const struct args *a, struct order *o)
{
    struct sluice *s = NULL;
    int status = take_operand(a, o);
    if (status == 0)
        status = client_open(a, &s);
    if (status != 0)
        return status;
    struct sluice_error err = {0};
    o->what.size = sizeof o->what;
    if (sluice_worker_control(s, &o->which, &o->what, &o->number, &o->reached, &err) != 0)
        status = client_fail(&err, NULL, NULL);
    else
        status = wait_for(a, s, o);
    client_close(a, s);
    return status;
}

int worker_pause(const struct args *a)
{
    return order(a, &(struct order){.done = "paused", .undone = "pause", .what.act = SLUICE_WORKER_PAUSE});
}

int worker_resume(const struct args *a)
{
    return order(a, &(struct order){.done = "resumed", .undone = "resume", .what.act = SLUICE_WORKER_RESUME});
}

int worker_scale(const struct args *a)
{
    struct order o = {.done = "scaled",
                      .undone = "scale",
                      .what = {.act = SLUICE_WORKER_SCALE,
                               .has_least = args_has(a, "min"),
                               .has_most = args_has(a, "max"),
                               .least = (uint32_t)args_number(a, "min", 0),
                               .most = (uint32_t)args_number(a, "max", 0)}};
    if (!o.what.has_least && !o.what.has_most)
        return help_refuse(a, "say how many processes: --min N, --max N or both");
    if (o.what.has_least && o.what.has_most && o.what.least > o.what.most)
        return help_refuse(a, "--min %" PRIu32 " is more than --max %" PRIu32, o.what.least, o.what.most);
    return order(a, &o);
}

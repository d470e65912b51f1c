#include "workerd/registry.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/command.h"

enum {
    REPORT_MS = 1000,
    REPORT_MS_MIN = 50, /* between two, however much changes */
    REQUEST_MS = 2000,
    LEAVE_MS = 1000,
    RATE_MS = 5000, /* over which rates are smoothed */
    HOST_MAX = 200,
};

/* What is remembered of a handler between reports. By its name: handlers come and go with the configuration. */
struct memory {
    char name[NAME_MAX_BYTES + 1];
    uint64_t at_ms, done, failed;
    double done_rate, failed_rate;
    uint64_t brought; /* the number of the last command that the loop was given */
};

struct registry {
    struct client *client;
    struct inbox *inbox;
    char name[HOST_MAX + 1], host[HOST_MAX + 1];
    uint64_t started_ms;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct figures latest; /* under lock */
    bool any, news, stopping;

    /* the thread's */
    struct figures figures;
    struct memory *memories;
    size_t memories_n;
    int refused_as; /* what the last report was answered, so that it is said once */
};

/* ---- what is said ---- */

static uint64_t failed_of(const struct figures_handler *h)
{
    return h->counts.retried + h->counts.parked + h->counts.crashed;
}

/* A change that people wait for, or want to see at once. */
static bool is_news(const struct figures *a, const struct figures *b)
{
    if (a->state != b->state || a->handlers_n != b->handlers_n)
        return true;
    for (size_t i = 0; i < a->handlers_n; i++) {
        const struct figures_handler *x = &a->handlers[i], *y = &b->handlers[i];
        if (x->taken.number != y->taken.number || x->paused != y->paused || x->breaker != y->breaker ||
            x->wanted != y->wanted || x->least != y->least || x->most != y->most ||
            strcmp(x->versions, y->versions) != 0 || strcmp(x->name, y->name) != 0)
            return true;
    }
    return false;
}

static struct memory *memory_of(struct registry *r, const struct figures_handler *h, uint64_t now)
{
    for (size_t i = 0; i < r->memories_n; i++) {
        if (strcmp(r->memories[i].name, h->name) == 0)
            return &r->memories[i];
    }
    r->memories = mem_resize(r->memories, r->memories_n + 1, sizeof *r->memories);
    struct memory *m = &r->memories[r->memories_n++];
    *m = (struct memory){.at_ms = now, .done = h->counts.done, .failed = failed_of(h)};
    snprintf(m->name, sizeof m->name, "%s", h->name);
    return m;
}

/* The mean rate, in which the past fades. A count that went back is of a handler that began anew. */
static double smooth(double rate, uint64_t before, uint64_t now, double ms)
{
    double seen = now > before ? (double)(now - before) * 1000 / ms : 0;
    return rate + (seen - rate) * ms / (ms + RATE_MS);
}

static void measure(struct memory *m, const struct figures_handler *h, uint64_t now)
{
    if (now <= m->at_ms)
        return;
    double ms = (double)(now - m->at_ms);
    m->done_rate = smooth(m->done_rate, m->done, h->counts.done, ms);
    m->failed_rate = smooth(m->failed_rate, m->failed, failed_of(h), ms);
    m->done = h->counts.done;
    m->failed = failed_of(h);
    m->at_ms = now;
}

static int state_of(const struct figures *f, const struct figures_handler *h)
{
    return f->state >= RUN_DRAINING       ? SLUICE_WORKER_STOPPING
           : h->paused                    ? SLUICE_WORKER_PAUSED
           : h->breaker != BREAKER_CLOSED ? SLUICE_WORKER_RESTING
           : h->version[0] == '\0'        ? SLUICE_WORKER_STARTING
                                          : SLUICE_WORKER_RUNNING;
}

static struct sluice_worker_handler handler_row(struct registry *r, const struct figures_handler *h,
                                                uint64_t now)
{
    struct memory *m = memory_of(r, h, now);
    measure(m, h, now);
    return (struct sluice_worker_handler){
        .size = sizeof(struct sluice_worker_handler),
        .name = h->name,
        .topic = h->topic,
        .group = h->group,
        .version = h->versions,
        .state = state_of(&r->figures, h),
        .up = h->up,
        .busy = h->busy,
        .wanted = h->wanted,
        .least = h->least,
        .most = h->most,
        .in_flight = h->held,
        .done = h->counts.done,
        .failed = failed_of(h),
        .done_rate = m->done_rate,
        .failed_rate = m->failed_rate,
        .why = h->why,
        .error = h->error,
        .taken = h->taken.number,
        .taken_code = h->taken.why.code,
        .taken_text = h->taken.why.text,
    };
}

/* ---- what is heard ---- */

static bool is_act(int act)
{
    return act == SLUICE_WORKER_SCALE || act == SLUICE_WORKER_PAUSE || act == SLUICE_WORKER_RESUME;
}

static void bring(struct registry *r, const struct sluice_worker_command *c)
{
    _Static_assert((int)COMMAND_SCALE == (int)SLUICE_WORKER_SCALE &&
                       (int)COMMAND_RESUME == (int)SLUICE_WORKER_RESUME,
                   "the same words");
    for (size_t i = 0; i < r->memories_n; i++) {
        struct memory *m = &r->memories[i];
        if (strcmp(m->name, c->handler) != 0)
            continue;
        if (c->number <= m->brought || !is_act(c->act))
            return;
        m->brought = c->number;
        struct command *command = mem_zalloc(sizeof *command);
        *command = (struct command){.event.kind = EVENT_COMMAND,
                                    .number = c->number,
                                    .act = (enum command_act)c->act,
                                    .has_least = c->has_least,
                                    .has_most = c->has_most,
                                    .least = c->least,
                                    .most = c->most};
        snprintf(command->handler, sizeof command->handler, "%s", c->handler);
        inbox_push(r->inbox, &command->event.node, 0);
        return;
    }
}

/* ---- a report ---- */

/* A broker that does not know us is told about once. */
static void note(struct registry *r, int code, const struct sluice_error *err)
{
    if (code == r->refused_as)
        return;
    r->refused_as = code;
    if (code == 0)
        log_info("registered name=%s", r->name);
    else
        log_warn("not registered error=%s", LOG_STR(err->text));
}

static void report(struct registry *r, bool leaving, uint32_t timeout_ms)
{
    struct session *session = client_wait(r->client);
    if (session == NULL)
        return;
    const struct figures *f = &r->figures;
    uint64_t now = clock_mono_ms();
    struct sluice_worker_handler *rows = mem_array(f->handlers_n, sizeof *rows);
    for (size_t i = 0; i < f->handlers_n; i++)
        rows[i] = handler_row(r, &f->handlers[i], now);
    struct sluice_worker me = {.size = sizeof me,
                               .name = r->name,
                               .host = r->host,
                               .version = SLUICE_VERSION,
                               .pid = (uint32_t)getpid(),
                               .started_ms = r->started_ms,
                               .handlers = rows,
                               .handlers_count = f->handlers_n};
    struct sluice_worker_commands *commands = NULL;
    struct sluice_error err;
    int code = sluice_worker_report(client_sluice(session), &me, leaving, timeout_ms, &commands, &err);
    for (size_t i = 0; code == 0 && i < commands->count; i++)
        bring(r, &commands->rows[i]);
    sluice_worker_commands_free(commands);
    mem_free(rows);
    client_let(r->client, session, code);
    if (!leaving)
        note(r, code, &err);
}

/* ---- the thread ---- */

/* Under lock: until something is to be said. False: we stop. */
static bool wait_for_time(struct registry *r, uint64_t last_ms)
{
    for (;;) {
        uint64_t now = clock_mono_ms(), due = last_ms + (r->news ? REPORT_MS_MIN : REPORT_MS);
        if (r->stopping)
            return false;
        if (r->any && now >= due)
            return true;
        if (!r->any)
            due = now + REPORT_MS;
        struct timespec t = {.tv_sec = (time_t)(due / 1000), .tv_nsec = (long)(due % 1000 * 1000000)};
        pthread_cond_timedwait(&r->changed, &r->lock, &t);
    }
}

static void *run(void *arg)
{
    struct registry *r = arg;
    pthread_mutex_lock(&r->lock);
    for (uint64_t last_ms = 0; wait_for_time(r, last_ms); last_ms = clock_mono_ms()) {
        figures_copy(&r->figures, &r->latest);
        r->news = false;
        pthread_mutex_unlock(&r->lock);
        report(r, false, REQUEST_MS);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    report(r, true, LEAVE_MS);
    return NULL;
}

void registry_publish(struct registry *r, const struct figures *f)
{
    pthread_mutex_lock(&r->lock);
    bool news = !r->any || is_news(&r->latest, f);
    figures_copy(&r->latest, f);
    r->any = true;
    r->news = r->news || news;
    if (news)
        pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

/* ---- a life ---- */

static void take_names(struct registry *r, const struct config *config)
{
    if (gethostname(r->host, sizeof r->host) != 0 || r->host[0] == '\0')
        snprintf(r->host, sizeof r->host, "unknown");
    r->host[sizeof r->host - 1] = '\0';
    if (config->name != NULL)
        snprintf(r->name, sizeof r->name, "%s", config->name);
    else
        snprintf(r->name, sizeof r->name, "sluice-workerd@%.150s/%ld", r->host, (long)getpid());
}

static void registry_free(struct registry *r)
{
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    figures_free(&r->latest);
    figures_free(&r->figures);
    mem_free(r->memories);
    mem_free(r);
}

struct registry *registry_start(const struct config *config, struct client *client, struct inbox *inbox,
                                struct err *e)
{
    struct registry *r = mem_zalloc(sizeof *r);
    r->client = client;
    r->inbox = inbox;
    r->started_ms = clock_wall_ms();
    take_names(r, config);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int code = pthread_create(&r->thread, NULL, run, r);
    if (code == 0)
        return r;
    err_set(e, E_NO_MEMORY, "cannot start a thread: %s", strerror(code));
    registry_free(r);
    return NULL;
}

/* What the loop did not come to any more. */
static void drop_commands(struct inbox *inbox)
{
    for (struct inbox_node *n = inbox_drain(inbox), *next; n != NULL; n = next) {
        struct event *e = container_of(n, struct event, node);
        next = n->next;
        if (e->kind == EVENT_COMMAND)
            mem_free(container_of(e, struct command, event));
    }
}

void registry_stop(struct registry *r)
{
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    drop_commands(r->inbox);
    registry_free(r);
}

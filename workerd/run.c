#include "workerd/run.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/entropy.h"
#include "base/log.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/command.h"
#include "workerd/family.h"
#include "workerd/loop.h"

enum {
    FILES_MS = 1000,       /* between two looks at the files */
    ANSWERS_MS_MAX = 5000, /* how long after the grace answers are waited for */
    HARD_MS_MAX = 1000,    /* before its end running tasks are told to stop */
    FIGURES_MS = 100,      /* between two looks at the figures */
    OWN_FDS = 2,
};

/* ---- what people ask ---- */

static int carry_out(struct handler *h, const struct command *c, struct err *e)
{
    uint32_t min = h->pool.min, max = h->pool.max;
    int code = 0;
    switch (c->act) {
    case COMMAND_SCALE:
        code = command_limits(c, &min, &max, e);
        if (code == 0)
            pool_limits(&h->pool, min, max);
        break;
    case COMMAND_PAUSE:
        pool_pause(&h->pool, true);
        tasks_release_waiting(h);
        break;
    case COMMAND_RESUME:
        pool_pause(&h->pool, false);
        break;
    }
    return code;
}

/* Of an unknown handler: it went with the configuration meanwhile, and who asked sees that. */
static void on_command(struct run *r, struct command *c)
{
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        struct handler *h = &r->handlers[i];
        if (strcmp(h->config->name, c->handler) != 0)
            continue;
        h->taken = (struct command_taken){.number = c->number};
        if (carry_out(h, c, &h->taken.why) != 0)
            log_warn("not scaled handler=%s error=%s", c->handler, LOG_STR(h->taken.why.text));
    }
    mem_free(c);
}

static void on_lagged(struct run *r, const struct lagged *l)
{
    struct run_counts *c = &r->handlers[l->handler].counts;
    *(l->published ? &c->lag_published : &c->lag_asked) += l->known;
    pool_lag(&r->handlers[l->handler].pool, l->known ? &l->lag : NULL, l->published, r->now_ms);
}

static void take_answers(struct run *r)
{
    for (struct inbox_node *n = inbox_drain(r->inbox), *next; n != NULL; n = next) {
        struct event *e = container_of(n, struct event, node);
        next = n->next;
        if (e->kind == EVENT_CONNECTED) {
            r->connected = true;
        } else if (e->kind == EVENT_FETCHED) {
            tasks_fetched(r, container_of(e, struct fetched, event));
        } else if (e->kind == EVENT_COMMAND) {
            on_command(r, container_of(e, struct command, event));
        } else if (e->kind == EVENT_LAGGED) {
            on_lagged(r, container_of(e, struct lagged, event));
        } else {
            struct outcome *o = container_of(e, struct outcome, event);
            o->under_way = false;
            if (o->verb == OUTCOME_EXTEND)
                task_extended(r, o->task, o->code);
            else
                task_settled(r, o->task, o->code);
            task_free_if_over(r, o->task);
        }
    }
}

/* ---- processes and versions ---- */

/* What was on trial is in force. */
static void take_over(struct handler *h)
{
    h->version = h->pool.version;
    h->config = h->pool.config;
    breaker_configure(&h->breaker, &h->config->breaker, h->run->now_ms);
}

static void scale(struct handler *h)
{
    struct run *r = h->run;
    pool_scale(&h->pool,
               &(struct pool_work){.held = h->held_n,
                                   .finished = h->finished,
                                   .answered = h->answered,
                                   .done = h->counts.done + h->counts.parked},
               r->now_ms);
    if (h->version != h->pool.version)
        take_over(h);
    if (r->source->lag != NULL && pool_wants_lag(&h->pool, r->now_ms))
        r->source->lag(r->source, h->index);
}

/* ---- the drain ---- */

void run_drain(struct run *r)
{
    if (r->state >= RUN_DRAINING)
        return;
    r->state = RUN_DRAINING;
    r->now_ms = clock_mono_ms();
    uint32_t grace = r->in_force->grace_ms, tenth = grace / 10;
    r->grace_end_ms = r->now_ms + grace;
    r->hard_ms = r->grace_end_ms - (tenth < HARD_MS_MAX ? tenth : HARD_MS_MAX);
    log_info("draining grace_ms=%" PRIu32, grace);
    r->source->stop(r->source);
    for (size_t i = 0; i < r->config->handlers_n; i++)
        pool_stop(&r->handlers[i].pool);
}

static bool asked_any(const struct run *r)
{
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        if (r->handlers[i].asked || r->handlers[i].pool.asking)
            return true;
    }
    return false;
}

/* Nothing is ours any more. A source that never reached the broker cannot bring anything either. */
static bool at_rest(const struct run *r)
{
    return r->tasks_n == 0 && !(r->connected && asked_any(r));
}

static bool all_gone(const struct run *r)
{
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        if (!pool_is_gone(&r->handlers[i].pool))
            return false;
    }
    return true;
}

static void log_counts(const struct run *r)
{
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        const struct run_counts *n = &r->handlers[i].counts;
        log_info("drained handler=%s done=%" PRIu64 " retried=%" PRIu64 " parked=%" PRIu64 " crashed=%" PRIu64
                 " given_back=%" PRIu64 " lost=%" PRIu64 " conflicts=%" PRIu64
                 " halved=%" PRIu64,
                 r->config->handlers[i].name, n->done, n->retried, n->parked, n->crashed, n->given_back,
                 n->lost, n->conflicts, n->halved);
    }
}

/* Tells those who still run that time is over, ends them when it is, and is done when nothing is left. */
static void drain_on(struct run *r)
{
    for (size_t i = 0; i < r->config->handlers_n && !r->hard && r->now_ms >= r->hard_ms; i++)
        pool_hurry(&r->handlers[i].pool);
    r->hard = r->now_ms >= r->hard_ms;
    for (size_t i = 0; i < r->config->handlers_n && r->now_ms >= r->grace_end_ms; i++)
        pool_kill(&r->handlers[i].pool, "end of the grace");
    if (!all_gone(r) || (!at_rest(r) && r->now_ms < r->grace_end_ms + ANSWERS_MS_MAX))
        return;
    if (!at_rest(r))
        log_warn("the broker did not answer, tasks will be delivered again tasks=%zu", r->tasks_n);
    log_counts(r);
    r->state = RUN_DONE;
}

static uint64_t drain_due_ms(const struct run *r)
{
    if (r->state != RUN_DRAINING)
        return UINT64_MAX;
    if (!r->hard)
        return r->hard_ms;
    return r->now_ms < r->grace_end_ms ? r->grace_end_ms : r->grace_end_ms + ANSWERS_MS_MAX;
}

/* ---- the configuration again ---- */

static bool config_used(const struct run *r, const struct config *c)
{
    bool used = r->in_force == c;
    for (size_t i = 0; i < c->handlers_n; i++)
        used = used || r->handlers[i].config == &c->handlers[i] ||
               pool_uses(&r->handlers[i].pool, &c->handlers[i]);
    return used;
}

static void free_unused_configs(struct run *r)
{
    for (struct loaded **at = &r->loaded, *l; (l = *at) != NULL;) {
        if (config_used(r, l->config)) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        reload_free(l->config);
        mem_free(l);
    }
}

void run_reload(struct run *r)
{
    if (r->state >= RUN_DRAINING || r->config_path == NULL)
        return;
    r->reloads++;
    file_watch_begin(&r->file, r->config_path);
    free_unused_configs(r);
    struct config *c = reload_config(r->config_path, r->in_force);
    if (c == NULL)
        return;
    struct loaded *l = mem_zalloc(sizeof *l);
    *l = (struct loaded){.config = c, .next = r->loaded};
    r->loaded = l;
    r->in_force = c;
    log_info("configuration read again handlers=%zu", c->handlers_n);
    for (size_t i = 0; i < c->handlers_n; i++) {
        file_watch_begin(&r->handlers[i].file, c->handlers[i].file);
        pool_renew(&r->handlers[i].pool, &c->handlers[i], r->now_ms);
    }
}

static uint64_t files_due_ms(const struct run *r)
{
    return r->in_force->reload_on_change && r->state < RUN_DRAINING ? r->look_ms : UINT64_MAX;
}

static void look_at_files(struct run *r)
{
    if (files_due_ms(r) > r->now_ms)
        return;
    r->look_ms = r->now_ms + FILES_MS;
    if (file_watch_look(&r->file, r->config_path)) {
        log_info("file changed file=%s", LOG_STR(r->config_path));
        run_reload(r);
        return;
    }
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        const struct handler_config *c = &r->in_force->handlers[i];
        if (!file_watch_look(&r->handlers[i].file, c->file))
            continue;
        log_info("file changed handler=%s file=%s", c->name, LOG_STR(c->file));
        pool_renew(&r->handlers[i].pool, c, r->now_ms);
    }
}

/* ---- signals ---- */

static void take_signals(struct run *r)
{
    struct signalfd_siginfo s;
    while (read(r->signals, &s, sizeof s) == (ssize_t)sizeof s) {
        if (s.ssi_signo == SIGHUP) {
            run_reload(r);
        } else if (r->state < RUN_DRAINING) {
            run_drain(r);
        } else {
            err_set(&r->error, E_CANCELLED, "a second signal: stopped at once");
            r->state = RUN_FAILED;
        }
    }
}

/* ---- figures ---- */

static void look_at_handler(const struct handler *h, struct figures_handler *f)
{
    snprintf(f->name, sizeof f->name, "%s", h->config->name);
    snprintf(f->topic, sizeof f->topic, "%s", h->config->topic);
    snprintf(f->group, sizeof f->group, "%s", h->config->group);
    f->counts = h->counts;
    f->times = h->times;
    f->restarts = h->restarts;
    f->held = h->held_n;
    f->least = h->pool.min;
    f->most = h->pool.max;
    f->paused = h->pool.paused;
    f->taken = h->taken;
    memcpy(f->error, h->error, sizeof f->error);
    f->breaker = h->breaker.state;
    f->breaker_opened = h->breaker.opened;
    struct pool_figures processes;
    pool_figures(&h->pool, &processes);
    snprintf(f->version, sizeof f->version, "%s", processes.version);
    snprintf(f->canary_version, sizeof f->canary_version, "%s", processes.canary_version);
    f->canary_percent = processes.canary_percent;
    if (f->canary_percent > 0)
        snprintf(f->versions, sizeof f->versions, "%s (%" PRIu32 "%% %s)", f->version, f->canary_percent,
                 f->canary_version);
    else
        memcpy(f->versions, f->version, sizeof f->version);
    f->versions_dropped = processes.dropped;
    f->wanted = processes.wanted;
    f->had = processes.had;
    f->moved = scale_why_text(processes.moved);
    f->why = scale_why_text(processes.why);
    f->up = processes.up;
    f->busy = processes.busy;
    f->calls = processes.running;
}

static void look(struct run *r)
{
    struct figures *f = &r->figures;
    bool reachable = r->connected && !atomic_load(&r->source->away);
    r->news = r->state != f->state || r->reloads != f->reloads || reachable != f->reachable ||
              r->now_ms >= r->figures_ms + FIGURES_MS;
    r->stale = !r->news;
    if (!r->news)
        return;
    r->figures_ms = r->now_ms;
    f->state = r->state;
    f->reachable = reachable;
    f->reloads = r->reloads;
    for (size_t i = 0; i < f->handlers_n; i++)
        look_at_handler(&r->handlers[i], &f->handlers[i]);
    figures_describe(f);
}

/* Things that happen at once are looked at once, a little later. */
static uint64_t figures_due_ms(const struct run *r)
{
    return r->stale ? r->figures_ms + FIGURES_MS : UINT64_MAX;
}

const struct figures *run_figures(const struct run *r)
{
    return r->news ? &r->figures : NULL;
}

/* ---- a turn ---- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t due_ms(const struct run *r)
{
    uint64_t due = earlier(earlier(drain_due_ms(r), figures_due_ms(r)), earlier(files_due_ms(r), r->sweep_ms));
    if (r->refused_n > 0)
        due = earlier(due, r->again_ms);
    for (size_t i = 0; i < r->config->handlers_n; i++)
        due = earlier(due, earlier(earlier(tasks_extension_due_ms(&r->handlers[i]), pool_due_ms(&r->handlers[i].pool)),
                                   earlier(breaker_due_ms(&r->handlers[i].breaker),
                                           earlier(r->handlers[i].window_ms, r->handlers[i].trim_ms))));
    return due;
}

/* Room for what is polled; returns how much that is. */
static size_t make_fds(struct run *r)
{
    size_t n = OWN_FDS;
    for (size_t i = 0; i < r->config->handlers_n; i++)
        n += r->handlers[i].pool.n * CHILD_FDS;
    if (n > r->fds_cap) {
        r->fds_cap = 2 * n;
        r->fds = mem_resize(r->fds, r->fds_cap, sizeof *r->fds);
    }
    return n;
}

static void sleep_until_something(struct run *r)
{
    size_t n = make_fds(r);
    struct pollfd *next = r->fds + OWN_FDS;
    r->fds[0] = (struct pollfd){.fd = inbox_fd(r->inbox), .events = POLLIN};
    r->fds[1] = (struct pollfd){.fd = r->signals, .events = POLLIN};
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        pool_poll(&r->handlers[i].pool, next);
        next += r->handlers[i].pool.n * CHILD_FDS;
    }
    uint64_t now = clock_mono_ms(), due = due_ms(r);
    if (r->turn_ms_max > 0)
        due = earlier(due, now + r->turn_ms_max);
    int timeout = due == UINT64_MAX       ? -1
                  : due <= now            ? 0
                  : due - now > INT32_MAX ? INT32_MAX
                                          : (int)(due - now);
    if (!inbox_arm(r->inbox))
        timeout = 0;
    for (bool interrupted = poll(r->fds, n, timeout) < 0; interrupted && n > 0; n--)
        r->fds[n - 1].revents = 0;
    inbox_disarm(r->inbox);
}

static bool all_up(const struct run *r)
{
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        if (!pool_is_up(&r->handlers[i].pool))
            return false;
    }
    return r->connected;
}

/* None is added or freed on the way, so that each finds what was polled for it. */
static void step_children(struct run *r)
{
    const struct pollfd *next = r->fds + OWN_FDS;
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        pool_step(&r->handlers[i].pool, next, r->now_ms);
        next += r->handlers[i].pool.n * CHILD_FDS;
    }
}

void run_turn(struct run *r)
{
    sleep_until_something(r);
    r->now_ms = clock_mono_ms();
    take_answers(r);
    step_children(r);
    if (r->sweep_ms <= r->now_ms)
        r->sweep_ms = r->now_ms + family_sweep();
    if (r->fds[1].revents != 0)
        take_signals(r);
    look_at_files(r);
    if (r->state == RUN_STARTING && all_up(r))
        r->state = RUN_READY;
    if (r->state == RUN_DRAINING)
        drain_on(r);
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        tasks_step_breaker(&r->handlers[i]);
        scale(&r->handlers[i]);
        dispatch_tasks(&r->handlers[i]);
        dispatch_trim(&r->handlers[i]);
        tasks_extend(&r->handlers[i]);
    }
    outcomes_flush(r);
    for (size_t i = 0; i < r->config->handlers_n && r->state < RUN_DRAINING; i++)
        dispatch_ask(&r->handlers[i]); /* after the outcomes, so that their leases are not counted twice */
    for (size_t i = 0; i < r->config->handlers_n; i++)
        pool_flush(&r->handlers[i].pool);
    look(r);
}

/* ---- a life ---- */

struct run *run_new(const struct run_options *o)
{
    const struct config *config = o->config;
    struct run *r = mem_zalloc(sizeof *r);
    *r = (struct run){.config = config,
                      .source = o->source,
                      .inbox = o->inbox,
                      .signals = o->signals,
                      .config_path = o->config_path,
                      .in_force = config,
                      .turn_ms_max = o->turn_ms_max};
    r->figures.handlers_n = config->handlers_n;
    r->figures.handlers = mem_array(config->handlers_n, sizeof *r->figures.handlers);
    r->handlers = mem_array(config->handlers_n, sizeof *r->handlers);
    r->now_ms = clock_mono_ms();
    file_watch_begin(&r->file, r->config_path);
    for (size_t i = 0; i < config->handlers_n; i++) {
        struct handler *h = &r->handlers[i];
        *h = (struct handler){.run = r, .config = &config->handlers[i], .index = (uint32_t)i};
        list_init(&h->waiting);
        list_init(&h->held);
        uint64_t seed;
        entropy_fill(&seed, sizeof seed);
        breaker_init(&h->breaker, &h->config->breaker, seed, r->now_ms);
        file_watch_begin(&h->file, h->config->file);
        h->window_ms = h->trim_ms = UINT64_MAX;
        ahead_begin(&h->ahead, r->now_ms);
        pool_init(&h->pool, h->config, o->exe, &dispatch_events, h, r->now_ms);
    }
    return r;
}

/* Tasks that are still held go with the process: their leases end, and others get them. */
static void forget_tasks(struct handler *h)
{
    for (struct list_node *n; (n = list_pop_front(&h->held)) != NULL;) {
        struct task *t = container_of(n, struct task, held);
        list_remove(&t->place);
        order_remove(&h->order, t);
        t->settled = true;
        task_free_if_over(h->run, t);
    }
}

void run_free(struct run *r)
{
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        forget_tasks(&r->handlers[i]);
        order_free(&r->handlers[i].order);
    }
    for (size_t i = 0; i < r->config->handlers_n; i++)
        pool_close(&r->handlers[i].pool);
    family_end();
    for (struct loaded *l; (l = r->loaded) != NULL; mem_free(l)) {
        r->loaded = l->next;
        reload_free(l->config);
    }
    figures_free(&r->figures);
    mem_free(r->handlers);
    mem_free(r->fds);
    mem_free(r->call);
    mem_free(r->sending);
    mem_free(r->refused);
    mem_free(r);
}

enum run_state run_state(const struct run *r)
{
    return r->state;
}

const char *run_error(const struct run *r)
{
    return r->error.text;
}

bool run_cannot_start(const struct run *r)
{
    return r->error.code == E_CONFIG;
}

bool run_clean(const struct run *r)
{
    return r->tasks_n == 0 && !asked_any(r);
}

const struct run_counts *run_counts(const struct run *r, size_t handler)
{
    return &r->handlers[handler].counts;
}

const struct breaker *run_breaker(const struct run *r, size_t handler)
{
    return &r->handlers[handler].breaker;
}

struct pool *run_pool(struct run *r, size_t handler)
{
    return &r->handlers[handler].pool;
}

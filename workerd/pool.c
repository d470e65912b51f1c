#include "workerd/pool.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

enum {
    SAMPLE_MS = 250,
    LAG_MS_MAX = 1000, /* an answer that takes longer is none for now */
    STALE_MS = 2000,   /* as old may be what was heard */
    ROOM_MS = 2000,    /* how often the host is looked at */
    FILE_FD_MIN = 10,  /* below are those that a child is started with */
};

/* ---- children ---- */

/* Counted as one of those that are wanted. */
static bool stays(const struct child *c)
{
    return !c->leaving && !c->trial && c->state <= CHILD_UP;
}

static bool takes(const struct child *c)
{
    return !c->leaving && c->state == CHILD_UP;
}

static void add(struct pool *p, bool trial, uint64_t now_ms)
{
    if (p->n == p->cap) {
        p->cap = p->cap != 0 ? 2 * p->cap : 4;
        p->children = mem_resize(p->children, p->cap, sizeof *p->children);
    }
    struct child *c = mem_zalloc(sizeof *c);
    child_init(c, trial ? p->next.config : p->config, p->exe, p->events, p->user);
    c->file = trial ? p->next.file : p->file;
    c->trial = trial;
    p->children[p->n++] = c;
    child_start(c, now_ms);
}

static void free_gone(struct pool *p)
{
    for (size_t i = p->n; i-- > 0;) {
        struct child *c = p->children[i];
        if (c->state != CHILD_GONE)
            continue;
        p->children[i] = p->children[--p->n];
        child_free(c);
        mem_free(c);
    }
}

static bool keep_one(struct pool *p)
{
    for (size_t i = 0; i < p->n; i++) {
        struct child *c = p->children[i];
        if (c->leaving && !c->old && c->state == CHILD_UP) {
            c->leaving = false;
            return true;
        }
    }
    return false;
}

/* Who goes first: not up, then idle, then who has least left to do; of the same the one that came last. */
static size_t worth(const struct child *c)
{
    return c->state == CHILD_UP ? 1 + c->tasks_n : 0;
}

static void dismiss_one(struct pool *p)
{
    struct child *least = NULL;
    for (size_t i = p->n; i-- > 0;) {
        struct child *c = p->children[i];
        if (stays(c) && (least == NULL || worth(c) < worth(least)))
            least = c;
    }
    least->leaving = true;
}

static void let_go(struct pool *p)
{
    for (size_t i = 0; i < p->n; i++) {
        struct child *c = p->children[i];
        if (c->leaving && c->state <= CHILD_UP && c->tasks_n == 0)
            child_stop(c);
    }
}

static void follow(struct pool *p, uint64_t now_ms)
{
    uint32_t there = 0;
    for (size_t i = 0; i < p->n; i++)
        there += stays(p->children[i]);
    for (; there < p->scale.wanted; there++) {
        if (!keep_one(p))
            add(p, false, now_ms);
    }
    for (; there > p->scale.wanted; there--)
        dismiss_one(p);
    let_go(p);
}

/* ---- a life ---- */

static uint32_t least_of(const struct handler_config *c)
{
    return c->processes_max == 0 ? c->processes : c->processes_min;
}

static uint32_t most_of(const struct handler_config *c)
{
    return c->processes_max == 0 ? c->processes : c->processes_max;
}

/* Of a command, or if it is not there, which a child will say: -1. */
static int open_file(const struct handler_config *c)
{
    int low = c->file != NULL ? open(c->file, O_RDONLY | O_CLOEXEC) : -1;
    int fd = low >= 0 ? fcntl(low, F_DUPFD_CLOEXEC, FILE_FD_MIN) : -1;
    if (low >= 0)
        close(low);
    return fd;
}

static void close_file(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void pool_init(struct pool *p, const struct handler_config *config, const char *exe,
               const struct child_events *events, void *user, uint64_t now_ms)
{
    *p = (struct pool){.config = config,
                       .file = open_file(config),
                       .next.file = -1,
                       .exe = exe,
                       .events = events,
                       .user = user,
                       .min = least_of(config),
                       .max = most_of(config),
                       .counted_ms = now_ms,
                       .look_ms = UINT64_MAX};
    assert(p->min <= p->max && p->max > 0);
    p->scale.wanted = p->min > 0 ? p->min : 1;
    p->last.wanted = p->last.had = p->moved.wanted = p->moved.had = p->scale.wanted;
    follow(p, now_ms);
}

void pool_close(struct pool *p)
{
    for (size_t i = 0; i < p->n; i++) {
        child_free(p->children[i]);
        mem_free(p->children[i]);
    }
    mem_free(p->children);
    close_file(&p->file);
    close_file(&p->next.file);
    p->n = 0;
    p->children = NULL;
}

static bool has_canary(const struct pool *p)
{
    return p->next.config != NULL && p->next.up;
}

/* ---- people ---- */

static void set_limits(struct pool *p, uint32_t min, uint32_t max)
{
    assert(min <= max && max > 0 && max <= CONFIG_PROCESSES_MAX);
    if (p->min == min && p->max == max)
        return;
    log_info("limits changed handler=%s min=%" PRIu32 " max=%" PRIu32, p->config->name, min, max);
    p->min = min;
    p->max = max;
}

void pool_limits(struct pool *p, uint32_t min, uint32_t max)
{
    p->by_hand = true;
    set_limits(p, min, max);
}

void pool_pause(struct pool *p, bool paused)
{
    if (p->paused == paused)
        return;
    log_info("%s handler=%s", paused ? "paused" : "resumed", p->config->name);
    p->paused = paused;
}

void pool_figures(const struct pool *p, struct pool_figures *out)
{
    *out = (struct pool_figures){
        .wanted = p->scale.wanted,
        .had = p->moved.had,
        .moved = p->moved.why,
        .why = p->last.why,
        .min = p->min,
        .max = p->max,
        .paused = p->paused,
        .version = p->text,
        .canary_version = p->next.text,
        .canary_percent = has_canary(p) ? p->next.canary.percent : 0,
        .dropped = p->dropped,
        .backlog = p->backlog,
        .in_flight = p->in_flight,
        .service_ms = p->last.service_us / 1000,
    };
    for (size_t i = 0; i < p->n; i++) {
        const struct child *c = p->children[i];
        out->up += takes(c);
        out->busy += c->tasks_n > 0;
        out->running += (uint32_t)c->runs_n;
        out->starting += stays(c) && c->state != CHILD_UP;
        out->leaving += !stays(c) && c->state != CHILD_GONE;
    }
}

/* ---- versions ---- */

/* Who is of the other version gets no more tasks, and is never taken back nor started again. */
static void end_trial(struct pool *p, bool in_force)
{
    for (size_t i = 0; i < p->n; i++) {
        struct child *c = p->children[i];
        bool next = c->trial;
        c->trial = false;
        if (next == in_force)
            continue;
        c->leaving = true;
        c->old = true;
        c->file = -1;
    }
    p->next.config = NULL;
    close_file(&p->next.file);
}

static void promote(struct pool *p)
{
    if (p->by_hand)
        log_info("limits stay as people set them handler=%s min=%" PRIu32 " max=%" PRIu32, p->config->name, p->min,
                 p->max);
    else
        set_limits(p, least_of(p->next.config), most_of(p->next.config));
    p->config = p->next.config;
    close_file(&p->file);
    p->file = p->next.file;
    p->next.file = -1;
    p->version++;
    log_info("new version in force handler=%s version=%s before=%s", p->config->name, LOG_STR(p->next.text),
             LOG_STR(p->text));
    memcpy(p->text, p->next.text, sizeof p->text);
    end_trial(p, true);
}

/* What its processes have not begun goes to the others. */
static void drop(struct pool *p, const char *why)
{
    log_error("new version dropped, the old one stays handler=%s version=%s in_force=%s why=%s", p->config->name,
              LOG_STR(p->next.text), LOG_STR(p->text), LOG_STR(why));
    for (size_t i = 0; i < p->n; i++) {
        if (p->children[i]->trial)
            child_recall(p->children[i]);
    }
    end_trial(p, false);
    p->dropped++;
}

void pool_renew(struct pool *p, const struct handler_config *config, uint64_t now_ms)
{
    if (p->stopping)
        return;
    if (p->next.config != NULL)
        drop(p, "another one came");
    uint32_t percent = config->canary_percent;
    uint32_t n = percent > 0 ? (p->scale.wanted * percent + 99) / 100 : p->scale.wanted;
    p->next.config = config;
    p->next.file = open_file(config);
    p->next.up = false;
    p->next.text[0] = '\0';
    p->next.canary = (struct canary){.percent = percent, .time_ms = config->canary_ms};
    log_info("new version tried handler=%s canary_percent=%" PRIu32, config->name, percent);
    for (uint32_t i = 0; i < (n > 0 ? n : 1); i++)
        add(p, true, now_ms);
}

bool pool_uses(const struct pool *p, const struct handler_config *config)
{
    bool used = p->config == config || p->next.config == config;
    for (size_t i = 0; i < p->n; i++)
        used = used || p->children[i]->config == config;
    return used;
}

void pool_started(struct pool *p, const struct child *c, int code, const char *text, uint64_t now_ms)
{
    if (code == 0 && !c->old)
        snprintf(c->trial ? p->next.text : p->text, VERSION_TEXT_MAX, "%s", text);
    if (!c->trial || p->stopping)
        return;
    if (code != 0) {
        drop(p, text);
    } else if (!p->next.up) {
        p->next.up = true;
        p->next.canary.since_ms = now_ms;
        if (p->next.canary.percent == 0)
            promote(p);
    }
}

void pool_ended(struct pool *p, const struct child *c, const char *how)
{
    if (c->trial && !c->was_up && !p->stopping)
        drop(p, how);
}

void pool_verdict(struct pool *p, const struct child *c, bool failed)
{
    if (has_canary(p) && !c->old)
        canary_verdict(&p->next.canary, c->trial, failed);
}

bool pool_on_trial(const struct pool *p, const struct task *t)
{
    return has_canary(p) && canary_takes(p->next.canary.percent, t->key, t->partition, t->offset);
}

static void judge_canary(struct pool *p, uint64_t now_ms)
{
    const struct canary *c = &p->next.canary;
    char why[160];
    if (!has_canary(p))
        return;
    switch (canary_decide(c, now_ms)) {
    case CANARY_WAIT:
        return;
    case CANARY_PROMOTE:
        promote(p);
        return;
    case CANARY_ROLL_BACK:
        snprintf(why, sizeof why,
                 "%" PRIu64 " of its %" PRIu64 " tasks failed, of the old version's %" PRIu64 " of %" PRIu64, c->new_one.failed, c->new_one.n, c->old_one.failed, c->old_one.n);
        drop(p, why);
    }
}

/* ---- tasks ---- */

uint32_t pool_places(const struct pool *p, uint64_t held_bytes)
{
    if (p->paused)
        return 0;
    uint32_t n = p->scale.wanted == 0 ? 1 : 0, up = 0;
    for (size_t i = 0; i < p->n; i++)
        up += takes(p->children[i]);
    for (size_t i = 0; i < p->n; i++) {
        const struct child *c = p->children[i];
        n += takes(c) ? child_places(c, held_bytes / up) : (uint32_t)c->tasks_n;
    }
    return n;
}

uint32_t pool_capacity(const struct pool *p)
{
    uint32_t n = p->scale.wanted == 0 ? 1 : 0;
    for (size_t i = 0; i < p->n; i++) {
        const struct child *c = p->children[i];
        n += !c->leaving && c->state <= CHILD_UP ? child_places(c, 0) : (uint32_t)c->tasks_n;
    }
    return n;
}

bool pool_takes(const struct pool *p)
{
    for (size_t i = 0; i < p->n; i++) {
        if (takes(p->children[i]))
            return true;
    }
    return false;
}

static bool less_busy(const struct child *a, const struct child *b)
{
    if (child_is_free(a) != child_is_free(b))
        return child_is_free(a);
    return a->tasks_n < b->tasks_n;
}

struct child *pool_least_busy(const struct pool *p, bool trial, const struct child *kept)
{
    struct child *best = NULL;
    for (size_t i = 0; i < p->n; i++) {
        struct child *c = p->children[i];
        if (takes(c) && c->trial == trial && c != kept && child_takes(c) && (best == NULL || less_busy(c, best)))
            best = c;
    }
    return best;
}

bool pool_hopeful(const struct pool *p)
{
    for (size_t i = 0; i < p->n; i++) {
        const struct child *c = p->children[i];
        if (stays(c) && c->state != CHILD_DOWN)
            return true;
    }
    return false;
}

/* ---- how many ---- */

static bool scales(const struct pool *p)
{
    return !p->stopping && p->min < p->max;
}

/* Else nothing changes until a task comes. */
static bool has_reason(const struct pool *p)
{
    return scales(p) && (p->work.held > 0 || p->scale.wanted > p->min);
}

static void look_at_host(struct pool *p, uint64_t now_ms)
{
    if (p->room_ms > now_ms)
        return;
    uint64_t sum = 0, n = 0;
    for (size_t i = 0; i < p->n; i++) {
        if (p->children[i]->state != CHILD_UP)
            continue;
        sum += room_of_process(p->children[i]->process.pid);
        n++;
    }
    p->memory_of_one = n > 0 ? sum / n : p->memory_of_one;
    room_read(&p->room);
    p->room_ms = now_ms + ROOM_MS;
}

/* Verdicts on their way. */
static uint64_t settling(const struct pool_work *w)
{
    return w->finished > w->answered ? w->finished - w->answered : 0;
}

static void take_sample(struct pool *p, uint64_t now_ms, struct scale_sample *out)
{
    struct pool_figures now;
    pool_figures(p, &now);
    *out = (struct scale_sample){
        .known = p->paused || (p->known && now_ms - p->heard_ms <= STALE_MS),
        .backlog = p->paused ? p->held_most : p->backlog,
        .in_flight = p->paused ? p->held_most : p->in_flight,
        .held = p->held_most,
        .waited_ms = p->known && !p->paused ? p->waited_ms + (now_ms - p->heard_ms) : 0,
        .done = p->work.done,
        .finished = p->work.finished,
        .settling = settling(&p->work),
        .busy_us = p->busy_ms * 1000,
        .running = now.running,
        .up = now.up,
        .min = p->min,
        .max = p->max,
        .target_drain_ms = p->config->target_drain_ms,
        .concurrency = p->config->threads,
        .down_after_ms = p->config->scale_down_after_ms,
        .cores = p->room.cores,
        .memory_room = p->room.memory,
        .memory_of_one = p->memory_of_one,
    };
    p->held_most = p->work.held + settling(&p->work);
}

static void say(const struct pool *p, const struct scale_sample *in)
{
    const struct scale_decision *d = &p->last;
    enum log_level level = d->wanted != d->had ? LOG_INFO : LOG_DEBUG;
    log_line(level,
             "scale handler=%s wanted=%" PRIu32 " had=%" PRIu32 " why=%s enough=%" PRIu32 " backlog=%" PRIu64
             " in_flight=%" PRIu64 " held=%" PRIu64 " up=%" PRIu32 " busy=%" PRIu32
             " service_ms=%.3f target_ms=%" PRIu32 " threads=%" PRIu32 " min=%" PRIu32 " max=%" PRIu32,
             p->config->name, d->wanted, d->had, LOG_STR(scale_why_text(d->why)), d->enough, in->backlog,
             in->in_flight, in->held, in->up, in->running, d->service_us / 1000, d->target_ms,
             in->concurrency > 0 ? in->concurrency : 1, in->min, in->max);
}

static void decide(struct pool *p, uint64_t now_ms)
{
    struct scale_sample in;
    enum scale_why before = p->last.why;
    if (scales(p))
        look_at_host(p, now_ms);
    take_sample(p, now_ms, &in);
    p->last = scale_step(&p->scale, &in, now_ms);
    p->heard = false;
    p->look_ms = p->last.soon ? now_ms + SCALE_LOOK_MS : UINT64_MAX;
    if (p->last.wanted != p->last.had)
        p->moved = p->last;
    if (p->last.why == SCALE_FIRST)
        p->sample_ms = now_ms; /* what one message is the first of is asked at once */
    if (p->last.wanted != p->last.had || p->last.why != before)
        say(p, &in);
}

/* Something that cannot wait for the next sample. */
static bool is_urgent(const struct pool *p)
{
    return p->scale.wanted < p->min || p->scale.wanted > p->max || (p->scale.wanted == 0 && p->work.held > 0);
}

void pool_scale(struct pool *p, const struct pool_work *work, uint64_t now_ms)
{
    free_gone(p);
    judge_canary(p, now_ms);
    p->work = *work;
    uint64_t held = work->held + settling(work);
    p->held_most = held > p->held_most ? held : p->held_most;
    if (p->stopping)
        return;
    bool silent = p->asking && now_ms - p->asked_ms >= LAG_MS_MAX && now_ms >= p->sample_ms;
    if (is_urgent(p) || (scales(p) && (p->heard || silent || p->look_ms <= now_ms))) {
        if (silent)
            p->sample_ms = now_ms + SAMPLE_MS;
        decide(p, now_ms);
    }
    follow(p, now_ms);
}

bool pool_wants_lag(struct pool *p, uint64_t now_ms)
{
    if (p->asking || !has_reason(p) || now_ms < p->sample_ms)
        return false;
    p->asking = true;
    p->asked_ms = now_ms;
    p->sample_ms = now_ms + SAMPLE_MS;
    return true;
}

void pool_lag(struct pool *p, const struct lag *lag, bool published, uint64_t now_ms)
{
    p->asking = false;
    if (published)
        p->sample_ms = p->asked_ms + SAMPLE_MS / 2;
    p->heard = true;
    p->heard_ms = now_ms;
    p->known = lag != NULL;
    if (lag != NULL) {
        p->backlog = lag->backlog;
        p->in_flight = lag->in_flight;
        p->waited_ms = lag->waited_ms;
    }
}

/* ---- the loop ---- */

void pool_poll(const struct pool *p, struct pollfd *fds)
{
    for (size_t i = 0; i < p->n; i++)
        child_poll(p->children[i], &fds[i * CHILD_FDS]);
}

uint64_t pool_due_ms(const struct pool *p)
{
    uint64_t silent_ms = p->asked_ms + LAG_MS_MAX;
    uint64_t due = !has_reason(p)                          ? UINT64_MAX
                   : p->asking && silent_ms > p->sample_ms ? silent_ms
                                                           : p->sample_ms;
    if (scales(p) && p->look_ms < due)
        due = p->look_ms;
    if (has_canary(p)) {
        uint64_t of_canary = canary_due_ms(&p->next.canary, p->counted_ms);
        due = of_canary < due ? of_canary : due;
    }
    for (size_t i = 0; i < p->n; i++) {
        uint64_t of_child = child_due_ms(p->children[i]);
        due = of_child < due ? of_child : due;
    }
    return due;
}

/* What runs has run since the last turn. */
static void count_busy(struct pool *p, uint64_t now_ms)
{
    uint64_t busy = 0;
    for (size_t i = 0; i < p->n; i++)
        busy += p->children[i]->runs_n;
    p->busy_ms += busy * (now_ms - p->counted_ms);
    p->counted_ms = now_ms;
}

void pool_step(struct pool *p, const struct pollfd *fds, uint64_t now_ms)
{
    count_busy(p, now_ms);
    for (size_t i = 0; i < p->n; i++)
        child_step(p->children[i], &fds[i * CHILD_FDS], now_ms);
}

void pool_flush(struct pool *p)
{
    for (size_t i = 0; i < p->n; i++)
        child_flush(p->children[i]);
}

bool pool_is_up(const struct pool *p)
{
    uint32_t n = 0;
    for (size_t i = 0; i < p->n; i++)
        n += takes(p->children[i]);
    return n >= p->scale.wanted;
}

/* ---- the end ---- */

void pool_stop(struct pool *p)
{
    p->stopping = true;
    for (size_t i = 0; i < p->n; i++)
        child_stop(p->children[i]);
}

bool pool_is_gone(const struct pool *p)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->children[i]->state != CHILD_GONE)
            return false;
    }
    return true;
}

void pool_hurry(struct pool *p)
{
    for (size_t i = 0; i < p->n; i++)
        child_cancel_running(p->children[i]);
}

void pool_kill(struct pool *p, const char *why)
{
    for (size_t i = 0; i < p->n; i++)
        child_kill(p->children[i], why);
}

/* See load.h. */
#include "load.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { LOOK_MS = 200 };

struct load {
    struct load_options o;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t ready, ended;
    bool started;
    atomic_bool over;
    uint64_t start_ns, warm_ns, end_ns;
    double interval_ns;              /* of a lane, in the open loop */
    atomic_uint_fast64_t handed_out; /* messages, of o.messages */
    atomic_uint_fast64_t last_ns;    /* when something was counted last */
    struct load_lane *lanes;
};

/* ---------------------------------------------------------------- lanes */

static void *lane_main(void *arg)
{
    struct load_lane *l = arg;
    struct load *load = l->load;
    prctl(PR_SET_TIMERSLACK, 1); /* else a sleep may be 50 us longer than was asked for */
    l->code = load->o.fn(l, &l->err);
    pthread_mutex_lock(&load->lock);
    if (l->code != 0)
        atomic_store(&load->over, true);
    if (!l->ready)
        load->ready++;
    load->ended++;
    pthread_cond_broadcast(&load->changed);
    pthread_mutex_unlock(&load->lock);
    return NULL;
}

void load_ready(struct load_lane *l)
{
    struct load *load = l->load;
    pthread_mutex_lock(&load->lock);
    l->ready = true;
    load->ready++;
    pthread_cond_broadcast(&load->changed);
    while (!load->started)
        pthread_cond_wait(&load->changed, &load->lock);
    pthread_mutex_unlock(&load->lock);
}

/* Asking for a time that has passed would cost a timer. */
static void sleep_until(uint64_t ns)
{
    if (clock_mono_ns() >= ns)
        return;
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

bool load_goes_on(const struct load_lane *l)
{
    return !atomic_load_explicit(&l->load->over, memory_order_relaxed) && clock_mono_ns() < l->load->end_ns;
}

/* How many messages the next batch has; 0: all are under way. */
static uint32_t take(struct load *load)
{
    uint32_t batch = load->o.batch;
    if (load->o.messages == 0)
        return batch;
    uint64_t before = atomic_fetch_add(&load->handed_out, batch);
    if (before >= load->o.messages)
        return 0;
    uint64_t left = load->o.messages - before;
    return left < batch ? (uint32_t)left : batch;
}

bool load_next(struct load_lane *l, struct load_ticket *t)
{
    struct load *load = l->load;
    bool open_loop = load->o.rate > 0;
    if (open_loop) { /* lanes take turns */
        double at = ((double)l->batches + (double)l->index / load->o.lanes) * load->interval_ns;
        t->intended_ns = load->start_ns + (uint64_t)at;
        if (t->intended_ns >= load->end_ns)
            return false;
        sleep_until(t->intended_ns);
    }
    while (sem_wait(&l->window) != 0)
        ;
    if (open_loop ? atomic_load(&load->over) : !load_goes_on(l))
        return false;
    if (!open_loop)
        t->intended_ns = clock_mono_ns();
    t->messages = take(load);
    l->batches++;
    return t->messages > 0;
}

bool load_warm(const struct load_lane *l, const struct load_ticket *t)
{
    return t->intended_ns >= l->load->warm_ns;
}

static void note_gap(struct load *load, uint64_t from_ns, uint64_t to_ns)
{
    struct gaps *g = load->o.gaps;
    if (from_ns < load->warm_ns || to_ns <= from_ns)
        return;
    pthread_mutex_lock(&load->lock);
    if (to_ns - from_ns > g->longest_ns)
        g->longest_ns = to_ns - from_ns;
    if (to_ns - from_ns >= g->least_ns && g->count < GAPS_MAX)
        g->list[g->count++] = (struct gap){from_ns, to_ns};
    pthread_mutex_unlock(&load->lock);
}

void load_count(struct load_lane *l, uint64_t since_ns, uint64_t messages)
{
    uint64_t now = clock_mono_ns();
    if (since_ns >= l->load->warm_ns)
        hist_record(l->latency, now - since_ns, messages);
    atomic_fetch_add_explicit(&l->counted, messages, memory_order_relaxed);
    uint64_t before = atomic_exchange_explicit(&l->load->last_ns, now, memory_order_relaxed);
    if (l->load->o.gaps != NULL)
        note_gap(l->load, before, now);
}

void load_done(struct load_lane *l, const struct load_ticket *t)
{
    load_count(l, t->intended_ns, t->messages);
    sem_post(&l->window);
}

/* ---------------------------------------------------------------- the whole */

struct sample {
    uint64_t ns, messages;
    struct usage server;
    double self;
};

static void take_sample(const struct load *load, struct sample *s)
{
    struct rusage own;
    usage_of(load->o.server == NULL ? 0 : load->o.server->pid, &s->server);
    getrusage(RUSAGE_SELF, &own);
    s->self = (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) + (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
    s->messages = 0;
    for (uint32_t i = 0; i < load->o.lanes; i++)
        s->messages += atomic_load(&load->lanes[i].counted);
    s->ns = clock_mono_ns();
}

static void show(const struct load *load, const struct sample *first)
{
    if (!load->o.progress || !isatty(STDERR_FILENO))
        return;
    uint64_t messages = 0;
    for (uint32_t i = 0; i < load->o.lanes; i++)
        messages += atomic_load(&load->lanes[i].counted);
    double seconds = (double)(clock_mono_ns() - first->ns) / 1e9;
    fprintf(stderr, "\r%8.1f s  %12llu messages  %10.0f/s ", seconds, (unsigned long long)messages,
            seconds > 0 ? (double)(messages - first->messages) / seconds : 0);
}

/* Until then, or until all lanes have ended. */
static bool watch(struct load *load, uint64_t until_ns, const struct sample *first)
{
    pthread_mutex_lock(&load->lock);
    while (load->ended < load->o.lanes && clock_mono_ns() < until_ns) {
        uint64_t ns = clock_mono_ns() + LOOK_MS * UINT64_C(1000000);
        ns = ns < until_ns ? ns : until_ns;
        struct timespec t = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
        pthread_cond_timedwait(&load->changed, &load->lock, &t);
        show(load, first);
    }
    bool ended = load->ended == load->o.lanes;
    pthread_mutex_unlock(&load->lock);
    return ended;
}

static void await_lanes(struct load *load)
{
    pthread_mutex_lock(&load->lock);
    while (load->ready < load->o.lanes)
        pthread_cond_wait(&load->changed, &load->lock);
    pthread_mutex_unlock(&load->lock);
}

static void begin(struct load *load)
{
    pthread_mutex_lock(&load->lock);
    load->start_ns = load->last_ns = clock_mono_ns();
    bool counted = load->o.messages > 0;
    load->warm_ns = load->start_ns + (counted ? 0 : (uint64_t)(load->o.warmup * 1e9));
    load->end_ns = counted && load->o.seconds <= 0 ? UINT64_MAX : load->warm_ns + (uint64_t)(load->o.seconds * 1e9);
    load->started = true;
    pthread_cond_broadcast(&load->changed);
    pthread_mutex_unlock(&load->lock);
}

static void measure(struct load *load, struct outcome *out)
{
    struct sample a, b;
    await_lanes(load);
    take_sample(load, &a); /* before anybody sends */
    begin(load);
    if (load->warm_ns > load->start_ns && !watch(load, load->warm_ns, &a))
        take_sample(load, &a); /* else all was done in the warm-up, and all is counted */
    bool ended = watch(load, load->end_ns, &a);
    take_sample(load, &b);
    if (ended && load->last_ns > a.ns)
        b.ns = load->last_ns; /* the end is the last message, not when its lane was gone */
    out->begin_ns = load->warm_ns;
    out->end_ns = load->last_ns;
    out->messages = b.messages - a.messages;
    out->seconds = (double)(b.ns - a.ns) / 1e9;
    out->server = b.server;
    usage_since(&out->server, &a.server);
    out->self = (struct usage){.cpu_seconds = b.self - a.self};
    if (load->o.progress && isatty(STDERR_FILENO))
        fprintf(stderr, "\r%60s\r", "");
}

static void open_load(struct load *load, const struct load_options *o)
{
    pthread_condattr_t attr;
    *load = (struct load){.o = *o, .lock = PTHREAD_MUTEX_INITIALIZER};
    load->interval_ns = o->rate > 0 ? 1e9 * (double)o->batch * o->lanes / o->rate : 0;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&load->changed, &attr);
    pthread_condattr_destroy(&attr);
    load->lanes = calloc(o->lanes, sizeof *load->lanes);
    if (load->lanes == NULL)
        abort();
    for (uint32_t i = 0; i < o->lanes; i++) {
        struct load_lane *l = &load->lanes[i];
        l->load = load;
        l->user = o->user;
        l->index = i;
        l->latency = hist_new();
        sem_init(&l->window, 0, o->window);
    }
}

/* Also the latencies; returns the first error. */
static int close_load(struct load *load, struct outcome *out, struct err *e)
{
    int code = 0;
    for (uint32_t i = 0; i < load->o.lanes; i++) {
        struct load_lane *l = &load->lanes[i];
        if (out->latency != NULL)
            hist_add(out->latency, l->latency);
        if (l->code != 0 && code == 0)
            code = err_set(e, l->code, "%s", l->err.text);
        free(l->latency);
        sem_destroy(&l->window);
    }
    free(load->lanes);
    pthread_cond_destroy(&load->changed);
    return code;
}

int load_run(const struct load_options *o, struct outcome *out, struct err *e)
{
    struct load load;
    open_load(&load, o);
    pthread_t *threads = calloc(o->lanes, sizeof *threads);
    if (threads == NULL)
        abort();
    for (uint32_t i = 0; i < o->lanes; i++)
        if (pthread_create(&threads[i], NULL, lane_main, &load.lanes[i]) != 0)
            abort();
    measure(&load, out);
    for (uint32_t i = 0; i < o->lanes; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    return close_load(&load, out, e);
}

double outcome_rate(const struct outcome *o)
{
    return o->seconds > 0 ? (double)o->messages / o->seconds : 0;
}

#include "workerd/gauge.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include <sluice/sluice.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/heard.h"
#include "workerd/source.h"

/* Of one handler. */
struct dial {
    struct lagged answer;
    struct dial *same; /* the next whose group has the same hash */
    bool asked;        /* under lock, as is what follows */
    uint64_t asked_ms;
    struct heard heard;
};

struct gauge {
    struct client *client;
    const struct config *config;
    struct inbox *inbox;
    struct dial *dials; /* one per handler */
    struct map groups;  /* hash of topic and group -> dial */
    pthread_t thread;
    /* the thread's */
    struct session *session; /* held; over it publications are heard. NULL: none was there yet */
    struct sluice_lag_subscription *subscription;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* any of the below, or a dial */
    bool hears, stopping;
    bool news; /* since questions were looked at last */
};

/* ---- what is published ---- */

static uint64_t group_hash(const char *topic, const char *group)
{
    return hash_bytes(topic, strlen(topic) + 1, 0) ^ hash_bytes(group, strlen(group), 1);
}

static struct lag lag_of(const struct sluice_lag *row)
{
    return (struct lag){.backlog = row->scale_value,
                        .in_flight = row->in_flight,
                        .waited_ms = (uint64_t)(row->oldest_age_seconds * 1000)};
}

/* Under lock. */
static void look_again(struct gauge *g)
{
    g->news = true;
    pthread_cond_signal(&g->changed);
}

static void row_came(struct gauge *g, const struct sluice_lag *row)
{
    for (struct dial *d = map_get(&g->groups, group_hash(row->topic, row->group)); d != NULL; d = d->same) {
        const struct handler_config *h = &g->config->handlers[d - g->dials];
        const struct lag lag = lag_of(row);
        if (strcmp(h->topic, row->topic) != 0 || strcmp(h->group, row->group) != 0)
            continue;
        heard_published(&d->heard, &lag, clock_mono_ms());
        if (d->asked)
            look_again(g);
    }
}

/* In a thread of the library. */
static void heard(void *user, const struct sluice_lag *rows, size_t count)
{
    struct gauge *g = user;
    pthread_mutex_lock(&g->lock);
    bool hears = rows != NULL, news = hears != g->hears;
    g->hears = hears;
    for (size_t i = 0; i < count; i++)
        row_came(g, &rows[i]);
    for (uint32_t i = 0; !hears && i < g->config->handlers_n; i++)
        heard_lost(&g->dials[i].heard);
    if (!hears)
        look_again(g); /* who waits is to be asked for */
    pthread_mutex_unlock(&g->lock);
    if (news)
        log_info("lag from=%s", hears ? "publications" : "questions");
}

/* Not under lock, for which `heard` may wait. */
static void leave_session(struct gauge *g)
{
    sluice_lag_unsubscribe(g->subscription);
    g->subscription = NULL;
    if (g->session != NULL)
        client_give_back(g->client, g->session);
    g->session = NULL;
}

/* The session that is open now, over which we hear from now on; NULL: none is. */
static struct sluice *follow_session(struct gauge *g)
{
    struct session *s = client_hold(g->client);
    if (s == NULL)
        return NULL;
    if (s == g->session) {
        client_give_back(g->client, s);
        return client_sluice(s);
    }
    leave_session(g);
    g->session = s;
    sluice_lag_subscribe(client_sluice(s), heard, g, &g->subscription, NULL); /* else its end is about to be noticed */
    return client_sluice(s);
}

/* ---- questions ---- */

/* What the broker says of one group. Why it says nothing is told by the receiver of that handler, who meets the same. */
static bool measure(struct gauge *g, const struct handler_config *h, struct lag *out)
{
    struct sluice *s = follow_session(g);
    struct sluice_lag_list *list = NULL;
    bool known = s != NULL && sluice_group_lag(s, h->topic, h->group, &list, NULL) == 0 && list->count > 0;
    if (known)
        *out = lag_of(&list->rows[0]);
    sluice_lag_free(list);
    return known;
}

/* Under lock, which is released while the broker is asked. False: not yet. */
static bool answer(struct gauge *g, uint32_t handler, uint64_t now_ms)
{
    struct dial *d = &g->dials[handler];
    enum heard_way way = heard_judge(&d->heard, d->asked_ms, now_ms);
    if (way == HEARD_WAIT && !g->stopping)
        return false;
    struct lagged *a = &d->answer;
    d->asked = false;
    a->published = way != HEARD_ASK;
    a->known = true;
    a->lag = d->heard.lag;
    heard_tell(&d->heard);
    if (!a->published) {
        pthread_mutex_unlock(&g->lock);
        a->known = measure(g, &g->config->handlers[handler], &a->lag);
        pthread_mutex_lock(&g->lock);
        if (a->known)
            heard_asked(&d->heard, &a->lag, clock_mono_ms());
    }
    inbox_push(g->inbox, &a->event.node, 0);
    return true;
}

/* Under lock: answers what can be answered. Returns when to look again. */
static uint64_t answer_all(struct gauge *g)
{
    uint64_t due_ms = UINT64_MAX, now_ms = clock_mono_ms();
    for (uint32_t i = 0; i < g->config->handlers_n; i++) {
        const struct dial *d = &g->dials[i];
        if (d->asked && !answer(g, i, now_ms) && heard_due_ms(d->asked_ms) < due_ms)
            due_ms = heard_due_ms(d->asked_ms);
        now_ms = clock_mono_ms();
    }
    return due_ms;
}

static bool any_asked(const struct gauge *g)
{
    for (uint32_t i = 0; i < g->config->handlers_n; i++) {
        if (g->dials[i].asked)
            return true;
    }
    return false;
}

static void wait_until(struct gauge *g, uint64_t due_ms)
{
    if (due_ms == UINT64_MAX) {
        pthread_cond_wait(&g->changed, &g->lock);
        return;
    }
    struct timespec t = {.tv_sec = (time_t)(due_ms / 1000), .tv_nsec = (long)(due_ms % 1000 * 1000000)};
    pthread_cond_timedwait(&g->changed, &g->lock, &t);
}

static void *work(void *arg)
{
    struct gauge *g = arg;
    pthread_mutex_lock(&g->lock);
    while (!g->stopping || any_asked(g)) {
        g->news = false;
        uint64_t due_ms = answer_all(g);
        if (!g->news && !g->stopping)
            wait_until(g, due_ms);
    }
    pthread_mutex_unlock(&g->lock);
    leave_session(g);
    return NULL;
}

void gauge_ask(struct gauge *g, uint32_t handler)
{
    pthread_mutex_lock(&g->lock);
    g->dials[handler].asked = true;
    g->dials[handler].asked_ms = clock_mono_ms();
    look_again(g);
    pthread_mutex_unlock(&g->lock);
}

/* ---- a life ---- */

static void dispose(struct gauge *g)
{
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    map_free(&g->groups);
    mem_free(g->dials);
    mem_free(g);
}

struct gauge *gauge_new(struct client *client, const struct config *config, struct inbox *inbox,
                        struct err *e)
{
    struct gauge *g = mem_zalloc(sizeof *g);
    *g = (struct gauge){.client = client, .config = config, .inbox = inbox};
    g->dials = mem_array(config->handlers_n, sizeof *g->dials);
    for (uint32_t i = 0; i < config->handlers_n; i++) {
        const struct handler_config *h = &config->handlers[i];
        struct dial *d = &g->dials[i];
        *d = (struct dial){.answer = {.event.kind = EVENT_LAGGED, .handler = i}};
        d->same = map_put(&g->groups, group_hash(h->topic, h->group), d);
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int code = pthread_create(&g->thread, NULL, work, g);
    if (code == 0)
        return g;
    err_set(e, E_NO_MEMORY, "cannot start a thread: %s", strerror(code));
    dispose(g);
    return NULL;
}

void gauge_free(struct gauge *g)
{
    if (g == NULL)
        return;
    pthread_mutex_lock(&g->lock);
    g->stopping = true;
    look_again(g);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    dispose(g);
}

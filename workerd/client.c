#include "workerd/client.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <sluice/sluice.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/gauge.h"
#include "workerd/unit.h"

enum {
    RECEIVE_WAIT_MS = 1000, /* so long may a receive delay the end of the daemon */
    REQUEST_MS_MAX = 10000,
    CONNECT_MS_MAX = 3000,
    CLOSE_MS_MAX = 2000,
    BACKOFF_MS_MIN = 100,
    BACKOFF_MS_MAX = 10000,
    LOOK_MS = 10000, /* a group may be made anew with another order: so often that is looked at */
};

/* One session at the broker. Closed when it is no longer the current one, no receive is under way and no
   lot is left of it. */
struct session {
    struct sluice *sluice;
    unsigned holders;     /* under lock */
    struct session *next; /* among those to close */
};

/* A batch as it was received. Its bytes are lent by its tasks. */
struct lot {
    struct session *session;
    struct sluice_batch *batch;
    size_t left; /* tasks not freed */
};

struct owned_task {
    struct task task;
    struct lot *lot;
    size_t index;
    struct unit unit; /* while an ack with effects is under way */
};

struct receiver {
    struct client *client;
    uint32_t handler;
    pthread_t thread;
    uint32_t places; /* under lock: what was asked for; 0: nothing */
    struct fetched answer;
    /* its own */
    bool ordered;     /* the group keeps the order of keys, and may hand out several of one at once */
    uint64_t look_ms; /* when that is looked at again: it may be another group of that name */
};

struct client {
    struct source source;
    const struct config *config;
    struct inbox *inbox;
    struct receiver *receivers; /* one per handler */
    uint32_t receivers_n;       /* threads that were started */
    struct event connected;
    struct gauge *gauge; /* of the lag */
    struct units *units;

    pthread_mutex_t lock;
    pthread_cond_t changed;  /* any of the below, and `places` of a receiver */
    struct session *current; /* NULL: none is open */
    struct session *closing; /* to be closed by a receiver */
    bool opening, announced, stopping;
};

/* ---- waiting, under lock ---- */

static void wait_ms(struct client *c, uint32_t ms)
{
    uint64_t until = clock_mono_ns() + ms * UINT64_C(1000000);
    struct timespec t = {.tv_sec = (time_t)(until / 1000000000), .tv_nsec = (long)(until % 1000000000)};
    while (!c->stopping && pthread_cond_timedwait(&c->changed, &c->lock, &t) == 0)
        continue;
}

static uint32_t next_backoff(uint32_t ms)
{
    return ms == 0 ? BACKOFF_MS_MIN : 2 * ms < BACKOFF_MS_MAX ? 2 * ms : BACKOFF_MS_MAX;
}

/* ---- sessions ---- */

static void library_log(void *user, int level, const char *text)
{
    (void)user;
    log_line(level >= LOG_DEBUG && level <= LOG_ERROR ? (enum log_level)level : LOG_INFO, "%s", text);
}

/* Under lock. */
static void session_drop(struct client *c, struct session *s)
{
    assert(s->holders > 0);
    if (--s->holders > 0)
        return;
    s->next = c->closing;
    c->closing = s;
}

/* Under lock: no more receives over this one. */
static void session_retire(struct client *c, struct session *s)
{
    if (c->current != s)
        return;
    c->current = NULL;
    session_drop(c, s);
}

/* Under lock, which is released meanwhile: closes those that nobody holds. */
static void close_sessions(struct client *c)
{
    for (struct session *s; (s = c->closing) != NULL;) {
        c->closing = s->next;
        pthread_mutex_unlock(&c->lock);
        sluice_close(s->sluice, CLOSE_MS_MAX, NULL, NULL);
        mem_free(s);
        pthread_mutex_lock(&c->lock);
    }
}

static int open_session(const struct client *c, struct session **out, struct sluice_error *err)
{
    struct sluice *sluice;
    int code = sluice_open(&sluice,
                           &(struct sluice_options){.size = sizeof(struct sluice_options),
                                                    .broker = c->config->broker,
                                                    .name = c->config->name,
                                                    .request_timeout_ms = REQUEST_MS_MAX,
                                                    .connect_timeout_ms = CONNECT_MS_MAX,
                                                    .memory_max = c->config->memory_bytes_max,
                                                    .log = library_log},
                           err);
    if (code != 0)
        return code;
    *out = mem_zalloc(sizeof **out);
    **out = (struct session){.sluice = sluice, .holders = 1};
    return 0;
}

/* Under lock, which is released meanwhile. Tries until a session is open or we stop; the other receivers
   wait for it. */
static void connect_session(struct client *c)
{
    c->opening = true;
    for (uint32_t backoff = 0; c->current == NULL && !c->stopping;) {
        struct session *s = NULL;
        struct sluice_error err;
        pthread_mutex_unlock(&c->lock);
        int code = open_session(c, &s, &err);
        pthread_mutex_lock(&c->lock);
        c->current = s;
        atomic_store(&c->source.away, code != 0);
        if (code == 0)
            break;
        backoff = next_backoff(backoff);
        log_warn("cannot reach the broker error=%s retry_ms=%u", LOG_STR(err.text), backoff);
        wait_ms(c, backoff);
    }
    c->opening = false;
    if (c->current != NULL) {
        log_info("connected");
        if (!c->announced)
            inbox_push(c->inbox, &c->connected.node, 0);
        c->announced = true;
    }
    pthread_cond_broadcast(&c->changed);
}

/* Under lock. The current session, held for the caller; NULL when we stop. */
static struct session *session_take(struct client *c)
{
    while (c->current == NULL && !c->stopping) {
        if (c->opening)
            pthread_cond_wait(&c->changed, &c->lock);
        else
            connect_session(c);
    }
    if (c->stopping)
        return NULL;
    c->current->holders++;
    return c->current;
}

struct session *client_hold(struct client *c)
{
    pthread_mutex_lock(&c->lock);
    struct session *s = c->current;
    if (s != NULL)
        s->holders++;
    pthread_mutex_unlock(&c->lock);
    return s;
}

void client_give_back(struct client *c, struct session *s)
{
    pthread_mutex_lock(&c->lock);
    session_drop(c, s);
    pthread_mutex_unlock(&c->lock);
}

struct sluice *client_sluice(const struct session *s)
{
    return s->sluice;
}

struct session *client_wait(struct client *c)
{
    pthread_mutex_lock(&c->lock);
    struct session *s = c->current;
    if (s != NULL)
        s->holders++; /* also while we stop */
    else
        s = session_take(c);
    pthread_mutex_unlock(&c->lock);
    return s;
}

void client_let(struct client *c, struct session *s, int code)
{
    pthread_mutex_lock(&c->lock);
    if (sluice_code_fatal(code) || code == SLUICE_CLOSED)
        session_retire(c, s);
    session_drop(c, s);
    close_sessions(c);
    pthread_mutex_unlock(&c->lock);
}

/* ---- lots ---- */

/* Under lock: one task less lends from it. */
static void lot_leave(struct client *c, struct lot *lot)
{
    if (--lot->left > 0)
        return;
    struct session *s = lot->session;
    sluice_batch_free(lot->batch);
    mem_free(lot);
    session_drop(c, s);
}

static struct view view_of_bytes(struct sluice_bytes b)
{
    return view_of(b.data, b.size);
}

/* Turns a batch that is not empty into tasks. */
static void make_tasks(struct receiver *r, struct session *s, struct sluice_batch *batch)
{
    struct lot *lot = mem_zalloc(sizeof *lot);
    *lot = (struct lot){.session = s, .batch = batch, .left = sluice_batch_count(batch)};
    uint64_t now = clock_mono_ms();
    for (size_t i = 0; i < sluice_batch_count(batch); i++) {
        const struct sluice_delivery *d = sluice_batch_message(batch, i);
        struct owned_task *t = mem_zalloc(sizeof *t);
        t->lot = lot;
        t->index = i;
        t->task = (struct task){
            .handler = r->handler,
            .partition = d->partition,
            .attempt = d->attempt,
            .offset = d->offset,
            .timestamp_ms = d->timestamp_ms,
            .append_time_ms = d->append_time_ms,
            .key = view_of_bytes(d->key),
            .value = view_of_bytes(d->value),
            .headers = view_of_bytes(d->headers_raw),
            .leased_ms = now,
            .state_version = d->state_version,
            .state = view_of_bytes(d->state),
            .ordered = r->ordered,
        };
        list_push_back(&r->answer.tasks, &t->task.place);
    }
}

/* ---- a receiving thread ---- */

/* What cannot be known is taken as ordered: that costs no more than that messages of a key go one after the
   other. */
static void look_at_group(struct receiver *r, struct session *s)
{
    const struct handler_config *h = &r->client->config->handlers[r->handler];
    uint64_t now = clock_mono_ms();
    struct sluice_group_list *l;
    if (now < r->look_ms)
        return;
    r->look_ms = now + LOOK_MS;
    r->ordered = true;
    if (sluice_groups(s->sluice, h->topic, h->group, &l, NULL) != 0)
        return;
    if (l->count == 1) {
        r->ordered = l->groups[0].options.order == SLUICE_ORDER_KEY; /* `run_max` may be altered at any time */
        r->answer.in_flight_max = l->groups[0].options.in_flight_max;
    }
    sluice_groups_free(l);
}

/* Under lock, which is released meanwhile. One receive; returns its code. */
static int receive_once(struct receiver *r, uint32_t places, struct sluice_error *err)
{
    struct client *c = r->client;
    const struct handler_config *h = &c->config->handlers[r->handler];
    struct session *s = session_take(c);
    if (s == NULL)
        return 0;
    struct sluice_batch *batch = NULL;
    pthread_mutex_unlock(&c->lock);
    look_at_group(r, s);
    int code = sluice_receive(s->sluice, h->topic, h->group,
                              &(struct sluice_receive_options){.size = sizeof(struct sluice_receive_options),
                                                               .max_messages = places,
                                                               .wait_ms = RECEIVE_WAIT_MS,
                                                               .lease_ms = h->lease_ms},
                              &batch, err);
    pthread_mutex_lock(&c->lock);
    if (code == 0 && sluice_batch_count(batch) > 0) {
        make_tasks(r, s, batch); /* which hold the session now */
        return 0;
    }
    if (code == 0)
        sluice_batch_free(batch);
    else if (sluice_code_fatal(code) || code == SLUICE_CLOSED)
        session_retire(c, s);
    session_drop(c, s);
    return code;
}

static void *receive(void *arg)
{
    struct receiver *r = arg;
    struct client *c = r->client;
    const struct handler_config *h = &c->config->handlers[r->handler];
    uint32_t backoff = 0;
    pthread_mutex_lock(&c->lock);
    while (!c->stopping || r->places > 0) {
        if (r->places == 0) {
            pthread_cond_wait(&c->changed, &c->lock);
            continue;
        }
        struct sluice_error err = {0};
        int code = c->stopping ? 0 : receive_once(r, r->places, &err);
        if (!c->stopping)
            atomic_store(&c->source.away, code == E_UNREACHABLE || code == E_TIMEOUT || code == E_CLOSED);
        if (code == 0) {
            backoff = 0;
        } else {
            backoff = next_backoff(backoff);
            uint32_t wait = err.retry_after_ms > backoff ? err.retry_after_ms : backoff;
            log_warn("cannot receive handler=%s topic=%s group=%s error=%s retry_ms=%u", h->name, h->topic,
                     h->group, LOG_STR(err.text), wait);
            wait_ms(c, wait);
        }
        r->places = 0;
        inbox_push(c->inbox, &r->answer.event.node, 0);
        close_sessions(c);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- as a source ---- */

static struct client *client_of(struct source *s)
{
    return container_of(s, struct client, source);
}

static void ask(struct source *source, uint32_t handler, uint32_t places)
{
    struct client *c = client_of(source);
    struct receiver *r = &c->receivers[handler];
    pthread_mutex_lock(&c->lock);
    assert(r->places == 0 && places > 0);
    r->places = places;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

/* Outcomes that were sent together; freed with the last answer. */
struct letter {
    struct client *client;
    atomic_size_t open;
    struct outcome *outcomes[];
};

/* On a thread of the library. */
static void answered(void *user, size_t index, const struct sluice_error *error)
{
    struct letter *l = user;
    struct outcome *o = l->outcomes[index];
    o->code = error != NULL ? error->code : 0;
    inbox_push(l->client->inbox, &o->event.node, 0);
    if (atomic_fetch_sub(&l->open, 1) == 1)
        mem_free(l);
}

static struct owned_task *owner_of(const struct outcome *o)
{
    return container_of(o->task, struct owned_task, task);
}

_Static_assert((uint32_t)OUTCOME_BACKOFF == (uint32_t)SLUICE_BACKOFF, "passed on as it is");

static struct sluice_settle item_of(const struct outcome *o)
{
    static const int verbs[] = {
        [OUTCOME_ACK] = SLUICE_ACK,         [OUTCOME_NACK] = SLUICE_NACK,     [OUTCOME_PARK] = SLUICE_PARK,
        [OUTCOME_RELEASE] = SLUICE_RELEASE, [OUTCOME_EXTEND] = SLUICE_EXTEND,
    };
    const struct owned_task *t = owner_of(o);
    return (struct sluice_settle){
        .batch = t->lot->batch,
        .index = t->index,
        .verb = verbs[o->verb],
        .delay_ms = o->verb == OUTCOME_NACK ? t->task.delay_ms : 0,
        .reason = t->task.reason,
        .error = t->task.error,
    };
}

/* Outcomes of one session. */
static void send_letter(struct client *c, struct session *s, struct outcome *const *outcomes, size_t count)
{
    struct sluice_settle *items = mem_array(count, sizeof *items);
    struct letter *l = mem_zalloc(sizeof *l + count * sizeof l->outcomes[0]);
    l->client = c;
    atomic_init(&l->open, count);
    for (size_t i = 0; i < count; i++) {
        l->outcomes[i] = outcomes[i];
        items[i] = item_of(outcomes[i]);
    }
    struct sluice_error err;
    int code = sluice_settle_async(s->sluice, items, count, false, answered, l, &err);
    mem_free(items);
    if (code == 0)
        return;
    log_warn("cannot settle outcomes=%zu error=%s", count, LOG_STR(err.text));
    for (size_t i = 0; i < count; i++)
        answered(l, i, &err);
}

static bool is_unit(const struct outcome *o)
{
    return o->verb == OUTCOME_ACK && o->task->effects != NULL;
}

static void give_unit(struct client *c, struct outcome *o)
{
    struct owned_task *t = owner_of(o);
    const struct handler_config *h = &c->config->handlers[t->task.handler];
    t->unit = (struct unit){.outcome = o,
                            .sluice = t->lot->session->sluice,
                            .batch = t->lot->batch,
                            .index = t->index,
                            .topic = h->topic,
                            .group = h->group};
    units_give(c->units, &t->unit);
}

static void settle(struct source *source, struct outcome *const *outcomes, size_t count)
{
    struct client *c = client_of(source);
    for (size_t from = 0, to; from < count; from = to) {
        struct session *s = owner_of(outcomes[from])->lot->session;
        to = from + 1;
        if (is_unit(outcomes[from])) {
            give_unit(c, outcomes[from]);
            continue;
        }
        while (to < count && owner_of(outcomes[to])->lot->session == s && !is_unit(outcomes[to]))
            to++;
        send_letter(c, s, outcomes + from, to - from);
    }
}

static void task_free(struct source *source, struct task *task)
{
    struct client *c = client_of(source);
    struct owned_task *t = container_of(task, struct owned_task, task);
    pthread_mutex_lock(&c->lock);
    lot_leave(c, t->lot);
    pthread_mutex_unlock(&c->lock);
    mem_free(t);
}

static void lag(struct source *source, uint32_t handler)
{
    gauge_ask(client_of(source)->gauge, handler);
}

static void stop(struct source *source)
{
    struct client *c = client_of(source);
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

/* ---- a life ---- */

static int start_receivers(struct client *c, struct err *e)
{
    c->receivers = mem_array(c->config->handlers_n, sizeof *c->receivers);
    for (; c->receivers_n < c->config->handlers_n; c->receivers_n++) {
        struct receiver *r = &c->receivers[c->receivers_n];
        *r = (struct receiver){.client = c, .handler = c->receivers_n};
        r->answer = (struct fetched){.event.kind = EVENT_FETCHED, .handler = r->handler};
        list_init(&r->answer.tasks);
        int code = pthread_create(&r->thread, NULL, receive, r);
        if (code != 0)
            return err_set(e, E_NO_MEMORY, "cannot start a thread: %s", strerror(code));
    }
    return 0;
}

struct client *client_new(const struct config *config, struct inbox *inbox, struct err *e)
{
    struct client *c = mem_zalloc(sizeof *c);
    c->source =
        (struct source){.ask = ask, .settle = settle, .task_free = task_free, .stop = stop, .lag = lag};
    c->config = config;
    c->inbox = inbox;
    c->connected.kind = EVENT_CONNECTED;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    c->gauge = gauge_new(c, config, inbox, e);
    c->units = units_new(inbox, e);
    if (c->gauge != NULL && c->units != NULL && start_receivers(c, e) == 0)
        return c;
    client_free(c);
    return NULL;
}

struct source *client_source(struct client *c)
{
    return &c->source;
}

void client_free(struct client *c)
{
    stop(&c->source);
    gauge_free(c->gauge);
    for (size_t i = 0; i < c->receivers_n; i++)
        pthread_join(c->receivers[i].thread, NULL);
    units_free(c->units);
    pthread_mutex_lock(&c->lock);
    if (c->current != NULL)
        session_retire(c, c->current);
    close_sessions(c);
    pthread_mutex_unlock(&c->lock);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    mem_free(c->receivers);
    mem_free(c);
}

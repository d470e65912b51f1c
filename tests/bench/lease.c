/* See lease.h.
 *
 * Of the batches that a lane may have out, half are leased ahead (prefetch) and half are being settled, so there are never more than that.
 * Where handlers take their time, or how long each message was under way is what counts, nothing is leased ahead: others may be free for it.
 */
#include "lease.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "client.h"
#include "goal.h"
#include "payload.h"

enum { WAIT_MS = 100 };

struct all {
    struct lease *lease;
    pthread_mutex_t verify;
    struct goal goal;
};

/* A batch whose settling is not answered yet. Callbacks come in the library's thread. */
struct flight {
    struct lane *lane;
    uint64_t since_ns;
    uint32_t count, left;
    struct flight *next; /* free ones */
};

struct lane {
    struct load_lane *load;
    struct all *all;
    struct sluice *client;
    struct sluice_settle *items; /* of one batch */
    struct flight *flights;      /* as many as the window */
    pthread_mutex_t lock;        /* of what follows */
    pthread_cond_t landed;
    struct flight *idle;
    uint32_t out;
    struct sluice_error err; /* of the first that failed */
    atomic_bool failed;      /* changed under the lock */
};

/* Batches that a lane leases ahead, of those that it may have out. */
static uint32_t ahead(const struct lease *c)
{
    return c->end_to_end || c->handler_us > 0 ? 0 : c->work->window / 2;
}

static int look_at(struct lane *l, const struct sluice_batch *b, struct err *e)
{
    struct lease *c = l->all->lease;
    bool good = true;
    if (c->verify != NULL)
        pthread_mutex_lock(&l->all->verify);
    for (size_t i = 0; i < sluice_batch_count(b); i++) {
        const struct sluice_delivery *d = sluice_batch_message(b, i);
        struct payload_head head = {0};
        bool whole = c->verify != NULL ? verify_seen(c->verify, d->value.data, d->value.size, &head)
                                       : payload_read(d->value.data, d->value.size, &head);
        good &= whole || c->verify != NULL; /* else the verification says it */
        if (c->end_to_end && head.intended_ns != 0)
            load_count(l->load, head.intended_ns, 1);
    }
    if (c->verify != NULL)
        pthread_mutex_unlock(&l->all->verify);
    return good ? 0 : err_set(e, EBADMSG, "a message is damaged");
}

static void work_on(const struct lease *c, size_t count)
{
    struct timespec t = {.tv_sec = c->handler_us / 1000000, .tv_nsec = (long)(c->handler_us % 1000000) * 1000};
    for (size_t i = 0; c->handler_us > 0 && i < count; i++)
        nanosleep(&t, NULL);
}

/* ---------------------------------------------------------------- settling */

static struct flight *flight_take(struct lane *l)
{
    pthread_mutex_lock(&l->lock);
    while (l->idle == NULL)
        pthread_cond_wait(&l->landed, &l->lock);
    struct flight *f = l->idle;
    l->idle = f->next;
    l->out++;
    pthread_mutex_unlock(&l->lock);
    return f;
}

static void flight_back(struct flight *f)
{
    struct lane *l = f->lane;
    pthread_mutex_lock(&l->lock);
    f->next = l->idle;
    l->idle = f;
    l->out--;
    pthread_cond_broadcast(&l->landed);
    pthread_mutex_unlock(&l->lock);
}

static void on_settled(void *user, size_t index, const struct sluice_error *error)
{
    struct flight *f = user;
    struct lane *l = f->lane;
    (void)index;
    if (error != NULL) {
        pthread_mutex_lock(&l->lock);
        if (!l->failed)
            l->err = *error;
        l->failed = true;
        pthread_mutex_unlock(&l->lock);
    }
    if (--f->left > 0)
        return;
    goal_add(&l->all->goal, f->count);
    if (!l->all->lease->end_to_end)
        load_count(l->load, f->since_ns, f->count);
    flight_back(f);
}

/* What was settled, all of it: waits for the answers, and returns the first refusal. */
static int land(struct lane *l, struct err *e)
{
    pthread_mutex_lock(&l->lock);
    while (l->out > 0)
        pthread_cond_wait(&l->landed, &l->lock);
    int code = l->failed ? client_err(e, "ack", &l->err) : 0;
    pthread_mutex_unlock(&l->lock);
    return code;
}

static int acknowledge(struct lane *l, struct sluice_batch *b, uint64_t since_ns, struct err *e)
{
    struct sluice_error err;
    struct flight *f = flight_take(l);
    f->since_ns = since_ns;
    f->count = f->left = (uint32_t)sluice_batch_count(b);
    for (uint32_t i = 0; i < f->count; i++)
        l->items[i] = (struct sluice_settle){.batch = b, .index = i, .verb = SLUICE_ACK};
    if (sluice_settle_async(l->client, l->items, f->count, false, on_settled, f, &err) == 0)
        return l->all->lease->work->window == 1 ? land(l, e) : 0;
    flight_back(f);
    return client_err(e, "ack", &err);
}

/* ---------------------------------------------------------------- a lane */

static int take_batches(struct lane *l, struct err *e)
{
    struct lease *c = l->all->lease;
    struct sluice_receive_options o = {.size = sizeof o, .max_messages = c->work->batch, .max_bytes = 4 << 20, .wait_ms = WAIT_MS};
    o.prefetch = ahead(c) * c->work->batch;
    int code = 0;
    while (code == 0 && !l->failed && load_goes_on(l->load) && !goal_reached(&l->all->goal)) {
        struct sluice_error err;
        struct sluice_batch *b;
        uint64_t since = clock_mono_ns();
        if (sluice_receive(l->client, c->topic, c->group, &o, &b, &err) != 0)
            return client_err(e, "receive", &err);
        code = look_at(l, b, e);
        work_on(c, sluice_batch_count(b));
        if (code == 0 && sluice_batch_count(b) > 0)
            code = acknowledge(l, b, since, e);
        sluice_batch_free(b);
    }
    return code;
}

static int run_lane(struct load_lane *load, struct err *e)
{
    struct lane l = {.load = load, .all = load->user, .lock = PTHREAD_MUTEX_INITIALIZER, .landed = PTHREAD_COND_INITIALIZER};
    const struct work *w = l.all->lease->work;
    int code = client_open(&l.client, l.all->lease->url, 0, 0, 0, e);
    if (code != 0)
        return code;
    l.items = calloc(w->batch, sizeof *l.items);
    uint32_t settling = w->window - ahead(l.all->lease);
    l.flights = calloc(settling, sizeof *l.flights);
    if (l.items == NULL || l.flights == NULL)
        abort();
    l.out = settling;
    for (uint32_t i = 0; i < settling; i++) {
        l.flights[i].lane = &l;
        flight_back(&l.flights[i]);
    }
    load_ready(load);
    code = take_batches(&l, e);
    struct err late;
    int landed = land(&l, &late);
    if (code == 0 && landed != 0)
        code = err_set(e, landed, "%s", late.text);
    client_close(l.client);
    free(l.flights);
    free(l.items);
    return code;
}

int lease_run(struct lease *c, struct outcome *out, struct err *e)
{
    struct all all = {.lease = c, .verify = PTHREAD_MUTEX_INITIALIZER};
    goal_init(&all.goal, c->until, c->work->messages);
    struct load_options o = work_load(c->work, c->server, run_lane, &all);
    int code = load_run(&o, out, e);
    c->taken = atomic_load(&all.goal.done);
    return code;
}

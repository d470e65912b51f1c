#include "sdk/ear.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "sdk/client.h"
#include "sdk/publication.h"

struct sluice_lag_subscription {
    struct ear *ear;
    sluice_lag_fn *fn;
    void *user;
    struct event arrives, leaves;
    struct waiter *waiter; /* of who leaves; NULL: it is in a callback */
    /* the loop's thread */
    struct list_node place;
    bool over;
};

static void tell(struct ear *e, const struct sluice_lag *rows, size_t count)
{
    LIST_EACH (n, &e->subscriptions) {
        struct sluice_lag_subscription *s = container_of(n, struct sluice_lag_subscription, place);
        if (!s->over)
            s->fn(s->user, rows, count);
    }
}

/* ---------------------------------------------------------------- the connection */

static void lost(struct ear *e)
{
    bool was_up = e->up;
    e->up = false;
    if (was_up)
        tell(e, NULL, 0);
}

static void on_up(void *user)
{
    struct ear *e = user;
    e->up = true;
    e->blamed = false;
}

static void on_down(void *user)
{
    lost(user);
}

static void on_missed(void *user)
{
    (void)user; /* whoever asks the broker instead will say it */
}

static void on_frame(void *user, uint32_t tag, struct ref *frame)
{
    (void)tag;
    struct ear *e = user;
    const struct sluice_lag *rows;
    size_t count;
    struct arena memory;
    struct err why;
    arena_init(&memory, SIZE_MAX);
    int code = publication_lag(ref_view(frame), &memory, &rows, &count, &why);
    if (code == 0 && count > 0)
        tell(e, rows, count);
    if (code != 0 && code != E_UNSUPPORTED && !e->blamed) {
        e->blamed = true;
        session_say(&e->client->session, SLUICE_WARN, "%s: %s; dropped", e->url, why.text);
    }
    arena_free(&memory);
    ref_drop(frame);
}

static const struct carrier_events carrier_events = {.up = on_up, .down = on_down, .missed = on_missed, .frame = on_frame};

/* One that is closed, until what it left in the inbox has run. */
struct ending {
    struct event event;
    struct carrier *carrier;
};

static void ended(struct event *event)
{
    struct ending *x = container_of(event, struct ending, event);
    x->carrier->ops->free(x->carrier);
    mem_free(x);
}

static void hang_up(struct ear *e)
{
    if (e->carrier == NULL)
        return;
    struct ending *x = mem_alloc(sizeof *x);
    *x = (struct ending){.event.run = ended, .carrier = e->carrier};
    e->carrier->ops->close(e->carrier);
    e->carrier = NULL;
    loop_post(&e->client->loop, &x->event);
    lost(e);
}

static void dial(struct ear *e)
{
    struct sluice *s = e->client;
    if (e->carrier != NULL || e->closed || e->url[0] == '\0' || list_empty(&e->subscriptions))
        return;
    struct sluice_error err;
    const struct carrier_options o = {.url = e->url,
                                      .tls_ca_file = s->tls_ca_file,
                                      .tls_cert_file = s->tls_cert_file,
                                      .hears = true,
                                      .topic = publication_lag_topic(),
                                      .events = &carrier_events,
                                      .user = e,
                                      .loop = &s->loop};
    if (carrier_open(&e->carrier, &o, &err) != 0) {
        e->carrier = NULL;
        session_say(&s->session, SLUICE_WARN, "publications are not heard: %s", err.text);
    }
}

void ear_told(struct ear *e, const char *url)
{
    if (e->up && strcmp(e->url, url) == 0)
        return;
    hang_up(e);
    snprintf(e->url, sizeof e->url, "%s", url);
    dial(e);
}

void ear_init(struct ear *e, struct sluice *s)
{
    *e = (struct ear){.client = s};
    list_init(&e->subscriptions);
}

void ear_close(struct ear *e)
{
    e->closed = true;
    hang_up(e);
}

void ear_free(struct ear *e)
{
    for (struct list_node *n; (n = list_pop_front(&e->subscriptions)) != NULL;)
        mem_free(container_of(n, struct sluice_lag_subscription, place));
}

/* ---------------------------------------------------------------- subscriptions */

/* A new connection, as who just comes is told of all groups. */
static void arrives(struct event *event)
{
    struct sluice_lag_subscription *s = container_of(event, struct sluice_lag_subscription, arrives);
    hang_up(s->ear);
    list_push_back(&s->ear->subscriptions, &s->place);
    dial(s->ear);
}

static void leaves(struct event *event)
{
    struct sluice_lag_subscription *s = container_of(event, struct sluice_lag_subscription, leaves);
    struct ear *e = s->ear;
    list_remove(&s->place);
    if (list_empty(&e->subscriptions))
        hang_up(e);
    if (s->waiter != NULL)
        waiter_done(s->waiter);
    else
        mem_free(s);
}

int sluice_lag_subscribe(struct sluice *s, sluice_lag_fn *fn, void *user, struct sluice_lag_subscription **out,
                         struct sluice_error *err)
{
    if (out == NULL || fn == NULL)
        return fail(err, E_INVALID_ARGUMENT, "sluice_lag_subscribe: %s is NULL", out == NULL ? "out" : "fn");
    *out = NULL;
    int code = client_fatal(s, err);
    if (code != 0)
        return code;
    struct sluice_lag_subscription *x = mem_zalloc(sizeof *x);
    *x = (struct sluice_lag_subscription){
        .ear = &s->ear, .fn = fn, .user = user, .arrives.run = arrives, .leaves.run = leaves};
    *out = x;
    loop_post(&s->loop, &x->arrives);
    return 0;
}

void sluice_lag_unsubscribe(struct sluice_lag_subscription *s)
{
    if (s == NULL)
        return;
    struct loop *loop = &s->ear->client->loop;
    if (loop_here(loop)) {
        s->over = true;
        loop_post(loop, &s->leaves);
        return;
    }
    struct waiter waiter;
    waiter_init(&waiter);
    s->waiter = &waiter;
    loop_post(loop, &s->leaves);
    waiter_wait(&waiter);
    mem_free(s);
}

#include "wire/publish.h"

#include <assert.h>
#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/inbox.h"
#include "base/map.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "wire/frame.h"

enum {
    SUBSCRIBER_BYTES_MAX = 1024,   /* they have nothing to say */
    HINTS_BYTES_MAX = 4 << 20,     /* waiting for the thread */
    ALL_ROWS_EVERY = 60            /* rounds */
};

/* What comes to the thread: a hint, or the page of lag that it asked for. */
struct note {
    struct inbox_node node;
    bool page;
    uint32_t group;
    char channel[]; /* of a hint: "topic/group" */
};

struct publisher {
    nng_socket socket;
    struct listeners *listeners;
    struct wire_counters *counters;
    uint64_t lag_ms;
    struct inbox inbox;
    pthread_t thread;
    atomic_uint subscribers;
    atomic_bool newcomer; /* since the last round */
    atomic_bool stop;

    /* of the thread */
    struct lag_walk walk;
    struct note page;
    bool walking;
    unsigned round;
    struct map published; /* group -> hash of its last row */
};

/* ---------------------------------------------------------------- sending */

/* PUB never waits: what a subscriber does not take is dropped. */
static void send_message(struct publisher *p, nng_msg *m)
{
    if (nng_sendmsg(p->socket, m, NNG_FLAG_NONBLOCK) != 0)
        nng_msg_free(m);
}

static void publish_hint(struct publisher *p, const struct note *hint)
{
    nng_msg *m;
    if (frame_hint(hint->group, view_of_str(hint->channel), &m) != E_OK)
        return;
    send_message(p, m);
    COUNT(p->counters, hints);
}

/* What a subscriber acts on; the age of the oldest message is left out, as it changes all the time. */
static uint64_t row_hash(const struct wire_lag *row)
{
    const uint64_t facts[] = {row->lag_messages, row->lag_bytes,      row->in_flight,   row->delayed,
                              row->parked,       row->ack_rate_milli, row->scale_value, row->status};
    return key_hash(view_of(facts, sizeof facts)) | 1;
}

static void publish_rows(struct publisher *p, const struct wire_lag_reply *lag)
{
    struct wire_lag *changed = mem_array(lag->rows_n, sizeof *changed);
    struct wire_reply reply = {.body = BODY_LAG, .lag = {.rows = changed, .more = lag->more}};
    for (uint32_t i = 0; i < lag->rows_n; i++) {
        void *hash = (void *)(uintptr_t)row_hash(&lag->rows[i]);
        if (map_put(&p->published, lag->rows[i].group_id, hash) != hash)
            changed[reply.lag.rows_n++] = lag->rows[i];
    }
    nng_msg *m;
    if (reply.lag.rows_n > 0 && frame_publish(&reply, PUB_LAG, VIEW_LIT("lag"), &m) == E_OK) {
        send_message(p, m);
        COUNT_BY(p->counters, lag_rows, reply.lag.rows_n);
    }
    mem_free(changed);
}

/* ---------------------------------------------------------------- the thread */

static void page_came(struct lag_walk *w)
{
    struct publisher *p = container_of(w, struct publisher, walk);
    inbox_push(&p->inbox, &p->page.node, 0);
}

static void round_begin(struct publisher *p)
{
    if (p->walking || atomic_load(&p->subscribers) == 0 || atomic_load(&p->stop))
        return;
    if (atomic_exchange(&p->newcomer, false) || p->round++ % ALL_ROWS_EVERY == 0)
        map_free(&p->published);
    p->walking = true;
    api_lag_next(&p->walk);
}

static void page_take(struct publisher *p)
{
    const struct wire_reply *r = &p->walk.op.reply;
    if (r->code == E_OK && r->body == BODY_LAG)
        publish_rows(p, &r->lag);
    if (api_lag_more(&p->walk) && !atomic_load(&p->stop)) {
        api_lag_next(&p->walk);
        return;
    }
    api_lag_end(&p->walk);
    p->walking = false;
}

static void take_all(struct publisher *p)
{
    for (struct inbox_node *n = inbox_drain(&p->inbox), *next; n != NULL; n = next) {
        next = n->next;
        struct note *note = container_of(n, struct note, node);
        if (note->page) {
            page_take(p);
            continue;
        }
        publish_hint(p, note);
        mem_free(note);
    }
}

static void *run(void *arg)
{
    struct publisher *p = arg;
    uint64_t next_ms = clock_mono_ms() + p->lag_ms;
    while (!atomic_load(&p->stop) || p->walking) {
        inbox_wait(&p->inbox, next_ms * 1000000);
        take_all(p);
        if (clock_mono_ms() < next_ms)
            continue;
        next_ms = clock_mono_ms() + p->lag_ms;
        round_begin(p);
    }
    take_all(p);
    return NULL;
}

/* ---------------------------------------------------------------- subscribers */

/* ADD_PRE and REM_POST come in pairs, also for a connection that is refused in between. */
static void on_subscriber(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct publisher *p = arg;
    bool measured;
    switch (event) {
    case NNG_PIPE_EV_ADD_PRE:
        atomic_fetch_add(&p->subscribers, 1);
        if (!listeners_added(p->listeners, pipe, &measured))
            nng_pipe_close(pipe);
        break;
    case NNG_PIPE_EV_ADD_POST:
        atomic_store(&p->newcomer, true);
        break;
    case NNG_PIPE_EV_REM_POST:
        atomic_fetch_sub(&p->subscribers, 1);
        break;
    default:
        break;
    }
}

/* ---------------------------------------------------------------- life */

static int open_socket(struct publisher *p)
{
    int rv = nng_pub0_open(&p->socket);
    for (int event = NNG_PIPE_EV_ADD_PRE; rv == 0 && event < NNG_PIPE_EV_NUM; event++)
        rv = nng_pipe_notify(p->socket, (nng_pipe_ev)event, on_subscriber, p);
    return rv;
}

int publisher_open(struct publisher **out, const struct publisher_options *o, struct err *e)
{
    struct publisher *p = mem_zalloc(sizeof *p);
    p->counters = o->counters;
    p->lag_ms = o->lag_ms;
    p->page.page = true;
    int rv = open_socket(p);
    if (rv != 0) {
        mem_free(p);
        return err_set(e, E_INTERNAL, "PUB socket: %s", nng_strerror(rv));
    }
    if (inbox_init(&p->inbox, HINTS_BYTES_MAX, e) != 0) {
        nng_close(p->socket);
        mem_free(p);
        return err_set(e, E_INTERNAL, "publisher: %s", e->text);
    }
    p->listeners = listeners_new(p->socket, o->urls, o->urls_n, o->tls, SUBSCRIBER_BYTES_MAX);
    api_lag_begin(o->api, &p->walk, page_came);
    int failed = pthread_create(&p->thread, NULL, run, p);
    assert(failed == 0);
    (void)failed;
    *out = p;
    return E_OK;
}

void publisher_close(struct publisher *p)
{
    if (p == NULL)
        return;
    atomic_store(&p->stop, true);
    inbox_wake(&p->inbox);
    pthread_join(p->thread, NULL);
    listeners_close(p->listeners);
    nng_close(p->socket);
    api_lag_end(&p->walk);
    inbox_free(&p->inbox);
    map_free(&p->published);
    mem_free(p);
}

struct listeners *publisher_listeners(struct publisher *p)
{
    return p->listeners;
}

uint32_t publisher_subscribers(struct publisher *p)
{
    return atomic_load(&p->subscribers);
}

void publisher_hint(struct publisher *p, uint32_t group, const char *topic, const char *name)
{
    if (atomic_load_explicit(&p->subscribers, memory_order_relaxed) == 0)
        return;
    size_t size = strlen(topic) + 1 + strlen(name) + 1;
    struct note *note = mem_alloc(sizeof *note + size);
    note->page = false;
    note->group = group;
    snprintf(note->channel, size, "%s/%s", topic, name);
    if (!inbox_offer(&p->inbox, &note->node, sizeof *note + size)) {
        COUNT(p->counters, hints_dropped);
        mem_free(note);
    }
}

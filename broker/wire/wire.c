#include "wire/wire.h"

#include <assert.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "wire/frame.h"
#include "wire/publish.h"
#include "wire/stats.h"

enum {
    SEND_QUEUE = 8192, /* replies on their way to the queues of their connections; nng moves them on at once */
    FLUSH_LOOK_MS = 5
};

struct wire {
    const struct wire_bounds *bounds;
    const struct engine_limits *limits;
    struct api *api;
    uint64_t message_bytes_max;
    void (*pipe_lost)(void *user, uint64_t pipe);
    void *user;
    struct pipes *pipes;
    struct wire_counters counters;
    nng_socket rep;
    nng_aio *receive;
    struct listeners *listeners;
    struct publisher *publisher;
    struct view *publish; /* what hello tells */
    char *http;

    pthread_t watch;
    pthread_mutex_t lock;
    pthread_cond_t stopped; /* on the monotonic clock */
    bool watching;          /* of whoever opens and closes */
    bool stop;              /* under lock */
    atomic_bool closing;    /* connections go because we do */
};

/* One request on its way, and its reply on the way back. */
struct exchange {
    struct op op;
    struct wire *wire;
    struct pipe *pipe;
    uint8_t verb;
    uint8_t route[FRAME_ROUTE_SIZE];
};

/* ---------------------------------------------------------------- connections */

static void close_pipe(uint32_t nng_id)
{
    log_debug("connection is to be closed pipe=%u", nng_id);
    nng_pipe_close((nng_pipe){.id = nng_id});
}

static void close_pipes(struct buf *ids)
{
    for (size_t at = 0; at < ids->size; at += sizeof(uint32_t)) {
        uint32_t id;
        memcpy(&id, ids->data + at, sizeof id);
        close_pipe(id);
    }
    buf_clear(ids);
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct wire *w = arg;
    uint32_t id = (uint32_t)nng_pipe_id(pipe);
    bool measured;
    if (event == NNG_PIPE_EV_ADD_PRE) {
        if (!listeners_added(w->listeners, pipe, &measured) || !pipes_add(w->pipes, id, measured, clock_mono_ms())) {
            COUNT(&w->counters, pipes_refused);
            nng_pipe_close(pipe);
        }
    } else if (event == NNG_PIPE_EV_ADD_POST) {
        COUNT(&w->counters, pipes_opened);
        log_debug("connection opened pipe=%u", id);
    } else if (event == NNG_PIPE_EV_REM_POST) {
        uint64_t number = pipes_remove(w->pipes, id);
        log_debug("connection closed pipe=%u", id);
        if (number != 0 && !atomic_load(&w->closing))
            w->pipe_lost(w->user, number);
    }
}

/* What nng has written to each connection, from its statistics: a tree of which each connection is a branch under the root. */
static void measure(struct wire *w)
{
    nng_stat *root;
    if (nng_stats_get(&root) != 0)
        return;
    for (nng_stat *s = nng_stat_child(root); s != NULL; s = nng_stat_next(s)) {
        if (strcmp(nng_stat_name(s), "pipe") != 0)
            continue;
        nng_stat *id = nng_stat_find(s, "id"), *replies = nng_stat_find(s, "tx_msgs"), *bytes = nng_stat_find(s, "tx_bytes");
        if (id != NULL && replies != NULL && bytes != NULL)
            pipes_taken(w->pipes, (uint32_t)nng_stat_value(id), nng_stat_value(replies), nng_stat_value(bytes));
    }
    nng_stats_free(root);
}

/* ---------------------------------------------------------------- replies */

static void exchange_free(struct exchange *x)
{
    api_op_end(&x->op);
    mem_free(x);
}

static struct wire_limits limits_for_clients(const struct wire *w)
{
    return (struct wire_limits){
        .message_bytes_max = (uint32_t)w->message_bytes_max,
        .key_bytes_max = WIRE_KEY_MAX,
        .headers_max = WIRE_HEADERS_MAX,
        .headers_bytes_max = WIRE_HEADERS_BYTES_MAX,
        .request_bytes_max = (uint32_t)w->bounds->request_bytes_max,
        .reply_bytes_max = (uint32_t)w->limits->reply_bytes_max,
        .requests_in_flight_max = (uint32_t)w->bounds->requests_in_flight_max,
        .requests_waiting_max = (uint32_t)w->limits->waiting_per_session_max,
        .batch_records_max = WIRE_BATCH_RECORDS_MAX,
        .session_grace_ms = (uint32_t)w->limits->session_grace_ms,
    };
}

/* What the engine cannot know of a hello: where else to listen, and the limits. */
static void complete_hello(struct wire *w, struct exchange *x)
{
    struct wire_hello_reply *h = &x->op.reply.hello;
    pipes_hello(w->pipes, x->pipe);
    h->version = WIRE_VERSION;
    h->publish = w->publish;
    h->publish_n = (uint32_t)wire_publish_count(w);
    h->http = view_of_str(w->http);
    h->product = VIEW_LIT("sluice/" SLUICE_VERSION);
    h->limits = limits_for_clients(w);
}

/* A reply for which there is no memory becomes one that says so. */
static nng_msg *encode_reply(const struct exchange *x)
{
    nng_msg *m;
    if (frame_reply(&x->op.reply, x->verb, x->route, &m) == E_OK)
        return m;
    const struct wire_reply small = {.code = E_NO_MEMORY, .detail = VIEW_LIT("reply")};
    return frame_reply(&small, x->verb, x->route, &m) == E_OK ? m : NULL;
}

/* Whether the reply may be sent. A bound that seems to be passed is looked at again with fresh numbers; if it is, who holds most goes. */
static bool admit(struct wire *w, struct pipe *pipe, size_t bytes)
{
    uint32_t nng_id;
    enum pipe_verdict verdict = pipes_answer(w->pipes, pipe, bytes, false, &nng_id);
    if (verdict == PIPE_UNSURE) {
        struct buf fat = {0};
        measure(w);
        COUNT_BY(&w->counters, closed_unread, pipes_fat(w->pipes, bytes, &fat));
        close_pipes(&fat);
        buf_free(&fat);
        verdict = pipes_answer(w->pipes, pipe, bytes, true, &nng_id);
    }
    if (verdict == PIPE_CLOSE) {
        COUNT(&w->counters, closed_unread);
        close_pipe(nng_id);
    }
    return verdict == PIPE_OK;
}

/* Waits at most for nng to move SEND_QUEUE messages on within the process, never for a client. */
static void send_reply(struct wire *w, nng_msg *m)
{
    size_t bytes = nng_msg_len(m);
    if (nng_sendmsg(w->rep, m, 0) != 0) {
        nng_msg_free(m);
        COUNT(&w->counters, replies_lost);
        return;
    }
    COUNT(&w->counters, replies);
    COUNT_BY(&w->counters, reply_bytes, bytes);
}

/* The request has no reply, so its connection has no future. */
static void drop(struct wire *w, struct pipe *pipe)
{
    uint32_t nng_id;
    if (pipes_drop(w->pipes, pipe, &nng_id))
        close_pipe(nng_id);
    COUNT(&w->counters, replies_lost);
}

static void on_done(struct op *op)
{
    struct exchange *x = container_of(op, struct exchange, op);
    struct wire *w = x->wire;
    if (op->reply.code == E_OK && op->reply.body == BODY_HELLO)
        complete_hello(w, x);
    nng_msg *m = encode_reply(x);
    if (m == NULL) {
        drop(w, x->pipe);
    } else if (admit(w, x->pipe, nng_msg_len(m))) {
        send_reply(w, m);
    } else {
        nng_msg_free(m);
        COUNT(&w->counters, replies_lost);
    }
    exchange_free(x);
}

/* ---------------------------------------------------------------- requests */

static void take(struct wire *w, struct exchange *x, nng_msg *m, bool greeted)
{
    struct frame_request f;
    struct err e;
    int code = frame_open(m, &f, &e);
    x->verb = f.head.verb;
    memcpy(x->route, f.route, sizeof x->route);
    x->op.hold = f.hold;
    if (code != E_OK) {
        COUNT(&w->counters, bad_frames);
        if (f.answerable) {
            api_refuse(&x->op, code, "%s", e.text);
        } else {
            COUNT(&w->counters, closed_bad_frame);
            drop(w, x->pipe);
            exchange_free(x);
        }
    } else if (!greeted) {
        api_refuse(&x->op, E_NO_SESSION, "the first request of a connection is hello");
    } else {
        api_request(w->api, &x->op, f.head.verb, f.body);
    }
}

/* The verb is needed before the frame is checked: a connection that was not greeted may say nothing else. */
static bool is_hello(nng_msg *m)
{
    const uint8_t *data = nng_msg_body(m);
    return nng_msg_len(m) >= FRAME_SIZE && data[2] == VERB_HELLO;
}

static void request(struct wire *w, nng_msg *m)
{
    uint32_t nng_id = (uint32_t)nng_pipe_id(nng_msg_get_pipe(m));
    size_t bytes = nng_msg_len(m);
    COUNT(&w->counters, requests);
    COUNT_BY(&w->counters, request_bytes, bytes);
    struct pipe *pipe = NULL;
    uint64_t number = 0;
    enum pipe_verdict verdict = pipes_request(w->pipes, nng_id, is_hello(m), &pipe, &number);
    if (verdict == PIPE_CLOSE) {
        COUNT(&w->counters, closed_flood);
        close_pipe(nng_id);
    }
    if (pipe == NULL) {
        nng_msg_free(m);
        return;
    }
    struct exchange *x = mem_zalloc(sizeof *x);
    x->op.done = on_done;
    x->op.pipe = number;
    x->op.bytes = sizeof *x + bytes;
    x->wire = w;
    x->pipe = pipe;
    api_op_begin(&x->op);
    take(w, x, m, verdict == PIPE_OK);
}

/* The one receiver: what it does is bounded by the size of the request, and waits for nothing. */
static void on_message(void *arg)
{
    struct wire *w = arg;
    switch (nng_aio_result(w->receive)) {
    case 0:
        request(w, nng_aio_get_msg(w->receive));
        break;
    case NNG_ECLOSED:
    case NNG_ECANCELED:
        return;
    default:
        break;
    }
    nng_recv_aio(w->rep, w->receive);
}

/* ---------------------------------------------------------------- the watch */

static void watch_round(struct wire *w, struct buf *ids)
{
    unsigned replaced = listeners_watch(w->listeners, w->bounds->watch_timeout_ms) +
                        listeners_watch(publisher_listeners(w->publisher), w->bounds->watch_timeout_ms);
    COUNT_BY(&w->counters, listeners_replaced, replaced);
    COUNT_BY(&w->counters, closed_no_hello, pipes_overdue(w->pipes, clock_mono_ms(), ids));
    close_pipes(ids);
    if (!pipes_want_taken(w->pipes))
        return;
    measure(w);
    size_t slow = pipes_slow(w->pipes, ids);
    COUNT_BY(&w->counters, closed_unread, slow);
    if (slow > 0)
        log_warn("connections closed that do not read their replies count=%zu", slow);
    close_pipes(ids);
}

/* Until `ms` have passed or the watch is to stop; whether it is. */
static bool watch_wait(struct wire *w, uint64_t ms)
{
    uint64_t due = clock_mono_ms() + ms;
    struct timespec until = {.tv_sec = (time_t)(due / 1000), .tv_nsec = (long)(due % 1000) * 1000000};
    pthread_mutex_lock(&w->lock);
    int rv = 0;
    while (!w->stop && rv == 0)
        rv = pthread_cond_timedwait(&w->stopped, &w->lock, &until);
    bool stop = w->stop;
    pthread_mutex_unlock(&w->lock);
    return stop;
}

static void *watch(void *arg)
{
    struct wire *w = arg;
    struct buf ids = {0};
    while (!watch_wait(w, w->bounds->watch_ms))
        watch_round(w, &ids);
    buf_free(&ids);
    return NULL;
}

/* ---------------------------------------------------------------- life */

int wire_check(const char *url, const struct wire_tls *tls, struct err *e)
{
    return listeners_check(url, tls, e);
}

/* Requests come straight from clients: a route of more hops would be a device that mixes sessions. */
static int open_rep(struct wire *w)
{
    int rv = nng_rep0_open_raw(&w->rep);
    if (rv != 0)
        return rv;
    if ((rv = nng_socket_set_int(w->rep, NNG_OPT_MAXTTL, 1)) == 0 &&
        (rv = nng_socket_set_int(w->rep, NNG_OPT_SENDBUF, SEND_QUEUE)) == 0 &&
        (rv = nng_pipe_notify(w->rep, NNG_PIPE_EV_ADD_PRE, on_pipe, w)) == 0 &&
        (rv = nng_pipe_notify(w->rep, NNG_PIPE_EV_ADD_POST, on_pipe, w)) == 0 &&
        (rv = nng_pipe_notify(w->rep, NNG_PIPE_EV_REM_POST, on_pipe, w)) == 0)
        rv = nng_aio_alloc(&w->receive, on_message, w);
    if (rv != 0)
        nng_close(w->rep);
    return rv;
}

static void lock_open(struct wire *w)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->stopped, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int wire_open(struct wire **out, const struct wire_options *o, struct err *e)
{
    struct wire *w = mem_zalloc(sizeof *w);
    w->bounds = o->bounds;
    w->limits = o->limits;
    w->api = o->api;
    w->message_bytes_max = o->message_bytes_max;
    w->pipe_lost = o->pipe_lost;
    w->user = o->user;
    const struct publisher_options publish = {.api = o->api, .counters = &w->counters, .urls = o->publish, .urls_n = o->publish_n,
                                              .tls = &o->tls, .lag_ms = o->bounds->lag_publish_ms};
    int rv = open_rep(w);
    if (rv != 0) {
        mem_free(w);
        return err_set(e, E_INTERNAL, "REP socket: %s", nng_strerror(rv));
    }
    int code = publisher_open(&w->publisher, &publish, e);
    if (code != E_OK) {
        nng_aio_free(w->receive);
        nng_close(w->rep);
        mem_free(w);
        return code;
    }
    w->pipes = pipes_new(w->bounds);
    w->listeners = listeners_new(w->rep, o->listen, o->listen_n, &o->tls, o->bounds->request_bytes_max);
    w->publish = mem_array(o->publish_n, sizeof *w->publish);
    lock_open(w);
    nng_recv_aio(w->rep, w->receive);
    *out = w;
    return E_OK;
}

/* The publisher first: hello tells its addresses. */
int wire_listen(struct wire *w, const char *http, struct err *e)
{
    int code = listeners_start(publisher_listeners(w->publisher), e);
    if (code != E_OK)
        return code;
    for (size_t i = 0; i < wire_publish_count(w); i++)
        w->publish[i] = view_of_str(wire_publish_url(w, i));
    w->http = mem_strdup(http);
    code = listeners_start(w->listeners, e);
    if (code != E_OK)
        return code;
    int failed = pthread_create(&w->watch, NULL, watch, w);
    assert(failed == 0);
    (void)failed;
    w->watching = true;
    return E_OK;
}

void wire_close_door(struct wire *w)
{
    pipes_close_door(w->pipes);
}

static void watch_stop(struct wire *w)
{
    if (!w->watching)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->stopped);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->watch, NULL);
    w->watching = false;
}

/* nng closes without sending what it has queued, and does not tell when that is out: so its statistics are asked. */
static void flush(struct wire *w, uint32_t flush_ms)
{
    struct pipes_totals t;
    for (uint64_t until = clock_mono_ms() + flush_ms; clock_mono_ms() < until;) {
        measure(w);
        pipes_totals(w->pipes, &t);
        if (t.unread_bytes == 0)
            return;
        nanosleep(&(struct timespec){.tv_nsec = FLUSH_LOOK_MS * 1000000}, NULL);
    }
}

void wire_close(struct wire *w, uint32_t flush_ms)
{
    if (w == NULL)
        return;
    wire_close_door(w);
    watch_stop(w);
    publisher_close(w->publisher);
    flush(w, flush_ms);
    atomic_store(&w->closing, true);
    listeners_close(w->listeners);
    nng_close(w->rep);
    nng_aio_free(w->receive);
    pipes_free(w->pipes);
    pthread_cond_destroy(&w->stopped);
    pthread_mutex_destroy(&w->lock);
    mem_free(w->publish);
    mem_free(w->http);
    mem_free(w);
}

/* ---------------------------------------------------------------- questions and hints */

size_t wire_listen_count(const struct wire *w)
{
    return listeners_count(w->listeners);
}

const char *wire_listen_url(const struct wire *w, size_t i)
{
    return listeners_url(w->listeners, i);
}

size_t wire_publish_count(const struct wire *w)
{
    return listeners_count(publisher_listeners(w->publisher));
}

const char *wire_publish_url(const struct wire *w, size_t i)
{
    return listeners_url(publisher_listeners(w->publisher), i);
}

void wire_hint(struct wire *w, uint32_t group, const char *topic, const char *name)
{
    publisher_hint(w->publisher, group, topic, name);
}

void wire_drop_pipe(struct wire *w, uint64_t pipe)
{
    uint32_t nng_id;
    if (!pipes_close(w->pipes, pipe, &nng_id))
        return;
    COUNT(&w->counters, closed_taken_over);
    close_pipe(nng_id);
}

void wire_stats(struct wire *w, struct wire_stats *out)
{
#define X(name, help) out->name = atomic_load_explicit(&w->counters.name, memory_order_relaxed);
#include "wire/counters.def"
#undef X
    pipes_totals(w->pipes, &out->pipes);
    out->subscribers = publisher_subscribers(w->publisher);
}

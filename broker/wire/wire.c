#include "wire/wire.h"

#include <assert.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "wire/frame.h"
#include "wire/listen.h"
#include "wire/local.h"
#include "wire/poller.h"
#include "wire/publish.h"
#include "wire/stats.h"

enum { REP_PROTOCOL = 0x31, REQ_PROTOCOL = 0x30, TEND_MS = 200, FLUSH_LOOK_MS = 2 };

/* One address that listens. */
struct address {
    char *url;
    struct listener *listener; /* NULL: within the process */
};

struct addresses {
    struct address *at;
    size_t n;
};

struct wire {
    const struct wire_bounds *bounds;
    const struct engine_limits *limits;
    struct api *api;
    uint64_t message_bytes_max;
    void (*pipe_lost)(void *user, uint64_t pipe);
    void (*help)(void *user);
    void *user;
    struct pipes *pipes;
    struct pollers *pollers;
    struct wire_counters counters;
    struct addresses listen, publish;
    struct local *local; /* NULL: no address within the process */
    struct publisher *publisher;
    struct wire_tls tls; /* owned */
    struct view *hello;  /* the publisher's addresses, as hello tells them */
    char *http;

    pthread_t tending;
    pthread_mutex_t lock;
    pthread_cond_t stopped; /* on the monotonic clock */
    bool tends;             /* of whoever opens and closes */
    bool stop;              /* under lock */
};

/* One request on its way, and its reply on the way back. */
struct exchange {
    struct op op;
    struct wire *wire;
    struct pipe *pipe;
    uint32_t id;
    uint8_t verb;
};

/* ---------------------------------------------------------------- replies */

static void exchange_free(struct exchange *x)
{
    pipes_release(x->wire->pipes, x->pipe);
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
    h->publish = w->hello;
    h->publish_n = (uint32_t)w->publish.n;
    h->http = view_of_str(w->http);
    h->product = VIEW_LIT("sluice/" SLUICE_VERSION);
    h->limits = limits_for_clients(w);
}

/* A reply for which there is no memory becomes one that says so. */
static struct packet *encode(const struct exchange *x)
{
    struct packet *p = frame_reply(&x->op.reply, x->verb, x->id);
    const struct wire_reply small = {.code = E_NO_MEMORY, .detail = VIEW_LIT("reply")};
    return p != NULL ? p : frame_reply(&small, x->verb, x->id);
}

static void close_found(struct wire *w, struct buf *found)
{
    for (size_t at = 0; at < found->size; at += sizeof(struct pipe *)) {
        struct pipe *pipe;
        memcpy(&pipe, found->data + at, sizeof(struct pipe *));
        pipe_close(pipe);
        pipes_release(w->pipes, pipe);
    }
    buf_clear(found);
}

static void close_unread(struct wire *w, struct pipe *pipe)
{
    log_warn("connection closed: its client does not read its replies pipe=%llu",
             (unsigned long long)pipe_number(pipe));
    COUNT(&w->counters, closed_unread);
    pipe_close(pipe);
}

/* Over the bound of all, those with the most go: perhaps this one. */
static void send_reply(struct wire *w, struct pipe *pipe, struct packet *p)
{
    struct buf fat = {0};
    COUNT(&w->counters, replies);
    COUNT_BY(&w->counters, reply_bytes, p->size);
    pipe_send(pipe, p);
    COUNT_BY(&w->counters, closed_unread, pipes_fat(w->pipes, &fat));
    close_found(w, &fat);
    buf_free(&fat);
}

static void deliver(struct wire *w, struct pipe *pipe, struct packet *p)
{
    enum pipe_verdict verdict = pipes_answer(w->pipes, pipe, p->size);
    if (verdict == PIPE_OK) {
        send_reply(w, pipe, p);
        return;
    }
    packet_drop(p);
    COUNT(&w->counters, replies_lost);
    if (verdict == PIPE_CLOSE)
        close_unread(w, pipe);
}

/* A request that gets no reply: its connection has no future. */
static void deliver_nothing(struct wire *w, struct pipe *pipe)
{
    COUNT(&w->counters, replies_lost);
    if (pipes_drop(w->pipes, pipe))
        pipe_close(pipe);
}

static void on_done(struct op *op)
{
    struct exchange *x = container_of(op, struct exchange, op);
    struct wire *w = x->wire;
    if (op->reply.code == E_OK && op->reply.body == BODY_HELLO)
        complete_hello(w, x);
    struct packet *p = encode(x);
    if (p != NULL)
        deliver(w, x->pipe, p);
    else
        deliver_nothing(w, x->pipe);
    exchange_free(x);
}

/* ---------------------------------------------------------------- requests */

/* Without a head that makes sense there is nothing to answer. */
static void drop(struct exchange *x)
{
    COUNT(&x->wire->counters, closed_bad_frame);
    deliver_nothing(x->wire, x->pipe);
    exchange_free(x);
}

static void take(struct wire *w, struct exchange *x, bool greeted)
{
    struct frame_request f;
    struct err e;
    int code = frame_open(ref_view(x->op.hold), &f, &e);
    x->id = f.id;
    x->verb = f.head.verb;
    if (code != E_OK)
        COUNT(&w->counters, bad_frames);
    if (code != E_OK && !f.answerable)
        drop(x);
    else if (code != E_OK)
        api_refuse(&x->op, code, "%s", e.text);
    else if (!greeted)
        api_refuse(&x->op, E_NO_SESSION, "the first request of a connection is hello");
    else
        api_request(w->api, &x->op, f.head.verb, f.body);
}

/* Looked at before the frame is checked: a connection that was not greeted may say nothing else. */
static bool is_hello(const struct ref *message)
{
    enum { VERB_AT = FRAME_ID_SIZE + 2 };
    return message->size > VERB_AT && message->data[VERB_AT] == VERB_HELLO;
}

/* In threads that poll, or nng's, one at a time per connection: what it does is bounded by the size of the request, and waits for nothing. */
static void on_message(struct wire *w, struct pipe *pipe, struct ref *message, bool helps)
{
    COUNT(&w->counters, requests);
    COUNT_BY(&w->counters, request_bytes, message->size);
    enum pipe_verdict verdict = pipes_request(w->pipes, pipe, is_hello(message));
    if (verdict == PIPE_CLOSE) {
        COUNT(&w->counters, closed_flood);
        pipe_close(pipe);
    }
    if (verdict == PIPE_CLOSE || verdict == PIPE_GONE) {
        ref_drop(message);
        return;
    }
    struct exchange *x = mem_zalloc(sizeof *x);
    x->op.done = on_done;
    x->op.pipe = pipe_number(pipe);
    x->op.bytes = sizeof *x + message->size;
    x->op.hold = message;
    x->op.helps = helps;
    x->wire = w;
    x->pipe = pipe;
    api_op_begin(&x->op);
    take(w, x, verdict == PIPE_OK);
}

/* ---------------------------------------------------------------- connections: what both kinds tell, and what they are asked */

static struct pipe *opened(struct wire *w, const struct pipe_ops *ops, void *conn)
{
    struct pipe *pipe = pipes_add(w->pipes, ops, conn, clock_mono_ms());
    if (pipe == NULL)
        COUNT(&w->counters, pipes_refused);
    else
        COUNT(&w->counters, pipes_opened);
    return pipe;
}

static void closed(struct wire *w, struct pipe *pipe)
{
    w->pipe_lost(w->user, pipes_gone(w->pipes, pipe));
}

static void stream_op_send(void *conn, struct packet *p)
{
    stream_send(conn, p, SIZE_MAX);
}

static void stream_op_close(void *conn)
{
    stream_close(conn);
}

static void stream_op_trust(void *conn)
{
    stream_trust(conn);
}

static void stream_op_release(void *conn)
{
    stream_drop(conn);
}

static const struct pipe_ops stream_ops = {.send = stream_op_send,
                                           .close = stream_op_close,
                                           .trust = stream_op_trust,
                                           .release = stream_op_release,
                                           .measured = true,
                                           .lag = STREAM_SEND_AT_ONCE};

static bool on_stream_opened(void *user, struct stream *s)
{
    struct pipe *pipe = opened(user, &stream_ops, s);
    if (pipe == NULL)
        return false;
    stream_take(s);
    stream_set_owner(s, pipe);
    return true;
}

static void on_stream_message(void *user, struct stream *s, struct ref *bytes)
{
    on_message(user, stream_owner(s), bytes, stream_polled(s));
}

static void on_stream_written(void *user, struct stream *s, size_t packets, size_t bytes)
{
    struct wire *w = user;
    pipes_written(w->pipes, stream_owner(s), packets, bytes);
}

static void on_stream_closed(void *user, struct stream *s)
{
    closed(user, stream_owner(s));
}

static const struct stream_hooks stream_hooks = {.opened = on_stream_opened,
                                                 .message = on_stream_message,
                                                 .written = on_stream_written,
                                                 .closed = on_stream_closed};

static void local_op_send(void *conn, struct packet *p)
{
    local_conn_send(conn, p);
}

static void local_op_close(void *conn)
{
    local_conn_close(conn);
}

static void local_op_trust(void *conn)
{
    (void)conn;
}

static void local_op_release(void *conn)
{
    local_conn_drop(conn);
}

static const struct pipe_ops local_ops = {.send = local_op_send,
                                          .close = local_op_close,
                                          .trust = local_op_trust,
                                          .release = local_op_release,
                                          .measured = false};

static bool on_local_opened(void *user, struct local_conn *c)
{
    struct pipe *pipe = opened(user, &local_ops, c);
    if (pipe == NULL)
        return false;
    local_conn_take(c);
    local_conn_set_owner(c, pipe);
    return true;
}

static void on_local_message(void *user, struct local_conn *c, struct ref *bytes)
{
    on_message(user, local_conn_owner(c), bytes, false);
}

static void on_local_closed(void *user, struct local_conn *c)
{
    closed(user, local_conn_owner(c));
}

static const struct local_hooks local_hooks = {
    .opened = on_local_opened, .message = on_local_message, .closed = on_local_closed};

/* ---------------------------------------------------------------- the tending thread */

static void tend(struct wire *w, struct buf *found)
{
    uint64_t now = clock_mono_ms();
    const struct addresses *const both[] = {&w->listen, &w->publish};
    for (size_t k = 0; k < ARRAY_LEN(both); k++)
        for (size_t i = 0; i < both[k]->n; i++)
            if (both[k]->at[i].listener != NULL)
                listener_tend(both[k]->at[i].listener, now);
    COUNT_BY(&w->counters, closed_no_hello, pipes_overdue(w->pipes, now, found));
    close_found(w, found);
}

/* Until `ms` have passed or the thread is to stop; whether it is. */
static bool tend_wait(struct wire *w, uint64_t ms)
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

static void *tending(void *arg)
{
    struct wire *w = arg;
    struct buf found = {0};
    while (!tend_wait(w, TEND_MS))
        tend(w, &found);
    buf_free(&found);
    return NULL;
}

static void tending_start(struct wire *w)
{
    int failed = pthread_create(&w->tending, NULL, tending, w);
    assert(failed == 0);
    (void)failed;
    pthread_setname_np(w->tending, "tending");
    w->tends = true;
}

static void tending_stop(struct wire *w)
{
    if (!w->tends)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->stopped);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->tending, NULL);
    w->tends = false;
}

/* ---------------------------------------------------------------- addresses */

int wire_check(const char *url, const struct wire_tls *tls, struct err *e)
{
    return listen_check(url, tls, e);
}

static struct addresses addresses_new(const char *const *urls, size_t n, const struct listener_options *o)
{
    struct addresses a = {.at = mem_array(n, sizeof *a.at), .n = n};
    for (size_t i = 0; i < n; i++) {
        a.at[i].url = mem_strdup(urls[i]);
        a.at[i].listener = listen_is_local(urls[i]) ? NULL : listener_new(urls[i], o);
    }
    return a;
}

static void addresses_close(struct addresses *a)
{
    for (size_t i = 0; i < a->n; i++) {
        listener_close(a->at[i].listener);
        mem_free(a->at[i].url);
    }
    mem_free(a->at);
    *a = (struct addresses){0};
}

static const char *address_url(const struct address *a)
{
    return a->listener != NULL ? listener_url(a->listener) : a->url;
}

static int listen_local(struct wire *w, const char *url, struct err *e)
{
    if (w->local == NULL && local_open(&w->local, &local_hooks, w, w->bounds->request_bytes_max, e) != E_OK)
        return e->code;
    return local_listen(w->local, url, e);
}

/* The publisher first: hello tells its addresses. */
static int listen_all(struct wire *w, struct err *e)
{
    int code = E_OK;
    for (size_t i = 0; i < w->publish.n && code == E_OK; i++) {
        struct address *a = &w->publish.at[i];
        code = a->listener != NULL ? listener_start(a->listener, &w->tls, e)
                                   : publisher_listen_local(w->publisher, a->url, e);
        w->hello[i] = view_of_str(address_url(a));
    }
    for (size_t i = 0; i < w->listen.n && code == E_OK; i++) {
        struct address *a = &w->listen.at[i];
        code = a->listener != NULL ? listener_start(a->listener, &w->tls, e) : listen_local(w, a->url, e);
    }
    return code;
}

/* ---------------------------------------------------------------- life */

static void lock_open(struct wire *w)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->stopped, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* As many as can run; four check and decode more than the one loop steps. */
static unsigned polling_threads(void)
{
    enum { THREADS_MAX = 4 };
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > THREADS_MAX ? THREADS_MAX : (unsigned)n;
}

static void help(void *user)
{
    struct wire *w = user;
    w->help(w->user);
}

int wire_open(struct wire **out, const struct wire_options *o, struct err *e)
{
    struct wire *w = mem_zalloc(sizeof *w);
    const struct publisher_options publisher = {.api = o->api, .counters = &w->counters, .bounds = o->bounds};
    w->help = o->help;
    w->user = o->user;
    int code = pollers_start(&w->pollers, polling_threads(), help, w, e);
    if (code == E_OK)
        code = publisher_open(&w->publisher, &publisher, e);
    if (code != E_OK) {
        pollers_stop(w->pollers);
        mem_free(w);
        return code;
    }
    w->bounds = o->bounds;
    w->limits = o->limits;
    w->api = o->api;
    w->message_bytes_max = o->message_bytes_max;
    w->pipe_lost = o->pipe_lost;
    w->tls = (struct wire_tls){mem_strdup(o->tls.cert), mem_strdup(o->tls.key), mem_strdup(o->tls.ca)};
    w->pipes = pipes_new(w->bounds);
    const struct listener_options rep = {.hooks = &stream_hooks,
                                         .user = w,
                                         .pollers = w->pollers,
                                         .self = REP_PROTOCOL,
                                         .peer = REQ_PROTOCOL,
                                         .hears = true,
                                         .receive_bytes_max = w->bounds->hello_bytes_max,
                                         .trusted_bytes_max = w->bounds->request_bytes_max,
                                         .greeting_max = w->bounds->greeting_pipes_max,
                                         .greeting_ms = w->bounds->hello_ms};
    struct listener_options pub = publisher_listening(w->publisher);
    pub.pollers = w->pollers;
    w->listen = addresses_new(o->listen, o->listen_n, &rep);
    w->publish = addresses_new(o->publish, o->publish_n, &pub);
    w->hello = mem_array(o->publish_n, sizeof *w->hello);
    lock_open(w);
    *out = w;
    return E_OK;
}

int wire_listen(struct wire *w, const char *http, struct err *e)
{
    w->http = mem_strdup(http);
    tending_start(w);
    return listen_all(w, e);
}

void wire_close_door(struct wire *w)
{
    pipes_close_door(w->pipes);
}

/* Replies that were given leave, unless their clients do not take them. */
static void flush(struct wire *w, uint32_t flush_ms)
{
    struct pipes_totals t;
    for (uint64_t until = clock_mono_ms() + flush_ms; clock_mono_ms() < until;) {
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
    flush(w, flush_ms);
    tending_stop(w);
    addresses_close(&w->listen);
    addresses_close(&w->publish);
    local_close(w->local);
    publisher_close(w->publisher);
    pollers_stop(w->pollers);
    pipes_free(w->pipes);
    pthread_cond_destroy(&w->stopped);
    pthread_mutex_destroy(&w->lock);
    mem_free((char *)(uintptr_t)w->tls.cert);
    mem_free((char *)(uintptr_t)w->tls.key);
    mem_free((char *)(uintptr_t)w->tls.ca);
    mem_free(w->hello);
    mem_free(w->http);
    mem_free(w);
}

/* ---------------------------------------------------------------- questions and hints */

size_t wire_listen_count(const struct wire *w)
{
    return w->listen.n;
}

const char *wire_listen_url(const struct wire *w, size_t i)
{
    return address_url(&w->listen.at[i]);
}

size_t wire_publish_count(const struct wire *w)
{
    return w->publish.n;
}

const char *wire_publish_url(const struct wire *w, size_t i)
{
    return address_url(&w->publish.at[i]);
}

void wire_hint(struct wire *w, uint32_t group, const char *topic, const char *name)
{
    publisher_hint(w->publisher, group, topic, name);
}

void wire_drop_pipe(struct wire *w, uint64_t number)
{
    struct pipe *pipe = pipes_take_over(w->pipes, number);
    if (pipe == NULL)
        return;
    COUNT(&w->counters, closed_taken_over);
    pipe_close(pipe);
    pipes_release(w->pipes, pipe);
}

void wire_stats(struct wire *w, struct wire_stats *out)
{
#define X(name, help) out->name = atomic_load_explicit(&w->counters.name, memory_order_relaxed);
#include "wire/counters.def"
#undef X
    pipes_totals(w->pipes, &out->pipes);
    out->subscribers = publisher_subscribers(w->publisher);
}

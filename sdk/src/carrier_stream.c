/*
 * Frames over nng's byte streams: tls+tcp.
 *
 *                  dialled              both said "SP"
 *     dialling ---------------> greeting -------------> up ------+
 *        ^                         |                     |       | an error, drop
 *        |     pause, growing      v                     v       |
 *        +---------------------- nothing <--- down ----- broken <+
 *
 * A connection is an object of its own. Its two aios run in nng's threads, each in a chain: the callback takes what came, or sends
 * what is next, and starts the aio again. Whatever goes wrong there is reported to the loop, once, and the loop takes the
 * connection down: after nng_aio_stop no callback of it runs any more.
 */
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdatomic.h>
#include <string.h>

#include "base/entropy.h"
#include "base/mem.h"
#include "base/rng.h"
#include "sdk/carrier.h"
#include "sdk/error.h"
#include "sdk/framing.h"

enum { SEND_AT_ONCE = 8 }; /* as many pieces as an aio takes */

struct connection {
    struct stream *stream;
    nng_stream *bytes;
    nng_aio *rx, *tx;
    atomic_bool reported; /* `broken` is in the inbox, or was */
    struct event greeted, broken;
    /* the loop's thread */
    bool up;    /* `greeted` ran */
    bool ended; /* `broken` ran, before `greeted` did, which frees then */
    /* rx's chain */
    struct inlet in;
    /* under lock: the loop's thread and tx's chain */
    pthread_mutex_t lock;
    bool sending; /* tx is under way */
    struct outlet out;
};

struct stream {
    struct carrier carrier;
    nng_stream_dialer *dialer;
    nng_aio *dial;
    struct event dialled;
    /* the loop's thread */
    struct connection *connection;
    struct timer redial, greet;
    uint32_t pause_ms;
    bool stopped;
    bool closed; /* or the closing thread, when the loop's thread has ended */
    const char *trouble;
    struct rng rng;
};

static struct stream *of(const struct carrier *c)
{
    return container_of(c, struct stream, carrier);
}

/* ---------------------------------------------------------------- connections, nng's threads */

static void report_broken(struct connection *x)
{
    if (!atomic_exchange(&x->reported, true))
        loop_post(x->stream->carrier.loop, &x->broken);
}

/* ---- out */

/* Starts tx with what waits. Under lock. */
static void send_next(struct connection *x)
{
    struct iovec pieces[SEND_AT_ONCE];
    nng_iov iov[SEND_AT_ONCE];
    size_t n = outlet_pieces(&x->out, pieces, SEND_AT_ONCE);
    for (size_t i = 0; i < n; i++)
        iov[i] = (nng_iov){.iov_buf = pieces[i].iov_base, .iov_len = pieces[i].iov_len};
    x->sending = n > 0;
    if (x->sending) {
        nng_aio_set_iov(x->tx, (unsigned)n, iov);
        nng_stream_send(x->bytes, x->tx);
    }
}

static void sent(void *arg)
{
    struct connection *x = arg;
    if (nng_aio_result(x->tx) != 0) {
        report_broken(x);
        return;
    }
    pthread_mutex_lock(&x->lock);
    outlet_went(&x->out, nng_aio_count(x->tx));
    send_next(x);
    pthread_mutex_unlock(&x->lock);
}

/* ---- in */

/* The loop's thread, though it stands here: a frame has arrived. */
static void frame_arrived(struct event *e)
{
    struct inbound *in = container_of(e, struct inbound, event);
    struct stream *s = in->to;
    carrier_handed_over(&s->carrier);
    if (s->closed) {
        mem_free(in);
        return;
    }
    s->pause_ms = RECONNECT_MIN_MS;
    s->carrier.events->frame(s->carrier.user, in->tag, inbound_ref(in));
}

static void listen_on(struct connection *x)
{
    struct iovec pieces[2];
    nng_iov iov[2];
    size_t n = inlet_room(&x->in, pieces);
    for (size_t i = 0; i < n; i++)
        iov[i] = (nng_iov){.iov_buf = pieces[i].iov_base, .iov_len = pieces[i].iov_len};
    nng_aio_set_iov(x->rx, (unsigned)n, iov);
    nng_stream_recv(x->bytes, x->rx);
}

/* Hands over what came whole. False: the other side speaks something else. */
static bool take_frames(struct connection *x)
{
    for (;;) {
        struct inbound *in;
        switch (inlet_take(&x->in, &in)) {
        case INLET_GREETING:
            loop_post(x->stream->carrier.loop, &x->greeted);
            break;
        case INLET_FRAME:
            if (!carrier_hand_over(&x->stream->carrier)) {
                mem_free(in);
                break;
            }
            in->event.run = frame_arrived;
            in->to = x->stream;
            loop_post(x->stream->carrier.loop, &in->event);
            break;
        case INLET_NOTHING:
            return true;
        case INLET_NONSENSE:
            return false;
        }
    }
}

static void received(void *arg)
{
    struct connection *x = arg;
    if (nng_aio_result(x->rx) == 0) {
        inlet_came(&x->in, nng_aio_count(x->rx));
        if (take_frames(x)) {
            listen_on(x);
            return;
        }
    }
    report_broken(x);
}

/* ---------------------------------------------------------------- connections, the loop's thread */

/* No callback runs any more when it returns. */
static void connection_stop(struct connection *x)
{
    nng_stream_close(x->bytes);
    nng_aio_stop(x->rx);
    nng_aio_stop(x->tx);
}

/* A stopped one, whose events are not in the inbox. */
static void connection_free(struct connection *x)
{
    nng_aio_free(x->rx);
    nng_aio_free(x->tx);
    nng_stream_free(x->bytes);
    outlet_clear(&x->out);
    inlet_free(&x->in);
    pthread_mutex_destroy(&x->lock);
    mem_free(x);
}

/* The next attempt comes after a pause, from half to all of what it may be. */
static void dial_later(struct stream *s)
{
    if (s->stopped)
        return;
    struct loop *loop = s->carrier.loop;
    timer_set(loop, &s->redial,
              loop->now_ns + rng_between(&s->rng, s->pause_ms / 2, s->pause_ms) * NS_PER_MS);
    uint32_t most = carrier_pause_max(&s->carrier);
    s->pause_ms = 2 * s->pause_ms < most ? 2 * s->pause_ms : most;
}

static void redial(struct timer *t)
{
    struct stream *s = container_of(t, struct stream, redial);
    nng_stream_dialer_dial(s->dialer, s->dial);
}

static void greet_late(struct timer *t)
{
    struct stream *s = container_of(t, struct stream, greet);
    if (s->connection != NULL && !s->connection->up) {
        s->trouble = "what listens there does not answer";
        report_broken(s->connection);
    }
}

static void greeted(struct event *e)
{
    struct connection *x = container_of(e, struct connection, greeted);
    struct stream *s = x->stream;
    x->up = true;
    if (x->ended) {
        connection_free(x);
        return;
    }
    if (s->closed)
        return;
    if (!s->carrier.hears) /* who hears has nothing yet */
        s->pause_ms = RECONNECT_MIN_MS;
    s->trouble = "the connection was lost";
    timer_stop(s->carrier.loop, &s->greet);
    s->carrier.events->up(s->carrier.user);
}

static void broken(struct event *e)
{
    struct connection *x = container_of(e, struct connection, broken);
    struct stream *s = x->stream;
    connection_stop(x);
    s->connection = NULL;
    if (!s->closed) {
        bool late = !timer_is_set(&s->greet);
        timer_stop(s->carrier.loop, &s->greet);
        if (x->up)
            s->carrier.events->down(s->carrier.user);
        else if (!x->in.heard && !late)
            s->trouble = "what listens there is no broker, or refuses us";
        dial_later(s);
    }
    x->ended = true;
    if (x->up || !x->in.heard) /* else `greeted` is in the inbox */
        connection_free(x);
}

/* A connection was made: greets. */
static struct connection *connection_new(struct stream *s, nng_stream *bytes)
{
    struct connection *x = mem_zalloc(sizeof *x);
    x->stream = s;
    x->bytes = bytes;
    x->greeted.run = greeted;
    x->broken.run = broken;
    outlet_init(&x->out, false, s->carrier.hears);
    inlet_init(&x->in, false, s->carrier.hears);
    pthread_mutex_init(&x->lock, NULL);
    if (nng_aio_alloc(&x->rx, received, x) != 0 || nng_aio_alloc(&x->tx, sent, x) != 0) {
        connection_free(x);
        return NULL;
    }
    send_next(x); /* the greeting */
    listen_on(x);
    return x;
}

static const char *why(int rv)
{
    switch (rv) {
    case NNG_ECONNREFUSED:
        return "nobody listens there";
    case NNG_ETIMEDOUT:
        return "connecting timed out";
    case NNG_EADDRINVAL:
        return "there is no such address";
    default:
        return nng_strerror(rv);
    }
}

static void dialled(struct event *e)
{
    struct stream *s = container_of(e, struct stream, dialled);
    int rv = nng_aio_result(s->dial);
    nng_stream *bytes = rv == 0 ? nng_aio_get_output(s->dial, 0) : NULL;
    if (rv == 0 && (s->closed || s->stopped)) {
        nng_stream_free(bytes);
        return;
    }
    if (s->closed || s->stopped)
        return;
    if (rv == 0)
        s->connection = connection_new(s, bytes);
    else
        s->trouble = why(rv);
    if (s->connection != NULL)
        timer_set(s->carrier.loop, &s->greet, s->carrier.loop->now_ns + GREET_MS * NS_PER_MS);
    else
        s->carrier.events->missed(s->carrier.user);
    if (s->connection == NULL)
        dial_later(s);
}

/* In nng's thread. */
static void dial_done(void *arg)
{
    struct stream *s = arg;
    loop_post(s->carrier.loop, &s->dialled);
}

/* ---------------------------------------------------------------- the carrier */

static void stream_send(struct carrier *c, struct packet *p)
{
    struct connection *x = of(c)->connection;
    if (x == NULL) { /* broken meanwhile; the session is about to hear of it */
        packet_free(p);
        return;
    }
    pthread_mutex_lock(&x->lock);
    outlet_push(&x->out, p);
    if (!x->sending)
        send_next(x);
    pthread_mutex_unlock(&x->lock);
}

static void stream_reset(struct carrier *c)
{
    (void)c; /* what was not sent went with its connection */
}

/* Not by closing the stream: a receive that begins after that would not end. */
static void stream_drop(struct carrier *c)
{
    if (of(c)->connection != NULL)
        report_broken(of(c)->connection);
}

static void stream_stop(struct carrier *c)
{
    struct stream *s = of(c);
    s->stopped = true;
    timer_stop(c->loop, &s->redial);
    timer_stop(c->loop, &s->greet);
    nng_stream_dialer_close(s->dialer);
    stream_drop(c);
}

static void stream_close(struct carrier *c)
{
    struct stream *s = of(c);
    s->closed = true;
    timer_stop(c->loop, &s->redial);
    timer_stop(c->loop, &s->greet);
    nng_stream_dialer_close(s->dialer);
    nng_aio_stop(s->dial);
    if (s->connection != NULL)
        connection_stop(s->connection);
}

static void stream_free(struct carrier *c)
{
    struct stream *s = of(c);
    if (s->connection != NULL) /* not broken, else that freed it */
        connection_free(s->connection);
    nng_aio_free(s->dial);
    nng_stream_dialer_free(s->dialer);
    mem_free(s);
}

static const char *stream_trouble(const struct carrier *c)
{
    return of(c)->trouble;
}

int carrier_failed(struct sluice_error *err, int rv, const char *url)
{
    if (rv == NNG_ENOMEM)
        return fail(err, E_NO_MEMORY, "out of memory for a connection");
    return fail(err, E_INVALID_ARGUMENT, "broker '%s': %s", url, nng_strerror(rv));
}

static const struct carrier_ops ops = {
    .send = stream_send,
    .reset = stream_reset,
    .drop = stream_drop,
    .stop = stream_stop,
    .close = stream_close,
    .free = stream_free,
    .trouble = stream_trouble,
};

/* NULL files are not set. */
static int use_file(struct stream *s, const char *option, const char *path, struct sluice_error *err)
{
    int rv = path != NULL ? nng_stream_dialer_set_string(s->dialer, option, path) : 0;
    return rv == 0 ? 0 : fail(err, E_INVALID_ARGUMENT, "%s: %s", path, nng_strerror(rv));
}

static int use_tls(struct stream *s, const struct carrier_options *o, struct sluice_error *err)
{
    int code = use_file(s, NNG_OPT_TLS_CA_FILE, o->tls_ca_file, err);
    return code == 0 ? use_file(s, NNG_OPT_TLS_CERT_KEY_FILE, o->tls_cert_file, err) : code;
}

int carrier_stream_open(struct carrier **out, const struct carrier_options *o, struct sluice_error *err)
{
    const char *url = o->url;
    struct stream *s = mem_zalloc(sizeof *s);
    s->carrier = (struct carrier){.ops = &ops, .events = o->events, .user = o->user, .loop = o->loop, .hears = o->hears};
    s->dialled.run = dialled;
    s->redial.fire = redial;
    s->greet.fire = greet_late;
    s->pause_ms = RECONNECT_MIN_MS;
    s->trouble = "no connection";
    uint64_t seed;
    entropy_fill(&seed, sizeof seed);
    rng_seed(&s->rng, seed);
    int rv = nng_stream_dialer_alloc(&s->dialer, url);
    if (rv == 0 && strncasecmp(url, "tls+tcp", strlen("tls+tcp")) != 0)
        rv = NNG_ENOTSUP;
    if (rv == 0)
        rv = nng_aio_alloc(&s->dial, dial_done, s);
    if (rv != 0) {
        nng_stream_dialer_free(s->dialer);
        mem_free(s);
        return carrier_failed(err, rv, url);
    }
    int code = use_tls(s, o, err);
    if (code != 0) {
        nng_aio_free(s->dial);
        nng_stream_dialer_free(s->dialer);
        mem_free(s);
        return code;
    }
    nng_stream_dialer_set_bool(s->dialer, NNG_OPT_TCP_NODELAY, true);
    nng_stream_dialer_set_bool(s->dialer, NNG_OPT_TCP_KEEPALIVE, true);
    nng_aio_set_timeout(s->dial, CONNECT_MS);
    nng_stream_dialer_dial(s->dialer, s->dial);
    *out = &s->carrier;
    return 0;
}

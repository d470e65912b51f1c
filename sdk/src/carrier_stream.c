/*
 * Frames over nng's byte streams: tcp, tls+tcp, ipc.
 *
 *                  dialled              both said "SP"
 *     dialling ---------------> greeting -------------> up ------+
 *        ^                         |                     |       | an error, drop
 *        |     pause, growing      v                     v       |
 *        +---------------------- nothing <--- down ----- broken <+
 *
 * The framing is nng's, so that the other side is any REP socket: eight bytes each way that name the protocol, then messages, each
 * its length and a request id before the frame. Over ipc a byte 1 stands before the length.
 *
 *     0 'S' 'P' 0  protocol u16 BE  0 0       [1]  length of the rest u64 BE   request id u32 BE   frame
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

enum {
    SP_SIZE = 8, /* the greeting */
    SP_REQ = 0x30,
    SP_REP = 0x31,
    LENGTH_SIZE = 8,
    ID_SIZE = 4,
    HEAD_MAX = 1 + LENGTH_SIZE + ID_SIZE,
    SEND_AT_ONCE = 8,       /* packets; as many pieces as an aio takes */
    READ_AHEAD = 64 * 1024, /* bytes; so small answers come many at once */
    GREET_MS = 5000,        /* from the connection to the other side's greeting */
    CONNECT_MS = 10000,
    FRAME_ALIGN = 16,
};
_Static_assert((int)HEAD_MAX <= (int)CARRIER_ROOM, "a head fits before a frame");

/* A frame coming in; then an event. */
struct inbound {
    struct event event;
    struct stream *stream;
    uint32_t tag;
    size_t size, got;
    uint8_t *frame;
    _Alignas(FRAME_ALIGN) uint8_t bytes[]; /* the frame begins where its FlatBuffer is aligned */
};
enum { INBOUND_AT = FRAME_ALIGN - FRAME_SIZE % FRAME_ALIGN };

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
    bool heard;     /* their greeting */
    uint8_t *ahead; /* READ_AHEAD bytes */
    size_t ahead_at, ahead_end;
    struct inbound *in; /* the frame that is coming, or NULL */
    /* under lock: the loop's thread and tx's chain */
    pthread_mutex_t lock;
    bool sending;                     /* tx is under way */
    struct packet *first, **last;     /* packets that wait */
    struct packet *now[SEND_AT_ONCE]; /* those that tx sends */
    size_t now_n;
    nng_iov left[SEND_AT_ONCE]; /* what of them is left to send */
    uint8_t greeting[SP_SIZE];
};

struct stream {
    struct carrier carrier;
    bool ipc;
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
    x->now_n = 0;
    while (x->first != NULL && x->now_n < SEND_AT_ONCE) {
        struct packet *p = x->first;
        x->first = p->next;
        if (x->first == NULL)
            x->last = &x->first;
        uint8_t *head = p->frame - ID_SIZE - LENGTH_SIZE;
        put_u64be(head, p->size + ID_SIZE);
        put_u32be(head + LENGTH_SIZE, p->tag);
        if (x->stream->ipc)
            *--head = 1;
        x->left[x->now_n] = (nng_iov){.iov_buf = head, .iov_len = (size_t)(p->frame - head) + p->size};
        x->now[x->now_n++] = p;
    }
    x->sending = x->now_n > 0;
    if (x->sending) {
        nng_aio_set_iov(x->tx, (unsigned)x->now_n, x->left);
        nng_stream_send(x->bytes, x->tx);
    }
}

/* `n` bytes went out. Returns how many pieces are left, at the front of `left`. */
static size_t sent_bytes(struct connection *x, size_t n)
{
    size_t at = 0, pieces = x->now_n > 0 ? x->now_n : 1;
    while (at < pieces && n >= x->left[at].iov_len) {
        n -= x->left[at].iov_len;
        x->left[at].iov_len = 0;
        at++;
    }
    if (at < pieces) {
        x->left[at].iov_buf = (uint8_t *)x->left[at].iov_buf + n;
        x->left[at].iov_len -= n;
    }
    return pieces - at;
}

static void sent(void *arg)
{
    struct connection *x = arg;
    if (nng_aio_result(x->tx) != 0) {
        report_broken(x);
        return;
    }
    pthread_mutex_lock(&x->lock);
    size_t pieces = x->now_n > 0 ? x->now_n : 1;
    size_t left = sent_bytes(x, nng_aio_count(x->tx));
    if (left > 0) {
        nng_aio_set_iov(x->tx, (unsigned)left, x->left + (pieces - left));
        nng_stream_send(x->bytes, x->tx);
    } else {
        for (size_t i = 0; i < x->now_n; i++)
            packet_free(x->now[i]);
        send_next(x);
    }
    pthread_mutex_unlock(&x->lock);
}

/* ---- in */

static void free_inbound(struct ref *r)
{
    mem_free(r->owner);
}

/* The loop's thread, though it stands here: a frame has arrived. */
static void frame_arrived(struct event *e)
{
    struct inbound *in = container_of(e, struct inbound, event);
    struct stream *s = in->stream;
    if (s->closed)
        mem_free(in);
    else
        wire_answer(s->carrier.wire, in->tag, ref_wrap(in->frame, in->size, free_inbound, in));
}

static void listen_on(struct connection *x)
{
    nng_iov pieces[2];
    unsigned n = 0;
    if (x->in != NULL)
        pieces[n++] = (nng_iov){.iov_buf = x->in->frame + x->in->got, .iov_len = x->in->size - x->in->got};
    pieces[n++] = (nng_iov){.iov_buf = x->ahead + x->ahead_end, .iov_len = READ_AHEAD - x->ahead_end};
    nng_aio_set_iov(x->rx, n, pieces);
    nng_stream_recv(x->bytes, x->rx);
}

static size_t ahead_left(const struct connection *x)
{
    return x->ahead_end - x->ahead_at;
}

/* Takes the other side's greeting off what came. False: it is none. */
static bool take_greeting(struct connection *x)
{
    static const uint8_t expected[SP_SIZE] = {0, 'S', 'P', 0, 0, SP_REP, 0, 0};
    if (ahead_left(x) < SP_SIZE)
        return true;
    if (memcmp(x->ahead + x->ahead_at, expected, SP_SIZE) != 0)
        return false;
    x->ahead_at += SP_SIZE;
    x->heard = true;
    loop_post(x->stream->carrier.loop, &x->greeted);
    return true;
}

/* Takes a head off what came, and makes the frame that follows. False: it makes no sense. */
static bool take_head(struct connection *x)
{
    size_t type = x->stream->ipc ? 1 : 0;
    size_t head = type + LENGTH_SIZE + ID_SIZE;
    if (ahead_left(x) < head)
        return true;
    const uint8_t *at = x->ahead + x->ahead_at;
    uint64_t length = get_u64be(at + type);
    if ((type != 0 && *at != 1) || length < ID_SIZE || length - ID_SIZE > REPLY_BYTES_MAX)
        return false;
    size_t size = (size_t)length - ID_SIZE;
    struct inbound *in = mem_try(sizeof *in + INBOUND_AT + size);
    if (in == NULL)
        return false;
    *in = (struct inbound){.event.run = frame_arrived,
                           .stream = x->stream,
                           .tag = get_u32be(at + type + LENGTH_SIZE),
                           .size = size};
    in->frame = in->bytes + INBOUND_AT;
    x->in = in;
    x->ahead_at += head;
    return true;
}

/* Makes frames of what came. False: the other side speaks something else. */
static bool take_frames(struct connection *x)
{
    for (;;) {
        if (!x->heard && !take_greeting(x))
            return false;
        if (x->heard && x->in == NULL && !take_head(x))
            return false;
        struct inbound *in = x->in;
        if (in == NULL)
            return true; /* a head, or the greeting, has not come whole */
        size_t n = in->size - in->got < ahead_left(x) ? in->size - in->got : ahead_left(x);
        memcpy(in->frame + in->got, x->ahead + x->ahead_at, n);
        in->got += n;
        x->ahead_at += n;
        if (in->got < in->size)
            return true;
        x->in = NULL;
        loop_post(x->stream->carrier.loop, &in->event);
    }
}

static void received(void *arg)
{
    struct connection *x = arg;
    if (nng_aio_result(x->rx) != 0) {
        report_broken(x);
        return;
    }
    size_t n = nng_aio_count(x->rx);
    if (x->in != NULL) { /* its bytes went right to their place, those behind them into the read-ahead */
        size_t part = n < x->in->size - x->in->got ? n : x->in->size - x->in->got;
        x->in->got += part;
        n -= part;
    }
    x->ahead_end += n;
    if (!take_frames(x)) {
        report_broken(x);
        return;
    }
    memmove(x->ahead, x->ahead + x->ahead_at, ahead_left(x)); /* less than a head is left */
    x->ahead_end -= x->ahead_at;
    x->ahead_at = 0;
    listen_on(x);
}

/* ---------------------------------------------------------------- connections, the loop's thread */

static void packets_free(struct connection *x)
{
    for (size_t i = 0; i < x->now_n; i++)
        packet_free(x->now[i]);
    for (struct packet *p = x->first, *next; p != NULL; p = next) {
        next = p->next;
        packet_free(p);
    }
    x->now_n = 0;
    x->first = NULL;
    x->last = &x->first;
}

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
    packets_free(x);
    mem_free(x->in);
    mem_free(x->ahead);
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
    s->pause_ms = 2 * s->pause_ms < RECONNECT_MAX_MS ? 2 * s->pause_ms : RECONNECT_MAX_MS;
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
    s->pause_ms = RECONNECT_MIN_MS;
    s->trouble = "the connection was lost";
    timer_stop(s->carrier.loop, &s->greet);
    wire_up(s->carrier.wire);
}

static void broken(struct event *e)
{
    struct connection *x = container_of(e, struct connection, broken);
    struct stream *s = x->stream;
    connection_stop(x);
    s->connection = NULL;
    if (!s->closed) {
        timer_stop(s->carrier.loop, &s->greet);
        if (x->up)
            wire_down(s->carrier.wire);
        else if (!x->heard)
            s->trouble = "what listens there is no broker, or refuses us";
        dial_later(s);
    }
    x->ended = true;
    if (x->up || !x->heard) /* else `greeted` is in the inbox */
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
    x->ahead = mem_alloc(READ_AHEAD);
    x->last = &x->first;
    pthread_mutex_init(&x->lock, NULL);
    if (nng_aio_alloc(&x->rx, received, x) != 0 || nng_aio_alloc(&x->tx, sent, x) != 0) {
        connection_free(x);
        return NULL;
    }
    memcpy(x->greeting, (uint8_t[]){0, 'S', 'P', 0, 0, SP_REQ, 0, 0}, SP_SIZE);
    x->left[0] = (nng_iov){.iov_buf = x->greeting, .iov_len = SP_SIZE};
    x->sending = true;
    nng_aio_set_iov(x->tx, 1, x->left);
    nng_stream_send(x->bytes, x->tx);
    listen_on(x);
    return x;
}

static const char *why(int rv)
{
    switch (rv) {
    case NNG_ECONNREFUSED:
    case NNG_ENOENT: /* of ipc */
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
        wire_missed(s->carrier.wire);
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
    p->next = NULL;
    *x->last = p;
    x->last = &p->next;
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

static int use_tls(struct stream *s, const struct sluice_options *o, struct sluice_error *err)
{
    if (strncmp(o->broker, "tls", 3) != 0)
        return 0;
    int code = use_file(s, NNG_OPT_TLS_CA_FILE, o->tls_ca_file, err);
    return code == 0 ? use_file(s, NNG_OPT_TLS_CERT_KEY_FILE, o->tls_cert_file, err) : code;
}

int carrier_stream_open(struct carrier **out, const struct sluice_options *o, struct wire *w, struct loop *loop,
                        struct sluice_error *err)
{
    const char *url = o->broker;
    struct stream *s = mem_zalloc(sizeof *s);
    s->carrier = (struct carrier){.ops = &ops, .wire = w, .loop = loop};
    s->ipc = strncmp(url, "ipc:", strlen("ipc:")) == 0;
    s->dialled.run = dialled;
    s->redial.fire = redial;
    s->greet.fire = greet_late;
    s->pause_ms = RECONNECT_MIN_MS;
    s->trouble = "no connection";
    uint64_t seed;
    entropy_fill(&seed, sizeof seed);
    rng_seed(&s->rng, seed);
    int rv = strncmp(url, "ws", 2) == 0 ? NNG_ENOTSUP : nng_stream_dialer_alloc(&s->dialer, url);
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
    nng_stream_dialer_set_bool(s->dialer, NNG_OPT_TCP_NODELAY, true); /* or not supported, over ipc */
    nng_stream_dialer_set_bool(s->dialer, NNG_OPT_TCP_KEEPALIVE, true);
    nng_aio_set_timeout(s->dial, CONNECT_MS);
    nng_stream_dialer_dial(s->dialer, s->dial);
    *out = &s->carrier;
    return 0;
}

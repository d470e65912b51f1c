/*
 * Frames to a broker in the same process: a raw REQ socket with one dialer, which dials again by itself; or a SUB, to hear.
 *
 * nng's REQ would repeat requests by its own rules; raw it sends what it is given, once, with the request id in the message's
 * header. Packets go out one after another: the next is handed over when a pipe has taken the one before.
 */
#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "sdk/carrier.h"
#include "sdk/error.h"

enum {
    ALIGN_PAD = 4
}; /* within a process a message arrives at the address it was sent from: this aligns what follows the head */

struct inproc {
    struct carrier carrier;
    nng_socket socket;
    nng_dialer dialer;
    nng_aio *receive, *send;
    /* the loop's thread, or the closing one */
    nng_pipe pipe;
    bool closed;
    /* under lock: the loop's thread and `send`'s callback */
    pthread_mutex_t lock;
    bool sending;
    struct packet *first, **last;
};

/* What nng's threads hand to the loop. */
struct arrival {
    struct event event;
    struct inproc *to;
    nng_pipe_ev ev; /* if msg is NULL */
    nng_pipe pipe;
    nng_msg *msg;
};

static struct inproc *of(const struct carrier *c)
{
    return container_of(c, struct inproc, carrier);
}

/* ---------------------------------------------------------------- nng's threads */

static void free_message(struct ref *r)
{
    nng_msg_free(r->owner);
}

/* The loop's thread, though it stands here. */
static void arrived(struct event *e)
{
    struct arrival *a = container_of(e, struct arrival, event);
    struct inproc *c = a->to;
    size_t head = c->carrier.hears ? 0 : sizeof(uint32_t);
    if (a->msg != NULL)
        carrier_handed_over(&c->carrier);
    if (a->msg != NULL && (c->closed || nng_msg_header_len(a->msg) != head)) {
        nng_msg_free(a->msg);
    } else if (a->msg != NULL) {
        struct ref *frame = ref_wrap(nng_msg_body(a->msg), nng_msg_len(a->msg), free_message, a->msg);
        uint32_t tag = head > 0 ? get_u32be(nng_msg_header(a->msg)) : 0;
        c->carrier.events->frame(c->carrier.user, tag, frame);
    } else if (!c->closed && a->ev == NNG_PIPE_EV_ADD_PRE) {
        c->pipe = a->pipe;
        c->carrier.events->up(c->carrier.user);
    } else if (!c->closed) {
        c->pipe.id = 0;
        c->carrier.events->down(c->carrier.user);
    }
    mem_free(a);
}

static void push(struct inproc *c, struct arrival arrival)
{
    struct arrival *a = mem_alloc(sizeof *a);
    *a = arrival;
    a->event.run = arrived;
    a->to = c;
    loop_post(c->carrier.loop, &a->event);
}

/* ADD_PRE and not ADD_POST, because only ADD_PRE is sure to come before REM_POST. The pipe begins to take what is sent right
 * after it. */
static void pipe_changed(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    push(arg, (struct arrival){.ev = ev, .pipe = pipe});
}

static void received(void *arg)
{
    struct inproc *c = arg;
    if (nng_aio_result(c->receive) != 0)
        return; /* closed */
    nng_msg *m = nng_aio_get_msg(c->receive);
    bool too_large = c->carrier.hears && nng_msg_len(m) > HEARD_BYTES_MAX;
    if (!too_large && carrier_hand_over(&c->carrier))
        push(c, (struct arrival){.msg = m});
    else
        nng_msg_free(m);
    nng_recv_aio(c->socket, c->receive);
}

/* Under lock. A message is never inserted into: nng 1.5.2 corrupts the heap then (#1541). */
static void send_next(struct inproc *c)
{
    nng_msg *m = NULL;
    while (m == NULL && c->first != NULL) {
        struct packet *p = c->first;
        c->first = p->next;
        if (c->first == NULL)
            c->last = &c->first;
        if (nng_msg_alloc(&m, ALIGN_PAD + p->size + p->end.size) == 0) {
            nng_msg_trim(m, ALIGN_PAD);
            memcpy(nng_msg_body(m), p->frame, p->size);
            if (p->end.size > 0)
                memcpy((uint8_t *)nng_msg_body(m) + p->size, p->end.data, p->end.size);
            nng_msg_header_append_u32(m, p->tag);
        }
        packet_free(p);
    }
    c->sending = m != NULL;
    if (m != NULL) {
        nng_aio_set_msg(c->send, m);
        nng_send_aio(c->socket, c->send);
    }
}

static void sent(void *arg)
{
    struct inproc *c = arg;
    if (nng_aio_result(c->send) != 0)
        nng_msg_free(nng_aio_get_msg(c->send)); /* it stayed ours: called back, or closed */
    pthread_mutex_lock(&c->lock);
    send_next(c);
    pthread_mutex_unlock(&c->lock);
}

/* ---------------------------------------------------------------- the carrier */

static void inproc_send(struct carrier *carrier, struct packet *p)
{
    struct inproc *c = of(carrier);
    pthread_mutex_lock(&c->lock);
    p->next = NULL;
    *c->last = p;
    c->last = &p->next;
    if (!c->sending)
        send_next(c);
    pthread_mutex_unlock(&c->lock);
}

static void forget_packets(struct inproc *c)
{
    for (struct packet *p = c->first, *next; p != NULL; p = next) {
        next = p->next;
        packet_free(p);
    }
    c->first = NULL;
    c->last = &c->first;
}

/* One message may slip through to the next pipe; the broker answers it NO_SESSION, and by then nobody waits for that. */
static void inproc_reset(struct carrier *carrier)
{
    struct inproc *c = of(carrier);
    pthread_mutex_lock(&c->lock);
    forget_packets(c);
    bool sending = c->sending;
    pthread_mutex_unlock(&c->lock);
    if (sending)
        nng_aio_cancel(c->send);
}

static void inproc_drop(struct carrier *carrier)
{
    if (of(carrier)->pipe.id != 0)
        nng_pipe_close(of(carrier)->pipe);
}

static void inproc_stop(struct carrier *carrier)
{
    nng_dialer_close(of(carrier)->dialer);
}

/* First nothing is under way any more, then the socket goes: the other way round a callback can put an aio into a queue that is
 * closed already, and nng 1.5.2 frees the queue with the aio in it. */
static void inproc_close(struct carrier *carrier)
{
    struct inproc *c = of(carrier);
    c->closed = true;
    nng_aio_stop(c->receive);
    nng_aio_stop(c->send);
    nng_close(c->socket);
}

static void inproc_free(struct carrier *carrier)
{
    struct inproc *c = of(carrier);
    nng_aio_free(c->receive);
    nng_aio_free(c->send);
    forget_packets(c);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

static const char *inproc_trouble(const struct carrier *carrier)
{
    (void)carrier;
    return "nobody listens there";
}

static const struct carrier_ops ops = {
    .send = inproc_send,
    .reset = inproc_reset,
    .drop = inproc_drop,
    .stop = inproc_stop,
    .close = inproc_close,
    .free = inproc_free,
    .trouble = inproc_trouble,
};

int carrier_inproc_open(struct carrier **out, const struct carrier_options *o, struct sluice_error *err)
{
    const char *url = o->url;
    struct inproc *c = mem_zalloc(sizeof *c);
    c->carrier = (struct carrier){.ops = &ops, .events = o->events, .user = o->user, .loop = o->loop, .hears = o->hears};
    c->last = &c->first;
    pthread_mutex_init(&c->lock, NULL);
    int rv = o->hears ? nng_sub0_open(&c->socket) : nng_req0_open_raw(&c->socket);
    if (rv != 0) {
        inproc_free(&c->carrier);
        return carrier_failed(err, rv, url);
    }
    if (o->hears)
        rv = nng_socket_set(c->socket, NNG_OPT_SUB_SUBSCRIBE, o->topic.data, o->topic.size);
    if (rv == 0)
        rv = nng_aio_alloc(&c->receive, received, c);
    if (rv == 0)
        rv = nng_aio_alloc(&c->send, sent, c);
    if (rv == 0)
        rv = nng_pipe_notify(c->socket, NNG_PIPE_EV_ADD_PRE, pipe_changed, c);
    if (rv == 0)
        rv = nng_pipe_notify(c->socket, NNG_PIPE_EV_REM_POST, pipe_changed, c);
    if (rv == 0)
        rv = nng_socket_set_ms(c->socket, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS);
    if (rv == 0)
        rv = nng_socket_set_ms(c->socket, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS);
    if (rv == 0)
        rv = nng_dialer_create(&c->dialer, c->socket, url);
    if (rv == 0)
        rv = nng_dialer_start(c->dialer, NNG_FLAG_NONBLOCK);
    if (rv != 0) {
        inproc_close(&c->carrier);
        inproc_free(&c->carrier);
        return carrier_failed(err, rv, url);
    }
    nng_recv_aio(c->socket, c->receive);
    *out = &c->carrier;
    return 0;
}

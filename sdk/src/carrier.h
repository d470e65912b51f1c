/*
 * How frames travel: what wire.c asks of a transport, and ear.c, which only hears.
 *
 *     carrier_socket.c  tcp, ipc   sockets that the loop's thread polls, with nng's framing on them (framing.h)
 *     carrier_stream.c  tls+tcp    nng's byte streams, with the same framing
 *     carrier_inproc.c  inproc     a raw REQ socket, or SUB, the only way to a listener of one's own process
 *
 * Why not a raw REQ socket for all: in nng 1.5.2 a pipe of tcp or ipc that is closed while a message comes in, as when a busy
 * peer is killed, may never finish its receive (#1636, fixed in 1.6). The one thread that gets rid of pipes then waits for it for
 * ever: this client dials no more, and no other socket of the process notices a lost pipe. One kill in a hundred did it. Sockets and
 * streams have no such thread, and their errors say why a connection failed.
 *
 * A carrier dials until it is stopped, with a pause that grows. All calls come from the loop's thread, or when that thread does not
 * run. It reports by its events, in the loop's thread; up and down take turns. Nothing is reported after close, but something of it
 * may still be in the loop's inbox: it is freed when that was run.
 */
#ifndef SDK_CARRIER_H
#define SDK_CARRIER_H

#include <stdatomic.h>

#include <sluice/sluice.h>

#include "base/buf.h"
#include "base/ref.h"
#include "schemas/codec.h"
#include "sdk/loop.h"

enum {
    CARRIER_ROOM = 16, /* bytes that a carrier may write before a packet's frame */
    RECONNECT_MIN_MS =
        20, /* the pause between attempts, half to all of it: doubled each time, reset by a connection */
    RECONNECT_MAX_MS = 1000,
    RECONNECT_HEARER_MAX_MS = 30000, /* of who only hears: others know when it is worth to try again */
    CONNECT_MS = 10000, /* for an attempt; who has several addresses to try shares it among them */
    GREET_MS = 5000,    /* from the connection to the other side's greeting */
    REPLY_BYTES_MAX =
        WIRE_MESSAGE_MAX + (1 << 20), /* what a peer may announce: one largest message and its clothes */
    HEARD_BYTES_MAX = 1 << 20, /* of what only comes to be heard; larger ones are passed over, and take no memory */
    HEARD_WAITING_MAX = 16,    /* of those; one more is dropped */
};

/* A frame on its way out. The carrier that was given it frees it. */
struct packet {
    struct packet *next;
    uint8_t *memory; /* where the frame's allocation begins */
    uint8_t *frame;  /* CARRIER_ROOM bytes into it, or more */
    size_t size;
    struct view end;  /* of the frame, where it lies elsewhere; else absent */
    struct ref *hold; /* of `end` */
    uint32_t tag; /* nng's request id, top bit set */
};
void packet_free(struct packet *p);

struct carrier;

struct carrier_ops {
    void (*send)(struct carrier *c, struct packet *p);
    void (*flush)(struct carrier *c); /* the round ends: write what was sent in it. NULL: sending did */
    void (*reset)(struct carrier *c); /* the pipe is down: forget what was not sent */
    void (*drop)(struct carrier *c);  /* end the present pipe; `down` comes later */
    void (*stop)(struct carrier *c);  /* no more pipes: dial no more, end the present one */
    void (*close)(
        struct carrier *c); /* everything ends; when it returns no callback runs. loop_finish comes next */
    void (*free)(struct carrier *c);
    const char *(*trouble)(const struct carrier *c); /* why there is no pipe, as far as known; static */
};

/* `frame` is given over; `tag` is that of the packet that it answers, 0 for who only hears. */
struct carrier_events {
    void (*up)(void *user);
    void (*down)(void *user);
    void (*missed)(void *user); /* an attempt came to nothing; not by inproc, where nng dials */
    void (*frame)(void *user, uint32_t tag, struct ref *frame);
};

struct carrier {
    const struct carrier_ops *ops;
    const struct carrier_events *events;
    void *user;
    struct loop *loop;
    bool hears; /* a SUB: nothing is sent, and what comes has no tag. Else a REQ */
    atomic_uint waiting; /* frames that nng's threads handed to the loop, of who hears */
};

/* In nng's threads: whether one more that was heard is handed to the loop, which has not come to those before. In the loop: it has it. */
static inline bool carrier_hand_over(struct carrier *c)
{
    return !c->hears || atomic_fetch_add(&c->waiting, 1) < HEARD_WAITING_MAX || (atomic_fetch_sub(&c->waiting, 1), false);
}
static inline void carrier_handed_over(struct carrier *c)
{
    if (c->hears)
        atomic_fetch_sub(&c->waiting, 1);
}

/* How long pauses grow. */
static inline uint32_t carrier_pause_max(const struct carrier *c)
{
    return c->hears ? RECONNECT_HEARER_MAX_MS : RECONNECT_MAX_MS;
}

/* All lent for the call, but `events` and what is `user`'s. */
struct carrier_options {
    const char *url, *tls_ca_file, *tls_cert_file; /* files: NULL for none */
    bool hears;
    struct view topic; /* of who hears: what is wanted begins so. Others may come all the same */
    const struct carrier_events *events;
    void *user;
    struct loop *loop;
};

/* Begins to dial. INVALID_ARGUMENT (the URL, a file), NO_MEMORY, INTERNAL; nothing is left then. */
int carrier_open(struct carrier **out, const struct carrier_options *o, struct sluice_error *err);

/* The same, of one kind. */
int carrier_socket_open(struct carrier **out, const struct carrier_options *o, struct sluice_error *err);
int carrier_stream_open(struct carrier **out, const struct carrier_options *o, struct sluice_error *err);
int carrier_inproc_open(struct carrier **out, const struct carrier_options *o, struct sluice_error *err);

/* What nng's error means for opening. */
int carrier_failed(struct sluice_error *err, int rv, const char *url);

#endif

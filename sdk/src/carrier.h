/*
 * How frames travel: what wire.c asks of a transport.
 *
 *     carrier_socket.c  tcp, ipc   sockets that the loop's thread polls, with nng's framing on them (framing.h)
 *     carrier_stream.c  tls+tcp    nng's byte streams, with the same framing
 *     carrier_inproc.c  inproc     a raw REQ socket, the only way to a listener of one's own process
 *
 * Why not a raw REQ socket for all: in nng 1.5.2 a pipe of tcp or ipc that is closed while a message comes in, as when a busy
 * peer is killed, may never finish its receive (#1636, fixed in 1.6). The one thread that gets rid of pipes then waits for it for
 * ever: this client dials no more, and no other socket of the process notices a lost pipe. One kill in a hundred did it. Sockets and
 * streams have no such thread, and their errors say why a connection failed.
 *
 * A carrier dials until it is stopped, with a pause that grows. All calls come from the loop's thread, but open, close and free,
 * which come when that thread does not run. It reports by wire_up, wire_answer and wire_down, in the loop's thread; up and down
 * take turns. Nothing is reported after close.
 */
#ifndef SDK_CARRIER_H
#define SDK_CARRIER_H

#include <sluice/sluice.h>

#include "base/ref.h"
#include "sdk/wire.h"

enum {
    CARRIER_ROOM = 16, /* bytes that a carrier may write before a packet's frame */
    RECONNECT_MIN_MS =
        20, /* the pause between attempts, half to all of it: doubled each time, reset by a connection */
    RECONNECT_MAX_MS = 1000,
    CONNECT_MS = 10000, /* for an attempt; who has several addresses to try shares it among them */
    GREET_MS = 5000,    /* from the connection to the other side's greeting */
    REPLY_BYTES_MAX =
        WIRE_MESSAGE_MAX + (1 << 20), /* what a peer may announce: one largest message and its clothes */
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

struct carrier {
    const struct carrier_ops *ops;
    struct wire *wire;
    struct loop *loop;
};

/* Begins to dial. INVALID_ARGUMENT (the URL, a file), NO_MEMORY, INTERNAL; nothing is left then. */
int carrier_socket_open(struct carrier **out, const struct sluice_options *o, struct wire *w, struct loop *loop,
                        struct sluice_error *err);
int carrier_stream_open(struct carrier **out, const struct sluice_options *o, struct wire *w, struct loop *loop,
                        struct sluice_error *err);
int carrier_inproc_open(struct carrier **out, const struct sluice_options *o, struct wire *w, struct loop *loop,
                        struct sluice_error *err);

/* What nng's error means for opening. */
int carrier_failed(struct sluice_error *err, int rv, const char *url);

/* What carriers report. `frame` is given over. */
void wire_up(struct wire *w);
void wire_down(struct wire *w);
void wire_missed(struct wire *w); /* not by inproc, where nng dials */
void wire_answer(struct wire *w, uint32_t tag, struct ref *frame);

#endif

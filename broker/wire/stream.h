/* One connection that speaks SP, the protocol of nng's sockets, over bytes (bytes.h): TCP, TLS or a Unix socket.
 *
 *     accepted -> greeting, 8 bytes each way -> messages, each after its length -> closing -> done
 *
 * Why not nng's own REP and PUB sockets: in nng 1.5.2, which Debian has,
 *   - a connection that is closed while a message is being received on it can hang the one thread that frees connections, for good
 *     (nng #1636): clients that are told to go would take all others with them;
 *   - a client that hangs up in the middle of the greeting can end a listener's accepting for good (nng #1518);
 *   - a reply is dropped without a word when 64 are queued, and nobody is told what was written.
 * What is on the wire is the same, so any SP socket can be the client.
 *
 * Locking. All that the bytes are asked for happens under the stream's lock, and never after the stream was closed; so each thing
 * asked for is answered exactly once, and a stream is done when nothing is outstanding. They call back never from within a call, so
 * a hook may call anything here. Who sends writes, if nobody else does: `written` may come from within stream_send, no other hook.
 *
 * The hooks of one stream: opened, then messages in their order and written beside them, then closed, once, after all others.
 */
#ifndef WIRE_STREAM_H
#define WIRE_STREAM_H

#include "base/list.h"
#include "base/ref.h"
#include "wire/bytes.h"
#include "wire/packet.h"

struct stream;

enum {
    STREAM_SEND_AT_ONCE = BYTES_PIECES_MAX
}; /* packets given away together; `written` tells of so many at most, after the fact */

struct stream_hooks {
    bool (*opened)(void *user, struct stream *s); /* greeted. False: refused, no other hook comes */
    void (*message)(void *user, struct stream *s,
                    struct ref *bytes); /* takes `bytes`: id and frame, 8-aligned */
    void (*written)(void *user, struct stream *s, size_t packets, size_t bytes); /* the system has them */
    void (*closed)(void *user, struct stream *s);
    void (*done)(void *user, struct stream *s); /* nobody holds it: stream_free, but not in the thread that calls */
};

struct stream_kind {
    const struct stream_hooks *hooks;
    void *user;
    uint16_t self, peer;                         /* SP numbers of our socket and of those who may connect */
    bool hears;                                  /* false: who sends anything is closed */
    bool length_after_1;                         /* a Unix socket */
    size_t receive_bytes_max, trusted_bytes_max; /* of one message, before and after stream_trust */
};

/* Takes the connection. `kind` outlives it. */
struct stream *stream_new(struct bytes *bytes, const struct stream_kind *kind, uint64_t now_ms);
/* Greets; hooks come from now on. It holds itself until it ends; others may hold it too. */
void stream_begin(struct stream *s);

/* Any thread that holds it. */
struct stream *stream_take(struct stream *s);
void stream_drop(struct stream *s); /* the last one calls the hook `done` */
/* For who knows of it without holding it, and can keep `done` from returning: false when it is over. */
bool stream_try_take(struct stream *s);
void stream_close(struct stream *s);
/* Sends what others may hold too: takes the caller's hold on `p`. False: more than `queued_max` wait already, or it is closing; the
 * packet is dropped. */
bool stream_send(struct stream *s, struct packet *p, size_t queued_max);
/* Longer messages are accepted from now on. */
void stream_trust(struct stream *s);
void stream_set_owner(struct stream *s, void *owner);
void *stream_owner(const struct stream *s);
uint64_t stream_since_ms(const struct stream *s);
bool stream_greeted(struct stream *s);
bool stream_polled(const struct stream *s); /* its messages come in threads of a poller */

/* After the hook `done`, or if it never began. May wait for other threads. */
void stream_free(struct stream *s);

/* For whoever keeps it; the stream does not look at it. */
struct stream_link {
    struct list_node node;
};
struct stream_link *stream_link(struct stream *s);
struct stream *stream_of_link(struct stream_link *l);

#endif

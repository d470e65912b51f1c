/* The bytes of one connection, as a stream (stream.h) wants them: sockets of our own (socket.h), or nng's streams for TLS (secure.h).
 *
 *     receive one piece at a time ---------> received(how many, or failed)
 *     send what is to go now     --> how many went, or 0 -> sent(how many more), failed
 *     close: what is outstanding comes back as failed, soon
 *
 * Whoever owns it sees to it that one receive and one send are outstanding at most, and that nothing is asked for after close. The
 * three hooks come in threads of the kind's own, never two of them of one connection at the same time but `sent` beside `received`
 * of nng's, and never from within a call.
 */
#ifndef WIRE_BYTES_H
#define WIRE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

struct bytes;

enum { BYTES_PIECES_MAX = 8 }; /* of one send */

struct bytes_ops {
    bool (*receive)(struct bytes *b, void *at, size_t size); /* false: it is broken, and nothing will come */
    /* Bytes that the system has taken; 0: none yet, `sent` will come; -1: it is broken, and nothing will come. */
    ssize_t (*send)(struct bytes *b, struct iovec *pieces, unsigned n);
    void (*close)(struct bytes *b);
    /* Closed, nothing outstanding. `freed` comes, in any thread, perhaps from within: of a socket it may be asked whether it is over
     * until then. May wait for nng's threads. */
    void (*free)(struct bytes *b);
};

struct bytes {
    const struct bytes_ops *ops;
    bool polled; /* what is received comes in a thread of a poller */
    /* the owner's, set before the first receive */
    void *owner;
    void (*received)(void *owner, bool failed, size_t n);
    void (*sent)(void *owner, bool failed, size_t n); /* of a send that was 0; n may be 0: then it is time to send again */
    /* Asked after close, when nothing is outstanding as far as the kind knows: whether the owner knows that too. Else it is asked
     * again. Sockets only. */
    bool (*over)(void *owner);
    void (*freed)(void *owner); /* the last that it hears */
};

#endif

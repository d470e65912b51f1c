/*
 * The pipe to the broker: one nng socket in raw REQ mode with one dialer, which dials again whenever the pipe is lost. The
 * only file that knows nng.
 *
 * nng's resending is no part of this: what is sent is sent once, into one of WIRE_SLOTS slots, and stays there until it is
 * answered or the pipe is lost. Who repeats, and under which number, is the session's business.
 *
 *     free --wire_send--> busy: handed to nng --taken by the pipe--> sent --answer, or wire_reset--> free
 *
 * nng's threads only push events (a pipe came, went, an answer came) to the loop. Of each pipe, `up` is pushed before anything
 * else and `down` after everything else, and the next pipe's `up` after that.
 */
#ifndef SDK_WIRE_H
#define SDK_WIRE_H

#include <sluice/sluice.h>

#include "base/ref.h"
#include "schemas/codec.h"
#include "sdk/loop.h"

enum { WIRE_SLOTS = 64 }; /* more than a broker lets be unanswered: a slot is free only when nng is done with it too */

struct wire;

enum wire_kind { WIRE_UP, WIRE_DOWN, WIRE_REPLY };

/* What `handle` gets, in the loop's thread. It lives until `handle` returns. */
struct wire_event {
    struct event event;
    struct wire *wire;
    enum wire_kind kind;
    uint32_t pipe;
    uint32_t tag;     /* WIRE_REPLY: of the request it answers */
    struct ref *frame; /* WIRE_REPLY: frame and body; the receiver's, if it sets it to NULL here */
};

/* Makes the socket and begins to dial `url`. Errors: INVALID_ARGUMENT (the URL), NO_MEMORY, INTERNAL. */
int wire_open(struct wire **out, const char *url, struct loop *loop,
              void (*handle)(void *user, struct wire_event *e), void *user, struct sluice_error *err);

/* Closes and frees. The loop's thread has ended; events that were under way are run by loop_finish, which comes next, and do
 * nothing then. wire_free comes after that. */
void wire_close(struct wire *w);
void wire_free(struct wire *w);

/* ---- the loop's thread ---- */

/* Whether a slot is free; if not, the loop is woken when one is. */
bool wire_ready(struct wire *w);

/* Sends `r` if a slot is free (asserted); `owner` (not NULL) is who is to be told of the answer, expected by `due_ns`. E_TOO_LARGE
 * if it has more than `bytes_max` bytes or cannot be encoded. */
int wire_send(struct wire *w, const struct wire_request *r, size_t bytes_max, void *owner, uint64_t due_ns);

/* Whose request has this tag, and its slot is free again; NULL if nobody's (any more). */
void *wire_take(struct wire *w, uint32_t tag);

/* The pipe is lost: frees all slots and calls back what nng did not send yet. */
void wire_reset(struct wire *w);

/* Closes the present pipe; the dialer makes another one. */
void wire_drop(struct wire *w);

/* No more pipes: closes the dialer and the present pipe. */
void wire_stop(struct wire *w);

/* The earliest time by which an answer is expected; UINT64_MAX when nothing is out. */
uint64_t wire_due(const struct wire *w);

/* Why there is no pipe, as far as nng tells: "connection refused". Static. */
const char *wire_trouble(const struct wire *w);

#endif

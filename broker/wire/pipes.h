/* Who is connected, and what each connection may still do. Accounting only: no sockets, no clock; nng is told by others.
 *
 *      pipes_add                pipes_hello            pipes_request -> pipes_answer
 *   ------------> greeting ------------------> open ------------------------------------+
 *                    | hello_ms over             |  a 61st unanswered, too much unread  |
 *                    +-----> closing <-----------+<-------------------------------------+
 *                               | pipes_remove (nng: the pipe is gone)
 *                               v
 *                              gone, and freed when its last request was answered
 *
 * A pipe has two numbers: nng's, 31 bits and used again one day, and ours, which is never used again and is what the engine knows.
 * Requests of a pipe that is closing or gone are dropped, replies to it too: nng may hand over a message after it said that its
 * pipe is gone.
 *
 * Unread replies. nng queues 64 replies per pipe and then drops them without a word, and its send "succeeds" when the reply is
 * queued. So two things are bounded here:
 *   - requests of a pipe that are not yet answered: 60. A client that keeps to it has at most 60 replies in nng's queue.
 *   - bytes of replies that were given to nng and not yet to the kernel, per pipe and in all. What nng has written is known from its
 *     statistics (pipes_taken), which cost some microseconds per pipe, so they are asked for only when the sum since the last time
 *     could pass the bound (PIPE_UNSURE), and by the watch for pipes with more than 60 replies open.
 * A pipe with more than 60 replies that nng has not written sent more requests than it read replies: its replies may have been
 * dropped, so it is closed (pipes_slow).
 *
 * Thread: any, except where said; one lock, held for a few instructions.
 */
#ifndef WIRE_PIPES_H
#define WIRE_PIPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "wire/bounds.h"

struct pipes;
struct pipe; /* opaque: held from pipes_request to pipes_answer */

enum pipe_verdict {
    PIPE_OK,
    PIPE_GONE,     /* closing or gone: drop what it sent, or what was to be sent to it */
    PIPE_CLOSE,    /* it broke a rule: it is closing from now on, tell nng */
    PIPE_NO_HELLO, /* a request before hello: answer NO_SESSION; it counts as a request */
    PIPE_UNSURE    /* a bound may be passed: bring pipes_taken up to date and ask again */
};

struct pipes *pipes_new(const struct wire_bounds *bounds);
void pipes_free(struct pipes *p); /* pipes of which requests are still out are freed with them, so none may be */

/* A connection begins. `measured`: nng counts what it writes to this one (tcp, ipc, tls; not inproc, where bytes are handed over
 * within the process). False: a limit is reached, or pipes_close_door was called; refuse it. */
bool pipes_add(struct pipes *p, uint32_t nng_id, bool measured, uint64_t now_ms);
/* nng said that it is gone. Returns our number, 0 when it was never added. */
uint64_t pipes_remove(struct pipes *p, uint32_t nng_id);
/* From now on none is added. */
void pipes_close_door(struct pipes *p);

/* A request came. OK and NO_HELLO: *out is held until pipes_answer, *number is our number of the pipe. GONE, CLOSE: nothing is held. */
enum pipe_verdict pipes_request(struct pipes *p, uint32_t nng_id, bool is_hello, struct pipe **out, uint64_t *number);
/* The session of this pipe is accepted. */
void pipes_hello(struct pipes *p, struct pipe *pipe);
/* A reply of `bytes` is about to be given to nng. OK: give it, *nng_id is where to; the request counts as answered. GONE: drop it;
 * likewise answered. UNSURE: nothing changed. CLOSE: drop it and tell nng; answered. Except for UNSURE, `pipe` is not held any more. */
enum pipe_verdict pipes_answer(struct pipes *p, struct pipe *pipe, size_t bytes, bool sure, uint32_t *nng_id);
/* No reply can be given: the request counts as answered, the pipe is closing. True: tell nng; false: it knows. `pipe` is not held any more. */
bool pipes_drop(struct pipes *p, struct pipe *pipe, uint32_t *nng_id);

/* What nng has written to a pipe since it began. */
void pipes_taken(struct pipes *p, uint32_t nng_id, uint64_t replies, uint64_t bytes);

/* Pipes to close, marked as closing and appended to `out` as u32 nng ids; they return how many. */
size_t pipes_overdue(struct pipes *p, uint64_t now_ms, struct buf *out); /* no hello in time */
size_t pipes_slow(struct pipes *p, struct buf *out);                     /* more than 60 replies not taken: call after pipes_taken */
size_t pipes_fat(struct pipes *p, size_t more, struct buf *out);         /* the largest, until `more` bytes fit into the bound of all */
bool pipes_close(struct pipes *p, uint64_t number, uint32_t *nng_id);    /* that one; false: gone already */

/* Whether a look at nng's statistics could change anything. */
bool pipes_want_taken(struct pipes *p);

struct pipes_totals {
    uint32_t pipes, greeting, requests;
    uint64_t unread_bytes; /* at most: what nng wrote since the last look counts as unread */
};
void pipes_totals(struct pipes *p, struct pipes_totals *out);

#endif

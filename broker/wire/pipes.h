/* Who is connected, and what each connection may still do. Accounting only: no sockets, no clock.
 *
 *      pipes_add                 pipes_hello            pipes_request -> pipes_answer -> pipes_written
 *   ------------> not open yet ------------------> open -----------------------------------------+
 *                    | hello_ms over                |  a 61st request out, too much unread       |
 *                    +-----> closing <--------------+<-------------------------------------------+
 *                               | pipes_gone
 *                               v
 *                              gone, and freed when nobody holds it
 *
 * A client may have 60 requests out, by its own count: sent, and their replies not read. Ours can only come near to that. A request is
 * unanswered until its reply is given to the connection, and untaken until the system has the reply, which we are told a little
 * later than it happens (pipe_ops.lag). So 60 may be unanswered, and 60 and the lag untaken: a client that keeps to its number is
 * never closed, and one that asks and does not read soon is. Beside that the bytes of untaken replies are bounded, per connection
 * and in all. What was closed is not counted any more: its queue is freed at once.
 *
 * Thread: any; one lock, held for a few instructions. What is asked of a connection (pipe_ops) is asked without it.
 */
#ifndef WIRE_PIPES_H
#define WIRE_PIPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "wire/bounds.h"
#include "wire/packet.h"

struct pipes;
struct
    pipe; /* held by its connection until pipes_gone, by each request until pipes_release, and by who found it in a list */

/* What a connection can be asked for, in any thread, as long as the pipe is held. */
struct pipe_ops {
    void (*send)(void *conn, struct packet *p); /* takes the packet; a connection that is closing drops it */
    void (*close)(void *conn);
    void (*trust)(void *conn);   /* hello was accepted */
    void (*release)(void *conn); /* the pipe is freed: it does not know the connection any more */
    bool measured;               /* pipes_written will be called; else what is sent is taken at once */
    uint32_t lag;                /* replies that may be taken and not yet told */
};

enum pipe_verdict {
    PIPE_OK,
    PIPE_GONE,    /* closing or gone: drop what it sent, or what was to be sent to it */
    PIPE_CLOSE,   /* it broke a rule and is closing from now on: close its connection */
    PIPE_NO_HELLO /* a request before hello: answer NO_SESSION; it counts as a request */
};

struct pipes *pipes_new(const struct wire_bounds *bounds);
/* All are gone and held by nobody. */
void pipes_free(struct pipes *p);

/* A connection begins. NULL: a limit is reached, or pipes_close_door was called; refuse it. */
struct pipe *pipes_add(struct pipes *p, const struct pipe_ops *ops, void *conn, uint64_t now_ms);
/* It ended. Returns its number. The connection does not hold the pipe any more. */
uint64_t pipes_gone(struct pipes *p, struct pipe *pipe);
/* From now on none is added. */
void pipes_close_door(struct pipes *p);

/* Never used again while the broker runs; what the engine knows the connection by. From 1. */
uint64_t pipe_number(const struct pipe *pipe);
void pipe_send(struct pipe *pipe, struct packet *packet);
void pipe_close(struct pipe *pipe);

/* A request came. OK and NO_HELLO: the pipe is held for it, until pipes_release. */
enum pipe_verdict pipes_request(struct pipes *p, struct pipe *pipe, bool is_hello);
/* The session of this pipe is accepted. */
void pipes_hello(struct pipes *p, struct pipe *pipe);
/* A reply of `bytes` is there. OK: send it. GONE: drop it. CLOSE: drop it and close. */
enum pipe_verdict pipes_answer(struct pipes *p, struct pipe *pipe, size_t bytes);
/* There will be no reply: the pipe is closing. Whether it was not before: close it. */
bool pipes_drop(struct pipes *p, struct pipe *pipe);
void pipes_release(struct pipes *p, struct pipe *pipe);
/* The system has taken these replies. */
void pipes_written(struct pipes *p, struct pipe *pipe, size_t replies, size_t bytes);

/* Pipes to close, marked as closing and appended to `out` as pointers, each held; how many. */
size_t pipes_overdue(struct pipes *p, uint64_t now_ms, struct buf *out); /* no hello in time */
size_t pipes_fat(struct pipes *p, struct buf *out); /* the largest, until the bytes of all are in bounds */
/* That one, held; NULL: it is closing or gone. */
struct pipe *pipes_take_over(struct pipes *p, uint64_t number);

struct pipes_totals {
    uint32_t pipes, not_open, requests; /* requests: not answered */
    uint64_t unread_bytes;
};
void pipes_totals(struct pipes *p, struct pipes_totals *out);

#endif

/*
 * Packets between the supervisor and a child: the tables of plugin.fbs over a stream socket.
 *
 *     0 size of the packet u32 LE    4 zero u32    8 packet    zeros up to a multiple of 8
 *
 * So packets that lie one behind the other in a buffer all begin aligned and are decoded where they are.
 * The size is checked before memory is taken for it. A stream has no largest packet but ours, which fits
 * the largest message with its headers.
 *
 * The supervisor must never wait for a child: its end does not block, what the socket does not take stays
 * in the queue. The child's end blocks.
 *
 * Reading and writing touch different fields: one thread may read while another writes.
 */
#ifndef WORKERD_PIPE_H
#define WORKERD_PIPE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "schemas/codec.h"

enum { PIPE_PACKET_MAX = 72 << 20 }; /* bytes */

struct pipe {
    int fd;
    bool blocks;
    struct buf in, out;
    size_t in_at;  /* bytes of `in` that were taken */
    size_t out_at; /* bytes of `out` that were sent */
};

/* Takes the socket; pipe_free closes it. */
void pipe_init(struct pipe *p, int fd, bool blocks);
void pipe_free(struct pipe *p);

/* Queues a packet. Returns 0, TOO_LARGE or NO_MEMORY. */
int pipe_put(struct pipe *p, const struct plugin_packet *packet, struct err *e);

/* What was put since pipe_mark, with no pipe_flush between, is taken back. */
size_t pipe_mark(const struct pipe *p);
void pipe_rewind(struct pipe *p, size_t mark);

/* Sends what is queued, as much as the socket takes now, all of it if the pipe blocks. Returns 0, or CLOSED
   when nobody is at the other end any more. */
int pipe_flush(struct pipe *p, struct err *e);

/* Whether something is queued. */
bool pipe_pending(const struct pipe *p);

/* Reads once what has come; waits for it if the pipe blocks. Returns 0, AGAIN (nothing there now) or
   CLOSED. */
int pipe_fill(struct pipe *p, struct err *e);

/* The next whole packet, lent until the next pipe_fill; `out` is absent when there is none yet. Returns 0,
   or BAD_FRAME: the other end does not speak this language and the pipe is of no more use. */
int pipe_next(struct pipe *p, struct view *out, struct err *e);

/* A string of a packet with a closing zero, for mem_free; absent gives an empty one. */
char *packet_string(struct view v);

#endif

/* Threads that wait for descriptors to be ready, and say so to whoever watches them.
 *
 * Why not one of nng's: its poller hands each thing that happens to a second thread, and only that one calls back. On a machine with
 * few processors a hand-over costs more than the request that it is for: docs/internals.md, "Connections".
 *
 * A descriptor belongs to one of the threads, so nothing of it happens twice at the same time. Level-triggered: what was not dealt
 * with is told again.
 */
#ifndef WIRE_POLLER_H
#define WIRE_POLLER_H

#include <stdint.h>
#include <sys/epoll.h>

#include "base/err.h"
#include "base/inbox.h"

struct pollers;
struct poller;

/* Embedded in what is watched. */
struct watch {
    struct poller *poller;
    int fd;
    void (*ready)(struct watch *w, uint32_t events); /* EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP; its poller's thread */
    void (*free)(struct watch *w);                   /* after watch_free; its poller's thread */
    struct inbox_node end;
};

/* OK, or INTERNAL saying what the system refused. `told` is called in the thread whenever all that was ready has been told, before it
 * waits; NULL: not wanted. */
int pollers_start(struct pollers **out, unsigned threads, void (*told)(void *user), void *user, struct err *e);
/* Frees what watch_free was called for; nothing is watched any more. NULL is fine. */
void pollers_stop(struct pollers *p);

/* Gives the descriptor to the next thread in turn: events come from now on. Any thread, as are all below. 0, or an errno. */
int watch_add(struct pollers *p, struct watch *w, uint32_t events);
/* Which events are told from now on. */
void watch_change(struct watch *w, uint32_t events);
/* No more events, but perhaps one that is on its way. */
void watch_remove(struct watch *w);
/* Calls w->free in its thread when no event of it can come any more. The descriptor is the caller's, closed in `free` or before. */
void watch_free(struct watch *w);

#endif

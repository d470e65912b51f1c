/*
 * The client's one thread: it takes events from the inbox in the order in which they were pushed, looks after its sockets, fires
 * the timers that are due, lets the parts send what they now can, and sleeps until there is more.
 *
 *     callers, nng's threads ---event---> inbox ---> run ... run ---> watches ---> timers due ---> round ---> sleep
 *                                         sockets --------------------^
 *
 * What the thread owns needs no lock. Every other thread hands over: it pushes an event that knows what to do on arrival. A socket
 * needs no other thread: it is polled together with the inbox, and what woke the thread is handled in one round, whichever it was.
 */
#ifndef SDK_LOOP_H
#define SDK_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/inbox.h"

#define NS_PER_MS UINT64_C(1000000)

/* Embedded in what is handed over, which `run` finds with container_of. */
struct event {
    struct inbox_node node;
    void (*run)(struct event *e);
};

/* A timer fires once at or after its time; it is set again to fire again. All zero is a good one that is not set. */
struct timer {
    struct heap_node node;
    void (*fire)(struct timer *t);
};

/*
 * A descriptor that the loop polls. `ready` is called with what poll said of it. After events that came before the loop could sleep
 * nothing was polled: then it is called with 0, and finds out by trying, which costs no more than asking would.
 */
struct watch {
    int fd;
    short events;  /* what is waited for; may change at any time */
    short revents; /* the loop's: what the last poll said */
    void (*ready)(struct watch *w, int revents);
};

enum { LOOP_WATCHES_MAX = 4 };

struct loop {
    /* any thread */
    struct inbox inbox;
    /* the loop's thread */
    struct watch *watches[LOOP_WATCHES_MAX];
    size_t watches_n;
    struct heap timers;
    uint64_t now_ns; /* monotonic, as of this round */
    bool stopping;
    void (*round)(struct loop *l);
    /* never changes once started */
    pthread_t thread;
};

int loop_init(struct loop *l, void (*round)(struct loop *l), struct err *e);

/* Starts the thread, which takes no signals. Returns 0 or an errno with a text. */
int loop_start(struct loop *l, struct err *e);

/* Hands an event over; it belongs to the loop until it runs. Any thread. */
void loop_post(struct loop *l, struct event *e);

/* Gets the loop to make a round. Any thread. */
void loop_wake(struct loop *l);

/* The thread ends after this round. Loop's thread. */
void loop_stop(struct loop *l);
void loop_join(struct loop *l);

/* Runs what is still in the inbox, in the caller's thread: after loop_join, or if the loop was never started. */
void loop_finish(struct loop *l);

/* Whether the caller is the loop's thread: it must not wait for what only the loop can do. */
bool loop_here(const struct loop *l);

/* Sets a timer, set or not, to a monotonic time; UINT64_MAX: stops it. Loop's thread. */
void timer_set(struct loop *l, struct timer *t, uint64_t due_ns);
void timer_stop(struct loop *l, struct timer *t);
static inline bool timer_is_set(const struct timer *t)
{
    return t->node.place != 0;
}

/* Watches a descriptor; no longer. At most LOOP_WATCHES_MAX at once. Loop's thread, also within `ready`. */
void watch_begin(struct loop *l, struct watch *w, int fd, short events);
void watch_end(struct loop *l, struct watch *w);

/* One thread waits, on its stack, for one thing to be done by another. */
struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

void waiter_init(struct waiter *w);
void waiter_wait(struct waiter *w); /* until waiter_done, and ends the waiter */
void waiter_free(struct waiter *w); /* ends one that is not waited for */
void waiter_done(struct waiter *w); /* the waiter may be gone when this returns */

#endif

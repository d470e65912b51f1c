/*
 * A member of a stream group: what the broker told it to own, and until when it may believe that.
 *
 *     join ──> heartbeat ──> heartbeat ──> ...      one waits at the broker at any time, so news come at once
 *       ^          │
 *       └──────────┘ not known any more            a full term after each that was answered, counted from when it was sent
 *
 * The loop's thread asks and is told; the thread of the stream's user looks at what was told and says what it gave up. A generation that was
 * given up is not taken up again, as an answer may be older than that.
 */
#ifndef SDK_MEMBERSHIP_H
#define SDK_MEMBERSHIP_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "sdk/client.h"

struct membership {
    /* never changes */
    struct sluice *client;
    char *topic, *group, *name;
    uint32_t number, timeout_ms, poll_ms_max;
    /* under the lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned changes;            /* counts what the user's thread should look at */
    struct wire_place *assigned; /* as told */
    uint32_t assigned_n, group_id;
    uint64_t version;            /* of what was told; 0: nothing that counts */
    uint64_t until_ns;           /* nothing is owned from then on */
    struct map given_up;         /* partition -> the last generation that was given up */
    bool joined, paused;         /* paused: left, because nobody polled */
    bool poked;                  /* the event is on its way */
    uint64_t polled_ns;
    struct sluice_error fatal;   /* code 0: none */
    /* the loop's thread */
    unsigned out;                /* joins and heartbeats that are out */
    uint64_t newest;             /* number of the last that was sent */
    struct timer timer;
    bool closed;
    struct event poke, closing;
    struct waiter *close_waiter;
    atomic_uint refs;
};

struct membership *membership_new(struct sluice *s, const char *topic, const char *group, const char *name, uint32_t timeout_ms,
                                  uint32_t poll_ms_max);

/* Joins. Any thread; once. */
void membership_start(struct membership *m);

/* Under the lock. What is given up is said by the next poke; all that was told counts no more. */
void membership_gave_up(struct membership *m, uint32_t partition, uint64_t generation);
void membership_forget(struct membership *m);

/* Sends a heartbeat now. Any thread, without the lock. */
void membership_poke(struct membership *m);

/* Sleeps until something changed since `changes`, or a monotonic time. Under the lock. */
void membership_wait(struct membership *m, unsigned changes, uint64_t until_ns);

/* Something for the user's thread. Without the lock. */
void membership_signal(struct membership *m);

/* No more heartbeats. Blocks; not in the loop's thread. Leaving is the caller's. */
void membership_stop(struct membership *m);
void membership_take(struct membership *m);
void membership_drop(struct membership *m);

#endif

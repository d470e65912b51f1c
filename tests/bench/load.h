/*
 * Load on a server, ours or a peer's: lanes (a thread and a connection each) that send batches, and what is counted of them.
 *
 *     static int lane(struct load_lane *l, struct err *e)
 *     {
 *         connect to l->load->user;
 *         load_ready(l);                            // waits until all lanes are; from here it counts
 *         for (struct load_ticket t; load_next(l, &t);)
 *             send t.messages messages; when they are acknowledged load_done(l, &t), from whatever thread
 *         wait for what is out, hang up
 *         return 0;
 *     }
 *
 * Open loop (rate > 0): batches have times at which they are meant to be sent, whatever became of those before, and a latency
 * counts from then: who is late because the server was slow makes it look as slow as it was (no coordinated omission). Closed
 * loop: a batch goes when fewer than `window` of its lane are out. What is meant to be sent during the warm-up is not counted.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hist.h"
#include "server.h"

struct load;
struct load_lane;
typedef int load_lane_fn(struct load_lane *l, struct err *e);

/* Times in which nothing at all was acknowledged, of those that were counted. */
enum { GAPS_MAX = 1024 };
struct gap { uint64_t from_ns, to_ns; };
struct gaps {
    uint64_t least_ns;             /* shorter ones are not kept */
    uint64_t longest_ns;           /* of all */
    size_t count;                  /* kept, at most GAPS_MAX */
    struct gap list[GAPS_MAX];     /* in order */
};

struct load_options {
    uint32_t lanes, batch, window; /* window: batches of a lane that are out at once, in the open loop too */
    double rate;                   /* messages per second over all lanes; 0: closed loop */
    double warmup, seconds;
    uint64_t messages;             /* ends after so many, over all lanes, or when the time is up, if there is one, and nothing is
                                      warm-up; 0: by time */
    const struct server *server;   /* whose usage is counted, NULL: none */
    load_lane_fn *fn;
    void *user;
    bool progress;                 /* on stderr, if that is a tty */
    struct gaps *gaps;             /* the caller's, in: least_ns; NULL: nobody looks */
};

struct load_ticket {
    uint64_t intended_ns;          /* monotonic */
    uint32_t messages;             /* the batch, or what is left of o.messages */
};

struct load_lane {
    struct load *load;
    void *user;                    /* load_options.user */
    uint32_t index;                /* of the lane, from 0 */
    /* the rest is load.c's */
    struct hist *latency;
    uint64_t batches;
    atomic_uint_fast64_t counted;
    sem_t window;
    bool ready;
    int code;
    struct err err;
};

struct outcome {
    uint64_t messages;             /* acknowledged while it was counted */
    double seconds;                /* that this took */
    struct hist *latency;          /* of a message, from its batch's intended time; the caller's, may be NULL */
    struct usage server, self;     /* while it was counted; self: only CPU */
    uint64_t begin_ns, end_ns;     /* what was meant to be sent from then on was counted; the last that was */
};

/* Runs all lanes to their end. The first error of a lane ends the others, and is returned. */
int load_run(const struct load_options *o, struct outcome *out, struct err *e);
double outcome_rate(const struct outcome *o); /* messages per second */

/* For lanes. */
void load_ready(struct load_lane *l);
/* Waits until the next batch is to go; false when the time is up. */
bool load_next(struct load_lane *l, struct load_ticket *t);
/* It was acknowledged. Of one lane from one thread at a time. */
void load_done(struct load_lane *l, const struct load_ticket *t);

bool load_warm(const struct load_lane *l, const struct load_ticket *t); /* it is counted */

/* For lanes that receive: the time is not up; and so many messages were done that took from `since_ns` until now. */
bool load_goes_on(const struct load_lane *l);
void load_count(struct load_lane *l, uint64_t since_ns, uint64_t messages);

#endif

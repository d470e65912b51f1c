/*
 * The loop of the daemon: tasks from a source to handler processes, and what becomes of them back.
 *
 *              fetched            a place in a child         first in it
 *     source ----------> waiting --------------------> sent -------------> running
 *                          |  ^                          |                    |
 *                          |  |   BACK, or the child     |                    | verdict: ack, nack, park
 *                          |  +---- died of another -----+                    | its child died: nack
 *                          v                                                  v
 *                       release (no child is up, or we drain) -----------> settling ---> gone
 *
 * No more is fetched than the children have places for, or get done in a moment (ahead.h), and nothing while the
 * handler's breaker is open; how many children there are is the pool's matter (pool.h). Leases of all that is held are extended at a third of their
 * term; what ends that is the verdict, or the timeout of the running task.
 *
 * One thread: it makes every call, and the source's answers reach it through the inbox.
 */
#ifndef WORKERD_RUN_H
#define WORKERD_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/inbox.h"
#include "workerd/breaker.h"
#include "workerd/config.h"
#include "workerd/source.h"

/*
 *     STARTING ----> READY ----> DRAINING ----> DONE
 *        |             |             |
 *        +-------------+-------------+--------> FAILED
 */
enum run_state {
    RUN_STARTING, /* until every process is up and the broker was reached */
    RUN_READY,
    RUN_DRAINING,
    RUN_DONE,
    RUN_FAILED, /* a handler's file cannot be loaded, or a second signal */
};

struct run_options {
    const struct config *config; /* lent */
    const char *config_path;     /* where it is read again; NULL: it is not */
    const char *exe;             /* what is started for a child: the daemon's own file */
    struct source *source;
    struct inbox *inbox; /* the source's answers */
    int signals;         /* a signalfd of TERM, INT and HUP; -1: none */
    uint64_t turn_ms_max; /* a turn sleeps no longer; 0: as long as nothing happens */
};

/* Tasks, by how they ended. */
struct run_counts {
    uint64_t done, retried, parked, crashed;
    uint64_t given_back; /* not started, or not finished when the grace ended */
    uint64_t lost;       /* the broker did not take the outcome: they go to somebody else */
    uint64_t lag_published, lag_asked; /* how often the lag was told: as it came by itself, as the broker was asked */
    uint64_t conflicts;  /* run again, as another had changed the state of their key */
    uint64_t halved;     /* what ran in a process that ended, if it was several tasks: nobody was charged, their halves were tried apart */
};

struct run;
struct pool;

/* Starts the processes. */
struct run *run_new(const struct run_options *o);
/* Kills what still runs. */
void run_free(struct run *r);

/* Sleeps until something happens and deals with it. */
void run_turn(struct run *r);

/* What SIGTERM does: takes no more, gives back what did not start, finishes what runs within the grace. */
void run_drain(struct run *r);

/* What SIGHUP does: the configuration is read again, and every handler gets new processes. What is wrong with it is logged, and
   changes nothing. */
void run_reload(struct run *r);

enum run_state run_state(const struct run *r);
const char *run_error(const struct run *r); /* in FAILED */
bool run_cannot_start(const struct run *r); /* in FAILED: a handler's file is at fault, and nobody is in a hurry */

/* In DONE: every outcome and every ask was answered. If not, the broker did not answer in time or was never
   reached. */
bool run_clean(const struct run *r);

const struct run_counts *run_counts(const struct run *r, size_t handler);
const struct breaker *run_breaker(const struct run *r, size_t handler);

/* How all goes, after a turn, if there is news that is worth a look, at most ten times a second but for changes of the state; else NULL.
   Good until the next turn. */
struct figures;
const struct figures *run_figures(const struct run *r);

/* The processes of a handler: limits, pause and figures (pool.h). Valid until run_free. */
struct pool *run_pool(struct run *r, size_t handler);

#endif

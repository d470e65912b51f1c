/*
 * The processes of one handler: as many as scale.h says, between a least and a most, kept alive and given tasks.
 *
 *                     wanted rises: those that leave stay
 *                  +-------------------------------------------+
 *                  v                                           |
 *     start --> a child --> wanted falls: idle ones first --> leaving: gets no more; has nothing --> stopped --> gone
 *
 * None is stopped while it works, and none loses what it was handed.
 *
 * With no process at all one task is asked for all the same: when it comes, a process is started for it. At the
 * start there is at least one, so that a handler that cannot be loaded is found at once; it goes when it is idle.
 *
 * How far the group is behind is asked (source.h) each quarter of a second, and only while there is something in hand or
 * more processes than the least. What is decided when it is told may want a second look a moment later (scale.h).
 *
 * A new version, of the configuration or of the handler's file, is tried beside the one in force:
 *
 *     pool_renew --> processes on trial start --> one is up --> [canary: a part of the keys] --> in force: those of before leave
 *                              |                                        |
 *                              +-- cannot start --> dropped <-- fails more than the old one
 *
 * A version is a configuration and a file, which is held open: what is put in its place later is not loaded, by
 * whichever of its processes, before it is tried as a version of its own.
 *
 * One thread, that of the loop in run.c.
 */
#ifndef WORKERD_POOL_H
#define WORKERD_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <poll.h>

#include "workerd/canary.h"
#include "workerd/config.h"
#include "workerd/room.h"
#include "workerd/scale.h"
#include "workerd/source.h"
#include "workerd/supervise.h"

/* What the loop knows of the handler's tasks. "Ever" are counts that only grow. */
struct pool_work {
    size_t held;       /* without an outcome yet */
    uint64_t finished; /* ever: verdicts of any kind, crashes among them */
    uint64_t answered; /* ever: of these, those that the broker answered */
    uint64_t done;     /* ever: acknowledged or parked, by the broker's answer */
};

/* For people and metrics. */
struct pool_figures {
    uint32_t wanted, had; /* had: what was wanted before it last changed */
    enum scale_why moved; /* why it last changed */
    enum scale_why why;   /* why it is no more or less, now */
    uint32_t up, busy, starting, leaving; /* processes; busy: with a task */
    uint32_t running;                     /* calls, of all their threads */
    uint32_t min, max;
    bool paused;
    const char *version, *canary_version; /* of the one in force and the one on trial: "" before one is up */
    uint32_t canary_percent;     /* of the keys, that are with the next; 0: none */
    uint64_t dropped;            /* versions, ever */
    uint64_t backlog, in_flight; /* of the group, as it was last heard */
    double service_ms;           /* mean; 0: not known */
};

enum { VERSION_TEXT_MAX = 64 }; /* bytes */

struct pool {
    const struct handler_config *config; /* of the version in force */
    int file;                            /* its handler's, held open, so that its processes are all of it; -1: none */
    char text[VERSION_TEXT_MAX];         /* the version, as the process that started last said; "" before */
    uint32_t version;                    /* how many came in force before it */
    const char *exe;
    const struct child_events *events;
    void *user;
    struct child **children; /* in no order; none is freed but by pool_scale and pool_close */
    size_t n, cap;

    struct {
        const struct handler_config *config; /* NULL: none is tried */
        int file;
        bool up; /* one of its processes takes tasks */
        char text[VERSION_TEXT_MAX];
        struct canary canary;
    } next;
    uint64_t dropped;

    uint32_t min, max;
    bool by_hand; /* the limits are what people said, until the daemon ends */
    bool paused, stopping;
    struct scale scale;
    struct pool_work work;
    struct scale_decision last, moved; /* the last one, and the last that changed something */
    uint64_t busy_ms, counted_ms;      /* ever, summed over threads; as it was then */
    uint64_t held_most;                /* since the last sample */
    uint64_t sample_ms;                /* when the next is due */

    bool asking, heard; /* for the lag; it came since the last sample */
    bool known;
    uint64_t asked_ms, heard_ms, backlog, in_flight, waited_ms;
    uint64_t look_ms; /* when to decide again by what is known; UINT64_MAX: when more is */

    struct room room;
    uint64_t memory_of_one, room_ms;
};

/* Starts the first processes, now. Config, exe and events are lent; `user` is what children are given. */
void pool_init(struct pool *p, const struct handler_config *config, const char *exe,
               const struct child_events *events, void *user, uint64_t now_ms);
/* Kills what still runs. */
void pool_close(struct pool *p);

/* ---- people ---- */

/* From now on at least and at most so many, whatever a new configuration says; max is 1 to CONFIG_PROCESSES_MAX and not less than min. With both the
   same the number is fixed. */
void pool_limits(struct pool *p, uint32_t min, uint32_t max);
/* Paused, nothing is asked for; what is in hand is finished, and processes go as if there was nothing to do. */
void pool_pause(struct pool *p, bool paused);
void pool_figures(const struct pool *p, struct pool_figures *out);

/* ---- versions ---- */

/* Tries a configuration, or the same once more, as the file has changed. It is lent for as long as pool_uses says. */
void pool_renew(struct pool *p, const struct handler_config *config, uint64_t now_ms);
bool pool_uses(const struct pool *p, const struct handler_config *config);
/* What children tell, of each: it started, or could not; it ended; what became of a task, if that says something. */
void pool_started(struct pool *p, const struct child *c, int code, const char *text, uint64_t now_ms);
void pool_ended(struct pool *p, const struct child *c, const char *how);
void pool_verdict(struct pool *p, const struct child *c, bool failed);
/* Whether the next version is to have the task. */
bool pool_on_trial(const struct pool *p, const struct task *t);

/* ---- tasks ---- */

/* How many tasks may be in hand, if those that are have `held_bytes`; 1 with no process at all, 0 while paused. */
uint32_t pool_places(const struct pool *p, uint64_t held_bytes);
/* The same of all that there are, also of those that do not take tasks now and will again. */
uint32_t pool_capacity(const struct pool *p);
/* Whether any child takes tasks, if it has a place. */
bool pool_takes(const struct pool *p);
/* The child but `kept` (may be NULL), of the version in force or of the one on trial, that can take a task and has the fewest, or NULL.
   One that would begin it at once goes before those that would not. */
struct child *pool_least_busy(const struct pool *p, bool trial, const struct child *kept);
/* Whether what waits can be kept: a child takes tasks, or will once it has started. */
bool pool_hopeful(const struct pool *p);

/* ---- the loop ---- */

/* Fills pool->n * CHILD_FDS of them. */
void pool_poll(const struct pool *p, struct pollfd *fds);
uint64_t pool_due_ms(const struct pool *p);
/* Each child takes its step, with what poll said. */
void pool_step(struct pool *p, const struct pollfd *fds, uint64_t now_ms);
/* After that: how many there should be is looked at when it is time, and some are started or stopped. */
void pool_scale(struct pool *p, const struct pool_work *work, uint64_t now_ms);
/* True once, when the lag is to be asked for; pool_lag gives the answer (NULL: there is none). If it came by itself the next question is due
   sooner, to be there before the next comes. */
bool pool_wants_lag(struct pool *p, uint64_t now_ms);
void pool_lag(struct pool *p, const struct lag *lag, bool published, uint64_t now_ms);
void pool_flush(struct pool *p);

/* Whether all that should be there take tasks. */
bool pool_is_up(const struct pool *p);

/* ---- the end ---- */

/* No more are started; child_stop for each. */
void pool_stop(struct pool *p);
bool pool_is_gone(const struct pool *p);
/* What runs should stop; what still runs is killed. */
void pool_hurry(struct pool *p);
void pool_kill(struct pool *p, const char *why);

#endif

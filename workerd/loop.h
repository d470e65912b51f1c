/*
 * The loop's memory, and the calls between its parts: run.c (its life and its turns), tasks.c (what becomes of tasks) and dispatch.c
 * (children). Nobody else includes it. All in the loop's thread.
 */
#ifndef WORKERD_LOOP_H
#define WORKERD_LOOP_H

#include <poll.h>

#include "workerd/ahead.h"
#include "workerd/batch.h"
#include "workerd/figures.h"
#include "workerd/order.h"
#include "workerd/pool.h"
#include "workerd/refusal.h"
#include "workerd/reload.h"
#include "workerd/run.h"
#include "workerd/supervise.h"

struct handler {
    struct run *run;
    const struct handler_config *config;
    uint32_t index;
    struct pool pool;    /* its children */
    struct list waiting; /* tasks without a child, by `place` */
    struct list held;    /* all tasks without an outcome, the one extended longest ago first */
    size_t held_n;
    uint64_t held_bytes; /* as batches count them */
    bool asked;
    struct ahead ahead;
    uint32_t in_flight_max; /* of the group, as it was last heard; 0: no limit */
    uint64_t trim_ms;       /* when to look whether too much waits; UINT64_MAX: it does not */
    struct breaker breaker;
    uint64_t probe; /* the id of the task that is the breaker's probe; 0: none */
    struct order order;       /* of those held */
    struct batch_found found; /* tasks that ended their process */
    uint32_t last_suspects;
    uint64_t halved_ms; /* when the last batch was; 0: never */
    uint64_t window_ms; /* when a batch that may still grow goes as it is; UINT64_MAX: there is none */
    struct run_counts counts;
    struct figures_times times;
    uint64_t restarts;
    uint32_t version; /* the pool's number of that whose configuration is in force here too */
    struct file_watch file;
    uint64_t finished, answered; /* verdicts, and those of them that the broker answered */
    char error[ERR_TEXT_MAX];    /* of the last failure */
    struct command_taken taken;
};

/* A configuration that was read again. */
struct loaded {
    struct config *config;
    struct loaded *next;
};

struct run {
    const struct config *config;
    struct source *source;
    struct inbox *inbox;
    int signals;
    enum run_state state;
    struct err error;
    struct handler *handlers;
    struct pollfd *fds; /* inbox, signals, CHILD_FDS of each child of each handler, one after the other */
    size_t fds_cap;
    bool connected;
    uint64_t last_id;
    size_t tasks_n;       /* not freed */
    size_t effects_bytes; /* of all tasks */
    struct conflicts conflicts;
    struct task **call; /* the next, while it is made: room for those of the largest, and for all that a handler holds */
    size_t call_cap;

    /* outcomes for the source, and those it had no room for */
    struct outcome **sending, **refused;
    size_t sending_n, sending_cap, refused_n, refused_cap;
    uint64_t again_ms;

    uint64_t now_ms;
    uint64_t hard_ms, grace_end_ms; /* of the drain */
    bool hard;                      /* running tasks were told to stop */
    uint64_t sweep_ms;              /* when to look for what escaped from children */

    const char *config_path;
    const struct config *in_force; /* the one that was taken last */
    struct loaded *loaded;         /* all but the first, as long as something may use them */
    struct file_watch file;
    uint64_t reloads, look_ms; /* when files are looked at */

    struct figures figures;
    uint64_t turn_ms_max;
    uint64_t figures_ms; /* when they were taken */
    bool news, stale;    /* in this turn they were taken; something happened since */
};

/* ---- tasks.c ---- */

/* The last word on a task: it is out of our hands once this is answered. Takes the texts. */
void task_settle(struct handler *h, struct task *t, enum outcome_verb verb, uint64_t *counter, char *reason, char *error);
/* Gives it back, uncounted. */
void task_release(struct handler *h, struct task *t);
void task_log_failure(struct handler *h, const struct task *t, const char *outcome);
/* What became of a task (NULL: of a start), for the breaker. */
void task_judge(struct handler *h, const struct task *t, enum breaker_verdict verdict);
/* Answers of the source. */
void task_extended(struct run *r, struct task *t, int code);
void task_settled(struct run *r, struct task *t, int code);
void task_free_if_over(struct run *r, struct task *t);
void tasks_fetched(struct run *r, struct fetched *f);

/* The last of a key first: the broker takes a run back from its end. */
void tasks_release_waiting(struct handler *h);
void tasks_release_unless_soon(struct handler *h);
void tasks_step_breaker(struct handler *h);
uint64_t tasks_extension_due_ms(const struct handler *h);
void tasks_extend(struct handler *h);
void outcomes_flush(struct run *r);

/* ---- dispatch.c ---- */

extern const struct child_events dispatch_events;
void dispatch_tasks(struct handler *h);
/* Gives back what was fetched ahead (ahead.h) and has waited for too long. */
void dispatch_trim(struct handler *h);
/* Asks the source for as many tasks as there are places, or as are to be held ahead of them. */
void dispatch_ask(struct handler *h);

#endif

/* What is done later: batches that wait for their time, and tasks. */
#ifndef ENGINE_LATER_H
#define ENGINE_LATER_H

#include "base/buf.h"
#include "base/list.h"
#include "engine/timer.h"

struct group;
struct session;
struct topic;

/* ---------------------------------------------------------------- batches that wait for their time (sched.c) */

struct sched {
    struct timer timer;         /* when the wall clock is looked at again */
    uint64_t next_ms;           /* no batch row is due before; UINT64_MAX: none waits */
    uint64_t low_ms;            /* (row) readers begin here: no batch row is left before */
    uint64_t batches, messages; /* sums over topics */
    uint64_t names;             /* made in this epoch */
    bool asked;                 /* a reader fetches what is due */
    struct effect_due due;
    struct buf name;
};

/* ---------------------------------------------------------------- sched.c: batches that wait for their time */

bool sched_asked(const struct wire_produce *w);                              /* it has a delay, a time or a cron */
/* Whether sched_add would take it: OK, LIMIT (too far away), INVALID_ARGUMENT (cron). */
int sched_check(const struct engine *en, const struct wire_produce *w, struct err *e);
/* Lets a batch wait that sched_check would take, in place of what waits under its name; one whose time has come is appended. `out` is what is
 * answered of it, in the arena of `op`, which also keeps the batch's bytes. */
void sched_add(struct engine *en, struct op *op, const struct wire_produce *w, const struct op_batch *b, struct wire_produced *out);
void sched_due(struct engine *en, const struct due *d);
void sched_turn_end(struct engine *en);                                      /* asks for what is due, or sets the timer */
void sched_topic_gone(struct engine *en, struct topic *t);                   /* names at once; batches when they are due */
int sched_load(struct engine *en, struct err *e);
void sched_list(struct engine *en, struct op *op);
void sched_change(struct engine *en, struct op *op, struct session *s);

/* ---------------------------------------------------------------- task.c, replay.c: dead letters redriven and dropped, messages replayed */

void held_change(struct engine *en, struct op *op, struct session *s);
void task_list(struct engine *en, struct op *op);
void task_cancel(struct engine *en, struct op *op, struct session *s);
int task_load(struct engine *en, struct group *g, uint64_t id, struct view value, struct err *e);
void task_write(struct engine *en, struct list_node *dirty);
void tasks_forget(struct engine *en, const struct group *g); /* of a group that goes, with their rows; NULL: all of them, memory only */
uint64_t task_digest(const struct engine *en, uint64_t (*mix)(uint64_t, uint64_t));

#endif

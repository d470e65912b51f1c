/* A task, as task.c and replay.c share it: see task.c. */
#ifndef ENGINE_TASK_H
#define ENGINE_TASK_H

#include "base/planted.h"
#include "engine/filter.h"
#include "engine/memory.h"

enum { TASK_STEP_ROWS = 256 }; /* messages looked at in one step */

struct task {
    uint64_t id;
    struct group *group;        /* whose messages it changes */
    struct list_node link;      /* in engine.tasks, by id */
    struct list_node dirty;
    struct timer timer;         /* of the next step */
    struct task_row row;        /* (row) the filter's bytes are those of `text` */
    struct ref *text;
    struct err error;           /* text behind row.error */
    struct match *looked;       /* what readers said, applied up to looked_at */
    struct pick *picked;        /* the same, of a replay of the log */
    uint32_t looked_at, trailing; /* trailing: rows looked at behind its last place */
    uint32_t end_partition;     /* where the task stands when all of it is applied */
    uint64_t end_offset;
    uint64_t *ends;             /* (row) of a replay of the log: where it ends in each partition */
    uint32_t ends_n;
    bool looking;               /* readers have it */
    uint64_t credit, credit_ms; /* mono */
};

static inline bool task_changes(const struct task *t) { return !t->row.dry_run || PLANTED(dry_run_does); }
static inline bool task_limit_reached(const struct task *t) { return t->row.limit != 0 && t->row.matched >= t->row.limit; }
/* One message is changed: counted and paid for. */
void task_count(struct task *t);

/* ---------------------------------------------------------------- replay.c */

static inline bool replays_log(const struct task_row *r) { return r->act == TASK_REPLAY && r->replay.source == REPLAY_LOG; }
/* The group of `t` was made to be filled by it, and goes on with what is produced: it reads nothing new before the replay ends. */
static inline bool replay_fills(const struct task *t)
{
    return t->row.act == TASK_REPLAY && t->row.replay.into && !t->row.dry_run && t->group->config.from == FROM_END;
}
/* What the request asks of group `g`, into `row`; the group that it is to be done to, which may be made by it. NULL: answered. */
struct group *replay_begin(struct engine *en, struct op *op, struct group *g, struct task_row *row);
void replay_ends_set(struct engine *en, struct task *t); /* it begins; their row too */
int replay_ends_load(struct engine *en, struct task *t, struct err *e);
void replay_ends_remove(struct engine *en, const struct task *t); /* the row */
/* A held message that the replay may mean: whether its place is one. */
bool replay_in_range(const struct task *t, uint32_t partition, uint64_t offset);
/* It replays what another group holds of messages that the log has no more: with a copy of the other's copy. */
bool replay_wants_copy(const struct engine *en, const struct task *t, uint32_t partition, uint64_t offset);
/* A message that fits: present again if it is absent, else it is left. Whether it was absent. `what`: as entry_replay. `copy`: of one that the
 * log has no more; none: then it is lost. */
bool replay_message(struct engine *en, struct task *t, uint32_t partition, uint64_t offset, const struct held_row *what, struct view copy);
/* A step over the log, of at most `may` messages. True: there are none any more. */
bool replay_step(struct engine *en, struct task *t, uint64_t may);

#endif

/* The engine's memory: what the files of this layer share.
 *
 *   engine ── topics ── partitions ─────────────── fetch waiters
 *      │         └───── groups ── parts (one per partition: floor, done chunks, scan cursor, entries)
 *      │                   ├───── keys  (head + the list of what waits behind it), but for those that are away (away.c)
 *      │                   └───── leases ── entries
 *      └── sessions ── lanes (numbers, kept results)
 *               └───── leases, waiting operations
 *
 * Each has its header, with what its files do: logs.h, sessions.h, groups.h with queues.h and streams.h, later.h. This one puts them together.
 *
 * What survives a restart is marked (row): it is rebuilt from the store by load.c. Everything else is derived.
 */
#ifndef ENGINE_MEMORY_H
#define ENGINE_MEMORY_H

#include <assert.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/table.h"
#include "engine/groups.h"
#include "engine/later.h"
#include "engine/sessions.h"
#include "schemas/errors.h"

/* ---------------------------------------------------------------- the engine */

struct engine {
    struct store *store;
    const struct engine_limits *limits;
    struct pool entries;        /* each message in the flow takes one and gives it back */
    struct engine_counters counters;
    struct effects fx;
    struct buf cuts, copies;    /* as those */
    struct buf notices, loads, matches, picks, hints, partitions_fx, drops, appends_fx; /* the arrays behind fx */
    struct buf appends;         /* of struct append, this turn's */
    struct buf holds;           /* of struct ref *: what its batches stand in, until the turn is written */
    struct buf scratch, row;    /* for encoding */
    struct buf headers_moved;   /* of struct key: a start with rows of an older version */
    struct rng rng;
    uint32_t epoch;             /* (row) */
    uint64_t turn;              /* (row) */
    uint64_t durable;           /* the last turn that is on disk */
    uint64_t wall_ms;           /* (row) never goes back */
    uint64_t down_ms;           /* between the last turn before the start and the start */
    uint64_t topics_gone;       /* how many were deleted since the start */
    uint64_t names_turn;        /* the last in which a topic or group came, changed or went: who is told of it waits until that is on disk */
    uint32_t groups_gone[1024]; /* the last that went with their topic, by id: a ring */
    size_t groups_gone_n;
    struct engine_now now;
    struct engine_now clock;    /* when the two clocks were last seen to agree */
    bool wall_suspect;          /* the wall clock stepped: what goes by it pauses */
    struct sched sched;
    struct retention retention;
    uint64_t log_bytes[FAM_COUNT]; /* of all logs of a family */
    struct compacting compact;
    struct away away;
    struct list leaving;        /* entries that may go away at the end of the turn */
    uint64_t token_last;        /* counter of this epoch */
    uint64_t mark;              /* the last that was given: to see what was met before */
    struct group_part *settling; /* where the last item of the settle that is stepped was; NULL: none yet */
    struct next_row next;       /* (row) */
    bool epoch_written;
    struct topic **topics;      /* sorted by name */
    size_t topics_n;
    struct table partitions;    /* by id */
    struct map groups;          /* by id */
    uint32_t topics_count, groups_n;
    struct map sessions;        /* low half of the id -> session */
    struct map pipes;           /* pipe -> session */
    size_t sessions_n;
    struct heap timers, waits;
    struct list dirty_partitions, dirty_parts, dirty_keys, dirty_leases, dirty_lanes, dirty_tasks, stirred;
    struct list tasks;          /* by id; those that run and the last that ended */
    uint32_t tasks_n, tasks_running, tasks_stepped; /* stepped: in turn tasks_turn */
    uint64_t tasks_turn;
    struct list lag_changed;    /* groups, the one that changed last comes last (lag.c) */
    uint64_t lag_changes, lag_told; /* the last number given there; the last that somebody was told of */
    struct pending for_written, for_durable;
    struct dedup dedup;
    uint64_t ready, loading;    /* messages: in all groups */
    uint64_t disk_free;
    uint64_t began_ms;          /* mono */
    bool stopping, in_turn;
    struct err failed;
};

/* ---------------------------------------------------------------- engine.c, load.c */

void engine_fail(struct engine *en, const struct err *why);
/* Reads a row as the engine sees it: this turn's puts first. False: not there, or the engine failed. Good until the next call. */
bool row_read(struct engine *en, enum store_family f, const struct key *k, struct view *value);
/* A row was read and makes no sense: which one it is goes before why. The code. */
int row_bad(enum store_family f, struct view key, struct err *e);
void row_fail(struct engine *en, enum store_family f, struct view key, struct err *why); /* as that, and the engine fails */
void row_put(struct engine *en, enum store_family f, const struct key *k); /* en->row is the value */
void row_remove(struct engine *en, enum store_family f, const struct key *k);
void notice(struct engine *en, const char *fmt, ...) PRINTF_LIKE(2, 3); /* a line for the log */
void mark_dirty(struct list *dirty, struct list_node *n);
int engine_load(struct engine *en, struct err *e);

/* ---------------------------------------------------------------- answer.c */

/* Hands an operation back. Exactly one of these per operation. `turn`s and levels: see op.h. */
void answer(struct engine *en, struct op *op, int code, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* A refusal that says what was done before: it leaves as that does. */
void answer_standing(struct engine *en, struct op *op, enum durability level, int code, const char *fmt, ...) PRINTF_LIKE(5, 6);
void answer_now(struct engine *en, struct op *op);                 /* op->reply is filled; stands on nothing */
void answer_on(struct engine *en, struct op *op, uint64_t turn);   /* stands on a turn, this or one before, if that is not on disk yet */
void answer_change(struct engine *en, struct op *op, enum durability level); /* stands on this turn; kept as its lane's result */
void *op_take(struct engine *en, struct op *op, size_t n, size_t size); /* zeroed, from its arena; never NULL */
struct view op_text(struct op *op, const char *text);              /* a copy in its arena */

/* waiting: parks the operation with its session until `wait_ms` passed */
void wait_begin(struct engine *en, struct op *op, struct session *s, uint32_t wait_ms);
void wait_at(struct op *op, struct place *p, struct list *queue);
void wait_end(struct engine *en, struct op *op);                   /* out of all queues; it still has to be answered */
void wait_over(struct engine *en, struct op *op);                  /* its time is up: answered empty */

/* ---------------------------------------------------------------- what is looked up everywhere */

/* What rows and batches say is not trusted as an index. */
static inline uint8_t priority_bounded(uint8_t priority) { return priority < PRIORITIES ? priority : PRIORITIES - 1; }

/* What was scanned before a restart is being scanned again. */
static inline bool part_rescans(const struct group_part *p) { return p->cursor < p->scanned; }

static inline struct group_part *group_part(struct group *g, const struct partition *p) { return g->parts[p->index]; }

/* As rows and requests name it; NULL: the group's topic has no such partition. */
static inline struct group_part *group_part_of(const struct engine *en, struct group *g, uint32_t partition)
{
    const struct partition *p = table_get(&en->partitions, partition);
    return p != NULL && p->topic == g->topic ? group_part(g, p) : NULL;
}

/* Of the partition of this index: every offset below is done by the group, or was committed by it (mode stream). It is on disk with
 * the turn, and what of the log lies below is of no use to the group. */
static inline uint64_t group_floor(const struct group *g, uint32_t index) { return g->parts[index]->done.floor; }

#endif

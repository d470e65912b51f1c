/* Sessions, and the lanes in which their requests are numbered. */
#ifndef ENGINE_SESSIONS_H
#define ENGINE_SESSIONS_H

#include "base/list.h"
#include "base/map.h"
#include "engine/timer.h"

/* ---------------------------------------------------------------- sessions (session.c, lane.c) */

/* A lane keeps the results that its client has not seen. One that never says what it saw is refused at these bounds. */
enum { LANE_WINDOW = 60, LANE_RESULTS_MAX = 4 * LANE_WINDOW, LANE_RESULT_BYTES_MAX = 1 << 20 };

struct lane {
    uint32_t id;
    struct session *session;
    uint64_t base;              /* (row) every number up to it is done */
    uint64_t done;              /* (row) lane 0: bit i = base + 1 + i is done */
    struct lane_result *results;/* (row) by number, ascending */
    size_t results_n, results_cap, result_bytes;
    struct list_node dirty;
};
struct lane_result { uint64_t seq, turn; uint8_t level, verb; uint8_t *body; uint32_t body_size; };

/* Tokens of a rate: what was taken of them and has not come back yet (quota.c). */
struct bucket { uint64_t spent_milli, at_ms; };

struct session {
    struct id128 id;            /* (row) */
    char *name;                 /* (row) */
    uint64_t created_ms, seen_ms; /* (row) */
    uint64_t pipe;              /* 0: none */
    struct map lanes;           /* id -> lane; loaded from their rows when first used */
    struct list leases;         /* of struct lease, by `of_session` */
    uint64_t leased;            /* messages of its leases */
    uint64_t topics_gone;       /* engine.topics_gone when its lanes were looked through */
    struct list members;        /* of struct member, by `of_session` */
    struct bucket messages, bytes; /* produced */
    struct list waiting;        /* of struct op, by `wait` */
    size_t waiting_n;
    uint64_t slot_counter[LANE_WINDOW]; /* the highest counter of a receive in each slot */
    struct timer grace;         /* leases return */
    struct timer returning;     /* the rest of them: a bounded number a turn */
    bool ending;                /* it is forgotten when they all did */
    struct timer expiry;        /* numbers are forgotten */
    struct session *collision;  /* next with the same low half */
};

/* ---------------------------------------------------------------- session.c, lane.c */

struct session *session_of(struct engine *en, struct op *op);      /* NULL: answered NO_SESSION */
struct session *session_find(const struct engine *en, struct id128 id);
struct session *session_add(struct engine *en, struct id128 id, struct view name, uint64_t created_ms, uint64_t seen_ms);
void session_hello(struct engine *en, struct op *op);
void session_bye(struct engine *en, struct op *op);
void session_detach(struct engine *en, struct session *s);         /* its pipe is gone */
void session_wait_for_pipe(struct engine *en, struct session *s);  /* grace and expiry begin */
void session_free(struct engine *en, struct session *s);           /* memory only */
void sessions_close(struct engine *en);

/* LANE_NEW: do it; LANE_ANSWERED: was a repeat or a refusal, answered. */
enum lane_step { LANE_NEW, LANE_ANSWERED };
enum lane_step lane_begin(struct engine *en, struct session *s, struct op *op); /* LANE_NEW sets op->lane */
/* The request succeeded: op->reply is kept as its result, with this turn. answer_change calls it. */
void lane_done(struct engine *en, struct lane *l, struct op *op, enum durability level);
void lane_write(struct engine *en, struct lane *l);
void lane_free(struct lane *l);

#endif

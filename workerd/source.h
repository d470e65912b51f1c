/*
 * Where tasks come from and where their outcomes go: an interface, so that the supervisor knows no broker.
 *
 *     supervisor                     source
 *       ask(handler, places) ----->  receives in a thread of its own
 *       <--- FETCHED in the inbox    up to `places` tasks, or none: one answer for each ask
 *       settle(outcomes) --------->  sends them together
 *       <--- SETTLED in the inbox    one answer for each outcome
 *       lag(handler) ------------->  asks the broker
 *       <--- LAGGED in the inbox     how far its group is behind
 *       <--- CONNECTED               the broker can be reached (again)
 *
 * The calls are made by the supervisor's thread and never wait. Answers are nodes in the inbox that the
 * source was made with; they lie in the tasks and in the source, so nothing is allocated on the way.
 */
#ifndef WORKERD_SOURCE_H
#define WORKERD_SOURCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/inbox.h"
#include "base/list.h"
#include "workerd/effects.h"

struct child;
struct order_line;

enum event_kind {
    EVENT_FETCHED,
    EVENT_SETTLED,
    EVENT_CONNECTED,
    EVENT_LAGGED,
    EVENT_COMMAND /* of people: command.h */
};

/* What every node in the inbox begins with. */
struct event {
    struct inbox_node node;
    enum event_kind kind;
};

enum outcome_verb { OUTCOME_ACK, OUTCOME_NACK, OUTCOME_PARK, OUTCOME_RELEASE, OUTCOME_EXTEND };

/* One thing to tell the broker about a task; it becomes the answer. */
struct outcome {
    struct event event; /* SETTLED */
    struct task *task;
    enum outcome_verb verb; /* an ACK comes with the task's effects, in one atomic unit */
    int code;               /* answer: 0, or an enum error_code */
    char *text; /* answer: what of the effects was refused, for people; NULL: nothing to say; the taker's */
    bool under_way; /* given to the source and not answered */
};

/* A message that is leased to us. The source makes it, inside a struct of its own, and gets it back by
 * task_free after its last outcome was answered. */
struct task {
    /* filled by the source; what is lent is good until task_free */
    uint32_t handler; /* index in the configuration */
    uint32_t partition, attempt;
    uint64_t offset;
    uint64_t timestamp_ms, append_time_ms;
    struct view key, value, headers; /* lent */
    uint64_t leased_ms;              /* monotonic: when its lease began */
    uint64_t state_version;          /* of its key's state in the group; 0: none came with it */
    struct view state;               /* lent */
    bool ordered; /* others of its key may be held too, and are to be worked on in their order */

    /* the supervisor's */
    uint64_t id;            /* names it in the pipe; from 1 */
    struct list_node place; /* among those waiting, or those of a child */
    struct list_node held;  /* among all of the handler that have no outcome yet */
    struct child *child;    /* that has it and has not answered; NULL: none */
    uint32_t call;          /* the call of the handler that it is part of, there */
    uint32_t suspects; /* those that are tried with it and with no others (batch.h); 0: it is no suspect */
    uint64_t came_ms;  /* when it was fetched */
    struct order_line *line; /* those of its key (order.h); NULL: it is not ordered */
    struct list_node in_line;
    struct outcome settle, extend;
    char *reason, *error;    /* texts of `settle`; may be NULL */
    uint32_t delay_ms;       /* of `settle` with NACK; OUTCOME_BACKOFF: the group's */
    struct effects *effects; /* of `settle` with ACK: outputs and state; NULL: none */
    uint64_t *counter;       /* what it counts as once `settle` is answered */
    uint64_t began_ms;       /* monotonic: it runs, or ran, since then; 0: it never did */
    bool runs;               /* its call is one of those that its child has at once */
    bool blamed;             /* when its process ended: by its fault, or that of another that is blamed */
    bool lost;               /* the broker gave it to somebody else */
    bool refused;            /* `settle` was, for now */
    bool settled;            /* `settle` was answered */
};

enum { OUTCOME_BACKOFF = UINT32_MAX };

/* The answer to one ask. */
struct fetched {
    struct event event; /* FETCHED */
    uint32_t handler;
    struct list tasks;      /* by `place`; may be empty */
    uint32_t in_flight_max; /* what its group may have in flight, over all who receive; 0: no limit */
};

/* How far a group is behind. */
struct lag {
    uint64_t backlog;   /* what could be worked on now, and what is in flight */
    uint64_t in_flight; /* of that, whoever has it */
    uint64_t waited_ms; /* the oldest that is not done */
};

/* The answer to one question for the lag. */
struct lagged {
    struct event event; /* LAGGED */
    uint32_t handler;
    bool known;     /* false: the broker did not say */
    bool published; /* it came by itself; false: the broker was asked */
    struct lag lag;
};

struct source {
    /* Asks for up to `places` tasks (1 or more) of a handler. Of each handler one ask is under way at a
       time. */
    void (*ask)(struct source *s, uint32_t handler, uint32_t places);
    /* Sends outcomes (1 or more), which are then under way. Each is answered, at once or later; what then
       becomes of its task is in refusal.h. The effects stay the task's, and may be given again. */
    void (*settle)(struct source *s, struct outcome *const *outcomes, size_t count);
    void (*task_free)(struct source *s, struct task *t);
    /* Nothing will be asked any more: an ask that is under way is to be answered soon. */
    void (*stop)(struct source *s);
    /* Asks how far the handler's group is behind. Of each handler one question is under way at a time. NULL: this
       source knows of no group. */
    void (*lag)(struct source *s, uint32_t handler);
    atomic_bool away; /* the broker does not answer now; set by the source in any thread */
};

#endif

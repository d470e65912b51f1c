/*
 * One handler process, as the supervisor sees it: kept alive, fed with tasks, listened to, and cleared away
 * when it dies.
 *
 *              start              READY             child_stop
 *     DOWN -----------> STARTING --------> UP --------------------> STOPPING
 *       ^                  | ends          | ends                       | ends
 *       +---- backoff -----+---------------+                            v
 *       +----------------------- child_stop -------------------------> GONE
 *
 * It begins its tasks in the order in which they were sent, one or several as one call of the handler, and
 * has as many calls at once as it has threads. So those that run are known without a word: the first so many
 * calls that are not answered. They are to blame when the process ends: which of them did it is not known, but
 * if one took longer than the timeout, and the process was killed for that.
 *
 * One thread, that of the loop in run.c, which asks each child for descriptors and the next time that
 * matters, sleeps, and lets each take its step.
 */
#ifndef WORKERD_SUPERVISE_H
#define WORKERD_SUPERVISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <poll.h>

#include "base/buf.h"
#include "base/list.h"
#include "schemas/codec.h"
#include "workerd/config.h"
#include "workerd/pipe.h"
#include "workerd/process.h"
#include "workerd/source.h"
#include "workerd/words.h"

enum child_state { CHILD_DOWN, CHILD_STARTING, CHILD_UP, CHILD_STOPPING, CHILD_GONE };

enum {
    CHILD_FDS = 3,
    CHILD_BACKOFF_MS_MIN = 100,
    CHILD_BACKOFF_MS_MAX = 10000,
    CHILD_STEADY_MS = 10000, /* after such a life, or a verdict, the backoff begins anew */
    CHILD_START_MS_MAX = 60000,
    /* Who fell twice, and lived for less than that in between, runs behind the others for as long: its restarts and what it takes
       before it falls are not to cost its neighbours their time. Where that can be taken back it stands last: who gets no time
       at all for a start or a call gets its share after this long, or a tenth of the timeout. */
    CHILD_TROUBLE_MS = 60000,
    CHILD_LAST_MS_MAX = 250,
    CHILD_VERSION_MAX = 64, /* bytes; longer ones are cut */
    CHILD_PROGRESS_MAX = 80,
};

struct child;

/* What a child tells. In none of these may the child be freed. */
struct child_events {
    /* It can take tasks, and `text` is the version of its handler; or, with a code, could not start: CONFIG if
       its file is at fault. */
    void (*started)(struct child *c, int code, const char *text);
    /* The verdict on a task, which is out of the child's list already. Texts are lent. */
    void (*verdict)(struct child *c, struct task *t, const struct plugin_packet *p);
    /* The process ended. Its unanswered tasks are in the list, to be taken out now; those that are `blamed`
       ran: one of them did it, or, if `each`, one of each call. `how` says why, with its last words. */
    void (*ended)(struct child *c, bool each, const char *how);
};

/* A call that a child runs. */
struct child_call {
    uint32_t number;  /* of its tasks */
    uint64_t began_ms;
    uint64_t kill_ms; /* when it has taken too long */
    bool blamed;      /* the process was killed for what this call, or one of those beside it, did */
    char progress[CHILD_PROGRESS_MAX]; /* "50 % resizing", or "" */
};

struct child {
    const struct handler_config *config;
    const char *exe;
    const struct child_events *events;
    void *user;   /* the owner's */
    int file;     /* the owner's: lent, what is loaded though another file may have its name by now; -1: there is none */
    bool trial;   /* the owner's: of a version that is not in force yet */
    bool old;     /* the owner's: of a version that is in force no longer, or never was */
    bool leaving; /* the owner's: it gets no more, and is stopped when it has nothing */

    enum child_state state;
    struct process process; /* pid 0 while DOWN or GONE */
    struct pipe pipe;
    struct list tasks; /* by `place`: sent and not answered, in order */
    size_t tasks_n;
    size_t calls_n;     /* that these are part of */
    uint32_t last_call; /* that was sent */
    uint32_t threads;   /* calls that run at once, at most */
    struct child_call *runs; /* those that do, in the order in which they began */
    size_t runs_n;
    bool alone;         /* what it has are suspects, which are tried with no others beside them (batch.h) */
    bool batches;       /* it takes several tasks as one call; known in UP */

    uint64_t started_ms;
    bool was_up;           /* since it was started */
    bool was_useful;       /* it has given a verdict since */
    enum process_rank rank;
    bool may_raise;        /* if it is not PROCESS_EQUAL: the rank can be raised again */
    uint64_t share_ms;     /* when it gets its share although it stands last; UINT64_MAX: never */
    uint32_t falls;        /* ends that nobody asked for, one soon after the other */
    uint64_t kill_ms;    /* when the start, or a call, has taken too long; UINT64_MAX: never */
    uint64_t restart_ms; /* while DOWN */
    uint32_t backoff_ms, backoff_before_ms; /* the last pause, and the one before that end */
    char killed_for[ERR_TEXT_MAX]; /* why we killed it, or "" */
    bool blame_each;               /* each call that is blamed for that did it, not one of them */
    bool hung_up;                  /* nobody is at the other end of the pipe */

    char version[CHILD_VERSION_MAX];   /* of the handler, as it said when it was ready */
    uint64_t look_ms;                  /* when to look at what it and all below it take; UINT64_MAX: never */

    struct buf idempotency; /* the key of the task that is put */
    struct words words;     /* what is about the calls that run is the last of it since none did */
};

void child_init(struct child *c, const struct handler_config *config, const char *exe,
                const struct child_events *events, void *user);
/* The process, if there is one, is killed and waited for. */
void child_free(struct child *c);

/* Starts it, and again whenever it ends. */
void child_start(struct child *c, uint64_t now_ms);

/* How many tasks it may hold if those that are held for it have `bytes` already: its pipeline, and what its next calls may be as
   long as they are not full by that. */
uint32_t child_places(const struct child *c, uint64_t bytes);
/* Whether it may be given (more of) them now. */
bool child_takes(const struct child *c);
/* Whether what it was given would begin at once. */
static inline bool child_is_free(const struct child *c)
{
    return c->calls_n < c->threads;
}

/* Hands over tasks as one call, in UP. More than one only if it takes batches. Returns 0, or TOO_LARGE or
   NO_MEMORY: then none was, and `*failed` is the first that cannot be. */
int child_send(struct child *c, struct task *const *tasks, size_t n, uint64_t now_ms, size_t *failed,
               struct err *e);

/* If it has the task: that should stop, or come back with PLUGIN_BACK if it has not begun. */
void child_cancel(struct child *c, const struct task *t);
/* All that run. */
void child_cancel_running(struct child *c);

/* What it has not begun comes back; what runs goes on. */
void child_recall(struct child *c);

/* Finishes what it runs, gives back the rest, ends, and is not started again. */
void child_stop(struct child *c);
/* Ends it at once; no task is to blame. */
void child_kill(struct child *c, const char *why);
/* In `ended`: it is started again without delay, and this end does not count for later ones, as it was not the handler as a whole
   that failed. */
void child_again(struct child *c);

/* Descriptors to poll, CHILD_FDS of them; those not in use are -1. */
void child_poll(const struct child *c, struct pollfd fds[CHILD_FDS]);
/* The time at which it wants to take a step without being woken; UINT64_MAX: none. */
uint64_t child_due_ms(const struct child *c);
void child_step(struct child *c, const struct pollfd fds[CHILD_FDS], uint64_t now_ms);
/* Sends what was queued by the calls above; at the end of a turn. */
void child_flush(struct child *c);

static inline bool child_runs(const struct child *c, const struct task *t)
{
    return t->child == c && t->runs;
}

#endif

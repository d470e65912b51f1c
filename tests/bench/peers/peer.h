/*
 * What the peers have in common: where their programs and their configuration are, the account of what was published and came back,
 * and the pace of a lane whose server answers in order. A peer is one file here that defines a rival (rival.h), and one that says
 * why it is not there when the bench was built without its client library.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "../payload.h"
#include "../rival.h"
#include "../verify.h"

/* A rival that cannot run here, as this bench was built. */
#define PEER_WITHOUT(ident, shown, label, library)                                                                     \
    static bool without_##ident(char why[160])                                                                         \
    {                                                                                                                  \
        strcpy(why, "this bench was built without " library);                                                          \
        return false;                                                                                                  \
    }                                                                                                                  \
    const struct rival rival_##ident = {.name = shown, .title = label, .kind = RIVAL_PEER, .present = without_##ident}

/* The path of a program in $PATH or where Debian puts servers; false and `why` (may be NULL) when there is none. */
bool peer_program(const char *name, char path[PATH_MAX], char *why);

/* The first number with a dot in it that `path option` prints. */
int peer_version(const char *path, const char *option, char *out, size_t size, struct err *e);

/* Where a file of this directory is: their configuration, and what fetches them. */
int peer_file(const char *name, char path[PATH_MAX], struct err *e);
/* Copies such a file to `to` and adds the text. */
int peer_configure(const char *name, const char *to, const char *more, struct err *e);

/* ---------------------------------------------------------------- the account of a run */

enum { PEER_LANES_MAX = 1024 };

struct account {
    pthread_mutex_t lock;
    struct verify *verify;          /* under the lock */
    uint64_t next[PEER_LANES_MAX];  /* of a stream, which is a lane: all numbers below were acknowledged */
    atomic_uint_fast64_t taken;     /* by this call of queue */
    uint64_t produced, taken_before;
};

void account_open(struct account *a);
void account_close(struct account *a);

/* What a lane gets as load_options.user. */
struct job {
    void *run;
    struct account *account;
    const struct work *work;
};
int job_produce(struct job *j, const struct server *server, load_lane_fn *fn, struct outcome *out, struct err *e);
/* Fails when something was damaged or came twice, and, when all that was published has been taken, when something is missing. */
int job_queue(struct job *j, const struct server *server, load_lane_fn *fn, struct outcome *out, struct err *e);

/* Fails when something was damaged or came twice, or, if `all` must have come, is missing. */
int account_judge(const struct account *a, bool all, struct err *e);

/* The messages of a lane that publishes, one after the other. */
struct feed {
    struct account *account;
    struct payload payload;
    struct payload_head head;
};
void feed_open(struct feed *f, const struct job *j, uint32_t lane);
void feed_fill(struct feed *f, void *out); /* the next */
void feed_close(struct feed *f);           /* all of them were acknowledged */

/* A lane that takes goes on: there is time, and there are messages. */
bool intake_goes_on(const struct job *j, const struct load_lane *l);
/* A message came. With the account locked by account_lock. */
void account_lock(struct account *a);
void account_unlock(struct account *a);
void account_seen(struct account *a, const void *data, size_t size);
/* So many were acknowledged, that were asked for at `since_ns`. */
void intake_done(const struct job *j, struct load_lane *l, uint64_t since_ns, uint64_t messages);

/* ---------------------------------------------------------------- pace */

/* How a batch is published where answers come in the order of the questions. In the open loop with a window above 1 `await` is called
 * by a thread of its own, unless `alone`; then the window is 1 there. */
struct pace {
    void *user;
    int (*send)(void *user, uint32_t messages, struct err *e);  /* all of it leaves */
    int (*await)(void *user, uint32_t messages, struct err *e); /* blocks until the oldest batch that is out was acknowledged */
    bool alone;
};
/* From load_ready to the last acknowledgement. */
int pace_run(const struct pace *p, struct load_lane *l, const struct work *w, struct err *e);

#endif

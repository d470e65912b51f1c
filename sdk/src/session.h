/*
 * The session: who we are to the broker, over as many pipes as it takes, and the numbers that make a repeat no duplicate.
 *
 *                    pipe up                hello answered
 *     DIALLING --------------> GREETING ---------------------> READY
 *        ^                        |                              |
 *        +--------- pipe down ----+------------------------------+      everything unanswered is repeated, under its
 *                                 |                                     number, when READY comes again
 *                                 | SESSION_EXPIRED, or refused for good
 *                                 v
 *                               DEAD: every request, waiting or new, fails with that error
 *
 * A request belongs to the session from session_submit on. Its maker hears of it once, by `done`: with the broker's answer, or
 * when its deadline has passed. What was sent and not answered by then stays with the session and is repeated until it is
 * answered, for its number is taken and its outcome unknown; after that the session frees it.
 *
 *     state     | next
 *     QUEUED    | OUT, when its lane and the pipe let it
 *     OUT       | QUEUED when the pipe is lost; when its answer comes ANSWERED in an ordered lane, else gone, or DELAYED
 *     ANSWERED  | waits for the answers of its predecessors; then gone, or QUEUED without a number if it was refused for now
 *     DELAYED   | refused for now, in a lane without order: QUEUED after a while
 *
 * Lanes. Reads have no numbers. The free lane (0) has a window of FREE_WINDOW open numbers. An ordered lane, one per partition
 * produced to, has numbers without holes: up to LANE_WINDOW requests are out at once; when one is refused its successors are
 * OUT_OF_ORDER, so the lane waits until none is out (`rewinding`) and goes on from the first that was not done.
 *
 * All of it belongs to the loop's thread.
 */
#ifndef SDK_SESSION_H
#define SDK_SESSION_H

#include "base/buf.h"
#include "base/list.h"
#include "base/rng.h"
#include "sdk/answer.h"
#include "sdk/loop.h"
#include "sdk/wire.h"

enum {
    LANE_WINDOW = 8,   /* requests of one ordered lane that may be out */
    FREE_WINDOW = 60,  /* open numbers of the free lane, from the lowest one not done */
    WAITING_SPARE = 1, /* of the long polls a broker allows, left for what waits there by its own choice */
};

struct session;
struct request;

enum lane_kind { LANE_READS, LANE_FREE, LANE_ORDERED };

struct lane {
    struct session *session;
    enum lane_kind kind;
    uint32_t id;            /* LANE_ORDERED: the partition's */
    struct list_node all;   /* in the session's list of lanes */
    struct list_node ready; /* in the session's list of lanes that may have something to send */
    struct list requests;   /* all that are not gone, in the order of submission */
    unsigned count, out;    /* of them; of those, OUT */
    /* LANE_ORDERED */
    uint64_t done_seq; /* the last number done; all before it are done too */
    uint64_t next_seq;
    bool rewinding; /* one was refused: no new number until all that have one were answered, and a rest */
    bool blamed;    /* this rewind's rest was set, by the first that was refused */
    bool on_hold;   /* its owner's: no new number until it says so */
    uint64_t rest_ns;
    unsigned refusals;       /* rewinds since the last success */
    struct sluice_error why; /* rewinding: the first refusal for now, if that is the reason; else code 0 */
    struct timer rested;
    void (*progress)(struct lane *l); /* a request is gone: there is room for another */
    /* LANE_FREE: bit i stands for number base + i */
    uint64_t base;       /* the lowest number not done */
    uint64_t done, held; /* done; held by a request */
};

enum request_state { REQUEST_QUEUED, REQUEST_OUT, REQUEST_ANSWERED, REQUEST_DELAYED };

/*
 * Called once. Success: `error` is NULL and `a` is the answer. Refused: `error` says why, `a` is the answer. No answer, or none
 * that counts: `a` is NULL. `a` is lent. The request may be freed right after.
 */
typedef void request_done_fn(struct request *r, struct answer *a, const struct sluice_error *error);

struct request {
    /* its maker's, set before it is submitted */
    struct wire_request wire; /* verb and body; the session fills in the rest */
    struct arena memory;      /* what the views in `wire` look at, if not `body` */
    struct ref *body;         /* in it lies the batch of a produce; nobody writes to it once it was sent. NULL: there is none */
    struct lane *lane;
    uint64_t deadline_ns; /* when `done` is called at the latest; UINT64_MAX: never */
    const char *about;    /* for error texts: "topic 'x'"; lives in `memory`, or longer. May be NULL */
    uint32_t wait_ms;     /* how long the broker may keep it waiting; 0: it answers at once */
    void (*before)(struct request *r, bool may_wait); /* right before each sending; may be NULL */
    bool (*amend)(struct request *r, const struct answer *a); /* LANE_ORDERED, refused, and it is its turn: whether it was
                                                                 changed and is to be sent anew; may be NULL */
    request_done_fn *done;
    void *owner;
    /* What it carried beside itself is over, once: done with the answer, refused with it for now (then the request goes on without), or
     * given up (`a` is NULL). Also of a request whose maker was told before. May be NULL. */
    void (*dropped)(struct request *r, struct answer *a);
    void *passenger;
    size_t charged; /* given back to the budget when it is freed */
    /* the session's */
    struct event submit;
    struct list_node node;
    struct timer timer;
    enum request_state state;
    bool told;     /* `done` was called */
    bool in_doubt; /* sent since it was last refused: it may have been done */
    unsigned refusals;
    struct answer *answer; /* ANSWERED: the answer; else the last refusal, or NULL */
};

enum session_state { SESSION_DIALLING, SESSION_GREETING, SESSION_READY, SESSION_DEAD };

struct session_events {
    void (*ready)(void *user); /* hello was answered, the first time and each time */
    void (*dead)(void *user, const struct sluice_error *why); /* once; requests have been told */
    void (*missed)(void *user); /* an attempt to reach the broker came to nothing */
};

struct session {
    struct loop *loop;
    struct wire *wire;
    struct budget *budget;
    const struct session_events *events;
    void *user;
    const char *url, *name;
    void (*log)(void *user, int level, const char *text); /* NULL: silent */
    void *log_user;

    enum session_state state;
    struct id128 id;
    bool made;                   /* hello succeeded once: from now on it resumes */
    struct sluice_error fatal;   /* DEAD: why */
    struct sluice_error refused; /* the last refusal of a hello, code 0 if none */
    bool refused_for_now;        /* the hello is to be said again on this pipe */
    struct timer greeting;       /* GREETING: the hello's time is up, or it is to be said again */
    struct timer silence;        /* looks for answers that are overdue */
    struct lane reads, free;
    struct list lanes;
    struct list ready[2];  /* lanes: the ordered ones apart, so that nothing waits behind produces */
    unsigned out, waiting; /* requests on the pipe, and those of them that wait there */
    unsigned bad_answers;  /* in a row */
    size_t produce_bytes;  /* bytes of produces on the pipe */
    uint64_t repeated, reconnects;
    struct rng rng;
    /* what hello told */
    struct wire_limits limits;
    char http[128], product[64];
    char publish[512]; /* where its publications can be heard from here; "": nowhere */
};

void session_init(struct session *s, struct loop *loop, struct budget *budget,
                  const struct session_events *events, void *user, const char *url, const char *name);

/* What the pipe tells; `user` is the session. */
extern const struct wire_events session_wire_events;

/* A request of zeros, to be filled. Any thread. */
struct request *request_new(enum wire_verb verb);

/* Copies bytes into the request's memory; an absent view stays absent. Any thread, before it is submitted. */
struct view request_keep(struct request *r, struct view v);

/* Frees a request that was not submitted. Any thread. */
void request_free(struct request *r, struct budget *budget);

/* Hands a request over. Its lane belongs to this session. */
void session_submit(struct session *s, struct request *r);

/* As session_submit, from any thread. */
void session_post(struct session *s, struct request *r);

/* A line for the user's log. */
void session_say(struct session *s, int level, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Sends what can be sent. */
void session_send(struct session *s);

/* Why something was not even sent by its time; `about` as in a request. Returns the code. */
int session_never_sent(const struct session *s, const char *about, struct sluice_error *error);

/* Fails everything with `why`, for good. */
void session_die(struct session *s, const struct sluice_error *why);

void lane_init(struct lane *l, struct session *s, enum lane_kind kind, uint32_t id);

/* LANE_ORDERED: no request has a number, so the broker has done all that it was asked, or refused it. */
bool lane_settled(const struct lane *l);

/* Of a lane that is settled and held: takes its first request back, which was not told and is the caller's again. NULL: none is left. */
struct request *lane_withdraw(struct lane *l);

/* Numbers may be given again. */
void lane_release(struct lane *l);

/* Tells all of the lane's requests `why` that are not told, in order. */
void lane_tell(struct lane *l, const struct sluice_error *why);

#endif

/* The clients of a simulated world: each behaves as the protocol asks, over pipes that are lost and brokers that die.
 *
 *   client.c    sessions, lanes, sending and sending again
 *   acts.c      what a client does next
 *   work.c      what it settles: acks and the like, and units with outputs and state
 *   operate.c   what operators do: tasks over dead letters
 *   replies.c   what it makes of an answer
 */
#ifndef SIM_CLIENT_H
#define SIM_CLIENT_H

#include "model.h"

enum request_kind { R_HELLO, R_PRODUCE, R_RECEIVE, R_SETTLE, R_ADMIN, R_LOOK, R_FETCH, R_STATE, R_TASK, R_SCHED, R_CONTROL, R_BYE };
enum { SETTLE_MAX = 8, UNITS_MAX = 3, AGAIN_MAX = 32 };

struct held { uint64_t id, token; int group; uint64_t until; };

struct request {
    struct list_node link;     /* in client.requests, in order of making; in no list: answered, or given up */
    uint32_t refs;             /* operations of it that are under way */
    enum request_kind kind;
    enum wire_verb verb;
    uint32_t lane;
    uint64_t seq;
    bool sent;                 /* on the current pipe, not answered */
    uint64_t not_before;       /* refused: sent again then */
    uint64_t late_until;       /* lost on its way until then: those behind it in its lane overtake it */
    /* produce */
    struct batch batch;
    struct ref *bytes;         /* of this batch, or of those of the units */
    /* settle */
    struct item items[SETTLE_MAX];
    int units[UNITS_MAX];
    uint32_t items_n, units_n;
    bool carries;              /* a receive */
    /* receive */
    uint32_t slot;
    uint64_t counter;
    uint32_t groups[GROUPS], groups_n, max_messages, wait_ms;
    uint64_t first_turn, first_token; /* of the first reply, whoever saw it: what a repeat in the same turn must get too */
    /* admin */
    char topic[32], group[32];
    struct wire_topic_config topic_config;
    struct wire_group_config group_config;
    /* fetch */
    struct wire_fetch_from from;
    /* tasks */
    int change_group;
    struct wire_held_change change;
    struct wire_held_filter filter;
    uint64_t task;             /* to cancel */
    uint8_t control;           /* of change_group */
    uint64_t mask;
    /* what waits for its time */
    int sched;
    struct wire_sched move;
    /* state */
    int state_group, state_key;
};

struct lane_view { uint64_t next, seen, answered; };

struct client {
    int index;
    struct world *world;
    struct id128 session;
    bool known;                /* the broker has answered a hello of this session */
    uint64_t pipe;             /* 0: none */
    bool ready;                /* hello answered on this pipe */
    uint64_t pipe_since;
    uint64_t reconnect_at;
    struct list requests;
    struct lane_view lanes[PARTS + 1]; /* [PARTS]: lane 0 */
    uint64_t slot_counter[2];
    bool slot_busy[2];
    struct held *held;
    size_t held_n, held_cap;
    uint64_t again[AGAIN_MAX]; /* messages with ids of earlier sessions that may not have been appended */
    size_t again_n;
    struct { bool known; uint64_t version, count; } state[GROUPS][KEYS];
    uint64_t paused_until;     /* does nothing until then */
};

struct sim_op {
    struct op op;
    struct client *client;
    struct request *request;
    uint64_t pipe, hash;       /* hash: of the batch that was sent, which a refusal speaks of */
};

void clients_init(struct world *w);
void clients_free(struct world *w);
/* One random thing that a client does. */
void client_act(struct world *w, struct client *c);
void client_connect(struct world *w, struct client *c);
void client_send_due(struct world *w, struct client *c);
void client_lose_pipe(struct world *w, struct client *c, bool tell);
void client_crash(struct world *w, struct client *c); /* it comes back as another session */
void client_forget_session(struct world *w, struct client *c); /* expired or said bye: what is unanswered stays unknown */
struct request *client_request(struct client *c, enum request_kind kind, enum wire_verb verb);
void client_hold(struct client *c, struct held h);
void client_lane_answered(struct client *c, const struct request *r);
void request_end(struct request *r);
/* New messages for a batch; its bytes, behind others in `bytes`; those of a request with one batch. */
void batch_add_new(struct world *w, struct batch *b, uint32_t count, int unit);
void batch_delay(struct world *w, struct batch *b, int unit); /* it is to wait for its time */
bool batch_fits(struct world *w, const struct batch *b, uint32_t i); /* its key belongs to the batch's partition */
int client_part(struct world *w); /* one that is there */
void batch_encode(struct world *w, struct batch *b, struct buf *bytes);
void request_batch(struct world *w, struct request *r);
void client_state_get(struct client *c, int group, int key);
void client_resume(struct world *w, struct client *c);
void client_end_crons(struct world *w, struct client *c);
void client_drop_all(struct client *c); /* the dead letters of all groups */
void client_operate(struct world *w, struct client *c);
void client_grow(struct client *c, int topic);
void client_settle(struct world *w, struct client *c);
void client_receive_begin(struct world *w, struct client *c, struct request *r); /* fills the receive of a request; its slot is free */
int client_free_slot(const struct client *c); /* NONE: both wait */
void reply_arrived(struct sim_op *so);
static inline uint64_t client_now(const struct client *c) { return c->world->now.mono_ms; }

#endif

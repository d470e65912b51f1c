/* A simulated world around the real loop and engine: virtual time, clients that crash and repeat, a store that fails.
 *
 *   main.c     seeds, totals, replay
 *   world.c    one history: what happens next, and the broker's crashes
 *   client.c   clients: sessions, lanes, requests that are repeated until they are answered, what they lease and settle
 *   model.c    what must be true, known from outside: from replies, and from the rows of the log
 *
 * Everything that happens follows from the seed.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/rng.h"
#include "broker/loop.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "store/keys.h"
#include "store/store_mem.h"

enum { TOPICS = 3, PARTITIONS = 2, GROUPS_PER_TOPIC = 2, GROUPS = TOPICS * GROUPS_PER_TOPIC, PARTS = TOPICS * PARTITIONS, CLIENTS = 5, KEYS = 4, NONE = -1 };

/* What happened, counted over all seeds: a kind that never happened fails the run. */
#define SIM_TOTALS(X)                                                                                                            \
    X(events) X(produced) X(delivered) X(acked) X(nacked) X(released) X(parked_by_client) X(parked) X(extended) X(client_crashes) \
    X(broker_kills) X(power_cuts) X(torn_writes) X(sync_failures) X(disk_full) X(stalls) X(repeats) X(out_of_order) X(late_units) \
    X(redelivered) X(expired_leases) X(returned_leases) X(spilled) X(retries) X(sessions_expired) X(digests) X(units) X(fetched)  \
    X(hints) X(topics_deleted) X(groups_deleted) X(clock_jumps) X(blocked_keys)
struct sim_totals {
#define X(name) uint64_t name;
    SIM_TOTALS(X)
#undef X
};

/* ---------------------------------------------------------------- the model */

struct message {
    uint64_t id;
    int topic, part, key;      /* part: index into world.parts; key NONE: no key */
    bool acked;                /* the producer was told */
    int64_t offset;            /* where the log has it; -1: not there */
    int64_t acked_offset;
    struct group_view {
        bool done;             /* an ack was confirmed */
        uint32_t pending_done; /* acks and parks sent, outcome not known */
        uint32_t failures, grants; /* as last seen */
        int holder;            /* client that was granted it last */
        uint64_t until;        /* its lease is exclusive until then, mono ms; 0: it was given up */
        uint64_t granted_at, lease_end; /* the lease does not run out before */
        uint64_t token;
        bool given_back;       /* a nack or release of this token was sent: whether it counted is not known */
        uint64_t not_before;   /* nacked with a delay: comes back then, mono ms */
    } group[GROUPS_PER_TOPIC];
};

struct part_view {
    uint32_t id;
    int topic;
    int64_t *log;              /* offset -> message id, as the store's rows say */
    size_t end, cap;
    size_t synced_end;         /* what a power cut would leave */
};

struct world {
    uint64_t seed;
    struct rng rng;
    bool trace, failed, draining;
    struct sim_totals *totals;
    struct store *store;
    struct loop *loop;
    struct engine_limits limits;
    struct engine_now now;
    uint64_t *turn_time;       /* turn -> mono ms */
    size_t turn_cap;
    uint64_t clock_jumped_at;
    bool broker_down;          /* replies are lost: it is being killed */
    uint64_t synced;           /* by our own count: turns whose sync ended */
    uint64_t pipes;
    struct client *clients;
    struct message *messages;
    size_t messages_n, messages_cap;
    struct part_view parts[PARTS];
    uint32_t topic_ids[TOPICS], group_ids[GROUPS];
    struct wire_group_config group_config[GROUPS];
    uint8_t durability[TOPICS];
    int scratch;               /* how far a topic that comes and goes is; admin requests are client 0's */
    bool admin_busy;
};

void world_fail(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
void world_trace(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* One history of about `events` events; false: an invariant broke. */
bool world_run(uint64_t seed, uint32_t events, bool trace, struct sim_totals *totals);
uint64_t turn_time(const struct world *w, uint64_t turn);

struct message *model_message(struct world *w, uint64_t id);
struct message *model_new_message(struct world *w, int topic, int part, int key);
int model_part(const struct world *w, uint32_t partition_id);
int model_group(const struct world *w, uint32_t group_id);
/* Follows the log's rows in the store up to their end; every id at most once. */
void model_follow_log(struct world *w);
/* After a crash: the log from its beginning; what was acked must be there. `cut`: unsynced writes may be gone. */
void model_after_crash(struct world *w, bool cut);
/* The producer was told that this message has this offset. */
void model_acked(struct world *w, struct message *m, int64_t offset);
/* The wall clock was set: a restart of the broker may find retries due that were not. */
void model_clock_jumped(struct world *w);
/* A nack with a delay was confirmed, an extension was: of the turn at `at`, by a client that has its pipe since `since`. What it held before
 * may have gone back meanwhile. */
void model_nacked(struct world *w, int group, struct message *m, uint64_t token, uint64_t since, uint64_t at, uint64_t delay_ms);
void model_extended(struct world *w, int group, struct message *m, uint64_t token, uint64_t since, uint64_t at);
/* What waits for its time has two rows, and nothing else has the second. */
void model_held_rows(struct world *w);
/* A message was delivered: checks order, exclusiveness, counts, delays, and that it is not done. */
void model_delivered(struct world *w, int client, int group, const struct wire_record *r, struct view key, struct view value,
                     uint64_t token, uint64_t granted_at, uint32_t lease_ms);
bool model_parked(struct world *w, int group, const struct message *m);
void model_census(struct world *w);
void model_nothing_leased(struct world *w);
void model_end(struct world *w); /* everything drained */

/* ---------------------------------------------------------------- clients */

enum request_kind { R_HELLO, R_PRODUCE, R_RECEIVE, R_SETTLE, R_ADMIN, R_FETCH, R_BYE };

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
    struct ref *batch;
    uint64_t hash, ids[8];
    uint32_t count, partition;
    int64_t first_offset;      /* as answered, to compare with a repeat's */
    /* settle */
    struct wire_settle_item items[8];
    struct wire_unit unit;
    uint64_t item_ids[8];
    int item_groups[8];
    uint32_t items_n;
    bool as_unit;
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
    bool working;              /* takes part: those that pause do nothing for a while */
    uint64_t paused_until;
};

void clients_init(struct world *w);
void clients_free(struct world *w);
/* One random thing that a client does. */
void client_act(struct world *w, struct client *c);
void client_connect(struct world *w, struct client *c);
void client_send_due(struct world *w, struct client *c);
void client_lose_pipe(struct world *w, struct client *c, bool tell);
void client_forget_session(struct world *w, struct client *c); /* expired or said bye: what is unanswered stays unknown */
struct request *client_request(struct client *c, enum request_kind kind, enum wire_verb verb);
bool client_idle(const struct client *c);

#endif

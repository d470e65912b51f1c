/* Stream groups in a world of their own: members that join, leave, hang, die and come back around the real loop and engine, in virtual time,
 * a millisecond a step. Networks are slow and are lost, the broker is killed and loses power.
 *
 *   members.c          one history: what happens next; totals, replay
 *   members_client.c   a member: what the library does, with its own view of what it owns
 *   members_model.c    what must be true, looked at in every millisecond
 *
 * Everything follows from the seed.
 */
#ifndef SIM_MEMBERS_H
#define SIM_MEMBERS_H

#include "base/list.h"
#include "base/rng.h"
#include "broker/loop.h"
#include "engine/memory.h"
#include "schemas/errors.h"
#include "store/store_mem.h"

enum { MEMBERS = 8, PARTITIONS = 20, TIMEOUT_MS = 3000, MARGIN_MS = TIMEOUT_MS / 20 };

#define TOTALS(X)                                                                                                             \
    X(joins) X(static_joins) X(leaves) X(kept_leaves) X(hangs) X(deaths) X(pipes_lost) X(broker_kills) X(power_cuts)         \
    X(given) X(revoked) X(allowed_moves) X(lost_by_time) X(fenced) X(rejoins) X(commits) X(stale_commits) X(processed)      \
    X(again) X(seeks) X(digests) X(longest_gap_ms)
struct totals {
#define X(name) uint64_t name;
    TOTALS(X)
#undef X
};

/* A partition as a member sees it. */
struct part { bool owned, revoked; uint64_t generation, position, committed, given_up, finish_ms; };

enum life { RUNNING, HUNG, DEAD };

struct client {
    struct world *world;
    int index;
    enum life life;
    uint64_t life_until;
    struct id128 session;
    bool known, ready;             /* its session was made; hello was answered on this pipe */
    uint64_t pipe, reconnect_at, last_out, last_in;
    char name[16];                 /* static; "": none */
    uint32_t number;
    bool joined, wants, beating;   /* beating: a heartbeat or join is out */
    bool leaving;
    uint64_t version, deadline_ms; /* own: it owns nothing from then on */
    bool told;                     /* it was told all, under this version */
    struct part parts[PARTITIONS];
    uint64_t seq;                  /* of lane 0 */
    struct wire_place items[PARTITIONS];
    uint32_t items_n;              /* of the commit that is out; 0: none */
    bool commit_sent;
};

struct world {
    uint64_t seed;
    struct rng rng;
    bool trace, failed, down;
    struct totals *totals;
    struct store *mem;
    struct loop *loop;
    struct engine_limits limits;
    struct engine_now now;
    uint64_t pipes, sync_at, next_event, began;
    uint32_t group, partition;     /* ids; of the first partition */
    struct client clients[MEMBERS];
    struct list flights;
    /* the model */
    uint64_t ends[PARTITIONS], acked[PARTITIONS], seen[PARTITIONS], done[PARTITIONS];
    uint64_t owned_ms[PARTITIONS], failed_ms[PARTITIONS];
    uint64_t sought_turn[PARTITIONS];
    struct id128 with[PARTITIONS]; /* whose the partition is, or is to be */
    uint64_t admin_pipe, admin_seq, lane_seq[PARTITIONS];
};

void world_fail(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
void world_trace(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
static inline uint64_t world_ms(const struct world *w) { return w->now.mono_ms; }

void client_init(struct world *w, int index);
void client_step(struct client *c);
void client_lose_pipe(struct client *c, bool tell);
void client_hang(struct client *c, uint64_t ms);
void client_die(struct client *c, uint64_t ms);
void client_leave(struct client *c, uint64_t ms);
/* In its own view, now. */
bool client_owns(const struct client *c, int partition);
/* A request of a member: it reaches the broker after a while, or never. */
void world_send(struct client *c, const struct wire_request *r);
void client_reply(struct client *c, const struct op *op, uint64_t sent_ms);
struct stream *world_stream(const struct world *w);

void model_step(struct world *w);
void model_failed(struct world *w, const struct client *c);   /* it hangs, died, or cannot be reached */
void model_broker_began(struct world *w, bool cut);
void model_given(struct client *c, int partition, const struct wire_place *place);
void model_processed(struct client *c, int partition, uint64_t to);
/* A commit was answered with ok, or left unanswered because the broker ended: what is on disk of it stays. */
void model_committed(struct world *w, const struct op *op);
void model_sought(struct world *w, int partition, uint64_t offset, uint64_t turn);

#endif

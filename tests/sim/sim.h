/* A simulated world around the real loop and engine: virtual time, clients that crash and repeat, a store that fails.
 *
 *   main.c      seeds, totals, replay
 *   world.c     one history: what happens next, and the broker's crashes
 *   setup.c     the topics and groups of a history
 *   client.c    clients: sessions, lanes, requests that are repeated until they are answered
 *   acts.c      what clients do: produce, receive, fetch, ...
 *   work.c      what they settle
 *   replies.c   what they make of the answers
 *   tap.c       shows the model each list of rows as it is written
 *   model_*.c   what must be true, known from outside: from replies, and from the rows (model.h)
 *
 * Everything that happens follows from the seed.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/rng.h"
#include "broker/loop.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "store/keys.h"
#include "store/store_mem.h"

enum { TOPICS = 3, PARTITIONS = 4, GROUPS_PER_TOPIC = 2, GROUPS = TOPICS * GROUPS_PER_TOPIC, PARTS = TOPICS * PARTITIONS };
enum { CLIENTS = 5, KEYS = 5, HEADERS = 4, NONE = -1 };

/* What happened, counted over all seeds: a kind that never happened fails the run. */
#define SIM_TOTALS(X)                                                                                       \
    X(events) X(client_crashes) X(clients_anew) X(broker_kills) X(power_cuts) X(torn_writes)                \
    X(sync_failures) X(disk_full) X(stalls) X(clock_jumps) X(sessions_expired) X(digests) X(recounts)       \
    X(lags) X(produced) X(fetched) X(delivered) X(acked) X(nacked) X(released) X(parked_by_client)          \
    X(parked) X(extended) X(repeats) X(out_of_order) X(redelivered) X(expired_leases) X(returned_leases)    \
    X(spilled) X(blocked_keys) X(timers) X(hints) X(units) X(late_units) X(refused_alone) X(conflicts)      \
    X(unit_outputs) X(transactions) X(state_puts) X(state_delivered) X(carried) X(duplicates)               \
    X(duplicate_parts) X(produced_again) X(generations) X(tasks) X(tasks_cancelled) X(redriven) X(dropped)  \
    X(replays) X(replayed) X(replayed_failed) X(replayed_parked) X(replays_into) X(brought_into)                                            \
    X(scheduled) X(crons) X(moved) X(cancelled) X(expired) X(priorities) X(paced) X(runs) X(run_refused)    \
    X(full_keys) X(pauses) X(purges) X(alters) X(topics_deleted) X(groups_deleted) X(compactions) X(compactions_given_up) X(compacted) X(tombstones_gone) \
    X(trims) X(gaps) X(away) X(came_back) X(growths) X(misplaced) X(copies) X(copies_delivered) X(lost_at_the_cap)
struct sim_totals {
#define X(name) uint64_t name;
    SIM_TOTALS(X)
#undef X
};

struct client;
struct model;

struct world {
    uint64_t seed;
    struct rng rng;
    bool trace, failed, draining;
    struct sim_totals *totals;
    struct store *mem, *store; /* store: what the broker is given, a tap on mem */
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
    struct model *model;
    struct map lags;           /* group -> hash of its lag as it was told last, since the broker started */
    uint64_t lags_changed;     /* up to here changes were told */
    int scratch;               /* how far a topic that comes and goes is; admin requests are client 0's */
    bool admin_busy;
};

void world_fail(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
void world_trace(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* One history of about `events` events; false: an invariant broke. */
bool world_run(uint64_t seed, uint32_t events, bool trace, struct sim_totals *totals);
uint64_t turn_time(const struct world *w, uint64_t turn);
/* Turns of the broker until nothing is due at once. */
void world_turn(struct world *w);
void world_sync(struct world *w);
bool world_all_written(const struct world *w);
/* The broker's own question, which needs no session: answered within a turn. The caller frees with op_answered. NULL: it was not. */
struct op *world_ask(struct world *w, const struct wire_request *request);
struct op *world_ask_changes(struct world *w, const struct wire_request *request, bool changes, uint64_t changed, uint64_t changed_end);
void world_answered(struct op *op);

struct view key_name(int key);
struct view header_value(int header);
struct view header_bytes(int header); /* one header, encoded */
void setup(struct world *w);
void setup_names(int group, struct view *topic, struct view *name);

#endif

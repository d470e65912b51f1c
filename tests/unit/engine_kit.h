/* The real engine over the store in RAM, driven by hand: what every test of the engine talks through.
 *
 *     struct kit *k = kit_new();                       time is virtual; clients A, B, C have said hello
 *     uint32_t p = kit_topic(k, "t", 1);               ids of partitions follow each other from here
 *     uint32_t g = kit_group(k, "t", "g", NULL);
 *     kit_produce(k, p, "a a b -");                    four messages, by their keys; "-" has none
 *     assert_string_equal(kit_receive(k, A, g, 10), "0 2 3");     offsets; "1/0" is offset 0 of partition index 1
 *     assert_string_equal(kit_ack(k, A, g, "0 2"), "");           the codes that are not OK
 *
 * A call is stepped in a turn of its own, unless kit_begin opened one. After every turn the kit plays the loop: it writes, syncs,
 * answers read-aheads from what was produced, and says what is visible. It also looks, after every turn, whether the messages of all
 * groups add up, and whether an engine opened from the store knows what this one knows (`watch`).
 */
#ifndef TESTS_ENGINE_KIT_H
#define TESTS_ENGINE_KIT_H

#include "unit.h"

#include "engine/memory.h"
#include "store/store_mem.h"

enum { A = 1, B, C, CLIENTS };

struct call {
    struct op op;
    struct list_node link;
    bool answered;
};

struct kit_record { uint64_t hash, time, bytes; uint32_t size, ttl_ms; uint8_t priority; bool has_key, gone; char key[16]; }; /* bytes: of the log up to its end */
struct kit_log { struct kit_record *records; size_t n, cap; bool damaged; };

struct kit {
    struct store *store;
    struct engine *engine;
    struct engine_limits limits;
    struct engine_now now;
    uint64_t durable, written;      /* turns, as the loop would know them */
    bool watch;                     /* compare with a restart after every turn */
    bool may_stop, stopped;         /* the engine may fail: what it did in that turn is not written, and there are no more turns */
    bool hold_loads, hold_syncs, hold_matches, hold_asks; /* the loop is slow */
    bool hold_cuts, hold_copies;
    size_t match_bytes_max;         /* no more copies are brought to a task at once, but for the last */
    struct copies *copies[64];      /* not answered */
    size_t copies_n, copies_made;
    struct cut cuts[64];            /* found, not brought */
    size_t cuts_n;
    struct match *matches[64];      /* not answered */
    size_t matches_n, matches_made;
    struct pick *picks[64];         /* not answered; hold_matches holds them, too */
    size_t picks_n, picks_made;
    struct call *asking[64];        /* operations that asked the log for something, not yet back */
    size_t asking_n, asks_made;
    struct effect_load loads[64];   /* not answered */
    size_t loads_n, loads_made;
    bool hold_due;                  /* what is due was fetched, and is not brought */
    struct due due;                 /* fetched when the turn that asked was written */
    bool due_fetched;
    bool hold_back;                 /* retries that are away and due were found, and are not brought */
    struct back back;
    struct buf back_places;
    bool back_found;
    struct compaction *compaction;  /* asked for; the kit answers none */
    struct err notice;              /* the last */
    size_t hints, drops;
    uint64_t dropped_pipe;
    uint32_t gone_partitions;
    struct list calls;
    struct kit_log logs[64];        /* by partition id */
    uint32_t group_topic_first[64]; /* group id -> id of its topic's first partition */
    uint64_t seq[CLIENTS][64];      /* by lane: the next number */
    uint64_t pipe[CLIENTS];
    uint32_t generation[CLIENTS];   /* of the session */
    uint64_t counter[CLIENTS][LANE_WINDOW];
    struct { uint32_t group, partition; uint64_t offset, token; } tokens[4096];
    size_t tokens_n;
    uint32_t message_size, message_ttl_ms; /* of what is produced from now on */
    uint8_t message_priority;
    uint32_t checked_partitions, checked_misfit, checked_keyless, checked_largest; /* what the checks found in what is produced from now on */
    const struct id128 *message_ids; /* of the next produce, or the produces of the next units, one after another */
};

struct kit *kit_new(void);
void kit_free(struct kit *k);
/* What most tests begin with: a topic "t", of which `p` is the first partition, and its group "g". */
struct kit_world { struct kit *k; uint32_t p, g; };
struct kit_world kit_world(struct wire_group_config config); /* of one partition */
struct kit_world kit_world_of(uint32_t partitions, struct wire_group_config config);
/* The broker ends and begins again on what it wrote. Clients say hello again. */
void kit_restart(struct kit *k);
/* As kit_restart, and nobody comes back. */
void kit_restart_alone(struct kit *k);

/* ---- turns and time */
void kit_begin(struct kit *k);
void kit_end(struct kit *k);
void kit_quiet(struct kit *k);                /* turns until nothing is under way */
void kit_pass(struct kit *k, uint64_t ms);    /* with a turn at every deadline */

/* ---- requests. Each asserts that it is answered, but for kit_call. */
struct wire_request kit_request(const struct kit *k, int who, enum wire_verb verb);
struct call *kit_call(struct kit *k, struct wire_request r, int who);
const struct wire_reply *kit_reply(const struct call *c);            /* asserts that it is answered */
const struct wire_reply *kit_ask(struct kit *k, struct wire_request r, int who);
/* With the next number of its lane. */
const struct wire_reply *kit_ask_numbered(struct kit *k, struct wire_request r, int who);
int kit_hello(struct kit *k, int who, bool resume);
void kit_lose_pipe(struct kit *k, int who);
uint32_t kit_topic(struct kit *k, const char *name, uint32_t partitions);
uint32_t kit_topic_of(struct kit *k, const char *name, struct wire_topic_config config);
uint32_t kit_group(struct kit *k, const char *topic, const char *name, const struct wire_group_config *config);
const struct wire_reply *kit_alter_group(struct kit *k, const char *topic, const char *name, struct wire_group_config to, uint64_t mask);
const struct wire_reply *kit_control(struct kit *k, const char *topic, const char *name, enum group_act act);
int kit_delete_group(struct kit *k, const char *topic, const char *name);
int kit_delete_topic(struct kit *k, const char *name);
/* The code; the records are known to later read-aheads when it is OK. */
int kit_produce(struct kit *k, uint32_t partition, const char *keys);
int kit_produce_by(struct kit *k, int who, uint32_t partition, const char *keys);
/* Messages without keys, with these ids: "x y -"; "-" has none. */
const struct wire_reply *kit_produce_ids(struct kit *k, int who, uint32_t partition, const char *ids);
void kit_produce_many(struct kit *k, uint32_t partition, const char *key, size_t n);

/* What a unit has produced, or what waited for its time, stands in the log now: known to later read-aheads. */
void kit_logged(struct kit *k, uint32_t partition, const char *keys);

/* ---- queue groups */
const char *kit_receive(struct kit *k, int who, uint32_t group, uint32_t most);
struct call *kit_receive_wait(struct kit *k, int who, uint32_t slot, uint32_t group, uint32_t most, uint32_t wait_ms);
const char *kit_deliveries(struct kit *k, const struct wire_receive_reply *r); /* as kit_receive answers; tokens are remembered */
uint64_t kit_token(const struct kit *k, uint32_t group, uint32_t partition, uint64_t offset);
const struct wire_record *kit_record(const struct wire_reply *r, uint64_t offset);
struct wire_settle_item kit_item(const struct kit *k, uint32_t group, enum settle_verb verb, const char *message);
const char *kit_settle(struct kit *k, int who, uint32_t group, enum settle_verb verb, const char *messages);
const char *kit_settle_delay(struct kit *k, int who, uint32_t group, enum settle_verb verb, const char *messages, uint32_t delay_ms);
const char *kit_ack(struct kit *k, int who, uint32_t group, const char *messages);
/* From here on each message as it comes, "0 2 3", is acknowledged, and then nothing comes. */
void kit_take(struct kit_world w, const char *messages);
int kit_unit(struct kit *k, int who, const struct wire_settle_item *items, uint32_t n);
/* One unit, whole. */
const struct wire_reply *kit_unit_of(struct kit *k, int who, struct wire_unit unit);
int kit_unit_code(const struct wire_reply *r); /* of its only unit */
/* Where the messages of a group are, what is not 0: "floor 2 done 1 leased 1 ready 2 retrying 1 blocked 1 behind 3 unscanned 4 parked 1". */
const char *kit_where(struct kit *k, const char *topic, const char *group);
/* What is held, as "0 retrying 5 parked(reason)". */
const char *kit_held(struct kit *k, const char *topic, const char *group, enum held_state state);
/* Redrives, or drops, a parked message, in a turn of its own. */
bool kit_redrive(struct kit *k, uint32_t group, uint32_t partition, uint64_t offset);
void kit_drop_parked(struct kit *k, uint32_t group, uint32_t partition, uint64_t offset);
const struct wire_explain_reply *kit_explain(struct kit_world w, struct wire_explain what);
const struct wire_reply *kit_change_held(struct kit *k, const char *topic, const char *group, struct wire_held_change change);
/* A task as a list says it. */
struct wire_task_row kit_task(struct kit *k, uint64_t id);
struct wire_lag kit_lag(struct kit *k, const char *topic, const char *group);

/* Rows of a family as they stand in the store, those that `is` says; NULL: all. */
size_t kit_rows(const struct kit *k, enum store_family f, bool (*is)(struct view key));

/* ---- rows that are not as the engine wrote them. From then on it may stop for one, and is not compared with a restart. */
void kit_row_put(struct kit *k, enum store_family f, struct key key, struct view value);
void kit_row_remove(struct kit *k, enum store_family f, struct key key);
struct key kit_key_cut(struct key key, uint8_t size); /* its first bytes */
bool kit_row_there(struct kit *k, enum store_family f, struct key key);
/* The store cannot read the row. */
void kit_row_damage(struct kit *k, enum store_family f, struct key key);
/* The engine has stopped for that, or stops now; nothing of the turn was written. Frees the kit. */
void kit_stops(struct kit *k, int code, const char *text);

#endif

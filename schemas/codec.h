/* The contract as C structs, and the one place where they become bytes and come back.
 *
 * codec.cc is the only file that knows FlatBuffers. Everybody else sees these structs. Decoding verifies the buffer once, with
 * explicit limits, and checks what the verifier does not: that required vectors are there, that columns have equal lengths,
 * that the union's type is known. What comes out borrows from the bytes that went in; arrays of structs that could not be
 * borrowed live in the arena given.
 *
 * Thread: every function here may be called from any thread; nothing is shared.
 */
#ifndef SCHEMAS_CODEC_H
#define SCHEMAS_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- memory */

/* Memory for one decoded message: freed at once. Chunks grow up to `limit` bytes in all; past it decoding answers TOO_LARGE. */
struct arena {
    struct arena_chunk *chunks;
    size_t used, limit;
};
void arena_init(struct arena *a, size_t limit);
void *arena_take(struct arena *a, size_t size); /* zeroed, 16-aligned; NULL when the limit or memory is reached */
void arena_free(struct arena *a);               /* may be called twice */

/* The same bytes at an address that decoders take: `bytes` itself if 8-aligned, else a copy in `copy`, good until that changes. */
struct view codec_aligned(struct view bytes, struct buf *copy);

/* Where an encoder writes. It builds downward from the end of [data, data + cap), the end rounded down to 16 bytes, and leaves
 * the message at data[at .. at + size). `bound` functions say a capacity that always suffices. */
struct codec_space {
    uint8_t *data;
    size_t cap;
    size_t at, size;
};

/* ---------------------------------------------------------------- ids and verbs */

struct id128 {
    uint64_t lo, hi;
};
static inline bool id128_eq(struct id128 a, struct id128 b) { return a.lo == b.lo && a.hi == b.hi; }
static inline bool id128_is_zero(struct id128 a) { return (a.lo | a.hi) == 0; }

/* Equal to the position in the union RequestBody (from 1) and to the verb byte of the frame. */
enum wire_verb {
    VERB_NONE,
    VERB_HELLO,
    VERB_BYE,
    VERB_PRODUCE,
    VERB_FETCH,
    VERB_RECEIVE,
    VERB_SETTLE,
    VERB_TOPIC_CREATE,
    VERB_TOPIC_ALTER,
    VERB_TOPIC_DELETE,
    VERB_TOPIC_LIST,
    VERB_OFFSET_FOR,
    VERB_GROUP_CREATE,
    VERB_GROUP_ALTER,
    VERB_GROUP_DELETE,
    VERB_GROUP_LIST,
    VERB_GROUP_LAG,
    VERB_HELD_LIST,
    VERB_HEALTH,
    VERB_GROUP_CONTROL,
    VERB_HELD_CHANGE,
    VERB_TASK_LIST,
    VERB_TASK_CANCEL,
    VERB_SCHED_LIST,
    VERB_SCHED_CHANGE,
    VERB_EXPLAIN,
    VERB_STATE_GET,
    VERB_GROUP_JOIN,
    VERB_GROUP_HEARTBEAT,
    VERB_GROUP_LEAVE,
    VERB_GROUP_COMMIT,
    VERB_GROUP_SEEK,
    VERB_GROUP_MEMBERS,
    VERB_BACKUP,
    VERB_WORKER_REPORT,
    VERB_WORKER_LIST,
    VERB_WORKER_CONTROL,
    VERB_COUNT
};

enum wire_body { /* position in the union ReplyBody */
    BODY_NONE,
    BODY_HELLO,
    BODY_PRODUCE,
    BODY_FETCH,
    BODY_RECEIVE,
    BODY_SETTLE,
    BODY_TOPICS,
    BODY_OFFSET,
    BODY_GROUPS,
    BODY_LAG,
    BODY_HELD,
    BODY_HEALTH,
    BODY_TASKS,
    BODY_SCHED,
    BODY_EXPLAIN,
    BODY_STATE,
    BODY_MEMBER,
    BODY_COMMIT,
    BODY_SEEK,
    BODY_MEMBERS,
    BODY_BACKUP,
    BODY_WORKER_REPORT,
    BODY_WORKER_LIST,
    BODY_WORKER_CONTROL
};

enum durability { DURABILITY_NONE, DURABILITY_DISK, DURABILITY_OS };
enum group_mode { MODE_QUEUE = 1, MODE_STREAM = 2 };
enum group_order { ORDER_KEY = 1, ORDER_NONE = 2 };
enum group_park { PARK_MESSAGE = 1, PARK_KEY = 2 };
enum group_from { FROM_START = 1, FROM_END = 2, FROM_REPLAY = 5 }; /* the last: nothing but what is replayed into it */
enum group_expired { EXPIRED_DROP = 1, EXPIRED_PARK = 2 };
enum group_act { GROUP_PAUSE = 1, GROUP_RESUME, GROUP_PURGE };
enum task_act { TASK_REDRIVE = 1, TASK_DROP, TASK_REPLAY };
enum replay_source { REPLAY_LOG = 1, REPLAY_PARKED, REPLAY_FAILED };
enum task_state { TASK_RUNNING = 1, TASK_DONE, TASK_CANCELLED, TASK_FAILED };
enum sched_act { SCHED_CANCEL = 1, SCHED_MOVE };
/* What keeps a message, a key or a group from being delivered: the one fact. */
enum explain_fact {
    EXPLAIN_READY = 1,     /* nothing: the next receive gets it */
    EXPLAIN_DONE,          /* acknowledged or dropped */
    EXPLAIN_LEASED,        /* a session holds it until */
    EXPLAIN_RETRYING,      /* it failed and waits until */
    EXPLAIN_PARKED,        /* a dead letter */
    EXPLAIN_BEHIND,        /* an older message of its key blocks: partition and offset say which */
    EXPLAIN_THROTTLED,     /* a limit of rate or concurrency of its group or key */
    EXPLAIN_EXPIRED,       /* its ttl passed: dropped or parked when it becomes head */
    EXPLAIN_PAUSED,        /* the group is paused */
    EXPLAIN_BACKLOG,       /* not read ahead yet: depth messages before it */
    EXPLAIN_NO_RECEIVER,   /* nobody asks */
    EXPLAIN_NOT_VISIBLE,   /* appended, not yet on disk */
    EXPLAIN_NO_SUCH_OFFSET,/* never appended, or gone */
    EXPLAIN_EMPTY,         /* of a key or a group: it has no message that waits */
    EXPLAIN_SCHEDULED,     /* waits for its time before it is appended */
    EXPLAIN_LOST           /* the group had not done it at its topic's hard cap */
};
enum settle_verb { SETTLE_ACK = 1, SETTLE_NACK, SETTLE_PARK, SETTLE_RELEASE, SETTLE_EXTEND };
enum { SETTLE_HAS_DELAY = 1 };
enum held_state { HELD_ANY = 0, HELD_RETRYING = 1, HELD_PARKED = 2 };
enum seek_to { SEEK_TO_START = 1, SEEK_TO_END, SEEK_TO_OFFSETS, SEEK_TO_GROUP };
enum member_state { MEMBER_ACTIVE = 1, MEMBER_AWAY, MEMBER_FENCED };
enum worker_state { WORKER_LIVE = 1, WORKER_GONE };
enum worker_handler_state { WORKER_RUNNING = 1, WORKER_PAUSED, WORKER_RESTING, WORKER_STOPPING, WORKER_STARTING };
enum worker_act { WORKER_SCALE = 1, WORKER_PAUSE, WORKER_RESUME };
enum { PLACE_REVOKED = 1 }; /* of an assigned partition: give it up */
enum gap_why { GAP_RETENTION = 1, GAP_HARD_CAP, GAP_PURGED, GAP_DAMAGED };
enum lag_status { LAG_OK, LAG_WARN, LAG_STALL };
enum { RECORD_DAMAGED = 1 };

/* Limits that belong to the protocol; smaller ones are configured. */
enum {
    WIRE_VERSION = 1,
    WIRE_NAME_MAX = 200,           /* bytes */
    WIRE_KEY_MAX = 4096,           /* bytes */
    WIRE_HEADERS_MAX = 64,         /* per record */
    WIRE_HEADERS_BYTES_MAX = 16384,
    WIRE_MESSAGE_MAX = 64 << 20,   /* bytes, the highest a topic may allow */
    WIRE_BATCH_RECORDS_MAX = 65536,
    WIRE_ITEMS_MAX = 65536,        /* settle items, fetch parts, groups in one request */
    WIRE_UNITS_MAX = 4096,
    WIRE_WORKER_TEXT_MAX = 256,    /* bytes of what a worker daemon says of a handler: an error, a reason */
    WIRE_PROCESSES_MAX = 65536,    /* of one handler of one daemon; a daemon's own bound is lower */
    WIRE_BLOCK_RAW_MAX = 32768     /* bytes of one block before compression */
};

/* ---------------------------------------------------------------- requests
 * A string is a view without a final zero; absent = {NULL, 0}. Structs marked (frozen) are laid over the wire's bytes. */

struct wire_hello { uint16_t version_min, version_max; bool resume; struct view name, user, credentials; };
struct wire_produce { uint32_t partition, count; uint64_t batch_hash; struct view batch; uint64_t delay_ms, at_ms; struct view cron, name; };
struct wire_fetch_from { uint64_t offset; uint32_t partition, max_bytes; }; /* frozen */
struct wire_fetch { const struct wire_fetch_from *from; uint32_t from_n; uint32_t max_bytes, wait_ms; };
struct wire_receive {
    uint32_t slot;
    uint64_t counter;
    const uint32_t *groups;
    uint32_t groups_n, max_messages, max_bytes, wait_ms, lease_ms;
};
struct wire_settle_item { /* frozen */
    uint64_t token, offset;
    uint32_t group, partition, delay_ms;
    uint8_t verb, flags;
    uint16_t note; /* 1-based index into the notes, 0 = none */
};
struct wire_note { struct view reason, error; };
struct wire_state_put { uint32_t group; struct view key; uint64_t version; struct view value; bool remove; };
struct wire_state_get { uint32_t group; struct view key; };
struct wire_unit {
    const struct wire_settle_item *items;
    const struct wire_produce *produces;
    const struct wire_state_put *state;
    uint32_t items_n, produces_n, state_n;
};
struct wire_settle {
    const struct wire_settle_item *singles;
    const struct wire_unit *units;
    const struct wire_note *notes;
    const struct wire_receive *receive; /* NULL: none carried */
    uint32_t singles_n, units_n, notes_n;
};
struct wire_topic_config {
    uint32_t partitions;
    uint64_t retention_ms, retention_bytes, hard_cap_ms; /* 0 = default; UINT64_MAX = unlimited */
    uint8_t durability;
    bool compacted;
    uint32_t message_bytes_max;
    uint64_t backlog_bytes_max, backlog_age_max_ms; /* age 0 = no limit */
    uint64_t dedup_ms;                              /* window of message_id; UINT64_MAX = off */
    uint64_t ttl_ms;                                /* of messages that name none; 0 = they do not expire */
};
struct wire_topic_set { struct view name; struct wire_topic_config config; uint64_t mask; }; /* create, alter, delete */
struct wire_list { struct view topic, name, after; uint32_t limit; };                        /* topics, groups, lag */
struct wire_offset_for { uint32_t partition; uint64_t time_ms; };
struct wire_group_config {
    uint8_t mode, order, park, from;
    uint32_t lease_ms, max_deliveries, backoff_min_ms, backoff_max_ms, run_max, in_flight_max; /* 0 = default */
    uint8_t expired;                                                                                     /* enum group_expired */
    uint32_t rate_milli, key_rate_milli, key_in_flight_max; /* 0 = no limit; rates per 1,000 s */
    uint64_t idle_expiry_ms;                                /* 0 = never */
};
/* Bits of the masks of alter: the field of this number in the schema is meant. */
enum { TOPIC_SET_PARTITIONS = 1 << 0, TOPIC_SET_RETENTION_MS = 1 << 1, TOPIC_SET_RETENTION_BYTES = 1 << 2, TOPIC_SET_HARD_CAP_MS = 1 << 3,
       TOPIC_SET_DURABILITY = 1 << 4, TOPIC_SET_COMPACTED = 1 << 5, TOPIC_SET_MESSAGE_BYTES_MAX = 1 << 6,
       TOPIC_SET_BACKLOG_BYTES_MAX = 1 << 7, TOPIC_SET_BACKLOG_AGE_MAX_MS = 1 << 8, TOPIC_SET_DEDUP_MS = 1 << 9, TOPIC_SET_TTL_MS = 1 << 10 };
enum { GROUP_SET_MODE = 1 << 0, GROUP_SET_ORDER = 1 << 1, GROUP_SET_PARK = 1 << 2, GROUP_SET_FROM = 1 << 3, GROUP_SET_LEASE_MS = 1 << 4,
       GROUP_SET_MAX_DELIVERIES = 1 << 5, GROUP_SET_BACKOFF_MIN_MS = 1 << 6, GROUP_SET_BACKOFF_MAX_MS = 1 << 7, GROUP_SET_RUN_MAX = 1 << 8,
       GROUP_SET_IN_FLIGHT_MAX = 1 << 9, GROUP_SET_EXPIRED = 1 << 10, GROUP_SET_RATE_MILLI = 1 << 11, GROUP_SET_KEY_RATE_MILLI = 1 << 12,
       GROUP_SET_KEY_IN_FLIGHT_MAX = 1 << 13, GROUP_SET_IDLE_EXPIRY_MS = 1 << 14 };
struct wire_group_set { struct view topic, name; struct wire_group_config config; uint64_t mask; };
struct wire_group_control { struct view topic, name; uint8_t act; };
struct wire_held_filter {
    bool has_key, has_header_value, has_offset;
    struct view key, header, header_value, reason;
    uint64_t after_ms, before_ms, offset; /* before_ms 0: no bound */
    uint32_t attempts_min, attempts_max, partition; /* attempts_max 0: no bound */
};
struct wire_held_change {
    struct view topic, group;
    uint8_t act;
    const struct wire_held_filter *filter; /* NULL: all that is parked */
    uint32_t rate_milli;                   /* 0: as fast as it goes */
    uint64_t limit;                        /* 0: all */
    bool dry_run;
    uint8_t source;                        /* of a replay, as what follows: enum replay_source */
    bool has_partition, has_from, follow;
    uint32_t partition;
    uint64_t from_offset, to_offset, from_ms, to_ms; /* from <= x < to; to 0: no bound */
    struct view of, into;                  /* empty: the group itself */
};
struct wire_task { uint64_t id, after; uint32_t limit; }; /* list, cancel */
struct wire_sched { /* list, change */
    struct view topic, name;
    uint64_t after_ms, at_ms, delay_ms;
    struct id128 after_id;
    uint32_t limit;
    uint8_t act;
};
struct wire_explain { struct view topic, group, key; bool has_key, has_offset; uint32_t partition; uint64_t offset; };
struct wire_place { uint64_t generation, offset; uint32_t partition, flags; }; /* frozen */
struct wire_group_join { struct view topic, group, name; uint32_t member, timeout_ms; };
struct wire_group_heartbeat {
    uint32_t group, member;
    uint64_t version;
    const struct wire_place *released;
    uint32_t released_n, wait_ms;
};
struct wire_group_leave { uint32_t group, member; bool keep; };
struct wire_group_commit { uint32_t group, items_n; const struct wire_place *items; };
struct wire_group_seek {
    struct view topic, group, other;
    uint8_t to; /* enum seek_to */
    bool dry_run;
    const struct wire_place *items;
    uint32_t items_n;
};
struct wire_group_members { struct view topic, group; uint32_t from, limit; };
struct wire_backup { struct view name; };
struct wire_worker_handler {
    struct view name, topic, group, version, why, error, taken_text;
    uint8_t state;
    uint16_t taken_code;
    uint32_t up, busy, wanted, least, most;
    uint64_t in_flight, done, failed, done_rate_milli, failed_rate_milli, taken, asked;
};
struct wire_worker {
    struct view name, host, version;
    uint8_t state;
    uint32_t pid, handlers_n;
    uint64_t id, started_ms, heard_ms;
    const struct wire_worker_handler *handlers;
};
struct wire_worker_report { struct wire_worker worker; bool leaving; };
struct wire_worker_list { struct view daemon, handler, topic, group; uint64_t after; uint32_t limit; };
struct wire_worker_control {
    struct view daemon, handler, topic, group;
    uint8_t act;
    bool has_least, has_most;
    uint32_t least, most;
};
struct wire_held_list {
    const struct wire_held_filter *filter; /* NULL: none */
    struct view topic, group;
    uint8_t state;
    uint32_t after_partition;
    uint64_t after_offset;
    bool has_after, payload;
    uint32_t limit, max_bytes;
};

struct wire_request {
    struct id128 session;
    uint32_t lane;
    uint64_t seq, replies_seen;
    enum wire_verb verb;
    union {
        struct wire_hello hello;
        struct wire_produce produce;
        struct wire_fetch fetch;
        struct wire_receive receive;
        struct wire_settle settle;
        struct wire_topic_set topic;  /* create, alter, delete */
        struct wire_list list;        /* topic list, group list, group lag; topic list uses name, after, limit */
        struct wire_offset_for offset_for;
        struct wire_group_set group;  /* create, alter, delete */
        struct wire_held_list held;
        struct wire_group_control control;
        struct wire_held_change held_change;
        struct wire_task task;        /* list, cancel */
        struct wire_sched sched;      /* list, change */
        struct wire_explain explain;
        struct wire_state_get state_get;
        struct wire_group_join join;
        struct wire_group_heartbeat heartbeat;
        struct wire_group_leave leave;
        struct wire_group_commit commit;
        struct wire_group_seek seek;
        struct wire_group_members members;
        struct wire_backup backup;
        struct wire_worker_report worker_report;
        struct wire_worker_list worker_list;
        struct wire_worker_control worker_control;
    };
};

/* ---------------------------------------------------------------- replies */

struct wire_limits { /* frozen */
    uint32_t message_bytes_max, key_bytes_max, headers_max, headers_bytes_max, request_bytes_max, reply_bytes_max,
        requests_in_flight_max, requests_waiting_max, batch_records_max, session_grace_ms;
};
struct wire_hello_reply {
    uint16_t version;
    bool resumed;
    const struct view *publish;
    uint32_t publish_n;
    struct view http, product;
    struct wire_limits limits;
    uint32_t epoch;
};
struct wire_produced {
    uint32_t partition, count;
    uint64_t base_offset, append_time_ms, due_ms;
    bool duplicate;
    struct view name;
    const uint32_t *duplicates;
    uint32_t duplicates_n;
};
struct wire_gap { uint64_t from, to, from_time_ms, to_time_ms; uint8_t why; };
struct wire_fetch_part {
    uint32_t partition;
    uint16_t code;
    uint64_t start, end;
    struct view data;
    bool has_gap;
    struct wire_gap gap;
};
struct wire_record { /* frozen */
    uint64_t offset, append_time_ms, timestamp_ms;
    uint32_t partition, grants, failures, sum, key_size, headers_size, value_size, flags;
};
struct wire_state_row { uint32_t index; uint64_t version; struct view value; };
struct wire_delivery {
    uint32_t group, lease_ms;
    uint64_t token;
    const struct wire_record *records;
    uint32_t records_n, state_n;
    struct view data;
    const struct wire_state_row *state;
};
struct wire_receive_reply { const struct wire_delivery *deliveries; uint32_t deliveries_n; uint64_t counter; };
struct wire_settle_reply {
    const uint16_t *codes; /* NULL: all ok; else one per single, then one per unit */
    uint32_t codes_n, outputs_n;
    const struct wire_produced *outputs;
    bool has_receive;
    struct wire_receive_reply receive;
};
struct wire_partition { uint64_t start, end, visible, bytes, first_time_ms; uint32_t id, index; }; /* frozen */
struct wire_topic {
    struct view name;
    uint32_t id, partitions_n, groups;
    struct wire_topic_config config;
    const struct wire_partition *partitions;
    uint64_t created_ms;
    uint64_t dirty_bytes, compacted_ms;                /* a compacted one: appended since the last pass, and when that was; 0: never */
    uint64_t tombstones, tombstone_ms, compact_age_ms; /* left by the last passes; kept so long; a pass begins after this, ... */
    uint32_t dirty_min;                                /* ... or where so many percent are dirty */
};
struct wire_topic_reply { const struct wire_topic *topics; uint32_t topics_n; bool more, created; };
struct wire_offset_reply { uint64_t offset, start, end; };
struct wire_group_loss { uint64_t lost, from, to, from_time_ms, to_time_ms; uint32_t partition, index; }; /* frozen */
struct wire_group {
    struct view topic, name;
    uint32_t id, topic_id;
    struct wire_group_config config;
    uint64_t created_ms;
    bool paused;
    uint64_t lost; /* at the hard cap */
    const struct wire_group_loss *losses;
    uint32_t losses_n;
};
struct wire_group_reply { const struct wire_group *groups; uint32_t groups_n; bool more, created; };
struct wire_lag {
    struct view topic, group;
    uint32_t group_id;
    uint64_t lag_messages, lag_bytes, in_flight, delayed, parked, oldest_age_ms, ack_rate_milli, drain_eta_ms, scale_value, lost;
    uint8_t status, mode; /* drain_eta_ms UINT64_MAX = never at this rate */
};
struct wire_lag_reply { const struct wire_lag *rows; uint32_t rows_n; bool more; };
struct wire_held {
    uint8_t state;
    uint64_t due_ms, at_ms, offset;
    struct view reason, error;
    uint32_t record, partition, grants, failures; /* record: index into delivery.records, UINT32_MAX = none */
};
struct wire_held_reply {
    struct view topic, group;
    const struct wire_held *rows;
    uint32_t rows_n;
    bool more, has_delivery;
    struct wire_delivery delivery;
    uint32_t next_partition;
    uint64_t next_offset;
};
struct wire_task_row {
    uint64_t id, seen, matched, changed, started_ms, ended_ms;
    struct view topic, group, error;
    uint8_t act, state;
    bool dry_run;
    uint32_t rate_milli;
    uint64_t left, lost;
    uint8_t source;
    struct view of;
};
struct wire_task_reply { const struct wire_task_row *tasks; uint32_t tasks_n; bool more; };
struct wire_scheduled { struct view name, topic, cron; uint32_t partition, count; uint64_t due_ms, created_ms, bytes; struct id128 id; };
struct wire_sched_reply { const struct wire_scheduled *rows; uint32_t rows_n; bool more; };
struct wire_explain_reply {
    uint8_t fact;
    struct view text, session, reason;
    uint32_t partition, attempts;
    uint64_t offset, since_ms, until_ms, depth;
};
struct wire_state_reply { bool found; uint64_t version; struct view value; };
struct wire_member_reply { /* `assigned` if changed: all of it */
    uint32_t group, timeout_ms;
    uint64_t version;
    bool changed;
    const struct wire_place *assigned;
    uint32_t assigned_n;
};
struct wire_commit_reply { const uint16_t *codes; uint32_t codes_n; }; /* codes NULL: all ok */
struct wire_seek_row { uint64_t from, to; uint32_t partition, index; }; /* frozen */
struct wire_seek_reply { const struct wire_seek_row *rows; uint32_t rows_n; };
struct wire_member { struct view name, client; uint32_t member, timeout_ms, partitions; uint8_t state; uint64_t heard_ms, joined_ms; };
struct wire_member_part { /* frozen. owner, target: UINT32_MAX = nobody */
    uint64_t generation, committed, end, committed_ms;
    uint32_t partition, index, owner, target;
};
struct wire_members_reply {
    const struct wire_member *members;
    const struct wire_member_part *partitions;
    uint32_t members_n, partitions_n;
    bool more;
};
struct wire_backup_reply { struct view path; uint64_t turn, bytes, files, took_ms; };
struct wire_worker_command { uint64_t number; struct view handler; uint8_t act; bool has_least, has_most; uint32_t least, most; };
struct wire_worker_report_reply { const struct wire_worker_command *commands; uint32_t commands_n, ttl_ms; };
struct wire_worker_list_reply { const struct wire_worker *workers; uint32_t workers_n; bool more; };
struct wire_worker_control_reply { uint64_t number; uint32_t reached; };
struct wire_health_reply {
    struct view status, version, reason;
    uint32_t epoch, topics, groups, sessions;
    uint64_t turn, durable_turn, uptime_ms;
};

struct wire_reply {
    uint16_t code;
    struct view detail;
    uint8_t durability;
    uint32_t retry_after_ms;
    uint64_t depth, drain_ms;
    enum wire_body body;
    union {
        struct wire_hello_reply hello;
        struct wire_produced produce;
        struct { const struct wire_fetch_part *parts; uint32_t parts_n; } fetch;
        struct wire_receive_reply receive;
        struct wire_settle_reply settle;
        struct wire_topic_reply topics;
        struct wire_offset_reply offset;
        struct wire_group_reply groups;
        struct wire_lag_reply lag;
        struct wire_held_reply held;
        struct wire_health_reply health;
        struct wire_task_reply tasks;
        struct wire_sched_reply sched;
        struct wire_explain_reply explain;
        struct wire_state_reply state;
        struct wire_member_reply member;
        struct wire_commit_reply commit;
        struct wire_seek_reply seek;
        struct wire_members_reply members;
        struct wire_backup_reply backup;
        struct wire_worker_report_reply worker_report;
        struct wire_worker_list_reply worker_list;
        struct wire_worker_control_reply worker_control;
    };
};

/* Encode: OK, or TOO_LARGE when cap is too small (nothing is written). decode: OK, BAD_FRAME with what is wrong in `e`,
 * TOO_LARGE when the arena's limit is reached. data must be 8-aligned. */
size_t codec_request_bound(const struct wire_request *r);
int codec_request_encode(const struct wire_request *r, struct codec_space *s);
/* A produce without the bytes of its batch, which are the end of the message: what goes out are the same bytes as of
 * codec_request_encode, the last produce.batch.size of them from where they lie. Of a batch that is not empty and a multiple of 16
 * bytes, as every batch is. */
size_t codec_produce_head_bound(const struct wire_request *r);
int codec_produce_head(const struct wire_request *r, struct codec_space *s);
int codec_request_decode(struct view bytes, struct wire_request *out, struct arena *a, struct err *e);
size_t codec_reply_bound(const struct wire_reply *r);
int codec_reply_encode(const struct wire_reply *r, struct codec_space *s);
int codec_reply_decode(struct view bytes, struct wire_reply *out, struct arena *a, struct err *e);

/* ---------------------------------------------------------------- frames (frame.c)
 * REQ/REP: 12 bytes before the FlatBuffer, little endian:
 *   0 magic 'S' (0x53)  1 version  2 verb  3 flags (bit 0: reply)  4..11 XXH3-64 of the rest, seeded with the first four bytes
 * PUB: 16 bytes:
 *   0 kind  1 version  2..3 flags  4..7 low 32 bits of XXH3-64(channel)  8..15 XXH3-64 of the rest, seeded with the first eight
 * The head is the same in every version, so a wrong checksum is damage whatever the version says. */
enum { FRAME_SIZE = 12, FRAME_MAGIC = 0x53, FRAME_REPLY = 1, PUB_FRAME_SIZE = 16 };
enum pub_kind { PUB_AVAIL = 1, PUB_LAG = 2, PUB_LIVE = 3 };
struct frame { uint8_t version, verb, flags; };
void frame_put(uint8_t head[FRAME_SIZE], struct frame f, const uint8_t *body, size_t size);
/* Of a body whose end lies elsewhere. */
void frame_put_apart(uint8_t head[FRAME_SIZE], struct frame f, struct view body, struct view end);
/* OK, BAD_FRAME (short, magic, checksum) or BAD_VERSION; `f` is filled whenever 12 bytes are there and the magic fits. */
int frame_check(const uint8_t *data, size_t size, struct frame *f, struct err *e);
void pub_frame_put(uint8_t head[PUB_FRAME_SIZE], enum pub_kind kind, struct view channel, const uint8_t *body, size_t size);
int pub_frame_check(const uint8_t *data, size_t size, enum pub_kind *kind, uint32_t *channel, struct err *e);
uint32_t pub_channel_hash(struct view channel);

/* ---------------------------------------------------------------- batches, raw (records.h builds and reads them) */

struct batch_block { uint32_t raw_end, stored_end; }; /* frozen */
struct batch_columns {
    uint32_t count;
    uint8_t codec;
    uint64_t timestamp_ms;
    const int32_t *timestamp_delta;  /* each column: `count` entries, or NULL where the schema allows */
    const uint64_t *key_hash;
    const uint32_t *key_size, *headers_size, *value_size, *sum, *ttl_ms, *offset_delta;
    const uint8_t *priority;
    const struct id128 *message_id;
    const struct batch_block *meta_blocks, *value_blocks;
    uint32_t meta_blocks_n, value_blocks_n;
    struct view meta, values;
};
size_t codec_batch_bound(const struct batch_columns *c);
int codec_batch_encode(const struct batch_columns *c, struct codec_space *s);
/* Verifies structure: columns of equal length, blocks ascending and ending with their section, raw ends equal to the sum of
 * sizes, each block at most WIRE_BLOCK_RAW_MAX raw, keys and headers within limits. Cost: per column, no decompression.
 * data must be 8-aligned (codec_aligned copies where it is not). Errors: DAMAGED with what is wrong. */
int codec_batch_open(struct view bytes, struct batch_columns *out, struct err *e);

/* ---------------------------------------------------------------- the pipe between worker daemon and child */

enum plugin_kind { PLUGIN_START = 1, PLUGIN_TASK, PLUGIN_CANCEL, PLUGIN_STOP, PLUGIN_READY, PLUGIN_VERDICT, PLUGIN_LOG,
                   PLUGIN_PROGRESS, PLUGIN_EXTEND };
enum plugin_verdict { PLUGIN_ACK = 1, PLUGIN_RETRY, PLUGIN_PARK, PLUGIN_BACK };
struct plugin_output {
    struct view topic, key, value, headers, message_id; /* key, value: absent differs from empty */
    uint64_t delay_ms, timestamp_ms;
    uint32_t ttl_ms;
    uint8_t priority;
};
struct plugin_packet {
    enum plugin_kind kind;
    union {
        struct {
            struct view path, name, config, user, exec, dir;
            uint64_t memory_bytes, file_bytes; /* limits: workerd/jail.h */
            uint32_t threads, timeout_ms, cpu_ms, open_files, tasks;
            uint8_t seccomp;
        } start;
        struct {
            uint64_t id, offset, timestamp_ms, append_time_ms, deadline_ms;
            uint32_t partition, attempt, batch;
            struct view topic, group, key, value, headers, idempotency_key; /* key, value: absent differs from empty */
            uint64_t state_version; /* 0: no state came with it */
            struct view state;
        } task;
        struct { uint64_t id; } cancel;
        struct { struct view name, version, error; uint16_t code; uint32_t abi; bool batches; } ready;
        struct {
            uint64_t id;
            uint8_t verdict;
            bool has_delay, has_state, state_remove;
            uint32_t delay_ms, outputs_n;
            struct view reason, error;
            const struct plugin_output *outputs;
            uint64_t state_version;
            struct view state;
        } verdict;
        struct { uint8_t level; struct view text; uint64_t task; } log;
        struct { uint64_t id; uint32_t percent; struct view note; } progress;
        struct { uint64_t id; uint32_t ms; } extend;
    };
};
size_t codec_plugin_bound(const struct plugin_packet *p);
int codec_plugin_encode(const struct plugin_packet *p, struct codec_space *s);
int codec_plugin_decode(struct view bytes, struct plugin_packet *out, struct arena *a, struct err *e);

#ifdef __cplusplus
}
#endif
#endif

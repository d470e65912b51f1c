/* The engine's memory: what the files of this layer share.
 *
 *   engine ── topics ── partitions ─────────────── fetch waiters
 *      │         └───── groups ── parts (one per partition: floor, done chunks, scan cursor, entries)
 *      │                   ├───── keys  (head + the list of what waits behind it), but for those that are away (away.c)
 *      │                   └───── leases ── entries
 *      └── sessions ── lanes (numbers, kept results)
 *               └───── leases, waiting operations
 *
 * What survives a restart is marked (row): it is rebuilt from the store by load.c. Everything else is derived.
 */
#ifndef ENGINE_STATE_H
#define ENGINE_STATE_H

#include <assert.h>

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "schemas/stored.h"
#include "store/keys.h"

/* A timer calls `fire` once its time (mono ms) has come; it is then in no heap. */
struct timer {
    struct heap_node node;
    void (*fire)(struct engine *en, struct timer *t);
};

/* ---------------------------------------------------------------- topics and partitions (log.c, topics.c) */

struct partition {
    uint32_t id, index;
    struct topic *topic;
    enum store_family family;
    struct partition_row row;   /* (row) start, end, bytes, times, fence */
    struct partition *parent;   /* (row) that it was split from; NULL: none (growth.c) */
    uint64_t visible;           /* readers see offsets below; follows the written or the durable turn */
    struct list waiters;        /* of struct place: fetches that wait for `visible` to pass their offset */
    struct list_node dirty;     /* in engine.dirty_partitions */
    size_t append_first, append_n; /* this turn's appends: a chain in engine.appends, by append.next */
    size_t append_last;
    struct times *times;        /* when what was appended; NULL: nothing since the start */
    struct heap_node due;       /* in retention.due, by wall time: when its oldest message is too old */
    struct list_node look;      /* in retention.looks */
    struct trimming *trimming;  /* it is being cut; NULL: it is not */
    struct trims_row *trims;    /* (row) NULL: nothing was removed */
    bool pinned;                /* a group keeps what should go */
    struct compactable *compact; /* compact.c; NULL: its topic is not compacted */
};

/* What a group has not done, and how long it takes to. UINT64_MAX: at this rate never; nothing waits. */
struct group_backlog { uint64_t waiting, bytes, drain_ms, oldest_ms; };
/* Of the slowest group of a topic, as it was at looked_ms (quota.c), and what was appended since. */
struct backlog { uint64_t depth, bytes, drain_ms, oldest_ms, looked_ms, added_bytes; bool looked; };

struct topic {
    uint32_t id;
    char *name;                 /* (row) */
    uint64_t created_ms;        /* (row) */
    struct wire_topic_config config; /* (row) defaults filled in */
    uint8_t log_class;          /* (row) */
    struct sched_count_row waiting; /* (row) for their time */
    struct partition **partitions; /* by index */
    struct group **groups;      /* sorted by name */
    size_t groups_n;
    struct backlog backlog;
    uint64_t bytes;             /* of its partitions' logs */
    uint64_t level;             /* over its bytes: what each partition may keep */
    struct list_node over;      /* in retention.over */
    uint32_t altered;           /* how often its settings were, since the start */
};

/* One batch on its way into a turn's log value. */
struct append {
    size_t next; /* index + 1 in engine.appends of the partition's next one; 0: none */
    uint32_t partition;
    uint64_t base_offset, last_offset;
    struct view batch;
    struct ref *hold;
    uint8_t header[STORED_HEADER_SIZE];
};

/* A turn's new end of a partition, until it is written or durable. */
struct pending_end { uint64_t turn, end; uint32_t partition; };
struct pending { struct pending_end *at; size_t first, n, cap; };

/* ---------------------------------------------------------------- sessions (session.c, lane.c) */

/* A lane keeps the results that its client has not seen. One that never says what it saw is refused at these bounds. */
enum { LANE_WINDOW = 60, LANE_RESULTS_MAX = 4 * LANE_WINDOW, LANE_RESULT_BYTES_MAX = 1 << 20 };

struct lane {
    uint32_t id;
    struct session *session;
    uint64_t base;              /* (row) every number up to it is done */
    uint64_t done;              /* (row) lane 0: bit i = base + 1 + i is done */
    struct lane_result *results;/* (row) by number, ascending */
    size_t results_n, results_cap, result_bytes;
    struct list_node dirty;
};
struct lane_result { uint64_t seq, turn; uint8_t level, verb; uint8_t *body; uint32_t body_size; };

/* Tokens of a rate: what was taken of them and has not come back yet (quota.c). */
struct bucket { uint64_t spent_milli, at_ms; };

struct session {
    struct id128 id;            /* (row) */
    char *name;                 /* (row) */
    uint64_t created_ms, seen_ms; /* (row) */
    uint64_t pipe;              /* 0: none */
    struct map lanes;           /* id -> lane; loaded from their rows when first used */
    struct list leases;         /* of struct lease, by `of_session` */
    uint64_t leased;            /* messages of its leases */
    uint64_t topics_gone;       /* engine.topics_gone when its lanes were looked through */
    struct list members;        /* of struct member, by `of_session` */
    struct bucket messages, bytes; /* produced */
    struct list waiting;        /* of struct op, by `wait` */
    size_t waiting_n;
    uint64_t slot_counter[LANE_WINDOW]; /* the highest counter of a receive in each slot */
    struct timer grace;         /* leases return */
    struct timer returning;     /* the rest of them: a bounded number a turn */
    bool ending;                /* it is forgotten when they all did */
    struct timer expiry;        /* numbers are forgotten */
    struct session *collision;  /* next with the same low half */
};

/* ---------------------------------------------------------------- queue groups
 * group.c, queue.c, ready.c, grant.c, key.c, keylist.c, keylimit.c, done.c, lease.c, held.c */

enum { PRIORITIES = BATCH_PRIORITY_MAX + 1 };

/*        scanned          granted                 ack
 *  log ──────────> READY ─────────> LEASED ──────────────────> done
 *     │              ^  ^             │ │ nack, expiry   park or too many failures
 *     │ behind       │  └── release ──┘ v                     v
 *     └──> key list ─┘  ┌────────── RETRYING ──────────────> PARKED (done; under park: key it blocks its key)
 *       head done       └── due: READY                          │
 *                    ^                                          │ redriven
 *                    └── WAITING (behind the head of its key) <─┘
 *
 * RETRYING for longer than retry_window_ms, BLOCKED, and what waits in the front of such a head: away, in no memory (away.c).
 */
enum entry_state {
    ENTRY_READY,
    ENTRY_LEASED,
    ENTRY_RETRYING,
    ENTRY_BLOCKED,              /* parked under park: key */
    ENTRY_WAITING,              /* in the front of its key, with a row: goes when it is the head */
    ENTRY_THROTTLED             /* its key is at a limit: ready when key.timer says so, or one of it comes back */
};

/* What was handed out and did not come back with time (flow.c). All zero: nothing. */
struct flow { uint64_t spent, at_ms; };

/* A message that is in the flow of a group and not merely behind its key. */
struct entry {
    struct list_node link;      /* READY: part.fresh or group.again of its priority; LEASED: lease.entries; RETRYING, BLOCKED: engine.leaving */
    struct list_node of_key;    /* key.run or key.front */
    struct list_node present;   /* redriven: in part.present */
    struct timer timer;         /* RETRYING: when due */
    struct group_part *part;
    struct key_queue *key;      /* NULL: none, or of a key without order and neither its head nor in its front */
    struct lease *lease;        /* LEASED */
    uint64_t offset;
    uint64_t token;             /* (row) of the last grant; 0: never granted, or given back unstarted */
    uint64_t key_hash;
    uint64_t lease_until_ms;    /* LEASED: mono */
    uint64_t ready_ms;          /* READY: since then, mono */
    uint64_t ttl_until_ms;      /* wall; 0: it does not expire. Looked at when it is about to be granted */
    uint64_t append_time_ms;    /* 0: not known */
    uint64_t due_ms;            /* has_row: the wall time in its rows */
    uint32_t size, grants, failures;
    uint8_t state;              /* enum entry_state */
    uint8_t priority;           /* higher goes first */
    bool has_key;
    bool has_row;               /* a held row stands for it, and, but in a turn in which it may go away, a sched row */
    bool has_time;              /* its sched row is written */
    bool redriven;              /* present though its offset is done: it was redriven, or away */
    bool paced;                 /* it was redriven and is not done again: tasks rest when there are many (group.paced) */
    bool copied;                /* redriven: it has a copy, or needs none */
    bool counted;               /* LEASED: in leased of its key (keylimit.c) */
    uint64_t mark;              /* of the last unit that named it */
};

/* A key: its head, the one message of it that is in the flow; its front (key.c); and a list of positions in rows (keylist.c). */
struct key_queue {
    struct group *group;
    uint64_t hash;
    struct entry *head;         /* NULL after a restart until the scan finds it again */
    struct list run;            /* of struct entry, by of_key: leased together with the head, in order behind it */
    struct list front;          /* of struct entry, by of_key: sorted, each with a row */
    struct list_node unsure;    /* in part.unsure or group.headless */
    struct key_member *members; /* members_n > 0: it is away, these are its head and its front; it is here for this turn, or as long as flow says */
    uint32_t members_n;
    bool changed;               /* away: its row is to be written */
    struct list_header_row list;/* (row) if count > 0 */
    struct buf first_bytes, last_bytes; /* chunks `first` and `last` as in their rows; last_bytes serves both when they are one */
    struct list_position last_at; /* the last position appended */
    uint32_t first_n, last_n;   /* positions in the cached chunks; first_n 0: not cached */
    bool last_cached;
    bool has_rows, has_header;  /* chunks; a header in its place */
    bool dirty_last;
    uint32_t leased;            /* in a group of order none that limits keys: how many of it */
    struct flow flow;           /* of key_rate_milli */
    struct timer timer;         /* a throttled head is looked at, or nothing is spent */
    struct list_node dirty;
};

/* Which offsets above the floor are done. */
struct done_chunk { uint16_t count; bool dirty, stored; uint8_t bits[DONE_CHUNK_BYTES]; };
struct done {
    uint64_t floor;             /* (row) every offset below is done */
    uint64_t first;             /* chunk number of chunks[0] */
    struct done_chunk **chunks; /* NULL: none of them done; done_full: all */
    size_t n, cap;
    uint64_t count;             /* done at or above the floor */
    uint64_t dirty_from, dirty_to; /* chunk numbers: no chunk outside is dirty; from = to: none is */
};

struct group_part {
    struct group *group;
    struct partition *partition;
    struct done done;
    uint64_t cursor;            /* scanned up to here */
    uint64_t scanned;           /* (row) below it every message was scanned before: not appended to lists again */
    uint64_t parked;            /* (row) */
    struct map entries;         /* offset -> entry */
    struct list fresh[PRIORITIES]; /* READY, found by the scan, ascending, no row of their own */
    struct list unsure;         /* keys with a front whose head the scan may still find */
    struct list present;        /* of struct entry: redriven ones */
    uint64_t held_turn;         /* the last turn that put the row of a held message */
    uint64_t copied;            /* from the log's start up to here each has a copy, if only for as long as it is there */
    uint64_t lost, stale;       /* (row) lost at the hard cap; of those, what still stands in lists of keys */
    bool lost_changed;
    uint64_t cursor_time_ms;    /* append time of the last scanned message */
    uint64_t cursor_bytes;      /* of the log before the cursor; UINT64_MAX: not known */
    uint64_t low_at, low_time_ms; /* append time of the message at low_at, as the log was asked for it; UINT64_MAX: of none */
    uint32_t loading;           /* records asked of a reader; 0: none */
    struct list_node dirty;     /* in engine.dirty_parts: cursor row or chunks */
};

struct lease {
    uint64_t token;             /* (row) key */
    struct group *group;
    struct session *session;
    struct list_node of_session;
    struct list entries;        /* (row) */
    uint32_t entries_n, slot, lease_ms;
    uint64_t counter, granted_ms; /* wall */
    struct timer timer;         /* the first expiry among its entries */
    struct list_node dirty;
};

/* ---------------------------------------------------------------- stream groups (members.c, assign.c, commit.c)
 *
 *      join ──> ACTIVE ──leave, keep──> AWAY ──its session timeout──> gone
 *                 │  └─ another of its name joins ──> FENCED: owns what it owned until it says otherwise, or its time is over
 *                 └─ leave, bye, not heard of for its session timeout ──> gone
 *
 * A partition has an owner, and a target, who is to be the owner:   owner = target   it stays
 *                                                                   owner, another   the owner is told to give it up
 *                                                                   no owner         the target gets it when it listens
 */
struct member {
    struct stream *stream;
    struct list_node link;      /* in stream.members */
    struct id128 session_id;    /* (row) */
    uint32_t number;            /* (row) which the client chose */
    char *name;                 /* (row) "": none */
    uint32_t timeout_ms;        /* (row) */
    uint64_t order, joined_ms;  /* (row) order: of joining; wall */
    uint8_t state;              /* (row) enum member_state */
    struct session *session;    /* NULL: it is forgotten, and so is what it could say */
    struct list_node of_session;
    struct list owned;          /* of struct claim, by `of_owner` */
    uint32_t owned_n;
    uint64_t heard_ms;          /* mono */
    struct timer timer;         /* not heard of for its timeout */
    uint64_t version;           /* of what it is to be told */
    uint64_t turn;              /* what it is told stands on this turn */
    struct list waiting;        /* of struct place: its join or heartbeat, one at most */
    bool tell;                  /* ... is answered in this turn, whatever there is to say */
    uint32_t index;             /* while partitions are assigned, and members listed */
};

struct claim {
    struct member *owner, *target; /* (row: owner; target if it is away) */
    struct list_node of_owner;
    uint64_t generation;        /* (row) of the owner's, or the last one's, ownership */
    uint64_t committed_ms;      /* (row) wall; 0: never */
    uint64_t gap;               /* so many before the committed offset went at the hard cap, and nobody is known to have heard of it */
    uint32_t index;             /* of the partition */
    bool revoked;               /* the owner is told to give it up */
    bool open;                  /* as it was when partitions were assigned: the group has passed its fence */
};

struct stream {
    struct group *group;
    struct list members;        /* by order */
    uint32_t members_n;
    struct claim **claims;      /* by index of the partition */
    uint32_t claims_n;
    uint32_t free_n;            /* without an owner */
    bool unbalanced;            /* members or partitions came or went */
    bool stirred;               /* somebody is to be told something, perhaps */
};

enum { RATE_SECONDS = 60 };
struct rate { uint64_t second; uint32_t bucket[RATE_SECONDS]; };

struct group {
    uint32_t id;
    char *name;                 /* (row) */
    struct topic *topic;
    uint64_t created_ms;        /* (row) */
    struct wire_group_config config; /* (row) defaults filled in */
    bool paused;                /* (row) */
    struct group_part **parts;  /* one for each partition of the topic, by its index */
    struct stream *stream;      /* mode stream; else NULL */
    struct list headless;       /* after a restart: keys with a list and no head that rows say; the scan finds it, or there is none */
    struct map keys;            /* hash -> key_queue */
    struct map leases;          /* token -> lease */
    struct list again[PRIORITIES]; /* READY: came back, or the next of its key */
    uint64_t ready_at[PRIORITIES]; /* READY by priority, in all its lists */
    uint16_t ready_mask;        /* bit i: ready_at[i] > 0 */
    bool expiring;              /* enough expired in this turn: nothing is granted until `later` */
    struct timer later;         /* looks again for what can be handed out */
    struct list waiters;        /* of struct place: receives that wait */
    uint32_t next_part, next_load; /* round robin: granting, reading ahead */
    uint64_t loading;           /* sum over its parts */
    uint64_t mark;              /* of the last receive that looked at it */
    uint64_t ready, leased, retrying, blocked, waiting, throttled, behind; /* messages in each state, away or not */
    struct flow flow;           /* of rate_milli */
    uint64_t redriven;          /* present though their offset is done: entries, and what is away */
    uint64_t asked_ms;          /* mono: the last receive; 0: none since the start */
    uint64_t used_ms;           /* (row, at times) wall: somebody received or settled; kept if it has an idle expiry */
    uint64_t used_written_ms;   /* in its row */
    struct timer idle;
    bool idle_warned;
    uint64_t paced;             /* of those, what tasks wait for */
    struct away_counts away;    /* (row) of the messages in each state those that are away, ... */
    struct timer sweep;         /* rows that a purge left */
    struct key sweep_at;        /* where it goes on */
    bool sweeps_keys;           /* held rows are through */
    uint32_t demand;            /* what receivers asked for lately, decays */
    bool has_state;             /* a handler has put state: grants look for the row of their key */
    uint32_t filling;           /* replays that fill it from its beginning: nothing new is read before they end */
    bool hinted;                /* receivers were told, or none was ever empty-handed */
    struct rate acks;
    struct list_node stirred;   /* in engine.stirred: look for work to hand out and to read ahead */
};

/* The place of a waiting operation in the queue of one group, of one partition (`offset`: what it waits for there), or of a member. In the
 * operation's arena. */
struct place { struct list_node queue; struct list_node of_op; struct op *op; uint64_t offset; struct member *member; };

/* ---------------------------------------------------------------- message ids (dedup.c) */

struct dedup {
    struct dedup_generation_row row; /* (row) */
    uint64_t window_ms;         /* the longest of any topic, if known */
    bool window_known, dirty;
    struct timer timer;         /* when the generation turns */
    struct dedup_seen *seen;    /* the ids that one request named */
    size_t seen_n, seen_cap;
    uint64_t mark;
};

/* ---------------------------------------------------------------- batches that wait for their time (sched.c) */

struct sched {
    struct timer timer;         /* when the wall clock is looked at again */
    uint64_t next_ms;           /* no batch row is due before; UINT64_MAX: none waits */
    uint64_t low_ms;            /* (row) readers begin here: no batch row is left before */
    uint64_t batches, messages; /* sums over topics */
    uint64_t names;             /* made in this epoch */
    bool asked;                 /* a reader fetches what is due */
    struct effect_due due;
    struct buf name;
};

/* ---------------------------------------------------------------- the ends of the logs (retention.c) */

/* A partition that is being cut. */
struct trimming {
    struct partition *partition;
    struct list_node link;      /* in retention.under_way */
    uint8_t stage;              /* retention.c */
    uint8_t why;                /* enum gap_why */
    struct cut want;            /* where it is to begin, if the groups let go */
    uint64_t lost;              /* by the group that is looked at */
    uint32_t altered;           /* of its topic, when this began */
    bool cap_asked;
    bool copying;               /* readers bring bytes of held messages */
};

struct retention {
    struct timer timer;
    struct heap due;            /* of struct partition, by wall time */
    struct list looks;          /* of struct partition: to be looked at in the next round */
    struct list over;           /* of struct topic: with more bytes than they keep */
    struct list under_way;      /* of struct trimming */
    uint32_t under_way_n;
    uint64_t round_ms;          /* mono: the last round began */
    bool in_round;              /* more wait than may be under way */
    uint64_t copy_ms;           /* mono: the next messages are copied then */
};

/* ---------------------------------------------------------------- compaction by key (compact.c) */

struct compactable {
    struct partition *partition;
    struct list_node link;      /* in compacting.all: who was looked at longest ago is first */
    struct compaction_row row;  /* (row) */
    bool has_row;
    uint64_t after_ms;          /* mono: not looked at before */
    uint64_t back_low;          /* the lowest offset that came back from being away while the round is read */
};
struct compacting {
    struct timer timer;
    struct list all;
    size_t n;
    bool under_way;             /* one pass at a time */
    struct effect_compacted last;
};

/* ---------------------------------------------------------------- what is away (away.c) */

struct away {
    struct timer timer;         /* when the clock is looked at again */
    uint64_t next_ms;           /* no retry that is away is due before; UINT64_MAX: none */
    uint64_t low_ms;            /* (row) readers begin here */
    bool low_known;             /* it has a row */
    bool asked;                 /* a reader fetches what is due */
    struct effect_back back;
};

/* ---------------------------------------------------------------- the engine */

struct engine {
    struct store *store;
    const struct engine_limits *limits;
    struct pool entries;        /* each message in the flow takes one and gives it back */
    struct engine_counters counters;
    struct effects fx;
    struct buf cuts, copies;    /* as those */
    struct buf notices, loads, matches, picks, hints, partitions_fx, drops, appends_fx; /* the arrays behind fx */
    struct buf appends;         /* of struct append, this turn's */
    struct buf holds;           /* of struct ref *: what its batches stand in, until the turn is written */
    struct buf scratch, row;    /* for encoding */
    struct buf headers_moved;   /* of struct key: a start with rows of an older version */
    struct rng rng;
    uint32_t epoch;             /* (row) */
    uint64_t turn;              /* (row) */
    uint64_t durable;           /* the last turn that is on disk */
    uint64_t wall_ms;           /* (row) never goes back */
    uint64_t down_ms;           /* between the last turn before the start and the start */
    uint64_t topics_gone;       /* how many were deleted since the start */
    uint64_t names_turn;        /* the last in which a topic or group came, changed or went: who is told of it waits until that is on disk */
    uint32_t groups_gone[1024]; /* the last that went with their topic, by id: a ring */
    size_t groups_gone_n;
    struct engine_now now;
    struct engine_now clock;    /* when the two clocks were last seen to agree */
    bool wall_suspect;          /* the wall clock stepped: what goes by it pauses */
    struct sched sched;
    struct retention retention;
    uint64_t log_bytes[FAM_COUNT]; /* of all logs of a family */
    struct compacting compact;
    struct away away;
    struct list leaving;        /* entries that may go away at the end of the turn */
    uint64_t token_last;        /* counter of this epoch */
    uint64_t mark;              /* the last that was given: to see what was met before */
    struct next_row next;       /* (row) */
    bool epoch_written;
    struct topic **topics;      /* sorted by name */
    size_t topics_n;
    struct map partitions, groups; /* by id */
    uint32_t topics_count, groups_n;
    struct map sessions;        /* low half of the id -> session */
    struct map pipes;           /* pipe -> session */
    size_t sessions_n;
    struct heap timers, waits;
    struct list dirty_partitions, dirty_parts, dirty_keys, dirty_leases, dirty_lanes, dirty_tasks, stirred;
    struct list tasks;          /* by id; those that run and the last that ended */
    uint32_t tasks_n, tasks_running, tasks_stepped; /* stepped: in turn tasks_turn */
    uint64_t tasks_turn;
    struct pending for_written, for_durable;
    struct dedup dedup;
    uint64_t ready, loading;    /* messages: in all groups */
    uint64_t disk_free;
    uint64_t began_ms;          /* mono */
    bool stopping, in_turn;
    struct err failed;
};

/* ---------------------------------------------------------------- engine.c */

void engine_fail(struct engine *en, const struct err *why);
void timer_set(struct engine *en, struct timer *t, uint64_t due_ms, void (*fire)(struct engine *, struct timer *));
void timer_clear(struct engine *en, struct timer *t);
/* Reads a row as the engine sees it: this turn's puts first. False: not there, or the engine failed. Good until the next call. */
bool row_read(struct engine *en, enum store_family f, const struct key *k, struct view *value);
/* A row was read and makes no sense: which one it is goes before why. The code. */
int row_bad(enum store_family f, struct view key, struct err *e);
void row_fail(struct engine *en, enum store_family f, struct view key, struct err *why); /* as that, and the engine fails */
void row_put(struct engine *en, enum store_family f, const struct key *k); /* en->row is the value */
void row_remove(struct engine *en, enum store_family f, const struct key *k);
void notice(struct engine *en, const char *fmt, ...) PRINTF_LIKE(2, 3); /* a line for the log */
void mark_dirty(struct list *dirty, struct list_node *n);

/* ---------------------------------------------------------------- answer.c */

/* Hands an operation back. Exactly one of these per operation. `turn`s and levels: see op.h. */
void answer(struct engine *en, struct op *op, int code, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* A refusal that says what was done before: it leaves as that does. */
void answer_standing(struct engine *en, struct op *op, enum durability level, int code, const char *fmt, ...) PRINTF_LIKE(5, 6);
void answer_now(struct engine *en, struct op *op);                 /* op->reply is filled; stands on nothing */
void answer_on(struct engine *en, struct op *op, uint64_t turn);   /* stands on a turn, this or one before, if that is not on disk yet */
void answer_change(struct engine *en, struct op *op, enum durability level); /* stands on this turn; kept as its lane's result */
void *op_take(struct engine *en, struct op *op, size_t n, size_t size); /* zeroed, from its arena; never NULL */
struct view op_text(struct op *op, const char *text);              /* a copy in its arena */

/* waiting: parks the operation with its session until `wait_ms` passed */
void wait_begin(struct engine *en, struct op *op, struct session *s, uint32_t wait_ms);
void wait_at(struct op *op, struct place *p, struct list *queue);
void wait_end(struct engine *en, struct op *op);                   /* out of all queues; it still has to be answered */
void wait_over(struct engine *en, struct op *op);                  /* its time is up: answered empty */

/* ---------------------------------------------------------------- session.c, lane.c */

struct session *session_of(struct engine *en, struct op *op);      /* NULL: answered NO_SESSION */
struct session *session_find(const struct engine *en, struct id128 id);
struct session *session_add(struct engine *en, struct id128 id, struct view name, uint64_t created_ms, uint64_t seen_ms);
void session_hello(struct engine *en, struct op *op);
void session_bye(struct engine *en, struct op *op);
void session_detach(struct engine *en, struct session *s);         /* its pipe is gone */
void session_wait_for_pipe(struct engine *en, struct session *s);  /* grace and expiry begin */
void session_free(struct engine *en, struct session *s);           /* memory only */
void sessions_close(struct engine *en);

/* LANE_NEW: do it; LANE_ANSWERED: was a repeat or a refusal, answered. */
enum lane_step { LANE_NEW, LANE_ANSWERED };
enum lane_step lane_begin(struct engine *en, struct session *s, struct op *op); /* LANE_NEW sets op->lane */
/* The request succeeded: op->reply is kept as its result, with this turn. answer_change calls it. */
void lane_done(struct engine *en, struct lane *l, struct op *op, enum durability level);
void lane_write(struct engine *en, struct lane *l);
void lane_free(struct lane *l);

/* ---------------------------------------------------------------- topics.c, log.c */

/* Where the thing of this name is in a sorted list, or would be. */
size_t name_place(void *const *things, size_t n, const char *(*name_of)(const void *), struct view name, bool *found);
struct topic *topic_find(const struct engine *en, struct view name);
struct topic *topic_add(struct engine *en, uint32_t id, const struct topic_row *row);
void topic_create(struct engine *en, struct op *op, struct session *s);
void topic_alter(struct engine *en, struct op *op, struct session *s);
void topic_delete(struct engine *en, struct op *op, struct session *s);
void topic_list(struct engine *en, struct op *op);
void topic_free(struct topic *t);
enum store_family log_family(uint8_t log_class);
struct partition *partition_new(struct engine *en, struct topic *t, uint32_t index, uint32_t id);
void topic_unknown(struct engine *en, struct op *op, struct view name); /* answers TOPIC_NOT_FOUND with help */
void partition_gone(struct engine *en, struct op *op, uint32_t id);     /* answers PARTITION_NOT_FOUND, or TOPIC_DELETED */
int partition_missing(const struct engine *en, uint32_t id);            /* which of the two */
int group_missing(const struct engine *en, uint32_t id);                /* GROUP_NOT_FOUND, or TOPIC_DELETED where that is known */

void log_produce(struct engine *en, struct op *op, struct session *s);
/* Appends a batch to its partition in this turn; nothing is asked and nothing refused. The batch's bytes stay, `hold` or not, until the turn is
 * written. `last_delta`: offset of the last record minus the first's. Groups are told. */
void log_append(struct engine *en, struct partition *p, const struct wire_produce *w, uint64_t last_delta, struct ref *hold,
                struct wire_produced *out);
/* Does a produce, alone or of a unit, that was checked: by sched_check, dedup_check, quota_refuses. */
/* What its topic allows a message to have. TOO_LARGE. */
int log_check(const struct topic *t, const struct op_batch *b, struct err *e);
void log_take(struct engine *en, struct op *op, struct session *s, const struct wire_produce *w, const struct op_batch *b, struct wire_produced *out);
void log_fetch(struct engine *en, struct op *op, struct session *s);
bool log_fetch_try(struct engine *en, struct op *op, bool always);      /* answered? */
void log_offset_for(struct engine *en, struct op *op);
void log_write(struct engine *en, struct partition *p);                /* this turn's appends and the partition's row */
void log_visible(struct engine *en, struct pending *queue, uint64_t turn);
void log_partition_publish(struct engine *en, const struct partition *p, bool gone);

/* ---------------------------------------------------------------- growth.c */

/* Whether a topic can have so many partitions: OK (also for as many as it has), UNSUPPORTED, LIMIT. */
int growth_check(const struct engine *en, const struct topic *t, uint32_t partitions, struct err *e);
void topic_grow(struct engine *en, struct topic *t, uint32_t partitions); /* checked before; the topic's row is the caller's */
/* Not all keys of a batch belong to the partition that it was sent to, as many as there are now. */
bool growth_misfit(const struct partition *p, const struct op_batch *b);
void growth_answer(struct engine *en, struct op *op, const struct partition *p, const struct op_batch *b); /* WRONG_PARTITION */
/* Where a message belongs that was to be appended to `p` before there were more. */
struct partition *growth_partition(struct partition *p, uint64_t key_hash);
bool part_open(const struct group_part *p);            /* the group has passed its fence */
/* A part that is scanned again after a restart and may have messages of this key; NULL: none. */
struct group_part *key_rescanned(const struct key_queue *k);

/* ---------------------------------------------------------------- retention.c */

void retention_appended(struct engine *en, struct partition *p, uint64_t bytes);
void retention_floor_moved(struct engine *en, struct partition *p);   /* of some group */
void retention_topic_changed(struct engine *en, struct topic *t);     /* its settings or its groups */
void retention_partition_gone(struct engine *en, struct partition *p);
/* What a reader that stands at `from`, before the start, can no longer have. */
void retention_gap(const struct partition *p, uint64_t from, struct wire_gap *out);
/* What went, or is going, at the hard cap, as far as that is told apart from what is next to it. False: nothing did. */
struct capped { uint32_t n; struct { uint64_t from, to; } at[TRIMS_MAX + 1]; uint64_t offsets, first_ms, last_ms; };
bool retention_capped(const struct partition *p, struct capped *out);
void trims_write(struct engine *en, struct partition *p);
void retention_go_on(struct engine *en, uint64_t mono_ms);            /* looks at what is under way, then */
void retention_init(struct engine *en);
int retention_load_trims(struct partition *p, struct view value, struct err *e);
void retention_load(struct engine *en);                                /* topics and partitions were */
uint64_t retention_digest(const struct partition *p, uint64_t (*mix)(uint64_t, uint64_t));

/* ---------------------------------------------------------------- compact.c */

void compact_add(struct engine *en, struct partition *p);              /* of a topic that is compacted */
void compact_forget(struct partition *p);                              /* memory only */
void compact_rows_remove(struct engine *en, const struct partition *p);
int compact_load(struct engine *en, struct view key, struct view value, struct err *e);
uint64_t compact_removed_bytes(const struct partition *p);             /* of the bytes between its start and its end */
uint64_t compact_dirty_bytes(const struct partition *p);               /* appended since the last pass */
void compact_returned(struct engine *en, struct compaction *c);
/* A batch that its topic does not take: OK, or INVALID_ARGUMENT with why. */
int compact_check(const struct topic *t, const struct op_batch *b, struct err *e);

/* ---------------------------------------------------------------- release.c: what groups let go of a log that is being cut */

/* LATER: a turn has its bounds, or its time is not yet. WAITS: for readers. */
enum release_step { RELEASE_ALL, RELEASE_LATER, RELEASE_WAITS };
enum release_step release_copy(struct engine *en, struct group_part *p, uint64_t want);
/* What it has not done before `to` is lost to it. `bytes`: of the log before that. */
enum release_step release_lose(struct engine *en, struct group_part *p, uint64_t to, uint64_t bytes);
void copies_held(struct engine *en, struct group_part *p, uint64_t offset);         /* the row of a held message is put */
void copy_bring(struct engine *en, struct group_part *p, uint64_t offset, struct view copy); /* of an entry whose message the log has no more */
void copy_remove(struct engine *en, const struct group_part *p, uint64_t offset);   /* nobody holds the message any more */
void lost_write(struct engine *en, struct group_part *p);
int lost_load(struct group_part *p, struct view value, struct err *e);
uint64_t group_lost(const struct group *g);
/* Of a message that is done: was it, or was it lost? Which of a removal were is known only if all were. */
enum lost_sure { LOST_NOT, LOST_PERHAPS, LOST_SURELY };
enum lost_sure lost_at(const struct group_part *p, uint64_t offset);
/* Says it of a message that was lost. False: it was not. */
bool lost_explain(struct op *op, const struct group_part *p, uint64_t offset);
/* By partition, into the operation's memory; only those that lost any. */
void lost_describe(struct engine *en, struct op *op, const struct group *g, struct wire_group *out);

/* ---------------------------------------------------------------- settings.c */

struct wire_topic_config topic_defaults(struct wire_topic_config c); /* with defaults for what is 0 */
struct wire_group_config group_defaults(struct wire_group_config c);
/* The first setting in which two differ; NULL: none. */
const char *topic_difference(const struct wire_topic_config *a, const struct wire_topic_config *b);
const char *group_difference(const struct wire_group_config *a, const struct wire_group_config *b);
/* What `mask` names is taken over from `to`, or nothing. Errors: INVALID_ARGUMENT; UNSUPPORTED with what to do instead. */
int topic_settings_alter(struct wire_topic_config *c, const struct wire_topic_config *to, uint64_t mask, struct err *e);
int group_settings_stream(const struct wire_group_config *c, struct err *e); /* WRONG_MODE: one is given that a stream group has not */
int group_settings_alter(struct wire_group_config *c, const struct wire_group_config *to, uint64_t mask, struct err *e);

/* ---------------------------------------------------------------- dedup.c: what was produced before */

/* DEDUP_ALL: every record was produced before; `out` says so, with where the first is (UINT64_MAX: it waits for its time): nothing is to be
 * done, and that is OK. DEDUP_SOME: out->duplicates were, in this request or before: nothing is to be done, and that is E_DUPLICATE. */
enum dedup_step { DEDUP_NEW, DEDUP_ALL, DEDUP_SOME };
void dedup_begin(struct engine *en);   /* before the checks of one request, or of one unit: ids in it are compared with each other */
enum dedup_step dedup_check(struct engine *en, struct op *op, const struct topic *t, uint32_t count, const struct op_batch *b,
                            struct wire_produced *out);
/* It is appended from base_offset on (UINT64_MAX: it waits for its time): the same ids are duplicates from now on. */
void dedup_note(struct engine *en, const struct topic *t, uint32_t partition, uint64_t base_offset, uint32_t count, const struct op_batch *b);
void dedup_windows_changed(struct engine *en); /* a topic came, went or was altered */
void dedup_write(struct engine *en);
int dedup_load(struct engine *en, struct err *e);
void dedup_free(struct engine *en);

/* ---------------------------------------------------------------- quota.c: what is refused for now */

struct refusal { struct err e; uint64_t depth, drain_ms; uint32_t retry_after_ms; };
/* Whether a produce must be refused; nothing is taken. The counter is raised. */
bool quota_refuses(struct engine *en, const struct session *s, struct partition *p, uint64_t messages, uint64_t bytes, struct refusal *out);
void quota_take(struct engine *en, struct session *s, uint64_t messages, uint64_t bytes); /* it was accepted */
void refusal_put(struct op *op, const struct refusal *r); /* the figures, not the code */
void quota_answer(struct engine *en, struct op *op, const struct refusal *r);
uint32_t quota_in_flight_left(const struct engine *en, const struct session *s, uint32_t wanted);
void quota_leased(struct session *s);
void quota_settled(struct engine *en, struct session *s);

/* ---------------------------------------------------------------- group.c */

struct group *group_find(struct engine *en, struct op *op, struct view topic, struct view name); /* NULL: answered */
/* The groups that request.list names, sorted by topic and name, behind `after` ("topic/group"). NULL: answered. */
struct group **groups_page(struct engine *en, struct op *op, size_t *n, bool *more);
struct group *group_add(struct engine *en, struct topic *t, uint32_t id, const struct group_row *row);
void group_create(struct engine *en, struct op *op, struct session *s);
/* Makes a group that is not there yet; `config` with its defaults. NULL: there are too many, answered. */
struct group *group_new(struct engine *en, struct op *op, struct topic *t, struct view name, const struct wire_group_config *config);
void group_alter(struct engine *en, struct op *op, struct session *s);
void group_control(struct engine *en, struct op *op, struct session *s);
void group_delete(struct engine *en, struct op *op, struct session *s);
void group_list(struct engine *en, struct op *op);
void group_drop(struct engine *en, struct group *g, int code); /* out of everything, its rows too; waiting receives get `code` */
void group_rows_remove(struct engine *en, enum store_family f, struct key begin); /* every row that begins so */
uint64_t group_purge(struct engine *en, struct group *g);      /* purge.c; how many messages were done by it */
void group_sweep(struct engine *en, struct group *g);          /* purge.c: begins to remove what purges left */
void group_free(struct engine *en, struct group *g);
void group_grow(struct engine *en, struct group *g, uint32_t before);              /* its topic has more partitions than before */
void group_stir(struct engine *en, struct group *g);
void group_write(struct engine *en, struct group *g);          /* its row */
void group_used(struct engine *en, struct group *g);           /* idle.c: somebody received or settled */
void group_idle_arm(struct engine *en, struct group *g);
void group_idle_load(struct engine *en, struct group *g);      /* its row was read */

/* ---------------------------------------------------------------- members.c, commit.c: stream groups */

/* The group is of this mode; else answered WRONG_MODE, saying what it is asked with instead. */
bool group_is(struct engine *en, struct op *op, const struct group *g, enum group_mode mode);
struct stream *members_new(struct group *g);
void members_grow(struct engine *en, struct stream *st);                 /* its topic has more partitions */
void members_moved(struct engine *en, const struct group_part *p);       /* how far the group is in a partition changed: it may open others */
void members_free(struct engine *en, struct stream *st);
void members_closed(struct engine *en, struct stream *st, int code);     /* its group goes: who waits is told */
void members_stir(struct engine *en, struct stream *st);
void members_stirred(struct engine *en, struct stream *st);              /* at the end of a turn: assigns, gives, answers */
void members_join(struct engine *en, struct op *op, struct session *s);
void members_heartbeat(struct engine *en, struct op *op, struct session *s);
void members_leave(struct engine *en, struct op *op, struct session *s);
void members_wait_over(struct engine *en, struct op *op);
void members_list(struct engine *en, struct op *op);
/* The session ended: by its own word (`left`), or it is forgotten, which says nothing of its members. */
void members_session_over(struct engine *en, struct session *s, bool left);
int members_load(struct engine *en, struct group *g, struct id128 session, uint32_t number, struct view value, struct err *e);
int members_load_claim(struct engine *en, struct group_part *p, struct view value, struct err *e);
void members_loaded(struct engine *en, struct stream *st);               /* members begin a full new term */
struct member *members_find(const struct stream *st, struct id128 session, uint32_t number); /* NULL: none */
/* The owner, if it is this session's, by whatever member. */
bool claim_is_of(const struct claim *c, const struct session *s);
/* What is told of a partition changed: its owner hears of it, standing on this turn. */
void claim_told(struct engine *en, struct claim *c);
uint64_t claim_generation(struct engine *en);                           /* a new one, higher than all before */
void commit_request(struct engine *en, struct op *op, struct session *s);
void commit_seek(struct engine *en, struct op *op, struct session *s);
void commit_write(struct engine *en, struct group_part *p);
/* Where a partition's readers go on, forward or back. */
void commit_set(struct engine *en, struct group_part *p, uint64_t offset);
/* As commit_set, by the hard cap: what it passes is a gap to who reads next, who begins before it. */
void commit_lost(struct engine *en, struct group_part *p, uint64_t to);
void commit_load_gap(struct group_part *p);                             /* after floor, loss and removals */
uint64_t commit_begin(const struct group_part *p);                      /* where its owner reads; the committed offset but for a gap */
void commit_explain(struct engine *en, struct op *op, struct group *g); /* op->reply.explain is begun */
uint64_t commit_purge(struct engine *en, struct group *g);              /* to the end; how many messages were skipped */

/* ---------------------------------------------------------------- queue.c, ready.c, grant.c: scanning, handing out */

void queue_receive(struct engine *en, struct op *op, struct session *s);
void receive_empty(struct engine *en, struct op *op);
/* Grants what there is for `r` into `out`; false: nothing. */
bool queue_grant(struct engine *en, struct op *op, struct session *s, const struct wire_receive *r, struct wire_receive_reply *out);
/* Grants for the receive that a settle carries into its reply; false: nothing. `level` rises to what the grants stand on. */
bool queue_receive_carried(struct engine *en, struct op *op, struct session *s, enum durability *level);
void queue_stirred(struct engine *en);                 /* at the end of a turn: waiting receives and read-ahead */
void queue_loaded(struct engine *en, const struct loaded *l);
void queue_load(struct engine *en, struct group_part *p); /* reads what it scans again, whoever asks */
void load_end(struct engine *en, struct group_part *p); /* its read-ahead came back, or nobody waits for it any more */
struct entry *entry_new(struct engine *en, struct group_part *p, uint64_t offset);
void entry_present(struct entry *e);                        /* it is there though its offset is done: redriven */
void entry_ready(struct engine *en, struct entry *e);       /* came back, or is the next of its key */
void entry_ready_fresh(struct engine *en, struct entry *e); /* found by the scan: nothing else stands for it */
void entry_unready(struct engine *en, struct entry *e);
/* The lowest offset that is ready and stands nowhere else: a restart scans from there. */
uint64_t part_ready_low(const struct group_part *p);
bool entry_passed(const struct engine *en, const struct entry *e); /* its time to live is over */
bool entry_worn(const struct entry *e);                /* granted too often without an answer */
bool group_gives(const struct engine *en, const struct group *g); /* no limit keeps it from giving a message */
void ready_turn(struct group *g); /* the next partition is next */
struct entry *ready_next(const struct engine *en, struct group *g); /* NULL: none */
void entry_forget(struct engine *en, struct entry *e);                    /* out of its part's map, freed; it is in no list, heap, key */

/* ---------------------------------------------------------------- done.c */

bool done_has(const struct done *d, uint64_t offset);
bool done_set(struct done *d, uint64_t offset);        /* false: it was done already */
void done_load(struct done *d, uint64_t chunk, const uint8_t bits[DONE_CHUNK_BYTES]);
void done_raise(struct done *d, uint64_t floor);       /* everything below is done */
void done_all(struct done *d, uint64_t floor);         /* everything below is done, nothing above; its rows are the caller's */
void done_write(struct engine *en, struct group_part *p);
void done_free(struct done *d);

/* ---------------------------------------------------------------- key.c: the head of a key and its front */

struct key_queue *key_queue_get(struct group *g, uint64_t hash, bool make); /* of those in memory */
void key_forget(struct engine *en, struct key_queue *k);
void key_list_clear(struct key_queue *k);              /* it is empty; its rows are the caller's */
void key_queue_free(struct engine *en, struct key_queue *k);
void key_settle(struct engine *en, struct key_queue *k); /* forgets it if it has nothing and nothing of it is spent */
/* An entry with a row, due now: the head of its key and ready if it is the oldest and nobody holds the key, else in the front. */
void key_enter(struct engine *en, struct entry *e);
/* Only places it: true, it is the head; false, it is to be put into the front, or to wait there. Its state is the caller's. */
bool key_place(struct engine *en, struct entry *e);
void key_front_add(struct entry *e);
/* A head that comes back, or is parked and blocks: whether one of its front is older, and goes before it. `e` is out of what held it and in its
 * new state, but for being ready. */
bool key_yields(const struct entry *e);
void key_yield(struct engine *en, struct entry *e);
void key_take(struct engine *en, struct entry *e); /* it is leased, and so the head whatever else there is */
/* The head is out of the way: the next of the front or of the list takes its place, or the key is forgotten. */
void key_advance(struct engine *en, struct group *g, struct key_queue *k);
/* The next of the key leaves the front or the list, to be leased behind the head; NULL: none that can go now and has at most
 * `bytes_max` bytes. */
struct entry *key_run_next(struct engine *en, struct key_queue *k, uint64_t bytes_max);
/* What is leased behind this entry goes back to the front: nobody began it, so the grant is taken back. */
void key_run_cut(struct engine *en, struct entry *e);
void key_run_return(struct engine *en, struct entry *e); /* as that, with the entry itself, which is not the head */
struct entry *key_run_before(const struct entry *e);     /* the member it is leased behind; NULL: none */
/* An entry that is no longer of this key left it: its head, or one of its front. */
void key_left(struct engine *en, struct key_queue *k, const struct entry *e);
/* The scan has seen all of a partition that it may have met before: keys whose head was not found have none. */
void keys_sure(struct engine *en, struct group_part *p);

/* ---------------------------------------------------------------- flow.c: rates */

uint64_t flow_wait(const struct engine *en, const struct group *g);     /* 0: the group may give a message now; else look again in so many ms */
uint64_t flow_wait_key(const struct engine *en, const struct key_queue *k); /* as that, of the key: its rate and how many are leased */
uint64_t flow_wait_rate(const struct engine *en, const struct key_queue *k); /* its rate alone */
void flow_take(const struct engine *en, struct group *g, struct key_queue *k); /* a message is handed out; k may be NULL */
bool flow_throttles(struct engine *en, struct entry *e);                /* what would be ready is throttled, or waits in the front of its key */
void flow_look(struct engine *en, struct key_queue *k);                 /* its head is throttled: may it go? */
bool flow_remembers(struct engine *en, struct key_queue *k);            /* something is spent: it is looked at again then */
/* What a group's limits may be: OK or UNSUPPORTED, with why. */
int flow_check(const struct wire_group_config *c, struct err *e);

/* ---------------------------------------------------------------- keylimit.c: limits by key in a group of order none */

static inline bool group_keeps_order(const struct group *g) { return g->config.order == ORDER_KEY; }
bool group_limits_keys(const struct group *g);
/* The key that a message belongs to as the scan meets it; NULL: it goes its own way. */
struct key_queue *limit_key(struct group *g, uint64_t hash);
bool limit_enter(struct engine *en, struct entry *e);   /* it would be ready: its key's head from now on, or true: waits in the front */
bool limit_holds_back(const struct engine *en, const struct entry *e);  /* ready, and about to be granted */
void limit_step_aside(struct engine *en, struct entry *e);              /* that: others go */
struct key_queue *limit_taken(struct engine *en, struct entry *e);      /* it is leased; the key that it counts for, or NULL */
void limit_left(struct engine *en, struct entry *e);                    /* it is not any more: the next of its key may go */

/* ---------------------------------------------------------------- keylist.c: what waits behind a key's head */

void key_list_append(struct engine *en, struct group *g, struct key_queue *k, struct list_position p);
bool key_list_first(struct engine *en, struct group *g, struct key_queue *k, struct list_position *p); /* false: empty or failed */
bool key_list_next(struct engine *en, struct key_queue *k, struct list_position *p); /* what goes next; what was lost goes away */
void key_list_pop(struct engine *en, struct group *g, struct key_queue *k);
struct entry *key_list_take(struct engine *en, struct key_queue *k, const struct list_position *first); /* leaves the list, is an entry */
void key_head_from_list(struct engine *en, struct group *g, struct key_queue *k);
void key_write(struct engine *en, struct group *g, struct key_queue *k);
void key_chunk_write(struct engine *en, struct key_queue *k); /* only what was appended */
void key_header_remove(struct engine *en, struct key_queue *k);

/* ---------------------------------------------------------------- away.c: what is rows alone */

/* Its state is set and its held row put: now its time, unless it may go away: that is seen at the end of the turn. */
void entry_time(struct engine *en, struct entry *e);
bool entry_may_go(struct engine *en, struct entry *e);       /* looked at again at the end of the turn */
/* The key, also one that is away: then its head and front are `members`, and it goes again with the turn. */
struct key_queue *key_find(struct engine *en, struct group *g, uint64_t hash, bool make);
void away_key_back(struct engine *en, struct key_queue *k);  /* its members are entries again */
void away_key_changed(struct engine *en, struct key_queue *k);
void away_key_end(struct engine *en, struct key_queue *k);
/* Head of a key that is away, and how many are behind it; nothing is changed. False: it is not away. */
bool away_key_look(struct engine *en, const struct group *g, uint64_t hash, struct key_member *head, uint64_t *behind);
bool held_read(struct engine *en, const struct group *g, uint32_t partition, uint64_t offset, struct held_row *row);
bool away_purged(const struct group *g, const struct held_row *row);
/* The entry of a message that has none, of which this is the held row, with its key. NULL: the engine failed. */
struct entry *away_back(struct engine *en, struct group_part *p, uint64_t offset, const struct held_row *row);
/* The entry of a message, which comes back for it if it waits for its retry under this token. NULL: it is in nobody's hands. */
struct entry *entry_find(struct engine *en, struct group_part *p, uint64_t offset, uint64_t token);
void away_turn_end(struct engine *en);
void away_load(struct engine *en, struct group *g, const struct away_counts *counts);
int away_load_low(struct engine *en, struct err *e);

/* ---------------------------------------------------------------- lease.c, settle.c */

struct lease *lease_new(struct engine *en, struct group *g, struct session *s, uint64_t token);
void lease_take(struct engine *en, struct lease *l, struct entry *e, uint64_t expires_ms);
void lease_leave(struct engine *en, struct entry *e);  /* the entry is no longer held; an empty lease goes with the turn */
/* It runs until then, and what is leased behind it in its key at least as long: who is at the first has not begun the others. */
void lease_extend(struct engine *en, struct entry *e, uint64_t until_ms);
void lease_arm(struct engine *en, struct lease *l);
void lease_sooner(struct engine *en, struct lease *l, uint64_t ms);
void lease_write(struct engine *en, struct lease *l);
bool leases_return(struct engine *en, struct session *s); /* a bounded number, not counted as failures; true: all */
void lease_free(struct engine *en, struct lease *l);

void settle_request(struct engine *en, struct op *op, struct session *s);

/* ---------------------------------------------------------------- held.c */

void entry_done(struct engine *en, struct entry *e);                        /* acked, dropped: absent from now on */
void entry_retry(struct engine *en, struct entry *e, uint64_t delay_ms);    /* out of the flow for a while; 0: ready at once */
void entry_park(struct engine *en, struct entry *e, struct view reason, struct view error);
/* One more failure: retried after delay_ms (UINT64_MAX: the group's backoff) or parked when it was the last. Its row says why. */
void entry_failed(struct engine *en, struct entry *e, uint64_t delay_ms, struct view why, struct view error);
void entry_row_remove(struct engine *en, struct entry *e);
void entry_leave_state(struct engine *en, struct entry *e); /* out of what its state put it in, its rows too; not out of its key's list */
void entry_retry_arm(struct engine *en, struct entry *e, uint64_t delay_ms);
void entry_row_write(struct engine *en, struct entry *e);                   /* its rows: present, due now */
/* A ready head gets rows of its own, so that it can be told from what else there is of its key. */
void entry_stand(struct engine *en, struct entry *e);
/* A parked message is present again at its old offset, its counts at 0. `row`: its held row. False: it is not parked any more. */
bool entry_redrive(struct engine *en, struct group_part *p, uint64_t offset, const struct held_row *row);
/* A message that is done, and no entry, is present again. What is asked of `what`: key, size, priority. */
void entry_replay(struct engine *en, struct group_part *p, uint64_t offset, const struct held_row *what);
/* A parked message is gone for good. */
void entry_drop_parked(struct engine *en, struct group_part *p, uint64_t offset, const struct held_row *row);
/* How many messages were redriven and are in memory since: ready, leased, to be retried soon. */
uint64_t group_waiting(const struct group *g);
void entry_unpace(struct entry *e);

/* ---------------------------------------------------------------- heldlist.c: looking at what is held */

void held_list(struct engine *en, struct op *op);

/* ---------------------------------------------------------------- sched.c: batches that wait for their time */

bool sched_asked(const struct wire_produce *w);                              /* it has a delay, a time or a cron */
/* Whether sched_add would take it: OK, LIMIT (too far away), INVALID_ARGUMENT (cron). */
int sched_check(const struct engine *en, const struct wire_produce *w, struct err *e);
/* Lets a batch wait that sched_check would take, in place of what waits under its name; one whose time has come is appended. `out` is what is
 * answered of it, in the arena of `op`, which also keeps the batch's bytes. */
void sched_add(struct engine *en, struct op *op, const struct wire_produce *w, const struct op_batch *b, struct wire_produced *out);
void sched_due(struct engine *en, const struct due *d);
void sched_turn_end(struct engine *en);                                      /* asks for what is due, or sets the timer */
void sched_topic_gone(struct engine *en, struct topic *t);                   /* names at once; batches when they are due */
int sched_load(struct engine *en, struct err *e);
void sched_list(struct engine *en, struct op *op);
void sched_change(struct engine *en, struct op *op, struct session *s);

/* ---------------------------------------------------------------- task.c, replay.c: dead letters redriven and dropped, messages replayed */

void held_change(struct engine *en, struct op *op, struct session *s);
void task_list(struct engine *en, struct op *op);
void task_cancel(struct engine *en, struct op *op, struct session *s);
int task_load(struct engine *en, struct group *g, uint64_t id, struct view value, struct err *e);
void task_write(struct engine *en, struct list_node *dirty);
void tasks_forget(struct engine *en, const struct group *g); /* of a group that goes, with their rows; NULL: all of them, memory only */
uint64_t task_digest(const struct engine *en, uint64_t (*mix)(uint64_t, uint64_t));

/* ---------------------------------------------------------------- explain.c, state.c */

void explain(struct engine *en, struct op *op);
void state_get(struct engine *en, struct op *op);
/* Whether all of a unit's puts can be done: OK, CONFLICT, GROUP_NOT_FOUND, INVALID_ARGUMENT (the same row twice). */
int state_check(struct engine *en, const struct wire_state_put *puts, uint32_t n);
void state_put(struct engine *en, const struct wire_state_put *s);  /* checked before, in the same turn */
int state_load(struct engine *en, struct group *g, struct err *e);  /* has the group any row? */

/* ---------------------------------------------------------------- lag.c, load.c */

void rate_count(struct rate *r, uint64_t mono_ms, uint32_t n);
uint64_t rate_milli(const struct rate *r, uint64_t mono_ms); /* per 1,000 s, over the last minute */
void lag_list(struct engine *en, struct op *op);
void group_backlog(const struct engine *en, const struct group *g, struct group_backlog *out);
void times_mark(struct partition *p, uint64_t offset, uint64_t time_ms); /* at an append */
void lag_scanned(struct group_part *p, uint64_t bytes); /* the log's bytes before its cursor; UINT64_MAX: not known */
int engine_load(struct engine *en, struct err *e);

/* What rows and batches say is not trusted as an index. */
static inline uint8_t priority_bounded(uint8_t priority) { return priority < PRIORITIES ? priority : PRIORITIES - 1; }

/* What was scanned before a restart is being scanned again. */
static inline bool part_rescans(const struct group_part *p) { return p->cursor < p->scanned; }

static inline struct group_part *group_part(struct group *g, const struct partition *p) { return g->parts[p->index]; }

/* As rows and requests name it; NULL: the group's topic has no such partition. */
static inline struct group_part *group_part_of(const struct engine *en, struct group *g, uint32_t partition)
{
    const struct partition *p = map_get(&en->partitions, partition);
    return p != NULL && p->topic == g->topic ? group_part(g, p) : NULL;
}

/* Of the partition of this index: every offset below is done by the group, or was committed by it (mode stream). It is on disk with
 * the turn, and what of the log lies below is of no use to the group. */
static inline uint64_t group_floor(const struct group *g, uint32_t index) { return g->parts[index]->done.floor; }

#endif

/* Messages of queue groups: those in the flow, the keys that keep them in order, leases, what is done. */
#ifndef ENGINE_QUEUES_H
#define ENGINE_QUEUES_H

#include "base/buf.h"
#include "base/list.h"
#include "engine/timer.h"
#include "schemas/records.h"
#include "store/keys.h"

struct group;
struct group_part;
struct session;

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

/* ---------------------------------------------------------------- what is away (away.c) */

struct away {
    struct timer timer;         /* when the clock is looked at again */
    uint64_t next_ms;           /* no retry that is away is due before; UINT64_MAX: none */
    uint64_t low_ms;            /* (row) readers begin here */
    bool low_known;             /* it has a row */
    bool asked;                 /* a reader fetches what is due */
    struct effect_back back;
};

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

#endif

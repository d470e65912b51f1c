/* What must be true, known from outside: from what clients were answered, and from the rows that are written.
 *
 *   model_log.c    the logs: what was acked stands where it was said, each message once
 *   model_rows.c   follows the rows of groups: where each message is, and why it moved
 *   model_grant.c  what must hold when messages are granted, looked at in the lease rows
 *   model_group.c  what receivers see: deliveries, settles
 *   model_unit.c   units: whole or absent; state rows
 *   model_sched.c  what waits for its time: never early, never lost, never twice
 *   model_task.c   dead letters: redriven and dropped by tasks, as these say; messages replayed by tasks
 *   model_into.c   groups that replays make: what is brought to them
 *   model_retention.c  the beginnings of the logs: what may be removed
 *   model_compact.c what compaction may remove
 *   model_count.c  counters against a recount
 *
 * A message is in one place of each group; what the rows say of it is a `spot`. Each list of rows that is written is followed first, then
 * every message whose spot changed must have had a reason that a client or the time gave.
 */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "sim.h"

/* ---------------------------------------------------------------- what is known of a message */

struct spot {
    bool done, blocking;
    uint8_t held;              /* enum held_state; 0: no row */
    uint64_t token;            /* of its lease; 0: none */
    uint64_t due_ms, held_ms;  /* held: until when, since when; wall */
    char reason[16];           /* held: its beginning */
    uint32_t failures, grants;
};

struct group_view {
    /* told by clients */
    bool acked;                /* an ack was confirmed */
    uint32_t asked_done, asked_park; /* sent, outcome not known */
    bool parked_by_client;     /* confirmed */
    uint32_t failures, grants; /* as last seen */
    int holder;                /* client that was granted it last */
    uint64_t until;            /* its lease is exclusive until then, mono ms; 0: it was given up */
    uint32_t lease_ms;
    uint64_t granted_at, lease_end; /* the lease does not run out before */
    uint64_t token;
    bool given_back;           /* a nack or release of this token was sent: whether it counted is not known */
    uint64_t not_before;       /* nacked with a delay: comes back then, mono ms */
    int by_unit;               /* the unit that is known to have settled it: its outputs or state were seen. NONE */
    bool park_known;           /* it was parked, and for a reason, before it was redriven or dropped */
    bool redriven, dropped;
    bool copied;               /* it has a copy */
    bool was_done, was_parked; /* ever, and for a reason: settings may have changed since */
    uint64_t redriven_turn;    /* the last in which it was redriven or replayed */
    bool perhaps_present;      /* that it was then is a guess: it may have gone on as it was */
    uint64_t replayed_by, replayed_token; /* a task; no token of before is higher */
    uint64_t absent_turn;      /* is absent: since then */
    /* told by rows */
    struct spot is, was;       /* now, and before the list that is being followed */
    bool touched;
    uint64_t row_token, row_turn; /* the last lease written for it, the last turn that wrote a row for it */
};

struct message {
    uint64_t id, value;        /* value: the id that its bytes say; another's, where that was produced again after the window */
    bool tombstone;            /* it has no value: its time stamp says which it is */
    bool has_id;               /* a message id, made of `value` */
    uint64_t latest_ms;        /* append time of the last with this value */
    int topic, part, key;      /* part: index into model.parts; key NONE: no key */
    int header;                /* the value of its header; NONE: it has none */
    bool acked;                /* the producer was told */
    int64_t offset;            /* where the log has it; -1: not there */
    int64_t acked_offset;
    bool compacted;            /* compaction removed it from its place */
    uint64_t append_ms;        /* wall, as its batch says */
    uint64_t append_turn;
    int unit;                  /* whose output it is; NONE */
    int sched;                 /* the batch with which it waits, or waited, for its time; NONE */
    uint8_t priority;
    uint32_t ttl_ms;           /* 0: its topic's */
    struct group_view group[GROUPS_PER_TOPIC];
};

struct part_view {
    uint32_t id;
    int topic;
    int64_t *log;              /* offset -> message id, as the store's rows say */
    size_t start, end, cap;
    uint64_t row_start, kept_bytes; /* as its row says */
    size_t trim_to;            /* up to where the list that is being followed removes rows; 0: it does not */
    size_t known;              /* while the log is read again: how far `log` holds what stood there before */
    size_t synced_end;         /* what a power cut would leave */
};

/* Of one partition, as its cursor row says; before: the cursor before this list. */
struct group_rows {
    uint64_t floor, cursor, parked, before, purges;
    uint64_t lost, stale;      /* as its row says */
    uint64_t lost_now, done_now, done_sure; /* in the list that is being followed: lost by the row; done and past the hard cap, without another reason */
};

/* When messages of a group, or of a key of it, were granted since the broker began: mono ms. */
struct flow_log { uint64_t *at; size_t n, cap; };

struct touched { uint64_t id; int group; };

/* ---------------------------------------------------------------- units */

enum { BATCH_MAX = 5, UNIT_ITEMS = 4, UNIT_BATCHES = 3, UNIT_PUTS = 2 };

/* Messages that are produced together; their bytes are a part of those of the request. */
struct batch { int part, sched; uint32_t count; uint64_t hash, ids[BATCH_MAX]; size_t at, size; };

struct item { struct wire_settle_item wire; uint64_t id; int group; };

/* A conditional put of the counter of a key: the value says which unit put it. */
struct state_ask { int group, key; uint64_t version, count; bool remove; char text[32]; };

enum outcome { OUTCOME_UNKNOWN, OUTCOME_OK, OUTCOME_REFUSED };
struct unit {
    struct item items[UNIT_ITEMS];
    struct batch batches[UNIT_BATCHES];
    struct state_ask puts[UNIT_PUTS];
    uint32_t items_n, batches_n, puts_n;
    enum outcome outcome;
    bool applied;              /* something of it was seen in the rows */
    bool vague;                /* it was, and nothing can be seen any more: its only output was cancelled before its time */
};
static inline bool unit_shows(const struct unit *u) { return u->batches_n > 0 || u->puts_n > 0; }

/* What a state row was, one after another. */
struct state_step { bool present; uint64_t version, count, turn; int unit; };
struct state_chain { struct state_step *at; size_t n, cap; uint64_t *versions; size_t versions_n, versions_cap; };

/* ---------------------------------------------------------------- what waits for its time */

struct sched {
    char name[24];             /* empty: the broker makes one */
    int topic, unit;
    uint64_t delay_ms, at_ms;
    bool cron;
    uint64_t due_min;          /* wall: asked for */
    uint64_t move_min;         /* ... by a move; UINT64_MAX: nobody moved it */
    bool told;                 /* a client was */
    bool ending;               /* somebody cancelled or replaced it, perhaps */
    bool ended;                /* it was cancelled */
    uint64_t first;            /* id of its first message */
    uint32_t count;
    bool waits;
    uint64_t due_ms, waits_turn, fired_turn;
};

struct sched_rows { uint32_t topic_id; struct id128 id; int sched, was; bool named, batched, touched; uint64_t named_ms, batched_ms, was_ms; };

/* ---------------------------------------------------------------- tasks */

/* A filter over dead letters, as far as clients use it. */
struct dlq_filter { bool any; int key, header; const char *reason; uint32_t attempts_min, attempts_max; };

struct task_view {
    uint64_t id;
    int group;
    bool told;                 /* a client was */
    struct task_row row;       /* its filter's bytes are not kept: */
    struct dlq_filter filter;
    uint64_t began_mono, changed; /* by our own count */
    uint64_t began_turn;
    uint64_t scanned[PARTITIONS], surely[PARTITIONS]; /* of a replay of the log: it ends there at most, and there at least */
    uint64_t end_turn;
    bool unsure;               /* another may have changed what we count */
};

/* A group that a replay makes, and what it brought to it, in order. */
struct into_view {
    uint32_t group_id;
    int topic, last_part;
    struct task_view task;
    uint64_t *ids, last_offset;
    size_t n, cap;
    bool again;                /* its rows are being read after a crash */
    bool gone;                 /* its group was deleted */
};

enum { LEASE_IDS = 64 };
struct lease_view { uint32_t group_id, n; uint64_t token, ids[LEASE_IDS]; };

struct model {
    struct message *messages;
    size_t messages_n, messages_cap;
    struct part_view parts[PARTS];
    uint32_t topic_ids[TOPICS], group_ids[GROUPS];
    struct wire_group_config group_config[GROUPS];
    struct wire_topic_config topic_config[TOPICS];
    struct group_rows rows[GROUPS][PARTITIONS];
    struct flow_log flow[GROUPS][KEYS + 1]; /* [KEYS]: of all */
    bool limited_keys[GROUPS]; /* ever: keys may have lists though they have no order */
    uint64_t limit_turn[GROUPS]; /* when the limit of its keys was set */
    uint64_t limit_token[GROUPS]; /* the last lease of that turn: up to it they are not counted */
    uint64_t token_last;       /* of any lease */
    bool paused[GROUPS], was_paused[GROUPS];
    uint64_t group_turn[GROUPS]; /* the last turn that wrote the group's row */
    uint32_t purges_asked[GROUPS]; /* outcome not known */
    uint64_t purged_turn[GROUPS];
    bool scanned[GROUPS];      /* what was scanned before the last restart was found again */
    uint64_t turn, wall_ms;    /* of the last list, as its epoch row says */
    struct touched *touched;
    size_t touched_n, touched_cap;
    struct unit **units;
    size_t units_n, units_cap;
    int *seen_units;           /* in the list that is being followed */
    size_t seen_n, seen_cap;
    struct state_chain state[GROUPS][KEYS];
    bool state_removed;
    struct sched *scheds;
    size_t scheds_n, scheds_cap;
    struct sched_rows *sched_rows;
    size_t sched_rows_n, sched_rows_cap;
    struct task_view *tasks;
    size_t tasks_n, tasks_cap;
    struct into_view *intos;
    size_t intos_n, intos_cap;
    struct lease_view *leases;
    size_t leases_n, leases_cap;
};

void model_init(struct world *w);
void model_free(struct world *w);
struct message *model_message(const struct world *w, uint64_t id);
struct message *model_new_message(struct world *w, int part, int key);
int model_part(const struct world *w, uint32_t partition_id);
int model_group(const struct world *w, uint32_t group_id);
static inline struct group_view *model_view(struct message *m, int group) { return &m->group[group % GROUPS_PER_TOPIC]; }
bool model_disk(const struct world *w, int topic);
/* Of a message in a group: it is out of the flow. */
bool spot_absent(const struct spot *s);
bool done_has_reason(const struct world *w, int group, const struct message *m);
bool park_may_have_reason(const struct world *w, int group, const struct message *m); /* in this list, whose rows do not show it any more */
/* The wall time at which its ttl ends in this group; UINT64_MAX: never. */
uint64_t model_expiry(const struct world *w, int group, const struct message *m);

/* ---------------------------------------------------------------- model_rows.c, model_log.c, model_grant.c */

/* A list of rows was written. */
void model_written(void *world, const struct puts *p);
/* After a crash: all rows from their beginning; what was confirmed must be there. `cut`: unsynced writes may be gone. */
void model_after_crash(struct world *w, bool cut);
void model_log_row(struct world *w, struct view key, struct view value);
void model_log_again(struct world *w);
void model_log_check(struct world *w);
#define TOMBSTONE_STAMP UINT64_C(1700000000000) /* a batch's time stamps are not far apart */
int64_t model_id_of(struct view value, uint64_t timestamp_ms);
/* The producer was told that the message with this value stands at this offset. */
void model_acked(struct world *w, int part, uint64_t value, uint64_t offset);
/* ... that it was produced before. */
void model_duplicate(struct world *w, uint64_t value);
void model_flow_begins(struct world *w); /* the broker forgot what was spent */
void model_flow_free(struct model *o);
/* The settings of a group change to these. */
void model_limits(struct world *w, int group, const struct wire_group_config *to);
void model_limits_set(struct world *w); /* the list is followed */
void model_granted(struct world *w, int group, struct message *m);

/* ---------------------------------------------------------------- model_retention.c */

void model_partition_row(struct world *w, struct view key, struct view value);
void model_learn_part(struct world *w, struct view key, struct view value);
void model_learn_parts_again(struct world *w);
void model_trim(struct world *w, struct view begin, struct view end);
void model_trims_check(struct world *w);
void model_starts_again(struct world *w);
void model_lost_row(struct world *w, struct view key, struct view value);
bool model_past_the_cap(const struct world *w, const struct message *m);
/* The message may have been lost to the group in the list that is being followed. */
bool model_lost(const struct world *w, int group, const struct message *m);
void model_copy_row(struct world *w, struct view key, const struct view *value); /* NULL: removed */
void model_copies_again(struct world *w);
void model_copies_check(struct world *w); /* none is left of what nobody holds */
/* What a fetch from `from` was told of the beginning. */
void model_gap(struct world *w, int part, uint64_t from, const struct wire_fetch_part *reply);

/* ---------------------------------------------------------------- model_compact.c */

/* A row of a log is put again: what is left of it. */
void model_rewritten(struct world *w, struct part_view *p, struct view value);
/* Of each key of a compacted topic the last message is there. */
void model_latest(struct world *w);
/* A fetch gave what stands at these offsets: nothing before `to` that is there was left out. */
void model_skipped(struct world *w, int part, uint64_t from, uint64_t to);

/* ---------------------------------------------------------------- model_unit.c */

int model_new_unit(struct world *w); /* its index */
struct unit *model_unit(const struct world *w, int unit);
/* Something of a unit stands in the rows. */
void model_unit_seen(struct world *w, int unit);
void model_units_check(struct world *w); /* those seen in this list: whole, in this turn */
void model_unit_answered(struct world *w, int unit, int code);
/* A state row was put; value NULL: removed. */
void model_state_row(struct world *w, struct view key, const struct view *value);
/* A client was told this. */
void model_state_told(struct world *w, int group, int key, bool found, uint64_t version, struct view value, uint64_t *count);
void model_units_cut(struct world *w); /* what is not known to be on disk may be gone */
void model_units_again(struct world *w);
void model_units_free(struct model *o);

/* ---------------------------------------------------------------- model_sched.c */

int model_new_sched(struct world *w);
struct sched *model_sched(const struct world *w, int sched);
void model_sched_row(struct world *w, struct view key, const struct view *value);
/* A message that waited is appended at `wall_ms`. */
void model_sched_appended(struct world *w, int sched, uint64_t wall_ms);
void model_scheds_check(struct world *w);
void model_sched_told(struct world *w, int sched, const struct wire_produced *p);
void model_sched_changed(struct world *w, int sched, uint8_t act, uint64_t turn);
void model_scheds_again(struct world *w);
void model_scheds_list(struct world *w);
bool model_scheds_idle(const struct world *w);

/* ---------------------------------------------------------------- model_task.c */

void model_task_row(struct world *w, struct view key, const struct view *value); /* NULL: removed */
void model_task_told(struct world *w, uint64_t id, uint8_t act);
/* A message is parked no longer: by which task? */
void model_unparked(struct world *w, int group, struct message *m);
/* A message that was done is present again: by which replay? */
void model_replayed(struct world *w, int group, struct message *m);
/* It was given back, or is away; or, in one turn, it was done and replayed, which looks the same. False: no replay can have. */
bool model_perhaps_replayed(struct world *w, int group, struct message *m);
/* It was brought by a replay and is granted: what is older in its key was brought before. */
void model_replay_order(struct world *w, int group, const struct message *m);
void model_tasks_check(struct world *w); /* those that ended in this list */
void model_tasks_cut(struct world *w);
void model_tasks_again(struct world *w);
void model_tasks_list(struct world *w);
bool model_tasks_idle(const struct world *w);

/* The row of a task as it is now: its counts do not go back. */
void model_task_take(struct world *w, struct task_view *t, const struct task_row *to);
/* A replay cannot but bring it, if it is absent; or may have brought it in this list. */
bool model_must_bring(const struct world *w, const struct task_view *t, const struct message *m);
bool model_may_bring(const struct world *w, const struct task_view *t, const struct message *m);

/* ---------------------------------------------------------------- model_into.c */

void model_into_task(struct world *w, uint32_t group_id, uint64_t id, const struct view *value); /* NULL: removed */
void model_into_held(struct world *w, uint32_t group_id, uint32_t partition, uint64_t offset);
bool model_into_told(struct world *w, uint64_t id); /* false: not one of these */
bool model_into_listed(const struct world *w, const struct wire_task_row *row);
const struct into_view *model_into_of(const struct world *w, int topic); /* NULL: none */
void model_intos_check(struct world *w); /* those that ended in this list */
size_t model_intos_there(const struct model *o);
bool model_intos_idle(const struct world *w);
void model_intos_cut(struct world *w);
void model_intos_again(struct world *w);
void model_intos_free(struct model *o);

/* ---------------------------------------------------------------- model_group.c */

/* The wall clock was set: a restart of the broker may find retries due that were not. */
void model_clock_jumped(struct world *w);
/* A nack with a delay was confirmed, an extension was: of the turn at `at`, by a client that has its pipe since `since`. What it held before
 * may have gone back meanwhile. */
void model_nacked(struct world *w, int group, struct message *m, uint64_t token, uint64_t since, uint64_t at, uint64_t delay_ms);
void model_extended(struct world *w, int group, struct message *m, uint64_t token, uint64_t since, uint64_t at);
/* A message was delivered: checks order, exclusiveness, counts, delays, and that it is not done. False: it is not held on to. */
/* A message of a run is given back: those behind it in the run are, too. */
void model_run_ends(struct world *w, int group, const struct message *m, uint64_t token);
void model_controlled(struct world *w, int group, uint8_t act, uint64_t turn);
bool model_delivered(struct world *w, int client, int group, const struct wire_record *r, struct view key, struct view value,
                     uint64_t token, uint64_t turn, uint32_t lease_ms);
void model_end(struct world *w); /* everything drained */

/* ---------------------------------------------------------------- model_count.c */

/* What waits for its time has two rows, and nothing else has the second. */
void model_held_rows(struct world *w);
/* The engine's counts against the rows'. Only when all is written. */
void model_census(struct world *w);
void model_recount(struct world *w);
void model_lag(struct world *w);
void model_nothing_leased(struct world *w);

#endif

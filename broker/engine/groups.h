/* Groups of both modes, and how far each is in each partition. */
#ifndef ENGINE_GROUPS_H
#define ENGINE_GROUPS_H

#include "engine/logs.h"
#include "engine/queues.h"
#include "engine/streams.h"

/* ---------------------------------------------------------------- groups and their parts */

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
    struct list_node changed;   /* in engine.lag_changed */
    uint64_t change;            /* its number there; 0: its lag is as it was at the start */
    struct list_node stirred;   /* in engine.stirred: look for work to hand out and to read ahead */
};

/* The place of a waiting operation in the queue of one group, of one partition (`offset`: what it waits for there), or of a member. In the
 * operation's arena. */
struct place { struct list_node queue; struct list_node of_op; struct op *op; uint64_t offset; struct member *member; };

/* ---------------------------------------------------------------- group.c */

static inline bool group_keeps_order(const struct group *g) { return g->config.order == ORDER_KEY; }

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

/* ---------------------------------------------------------------- lag.c */

void rate_count(struct rate *r, uint64_t mono_ms, uint32_t n);
uint64_t rate_milli(const struct rate *r, uint64_t mono_ms); /* per 1,000 s, over the last minute */
void lag_list(struct engine *en, struct op *op);
/* What a row of it says is not what it was, but for what goes by time alone. Of a topic: of all its groups. */
void lag_changed(struct engine *en, struct group *g);
void lag_changed_topic(struct engine *en, const struct topic *t);
void group_backlog(const struct engine *en, const struct group *g, struct group_backlog *out);
void times_mark(struct partition *p, uint64_t offset, uint64_t time_ms); /* at an append */
void lag_scanned(struct group_part *p, uint64_t bytes); /* the log's bytes before its cursor; UINT64_MAX: not known */

/* ---------------------------------------------------------------- explain.c, state.c */

void explain(struct engine *en, struct op *op);
void state_get(struct engine *en, struct op *op);
/* Whether all of a unit's puts can be done: OK, CONFLICT, GROUP_NOT_FOUND, INVALID_ARGUMENT (the same row twice). */
int state_check(struct engine *en, const struct wire_state_put *puts, uint32_t n);
void state_put(struct engine *en, const struct wire_state_put *s);  /* checked before, in the same turn */
int state_load(struct engine *en, struct group *g, struct err *e);  /* has the group any row? */

#endif

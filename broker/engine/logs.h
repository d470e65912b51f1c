/* Topics, partitions and their logs: what is appended, what is refused, what goes at the other end. */
#ifndef ENGINE_LOGS_H
#define ENGINE_LOGS_H

#include "base/list.h"
#include "base/map.h"
#include "engine/timer.h"
#include "schemas/stored.h"
#include "store/keys.h"

struct group;
struct group_part;
struct key_queue;
struct session;

/* ---------------------------------------------------------------- topics and partitions (log.c, topics.c) */

/* There may be a hundred thousand, most of them idle: what few have is apart, and what each batch touches is together. */
struct partition {
    uint32_t id, index;
    struct topic *topic;
    struct partition_row row;   /* (row) start, end, bytes, times, fence */
    uint64_t visible;           /* readers see offsets below; follows the written or the durable turn */
    uint32_t append_first, append_n, append_last; /* this turn's appends: a chain in engine.appends, by append.next */
    uint8_t family;             /* enum store_family */
    bool pinned;                /* a group keeps what should go */
    struct list_node dirty;     /* in engine.dirty_partitions */
    struct times *times;        /* when what was appended; NULL: nothing since the start */
    struct heap_node due;       /* in retention.due, by wall time: when its oldest message is too old */
    struct list_node look;      /* in retention.looks */
    struct list waiters;        /* of struct place: fetches that wait for `visible` to pass their offset */
    struct partition *parent;   /* (row) that it was split from; NULL: none (growth.c) */
    struct trimming *trimming;  /* it is being cut; NULL: it is not */
    struct trims_row *trims;    /* (row) NULL: nothing was removed */
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
    uint32_t next; /* index + 1 in engine.appends of the partition's next one; 0: none */
    uint32_t partition;
    uint64_t base_offset, last_offset;
    struct view batch;
    struct ref *hold;
    uint8_t header[STORED_HEADER_SIZE];
};

/* A turn's new end of a partition, until it is written or durable. */
struct pending_end { uint64_t turn, end; uint32_t partition; };
struct pending { struct pending_end *at; size_t first, n, cap; };

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
/* What its topic allows a message to have. TOO_LARGE. */
int log_check(const struct topic *t, const struct op_batch *b, struct err *e);
/* Does a produce, alone or of a unit, that was checked: by sched_check, dedup_check, quota_refuses. */
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
bool part_open(const struct group_part *p);            /* the group has passed its fence, and those of the ones it comes from */
/* A part that is scanned again after a restart and may have messages of this key; NULL: none. */
struct group_part *key_rescanned(const struct key_queue *k);

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

#endif

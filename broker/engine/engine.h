/* The engine: (state, events) -> (state, puts, replies). Deterministic, without threads, clocks, sockets, files.
 *
 * Time comes in with each turn; rows are read through store.h; what is to be written and answered leaves in `effects`. One turn:
 *
 *     engine_turn_begin(now)           timers that are due
 *     engine_op / engine_loaded / ...  the events of this turn
 *     engine_turn_end()                rows that changed become puts
 *     -> write effects.puts, then engine_written(turn); later engine_durable(turn)
 *     engine_effects_clear()
 *
 * One thread. After a store error of a read (DAMAGED, STORE_FAILED) inside a step the engine is `failed`: the loop stops the broker.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "base/err.h"
#include "engine/op.h"
#include "store/keys.h"
#include "store/puts.h"
#include "store/store.h"

struct engine;

struct engine_limits {
#define X(name, unit, def, min, max, help) uint64_t name;
#include "engine/limits.def"
#undef X
};
extern const struct engine_limits engine_limits_default;

struct engine_counters {
#define X(name, help) uint64_t name;
#include "engine/counters.def"
#undef X
};

struct engine_now { uint64_t mono_ms, wall_ms; };

/* ---- effects of a turn. Arrays are the engine's, good until engine_effects_clear. */

/* Read ahead for a queue group: index columns of at most `records` records from `from` on. Answered by engine_loaded. */
struct effect_load { uint32_t group, partition, records; uint64_t from, end; enum store_family family; };
/* Held messages of which a task must know whether their bytes fit its filter. Who takes it from the effects gives it back with
 * engine_matched, or frees it. */
struct match_place {
    uint32_t partition, skipped, size; /* size, at: of its copy; 0: as many as are brought at once were brought before it */
    uint64_t offset;
    size_t at;
    bool wants_copy;                /* if it fits: the group that it is for will find it nowhere else */
    bool fits, gone;                /* gone, or damaged: nobody can say whether it fitted */
};
struct match {
    uint64_t task;
    struct wire_held_filter filter; /* its bytes are those of `hold` */
    struct ref *hold;
    uint64_t from_ms, to_ms;        /* appended from <= t < to; to 0: no bound */
    uint32_t group;                 /* whose messages they are: also its copies are looked at */
    int code;                       /* OK: each place says whether it fits; else why it could not be looked at now */
    struct buf bytes;               /* filled in: the copies */
    uint32_t places_n;
    struct match_place places[];
};
void match_free(struct match *m); /* any thread; NULL is fine */
/* Messages of the log that fit the filter of a replay: the next of a partition, in its order. Who takes it from the effects gives it back with
 * engine_picked, or frees it. */
struct picked { uint64_t offset, key_hash; uint32_t size, skipped; uint8_t priority; bool has_key; }; /* skipped: looked at since the one before */
struct pick {
    uint64_t task;
    struct wire_held_filter filter; /* its bytes are those of `hold` */
    struct ref *hold;
    uint64_t from_ms, to_ms;        /* appended from <= t < to; to 0: no bound */
    uint32_t partition;
    bool seek;                      /* nothing before `from` was looked at: where from_ms begins is looked for */
    uint64_t from, end;             /* offsets; from < end */
    /* filled in */
    int code;                       /* OK, or why it could not be looked at now */
    uint64_t next;                  /* up to there it was looked at; `end` when nothing behind can fit */
    uint64_t lost;                  /* offsets that do not read */
    uint32_t trailing;              /* looked at behind the last that fits */
    uint32_t messages_n, messages_max;
    struct picked messages[];
};
void pick_free(struct pick *p); /* any thread; NULL is fine */
/* Fetch the batches that are due from `from_ms` up to `to_ms` (wall): at most this many rows and bytes, one at least. Answered by engine_due. */
struct effect_due { uint64_t from_ms, to_ms, bytes_max; uint32_t rows_max; };
/* How far a log may be cut: rows wholly before `to` whose last append time is at most time_ms, or that end within the first `bytes` (as
 * end_bytes counts them). Answered by engine_cut. */
struct effect_cut { uint32_t partition; enum store_family family; uint64_t from, to, time_ms, bytes; };
/* A pass of compaction over a partition: it goes to a reader and comes back, round after round, until it is over (compact.c). Who takes it from
 * the effects gives it back with engine_compacted, or frees it. */
struct compacted_row {
    uint64_t base, last;            /* the offsets that it covers; `last` is in its key */
    uint64_t first;                 /* rows whose last offset is from here on below `last` go: what they covered, this one does */
    uint64_t bytes;                 /* of what it stands for: its own row as it was, and those */
    uint32_t removed;               /* messages */
    struct view value;
};
struct compaction {
    uint32_t partition;
    enum store_family family;
    uint64_t start, clean, passed, passed_bytes, end, log_end; /* see compact.c. The row that ends at log_end is not touched */
    uint64_t before_ms;             /* nor what was appended then or later */
    uint64_t tombstones_to;         /* tombstones below this offset may go */
    uint64_t worth_bytes, memory_max;
    uint32_t left_n;                /* superseded and left where they are, by the passes before; and by this one, when it is over */
    uint64_t left[COMPACTION_LEFT_MAX];
    /* the engine's note of what it knew when the round began */
    uint32_t next_group;
    uint64_t redriven;
    /* the reader's */
    void *work;
    void (*work_free)(void *work);
    /* what a round brought */
    int code;                       /* OK; else nothing, and `error` says why */
    struct err error;
    const struct compacted_row *rows; /* in `hold` */
    uint32_t rows_n;
    struct ref *hold;
    /* what the pass came to, when it is over */
    bool over, worth;               /* not worth: nothing was done */
    uint64_t to, to_bytes;          /* it went so far; the log's bytes before that, as they were appended */
    uint64_t kept_bytes, tombstones; /* of the rows below `to` */
    uint64_t left_from;             /* the first that is left and did not fit into `left`; UINT64_MAX: all did */
    /* groups whose held messages stay */
    uint32_t groups_n, groups[];
};
void compaction_free(struct compaction *c); /* any thread; NULL is fine */
/* Batches of a partition up to this offset were rewritten: the tail cache forgets them. */
struct effect_compacted { uint32_t partition; uint64_t last_offset; };
/* Find the retries that are away and due from `from_ms` up to `to_ms` (wall), at most this many. Answered by engine_back. */
struct effect_back { uint64_t from_ms, to_ms; uint32_t rows_max; };
/* Held messages that are to be copied out of the log: readers bring each as a row's value. Who takes it from the effects gives it back with
 * engine_copied, or frees it. */
struct copy_place { uint64_t offset; int code; uint32_t size; size_t at; }; /* code DAMAGED, GAP: there is nothing to copy */
struct copies {
    uint32_t group, partition;
    uint64_t from;              /* the engine's note */
    int code;                   /* OK: each place is filled in; else why it could not be done now */
    struct buf bytes;           /* filled in: the values */
    uint32_t places_n;
    struct copy_place places[];
};
void copies_free(struct copies *c); /* any thread; NULL is fine */
/* A batch that was appended: for the tail cache. `payload` holds the batch's bytes. */
struct effect_append { uint32_t partition; uint64_t base_offset, last_offset; const uint8_t *header; struct view batch; struct ref *hold; };
/* A queue group that had nothing to give has something. */
struct effect_hint { uint32_t group; const char *topic, *name; };
/* Something that whoever keeps the broker should know: a line of its log, a warning. */
struct effect_notice { struct err line; };
/* A partition began, ended, or its start moved: what readers and the checks before the engine must know. */
struct effect_partition { uint32_t partition, index, count; enum store_family family; uint64_t start; bool gone; };

struct effects {
    struct puts puts;
    struct list done;            /* of struct op, by `wait`: their replies may leave as op->turn and op->level say */
    const struct effect_load *loads; size_t loads_n;
    struct match *const *matches; size_t matches_n;
    struct pick *const *picks; size_t picks_n;
    const struct effect_due *due; /* NULL: none */
    const struct effect_cut *cuts; size_t cuts_n;
    struct copies *const *copies; size_t copies_n;
    struct compaction *compaction; /* NULL: none */
    const struct effect_compacted *compacted; /* NULL: none */
    const struct effect_back *back;
    const struct effect_append *appends; size_t appends_n;
    const struct effect_hint *hints; size_t hints_n;
    const struct effect_partition *partitions; size_t partitions_n;
    const struct effect_notice *notices; size_t notices_n;
    const uint64_t *drop_pipes; size_t drop_pipes_n; /* pipes whose session was taken over by another */
    bool need_sync;              /* something in this turn waits for the disk */
    bool shows_when_written;     /* an `os` topic got messages: engine_written lets readers see them */
};

/* ---- life */

/* Reads what a broker knows at its start (topics, partitions, groups, leases, sessions), raises the epoch. The first turn writes it: sync it
 * before listening. `store` and `limits` outlive the engine. Errors: DAMAGED, FORMAT_NEWER, STORE_FAILED. */
int engine_open(struct engine **out, struct store *store, const struct engine_limits *limits, struct engine_now now, uint64_t seed,
                struct err *e);
/* Operations that still wait are answered CLOSED in effects first by engine_stop. */
void engine_close(struct engine *en);

struct effects *engine_effects(struct engine *en);
void engine_effects_clear(struct engine *en);
const struct err *engine_failed(const struct engine *en); /* NULL: fine */
uint32_t engine_epoch(const struct engine *en);
uint64_t engine_turn(const struct engine *en); /* the current or last one */
const struct engine_counters *engine_counters(const struct engine *en);
struct engine_totals {
    uint32_t topics, partitions, groups, sessions;
    uint64_t ready, leased, waiting, held, scheduled_batches, scheduled_messages;
    bool clock_stepped; /* what goes by the wall clock pauses */
    uint64_t log_bytes[FAM_COUNT]; /* of the logs that lie in each family */
};
void engine_totals(const struct engine *en, struct engine_totals *out);

/* ---- a turn */

void engine_turn_begin(struct engine *en, struct engine_now now);
/* Steps one operation: it is answered in effects.done now or later. */
void engine_op(struct engine *en, struct op *op);
/* It changes nothing: it can be stepped, outside of a turn, while the last turn's puts are not written. */
bool engine_reads(enum wire_verb verb);
/* The pipe is gone: its operations that wait are answered CLOSED, its session's grace begins. */
void engine_pipe_lost(struct engine *en, uint64_t pipe);

/* The answer to effect_load. `next`: the offset behind what was looked at; records ascending. code: OK, or why nothing could be read. */
struct loaded_record { uint64_t offset, key_hash, append_time_ms; uint32_t size, ttl_ms; uint8_t priority; bool has_key; };
struct loaded {
    uint32_t group, partition, records_n;
    uint64_t from, next;
    uint64_t bytes; /* of the log before `next`, where records were read; else 0 */
    const struct loaded_record *records;
    int code;
};
void engine_loaded(struct engine *en, const struct loaded *l);
void engine_matched(struct engine *en, struct match *m);
void engine_picked(struct engine *en, struct pick *p);
/* The answer to effect_due. `next_ms`: what else waits is not due before; UINT64_MAX: nothing waits. `hold` keeps the batches' bytes; a batch
 * with another code than OK is damaged. */
struct due_batch {
    uint64_t due_ms;
    struct id128 id;
    uint32_t topic, partition, count;
    int code;
    bool one_key;               /* all its records have this key */
    uint64_t last_delta, batch_hash, key_hash;
    struct view batch;
};
struct due { const struct due_batch *batches; uint32_t batches_n; uint64_t next_ms; struct ref *hold; };
void engine_due(struct engine *en, const struct due *d);
/* The answer to effect_cut: everything before `to` may go. bytes: of the log before it; last_ms: append time of the last message that goes,
 * next_ms: of the first that stays, 0: none is there. to = from: nothing may; a code other than OK: for it does not read. */
struct cut { uint32_t partition; uint64_t from, to, bytes, last_ms, next_ms; int code; };
void engine_cut(struct engine *en, const struct cut *c);
void engine_copied(struct engine *en, struct copies *c); /* takes it */
/* A round of a pass of compaction is back. */
void engine_compacted(struct engine *en, struct compaction *c);
/* The answer to effect_back, in order of time. `next_ms`: nothing else is due before; UINT64_MAX: nothing is away. */
struct back_place { uint64_t due_ms, offset; uint32_t group, partition; };
struct back { const struct back_place *places; uint32_t places_n; uint64_t next_ms; };
void engine_back(struct engine *en, const struct back *b);
/* A granted message whose bytes cannot be had (`code` DAMAGED or GAP): parked as damaged, unless it was settled meanwhile. */
void engine_unreadable(struct engine *en, uint32_t group, uint32_t partition, uint64_t offset, uint64_t token, int code, struct view error);
/* Free disk space, looked at once a second or so. */
void engine_disk(struct engine *en, uint64_t free_bytes);
/* From now on nothing new: waiting operations are answered SHUTTING_DOWN, and so are new ones but settle, bye and reads. */
void engine_stop(struct engine *en);
void engine_turn_end(struct engine *en);

/* The puts of all turns up to this one are written: `os` topics show them. Synced: `disk` topics show them. Neither puts anything, so both can also
 * be told while the last turn is not written. */
void engine_written(struct engine *en, uint64_t turn);
void engine_durable(struct engine *en, uint64_t turn);

/* When something is due, in mono ms; UINT64_MAX: nothing. */
uint64_t engine_deadline(const struct engine *en);

/* ---- readers, any thread: the rows that READ_HELD asks for. `fits` says whether the bytes of a message fit the filter; it is asked only
 * where the filter needs them. An error is put into the reply. */
typedef bool held_fits_fn(void *user, uint32_t partition, uint64_t offset, const struct wire_held_filter *f);
int held_page(struct store *store, struct op *op, held_fits_fn *fits, void *user);

/* ---- for tests: a digest of everything that survives a restart; equal for the live engine and one opened from its store. */
uint64_t engine_digest(const struct engine *en);

/* ---- for tests: where the messages of a group are. Unless it scans again after a restart, over all partitions:
 *      end - floor = done_above_floor + leased + ready + retrying + blocked + waiting + throttled + behind + unscanned - redriven
 * parked counts dead letters; those that do not block their key are done. redriven: those of the others that are done and present; away: what
 * of it is in no memory. */
struct engine_census {
    uint64_t floor, end, done_above_floor, leased, ready, retrying, blocked, waiting, throttled, behind, unscanned, parked, redriven, away;
    bool scanning_again;
};
bool engine_census(const struct engine *en, struct view topic, struct view group, struct engine_census *out);

#endif

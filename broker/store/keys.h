/* The disk format: every key and every row, in one place.
 *
 * Keys are big endian, so that they sort by number; values are little endian, numbers as varints, and begin with a format byte
 * (ROW_FORMAT; 2 for next ids, topics, groups and cursors). A row of a newer format is refused when it is read; the whole directory is when
 * META_FORMAT is newer.
 *
 *   meta      'v'                                   format of the directory, when and by which broker it was made
 *             'e'                                   epoch, turn, wall clock: written in every turn
 *             'n'                                   next ids; ids are never reused
 *             't' topic                             topic
 *             'g' group                             group
 *             'p' partition                         start, end, bytes, times: written for partitions touched
 *             'r' partition                         what was removed from its start: written when something is
 *             'c' partition                         how far it is compacted, and what that removed
 *             'm'                                   which generation of dedup takes rows, since when, how many
 *             'b' ..  'u' ..                        bindings, principals (reserved)
 *   log.*     partition | last offset u64           stored batches of one turn (schemas/stored.h)
 *   groups    'c' group | partition                 floor, cursor, ready_low of a queue group
 *             'd' group | partition | chunk u64     which of 4,096 offsets are done
 *             'o' group | partition                 committed offset of a stream group, who owns the partition
 *             'm' group | session 16 | member u32   a member of a stream group
 *             'l' group | partition                 how many messages the group lost at the hard cap
 *             'k' group | task u64                  a task over messages, and how far it is
 *             'e' group | task u64                  where a replay ends in each partition
 *   leases    group | token u64                     one grant: who holds which messages
 *   keys      group | key hash u64 | chunk u32      positions behind the key's head, in chunks from 1 on
 *             2^32 - 1 | group | key hash u64       header of the list of a key that is in memory: read at a start
 *             2^32 - 2 | group | key hash u64       a key that is away: its head, what waits with it, header of its list
 *   held      group | partition | offset u64        retrying or parked
 *   sched     due u64 | kind u8 | ...               'r' group | partition | offset: a retry that is in memory
 *             'a' | due u64 | group | partition | offset u64   one that is away
 *             'd' | due u64 | topic | id 16         a batch that is appended when due, with its bytes: apart from retries, whose times begin
 *                                                   with a byte below 'a', or far above it when they are never due
 *             'h' | group | partition | offset      a copy of a held message that its log may have no more: a stored batch of one record
 *             0 u64   | 'i' | topic | id 16         where it waits: due, and what a list shows. id: XXH3-128 of its name
 *             0 u64   | 'c' | topic                 how many batches and messages of the topic wait
 *             0 u64   | 'l'                         no batch is due before: what was is appended, and its rows are gone
 *             0 u64   | 'w'                         no retry that is away is due before
 *   sessions  's' id 16                             session
 *             'l' id 16 | lane u32                  numbers and kept results of a lane
 *   dedup.*   topic | id 16                         where the message of this message_id is, since when
 *   state     group | XXH3-128 of the key           key, version, value
 *
 * topic, partition and group are u32. Encoders append to a buf that the caller cleared; decoders answer DAMAGED,
 * and FORMAT_NEWER for a format that this version does not know.
 *
 * Format 4: keys and retries can be away; headers of lists, which were chunk 0, have a place of their own, and are put there at the start.
 * Format 3: partitions have parents, and a row of what was removed from their start; compacted logs have holes, and a row that says how far
 * they are compacted; stream groups are there, and replays.
 * Format 2 of the directory: groups and topics have further settings, cursors counts, held and leased messages and list positions
 * priority and expiry; sched has batches; dedup, state and tasks are there. Older rows read as they are, with defaults for what they lack; the
 * directory is raised at the start.
 */
#ifndef STORE_KEYS_H
#define STORE_KEYS_H

#include "base/buf.h"
#include "base/err.h"
#include "schemas/codec.h"

enum { META_FORMAT = 4, ROW_FORMAT = 1, DONE_CHUNK_OFFSETS = 4096, DONE_CHUNK_BYTES = DONE_CHUNK_OFFSETS / 8 };

/* ---------------------------------------------------------------- keys: fixed size, built on the stack */

struct key { uint8_t size; uint8_t bytes[31]; };
static inline struct view key_view(const struct key *k) { return view_of(k->bytes, k->size); }
struct key_text { char hex[2 * sizeof((struct key){0}.bytes) + 1]; };
struct key_text key_text(struct view key); /* for error texts; a longer one is cut */

struct key key_meta_format(void);
struct key key_meta_epoch(void);
struct key key_meta_next(void);
struct key key_topic(uint32_t topic);
struct key key_group(uint32_t group);
struct key key_partition_row(uint32_t partition);
struct key key_trims(uint32_t partition);
struct key key_compaction(uint32_t partition);
struct key key_meta_prefix(char tag);                       /* where rows of a tag begin */
struct key key_log(uint32_t partition, uint64_t last_offset);
struct key key_log_prefix(uint32_t partition);
struct key key_cursor(uint32_t group, uint32_t partition);
struct key key_cursor_prefix(uint32_t group);
struct key key_claim(uint32_t group, uint32_t partition);
struct key key_claim_prefix(uint32_t group);
struct key key_member(uint32_t group, struct id128 session, uint32_t member);
struct key key_member_prefix(uint32_t group);
struct key key_done(uint32_t group, uint32_t partition, uint64_t chunk);
struct key key_done_prefix(uint32_t group);
struct key key_done_prefix_of(uint32_t group, uint32_t partition);
struct key key_lease(uint32_t group, uint64_t token);
struct key key_list(uint32_t group, uint64_t hash, uint32_t chunk);
struct key key_list_header(uint32_t group, uint64_t hash);
struct key key_list_header_prefix(uint32_t group);
struct key key_list_headers(void);                          /* where those of all groups begin */
struct key key_away(uint32_t group, uint64_t hash);
struct key key_away_prefix(uint32_t group);
struct key key_held(uint32_t group, uint32_t partition, uint64_t offset);
struct key key_sched_retry(uint64_t due_ms, uint32_t group, uint32_t partition, uint64_t offset);
struct key key_sched_away(uint64_t due_ms, uint32_t group, uint32_t partition, uint64_t offset);
struct key key_sched_away_low(void);
struct key key_sched_batch(uint64_t due_ms, uint32_t topic, struct id128 id);
struct key key_sched_name(uint32_t topic, struct id128 id);
struct key key_sched_name_prefix(uint32_t topic);
struct key key_sched_count(uint32_t topic);
struct key key_sched_count_prefix(void);
struct key key_sched_low(void);
struct key key_copy(uint32_t group, uint32_t partition, uint64_t offset);
struct key key_copy_prefix(uint32_t group);
struct key key_lost(uint32_t group, uint32_t partition);
struct key key_lost_prefix(uint32_t group);
struct key key_task(uint32_t group, uint64_t task);
struct key key_task_ends(uint32_t group, uint64_t task);
struct key key_dedup_generation(void);
struct key key_dedup(uint32_t topic, struct id128 id);
struct key key_state(uint32_t group, struct id128 key_hash);
struct key key_group_prefix(uint32_t group);                /* leases, keys, held, state; dedup: of a topic */
struct key key_session(struct id128 id);
struct key key_lane(struct id128 id, uint32_t lane);
struct key key_lane_prefix(struct id128 id);
struct key key_after(const struct key *prefix);             /* the first key behind all that begin with this prefix */
bool key_has_prefix(struct view key, const struct key *prefix);

/* Taking keys apart: false when it is not of that shape. */
bool key_read_id(struct view key, char tag, uint32_t *id);  /* topic, group, partition rows */
bool key_read_log(struct view key, uint32_t *partition, uint64_t *last_offset);
bool key_read_cursor(struct view key, uint32_t *group, uint32_t *partition);
bool key_read_claim(struct view key, uint32_t *group, uint32_t *partition);
bool key_read_member(struct view key, uint32_t *group, struct id128 *session, uint32_t *member);
bool key_read_done(struct view key, uint32_t *group, uint32_t *partition, uint64_t *chunk);
bool key_read_lease(struct view key, uint32_t *group, uint64_t *token);
bool key_read_list(struct view key, uint32_t *group, uint64_t *hash, uint32_t *chunk);
bool key_read_list_header(struct view key, uint32_t *group, uint64_t *hash);
bool key_read_away(struct view key, uint32_t *group, uint64_t *hash);
bool key_read_held(struct view key, uint32_t *group, uint32_t *partition, uint64_t *offset);
bool key_read_sched_retry(struct view key, uint64_t *due_ms, uint32_t *group, uint32_t *partition, uint64_t *offset);
bool key_read_sched_away(struct view key, uint64_t *due_ms, uint32_t *group, uint32_t *partition, uint64_t *offset);
enum sched_kind {
    SCHED_KIND_NONE, SCHED_KIND_RETRY = 'r', SCHED_KIND_AWAY = 'a', SCHED_KIND_AWAY_LOW = 'w', SCHED_KIND_BATCH = 'd', SCHED_KIND_NAME = 'i',
    SCHED_KIND_COUNT = 'c', SCHED_KIND_LOW = 'l', SCHED_KIND_COPY = 'h'
};
struct key key_sched_from(uint64_t due_ms, enum sched_kind kind); /* where rows of that kind and time begin */
enum sched_kind key_read_sched_kind(struct view key, uint64_t *due_ms);
bool key_read_sched_batch(struct view key, uint64_t *due_ms, uint32_t *topic, struct id128 *id);
bool key_read_sched_count(struct view key, uint32_t *topic);
bool key_read_copy(struct view key, uint32_t *group, uint32_t *partition, uint64_t *offset);
bool key_read_lost(struct view key, uint32_t *group, uint32_t *partition);
bool key_read_task(struct view key, uint32_t *group, uint64_t *task);
bool key_read_session(struct view key, struct id128 *id);
bool key_read_lane(struct view key, struct id128 *id, uint32_t *lane);

/* On disk: the numbers are fixed. */
enum log_class { LOG_HOURS, LOG_DAYS, LOG_WEEKS, LOG_FOREVER, LOG_COMPACTED, LOG_CLASS_COUNT };

/* ---------------------------------------------------------------- rows. Views in decoded rows borrow from the bytes. */

struct format_row { uint32_t format; uint64_t created_ms; struct id128 broker; };
struct epoch_row { uint32_t epoch; uint64_t turn, wall_ms; };
struct next_row { uint32_t topic, partition, group; uint64_t task; };
struct topic_row { /* partitions: ids in order of their index */
    struct view name;
    uint64_t created_ms;
    struct wire_topic_config config;
    uint8_t log_class;          /* enum log_class: chosen when the topic is made, kept whatever its retention becomes */
    const uint32_t *partitions; /* encode: config.partitions of them; decode: see topic_row_partition */
    struct view partitions_raw; /* decode only */
};
struct group_row { /* used_ms: somebody received or settled, not much later than that; 0: not known */
    struct view name;
    uint32_t topic;
    uint64_t created_ms, used_ms;
    struct wire_group_config config;
    bool paused;
};
/* `parent`: the partition that this one was split from when that ended at `fence`; 0: none, it is as old as its topic. */
struct partition_row {
    uint64_t start, end, start_bytes, end_bytes, first_time_ms, last_time_ms;
    uint32_t epoch, parent;
    uint64_t turn, fence;
};
/* What was removed from the start of a partition, ascending: up to where, append times of the first and the last message that went. */
enum { TRIMS_MAX = 8 };
struct trim { uint64_t to, first_ms, last_ms; uint8_t why; /* enum gap_why */ };
struct trims_row { uint32_t n; struct trim at[TRIMS_MAX]; };
enum { COMPACTION_MARKS_MAX = 8, COMPACTION_LEFT_MAX = 256 };
struct compaction_row { /* clean, passed, left: see engine/compact.c. marks: what lies below `offset` was passed first at `ms`, ascending */
    uint64_t clean, passed, passed_bytes, removed_bytes, tombstones, last_ms;
    uint32_t marks_n;
    struct { uint64_t offset, ms; } marks[COMPACTION_MARKS_MAX];
    uint32_t left_n;
    uint64_t left[COMPACTION_LEFT_MAX]; /* ascending */
};
/* What a group lost of a partition; stale: of those, what still stands in lists of keys. */
struct lost_row { uint64_t lost, stale; };
/* What a group has away: messages by what they are, those in the lists of its keys, keys. purges: how often it was purged while it had any; what
 * older ones left is not there any more, and its rows are removed up to `swept`. */
struct away_counts { uint64_t retrying, blocked, waiting, behind, keys, purges, swept; };
/* ready_low: no message below it is ready and nowhere else. away: in the row of the first partition, of all. */
struct cursor_row { uint64_t floor, cursor, ready_low, parked; struct away_counts away; };
/* Of a stream group. `held`: by whom; KEPT: nobody has it, it waits for a static member. The numbers are fixed. */
enum claim_held { CLAIM_FREE, CLAIM_OWNED, CLAIM_KEPT };
struct claim_row { uint64_t committed, committed_ms, generation; uint8_t held; struct id128 session; uint32_t member; };
struct member_row { struct view name; uint32_t timeout_ms; uint64_t order, joined_ms; uint8_t state; }; /* state: enum member_state */
/* `expires_ms`: wall time when its ttl ends, 0: never. Sizes are below 2 GiB. */
struct lease_entry {
    uint32_t partition;
    uint64_t offset, key_hash;
    bool has_key;
    uint32_t size, grants, failures;
    uint64_t expires_ms;
    uint8_t priority;
};
struct lease_row { /* entries in any order; delta-coded */
    struct id128 session;
    uint32_t slot, lease_ms;
    uint64_t counter, granted_ms;
    const struct lease_entry *entries; /* encode */
    uint32_t entries_n;
    struct view entries_raw; /* decode: read with lease_row_next */
};
struct list_header_row { uint32_t first, skip, last; uint64_t count; bool head_in_list; };
/* A key that is away: its head, which is the first member, and its front. `purges`: as the group counted them when it was written. */
enum away_state { AWAY_RETRYING = 1, AWAY_BLOCKED, AWAY_WAITING };
struct key_member { uint32_t partition; uint64_t offset; uint8_t state; /* enum away_state */ };
struct away_row {
    struct list_header_row list;
    uint64_t purges;
    const struct key_member *members; /* encode */
    uint32_t members_n;               /* one at least */
    struct view members_raw;          /* decode: read with away_row_next */
};
struct list_position { uint32_t partition; uint64_t offset; uint32_t size; uint64_t expires_ms; uint8_t priority; };
struct held_row {
    uint8_t state; /* enum held_state */
    uint64_t due_ms, at_ms, token, key_hash;
    bool has_key, blocking;
    uint32_t size, grants, failures;
    struct view reason, error;
    uint64_t expires_ms;
    uint8_t priority;
    uint64_t purges; /* of the group when it was written: a retry of an older one is not there any more */
};
/* A batch that waits: what its append needs. The bytes stand last. */
struct sched_batch_row { uint32_t partition, count; uint64_t last_delta, batch_hash; struct view batch; };
struct sched_name_row { struct view name, cron; uint64_t due_ms, created_ms, bytes; uint32_t partition, count; };
struct sched_count_row { uint64_t batches, messages; };
struct sched_low_row { uint64_t low_ms; };
struct task_row {
    uint8_t act, state;        /* enum task_act, enum task_state */
    bool dry_run, has_filter, has_at;
    uint32_t rate_milli, at_partition; /* looked at up to this place */
    uint64_t limit, seen, matched, changed, started_ms, ended_ms, at_offset;
    struct wire_held_filter filter;
    struct view error;
    struct replay_row { /* of a replay. source: enum replay_source; of: the group whose held messages are meant; into: `group` is made by it, if it is more than a dry run */
        uint8_t source;
        bool into, has_partition, has_from;
        uint32_t of, partition;
        uint64_t from_offset, to_offset, from_ms, to_ms, left, lost;
    } replay;
};
/* Where a replay of the log ends in each partition, by index: what was scanned when it began. */
struct task_ends_row { uint32_t n; struct view raw; }; /* decoded: read with task_ends_next */
struct dedup_generation_row { uint8_t current; uint64_t began_ms, count, before_began_ms; }; /* current 0: dedup.a, 1: dedup.b */
struct dedup_row { uint32_t partition; uint64_t offset, time_ms; };
struct state_row { struct view key, value; uint64_t version; };
struct session_row { struct view name; uint64_t created_ms, seen_ms; };
struct result { uint64_t seq, turn; uint8_t level, verb; struct view body; }; /* body is the engine's */
struct lane_row { uint64_t base, done; struct view results_raw; uint32_t results_n; }; /* done: bit i = base + 1 + i */

void format_row_put(struct buf *b, const struct format_row *r);
int format_row_get(struct view v, struct format_row *r, struct err *e);
void epoch_row_put(struct buf *b, const struct epoch_row *r);
int epoch_row_get(struct view v, struct epoch_row *r, struct err *e);
void next_row_put(struct buf *b, const struct next_row *r);
int next_row_get(struct view v, struct next_row *r, struct err *e);
void topic_row_put(struct buf *b, const struct topic_row *r);
int topic_row_get(struct view v, struct topic_row *r, struct err *e);
uint32_t topic_row_partition(const struct topic_row *r, uint32_t index); /* decoded rows; index < config.partitions */
void group_row_put(struct buf *b, const struct group_row *r);
int group_row_get(struct view v, struct group_row *r, struct err *e);
void partition_row_put(struct buf *b, const struct partition_row *r);
int partition_row_get(struct view v, struct partition_row *r, struct err *e);
void trims_row_put(struct buf *b, const struct trims_row *r);
int trims_row_get(struct view v, struct trims_row *r, struct err *e);
void compaction_row_put(struct buf *b, const struct compaction_row *r);
int compaction_row_get(struct view v, struct compaction_row *r, struct err *e);
void lost_row_put(struct buf *b, const struct lost_row *r);
int lost_row_get(struct view v, struct lost_row *r, struct err *e);
void cursor_row_put(struct buf *b, const struct cursor_row *r);
int cursor_row_get(struct view v, struct cursor_row *r, struct err *e);
void claim_row_put(struct buf *b, const struct claim_row *r);
int claim_row_get(struct view v, struct claim_row *r, struct err *e);
void member_row_put(struct buf *b, const struct member_row *r);
int member_row_get(struct view v, struct member_row *r, struct err *e);
/* A chunk's bits with a checksum; trailing zeros are cut, a full chunk is a few bytes; at most 512 bytes and its head. */
void done_row_put(struct buf *b, const uint8_t bits[DONE_CHUNK_BYTES]);
int done_row_get(struct view v, uint8_t bits[DONE_CHUNK_BYTES], struct err *e);
void lease_row_put(struct buf *b, const struct lease_row *r);
int lease_row_get(struct view v, struct lease_row *r, struct err *e);
bool lease_row_next(struct view *entries_raw, struct lease_entry *state, bool *bad); /* state zeroed before the first call */
void list_header_put(struct buf *b, const struct list_header_row *r);
int list_header_get(struct view v, struct list_header_row *r, struct err *e);
void away_row_put(struct buf *b, const struct away_row *r);
int away_row_get(struct view v, struct away_row *r, struct err *e);
bool away_row_next(struct view *members_raw, struct key_member *member, bool *bad); /* zeroed before the first call */
/* Positions of a chunk, delta-coded: append with the position before (zeroed struct for the first of a chunk). */
void list_chunk_append(struct buf *b, struct list_position *before, struct list_position p);
bool list_chunk_next(struct view *chunk, struct list_position *before, bool *bad);
void held_row_put(struct buf *b, const struct held_row *r);
int held_row_get(struct view v, struct held_row *r, struct err *e);
void sched_batch_row_put(struct buf *b, const struct sched_batch_row *r);
int sched_batch_row_get(struct view v, struct sched_batch_row *r, struct err *e);
void sched_name_row_put(struct buf *b, const struct sched_name_row *r);
int sched_name_row_get(struct view v, struct sched_name_row *r, struct err *e);
void sched_count_row_put(struct buf *b, const struct sched_count_row *r);
int sched_count_row_get(struct view v, struct sched_count_row *r, struct err *e);
void sched_low_row_put(struct buf *b, const struct sched_low_row *r);
int sched_low_row_get(struct view v, struct sched_low_row *r, struct err *e);
void task_row_put(struct buf *b, const struct task_row *r);
int task_row_get(struct view v, struct task_row *r, struct err *e);
void task_ends_row_put(struct buf *b, const uint64_t *ends, uint32_t n);
int task_ends_row_get(struct view v, struct task_ends_row *r, struct err *e);
uint64_t task_ends_next(struct view *raw); /* n of them are there */
void dedup_generation_row_put(struct buf *b, const struct dedup_generation_row *r);
int dedup_generation_row_get(struct view v, struct dedup_generation_row *r, struct err *e);
void dedup_row_put(struct buf *b, const struct dedup_row *r);
int dedup_row_get(struct view v, struct dedup_row *r, struct err *e);
void state_row_put(struct buf *b, const struct state_row *r);
int state_row_get(struct view v, struct state_row *r, struct err *e);
void session_row_put(struct buf *b, const struct session_row *r);
int session_row_get(struct view v, struct session_row *r, struct err *e);
void lane_row_put(struct buf *b, uint64_t base, uint64_t done, const struct result *results, uint32_t n);
int lane_row_get(struct view v, struct lane_row *r, struct err *e);
bool lane_row_next(struct view *results_raw, struct result *out, bool *bad);

#endif

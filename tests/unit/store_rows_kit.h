/* What the tests of rows share: a small row of each kind and one of extremes, and that a row comes back as it went in. */
#ifndef TESTS_STORE_ROWS_KIT_H
#define TESTS_STORE_ROWS_KIT_H

#include "store_kit.h"

#include "base/macros.h"
#include "store/keys.h"

/* ---------------------------------------------------------------- one table of all rows
 *
 * Each kind makes a small row, one of extremes, and says whether what comes back is what went in; the tests below are then said
 * once for all kinds.
 */
#define MAX32 UINT32_MAX
#define SIZE_MOST (UINT32_MAX >> 1) /* of one message */
#define MAX64 UINT64_MAX
#define ID_MAX ((struct id128){MAX64, MAX64 - 1})
#define TEXT VIEW_LIT("a text of \0 some bytes")

static const uint32_t three_ids[] = {7, 0, MAX32};

static const struct format_row formats[] = {{.format = 0}, {META_FORMAT, MAX64, ID_MAX}};
static const struct epoch_row epochs[] = {{0}, {MAX32, MAX64, MAX64 - 1}};
static const struct next_row nexts[] = {{0}, {MAX32, MAX32 - 1, MAX32 - 2, MAX64}};
static const struct partition_row partitions[] = {
    {0}, {MAX64, MAX64 - 1, MAX64 - 2, MAX64 - 3, MAX64 - 4, MAX64 - 5, MAX32, MAX32 - 1, MAX64 - 6, MAX64 - 7}};
static const struct lost_row losses[] = {{0}, {MAX64, MAX64 - 1}};
static const struct trims_row trims[] = {
    {0}, {2, {{MAX64, MAX64 - 1, MAX64 - 2, GAP_RETENTION}, {5, 6, 7, GAP_HARD_CAP}}}};
static const struct compaction_row compactions[] = {
    {0}, {MAX64, MAX64 - 1, MAX64 - 2, MAX64 - 3, MAX64 - 4, MAX64 - 5, 8, {{1, 2}, {3, 4}, {5, 6}, {7, 8}, {9, 10}, {11, 12}, {13, 14}, {MAX64, MAX64}}, 3, {1, 300, MAX64}}};
static const struct cursor_row cursors[] = {{0}, {MAX64, MAX64 - 1, MAX64 - 2, MAX64 - 3, {MAX64 - 4, MAX64 - 5, MAX64 - 6, MAX64 - 7, MAX64 - 8, MAX64 - 9, MAX64 - 10}}};
static const struct claim_row claims[] = {{0}, {MAX64, MAX64 - 1, MAX64 - 2, CLAIM_KEPT, ID_MAX, MAX32}};
static const struct member_row members[] = {{.name = {(const uint8_t *)"", 0}, .state = MEMBER_ACTIVE},
                                            {{(const uint8_t *)"m\0", 2}, MAX32, MAX64, MAX64 - 1, MEMBER_FENCED}};
static const struct list_header_row headers[] = {{0}, {MAX32, MAX32 - 1, MAX32 - 2, MAX64, true}};

static const struct key_member of_a_key[] = {
    {MAX32, MAX64, AWAY_WAITING}, {MAX32, 0, AWAY_BLOCKED}, {0, 1, AWAY_RETRYING}, {0, MAX64, AWAY_WAITING}};
static const struct away_row aways[] = {{.members = of_a_key, .members_n = 1},
                                        {.list = {MAX32, MAX32 - 1, MAX32 - 2, MAX64, true}, .purges = MAX64, .members = of_a_key, .members_n = ARRAY_LEN(of_a_key)}};

static inline void topics(bool extreme, struct topic_row *r)
{
    *r = (struct topic_row){.name = VIEW_LIT("")};
    if (extreme)
        *r = (struct topic_row){
            .name = TEXT,
            .created_ms = MAX64,
            .config = {3, MAX64, MAX64 - 1, MAX64 - 2, 255, true, MAX32, MAX64 - 3, MAX64 - 4, MAX64 - 5, MAX64 - 6},
            .log_class = LOG_COMPACTED,
            .partitions = three_ids,
        };
}

static const struct dedup_generation_row generations[] = {{0}, {1, MAX64, MAX64 - 1, MAX64 - 2}};
static const struct dedup_row dedups[] = {{0}, {MAX32, MAX64, MAX64 - 1}};
static const struct state_row states[] = {{.key = {(const uint8_t *)"", 0}, .value = {(const uint8_t *)"", 0}},
                                          {{(const uint8_t *)"k\0", 2}, {(const uint8_t *)"\0value", 6}, MAX64}};
static const struct sched_batch_row batches[] = {{.batch = {(const uint8_t *)"", 0}},
                                                 {MAX32, MAX32 - 1, MAX64, MAX64 - 1, {(const uint8_t *)"\0batch", 6}}};
static const struct sched_name_row names[] = {
    {.name = {(const uint8_t *)"", 0}, .cron = {(const uint8_t *)"", 0}},
    {{(const uint8_t *)"n\0", 2}, {(const uint8_t *)"* * * * *", 9}, MAX64, MAX64 - 1, MAX64 - 2, MAX32, MAX32 - 1}};
static const struct sched_count_row counts[] = {{0}, {MAX64, MAX64 - 1}};
static const struct sched_low_row lows[] = {{0}, {MAX64}};
static const struct task_row tasks[] = {
    {.act = TASK_REDRIVE, .state = TASK_RUNNING, .error = {(const uint8_t *)"", 0}},
    {.act = TASK_DROP,
     .state = TASK_FAILED,
     .dry_run = true,
     .has_filter = true,
     .has_at = true,
     .rate_milli = MAX32,
     .at_partition = MAX32 - 1,
     .limit = MAX64,
     .seen = MAX64 - 1,
     .matched = MAX64 - 2,
     .changed = MAX64 - 3,
     .started_ms = MAX64 - 4,
     .ended_ms = MAX64 - 5,
     .at_offset = MAX64 - 6,
     .filter = {.has_key = true,
                .has_header_value = true,
                .has_offset = true,
                .key = {(const uint8_t *)"k", 1},
                .header = {(const uint8_t *)"he", 2},
                .header_value = {(const uint8_t *)"val", 3},
                .reason = {(const uint8_t *)"why!", 4},
                .after_ms = MAX64,
                .before_ms = MAX64 - 1,
                .offset = MAX64 - 2,
                .attempts_min = MAX32,
                .attempts_max = MAX32 - 1,
                .partition = MAX32 - 2},
     .error = {(const uint8_t *)"\0error", 6}},
    {.act = TASK_REPLAY, .state = TASK_RUNNING, .error = {(const uint8_t *)"", 0}, .replay = {.source = REPLAY_LOG}},
    {.act = TASK_REPLAY,
     .state = TASK_DONE,
     .error = {(const uint8_t *)"", 0},
     .replay = {.source = REPLAY_FAILED,
                .into = true,
                .has_partition = true,
                .has_from = true,
                .of = MAX32,
                .partition = MAX32 - 1,
                .from_offset = MAX64,
                .to_offset = MAX64 - 1,
                .from_ms = MAX64 - 2,
                .to_ms = MAX64 - 3,
                .left = MAX64 - 4,
                .lost = MAX64 - 5}}};
static const uint64_t task_ends[] = {0, 1, MAX64};

static inline void groups(bool extreme, struct group_row *r)
{
    *r = (struct group_row){.name = VIEW_LIT("")};
    if (extreme)
        *r = (struct group_row){
            .name = TEXT,
            .topic = MAX32,
            .created_ms = MAX64,
            .config = {255, 254, 253, 252, MAX32, MAX32 - 1, MAX32 - 2, MAX32 - 3, MAX32 - 4, MAX32 - 5, 251,
                       MAX32 - 6, MAX32 - 7, MAX32 - 8, MAX64},
            .paused = true,
            .used_ms = MAX64 - 1,
        };
}

static const struct lease_entry entries[] = {
    {0},
    {.partition = MAX32,
     .offset = MAX64,
     .key_hash = MAX64,
     .has_key = true,
     .size = SIZE_MOST,
     .grants = MAX32,
     .failures = MAX32},
    {.partition = 0, .offset = 0, .size = 1, .grants = 1},
    {.partition = 0, .offset = 1, .key_hash = 0, .has_key = true, .size = 2, .grants = 1, .failures = 1},
    {.partition = 0, .offset = MAX64, .size = 3},
    {.partition = 5, .offset = 4, .size = 0},
    {.partition = 5, .offset = 5, .size = SIZE_MOST, .expires_ms = MAX64, .priority = 255},
    {.partition = 5, .offset = 6, .size = 7, .priority = 1},
    {.partition = 5, .offset = 7, .size = 7, .expires_ms = 1},
};

static inline void leases(bool extreme, struct lease_row *r)
{
    *r = (struct lease_row){0};
    if (extreme)
        *r = (struct lease_row){
            .session = ID_MAX,
            .slot = MAX32,
            .lease_ms = MAX32 - 1,
            .counter = MAX64,
            .granted_ms = MAX64 - 1,
            .entries = entries,
            .entries_n = ARRAY_LEN(entries),
        };
}

static inline void helds(bool extreme, struct held_row *r)
{
    *r = (struct held_row){.state = HELD_RETRYING, .reason = VIEW_LIT(""), .error = VIEW_LIT("")};
    if (extreme)
        *r = (struct held_row){
            .state = HELD_PARKED,
            .due_ms = MAX64,
            .at_ms = MAX64 - 1,
            .token = MAX64 - 2,
            .key_hash = MAX64 - 3,
            .has_key = true,
            .blocking = true,
            .size = MAX32,
            .grants = MAX32 - 1,
            .failures = MAX32 - 2,
            .reason = TEXT,
            .error = VIEW_LIT("e"),
            .expires_ms = MAX64,
            .priority = 255,
            .purges = MAX64,
        };
}

static const struct session_row sessions[] = {{.name = {(const uint8_t *)"", 0}},
                                              {{(const uint8_t *)"s\0", 2}, MAX64, MAX64 - 1}};
static const struct result results[] = {
    {.body = {(const uint8_t *)"", 0}},
    {MAX64, MAX64 - 1, 255, 254, {(const uint8_t *)"body", 4}},
};

static inline void done_of(bool extreme, uint8_t bits[DONE_CHUNK_BYTES])
{
    for (int i = 0; i < DONE_CHUNK_BYTES; i++)
        bits[i] = extreme ? (uint8_t)(i * 37 + 1) : 0;
}

enum kind {
    FORMAT,
    EPOCH,
    NEXT,
    TOPIC,
    GROUP,
    PARTITION,
    TRIMS,
    LOST,
    CURSOR,
    CLAIM,
    MEMBER,
    DONE,
    LEASE,
    LIST,
    HELD,
    SESSION,
    LANE,
    SCHED_BATCH,
    SCHED_NAME,
    SCHED_COUNT,
    SCHED_LOW,
    TASK,
    GENERATION,
    COMPACTION,
    DEDUP,
    STATE,
    AWAY,
    KINDS
};

/* The newest format of a kind of row. */
static inline uint8_t format_of(enum kind k)
{
    return k == NEXT || k == TOPIC || k == GROUP || k == PARTITION || k == CURSOR ? 2 : ROW_FORMAT;
}

static inline void put(enum kind kind, bool x, struct buf *b)
{
    struct topic_row topic;
    struct group_row group;
    struct lease_row lease;
    struct held_row held;
    uint8_t bits[DONE_CHUNK_BYTES];
    switch (kind) {
    case FORMAT:
        format_row_put(b, &formats[x]);
        break;
    case EPOCH:
        epoch_row_put(b, &epochs[x]);
        break;
    case NEXT:
        next_row_put(b, &nexts[x]);
        break;
    case TOPIC:
        topics(x, &topic);
        topic_row_put(b, &topic);
        break;
    case GROUP:
        groups(x, &group);
        group_row_put(b, &group);
        break;
    case PARTITION:
        partition_row_put(b, &partitions[x]);
        break;
    case TRIMS:
        trims_row_put(b, &trims[x]);
        break;
    case LOST:
        lost_row_put(b, &losses[x]);
        break;
    case CURSOR:
        cursor_row_put(b, &cursors[x]);
        break;
    case CLAIM:
        claim_row_put(b, &claims[x]);
        break;
    case MEMBER:
        member_row_put(b, &members[x]);
        break;
    case DONE:
        done_of(x, bits);
        done_row_put(b, bits);
        break;
    case LEASE:
        leases(x, &lease);
        lease_row_put(b, &lease);
        break;
    case LIST:
        list_header_put(b, &headers[x]);
        break;
    case HELD:
        helds(x, &held);
        held_row_put(b, &held);
        break;
    case SESSION:
        session_row_put(b, &sessions[x]);
        break;
    case LANE:
        lane_row_put(b, x ? MAX64 : 0, x ? MAX64 : 0, results, x ? ARRAY_LEN(results) : 0);
        break;
    case SCHED_BATCH:
        sched_batch_row_put(b, &batches[x]);
        break;
    case SCHED_NAME:
        sched_name_row_put(b, &names[x]);
        break;
    case SCHED_COUNT:
        sched_count_row_put(b, &counts[x]);
        break;
    case SCHED_LOW:
        sched_low_row_put(b, &lows[x]);
        break;
    case TASK:
        task_row_put(b, &tasks[x]);
        break;
    case COMPACTION:
        compaction_row_put(b, &compactions[x]);
        break;
    case GENERATION:
        dedup_generation_row_put(b, &generations[x]);
        break;
    case DEDUP:
        dedup_row_put(b, &dedups[x]);
        break;
    case STATE:
        state_row_put(b, &states[x]);
        break;
    case AWAY:
        away_row_put(b, &aways[x]);
        break;
    case KINDS:
        break;
    }
}

static inline int get(enum kind kind, struct view v, struct err *e)
{
    union {
        struct format_row format;
        struct epoch_row epoch;
        struct next_row next;
        struct topic_row topic;
        struct group_row group;
        struct partition_row partition;
        struct trims_row trims;
        struct lost_row lost;
        struct cursor_row cursor;
        struct claim_row claim;
        struct member_row member;
        struct compaction_row compaction;
        uint8_t bits[DONE_CHUNK_BYTES];
        struct lease_row lease;
        struct list_header_row list;
        struct held_row held;
        struct session_row session;
        struct lane_row lane;
        struct sched_batch_row batch;
        struct sched_name_row name;
        struct sched_count_row count;
        struct sched_low_row low;
        struct task_row task;
        struct dedup_generation_row generation;
        struct dedup_row dedup;
        struct state_row state;
        struct away_row away;
    } r;
    switch (kind) {
    case FORMAT:
        return format_row_get(v, &r.format, e);
    case EPOCH:
        return epoch_row_get(v, &r.epoch, e);
    case NEXT:
        return next_row_get(v, &r.next, e);
    case TOPIC:
        return topic_row_get(v, &r.topic, e);
    case GROUP:
        return group_row_get(v, &r.group, e);
    case PARTITION:
        return partition_row_get(v, &r.partition, e);
    case TRIMS:
        return trims_row_get(v, &r.trims, e);
    case LOST:
        return lost_row_get(v, &r.lost, e);
    case CURSOR:
        return cursor_row_get(v, &r.cursor, e);
    case CLAIM:
        return claim_row_get(v, &r.claim, e);
    case MEMBER:
        return member_row_get(v, &r.member, e);
    case DONE:
        return done_row_get(v, r.bits, e);
    case LEASE:
        return lease_row_get(v, &r.lease, e);
    case LIST:
        return list_header_get(v, &r.list, e);
    case HELD:
        return held_row_get(v, &r.held, e);
    case SESSION:
        return session_row_get(v, &r.session, e);
    case LANE:
        return lane_row_get(v, &r.lane, e);
    case SCHED_BATCH:
        return sched_batch_row_get(v, &r.batch, e);
    case SCHED_NAME:
        return sched_name_row_get(v, &r.name, e);
    case SCHED_COUNT:
        return sched_count_row_get(v, &r.count, e);
    case SCHED_LOW:
        return sched_low_row_get(v, &r.low, e);
    case TASK:
        return task_row_get(v, &r.task, e);
    case COMPACTION:
        return compaction_row_get(v, &r.compaction, e);
    case GENERATION:
        return dedup_generation_row_get(v, &r.generation, e);
    case DEDUP:
        return dedup_row_get(v, &r.dedup, e);
    case STATE:
        return state_row_get(v, &r.state, e);
    case AWAY:
        return away_row_get(v, &r.away, e);
    case KINDS:
        break;
    }
    return -1;
}

/* ---------------------------------------------------------------- every row comes back as it was */

#define ROUND_TRIP(type, name, rows)                      \
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {        \
        struct buf b = {0};                               \
        struct type back;                                 \
        memset(&back, 0x5a, sizeof back);                 \
        name##_put(&b, &rows[i]);                         \
        assert_ok(name##_get(buf_view(&b), &back, &err)); \
        SAME(rows[i], back);                              \
        buf_free(&b);                                     \
    }

#define EQ(field) assert_true(a.field == b_.field)
#define VEQ(field) assert_true(view_eq(a.field, b_.field))

#endif

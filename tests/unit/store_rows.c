#include "store_kit.h"

#include "base/rng.h"
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

static void topics(bool extreme, struct topic_row *r)
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

static void groups(bool extreme, struct group_row *r)
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

static void leases(bool extreme, struct lease_row *r)
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

static void helds(bool extreme, struct held_row *r)
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

static void done_of(bool extreme, uint8_t bits[DONE_CHUNK_BYTES])
{
    for (int i = 0; i < DONE_CHUNK_BYTES; i++)
        bits[i] = extreme ? (uint8_t)(i * 37 + 1) : 0;
}

/* clang-format off: tables */
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
static uint8_t format_of(enum kind k)
{
    return k == NEXT || k == TOPIC || k == GROUP || k == PARTITION || k == CURSOR ? 2 : ROW_FORMAT;
}

static void put(enum kind kind, bool x, struct buf *b)
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

static int get(enum kind kind, struct view v, struct err *e)
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

/* clang-format on */

/* ---------------------------------------------------------------- what holds for every row */

static void every_truncation_of_every_row_is_refused(void **state)
{
    (void)state;
    for (enum kind k = 0; k < KINDS; k++) {
        for (int x = 0; x < 2; x++) {
            struct buf b = {0};
            put(k, x, &b);
            assert_ok(get(k, buf_view(&b), &err));
            for (size_t size = 0; size < b.size; size++) {
                uint8_t *cut = malloc(size + 1);
                memcpy(cut, b.data, size);
                struct err e = {0};
                get(k, view_of(cut, size), &e);
                if (e.code != E_DAMAGED)
                    fail_msg("row %d cut at %zu of %zu: %d", (int)k, size, b.size, e.code);
                free(cut);
            }
            buf_free(&b);
        }
    }
}

static void bytes_behind_a_row_are_refused(void **state)
{
    (void)state;
    for (enum kind k = 0; k < KINDS; k++) {
        for (int x = 0; x < 2; x++) {
            struct buf b = {0};
            put(k, x, &b);
            buf_put_u8(&b, 0);
            struct err e = {0};
            get(k, buf_view(&b), &e);
            if (k == DONE && x == 0) /* there a zero byte is eight messages that are not done */
                assert_int_equal(e.code, E_OK);
            else
                assert_code(E_DAMAGED, e);
            buf_free(&b);
        }
    }
}

static void a_newer_format_is_refused_by_name_and_format_0_is_damage(void **state)
{
    (void)state;
    for (enum kind k = 0; k < KINDS; k++) {
        struct buf b = {0};
        put(k, true, &b);
        assert_int_equal(b.data[0], format_of(k));
        b.data[0]++;
        struct err e = {0};
        get(k, buf_view(&b), &e);
        assert_code(E_FORMAT_NEWER, e);
        assert_has(e.text, format_of(k) == 2 ? "row has format 3" : "row has format 2");
        b.data[0] = 0;
        get(k, buf_view(&b), &e);
        assert_code(E_DAMAGED, e);
        buf_free(&b);
    }
}

static void random_damage_never_crashes_a_decoder(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 3);
    for (enum kind k = 0; k < KINDS; k++) {
        struct buf b = {0};
        put(k, true, &b);
        for (int i = 0; i < 5000; i++) {
            uint8_t *copy = malloc(b.size);
            memcpy(copy, b.data, b.size);
            for (uint64_t n = 1 + rng_below(&r, 3); n > 0; n--)
                copy[rng_below(&r, b.size)] = (uint8_t)rng_next(&r);
            get(k, view_of(copy, b.size), NULL);
            free(copy);
        }
        buf_free(&b);
    }
}

/* ---------------------------------------------------------------- every row comes back as it was */

/* clang-format off: tables again */
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

static void rows_of_numbers_come_back(void **state)
{
    (void)state;
#define SAME(x, y)                       \
    do {                                 \
        struct format_row a = x, b_ = y; \
        EQ(format);                      \
        EQ(created_ms);                  \
        EQ(broker.lo);                   \
        EQ(broker.hi);                   \
    } while (0)
    ROUND_TRIP(format_row, format_row, formats)
#undef SAME
#define SAME(x, y)                      \
    do {                                \
        struct epoch_row a = x, b_ = y; \
        EQ(epoch);                      \
        EQ(turn);                       \
        EQ(wall_ms);                    \
    } while (0)
    ROUND_TRIP(epoch_row, epoch_row, epochs)
#undef SAME
#define SAME(x, y)                     \
    do {                               \
        struct next_row a = x, b_ = y; \
        EQ(topic);                     \
        EQ(partition);                 \
        EQ(group);                     \
        EQ(task);                      \
    } while (0)
    ROUND_TRIP(next_row, next_row, nexts)
#undef SAME
#define SAME(x, y)                          \
    do {                                    \
        struct partition_row a = x, b_ = y; \
        EQ(start);                          \
        EQ(end);                            \
        EQ(start_bytes);                    \
        EQ(end_bytes);                      \
        EQ(first_time_ms);                  \
        EQ(last_time_ms);                   \
        EQ(epoch);                          \
        EQ(turn);                           \
        EQ(parent);                         \
        EQ(fence);                          \
    } while (0)
    ROUND_TRIP(partition_row, partition_row, partitions)
#undef SAME
#define SAME(x, y)                      \
    do {                                \
        struct trims_row a = x, b_ = y; \
        EQ(n);                          \
        EQ(at[0].to);                   \
        EQ(at[0].first_ms);             \
        EQ(at[0].last_ms);              \
        EQ(at[0].why);                  \
        EQ(at[1].to);                   \
        EQ(at[1].why);                  \
    } while (0)
    ROUND_TRIP(trims_row, trims_row, trims)
#undef SAME
#define SAME(x, y)                     \
    do {                               \
        struct lost_row a = x, b_ = y; \
        EQ(lost);                      \
        EQ(stale);                     \
    } while (0)
    ROUND_TRIP(lost_row, lost_row, losses)
#undef SAME
#define SAME(x, y)                       \
    do {                                 \
        struct cursor_row a = x, b_ = y; \
        EQ(floor);                       \
        EQ(cursor);                      \
        EQ(ready_low);                   \
        EQ(parked);                      \
        EQ(away.retrying);               \
        EQ(away.blocked);                \
        EQ(away.waiting);                \
        EQ(away.behind);                 \
        EQ(away.keys);                   \
        EQ(away.purges);                 \
        EQ(away.swept);                  \
    } while (0)
    ROUND_TRIP(cursor_row, cursor_row, cursors)
#undef SAME
#define SAME(x, y)                      \
    do {                                \
        struct claim_row a = x, b_ = y; \
        EQ(committed);                  \
        EQ(committed_ms);               \
        EQ(generation);                 \
        EQ(held);                       \
        EQ(session.lo);                 \
        EQ(session.hi);                 \
        EQ(member);                     \
    } while (0)
    ROUND_TRIP(claim_row, claim_row, claims)
#undef SAME
#define SAME(x, y)                       \
    do {                                 \
        struct member_row a = x, b_ = y; \
        VEQ(name);                       \
        EQ(timeout_ms);                  \
        EQ(order);                       \
        EQ(joined_ms);                   \
        EQ(state);                       \
    } while (0)
    ROUND_TRIP(member_row, member_row, members)
#undef SAME
#define SAME(x, y)                                           \
    do {                                                     \
        struct compaction_row a = x, b_ = y;                 \
        EQ(clean);                                           \
        EQ(passed);                                          \
        EQ(passed_bytes);                                    \
        EQ(removed_bytes);                                   \
        EQ(tombstones);                                      \
        EQ(last_ms);                                         \
        EQ(marks_n);                                         \
        for (uint32_t m_ = 0; m_ < a.marks_n; m_++) {        \
            EQ(marks[m_].offset);                            \
            EQ(marks[m_].ms);                                \
        }                                                    \
        EQ(left_n);                                          \
        for (uint32_t m_ = 0; m_ < a.left_n; m_++)           \
            EQ(left[m_]);                                    \
    } while (0)
    ROUND_TRIP(compaction_row, compaction_row, compactions)
#undef SAME
#define SAME(x, y)                            \
    do {                                      \
        struct list_header_row a = x, b_ = y; \
        EQ(first);                            \
        EQ(skip);                             \
        EQ(last);                             \
        EQ(count);                            \
        EQ(head_in_list);                     \
    } while (0)
    ROUND_TRIP(list_header_row, list_header, headers)
#undef SAME
#define SAME(x, y)                        \
    do {                                  \
        struct session_row a = x, b_ = y; \
        VEQ(name);                        \
        EQ(created_ms);                   \
        EQ(seen_ms);                      \
    } while (0)
    ROUND_TRIP(session_row, session_row, sessions)
#undef SAME
}

static void rows_of_message_ids_and_state_come_back(void **state)
{
    (void)state;
#define SAME(x, y)                                 \
    do {                                           \
        struct dedup_generation_row a = x, b_ = y; \
        EQ(current);                               \
        EQ(began_ms);                              \
        EQ(count);                                 \
        EQ(before_began_ms);                       \
    } while (0)
    ROUND_TRIP(dedup_generation_row, dedup_generation_row, generations)
#undef SAME
#define SAME(x, y)                      \
    do {                                \
        struct dedup_row a = x, b_ = y; \
        EQ(partition);                  \
        EQ(offset);                     \
        EQ(time_ms);                    \
    } while (0)
    ROUND_TRIP(dedup_row, dedup_row, dedups)
#undef SAME
#define SAME(x, y)                      \
    do {                                \
        struct state_row a = x, b_ = y; \
        EQ(version);                    \
        VEQ(key);                       \
        VEQ(value);                     \
    } while (0)
    ROUND_TRIP(state_row, state_row, states)
#undef SAME
}

static void what_waits_for_its_time_comes_back(void **state)
{
    (void)state;
#define SAME(x, y)                            \
    do {                                      \
        struct sched_batch_row a = x, b_ = y; \
        EQ(partition);                        \
        EQ(count);                            \
        EQ(last_delta);                       \
        EQ(batch_hash);                       \
        VEQ(batch);                           \
    } while (0)
    ROUND_TRIP(sched_batch_row, sched_batch_row, batches)
#undef SAME
#define SAME(x, y)                           \
    do {                                     \
        struct sched_name_row a = x, b_ = y; \
        VEQ(name);                           \
        VEQ(cron);                           \
        EQ(due_ms);                          \
        EQ(created_ms);                      \
        EQ(bytes);                           \
        EQ(partition);                       \
        EQ(count);                           \
    } while (0)
    ROUND_TRIP(sched_name_row, sched_name_row, names)
#undef SAME
#define SAME(x, y)                            \
    do {                                      \
        struct sched_count_row a = x, b_ = y; \
        EQ(batches);                          \
        EQ(messages);                         \
    } while (0)
    ROUND_TRIP(sched_count_row, sched_count_row, counts)
#undef SAME
#define SAME(x, y)                          \
    do {                                    \
        struct sched_low_row a = x, b_ = y; \
        EQ(low_ms);                         \
    } while (0)
    ROUND_TRIP(sched_low_row, sched_low_row, lows)
#undef SAME
}

static void a_task_comes_back_with_its_filter_and_its_place(void **state)
{
    (void)state;
#define SAME(x, y)                     \
    do {                               \
        struct task_row a = x, b_ = y; \
        EQ(act);                       \
        EQ(state);                     \
        EQ(dry_run);                   \
        EQ(has_filter);                \
        EQ(has_at);                    \
        EQ(rate_milli);                \
        EQ(at_partition);              \
        EQ(limit);                     \
        EQ(seen);                      \
        EQ(matched);                   \
        EQ(changed);                   \
        EQ(started_ms);                \
        EQ(ended_ms);                  \
        EQ(at_offset);                 \
        VEQ(error);                    \
        EQ(filter.has_key);            \
        EQ(filter.has_header_value);   \
        EQ(filter.has_offset);         \
        VEQ(filter.key);               \
        VEQ(filter.header);            \
        VEQ(filter.header_value);      \
        VEQ(filter.reason);            \
        EQ(filter.after_ms);           \
        EQ(filter.before_ms);          \
        EQ(filter.offset);             \
        EQ(filter.attempts_min);       \
        EQ(filter.attempts_max);       \
        EQ(filter.partition);          \
        EQ(replay.source);             \
        EQ(replay.into);               \
        EQ(replay.has_partition);      \
        EQ(replay.has_from);           \
        EQ(replay.of);                 \
        EQ(replay.partition);          \
        EQ(replay.from_offset);        \
        EQ(replay.to_offset);          \
        EQ(replay.from_ms);            \
        EQ(replay.to_ms);              \
        EQ(replay.left);               \
        EQ(replay.lost);               \
    } while (0)
    ROUND_TRIP(task_row, task_row, tasks)
#undef SAME
}

static void a_task_that_nobody_could_have_begun_is_refused(void **state)
{
    (void)state;
    for (int n = 0; n < 256; n++) {
        struct task_row r = tasks[0], back;
        struct buf b = {0};
        r.act = (uint8_t)n;
        task_row_put(&b, &r);
        assert_int_equal(task_row_get(buf_view(&b), &back, NULL), n == TASK_REDRIVE || n == TASK_DROP ? E_OK : E_DAMAGED); /* a replay says of what */
        buf_clear(&b);
        r = tasks[0];
        r.state = (uint8_t)n;
        task_row_put(&b, &r);
        assert_int_equal(task_row_get(buf_view(&b), &back, NULL), n >= TASK_RUNNING && n <= TASK_FAILED ? E_OK : E_DAMAGED);
        buf_free(&b);
    }
}

static void the_ends_of_a_replay_come_back_in_their_order(void **state)
{
    (void)state;
    struct buf b = {0};
    struct task_ends_row back;
    task_ends_row_put(&b, task_ends, ARRAY_LEN(task_ends));
    assert_ok(task_ends_row_get(buf_view(&b), &back, &err));
    assert_int_equal(back.n, ARRAY_LEN(task_ends));
    for (size_t i = 0; i < ARRAY_LEN(task_ends); i++)
        assert_true(task_ends_next(&back.raw) == task_ends[i]);
    assert_int_equal(task_ends_row_get(view_of(b.data, b.size - 1), &back, NULL), E_DAMAGED);
    buf_put_u8(&b, 0);
    assert_int_equal(task_ends_row_get(buf_view(&b), &back, NULL), E_DAMAGED);
    buf_free(&b);
}

static void a_topic_comes_back_with_its_partitions_in_order(void **state)
{
    (void)state;
    for (int x = 0; x < 2; x++) {
        struct topic_row a, b_;
        struct buf b = {0};
        topics(x, &a);
        topic_row_put(&b, &a);
        assert_ok(topic_row_get(buf_view(&b), &b_, &err));
        VEQ(name);
        EQ(created_ms);
        EQ(config.partitions);
        EQ(config.retention_ms);
        EQ(config.retention_bytes);
        EQ(config.hard_cap_ms);
        EQ(config.durability);
        EQ(config.compacted);
        EQ(config.message_bytes_max);
        EQ(config.backlog_bytes_max);
        EQ(config.backlog_age_max_ms);
        EQ(config.dedup_ms);
        EQ(config.ttl_ms);
        EQ(log_class);
        for (uint32_t i = 0; i < a.config.partitions; i++)
            assert_int_equal(topic_row_partition(&b_, i), three_ids[i]);
        buf_free(&b);
    }
}

static void a_topic_of_no_known_log_class_is_refused(void **state)
{
    (void)state;
    for (int class = 0; class < 256; class ++) {
        struct topic_row r = {.log_class = (uint8_t) class}, back;
        struct buf b = {0};
        topic_row_put(&b, &r);
        assert_int_equal(topic_row_get(buf_view(&b), &back, NULL),
                         class < LOG_CLASS_COUNT ? E_OK : E_DAMAGED);
        buf_free(&b);
    }
}

static void a_group_comes_back(void **state)
{
    (void)state;
    for (int x = 0; x < 2; x++) {
        struct group_row a, b_;
        struct buf b = {0};
        groups(x, &a);
        group_row_put(&b, &a);
        assert_ok(group_row_get(buf_view(&b), &b_, &err));
        VEQ(name);
        EQ(topic);
        EQ(created_ms);
        EQ(config.mode);
        EQ(config.order);
        EQ(config.park);
        EQ(config.from);
        EQ(config.lease_ms);
        EQ(config.max_deliveries);
        EQ(config.backoff_min_ms);
        EQ(config.backoff_max_ms);
        EQ(config.run_max);
        EQ(config.in_flight_max);
        EQ(config.expired);
        EQ(config.rate_milli);
        EQ(config.key_rate_milli);
        EQ(config.key_in_flight_max);
        EQ(config.idle_expiry_ms);
        EQ(paused);
        EQ(used_ms);
        buf_free(&b);
    }
}

static void a_held_message_comes_back_with_its_reason(void **state)
{
    (void)state;
    for (int x = 0; x < 2; x++) {
        struct held_row a, b_;
        struct buf b = {0};
        helds(x, &a);
        held_row_put(&b, &a);
        assert_ok(held_row_get(buf_view(&b), &b_, &err));
        EQ(state);
        EQ(due_ms);
        EQ(at_ms);
        EQ(token);
        EQ(key_hash);
        EQ(has_key);
        EQ(blocking);
        EQ(size);
        EQ(grants);
        EQ(failures);
        VEQ(reason);
        VEQ(error);
        EQ(expires_ms);
        EQ(priority);
        EQ(purges);
        buf_free(&b);
    }
}

static void a_key_that_is_away_comes_back_with_its_members(void **state)
{
    (void)state;
    for (int x = 0; x < 2; x++) {
        struct away_row a = aways[x], b_;
        struct key_member m = {0};
        struct buf b = {0};
        uint32_t n = 0;
        bool bad;
        away_row_put(&b, &a);
        assert_ok(away_row_get(buf_view(&b), &b_, &err));
        EQ(list.first);
        EQ(list.skip);
        EQ(list.last);
        EQ(list.count);
        EQ(list.head_in_list);
        EQ(purges);
        EQ(members_n);
        for (; away_row_next(&b_.members_raw, &m, &bad); n++) {
            assert_int_equal(m.partition, of_a_key[n].partition);
            assert_true(m.offset == of_a_key[n].offset);
            assert_int_equal(m.state, of_a_key[n].state);
        }
        assert_false(bad);
        assert_int_equal(n, a.members_n);
        buf_free(&b);
    }
}

static void a_key_that_is_away_without_members_or_with_one_in_no_known_state_is_refused(void **state)
{
    (void)state;
    for (int s = -1; s < 256; s++) {
        struct key_member m = {.partition = 1, .offset = 2, .state = (uint8_t)s};
        struct away_row back;
        struct buf b = {0};
        away_row_put(&b, &(struct away_row){.members = &m, .members_n = s < 0 ? 0 : 1});
        int code = away_row_get(buf_view(&b), &back, NULL);
        assert_int_equal(code, s >= AWAY_RETRYING && s <= AWAY_WAITING ? E_OK : E_DAMAGED);
        buf_free(&b);
    }
}

/* A broker that has nothing away writes what an older one reads. */
static void a_cursor_without_anything_away_keeps_its_first_format(void **state)
{
    (void)state;
    struct buf b = {0};
    cursor_row_put(&b, &(struct cursor_row){.floor = 1, .cursor = 2, .ready_low = 3, .parked = 4});
    assert_int_equal(b.data[0], 1);
    buf_clear(&b);
    cursor_row_put(&b, &(struct cursor_row){.floor = 1, .away = {.swept = 1}});
    assert_int_equal(b.data[0], 2);
    buf_free(&b);
}

/* clang-format on */

static void a_held_message_of_no_known_state_is_refused(void **state)
{
    (void)state;
    struct held_row r;
    helds(true, &r);
    for (int s = 0; s < 256; s++) {
        struct buf b = {0};
        struct held_row back;
        r.state = (uint8_t)s;
        held_row_put(&b, &r);
        int code = held_row_get(buf_view(&b), &back, NULL);
        assert_int_equal(code, s == HELD_RETRYING || s == HELD_PARKED ? E_OK : E_DAMAGED);
        buf_free(&b);
    }
}

static void a_lease_comes_back_with_all_its_messages(void **state)
{
    (void)state;
    for (int x = 0; x < 2; x++) {
        struct lease_row a, b_;
        struct buf b = {0};
        leases(x, &a);
        lease_row_put(&b, &a);
        assert_ok(lease_row_get(buf_view(&b), &b_, &err));
        EQ(session.lo);
        EQ(session.hi);
        EQ(slot);
        EQ(lease_ms);
        EQ(counter);
        EQ(granted_ms);
        EQ(entries_n);
        struct lease_entry y = {0};
        bool bad;
        for (uint32_t i = 0; i < a.entries_n; i++) {
            assert_true(lease_row_next(&b_.entries_raw, &y, &bad));
            struct lease_entry z = entries[i];
            assert_true(y.partition == z.partition && y.offset == z.offset && y.has_key == z.has_key &&
                        y.key_hash == (z.has_key ? z.key_hash : 0) && y.size == z.size &&
                        y.grants == z.grants && y.failures == z.failures && y.expires_ms == z.expires_ms &&
                        y.priority == z.priority);
        }
        assert_false(lease_row_next(&b_.entries_raw, &y, &bad));
        assert_false(bad);
        buf_free(&b);
    }
}

static void a_lease_that_says_another_number_of_messages_is_refused(void **state)
{
    (void)state;
    struct buf b = {0};
    struct lease_row r = {.entries = entries, .entries_n = 2}, back;
    lease_row_put(&b, &r);
    size_t at = 1 + 16 + 4; /* format, session, four zeros */
    assert_int_equal(b.data[at], 2);
    for (int n = 0; n < 5; n++) {
        b.data[at] = (uint8_t)n;
        assert_int_equal(lease_row_get(buf_view(&b), &back, NULL), n == 2 ? E_OK : E_DAMAGED);
    }
    buf_free(&b);
}

static void a_thousand_leased_neighbours_cost_few_bytes_each(void **state)
{
    (void)state;
    struct lease_entry *many = calloc(1000, sizeof *many);
    for (uint32_t i = 0; i < 1000; i++)
        many[i] = (struct lease_entry){.partition = 9, .offset = 1000000 + i, .size = 1000, .grants = 1};
    struct lease_row r = {.entries = many, .entries_n = 1000};
    struct buf b = {0};
    lease_row_put(&b, &r);
    assert_in_range(b.size, 1000, 5100);
    buf_free(&b);
    free(many);
}

/* ---------------------------------------------------------------- lanes */

static void a_lane_comes_back_with_its_results(void **state)
{
    (void)state;
    struct buf b = {0};
    struct lane_row r;
    lane_row_put(&b, MAX64, MAX64 - 1, results, ARRAY_LEN(results));
    assert_ok(lane_row_get(buf_view(&b), &r, &err));
    assert_true(r.base == MAX64 && r.done == MAX64 - 1 && r.results_n == ARRAY_LEN(results));
    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        struct result a = results[i], b_;
        bool bad;
        assert_true(lane_row_next(&r.results_raw, &b_, &bad));
        EQ(seq);
        EQ(turn);
        EQ(level);
        EQ(verb);
        VEQ(body);
    }
    bool bad;
    struct result none;
    assert_false(lane_row_next(&r.results_raw, &none, &bad));
    assert_false(bad);
    buf_free(&b);
}

/* ---------------------------------------------------------------- done chunks */

static void assert_done(const uint8_t bits[DONE_CHUNK_BYTES], size_t size_max)
{
    struct buf b = {0};
    uint8_t back[DONE_CHUNK_BYTES];
    done_row_put(&b, bits);
    assert_in_range(b.size, 0, size_max);
    memset(back, 0x5a, sizeof back);
    assert_ok(done_row_get(buf_view(&b), back, &err));
    assert_memory_equal(bits, back, sizeof back);
    buf_free(&b);
}

static void a_done_chunk_is_as_short_as_what_is_not_obvious(void **state)
{
    (void)state;
    uint8_t bits[DONE_CHUNK_BYTES] = {0};
    assert_done(bits, 8); /* nothing */
    memset(bits, 0xff, sizeof bits);
    assert_done(bits, 8); /* everything */
    memset(bits + 300, 0, sizeof bits - 300);
    assert_done(bits, 8); /* a prefix */
    bits[300] = 0x0f;
    bits[302] = 0x01;
    assert_done(bits, 11); /* and a little ragged edge */
    memset(bits, 0x55, sizeof bits);
    assert_done(bits, DONE_CHUNK_BYTES + 8);
    bits[DONE_CHUNK_BYTES - 1] = 0;
    bits[0] = 0xff;
    assert_done(bits, DONE_CHUNK_BYTES + 8);
    memset(bits, 0, sizeof bits);
    bits[DONE_CHUNK_BYTES - 1] = 0x80;
    assert_done(bits, DONE_CHUNK_BYTES + 8);
}

static void any_done_chunk_comes_back(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 5);
    for (int i = 0; i < 3000; i++) {
        uint8_t bits[DONE_CHUNK_BYTES] = {0};
        uint64_t ones = rng_below(&r, DONE_CHUNK_BYTES + 1),
                 random = rng_below(&r, DONE_CHUNK_BYTES + 1 - ones);
        memset(bits, 0xff, ones);
        rng_fill(&r, bits + ones, random);
        assert_done(bits, DONE_CHUNK_BYTES + 8);
    }
}

/* A bit that changed would be a message delivered twice, or never. */
static void a_done_chunk_with_any_bit_changed_is_refused(void **state)
{
    (void)state;
    uint8_t bits[DONE_CHUNK_BYTES] = {0}, back[DONE_CHUNK_BYTES];
    memset(bits, 0xff, 100);
    bits[101] = 0x3c;
    struct buf b = {0};
    done_row_put(&b, bits);
    for (size_t i = 0; i < 8 * b.size; i++) {
        b.data[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_not_equal(done_row_get(buf_view(&b), back, NULL), E_OK);
        b.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_ok(done_row_get(buf_view(&b), back, &err));
    buf_free(&b);
}

/* ---------------------------------------------------------------- the list behind a key */

static void positions_come_back_however_they_follow_each_other(void **state)
{
    (void)state;
    static const struct list_position positions[] = {
        {0, 0, 0, 0, 0},          {0, 1, 1, 0, 0},         {0, 1, 1, 0, 0},      {0, MAX64, SIZE_MOST, 0, 0},
        {0, 0, 5, 0, 0},          {MAX32, 0, SIZE_MOST, 0, 0}, {0, MAX64, 0, 0, 0}, {1, 5, 9, 0, 0},
        {1, 6, 9, MAX64, 9},      {1, 4, 9, 0, 1},         {MAX32, 6, 1, 1, 0},  {MAX32 - 1, 6, 1, 0, 0},
        {3, 1000, SIZE_MOST, MAX64, UINT8_MAX},
    };
    struct buf b = {0};
    struct list_position before = {0};
    for (size_t i = 0; i < ARRAY_LEN(positions); i++) {
        list_chunk_append(&b, &before, positions[i]);
        assert_memory_equal(&before, &positions[i], sizeof before);
    }
    struct view chunk = buf_view(&b);
    struct list_position p = {0};
    bool bad;
    for (size_t i = 0; i < ARRAY_LEN(positions); i++) {
        assert_true(list_chunk_next(&chunk, &p, &bad));
        struct list_position a = positions[i], b_ = p;
        EQ(partition);
        EQ(offset);
        EQ(size);
        EQ(expires_ms);
        EQ(priority);
    }
    assert_false(list_chunk_next(&chunk, &p, &bad));
    assert_false(bad);
    buf_free(&b);
}

static void a_position_of_a_run_takes_four_bytes(void **state)
{
    (void)state;
    struct buf b = {0};
    struct list_position before = {0};
    list_chunk_append(&b, &before, (struct list_position){2, 1000000, 1000, 0, 0});
    size_t first = b.size;
    for (uint64_t i = 1; i <= 100; i++)
        list_chunk_append(&b, &before, (struct list_position){2, 1000000 + 20 * i, 1000, 0, 0});
    assert_in_range(b.size - first, 300, 400);
    buf_free(&b);
}

static void a_chunk_cut_within_a_position_is_bad_and_ends(void **state)
{
    (void)state;
    struct buf b = {0};
    struct list_position before = {0};
    list_chunk_append(&b, &before, (struct list_position){MAX32, MAX64, SIZE_MOST, 0, 0});
    for (size_t size = 1; size < b.size; size++) {
        struct view chunk = view_of(b.data, size);
        struct list_position p = {0};
        bool bad = false;
        assert_false(list_chunk_next(&chunk, &p, &bad));
        assert_true(bad);
        assert_false(list_chunk_next(&chunk, &p, &bad)); /* no endless loop for who does not look */
    }
    buf_free(&b);
}

static void a_position_out_of_range_is_bad(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_put_varint(&b, ((uint64_t)MAX32 + 1) << 1); /* a size of 33 bits */
    buf_put_varint(&b, 0);
    struct view chunk = buf_view(&b);
    struct list_position p = {0};
    bool bad;
    assert_false(list_chunk_next(&chunk, &p, &bad));
    assert_true(bad);
    buf_clear(&b);
    buf_put_varint(&b, 1); /* another partition, namely the same */
    buf_put_varint(&b, 0);
    buf_put_varint(&b, 0);
    chunk = buf_view(&b);
    assert_false(list_chunk_next(&chunk, &p, &bad));
    assert_true(bad);
    buf_free(&b);
}

/* ---------------------------------------------------------------- formats */

static void a_directory_of_a_newer_format_is_refused(void **state)
{
    (void)state;
    struct format_row r = {.format = META_FORMAT + 1, .created_ms = 5};
    struct buf b = {0};
    format_row_put(&b, &r);
    struct err e = {0};
    format_row_get(buf_view(&b), &r, &e);
    assert_code(E_FORMAT_NEWER, e);
    assert_string_equal(e.text, "data directory has format 5, this version reads 4");
    buf_free(&b);
}

/* Rows that a broker of before wrote: what they lack has its default. They end where they did, no earlier and no later. */
static void rows_of_the_format_before_are_read_with_defaults(void **state)
{
    (void)state;
    static const struct {
        enum kind kind;
        struct view bytes;
    } old[] = {
        {NEXT, {(const uint8_t *)"\1\3\254\2\4", 5}},
        {TOPIC, {(const uint8_t *)"\1\1t\5\2\7\10\11\1\0\12\13\2\1\0\0\0\2\0\0\0", 21}},
        {GROUP, {(const uint8_t *)"\1\1g\6\5\1\2\2\1\7\10\11\12\13\14\1", 16}},
        {PARTITION, {(const uint8_t *)"\1\3\254\2\4\5\6\7\10\11", 10}},
    };
    for (size_t i = 0; i < ARRAY_LEN(old); i++) {
        assert_ok(get(old[i].kind, old[i].bytes, &err));
        for (size_t size = 0; size < old[i].bytes.size; size++) {
            struct err e = {0};
            get(old[i].kind, view_of(old[i].bytes.data, size), &e);
            assert_code(E_DAMAGED, e);
        }
        struct buf longer = {0};
        buf_append(&longer, old[i].bytes.data, old[i].bytes.size);
        buf_put_u8(&longer, 0);
        struct err e = {0};
        get(old[i].kind, buf_view(&longer), &e);
        assert_code(E_DAMAGED, e);
        buf_free(&longer);
    }
    struct next_row next;
    assert_ok(next_row_get(old[0].bytes, &next, &err));
    assert_true(next.topic == 3 && next.partition == 300 && next.group == 4 && next.task == 1);

    struct topic_row topic;
    assert_ok(topic_row_get(old[1].bytes, &topic, &err));
    const struct wire_topic_config *t = &topic.config;
    assert_true(view_eq(topic.name, VIEW_LIT("t")) && topic.created_ms == 5 && topic.log_class == LOG_WEEKS);
    assert_true(t->partitions == 2 && t->retention_ms == 7 && t->retention_bytes == 8 && t->hard_cap_ms == 9 && t->durability == 1);
    assert_true(!t->compacted && t->message_bytes_max == 10 && t->backlog_bytes_max == 11);
    assert_true(topic_row_partition(&topic, 0) == 1 && topic_row_partition(&topic, 1) == 2);
    assert_true(t->backlog_age_max_ms == 0 && t->dedup_ms == 0 && t->ttl_ms == 0);

    struct group_row group;
    assert_ok(group_row_get(old[2].bytes, &group, &err));
    const struct wire_group_config *g = &group.config;
    assert_true(view_eq(group.name, VIEW_LIT("g")) && group.topic == 6 && group.created_ms == 5 && group.paused);
    assert_true(g->mode == 1 && g->order == 2 && g->park == 2 && g->from == 1 && g->lease_ms == 7 && g->max_deliveries == 8);
    assert_true(g->backoff_min_ms == 9 && g->backoff_max_ms == 10 && g->run_max == 11 && g->in_flight_max == 12);
    assert_true(g->expired == EXPIRED_DROP && g->rate_milli == 0 && g->key_rate_milli == 0 && g->key_in_flight_max == 0);
    assert_true(g->idle_expiry_ms == 0 && group.used_ms == 0);

    struct partition_row p;
    assert_ok(partition_row_get(old[3].bytes, &p, &err));
    assert_true(p.start == 3 && p.end == 300 && p.start_bytes == 4 && p.end_bytes == 5 && p.first_time_ms == 6 && p.last_time_ms == 7);
    assert_true(p.epoch == 8 && p.turn == 9 && p.parent == 0 && p.fence == 0);
}

static void the_bytes_of_rows_are_these_for_ever(void **state)
{
    (void)state;
    static const struct {
        enum kind kind;
        const char *bytes;
        size_t size;
    } small[] = {
        {EPOCH, "\1\0\0\0", 4},
        {NEXT, "\2\0\0\0\0", 5},
        {TOPIC, "\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 15},
        {GROUP, "\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 21},
        {GENERATION, "\1\0\0\0\0", 5},
        {COMPACTION, "\1\0\0\0\0\0\0\0\0", 9},
        {DEDUP, "\1\0\0\0", 4},
        {STATE, "\1\0\0\0", 4},
        {SCHED_BATCH, "\1\0\0\0\0\0\0\0\0\0\0\0\0", 13},
        {SCHED_NAME, "\1\0\0\0\0\0\0\0", 8},
        {SCHED_COUNT, "\1\0\0", 3},
        {SCHED_LOW, "\1\0", 2},
        {TASK, "\1\1\1\0\0\0\0\0\0\0\0\0\0\0", 14},
        {PARTITION, "\2\0\0\0\0\0\0\0\0\0\0", 11},
        {CURSOR, "\1\0\0\0\0", 5},
        {CLAIM, "\1\0\0\0\0", 5},
        {MEMBER, "\1\0\0\0\0\1", 6},
        {LIST, "\1\0\0\0\0\0", 6},
        {SESSION, "\1\0\0\0", 4},
        {LANE, "\1\0\0\0\0\0\0\0\0\0\0", 11},
        {HELD, "\1\1\0\0\0\0\0\0\0\0\0", 11},
        {DONE, "\1\174\200\236\224\0", 6},
    };
    for (size_t i = 0; i < ARRAY_LEN(small); i++) {
        struct buf b = {0};
        put(small[i].kind, false, &b);
        if (b.size != small[i].size || memcmp(b.data, small[i].bytes, b.size) != 0) {
            struct buf hex = {0};
            for (size_t k = 0; k < b.size; k++)
                buf_putf(&hex, "\\%o", b.data[k]);
            fail_msg("row %d is %s", (int)small[i].kind, buf_str(&hex));
        }
        buf_free(&b);
    }
    struct buf b = {0};
    struct epoch_row r = {300, 2, 1};
    epoch_row_put(&b, &r);
    assert_true(view_eq(buf_view(&b), VIEW_LIT("\1\254\2\2\1")));
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_of_every_row_is_refused),
        cmocka_unit_test(bytes_behind_a_row_are_refused),
        cmocka_unit_test(a_newer_format_is_refused_by_name_and_format_0_is_damage),
        cmocka_unit_test(random_damage_never_crashes_a_decoder),
        cmocka_unit_test(rows_of_numbers_come_back),
        cmocka_unit_test(rows_of_message_ids_and_state_come_back),
        cmocka_unit_test(what_waits_for_its_time_comes_back),
        cmocka_unit_test(a_task_comes_back_with_its_filter_and_its_place),
        cmocka_unit_test(a_task_that_nobody_could_have_begun_is_refused),
        cmocka_unit_test(the_ends_of_a_replay_come_back_in_their_order),
        cmocka_unit_test(a_topic_comes_back_with_its_partitions_in_order),
        cmocka_unit_test(a_topic_of_no_known_log_class_is_refused),
        cmocka_unit_test(a_group_comes_back),
        cmocka_unit_test(a_held_message_comes_back_with_its_reason),
        cmocka_unit_test(a_held_message_of_no_known_state_is_refused),
        cmocka_unit_test(a_key_that_is_away_comes_back_with_its_members),
        cmocka_unit_test(a_key_that_is_away_without_members_or_with_one_in_no_known_state_is_refused),
        cmocka_unit_test(a_cursor_without_anything_away_keeps_its_first_format),
        cmocka_unit_test(a_lease_comes_back_with_all_its_messages),
        cmocka_unit_test(a_lease_that_says_another_number_of_messages_is_refused),
        cmocka_unit_test(a_thousand_leased_neighbours_cost_few_bytes_each),
        cmocka_unit_test(a_lane_comes_back_with_its_results),
        cmocka_unit_test(a_done_chunk_is_as_short_as_what_is_not_obvious),
        cmocka_unit_test(any_done_chunk_comes_back),
        cmocka_unit_test(a_done_chunk_with_any_bit_changed_is_refused),
        cmocka_unit_test(positions_come_back_however_they_follow_each_other),
        cmocka_unit_test(a_position_of_a_run_takes_four_bytes),
        cmocka_unit_test(a_chunk_cut_within_a_position_is_bad_and_ends),
        cmocka_unit_test(a_position_out_of_range_is_bad),
        cmocka_unit_test(a_directory_of_a_newer_format_is_refused),
        cmocka_unit_test(rows_of_the_format_before_are_read_with_defaults),
        cmocka_unit_test(the_bytes_of_rows_are_these_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What holds for the rows of every kind, whatever is in them, and the bytes that they are for ever. */
#include "store_rows_kit.h"

#include "base/rng.h"

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
        cmocka_unit_test(a_directory_of_a_newer_format_is_refused),
        cmocka_unit_test(rows_of_the_format_before_are_read_with_defaults),
        cmocka_unit_test(the_bytes_of_rows_are_these_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

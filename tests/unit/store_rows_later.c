/* Rows of what is to be done later, of tasks, and of what was seen and kept before. */
#include "store_rows_kit.h"

/* ---------------------------------------------------------------- what holds for every row */

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
    struct err e = {0};
    b.data[0]++;
    task_ends_row_get(buf_view(&b), &back, &e);
    assert_code(E_FORMAT_NEWER, e);
    assert_has(e.text, "row has format 2");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_message_ids_and_state_come_back),
        cmocka_unit_test(what_waits_for_its_time_comes_back),
        cmocka_unit_test(a_task_comes_back_with_its_filter_and_its_place),
        cmocka_unit_test(a_task_that_nobody_could_have_begun_is_refused),
        cmocka_unit_test(the_ends_of_a_replay_come_back_in_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A walk over the rows of one kind in sched meets all of them, in order of time, and nothing else. */
#include "store_kit.h"

#include "store/sched_walk.h"
#include "store/store_mem.h"

static struct store *filled(void)
{
    struct store *s = store_mem_new();
    struct puts l;
    puts_init(&l);
    const struct id128 id = {.hi = 1, .lo = 2};
    const struct key keys[] = {
        key_sched_count(1),      key_sched_name(1, id),      key_sched_low(),
        key_sched_retry(5, 1, 1, 1),  key_sched_batch(5, 1, id),  key_sched_batch(5, 2, id), key_sched_retry(6, 1, 1, 2),
        key_sched_retry(7, 1, 1, 3),  key_sched_batch(9, 1, id),  key_sched_batch(UINT64_MAX, 1, id), key_sched_retry(UINT64_MAX, 1, 1, 4),
        key_sched_retry(UINT64_MAX, 1, 1, 5), key_sched_away(0, 1, 1, 1), key_sched_away(6, 1, 1, 1), key_sched_away(6, 1, 1, 2),
        key_sched_away(UINT64_MAX, 1, 1, 1), key_sched_away_low()};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        puts_row(&l, FAM_SCHED, key_view(&keys[i]), VIEW_LIT("x"));
    for (uint64_t i = 0; i < 1000; i++) {
        struct key k = key_sched_retry(8, 1, 1, i);
        puts_row(&l, FAM_SCHED, key_view(&k), VIEW_LIT("x"));
    }
    assert_ok(store_write(s, &l, &err));
    puts_free(&l);
    return s;
}

static void check(struct store *s, enum sched_kind kind, uint64_t from_ms, const char *times, size_t rows)
{
    char text[512] = "", *at = text;
    struct key from = key_sched_from(from_ms, kind);
    struct sched_walk w;
    uint64_t before = 0;
    size_t n = 0;
    for (sched_walk_open(&w, s, kind, &from); sched_walk_valid(&w); sched_walk_next(&w)) {
        uint64_t due;
        assert_int_equal(key_read_sched_kind(store_iter_key(w.it), &due), kind);
        assert_true(sched_walk_due(&w) == due);
        if (n++ == 0 || due != before)
            at += sprintf(at, "%s%llu", at == text ? "" : " ", (unsigned long long)due);
        before = due;
    }
    assert_ok(sched_walk_status(&w, &err));
    assert_string_equal(text, times);
    assert_int_equal(n, rows);
    assert_true(sched_walk_due(&w) == UINT64_MAX);
    sched_walk_close(&w);
}

#define LAST "18446744073709551615"

static void every_row_of_the_kind_is_met_in_order_of_time(void **state)
{
    (void)state;
    struct store *s = filled();
    check(s, SCHED_KIND_BATCH, 0, "5 9 " LAST, 4);
    check(s, SCHED_KIND_BATCH, 6, "9 " LAST, 2);
    check(s, SCHED_KIND_RETRY, 0, "5 6 7 8 " LAST, 1005);
    check(s, SCHED_KIND_RETRY, 9, LAST, 2);
    check(s, SCHED_KIND_AWAY, 0, "0 6 " LAST, 4);
    check(s, SCHED_KIND_AWAY, 7, LAST, 1);
    check(s, SCHED_KIND_AWAY_LOW, 0, "0", 1);
    check(s, SCHED_KIND_NAME, 0, "0", 1);
    check(s, SCHED_KIND_COUNT, 0, "0", 1);
    check(s, SCHED_KIND_LOW, 0, "0", 1);
    store_close(s);
}

static void a_family_without_rows_ends_at_once(void **state)
{
    (void)state;
    struct store *s = store_mem_new();
    check(s, SCHED_KIND_BATCH, 0, "", 0);
    check(s, SCHED_KIND_RETRY, 0, "", 0);
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_of_the_kind_is_met_in_order_of_time),
        cmocka_unit_test(a_family_without_rows_ends_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

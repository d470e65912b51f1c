/* Where values lie, and that the room of what was removed is given back. */
#include "store_rocks_kit.h"

static void trim(uint32_t from, uint32_t to)
{
    struct key begin = key_log_prefix(from), end = key_log_prefix(to);
    struct puts l;
    puts_init(&l);
    puts_remove_range(&l, FAM_LOG_DAYS, key_view(&begin), key_view(&end));
    assert_ok(store_write(store, &l, &err));
    puts_free(&l);
    assert_ok(store_reclaim(store, FAM_LOG_DAYS, &err));
}

static void log_values_lie_in_blob_files_and_rows_do_not(void **state)
{
    (void)state;
    char name[256];
    assert_ok(kit_put(store, FAM_META, "a", large('a'), &err));
    assert_ok(store_reclaim(store, FAM_META, &err));
    assert_false(kit_find(dir, "", ".blob", name));
    put_log(1, 'a');
    assert_ok(store_reclaim(store, FAM_LOG_DAYS, &err));
    assert_true(kit_find(dir, "", ".blob", name));
    place_of(kit_path(dir, name), large('a'));
}

/* ---------------------------------------------------------------- space */

static uint64_t live_bytes(void)
{
    struct store_stats s;
    store_stats(store, &s);
    return s.live_bytes - s.wal_bytes;
}

/* Lists of one value for each of many partitions, so that every blob file holds some of each. */
static void fill_partitions(uint32_t partitions)
{
    static char value[16000];
    memset(value, 'v', sizeof value);
    struct puts l;
    puts_init(&l);
    for (uint64_t offset = 0; offset < 30; offset++) {
        puts_clear(&l);
        for (uint32_t p = 0; p < partitions; p++) {
            struct key k = key_log(p, offset);
            puts_row(&l, FAM_LOG_DAYS, key_view(&k), view_of(value, sizeof value));
        }
        while (store_write(store, &l, NULL) == E_OVERLOADED)
            usleep(1000);
    }
    puts_free(&l);
    assert_ok(store_reclaim(store, FAM_LOG_DAYS, &err));
}

static void what_a_range_removal_removed_is_given_back(void **state)
{
    (void)state;
    fill_partitions(20);
    uint64_t before = live_bytes();
    assert_in_range(before, 20 * 30 * 16000, 20 * 30 * 16000 * 3 / 2);
    trim(0, 20);
    assert_in_range(live_bytes(), 0, 100000);
}

static void one_partition_that_stays_does_not_keep_the_others(void **state)
{
    (void)state;
    fill_partitions(20);
    trim(0, 19);
    assert_in_range(live_bytes(), 30 * 16000, 30 * 16000 * 5 / 2);
    struct key k = key_log(19, 29);
    struct buf out = {0};
    bool found;
    assert_ok(store_get(store, FAM_LOG_DAYS, key_view(&k), &out, &found, &err));
    assert_true(found);
    assert_int_equal(out.size, 16000);
    buf_free(&out);
    char *file = options_file(); /* and collecting is over */
    assert_option(file, "[CFOptions \"log.days\"]", "enable_blob_garbage_collection", "false");
    free(file);
}

/* RocksDB notes each step of giving room back in its manifest: the flush, what compactions made, that blobs are collected, and no more. The
 * n-th such write fails, for every n. */
static void a_reclaim_that_fails_anywhere_is_told_with_the_file_and_loses_nothing(void **state)
{
    (void)state;
    int failures = 0;
    struct err e;
    for (long n = 1;; n++) {
        fill_partitions(8);
        struct key begin = key_log_prefix(0), end = key_log_prefix(7);
        struct puts l;
        puts_init(&l);
        puts_remove_range(&l, FAM_LOG_DAYS, key_view(&begin), key_view(&end));
        assert_ok(store_write(store, &l, &err));
        puts_free(&l);
        disk_fails("/MANIFEST-", EIO, n);
        err_clear(&e);
        store_reclaim(store, FAM_LOG_DAYS, &e);
        bool met = disk.writes >= n;
        disk_mended();
        if (!met) {
            assert_code(E_OK, e);
            break;
        }
        failures += e.code != E_OK;
        if (e.code == E_OK) /* what a compaction could not note is told to who writes next */
            kit_put(store, FAM_META, "a", "1", &e);
        assert_code(E_STORE_FAILED, e);
        assert_has(e.text, dir);
        assert_has(e.text, "MANIFEST-");
        shut();
        assert_ok(open_store(&err));
        struct key k = key_log(7, 29);
        struct buf out = {0};
        bool found;
        assert_ok(store_get(store, FAM_LOG_DAYS, key_view(&k), &out, &found, &err));
        assert_true(found);
        assert_int_equal(out.size, 16000);
        k = key_log(6, 29);
        assert_ok(store_get(store, FAM_LOG_DAYS, key_view(&k), &out, &found, &err));
        assert_false(found);
        buf_free(&out);
    }
    assert_in_range(failures, 2, 100);
}

/* What waits and goes, again and again, beside some that stay: the space of what went is given back without being asked for. */
static void batches_that_waited_do_not_stay_on_the_disk(void **state)
{
    (void)state;
    enum { WAITING = 500, EVER = 8000, STAYS = 8, SIZE = 16000 };
    static char value[SIZE];
    memset(value, 'v', sizeof value);
    struct puts l;
    puts_init(&l);
    uint64_t most = 0;
    for (uint64_t i = 1; i <= EVER; i += 20) {
        puts_clear(&l);
        for (uint64_t due = i; due < i + 20; due++) {
            uint64_t before = due - WAITING;
            struct key k = key_sched_batch(due, 1, (struct id128){.lo = due}), gone = key_sched_batch(before, 1, (struct id128){.lo = before});
            puts_row(&l, FAM_SCHED, key_view(&k), view_of(value, sizeof value));
            if (due > WAITING && before % STAYS != 0)
                puts_remove(&l, FAM_SCHED, key_view(&gone));
        }
        while (store_write(store, &l, NULL) == E_OVERLOADED)
            usleep(1000);
        most = live_bytes() > most ? live_bytes() : most;
    }
    puts_free(&l);
    int waiting_mb = (WAITING + EVER / STAYS) * SIZE / 1000000, ever_mb = EVER * SIZE / 1000000, most_mb = (int)(most / 1000000);
    printf("%d MB were put, at most %d MB of them waited, in %d MB on the disk\n", ever_mb, waiting_mb, most_mb);
    assert_in_range(most_mb, waiting_mb / 2, 3 * waiting_mb);
}

static void a_family_that_is_hardly_written_does_not_keep_every_log(void **state)
{
    (void)state;
    shut();
    struct store_rocks_options o = {
        .path = dir, .memory_bytes = 16 << 20, .wal_bytes_max = 4 << 20, .reserve_file_bytes = UINT64_MAX};
    assert_ok(store_rocks_open(&store, &o, &err));
    assert_ok(kit_put(store, FAM_HELD, "once", "1", &err));
    fill_partitions(40); /* 19 MB */
    struct store_stats s;
    for (int i = 0; i < 100; i++) {
        store_stats(store, &s);
        if (s.wal_bytes <= 8 << 20)
            break;
        usleep(50 * 1000);
    }
    assert_in_range(s.wal_bytes, 0, 8 << 20);
    kit_is(store, FAM_HELD, "once", "1");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **args)
{
    if (argc == 2)
        cmocka_set_test_filter(args[1]);
    const struct CMUnitTest tests[] = {
        TEST(log_values_lie_in_blob_files_and_rows_do_not),
        TEST(what_a_range_removal_removed_is_given_back),
        TEST(one_partition_that_stays_does_not_keep_the_others),
        TEST(a_reclaim_that_fails_anywhere_is_told_with_the_file_and_loses_nothing),
        TEST(batches_that_waited_do_not_stay_on_the_disk),
        TEST(a_family_that_is_hardly_written_does_not_keep_every_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

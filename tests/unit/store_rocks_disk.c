/* Writes and syncs on a disk that fails or is full, and the room that is kept for that day. */
#include "store_rocks_kit.h"

/* ---------------------------------------------------------------- writing, syncing, and a disk that does not */

static void a_sync_is_a_data_sync_of_the_log_and_a_write_is_not(void **state)
{
    (void)state;
    disk_fails(".log", 0, 0);
    for (int i = 0; i < 5; i++)
        assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    assert_int_equal(disk.syncs, 0);
    assert_true(disk.writes >= 5);
    for (int i = 1; i <= 3; i++) {
        assert_ok(kit_put(store, FAM_META, "a", "1", &err));
        assert_ok(store_sync(store, &err));
        assert_int_equal(disk.syncs, i);
    }
}

static void a_sync_that_fails_fails_the_store_for_good_and_names_the_log(void **state)
{
    (void)state;
    static const int errors[] = {EIO, ENOSPC}; /* also ENOSPC: what the kernel dropped will not come back */
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        struct err e = {0};
        char wal[256];
        assert_ok(kit_put(store, FAM_META, "a", "1", &err));
        disk_fails(".log", errors[i], 1);
        disk.writes = -1000; /* writes go on */
        store_sync(store, &e);
        assert_code(E_STORE_FAILED, e);
        assert_true(kit_find(dir, "", ".log", wal));
        assert_has(e.text, wal);
        disk_fails(NULL, 0, 0);
        err_clear(&e);
        store_sync(store, &e);
        assert_code(E_STORE_FAILED, e);
        assert_has(e.text, wal);
        kit_put(store, FAM_META, "b", "1", &e);
        assert_code(E_STORE_FAILED, e);
        assert_has(e.text, wal);
        shut();
        assert_ok(open_store(&err));
        assert_ok(kit_put(store, FAM_META, "b", "1", &err));
    }
}

/* Then the lists say less of it than they could, and no more. */
static void a_sync_goes_on_where_the_manifest_cannot_be_looked_at(void **state)
{
    (void)state;
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    for (int i = 0; i < 2; i++) {
        disk_call_fails(DISK_STAT, "/MANIFEST-", EIO, 0);
        assert_ok(store_sync(store, &err));
        assert_true(disk_mended() > 0);
        assert_ok(kit_put(store, FAM_META, "b", "2", &err));
    }
    assert_ok(store_sync(store, &err));
    assert_ok(kit_put(store, FAM_META, "c", "3", &err));
    shut();
    assert_ok(open_store(&err));
    kit_sees(store, FAM_META, "", "a=1 b=2 c=3");
}

static void a_write_error_fails_the_store_for_good_and_names_the_log(void **state)
{
    (void)state;
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    disk_fails(".log", EIO, 1);
    struct err e = {0};
    kit_put(store, FAM_META, "b", "1", &e);
    assert_code(E_STORE_FAILED, e);
    assert_has(e.text, ".log");
    disk_fails(NULL, 0, 0);
    kit_put(store, FAM_META, "b", "1", &e);
    assert_code(E_STORE_FAILED, e);
    assert_int_equal(store_sync(store, NULL), E_STORE_FAILED);
    kit_is(store, FAM_META, "a", "1");
    kit_is(store, FAM_META, "b", NULL);
    shut();
    assert_ok(open_store(&err));
    kit_is(store, FAM_META, "a", "1");
    kit_is(store, FAM_META, "b", NULL);
}

static void a_full_disk_refuses_lists_and_takes_the_same_ones_when_there_is_room(void **state)
{
    (void)state;
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    disk_fails(dir, ENOSPC, 1); /* every file */
    for (int i = 0; i < 3; i++) {
        struct err e = {0};
        kit_put(store, FAM_META, "b", "2", &e);
        assert_code(E_DISK_FULL, e);
        kit_is(store, FAM_META, "a", "1"); /* reads go on */
        kit_is(store, FAM_META, "b", NULL);
    }
    disk_fails(NULL, 0, 0);
    int code;
    struct err e = {0};
    for (int tries = 0; (code = kit_put(store, FAM_META, "b", "2", &e)) == E_DISK_FULL && tries < 300;
         tries++)
        usleep(50 * 1000);
    assert_int_equal(code, E_OK);
    assert_ok(store_sync(store, &err));
    shut();
    assert_ok(open_store(&err));
    kit_sees(store, FAM_META, "", "a=1 b=2");
}

/* Debian's RocksDB aborts at the second line of LOG that finds a full disk. */
static void rocksdb_writes_no_log_of_its_own_once_it_is_open(void **state)
{
    (void)state;
    disk_fails(".log", ENOSPC, 1);
    assert_int_equal(kit_put(store, FAM_META, "b", "2", NULL), E_DISK_FULL);
    disk_fails(NULL, 0, 0);
    shut();
    size_t size;
    char *log = kit_read(kit_path(dir, "LOG"), &size);
    assert_null(strstr(log, "[WARN]"));
    assert_null(strstr(log, "[ERROR]"));
    free(log);
}

static void what_was_refused_on_a_full_disk_is_not_there_after_a_crash(void **state)
{
    (void)state;
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    assert_ok(store_sync(store, &err));
    disk_fails(".log", ENOSPC, 1);
    assert_int_equal(kit_put(store, FAM_META, "b", "2", NULL), E_DISK_FULL);
    shut();
    disk_fails(NULL, 0, 0);
    assert_ok(open_store(&err));
    kit_sees(store, FAM_META, "", "a=1");
}

/* ---------------------------------------------------------------- the reserve */

static uint64_t reserve_size(void)
{
    struct stat st;
    return stat(kit_path(dir, "reserve"), &st) == 0 ? (uint64_t)st.st_size : 0;
}

static int open_with_reserve(uint64_t bytes, struct err *e)
{
    struct store_rocks_options o = {.path = dir, .memory_bytes = 16 << 20, .reserve_file_bytes = bytes};
    return store_rocks_open(&store, &o, e);
}

enum { RESERVE = 1 << 20 };

static void the_reserve_is_laid_out_where_four_times_its_size_is_free(void **state)
{
    (void)state;
    shut();
    assert_int_equal(reserve_size(), 0);
    disk.free = 3 * RESERVE + 8 * RESERVE;
    assert_ok(open_with_reserve(4 * RESERVE, &err));
    assert_int_equal(reserve_size(), 0);
    shut();
    disk.free = 0;
    assert_ok(open_with_reserve(RESERVE, &err));
    assert_int_equal(reserve_size(), RESERVE);
    struct store_stats s;
    disk.free = 5 << 20;
    store_stats(store, &s);
    assert_int_equal(s.disk_free, 5 << 20);
    disk.free = 0;
}

static void a_reserve_that_cannot_be_laid_out_is_none_and_the_store_opens(void **state)
{
    (void)state;
    static const enum disk_call calls[] = {DISK_OPEN, DISK_LAY_OUT};
    shut();
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        disk_call_fails(calls[i], "/reserve", ENOSPC, 0);
        assert_ok(open_with_reserve(RESERVE, &err));
        assert_int_equal(disk_mended(), 1);
        assert_int_equal(access(kit_path(dir, "reserve"), F_OK), -1); /* nor a part of one */
        shut();
    }
    for (int i = 0; i < 2; i++) { /* one that is there stays */
        assert_ok(open_with_reserve(RESERVE, &err));
        assert_int_equal(reserve_size(), RESERVE);
        shut();
    }
}

static void a_disk_too_full_to_open_costs_the_reserve_and_room_brings_it_back(void **state)
{
    (void)state;
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    shut();
    for (int how = 0; how < 2; how++) {
        assert_ok(open_with_reserve(RESERVE, &err));
        assert_int_equal(reserve_size(), RESERVE);
        shut();
        if (how == 0)
            disk.free = 1 << 20;
        else
            disk_fails("/MANIFEST-", ENOSPC, 1);
        open_with_reserve(RESERVE, &err);
        disk_fails(NULL, 0, 0);
        disk.free = 0;
        assert_code(E_DISK_FULL, err);
        assert_has(err.text, dir);
        assert_int_equal(reserve_size(), 0);
    }
    assert_ok(open_with_reserve(RESERVE, &err));
    assert_int_equal(reserve_size(), RESERVE);
    kit_is(store, FAM_META, "a", "1");
}

static void with_the_reserve_given_up_a_full_disk_opens(void **state)
{
    (void)state;
    shut();
    assert_ok(open_with_reserve(RESERVE, &err));
    shut();
    disk_fails("/MANIFEST-", ENOSPC, 1);
    disk.ends_without = kit_path(dir, "reserve");
    assert_ok(open_with_reserve(UINT64_MAX, &err));
    assert_int_equal(reserve_size(), 0);
    disk.ends_without = NULL;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **args)
{
    if (argc == 2)
        cmocka_set_test_filter(args[1]);
    const struct CMUnitTest tests[] = {
        TEST(a_sync_is_a_data_sync_of_the_log_and_a_write_is_not),
        TEST(a_sync_that_fails_fails_the_store_for_good_and_names_the_log),
        TEST(a_sync_goes_on_where_the_manifest_cannot_be_looked_at),
        TEST(a_write_error_fails_the_store_for_good_and_names_the_log),
        TEST(a_full_disk_refuses_lists_and_takes_the_same_ones_when_there_is_room),
        TEST(rocksdb_writes_no_log_of_its_own_once_it_is_open),
        TEST(what_was_refused_on_a_full_disk_is_not_there_after_a_crash),
        TEST(the_reserve_is_laid_out_where_four_times_its_size_is_free),
        TEST(a_reserve_that_cannot_be_laid_out_is_none_and_the_store_opens),
        TEST(a_disk_too_full_to_open_costs_the_reserve_and_room_brings_it_back),
        TEST(with_the_reserve_given_up_a_full_disk_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

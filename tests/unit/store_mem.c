#include "store_kit.h"

#include "base/rng.h"
#include "store/store_mem.h"

static struct store *store;

static int setup(void **state)
{
    (void)state;
    store = store_mem_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_close(store);
    return 0;
}

static int write_one(const char *key, const char *value)
{
    return kit_put(store, FAM_META, key, value, NULL);
}

static void faults(struct store_mem_faults f)
{
    store_mem_faults(store, &f);
}

/* ---------------------------------------------------------------- power cuts */

static void a_crash_keeps_what_was_synced_and_loses_the_rest(void **state)
{
    (void)state;
    write_one("a", "1");
    assert_ok(store_sync(store, &err));
    write_one("b", "2");
    write_one("a", "3");
    assert_int_equal(store_mem_unsynced(store), 2);
    store_mem_crash(store, 0);
    kit_sees(store, FAM_META, "", "a=1");
    assert_int_equal(store_mem_unsynced(store), 0);
}

static void a_crash_may_keep_any_number_of_the_lists_that_were_not_synced(void **state)
{
    (void)state;
    static const char *const expected[] = {"a=0", "a=1", "a=1 b=2", "b=2", "b=2"};
    for (uint64_t keep = 0; keep < ARRAY_LEN(expected); keep++) {
        store_close(store);
        store = store_mem_new();
        write_one("a", "0");
        assert_ok(store_sync(store, &err));
        write_one("a", "1");
        write_one("b", "2");
        struct puts l;
        puts_init(&l);
        puts_remove_range(&l, FAM_META, kit_str("a"), kit_str("b"));
        assert_ok(store_write(store, &l, &err));
        puts_free(&l);
        store_mem_crash(store, keep);
        kit_sees(store, FAM_META, "", expected[keep]);
        store_mem_crash(store, 0); /* what survived one crash is on disk */
        kit_sees(store, FAM_META, "", expected[keep]);
    }
}

static void after_a_crash_the_store_goes_on(void **state)
{
    (void)state;
    write_one("a", "1");
    store_mem_crash(store, 1);
    write_one("b", "2");
    assert_ok(store_sync(store, &err));
    store_mem_crash(store, 0);
    kit_sees(store, FAM_META, "", "a=1 b=2");
}

static void a_store_that_is_never_synced_does_not_keep_every_list(void **state)
{
    (void)state;
    for (int i = 0; i < 5000; i++)
        write_one("same", i % 2 == 0 ? "even" : "odd");
    assert_in_range(store_mem_unsynced(store), 1, 1024);
    kit_sees(store, FAM_META, "", "same=odd");
}

/* ---------------------------------------------------------------- faults */

static void the_nth_write_fails_with_its_code_and_changes_nothing(void **state)
{
    (void)state;
    static const int codes[] = {E_DISK_FULL, E_OVERLOADED};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        faults((struct store_mem_faults){.fail_write_at = 2, .write_code = codes[i], .fail_writes = 2});
        assert_int_equal(write_one("a", "1"), E_OK);
        assert_int_equal(write_one("a", "2"), codes[i]);
        assert_int_equal(write_one("a", "2"), codes[i]);
        kit_is(store, FAM_META, "a", "1");
        assert_int_equal(write_one("a", "2"), E_OK); /* the same list, tried again */
        kit_is(store, FAM_META, "a", "2");
    }
}

static void one_write_fails_where_no_number_is_said(void **state)
{
    (void)state;
    faults((struct store_mem_faults){.fail_write_at = 1, .write_code = E_DISK_FULL});
    assert_int_equal(write_one("a", "1"), E_DISK_FULL);
    assert_int_equal(write_one("a", "1"), E_OK);
}

static void a_failed_store_stays_failed_until_it_is_opened_again(void **state)
{
    (void)state;
    write_one("a", "1");
    assert_ok(store_sync(store, &err));
    faults((struct store_mem_faults){.fail_write_at = 1, .write_code = E_STORE_FAILED});
    assert_int_equal(write_one("b", "1"), E_STORE_FAILED);
    assert_int_equal(write_one("b", "1"), E_STORE_FAILED);
    assert_int_equal(store_sync(store, NULL), E_STORE_FAILED);
    kit_is(store, FAM_META, "a", "1"); /* reads go on */
    store_mem_crash(store, 0);
    assert_int_equal(write_one("b", "1"), E_OK);
    assert_ok(store_sync(store, &err));
}

static void a_failed_sync_keeps_nothing_and_fails_the_store(void **state)
{
    (void)state;
    write_one("a", "1");
    faults((struct store_mem_faults){.fail_sync_at = 2});
    assert_ok(store_sync(store, &err));
    write_one("b", "2");
    struct err e = {0};
    store_sync(store, &e);
    assert_code(E_STORE_FAILED, e);
    assert_int_equal(write_one("c", "3"), E_STORE_FAILED);
    assert_int_equal(store_mem_unsynced(store), 1);
    store_mem_crash(store, 0);
    kit_sees(store, FAM_META, "", "a=1");
}

static void the_nth_get_answers_damaged(void **state)
{
    (void)state;
    write_one("a", "1");
    faults((struct store_mem_faults){.fail_get_at = 2});
    kit_is(store, FAM_META, "a", "1");
    struct buf out = {0};
    bool found = true;
    struct err e = {0};
    store_get(store, FAM_META, kit_str("a"), &out, &found, &e);
    assert_code(E_DAMAGED, e);
    assert_false(found);
    kit_is(store, FAM_META, "a", "1");
    buf_free(&out);
}

static void the_free_space_is_what_a_test_says(void **state)
{
    (void)state;
    struct store_stats s;
    faults((struct store_mem_faults){.disk_free = 12345});
    store_stats(store, &s);
    assert_int_equal(s.disk_free, 12345);
}

/* ---------------------------------------------------------------- damage */

static void a_damaged_row_is_refused_by_name_and_its_neighbours_are_not(void **state)
{
    (void)state;
    write_one("a", "1");
    write_one("b", "2");
    write_one("c", "3");
    assert_false(store_mem_damage(store, FAM_META, kit_str("x")));
    assert_true(store_mem_damage(store, FAM_META, kit_str("b")));

    struct buf out = {0};
    bool found;
    struct err e = {0};
    store_get(store, FAM_META, kit_str("b"), &out, &found, &e);
    assert_code(E_DAMAGED, e);
    assert_string_equal(e.text, "memory:meta: row 62 is damaged");
    assert_int_equal(out.size, 0);
    kit_is(store, FAM_META, "a", "1");
    kit_is(store, FAM_META, "c", "3");

    struct store_iter *it = store_iter(store, FAM_META);
    store_iter_seek(it, kit_str("a"));
    assert_true(store_iter_valid(it));
    store_iter_next(it);
    assert_false(store_iter_valid(it));
    err_clear(&e);
    store_iter_status(it, &e);
    assert_code(E_DAMAGED, e);
    store_iter_seek(it, kit_str("c")); /* behind it */
    assert_true(store_iter_valid(it));
    assert_int_equal(store_iter_status(it, NULL), E_OK);
    store_iter_close(it);
    buf_free(&out);
}

static void damage_outlives_a_crash_and_ends_with_a_new_row(void **state)
{
    (void)state;
    write_one("a", "1");
    assert_ok(store_sync(store, &err));
    write_one("b", "2");
    assert_true(store_mem_damage(store, FAM_META, kit_str("a")));
    store_mem_crash(store, 0);
    struct buf out = {0};
    bool found;
    assert_int_equal(store_get(store, FAM_META, kit_str("a"), &out, &found, NULL), E_DAMAGED);
    write_one("a", "3");
    kit_is(store, FAM_META, "a", "3");
    buf_free(&out);
}

/* ---------------------------------------------------------------- the digest */

static void the_digest_follows_from_the_rows_and_not_from_their_history(void **state)
{
    (void)state;
    uint64_t empty = store_mem_digest(store);
    write_one("a", "1");
    uint64_t one = store_mem_digest(store);
    assert_true(one != empty);
    for (int i = 0; i < 500; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        write_one(key, key);
    }
    assert_true(store_mem_digest(store) != one);
    struct puts l;
    puts_init(&l);
    puts_remove_range(&l, FAM_META, kit_str("k"), kit_str("l"));
    assert_ok(store_write(store, &l, &err));
    assert_true(store_mem_digest(store) == one);
    puts_clear(&l);
    puts_remove(&l, FAM_META, kit_str("a"));
    puts_row(&l, FAM_HELD, kit_str("a"), kit_str("1")); /* the same row in another family is another store */
    assert_ok(store_write(store, &l, &err));
    assert_true(store_mem_digest(store) != one);
    puts_free(&l);
}

static uint64_t digest_of_a_history(uint64_t seed)
{
    struct store *s = store_mem_new();
    struct rng r;
    rng_seed(&r, seed);
    for (int i = 0; i < 300; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", (int)rng_below(&r, 50));
        kit_put(s, (enum store_family)rng_below(&r, FAM_COUNT), key, key, NULL);
        if (rng_chance(&r, 1, 20))
            store_sync(s, NULL);
        if (rng_chance(&r, 1, 40))
            store_mem_crash(s, rng_below(&r, 10));
    }
    uint64_t digest = store_mem_digest(s);
    store_close(s);
    return digest;
}

static void the_same_calls_give_the_same_store(void **state)
{
    (void)state;
    assert_true(digest_of_a_history(1) == digest_of_a_history(1));
    assert_true(digest_of_a_history(1) != digest_of_a_history(2));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void without_files_there_is_no_checkpoint(void **state)
{
    (void)state;
    struct store_checkpoint c;
    struct err e = {0};
    assert_int_equal(store_checkpoint(store, "/tmp/none", &c, &e), E_UNSUPPORTED);
    assert_has(e.text, "no files");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_crash_keeps_what_was_synced_and_loses_the_rest),
        TEST(a_crash_may_keep_any_number_of_the_lists_that_were_not_synced),
        TEST(after_a_crash_the_store_goes_on),
        TEST(a_store_that_is_never_synced_does_not_keep_every_list),
        TEST(the_nth_write_fails_with_its_code_and_changes_nothing),
        TEST(one_write_fails_where_no_number_is_said),
        TEST(a_failed_store_stays_failed_until_it_is_opened_again),
        TEST(a_failed_sync_keeps_nothing_and_fails_the_store),
        TEST(the_nth_get_answers_damaged),
        TEST(the_free_space_is_what_a_test_says),
        TEST(a_damaged_row_is_refused_by_name_and_its_neighbours_are_not),
        TEST(damage_outlives_a_crash_and_ends_with_a_new_row),
        TEST(the_digest_follows_from_the_rows_and_not_from_their_history),
        TEST(without_files_there_is_no_checkpoint),
        TEST(the_same_calls_give_the_same_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What store.h promises, asked of each store that there is. */
#include "store_kit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/rng.h"
#include "store/store_mem.h"
#include "store/store_rocks.h"

static bool on_rocks;
static char *dir;
static struct store *store;

static void open_rocks(void)
{
    struct store_rocks_options o = {.path = dir, .memory_bytes = 16 << 20, .reserve_file_bytes = UINT64_MAX};
    assert_ok(store_rocks_open(&store, &o, &err));
}

/* As after the end of the process, or of the machine: what was synced is there. */
static void reopen(void)
{
    if (on_rocks) {
        store_close(store);
        open_rocks();
    } else {
        store_mem_crash(store, 0);
    }
}

static int setup(void **state)
{
    (void)state;
    if (on_rocks) {
        dir = kit_dir();
        open_rocks();
    } else {
        store = store_mem_new();
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_close(store);
    if (on_rocks)
        kit_remove(dir);
    return 0;
}

/* A store that is busy refuses, and takes the same list later. */
static void write_list(const struct puts *l)
{
    struct err e = {0};
    while (store_write(store, l, &e) == E_OVERLOADED)
        usleep(1000);
    if (e.code != E_OK && e.code != E_OVERLOADED)
        fail_msg("write: %s: %s", error_name(e.code), e.text);
}

static void put(const char *key, const char *value)
{
    struct puts l;
    puts_init(&l);
    puts_row(&l, FAM_META, kit_str(key), kit_str(value));
    write_list(&l);
    puts_free(&l);
}

static void a_row_that_was_written_is_read_and_one_that_was_not_is_not(void **state)
{
    (void)state;
    kit_is(store, FAM_META, "a", NULL);
    put("a", "1");
    kit_is(store, FAM_META, "a", "1");
    kit_is(store, FAM_META, "", NULL);
    kit_is(store, FAM_META, "aa", NULL);
    kit_is(store, FAM_HELD, "a", NULL);
    put("a", "22");
    kit_is(store, FAM_META, "a", "22");
    put("", "the empty key");
    kit_is(store, FAM_META, "", "the empty key");
    put("e", "");
    kit_is(store, FAM_META, "e", "");
}

static void families_are_apart(void **state)
{
    (void)state;
    struct puts l;
    puts_init(&l);
    for (enum store_family f = 0; f < FAM_COUNT; f++)
        puts_row(&l, f, kit_str("same"), kit_str(store_family_name(f)));
    write_list(&l);
    puts_clear(&l);
    puts_remove(&l, FAM_HELD, kit_str("same"));
    write_list(&l);
    for (enum store_family f = 0; f < FAM_COUNT; f++)
        kit_is(store, f, "same", f == FAM_HELD ? NULL : store_family_name(f));
    puts_free(&l);
}

static void a_list_applies_whole_and_in_order(void **state)
{
    (void)state;
    put("a", "old");
    put("b", "old");
    struct puts l;
    puts_init(&l);
    puts_row(&l, FAM_META, kit_str("b"), kit_str("1"));
    puts_remove(&l, FAM_META, kit_str("a"));
    puts_row(&l, FAM_LOG_DAYS, kit_str("c"), kit_str("2"));
    puts_row(&l, FAM_META, kit_str("b"), kit_str("3"));
    puts_remove(&l, FAM_META, kit_str("never there"));
    write_list(&l);
    kit_is(store, FAM_META, "a", NULL);
    kit_is(store, FAM_META, "b", "3");
    kit_is(store, FAM_LOG_DAYS, "c", "2");
    puts_clear(&l);
    write_list(&l); /* nothing is a list too */
    puts_free(&l);
}

static void a_list_written_twice_is_a_list_written_once(void **state)
{
    (void)state;
    put("b", "old");
    struct puts l;
    puts_init(&l);
    puts_row(&l, FAM_META, kit_str("a"), kit_str("1"));
    puts_remove_range(&l, FAM_META, kit_str("b"), kit_str("c"));
    puts_row(&l, FAM_META, kit_str("bb"), kit_str("2"));
    write_list(&l);
    write_list(&l);
    kit_sees(store, FAM_META, "", "a=1 bb=2");
    puts_free(&l);
}

static void a_range_goes_from_its_begin_up_to_its_end_without_it(void **state)
{
    (void)state;
    static const char *const keys[] = {"a", "b", "b0", "c", "c0", "d"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        put(keys[i], "1");
    struct puts l;
    puts_init(&l);
    puts_remove_range(&l, FAM_META, kit_str("b"), kit_str("c0"));
    write_list(&l);
    kit_sees(store, FAM_META, "", "a=1 c0=1 d=1");
    puts_clear(&l);
    puts_remove_range(&l, FAM_META, kit_str("x"), kit_str("z")); /* nothing there */
    puts_remove_range(&l, FAM_META, kit_str(""), kit_str("b"));
    write_list(&l);
    kit_sees(store, FAM_META, "", "c0=1 d=1");
    puts_free(&l);
}

static void a_range_spares_the_puts_behind_it_and_takes_those_before(void **state)
{
    (void)state;
    put("m", "old");
    put("n", "old");
    struct puts l;
    puts_init(&l);
    puts_row(&l, FAM_META, kit_str("m1"), kit_str("before"));
    puts_row(&l, FAM_META, kit_str("n"), kit_str("before"));
    puts_remove_range(&l, FAM_META, kit_str("m"), kit_str("o"));
    puts_row(&l, FAM_META, kit_str("n"), kit_str("after"));
    puts_row(&l, FAM_META, kit_str("n1"), kit_str("after"));
    write_list(&l);
    kit_sees(store, FAM_META, "", "n=after n1=after");
    puts_free(&l);
}

static void a_value_in_pieces_is_one_value(void **state)
{
    (void)state;
    enum { PIECES = 200 };
    struct view pieces[PIECES];
    char text[PIECES][16], whole[PIECES * 16] = "";
    for (int i = 0; i < PIECES; i++) {
        snprintf(text[i], sizeof text[i], "%d,", i * 7);
        pieces[i] = view_of_str(i % 5 == 0 ? "" : text[i]);
        strcat(whole, i % 5 == 0 ? "" : text[i]);
    }
    struct puts l;
    puts_init(&l);
    puts_pieces(&l, FAM_LOG_DAYS, kit_str("many"), pieces, PIECES);
    puts_pieces(&l, FAM_LOG_DAYS, kit_str("none"), pieces, 0);
    puts_pieces(&l, FAM_LOG_DAYS, kit_str("three"), pieces + 1, 3);
    write_list(&l);
    kit_is(store, FAM_LOG_DAYS, "many", whole);
    kit_is(store, FAM_LOG_DAYS, "none", "");
    kit_is(store, FAM_LOG_DAYS, "three", "7,14,21,");
    puts_free(&l);
}

static void a_walk_sees_rows_in_the_order_of_their_keys(void **state)
{
    (void)state;
    put("b", "2");
    put("a", "1");
    put("ab", "3");
    put("\xff", "5");
    put("", "0");
    kit_sees(store, FAM_META, "", "=0 a=1 ab=3 b=2 \xff=5");
    kit_sees(store, FAM_META, "aa", "ab=3 b=2 \xff=5");
    kit_sees(store, FAM_META, "ab", "ab=3 b=2 \xff=5");
    kit_sees(store, FAM_META, "\xff\xff", "");
    kit_sees(store, FAM_HELD, "", "");
}

static void a_walk_can_seek_again_to_either_side(void **state)
{
    (void)state;
    put("a", "1");
    put("b", "2");
    put("c", "3");
    struct store_iter *it = store_iter(store, FAM_META);
    assert_false(store_iter_valid(it));
    static const char *const order[] = {"b", "a", "c", "a"};
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        store_iter_seek(it, kit_str(order[i]));
        assert_true(store_iter_valid(it));
        assert_true(view_eq(store_iter_key(it), kit_str(order[i])));
    }
    store_iter_close(it);
}

static void a_walk_sees_the_point_in_time_at_which_it_was_made(void **state)
{
    (void)state;
    put("a", "1");
    put("b", "2");
    put("c", "3");
    struct store_iter *it = store_iter(store, FAM_META);
    struct puts l;
    puts_init(&l);
    puts_row(&l, FAM_META, kit_str("a"), kit_str("changed"));
    puts_remove(&l, FAM_META, kit_str("b"));
    puts_row(&l, FAM_META, kit_str("bb"), kit_str("new"));
    write_list(&l);
    puts_clear(&l);
    puts_remove_range(&l, FAM_META, kit_str("c"), kit_str("d"));
    write_list(&l);
    assert_ok(store_sync(store, &err));
    puts_free(&l);
    struct buf out = {0};
    kit_walk(it, "", &out);
    assert_string_equal(buf_str(&out), "a=1 b=2 c=3");
    store_iter_close(it);
    buf_free(&out);
    kit_sees(store, FAM_META, "", "a=changed bb=new");
}

static void what_was_synced_is_there_after_opening_again(void **state)
{
    (void)state;
    put("a", "1");
    put("b", "2");
    struct puts l;
    puts_init(&l);
    puts_row(&l, FAM_LOG_DAYS, kit_str("log"), kit_str("3"));
    puts_remove_range(&l, FAM_META, kit_str("b"), kit_str("c"));
    write_list(&l);
    puts_free(&l);
    assert_ok(store_sync(store, &err));
    for (int i = 0; i < 3; i++) {
        reopen();
        kit_sees(store, FAM_META, "", "a=1");
        kit_is(store, FAM_LOG_DAYS, "log", "3");
    }
}

static void large_values_come_back_from_memory_and_from_disk(void **state)
{
    (void)state;
    enum { ROWS = 24, SIZE = 700001 };
    char *value = malloc(SIZE);
    struct rng r;
    struct buf out = {0};
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < ROWS; i++) {
            char key[16];
            snprintf(key, sizeof key, "%02d", i);
            rng_seed(&r, (uint64_t)i);
            rng_fill(&r, value, SIZE);
            if (round == 0) {
                struct puts l;
                puts_init(&l);
                struct view pieces[] = {view_of(value, 64), view_of(value + 64, SIZE - 64)};
                puts_pieces(&l, FAM_LOG_WEEKS, kit_str(key), pieces, 2);
                write_list(&l);
                puts_free(&l);
            } else {
                bool found;
                assert_ok(store_get(store, FAM_LOG_WEEKS, kit_str(key), &out, &found, &err));
                assert_true(found);
                assert_int_equal(out.size, SIZE);
                assert_memory_equal(out.data, value, SIZE);
            }
        }
        assert_ok(store_sync(store, &err));
        reopen();
    }
    buf_free(&out);
    free(value);
}

static void reclaiming_changes_no_row(void **state)
{
    (void)state;
    struct puts l;
    puts_init(&l);
    char value[2000];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (int i = 0; i < 100; i++) {
        char key[16];
        snprintf(key, sizeof key, "%03d", i);
        puts_row(&l, FAM_LOG_HOURS, kit_str(key), kit_str(value));
    }
    write_list(&l);
    assert_ok(store_reclaim(store, FAM_LOG_HOURS, &err));
    puts_clear(&l);
    puts_remove_range(&l, FAM_LOG_HOURS, kit_str("001"), kit_str("099"));
    write_list(&l);
    puts_free(&l);
    assert_ok(store_reclaim(store, FAM_LOG_HOURS, &err));
    assert_ok(store_reclaim(store, FAM_META, &err));
    kit_is(store, FAM_LOG_HOURS, "000", value);
    kit_is(store, FAM_LOG_HOURS, "001", NULL);
    kit_is(store, FAM_LOG_HOURS, "098", NULL);
    kit_is(store, FAM_LOG_HOURS, "099", value);
}

static void the_numbers_say_how_much_there_is(void **state)
{
    (void)state;
    struct store_stats s;
    memset(&s, 0x5a, sizeof s);
    put("a", "some bytes");
    store_stats(store, &s);
    assert_true(s.disk_total > 0 && s.disk_free <= s.disk_total);
    assert_in_range(s.live_bytes, 11, 1 << 30);
    assert_in_range(s.memory_bytes, 11, 1 << 30);
    assert_int_equal(s.background_errors, 0);
    store_close(NULL);
    store_iter_close(NULL);
}

/* ---------------------------------------------------------------- any history, against a sorted array */

enum { MODEL_ROWS = 64 };
struct model {
    int value[MODEL_ROWS]; /* 0: not there */
};

static const char *model_key(int i)
{
    static char key[16];
    snprintf(key, sizeof key, "%03d", i);
    return key;
}

static void assert_model(const struct model *m, struct store_iter *it)
{
    struct buf expected = {0}, seen = {0};
    for (int i = 0; i < MODEL_ROWS; i++) {
        if (m->value[i] != 0)
            buf_putf(&expected, "%s%s=%d", expected.size != 0 ? " " : "", model_key(i), m->value[i]);
    }
    kit_walk(it, "", &seen);
    assert_string_equal(buf_str(&seen), buf_str(&expected));
    buf_free(&expected);
    buf_free(&seen);
}

static void any_history_of_lists_leaves_exactly_what_is_expected(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 17);
    struct model now = {0}, then = {0};
    struct store_iter *old = store_iter(store, FAM_KEYS);
    struct puts l;
    puts_init(&l);
    for (int turn = 1; turn <= 400; turn++) {
        puts_clear(&l);
        for (uint64_t n = rng_below(&r, 8); n > 0; n--) {
            int a = (int)rng_below(&r, MODEL_ROWS), b = (int)rng_between(&r, (uint64_t)a, MODEL_ROWS);
            if (rng_chance(&r, 1, 12)) {
                char end[16];
                snprintf(end, sizeof end, "%03d", b);
                puts_remove_range(&l, FAM_KEYS, kit_str(model_key(a)), kit_str(end));
                for (int i = a; i < b; i++)
                    now.value[i] = 0;
            } else if (rng_chance(&r, 1, 4)) {
                puts_remove(&l, FAM_KEYS, kit_str(model_key(a)));
                now.value[a] = 0;
            } else {
                char value[16];
                snprintf(value, sizeof value, "%d", turn);
                puts_row(&l, FAM_KEYS, kit_str(model_key(a)), kit_str(value));
                now.value[a] = turn;
            }
        }
        write_list(&l);
        if (turn % 20 == 0) {
            assert_model(&then, old);
            store_iter_close(old);
            if (turn % 40 == 0) {
                assert_ok(store_sync(store, &err));
                reopen();
            }
            old = store_iter(store, FAM_KEYS);
            then = now;
            assert_model(&now, old);
        }
    }
    store_iter_close(old);
    puts_free(&l);
}

/* ---------------------------------------------------------------- threads */

enum { TURNS = 400, READERS = 2 };
static atomic_int written, synced;
static atomic_bool stop;

/* Both rows of a turn are written in one list: nobody may see them differ. */
static void *read_pairs(void *arg)
{
    uint64_t *seen = arg;
    while (!stop) {
        struct store_iter *it = store_iter(store, FAM_GROUPS);
        uint64_t value[2] = {0};
        int n = 0;
        for (store_iter_seek(it, kit_str("")); store_iter_valid(it) && n < 2; store_iter_next(it))
            value[n++] = get_u64(store_iter_value(it).data);
        assert_int_equal(store_iter_status(it, NULL), E_OK);
        assert_int_equal(value[0], value[1]);
        store_iter_close(it);
        struct buf out = {0};
        bool found;
        assert_int_equal(store_get(store, FAM_GROUPS, kit_str("b"), &out, &found, NULL), E_OK);
        if (found && get_u64(out.data) > *seen)
            *seen = get_u64(out.data);
        buf_free(&out);
    }
    return NULL;
}

static void *sync_always(void *arg)
{
    (void)arg;
    while (!stop) {
        int turn = written;
        assert_int_equal(store_sync(store, NULL), E_OK);
        synced = turn;
    }
    return NULL;
}

static void readers_see_whole_lists_while_one_writes_and_one_syncs(void **state)
{
    (void)state;
    stop = false;
    written = synced = 0;
    uint64_t seen[READERS] = {0};
    pthread_t readers[READERS], syncer;
    for (int i = 0; i < READERS; i++)
        pthread_create(&readers[i], NULL, read_pairs, &seen[i]);
    pthread_create(&syncer, NULL, sync_always, NULL);
    struct puts l;
    puts_init(&l);
    for (int turn = 1; turn <= TURNS; turn++) {
        uint8_t value[8];
        put_u64(value, (uint64_t)turn);
        puts_clear(&l);
        puts_row(&l, FAM_GROUPS, kit_str("a"), view_of(value, 8));
        puts_row(&l, FAM_GROUPS, kit_str("b"), view_of(value, 8));
        write_list(&l);
        written = turn;
    }
    puts_free(&l);
    while (synced < TURNS)
        usleep(1000);
    stop = true;
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    pthread_join(syncer, NULL);
    reopen();
    struct buf out = {0};
    bool found;
    assert_ok(store_get(store, FAM_GROUPS, kit_str("a"), &out, &found, &err));
    assert_true(found);
    assert_int_equal(get_u64(out.data), TURNS);
    buf_free(&out);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_row_that_was_written_is_read_and_one_that_was_not_is_not),
        TEST(families_are_apart),
        TEST(a_list_applies_whole_and_in_order),
        TEST(a_list_written_twice_is_a_list_written_once),
        TEST(a_range_goes_from_its_begin_up_to_its_end_without_it),
        TEST(a_range_spares_the_puts_behind_it_and_takes_those_before),
        TEST(a_value_in_pieces_is_one_value),
        TEST(a_walk_sees_rows_in_the_order_of_their_keys),
        TEST(a_walk_can_seek_again_to_either_side),
        TEST(a_walk_sees_the_point_in_time_at_which_it_was_made),
        TEST(what_was_synced_is_there_after_opening_again),
        TEST(large_values_come_back_from_memory_and_from_disk),
        TEST(reclaiming_changes_no_row),
        TEST(the_numbers_say_how_much_there_is),
        TEST(any_history_of_lists_leaves_exactly_what_is_expected),
        TEST(readers_see_whole_lists_while_one_writes_and_one_syncs),
    };
    int failed = cmocka_run_group_tests_name("store in RAM", tests, NULL, NULL);
#ifndef __SANITIZE_THREAD__
    on_rocks = true;
    failed += cmocka_run_group_tests_name("store on RocksDB", tests, NULL, NULL);
#endif
    return failed;
}

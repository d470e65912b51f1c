/* Checkpoints: what is in one that was made while the store is written, synced and compacted; that it is a data directory like any other; and
 * what stays of one that could not be made. */
#include "store_rocks_kit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/files.h"

enum { LOG = 7 }; /* as put_log */

static char target[512];

static int begin(void **state)
{
    setup(state);
    snprintf(target, sizeof target, "%s.checkpoint", dir);
    return 0;
}

/* One thread writes lists as a broker's turns: rows of three families with one number, a large one in a log. Others sync, and flush and
 * compact as fast as they can, so that manifest and logs change while a checkpoint is made. */
static struct {
    atomic_bool stopping;
    atomic_int written, synced;
    char value[3000];
    pthread_t threads[3];
    size_t threads_n;
} work;

static void stop_working(void)
{
    atomic_store(&work.stopping, true);
    while (work.threads_n > 0)
        pthread_join(work.threads[--work.threads_n], NULL);
}

static int end(void **state)
{
    stop_working();
    disk.free = 0;
    disk_mended();
    files_remove(target, NULL);
    return teardown(state);
}

static void take(void)
{
    struct store_checkpoint c;
    assert_ok(store_checkpoint(store, target, &c, &err));
    assert_true(c.files >= 3 && c.bytes > 0); /* CURRENT, manifest, options */
}

/* What who opens is told beside errors: nothing, for a checkpoint is no crash. */
static int warnings;
static void take_line(void *user, int level, const char *text)
{
    (void)user;
    if (level >= LOG_WARN) {
        print_message("%s\n", text);
        warnings++;
    }
}

static int open_at(struct store **out, const char *path, struct err *e)
{
    struct store_rocks_options o = {.path = path, .memory_bytes = 16 << 20, .reserve_file_bytes = UINT64_MAX, .log = take_line};
    warnings = 0;
    return store_rocks_open(out, &o, e);
}

static struct store *opened(void)
{
    struct store *s;
    assert_ok(open_at(&s, target, &err));
    assert_int_equal(warnings, 0);
    return s;
}

static bool there(const char *path) { return access(path, F_OK) == 0; }

/* ---------------------------------------------------------------- what is in it */

static void what_was_written_before_is_in_it_and_nothing_that_came_after(void **state)
{
    (void)state;
    assert_ok(kit_put(store, FAM_META, "table", "1", &err));
    put_log(1, 'a');
    put_log(2, 'b');
    assert_ok(store_reclaim(store, FAM_META, &err)); /* in tables and blob files, and */
    assert_ok(store_reclaim(store, FAM_LOG_DAYS, &err));
    assert_ok(kit_put(store, FAM_META, "log", "2", &err)); /* in a log, neither flushed nor synced */
    put_log(3, 'c');
    take();
    assert_ok(kit_put(store, FAM_META, "log", "3", &err));
    assert_ok(kit_put(store, FAM_META, "after", "1", &err));
    put_log(1, 'x');
    assert_ok(store_reclaim(store, FAM_LOG_DAYS, &err));
    assert_ok(store_sync(store, &err));

    struct store *copy = opened();
    kit_sees(copy, FAM_META, "", "log=2 table=1");
    struct store *live = store;
    store = copy;
    for (int i = 1; i <= 3; i++) {
        struct key k = key_log(LOG, (uint64_t)i);
        struct buf out = {0};
        bool found;
        assert_ok(store_get(copy, FAM_LOG_DAYS, key_view(&k), &out, &found, &err));
        assert_true(found);
        assert_string_equal(buf_str(&out), large((char)('a' + i - 1)));
        buf_free(&out);
    }
    store = live;
    assert_ok(kit_put(copy, FAM_META, "log", "4", &err)); /* each goes its own way */
    assert_ok(store_reclaim(copy, FAM_META, &err));
    store_close(copy);
    kit_sees(store, FAM_META, "", "after=1 log=3 table=1");
    shut();
    assert_ok(open_store(&err));
    kit_sees(store, FAM_META, "", "after=1 log=3 table=1");
}

static void it_is_its_owners_alone_and_outlives_the_store(void **state)
{
    (void)state;
    put_log(1, 'a');
    assert_ok(store_reclaim(store, FAM_LOG_DAYS, &err));
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    take();
    struct stat st;
    assert_int_equal(stat(target, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    shut();
    assert_int_equal(files_remove(dir, &err), 0);
    struct store *copy = opened();
    kit_is(copy, FAM_META, "a", "1");
    struct key k = key_log(LOG, 1);
    struct buf out = {0};
    bool found;
    assert_ok(store_get(copy, FAM_LOG_DAYS, key_view(&k), &out, &found, &err));
    assert_string_equal(buf_str(&out), large('a'));
    buf_free(&out);
    store_close(copy);
}

static void write_number(int n)
{
    char text[16];
    struct key k = key_log(LOG, (uint64_t)n);
    struct puts l;
    snprintf(text, sizeof text, "%d", n);
    puts_init(&l);
    puts_row(&l, FAM_META, kit_str("n"), kit_str(text));
    puts_row(&l, FAM_LOG_DAYS, key_view(&k), view_of(work.value, sizeof work.value));
    puts_row(&l, FAM_SESSIONS, kit_str("n"), kit_str(text));
    struct err e = {0};
    int code;
    while ((code = store_write(store, &l, &e)) == E_OVERLOADED)
        usleep(500);
    puts_free(&l);
    if (code != E_OK)
        fail_msg("write: %s", e.text);
    atomic_store(&work.written, n);
}

static void *write_all(void *arg)
{
    (void)arg;
    for (int n = 1; !atomic_load(&work.stopping); n++) {
        write_number(n);
        usleep(200); /* all that is written is read back from each checkpoint */
    }
    return NULL;
}

static void *sync_all(void *arg)
{
    (void)arg;
    struct err e = {0};
    while (!atomic_load(&work.stopping)) {
        int n = atomic_load(&work.written);
        if (store_sync(store, &e) != E_OK)
            fail_msg("sync: %s", e.text);
        atomic_store(&work.synced, n);
    }
    return NULL;
}

static void *flush_all(void *arg)
{
    static const enum store_family families[] = {FAM_META, FAM_SESSIONS, FAM_LOG_DAYS};
    (void)arg;
    struct err e = {0};
    for (int i = 0; !atomic_load(&work.stopping); i++)
        if (store_reclaim(store, families[i % 3], &e) != E_OK)
            fail_msg("reclaim: %s", e.text);
    return NULL;
}

static int number_of(struct store *s, enum store_family f)
{
    struct buf out = {0};
    bool found;
    assert_ok(store_get(s, f, kit_str("n"), &out, &found, &err));
    int n = found ? atoi(buf_str(&out)) : 0;
    buf_free(&out);
    return n;
}

static void one_that_is_made_under_load_holds_whole_lists_up_to_one_and_all_that_was_synced(void **state)
{
    (void)state;
    enum { TIMES = 40 };
    work.stopping = false;
    work.written = work.synced = 0;
    memset(work.value, 'v', sizeof work.value);
    void *(*const parts[])(void *) = {write_all, sync_all, flush_all};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        assert_int_equal(pthread_create(&work.threads[work.threads_n++], NULL, parts[i], NULL), 0);
    for (int i = 0; i < TIMES; i++) {
        int synced = atomic_load(&work.synced), written = atomic_load(&work.written);
        take();
        struct store *copy = opened();
        int n = number_of(copy, FAM_META);
        assert_true(n >= synced && n >= written);
        assert_int_equal(number_of(copy, FAM_SESSIONS), n);
        struct store_iter *it = store_iter(copy, FAM_LOG_DAYS);
        int rows = 0;
        struct key first = key_log(LOG, 0);
        for (store_iter_seek(it, key_view(&first)); store_iter_valid(it); store_iter_next(it))
            rows++;
        assert_ok(store_iter_status(it, &err));
        store_iter_close(it);
        assert_int_equal(rows, n);
        store_close(copy);
        assert_int_equal(files_remove(target, &err), 0);
    }
    stop_working();
}

/* ---------------------------------------------------------------- damage in it */

static void damage_in_one_is_refused_by_the_files_name_as_in_any_directory(void **state)
{
    (void)state;
    put_log(1, 'a');
    assert_ok(store_reclaim(store, FAM_LOG_DAYS, &err));
    for (int i = 0; i < 20; i++)
        put_log(2 + i, 'b');
    take();
    shut();
    static const char *const kinds[][2] = {{"", ".log"}, {"MANIFEST-", ""}, {"", ".sst"}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        char name[256];
        struct stat st;
        assert_true(kit_find(target, kinds[i][0], kinds[i][1], name));
        assert_int_equal(stat(kit_path(target, name), &st), 0);
        off_t at = strcmp(kinds[i][1], ".sst") == 0 ? st.st_size - 4 : st.st_size / 2;
        kit_flip(kit_path(target, name), at);
        struct err e = {0};
        struct store *copy = NULL;
        int code = open_at(&copy, target, &e);
        if (code != E_DAMAGED)
            fail_msg("%s: %s %s", name, error_name(code), e.text);
        assert_has(e.text, name);
        kit_flip(kit_path(target, name), at);
    }
    char blob[256];
    assert_true(kit_find(target, "", ".blob", blob));
    kit_flip(kit_path(target, blob), place_of(kit_path(target, blob), large('a')) + 100);
    struct store *copy = opened();
    struct key k = key_log(LOG, 1);
    struct buf out = {0};
    bool found;
    struct err e = {0};
    assert_int_equal(store_get(copy, FAM_LOG_DAYS, key_view(&k), &out, &found, &e), E_DAMAGED);
    assert_has(e.text, blob);
    buf_free(&out);
    store_close(copy);
}

/* ---------------------------------------------------------------- where none can be made */

static void assert_none(int code, const char *path, const char *text)
{
    struct err e = {0};
    struct store_checkpoint c;
    assert_int_equal(store_checkpoint(store, path, &c, &e), code);
    assert_code(code, e);
    assert_has(e.text, text);
}

/* The store is as good as before. */
static void assert_good(void)
{
    char tmp[600];
    snprintf(tmp, sizeof tmp, "%s.tmp", target);
    assert_false(there(target));
    assert_false(there(tmp));
    assert_ok(kit_put(store, FAM_META, "b", "1", &err));
    assert_ok(store_sync(store, &err));
    take();
    assert_false(there(tmp));
    files_remove(target, NULL);
}

static void nothing_is_written_over_and_a_place_that_is_not_there_is_named(void **state)
{
    (void)state;
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    take();
    assert_none(E_EXISTS, target, target);
    struct store *copy = opened();
    kit_is(copy, FAM_META, "a", "1");
    store_close(copy);
    files_remove(target, NULL);
    assert_none(E_INTERNAL, "/proc/none/such", "/proc/none/such");
    char inside[600];
    snprintf(inside, sizeof inside, "%s/CURRENT/x", dir);
    assert_none(E_INTERNAL, inside, inside);
    assert_good();
}

static void a_full_disk_leaves_nothing_of_it_and_the_store_goes_on(void **state)
{
    (void)state;
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    disk.free = 40 << 20; /* of which there must be some beside the logs */
    struct store_stats now;
    store_stats(store, &now);
    disk.free = (32 << 20) + now.wal_bytes - 1;
    assert_none(E_DISK_FULL, target, "a checkpoint needs");
    disk.free = 0;
    assert_good();
    for (long from = 1; from <= 3; from++) { /* manifest, CURRENT, a log */
        disk_fails(".checkpoint.tmp/", ENOSPC, from);
        assert_none(E_DISK_FULL, target, "No space left");
        disk_mended();
        assert_good();
    }
    disk_fails(".checkpoint.tmp/", EIO, 1);
    assert_none(E_INTERNAL, target, ".checkpoint.tmp/");
    disk_mended();
    assert_good();
    disk_call_fails(DISK_SYNC, ".checkpoint", EIO, 1); /* RocksDB's own of the directory passes */
    assert_none(E_INTERNAL, target, target);
    assert_int_equal(disk_mended(), 1);
    assert_good();
}

static void what_one_that_was_killed_left_is_removed_by_the_next(void **state)
{
    (void)state;
    char tmp[600];
    snprintf(tmp, sizeof tmp, "%s.tmp", target);
    assert_int_equal(mkdir(tmp, 0700), 0);
    int fd = open(kit_path(tmp, "CURRENT"), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    take();
    assert_false(there(tmp));
    struct store *copy = opened();
    kit_is(copy, FAM_META, "a", "1");
    store_close(copy);
}

static void a_store_that_failed_makes_none(void **state)
{
    (void)state;
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    disk_fails(".log", EIO, 1);
    assert_int_equal(kit_put(store, FAM_META, "b", "1", NULL), E_STORE_FAILED);
    disk_mended();
    assert_none(E_STORE_FAILED, target, ".log");
    assert_false(there(target));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_written_before_is_in_it_and_nothing_that_came_after),
        TEST(it_is_its_owners_alone_and_outlives_the_store),
        TEST(one_that_is_made_under_load_holds_whole_lists_up_to_one_and_all_that_was_synced),
        TEST(damage_in_one_is_refused_by_the_files_name_as_in_any_directory),
        TEST(nothing_is_written_over_and_a_place_that_is_not_there_is_named),
        TEST(a_full_disk_leaves_nothing_of_it_and_the_store_goes_on),
        TEST(what_one_that_was_killed_left_is_removed_by_the_next),
        TEST(a_store_that_failed_makes_none),
    };
    return cmocka_run_group_tests_name("store-rocks-checkpoint", tests, NULL, NULL);
}

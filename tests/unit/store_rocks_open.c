/* Opening: who may open what, whose directory it is, and a creation that ends anywhere. */
#include "store_rocks_kit.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/syscall.h>

/* ---------------------------------------------------------------- another process
 *
 * Opens a directory on a disk that may fail, says so on its stdout, and lives until it is killed.
 */
static int other_process(char **args)
{
    dir = args[2];
    disk_fails(args[3][0] != '\0' ? "" : NULL, atoi(args[3]), atol(args[4]));
    char code = (char)open_store(NULL);
    disk.error = 0;
    if (code == E_OK && disk.from != 0 && (disk.writes >= disk.from || disk.syncs >= disk.from))
        code = E_INTERNAL; /* it met the fault and did not mind */
    if (code == E_OK && kit_put(store, FAM_META, "a", "1", NULL) != E_OK)
        code = E_INTERNAL;
    if (syscall(SYS_write, STDOUT_FILENO, &code, 1) != 1)
        return 1;
    pause();
    return 0;
}

/* Starts one. Its code of opening; E_CLOSED if it died of it. */
static pid_t start_other(int error, long from, int *code)
{
    char error_text[16] = "", from_text[16];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    if (error != 0)
        snprintf(error_text, sizeof error_text, "%d", error);
    snprintf(from_text, sizeof from_text, "%ld", from);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        if (error != 0) /* RocksDB's assertions say what the test knows */
            dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        execl("/proc/self/exe", "store-rocks", "--open", dir, error_text, from_text, (char *)NULL);
        _exit(1);
    }
    close(ends[1]);
    char said;
    *code = read(ends[0], &said, 1) == 1 ? said : E_CLOSED;
    close(ends[0]);
    return child;
}

static void kill_other(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* ---------------------------------------------------------------- who may open what */

static void a_second_open_is_refused_and_told_who_has_it(void **state)
{
    (void)state;
    struct store *first = store;
    char expected[128];
    snprintf(expected, sizeof expected, "is in use by another broker, process %ld", (long)getpid());
    assert_refused(E_STORE_LOCKED, expected);
    assert_refused(E_STORE_LOCKED, expected); /* refusing changes nothing */
    store = first;
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    assert_ok(store_sync(store, &err));
}

static void a_process_that_was_killed_does_not_keep_its_directory(void **state)
{
    (void)state;
    shut();
    int code;
    pid_t other = start_other(0, 0, &code);
    assert_int_equal(code, E_OK);
    char expected[64];
    snprintf(expected, sizeof expected, "process %ld", (long)other);
    assert_refused(E_STORE_LOCKED, expected);
    kill_other(other);
    assert_ok(open_store(&err));
    kit_is(store, FAM_META, "a", "1");
}

static void a_tool_that_holds_the_database_is_seen_too(void **state)
{
    (void)state;
    shut();
    rocksdb_options_t *o = rocksdb_options_create();
    const char *names[FAM_COUNT + 1];
    const rocksdb_options_t *options[FAM_COUNT + 1];
    rocksdb_column_family_handle_t *handles[FAM_COUNT + 1];
    for (int f = 0; f <= FAM_COUNT; f++) {
        names[f] = f < FAM_COUNT ? store_family_name((enum store_family)f) : "default";
        options[f] = o;
    }
    char *text = NULL;
    rocksdb_t *db = rocksdb_open_column_families(o, dir, FAM_COUNT + 1, names, options, handles, &text);
    assert_null(text);
    assert_refused(E_STORE_LOCKED, dir);
    for (int f = 0; f <= FAM_COUNT; f++)
        rocksdb_column_family_handle_destroy(handles[f]);
    rocksdb_close(db);
    rocksdb_options_destroy(o);
}

static void a_directory_that_is_missing_is_made_for_its_owner_only(void **state)
{
    (void)state;
    struct store *first = store;
    char *parent = dir;
    dir = strdup(kit_path(parent, "new"));
    assert_ok(open_store(&err));
    struct stat st;
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    shut();
    free(dir);
    dir = parent;
    store = first;
}

static void a_path_that_cannot_be_a_directory_is_refused_by_name(void **state)
{
    (void)state;
    struct store *first = store;
    char *whole = dir;
    dir = strdup(kit_path(whole, "CURRENT"));
    assert_refused(E_STORE_FAILED, dir);
    free(dir);
    dir = strdup(kit_path(whole, "no/such/place"));
    assert_refused(E_STORE_FAILED, dir);
    free(dir);
    dir = whole;
    store = first;
}

static void somebody_elses_directory_is_refused_and_left_alone(void **state)
{
    (void)state;
    struct store *first = store;
    char *whole = dir;
    dir = strdup(kit_path(whole, "photos"));
    assert_int_equal(mkdir(dir, 0700), 0);
    int fd = open(kit_path(dir, "holiday.jpg"), O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_refused(E_STORE_FAILED, "'holiday.jpg' is there");
    char name[256];
    assert_true(kit_find(dir, "holiday", "", name));
    assert_int_equal(unlink(kit_path(dir, "holiday.jpg")), 0);
    assert_int_equal(rmdir(dir), 0); /* nothing else is in it */
    free(dir);
    dir = whole;
    store = first;
}

static void a_family_of_a_newer_version_is_refused(void **state)
{
    (void)state;
    char *text = NULL;
    struct store_rocks *s = container_of(store, struct store_rocks, base);
    rocksdb_column_family_handle_t *h = rocksdb_create_column_family(s->db, s->options.db, "future", &text);
    assert_null(text);
    rocksdb_column_family_handle_destroy(h);
    shut();
    assert_refused(E_FORMAT_NEWER, "future");
}

static void a_missing_family_is_refused_and_not_made_anew(void **state)
{
    (void)state;
    char *text = NULL;
    struct store_rocks *s = container_of(store, struct store_rocks, base);
    rocksdb_drop_column_family(s->db, s->family[FAM_HELD], &text);
    assert_null(text);
    shut();
    assert_refused(E_DAMAGED, "held");
    assert_refused(E_DAMAGED, "held");
}

/* ---------------------------------------------------------------- what cannot be opened, read, locked or synced */

/* In a directory that is not there yet. Fails with these words, then opens as if nothing had been. */
static void assert_not_made(enum disk_call call, const char *part, int error, long passes, const char *words)
{
    struct err e = {0};
    disk_call_fails(call, part, error, passes);
    store = NULL;
    open_store(&e);
    long times = disk_mended();
    assert_code(error == ENOSPC ? E_DISK_FULL : E_STORE_FAILED, e);
    assert_has(e.text, words);
    assert_has(e.text, strerror(error));
    assert_true(times > 0);
    assert_ok(open_store(&err));
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    shut();
    assert_ok(open_store(&err));
    kit_sees(store, FAM_META, "", "a=1");
    shut();
    char *gone = strdup(dir);
    kit_remove(gone);
}

static void a_directory_that_cannot_be_made_ready_is_refused_by_what_fails(void **state)
{
    (void)state;
    struct store *first = store;
    char *whole = dir, sync_whole[300], sync[300], words[300];
    dir = strdup(kit_path(whole, "made"));
    snprintf(sync_whole, sizeof sync_whole, "cannot sync '%s'", whole);
    snprintf(sync, sizeof sync, "cannot sync '%s'", dir);
    assert_not_made(DISK_SYNC, whole, EIO, 0, sync_whole);
    assert_not_made(DISK_SYNC, dir, EIO, 0, sync);
    assert_not_made(DISK_SYNC, dir, ENOSPC, 0, sync);
    snprintf(words, sizeof words, "cannot read '%s'", dir);
    for (int passes = 0; passes < 2; passes++)
        assert_not_made(DISK_OPEN, "/made/.", ENFILE, passes, words);
    assert_not_made(DISK_LIST, "/made", EIO, 2, words);
    snprintf(words, sizeof words, "cannot open '%s/broker.pid'", dir);
    assert_not_made(DISK_OPEN, "/broker.pid", EROFS, 0, words);
    snprintf(words, sizeof words, "cannot lock '%s/broker.pid'", dir);
    assert_not_made(DISK_LOCK, "/broker.pid", ENOLCK, 0, words);
    snprintf(words, sizeof words, "cannot make '%s/creating'", dir);
    assert_not_made(DISK_OPEN, "/creating", EROFS, 0, words);
    assert_not_made(DISK_OPEN, "/creating", ENOSPC, 0, words);
    free(dir);
    dir = whole;
    store = first;
}

/* It may have been made by a process that was killed before that was on the disk. */
static void a_directory_without_anything_in_it_is_synced_into_the_one_around_it(void **state)
{
    (void)state;
    struct store *first = store;
    char *whole = dir, words[300];
    dir = strdup(kit_path(whole, "found"));
    assert_int_equal(mkdir(dir, 0700), 0);
    disk_call_fails(DISK_SYNC, whole, EIO, 0);
    snprintf(words, sizeof words, "cannot sync '%s'", whole);
    assert_refused(E_STORE_FAILED, words);
    disk_mended();
    assert_ok(open_store(&err));
    shut();
    free(dir);
    dir = whole;
    store = first;
}

static void what_stands_where_a_file_of_ours_belongs_is_named(void **state)
{
    (void)state;
    struct store *first = store;
    char *whole = dir;
    dir = strdup(kit_path(whole, "odd"));
    static const char *const ours[] = {"broker.pid", "creating"};
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        assert_int_equal(mkdir(dir, 0700), 0);
        assert_int_equal(mkdir(kit_path(dir, ours[i]), 0700), 0);
        assert_refused(E_STORE_FAILED, kit_path(dir, ours[i]));
        char name[256];
        assert_false(kit_find(dir, "CURRENT", "", name));
        char *gone = strdup(dir);
        kit_remove(gone);
    }
    free(dir);
    dir = whole;
    store = first;
}

/* The number is for people: a broker on a full disk has none. And nobody takes another's away. */
static void who_does_not_get_the_lock_leaves_the_number_in_it(void **state)
{
    (void)state;
    struct err e = {0};
    size_t size;
    shut();
    int fd = open(kit_path(dir, "broker.pid"), O_RDWR);
    assert_int_equal(syscall(SYS_flock, fd, LOCK_EX | LOCK_NB), 0);
    store = NULL;
    open_store(&e);
    assert_code(E_STORE_LOCKED, e);
    assert_has(e.text, "is in use by another broker");
    assert_null(strstr(e.text, "process"));
    assert_int_equal(write(fd, "4711\n", 5), 5);
    assert_refused(E_STORE_LOCKED, "process 4711");
    disk_call_fails(DISK_LOCK, "/broker.pid", ENOLCK, 0);
    assert_refused(E_STORE_FAILED, "cannot lock");
    disk_mended();
    char *text = kit_read(kit_path(dir, "broker.pid"), &size);
    assert_string_equal(text, "4711\n");
    free(text);
    close(fd);
    assert_ok(open_store(&err));
}

/* The database is whole, but nobody knows whether the next start would know it. */
static void a_creation_whose_end_cannot_be_noted_is_refused(void **state)
{
    (void)state;
    char path[300], words[400];
    struct rocks_dir d;
    struct err e = {0};
    bool fresh = false;
    snprintf(path, sizeof path, "%s/whole", dir);
    assert_ok(rocks_dir_open(&d, path, &fresh, &err));
    assert_true(fresh);
    disk_call_fails(DISK_SYNC, path, EIO, 0);
    rocks_dir_made(&d, &e);
    assert_true(disk_mended() == 1);
    assert_code(E_STORE_FAILED, e);
    snprintf(words, sizeof words, "cannot sync '%s'", path);
    assert_has(e.text, words);
    rocks_dir_made(&d, &e); /* it is gone by now */
    assert_code(E_STORE_FAILED, e);
    snprintf(words, sizeof words, "cannot remove '%s/creating'", path);
    assert_has(e.text, words);
    rocks_dir_close(&d);
    assert_ok(rocks_dir_open(&d, path, &fresh, &err));
    assert_true(fresh);
    assert_ok(rocks_dir_made(&d, &err));
    rocks_dir_close(&d);
}

/* ---------------------------------------------------------------- creation */

/* The n-th write or sync of a creation fails, for every n, and the process is killed then. */
static void a_creation_that_ended_anywhere_is_finished_by_the_next_opening(void **state)
{
    (void)state;
    shut();
    int code = E_CLOSED, failures = 0;
    for (long n = 1; code != E_OK; n += 1 + n / 8) {
        kit_remove(dir);
        dir = kit_dir();
        kill_other(start_other(EIO, n, &code));
        failures += code != E_OK;
        assert_ok(open_store(&err));
        assert_ok(kit_put(store, FAM_LOG_COMPACTED, "a", "1", &err));
        assert_ok(store_sync(store, &err));
        shut();
        assert_ok(open_store(&err));
        kit_is(store, FAM_LOG_COMPACTED, "a", "1");
        shut();
    }
    assert_in_range(failures, 10, 1000);
}

static void lay_empty(const char *name)
{
    int fd = open(kit_path(dir, name), O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void mark_creating(void) { lay_empty("creating"); }

static bool is_there(const char *name)
{
    struct stat st;
    return stat(kit_path(dir, name), &st) == 0;
}

/* Was a bug: a creation whose manifest a power cut had torn was gone on with, and so never opened again. */
static void a_creation_that_a_power_cut_tore_is_made_anew(void **state)
{
    (void)state;
    enum { SECTOR = 512, SECTORS = 2 };
    static const char *const torn[] = {"MANIFEST-", "CURRENT", "OPTIONS-"};
    for (int kind = 0; kind < 3; kind++) {
        for (int lost = 1; lost < 1 << SECTORS; lost++) { /* these of its sectors */
            char name[256];
            size_t size;
            shut();
            assert_true(kit_find(dir, torn[kind], "", name));
            char *data = kit_read(kit_path(dir, name), &size);
            if (kind == 0)
                assert_in_range(size, SECTOR + 1, SECTOR * SECTORS);
            for (size_t at = 0; at < size; at++)
                data[at] = lost >> (at / SECTOR) % SECTORS & 1 ? 0 : data[at];
            int fd = open(kit_path(dir, name), O_WRONLY);
            assert_int_equal(write(fd, data, size), size);
            close(fd);
            free(data);
            mark_creating();
            assert_ok(open_store(&err));
            assert_false(is_there("creating"));
        }
    }
    assert_ok(kit_put(store, FAM_LOG_COMPACTED, "a", "1", &err));
    assert_ok(store_sync(store, &err));
    shut();
    assert_ok(open_store(&err));
    kit_is(store, FAM_LOG_COMPACTED, "a", "1");
}

static void a_creation_that_cannot_be_made_anew_is_refused_by_what_fails(void **state)
{
    (void)state;
    char words[300];
    shut();
    mark_creating();
    assert_int_equal(mkdir(kit_path(dir, "MANIFEST-000099"), 0700), 0);
    snprintf(words, sizeof words, "cannot remove '%s/MANIFEST-000099'", dir);
    assert_refused(E_STORE_FAILED, words);
    assert_int_equal(rmdir(kit_path(dir, "MANIFEST-000099")), 0);
    lay_empty("MANIFEST-000099");
    disk_call_fails(DISK_SYNC, dir, EIO, 1); /* the first is of the mark */
    snprintf(words, sizeof words, "cannot sync '%s'", dir);
    assert_refused(E_STORE_FAILED, words);
    assert_true(disk_mended() > 0);
    disk_call_fails(DISK_OPEN, "/.", ENFILE, 2); /* those before look what there is */
    snprintf(words, sizeof words, "cannot read '%s'", dir);
    assert_refused(E_STORE_FAILED, words);
    assert_true(disk_mended() > 0);
    assert_true(is_there("creating"));
    assert_ok(open_store(&err));
    assert_false(is_there("creating"));
}

/* Whoever put the mark there: rows are never removed for it, and damage is damage. */
static void a_database_that_holds_rows_is_no_creation(void **state)
{
    (void)state;
    static const char *const holding[] = {".log", ".sst", ".blob"};
    for (size_t i = 0; i < ARRAY_LEN(holding); i++) {
        char name[256];
        struct key k = key_log(7, i);
        if (i > 0)
            put_log((int)i, 'x');
        else
            assert_ok(kit_put(store, FAM_META, "a", "1", &err));
        if (i > 0)
            assert_ok(store_reclaim(store, FAM_LOG_DAYS, &err));
        shut();
        assert_true(kit_find(dir, "", holding[i], name));
        mark_creating();
        assert_int_equal(rename(kit_path(dir, "CURRENT"), kit_path(dir, "kept")), 0);
        assert_refused(E_DAMAGED, "/CURRENT' is missing");
        assert_true(is_there(name));
        assert_int_equal(rename(kit_path(dir, "kept"), kit_path(dir, "CURRENT")), 0);
        assert_ok(open_store(&err));
        assert_false(is_there("creating"));
        kit_is(store, FAM_META, "a", "1");
        struct buf out = {0};
        bool found;
        assert_ok(store_get(store, FAM_LOG_DAYS, key_view(&k), &out, &found, &err));
        assert_true(found == (i > 0));
        buf_free(&out);
    }
}

/* ---------------------------------------------------------------- what RocksDB says */

static void what_rocksdb_says_has_a_code(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
    } said[] = {
        {"Result incomplete: Write stall", E_OVERLOADED},
        {"IO error: No space left on device: While appending to file: /d/000012.log: No space left on device",
         E_DISK_FULL},
        {"IO error: No space left on deviceWhile appending to file: /d/000012.log: No space left on device",
         E_DISK_FULL},
        {"Result incomplete: IO error: No space left on device: While open a file for appending: "
         "/d/000031.sst: No space "
         "left on device",
         E_DISK_FULL},
        {"IO error: While appending to file: /d/000012.log: Input/output error", E_STORE_FAILED},
        {"IO error: While fdatasync: /d/000012.log: Input/output error", E_STORE_FAILED},
        {"IO error: While appending to file: /d/000012.log: Disk quota exceeded", E_STORE_FAILED},
        {"IO error: While lock file: /d/LOCK: Resource temporarily unavailable", E_STORE_LOCKED},
        {"IO error: lock hold by current process, acquire time 1763788800 acquiring thread 139: /d/LOCK: No "
         "locks available",
         E_STORE_LOCKED},
        {"Corruption: checksum mismatch", E_DAMAGED},
        {"Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in /d/000012.sst offset 0 "
         "size 2035",
         E_DAMAGED},
        {"Corruption: Blob CRC mismatch", E_DAMAGED},
        {"IO error: No such file or directory: While open a file for random read: /d/000012.blob: No such "
         "file or directory",
         E_DAMAGED},
        {"Corruption: Unknown Footer version. Maybe this file was created with newer version of RocksDB?",
         E_FORMAT_NEWER},
        {"Corruption: VersionEdit: unknown tag", E_FORMAT_NEWER},
        {"Invalid argument: Column families not opened: future", E_FORMAT_NEWER},
        {"Invalid argument: Column family not found: held", E_DAMAGED},
        {"Invalid argument: anything else", E_STORE_FAILED},
        {"Shutdown in progress: ", E_STORE_FAILED},
        {"", E_STORE_FAILED},
    };
    for (size_t i = 0; i < ARRAY_LEN(said); i++) {
        int code = rocks_error_code(said[i].text);
        if (code != said[i].code)
            fail_msg("%s: %s", said[i].text, error_name(code));
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **args)
{
    if (argc == 5 && strcmp(args[1], "--open") == 0)
        return other_process(args);
    if (argc == 2)
        cmocka_set_test_filter(args[1]);
    const struct CMUnitTest tests[] = {
        TEST(a_second_open_is_refused_and_told_who_has_it),
        TEST(a_process_that_was_killed_does_not_keep_its_directory),
        TEST(a_tool_that_holds_the_database_is_seen_too),
        TEST(a_directory_that_is_missing_is_made_for_its_owner_only),
        TEST(a_path_that_cannot_be_a_directory_is_refused_by_name),
        TEST(somebody_elses_directory_is_refused_and_left_alone),
        TEST(a_family_of_a_newer_version_is_refused),
        TEST(a_missing_family_is_refused_and_not_made_anew),
        TEST(a_directory_that_cannot_be_made_ready_is_refused_by_what_fails),
        TEST(a_directory_without_anything_in_it_is_synced_into_the_one_around_it),
        TEST(what_stands_where_a_file_of_ours_belongs_is_named),
        TEST(who_does_not_get_the_lock_leaves_the_number_in_it),
        TEST(a_creation_whose_end_cannot_be_noted_is_refused),
        TEST(a_creation_that_ended_anywhere_is_finished_by_the_next_opening),
        TEST(a_creation_that_a_power_cut_tore_is_made_anew),
        TEST(a_creation_that_cannot_be_made_anew_is_refused_by_what_fails),
        TEST(a_database_that_holds_rows_is_no_creation),
        cmocka_unit_test(what_rocksdb_says_has_a_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

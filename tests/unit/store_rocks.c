#include "store_kit.h"

#include <errno.h>
#include <signal.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "store/keys.h"
#include "store/rocks.h"

/* ---------------------------------------------------------------- a disk that fails
 *
 * RocksDB is a shared library, so these stand before libc's for it. A fault is for files whose path has `part` in it.
 */
static struct {
    const char *part; /* NULL: no fault */
    int error;        /* of write and fdatasync */
    long from;        /* the first call that fails, from 1 */
    _Atomic long writes, syncs;
    uint64_t free;            /* bytes that are said to be free; 0: the truth */
    const char *ends_without; /* the fault is over when this file is gone */
} disk;

static bool is_meant(int fd)
{
    char link[64], path[512];
    if (disk.part == NULL || (disk.ends_without != NULL && access(disk.ends_without, F_OK) != 0))
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return false;
    path[size] = '\0';
    return strstr(path, disk.part) != NULL;
}

#define VISIBLE __attribute__((visibility("default")))

VISIBLE ssize_t write(int fd, const void *data, size_t size)
{
    if (is_meant(fd) && ++disk.writes >= disk.from && disk.error != 0) {
        errno = disk.error;
        return -1;
    }
    return syscall(SYS_write, fd, data, size);
}

VISIBLE int fdatasync(int fd)
{
    if (is_meant(fd) && ++disk.syncs >= disk.from && disk.error != 0) {
        errno = disk.error;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

VISIBLE int fstatvfs(int fd, struct statvfs *out)
{
    struct statfs st;
    int failed = fstatfs(fd, &st);
    *out = (struct statvfs){.f_frsize = (unsigned long)st.f_bsize,
                            .f_bsize = (unsigned long)st.f_bsize,
                            .f_blocks = st.f_blocks,
                            .f_bavail = st.f_bavail};
    if (disk.free != 0)
        out->f_bavail = disk.free / out->f_frsize;
    return failed;
}

static void disk_fails(const char *part, int error, long from)
{
    disk.part = part;
    disk.error = error;
    disk.from = from;
    disk.writes = disk.syncs = 0;
}

/* ---------------------------------------------------------------- a store in a directory of its own */

static char *dir;
static struct store *store;

static int open_store(struct err *e)
{
    struct store_rocks_options o = {.path = dir, .memory_bytes = 16 << 20, .reserve_file_bytes = UINT64_MAX};
    return store_rocks_open(&store, &o, e);
}

static int setup(void **state)
{
    (void)state;
    dir = kit_dir();
    assert_ok(open_store(&err));
    return 0;
}

static void shut(void)
{
    store_close(store);
    store = NULL;
}

static int teardown(void **state)
{
    (void)state;
    disk_fails(NULL, 0, 0);
    shut();
    kit_remove(dir);
    return 0;
}

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

static void assert_refused(int code, const char *text)
{
    struct err e = {0};
    store = NULL;
    open_store(&e);
    assert_code(code, e);
    assert_has(e.text, text);
}

/* Rows large enough for blob files. */
static const char *large(char with)
{
    static char text[2001];
    memset(text, with, sizeof text - 1);
    return text;
}

static void put_log(int offset, char with)
{
    struct key k = key_log(7, (uint64_t)offset);
    struct puts l;
    puts_init(&l);
    puts_row(&l, FAM_LOG_DAYS, key_view(&k), kit_str(large(with)));
    assert_ok(store_write(store, &l, &err));
    puts_free(&l);
}

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

static int get_log(int offset, struct buf *out, struct err *e)
{
    struct key k = key_log(7, (uint64_t)offset);
    bool found;
    int code = store_get(store, FAM_LOG_DAYS, key_view(&k), out, &found, e);
    assert_true(code != E_OK || found);
    return code;
}

/* The whole text is in one place of the file. */
static off_t place_of(const char *path, const char *text)
{
    size_t size;
    char *data = kit_read(path, &size);
    char *at = memmem(data, size, text, strlen(text));
    assert_non_null(at);
    off_t place = at - data;
    free(data);
    return place;
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

/* ---------------------------------------------------------------- damage */

static void a_database_without_its_CURRENT_is_refused_and_never_begun_anew(void **state)
{
    (void)state;
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    assert_ok(store_sync(store, &err));
    shut();
    assert_int_equal(rename(kit_path(dir, "CURRENT"), kit_path(dir, "kept")), 0);
    assert_refused(E_DAMAGED, "/CURRENT' is missing");
    assert_refused(E_DAMAGED, "/CURRENT' is missing");
    assert_int_equal(rename(kit_path(dir, "kept"), kit_path(dir, "CURRENT")), 0);
    assert_ok(open_store(&err));
    kit_is(store, FAM_META, "a", "1");
}

/* Fills a log with 100 lists and returns its name. */
static void fill_wal(char name[256])
{
    char key[16];
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "%03d", i);
        assert_ok(kit_put(store, FAM_META, key, large('w'), &err));
    }
    assert_ok(store_sync(store, &err));
    shut();
    assert_true(kit_find(dir, "", ".log", name));
}

static void a_log_damaged_within_is_refused_by_name_and_never_cut_short(void **state)
{
    (void)state;
    char wal[256];
    fill_wal(wal);
    kit_flip(kit_path(dir, wal), 100 * 1000);
    assert_refused(E_DAMAGED, wal);
    assert_refused(E_DAMAGED, wal);
    kit_flip(kit_path(dir, wal), 100 * 1000); /* whoever repairs it has everything again */
    assert_ok(open_store(&err));
    kit_is(store, FAM_META, "099", large('w'));
}

static void a_log_cut_at_its_end_loses_whole_lists_from_the_end_only(void **state)
{
    (void)state;
    char wal[256];
    fill_wal(wal);
    assert_int_equal(truncate(kit_path(dir, wal), 100 * 1000), 0);
    assert_ok(open_store(&err));
    struct store_iter *it = store_iter(store, FAM_META);
    int n = 0;
    for (store_iter_seek(it, kit_str("")); store_iter_valid(it); store_iter_next(it), n++) {
        char key[16];
        snprintf(key, sizeof key, "%03d", n);
        assert_true(view_eq(store_iter_key(it), kit_str(key)));
        assert_true(view_eq(store_iter_value(it), kit_str(large('w'))));
    }
    assert_int_equal(store_iter_status(it, NULL), E_OK);
    assert_in_range(n, 45, 50);
    store_iter_close(it);
}

/* Rows 0 to `last` are there but for `removed`; `damaged` cannot be read, and by no way. */
static void assert_damaged_log(int removed, int damaged, int last, const char *file)
{
    struct buf out = {0};
    struct err e = {0};
    for (int i = 0; i <= last; i++) {
        if (i == removed)
            continue;
        err_clear(&e);
        if (get_log(i, &out, &e) == E_OK)
            assert_memory_equal(out.data, large((char)('a' + i)), out.size);
        else if (i != damaged)
            fail_msg("%d: %s", i, e.text);
        assert_int_equal(e.code, i == damaged ? E_DAMAGED : E_OK);
        if (i == damaged)
            assert_has(e.text, file);
    }
    struct key from = key_log_prefix(7);
    struct store_iter *it = store_iter(store, FAM_LOG_DAYS);
    int seen = 0;
    for (store_iter_seek(it, key_view(&from)); store_iter_valid(it); store_iter_next(it), seen++) {
        seen += seen == removed;
        assert_memory_equal(store_iter_value(it).data, large((char)('a' + seen)), 2000);
    }
    assert_int_equal(seen + (seen == removed), damaged);
    err_clear(&e);
    store_iter_status(it, &e);
    assert_code(E_DAMAGED, e);
    assert_has(e.text, file);
    store_iter_close(it);
    buf_free(&out);
}

static void a_damaged_value_of_a_log_is_refused_with_the_files_name_and_never_read(void **state)
{
    (void)state;
    enum { REMOVED = 15, DAMAGED = 16, LAST = 24 };
    char first[256], second[256];
    for (int i = 0; i < 10; i++)
        put_log(i, (char)('a' + i));
    put_log(REMOVED, 'x');
    assert_ok(store_reclaim(store, FAM_LOG_DAYS, &err));
    assert_true(kit_find(dir, "", ".blob", first));
    for (int i = 10; i <= LAST; i++) {
        if (i != REMOVED)
            put_log(i, (char)('a' + i));
    }
    assert_ok(store_reclaim(store, FAM_LOG_DAYS, &err));
    struct key gone = key_log(7, REMOVED); /* its value stays in the first file, and is good */
    struct puts l;
    puts_init(&l);
    puts_remove(&l, FAM_LOG_DAYS, key_view(&gone));
    assert_ok(store_write(store, &l, &err));
    puts_free(&l);
    shut();
    assert_true(kit_find(dir, "", ".blob", second));
    assert_string_not_equal(first, second);
    kit_flip(kit_path(dir, second), place_of(kit_path(dir, second), large('a' + DAMAGED)) + 1000);
    assert_ok(open_store(&err));
    assert_damaged_log(REMOVED, DAMAGED, LAST, kit_path(dir, second));
}

static void a_blob_file_cut_short_is_refused_by_name(void **state)
{
    (void)state;
    char blob[256];
    for (int i = 0; i < 5; i++)
        put_log(i, (char)('a' + i));
    assert_ok(store_reclaim(store, FAM_LOG_DAYS, &err));
    shut();
    assert_true(kit_find(dir, "", ".blob", blob));
    assert_int_equal(truncate(kit_path(dir, blob), 5000), 0);
    struct err e = {0};
    if (open_store(&e) == E_OK) {
        struct buf out = {0};
        assert_int_equal(get_log(4, &out, &e), E_DAMAGED);
        buf_free(&out);
    }
    assert_int_equal(e.code, E_DAMAGED);
    assert_has(e.text, blob);
}

static void a_missing_blob_file_is_refused_by_name(void **state)
{
    (void)state;
    char blob[256];
    put_log(1, 'a');
    assert_ok(store_reclaim(store, FAM_LOG_DAYS, &err));
    shut();
    assert_true(kit_find(dir, "", ".blob", blob));
    assert_int_equal(unlink(kit_path(dir, blob)), 0);
    struct err e = {0};
    if (open_store(&e) == E_OK) {
        struct buf out = {0};
        assert_int_equal(get_log(1, &out, &e), E_DAMAGED);
        buf_free(&out);
    }
    assert_int_equal(e.code, E_DAMAGED);
    assert_has(e.text, blob);
}

static void a_damaged_table_is_refused_with_its_name(void **state)
{
    (void)state;
    char table[256];
    assert_ok(kit_put(store, FAM_META, "a", large('t'), &err));
    assert_ok(store_reclaim(store, FAM_META, &err));
    shut();
    assert_true(kit_find(dir, "", ".sst", table));
    kit_flip(kit_path(dir, table), place_of(kit_path(dir, table), large('t')) + 500);
    assert_ok(open_store(&err));
    struct buf out = {0};
    struct err e = {0};
    bool found;
    store_get(store, FAM_META, kit_str("a"), &out, &found, &e);
    assert_code(E_DAMAGED, e);
    assert_has(e.text, table);
    assert_false(found);
    struct store_iter *it = store_iter(store, FAM_META);
    store_iter_seek(it, kit_str(""));
    assert_false(store_iter_valid(it));
    store_iter_status(it, &e);
    assert_code(E_DAMAGED, e);
    assert_has(e.text, table);
    store_iter_close(it);
    buf_free(&out);
}

static void a_missing_table_is_refused_at_opening_with_its_name(void **state)
{
    (void)state;
    char table[256];
    assert_ok(kit_put(store, FAM_META, "a", "1", &err));
    assert_ok(store_reclaim(store, FAM_META, &err));
    shut();
    assert_true(kit_find(dir, "", ".sst", table));
    assert_int_equal(unlink(kit_path(dir, table)), 0);
    assert_refused(E_DAMAGED, table);
}

static void a_damaged_manifest_is_refused_by_name(void **state)
{
    (void)state;
    char manifest[256];
    shut();
    assert_true(kit_find(dir, "MANIFEST-", "", manifest));
    kit_flip(kit_path(dir, manifest), 60);
    assert_refused(E_DAMAGED, manifest);
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

/* ---------------------------------------------------------------- options: accepted, and in effect */

static char *options_file(void)
{
    char name[256], best[256] = "";
    DIR *d = opendir(dir);
    for (struct dirent *x; (x = readdir(d)) != NULL;) {
        if (strncmp(x->d_name, "OPTIONS-", 8) == 0 && strcmp(x->d_name, best) > 0)
            snprintf(best, sizeof best, "%s", x->d_name);
    }
    closedir(d);
    snprintf(name, sizeof name, "%s", best);
    size_t size;
    return kit_read(kit_path(dir, name), &size);
}

/* The value of an option in a section that begins with `section`. */
static void assert_option(const char *file, const char *section, const char *name, const char *expected)
{
    const char *at = strstr(file, section);
    assert_non_null(at);
    const char *end = strstr(at + 1, "\n[");
    char line[128];
    snprintf(line, sizeof line, "\n  %s=", name);
    const char *found = strstr(at, line);
    if (found == NULL || (end != NULL && found > end))
        fail_msg("%s has no %s", section, name);
    found += strlen(line);
    size_t size = strcspn(found, "\n");
    if (size != strlen(expected) || strncmp(found, expected, size) != 0)
        fail_msg("%s %s is %.*s", section, name, (int)size, found);
}

static void the_options_of_the_database_are_in_effect(void **state)
{
    (void)state;
    static const char *const expected[][2] = {
        {"wal_recovery_mode", "kTolerateCorruptedTailRecords"},
        {"paranoid_checks", "true"},
        {"max_total_wal_size", "268435456"},
        {"db_write_buffer_size", "8388608"},
        {"max_open_files", "256"},
        {"max_file_opening_threads", "2"},
        {"stats_dump_period_sec", "0"},
        {"stats_persist_period_sec", "0"},
        {"keep_log_file_num", "3"},
        {"max_log_file_size", "4194304"},
        {"max_manifest_file_size", "16777216"},
        {"use_fsync", "false"},
        {"enable_pipelined_write", "false"},
        {"unordered_write", "false"},
        {"manual_wal_flush", "false"},
        {"wal_compression", "kNoCompression"},
        {"recycle_log_file_num", "0"},
        {"atomic_flush", "false"},
        {"allow_mmap_reads", "false"},
        {"allow_mmap_writes", "false"},
        {"track_and_verify_wals_in_manifest", "false"},
        {"two_write_queues", "false"},
        {"create_if_missing", "false"},
        {"create_missing_column_families", "false"},
    };
    shut();
    assert_ok(open_store(&err));
    char *file = options_file();
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        assert_option(file, "[DBOptions]", expected[i][0], expected[i][1]);
    free(file);
}

static void the_options_of_each_family_are_in_effect(void **state)
{
    (void)state;
    static const struct {
        const char *name, *log, *rows;
    } expected[] = {
        {"enable_blob_files", "true", "false"},
        {"enable_blob_garbage_collection", "false", "false"},
        {"blob_compression_type", "kNoCompression", "kNoCompression"},
        {"compression", "kNoCompression", "kNoCompression"},
        {"compaction_style", "kCompactionStyleLevel", "kCompactionStyleLevel"},
        {"level_compaction_dynamic_level_bytes", "true", "true"},
        {"write_buffer_size", "2097152", "524288"},
        {"max_write_buffer_number", "3", "3"},
    };
    char *file = options_file();
    for (enum store_family f = 0; f < FAM_COUNT; f++) {
        char section[64];
        snprintf(section, sizeof section, "[CFOptions \"%s\"]", store_family_name(f));
        bool is_log = strncmp(store_family_name(f), "log.", 4) == 0;
        assert_int_equal(rocks_family_is_log(f), is_log);
        assert_int_equal(rocks_family_has_blobs(f), is_log || f == FAM_SCHED);
        for (size_t i = 0; i < ARRAY_LEN(expected) && f != FAM_SCHED; i++)
            assert_option(file, section, expected[i].name, is_log ? expected[i].log : expected[i].rows);
        if (f == FAM_SCHED) {
            assert_option(file, section, "enable_blob_files", "true");
            assert_option(file, section, "min_blob_size", "4096");
            assert_option(file, section, "enable_blob_garbage_collection", "true");
            assert_option(file, section, "write_buffer_size", "2097152");
        }
        if (is_log)
            assert_option(file, section, "min_blob_size", "512");
        snprintf(section, sizeof section, "[TableOptions/BlockBasedTable \"%s\"]", store_family_name(f));
        assert_option(file, section, "cache_index_and_filter_blocks", "true");
        assert_option(file, section, "checksum", "kXXH3");
        bool filter = !is_log && f != FAM_LEASES;
        assert_option(file, section, "filter_policy", filter ? "bloomfilter" : "nullptr");
        assert_option(file, section, "partition_filters", filter ? "true" : "false"); /* one of a whole table may not fit into a small cache */
        assert_option(file, section, "index_type", filter ? "kTwoLevelIndexSearch" : "kBinarySearch");
    }
    free(file);
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
        TEST(a_database_without_its_CURRENT_is_refused_and_never_begun_anew),
        TEST(a_log_damaged_within_is_refused_by_name_and_never_cut_short),
        TEST(a_log_cut_at_its_end_loses_whole_lists_from_the_end_only),
        TEST(a_damaged_value_of_a_log_is_refused_with_the_files_name_and_never_read),
        TEST(a_blob_file_cut_short_is_refused_by_name),
        TEST(a_missing_blob_file_is_refused_by_name),
        TEST(a_damaged_table_is_refused_with_its_name),
        TEST(a_missing_table_is_refused_at_opening_with_its_name),
        TEST(a_damaged_manifest_is_refused_by_name),
        TEST(a_family_of_a_newer_version_is_refused),
        TEST(a_missing_family_is_refused_and_not_made_anew),
        TEST(a_creation_that_ended_anywhere_is_finished_by_the_next_opening),
        TEST(a_sync_is_a_data_sync_of_the_log_and_a_write_is_not),
        TEST(a_sync_that_fails_fails_the_store_for_good_and_names_the_log),
        TEST(a_write_error_fails_the_store_for_good_and_names_the_log),
        TEST(a_full_disk_refuses_lists_and_takes_the_same_ones_when_there_is_room),
        TEST(rocksdb_writes_no_log_of_its_own_once_it_is_open),
        TEST(what_was_refused_on_a_full_disk_is_not_there_after_a_crash),
        TEST(the_reserve_is_laid_out_where_four_times_its_size_is_free),
        TEST(a_disk_too_full_to_open_costs_the_reserve_and_room_brings_it_back),
        TEST(with_the_reserve_given_up_a_full_disk_opens),
        TEST(the_options_of_the_database_are_in_effect),
        TEST(the_options_of_each_family_are_in_effect),
        TEST(log_values_lie_in_blob_files_and_rows_do_not),
        TEST(batches_that_waited_do_not_stay_on_the_disk),
        TEST(what_a_range_removal_removed_is_given_back),
        TEST(one_partition_that_stays_does_not_keep_the_others),
        TEST(a_family_that_is_hardly_written_does_not_keep_every_log),
        cmocka_unit_test(what_rocksdb_says_has_a_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

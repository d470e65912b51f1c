/* Whether the write-ahead logs hang together: real logs, which the store wrote, are cut, flipped, swapped, removed and doubled, and pieces are
 * added that RocksDB would write, or would not. What of it is a torn end, what is refused, and by which name. */
#include "store_rocks_kit.h"

#include <sys/socket.h>
#include <sys/un.h>

/* ---------------------------------------------------------------- the logs of a store, and how they were */

enum { LOGS_MAX = 4, LISTS_MAX = 16 };

static struct file {
    char name[64];
    char *data;
    size_t size;
    size_t ends[LISTS_MAX]; /* of its lists */
    size_t ends_n;
} logs[LOGS_MAX], manifest;
static size_t logs_n;

static size_t size_of(const char *name)
{
    struct stat st;
    return stat(kit_path(dir, name), &st) == 0 ? (size_t)st.st_size : SIZE_MAX;
}

/* The log that is written to: the one with the greatest number. */
static struct file *newest(void)
{
    char name[64] = "";
    DIR *d = opendir(dir);
    for (struct dirent *x; (x = readdir(d)) != NULL;)
        if (strstr(x->d_name, ".log") != NULL && strcmp(x->d_name, name) > 0)
            snprintf(name, sizeof name, "%.63s", x->d_name);
    closedir(d);
    if (logs_n == 0 || strcmp(logs[logs_n - 1].name, name) != 0) {
        assert_true(logs_n < LOGS_MAX);
        logs[logs_n] = (struct file){.ends_n = 0};
        memcpy(logs[logs_n++].name, name, sizeof name);
    }
    return &logs[logs_n - 1];
}

static void note_list(void)
{
    struct file *f = newest();
    assert_true(f->ends_n < LISTS_MAX);
    f->ends[f->ends_n++] = size_of(f->name);
}

/* A list of one row, in the newest log. */
static void list_of(const char *key, const char *value)
{
    assert_ok(kit_put(store, FAM_META, key, value, &err));
    note_list();
}

static void list(const char *key) { list_of(key, "1"); }

static void sync_all(void) { assert_ok(store_sync(store, &err)); }

/* Another log begins; the one before is needed for rows of `meta`. */
static void next_log(void)
{
    assert_ok(kit_put(store, FAM_HELD, "x", "1", &err));
    note_list();
    assert_ok(store_reclaim(store, FAM_HELD, &err));
}

/* Closes the store and remembers the files. */
static void stop(void)
{
    shut();
    char name[256];
    assert_true(kit_find(dir, "MANIFEST-", "", name));
    snprintf(manifest.name, sizeof manifest.name, "%.63s", name);
    manifest.data = kit_read(kit_path(dir, manifest.name), &manifest.size);
    for (size_t i = 0; i < logs_n; i++)
        logs[i].data = kit_read(kit_path(dir, logs[i].name), &logs[i].size);
}

static void lay(const char *name, const void *data, size_t size)
{
    int fd = open(kit_path(dir, name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}

static void lay_all(void)
{
    lay(manifest.name, manifest.data, manifest.size);
    for (size_t i = 0; i < logs_n; i++)
        lay(logs[i].name, logs[i].data, logs[i].size);
}

/* One after the other. */
static void add(const char *name, const void *data, size_t size)
{
    int fd = open(kit_path(dir, name), O_WRONLY | O_APPEND);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}

static int begin(void **state)
{
    logs_n = 0;
    return setup(state);
}

static int end(void **state)
{
    for (size_t i = 0; i < logs_n; i++)
        free(logs[i].data);
    free(manifest.data);
    memset(logs, 0, sizeof logs);
    memset(&manifest, 0, sizeof manifest);
    return teardown(state);
}

/* ---------------------------------------------------------------- what is said of them */

static struct err said;
static bool dropped;

static int look(bool sums)
{
    struct rocks_dir d = {.path = dir, .fd = open(dir, O_RDONLY | O_DIRECTORY), .pid_fd = -1};
    err_clear(&said);
    dropped = true;
    int code = rocks_wal_look(&d, sums, &dropped, &said);
    close(d.fd);
    assert_int_equal(code, said.code);
    return code;
}

#define assert_taken(sums)                                                        \
    do {                                                                          \
        if (look(sums) != E_OK)                                                   \
            fail_msg("refused: %s: %s", error_name(said.code), said.text);        \
    } while (0)

/* Refused with these words, the path in front of the name, and nothing touched. */
static void assert_said(bool sums, int code, const char *name, const char *words)
{
    char path[600];
    size_t sizes[LOGS_MAX];
    size_t manifest_size = size_of(manifest.name);
    for (size_t i = 0; i < logs_n; i++)
        sizes[i] = size_of(logs[i].name);
    look(sums);
    assert_code(code, said);
    snprintf(path, sizeof path, "'%s/%s'", dir, name);
    assert_has(said.text, path);
    assert_has(said.text, words);
    assert_false(dropped);
    for (size_t i = 0; i < logs_n; i++)
        assert_int_equal(size_of(logs[i].name), sizes[i]);
    assert_int_equal(size_of(manifest.name), manifest_size);
}

/* What a store that opens now has. */
static void assert_rows(const char *rows)
{
    assert_ok(open_store(&err));
    kit_sees(store, FAM_META, "", rows);
    shut();
}

static size_t whole_end(const struct file *f, size_t cut)
{
    size_t at = 0;
    for (size_t i = 0; i < f->ends_n && f->ends[i] <= cut; i++)
        at = f->ends[i];
    return at;
}

static const char *behind(size_t at)
{
    static char text[64];
    snprintf(text, sizeof text, "lacks what was on the disk behind byte %zu", at);
    return text;
}

/* Three logs: a b x | c d x | e f. */
static void three_logs(bool synced)
{
    static const char *const keys[] = {"a", "b", "c", "d", "e", "f"};
    for (int i = 0; i < 6; i++) {
        list(keys[i]);
        if (synced)
            sync_all();
        if (i == 1 || i == 3)
            next_log();
    }
    stop();
    assert_int_equal(logs_n, 3);
}

/* ---------------------------------------------------------------- as they were written */

static void logs_as_they_were_written_are_taken_and_left_alone(void **state)
{
    (void)state;
    three_logs(true);
    for (int sums = 0; sums < 2; sums++) {
        assert_taken(sums);
        assert_false(dropped);
        for (size_t i = 0; i < logs_n; i++)
            assert_int_equal(size_of(logs[i].name), logs[i].size);
        assert_int_equal(size_of(manifest.name), manifest.size);
    }
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

/* RocksDB parts a list at the ends of blocks of 32 KiB, and fills what is less than a head with zeros. */
static void lists_over_many_blocks_and_up_to_any_place_in_one_are_taken(void **state)
{
    (void)state;
    enum { BLOCK = 32768 };
    static char value[100001];
    memset(value, 'v', sizeof value - 1);
    static char first[BLOCK];
    memset(first, 'f', BLOCK - 200); /* so long that its size takes as many bytes as later */
    list_of("a", first);
    size_t others = logs[0].ends[0] - (BLOCK - 200);
    for (int left = 0; left <= 8; left++) { /* so much of a block is left behind the first list */
        shut();
        kit_remove(dir);
        dir = kit_dir();
        logs_n = 0;
        assert_ok(open_store(&err));
        memset(first, 0, sizeof first);
        memset(first, 'f', BLOCK - (size_t)left - others);
        list_of("a", first);
        assert_int_equal(logs[0].ends[0], BLOCK - left);
        list_of("b", value);
        list("c");
        stop();
        assert_taken(true);
        assert_false(dropped);
        if (left > 0 && left < 7) { /* then they are not the store's */
            kit_flip(kit_path(dir, logs[0].name), BLOCK - left);
            assert_said(true, E_DAMAGED, logs[0].name, "is damaged at byte");
            lay_all();
        }
        assert_int_equal(truncate(kit_path(dir, logs[0].name), BLOCK * 2 + 100), 0); /* in its middle */
        assert_taken(true);
        assert_int_equal(size_of(logs[0].name), left < 7 ? BLOCK : BLOCK - left);
        lay_all();
        for (int piece = 0; piece < 3; piece++) { /* the first, one in the middle, the last */
            kit_flip(kit_path(dir, logs[0].name), BLOCK * (piece + 1) + 3000);
            assert_said(true, E_DAMAGED, logs[0].name, "is damaged at byte");
            assert_refused(E_DAMAGED, logs[0].name); /* RocksDB sees it, and does not know the name */
            lay_all();
        }
        assert_ok(open_store(&err));
        kit_is(store, FAM_META, "b", value);
        kit_is(store, FAM_META, "c", "1");
        for (size_t i = 0; i < logs_n; i++)
            free(logs[i].data);
        free(manifest.data);
        logs[0].data = manifest.data = NULL;
    }
}

/* ---------------------------------------------------------------- cut */

static void the_newest_log_cut_anywhere_ends_behind_its_last_whole_list(void **state)
{
    (void)state;
    three_logs(true);
    struct file *f = &logs[2];
    for (int sums = 0; sums < 2; sums++) {
        for (size_t size = f->size; size-- > 0;) {
            lay(f->name, f->data, size);
            assert_taken(sums);
            assert_false(dropped);
            assert_int_equal(size_of(f->name), whole_end(f, size));
        }
    }
    lay(f->name, f->data, f->size - 1);
    assert_rows("a=1 b=1 c=1 d=1 e=1");
}

/* A checkpoint and its store share logs. Who opens one of them leaves the other's as it is. */
static void a_log_that_is_shared_is_shortened_for_who_opens_it_alone(void **state)
{
    (void)state;
    three_logs(true);
    struct file *f = &logs[2];
    char *other = strdup(kit_path(dir, "other"));
    for (size_t part = 0; part <= 4; part++) { /* from nothing to all but a byte */
        size_t size = (f->size - 1) * part / 4;
        lay_all();
        lay(f->name, f->data, size);
        assert_int_equal(link(kit_path(dir, f->name), other), 0);
        assert_taken(false);
        assert_int_equal(size_of(f->name), whole_end(f, size));
        size_t kept;
        char *data = kit_read(other, &kept);
        assert_int_equal(kept, size);
        assert_memory_equal(data, f->data, size);
        free(data);
        data = kit_read(kit_path(dir, f->name), &kept);
        assert_memory_equal(data, f->data, kept);
        free(data);
        assert_int_equal(unlink(other), 0);
    }
    free(other);
    lay_all();
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

static void an_older_log_cut_anywhere_is_refused_where_a_later_list_knows_what_was_synced(void **state)
{
    (void)state;
    three_logs(true);
    for (int i = 0; i < 2; i++) {
        struct file *f = &logs[i];
        for (int sums = 0; sums < 2; sums++) {
            for (size_t size = f->size - 1; size >= f->ends[0]; size--) {
                lay(f->name, f->data, size);
                assert_said(sums, E_DAMAGED, f->name, behind(whole_end(f, size)));
            }
        }
        assert_refused(E_DAMAGED, f->name);
        lay_all();
    }
    for (size_t size = logs[0].ends[0] - 1; size > 0; size--) { /* of nothing in front of it is anything known */
        lay(logs[0].name, logs[0].data, size);
        assert_said(false, E_DAMAGED, logs[0].name, behind(0));
    }
    lay_all();
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

static void an_older_log_cut_where_nothing_was_synced_ends_the_logs_there(void **state)
{
    (void)state;
    three_logs(false);
    struct file *f = &logs[1];
    for (int sums = 0; sums < 2; sums++) {
        for (size_t size = f->size - 1; size > 0; size--) {
            lay_all();
            lay(f->name, f->data, size);
            assert_taken(sums);
            assert_true(dropped);
            assert_int_equal(size_of(logs[0].name), logs[0].size);
            assert_int_equal(size_of(f->name), whole_end(f, size));
            assert_int_equal(size_of(logs[2].name), 0);
            assert_taken(sums); /* and then they hang together */
            assert_false(dropped);
        }
    }
    assert_rows("a=1 b=1");
}

static char warned[512];

static void take_line(void *user, int level, const char *text)
{
    (void)user;
    if (level == LOG_WARN)
        snprintf(warned, sizeof warned, "%s", text);
}

static void who_opens_logs_with_a_hole_is_told_that_something_was_dropped(void **state)
{
    (void)state;
    three_logs(false);
    lay(logs[1].name, logs[1].data, logs[1].size - 1);
    struct store_rocks_options o = {.path = dir, .memory_bytes = 16 << 20, .reserve_file_bytes = UINT64_MAX, .log = take_line};
    for (int again = 0; again < 2; again++) {
        warned[0] = '\0';
        assert_ok(store_rocks_open(&store, &o, &err));
        kit_sees(store, FAM_META, "", "a=1 b=1 c=1 d=1");
        shut();
        if (again == 0)
            assert_has(warned, "a power cut left a hole");
        else
            assert_string_equal(warned, "");
    }
}

/* Which synced lists a cut reaches is told by the numbers, not by the files. */
static void what_was_synced_is_told_from_what_was_not(void **state)
{
    (void)state;
    list("a");
    sync_all();
    list("b"); /* says that a is synced, and is not itself */
    next_log();
    list("c");
    stop();
    struct file *f = &logs[0];
    lay(f->name, f->data, f->ends[0] - 1);
    assert_said(false, E_DAMAGED, f->name, behind(0));
    lay(f->name, f->data, f->ends[0]);
    assert_taken(false);
    assert_true(dropped);
    assert_int_equal(size_of(logs[1].name), 0);
    assert_rows("a=1");
}

/* ---------------------------------------------------------------- removed, swapped, doubled */

static void a_log_that_is_missing_is_refused_by_the_name_of_the_one_in_front(void **state)
{
    (void)state;
    three_logs(true);
    assert_int_equal(unlink(kit_path(dir, logs[1].name)), 0);
    assert_said(false, E_DAMAGED, logs[0].name, behind(logs[0].size));
    assert_refused(E_DAMAGED, logs[0].name);
    lay_all();
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

static void a_log_that_is_missing_where_nothing_was_synced_ends_the_logs_there(void **state)
{
    (void)state;
    three_logs(false);
    assert_int_equal(unlink(kit_path(dir, logs[1].name)), 0);
    assert_taken(false);
    assert_true(dropped);
    assert_int_equal(size_of(logs[2].name), 0);
    assert_rows("a=1 b=1");
}

static void a_first_log_that_is_missing_is_refused_where_the_manifest_shows_it(void **state)
{
    (void)state;
    size_t size;
    char name[256];
    assert_true(kit_find(dir, "MANIFEST-", "", name));
    char *before = kit_read(kit_path(dir, name), &size); /* knows of no put */
    three_logs(false);
    lay(name, before, size);
    free(before);
    assert_taken(false);
    assert_int_equal(unlink(kit_path(dir, logs[0].name)), 0);
    assert_said(false, E_DAMAGED, logs[1].name, name);
    assert_has(said.text, "a log before it is missing");
    lay_all();
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

/* Numbers only grow, whatever a power cut does: who goes back is not the log that had this name. */
static void logs_that_were_swapped_are_refused(void **state)
{
    (void)state;
    for (int synced = 0; synced < 2; synced++) {
        three_logs(synced);
        for (size_t i = 0; i < logs_n; i++) {
            for (size_t k = i + 1; k < logs_n; k++) {
                lay(logs[i].name, logs[k].data, logs[k].size);
                lay(logs[k].name, logs[i].data, logs[i].size);
                for (int sums = 0; sums < 2; sums++) {
                    look(sums);
                    assert_code(E_DAMAGED, said);
                    assert_false(dropped);
                    assert_has(said.text, dir);
                    assert_has(said.text, ".log'");
                }
                struct err e = {0};
                assert_int_equal(open_store(&e), E_DAMAGED);
                lay_all();
            }
        }
        assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
        if (synced == 0) {
            end(NULL);
            begin(NULL);
        }
    }
}

static void a_log_that_is_there_twice_is_refused_by_the_name_of_the_second(void **state)
{
    (void)state;
    three_logs(true);
    for (size_t i = 0; i < logs_n; i++) {
        char twice[64];
        snprintf(twice, sizeof twice, "%06lu.log", strtoul(logs[2].name, NULL, 10) + 1);
        lay(twice, logs[i].data, logs[i].size);
        assert_said(false, E_DAMAGED, twice, "at byte 0");
        assert_int_equal(size_of(twice), logs[i].size);
        assert_refused(E_DAMAGED, twice);
        assert_int_equal(unlink(kit_path(dir, twice)), 0);
    }
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

/* ---------------------------------------------------------------- other bytes */

static void any_bit_of_any_log_that_is_another_is_refused_by_the_logs_name(void **state)
{
    (void)state;
    three_logs(true);
    for (size_t i = 0; i < logs_n; i++) {
        for (size_t bit = 0; bit < 8 * logs[i].size; bit++) {
            logs[i].data[bit / 8] ^= (char)(1 << bit % 8);
            lay(logs[i].name, logs[i].data, logs[i].size);
            logs[i].data[bit / 8] ^= (char)(1 << bit % 8);
            assert_said(true, E_DAMAGED, logs[i].name, " byte ");
        }
        lay_all();
    }
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

/* The manifest is of a time behind them, and so does not say with which list the logs begin. */
static void any_bit_of_a_log_behind_which_nothing_was_written_yet_is_refused(void **state)
{
    (void)state;
    list("a");
    list("b");
    sync_all();
    next_log();
    newest();
    stop();
    assert_int_equal(logs[1].size, 0);
    for (size_t bit = 0; bit < 8 * logs[0].size; bit++) {
        logs[0].data[bit / 8] ^= (char)(1 << bit % 8);
        lay(logs[0].name, logs[0].data, logs[0].size);
        logs[0].data[bit / 8] ^= (char)(1 << bit % 8);
        assert_said(true, E_DAMAGED, logs[0].name, " byte ");
    }
    lay_all();
    assert_rows("a=1 b=1");
}

/* The last list is in front of nothing that would show its absence. RocksDB reads kinds of pieces that we never write, and takes some for the end. */
static void any_bit_of_the_head_of_the_last_list_that_is_another_is_refused_at_the_opening(void **state)
{
    (void)state;
    enum { HEAD = 7 + 12 };
    list("a");
    list("b");
    sync_all();
    stop();
    struct file *f = &logs[0];
    for (size_t bit = 8 * f->ends[0]; bit < 8 * (f->ends[0] + HEAD); bit++) {
        f->data[bit / 8] ^= (char)(1 << bit % 8);
        lay(f->name, f->data, f->size);
        f->data[bit / 8] ^= (char)(1 << bit % 8);
        struct err e = {0};
        if (open_store(&e) == E_OK)
            fail_msg("bit %zu of byte %zu: it opened", bit % 8, bit / 8 - f->ends[0]);
        assert_code(E_DAMAGED, e);
        assert_has(e.text, f->name);
        assert_int_equal(size_of(f->name), f->size);
    }
    lay_all();
    assert_rows("a=1 b=1");
}

/* A piece as RocksDB writes it. */
static size_t piece(uint8_t *to, uint8_t kind, const void *data, size_t size)
{
    struct buf b = {0};
    buf_put_u32(&b, 0);
    buf_put_u8(&b, (uint8_t)size);
    buf_put_u8(&b, (uint8_t)(size >> 8));
    buf_put_u8(&b, kind);
    buf_append(&b, data, size);
    uint32_t sum = rocks_crc_masked(rocks_crc32c(0, b.data + 6, 1 + size));
    for (int i = 0; i < 4; i++)
        b.data[i] = (uint8_t)(sum >> 8 * i);
    size_t n = b.size;
    memcpy(to, b.data, n);
    buf_free(&b);
    return n;
}

/* Kinds above 4 are of logs that are used again, of compressed ones, or of versions to come: with our options there are none. */
static void a_piece_of_a_kind_that_is_never_written_is_refused_though_its_sum_fits(void **state)
{
    (void)state;
    three_logs(true);
    uint8_t bytes[64];
    for (int kind = 0; kind < 256; kind++) {
        if (kind == 1)
            continue;
        size_t n = piece(bytes, (uint8_t)kind, logs[2].data + 7, 20);
        for (int sums = 0; sums < 2; sums++) {
            lay_all();
            add(logs[2].name, bytes, n);
            if (kind == 2) { /* a list that goes on where the log ends */
                assert_taken(sums);
                assert_int_equal(size_of(logs[2].name), logs[2].size);
                continue;
            }
            assert_said(sums, E_DAMAGED, logs[2].name, "is damaged at byte");
        }
    }
}

static void a_list_too_short_to_have_a_number_is_refused(void **state)
{
    (void)state;
    three_logs(true);
    uint8_t bytes[64];
    add(logs[2].name, bytes, piece(bytes, 1, "short", 5));
    assert_said(false, E_DAMAGED, logs[2].name, "is damaged at byte");
    lay_all();
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

/* As a tool writes them that does not know of us. */
static void a_list_without_our_mark_belongs_to_the_chain_and_says_nothing_of_syncs(void **state)
{
    (void)state;
    list("a");
    list("b");
    stop();
    uint8_t bytes[64], batch[17] = {0};
    batch[0] = 3; /* the number behind that of b */
    batch[8] = 1;
    memcpy(batch + 12, "\0\1z\1\1", 5); /* deletes or puts: only its head is looked at */
    add(logs[0].name, bytes, piece(bytes, 1, batch, sizeof batch));
    assert_taken(true);
    assert_false(dropped);
    batch[0] = 4;
    lay_all();
    add(logs[0].name, bytes, piece(bytes, 1, batch, sizeof batch));
    assert_taken(true);
    assert_true(dropped); /* of a gap that nobody knows to have been synced */
    assert_int_equal(size_of(logs[0].name), logs[0].size);
}

/* ---------------------------------------------------------------- zeros: what was never written */

static void zeros_behind_the_last_list_are_a_torn_end(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 6, 7, 100, 512, 4096, 32768, 70000};
    static const char zeros[70000];
    three_logs(true);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        for (int sums = 0; sums < 2; sums++) {
            lay_all();
            add(logs[2].name, zeros, counts[i]);
            assert_taken(sums);
            assert_false(dropped);
            assert_int_equal(size_of(logs[2].name), logs[2].size);
        }
    }
    lay_all();
    add(logs[2].name, zeros, 5000);
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

/* A hole of a page, with what was written behind it. */
static void a_hole_is_a_power_cut_only_where_nothing_behind_it_was_synced(void **state)
{
    (void)state;
    static char value[6001];
    memset(value, 'v', sizeof value - 1);
    for (int synced = 0; synced < 2; synced++) {
        static const char *const keys[] = {"a", "b", "c", "d", "e"};
        for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
            list_of(keys[i], value);
            if (synced)
                sync_all();
        }
        stop();
        struct file *f = &logs[0];
        for (int sums = 0; sums < 2; sums++) {
            char *holed = malloc(f->size);
            memcpy(holed, f->data, f->size);
            memset(holed + 8192, 0, 4096); /* in b */
            lay(f->name, holed, f->size);
            if (synced) {
                assert_said(true, E_DAMAGED, f->name, behind(f->ends[0]));
            } else {
                assert_taken(true);
                assert_true(dropped);
                assert_int_equal(size_of(f->name), f->ends[0]);
            }
            memset(holed + 12288, 0, 4096); /* and of a head */
            lay(f->name, holed, f->size);
            if (synced) {
                assert_said(sums, E_DAMAGED, f->name, behind(f->ends[0]));
            } else {
                assert_taken(sums);
                assert_true(dropped);
                assert_int_equal(size_of(f->name), f->ends[0]);
            }
            free(holed);
        }
        lay_all();
        assert_ok(open_store(&err));
        kit_is(store, FAM_META, "e", value);
        if (synced == 0) {
            end(NULL);
            begin(NULL);
        }
    }
}

/* ---------------------------------------------------------------- CURRENT and the manifest */

static void a_manifest_with_a_torn_end_is_taken_up_to_there(void **state)
{
    (void)state;
    three_logs(true);
    uint8_t bytes[64];
    size_t n = piece(bytes, 1, "torn", 4);
    for (size_t size = 1; size < n; size++) {
        lay_all();
        add(manifest.name, bytes, size);
        assert_taken(false);
    }
    static const char zeros[5000];
    for (size_t size = 1; size <= sizeof zeros; size += 499) {
        lay_all();
        add(manifest.name, zeros, size);
        assert_taken(false);
        assert_in_range(size_of(manifest.name), manifest.size, manifest.size + 6);
    }
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

/* What RocksDB had written and not synced when the power went: any of its sectors may be missing, wherever in one it begins. */
static void a_manifest_of_which_any_sectors_were_not_synced_is_taken_up_to_there(void **state)
{
    (void)state;
    enum { SECTOR = 512, RECORDS = 3, SECTORS_MAX = 6 };
    static const size_t sizes[][RECORDS] = {{11, 13, 35}, {54, 54, 54}, {300, 11, 60}, {11, 900, 54}, {1200, 300, 200}};
    static uint8_t all[8192], torn[8192], data[1200];
    three_logs(true);
    memcpy(all, manifest.data, manifest.size);
    memset(data, 0x5a, sizeof data);
    for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
        for (size_t pad = 0; pad < SECTOR; pad += pad < 8 || pad >= SECTOR - 8 ? 1 : 62) {
            size_t end = manifest.size, whole[RECORDS + 1];
            end += piece(all + end, 1, data, (SECTOR - manifest.size % SECTOR) + pad); /* synced, too: the rest begins everywhere in a sector */
            size_t synced = end, first = end / SECTOR;
            for (size_t i = 0; i < RECORDS; i++) {
                whole[i] = end;
                end += piece(all + end, 1, data, sizes[k][i]);
            }
            whole[RECORDS] = end;
            size_t sectors = (end - 1) / SECTOR - first + 1;
            assert_in_range(sectors, 1, SECTORS_MAX);
            for (unsigned lost = 1; lost < 1u << sectors; lost++) {
                memcpy(torn, all, end);
                for (size_t at = synced; at < end; at++)
                    torn[at] = lost >> (at / SECTOR - first) & 1 ? 0 : torn[at];
                size_t kept = 0;
                while (kept < RECORDS && memcmp(torn + whole[kept], all + whole[kept], whole[kept + 1] - whole[kept]) == 0)
                    kept++;
                lay(manifest.name, torn, end);
                assert_taken(false);
                assert_false(dropped);
                if (size_of(manifest.name) != whole[kept])
                    fail_msg("from %zu to %zu, without %x: %zu instead of %zu", synced, end, lost, size_of(manifest.name), whole[kept]);
            }
        }
    }
    lay_all();
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

static void a_sector_of_the_manifest_that_was_synced_and_is_missing_is_refused(void **state)
{
    (void)state;
    three_logs(true);
    for (size_t at = 512; at < manifest.size; at += 512) {
        char *holed = malloc(manifest.size);
        memcpy(holed, manifest.data, manifest.size);
        memset(holed + at, 0, manifest.size - at < 512 ? manifest.size - at : 512);
        lay(manifest.name, holed, manifest.size);
        assert_said(false, E_DAMAGED, manifest.name, "lacks what was on the disk behind byte");
        assert_refused(E_DAMAGED, manifest.name);
        free(holed);
    }
    lay_all();
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

static void a_manifest_that_lacks_what_the_logs_know_of_it_is_refused(void **state)
{
    (void)state;
    three_logs(true);
    for (size_t cut = 1; cut < 60; cut++) {
        lay(manifest.name, manifest.data, manifest.size - cut);
        assert_said(false, E_DAMAGED, manifest.name, "lacks what was on the disk behind byte");
    }
    assert_refused(E_DAMAGED, manifest.name);
    lay_all();
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

static void any_bit_of_the_manifest_that_is_another_is_refused_by_its_name(void **state)
{
    (void)state;
    three_logs(true);
    for (size_t bit = 0; bit < 8 * manifest.size; bit += bit < 8 * 60 || bit > 8 * (manifest.size - 60) ? 1 : 13) {
        manifest.data[bit / 8] ^= (char)(1 << bit % 8);
        lay(manifest.name, manifest.data, manifest.size);
        manifest.data[bit / 8] ^= (char)(1 << bit % 8);
        assert_said(false, E_DAMAGED, manifest.name, "");
    }
    lay_all();
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

static void a_size_in_the_manifest_that_reaches_over_its_end_is_no_torn_end(void **state)
{
    (void)state;
    stop(); /* no log knows how long it is */
    size_t at = 0, last = 0;
    while (at < manifest.size) {
        last = at;
        at += 7 + (uint8_t)manifest.data[at + 4];
    }
    assert_int_equal(at, manifest.size);
    manifest.data[last + 4] ^= 0x40; /* 64 more */
    assert_true((uint8_t)manifest.data[last + 4] > manifest.size - last - 7);
    lay_all();
    assert_said(false, E_DAMAGED, manifest.name, "is damaged: a size at byte");
    assert_refused(E_DAMAGED, manifest.name);
}

static void a_manifest_of_which_nothing_can_be_read_is_refused(void **state)
{
    (void)state;
    three_logs(true);
    for (size_t size = 0; size < 20; size++) {
        lay(manifest.name, manifest.data, size);
        assert_said(false, E_DAMAGED, manifest.name, "is damaged: nothing can be read of it");
    }
    assert_refused(E_DAMAGED, manifest.name);
}

static void an_older_manifest_is_refused_by_CURRENT(void **state)
{
    (void)state;
    three_logs(true);
    struct file older = manifest;
    manifest.data = NULL;
    for (size_t i = 0; i < logs_n; i++)
        free(logs[i].data);
    logs_n = 0;
    memset(logs, 0, sizeof logs);
    assert_ok(open_store(&err));
    list("g");
    stop();
    assert_string_not_equal(older.name, manifest.name);
    lay(older.name, older.data, older.size);
    char text[80];
    snprintf(text, sizeof text, "%s\n", older.name);
    lay("CURRENT", text, strlen(text));
    assert_said(false, E_DAMAGED, "CURRENT", older.name);
    assert_has(said.text, "there was a later one");
    assert_refused(E_DAMAGED, "/CURRENT'");
    snprintf(text, sizeof text, "%s\n", manifest.name);
    lay("CURRENT", text, strlen(text));
    free(older.data);
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1 g=1");
}

static void a_CURRENT_that_names_no_manifest_is_refused(void **state)
{
    (void)state;
    three_logs(true);
    char text[80];
    snprintf(text, sizeof text, "%s\n", manifest.name);
    static const char *const others[] = {"", "\n", "MANIFEST-\n", "MANIFEST-000005", "MANIFEST-000005x\n", "manifest-000005\n", "000004.log\n",
                                         "MANIFEST-000005\n\n", "MANIFEST-00000000000000000000000000000000000000000000000000000000000005\n"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        lay("CURRENT", others[i], strlen(others[i]));
        assert_said(false, E_DAMAGED, "CURRENT", "it does not hold the name of a manifest");
    }
    lay("CURRENT", "MANIFEST-999999\n", 16);
    assert_said(false, E_DAMAGED, "CURRENT", "names 'MANIFEST-999999', which is not there");
    assert_refused(E_DAMAGED, "/CURRENT'");
    lay("CURRENT", text, strlen(text));
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

/* ---------------------------------------------------------------- files that cannot be read or written */

/* Fails, and is the same afterwards. */
static void assert_failed(const char *name, const char *words)
{
    char expected[700];
    look(false);
    long times = disk_mended();
    assert_code(E_STORE_FAILED, said);
    snprintf(expected, sizeof expected, "%s '%s/%s'", words, dir, name);
    assert_has(said.text, expected);
    assert_false(dropped);
    assert_true(times > 0);
}

static void what_cannot_be_opened_or_read_is_named_and_no_damage(void **state)
{
    (void)state;
    three_logs(true);
    disk_call_fails(DISK_OPEN, "/CURRENT", EMFILE, 0);
    assert_failed("CURRENT", "cannot read");
    assert_has(said.text, strerror(EMFILE));
    disk_call_fails(DISK_OPEN, manifest.name, EMFILE, 0);
    assert_failed(manifest.name, "cannot open");
    disk_call_fails(DISK_STAT, manifest.name, EIO, 0);
    assert_failed(manifest.name, "cannot open");
    assert_has(said.text, strerror(EIO));
    disk_call_fails(DISK_READ, manifest.name, EIO, 0);
    assert_failed(manifest.name, "cannot read");
    assert_has(said.text, strerror(EIO));
    disk_call_fails(DISK_OPEN, "/.", ENFILE, 0);
    assert_failed(".", "cannot read");
    disk_call_fails(DISK_LIST, dir, EIO, 4);
    assert_failed(".", "cannot read");
    for (size_t i = 0; i < logs_n; i++) {
        disk_call_fails(DISK_OPEN, logs[i].name, EMFILE, 0);
        assert_failed(logs[i].name, "cannot open");
        disk_call_fails(DISK_STAT, logs[i].name, EIO, 0);
        assert_failed(logs[i].name, "cannot open");
        assert_has(said.text, strerror(EIO));
        disk_call_fails(DISK_READ, logs[i].name, EIO, 0);
        assert_failed(logs[i].name, "cannot read");
        assert_has(said.text, strerror(EIO));
    }
    disk_call_fails(DISK_READ, logs[1].name, EIO, 0);
    assert_refused(E_STORE_FAILED, logs[1].name);
    disk_mended();
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

static void what_is_no_file_where_one_should_be_is_named(void **state)
{
    (void)state;
    three_logs(true);
    lay_all();
    assert_int_equal(symlink("nowhere", kit_path(dir, "999999.log")), 0);
    assert_said(false, E_STORE_FAILED, "999999.log", "cannot open");
    assert_refused(E_STORE_FAILED, "999999.log");
    assert_int_equal(unlink(kit_path(dir, "999999.log")), 0);
    assert_int_equal(rename(kit_path(dir, "CURRENT"), kit_path(dir, "kept")), 0);
    assert_int_equal(mkdir(kit_path(dir, "CURRENT"), 0700), 0);
    assert_said(false, E_STORE_FAILED, "CURRENT", "cannot read");
    assert_int_equal(rmdir(kit_path(dir, "CURRENT")), 0);
    assert_int_equal(rename(kit_path(dir, "kept"), kit_path(dir, "CURRENT")), 0);
    assert_rows("a=1 b=1 c=1 d=1 e=1 f=1");
}

static void a_torn_end_that_cannot_be_shortened_is_refused_and_stays(void **state)
{
    (void)state;
    static const enum disk_call calls[] = {DISK_SHORTEN, DISK_SYNC};
    static const char zeros[600];
    three_logs(false);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        const char *const torn[] = {logs[2].name, manifest.name};
        for (size_t k = 0; k < ARRAY_LEN(torn); k++) {
            lay_all();
            add(torn[k], zeros, sizeof zeros);
            disk_call_fails(calls[i], torn[k], EIO, 0);
            assert_failed(torn[k], "cannot shorten");
            assert_has(said.text, strerror(EIO));
            assert_taken(false); /* once it can be, all is well */
        }
    }
    lay_all();
    lay(logs[1].name, logs[1].data, logs[1].size - 1);
    disk_call_fails(DISK_SHORTEN, logs[1].name, EIO, 0);
    assert_failed(logs[1].name, "cannot shorten"); /* behind the last, which is empty by then: the break is where it was */
    assert_int_equal(size_of(logs[2].name), 0);
    assert_taken(false);
    assert_rows("a=1 b=1 c=1 d=1");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(int argc, char **args)
{
    if (argc == 2)
        cmocka_set_test_filter(args[1]);
    const struct CMUnitTest tests[] = {
        TEST(logs_as_they_were_written_are_taken_and_left_alone),
        TEST(lists_over_many_blocks_and_up_to_any_place_in_one_are_taken),
        TEST(the_newest_log_cut_anywhere_ends_behind_its_last_whole_list),
        TEST(a_log_that_is_shared_is_shortened_for_who_opens_it_alone),
        TEST(an_older_log_cut_anywhere_is_refused_where_a_later_list_knows_what_was_synced),
        TEST(an_older_log_cut_where_nothing_was_synced_ends_the_logs_there),
        TEST(who_opens_logs_with_a_hole_is_told_that_something_was_dropped),
        TEST(what_was_synced_is_told_from_what_was_not),
        TEST(a_log_that_is_missing_is_refused_by_the_name_of_the_one_in_front),
        TEST(a_log_that_is_missing_where_nothing_was_synced_ends_the_logs_there),
        TEST(a_first_log_that_is_missing_is_refused_where_the_manifest_shows_it),
        TEST(logs_that_were_swapped_are_refused),
        TEST(a_log_that_is_there_twice_is_refused_by_the_name_of_the_second),
        TEST(any_bit_of_any_log_that_is_another_is_refused_by_the_logs_name),
        TEST(any_bit_of_a_log_behind_which_nothing_was_written_yet_is_refused),
        TEST(any_bit_of_the_head_of_the_last_list_that_is_another_is_refused_at_the_opening),
        TEST(a_piece_of_a_kind_that_is_never_written_is_refused_though_its_sum_fits),
        TEST(a_list_too_short_to_have_a_number_is_refused),
        TEST(a_list_without_our_mark_belongs_to_the_chain_and_says_nothing_of_syncs),
        TEST(zeros_behind_the_last_list_are_a_torn_end),
        TEST(a_hole_is_a_power_cut_only_where_nothing_behind_it_was_synced),
        TEST(a_manifest_with_a_torn_end_is_taken_up_to_there),
        TEST(a_manifest_of_which_any_sectors_were_not_synced_is_taken_up_to_there),
        TEST(a_sector_of_the_manifest_that_was_synced_and_is_missing_is_refused),
        TEST(a_manifest_that_lacks_what_the_logs_know_of_it_is_refused),
        TEST(any_bit_of_the_manifest_that_is_another_is_refused_by_its_name),
        TEST(a_size_in_the_manifest_that_reaches_over_its_end_is_no_torn_end),
        TEST(a_manifest_of_which_nothing_can_be_read_is_refused),
        TEST(an_older_manifest_is_refused_by_CURRENT),
        TEST(a_CURRENT_that_names_no_manifest_is_refused),
        TEST(what_cannot_be_opened_or_read_is_named_and_no_damage),
        TEST(what_is_no_file_where_one_should_be_is_named),
        TEST(a_torn_end_that_cannot_be_shortened_is_refused_and_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Backups: what is refused, what is left, who waits. The store is one whose checkpoints take as long as a test wants. */
#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/files.h"
#include "base/macros.h"
#include "broker/backup.h"
#include "schemas/errors.h"

/* ---------------------------------------------------------------- the store, and an asker */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool held;
    int begun, code;
    uint64_t disk_free;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int fake_checkpoint(struct store *s, const char *path, struct store_checkpoint *out, struct err *e)
{
    (void)s;
    if (mkdir(path, 0700) != 0)
        return err_set(e, E_INTERNAL, "'%s'", path);
    pthread_mutex_lock(&fake.lock);
    fake.begun++;
    pthread_cond_broadcast(&fake.changed);
    while (fake.held)
        pthread_cond_wait(&fake.changed, &fake.lock);
    int code = fake.code;
    pthread_mutex_unlock(&fake.lock);
    *out = (struct store_checkpoint){.bytes = 77, .files = 3};
    return code == E_OK ? E_OK : err_set(e, code, "the file '%s/x'", path); /* and leaves a part of it */
}

static void fake_stats(struct store *s, struct store_stats *out)
{
    (void)s;
    *out = (struct store_stats){.disk_free = fake.disk_free};
}

static const struct store_ops fake_ops = {.checkpoint = fake_checkpoint, .stats = fake_stats};
static struct store store = {&fake_ops};

static void hold(bool held)
{
    pthread_mutex_lock(&fake.lock);
    fake.held = held;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

static void begun(int times)
{
    pthread_mutex_lock(&fake.lock);
    while (fake.begun < times)
        pthread_cond_wait(&fake.changed, &fake.lock);
    pthread_mutex_unlock(&fake.lock);
}

struct ask {
    struct op op;
    bool done;
};

static void on_done(struct op *op)
{
    pthread_mutex_lock(&fake.lock);
    container_of(op, struct ask, op)->done = true;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

static struct backup *backup;
static char root[64], dir[96];

static void take(struct ask *a, const char *name, uint64_t session)
{
    *a = (struct ask){.op = {.done = on_done, .read = READ_BACKUP}};
    a->op.request = (struct wire_request){.verb = VERB_BACKUP, .session = {.lo = session}, .backup = {.name = view_of_str(name)}};
    backup_take(backup, &a->op, 41);
}

static void await(struct ask *a)
{
    pthread_mutex_lock(&fake.lock);
    while (!a->done)
        pthread_cond_wait(&fake.changed, &fake.lock);
    pthread_mutex_unlock(&fake.lock);
}

static void expect(const char *name, uint64_t session, int code, const char *words)
{
    struct ask a;
    take(&a, name, session);
    await(&a);
    if (a.op.reply.code != code)
        fail_msg("%s: %s: %s", name, error_name(a.op.reply.code), a.op.error.text);
    if (code != E_OK)
        assert_has(a.op.error.text, words);
    else
        assert_true(view_eq(a.op.reply.backup.path, view_of_str(words)));
    buf_free(&a.op.payload);
}

static void start(const char *in, const char *data)
{
    struct err e = {0};
    struct backup_options o = {.store = &store, .dir = in, .data = data, .kept_max = 3, .reserve_bytes = 1000};
    if (backup_start(&backup, &o, &e) != E_OK)
        fail_msg("%s", e.text);
}

static int begin(void **state)
{
    (void)state;
    fake.held = false;
    fake.begun = fake.code = 0;
    fake.disk_free = 1000;
    snprintf(root, sizeof root, "/tmp/sluice-backup-XXXXXX");
    assert_non_null(mkdtemp(root));
    snprintf(dir, sizeof dir, "%s/backups", root);
    return 0;
}

static int end(void **state)
{
    (void)state;
    hold(false);
    backup_stop(backup);
    backup = NULL;
    return files_remove(root, NULL);
}

static const char *below(const char *name)
{
    static char paths[4][256];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static bool there(const char *name) { return access(below(name), F_OK) == 0; }

/* ---------------------------------------------------------------- tests */

static void without_a_directory_of_the_operators_nothing_is_made(void **state)
{
    (void)state;
    start("", root);
    expect("a", 1, E_CONFIG, "backup_dir is not set");
    assert_int_equal(fake.begun, 0);
}

static void one_is_made_under_its_name_and_for_the_owner_alone(void **state)
{
    (void)state;
    start(dir, root);
    struct ask a;
    take(&a, "a", 1);
    await(&a);
    assert_int_equal(a.op.reply.code, E_OK);
    assert_int_equal(a.op.reply.body, BODY_BACKUP);
    assert_true(view_eq(a.op.reply.backup.path, view_of_str(below("a"))));
    assert_int_equal(a.op.reply.backup.turn, 41);
    assert_int_equal(a.op.reply.backup.bytes, 77);
    assert_int_equal(a.op.reply.backup.files, 3);
    buf_free(&a.op.payload);
    struct stat st;
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_true(there("a"));
    assert_false(there(".partial"));
    struct backup_counts n;
    backup_counts(backup, &n);
    assert_int_equal(n.made, 1);
    assert_int_equal(n.failed, 0);
}

static void there_is_one_at_a_time_and_nobody_waits_for_it(void **state)
{
    (void)state;
    start(dir, root);
    hold(true);
    struct ask a;
    take(&a, "a", 1);
    begun(1);
    assert_false(there("a")); /* it has its name when it is whole */
    expect("b", 2, E_OVERLOADED, "another backup");
    hold(false);
    await(&a);
    assert_int_equal(a.op.reply.code, E_OK);
    buf_free(&a.op.payload);
    struct ask b;
    do { /* the thread that answered is on its way back */
        take(&b, "b", 2);
        await(&b);
        buf_free(&b.op.payload);
    } while (b.op.reply.code == E_OVERLOADED);
    assert_int_equal(b.op.reply.code, E_OK);
}

static void of_one_that_failed_nothing_is_left_and_the_next_is_made(void **state)
{
    (void)state;
    start(dir, root);
    fake.code = E_DISK_FULL;
    expect("a", 1, E_DISK_FULL, ".partial/db/x");
    assert_false(there("a"));
    assert_false(there(".partial"));
    fake.code = E_OK;
    struct backup_counts n;
    backup_counts(backup, &n);
    assert_int_equal(n.failed, 1);
    for (struct ask a = {.op.reply.code = E_OVERLOADED}; a.op.reply.code != E_OK;) {
        take(&a, "a", 1);
        await(&a);
        assert_true(a.op.reply.code == E_OK || a.op.reply.code == E_OVERLOADED);
        buf_free(&a.op.payload);
    }
    assert_true(there("a"));
}

static void ask_until(const char *name, uint64_t session, int code, const char *words)
{
    for (;;) {
        struct ask a;
        take(&a, name, session);
        await(&a);
        int got = a.op.reply.code;
        if (got == code && code != E_OK)
            assert_has(a.op.error.text, words);
        buf_free(&a.op.payload);
        if (got == code)
            return;
        if (got != E_OVERLOADED)
            fail_msg("%s: %s: %s", name, error_name(got), a.op.error.text);
    }
}

static void a_name_that_is_taken_a_full_directory_and_a_full_disk_are_refused(void **state)
{
    (void)state;
    start(dir, root);
    assert_int_equal(mkdir(below("a"), 0700), 0);
    ask_until("a", 1, E_EXISTS, below("a"));
    ask_until("b", 1, E_OK, "");
    fake.disk_free = 999;
    ask_until("c", 1, E_DISK_FULL, "disk_reserve_bytes = 1000");
    fake.disk_free = 1000;
    ask_until("c", 1, E_OK, "");
    ask_until("d", 1, E_LIMIT, "backups_max = 3");
    assert_int_equal(rmdir(below("a")), 0);
    ask_until("d", 1, E_OK, "");
    assert_int_equal(fake.begun, 3);
}

static void a_directory_that_cannot_be_used_is_named_and_is_no_reason_not_to_start(void **state)
{
    (void)state;
    int fd = open(dir, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
    start(dir, root);
    expect("a", 1, E_CONFIG, dir);
    backup_stop(backup);
    assert_int_equal(unlink(dir), 0);
    start(dir, "/proc"); /* the data lies elsewhere */
    expect("a", 1, E_CONFIG, "another file system");
    assert_int_equal(fake.begun, 0);
}

static void what_a_killed_broker_left_goes_at_the_next_start_and_nothing_else(void **state)
{
    (void)state;
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(mkdir(below("whole"), 0700), 0);
    assert_int_equal(mkdir(below(".partial"), 0700), 0);
    assert_int_equal(mkdir(below(".partial/db.tmp"), 0700), 0);
    int other = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(other, LOCK_EX), 0); /* another broker is at work there */
    start(dir, root);
    assert_true(there(".partial"));
    expect("a", 1, E_OVERLOADED, "another broker");
    backup_stop(backup);
    close(other);
    start(dir, root);
    assert_false(there(".partial"));
    assert_true(there("whole"));
}

static void who_asks_again_in_its_session_hears_of_the_one_that_was_made(void **state)
{
    (void)state;
    start(dir, root);
    ask_until("a", 1, E_OK, "");
    ask_until("a", 1, E_OK, "");
    assert_int_equal(fake.begun, 1);
    ask_until("a", 2, E_EXISTS, below("a"));
    assert_int_equal(files_remove(below("a"), NULL), 0);
    ask_until("a", 1, E_OK, ""); /* it is gone: made anew */
    assert_int_equal(fake.begun, 2);
}

static void *stop(void *arg)
{
    backup_stop(arg);
    return NULL;
}

static void who_stops_waits_for_the_one_that_is_being_made(void **state)
{
    (void)state;
    start(dir, root);
    hold(true);
    struct ask a;
    pthread_t t;
    take(&a, "a", 1);
    begun(1);
    assert_int_equal(pthread_create(&t, NULL, stop, backup), 0);
    hold(false);
    await(&a);
    pthread_join(t, NULL);
    backup = NULL;
    assert_int_equal(a.op.reply.code, E_OK);
    assert_true(there("a"));
    buf_free(&a.op.payload);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_a_directory_of_the_operators_nothing_is_made),
        TEST(one_is_made_under_its_name_and_for_the_owner_alone),
        TEST(there_is_one_at_a_time_and_nobody_waits_for_it),
        TEST(of_one_that_failed_nothing_is_left_and_the_next_is_made),
        TEST(a_name_that_is_taken_a_full_directory_and_a_full_disk_are_refused),
        TEST(a_directory_that_cannot_be_used_is_named_and_is_no_reason_not_to_start),
        TEST(what_a_killed_broker_left_goes_at_the_next_start_and_nothing_else),
        TEST(who_asks_again_in_its_session_hears_of_the_one_that_was_made),
        TEST(who_stops_waits_for_the_one_that_is_being_made),
    };
    return cmocka_run_group_tests_name("loop-backup", tests, NULL, NULL);
}

/* Backups: see backup.h. */
#include "broker/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/mem.h"
#include "schemas/errors.h"

enum { BUSY_MS = 200 };

struct backup {
    struct backup_options o;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct op *op; /* asked for, or being made; NULL: none */
    uint64_t turn; /* of it */
    bool stopping;
    struct backup_counts counts;
    /* the thread's: the last that was made, for who asks again because the answer was lost */
    struct id128 last_session;
    struct wire_backup_reply last;
    char last_name[WIRE_NAME_MAX + 1], last_path[PATH_MAX];
};

static int failed(struct err *e, const char *doing, const char *path)
{
    int code = errno == ENOSPC || errno == EDQUOT ? E_DISK_FULL : E_CONFIG;
    return err_set(e, code, "cannot %s '%s': %s", doing, path, strerror(errno));
}

/* DIR/NAME; false: too long. */
static bool below(const char *dir, const char *name, char out[PATH_MAX])
{
    return snprintf(out, PATH_MAX, "%s/%s", dir, name) < PATH_MAX;
}

/* ---------------------------------------------------------------- the directory */

/* Opens it, and locks it against another broker with the same one. */
static int directory_open(struct backup *b, int *fd, struct err *e)
{
    *fd = open(b->o.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0)
        return failed(e, "open", b->o.dir);
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
        return E_OK;
    int code = errno == EWOULDBLOCK ? err_set(e, E_OVERLOADED, "another broker makes a backup in '%s'", b->o.dir) : failed(e, "lock", b->o.dir);
    close(*fd);
    return code;
}

/* A backup is links to files of the data, so both are on one file system: else it would be a copy of everything, and take as long. */
static int check_directory(struct backup *b, int fd, struct err *e)
{
    struct stat dir, data;
    if (fstat(fd, &dir) != 0)
        return failed(e, "look at", b->o.dir);
    if (b->o.data == NULL)
        return E_OK;
    if (stat(b->o.data, &data) != 0)
        return failed(e, "look at", b->o.data);
    if (dir.st_dev != data.st_dev)
        return err_set(e, E_CONFIG, "backup_dir '%s' is on another file system than the data, '%s': a backup is links to its files", b->o.dir, b->o.data);
    return E_OK;
}

static int check_number(struct backup *b, int fd, struct err *e)
{
    uint64_t n = 0;
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    if (dir == NULL) {
        int code = failed(e, "read", b->o.dir);
        if (copy >= 0)
            close(copy);
        return code;
    }
    for (struct dirent *x; (x = readdir(dir)) != NULL;) {
        struct stat st;
        n += x->d_name[0] != '.' && fstatat(copy, x->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
    }
    closedir(dir);
    if (n < b->o.kept_max)
        return E_OK;
    return err_set(e, E_LIMIT, "'%s' holds %" PRIu64 " backups, limit backups_max = %" PRIu64 ": remove one", b->o.dir, n, b->o.kept_max);
}

static int check_space(struct backup *b, struct err *e)
{
    struct store_stats disk;
    store_stats(b->o.store, &disk);
    if (disk.disk_free >= b->o.reserve_bytes)
        return E_OK;
    return err_set(e, E_DISK_FULL, "%" PRIu64 " bytes free, limit disk_reserve_bytes = %" PRIu64, disk.disk_free, b->o.reserve_bytes);
}

/* ---------------------------------------------------------------- one backup */

static int clean(const char *partial, struct err *e)
{
    return files_remove(partial, e) == 0 ? E_OK : err_set(e, E_CONFIG, "%s", e->text);
}

/* In DIR/.partial, and from there to its name. */
static int make(struct backup *b, int fd, const char *name, const char *path, struct store_checkpoint *made, struct err *e)
{
    char partial[PATH_MAX], inside[PATH_MAX];
    if (!below(b->o.dir, ".partial", partial) || !below(partial, "db", inside))
        return err_set(e, E_CONFIG, "backup_dir '%s' is too long", b->o.dir);
    int code = clean(partial, e);
    if (code == E_OK && mkdir(partial, 0700) != 0)
        code = failed(e, "make", partial);
    if (code == E_OK)
        code = store_checkpoint(b->o.store, inside, made, e);
    if (code == E_OK && renameat2(fd, ".partial/db", fd, name, RENAME_NOREPLACE) != 0)
        code = errno == EEXIST ? err_set(e, E_EXISTS, "'%s' exists", path) : failed(e, "make", path);
    if (code == E_OK && fsync(fd) != 0)
        code = failed(e, "sync", b->o.dir);
    files_remove(partial, NULL);
    return code;
}

static int run(struct backup *b, const char *name, char path[PATH_MAX], struct store_checkpoint *made, struct err *e)
{
    int fd;
    struct stat st;
    if (!below(b->o.dir, name, path))
        return err_set(e, E_CONFIG, "backup_dir '%s' is too long", b->o.dir);
    int code = directory_open(b, &fd, e);
    if (code != E_OK)
        return code;
    code = check_directory(b, fd, e);
    if (code == E_OK && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        code = err_set(e, E_EXISTS, "'%s' exists", path);
    if (code == E_OK)
        code = check_number(b, fd, e);
    if (code == E_OK)
        code = check_space(b, e);
    if (code == E_OK)
        code = make(b, fd, name, path, made, e);
    close(fd);
    return code;
}

/* ---------------------------------------------------------------- requests */

static void refuse(struct op *op, int code)
{
    op->reply = (struct wire_reply){.code = (uint16_t)code, .detail = view_of_str(op->error.text),
                                    .retry_after_ms = code == E_OVERLOADED ? BUSY_MS : 0};
    op->read = READ_NONE;
    op->done(op);
}

static void answer(struct op *op, const struct wire_backup_reply *reply)
{
    buf_append(&op->payload, reply->path.data, reply->path.size);
    op->reply = (struct wire_reply){.body = BODY_BACKUP, .backup = *reply};
    op->reply.backup.path = buf_view(&op->payload);
    op->read = READ_NONE;
    op->done(op);
}

/* Asked again in the same session: it was made, and the answer was lost with the connection. */
static bool is_repeat(const struct backup *b, const struct op *op, const char *name)
{
    return b->last_name[0] != '\0' && strcmp(b->last_name, name) == 0 && id128_eq(b->last_session, op->request.session) &&
           access(b->last_path, F_OK) == 0;
}

static void serve(struct backup *b, struct op *op, uint64_t turn)
{
    char name[WIRE_NAME_MAX + 1], path[PATH_MAX] = "";
    struct store_checkpoint made = {0};
    snprintf(name, sizeof name, "%.*s", (int)op->request.backup.name.size, (const char *)op->request.backup.name.data);
    if (is_repeat(b, op, name)) {
        answer(op, &b->last);
        return;
    }
    uint64_t began = clock_mono_ns();
    int code = run(b, name, path, &made, &op->error);
    uint64_t ns = clock_mono_ns() - began;
    pthread_mutex_lock(&b->lock);
    b->counts.made += code == E_OK;
    b->counts.failed += code != E_OK;
    b->counts.last_ns = code == E_OK ? ns : b->counts.last_ns;
    pthread_mutex_unlock(&b->lock);
    if (code != E_OK) {
        log_warn("no backup '%s': %s", name, op->error.text);
        refuse(op, code);
        return;
    }
    log_info("backup path=%s turn=%" PRIu64 " bytes=%" PRIu64 " ms=%" PRIu64, path, turn, made.bytes, ns / 1000000);
    b->last_session = op->request.session;
    snprintf(b->last_name, sizeof b->last_name, "%s", name);
    snprintf(b->last_path, sizeof b->last_path, "%s", path);
    b->last = (struct wire_backup_reply){.path = view_of_str(b->last_path), .turn = turn, .bytes = made.bytes, .files = made.files,
                                         .took_ms = ns / 1000000};
    answer(op, &b->last);
}

static void *backup_main(void *arg)
{
    struct backup *b = arg;
    pthread_mutex_lock(&b->lock);
    for (;;) {
        while (b->op == NULL && !b->stopping)
            pthread_cond_wait(&b->wake, &b->lock);
        if (b->op == NULL || b->stopping)
            break;
        struct op *op = b->op;
        uint64_t turn = b->turn;
        pthread_mutex_unlock(&b->lock);
        serve(b, op, turn);
        pthread_mutex_lock(&b->lock);
        b->op = NULL;
    }
    struct op *op = b->op;
    b->op = NULL;
    pthread_mutex_unlock(&b->lock);
    if (op != NULL)
        refuse(op, E_SHUTTING_DOWN);
    return NULL;
}

void backup_take(struct backup *b, struct op *op, uint64_t turn)
{
    struct err *e = &op->error;
    if (b->o.dir[0] == '\0') {
        refuse(op, err_set(e, E_CONFIG, "no backups: backup_dir is not set"));
        return;
    }
    pthread_mutex_lock(&b->lock);
    int code = b->stopping ? err_set(e, E_SHUTTING_DOWN, "backup") : b->op != NULL ? err_set(e, E_OVERLOADED, "another backup is being made") : E_OK;
    if (code == E_OK) {
        b->op = op;
        b->turn = turn;
        pthread_cond_signal(&b->wake);
    }
    pthread_mutex_unlock(&b->lock);
    if (code != E_OK)
        refuse(op, code);
}

/* ---------------------------------------------------------------- life */

/* What there is wrong with the directory is said now, by night nobody reads it. */
static void look_at_directory(struct backup *b)
{
    char partial[PATH_MAX];
    struct err e = {0};
    int fd = -1;
    if (mkdir(b->o.dir, 0700) != 0 && errno != EEXIST)
        failed(&e, "make", b->o.dir);
    else if (directory_open(b, &fd, &e) == E_OK) {
        if (check_directory(b, fd, &e) == E_OK && below(b->o.dir, ".partial", partial) && access(partial, F_OK) == 0 && clean(partial, &e) == E_OK)
            log_info("removed what a backup that did not end left: %s", partial);
        close(fd);
    }
    if (e.code != E_OK)
        log_warn("no backups can be made: %s", e.text);
}

int backup_start(struct backup **out, const struct backup_options *options, struct err *e)
{
    struct backup *b = mem_zalloc(sizeof *b);
    b->o = *options;
    b->o.dir = b->o.dir != NULL ? b->o.dir : "";
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->wake, NULL);
    if (b->o.dir[0] != '\0')
        look_at_directory(b);
    int code = pthread_create(&b->thread, NULL, backup_main, b);
    if (code != 0) {
        mem_free(b);
        return err_set(e, E_INTERNAL, "the thread that makes backups: %s", strerror(code));
    }
    pthread_setname_np(b->thread, "backup");
    *out = b;
    return E_OK;
}

void backup_counts(struct backup *b, struct backup_counts *out)
{
    pthread_mutex_lock(&b->lock);
    *out = b->counts;
    pthread_mutex_unlock(&b->lock);
}

void backup_stop(struct backup *b)
{
    if (b == NULL)
        return;
    pthread_mutex_lock(&b->lock);
    b->stopping = true;
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->thread, NULL);
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->wake);
    mem_free(b);
}

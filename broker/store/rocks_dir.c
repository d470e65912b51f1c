/* The data directory: made, locked, and never mistaken for another. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "schemas/errors.h"
#include "store/rocks.h"

#define PID_FILE "broker.pid"
#define CREATING_FILE "creating"
#define RESERVE_FILE "reserve"

static int failed(struct err *e, int number, const char *doing, const char *path, const char *file)
{
    int code = number == ENOSPC || number == EDQUOT ? E_DISK_FULL : E_STORE_FAILED;
    const char *slash = file[0] != '\0' ? "/" : "";
    return err_set(e, code, "cannot %s '%s%s%s': %s", doing, path, slash, file, strerror(number));
}

/* ---------------------------------------------------------------- made */

/* The directory that holds the last part of `path`. */
static char *parent_of(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    while (end > 0 && path[end - 1] != '/')
        end--;
    while (end > 1 && path[end - 1] == '/')
        end--;
    return end == 0 ? mem_strdup(".") : mem_strndup(path, end);
}

/* Who gave us a directory in one that we may not read (`made`: not so) keeps it there. */
static int sync_parent(const char *path, bool made, struct err *e)
{
    char *parent = parent_of(path);
    int code = E_OK;
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool not_ours = fd < 0 && errno == EACCES && !made;
    if (!not_ours && (fd < 0 || fsync(fd) != 0))
        code = failed(e, errno, "sync", parent, "");
    if (fd >= 0)
        close(fd);
    mem_free(parent);
    return code;
}

static int make_directory(struct rocks_dir *d, bool *made, struct err *e)
{
    *made = mkdir(d->path, 0700) == 0;
    if (!*made && errno != EEXIST)
        return failed(e, errno, "make", d->path, "");
    d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return d->fd >= 0 ? E_OK : failed(e, errno, "open", d->path, "");
}

static int sync_directory(struct rocks_dir *d, struct err *e)
{
    return fsync(d->fd) == 0 ? E_OK : failed(e, errno, "sync", d->path, "");
}

/* ---------------------------------------------------------------- locked */

static long read_pid(int fd)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    long pid = 0;
    return n > 0 && sscanf(text, "%ld", &pid) == 1 ? pid : 0;
}

static int lock_directory(struct rocks_dir *d, struct err *e)
{
    d->pid_fd = openat(d->fd, PID_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->pid_fd < 0)
        return failed(e, errno, "open", d->path, PID_FILE);
    if (flock(d->pid_fd, LOCK_EX | LOCK_NB) != 0) {
        int number = errno;
        long pid = read_pid(d->pid_fd);
        close(d->pid_fd); /* what is in it is not ours to take away */
        d->pid_fd = -1;
        if (number != EWOULDBLOCK)
            return failed(e, number, "lock", d->path, PID_FILE);
        if (pid == 0)
            return err_set(e, E_STORE_LOCKED, "data directory '%s' is in use by another broker", d->path);
        return err_set(e, E_STORE_LOCKED, "data directory '%s' is in use by another broker, process %ld",
                       d->path, pid);
    }
    /* The lock is what counts, the number is for people: without space there is none. */
    char text[32];
    int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(d->pid_fd, 0) == 0 && pwrite(d->pid_fd, text, (size_t)size, 0) != size)
        (void)!ftruncate(d->pid_fd, 0);
    return E_OK;
}

/* ---------------------------------------------------------------- looked at */

static bool has_suffix(const char *name, const char *suffix)
{
    size_t size = strlen(name), end = strlen(suffix);
    return size >= end && strcmp(name + size - end, suffix) == 0;
}

static bool is_ours(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lost+found") == 0 ||
           strcmp(name, PID_FILE) == 0 || strcmp(name, RESERVE_FILE) == 0;
}

static bool is_data(const char *name)
{
    return strncmp(name, "MANIFEST-", 9) == 0 || has_suffix(name, ".log") || has_suffix(name, ".sst") ||
           has_suffix(name, ".blob");
}

struct contents {
    bool creating, current, data;
    bool rows;        /* a file of data that holds something: a creation makes none */
    char foreign[64]; /* a file that is neither ours nor RocksDB's */
};

/* Calls `fn` for each name in the directory. */
static int each_name(const struct rocks_dir *d, void (*fn)(void *arg, int dir_fd, const char *name),
                     void *arg, struct err *e)
{
    int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int number = errno;
        if (fd >= 0)
            close(fd);
        return failed(e, number, "read", d->path, "");
    }
    struct dirent *x;
    while (errno = 0, (x = readdir(dir)) != NULL)
        fn(arg, fd, x->d_name);
    int number = errno;
    closedir(dir);
    return number == 0 ? E_OK : failed(e, number, "read", d->path, "");
}

static bool holds_rows(int dir_fd, const char *name)
{
    struct stat st;
    return strncmp(name, "MANIFEST-", 9) != 0 && (fstatat(dir_fd, name, &st, 0) != 0 || st.st_size > 0);
}

static void look_at(void *arg, int dir_fd, const char *name)
{
    struct contents *c = arg;
    if (strcmp(name, CREATING_FILE) == 0)
        c->creating = true;
    else if (strcmp(name, "CURRENT") == 0)
        c->current = true;
    else if (is_data(name)) {
        c->data = true;
        c->rows |= holds_rows(dir_fd, name);
    } else if (!is_ours(name))
        snprintf(c->foreign, sizeof c->foreign, "%s", name);
}

/*
 *     CREATING_FILE  CURRENT  else            what it is
 *     yes            any      no rows         a creation that did not end: nothing in it was ever answered for
 *     any            yes      any             a database; the other file was put there by somebody
 *     no             no       nothing         a new directory
 *     any            no       RocksDB's data  a database that lost its CURRENT
 *     no             no       other files     somebody else's directory
 */
static int look(struct rocks_dir *d, bool *fresh, struct err *e)
{
    struct contents c = {0};
    int code = each_name(d, look_at, &c, e);
    if (code != E_OK)
        return code;
    d->creating = c.creating;
    *fresh = (c.creating && !c.rows) || !c.current;
    if ((c.creating && !c.rows) || c.current)
        return E_OK;
    if (c.data)
        return err_set(e, E_DAMAGED, "'%s/CURRENT' is missing, and there is data beside it", d->path);
    if (c.foreign[0] != '\0')
        return err_set(e, E_STORE_FAILED, "'%s' is not a data directory and not empty: '%s' is there",
                       d->path, c.foreign);
    return E_OK;
}

static int mark_creating(struct rocks_dir *d, struct err *e)
{
    int fd = openat(d->fd, CREATING_FILE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(e, errno, "make", d->path, CREATING_FILE);
    close(fd);
    d->creating = true;
    return sync_directory(d, e);
}

int rocks_dir_made(struct rocks_dir *d, struct err *e)
{
    if (unlinkat(d->fd, CREATING_FILE, 0) != 0)
        return failed(e, errno, "remove", d->path, CREATING_FILE);
    return sync_directory(d, e);
}

struct removal { struct rocks_dir *d; struct err *e; bool any; int code; };

static void remove_half_made(void *arg, int dir_fd, const char *name)
{
    struct removal *r = arg;
    if (r->code != E_OK || (strcmp(name, "CURRENT") != 0 && strncmp(name, "OPTIONS-", 8) != 0 && !is_data(name)))
        return;
    if (unlinkat(dir_fd, name, 0) != 0 && errno != ENOENT)
        r->code = failed(r->e, errno, "remove", r->d->path, name);
    r->any = true;
}

/* What a creation that did not end has left is not gone on with: a power cut may have torn any of it, the manifest that CURRENT names, too,
 * and RocksDB takes no torn one. */
static int begin_anew(struct rocks_dir *d, struct err *e)
{
    struct removal r = {.d = d, .e = e};
    int code = each_name(d, remove_half_made, &r, e);
    code = code == E_OK ? r.code : code;
    return code == E_OK && r.any ? sync_directory(d, e) : code;
}

/* ---------------------------------------------------------------- opened and closed */

static int open_all(struct rocks_dir *d, bool *fresh, struct err *e)
{
    bool made;
    int code = make_directory(d, &made, e);
    if (code == E_OK)
        code = look(d, fresh, e); /* before there is a file of ours in somebody else's directory */
    if (code == E_OK)
        code = lock_directory(d, e);
    if (code == E_OK)
        code = look(d, fresh, e); /* again, as nobody else changes it any more */
    if (code == E_OK && *fresh) /* whoever made it may have been killed before it was on the disk */
        code = sync_parent(d->path, made, e);
    if (code == E_OK && *fresh)
        code = mark_creating(d, e);
    if (code == E_OK && *fresh)
        code = begin_anew(d, e);
    return code;
}

int rocks_dir_open(struct rocks_dir *d, const char *path, bool *fresh, struct err *e)
{
    *d = (struct rocks_dir){.path = path, .fd = -1, .pid_fd = -1};
    int code = open_all(d, fresh, e);
    if (code != E_OK)
        rocks_dir_close(d);
    return code;
}

void rocks_dir_close(struct rocks_dir *d)
{
    if (d->pid_fd >= 0) {
        (void)!ftruncate(d->pid_fd, 0);
        close(d->pid_fd);
    }
    if (d->fd >= 0)
        close(d->fd);
    d->pid_fd = d->fd = -1;
}

/* ---------------------------------------------------------------- the reserve */

bool rocks_dir_spend_reserve(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool spent = unlinkat(fd, RESERVE_FILE, 0) == 0;
    if (spent)
        fsync(fd); /* some file systems give the room back no sooner */
    close(fd);
    return spent;
}

bool rocks_dir_keep_reserve(struct rocks_dir *d, uint64_t bytes)
{
    struct stat st;
    if (fstatat(d->fd, RESERVE_FILE, &st, 0) == 0 && (uint64_t)st.st_size >= bytes)
        return true;
    struct store_stats disk = {0};
    rocks_dir_stats(d, &disk);
    if (disk.disk_free / 4 < bytes)
        return false;
    int fd = openat(d->fd, RESERVE_FILE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool kept = posix_fallocate(fd, 0, (off_t)bytes) == 0;
    close(fd);
    if (!kept)
        unlinkat(d->fd, RESERVE_FILE, 0);
    return kept;
}

/* ---------------------------------------------------------------- measured */

static void add_log(void *arg, int dir_fd, const char *name)
{
    uint64_t *bytes = arg;
    struct stat st;
    if (has_suffix(name, ".log") && fstatat(dir_fd, name, &st, 0) == 0)
        *bytes += (uint64_t)st.st_size;
}

uint64_t rocks_dir_free(const struct rocks_dir *d)
{
    struct statvfs v;
    return fstatvfs(d->fd, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : UINT64_MAX;
}

void rocks_dir_stats(const struct rocks_dir *d, struct store_stats *out)
{
    struct statvfs v;
    if (fstatvfs(d->fd, &v) == 0) {
        out->disk_free = (uint64_t)v.f_bavail * v.f_frsize;
        out->disk_total = (uint64_t)v.f_blocks * v.f_frsize;
    }
    out->wal_bytes = 0;
    each_name(d, add_log, &out->wal_bytes, NULL);
}

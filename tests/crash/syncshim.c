/*
 * See syncshim.h. The calls that are intercepted are those that RocksDB and the broker reach through the dynamic linker; each looks
 * at the switches anew, and falls through to the C library when it is not concerned.
 */
#include "syncshim.h"

#include "tape.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { PATH_MAX_BYTES = 1024 };

static struct syncshim *shim; /* NULL: not asked for */
static pthread_mutex_t files_lock = PTHREAD_MUTEX_INITIALIZER;

/* The C library's own. */
static struct {
    int (*fdatasync)(int);
    int (*fsync)(int);
    int (*syncfs)(int);
    int (*sync_file_range)(int, off_t, off_t, unsigned);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    int (*fallocate)(int, int, off_t, off_t);
    int (*posix_fallocate)(int, off_t, off_t);
    int (*statvfs)(const char *, struct statvfs *);
    int (*fstatvfs)(int, struct statvfs *);
    int (*unlink)(const char *);
    int (*unlinkat)(int, const char *, int);
    int (*openat)(int, const char *, int, ...);
    int (*ftruncate)(int, off_t);
    int (*rename)(const char *, const char *);
    int (*mkdir)(const char *, mode_t);
} libc;

static void die(const char *why)
{
    fprintf(stderr, "syncshim: %s: %s\n", why, strerror(errno));
    abort();
}

static void find(void *function, const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    if (p == NULL)
        die(name);
    memcpy(function, &p, sizeof p);
}

__attribute__((constructor)) static void begin(void)
{
    find(&libc.fdatasync, "fdatasync");
    find(&libc.fsync, "fsync");
    find(&libc.syncfs, "syncfs");
    find(&libc.sync_file_range, "sync_file_range");
    find(&libc.write, "write");
    find(&libc.pwrite, "pwrite");
    find(&libc.writev, "writev");
    find(&libc.fallocate, "fallocate");
    find(&libc.posix_fallocate, "posix_fallocate");
    find(&libc.statvfs, "statvfs");
    find(&libc.fstatvfs, "fstatvfs");
    find(&libc.unlink, "unlink");
    find(&libc.unlinkat, "unlinkat");
    find(&libc.openat, "openat");
    find(&libc.ftruncate, "ftruncate");
    find(&libc.rename, "rename");
    find(&libc.mkdir, "mkdir");
    tape_begin();
    const char *path = getenv(SYNCSHIM_ENV);
    if (path == NULL)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *shim, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        die(path);
    close(fd);
    shim = map;
}

/* ---------------------------------------------------------------- whose file */

static bool below(const char *path)
{
    size_t size = strlen(shim->directory);
    return strncmp(path, shim->directory, size) == 0 && (path[size] == '/' || path[size] == '\0');
}

/* Its name, when it is a file (or directory) below the directory; else NULL. */
static const char *name_of(int fd, char path[static PATH_MAX_BYTES])
{
    if (shim == NULL)
        return NULL;
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int saved = errno;
    ssize_t n = readlink(link, path, PATH_MAX_BYTES - 1);
    errno = saved;
    if (n <= 0)
        return NULL;
    path[n] = '\0';
    return below(path) ? strrchr(path, '/') + 1 : NULL;
}

static bool chosen(const char *name)
{
    size_t size = strlen(name), end = strlen(shim->suffix);
    return size >= end && strcmp(name + size - end, shim->suffix) == 0;
}

/* ---------------------------------------------------------------- syncs */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void set_synced(const char *name, uint64_t bytes)
{
    pthread_mutex_lock(&files_lock);
    unsigned n = atomic_load(&shim->files_n), i = n;
    while (i > 0 && strncmp(shim->files[i - 1].name, name, SYNCSHIM_NAME - 1) != 0)
        i--;
    if (i == 0 && n == SYNCSHIM_FILES) {
        errno = ENFILE;
        die("too many files to remember");
    }
    struct syncshim_file *f = &shim->files[i == 0 ? n : i - 1];
    snprintf(f->name, sizeof f->name, "%s", name);
    atomic_store(&f->synced_bytes, bytes);
    if (i == 0)
        atomic_store(&shim->files_n, n + 1);
    pthread_mutex_unlock(&files_lock);
}

/* What is in the file when the sync begins is what it promises. */
static int sync_through(int (*sync)(int), int fd)
{
    char path[PATH_MAX_BYTES];
    uint64_t taped = tape_sync_begin(fd);
    const char *name = name_of(fd, path);
    if (name == NULL) {
        int code = sync(fd);
        if (code == 0)
            tape_sync_end(taped);
        return code;
    }
    struct stat st = {0};
    fstat(fd, &st);
    struct syncshim_sync *record = &shim->syncs[atomic_fetch_add(&shim->syncs_n, 1) % SYNCSHIM_SYNCS];
    atomic_store(&record->ended_ns, 0);
    record->began_ns = now_ns();
    snprintf(record->name, sizeof record->name, "%s", name);

    bool concerned = chosen(name);
    unsigned delay_ms = concerned ? atomic_load(&shim->delay_ms) : 0;
    struct timespec left = {.tv_sec = delay_ms / 1000, .tv_nsec = (long)(delay_ms % 1000) * 1000000};
    while (delay_ms > 0 && nanosleep(&left, &left) != 0)
        ;
    int error = concerned ? atomic_load(&shim->error) : 0;
    bool lie = concerned && atomic_load(&shim->lie);
    if (error == 0 && !lie && !atomic_load(&shim->skip) && sync(fd) != 0)
        error = errno;
    if (error == 0 && !lie && S_ISREG(st.st_mode))
        set_synced(name, (uint64_t)st.st_size);
    if (error == 0 && !lie)
        tape_sync_end(taped);
    atomic_store(&record->ended_ns, now_ns());
    if (error != 0)
        errno = error;
    return error != 0 ? -1 : 0;
}

EXPORT int fdatasync(int fd)
{
    return sync_through(libc.fdatasync, fd);
}

EXPORT int fsync(int fd)
{
    return sync_through(libc.fsync, fd);
}

EXPORT int syncfs(int fd)
{
    return sync_through(libc.syncfs, fd);
}

/* Starts writing back and promises nothing: only an error is passed on. */
EXPORT int sync_file_range(int fd, off_t from, off_t size, unsigned flags)
{
    char path[PATH_MAX_BYTES];
    const char *name = name_of(fd, path);
    int error = name != NULL && chosen(name) ? atomic_load(&shim->error) : 0;
    if (error == 0)
        return libc.sync_file_range(fd, from, size, flags);
    errno = error;
    return -1;
}

/* ---------------------------------------------------------------- space */

/* How many of `size` bytes there is space for, taken. -1 with errno: none. */
static ssize_t take_space(int fd, size_t size)
{
    char path[PATH_MAX_BYTES];
    if (shim == NULL || atomic_load(&shim->space) == INT64_MAX || size == 0 || name_of(fd, path) == NULL)
        return (ssize_t)size;
    int_fast64_t left = atomic_load(&shim->space), taken;
    do {
        if (left == INT64_MAX)
            return (ssize_t)size;
        taken = left < (int_fast64_t)size ? left : (int_fast64_t)size;
        if (taken <= 0) {
            errno = ENOSPC;
            return -1;
        }
    } while (!atomic_compare_exchange_weak(&shim->space, &left, left - taken));
    return (ssize_t)taken;
}

/* Whether so much could be set aside. It is counted when it is written. */
static bool has_space(int fd, off_t size)
{
    char path[PATH_MAX_BYTES];
    return shim == NULL || size <= atomic_load(&shim->space) || name_of(fd, path) == NULL;
}

/* Writes what there is space for; at < 0: where the file stands. */
static ssize_t put(int fd, const void *data, size_t size, off_t at)
{
    ssize_t n = take_space(fd, size);
    if (n < 0)
        return n;
    bool taped = tape_enter(fd);
    n = at < 0 ? libc.write(fd, data, (size_t)n) : libc.pwrite(fd, data, (size_t)n, at);
    if (taped && n > 0)
        tape_wrote(fd, data, (size_t)n, at);
    tape_leave(taped);
    return n;
}

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
    return put(fd, data, size, -1);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return put(fd, data, size, at);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    return pwrite(fd, data, size, at);
}

/* To a file of ours, or where there is no space for all of it, only the first piece: the caller goes on with the rest. */
EXPORT ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    char path[PATH_MAX_BYTES];
    if (count == 0 || name_of(fd, path) == NULL)
        return libc.writev(fd, pieces, count);
    return put(fd, pieces[0].iov_base, pieces[0].iov_len, -1);
}

static int resized(int fd, int code, bool taped)
{
    if (taped && code == 0)
        tape_resized(fd);
    tape_leave(taped);
    return code;
}

EXPORT int fallocate(int fd, int mode, off_t at, off_t size)
{
    if (!has_space(fd, size)) {
        errno = ENOSPC;
        return -1;
    }
    bool taped = tape_enter(fd);
    return resized(fd, libc.fallocate(fd, mode, at, size), taped);
}

EXPORT int fallocate64(int fd, int mode, off64_t at, off64_t size)
{
    return fallocate(fd, mode, at, size);
}

EXPORT int posix_fallocate(int fd, off_t at, off_t size)
{
    if (!has_space(fd, size))
        return ENOSPC;
    bool taped = tape_enter(fd);
    return resized(fd, libc.posix_fallocate(fd, at, size), taped);
}

EXPORT int posix_fallocate64(int fd, off64_t at, off64_t size)
{
    return posix_fallocate(fd, at, size);
}

EXPORT int ftruncate(int fd, off_t size)
{
    bool taped = tape_enter(fd);
    return resized(fd, libc.ftruncate(fd, size), taped);
}

EXPORT int ftruncate64(int fd, off64_t size)
{
    return ftruncate(fd, size);
}

/* ---------------------------------------------------------------- names: only recorded */

static int opened(int fd, bool was_there, bool emptied, bool taped)
{
    if (taped && fd >= 0 && !was_there)
        tape_created(fd);
    else if (taped && fd >= 0 && emptied)
        tape_resized(fd);
    tape_leave(taped);
    return fd;
}

static int open_at(int dir_fd, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX_BYTES];
    if (dir_fd != AT_FDCWD && name[0] != '/' && name_of(dir_fd, path) != NULL)
        snprintf(path + strlen(path), sizeof path - strlen(path), "/%s", name);
    else
        snprintf(path, sizeof path, "%s", name);
    if (libc.openat == NULL) /* somebody's constructor, before ours */
        find(&libc.openat, "openat");
    bool taped = (flags & (O_CREAT | O_TRUNC)) != 0 && tape_enter_path(path);
    struct stat st;
    int saved = errno;
    bool was_there = taped && lstat(path, &st) == 0;
    errno = saved;
    return opened(libc.openat(dir_fd, name, flags, mode), was_there, (flags & O_TRUNC) != 0, taped);
}

static mode_t mode_of(int flags, va_list args)
{
    return (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
}

EXPORT int openat(int dir_fd, const char *name, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return open_at(dir_fd, name, flags, mode);
}

EXPORT int open(const char *name, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return open_at(AT_FDCWD, name, flags, mode);
}

EXPORT int open64(const char *name, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return open_at(AT_FDCWD, name, flags, mode);
}

EXPORT int rename(const char *from, const char *to)
{
    bool taped = tape_enter_path(from);
    int code = libc.rename(from, to);
    if (taped && code == 0)
        tape_renamed(from, to);
    tape_leave(taped);
    return code;
}

EXPORT int mkdir(const char *path, mode_t mode)
{
    bool taped = tape_enter_path(path);
    int code = libc.mkdir(path, mode);
    if (taped && code == 0)
        tape_made_dir(path);
    tape_leave(taped);
    return code;
}

/* What a removed file gives back. */
static void give_space(off_t size)
{
    int_fast64_t left = atomic_load(&shim->space);
    while (left != INT64_MAX && !atomic_compare_exchange_weak(&shim->space, &left, left + size))
        ;
}

EXPORT int unlink(const char *path)
{
    struct stat st;
    bool ours = shim != NULL && below(path) && lstat(path, &st) == 0;
    bool taped = tape_enter_path(path);
    int code = libc.unlink(path);
    if (taped && code == 0)
        tape_removed(path);
    tape_leave(taped);
    if (ours && code == 0)
        give_space(st.st_size);
    return code;
}

EXPORT int unlinkat(int dir_fd, const char *name, int flags)
{
    char path[PATH_MAX_BYTES];
    struct stat st;
    bool ours = flags == 0 && name_of(dir_fd, path) != NULL && fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (ours)
        snprintf(path + strlen(path), sizeof path - strlen(path), "/%s", name);
    bool taped = ours && tape_enter_path(path);
    int code = libc.unlinkat(dir_fd, name, flags);
    if (taped && code == 0)
        tape_removed(path);
    tape_leave(taped);
    if (ours && code == 0)
        give_space(st.st_size);
    return code;
}

static int report_space(int code, struct statvfs *out)
{
    int_fast64_t left = atomic_load(&shim->space);
    if (code == 0 && left != INT64_MAX)
        out->f_bfree = out->f_bavail = (fsblkcnt_t)((uint64_t)left / out->f_frsize);
    return code;
}

EXPORT int statvfs(const char *path, struct statvfs *out)
{
    int code = libc.statvfs(path, out);
    return shim != NULL && below(path) ? report_space(code, out) : code;
}

EXPORT int statvfs64(const char *path, struct statvfs64 *out)
{
    return statvfs(path, (struct statvfs *)out);
}

EXPORT int fstatvfs(int fd, struct statvfs *out)
{
    char path[PATH_MAX_BYTES];
    int code = libc.fstatvfs(fd, out);
    return name_of(fd, path) != NULL ? report_space(code, out) : code;
}

EXPORT int fstatvfs64(int fd, struct statvfs64 *out)
{
    return fstatvfs(fd, (struct statvfs *)out);
}

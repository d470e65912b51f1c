/* The calls that fail when a test says so. */
#include "store_disk.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define VISIBLE __attribute__((visibility("default")))

struct disk_fault disk;

void disk_fails(const char *part, int error, long from)
{
    disk.part = part;
    disk.error = error;
    disk.from = from;
    disk.writes = disk.syncs = 0;
}

void disk_call_fails(enum disk_call call, const char *part, int error, long passes)
{
    disk.call_part = part;
    disk.call_error = error;
    disk.call_passes = passes;
    disk.call_times = 0;
    disk.call = call;
}

long disk_mended(void)
{
    disk_fails(NULL, 0, 0);
    disk.call = DISK_NONE;
    return disk.call_times;
}

/* The path of an open file, and of one in it. */
static bool path_has(int fd, const char *name, const char *part)
{
    char link[64], path[1024];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, 512);
    if (size < 0)
        return false;
    path[size] = '\0';
    if (name[0] != '\0')
        snprintf(path + size, sizeof path - (size_t)size, "/%s", name);
    return strstr(path, part) != NULL;
}

static bool is_meant(int fd)
{
    if (disk.part == NULL || (disk.ends_without != NULL && access(disk.ends_without, F_OK) != 0))
        return false;
    return path_has(fd, "", disk.part);
}

static bool call_fails(enum disk_call call, int fd, const char *name)
{
    if (disk.call != call || !path_has(fd, name, disk.call_part) || disk.call_passes-- > 0)
        return false;
    disk.call_times++;
    errno = disk.call_error;
    return true;
}

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

VISIBLE int openat(int dir, const char *name, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    return call_fails(DISK_OPEN, dir, name) ? -1 : (int)syscall(SYS_openat, dir, name, flags, mode);
}

VISIBLE int fstat(int fd, struct stat *st)
{
    return call_fails(DISK_STAT, fd, "") ? -1 : fstatat(fd, "", st, AT_EMPTY_PATH);
}

VISIBLE ssize_t pread(int fd, void *to, size_t size, off_t at)
{
    return call_fails(DISK_READ, fd, "") ? -1 : syscall(SYS_pread64, fd, to, size, at);
}

VISIBLE struct dirent *readdir(DIR *dir)
{
    static struct dirent *(*real)(DIR *);
    if (call_fails(DISK_LIST, dirfd(dir), ""))
        return NULL;
    if (real == NULL) {
        void *found = dlsym(RTLD_NEXT, "readdir");
        memcpy(&real, &found, sizeof real);
    }
    return real(dir);
}

VISIBLE int flock(int fd, int how)
{
    return call_fails(DISK_LOCK, fd, "") ? -1 : (int)syscall(SYS_flock, fd, how);
}

VISIBLE int fsync(int fd)
{
    return call_fails(DISK_SYNC, fd, "") ? -1 : (int)syscall(SYS_fsync, fd);
}

VISIBLE int ftruncate(int fd, off_t size)
{
    return call_fails(DISK_SHORTEN, fd, "") ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

VISIBLE int posix_fallocate(int fd, off_t from, off_t size)
{
    if (call_fails(DISK_LAY_OUT, fd, ""))
        return errno;
    return syscall(SYS_fallocate, fd, 0, from, size) == 0 ? 0 : errno;
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

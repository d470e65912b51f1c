/* See tape.h. This is the end that writes, in the broker. */
#include "tape.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 1024 };

static struct tape *tape; /* NULL: nothing is recorded */

static void die(const char *why)
{
    fprintf(stderr, "tape: %s: %s\n", why, strerror(errno));
    abort();
}

void tape_begin(void)
{
    const char *path = getenv(TAPE_ENV);
    if (path == NULL)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *tape, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (map == MAP_FAILED)
        die(path);
    close(fd);
    tape = map;
}

/* ---------------------------------------------------------------- whose file */

/* What stands behind the directory's name; NULL: it is not below it. */
static const char *name_below(const char *path)
{
    size_t size = strlen(tape->directory);
    if (strncmp(path, tape->directory, size) != 0 || (path[size] != '/' && path[size] != '\0'))
        return NULL;
    return path + size + (path[size] == '/');
}

static const char *name_of(int fd, char path[static PATH_BYTES])
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int saved = errno;
    ssize_t n = readlink(link, path, PATH_BYTES - 1);
    errno = saved;
    if (n <= 0)
        return NULL;
    path[n] = '\0';
    return name_below(path);
}

static bool lock(bool ours)
{
    if (ours)
        pthread_mutex_lock(&tape->lock);
    return ours;
}

bool tape_enter(int fd)
{
    char path[PATH_BYTES];
    return tape != NULL && lock(name_of(fd, path) != NULL);
}

bool tape_enter_path(const char *path)
{
    return tape != NULL && lock(name_below(path) != NULL);
}

void tape_leave(bool entered)
{
    if (entered)
        pthread_mutex_unlock(&tape->lock);
}

/* ---------------------------------------------------------------- records */

static struct stat stat_of(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        die("fstat");
    return st;
}

/* `size` bytes in two pieces. */
static void add(struct tape_op op, const void *first, size_t first_size, const void *second, size_t second_size)
{
    uint64_t at = atomic_load(&tape->bytes);
    op.size = (uint32_t)(first_size + second_size);
    if (at + tape_op_bytes(op.size) > TAPE_BYTES) {
        errno = ENOSPC;
        die("the recording is full");
    }
    memcpy(tape->data + at, &op, sizeof op);
    memcpy(tape->data + at + sizeof op, first, first_size);
    if (second_size > 0)
        memcpy(tape->data + at + sizeof op + first_size, second, second_size);
    atomic_store(&tape->bytes, at + tape_op_bytes(op.size));
    atomic_fetch_add(&tape->ops, 1);
}

static void add_name(struct tape_op op, const char *name)
{
    add(op, name, strlen(name), NULL, 0);
}

void tape_created(int fd)
{
    char path[PATH_BYTES];
    const char *name = name_of(fd, path);
    if (name != NULL)
        add_name((struct tape_op){.kind = TAPE_CREATE, .file = stat_of(fd).st_ino}, name);
}

void tape_made_dir(const char *path)
{
    add_name((struct tape_op){.kind = TAPE_CREATE}, name_below(path));
}

void tape_renamed(const char *from, const char *to)
{
    const char *a = name_below(from), *b = name_below(to);
    if (a == NULL || b == NULL) {
        errno = EXDEV;
        die("a rename into or out of the directory");
    }
    add((struct tape_op){.kind = TAPE_RENAME}, a, strlen(a) + 1, b, strlen(b));
}

void tape_removed(const char *path)
{
    add_name((struct tape_op){.kind = TAPE_REMOVE}, name_below(path));
}

void tape_wrote(int fd, const void *data, size_t size, off_t at)
{
    if (at < 0)
        at = lseek(fd, 0, SEEK_CUR) - (off_t)size;
    add((struct tape_op){.kind = TAPE_WRITE, .file = stat_of(fd).st_ino, .at = (uint64_t)at}, data, size, NULL, 0);
}

void tape_resized(int fd)
{
    struct stat st = stat_of(fd);
    add((struct tape_op){.kind = TAPE_RESIZE, .file = st.st_ino, .at = (uint64_t)st.st_size}, "", 0, NULL, 0);
}

uint64_t tape_sync_begin(int fd)
{
    char path[PATH_BYTES];
    const char *name = tape != NULL ? name_of(fd, path) : NULL;
    if (name == NULL)
        return 0;
    lock(true);
    struct stat st = stat_of(fd);
    if (S_ISDIR(st.st_mode))
        add_name((struct tape_op){.kind = TAPE_DIR_SYNC_BEGIN}, name);
    else
        add((struct tape_op){.kind = TAPE_SYNC_BEGIN, .file = st.st_ino}, "", 0, NULL, 0);
    uint64_t number = atomic_load(&tape->ops);
    tape_leave(true);
    return number;
}

void tape_sync_end(uint64_t began)
{
    if (began == 0)
        return;
    lock(true);
    add((struct tape_op){.kind = TAPE_SYNC_END, .at = began - 1}, "", 0, NULL, 0);
    tape_leave(true);
}

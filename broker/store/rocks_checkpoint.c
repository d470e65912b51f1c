/* A checkpoint: the store as it is at one moment, as a data directory of its own, made while the store is used.
 *
 * RocksDB makes it. Tables, blob files and the logs that are full are linked, for they do not change any more; the last log and the
 * manifest are copied, up to where they ended. Nothing is flushed for it: what is in memory is in the logs, which a start replays as
 * after a crash. So it costs a copy of one log, and no writer waits.
 *
 * RocksDB takes the length of the manifest first and that of the logs later. A list that is written in between may say that the manifest is
 * known to be longer (rocks_wal.c), and whoever opened that would call it damaged; so while a checkpoint is made nothing more is said of it.
 * An edit that is just being written can be in what was said before, and yet not be counted by RocksDB: so the result is looked at as a
 * start would, and made again where it does not hold together. By then the edit is counted.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/files.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "store/rocks.h"

enum {
    TIMES_MAX = 5, PAUSE_MS = 50,
    ROOM_BYTES = 32 << 20, /* manifest, options, and what the log grows by meanwhile */
};

/* Of what is wrong with a path. */
static int failed(struct err *e, const char *doing, const char *path, const char *file)
{
    int code = errno == ENOSPC || errno == EDQUOT ? E_DISK_FULL : E_INTERNAL;
    return err_set(e, code, "cannot %s '%s%s%s': %s", doing, path, file[0] != '\0' ? "/" : "", file, strerror(errno));
}

/* RocksDB syncs what it copies, not what it links: a log that is full may have been written and not synced. */
static int sync_logs(const struct rocks_dir *d, struct err *e)
{
    int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = E_OK;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        code = failed(e, "read", d->path, "");
        if (fd >= 0)
            close(fd);
        return code;
    }
    for (struct dirent *x; code == E_OK && (x = readdir(dir)) != NULL;) {
        size_t digits = strspn(x->d_name, "0123456789");
        if (digits == 0 || strcmp(x->d_name + digits, ".log") != 0)
            continue;
        int log = openat(fd, x->d_name, O_RDONLY | O_CLOEXEC);
        if (log < 0 || fdatasync(log) != 0)
            code = failed(e, "sync", d->path, x->d_name);
        if (log >= 0)
            close(log);
    }
    closedir(dir);
    return code;
}

/* Whether a broker would open it; and on the disk. */
static int look(const char *path, struct err *e)
{
    bool dropped;
    struct rocks_dir d = {.path = path, .pid_fd = -1};
    d.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d.fd < 0)
        return failed(e, "open", path, "");
    int code = fchmod(d.fd, 0700) == 0 ? E_OK : failed(e, "close to others", path, "");
    if (code == E_OK)
        code = rocks_wal_look(&d, false, &dropped, e);
    if (code == E_OK)
        code = sync_logs(&d, e);
    if (code == E_OK && fsync(d.fd) != 0)
        code = failed(e, "sync", path, "");
    close(d.fd);
    return code;
}

static int make(struct store_rocks *s, const char *path, struct err *e)
{
    char *text = NULL;
    rocksdb_checkpoint_t *c = rocksdb_checkpoint_object_create(s->db, &text);
    if (text == NULL) {
        rocksdb_checkpoint_create(c, path, UINT64_MAX, &text); /* however large the logs are, nothing is flushed */
        rocksdb_checkpoint_object_destroy(c);
    }
    if (text == NULL)
        return E_OK;
    int code = rocks_error(s->path, NULL, text, e);
    return code == E_STORE_FAILED ? err_set(e, E_INTERNAL, "%s", e->text) : code;
}

static int make_and_look(struct store_rocks *s, const char *path, struct err *e)
{
    int code;
    for (int i = 1;; i++) {
        code = make(s, path, e);
        if (code != E_OK)
            return code;
        code = look(path, e);
        if (code == E_OK)
            return code;
        files_remove(path, NULL);
        if (code != E_DAMAGED || i == TIMES_MAX)
            return code;
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
    }
}

static bool has_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct stat st;
    char *parent = slash == NULL ? mem_strdup(".") : mem_strndup(path, (size_t)(slash - path) + 1);
    bool is = stat(parent, &st) == 0;
    mem_free(parent);
    return is;
}

int rocks_checkpoint(struct store *base, const char *path, struct store_checkpoint *out, struct err *e)
{
    struct store_rocks *s = container_of(base, struct store_rocks, base);
    struct stat st;
    struct store_stats disk = {0};
    if (s->has_failed) {
        pthread_mutex_lock(&s->failed_lock);
        int code = err_set(e, E_STORE_FAILED, "%s", s->failed.text);
        pthread_mutex_unlock(&s->failed_lock);
        return code;
    }
    if (lstat(path, &st) == 0)
        return err_set(e, E_EXISTS, "'%s' exists", path);
    if (errno != ENOENT || !has_parent(path)) /* which RocksDB would call damage */
        return failed(e, "make", path, "");
    rocks_dir_stats(&s->dir, &disk);
    int code = rocks_have_room(s, "a checkpoint", ROOM_BYTES + disk.wal_bytes, e);
    if (code != E_OK)
        return code;
    rocks_manifest_hold(s, true);
    code = make_and_look(s, path, e);
    rocks_manifest_hold(s, false);
    if (code == E_OK)
        files_count(path, &out->bytes, &out->files);
    return code;
}

/* Directories of the bench's own: see server.h. */
#include <errno.h>
#include <ftw.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "server.h"
#include "tree.h"

enum { DIRS_MAX = 16, OPEN_MAX = 16 };

static char dirs[DIRS_MAX][PATH_MAX];

int workdir_make(const char *parent, char out[PATH_MAX], struct err *e)
{
    struct statfs fs;
    if (parent == NULL)
        parent = "/var/tmp";
    if (statfs(parent, &fs) != 0)
        return err_set(e, errno, "%s: %s", parent, strerror(errno));
    if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
        return err_set(e, ENOTSUP, "%s is in memory, not on a disk: name another directory with --dir", parent);
    if (snprintf(out, PATH_MAX, "%s/sluice-bench-XXXXXX", parent) >= PATH_MAX)
        return err_set(e, ENAMETOOLONG, "%s: the path is too long", parent);
    if (mkdtemp(out) == NULL)
        return err_set(e, errno, "%s: %s", out, strerror(errno));
    for (size_t i = 0; i < DIRS_MAX; i++) {
        if (dirs[i][0] == '\0') {
            memcpy(dirs[i], out, strlen(out) + 1);
            break;
        }
    }
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    remove(path);
    return 0;
}

void workdir_remove(const char *path)
{
    nftw(path, remove_one, OPEN_MAX, FTW_DEPTH | FTW_PHYS);
    for (size_t i = 0; i < DIRS_MAX; i++)
        if (strcmp(dirs[i], path) == 0)
            dirs[i][0] = '\0';
}

void workdirs_remove(void)
{
    for (size_t i = 0; i < DIRS_MAX; i++)
        if (dirs[i][0] != '\0')
            workdir_remove(dirs[i]);
}

int workdir_below(const char *dir, const char *name, char out[PATH_MAX], struct err *e)
{
    if (snprintf(out, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        return err_set(e, ENAMETOOLONG, "%s/%s: the path is too long", dir, name);
    workdir_remove(out);
    return mkdir(out, 0700) == 0 ? 0 : err_set(e, errno, "%s: %s", out, strerror(errno));
}

static uint64_t bytes_found; /* nftw has no argument for its function */

static int add_bytes(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)path;
    (void)at;
    if (type == FTW_F)
        bytes_found += (uint64_t)st->st_blocks * 512;
    return 0;
}

uint64_t workdir_bytes(const char *path)
{
    bytes_found = 0;
    nftw(path, add_bytes, OPEN_MAX, FTW_PHYS);
    return bytes_found;
}

#include "base/files.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>

enum { DESCRIPTORS_MAX = 16 };

/* nftw hands nothing through. */
static _Thread_local struct err *left;
static _Thread_local struct { uint64_t bytes, files; } counted;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    if (remove(path) == 0 || errno == ENOENT)
        return 0;
    int number = errno;
    err_set(left, number, "cannot remove '%s': %s", path, strerror(number));
    return number;
}

int files_remove(const char *path, struct err *e)
{
    left = e;
    int number = nftw(path, remove_one, DESCRIPTORS_MAX, FTW_DEPTH | FTW_PHYS);
    if (number >= 0)
        return number; /* remove_one's */
    number = errno;
    return number == ENOENT ? 0 : err_set(e, number, "cannot remove '%s': %s", path, strerror(number));
}

static int count_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)path;
    (void)ftw;
    if (type == FTW_F && S_ISREG(st->st_mode)) {
        counted.bytes += (uint64_t)st->st_size;
        counted.files++;
    }
    return 0;
}

void files_count(const char *path, uint64_t *bytes, uint64_t *files)
{
    counted.bytes = counted.files = 0;
    (void)nftw(path, count_one, DESCRIPTORS_MAX, FTW_PHYS);
    *bytes = counted.bytes;
    *files = counted.files;
}

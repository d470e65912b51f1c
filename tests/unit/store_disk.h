/* A disk that fails. RocksDB is a shared library, so the calls of store_disk.c stand before libc's for it as for the store. */
#ifndef TESTS_STORE_DISK_H
#define TESTS_STORE_DISK_H

#include <stdbool.h>
#include <stdint.h>

/* Those of which one kind can be told to fail. */
enum disk_call {
    DISK_NONE,
    DISK_OPEN,     /* by openat */
    DISK_STAT,
    DISK_READ,     /* by pread */
    DISK_LIST,     /* the names of a directory */
    DISK_LOCK,
    DISK_SYNC,     /* fsync: directories, and what is shortened */
    DISK_SHORTEN,
    DISK_LAY_OUT,  /* posix_fallocate */
};

struct disk_fault {
    /* writes and data syncs fail for files whose path has `part` in it */
    const char *part; /* NULL: no fault */
    int error;        /* 0: they are only counted */
    long from;        /* the first call that fails, from 1 */
    _Atomic long writes, syncs;
    const char *ends_without; /* the fault is over when this file is gone */
    /* or one other kind of call fails */
    enum disk_call call;
    const char *call_part;
    int call_error;
    _Atomic long call_times; /* so often, after `call_passes` that did not */
    long call_passes;
    /* and the room */
    uint64_t free; /* bytes that are said to be free; 0: the truth */
};
extern struct disk_fault disk;

void disk_fails(const char *part, int error, long from);
/* Every call of this kind but the first `passes`, for paths with `part` in them. */
void disk_call_fails(enum disk_call call, const char *part, int error, long passes);
/* How often it did. No fault from now on. */
long disk_mended(void);

#endif

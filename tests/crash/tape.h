/*
 * A recording of everything that a broker does to the files of one directory, in the order in which it happened. The shim
 * (syncshim.h) writes it, into a file that the test has mapped too; disk.h makes of it what a power cut could have left.
 *
 * A call is recorded when it is done and before it returns, under a lock: so whoever sees `ops` at n knows that the first n are done,
 * and that what is recorded from then on was not done before. A sync is two records, as others are made while it lasts: what was
 * recorded before its begin is on the disk once its end is recorded.
 */
#ifndef TESTS_TAPE_H
#define TESTS_TAPE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TAPE_ENV "SYNCSHIM_TAPE" /* path of the file that is mapped */

enum { TAPE_BYTES = 512 << 20 }; /* room; the file is sparse */

enum tape_kind {
    TAPE_CREATE = 1,     /* name, file; or directory */
    TAPE_RENAME,         /* two names, with a zero byte between */
    TAPE_REMOVE,         /* name */
    TAPE_WRITE,          /* file, at, data */
    TAPE_RESIZE,         /* file, at: how long it is now; what is new is zero */
    TAPE_SYNC_BEGIN,     /* file */
    TAPE_DIR_SYNC_BEGIN, /* name */
    TAPE_SYNC_END,       /* at: number of the record that began it */
};

/* Behind it stand `size` bytes of data or names, padded to a multiple of 8. Names are below the directory, "" is itself. */
struct tape_op { uint32_t kind, size; uint64_t file, at; }; /* file: its inode, which may be used again after it is removed */

struct tape {
    char directory[512];         /* set before the broker starts */
    pthread_mutex_t lock;        /* who holds it stops the broker's files; a broker that is to be killed is stopped so */
    atomic_uint_fast64_t ops, bytes;
    uint8_t data[TAPE_BYTES];
};

static inline size_t tape_op_bytes(uint32_t size) { return sizeof(struct tape_op) + (((size_t)size + 7) & ~(size_t)7); }

/* ---- the shim's. Without a tape they do nothing. */

void tape_begin(void);
/* True when the file is below the directory: then the tape is locked until tape_leave. */
bool tape_enter(int fd);
bool tape_enter_path(const char *path);
void tape_leave(bool entered);
/* Between the two, when the call was done: */
void tape_created(int fd);
void tape_made_dir(const char *path);
void tape_renamed(const char *from, const char *to);
void tape_removed(const char *path);
void tape_wrote(int fd, const void *data, size_t size, off_t at); /* at < 0: up to where the file stands */
void tape_resized(int fd);
/* By themselves. 0: not recorded. */
uint64_t tape_sync_begin(int fd);
void tape_sync_end(uint64_t began);

#endif

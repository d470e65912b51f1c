/* The parts of the RocksDB store, among themselves. Nobody else includes this file. */
#ifndef STORE_ROCKS_H
#define STORE_ROCKS_H

#include <limits.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/macros.h"
#include "store/keys.h"
#include "store/store_rocks.h"

/* ---------------------------------------------------------------- the directory (rocks_dir.c)
 *
 * Everything in it but our own few files is RocksDB's:
 *
 *     broker.pid   locked by whoever has the directory open, with its process id
 *     creating     there while the database is being made: what is found beside it was never answered for
 *     reserve      room kept for the day when there is none left
 */
struct rocks_dir {
    const char *path; /* the caller's */
    int fd;           /* of the directory; -1: not open */
    int pid_fd;       /* holds the lock; -1: not open */
    bool creating;    /* that file is there */
};

/* Makes the directory if it is missing, locks it and looks what is in it. `fresh`: the database is to be made; one that was half made is
 * removed. DAMAGED, naming CURRENT, when data is there and it is not; STORE_LOCKED, DISK_FULL, STORE_FAILED. Nothing is left
 * open on an error. */
int rocks_dir_open(struct rocks_dir *d, const char *path, bool *fresh, struct err *e);
/* The database is whole: from now on nothing may be missing. To be called when it is open and `creating` is there. */
int rocks_dir_made(struct rocks_dir *d, struct err *e);
void rocks_dir_close(struct rocks_dir *d); /* may be called twice */

/* Gives up the reserve file. True if there was one. */
bool rocks_dir_spend_reserve(const char *path);
/* Lays the reserve file out again if it is not there and four times its size is free. False: there is none. */
bool rocks_dir_keep_reserve(struct rocks_dir *d, uint64_t bytes);

/* Bytes that can be written yet; UINT64_MAX: nobody knows. */
uint64_t rocks_dir_free(const struct rocks_dir *d);
/* Disk sizes and the bytes of the write-ahead logs. Reads the directory: milliseconds when it is large. */
void rocks_dir_stats(const struct rocks_dir *d, struct store_stats *out);

/* ---------------------------------------------------------------- options (rocks_options.c) */

struct rocks_options {
    rocksdb_cache_t *cache, *log_cache;
    rocksdb_options_t *db;
    rocksdb_options_t *family[FAM_COUNT];
};
void rocks_options_make(struct rocks_options *o, const struct store_rocks_options *user, bool fresh);
void rocks_options_free(struct rocks_options *o); /* may be called twice */

/* Whether values of the family go to blob files. */
bool rocks_family_is_log(enum store_family f);
bool rocks_family_has_blobs(enum store_family f);

/* ---------------------------------------------------------------- errors (rocks_error.c) */

/* The code of what RocksDB says. */
int rocks_error_code(const char *text);
/* Sets `e` to code and text; where that names no file below `path`, with `file` in front, or, if NULL, the path. Frees `text`. */
int rocks_error(const char *path, const char *file, char *text, struct err *e);

/* ---------------------------------------------------------------- do the logs hang together (rocks_wal.c) */

/* Looks at CURRENT, the manifest and the write-ahead logs of a database that nobody has open. What a power cut left behind a hole, and was
 * never synced, is dropped (`dropped`). `sums`: checksums of the logs, too; else only where something is odd. DAMAGED, naming the file;
 * STORE_FAILED. */
int rocks_wal_look(const struct rocks_dir *d, bool sums, bool *dropped, struct err *e);
/* What is known to be on the disk. */
struct rocks_known {
    uint64_t synced;   /* RocksDB's number of the last put of the logs */
    uint64_t manifest; /* number of the manifest << 32 | bytes of it */
};
static inline uint64_t rocks_manifest_known(uint64_t number, uint64_t bytes) { return number << 32 | (bytes < UINT32_MAX ? bytes : UINT32_MAX); }
/* To be put first into each list that is written. */
void rocks_wal_mark(rocksdb_writebatch_t *b, struct rocks_known known);
struct store_rocks;
/* Looks how long the manifest is. The syncing thread's, and when the store was opened. */
void rocks_manifest_note(struct store_rocks *s);
/* While it is held nothing more is said of it in the lists that are written. */
void rocks_manifest_hold(struct store_rocks *s, bool held);

/* ---------------------------------------------------------------- a checkpoint (rocks_checkpoint.c) */

int rocks_checkpoint(struct store *base, const char *path, struct store_checkpoint *out, struct err *e);
/* DISK_FULL if fewer bytes are free; `doing`: what needs them. */
int rocks_have_room(struct store_rocks *s, const char *doing, uint64_t bytes, struct err *e);

/* ---------------------------------------------------------------- who is damaged (rocks_damage.c)
 *
 * RocksDB names the table whose rows do not fit their checksums, but not one that does not open, and not the blob file.
 */
/* A table whose end does not fit (rocks_table.c). False: none. */
bool rocks_damaged_table(const struct rocks_dir *d, char *name, size_t size);

/* The blob file with the row of a family that cannot be read; `text`: what RocksDB says of it. False: not found. Reads up to that row in
 * each of the family's. */
bool rocks_damaged_blob(const struct rocks_dir *d, uint32_t family_id, struct view row, const char *text, char *name, size_t size);
/* The row at or behind `from` that a walk from there cannot read. */
void rocks_damaged_row(struct store_rocks *s, enum store_family f, struct view from, struct key *row);

/* ---------------------------------------------------------------- sums (rocks_crc.c) */

/* CRC32C of what `crc` is of (0: nothing) and these bytes; and how RocksDB stores one. */
uint32_t rocks_crc32c(uint32_t crc, const uint8_t *data, size_t size);
uint32_t rocks_crc_masked(uint32_t crc);

/* ---------------------------------------------------------------- the store (store_rocks.c) */

/* The last damage that was looked for, and where it is; "" when not found. */
struct rocks_damage {
    enum store_family family;
    struct buf at;
    char file[NAME_MAX + 1];
};

struct store_rocks {
    struct store base;
    struct rocks_dir dir;
    struct rocks_options options;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *family[FAM_COUNT];
    rocksdb_column_family_handle_t *unused; /* "default", which RocksDB insists on */
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
    rocksdb_flushoptions_t *flush;

    /* the writing thread's */
    rocksdb_writebatch_t *batch;

    /* writer and syncer: numbers of puts, as RocksDB counts them */
    atomic_uint_fast64_t written, synced;
    atomic_uint_fast64_t manifest; /* see rocks_known */

    /* the syncer's */
    int manifest_fd;               /* -1: none */
    pthread_mutex_t manifest_lock; /* held by it while it looks */
    bool manifest_held;            /* under that */

    /* writer and syncer: the first failure is the last word */
    pthread_mutex_t failed_lock;
    atomic_bool has_failed;
    atomic_bool reclaim_ends;
    struct err failed;

    /* readers */
    pthread_mutex_t damage_lock;
    struct rocks_damage damage;

    /* never change */
    void (*log)(void *user, int level, const char *text);
    void *log_user;
    char *path;
};

/* What a read was told, with the damaged file's name where RocksDB left it out. `at`: the row, or, of a walk, where its last step began.
 * Frees `text`. */
int rocks_read_error(struct store_rocks *s, enum store_family f, struct view at, bool walk, char *text, struct err *e);

struct store_iter *rocks_iter(struct store *s, enum store_family f); /* rocks_iter.c */

#endif

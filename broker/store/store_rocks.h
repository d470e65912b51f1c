/* The store on RocksDB. Options and their reasons: store_rocks.c and docs/disk-format.md. */
#ifndef STORE_STORE_ROCKS_H
#define STORE_STORE_ROCKS_H

#include "store/store.h"

struct store_rocks_options {
    const char *path;            /* directory; made if missing (0700) */
    uint64_t memory_bytes;       /* caches and write buffers together; 0: 192 MiB */
    uint64_t wal_bytes_max;      /* 0: 256 MiB */
    uint64_t reserve_file_bytes; /* preallocated, given up when opening finds no space; 0: 128 MiB; UINT64_MAX: none */
    int background_threads;      /* 0: 2 */
    void (*log)(void *user, int level, const char *text);
    void *log_user;
};
/* Errors: STORE_LOCKED (another process has it, named with its pid where known), FORMAT_NEWER (RocksDB's own), DAMAGED (the
 * file is named), DISK_FULL, STORE_FAILED. Nothing is left open on an error. */
int store_rocks_open(struct store **out, const struct store_rocks_options *options, struct err *e);

#endif

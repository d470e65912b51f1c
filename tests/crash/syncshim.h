/*
 * The disk between a broker and a test. libsyncshim.so is preloaded into the broker, stands in front of its syncs, writes and
 * questions for space, and does to the files of one directory what the test has set in a file that both map.
 *
 *      test ---- switches ---->  struct syncshim  <---- reads ----  shim in the broker
 *           <--- the record ---                   ---- writes ---->
 *
 * Every field may be changed and read at any time. Times are CLOCK_MONOTONIC, so those of the two processes compare.
 */
#ifndef TESTS_SYNCSHIM_H
#define TESTS_SYNCSHIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SYNCSHIM_ENV "SYNCSHIM" /* path of the file that is mapped */

enum { SYNCSHIM_SYNCS = 1 << 16, SYNCSHIM_FILES = 4096, SYNCSHIM_NAME = 40 };

/* A call of fdatasync, fsync or syncfs. */
struct syncshim_sync {
    uint64_t began_ns;
    atomic_uint_fast64_t ended_ns; /* 0: it has not */
    char name[SYNCSHIM_NAME];    /* of the file, without its directory */
};

/* A file, and how much of it was there when its last successful sync began. The rest may be lost in a power cut. */
struct syncshim_file {
    char name[SYNCSHIM_NAME];
    atomic_uint_fast64_t synced_bytes;
};

struct syncshim {
    char directory[512];         /* what is not below it is left alone; set before the broker starts */

    /* Switches. */
    char suffix[16];             /* the next three are for files that end so; "" for all. Set before them */
    atomic_uint delay_ms;        /* a sync takes so much longer */
    atomic_int error;            /* a sync fails with this, and nothing is synced; 0: it does what it should */
    atomic_bool lie;             /* a sync says it was done, and is neither done nor recorded as done */
    atomic_bool skip;            /* a sync is recorded and not done: what a power cut takes is for the test to cut */
    atomic_int_fast64_t space;   /* bytes that can be written yet, removed files give theirs back; INT64_MAX: no bound */

    /* The record. */
    atomic_uint syncs_n;         /* calls so far; the last SYNCSHIM_SYNCS of them are kept */
    struct syncshim_sync syncs[SYNCSHIM_SYNCS];
    atomic_uint files_n;
    struct syncshim_file files[SYNCSHIM_FILES];
};

#endif

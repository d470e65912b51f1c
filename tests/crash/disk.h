/*
 * What a power cut may leave of a directory, made from a recording (tape.h).
 *
 * The disk that is played here promises this, and no more:
 *   - what was written to a file before a sync of it began is there once that sync has ended;
 *   - names that were made, changed or removed in a directory before a sync of the directory began are so once that sync has ended. A
 *     file that is synced itself may still have no name;
 *   - changes of names are each whole or absent, and reach the disk in their order, as in the journals of ext4, XFS and btrfs: RocksDB,
 *     when it opens, lets CURRENT speak of tables whose names are no older than the next sync of the directory.
 * Everything later may be there or not, each file for itself, as the cut chooses. Bytes of a file that never were written are zero.
 */
#ifndef TESTS_DISK_H
#define TESTS_DISK_H

#include "tape.h"

/* Of the changes to names that are not synced: */
enum disk_names { NAMES_NONE, NAMES_ALL, NAMES_FIRST /* up to some point */ };
/* And of the writes to a file that are not synced: */
enum disk_bytes {
    BYTES_NONE,
    BYTES_ALL,
    BYTES_FIRST, /* up to some point, in the middle of a write or at one of its sectors */
    BYTES_FILES, /* of some files all, of others none */
    BYTES_SECTORS, /* any of the 512 byte sectors that they touch; what of the others was never written is zero */
};

struct disk_cut {
    uint64_t at;           /* so many records of the tape were made */
    enum disk_names names;
    enum disk_bytes bytes;
    uint64_t seed;         /* of what is chosen */
    bool lying_files, lying_names; /* a disk that breaks its promise: syncs of files, or of directories, do nothing */
};

struct disk; /* a tape, read */

/* Aborts when it does not fit together. The tape outlives it. */
struct disk *disk_read(const struct tape *tape);
void disk_free(struct disk *d);
uint64_t disk_ops(const struct disk *d);
/* Something that reaches the disk, or the names: next to it a cut is worth more than between two writes. */
bool disk_turns_at(const struct disk *d, uint64_t op);

/* The last record of this kind before `op` that is about a file made under a name with `part` in it; 0: none. */
uint64_t disk_last(const struct disk *d, uint64_t op, enum tape_kind kind, const char *part);

/* The first record of this kind about this name; UINT64_MAX: none. */
uint64_t disk_first(const struct disk *d, enum tape_kind kind, const char *name);

/* Lays out in `path`, which is there and empty, what the cut leaves. */
void disk_lay_out(const struct disk *d, const struct disk_cut *cut, const char *path);
/* With everything kept that was ever done: NULL when `path` holds the same, else the name of a file that differs, static. */
const char *disk_differs(const struct disk *d, const char *path);

#endif

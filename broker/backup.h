/* Backups: a thread that makes a checkpoint of the store below one directory when a client asks, so that neither loop nor syncs nor readers
 * wait for it. One at a time.
 *
 *     DIR/.partial/db    being made; removed at the next start if the broker was killed
 *     DIR/NAME           whole, and on disk
 *
 * A client says only NAME. DIR is the operator's, and unless it is set nothing is written anywhere.
 */
#ifndef BROKER_BACKUP_H
#define BROKER_BACKUP_H

#include "engine/op.h"
#include "store/store.h"

struct backup;

struct backup_options {
    struct store *store;    /* outlives it */
    const char *dir;        /* absolute; "" or NULL: none, every request is refused */
    const char *data;       /* the store's directory: DIR is to be on the same file system. NULL: nobody asks */
    uint64_t kept_max;      /* directories in DIR; one more is refused */
    uint64_t reserve_bytes; /* with less free space none is made */
};
/* Removes what a broker that was killed left in DIR. A directory that cannot be used is no error here: a warning, and what is asked later is refused. */
int backup_start(struct backup **out, const struct backup_options *options, struct err *e);

/* Takes a request, of which everything up to `turn` is on disk, and calls op->done when it is made or refused. Any thread, never waits. */
void backup_take(struct backup *b, struct op *op, uint64_t turn);

struct backup_counts { uint64_t made, failed, last_ns; };
void backup_counts(struct backup *b, struct backup_counts *out);

/* Waits for one that is being made; what was not begun is refused. NULL is fine. */
void backup_stop(struct backup *b);

#endif

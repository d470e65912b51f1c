/* The store's contract: families of sorted rows, changed by lists of puts, one list a turn.
 *
 * The engine, the loop and the readers know only this. store_rocks.h is RocksDB; store_mem.h is the same in RAM, with faults.
 *
 *   store_write   applies a whole list or nothing; afterwards every reader sees it. It is not on disk yet.
 *   store_sync    what was written before the call began is on disk when it returns OK. Runs beside store_write.
 *
 * Threads: store_write from one thread, store_sync from one thread, reads from any.
 * Codes of write and sync: OK; DISK_FULL and OVERLOADED (a stall): nothing was applied, the same list may be tried again;
 * STORE_FAILED: the store is not to be used any more, close and open it again. The text names the file.
 * A row that does not fit its checksum is DAMAGED, with the file's name, and is never returned.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "schemas/errors.h"

/* Families are few and fixed: what dies together lies together. The number is not on disk, the name is. */
enum store_family {
    FAM_META,
    FAM_GROUPS,
    FAM_LEASES,
    FAM_KEYS,
    FAM_HELD,
    FAM_SCHED,
    FAM_SESSIONS,
    FAM_DEDUP_A, /* two generations: the old one is dropped whole */
    FAM_DEDUP_B,
    FAM_STATE,
    FAM_LOG_HOURS, /* logs by retention class */
    FAM_LOG_DAYS,
    FAM_LOG_WEEKS,
    FAM_LOG_FOREVER,
    FAM_LOG_COMPACTED,
    FAM_COUNT
};
const char *store_family_name(enum store_family f); /* "meta", "log.hours" */

struct puts;
struct store;
struct store_iter;

struct store_stats {
    uint64_t disk_free, disk_total; /* bytes of the file system */
    uint64_t live_bytes;            /* what the store keeps on disk */
    uint64_t wal_bytes;
    uint64_t background_errors;
    uint64_t memory_bytes;          /* caches and write buffers */
};

/* Of one family, on disk: all of it, and of that the tables, which a compaction copies. */
struct store_family_stats { uint64_t bytes, index_bytes; };

/* What a checkpoint holds. */
struct store_checkpoint { uint64_t bytes, files; };

struct store_ops {
    int (*get)(struct store *s, enum store_family f, struct view key, struct buf *out, bool *found, struct err *e);
    struct store_iter *(*iter)(struct store *s, enum store_family f);
    int (*write)(struct store *s, const struct puts *p, struct err *e);
    int (*sync)(struct store *s, struct err *e);
    void (*stats)(struct store *s, struct store_stats *out);
    void (*family_stats)(struct store *s, enum store_family f, struct store_family_stats *out); /* NULL: nothing is on disk */
    int (*reclaim)(struct store *s, enum store_family f, struct err *e);
    void (*reclaim_end)(struct store *s); /* NULL: it is never long */
    int (*checkpoint)(struct store *s, const char *path, struct store_checkpoint *out, struct err *e); /* NULL: nothing is on disk */
    void (*close)(struct store *s);
};
struct store { const struct store_ops *ops; };

/* One row. `out` is replaced; found = false and OK when there is none. */
static inline int store_get(struct store *s, enum store_family f, struct view key, struct buf *out, bool *found, struct err *e)
{
    return s->ops->get(s, f, key, out, found, e);
}
static inline int store_write(struct store *s, const struct puts *p, struct err *e) { return s->ops->write(s, p, e); }
static inline int store_sync(struct store *s, struct err *e) { return s->ops->sync(s, e); }
static inline void store_stats(struct store *s, struct store_stats *out) { s->ops->stats(s, out); }
/* After range removals of a log family: gives the space back (flush, then compaction of the index only). Any thread, slow. */
static inline int store_reclaim(struct store *s, enum store_family f, struct err *e) { return s->ops->reclaim(s, f, e); }
/* Before closing, any thread: a reclaim that is under way ends soon, its work half done, and later ones do nothing. */
static inline void store_reclaim_end(struct store *s)
{
    if (s->ops->reclaim_end != NULL)
        s->ops->reclaim_end(s);
}
/* The store as it is at one moment, as a data directory of its own: whole lists up to some list, of later ones nothing; what was written before the call
 * began is in it, and all of it is on disk when this returns OK. Writes, syncs, reads and reclaims go on meanwhile, and files that do not
 * change any more are shared with the store. One at a time. Any thread, slow.
 * `path` does not exist, the directory that it stands in does. On an error there is nothing at it. Whoever is killed meanwhile leaves at most PATH.tmp,
 * which the next one removes.
 * UNSUPPORTED: nothing is on disk. EXISTS. DISK_FULL. INTERNAL: it cannot be made there. STORE_FAILED as for write; DAMAGED: a file that belongs to it. */
static inline int store_checkpoint(struct store *s, const char *path, struct store_checkpoint *out, struct err *e)
{
    *out = (struct store_checkpoint){0};
    if (s->ops->checkpoint == NULL)
        return err_set(e, E_UNSUPPORTED, "this store has no files");
    return s->ops->checkpoint(s, path, out, e);
}
static inline void store_family_stats(struct store *s, enum store_family f, struct store_family_stats *out)
{
    *out = (struct store_family_stats){0};
    if (s->ops->family_stats != NULL)
        s->ops->family_stats(s, f, out);
}
/* No iterator may be open. NULL is fine. */
static inline void store_close(struct store *s)
{
    if (s != NULL)
        s->ops->close(s);
}

/* A short-lived walk in key order over what was written when it was made. One thread. Views are good until the next move. */
struct store_iter_ops {
    void (*seek)(struct store_iter *it, struct view key); /* first row at or after */
    void (*next)(struct store_iter *it);
    bool (*valid)(const struct store_iter *it);
    struct view (*key)(const struct store_iter *it);
    struct view (*value)(struct store_iter *it);
    int (*status)(const struct store_iter *it, struct err *e); /* OK at the end of the rows; DAMAGED, STORE_FAILED */
    void (*close)(struct store_iter *it);
};
struct store_iter { const struct store_iter_ops *ops; };

static inline struct store_iter *store_iter(struct store *s, enum store_family f) { return s->ops->iter(s, f); }
static inline void store_iter_seek(struct store_iter *it, struct view key) { it->ops->seek(it, key); }
static inline void store_iter_next(struct store_iter *it) { it->ops->next(it); }
static inline bool store_iter_valid(const struct store_iter *it) { return it->ops->valid(it); }
static inline struct view store_iter_key(const struct store_iter *it) { return it->ops->key(it); }
static inline struct view store_iter_value(struct store_iter *it) { return it->ops->value(it); }
static inline int store_iter_status(const struct store_iter *it, struct err *e) { return it->ops->status(it, e); }
static inline void store_iter_close(struct store_iter *it)
{
    if (it != NULL)
        it->ops->close(it);
}

#endif

/* What stands before a producer's batch once it is in the log: 64 bytes of the broker, with a checksum of their own.
 *
 *   at  size
 *    0   4   magic "SLGB"
 *    4   1   format, 1
 *    5   1   level: enum durability (disk, os)
 *    6   2   0
 *    8   4   epoch of the broker
 *   12   4   count of offsets: of records, but where compaction removed some
 *   16   8   turn of the broker's loop
 *   24   8   base offset
 *   32   8   append time, ms since 1970 (wall clock of the broker, never goes back within a partition)
 *   40   8   cumulative bytes of the partition, this batch included: the exact byte lag is a difference of two of these
 *   48   4   size of the batch behind this header, without padding; 0: a hole, compaction removed every record of these offsets
 *   52   4   sum: low 32 bits of XXH3-64 over the other 60 bytes
 *   56   8   XXH3-64 of the batch, as the producer sent it; of a hole 0
 *
 * A batch of which compaction removed records is built anew: its column offset_delta says what is left, size and hash are its own, and
 * everything else in its header stays. So the headers of a log cover all its offsets, and an offset that none covers is damage.
 * Little endian. Entries follow each other at multiples of 16. One value of the log holds all entries that one turn appended
 * to one partition; a reply to `fetch` is such values one after another.
 */
#ifndef SCHEMAS_STORED_H
#define SCHEMAS_STORED_H

#include "base/buf.h"
#include "base/err.h"

enum { STORED_HEADER_SIZE = 64, STORED_FORMAT = 1, STORED_ALIGN = 16 };

struct stored_header {
    uint8_t level;
    uint32_t epoch, count, size;
    uint64_t turn, base_offset, append_time_ms, cumulative_bytes, batch_hash;
};

void stored_header_put(uint8_t to[STORED_HEADER_SIZE], const struct stored_header *h);
/* OK, or DAMAGED saying what: short, magic, format, sum. */
int stored_header_get(struct view from, struct stored_header *h, struct err *e);

/* Nothing stands behind the header: no record of its offsets is left. */
static inline bool stored_is_hole(const struct stored_header *h) { return h->size == 0; }

/* Bytes of an entry with its padding. */
static inline size_t stored_entry_size(uint32_t batch_size)
{
    return (STORED_HEADER_SIZE + (size_t)batch_size + STORED_ALIGN - 1) & ~(size_t)(STORED_ALIGN - 1);
}

/* Walks the entries of a value: takes the first off `rest`. OK; DAMAGED (header, or the batch is cut); at the end of `rest`
 * NOT called. The batch's own hash is not checked here. */
int stored_next(struct view *rest, struct stored_header *h, struct view *batch, struct err *e);

#endif

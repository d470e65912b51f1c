/* A walk over the batches of a partition: from the tail cache where it has them, else from the store. What comes from the store is checked
 * (row chain, header, batch hash); a batch that is found fits its checksum. */
#ifndef BROKER_LOGWALK_H
#define BROKER_LOGWALK_H

#include "broker/tail.h"
#include "schemas/stored.h"

struct log_source { struct store *store; struct tail *tail; };

enum { WALK_TAKE = 32 };

struct walk {
    const struct log_source *src;
    uint32_t partition;
    uint64_t at;                  /* the next offset wanted */
    enum store_family family;
    struct tail_batch taken[WALK_TAKE]; /* from the tail cache */
    size_t taken_n, taken_at;
    struct store_iter *it;        /* from the store */
    struct buf row;               /* a row's value, where it was not aligned */
    struct view rest;             /* entries of the row not yet walked */
    bool in_row;
};

/* One batch: its header, its bytes, the 64 bytes of the header as stored. Of the offsets from `from` up to it no record is left: compaction
 * removed them. Good until the next call with this walk. */
struct batch { struct stored_header h; const uint8_t *head; struct view bytes; uint64_t from, last_offset; };

/* False: there is no such partition (any more). A walk is closed all the same. */
bool walk_open(struct walk *w, const struct log_source *src, uint32_t partition, uint64_t from);
void walk_close(struct walk *w);
/* Wants offset `to` next: forward only moves are cheap. */
void walk_seek(struct walk *w, uint64_t to);
/* The batch that holds a record at or behind `at`. *found false: there is none, and `at` has moved behind what is left of the log. DAMAGED: `at`
 * has moved behind what is damaged, or stands where it did when nothing says how far that goes (walk_damage_span). */
int walk_next(struct walk *w, struct batch *b, bool *found, struct err *e);
/* Up to where the log cannot be read from `from` on, of which walk_next said `code`. `from` < `end`; the answer is in (from, end]. */
uint64_t walk_damage_span(struct walk *w, int code, bool found, const struct batch *b, uint64_t from, uint64_t end);

/* Bytes of the log before an offset of this batch. */
uint64_t log_bytes_before(const struct stored_header *h, uint64_t offset);
/* E_DAMAGED, with the partition and the offset in its text. */
int log_damaged(struct err *e, uint32_t partition, uint64_t offset, const char *what);

#endif

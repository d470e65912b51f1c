/* A list of puts: everything that one turn changes, in order, encoded by us.
 *
 * Puts are absolute (they say what a row is, never how it changes), so applying a list twice is applying it once. A list begins
 * with the epoch and the turn it belongs to. Large values are not copied: the list holds pieces, which the caller keeps alive
 * until the list was written or cleared. Rows put in this list can be looked up again before it is written: the engine sees
 * its own puts.
 *
 * Encoded (puts_encode; what a replica would apply): u32 epoch, u64 turn, u32 count, then per put: u8 kind (1 put, 2 remove,
 * 3 remove range), u8 family, varint key length, key, and for 1 varint value length, value; for 3 varint length, end key
 * (exclusive). Little endian.
 *
 * One thread. All zero is not a list: use puts_init.
 */
#ifndef STORE_PUTS_H
#define STORE_PUTS_H

#include "base/buf.h"
#include "store/store.h"

enum put_kind { PUT_ROW = 1, PUT_REMOVE = 2, PUT_REMOVE_RANGE = 3 };

struct put {
    enum put_kind kind;
    enum store_family family;
    struct view key;
    const struct view *pieces; /* PUT_ROW: the value, in pieces; PUT_REMOVE_RANGE: one piece, the end key */
    size_t pieces_n;
};

struct puts {
    uint32_t epoch;
    uint64_t turn;
    size_t count;
    size_t bytes;            /* keys and values */
    struct puts_private *p;
};

void puts_init(struct puts *l);
void puts_free(struct puts *l);
/* Forgets the puts, keeps the memory, if it is not much. */
void puts_clear(struct puts *l);

/* Keys and values are copied into the list. A later put of the same row replaces the earlier one. */
void puts_row(struct puts *l, enum store_family f, struct view key, struct view value);
/* The pieces' bytes are borrowed; the array of pieces is copied. Not looked up again by puts_find. */
void puts_pieces(struct puts *l, enum store_family f, struct view key, const struct view *pieces, size_t n);
void puts_remove(struct puts *l, enum store_family f, struct view key);
/* Every row with begin <= key < end, before the puts that follow. The engine does not look for such rows again in this turn. */
void puts_remove_range(struct puts *l, enum store_family f, struct view begin, struct view end);

/* What this list says of a row put by puts_row or puts_remove. */
enum puts_found { PUTS_UNKNOWN, PUTS_ROW, PUTS_REMOVED };
enum puts_found puts_find(const struct puts *l, enum store_family f, struct view key, struct view *value);

/* The i-th put in order; one that was replaced is not among them. Lent until the list changes. */
void puts_at(const struct puts *l, size_t i, struct put *out);

void puts_encode(const struct puts *l, struct buf *out);
/* Appends to `l` what puts_encode wrote; DAMAGED. Values are copied. */
int puts_decode(struct puts *l, struct view bytes, struct err *e);

#endif

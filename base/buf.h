/*
 * Bytes: a view looks at them, a buf gathers them, a cur reads them.
 *
 * Everything written with a buf_put_* is read back with the cur_* of the same name. Numbers are
 * little-endian, except the ...be ones, which exist so that keys sort by number. A cur is safe on
 * any input: past the end, or on an encoding that is not valid, it turns `bad`, stays bad, and
 * every read gives 0 or an absent view; so a decoder reads all its fields and asks once.
 *
 * One thread at a time per buf or cur. Memory is taken as in mem.h: only buf_try_reserve can refuse.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/macros.h"

BASE_BEGIN

/* ---- view: borrowed bytes, good as long as their owner ---- */

/* data NULL: absent (size is 0). data not NULL and size 0: present and empty. The two differ. */
struct view {
    const uint8_t *data;
    size_t size;
};

/* A view of a string literal, without its closing zero. */
#define VIEW_LIT(s) ((struct view){(const uint8_t *)("" s), sizeof("" s) - 1})

static inline struct view view_of(const void *data, size_t size)
{
    struct view v = {(const uint8_t *)data, data != NULL ? size : 0};
    return v;
}

/* A string without its closing zero; NULL gives an absent view. */
static inline struct view view_of_str(const char *s)
{
    return view_of(s, s != NULL ? strlen(s) : 0);
}

/* Same bytes, and both absent or both present. */
static inline bool view_eq(struct view a, struct view b)
{
    return (a.data == NULL) == (b.data == NULL) && a.size == b.size &&
           (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Orders by bytes, then by length: <0, 0, >0. Absent counts as empty. */
int view_cmp(struct view a, struct view b);

/* ---- single numbers at an address; no alignment asked for, bounds are the caller's ---- */

static inline void put_u16(uint8_t *to, uint16_t v)
{
    v = htole16(v);
    memcpy(to, &v, sizeof v);
}

static inline void put_u32(uint8_t *to, uint32_t v)
{
    v = htole32(v);
    memcpy(to, &v, sizeof v);
}

static inline void put_u64(uint8_t *to, uint64_t v)
{
    v = htole64(v);
    memcpy(to, &v, sizeof v);
}

static inline void put_u32be(uint8_t *to, uint32_t v)
{
    v = htobe32(v);
    memcpy(to, &v, sizeof v);
}

static inline void put_u64be(uint8_t *to, uint64_t v)
{
    v = htobe64(v);
    memcpy(to, &v, sizeof v);
}

static inline uint16_t get_u16(const uint8_t *from)
{
    uint16_t v;
    memcpy(&v, from, sizeof v);
    return le16toh(v);
}

static inline uint32_t get_u32(const uint8_t *from)
{
    uint32_t v;
    memcpy(&v, from, sizeof v);
    return le32toh(v);
}

static inline uint64_t get_u64(const uint8_t *from)
{
    uint64_t v;
    memcpy(&v, from, sizeof v);
    return le64toh(v);
}

static inline uint32_t get_u32be(const uint8_t *from)
{
    uint32_t v;
    memcpy(&v, from, sizeof v);
    return be32toh(v);
}

static inline uint64_t get_u64be(const uint8_t *from)
{
    uint64_t v;
    memcpy(&v, from, sizeof v);
    return be64toh(v);
}

/* ---- buf: bytes that grow ---- */

/* All zero is a good empty buf. The owner calls buf_free; appending may move `data`. */
struct buf {
    uint8_t *data; /* NULL until something was reserved */
    size_t size;   /* bytes used */
    size_t cap;    /* bytes there */
};

/* Of buf_reserve, where there is no room. */
uint8_t *buf_grow(struct buf *b, size_t more);

/* Makes room for `more` bytes after the used ones and returns where they begin. Filling them is
   `b->size += n`. */
static inline uint8_t *buf_reserve(struct buf *b, size_t more)
{
    return b->data != NULL && b->cap - b->size >= more ? b->data + b->size : buf_grow(b, more);
}

/* As buf_reserve, for a size that somebody else chose: NULL if the memory is not there, and then
   `b` is unchanged. */
uint8_t *buf_try_reserve(struct buf *b, size_t more) MUST_USE;

/* `data` may be NULL if size is 0, and must not point into `b`. */
static inline void buf_append(struct buf *b, const void *data, size_t size)
{
    if (size == 0)
        return;
    memcpy(buf_reserve(b, size), data, size);
    b->size += size;
}

/* Forgets the bytes, keeps the memory. */
void buf_clear(struct buf *b);

/* Gives the memory back; `b` is then a good empty buf. */
void buf_free(struct buf *b);

/* Hands the memory to the caller (freed with mem_free; NULL if there was none), leaves `b` empty. */
uint8_t *buf_take(struct buf *b) MUST_USE;

/* Appends what printf would print, without a closing zero. */
void buf_putf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The bytes as a string: a closing zero is put behind them and is not part of size. Good until `b`
   changes. */
const char *buf_str(struct buf *b);

/* The used bytes; present, even if there are none. Good until `b` changes. */
struct view buf_view(const struct buf *b);

static inline void buf_put_u8(struct buf *b, uint8_t v)
{
    *buf_reserve(b, sizeof v) = v;
    b->size += sizeof v;
}

static inline void buf_put_u16(struct buf *b, uint16_t v)
{
    put_u16(buf_reserve(b, sizeof v), v);
    b->size += sizeof v;
}

static inline void buf_put_u32(struct buf *b, uint32_t v)
{
    put_u32(buf_reserve(b, sizeof v), v);
    b->size += sizeof v;
}

static inline void buf_put_u64(struct buf *b, uint64_t v)
{
    put_u64(buf_reserve(b, sizeof v), v);
    b->size += sizeof v;
}

static inline void buf_put_u32be(struct buf *b, uint32_t v)
{
    put_u32be(buf_reserve(b, sizeof v), v);
    b->size += sizeof v;
}

static inline void buf_put_u64be(struct buf *b, uint64_t v)
{
    put_u64be(buf_reserve(b, sizeof v), v);
    b->size += sizeof v;
}

enum { VARINT_MAX = 10 };

/* LEB128: 7 bits a byte, low first; 1 to VARINT_MAX bytes. */
static inline void buf_put_varint(struct buf *b, uint64_t v)
{
    uint8_t *to = buf_reserve(b, VARINT_MAX), *end = to;
    for (; v >= 0x80; v >>= 7)
        *end++ = (uint8_t)(v | 0x80);
    *end++ = (uint8_t)v;
    b->size += (size_t)(end - to);
}

/* Length as varint, then the bytes. Absent is written as empty. */
void buf_put_bytes(struct buf *b, struct view v);

/* ---- cur: reads once through borrowed bytes ---- */

struct cur {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

/* An absent input reads as an empty one. */
static inline struct cur cur_of(struct view v)
{
    const uint8_t *at = v.data != NULL ? v.data : (const uint8_t *)"";
    struct cur c = {at, at + v.size, false};
    return c;
}

uint8_t cur_u8(struct cur *c);
uint16_t cur_u16(struct cur *c);
uint32_t cur_u32(struct cur *c);
uint64_t cur_u64(struct cur *c);
uint32_t cur_u32be(struct cur *c);
uint64_t cur_u64be(struct cur *c);

/* A number has one encoding: more bits than 64, or more bytes than needed, are bad. */
uint64_t cur_varint(struct cur *c);

/* What buf_put_bytes wrote: present, perhaps empty, borrowed from the input; absent if bad. */
struct view cur_bytes(struct cur *c);

/* The next `size` bytes: present, borrowed; absent if bad. */
struct view cur_take(struct cur *c, size_t size);

/* Bytes not read yet; 0 once bad. */
size_t cur_left(const struct cur *c);

/* Everything was read and all of it was good. */
bool cur_done(const struct cur *c);

BASE_END

#endif

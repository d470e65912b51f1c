/* What the files of the rows share: how a row begins and ends, and the fields that several have. Inside the store only. */
#ifndef STORE_ROWS_H
#define STORE_ROWS_H

#include "schemas/errors.h"
#include "store/keys.h"

static inline void row_begin(struct buf *b)
{
    buf_put_u8(b, ROW_FORMAT);
}

/* OK with the cursor behind the format byte, which is at most `newest`. */
static inline int row_open_up_to(struct view v, struct cur *c, const char *what, uint8_t newest, uint8_t *format, struct err *e)
{
    *c = cur_of(v);
    *format = cur_u8(c);
    if (c->bad || *format == 0)
        return err_set(e, E_DAMAGED, "%s row has no format", what);
    if (*format > newest)
        return err_set(e, E_FORMAT_NEWER, "%s row has format %u, this version reads %u", what, *format, newest);
    return E_OK;
}

/* Of a row that has had one format only. */
static inline int row_open(struct view v, struct cur *c, const char *what, struct err *e)
{
    uint8_t format;
    return row_open_up_to(v, c, what, ROW_FORMAT, &format, e);
}

/* Everything was read, all of it good, nothing left. */
static inline int row_close(const struct cur *c, const char *what, struct err *e)
{
    if (!cur_done(c))
        return err_set(e, E_DAMAGED, "%s row is damaged", what);
    return E_OK;
}

static inline uint32_t cur_varint32(struct cur *c)
{
    uint64_t v = cur_varint(c);
    if (v > UINT32_MAX)
        c->bad = true;
    return c->bad ? 0 : (uint32_t)v;
}

/* Bits of which only those in `known` may be set. */
static inline uint8_t cur_flags(struct cur *c, uint8_t known)
{
    uint8_t v = cur_u8(c);
    if ((v & ~known) != 0)
        c->bad = true;
    return v;
}

static inline bool cur_bool(struct cur *c)
{
    return cur_flags(c, 1) != 0;
}

static inline void put_id128(struct buf *b, struct id128 id)
{
    buf_put_u64(b, id.lo);
    buf_put_u64(b, id.hi);
}

static inline struct id128 cur_id128(struct cur *c)
{
    struct id128 id;
    id.lo = cur_u64(c);
    id.hi = cur_u64(c);
    return id;
}

static inline struct view cur_rest(struct cur *c)
{
    return cur_take(c, cur_left(c));
}

/* What a walk over delta-coded entries has left, given back to its view; false, and an empty view, when the entry was bad. */
static inline bool walk_step(const struct cur *c, struct view *rest, bool *bad)
{
    *bad = c->bad;
    *rest = c->bad ? view_of(NULL, 0) : view_of(c->at, (size_t)(c->end - c->at));
    return !c->bad;
}

/* A difference that may be negative, small numbers short: 0, -1, 1, -2 are 0, 1, 2, 3. Wraps, so any two numbers have one. */
static inline uint64_t zigzag(uint64_t from, uint64_t to)
{
    uint64_t d = to - from;
    return d << 1 ^ (0 - (d >> 63));
}

static inline uint64_t unzigzag(uint64_t from, uint64_t v)
{
    return from + (v >> 1 ^ (0 - (v & 1)));
}

#endif

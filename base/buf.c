#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

enum { CAP_MIN = 64 };

/* ---- view ---- */

int view_cmp(struct view a, struct view b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common != 0 ? memcmp(a.data, b.data, common) : 0;
    if (order != 0)
        return order;
    return (a.size > b.size) - (a.size < b.size);
}

/* ---- buf ---- */

/* The capacity to ask for so that `more` fits: at least half as much again, so that appending is
   linear in all. SIZE_MAX, which no allocator grants, if the sum overflows. */
static size_t grown_cap(const struct buf *b, size_t more)
{
    size_t need;
    if (__builtin_add_overflow(b->size, more, &need))
        return SIZE_MAX;
    size_t cap = b->cap + b->cap / 2;
    if (cap < CAP_MIN)
        cap = CAP_MIN;
    return cap < need ? need : cap;
}

uint8_t *buf_grow(struct buf *b, size_t more)
{
    size_t cap = grown_cap(b, more);
    b->data = mem_realloc(b->data, cap);
    b->cap = cap;
    return b->data + b->size;
}

uint8_t *buf_try_reserve(struct buf *b, size_t more)
{
    if (b->data == NULL || b->cap - b->size < more) {
        size_t cap = grown_cap(b, more);
        uint8_t *data = mem_try_realloc(b->data, cap);
        if (data == NULL)
            return NULL;
        b->data = data;
        b->cap = cap;
    }
    return b->data + b->size;
}

void buf_clear(struct buf *b)
{
    b->size = 0;
}

void buf_free(struct buf *b)
{
    mem_free(b->data);
    *b = (struct buf){0};
}

uint8_t *buf_take(struct buf *b)
{
    uint8_t *data = b->data;
    *b = (struct buf){0};
    return data;
}

void buf_putf(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    buf_reserve(b, 1);
    size_t room = b->cap - b->size;
    int length = vsnprintf((char *)b->data + b->size, room, fmt, args);
    va_end(args);
    if (length < 0) /* only a bad multibyte string in %ls, which nobody here prints */
        abort();
    if ((size_t)length >= room) {
        uint8_t *to = buf_reserve(b, (size_t)length + 1);
        vsnprintf((char *)to, (size_t)length + 1, fmt, again);
    }
    va_end(again);
    b->size += (size_t)length;
}

const char *buf_str(struct buf *b)
{
    *buf_reserve(b, 1) = '\0';
    return (const char *)b->data;
}

struct view buf_view(const struct buf *b)
{
    return b->data != NULL ? view_of(b->data, b->size) : VIEW_LIT("");
}

/* ---- numbers into a buf ---- */

void buf_put_bytes(struct buf *b, struct view v)
{
    buf_put_varint(b, v.size);
    buf_append(b, v.data, v.size);
}

/* ---- cur ---- */

size_t cur_left(const struct cur *c)
{
    return c->bad ? 0 : (size_t)(c->end - c->at);
}

bool cur_done(const struct cur *c)
{
    return !c->bad && c->at == c->end;
}

/* Steps over the next `size` bytes and returns them, or turns bad and returns NULL. */
static const uint8_t *step(struct cur *c, size_t size)
{
    if (cur_left(c) < size)
        c->bad = true;
    if (c->bad)
        return NULL;
    const uint8_t *at = c->at;
    c->at += size;
    return at;
}

uint8_t cur_u8(struct cur *c)
{
    const uint8_t *at = step(c, 1);
    return at != NULL ? *at : 0;
}

uint16_t cur_u16(struct cur *c)
{
    const uint8_t *at = step(c, 2);
    return at != NULL ? get_u16(at) : 0;
}

uint32_t cur_u32(struct cur *c)
{
    const uint8_t *at = step(c, 4);
    return at != NULL ? get_u32(at) : 0;
}

uint64_t cur_u64(struct cur *c)
{
    const uint8_t *at = step(c, 8);
    return at != NULL ? get_u64(at) : 0;
}

uint32_t cur_u32be(struct cur *c)
{
    const uint8_t *at = step(c, 4);
    return at != NULL ? get_u32be(at) : 0;
}

uint64_t cur_u64be(struct cur *c)
{
    const uint8_t *at = step(c, 8);
    return at != NULL ? get_u64be(at) : 0;
}

uint64_t cur_varint(struct cur *c)
{
    uint64_t v = 0;
    for (unsigned n = 0; n < VARINT_MAX; n++) {
        uint8_t byte = cur_u8(c);
        if (c->bad)
            return 0;
        v |= (uint64_t)(byte & 0x7f) << (7 * n);
        if (byte >= 0x80)
            continue;
        bool needless = byte == 0 && n > 0;
        bool too_large = byte > 1 && n == VARINT_MAX - 1;
        if (needless || too_large)
            break;
        return v;
    }
    c->bad = true;
    return 0;
}

struct view cur_take(struct cur *c, size_t size)
{
    return view_of(step(c, size), size);
}

struct view cur_bytes(struct cur *c)
{
    uint64_t size = cur_varint(c);
    if (size > cur_left(c))
        c->bad = true;
    return cur_take(c, (size_t)size);
}

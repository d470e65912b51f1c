/* Headers of a record, encoded: u16 LE name length, name, u32 LE value length, value; one after another. */
#include "schemas/errors.h"
#include "schemas/records.h"

enum { HEADER_SIZE = sizeof(uint16_t) + sizeof(uint32_t) }; /* of one with empty name and value */

bool headers_next(struct view *rest, struct header *out, bool *bad)
{
    *bad = false;
    if (rest->size == 0)
        return false;
    struct cur c = cur_of(*rest);
    out->name = cur_take(&c, cur_u16(&c));
    out->value = cur_take(&c, cur_u32(&c));
    *bad = c.bad || out->name.size == 0;
    *rest = view_of(c.at, cur_left(&c));
    return !*bad;
}

bool headers_find(struct view headers, struct view name, struct view *value)
{
    struct header h;
    bool bad;
    while (headers_next(&headers, &h, &bad)) {
        if (view_eq(h.name, name)) {
            *value = h.value;
            return true;
        }
    }
    return false;
}

/* How many there are before the end, or before what is malformed. */
static int headers_count(struct view headers, bool *bad)
{
    struct header h;
    int count = 0;
    while (headers_next(&headers, &h, bad))
        count++;
    return count;
}

int headers_check(struct view headers, struct err *e)
{
    if (headers.size > WIRE_HEADERS_BYTES_MAX)
        return err_set(e, E_LIMIT, "headers: %zu bytes, the limit is %d", headers.size,
                       WIRE_HEADERS_BYTES_MAX);
    bool bad;
    int count = headers_count(headers, &bad);
    if (bad)
        return err_set(e, E_INVALID_ARGUMENT, "headers: malformed after header %d", count);
    if (count > WIRE_HEADERS_MAX)
        return err_set(e, E_LIMIT, "headers: %d of them, the limit is %d", count, WIRE_HEADERS_MAX);
    return E_OK;
}

int headers_put(struct buf *b, struct view name, struct view value, struct err *e)
{
    if (name.size == 0 || name.size > UINT16_MAX)
        return err_set(e, E_INVALID_ARGUMENT, "header: a name of %zu bytes, not 1 to %d", name.size,
                       UINT16_MAX);
    bool bad;
    if (headers_count(buf_view(b), &bad) >= WIRE_HEADERS_MAX)
        return err_set(e, E_LIMIT, "headers: one more than the limit of %d", WIRE_HEADERS_MAX);
    size_t room = b->size < WIRE_HEADERS_BYTES_MAX ? WIRE_HEADERS_BYTES_MAX - b->size : 0;
    if (value.size > room || HEADER_SIZE + name.size + value.size > room)
        return err_set(e, E_LIMIT, "headers: with this one more than the limit of %d bytes",
                       WIRE_HEADERS_BYTES_MAX);
    buf_put_u16(b, (uint16_t)name.size);
    buf_append(b, name.data, name.size);
    buf_put_u32(b, (uint32_t)value.size);
    buf_append(b, value.data, value.size);
    return E_OK;
}

/* Rows that are asked for by what they are about: message ids, state. */
#include "store/rows.h"

/* ---------------------------------------------------------------- message ids, state */

void dedup_generation_row_put(struct buf *b, const struct dedup_generation_row *r)
{
    row_begin(b);
    buf_put_u8(b, r->current);
    buf_put_varint(b, r->began_ms);
    buf_put_varint(b, r->count);
    buf_put_varint(b, r->before_began_ms);
}

int dedup_generation_row_get(struct view v, struct dedup_generation_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "dedup generation", e);
    if (code != E_OK)
        return code;
    r->current = cur_flags(&c, 1);
    r->began_ms = cur_varint(&c);
    r->count = cur_varint(&c);
    r->before_began_ms = cur_varint(&c);
    return row_close(&c, "dedup generation", e);
}

void dedup_row_put(struct buf *b, const struct dedup_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->partition);
    buf_put_varint(b, r->offset);
    buf_put_varint(b, r->time_ms);
}

int dedup_row_get(struct view v, struct dedup_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "dedup", e);
    if (code != E_OK)
        return code;
    r->partition = cur_varint32(&c);
    r->offset = cur_varint(&c);
    r->time_ms = cur_varint(&c);
    return row_close(&c, "dedup", e);
}

void state_row_put(struct buf *b, const struct state_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->version);
    buf_put_bytes(b, r->key);
    buf_put_bytes(b, r->value);
}

int state_row_get(struct view v, struct state_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "state", e);
    if (code != E_OK)
        return code;
    r->version = cur_varint(&c);
    r->key = cur_bytes(&c);
    r->value = cur_bytes(&c);
    return row_close(&c, "state", e);
}

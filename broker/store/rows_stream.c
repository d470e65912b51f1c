/* Rows of stream groups: who its members are, who owns a partition, and how far it is. */
#include "store/rows.h"

void claim_row_put(struct buf *b, const struct claim_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->committed);
    buf_put_varint(b, r->committed_ms);
    buf_put_varint(b, r->generation);
    buf_put_u8(b, r->held);
    if (r->held == CLAIM_FREE)
        return;
    put_id128(b, r->session);
    buf_put_varint(b, r->member);
}

int claim_row_get(struct view v, struct claim_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "commit", e);
    if (code != E_OK)
        return code;
    *r = (struct claim_row){.committed = cur_varint(&c)};
    r->committed_ms = cur_varint(&c);
    r->generation = cur_varint(&c);
    r->held = cur_u8(&c);
    if (r->held > CLAIM_KEPT)
        c.bad = true;
    if (r->held != CLAIM_FREE) {
        r->session = cur_id128(&c);
        r->member = cur_varint32(&c);
    }
    return row_close(&c, "commit", e);
}

void member_row_put(struct buf *b, const struct member_row *r)
{
    row_begin(b);
    buf_put_bytes(b, r->name);
    buf_put_varint(b, r->timeout_ms);
    buf_put_varint(b, r->order);
    buf_put_varint(b, r->joined_ms);
    buf_put_u8(b, r->state);
}

int member_row_get(struct view v, struct member_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "member", e);
    if (code != E_OK)
        return code;
    r->name = cur_bytes(&c);
    r->timeout_ms = cur_varint32(&c);
    r->order = cur_varint(&c);
    r->joined_ms = cur_varint(&c);
    r->state = cur_u8(&c);
    if (r->state < MEMBER_ACTIVE || r->state > MEMBER_FENCED)
        c.bad = true;
    return row_close(&c, "member", e);
}

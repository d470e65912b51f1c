/* Looking at what is held: pages of rows, with their messages where those are asked for.
 *
 * The engine says which group is meant and how much may be looked at; the walk over the rows is done by readers (READ_HELD), outside
 * of the turn. A filter may fit few rows of many: a page ends after so many that were looked at, says where, and that there is more.
 */
#include "engine/filter.h"
#include "engine/memory.h"

enum { ROWS_LOOKED_AT = 10000, BYTES_LOOKED_AT = 1000 }; /* of one page; the second: messages whose bytes were asked for */

void held_list(struct engine *en, struct op *op)
{
    struct wire_held_list *l = &op->request.held;
    const struct group *g = group_find(en, op, l->topic, l->group);
    if (g == NULL || !group_is(en, op, g, MODE_QUEUE))
        return;
    if (l->limit == 0 || l->limit > en->limits->page_max)
        l->limit = (uint32_t)en->limits->page_max;
    if (l->max_bytes == 0 || l->max_bytes > en->limits->reply_bytes_max)
        l->max_bytes = (uint32_t)en->limits->reply_bytes_max;
    op->reply.body = BODY_HELD;
    op->reply.held = (struct wire_held_reply){.topic = op_text(op, g->topic->name), .group = op_text(op, g->name)};
    op->reply.held.delivery.group = g->id;
    op->read = READ_HELD;
    op->purges = g->away.purges;
    answer_now(en, op);
}

/* ---------------------------------------------------------------- a page, filled by a reader */

struct page {
    struct op *op;
    struct wire_held *rows;
    struct wire_record *records;
    uint32_t n;
    uint64_t bytes;      /* of the payload */
};

static void page_add(struct page *p, const struct held_row *row, uint32_t partition, uint64_t offset)
{
    char *text = op_take(NULL, p->op, row->reason.size + row->error.size, 1);
    memcpy(text, row->reason.data, row->reason.size);
    memcpy(text + row->reason.size, row->error.data, row->error.size);
    p->rows[p->n] = (struct wire_held){.state = row->state, .due_ms = row->due_ms, .at_ms = row->at_ms, .record = p->n,
                                       .grants = row->grants, .failures = row->failures, .partition = partition, .offset = offset,
                                       .reason = view_of(text, row->reason.size),
                                       .error = view_of(text + row->reason.size, row->error.size)};
    p->records[p->n] = (struct wire_record){.offset = offset, .partition = partition, .grants = row->grants, .failures = row->failures};
    p->n++;
}

static struct key page_begin(const struct op *op)
{
    const struct wire_held_list *l = &op->request.held;
    uint32_t group = op->reply.held.delivery.group;
    struct key from = key_group_prefix(group), one;
    if (l->has_after) {
        from = key_held(group, l->after_partition, l->after_offset);
        from = key_after(&from);
    }
    if (l->filter != NULL && l->filter->has_offset) { /* one row at most */
        one = key_held(group, l->filter->partition, l->filter->offset);
        if (view_cmp(key_view(&one), key_view(&from)) > 0)
            from = one;
    }
    return from;
}

static int page_walk(struct store *store, struct page *p, held_fits_fn *fits, void *user, struct err *e)
{
    const struct wire_held_list *l = &p->op->request.held;
    struct wire_held_reply *out = &p->op->reply.held;
    struct key prefix = key_group_prefix(out->delivery.group), from = page_begin(p->op);
    uint32_t looked_at = 0, asked = 0;
    struct store_iter *it = store_iter(store, FAM_HELD);
    for (store_iter_seek(it, key_view(&from)); store_iter_valid(it) && key_has_prefix(store_iter_key(it), &prefix); store_iter_next(it)) {
        struct held_row row;
        uint32_t group, partition;
        uint64_t offset;
        if (!key_read_held(store_iter_key(it), &group, &partition, &offset)) {
            err_set(e, E_DAMAGED, "its key does not read");
            row_bad(FAM_HELD, store_iter_key(it), e);
            break;
        }
        if (l->filter != NULL && l->filter->has_offset && (partition != l->filter->partition || offset != l->filter->offset))
            break;
        if (looked_at++ == ROWS_LOOKED_AT) {
            out->more = true;
            break;
        }
        if (held_row_get(store_iter_value(it), &row, e) != E_OK) {
            row_bad(FAM_HELD, store_iter_key(it), e);
            break;
        }
        enum filter_says says = FILTER_NO;
        bool purged = row.state == HELD_RETRYING && row.purges != p->op->purges;
        if (!purged && (l->state == HELD_ANY || l->state == row.state))
            says = filter_row(l->filter, partition, offset, &row);
        if (says != FILTER_NO) {
            if (p->n == l->limit || (p->n > 0 && l->payload && p->bytes + row.size > l->max_bytes) ||
                (says == FILTER_BYTES && asked == BYTES_LOOKED_AT)) {
                out->more = true;
                break;
            }
            asked += says == FILTER_BYTES;
            if (says == FILTER_YES || fits(user, partition, offset, l->filter)) {
                p->bytes += row.size;
                page_add(p, &row, partition, offset);
            }
        }
        out->next_partition = partition;
        out->next_offset = offset;
    }
    if (e->code == E_OK)
        store_iter_status(it, e);
    store_iter_close(it);
    return e->code;
}

int held_page(struct store *store, struct op *op, held_fits_fn *fits, void *user)
{
    const struct wire_held_list *l = &op->request.held;
    struct wire_held_reply *out = &op->reply.held;
    struct page p = {.op = op, .rows = op_take(NULL, op, l->limit, sizeof *p.rows)};
    p.records = op_take(NULL, op, l->limit, sizeof *p.records);
    struct err e = {0};
    if (page_walk(store, &p, fits, user, &e) != E_OK) {
        op->reply.code = (uint16_t)e.code;
        op->reply.body = BODY_NONE;
        op->error = e;
        op->reply.detail = view_of_str(op->error.text);
        return e.code;
    }
    out->rows = p.rows;
    out->rows_n = p.n;
    if (l->payload && p.n > 0) {
        out->has_delivery = true;
        out->delivery.records = p.records;
        out->delivery.records_n = p.n;
    }
    return E_OK;
}

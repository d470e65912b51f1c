/* Looking at what is held: pages of rows, with their messages where those are asked for. */
#include "engine/memory.h"

static bool held_wanted(const struct wire_held_list *l, uint8_t state) { return l->state == HELD_ANY || l->state == state; }

void held_list(struct engine *en, struct op *op)
{
    const struct wire_held_list *l = &op->request.held;
    const struct group *g = group_find(en, op, l->topic, l->group);
    if (g == NULL)
        return;
    uint32_t limit = l->limit == 0 || l->limit > en->limits->page_max ? (uint32_t)en->limits->page_max : l->limit, n = 0;
    struct wire_held *rows = op_take(en, op, limit, sizeof *rows);
    struct wire_record *records = op_take(en, op, limit, sizeof *records);
    struct key prefix = key_group_prefix(g->id), from = prefix;
    if (l->has_after) {
        from = key_held(g->id, l->after_partition, l->after_offset);
        from = key_after(&from);
    }
    uint64_t bytes_max = l->max_bytes == 0 || l->max_bytes > en->limits->reply_bytes_max ? en->limits->reply_bytes_max : l->max_bytes;
    uint64_t bytes = 0; /* of payload */
    struct err e = {0};
    bool more = false;
    struct store_iter *it = store_iter(en->store, FAM_HELD);
    for (store_iter_seek(it, key_view(&from)); store_iter_valid(it) && key_has_prefix(store_iter_key(it), &prefix); store_iter_next(it)) {
        struct held_row row;
        struct wire_held *out = &rows[n];
        uint32_t group;
        if (held_row_get(store_iter_value(it), &row, &e) != E_OK)
            break;
        if (!held_wanted(l, row.state))
            continue;
        bytes += l->payload ? row.size : 0;
        if (n == limit || (n > 0 && bytes > bytes_max)) {
            more = true;
            break;
        }
        *out = (struct wire_held){.state = row.state, .due_ms = row.due_ms, .at_ms = row.at_ms, .record = n, .grants = row.grants,
                                  .failures = row.failures};
        key_read_held(store_iter_key(it), &group, &out->partition, &out->offset);
        char *text = op_take(en, op, row.reason.size + row.error.size, 1);
        memcpy(text, row.reason.data, row.reason.size);
        memcpy(text + row.reason.size, row.error.data, row.error.size);
        out->reason = view_of(text, row.reason.size);
        out->error = view_of(text + row.reason.size, row.error.size);
        records[n] = (struct wire_record){.offset = out->offset, .partition = out->partition, .grants = row.grants, .failures = row.failures};
        n++;
    }
    if (e.code == E_OK)
        store_iter_status(it, &e);
    store_iter_close(it);
    if (e.code != E_OK) {
        answer(en, op, e.code, "%s", e.text);
        return;
    }
    op->reply.body = BODY_HELD;
    op->reply.held = (struct wire_held_reply){.topic = op_text(op, g->topic->name), .group = op_text(op, g->name), .rows = rows,
                                              .rows_n = n, .more = more};
    if (l->payload && n > 0) {
        op->reply.held.has_delivery = true;
        op->reply.held.delivery = (struct wire_delivery){.group = g->id, .records = records, .records_n = n};
        op->read = READ_RECORDS;
    }
    answer_now(en, op);
}

/* The bytes of messages that are handed out: see deliveryread.h. */
#include "broker/deliveryread.h"

#include <stdlib.h>

#include "base/mem.h"
#include "broker/slicer.h"
#include "schemas/errors.h"
#include "store/keys.h"

static int record_order(const void *a, const void *b)
{
    const struct wire_record *x = a, *y = b;
    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int slice(struct slicer *s, const struct log_source *src, struct wire_record *r, struct buf *out, struct err *e)
{
    struct record record;
    struct found f;
    int code = slicer_get(s, src, r->partition, r->offset, &record, &f, e);
    if (code != E_OK)
        return code;
    const struct batch_columns *c = f.c;
    uint32_t i = f.index;
    r->append_time_ms = f.h.append_time_ms;
    r->timestamp_ms = record.timestamp_ms;
    r->sum = c->sum[i];
    r->key_size = c->key_size != NULL ? c->key_size[i] : 0;
    r->headers_size = c->headers_size != NULL ? c->headers_size[i] : 0;
    r->value_size = c->value_size != NULL ? c->value_size[i] : 0;
    buf_append(out, record.key.data, record.key.size);
    buf_append(out, record.headers.data, record.headers.size);
    buf_append(out, record.value.data, record.value.size);
    return E_OK;
}

/* One record of a delivery, and where its bytes are. */
struct piece { struct wire_record record; uint32_t place; bool good; size_t begin, size; };

static int piece_order(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    return record_order(&x->record, &y->record);
}

static int place_order(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* The log is read in its own order. */
void delivery_fill(const struct log_source *src, struct wire_delivery *d, struct buf *out, log_unreadable_fn *unreadable, void *user)
{
    struct wire_record *records = (struct wire_record *)(uintptr_t)d->records;
    struct piece *pieces = mem_array(d->records_n, sizeof *pieces);
    struct buf bytes = {0};
    struct slicer s = {.group = d->group};
    bool in_order = true;
    for (uint32_t i = 0; i < d->records_n; i++) {
        pieces[i] = (struct piece){.record = records[i], .place = i};
        in_order &= i == 0 || record_order(&records[i - 1], &records[i]) <= 0;
    }
    if (!in_order)
        qsort(pieces, d->records_n, sizeof *pieces, piece_order);
    struct buf *to = in_order ? out : &bytes;
    for (uint32_t i = 0; i < d->records_n; i++) {
        struct piece *p = &pieces[i];
        struct err e = {0};
        p->begin = to->size;
        int code = slice(&s, src, &p->record, to, &e);
        p->size = to->size - p->begin;
        p->good = code == E_OK;
        if (p->good)
            continue;
        if (unreadable == NULL)
            p->record.flags |= RECORD_DAMAGED;
        else
            unreadable(user, &(struct log_unreadable){.group = d->group, .partition = p->record.partition, .offset = p->record.offset,
                                                      .token = d->token, .code = code, .error = e});
    }
    slicer_stop(&s);
    if (!in_order)
        qsort(pieces, d->records_n, sizeof *pieces, place_order);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->records_n; i++) {
        if (!in_order)
            buf_append(out, bytes.data + pieces[i].begin, pieces[i].size);
        if (pieces[i].good || unreadable == NULL)
            records[kept++] = pieces[i].record;
    }
    d->records_n = kept;
    buf_free(&bytes);
    mem_free(pieces);
}

/* ---------------------------------------------------------------- state rows of the records' keys */

/* The state row of a key; false: none that reads. A unit that builds on it is fenced by its version, so what is read here may be newer
 * than the grant. */
static bool state_of(const struct log_source *src, uint32_t group, struct view key, struct buf *row, struct wire_state_row *out, struct op *op)
{
    struct key k = key_state(group, state_key_hash(key));
    struct state_row state;
    struct err e = {0};
    bool found = false;
    buf_clear(row);
    if (store_get(src->store, FAM_STATE, key_view(&k), row, &found, &e) != E_OK || !found ||
        state_row_get(buf_view(row), &state, &e) != E_OK || !view_eq(state.key, key))
        return false;
    uint8_t *copy = arena_take(&op->arena, state.value.size + 1);
    if (copy == NULL)
        return false;
    if (state.value.size > 0)
        memcpy(copy, state.value.data, state.value.size);
    out->version = state.version;
    out->value = view_of(copy, state.value.size);
    return true;
}

static void fill_state(const struct log_source *src, struct op *op, struct wire_delivery *d)
{
    struct wire_state_row *rows = arena_take(&op->arena, (d->records_n + 1) * sizeof *rows);
    struct buf row = {0};
    const uint8_t *at = d->data.data;
    for (uint32_t i = 0; rows != NULL && i < d->records_n; i++) {
        const struct wire_record *r = &d->records[i];
        size_t key_size = r->key_size > 0 ? r->key_size - 1 : 0;
        rows[d->state_n].index = i;
        if (r->key_size > 0 && (r->flags & RECORD_DAMAGED) == 0 && state_of(src, d->group, view_of(at, key_size), &row, &rows[d->state_n], op))
            d->state_n++;
        at += key_size + r->headers_size + (r->value_size > 0 ? r->value_size - 1 : 0);
    }
    d->state = rows;
    buf_free(&row);
}

void receive_fill(const struct log_source *src, struct op *op, struct wire_receive_reply *r, log_unreadable_fn *unreadable, void *user)
{
    struct wire_delivery *deliveries = (struct wire_delivery *)(uintptr_t)r->deliveries;
    size_t *ends = mem_array(r->deliveries_n, sizeof *ends);
    for (uint32_t i = 0; i < r->deliveries_n; i++) {
        delivery_fill(src, &deliveries[i], &op->payload, unreadable, user);
        ends[i] = op->payload.size;
    }
    for (uint32_t i = 0; i < r->deliveries_n; i++) {
        size_t begin = i > 0 ? ends[i - 1] : 0;
        deliveries[i].data = view_of(op->payload.data + begin, ends[i] - begin);
        if (op->with_state)
            fill_state(src, op, &deliveries[i]);
    }
    mem_free(ends);
}

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
    buf_reserve(out, record.key.size + record.headers.size + record.value.size);
    buf_append(out, record.key.data, record.key.size);
    buf_append(out, record.headers.data, record.headers.size);
    buf_append(out, record.value.data, record.value.size);
    return E_OK;
}

/* One filling of a delivery. */
struct filling {
    const struct log_source *src;
    struct wire_delivery *d;
    struct slicer s;
    log_unreadable_fn *unreadable;
    void *user;
};

/* Reads one record behind what is in `out`. False: it is to be taken out, and was reported. */
static bool fill_record(struct filling *x, struct wire_record *r, struct buf *out)
{
    struct err e = {0};
    int code = slice(&x->s, x->src, r, out, &e);
    if (code == E_OK)
        return true;
    if (x->unreadable == NULL) {
        r->flags |= RECORD_DAMAGED;
        return true;
    }
    x->unreadable(x->user, &(struct log_unreadable){.group = x->d->group, .partition = r->partition, .offset = r->offset, .token = x->d->token,
                                                    .code = code, .error = e});
    return false;
}

/* One record of a delivery that was not granted in the log's order, and where its bytes are. */
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

/* The log is read in its own order, and then put in that of the delivery. How many records are left. */
static uint32_t fill_sorted(struct filling *x, struct wire_record *records, uint32_t n, struct buf *out)
{
    struct piece *pieces = mem_array(n, sizeof *pieces);
    struct buf bytes = {0};
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        pieces[i] = (struct piece){.record = records[i], .place = i};
    qsort(pieces, n, sizeof *pieces, piece_order);
    for (uint32_t i = 0; i < n; i++) {
        pieces[i].begin = bytes.size;
        pieces[i].good = fill_record(x, &pieces[i].record, &bytes);
        pieces[i].size = bytes.size - pieces[i].begin;
    }
    qsort(pieces, n, sizeof *pieces, place_order);
    for (uint32_t i = 0; i < n; i++) {
        if (!pieces[i].good)
            continue;
        buf_append(out, bytes.data + pieces[i].begin, pieces[i].size);
        records[kept++] = pieces[i].record;
    }
    buf_free(&bytes);
    mem_free(pieces);
    return kept;
}

void delivery_fill(const struct log_source *src, struct wire_delivery *d, struct buf *out, log_unreadable_fn *unreadable, void *user)
{
    struct wire_record *records = (struct wire_record *)(uintptr_t)d->records;
    struct filling x = {.src = src, .d = d, .s = {.group = d->group}, .unreadable = unreadable, .user = user};
    bool in_order = true;
    for (uint32_t i = 1; i < d->records_n; i++)
        in_order &= record_order(&records[i - 1], &records[i]) <= 0;
    uint32_t kept = 0;
    if (!in_order)
        kept = fill_sorted(&x, records, d->records_n, out);
    for (uint32_t i = 0; in_order && i < d->records_n; i++) {
        records[kept] = records[i];
        kept += fill_record(&x, &records[kept], out);
    }
    slicer_stop(&x.s);
    d->records_n = kept;
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

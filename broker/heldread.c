/* The bytes of held messages: see heldread.h. */
#include "broker/heldread.h"

#include "broker/deliveryread.h"
#include "engine/filter.h"
#include "schemas/errors.h"

/* What is damaged or gone does not fit; whether the rest does is not known when the code says so. */
static bool fits_as(struct fitting *x, uint32_t partition, uint64_t offset, const struct wire_held_filter *f, struct record *record,
                    struct found *found, int *code)
{
    struct err e = {0};
    *code = slicer_get(&x->s, x->src, partition, offset, record, found, &e);
    if (*code != E_OK && *code != E_DAMAGED && *code != E_GAP)
        x->code = *code;
    return *code == E_OK && filter_bytes(f, record->key, record->headers);
}

bool fits(void *user, uint32_t partition, uint64_t offset, const struct wire_held_filter *f)
{
    struct record record;
    struct found found = {0};
    int code;
    return fits_as(user, partition, offset, f, &record, &found, &code);
}

void held_fill(const struct log_source *src, struct op *op)
{
    struct fitting x = {.src = src, .s.group = op->reply.held.delivery.group};
    int code = held_page(src->store, op, fits, &x);
    slicer_stop(&x.s);
    if (code == E_OK && x.code != E_OK) {
        op->reply.code = (uint16_t)x.code;
        op->reply.body = BODY_NONE;
        return;
    }
    if (code == E_OK && op->reply.held.has_delivery) {
        delivery_fill(src, &op->reply.held.delivery, &op->payload, NULL, NULL);
        op->reply.held.delivery.data = buf_view(&op->payload);
    }
}

/* ---------------------------------------------------------------- copies of held messages */

/* A batch of the record alone, under a header as it had. */
static int copy_put(struct batch_builder *builder, const struct record *record, const struct found *f, uint64_t offset, struct buf *out, struct err *e)
{
    static const uint8_t zeros[STORED_HEADER_SIZE + STORED_ALIGN];
    struct buf batch = {0};
    struct stored_header h = f->h;
    h.base_offset = offset;
    h.count = 1;
    int code = batch_builder_add(builder, record, e);
    if (code == E_OK)
        code = batch_builder_finish(builder, BATCH_LZ4, &batch, &h.batch_hash, e);
    if (code == E_OK) {
        h.size = (uint32_t)batch.size;
        size_t at = out->size, whole = stored_entry_size(h.size);
        buf_append(out, zeros, STORED_HEADER_SIZE);
        stored_header_put(out->data + at, &h);
        buf_append(out, batch.data, batch.size);
        buf_append(out, zeros, whole - STORED_HEADER_SIZE - batch.size);
    }
    buf_free(&batch);
    return code;
}

void log_copy(const struct log_source *src, struct copies *c)
{
    struct slicer s = {.group = c->group};
    struct batch_builder *builder = batch_builder_new();
    for (uint32_t i = 0; i < c->places_n && c->code == E_OK; i++) {
        struct copy_place *p = &c->places[i];
        struct record record;
        struct found f;
        struct err e = {0};
        p->at = c->bytes.size;
        p->code = slicer_get(&s, src, c->partition, p->offset, &record, &f, &e);
        if (p->code == E_OK)
            p->code = copy_put(builder, &record, &f, p->offset, &c->bytes, &e);
        if (p->code != E_OK && p->code != E_DAMAGED && p->code != E_GAP)
            c->code = p->code;
        p->size = (uint32_t)(c->bytes.size - p->at);
    }
    batch_builder_free(builder);
    slicer_stop(&s);
}

/* ---------------------------------------------------------------- which fit, and copies of them for who replays another group's */

static bool within(uint64_t ms, uint64_t from_ms, uint64_t to_ms) { return ms >= from_ms && (to_ms == 0 || ms < to_ms); }

void log_match(const struct log_source *src, struct match *m)
{
    enum { COPY_BYTES = 4 << 20 }; /* no more are copied at once, but for the last */
    struct fitting x = {.src = src, .s.group = m->group};
    struct batch_builder *builder = batch_builder_new();
    for (uint32_t i = 0; i < m->places_n && x.code == E_OK; i++) {
        struct match_place *p = &m->places[i];
        struct record record;
        struct found found = {0};
        struct err e = {0};
        int code;
        bool fit = fits_as(&x, p->partition, p->offset, &m->filter, &record, &found, &code);
        p->fits = fit && within(found.h.append_time_ms, m->from_ms, m->to_ms); /* of the log's batch, or of its copy */
        p->gone = code == E_DAMAGED || code == E_GAP;
        p->at = m->bytes.size;
        if (p->fits && p->wants_copy && m->bytes.size < COPY_BYTES)
            x.code = copy_put(builder, &record, &found, p->offset, &m->bytes, &e);
        p->size = (uint32_t)(m->bytes.size - p->at);
    }
    batch_builder_free(builder);
    slicer_stop(&x.s);
    m->code = x.code;
}

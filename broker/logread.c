/* Reading the logs: see logread.h. */
#include "broker/logread.h"

#include "base/mem.h"
#include "broker/heldread.h"
#include "schemas/errors.h"
#include "schemas/records.h"

/* ---------------------------------------------------------------- read-ahead */

enum { LOAD_SPAN_MAX = 1 << 18 /* offsets that one answer covers, where compaction left few records */ };

static int load_batch(const struct effect_load *load, const struct batch *b, struct loaded *out, struct buf *records, struct err *e)
{
    struct batch_columns c;
    int code = codec_batch_open(b->bytes, &c, e);
    if (code != E_OK)
        return code;
    uint32_t i = load->from > b->h.base_offset ? batch_index_at(&c, load->from - b->h.base_offset) : 0;
    for (; i < c.count && out->records_n < load->records; i++) {
        uint64_t offset = b->h.base_offset + batch_offset_delta(&c, i);
        struct loaded_record r = {.offset = offset, .append_time_ms = b->h.append_time_ms};
        uint32_t key = c.key_size != NULL ? c.key_size[i] : 0, headers = c.headers_size != NULL ? c.headers_size[i] : 0;
        uint32_t value = c.value_size != NULL ? c.value_size[i] : 0;
        r.has_key = key > 0;
        r.key_hash = r.has_key ? c.key_hash[i] : 0;
        r.size = (key > 0 ? key - 1 : 0) + headers + (value > 0 ? value - 1 : 0);
        r.ttl_ms = c.ttl_ms != NULL ? c.ttl_ms[i] : 0;
        r.priority = c.priority != NULL ? c.priority[i] : 0;
        buf_append(records, &r, sizeof r);
        out->records_n++;
        out->next = offset + 1;
        out->bytes = log_bytes_before(&b->h, out->next);
    }
    if (i == c.count)
        out->next = b->last_offset + 1;
    return E_OK;
}

int log_load(const struct log_source *src, const struct effect_load *load, struct loaded *out, struct buf *records, struct err *e)
{
    struct walk w;
    buf_clear(records);
    *out = (struct loaded){.group = load->group, .partition = load->partition, .from = load->from, .next = load->from};
    if (!walk_open(&w, src, load->partition, load->from))
        return E_OK; /* deleted meanwhile */
    while (out->records_n < load->records && out->next < load->end) {
        struct batch b;
        bool found;
        uint64_t expected = w.at;
        struct err why = {0};
        int code = walk_next(&w, &b, &found, &why);
        if (code != E_OK && code != E_DAMAGED) {
            walk_close(&w);
            return err_set(e, code, "%s", why.text);
        }
        if (code == E_OK && !found && w.at >= load->end) { /* nothing is left up to the end */
            out->next = load->end - load->from < LOAD_SPAN_MAX ? load->end : load->from + LOAD_SPAN_MAX;
            break;
        }
        if (code == E_OK && found && b.from <= expected) {
            if (b.h.base_offset > load->from + LOAD_SPAN_MAX) { /* the rest of the hole comes with the next answers */
                out->next = out->next > load->from + LOAD_SPAN_MAX ? out->next : load->from + LOAD_SPAN_MAX;
                break;
            }
            code = load_batch(load, &b, out, records, &why);
            if (code == E_OK)
                continue;
        }
        /* damage: a batch that does not read, a hole in the chain, or a log that ends too early */
        if (out->records_n > 0)
            break;
        out->code = E_DAMAGED;
        out->next = walk_damage_span(&w, code, found, &b, load->from, load->end);
        if (out->next - load->from > load->records)
            out->next = load->from + load->records;
        break;
    }
    walk_close(&w);
    out->records = (const struct loaded_record *)(const void *)records->data;
    return E_OK;
}

/* ---------------------------------------------------------------- fetch: whole batches */

static void fetch_part(const struct log_source *src, const struct wire_fetch_from *from, struct wire_fetch_part *part, struct buf *out,
                       uint32_t bytes_max)
{
    static const uint8_t zeros[STORED_ALIGN];
    struct walk w;
    uint64_t at = from->offset < part->start ? part->start : from->offset;
    size_t begin = out->size;
    uint64_t start;
    if (!walk_open(&w, src, part->partition, at)) {
        part->code = E_PARTITION_NOT_FOUND;
        return;
    }
    while (w.at < part->end) {
        struct batch b;
        bool found;
        struct err e = {0};
        uint64_t expected = w.at;
        int code = walk_next(&w, &b, &found, &e);
        if (code == E_OK && !found && w.at >= part->end)
            break;
        if (code == E_OK && found && b.from <= expected) {
            size_t whole = stored_entry_size(b.h.size);
            if (b.h.base_offset >= part->end || (out->size > begin && out->size - begin + whole > bytes_max))
                break;
            buf_append(out, b.head, STORED_HEADER_SIZE);
            buf_append(out, b.bytes.data, b.bytes.size);
            buf_append(out, zeros, whole - STORED_HEADER_SIZE - b.bytes.size);
            if (out->size - begin >= bytes_max)
                break;
            continue;
        }
        if (out->size > begin) /* what is good goes first; the damage stands at the front of the next fetch */
            break;
        if (code != E_OK && code != E_DAMAGED) { /* it may be there and whole */
            part->code = (uint16_t)code;
            break;
        }
        if (tail_lookup(src->tail, part->partition, &w.family, &start) && start > expected)
            break; /* removed while it was looked for: who asks again is told what is gone */
        uint64_t to = walk_damage_span(&w, code, found, &b, expected, part->end);
        part->code = E_DAMAGED;
        part->has_gap = true;
        part->gap = (struct wire_gap){.from = expected, .to = to, .why = GAP_DAMAGED};
        break;
    }
    walk_close(&w);
}

static void fill_fetch(const struct log_source *src, struct op *op)
{
    struct wire_fetch_part *parts = (struct wire_fetch_part *)(uintptr_t)op->reply.fetch.parts;
    uint32_t n = op->reply.fetch.parts_n;
    size_t *ends = mem_array(n, sizeof *ends);
    for (uint32_t i = 0; i < n; i++) {
        if (parts[i].code == E_OK && op->payload.size < op->fetch_bytes) {
            uint32_t most = op->fetch_bytes - (uint32_t)op->payload.size;
            if (op->wants[i].max_bytes != 0 && op->wants[i].max_bytes < most)
                most = op->wants[i].max_bytes;
            fetch_part(src, &op->wants[i], &parts[i], &op->payload, most);
        }
        ends[i] = op->payload.size;
    }
    for (uint32_t i = 0; i < n; i++) { /* only now does the payload no longer move */
        size_t begin = i > 0 ? ends[i - 1] : 0;
        if (ends[i] > begin)
            parts[i].data = view_of(op->payload.data + begin, ends[i] - begin);
    }
    mem_free(ends);
}

/* ---------------------------------------------------------------- what the index says of a message */

static void fill_ask(const struct log_source *src, struct op_ask *a)
{
    struct walk w;
    struct batch b;
    struct batch_columns c;
    struct err e = {0};
    bool found;
    if (!walk_open(&w, src, a->partition, a->offset))
        return;
    if (walk_next(&w, &b, &found, &e) == E_OK && found && b.h.base_offset <= a->offset && codec_batch_open(b.bytes, &c, &e) == E_OK) {
        uint64_t delta = a->offset - b.h.base_offset;
        uint32_t i = batch_index_at(&c, delta);
        a->found = i < c.count && batch_offset_delta(&c, i) == delta;
        a->append_time_ms = b.h.append_time_ms;
        a->bytes = log_bytes_before(&b.h, a->offset);
        if (a->found) {
            a->has_key = c.key_size != NULL && c.key_size[i] > 0;
            a->key_hash = a->has_key ? c.key_hash[i] : 0;
            a->ttl_ms = c.ttl_ms != NULL ? c.ttl_ms[i] : 0;
        }
    }
    walk_close(&w);
}

/* ---------------------------------------------------------------- offset for a time */

int log_offset_at(const struct log_source *src, uint32_t partition, uint64_t low, uint64_t high, uint64_t time_ms, uint64_t *offset,
                     struct err *e)
{
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        struct walk w;
        struct batch b;
        bool found = false;
        if (!walk_open(&w, src, partition, mid))
            break;
        int code = walk_next(&w, &b, &found, e);
        walk_close(&w);
        if (code != E_OK)
            return code;
        uint64_t first = found && b.from < mid ? b.from : mid; /* nothing is left between it and the batch, whose time stands for both */
        if (found && b.h.append_time_ms < time_ms)
            low = b.last_offset + 1;
        else
            high = first > low ? first : low;
    }
    *offset = low < high ? low : high;
    return E_OK;
}

static void fill_offset(const struct log_source *src, struct op *op)
{
    const struct wire_offset_for *q = &op->request.offset_for;
    struct wire_offset_reply *r = &op->reply.offset;
    struct err e = {0};
    int code = log_offset_at(src, q->partition, r->start, r->end, q->time_ms, &r->offset, &e);
    if (code != E_OK) {
        op->reply.code = (uint16_t)code;
        op->reply.body = BODY_NONE;
        err_set(&op->error, code, "%s", e.text);
        op->reply.detail = view_of_str(op->error.text);
    }
}

/* ---------------------------------------------------------------- what an operation asks for */

void log_fill(const struct log_source *src, struct op *op, log_unreadable_fn *unreadable, void *user)
{
    switch (op->read) {
    case READ_NONE:
    case READ_BACKUP: /* are not ours */
    case READ_WORKERS:
        break;
    case READ_FETCH:
        fill_fetch(src, op);
        break;
    case READ_RECORDS:
        if (op->reply.body == BODY_RECEIVE)
            receive_fill(src, op, &op->reply.receive, unreadable, user);
        else if (op->reply.body == BODY_SETTLE)
            receive_fill(src, op, &op->reply.settle.receive, unreadable, user);
        break;
    case READ_HELD:
        held_fill(src, op);
        break;
    case READ_INDEX:
        for (uint32_t i = 0; i < op->asks_n; i++)
            fill_ask(src, &op->asks[i]);
        break;
    case READ_OFFSET:
        fill_offset(src, op);
        break;
    }
}

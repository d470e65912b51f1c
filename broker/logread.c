/* Reading the logs: see logread.h. */
#include "broker/logread.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/planted.h"
#include "engine/filter.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "schemas/stored.h"
#include "store/keys.h"

/* ---------------------------------------------------------------- a walk over the batches of a partition */

enum { TAKE = 32 };

struct walk {
    const struct log_source *src;
    uint32_t partition;
    uint64_t at;                  /* the next offset wanted */
    enum store_family family;
    struct tail_batch taken[TAKE]; /* from the tail cache */
    size_t taken_n, taken_at;
    struct store_iter *it;        /* from the store */
    struct buf row;               /* a row's value, where it was not aligned */
    struct view rest;             /* entries of the row not yet walked */
    bool in_row;
};

/* One batch: its header, its bytes, the 64 bytes of the header as stored. Of the offsets from `from` up to it no record is left: compaction
 * removed them. Good until the next call with this walk. */
struct batch { struct stored_header h; const uint8_t *head; struct view bytes; uint64_t from, last_offset; };

static void taken_drop(struct walk *w)
{
    while (w->taken_at < w->taken_n)
        ref_drop(w->taken[w->taken_at++].hold);
    w->taken_n = w->taken_at = 0;
}

static bool walk_open(struct walk *w, const struct log_source *src, uint32_t partition, uint64_t from)
{
    uint64_t start;
    *w = (struct walk){.src = src, .partition = partition, .at = from};
    return tail_lookup(src->tail, partition, &w->family, &start);
}

static void walk_close(struct walk *w)
{
    taken_drop(w);
    store_iter_close(w->it);
    buf_free(&w->row);
}

/* Wants offset `to` next: forward only moves are cheap. */
static void walk_seek(struct walk *w, uint64_t to)
{
    if (to < w->at) {
        taken_drop(w);
        w->in_row = false;
        store_iter_close(w->it);
        w->it = NULL;
    }
    w->at = to;
}

static int damaged(struct err *e, uint32_t partition, uint64_t offset, const char *what)
{
    return err_set(e, E_DAMAGED, "partition id %u at offset %llu: %s", partition, (unsigned long long)offset, what);
}

/* The next row of the store: the first whose last offset is not below `at`. OK with in_row false: there is none. `last` is set as soon as the
 * row's key is known. */
static int row_next(struct walk *w, uint64_t *last, struct err *e)
{
    struct key k = key_log(w->partition, w->at);
    if (w->it == NULL)
        w->it = store_iter(w->src->store, w->family);
    else if (store_iter_valid(w->it))
        store_iter_next(w->it);
    if (!store_iter_valid(w->it) || view_cmp(store_iter_key(w->it), key_view(&k)) < 0)
        store_iter_seek(w->it, key_view(&k));
    w->in_row = false;
    uint32_t partition;
    if (!store_iter_valid(w->it))
        return store_iter_status(w->it, e);
    if (!key_read_log(store_iter_key(w->it), &partition, last))
        return damaged(e, w->partition, w->at, "a key of the log does not read");
    if (partition != w->partition)
        return E_OK;
    w->rest = store_iter_value(w->it);
    int code = store_iter_status(w->it, e);
    if (code != E_OK)
        return code;
    if ((uintptr_t)w->rest.data % STORED_ALIGN != 0) {
        buf_clear(&w->row);
        buf_append(&w->row, w->rest.data, w->rest.size);
        w->rest = buf_view(&w->row);
    }
    w->in_row = true;
    return E_OK;
}

static int batch_from_tail(struct walk *w, struct batch *b, struct err *e)
{
    struct tail_batch *t = &w->taken[w->taken_at];
    b->head = t->header;
    b->bytes = t->batch;
    return stored_header_get(view_of(t->header, STORED_HEADER_SIZE), &b->h, e);
}

static int batch_from_row(struct walk *w, struct batch *b, struct err *e)
{
    b->head = w->rest.data;
    int code = stored_next(&w->rest, &b->h, &b->bytes, e);
    if (code != E_OK)
        return code;
    if (!stored_is_hole(&b->h) && batch_hash(b->bytes) != b->h.batch_hash && !PLANTED(log_sum_unchecked))
        return damaged(e, w->partition, b->h.base_offset, "the batch does not fit its checksum");
    return E_OK;
}

/* Whether the walk goes on behind this entry, of which nothing is left at or behind `at`; else it is what was looked for. *from: where what
 * was passed so begins; UINT64_MAX: nothing was. */
static bool passes(struct walk *w, struct batch *b, uint64_t *from)
{
    struct batch_columns c;
    struct err e = {0};
    uint64_t base = b->h.base_offset;
    b->last_offset = base + b->h.count - 1;
    if (b->last_offset < w->at)
        return true;
    bool hole = stored_is_hole(&b->h) || (base < w->at && codec_batch_open(b->bytes, &c, &e) == E_OK && batch_index_at(&c, w->at - base) == c.count);
    if (*from == UINT64_MAX || base > w->at)
        *from = base;
    w->at = b->last_offset + 1;
    b->from = *from;
    return hole;
}

/* The batch that holds a record at or behind `at`. *found false: there is none, and `at` has moved behind what is left of the log. DAMAGED: `at`
 * has moved behind what is damaged, or stands where it did when nothing says how far that goes (damage_end). */
static int walk_next(struct walk *w, struct batch *b, bool *found, struct err *e)
{
    uint64_t from = UINT64_MAX;
    *found = false;
    for (;;) {
        int code;
        uint64_t row_last = UINT64_MAX;
        if (w->taken_at < w->taken_n) {
            code = batch_from_tail(w, b, e);
            assert(code == E_OK);
            if (!passes(w, b, &from)) {
                *found = true;
                return E_OK;
            }
            ref_drop(w->taken[w->taken_at++].hold);
            continue;
        }
        if (!w->in_row || w->rest.size == 0) {
            taken_drop(w);
            w->taken_n = tail_take(w->src->tail, w->partition, w->at, w->taken, TAKE);
            if (w->taken_n > 0) {
                w->in_row = false;
                continue;
            }
            code = row_next(w, &row_last, e);
            if (code == E_DAMAGED) {
                if (row_last != UINT64_MAX)
                    w->at = row_last + 1;
                return code;
            }
            if (code != E_OK || !w->in_row)
                return code;
        }
        uint32_t partition;
        code = batch_from_row(w, b, e);
        if (code != E_OK) { /* nothing behind it in this row can be trusted either */
            key_read_log(store_iter_key(w->it), &partition, &row_last);
            w->rest.size = 0;
            if (row_last < w->at)
                continue;
            w->at = row_last + 1;
            return code;
        }
        if (passes(w, b, &from))
            continue;
        *found = true;
        return E_OK;
    }
}

static bool reads_at(struct walk *w, uint64_t offset)
{
    struct key k = key_log(w->partition, offset);
    store_iter_seek(w->it, key_view(&k));
    return store_iter_valid(w->it);
}

/* What a row spans that the store refuses, nobody says. Looks in growing steps, then between them, for the first offset behind `bad` at
 * which the log reads again; at most `end`. The walk goes on there. */
static uint64_t damage_end(struct walk *w, uint64_t bad, uint64_t end)
{
    uint64_t good = end;
    for (uint64_t step = 1; step < end - bad; step *= 2) {
        if (reads_at(w, bad + step)) {
            good = bad + step;
            break;
        }
        bad += step;
    }
    while (good - bad > 1) {
        uint64_t mid = bad + (good - bad) / 2;
        if (reads_at(w, mid))
            good = mid;
        else
            bad = mid;
    }
    w->at = good;
    w->in_row = false;
    store_iter_close(w->it);
    w->it = NULL;
    return good;
}

/* Up to where the log cannot be read from `from` on, of which walk_next said `code`. `from` < `end`; the answer is in (from, end]. */
static uint64_t damage_span(struct walk *w, int code, bool found, const struct batch *b, uint64_t from, uint64_t end)
{
    uint64_t to = code == E_OK && !found ? end : code == E_OK ? b->from : w->at > from ? w->at : damage_end(w, from, end);
    return to < end ? to : end;
}

/* Bytes of the log before an offset of this batch. */
static uint64_t log_bytes_before(const struct stored_header *h, uint64_t offset)
{
    uint64_t size = stored_entry_size(h->size), in = offset - h->base_offset < h->count ? offset - h->base_offset : h->count;
    return h->cumulative_bytes - size + size * in / h->count;
}

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
        out->next = damage_span(&w, code, found, &b, load->from, load->end);
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
        uint64_t to = damage_span(&w, code, found, &b, expected, part->end);
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

/* ---------------------------------------------------------------- records: slices of batches */

static int record_order(const void *a, const void *b)
{
    const struct wire_record *x = a, *y = b;
    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* A walk and the batch of it that is open. What a group holds and the log has no more is read from its copy. */
struct slicer {
    uint32_t group;            /* whose copies */
    struct walk w;
    struct batch b;
    struct batch_reader reader;
    bool walking, reading;
    struct buf copy;           /* the row of a copy */
    struct batch_reader copy_reader;
    bool copied;               /* it is open */
};

/* Where a record was found: good until the next call with the slicer. */
struct found { const struct batch_columns *c; uint32_t index; struct stored_header h; };

static void copy_close(struct slicer *s)
{
    if (s->copied)
        batch_reader_close(&s->copy_reader);
    s->copied = false;
}

static void slicer_stop(struct slicer *s)
{
    copy_close(s);
    buf_free(&s->copy);
    if (s->reading)
        batch_reader_close(&s->reader);
    if (s->walking)
        walk_close(&s->w);
    s->walking = s->reading = false;
}

static int compacted_away(struct err *e, uint32_t partition, uint64_t offset)
{
    return err_set(e, E_GAP, "partition id %u at offset %llu: compacted away", partition, (unsigned long long)offset);
}

/* The copy of a held message. False: there is none that reads. */
static bool copy_get(struct slicer *s, const struct log_source *src, uint32_t partition, uint64_t offset, struct record *record, struct found *f)
{
    struct key k = key_copy(s->group, partition, offset);
    struct view batch;
    struct err e = {0};
    bool there = false;
    copy_close(s);
    if (store_get(src->store, FAM_SCHED, key_view(&k), &s->copy, &there, &e) != E_OK || !there)
        return false;
    struct view rest = buf_view(&s->copy);
    if (stored_next(&rest, &f->h, &batch, &e) != E_OK || batch_hash(batch) != f->h.batch_hash || f->h.base_offset != offset ||
        batch_reader_open(&s->copy_reader, batch, &e) != E_OK)
        return false;
    s->copied = true;
    f->c = &s->copy_reader.c;
    f->index = 0;
    return batch_reader_get(&s->copy_reader, 0, record, &e) == E_OK;
}

/* One record of the log and its place in the batch that is then open. Its bytes are good until the next call with this slicer. */
static int log_get(struct slicer *s, const struct log_source *src, uint32_t partition, uint64_t offset, struct record *record,
                      uint32_t *index, struct err *e)
{
    bool open = s->reading && s->w.partition == partition && offset >= s->b.h.base_offset && offset <= s->b.last_offset;
    if (!open) {
        if (s->reading)
            batch_reader_close(&s->reader);
        s->reading = false;
        if (s->walking && s->w.partition != partition)
            slicer_stop(s);
        if (!s->walking && !walk_open(&s->w, src, partition, offset))
            return err_set(e, E_GAP, "partition id %u is gone", partition);
        s->walking = true;
        walk_seek(&s->w, offset);
        bool found;
        int code = walk_next(&s->w, &s->b, &found, e);
        if (code != E_OK)
            return code;
        if (!found || s->b.from > offset)
            return damaged(e, partition, offset, "the log has a hole");
        if (s->b.h.base_offset > offset)
            return compacted_away(e, partition, offset);
        if ((code = batch_reader_open(&s->reader, s->b.bytes, e)) != E_OK)
            return code;
        s->reading = true;
    }
    const struct batch_columns *c = &s->reader.c;
    *index = batch_index_at(c, offset - s->b.h.base_offset);
    if (*index >= c->count && c->offset_delta == NULL)
        return damaged(e, partition, offset, "the batch ends before it");
    if (*index >= c->count || batch_offset_delta(c, *index) != offset - s->b.h.base_offset)
        return compacted_away(e, partition, offset);
    *index -= PLANTED(wrong_record) && *index > 0;
    return batch_reader_get(&s->reader, *index, record, e);
}

static bool below_start(const struct log_source *src, uint32_t partition, uint64_t offset)
{
    enum store_family ignored;
    uint64_t start;
    return tail_lookup(src->tail, partition, &ignored, &start) && offset < start;
}

/* One record of the log, or its copy. GAP: it is gone with retention. */
static int slicer_get(struct slicer *s, const struct log_source *src, uint32_t partition, uint64_t offset, struct record *record, struct found *f,
                      struct err *e)
{
    bool gone = below_start(src, partition, offset);
    if (gone && copy_get(s, src, partition, offset, record, f))
        return E_OK;
    int code = gone ? E_GAP : log_get(s, src, partition, offset, record, &f->index, e);
    if (code == E_OK) {
        f->c = &s->reader.c;
        f->h = s->b.h;
        return E_OK;
    }
    if ((code == E_GAP || code == E_DAMAGED) && !gone && copy_get(s, src, partition, offset, record, f)) /* removed while it was looked for */
        return E_OK;
    if (gone || (code == E_DAMAGED && below_start(src, partition, offset)))
        return err_set(e, E_GAP, "partition id %u at offset %llu: gone with retention", partition, (unsigned long long)offset);
    return code;
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

/* Fills one delivery, in the order in which its messages were granted; the log is read in its own order. With `unreadable`, what does
 * not read is taken out; else it stays, marked as damaged. */
static void fill_delivery(const struct log_source *src, struct wire_delivery *d, struct buf *out, log_unreadable_fn *unreadable, void *user)
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

static void fill_receive(const struct log_source *src, struct op *op, struct wire_receive_reply *r, log_unreadable_fn *unreadable, void *user)
{
    struct wire_delivery *deliveries = (struct wire_delivery *)(uintptr_t)r->deliveries;
    size_t *ends = mem_array(r->deliveries_n, sizeof *ends);
    for (uint32_t i = 0; i < r->deliveries_n; i++) {
        fill_delivery(src, &deliveries[i], &op->payload, unreadable, user);
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

/* ---------------------------------------------------------------- held messages: does a filter fit their bytes */

struct fitting { const struct log_source *src; struct slicer s; int code; uint64_t append_time_ms; };

/* What is damaged or gone does not fit; whether the rest does is not known when the code says so. */
static bool fits(void *user, uint32_t partition, uint64_t offset, const struct wire_held_filter *f)
{
    struct fitting *x = user;
    struct record record;
    struct found found = {0};
    struct err e = {0};
    int code = slicer_get(&x->s, x->src, partition, offset, &record, &found, &e);
    if (code != E_OK && code != E_DAMAGED && code != E_GAP)
        x->code = code;
    x->append_time_ms = found.h.append_time_ms; /* of the log's batch, or of its copy */
    return code == E_OK && filter_bytes(f, record.key, record.headers);
}

static bool within(uint64_t ms, uint64_t from_ms, uint64_t to_ms) { return ms >= from_ms && (to_ms == 0 || ms < to_ms); }

void log_match(const struct log_source *src, struct match *m)
{
    struct fitting x = {.src = src, .s.group = m->group};
    for (uint32_t i = 0; i < m->places_n && x.code == E_OK; i++)
        m->places[i].fits = fits(&x, m->places[i].partition, m->places[i].offset, &m->filter) &&
                            within(x.append_time_ms, m->from_ms, m->to_ms);
    slicer_stop(&x.s);
    m->code = x.code;
}

static void fill_held(const struct log_source *src, struct op *op)
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
        fill_delivery(src, &op->reply.held.delivery, &op->payload, NULL, NULL);
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

/* The first offset in [low, high] whose message was appended at or after a time; high if none was. Errors: those of reading the log. */
static int offset_at(const struct log_source *src, uint32_t partition, uint64_t low, uint64_t high, uint64_t time_ms, uint64_t *offset,
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
    int code = offset_at(src, q->partition, r->start, r->end, q->time_ms, &r->offset, &e);
    if (code != E_OK) {
        op->reply.code = (uint16_t)code;
        op->reply.body = BODY_NONE;
        err_set(&op->error, code, "%s", e.text);
        op->reply.detail = view_of_str(op->error.text);
    }
}

/* ---------------------------------------------------------------- picking messages for a replay */

enum { PICK_LOOKED_AT = 16384, PICK_CHUNK = 4096 };

/* The key's hash says no in most cases, without its bytes. */
static bool picks(struct fitting *x, const struct pick *p, const struct loaded_record *r)
{
    const struct wire_held_filter *f = &p->filter;
    if (r->append_time_ms < p->from_ms || (f->has_offset && (f->partition != p->partition || f->offset != r->offset)) ||
        (f->has_key && (!r->has_key || r->key_hash != key_hash(f->key))))
        return false;
    return !filter_needs_bytes(f) || fits(x, p->partition, r->offset, f);
}

/* The records of one load. True: no more can fit, or no more may be given. */
static bool pick_loaded(struct fitting *x, struct pick *p, const struct loaded *l)
{
    for (uint32_t i = 0; i < l->records_n; i++) {
        const struct loaded_record *r = &l->records[i];
        if (r->offset >= p->end || (p->to_ms != 0 && r->append_time_ms >= p->to_ms)) {
            p->next = p->end;
            return true;
        }
        if (p->messages_n == p->messages_max)
            return true;
        bool fit = picks(x, p, r);
        if (x->code != E_OK)
            return true;
        p->next = r->offset + 1;
        if (fit) {
            p->messages[p->messages_n++] = (struct picked){.offset = r->offset, .key_hash = r->key_hash, .size = r->size, .skipped = p->trailing,
                                                           .priority = r->priority, .has_key = r->has_key};
            p->trailing = 0;
        } else {
            p->trailing++;
        }
    }
    p->next = l->next < p->end ? l->next : p->end;
    return false;
}

void log_pick(const struct log_source *src, struct pick *p)
{
    struct fitting x = {.src = src};
    struct buf records = {0};
    struct err e = {0};
    bool few_fit = p->filter.has_key || p->filter.header.size > 0 || p->filter.has_offset;
    p->next = p->from;
    if (p->seek && offset_at(src, p->partition, p->from, p->end, p->from_ms, &p->next, &e) != E_OK)
        p->next = p->from; /* all of it is looked at */
    for (uint32_t looked = 0; looked < PICK_LOOKED_AT && p->next < p->end && p->messages_n < p->messages_max;) {
        struct effect_load load = {.partition = p->partition, .from = p->next, .end = p->end,
                                   .records = few_fit ? PICK_CHUNK : p->messages_max - p->messages_n};
        struct loaded l;
        int code = log_load(src, &load, &l, &records, &e);
        if (code != E_OK || l.next == load.from) { /* not now; or the partition is gone, and so is who asks */
            p->code = code != E_OK ? code : E_GAP;
            break;
        }
        if (l.code != E_OK) {
            if (p->messages_n == 0 && looked == 0) {
                p->lost = l.next - p->next;
                p->next = l.next;
            }
            break;
        }
        looked += l.records_n > 0 ? l.records_n : PICK_CHUNK; /* a hole takes its time, too */
        if (pick_loaded(&x, p, &l))
            break;
    }
    if (x.code != E_OK)
        p->code = x.code;
    slicer_stop(&x.s);
    buf_free(&records);
}

void log_fill(const struct log_source *src, struct op *op, log_unreadable_fn *unreadable, void *user)
{
    switch (op->read) {
    case READ_NONE:
        break;
    case READ_FETCH:
        fill_fetch(src, op);
        break;
    case READ_RECORDS:
        if (op->reply.body == BODY_RECEIVE)
            fill_receive(src, op, &op->reply.receive, unreadable, user);
        else if (op->reply.body == BODY_SETTLE)
            fill_receive(src, op, &op->reply.settle.receive, unreadable, user);
        break;
    case READ_HELD:
        fill_held(src, op);
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

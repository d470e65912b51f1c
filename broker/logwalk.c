/* A walk over the batches of a partition: see logwalk.h. */
#include "broker/logwalk.h"

#include <assert.h>

#include "base/planted.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "store/keys.h"

static void taken_drop(struct walk *w)
{
    while (w->taken_at < w->taken_n)
        ref_drop(w->taken[w->taken_at++].hold);
    w->taken_n = w->taken_at = 0;
}

bool walk_open(struct walk *w, const struct log_source *src, uint32_t partition, uint64_t from)
{
    uint64_t start;
    *w = (struct walk){.src = src, .partition = partition, .at = from};
    return tail_lookup(src->tail, partition, &w->family, &start);
}

void walk_close(struct walk *w)
{
    taken_drop(w);
    store_iter_close(w->it);
    buf_free(&w->row);
}

void walk_seek(struct walk *w, uint64_t to)
{
    if (to < w->at) {
        taken_drop(w);
        w->in_row = false;
        store_iter_close(w->it);
        w->it = NULL;
    }
    w->at = to;
}

int log_damaged(struct err *e, uint32_t partition, uint64_t offset, const char *what)
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
        return log_damaged(e, w->partition, w->at, "a key of the log does not read");
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
    bool wanted = !stored_is_hole(&b->h) && b->h.base_offset + b->h.count > w->at; /* what is passed over is served to nobody */
    if (wanted && batch_hash(b->bytes) != b->h.batch_hash && !PLANTED(log_sum_unchecked))
        return log_damaged(e, w->partition, b->h.base_offset, "the batch does not fit its checksum");
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

int walk_next(struct walk *w, struct batch *b, bool *found, struct err *e)
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
            w->taken_n = tail_take(w->src->tail, w->partition, w->at, w->taken, WALK_TAKE);
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

uint64_t walk_damage_span(struct walk *w, int code, bool found, const struct batch *b, uint64_t from, uint64_t end)
{
    uint64_t to = code == E_OK && !found ? end : code == E_OK ? b->from : w->at > from ? w->at : damage_end(w, from, end);
    return to < end ? to : end;
}

uint64_t log_bytes_before(const struct stored_header *h, uint64_t offset)
{
    uint64_t size = stored_entry_size(h->size), in = offset - h->base_offset < h->count ? offset - h->base_offset : h->count;
    return h->cumulative_bytes - size + size * in / h->count;
}

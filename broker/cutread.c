/* Where a log may be cut: see cutread.h.
 *
 *     rows     [ old ][ old ][ old ][ young ][ young ]
 *                                  ^ cut
 *
 * Times and bytes only grow along a log, so a row that may go says the same of all before it.
 */
#include "broker/cutread.h"

#include "base/mem.h"
#include "schemas/errors.h"
#include "schemas/stored.h"
#include "store/keys.h"

struct search {
    struct store_iter *it;
    const struct effect_cut *want;
    struct buf copy;
};

/* What the headers of a row say. */
struct row { uint64_t last_offset, first_ms, last_ms, bytes; };

/* A value whose headers do not stand where numbers may be read. */
static struct view aligned(struct search *s, struct view v)
{
    if ((uintptr_t)v.data % STORED_ALIGN == 0)
        return v;
    buf_clear(&s->copy);
    buf_append(&s->copy, v.data, v.size);
    return buf_view(&s->copy);
}

/* The first row that ends at or behind `offset`. OK and false: there is none. */
static int row_at(struct search *s, uint64_t offset, struct row *out, bool *found, struct err *e)
{
    struct key k = key_log(s->want->partition, offset);
    uint32_t partition;
    *found = false;
    store_iter_seek(s->it, key_view(&k));
    if (!store_iter_valid(s->it))
        return store_iter_status(s->it, e);
    if (!key_read_log(store_iter_key(s->it), &partition, &out->last_offset))
        return err_set(e, E_DAMAGED, "a key of the log does not read");
    if (partition != s->want->partition)
        return E_OK;
    struct view rest = store_iter_value(s->it), batch;
    struct stored_header h;
    int code = store_iter_status(s->it, e);
    rest = aligned(s, rest);
    for (bool first = true; code == E_OK && (first || rest.size > 0); first = false) {
        code = stored_next(&rest, &h, &batch, e);
        if (code == E_OK && first)
            out->first_ms = h.append_time_ms;
    }
    if (code != E_OK)
        return code;
    out->last_ms = h.append_time_ms;
    out->bytes = h.cumulative_bytes;
    *found = true;
    return E_OK;
}

/* As row_at; where that is damaged, the next row that reads, looked for in growing steps. It may go only if what stands behind it may. */
static int sound_row_at(struct search *s, uint64_t offset, uint64_t end, struct row *out, bool *found, struct err *e)
{
    int code = row_at(s, offset, out, found, e);
    for (uint64_t step = 1; code == E_DAMAGED && offset + step < end; step *= 2)
        code = row_at(s, offset + step, out, found, e);
    return code;
}

static bool may_go(const struct effect_cut *want, const struct row *row)
{
    return row->last_offset < want->to && (row->last_ms <= want->time_ms || row->bytes <= want->bytes);
}

int cut_find(struct store *store, const struct effect_cut *want, struct cut *out, struct err *e)
{
    struct search s = {.it = store_iter(store, want->family), .want = want};
    uint64_t low = want->from, high = want->to; /* the cut is in [low, high] */
    struct row row;
    bool found;
    int code = E_OK;
    *out = (struct cut){.partition = want->partition, .from = want->from, .to = want->from};
    while (low < high) {
        struct err why = {0};
        uint64_t mid = low == want->from ? low : low + (high - low) / 2; /* mostly none may go, and the first says so */
        code = sound_row_at(&s, mid, high, &row, &found, &why);
        if (code != E_OK && code != E_DAMAGED) {
            err_set(e, code, "%s", why.text);
            break;
        }
        if (code == E_OK && found && may_go(want, &row)) {
            out->to = low = row.last_offset + 1;
            out->bytes = row.bytes;
            out->last_ms = row.last_ms;
        } else if (code == E_DAMAGED && mid == want->from) {
            out->code = code;
            break;
        } else {
            high = mid;
        }
    }
    if ((code == E_OK || code == E_DAMAGED) && out->to > want->from) {
        struct err ignored = {0};
        code = sound_row_at(&s, out->to, want->to + 1, &row, &found, &ignored);
        out->next_ms = code == E_OK && found ? row.first_ms : 0;
    }
    store_iter_close(s.it);
    buf_free(&s.copy);
    return code == E_DAMAGED ? E_OK : code;
}

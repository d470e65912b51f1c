/* Filters over held messages: see filter.h. */
#include "engine/filter.h"

#include "schemas/records.h"

bool filter_needs_bytes(const struct wire_held_filter *f) { return f != NULL && (f->has_key || f->header.size > 0); }

enum filter_says filter_row(const struct wire_held_filter *f, uint32_t partition, uint64_t offset, const struct held_row *row)
{
    if (f == NULL)
        return FILTER_YES;
    bool fits = (!f->has_offset || (f->partition == partition && f->offset == offset)) &&
                row->at_ms >= f->after_ms && (f->before_ms == 0 || row->at_ms < f->before_ms) &&
                row->failures >= f->attempts_min && (f->attempts_max == 0 || row->failures <= f->attempts_max) &&
                (f->reason.size == 0 || view_eq(f->reason, row->reason)) &&
                (!f->has_key || (row->has_key && row->key_hash == key_hash(f->key)));
    return !fits ? FILTER_NO : filter_needs_bytes(f) ? FILTER_BYTES : FILTER_YES;
}

static bool same(struct view a, struct view b) { return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0); }

bool filter_bytes(const struct wire_held_filter *f, struct view key, struct view headers)
{
    if (f->has_key && (key.data == NULL || !same(f->key, key)))
        return false;
    if (f->header.size == 0)
        return true;
    struct header h;
    bool bad = false;
    while (headers_next(&headers, &h, &bad)) /* a name may stand there more than once */
        if (same(h.name, f->header) && (!f->has_header_value || same(h.value, f->header_value)))
            return true;
    return false;
}

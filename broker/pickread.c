/* Picking messages of the log for a replay: see pickread.h. */
#include "broker/pickread.h"

#include "broker/heldread.h"
#include "broker/logread.h"
#include "engine/filter.h"
#include "schemas/errors.h"
#include "schemas/records.h"

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
    if (p->seek && log_offset_at(src, p->partition, p->from, p->end, p->from_ms, &p->next, &e) != E_OK)
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

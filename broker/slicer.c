/* Single records of the logs: see slicer.h. */
#include "broker/slicer.h"

#include "base/planted.h"
#include "schemas/errors.h"
#include "store/keys.h"

static void copy_close(struct slicer *s)
{
    if (s->copied)
        batch_reader_close(&s->copy_reader);
    s->copied = false;
}

void slicer_stop(struct slicer *s)
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

static bool is_open(const struct slicer *s, uint32_t partition, uint64_t offset)
{
    return s->reading && s->w.partition == partition && offset >= s->b.h.base_offset && offset <= s->b.last_offset;
}

static bool below_start(struct slicer *s, const struct log_source *src, uint32_t partition, uint64_t offset)
{
    enum store_family ignored;
    if (!tail_lookup(src->tail, partition, &ignored, &s->start))
        s->start = 0;
    return offset < s->start;
}

/* One record of the log and its place in the batch that is then open. Its bytes are good until the next call with this slicer. */
static int log_get(struct slicer *s, const struct log_source *src, uint32_t partition, uint64_t offset, struct record *record,
                      uint32_t *index, struct err *e)
{
    if (!is_open(s, partition, offset)) {
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
            return log_damaged(e, partition, offset, "the log has a hole");
        if (s->b.h.base_offset > offset)
            return compacted_away(e, partition, offset);
        if ((code = batch_reader_open(&s->reader, s->b.bytes, e)) != E_OK)
            return code;
        s->reading = true;
    }
    const struct batch_columns *c = &s->reader.c;
    *index = batch_index_at(c, offset - s->b.h.base_offset);
    if (*index >= c->count && c->offset_delta == NULL)
        return log_damaged(e, partition, offset, "the batch ends before it");
    if (*index >= c->count || batch_offset_delta(c, *index) != offset - s->b.h.base_offset)
        return compacted_away(e, partition, offset);
    *index -= PLANTED(wrong_record) && *index > 0;
    return batch_reader_get(&s->reader, *index, record, e);
}

int slicer_get(struct slicer *s, const struct log_source *src, uint32_t partition, uint64_t offset, struct record *record, struct found *f,
               struct err *e)
{
    /* Where the partition begins is asked for once for each batch. */
    bool gone = is_open(s, partition, offset) ? offset < s->start : below_start(s, src, partition, offset);
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
    if (gone || (code == E_DAMAGED && below_start(s, src, partition, offset)))
        return err_set(e, E_GAP, "partition id %u at offset %llu: gone with retention", partition, (unsigned long long)offset);
    return code;
}

/* Compaction: what may go, and that nothing else did. See model.h. */
#include "model.h"

#include "schemas/stored.h"

static struct message *at(const struct world *w, const struct part_view *p, uint64_t offset)
{
    return model_message(w, (uint64_t)p->log[offset]);
}

/* The last message of the key of `m`. */
static uint64_t last_of(const struct world *w, const struct part_view *p, const struct message *m)
{
    for (size_t o = p->end; o-- > 0;)
        if (at(w, p, o)->key == m->key)
            return o;
    return UINT64_MAX;
}

/* A message without a value, whose time is over: it may go when nothing that it stands for is left. */
static bool tombstone_goes(struct world *w, const struct part_view *p, const struct message *m, uint64_t offset)
{
    if (!m->tombstone || m->append_ms + w->limits.tombstone_ms > w->model->wall_ms)
        return false;
    for (size_t o = p->start; o < offset; o++)
        if (at(w, p, o)->key == m->key && !at(w, p, o)->compacted)
            return false;
    return true;
}

static void gone(struct world *w, const struct part_view *p, struct message *m, uint64_t offset)
{
    uint64_t last = last_of(w, p, m);
    if (m->compacted)
        return;
    m->compacted = true;
    w->totals->compacted++;
    if (m->key == NONE || (last <= offset && !tombstone_goes(w, p, m, offset))) {
        world_fail(w, "message %llu is compacted away, and it is the last of its key%s", (unsigned long long)m->id,
                   m->tombstone ? ", a tombstone before its time" : "");
        return;
    }
    w->totals->tombstones_gone += last <= offset;
    for (int g = 0; g < GROUPS_PER_TOPIC; g++) {
        const struct spot *s = &m->group[g].is;
        if (!s->done || s->token != 0 || s->held != 0)
            world_fail(w, "message %llu is compacted away, and group %d has not done it", (unsigned long long)m->id,
                       p->topic * GROUPS_PER_TOPIC + g);
    }
}

void model_rewritten(struct world *w, struct part_view *p, struct view value)
{
    struct err e = {0};
    for (struct view rest = value; rest.size > 0 && !w->failed;) {
        struct stored_header h;
        struct view batch;
        struct batch_reader r = {0};
        if (stored_next(&rest, &h, &batch, &e) != E_OK || (!stored_is_hole(&h) && batch_reader_open(&r, batch, &e) != E_OK)) {
            world_fail(w, "a rewritten row does not read: %s", e.text);
            return;
        }
        uint64_t offset = h.base_offset;
        for (uint32_t i = 0; i < r.c.count && !w->failed; i++) {
            struct record record;
            uint64_t here = h.base_offset + batch_offset_delta(&r.c, i);
            for (; offset < here; offset++)
                gone(w, p, at(w, p, offset), offset);
            if (batch_reader_get(&r, i, &record, &e) != E_OK || model_id_of(record.value, record.timestamp_ms) != (int64_t)at(w, p, here)->value)
                world_fail(w, "a rewritten row has another message at offset %llu", (unsigned long long)here);
            else if (at(w, p, here)->append_ms != h.append_time_ms || at(w, p, here)->append_turn != h.turn)
                world_fail(w, "a rewritten row tells another time of offset %llu", (unsigned long long)here);
            offset = here + 1;
        }
        for (; offset < h.base_offset + h.count && !w->failed; offset++)
            gone(w, p, at(w, p, offset), offset);
        batch_reader_close(&r);
    }
}

void model_latest(struct world *w)
{
    for (int i = 0; i < PARTS && !w->failed; i++) {
        const struct part_view *p = &w->model->parts[i];
        if (!w->model->topic_config[p->topic].compacted)
            continue;
        for (size_t o = p->start; o < p->end && !w->failed; o++)
            if (at(w, p, o)->compacted && !at(w, p, o)->tombstone && last_of(w, p, at(w, p, o)) == o)
                world_fail(w, "the last message of key %d in part %d, at %zu, is gone", at(w, p, o)->key, i, o);
    }
}

void model_skipped(struct world *w, int part, uint64_t from, uint64_t to)
{
    const struct part_view *p = &w->model->parts[part];
    for (; from < to && !w->failed; from++)
        if (!at(w, p, from)->compacted)
            world_fail(w, "a fetch of part %d left out offset %llu, which is there", part, (unsigned long long)from);
}

/* The beginnings of the logs: what may be removed, and what readers are told of it. See model.h. */
#include "model.h"

#include "schemas/stored.h"

/* A topic has grown: its new partitions say of which they are the children, and have ids that ascend. Clients hear of it later. */
void model_learn_part(struct world *w, struct view key, struct view value)
{
    uint32_t id;
    struct partition_row row;
    struct err e = {0};
    if (!key_read_id(key, 'p', &id) || model_part(w, id) != NONE || partition_row_get(value, &row, &e) != E_OK || row.parent == 0)
        return;
    int part = model_part(w, row.parent), first = part / PARTITIONS * PARTITIONS;
    if (part == NONE)
        return;
    while (part < first + PARTITIONS && w->model->parts[part].id != 0)
        part++;
    if (part == first + PARTITIONS)
        world_fail(w, "partition %u is one more than topic %d was to have", id, w->model->parts[first].topic);
    else
        w->model->parts[part].id = id;
}

/* After a crash: those that nobody was told of may never have been. */
void model_learn_parts_again(struct world *w)
{
    struct model *o = w->model;
    for (int i = 0; i < PARTS; i++)
        if ((uint32_t)(i % PARTITIONS) >= o->topic_config[o->parts[i].topic].partitions)
            o->parts[i].id = 0;
    struct key prefix = key_meta_prefix('p');
    struct store_iter *it = store_iter(w->mem, FAM_META);
    for (store_iter_seek(it, key_view(&prefix)); store_iter_valid(it) && key_has_prefix(store_iter_key(it), &prefix); store_iter_next(it))
        model_learn_part(w, store_iter_key(it), store_iter_value(it));
    store_iter_close(it);
}

void model_partition_row(struct world *w, struct view key, struct view value)
{
    uint32_t id;
    struct partition_row row;
    struct err e = {0};
    int part = key_read_id(key, 'p', &id) ? model_part(w, id) : NONE;
    if (part == NONE)
        return;
    if (partition_row_get(value, &row, &e) != E_OK) {
        world_fail(w, "a partition's row does not read: %s", e.text);
        return;
    }
    struct part_view *p = &w->model->parts[part];
    p->row_start = row.start;
    p->kept_bytes = row.end_bytes - row.start_bytes;
}

void model_trim(struct world *w, struct view begin, struct view end)
{
    uint32_t id, other;
    uint64_t from, to;
    if (!key_read_log(begin, &id, &from) || !key_read_log(end, &other, &to))
        return; /* a topic goes */
    int part = model_part(w, id);
    if (part == NONE)
        return;
    struct part_view *p = &w->model->parts[part];
    if (w->model->topic_config[p->topic].compacted)
        return; /* rows whose place another takes, which is looked at when that is put, and when the log is read again */
    if (other != id || from > p->start || to <= p->start || to > p->end)
        world_fail(w, "part %d from %zu to %zu: rows from %llu to %llu are removed", part, p->start, p->end, (unsigned long long)from,
                   (unsigned long long)to);
    p->trim_to = to;
}

/* Nothing goes that is young and few, or that a group has not done. */
static void check_message(struct world *w, const struct part_view *p, struct message *m)
{
    const struct wire_topic_config *c = &w->model->topic_config[p->topic];
    bool old = c->retention_ms != UINT64_MAX && m->append_ms + c->retention_ms <= w->model->wall_ms;
    bool many = c->retention_bytes != UINT64_MAX && p->kept_bytes >= c->retention_bytes / PARTITIONS;
    if (!old && !many)
        world_fail(w, "message %llu is removed from its log at %llu ms, it was appended at %llu", (unsigned long long)m->id,
                   (unsigned long long)w->model->wall_ms, (unsigned long long)m->append_ms);
    if (model_disk(w, p->topic) && m->append_turn > w->synced)
        world_fail(w, "message %llu is removed from its log and was never on disk", (unsigned long long)m->id);
    for (int g = 0; g < GROUPS_PER_TOPIC; g++) {
        const struct spot *s = &m->group[g].is;
        bool holds = s->token != 0 || s->held != 0;
        if (!s->done || (holds && !m->group[g].copied))
            world_fail(w, "message %llu is removed from its log, and group %d %s", (unsigned long long)m->id,
                       p->topic * GROUPS_PER_TOPIC + g, holds ? "holds it without a copy" : "has not done it");
    }
}

/* ---------------------------------------------------------------- the hard cap */

void model_lost_row(struct world *w, struct view key, struct view value)
{
    uint32_t group_id, partition;
    struct lost_row row;
    struct err e = {0};
    int group, part;
    if (!key_read_lost(key, &group_id, &partition) || (group = model_group(w, group_id)) == NONE || (part = model_part(w, partition)) == NONE)
        return;
    if (lost_row_get(value, &row, &e) != E_OK) {
        world_fail(w, "what group %d lost does not read: %s", group, e.text);
        return;
    }
    struct group_rows *r = &w->model->rows[group][part % PARTITIONS];
    if (row.lost < r->lost)
        world_fail(w, "group %d lost %llu messages of part %d, and now %llu", group, (unsigned long long)r->lost, part,
                   (unsigned long long)row.lost);
    r->lost_now += row.lost - r->lost;
    r->lost = row.lost;
    r->stale = row.stale;
}

bool model_past_the_cap(const struct world *w, const struct message *m)
{
    uint64_t cap = w->model->topic_config[m->topic].hard_cap_ms;
    return cap != UINT64_MAX && m->append_ms + cap <= w->model->wall_ms;
}

bool model_lost(const struct world *w, int group, const struct message *m)
{
    return w->model->rows[group][m->part % PARTITIONS].lost_now > 0 && model_past_the_cap(w, m);
}

/* Each message that was lost is counted, and nothing else is. */
static void losses_check(struct world *w)
{
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; i < PARTITIONS; i++) {
            struct group_rows *r = &w->model->rows[g][i];
            if (r->lost_now > r->done_now || r->lost_now < r->done_sure)
                world_fail(w, "group %d counts %llu messages of its part %d as lost, and %llu to %llu were", g, (unsigned long long)r->lost_now, i,
                           (unsigned long long)r->done_sure, (unsigned long long)r->done_now);
            w->totals->lost_at_the_cap += r->lost_now;
            r->lost_now = r->done_now = r->done_sure = 0;
        }
}

/* ---------------------------------------------------------------- copies */

static struct group_view *copy_of(struct world *w, struct view key, struct message **m)
{
    uint32_t group_id, partition;
    uint64_t offset;
    int group, part;
    if (!key_read_copy(key, &group_id, &partition, &offset) || (group = model_group(w, group_id)) == NONE ||
        (part = model_part(w, partition)) == NONE || offset >= w->model->parts[part].end)
        return NULL;
    *m = &w->model->messages[w->model->parts[part].log[offset]];
    return model_view(*m, group);
}

void model_copy_row(struct world *w, struct view key, const struct view *value)
{
    struct message *m;
    struct group_view *g = copy_of(w, key, &m);
    if (g == NULL)
        return;
    g->copied = value != NULL;
    if (value == NULL)
        return;
    struct buf aligned = {0};
    struct stored_header h;
    struct view batch;
    struct batch_reader r;
    struct record record;
    struct err e = {0};
    buf_append(&aligned, value->data, value->size);
    struct view rest = buf_view(&aligned);
    if (stored_next(&rest, &h, &batch, &e) != E_OK || batch_reader_open(&r, batch, &e) != E_OK) {
        world_fail(w, "the copy of message %llu does not read: %s", (unsigned long long)m->id, e.text);
    } else {
        if (h.base_offset != (uint64_t)m->offset || h.append_time_ms != m->append_ms || h.count != 1 ||
            batch_reader_get(&r, 0, &record, &e) != E_OK || model_id_of(record.value, record.timestamp_ms) != (int64_t)m->value)
            world_fail(w, "the copy of message %llu is another's", (unsigned long long)m->id);
        batch_reader_close(&r);
    }
    buf_free(&aligned);
    w->totals->copies++;
}

void model_copies_again(struct world *w)
{
    for (size_t i = 0; i < w->model->messages_n; i++)
        for (int g = 0; g < GROUPS_PER_TOPIC; g++)
            w->model->messages[i].group[g].copied = false;
    uint64_t counted = w->totals->copies;
    struct store_iter *it = store_iter(w->mem, FAM_SCHED);
    uint64_t due;
    for (store_iter_seek(it, (struct view){0}); store_iter_valid(it) && !w->failed; store_iter_next(it)) {
        struct view value = store_iter_value(it);
        if (key_read_sched_kind(store_iter_key(it), &due) == SCHED_KIND_COPY)
            model_copy_row(w, store_iter_key(it), &value);
    }
    store_iter_close(it);
    w->totals->copies = counted;
}

void model_copies_check(struct world *w)
{
    for (size_t i = 0; i < w->model->messages_n && !w->failed; i++)
        for (int g = 0; g < GROUPS_PER_TOPIC; g++) {
            const struct message *m = &w->model->messages[i];
            const struct spot *s = &m->group[g].is;
            bool holds = s->token != 0 || s->held != 0, below = m->offset >= 0 && (size_t)m->offset < w->model->parts[m->part].start;
            if (m->group[g].copied && !holds)
                world_fail(w, "message %llu has a copy for group %d, which does not hold it", (unsigned long long)m->id,
                           m->topic * GROUPS_PER_TOPIC + g);
            if (below && holds && !m->group[g].copied)
                world_fail(w, "message %llu of group %d is gone from its log and has no copy", (unsigned long long)m->id,
                           m->topic * GROUPS_PER_TOPIC + g);
        }
}

/* ---------------------------------------------------------------- the beginnings */

void model_trims_check(struct world *w)
{
    losses_check(w);
    for (int i = 0; i < PARTS && !w->failed; i++) {
        struct part_view *p = &w->model->parts[i];
        if (p->trim_to != 0) {
            for (size_t o = p->start; o < p->trim_to && !w->failed; o++)
                check_message(w, p, &w->model->messages[p->log[o]]);
            world_trace(w, "    part %d: removed up to %zu", i, p->trim_to);
            p->start = p->trim_to;
            p->trim_to = 0;
            w->totals->trims++;
        }
        if (p->row_start != p->start)
            world_fail(w, "part %d begins at %llu by its row, and its rows were removed up to %zu", i, (unsigned long long)p->row_start,
                       p->start);
    }
}

void model_starts_again(struct world *w)
{
    struct buf value = {0};
    for (int i = 0; i < PARTS; i++) {
        struct part_view *p = &w->model->parts[i];
        struct key k = key_partition_row(p->id);
        struct err e = {0};
        bool found;
        if (p->id == 0) { /* its topic has not grown yet, or no longer has */
            p->end = p->start = p->row_start = 0;
            continue;
        }
        if (store_get(w->mem, FAM_META, key_view(&k), &value, &found, &e) != E_OK || !found) {
            world_fail(w, "part %d has no row", i);
            break;
        }
        model_partition_row(w, key_view(&k), buf_view(&value));
        p->start = p->row_start;
        p->trim_to = 0;
        if (p->start > p->end)
            world_fail(w, "part %d begins at %zu, and ended at %zu before", i, p->start, p->end);
        for (size_t o = 0; o < p->start && !w->failed; o++) {
            struct message *m = &w->model->messages[p->log[o]];
            m->offset = (int64_t)o;
            model_message(w, m->value)->latest_ms = m->append_ms;
            if (m->unit != NONE)
                model_unit_seen(w, m->unit);
        }
        p->end = p->start;
    }
    buf_free(&value);
}

void model_gap(struct world *w, int part, uint64_t from, const struct wire_fetch_part *reply)
{
    const struct part_view *p = &w->model->parts[part];
    const struct wire_gap *g = &reply->gap;
    if (reply->start > p->start && !world_all_written(w))
        return; /* reads go on while a write is refused, and the engine is ahead of its rows */
    if (reply->start > p->start)
        world_fail(w, "a fetch says that part %d begins at %llu, and it begins at %zu", part, (unsigned long long)reply->start, p->start);
    if (reply->has_gap != (from < reply->start)) {
        world_fail(w, "a fetch from %llu of part %d, which begins at %llu, %s", (unsigned long long)from, part,
                   (unsigned long long)reply->start, reply->has_gap ? "is told of a gap" : "is not told of the gap");
        return;
    }
    if (!reply->has_gap || w->failed)
        return;
    if (g->from != from || g->to != reply->start || (g->why != GAP_RETENTION && g->why != GAP_HARD_CAP) ||
        g->from_time_ms > w->model->messages[p->log[from]].append_ms ||
        g->to_time_ms != w->model->messages[p->log[g->to - 1]].append_ms)
        world_fail(w, "a fetch from %llu of part %d is told of a gap from %llu to %llu, %llu to %llu ms, why %u", (unsigned long long)from,
                   part, (unsigned long long)g->from, (unsigned long long)g->to, (unsigned long long)g->from_time_ms,
                   (unsigned long long)g->to_time_ms, g->why);
    w->totals->gaps++;
}

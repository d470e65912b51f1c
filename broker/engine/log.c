/* The logs: appending batches, and reading them by offset once they may be seen.
 *
 *      start                       visible              end
 *        |  ........ readers ........ |  written, not yet  |
 *        |                            |  synced (disk)     |
 *
 * All batches that a turn appends to one partition become one row, written with the partition's own row at the end of the turn.
 */
#include "engine/memory.h"
#include "base/planted.h"

void log_partition_publish(struct engine *en, const struct partition *p, bool gone)
{
    struct effect_partition fx = {.partition = p->id, .family = p->family, .start = p->row.start, .gone = gone,
                                  .index = p->index, .count = p->topic->config.partitions};
    buf_append(&en->partitions_fx, &fx, sizeof fx);
}

/* ---------------------------------------------------------------- appending */

void log_append(struct engine *en, struct partition *p, const struct wire_produce *w, uint64_t last_delta, struct ref *hold,
                struct wire_produced *out)
{
    struct partition_row *row = &p->row;
    if (row->end == row->start)
        row->first_time_ms = en->wall_ms;
    row->last_time_ms = en->wall_ms > row->last_time_ms ? en->wall_ms : row->last_time_ms;
    row->end_bytes += stored_entry_size((uint32_t)w->batch.size) + PLANTED(log_bytes_miscounted);
    p->topic->backlog.added_bytes += stored_entry_size((uint32_t)w->batch.size);
    times_mark(p, row->end, row->last_time_ms);
    *out = (struct wire_produced){.partition = p->id, .count = w->count, .base_offset = row->end, .append_time_ms = row->last_time_ms};

    uint32_t at = (uint32_t)(en->appends.size / sizeof(struct append));
    struct append *a = (struct append *)(void *)buf_reserve(&en->appends, sizeof *a);
    en->appends.size += sizeof *a;
    *a = (struct append){.partition = p->id, .base_offset = row->end, .last_offset = row->end + last_delta, .batch = w->batch, .hold = hold};
    stored_header_put(a->header, &(struct stored_header){.level = p->topic->config.durability, .epoch = en->epoch,
                                                         .count = w->count, .size = (uint32_t)w->batch.size, .turn = en->turn,
                                                         .base_offset = row->end, .append_time_ms = row->last_time_ms,
                                                         .cumulative_bytes = row->end_bytes, .batch_hash = w->batch_hash});
    if (p->append_n++ == 0)
        p->append_first = at;
    else
        ((struct append *)(void *)en->appends.data)[p->append_last].next = at + 1;
    p->append_last = at;
    row->end += last_delta + 1;
    retention_appended(en, p, stored_entry_size((uint32_t)w->batch.size));
    mark_dirty(&en->dirty_partitions, &p->dirty);
    en->counters.produced_batches++;
    en->counters.produced_messages += w->count;
    en->counters.produced_bytes += w->batch.size;
    for (size_t i = 0; i < p->topic->groups_n; i++)
        group_stir(en, p->topic->groups[i]);
}

int log_check(const struct topic *t, const struct op_batch *b, struct err *e)
{
    if (b->largest <= t->config.message_bytes_max)
        return E_OK;
    return err_set(e, E_TOO_LARGE, "record %u has %llu bytes, the message_bytes_max of topic '%s' is %u", b->largest_at,
                   (unsigned long long)b->largest, t->name, t->config.message_bytes_max);
}

void log_take(struct engine *en, struct op *op, struct session *s, const struct wire_produce *w, const struct op_batch *b, struct wire_produced *out)
{
    struct partition *p = table_get(&en->partitions, w->partition);
    quota_take(en, s, w->count, w->batch.size);
    if (sched_asked(w))
        sched_add(en, op, w, b, out);
    else
        log_append(en, p, w, b->last_delta, op->hold, out);
    dedup_note(en, p->topic, p->id, out->due_ms != 0 ? UINT64_MAX : out->base_offset, w->count, b);
}

void log_produce(struct engine *en, struct op *op, struct session *s)
{
    const struct wire_produce *w = &op->request.produce;
    struct partition *p = table_get(&en->partitions, w->partition);
    struct refusal refused;
    assert(p != NULL); /* lane_begin looked */
    struct err e = {0};
    if (log_check(p->topic, &op->batch, &e) != E_OK || compact_check(p->topic, &op->batch, &e) != E_OK ||
        (sched_asked(w) && sched_check(en, w, &e) != E_OK)) {
        answer(en, op, e.code, "%s", e.text);
        return;
    }
    if (growth_misfit(p, &op->batch)) {
        growth_answer(en, op, p, &op->batch);
        return;
    }
    op->reply.body = BODY_PRODUCE;
    dedup_begin(en);
    enum dedup_step step = dedup_check(en, op, p->topic, w->count, &op->batch, &op->reply.produce);
    if (step == DEDUP_SOME) {
        answer_standing(en, op, p->topic->config.durability, E_DUPLICATE, "%u of %u records", op->reply.produce.duplicates_n, w->count);
        return;
    }
    if (step == DEDUP_NEW) {
        if (quota_refuses(en, s, p, w->count, w->batch.size, &refused)) {
            quota_answer(en, op, &refused);
            return;
        }
        log_take(en, op, s, w, &op->batch, &op->reply.produce);
    }
    answer_change(en, op, p->topic->config.durability);
}

static void pending_add(struct pending *q, struct pending_end end)
{
    if (q->n == q->cap) {
        if (q->first > q->cap / 2) {
            memmove(q->at, q->at + q->first, (q->n - q->first) * sizeof *q->at);
            q->n -= q->first;
            q->first = 0;
        } else {
            q->cap = q->cap > 0 ? 2 * q->cap : 64;
            q->at = mem_resize(q->at, q->cap, sizeof *q->at);
        }
    }
    q->at[q->n++] = end;
}

void log_write(struct engine *en, struct partition *p)
{
    static const uint8_t zeros[STORED_ALIGN];
    struct append *all = (struct append *)(void *)en->appends.data;
    if (p->append_n > 0) {
        struct view *pieces = mem_array(3 * p->append_n, sizeof *pieces);
        size_t n = 0;
        const struct append *last = NULL;
        for (size_t at = p->append_first + 1; at != 0; at = last->next) {
            struct append *a = &all[at - 1];
            size_t size = STORED_HEADER_SIZE + a->batch.size, pad = stored_entry_size((uint32_t)a->batch.size) - size;
            pieces[n++] = view_of(a->header, STORED_HEADER_SIZE);
            pieces[n++] = a->batch;
            if (pad > 0)
                pieces[n++] = view_of(zeros, pad);
            struct effect_append fx = {.partition = p->id, .base_offset = a->base_offset, .last_offset = a->last_offset,
                                       .header = a->header, .batch = a->batch, .hold = a->hold};
            buf_append(&en->appends_fx, &fx, sizeof fx);
            last = a;
        }
        struct key k = key_log(p->id, last->last_offset);
        puts_pieces(&en->fx.puts, p->family, key_view(&k), pieces, n);
        en->counters.puts++;
        mem_free(pieces);
        p->append_n = 0;
        struct pending_end end = {.turn = en->turn, .end = p->row.end, .partition = p->id};
        bool os = p->topic->config.durability == DURABILITY_OS;
        pending_add(os || PLANTED(visible_before_durable) ? &en->for_written : &en->for_durable, end);
        en->fx.shows_when_written |= os;
        en->fx.need_sync |= !os;
    }
    p->row.epoch = en->epoch;
    p->row.turn = en->turn;
    struct key k = key_partition_row(p->id);
    buf_clear(&en->row);
    partition_row_put(&en->row, &p->row);
    if (!PLANTED(end_forgotten))
        row_put(en, FAM_META, &k);
}

/* ---------------------------------------------------------------- reading */

void log_visible(struct engine *en, struct pending *q, uint64_t turn)
{
    for (; q->first < q->n && q->at[q->first].turn <= turn; q->first++) {
        struct partition *p = table_get(&en->partitions, q->at[q->first].partition);
        if (p == NULL)
            continue;
        p->visible = q->at[q->first].end;
        for (struct list_node *n = p->waiters.head.next, *next; n != &p->waiters.head; n = next) {
            const struct place *place = container_of(n, struct place, queue);
            next = n->next;
            if (place->offset < p->visible && log_fetch_try(en, place->op, false))
                next = p->waiters.head.next; /* the answered one may have stood here more than once */
        }
    }
    if (q->first == q->n)
        q->first = q->n = 0;
}

static void fetch_part(const struct engine *en, const struct wire_fetch_from *from, struct wire_fetch_part *part)
{
    const struct partition *p = table_get(&en->partitions, from->partition);
    part->partition = from->partition;
    if (p == NULL) {
        part->code = (uint16_t)partition_missing(en, from->partition);
        return;
    }
    part->start = p->row.start;
    part->end = PLANTED(fetch_not_durable) ? p->row.end : p->visible;
    if (from->offset > p->row.end)
        part->code = E_OFFSET_OUT_OF_RANGE;
    part->has_gap = from->offset < p->row.start;
    if (part->has_gap)
        retention_gap(p, from->offset, &part->gap);
}

static bool fetch_has_news(const struct wire_fetch_from *from, const struct wire_fetch_part *part)
{
    return part->code != E_OK || from->offset < part->start || from->offset < part->end;
}

bool log_fetch_try(struct engine *en, struct op *op, bool always)
{
    const struct wire_fetch *f = &op->request.fetch;
    if (!always) {
        bool news = false;
        for (uint32_t i = 0; i < f->from_n && !news; i++) {
            struct wire_fetch_part part = {0};
            fetch_part(en, &f->from[i], &part);
            news = fetch_has_news(&f->from[i], &part);
        }
        if (!news)
            return false;
    }
    wait_end(en, op);
    struct wire_fetch_part *parts = op_take(en, op, f->from_n, sizeof *parts);
    for (uint32_t i = 0; i < f->from_n; i++)
        fetch_part(en, &f->from[i], &parts[i]);
    for (uint32_t i = 0; i < f->from_n; i++)
        en->counters.gaps += parts[i].has_gap;
    op->reply.body = BODY_FETCH;
    op->reply.fetch.parts = parts;
    op->reply.fetch.parts_n = f->from_n;
    op->wants = f->from;
    op->fetch_bytes = f->max_bytes == 0 || f->max_bytes > en->limits->fetch_bytes_max ? (uint32_t)en->limits->fetch_bytes_max : f->max_bytes;
    op->read = READ_FETCH;
    answer_now(en, op);
    return true;
}

void log_fetch(struct engine *en, struct op *op, struct session *s)
{
    const struct wire_fetch *f = &op->request.fetch;
    en->counters.fetches++;
    if (log_fetch_try(en, op, f->wait_ms == 0 || en->stopping))
        return;
    wait_begin(en, op, s, f->wait_ms);
    struct place *places = op_take(en, op, f->from_n, sizeof *places);
    for (uint32_t i = 0; i < f->from_n; i++) {
        struct partition *p = table_get(&en->partitions, f->from[i].partition);
        places[i].offset = f->from[i].offset;
        wait_at(op, &places[i], &p->waiters);
    }
}

void log_offset_for(struct engine *en, struct op *op)
{
    const struct partition *p = table_get(&en->partitions, op->request.offset_for.partition);
    if (p == NULL) {
        partition_gone(en, op, op->request.offset_for.partition);
        return;
    }
    op->reply.body = BODY_OFFSET;
    op->reply.offset = (struct wire_offset_reply){.start = p->row.start, .end = p->visible, .offset = p->visible};
    op->read = READ_OFFSET;
    answer_now(en, op);
}

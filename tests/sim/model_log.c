/* The logs, read from their rows: see model.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model.h"
#include "schemas/stored.h"

void model_init(struct world *w)
{
    w->model = mem_zalloc(sizeof *w->model);
    for (int i = 0; i < PARTS; i++)
        w->model->parts[i].topic = i / PARTITIONS;
}

void model_free(struct world *w)
{
    struct model *o = w->model;
    for (int i = 0; i < PARTS; i++)
        mem_free(o->parts[i].log);
    mem_free(o->messages);
    mem_free(o->touched);
    mem_free(o->leases);
    mem_free(o->tasks);
    model_intos_free(o);
    mem_free(o->scheds);
    mem_free(o->sched_rows);
    model_units_free(o);
    model_flow_free(o);
    mem_free(o);
}

struct message *model_message(const struct world *w, uint64_t id)
{
    return id < w->model->messages_n ? &w->model->messages[id] : NULL;
}

struct message *model_new_message(struct world *w, int part, int key)
{
    struct model *o = w->model;
    if (o->messages_n == o->messages_cap) {
        o->messages_cap = o->messages_cap > 0 ? 2 * o->messages_cap : 256;
        o->messages = mem_resize(o->messages, o->messages_cap, sizeof *o->messages);
    }
    struct message *m = &o->messages[o->messages_n];
    *m = (struct message){.id = o->messages_n,
                          .value = o->messages_n,
                          .topic = o->parts[part].topic,
                          .part = part,
                          .key = key,
                          .offset = -1,
                          .acked_offset = -1,
                          .unit = NONE,
                          .header = NONE,
                          .sched = NONE};
    o->messages_n++;
    for (int g = 0; g < GROUPS_PER_TOPIC; g++)
        m->group[g].holder = m->group[g].by_unit = NONE;
    return m;
}

int model_part(const struct world *w, uint32_t id)
{
    for (int i = 0; i < PARTS; i++)
        if (w->model->parts[i].id == id)
            return i;
    return NONE;
}

int model_group(const struct world *w, uint32_t id)
{
    for (int i = 0; i < GROUPS; i++)
        if (w->model->group_ids[i] == id)
            return i;
    return NONE;
}

bool model_disk(const struct world *w, int topic)
{
    return w->model->topic_config[topic].durability == DURABILITY_DISK;
}

int64_t model_id_of(struct view value, uint64_t timestamp_ms)
{
    char text[32];
    if (value.data == NULL)
        return timestamp_ms >= TOMBSTONE_STAMP ? (int64_t)(timestamp_ms - TOMBSTONE_STAMP) : -1;
    if (value.size < 2 || value.size >= sizeof text || value.data[0] != 'm')
        return -1;
    memcpy(text, value.data, value.size);
    text[value.size] = '\0';
    return strtoll(text + 1, NULL, 10);
}

/* The message that a value at the end of a log stands for: what was produced again after the window of its topic is another one. */
static struct message *message_of(struct world *w, const struct part_view *p, uint64_t value, uint64_t at_ms)
{
    struct message *m = model_message(w, value);
    if (p->end + 1 < p->known && model_message(w, (uint64_t)p->log[p->end])->value == value)
        return model_message(w, (uint64_t)p->log[p->end]);
    if (m == NULL || m->offset < 0)
        return m;
    uint64_t window = w->model->topic_config[m->topic].dedup_ms; /* the most there is: off */
    bool cron = m->sched != NONE && model_sched(w, m->sched)->cron;
    if (!cron && (!m->has_id || (window != UINT64_MAX && at_ms - m->latest_ms < window))) {
        world_fail(w, "message %llu stands in the log twice, at %lld and %zu", (unsigned long long)value,
                   (long long)m->offset, p->end);
        return m;
    }
    struct message *again = model_new_message(w, m->part, m->key);
    m = model_message(w, value);
    again->value = value;
    again->header = m->header;
    again->tombstone = m->tombstone;
    again->priority = m->priority;
    again->ttl_ms = m->ttl_ms;
    w->totals->produced_again += !cron;
    return again;
}

static void log_append(struct world *w, struct part_view *p, int64_t value, const struct stored_header *h)
{
    if (p->end == p->cap) {
        p->cap = p->cap > 0 ? 2 * p->cap : 64;
        p->log = mem_resize(p->log, p->cap, sizeof *p->log);
    }
    struct message *m = value >= 0 ? message_of(w, p, (uint64_t)value, h->append_time_ms) : NULL;
    if (m != NULL && model_message(w, m->value)->sched != NONE && w->model->parts[m->part].topic == p->topic)
        m->part = (int)(p - w->model->parts); /* its topic has grown while it waited */
    if (m == NULL || &w->model->parts[m->part] != p) {
        world_fail(w, "the log holds message %lld, which was not produced there", (long long)value);
        return;
    }
    m->offset = (int64_t)p->end;
    m->append_ms = h->append_time_ms;
    m->append_turn = h->turn;
    model_message(w, m->value)->latest_ms = h->append_time_ms;
    p->log[p->end++] = (int64_t)m->id;
    int sched = model_message(w, m->value)->sched;
    if (sched != NONE && p->known == 0)
        model_sched_appended(w, sched, h->append_time_ms);
    if (m->unit != NONE)
        model_unit_seen(w, m->unit);
    if (m->acked && m->acked_offset != m->offset)
        world_fail(w, "message %llu was acked at %lld and stands at %lld", (unsigned long long)m->id,
                   (long long)m->acked_offset, (long long)m->offset);
}

/* While a log is read again: compaction has left nothing there. */
static void log_hole(struct world *w, struct part_view *p, uint64_t to)
{
    for (; p->end < to && !w->failed; p->end++) {
        if (p->end + 1 >= p->known) {
            world_fail(w, "partition %u: nothing stands at %zu, and nothing ever did", p->id, p->end);
            return;
        }
        struct message *m = model_message(w, (uint64_t)p->log[p->end]);
        m->offset = (int64_t)p->end;
        m->compacted = true;
        model_message(w, m->value)->latest_ms = m->append_ms;
        if (m->unit != NONE)
            model_unit_seen(w, m->unit);
    }
}

void model_log_row(struct world *w, struct view key, struct view value)
{
    uint32_t partition;
    uint64_t last;
    int part;
    if (!key_read_log(key, &partition, &last) || (part = model_part(w, partition)) == NONE)
        return; /* of a topic that comes and goes */
    struct part_view *p = &w->model->parts[part];
    struct buf aligned = {0};
    struct err e = {0};
    buf_append(&aligned, value.data, value.size);
    if (last < p->end) {
        model_rewritten(w, p, buf_view(&aligned));
        buf_free(&aligned);
        return;
    }
    for (struct view rest = buf_view(&aligned); rest.size > 0 && !w->failed;) {
        struct stored_header h;
        struct view batch;
        struct batch_reader r = {0};
        if (stored_next(&rest, &h, &batch, &e) != E_OK || (!stored_is_hole(&h) && batch_reader_open(&r, batch, &e) != E_OK)) {
            world_fail(w, "the log does not read: %s", e.text);
            break;
        }
        if (h.base_offset != p->end)
            world_fail(w, "partition %u: a batch begins at %llu, expected %zu", p->id,
                       (unsigned long long)h.base_offset, p->end);
        for (uint32_t i = 0; i < r.c.count && !w->failed; i++) {
            struct record record;
            log_hole(w, p, h.base_offset + batch_offset_delta(&r.c, i));
            if (w->failed)
                break;
            if (batch_reader_get(&r, i, &record, &e) != E_OK)
                world_fail(w, "the log does not read: %s", e.text);
            else
                log_append(w, p, model_id_of(record.value, record.timestamp_ms), &h);
        }
        log_hole(w, p, h.base_offset + h.count);
        batch_reader_close(&r);
    }
    if (!w->failed && p->end != last + 1)
        world_fail(w, "partition %u: a row's key ends at %llu, its batches at %zu", p->id,
                   (unsigned long long)last, p->end);
    buf_free(&aligned);
}

void model_log_again(struct world *w)
{
    struct model *o = w->model;
    for (size_t i = 0; i < o->messages_n; i++)
        o->messages[i].offset = -1, o->messages[i].compacted = false;
    for (int i = 0; i < PARTS; i++)
        o->parts[i].known = o->parts[i].end + 1;
    model_learn_parts_again(w);
    model_starts_again(w);
    for (enum store_family f = FAM_LOG_HOURS; f < FAM_COUNT; f++) {
        struct store_iter *it = store_iter(w->mem, f);
        for (store_iter_seek(it, (struct view){0}); store_iter_valid(it) && !w->failed; store_iter_next(it))
            model_log_row(w, store_iter_key(it), store_iter_value(it));
        store_iter_close(it);
    }
    for (int i = 0; i < PARTS; i++) {
        o->parts[i].known = 0;
        if (model_disk(w, o->parts[i].topic) && o->parts[i].synced_end > o->parts[i].end)
            world_fail(w, "part %d was synced up to %zu and ends at %zu", i, o->parts[i].synced_end,
                       o->parts[i].end);
    }
}

void model_log_check(struct world *w)
{
    for (size_t i = 0; i < w->model->messages_n; i++) {
        const struct message *m = &w->model->messages[i];
        if (m->acked && m->offset != m->acked_offset)
            world_fail(w, "message %llu was acked at %lld and is lost (now %lld)", (unsigned long long)m->id,
                       (long long)m->acked_offset, (long long)m->offset);
    }
}

void model_acked(struct world *w, int part, uint64_t value, uint64_t offset)
{
    const struct part_view *p = &w->model->parts[part];
    struct message *m = offset < p->end ? model_message(w, (uint64_t)p->log[offset]) : NULL;
    if (m == NULL || m->value != value) {
        world_fail(w, "message %llu acked at %llu stands elsewhere", (unsigned long long)value,
                   (unsigned long long)offset);
        return;
    }
    if (model_disk(w, m->topic) && m->append_turn > w->synced)
        world_fail(w, "a client was told of message %llu in turn %llu, and the disk has what was before %llu",
                   (unsigned long long)value, (unsigned long long)m->append_turn,
                   (unsigned long long)w->synced + 1);
    m->acked = true;
    m->acked_offset = (int64_t)offset;
}

void model_duplicate(struct world *w, uint64_t value)
{
    const struct message *m = model_message(w, value);
    if (m->offset < 0)
        world_fail(w, "message %llu was answered as produced before, and is not there",
                   (unsigned long long)value);
    else
        model_acked(w, m->part, value, (uint64_t)m->offset);
}

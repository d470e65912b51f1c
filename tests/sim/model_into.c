/* Groups that replays make: nobody receives from them, so what was brought stands in their rows. See model.h.
 *
 * Each message once, in the order of (partition, offset), those that the replay means and no others; when it is done, all that it cannot but bring.
 */
#include "base/mem.h"
#include "model.h"

static struct into_view *into_find(struct model *o, uint32_t group_id)
{
    for (size_t i = 0; i < o->intos_n; i++)
        if (o->intos[i].group_id == group_id)
            return &o->intos[i];
    return NULL;
}

static struct into_view *into_new(struct world *w, uint32_t group_id, uint64_t id, int topic)
{
    struct model *o = w->model;
    if (o->intos_n == o->intos_cap) {
        o->intos_cap = o->intos_cap > 0 ? 2 * o->intos_cap : 8;
        o->intos = mem_resize(o->intos, o->intos_cap, sizeof *o->intos);
    }
    struct into_view *v = &o->intos[o->intos_n++];
    *v = (struct into_view){.group_id = group_id, .topic = topic};
    v->task = (struct task_view){.id = id, .group = NONE, .row.state = TASK_RUNNING, .began_turn = o->turn, .began_mono = turn_time(w, o->turn)};
    for (int i = 0; i < PARTITIONS; i++) { /* what this list appended it may mean, or not */
        const struct part_view *p = &o->parts[topic * PARTITIONS + i];
        v->task.scanned[i] = v->task.surely[i] = p->end;
        while (v->task.surely[i] > p->start && o->messages[p->log[v->task.surely[i] - 1]].append_turn >= o->turn)
            v->task.surely[i]--;
    }
    return v;
}

static void into_drop(struct model *o, struct into_view *v)
{
    mem_free(v->ids);
    *v = o->intos[--o->intos_n];
}

void model_into_task(struct world *w, uint32_t group_id, uint64_t id, const struct view *value)
{
    struct into_view *v = into_find(w->model, group_id);
    struct task_row row;
    struct err e = {0};
    if (value == NULL) { /* with its group, or as one of many that ended: it may still be answered, and a power cut may bring it back */
        if (v != NULL)
            v->gone = true;
        return;
    }
    if (task_row_get(*value, &row, &e) != E_OK) {
        world_fail(w, "a task's row does not read: %s", e.text);
        return;
    }
    int of = row.act == TASK_REPLAY && row.replay.into && !row.dry_run ? model_group(w, row.replay.of) : NONE;
    if (of == NONE)
        return;
    if (v == NULL)
        v = into_new(w, group_id, id, of / GROUPS_PER_TOPIC);
    v->gone = false;
    model_task_take(w, &v->task, &row);
    if (row.changed != v->n && !v->again)
        world_fail(w, "replay %llu into a new group says that it brought %llu messages, and brought %zu", (unsigned long long)id,
                   (unsigned long long)row.changed, v->n);
}

static bool brought(const struct into_view *v, uint64_t id)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->ids[i] == id)
            return true;
    return false;
}

void model_into_held(struct world *w, uint32_t group_id, uint32_t partition, uint64_t offset)
{
    struct model *o = w->model;
    struct into_view *v = into_find(o, group_id);
    int part = model_part(w, partition);
    if (v == NULL || part == NONE)
        return;
    if (part / PARTITIONS != v->topic || offset >= o->parts[part].end) {
        world_fail(w, "replay %llu brought partition %u offset %llu, which its topic has not", (unsigned long long)v->task.id, partition,
                   (unsigned long long)offset);
        return;
    }
    const struct message *m = &o->messages[o->parts[part].log[offset]];
    if (brought(v, m->id))
        return;
    if (!v->again && !model_may_bring(w, &v->task, m))
        world_fail(w, "replay %llu brought message %llu, which it does not mean", (unsigned long long)v->task.id, (unsigned long long)m->id);
    if (v->n > 0 && (part < v->last_part || (part == v->last_part && offset <= v->last_offset)))
        world_fail(w, "replay %llu brought message %llu (%d/%llu) after %d/%llu", (unsigned long long)v->task.id, (unsigned long long)m->id, part,
                   (unsigned long long)offset, v->last_part, (unsigned long long)v->last_offset);
    if (v->n == v->cap) {
        v->cap = v->cap > 0 ? 2 * v->cap : 64;
        v->ids = mem_resize(v->ids, v->cap, sizeof *v->ids);
    }
    v->ids[v->n++] = m->id;
    v->last_part = part;
    v->last_offset = offset;
    w->totals->brought_into += !v->again;
}

bool model_into_told(struct world *w, uint64_t id)
{
    for (size_t i = 0; i < w->model->intos_n; i++)
        if (w->model->intos[i].task.id == id)
            return w->model->intos[i].task.told = true;
    return false;
}

void model_intos_check(struct world *w)
{
    const struct model *o = w->model;
    for (size_t i = 0; i < o->intos_n && !w->failed; i++) {
        const struct into_view *v = &o->intos[i];
        const struct task_row *row = &v->task.row;
        if (v->gone || v->task.end_turn != o->turn || row->state == TASK_RUNNING)
            continue;
        if (row->state == TASK_FAILED)
            world_fail(w, "replay %llu failed", (unsigned long long)v->task.id);
        for (size_t at = 0; at < o->messages_n && row->state == TASK_DONE && row->limit == 0; at++) {
            const struct message *m = &o->messages[at];
            if (m->offset >= 0 && m->topic == v->topic && model_must_bring(w, &v->task, m) && !brought(v, m->id))
                world_fail(w, "replay %llu is done, and message %llu was not brought", (unsigned long long)v->task.id, (unsigned long long)m->id);
        }
        w->totals->replays_into += row->state == TASK_DONE;
    }
}

const struct into_view *model_into_of(const struct world *w, int topic)
{
    for (size_t i = 0; i < w->model->intos_n; i++)
        if (w->model->intos[i].topic == topic && !w->model->intos[i].gone)
            return &w->model->intos[i];
    return NULL;
}

bool model_into_listed(const struct world *w, const struct wire_task_row *row)
{
    for (size_t i = 0; i < w->model->intos_n; i++) {
        const struct task_view *t = &w->model->intos[i].task;
        if (t->id == row->id && !w->model->intos[i].gone)
            return t->row.state == row->state && t->row.changed == row->changed && t->row.seen == row->seen;
    }
    return false;
}

size_t model_intos_there(const struct model *o)
{
    size_t n = 0;
    for (size_t i = 0; i < o->intos_n; i++)
        n += !o->intos[i].gone;
    return n;
}

bool model_intos_idle(const struct world *w)
{
    for (size_t i = 0; i < w->model->intos_n; i++)
        if (w->model->intos[i].task.row.state == TASK_RUNNING && !w->model->intos[i].gone)
            return false;
    return true;
}

/* Their rows are read again from their beginning. */
void model_intos_cut(struct world *w)
{
    for (size_t i = 0; i < w->model->intos_n; i++) {
        struct into_view *v = &w->model->intos[i];
        v->again = true;
        v->n = 0;
        v->task.row.seen = v->task.row.matched = v->task.row.changed = 0;
        v->task.row.state = TASK_RUNNING;
        v->task.end_turn = 0;
    }
}

void model_intos_again(struct world *w)
{
    struct model *o = w->model;
    for (size_t i = 0; i < o->intos_n;) {
        struct into_view *v = &o->intos[i];
        struct key k = key_task(v->group_id, v->task.id);
        struct buf row = {0};
        struct err e = {0};
        bool found = false;
        if (store_get(w->mem, FAM_GROUPS, key_view(&k), &row, &found, &e) != E_OK)
            world_fail(w, "a task's row does not read: %s", e.text);
        buf_free(&row);
        if (!found && v->task.told && !v->gone)
            world_fail(w, "replay %llu was answered, and is gone after the crash", (unsigned long long)v->task.id);
        if (found && v->task.row.changed != v->n)
            world_fail(w, "replay %llu brought %llu messages, and after the crash %zu are there", (unsigned long long)v->task.id,
                       (unsigned long long)v->task.row.changed, v->n);
        v->again = false;
        if (found || v->gone)
            i++;
        else
            into_drop(o, v);
    }
}

void model_intos_free(struct model *o)
{
    while (o->intos_n > 0)
        into_drop(o, o->intos);
    mem_free(o->intos);
}

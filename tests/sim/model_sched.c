/* What waits for its time: never appended before it, never lost, never twice. See model.h.
 *
 * A batch that waits has two rows, its bytes under its time and its name; both say the same time, or neither is there.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model.h"

int model_new_sched(struct world *w)
{
    struct model *o = w->model;
    if (o->scheds_n == o->scheds_cap) {
        o->scheds_cap = o->scheds_cap > 0 ? 2 * o->scheds_cap : 16;
        o->scheds = mem_resize(o->scheds, o->scheds_cap, sizeof *o->scheds);
    }
    o->scheds[o->scheds_n] = (struct sched){.unit = NONE, .move_min = UINT64_MAX};
    return (int)o->scheds_n++;
}

struct sched *model_sched(const struct world *w, int sched)
{
    return &w->model->scheds[sched];
}

/* ---------------------------------------------------------------- rows */

static struct sched_rows *rows_of(struct model *o, uint32_t topic_id, struct id128 id)
{
    struct sched_rows *r = NULL;
    for (size_t i = 0; i < o->sched_rows_n && r == NULL; i++)
        if (o->sched_rows[i].topic_id == topic_id && id128_eq(o->sched_rows[i].id, id))
            r = &o->sched_rows[i];
    if (r == NULL) {
        if (o->sched_rows_n == o->sched_rows_cap) {
            o->sched_rows_cap = o->sched_rows_cap > 0 ? 2 * o->sched_rows_cap : 16;
            o->sched_rows = mem_resize(o->sched_rows, o->sched_rows_cap, sizeof *o->sched_rows);
        }
        r = &o->sched_rows[o->sched_rows_n++];
        *r = (struct sched_rows){.topic_id = topic_id, .id = id, .sched = NONE};
    }
    if (!r->touched) {
        r->touched = true;
        r->was = r->named && r->batched ? r->sched : NONE;
        r->was_ms = r->named_ms;
    }
    return r;
}

/* Which batch it is, its first message says. */
static int sched_of(struct world *w, struct view bytes)
{
    struct buf aligned = {0};
    struct batch_reader reader;
    struct record record;
    struct err e = {0};
    int sched = NONE;
    buf_append(&aligned, bytes.data, bytes.size);
    if (batch_reader_open(&reader, buf_view(&aligned), &e) == E_OK) {
        int64_t id = batch_reader_get(&reader, 0, &record, &e) == E_OK ? model_id_of(record.value, record.timestamp_ms) : -1;
        const struct message *m = id >= 0 ? model_message(w, (uint64_t)id) : NULL;
        sched = m != NULL ? m->sched : NONE;
        if (sched != NONE && model_sched(w, sched)->count != reader.c.count)
            sched = NONE;
        batch_reader_close(&reader);
    }
    buf_free(&aligned);
    return sched;
}

static void batch_row(struct world *w, struct view key, const struct view *value)
{
    uint64_t due;
    uint32_t topic_id;
    struct id128 id;
    struct sched_batch_row row;
    struct err e = {0};
    if (!key_read_sched_batch(key, &due, &topic_id, &id)) {
        world_fail(w, "the key of a batch that waits does not read");
        return;
    }
    struct sched_rows *r = rows_of(w->model, topic_id, id);
    if (value == NULL) {
        r->batched &= r->batched_ms != due;
        return;
    }
    if (sched_batch_row_get(*value, &row, &e) != E_OK || (r->sched = sched_of(w, row.batch)) == NONE)
        world_fail(w, "a batch that waits does not read, or nobody produced it: %s", e.text);
    r->batched = true;
    r->batched_ms = due;
}

/* sched: 0 u64 | 'i' | topic | id */
static void name_row(struct world *w, struct view key, const struct view *value)
{
    struct sched_name_row row;
    struct err e = {0};
    for (int t = 0; t < TOPICS; t++)
        for (size_t i = 0; i < w->model->sched_rows_n; i++) {
            struct sched_rows *r = &w->model->sched_rows[i];
            struct key k = key_sched_name(r->topic_id, r->id);
            if (r->topic_id != w->model->topic_ids[t] || !view_eq(key, key_view(&k)))
                continue;
            r = rows_of(w->model, r->topic_id, r->id);
            r->named = value != NULL;
            if (value != NULL && sched_name_row_get(*value, &row, &e) == E_OK)
                r->named_ms = row.due_ms;
            return;
        }
    if (value != NULL)
        world_fail(w, "a name waits, and no batch");
}

void model_sched_row(struct world *w, struct view key, const struct view *value)
{
    uint64_t due;
    enum sched_kind kind = key_read_sched_kind(key, &due);
    if (kind == SCHED_KIND_BATCH)
        batch_row(w, key, value);
    else if (kind == SCHED_KIND_NAME)
        name_row(w, key, value);
    else if (kind == SCHED_KIND_COPY)
        model_copy_row(w, key, value);
}

/* ---------------------------------------------------------------- why it changed */

void model_sched_appended(struct world *w, int sched, uint64_t wall_ms)
{
    struct sched *s = model_sched(w, sched);
    if (s->ended)
        world_fail(w, "batch %d was cancelled, and is appended", sched);
    else if (s->waits && wall_ms < s->due_ms)
        world_fail(w, "batch %d is due at %llu and was appended at %llu", sched,
                   (unsigned long long)s->due_ms, (unsigned long long)wall_ms);
    else if (!s->waits && s->fired_turn != w->model->turn && wall_ms < s->due_min)
        world_fail(w, "batch %d was asked for %llu and was appended at %llu", sched,
                   (unsigned long long)s->due_min, (unsigned long long)wall_ms);
    w->totals->scheduled += s->fired_turn != w->model->turn;
    w->totals->crons += s->cron && s->fired_turn != w->model->turn;
    s->fired_turn = w->model->turn;
    if (s->unit != NONE)
        model_unit_seen(w, s->unit);
}

static void began(struct world *w, int sched, uint64_t due_ms)
{
    struct sched *s = model_sched(w, sched);
    world_trace(w, "    turn %llu: batch %d waits until %llu", (unsigned long long)w->model->turn, sched,
                (unsigned long long)due_ms);
    if (due_ms < s->due_min && due_ms < s->move_min)
        world_fail(w, "batch %d is to wait until %llu, and was asked for %llu", sched,
                   (unsigned long long)due_ms, (unsigned long long)s->due_min);
    if (!s->cron && s->fired_turn != 0)
        world_fail(w, "batch %d was appended, and waits", sched);
    s->waits = true;
    s->due_ms = due_ms;
    s->waits_turn = w->model->turn;
    if (s->unit != NONE)
        model_unit_seen(w, s->unit);
}

static void moved_on(struct world *w, int sched, uint64_t due_ms)
{
    struct sched *s = model_sched(w, sched);
    bool fired = s->cron && s->fired_turn == w->model->turn && due_ms > s->due_ms;
    if (due_ms < s->move_min && !fired)
        world_fail(w, "batch %d waited until %llu and waits until %llu, and nobody moved it", sched,
                   (unsigned long long)s->due_ms, (unsigned long long)due_ms);
    w->totals->moved += !fired;
    s->due_ms = due_ms;
    s->waits_turn = w->model->turn;
}

static void over(struct world *w, int sched)
{
    struct sched *s = model_sched(w, sched);
    s->waits = false;
    world_trace(w, "    turn %llu: batch %d waits no longer", (unsigned long long)w->model->turn, sched);
    if (s->fired_turn != w->model->turn && !s->ending)
        world_fail(w, "batch %d waited until %llu and is gone, and nobody cancelled it", sched,
                   (unsigned long long)s->due_ms);
    w->totals->cancelled += s->fired_turn != w->model->turn;
}

void model_scheds_check(struct world *w)
{
    struct model *o = w->model;
    for (size_t i = 0; i < o->sched_rows_n && !w->failed;) {
        struct sched_rows *r = &o->sched_rows[i];
        if (!r->touched) {
            i++;
            continue;
        }
        r->touched = false;
        if (r->named != r->batched || (r->named && r->named_ms != r->batched_ms))
            world_fail(w, "batch %d waits by half of its rows", r->sched);
        int now = r->named ? r->sched : NONE;
        if (r->was != NONE && r->was != now)
            over(w, r->was);
        if (now != NONE && now != r->was)
            began(w, now, r->named_ms);
        else if (now != NONE && r->named_ms != r->was_ms)
            moved_on(w, now, r->named_ms);
        if (now != NONE)
            i++;
        else
            *r = o->sched_rows[--o->sched_rows_n];
    }
}

/* ---------------------------------------------------------------- what clients are told */

void model_sched_told(struct world *w, int sched, const struct wire_produced *p)
{
    struct sched *s = model_sched(w, sched);
    s->told = true;
    if (p->due_ms < s->due_min)
        world_fail(w, "batch %d was asked for %llu and answered for %llu", sched,
                   (unsigned long long)s->due_min, (unsigned long long)p->due_ms);
    if (s->name[0] != '\0' && !view_eq(p->name, view_of_str(s->name)))
        world_fail(w, "batch %d has another name in its answer", sched);
    if (!s->waits && s->fired_turn == 0 && !s->ending)
        world_fail(w, "batch %d was answered, and neither waits nor was appended", sched);
}

void model_sched_changed(struct world *w, int sched, uint8_t act, uint64_t turn)
{
    struct sched *s = model_sched(w, sched);
    if (act != SCHED_CANCEL)
        return;
    if (s->waits && s->waits_turn < turn)
        world_fail(w, "batch %d was cancelled in turn %llu and waits", sched, (unsigned long long)turn);
    s->ended = model_disk(w, s->topic) && !s->waits && s->fired_turn == 0;
}

bool model_scheds_idle(const struct world *w)
{
    for (size_t i = 0; i < w->model->scheds_n; i++)
        if (w->model->scheds[i].waits)
            return false;
    return true;
}

void model_scheds_list(struct world *w)
{
    struct model *o = w->model;
    uint64_t turn = o->turn, before = 0;
    size_t waiting = 0;
    struct op *op = world_ask(w, &(struct wire_request){.verb = VERB_SCHED_LIST});
    if (op == NULL)
        return;
    if (!world_all_written(w)) /* it may speak of what is not written */
        turn = UINT64_MAX;
    for (size_t i = 0; i < o->scheds_n; i++)
        waiting += o->scheds[i].waits;
    if (turn == o->turn && op->reply.sched.rows_n != waiting)
        world_fail(w, "%u batches are listed, and %zu wait", op->reply.sched.rows_n, waiting);
    for (uint32_t i = 0; i < op->reply.sched.rows_n && turn == o->turn; i++) {
        const struct wire_scheduled *r = &op->reply.sched.rows[i];
        if (r->due_ms < before)
            world_fail(w, "what waits is not listed in order");
        before = r->due_ms;
    }
    world_answered(op);
}

/* ---------------------------------------------------------------- after a crash */

void model_scheds_again(struct world *w)
{
    struct model *o = w->model;
    o->sched_rows_n = 0;
    for (size_t i = 0; i < o->scheds_n; i++) {
        struct sched *s = &o->scheds[i];
        s->waits = false;
        s->fired_turn = 0;
        s->told &= model_disk(w, s->topic);
        uint64_t least =
            o->wall_ms + (s->cron ? 1 : s->delay_ms); /* the power may have taken a later time along */
        if (!s->told && s->at_ms == 0 && least < s->due_min)
            s->due_min = least;
        s->move_min = s->move_min != UINT64_MAX && o->wall_ms < s->move_min ? o->wall_ms : s->move_min;
    }
    for (size_t i = 0; i < o->messages_n; i++) /* what of it is in the log */
        if (o->messages[i].sched != NONE && o->messages[i].offset >= 0)
            o->scheds[o->messages[i].sched].fired_turn = o->messages[i].append_turn;
    for (int names = 0; names < 2; names++) {
        struct store_iter *it = store_iter(w->mem, FAM_SCHED);
        for (store_iter_seek(it, (struct view){0}); store_iter_valid(it); store_iter_next(it)) {
            struct view value = store_iter_value(it);
            uint64_t due;
            if (key_read_sched_kind(store_iter_key(it), &due) == (names ? SCHED_KIND_NAME : SCHED_KIND_BATCH))
                model_sched_row(w, store_iter_key(it), &value);
        }
        store_iter_close(it);
    }
    for (size_t i = 0; i < o->sched_rows_n; i++)
        o->sched_rows[i].was = NONE;
    model_scheds_check(w);
    for (size_t i = 0; i < o->scheds_n; i++) {
        const struct sched *s = &o->scheds[i];
        if (s->told && !s->waits && !s->ending && (s->cron || s->fired_turn == 0))
            world_fail(w, "batch %zu was answered, and is lost", i);
    }
}

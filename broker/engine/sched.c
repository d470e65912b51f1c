/* Batches that wait for their time before they are appended: delays and cron.
 *
 *     produce ──> sched:  due | batch ── due: effect `due` ──> readers ──> engine_due ──> the log; both rows go in that turn
 *                         name, due                                            └── cron: put back under its next time
 *
 * The name's row says what is true: a batch that readers bring under another time than it says was cancelled, moved or replaced meanwhile.
 * A batch that is put waits for a time to come, so what readers were asked for, up to a time that has come, never holds a newer one of the same
 * name and time.
 *
 * In memory is nothing of what waits but counts and one time: no row is due before `next_ms`. That may be a bound, not the first row's own time: then
 * readers are asked once in vain.
 */
#include "engine/memory.h"
#include "base/planted.h"

#include "engine/cron.h"
#include "schemas/records.h"
#include "store/sched_walk.h"

enum {
    DUE_ROWS_MAX = 1024,
    LOOK_MS_MAX = 10000,       /* the wall clock may be set forward: looked at again */
    LOOK_STEPPED_MS = 1000,    /* and while it is not believed */
    LIST_ROWS_MAX = 20000,     /* that a page looks at */
    LIST_BYTES_MAX = 8 << 20   /* of batches that it passes, as walking reads them; while it has found none, eight times that */
};

bool sched_asked(const struct wire_produce *w) { return w->delay_ms != 0 || w->at_ms != 0 || w->cron.size != 0; }

/* ---------------------------------------------------------------- rows */

static void count(struct engine *en, struct topic *t, int64_t batches, int64_t messages)
{
    struct key k = key_sched_count(t->id);
    t->waiting.batches += (uint64_t)batches;
    t->waiting.messages += (uint64_t)messages;
    en->sched.batches += (uint64_t)batches;
    lag_changed_topic(en, t);
    en->sched.messages += (uint64_t)messages;
    if (t->waiting.batches == 0) {
        row_remove(en, FAM_SCHED, &k);
        return;
    }
    buf_clear(&en->row);
    sched_count_row_put(&en->row, &t->waiting);
    row_put(en, FAM_SCHED, &k);
}

/* The row of a name; its views are good until the next row is read or put. */
static bool name_read(struct engine *en, uint32_t topic, struct id128 id, struct sched_name_row *out)
{
    struct key k = key_sched_name(topic, id);
    struct view v;
    struct err e = {0};
    if (!row_read(en, FAM_SCHED, &k, &v))
        return false;
    if (sched_name_row_get(v, out, &e) == E_OK)
        return true;
    row_fail(en, FAM_SCHED, key_view(&k), &e);
    return false;
}

static void name_put(struct engine *en, uint32_t topic, struct id128 id, const struct sched_name_row *r)
{
    struct key k = key_sched_name(topic, id);
    buf_clear(&en->row);
    sched_name_row_put(&en->row, r);
    row_put(en, FAM_SCHED, &k);
    if (r->due_ms < en->sched.next_ms)
        en->sched.next_ms = r->due_ms;
}

static void batch_put(struct engine *en, uint64_t due_ms, uint32_t topic, struct id128 id, const struct sched_batch_row *r)
{
    struct key k = key_sched_batch(due_ms, topic, id);
    buf_clear(&en->row);
    sched_batch_row_put(&en->row, r);
    row_put(en, FAM_SCHED, &k);
}

static void batch_remove(struct engine *en, uint64_t due_ms, uint32_t topic, struct id128 id)
{
    struct key k = key_sched_batch(due_ms, topic, id);
    row_remove(en, FAM_SCHED, &k);
}

/* Both rows of what waits under this name. */
static void forget(struct engine *en, struct topic *t, struct id128 id, uint64_t due_ms, uint32_t messages)
{
    struct key k = key_sched_name(t->id, id);
    row_remove(en, FAM_SCHED, &k);
    if (!PLANTED(cancelled_row_kept))
        batch_remove(en, due_ms, t->id, id);
    count(en, t, -1, -(int64_t)messages);
}

void sched_topic_gone(struct engine *en, struct topic *t)
{
    struct key k = key_sched_count(t->id), begin = key_sched_name_prefix(t->id), end = key_after(&begin);
    if (t->waiting.batches == 0)
        return;
    row_remove(en, FAM_SCHED, &k);
    puts_remove_range(&en->fx.puts, FAM_SCHED, key_view(&begin), key_view(&end));
    en->sched.batches -= t->waiting.batches;
    en->sched.messages -= t->waiting.messages;
}

/* ---------------------------------------------------------------- accepting */

static int too_far(const struct engine *en, struct err *e)
{
    return err_set(e, E_LIMIT, "limit delay_ms_max = %llu", (unsigned long long)en->limits->delay_ms_max);
}

/* A wall time, or one from now; not before now. */
static int time_of(const struct engine *en, uint64_t at_ms, uint64_t delay_ms, uint64_t *due, struct err *e)
{
    uint64_t most = en->limits->delay_ms_max;
    if (delay_ms > most || (at_ms > en->wall_ms && at_ms - en->wall_ms > most))
        return too_far(en, e);
    *due = at_ms != 0 ? at_ms : en->wall_ms + delay_ms;
    if (*due < en->wall_ms)
        *due = en->wall_ms;
    return E_OK;
}

static int cron_time(const struct engine *en, struct view text, uint64_t *due, struct err *e)
{
    struct cron c;
    if (cron_parse(text, &c, e) != E_OK)
        return e->code;
    *due = cron_next(&c, en->wall_ms);
    if (*due != 0)
        return E_OK;
    return err_set(e, E_INVALID_ARGUMENT, "cron '%.*s' names no time in the next eight years", (int)text.size, (const char *)text.data);
}

static int due_of(const struct engine *en, const struct wire_produce *w, uint64_t *due, struct err *e)
{
    return w->cron.size > 0 ? cron_time(en, w->cron, due, e) : time_of(en, w->at_ms, w->delay_ms, due, e);
}

int sched_check(const struct engine *en, const struct wire_produce *w, struct err *e)
{
    uint64_t due;
    return due_of(en, w, &due, e);
}

/* "3-1742": of an epoch, which rises with each start. Whoever gave such a name himself keeps it. */
static struct view name_make(struct engine *en, struct op *op, uint32_t topic)
{
    struct sched_name_row taken;
    struct view name;
    do {
        buf_clear(&en->sched.name);
        buf_putf(&en->sched.name, "%u-%llu", en->epoch, (unsigned long long)++en->sched.names);
        name = buf_view(&en->sched.name);
    } while (name_read(en, topic, message_id_hash(name), &taken));
    return op_text(op, buf_str(&en->sched.name));
}

void sched_add(struct engine *en, struct op *op, const struct wire_produce *w, const struct op_batch *b, struct wire_produced *out)
{
    struct partition *p = table_get(&en->partitions, w->partition);
    struct topic *t = p->topic;
    struct sched_name_row before;
    struct err e = {0};
    uint64_t due;
    int code = due_of(en, w, &due, &e);
    assert(code == E_OK); /* checked in this turn */
    (void)code;
    struct view name = w->name.size > 0 ? w->name : name_make(en, op, t->id);
    struct id128 id = message_id_hash(name);
    if (w->name.size > 0 && name_read(en, t->id, id, &before))
        forget(en, t, id, before.due_ms, before.count);
    if (due <= en->wall_ms) {
        log_append(en, p, w, b->last_delta, op->hold, out);
        return;
    }
    batch_put(en, due, t->id, id, &(struct sched_batch_row){.partition = p->id, .count = w->count, .last_delta = b->last_delta,
                                                            .batch_hash = w->batch_hash, .batch = w->batch});
    name_put(en, t->id, id, &(struct sched_name_row){.name = name, .cron = w->cron, .due_ms = due, .created_ms = en->wall_ms,
                                                     .bytes = w->batch.size, .partition = p->id, .count = w->count});
    count(en, t, 1, w->count);
    en->counters.scheduled_messages += w->count;
    *out = (struct wire_produced){.partition = p->id, .count = w->count, .due_ms = due, .name = name};
}

/* ---------------------------------------------------------------- when it is due */

static void looked(struct engine *en, struct timer *t)
{
    (void)en;
    (void)t; /* sched_turn_end looks at the end of every turn */
}

void sched_turn_end(struct engine *en)
{
    struct sched *s = &en->sched;
    if (s->asked || s->next_ms == UINT64_MAX || en->stopping) {
        timer_clear(en, &s->timer);
        return;
    }
    if (!en->wall_suspect && s->next_ms <= en->wall_ms) {
        s->due = (struct effect_due){.from_ms = s->low_ms, .to_ms = en->wall_ms, .rows_max = DUE_ROWS_MAX,
                                     .bytes_max = en->limits->sched_load_bytes};
        s->due.to_ms += 500 * PLANTED(due_early);
        en->fx.due = &s->due;
        s->asked = true;
        s->next_ms = UINT64_MAX; /* lowered by what is put from now on */
        timer_clear(en, &s->timer);
        return;
    }
    /* a clock that was set back a little is waited for: until then en->wall_ms stands still */
    uint64_t wall = en->now.wall_ms < en->wall_ms ? en->now.wall_ms : en->wall_ms;
    uint64_t wait = en->wall_suspect ? LOOK_STEPPED_MS : s->next_ms - wall;
    timer_set(en, &s->timer, en->now.mono_ms + (wait < LOOK_MS_MAX ? wait : LOOK_MS_MAX), looked);
}

/* Puts a cron entry back under its next time. `r` is read anew, as its views may have moved. False: there is none, or it is no cron entry. */
static bool put_back(struct engine *en, const struct due_batch *b, const struct sched_name_row *r)
{
    struct err e = {0};
    struct sched_name_row next = *r;
    if (r->cron.size == 0 || PLANTED(cron_only_once) || cron_time(en, r->cron, &next.due_ms, &e) != E_OK)
        return false;
    name_put(en, b->topic, b->id, &next);
    batch_remove(en, b->due_ms, b->topic, b->id);
    batch_put(en, next.due_ms, b->topic, b->id, &(struct sched_batch_row){.partition = b->partition, .count = b->count,
                                                                          .last_delta = b->last_delta, .batch_hash = b->batch_hash,
                                                                          .batch = b->batch});
    return true;
}

static void append_due(struct engine *en, const struct due_batch *b, struct ref *hold)
{
    struct partition *p = table_get(&en->partitions, b->partition);
    struct sched_name_row r;
    if (b->code != E_OK) { /* it stays in the list, and is not tried again */
        en->counters.damaged_messages++;
        return;
    }
    if (p == NULL || !name_read(en, b->topic, b->id, &r) || (r.due_ms != b->due_ms && !PLANTED(due_although_moved))) {
        batch_remove(en, b->due_ms, b->topic, b->id);
        return;
    }
    if (!put_back(en, b, &r) && !PLANTED(due_twice))
        forget(en, p->topic, b->id, b->due_ms, b->count);
    if (b->one_key) /* its topic may have grown meanwhile */
        p = growth_partition(p, b->key_hash);
    struct wire_produce w = {.partition = p->id, .count = b->count, .batch_hash = b->batch_hash, .batch = b->batch};
    struct wire_produced ignored;
    log_append(en, p, &w, b->last_delta, hold, &ignored);
    en->counters.scheduled_appended += b->count;
}

void sched_due(struct engine *en, const struct due *d)
{
    struct sched *s = &en->sched;
    s->asked = false;
    for (uint32_t i = 0; i < d->batches_n && engine_failed(en) == NULL; i++)
        append_due(en, &d->batches[i], d->hold);
    if (d->next_ms < s->next_ms)
        s->next_ms = d->next_ms;
    s->low_ms = s->next_ms < en->wall_ms ? s->next_ms : en->wall_ms;
    if (d->batches_n == 0)
        return;
    struct ref *hold = ref_take(d->hold); /* the turn's log values point into it */
    buf_append(&en->holds, &hold, sizeof hold);
    struct key k = key_sched_low();
    buf_clear(&en->row);
    sched_low_row_put(&en->row, &(struct sched_low_row){.low_ms = s->low_ms});
    row_put(en, FAM_SCHED, &k);
}

/* ---------------------------------------------------------------- changing */

static void name_unknown(struct engine *en, struct op *op, const struct topic *t, struct view name)
{
    answer(en, op, E_SCHEDULE_NOT_FOUND, "'%.*s' of topic '%s'", (int)name.size, (const char *)name.data, t->name);
}

/* What waits goes under another time: its bytes are read and put again, the one place where the engine touches a payload. */
static void move(struct engine *en, const struct topic *t, struct id128 id, const struct sched_name_row *r, uint64_t due_ms)
{
    struct key from = key_sched_batch(r->due_ms, t->id, id), to = key_sched_batch(due_ms, t->id, id);
    struct sched_name_row moved = *r;
    struct view v;
    if (due_ms == r->due_ms)
        return;
    moved.due_ms = due_ms;
    name_put(en, t->id, id, &moved); /* first: its views end with the next row */
    if (!row_read(en, FAM_SCHED, &from, &v)) {
        struct err e = {0};
        err_set(&e, E_DAMAGED, "a batch that waits in topic '%s' until %llu has no row", t->name, (unsigned long long)r->due_ms);
        engine_fail(en, &e);
        return;
    }
    buf_clear(&en->row);
    buf_append(&en->row, v.data, v.size);
    row_remove(en, FAM_SCHED, &from);
    row_put(en, FAM_SCHED, &to);
}

void sched_change(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    const struct wire_sched *w = &op->request.sched;
    struct topic *t = topic_find(en, w->topic);
    struct id128 id = message_id_hash(w->name);
    struct sched_name_row r;
    uint64_t due = 0;
    struct err e = {0};
    if (t == NULL) {
        topic_unknown(en, op, w->topic);
        return;
    }
    if (w->act == SCHED_MOVE && time_of(en, w->at_ms, w->delay_ms, &due, &e) != E_OK) {
        answer(en, op, e.code, "%s", e.text);
        return;
    }
    if (!name_read(en, t->id, id, &r)) {
        name_unknown(en, op, t, w->name);
        return;
    }
    if (w->act == SCHED_MOVE) {
        move(en, t, id, &r, due);
    } else {
        en->counters.scheduled_cancelled += r.count;
        forget(en, t, id, r.due_ms, r.count);
    }
    answer_change(en, op, t->config.durability);
}

/* ---------------------------------------------------------------- looking */

static struct view kept(struct op *op, struct view v)
{
    uint8_t *copy = op_take(NULL, op, v.size, 1);
    if (v.size > 0)
        memcpy(copy, v.data, v.size);
    return view_of(copy, v.size);
}

static struct wire_scheduled describe(struct op *op, const struct topic *t, struct id128 id, const struct sched_name_row *r)
{
    return (struct wire_scheduled){.name = kept(op, r->name), .topic = op_text(op, t->name), .cron = kept(op, r->cron),
                                   .partition = r->partition, .count = r->count, .due_ms = r->due_ms, .created_ms = r->created_ms,
                                   .bytes = r->bytes, .id = id};
}

static void list_one(struct engine *en, struct op *op, const struct topic *t)
{
    struct view name = op->request.sched.name;
    struct id128 id = message_id_hash(name);
    struct sched_name_row r;
    if (t == NULL) {
        answer(en, op, E_INVALID_ARGUMENT, "the name '%.*s' is one of a topic, and none is given", (int)name.size, (const char *)name.data);
    } else if (!name_read(en, t->id, id, &r)) {
        name_unknown(en, op, t, name);
    } else {
        struct wire_scheduled *row = op_take(en, op, 1, sizeof *row);
        *row = describe(op, t, id, &r);
        op->reply.sched = (struct wire_sched_reply){.rows = row, .rows_n = 1};
        answer_now(en, op);
    }
}

/* Where a page begins: at the row named, which is not of it, or at its millisecond when that row is gone. */
static struct key page_begin(struct engine *en, const struct topic *only, uint64_t after_ms, struct id128 after_id)
{
    if (only != NULL)
        return key_sched_batch(after_ms, only->id, after_id);
    for (size_t i = 0; i < en->topics_n && after_ms != 0; i++) {
        struct sched_name_row r;
        if (en->topics[i]->waiting.batches > 0 && name_read(en, en->topics[i]->id, after_id, &r) && r.due_ms == after_ms)
            return key_sched_batch(after_ms, en->topics[i]->id, after_id);
    }
    return key_sched_from(after_ms, SCHED_KIND_BATCH);
}

/* A page in order of (due, topic, id), behind the place given. `only`: of that topic; NULL: of all. */
static int list_page(struct engine *en, struct op *op, const struct topic *only, struct wire_scheduled *rows, uint32_t limit, struct err *e)
{
    const struct wire_sched *w = &op->request.sched;
    struct key from = page_begin(en, only, w->after_ms, w->after_id);
    struct sched_walk walk;
    struct wire_sched_reply *out = &op->reply.sched;
    uint64_t looked_at = 0, bytes = 0;
    for (sched_walk_open(&walk, en->store, SCHED_KIND_BATCH, &from); sched_walk_valid(&walk); sched_walk_next(&walk)) {
        uint64_t due;
        uint32_t topic;
        struct id128 id;
        struct sched_name_row r;
        if (!key_read_sched_batch(store_iter_key(walk.it), &due, &topic, &id)) {
            err_set(e, E_DAMAGED, "a scheduled batch's key does not read");
            row_bad(FAM_SCHED, store_iter_key(walk.it), e);
            sched_walk_close(&walk);
            return E_DAMAGED;
        }
        if (view_eq(store_iter_key(walk.it), key_view(&from)))
            continue;
        bytes += store_iter_value(walk.it).size;
        out->more = out->rows_n == limit || looked_at++ == LIST_ROWS_MAX || bytes > (out->rows_n > 0 ? 1 : 8) * (uint64_t)LIST_BYTES_MAX;
        if (out->more)
            break;
        if ((only != NULL && only->id != topic) || !name_read(en, topic, id, &r) || r.due_ms != due)
            continue;
        const struct partition *p = table_get(&en->partitions, r.partition);
        if (p != NULL)
            rows[out->rows_n++] = describe(op, p->topic, id, &r);
    }
    int code = sched_walk_status(&walk, e);
    uint64_t at = sched_walk_due(&walk);
    sched_walk_close(&walk);
    if (code == E_OK && out->more && out->rows_n == 0)
        return err_set(e, E_LIMIT, "more is due before %llu than is looked at, and nothing of it is asked for: go on behind that", (unsigned long long)at);
    return code;
}

void sched_list(struct engine *en, struct op *op)
{
    const struct wire_sched *w = &op->request.sched;
    const struct topic *only = w->topic.size > 0 ? topic_find(en, w->topic) : NULL;
    uint32_t limit = w->limit == 0 || w->limit > en->limits->page_max ? (uint32_t)en->limits->page_max : w->limit;
    struct err e = {0};
    if (w->topic.size > 0 && only == NULL) {
        topic_unknown(en, op, w->topic);
        return;
    }
    op->reply.body = BODY_SCHED;
    if (w->name.size > 0) {
        list_one(en, op, only);
        return;
    }
    uint64_t waiting = only != NULL ? only->waiting.batches : en->sched.batches;
    if (limit > waiting)
        limit = (uint32_t)waiting;
    struct wire_scheduled *rows = op_take(en, op, limit, sizeof *rows);
    op->reply.sched.rows = rows;
    int code = limit > 0 ? list_page(en, op, only, rows, limit, &e) : E_OK;
    if (code == E_DAMAGED || code == E_STORE_FAILED)
        engine_fail(en, &e);
    if (code != E_OK)
        answer(en, op, code, "%s", e.text);
    else
        answer_now(en, op);
}

/* ---------------------------------------------------------------- after a restart */

int sched_load(struct engine *en, struct err *e)
{
    struct key counts = key_sched_count_prefix(), low = key_sched_low();
    struct store_iter *it = store_iter(en->store, FAM_SCHED);
    int code = E_OK;
    for (store_iter_seek(it, key_view(&counts)); code == E_OK && store_iter_valid(it) && key_has_prefix(store_iter_key(it), &counts);
         store_iter_next(it)) {
        struct sched_count_row r;
        uint32_t topic;
        struct topic *t = NULL;
        if (key_read_sched_count(store_iter_key(it), &topic))
            for (size_t i = 0; i < en->topics_n && t == NULL; i++)
                t = en->topics[i]->id == topic ? en->topics[i] : NULL;
        code = t == NULL ? err_set(e, E_DAMAGED, "what waits is counted for topic %u, which is not there", topic)
                         : sched_count_row_get(store_iter_value(it), &r, e);
        if (code != E_OK) {
            row_bad(FAM_SCHED, store_iter_key(it), e);
            break;
        }
        t->waiting = r;
        en->sched.batches += r.batches;
        en->sched.messages += r.messages;
    }
    if (code == E_OK)
        code = store_iter_status(it, e);
    store_iter_close(it);
    struct view v;
    struct sched_low_row r = {0};
    if (code == E_OK && row_read(en, FAM_SCHED, &low, &v))
        code = sched_low_row_get(v, &r, e);
    en->sched.low_ms = r.low_ms;
    en->sched.next_ms = en->sched.batches > 0 && !PLANTED(due_forgotten) ? r.low_ms : UINT64_MAX;
    return code;
}

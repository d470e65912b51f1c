/* Tasks over the messages of a group: redrive and drop what is parked, replay (replay.c), with progress that survives a restart.
 *
 *              ┌────────── a step: at most 256 rows of `held` behind the task's place, in order ──────────┐
 *     RUNNING ─┤  decided by the row: done to it at once          its bytes decide: asked of readers ──────┼─> DONE
 *              └── rests: rate, too many redriven messages wait, readers have not answered ────────────────┘   CANCELLED, FAILED
 *
 * What a step did and the place that it came to are written in one turn, so each message is redriven or dropped once. Only what was
 * parked before the task began is meant: a message that it redrove and that is parked again stays parked.
 */
#include "engine/task.h"

enum {
    STEPS_MAX = 8,              /* steps of one turn, of all tasks: the others have the next */
    WAITING_MAX = 1000,         /* redriven messages of a group that are not done again: at so many its tasks rest */
    REST_MS = 100,
    WAITING_REST_MS = 10,
    RATE_STEP_MS = 10,          /* what a rate allows is taken so often at most */
    MESSAGE_CREDIT = 1000000    /* what one message costs; a millisecond brings rate_milli */
};

static struct task *task_of(struct list_node *n) { return container_of(n, struct task, link); }

void match_free(struct match *m)
{
    if (m == NULL)
        return;
    ref_drop(m->hold);
    buf_free(&m->bytes);
    mem_free(m);
}

/* ---------------------------------------------------------------- rows and memory */

static void step_fire(struct engine *en, struct timer *timer);

static void arm(struct engine *en, struct task *t, uint64_t ms)
{
    timer_set(en, &t->timer, en->now.mono_ms + (ms > 0 ? ms : 1), step_fire); /* never in the turn that is under way */
}

static void changed(struct engine *en, struct task *t) { mark_dirty(&en->dirty_tasks, &t->dirty); }

void task_write(struct engine *en, struct list_node *dirty)
{
    struct task *t = container_of(dirty, struct task, dirty);
    struct key k = key_task(t->group->id, t->id);
    buf_clear(&en->row);
    task_row_put(&en->row, &t->row);
    if (!PLANTED(task_place_lost))
        row_put(en, FAM_GROUPS, &k);
}

/* One copy of all the filter's bytes, which readers hold too. */
static void filter_keep(struct task *t, const struct wire_held_filter *f)
{
    const struct view *from[] = {&f->key, &f->header, &f->header_value, &f->reason};
    struct wire_held_filter *to = &t->row.filter;
    struct view *into[] = {&to->key, &to->header, &to->header_value, &to->reason};
    struct buf all = {0};
    *to = *f;
    for (size_t i = 0; i < ARRAY_LEN(from); i++)
        buf_append(&all, from[i]->data, from[i]->size);
    t->text = ref_new_copy(all.data, all.size);
    for (size_t i = 0, at = 0; i < ARRAY_LEN(from); at += from[i]->size, i++)
        *into[i] = view_of(t->text->data + at, from[i]->size);
    buf_free(&all);
}

static struct task *task_add(struct engine *en, struct group *g, uint64_t id, const struct task_row *row)
{
    struct task *t = mem_zalloc(sizeof *t);
    t->id = id;
    t->group = g;
    t->row = *row;
    t->credit_ms = en->now.mono_ms;
    if (row->has_filter)
        filter_keep(t, &row->filter);
    err_set(&t->error, E_OK, "%.*s", (int)row->error.size, (const char *)row->error.data);
    t->row.error = view_of_str(t->error.text);
    struct list_node *after = en->tasks.head.prev; /* groups, and so ids, come in any order from their rows */
    while (after != &en->tasks.head && task_of(after)->id > id)
        after = after->prev;
    list_insert_before(after->next, &t->link);
    en->tasks_n++;
    if (row->state == TASK_RUNNING) {
        en->tasks_running++;
        g->filling += replay_fills(t);
        arm(en, t, 0);
    }
    return t;
}

/* It runs no longer, for whatever reason: its group reads on, where it waited for the task. */
static void task_stopped(struct engine *en, struct task *t)
{
    en->tasks_running--;
    t->group->filling -= replay_fills(t);
    match_free(t->looked);
    pick_free(t->picked);
    mem_free(t->ends);
    t->looked = NULL;
    t->picked = NULL;
    t->ends = NULL;
    timer_clear(en, &t->timer);
}

static void task_forget(struct engine *en, struct task *t, bool row)
{
    bool running = t->row.state == TASK_RUNNING;
    if (row) {
        struct key k = key_task(t->group->id, t->id);
        row_remove(en, FAM_GROUPS, &k);
        if (running && replays_log(&t->row))
            replay_ends_remove(en, t);
    }
    if (running)
        task_stopped(en, t);
    list_remove(&t->link);
    list_remove(&t->dirty);
    en->tasks_n--;
    ref_drop(t->text);
    mem_free(t);
}

void tasks_forget(struct engine *en, const struct group *g)
{
    LIST_EACH_SAFE (n, &en->tasks)
        if (g == NULL || task_of(n)->group == g)
            task_forget(en, task_of(n), g != NULL);
}

int task_load(struct engine *en, struct group *g, uint64_t id, struct view value, struct err *e)
{
    struct task_row row;
    int code = task_row_get(value, &row, e);
    if (code != E_OK)
        return code;
    if (PLANTED(replay_place_lost) && replays_log(&row)) {
        row.at_partition = 0;
        row.at_offset = row.replay.from_offset;
    }
    struct task *t = task_add(en, g, id, &row);
    return row.state == TASK_RUNNING && replays_log(&row) ? replay_ends_load(en, t, e) : E_OK;
}

/* The oldest of those that ended go when there are more than are kept. */
static void task_end(struct engine *en, struct task *t, enum task_state state)
{
    task_stopped(en, t);
    if (replays_log(&t->row))
        replay_ends_remove(en, t);
    t->row.state = (uint8_t)state;
    t->row.ended_ms = en->wall_ms;
    changed(en, t);
    group_stir(en, t->group);
    LIST_EACH_SAFE (n, &en->tasks) {
        if (en->tasks_n - en->tasks_running <= en->limits->tasks_kept_max)
            break;
        if (task_of(n) != t && task_of(n)->row.state != TASK_RUNNING)
            task_forget(en, task_of(n), true);
    }
}

static void task_fail(struct engine *en, struct task *t, const struct err *why)
{
    if (why->code != E_DAMAGED && why->code != E_GROUP_NOT_FOUND) {
        engine_fail(en, why);
        return;
    }
    t->error = *why;
    t->row.error = view_of_str(t->error.text);
    task_end(en, t, TASK_FAILED);
}

/* ---------------------------------------------------------------- pace */

static void credit_grow(const struct engine *en, struct task *t)
{
    uint64_t ms = en->now.mono_ms - t->credit_ms, most = (uint64_t)t->row.rate_milli * 1000; /* what a second brings */
    t->credit_ms = en->now.mono_ms;
    t->credit += (ms < 1000000 ? ms : 1000000) * t->row.rate_milli;
    if (most < MESSAGE_CREDIT)
        most = MESSAGE_CREDIT;
    if (t->credit > most)
        t->credit = most;
}

/* How many messages the task may change now; when it is none, how long it rests. */
static uint64_t allowance(const struct engine *en, struct task *t, uint64_t *rest_ms)
{
    uint64_t may = TASK_STEP_ROWS;
    if (!task_changes(t))
        return may;
    if (t->row.act != TASK_DROP) {
        uint64_t waiting = group_waiting(t->group);
        *rest_ms = WAITING_REST_MS - (PLANTED(task_rests_alone) ? 0 : en->now.mono_ms % WAITING_REST_MS); /* tasks of a group look together, who got nothing first */
        if (waiting >= WAITING_MAX)
            return 0;
        may = WAITING_MAX - waiting < may ? WAITING_MAX - waiting : may;
    }
    if (t->row.rate_milli == 0 || PLANTED(task_pace_ignored))
        return may;
    credit_grow(en, t);
    *rest_ms = t->credit < MESSAGE_CREDIT ? (MESSAGE_CREDIT - t->credit + t->row.rate_milli - 1) / t->row.rate_milli : 0;
    *rest_ms = *rest_ms > RATE_STEP_MS ? *rest_ms : RATE_STEP_MS;
    return t->credit / MESSAGE_CREDIT < may ? t->credit / MESSAGE_CREDIT : may;
}

/* ---------------------------------------------------------------- what is done to a message */

static void stand_at(struct task *t, uint32_t partition, uint64_t offset)
{
    t->row.has_at = true;
    t->row.at_partition = partition;
    t->row.at_offset = offset;
}

/* What was parked when the task began; of a replay of what failed, also what waits for another try. */
static bool meant(const struct engine *en, const struct task *t, const struct held_row *row)
{
    bool failed = t->row.act == TASK_REPLAY && t->row.replay.source == REPLAY_FAILED && row->state == HELD_RETRYING && row->failures > 0 &&
                  !away_purged(map_get(&en->groups, t->row.replay.of), row);
    return (row->state == HELD_PARKED || failed) && (row->at_ms <= t->row.started_ms || PLANTED(task_takes_newer));
}

void task_count(struct task *t)
{
    t->row.changed += 1 + PLANTED(replay_counts_twice);
    t->credit -= t->row.rate_milli != 0 ? MESSAGE_CREDIT : 0;
}

/* Whose held messages it goes through. */
static uint32_t walked_group(const struct task *t) { return t->row.act == TASK_REPLAY ? t->row.replay.of : t->group->id; }

static void apply(struct engine *en, struct task *t, uint32_t partition, uint64_t offset, const struct held_row *row, struct view copy)
{
    if (t->row.act == TASK_REPLAY) {
        replay_message(en, t, partition, offset, row, copy);
        return;
    }
    struct group_part *p = group_part(t->group, table_get(&en->partitions, partition));
    t->row.matched++;
    if (!task_changes(t))
        return;
    task_count(t);
    if (t->row.act == TASK_DROP)
        entry_drop_parked(en, p, offset, row);
    else if (!entry_redrive(en, p, offset, row))
        t->row.changed--;
}

/* The places that readers looked at. Meanwhile a message may have been redriven or dropped by another: then it is not meant any more. */
static void apply_looked(struct engine *en, struct task *t, uint64_t may)
{
    struct match *m = t->looked;
    struct buf copy = {0};
    for (; t->looked_at < m->places_n && !task_limit_reached(t) && t->row.state == TASK_RUNNING; t->looked_at++) {
        const struct match_place *p = &m->places[t->looked_at];
        struct key k = key_held(walked_group(t), p->partition, p->offset);
        struct view value;
        struct held_row row;
        struct err e = {0};
        if (p->fits || p->gone) {
            if (may == 0)
                break;
            if (p->fits && p->size == 0 && replay_wants_copy(en, t, p->partition, p->offset)) { /* asked again from where it stands */
                match_free(m);
                t->looked = NULL;
                break;
            }
            if (row_read(en, FAM_HELD, &k, &value)) {
                buf_clear(&copy);
                buf_append(&copy, value.data, value.size);
                if (held_row_get(buf_view(&copy), &row, &e) != E_OK) {
                    row_bad(FAM_HELD, key_view(&k), &e);
                    task_fail(en, t, &e);
                    break;
                }
                if (p->fits && meant(en, t, &row)) {
                    apply(en, t, p->partition, p->offset, &row, view_of(m->bytes.data + p->at, p->size));
                    may--;
                } else if (t->row.act == TASK_REPLAY && p->gone && meant(en, t, &row)) {
                    t->row.replay.lost++;
                }
            }
        }
        t->row.seen += p->skipped + 1;
        stand_at(t, p->partition, p->offset);
    }
    buf_free(&copy);
    if (t->row.state == TASK_RUNNING && t->looked != NULL && t->looked_at == m->places_n && !task_limit_reached(t)) {
        t->row.seen += t->trailing;
        stand_at(t, t->end_partition, t->end_offset);
        match_free(m);
        t->looked = NULL;
    }
}

/* ---------------------------------------------------------------- a step */

/* A row as this turn knows it: the iterator does not see what the turn changed. */
static bool row_now(const struct engine *en, const struct key *k, struct view *value)
{
    return puts_find(&en->fx.puts, FAM_HELD, key_view(k), value) != PUTS_REMOVED;
}

static void ask(struct engine *en, struct task *t, struct match *m)
{
    m->task = t->id;
    m->group = PLANTED(match_other_group) ? t->group->id : walked_group(t);
    m->filter = t->row.filter;
    m->hold = t->text != NULL ? ref_take(t->text) : NULL;
    m->from_ms = t->row.replay.from_ms;
    m->to_ms = t->row.replay.to_ms;
    buf_append(&en->matches, &m, sizeof(struct match *));
    t->looking = true;
}

/* A replay asks more: where the message is, and when it was appended, which its row does not know; and for the bytes of what the log does not have. */
static enum filter_says says_of(const struct engine *en, const struct task *t, uint32_t partition, uint64_t offset, const struct held_row *row)
{
    enum filter_says says = filter_row(t->row.has_filter ? &t->row.filter : NULL, partition, offset, row);
    if (t->row.act != TASK_REPLAY || says == FILTER_NO)
        return says;
    bool timed = t->row.replay.from_ms != 0 || t->row.replay.to_ms != 0;
    return !replay_in_range(t, partition, offset) ? FILTER_NO : timed || replay_wants_copy(en, t, partition, offset) ? FILTER_BYTES : says;
}

/* Looks at rows behind the task's place. True: there are none any more. */
static bool walk(struct engine *en, struct task *t, uint64_t may)
{
    struct key prefix = key_group_prefix(walked_group(t)), from = prefix;
    struct match *m = NULL;
    struct buf copy = {0};
    struct err e = {0};
    bool end = false;
    if (t->row.has_at) {
        from = key_held(walked_group(t), t->row.at_partition, t->row.at_offset);
        from = key_after(&from);
    }
    t->trailing = 0;
    struct store_iter *it = store_iter(en->store, FAM_HELD);
    store_iter_seek(it, key_view(&from));
    for (int i = 0; i < TASK_STEP_ROWS && !task_limit_reached(t); i++, store_iter_next(it)) {
        uint32_t group, partition;
        uint64_t offset;
        struct held_row row;
        if (!store_iter_valid(it) || !key_has_prefix(store_iter_key(it), &prefix)) {
            end = store_iter_status(it, &e) == E_OK;
            break;
        }
        if (!key_read_held(store_iter_key(it), &group, &partition, &offset) || group_part_of(en, t->group, partition) == NULL) {
            err_set(&e, E_DAMAGED, "it names no partition of topic '%s'", t->group->topic->name);
            row_bad(FAM_HELD, store_iter_key(it), &e);
            break;
        }
        struct key k = key_held(group, partition, offset);
        struct view value = store_iter_value(it);
        enum filter_says says = FILTER_NO;
        bool there = row_now(en, &k, &value);
        if (there) {
            buf_clear(&copy); /* what is done to it may move the bytes of this turn's puts */
            buf_append(&copy, value.data, value.size);
            if (held_row_get(buf_view(&copy), &row, &e) != E_OK) {
                row_bad(FAM_HELD, key_view(&k), &e);
                break;
            }
            there = meant(en, t, &row);
            says = there ? says_of(en, t, partition, offset, &row) : FILTER_NO;
        }
        if (says == FILTER_YES && m != NULL)
            says = FILTER_BYTES; /* behind one that is asked of readers: messages of a key come in their order */
        if (says == FILTER_YES) {
            if (may == 0)
                break;
            may--;
            apply(en, t, partition, offset, &row, (struct view){0});
        } else if (says == FILTER_BYTES) {
            if (m == NULL)
                m = mem_zalloc(sizeof *m + TASK_STEP_ROWS * sizeof m->places[0]);
            m->places[m->places_n++] = (struct match_place){.partition = partition, .offset = offset, .skipped = t->trailing,
                                                              .wants_copy = replay_wants_copy(en, t, partition, offset)};
            t->trailing = 0;
        }
        if (m == NULL) {
            t->row.seen += there;
            stand_at(t, partition, offset);
        } else {
            t->trailing += there && says == FILTER_NO;
        }
        t->end_partition = partition;
        t->end_offset = offset;
    }
    store_iter_close(it);
    buf_free(&copy);
    if (e.code != E_OK) {
        match_free(m);
        task_fail(en, t, &e);
        return false;
    }
    if (m != NULL)
        ask(en, t, m);
    return end && m == NULL;
}

static bool turn_is_full(struct engine *en)
{
    if (en->tasks_turn != en->turn)
        en->tasks_stepped = 0;
    en->tasks_turn = en->turn;
    return en->tasks_stepped++ >= STEPS_MAX;
}

static void step(struct engine *en, struct task *t)
{
    if (t->looking)
        return;
    uint64_t rest_ms = 1, may = allowance(en, t, &rest_ms);
    if (may > 0 && turn_is_full(en))
        may = 0;
    if (en->stopping || may == 0) {
        arm(en, t, en->stopping ? REST_MS : rest_ms);
        return;
    }
    bool end = false;
    if (t->row.act == TASK_REPLAY && map_get(&en->groups, t->row.replay.of) == NULL) {
        task_fail(en, t, &(struct err){.code = E_GROUP_NOT_FOUND, .text = "the group whose messages are replayed was deleted"});
        return;
    }
    if (replays_log(&t->row))
        end = replay_step(en, t, may);
    else if (t->looked != NULL)
        apply_looked(en, t, may);
    else
        end = walk(en, t, may);
    changed(en, t);
    if (t->row.state == TASK_RUNNING && (end || task_limit_reached(t)))
        task_end(en, t, TASK_DONE);
    else if (t->row.state == TASK_RUNNING && !t->looking)
        arm(en, t, 1);
}

static void step_fire(struct engine *en, struct timer *timer) { step(en, container_of(timer, struct task, timer)); }

static struct task *task_find(const struct engine *en, uint64_t id)
{
    LIST_EACH (n, &en->tasks)
        if (task_of(n)->id == id)
            return task_of(n);
    return NULL;
}

void engine_matched(struct engine *en, struct match *m)
{
    struct task *t = task_find(en, m->task);
    if (t == NULL || t->row.state != TASK_RUNNING) {
        match_free(m);
        return;
    }
    t->looking = false;
    if (m->code != E_OK) { /* asked again from where it stands */
        match_free(m);
        arm(en, t, 10 * REST_MS);
        return;
    }
    t->looked = m;
    t->looked_at = 0;
    step(en, t);
}

void engine_picked(struct engine *en, struct pick *p)
{
    struct task *t = task_find(en, p->task);
    if (t == NULL || t->row.state != TASK_RUNNING) {
        pick_free(p);
        return;
    }
    t->looking = false;
    if (p->code != E_OK) { /* asked again from where it stands */
        pick_free(p);
        arm(en, t, 10 * REST_MS);
        return;
    }
    t->picked = p;
    t->looked_at = 0;
    step(en, t);
}

/* ---------------------------------------------------------------- requests */

static void describe(const struct engine *en, struct op *op, const struct task *t, struct wire_task_row *out)
{
    *out = (struct wire_task_row){.id = t->id, .seen = t->row.seen, .matched = t->row.matched, .changed = t->row.changed,
                                  .started_ms = t->row.started_ms, .ended_ms = t->row.ended_ms, .topic = op_text(op, t->group->topic->name),
                                  .group = op_text(op, t->group->name), .error = op_text(op, t->error.text), .act = t->row.act,
                                  .state = t->row.state, .dry_run = t->row.dry_run, .rate_milli = t->row.rate_milli};
    if (t->row.act != TASK_REPLAY)
        return;
    const struct group *of = map_get(&en->groups, t->row.replay.of);
    out->source = t->row.replay.source;
    out->left = t->row.replay.left;
    out->lost = t->row.replay.lost;
    out->of = of != NULL ? op_text(op, of->name) : (struct view){0};
}

static void answer_task(struct engine *en, struct op *op, const struct task *t)
{
    struct wire_task_row *one = op_take(en, op, 1, sizeof *one);
    describe(en, op, t, one);
    op->reply.body = BODY_TASKS;
    op->reply.tasks = (struct wire_task_reply){.tasks = one, .tasks_n = 1};
    answer_change(en, op, DURABILITY_DISK);
}

void held_change(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    const struct wire_held_change *w = &op->request.held_change;
    struct group *g = group_find(en, op, w->topic, w->group);
    if (g == NULL || !group_is(en, op, g, MODE_QUEUE))
        return;
    if (en->tasks_running >= en->limits->tasks_max) {
        op->reply.retry_after_ms = 1000;
        answer(en, op, E_OVERLOADED, "%u tasks run, limit tasks_max = %llu", en->tasks_running, (unsigned long long)en->limits->tasks_max);
        return;
    }
    struct task_row row = {.act = w->act, .state = TASK_RUNNING, .dry_run = w->dry_run, .rate_milli = w->rate_milli, .limit = w->limit,
                           .started_ms = en->wall_ms, .has_filter = w->filter != NULL};
    if (w->filter != NULL)
        row.filter = *w->filter;
    if (w->act == TASK_REPLAY && (g = replay_begin(en, op, g, &row)) == NULL)
        return;
    struct task *t = task_add(en, g, en->next.task++, &row);
    if (replays_log(&row))
        replay_ends_set(en, t);
    t->credit = MESSAGE_CREDIT;
    en->counters.tasks++;
    changed(en, t);
    struct key k = key_meta_next();
    buf_clear(&en->row);
    next_row_put(&en->row, &en->next);
    row_put(en, FAM_META, &k);
    answer_task(en, op, t);
}

static void task_unknown(struct engine *en, struct op *op, uint64_t id)
{
    answer(en, op, E_TASK_NOT_FOUND, "%llu; the last %llu that ended are kept, those of deleted groups are not", (unsigned long long)id,
           (unsigned long long)en->limits->tasks_kept_max);
}

void task_list(struct engine *en, struct op *op)
{
    const struct wire_task *w = &op->request.task;
    if (w->id != 0 && task_find(en, w->id) == NULL) {
        task_unknown(en, op, w->id);
        return;
    }
    uint64_t limit = w->limit == 0 || w->limit > en->limits->page_max ? en->limits->page_max : w->limit;
    struct wire_task_row *rows = op_take(en, op, limit < en->tasks_n ? limit : en->tasks_n, sizeof *rows);
    uint32_t n = 0;
    bool more = false;
    LIST_EACH (node, &en->tasks) {
        const struct task *t = task_of(node);
        if (w->id != 0 ? t->id != w->id : t->id <= w->after)
            continue;
        if (n == limit) {
            more = true;
            break;
        }
        describe(en, op, t, &rows[n++]);
    }
    op->reply.body = BODY_TASKS;
    op->reply.tasks = (struct wire_task_reply){.tasks = rows, .tasks_n = n, .more = more};
    answer_now(en, op);
}

void task_cancel(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    struct task *t = task_find(en, op->request.task.id);
    if (t == NULL) {
        task_unknown(en, op, op->request.task.id);
        return;
    }
    if (t->row.state == TASK_RUNNING)
        task_end(en, t, TASK_CANCELLED);
    answer_task(en, op, t); /* one that has ended stays as it is, and says so */
}

/* ---------------------------------------------------------------- for the digest */

uint64_t task_digest(const struct engine *en, uint64_t (*mix)(uint64_t, uint64_t))
{
    uint64_t h = en->next.task;
    LIST_EACH (n, &en->tasks) {
        const struct task *t = task_of(n);
        const struct task_row *r = &t->row;
        h = mix(mix(mix(mix(h, t->id), t->group->id), r->act), r->state);
        h = mix(mix(mix(mix(mix(h, r->has_at), r->at_partition), r->at_offset), r->seen), r->matched);
        h = mix(mix(mix(mix(h, r->changed), r->started_ms), r->ended_ms), r->limit);
        const struct replay_row *p = &r->replay;
        h = mix(mix(mix(mix(mix(h, p->source), p->of), p->into), p->left), p->lost);
        h = mix(mix(mix(mix(mix(h, p->from_offset), p->to_offset), p->from_ms), p->to_ms), p->has_partition ? p->partition : UINT64_MAX);
        for (uint32_t i = 0; i < t->ends_n && r->state == TASK_RUNNING; i++)
            h = mix(h, t->ends[i]);
    }
    return h;
}

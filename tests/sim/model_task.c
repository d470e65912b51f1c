/* Dead letters are redriven and dropped, messages replayed by tasks, those that a task means and no others: see model.h. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model.h"

static struct task_view *task_find(struct model *o, uint64_t id)
{
    for (size_t i = 0; i < o->tasks_n; i++)
        if (o->tasks[i].id == id)
            return &o->tasks[i];
    return NULL;
}

static int key_number(struct view key)
{
    for (int k = 0; k < KEYS; k++)
        if (view_eq(key, key_name(k)))
            return k;
    return NONE;
}

static struct dlq_filter filter_of(const struct task_row *r)
{
    static const char *reasons[] = {"parked", "max_deliveries", "lease expired", "grants", "expired"};
    struct dlq_filter f = {.any = !r->has_filter, .key = NONE, .header = NONE};
    if (r->has_filter && r->filter.has_key)
        f.key = key_number(r->filter.key);
    if (r->has_filter && r->filter.has_header_value)
        f.header = r->filter.header_value.data[0] - '0';
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (r->has_filter && view_eq(r->filter.reason, view_of_str(reasons[i])))
            f.reason = reasons[i];
    f.attempts_min = r->has_filter ? r->filter.attempts_min : 0;
    f.attempts_max = r->has_filter ? r->filter.attempts_max : 0;
    return f;
}

static bool fits(const struct dlq_filter *f, const struct message *m, const struct spot *parked)
{
    return f->any ||
           ((f->key == NONE || f->key == m->key) && (f->header == NONE || f->header == m->header) &&
            (f->reason == NULL || strncmp(f->reason, parked->reason, sizeof parked->reason - 1) == 0) &&
            parked->failures >= f->attempts_min &&
            (f->attempts_max == 0 || parked->failures <= f->attempts_max));
}

void model_task_row(struct world *w, struct view key, const struct view *value)
{
    struct model *o = w->model;
    uint32_t group_id;
    uint64_t id;
    struct task_row row;
    struct err e = {0};
    int group;
    if (!key_read_task(key, &group_id, &id))
        return;
    if ((group = model_group(w, group_id)) == NONE) {
        model_into_task(w, group_id, id, value);
        return;
    }
    struct task_view *t = task_find(o, id);
    if (value == NULL) {
        if (t == NULL || t->row.state == TASK_RUNNING)
            world_fail(w, "the row of task %llu was removed while it runs", (unsigned long long)id);
        else
            *t = o->tasks[--o->tasks_n];
        return;
    }
    if (task_row_get(*value, &row, &e) != E_OK) {
        world_fail(w, "a task's row does not read: %s", e.text);
        return;
    }
    if (t == NULL) {
        if (o->tasks_n == o->tasks_cap) {
            o->tasks_cap = o->tasks_cap > 0 ? 2 * o->tasks_cap : 16;
            o->tasks = mem_resize(o->tasks, o->tasks_cap, sizeof *o->tasks);
        }
        t = &o->tasks[o->tasks_n++];
        *t = (struct task_view){.id = id, .group = group, .row = row, .began_mono = turn_time(w, o->turn), .began_turn = o->turn};
        for (int i = 0; i < PARTITIONS; i++)
            t->surely[i] = o->rows[group][i].before;
    }
    for (int i = 0; i < PARTITIONS && o->turn == t->began_turn; i++) /* its cursor may be behind it in this list */
        t->scanned[i] = o->rows[group][i].cursor;
    model_task_take(w, t, &row);
}

void model_task_take(struct world *w, struct task_view *t, const struct task_row *to)
{
    struct task_row row = *to;
    uint64_t id = t->id;
    if (row.seen < t->row.seen || row.matched < t->row.matched || row.changed < t->row.changed ||
        row.matched > row.seen || row.changed > row.matched || (row.limit != 0 && row.matched > row.limit) ||
        (row.dry_run && row.changed > 0))
        world_fail(w, "task %llu: seen %llu matched %llu changed %llu of %llu", (unsigned long long)id,
                   (unsigned long long)row.seen, (unsigned long long)row.matched,
                   (unsigned long long)row.changed, (unsigned long long)row.limit);
    if (t->row.state != TASK_RUNNING && row.state == TASK_RUNNING)
        world_fail(w, "task %llu had ended and runs again", (unsigned long long)id);
    if (row.state != TASK_RUNNING && t->end_turn == 0)
        t->end_turn = w->model->turn;
    t->row = row;
    t->filter = filter_of(&row);
    t->row.filter = (struct wire_held_filter){0};
    t->row.error = (struct view){0};
}

void model_task_told(struct world *w, uint64_t id, uint8_t act)
{
    struct task_view *t = task_find(w->model, id);
    if (model_into_told(w, id))
        return;
    if (t == NULL || (act != 0 && t->row.act != act))
        world_fail(w, "task %llu was answered and has no row", (unsigned long long)id);
    else
        t->told = true;
}

/* ---------------------------------------------------------------- what a replay means */

static bool in_range(const struct world *w, const struct task_view *t, const struct message *m)
{
    const struct replay_row *r = &t->row.replay;
    return (!r->has_partition || r->partition == w->model->parts[m->part].id) && (uint64_t)m->offset >= r->from_offset &&
           (r->to_offset == 0 || (uint64_t)m->offset < r->to_offset) && m->append_ms >= r->from_ms &&
           (r->to_ms == 0 || m->append_ms < r->to_ms);
}

/* `before`: as it was before this list. */
static bool replay_means(const struct world *w, const struct task_view *t, const struct message *m, bool before, const uint64_t *ends)
{
    static const struct spot none;
    if (!in_range(w, t, m))
        return false;
    if (t->row.replay.source == REPLAY_LOG)
        return (uint64_t)m->offset < ends[m->part % PARTITIONS] && fits(&t->filter, m, &none);
    const struct group_view *g = model_view((struct message *)m, model_group(w, t->row.replay.of));
    const struct spot *s = before && g->touched ? &g->was : &g->is;
    bool failed = t->row.replay.source == REPLAY_FAILED && s->held == HELD_RETRYING && s->failures > 0;
    return (s->held == HELD_PARKED || failed) && s->held_ms <= t->row.started_ms && fits(&t->filter, m, s);
}

static bool is_running(const struct world *w, const struct task_view *t)
{
    return !t->row.dry_run && (t->row.state == TASK_RUNNING || t->end_turn == w->model->turn);
}

/* What it cannot but bring: the log still has it, after what this list removes. What was held in the millisecond in which it began, which
 * lasts while the wall clock is behind, may have been held later. */
static bool must_replay(const struct world *w, const struct task_view *t, const struct message *m)
{
    const struct part_view *p = &w->model->parts[m->part];
    if (t->row.replay.source != REPLAY_LOG &&
        model_view((struct message *)m, model_group(w, t->row.replay.of))->is.held_ms >= t->row.started_ms)
        return false;
    if (!replay_means(w, t, m, false, t->surely))
        return false;
    return t->row.replay.source != REPLAY_LOG /* who holds it has a copy */ ||
           (!m->compacted && (size_t)m->offset >= p->start && (size_t)m->offset >= p->trim_to);
}

bool model_must_bring(const struct world *w, const struct task_view *t, const struct message *m) { return must_replay(w, t, m); }
bool model_may_bring(const struct world *w, const struct task_view *t, const struct message *m) { return replay_means(w, t, m, true, t->scanned); }

static bool may_replay(const struct world *w, const struct task_view *t, int group, const struct message *m)
{
    return t->group == group && t->row.act == TASK_REPLAY && is_running(w, t) && replay_means(w, t, m, true, t->scanned);
}

static bool may_mean(const struct world *w, const struct task_view *t, int group, const struct message *m,
                     const struct spot *parked, uint8_t act)
{
    if (act == TASK_REDRIVE && may_replay(w, t, group, m))
        return true;
    return t->group == group && t->row.act == act && is_running(w, t) && parked->held_ms <= t->row.started_ms &&
           fits(&t->filter, m, parked);
}

static void count_changed(struct world *w, struct task_view *t)
{
    uint64_t passed = w->now.mono_ms - t->began_mono;
    t->changed++;
    if (t->row.rate_milli != 0 && t->changed * 1000000 > t->row.rate_milli * passed + 2000000)
        world_fail(w, "task %llu changed %llu messages in %llu ms at a rate of %u in 1,000 s",
                   (unsigned long long)t->id, (unsigned long long)t->changed, (unsigned long long)passed,
                   t->row.rate_milli);
}

/* What was of before does not count any more. */
static void present_again(struct world *w, struct group_view *g, const struct task_view *by)
{
    g->redriven_turn = w->model->turn;
    g->perhaps_present = false;
    g->replayed_by = by->row.act == TASK_REPLAY ? by->id : 0;
    uint64_t before = g->is.token != 0 ? g->is.token - 1 : w->model->token_last; /* a client may have one from before a power cut */
    g->replayed_token = g->token > g->was.token ? g->token : g->was.token;
    if (before > g->replayed_token)
        g->replayed_token = before;
    g->failures = g->grants = 0;
    g->until = g->lease_end = g->not_before = 0;
}

void model_unparked(struct world *w, int group, struct message *m)
{
    struct model *o = w->model;
    struct group_view *g = model_view(m, group);
    bool redriven = g->is.held == HELD_RETRYING || g->is.token != 0;
    struct task_view *by = NULL;
    int candidates = 0;
    for (size_t i = 0; i < o->tasks_n; i++)
        if (may_mean(w, &o->tasks[i], group, m, &g->was, redriven ? TASK_REDRIVE : TASK_DROP)) {
            by = &o->tasks[i];
            by->unsure |= ++candidates > 1;
        }
    if (by == NULL) {
        world_fail(w, "message %llu was parked in group %d and is %s, and no task did it",
                   (unsigned long long)m->id, group, redriven ? "present" : "gone");
        return;
    }
    for (size_t i = 0; i < o->tasks_n && candidates > 1; i++)
        o->tasks[i].unsure |=
            may_mean(w, &o->tasks[i], group, m, &g->was, redriven ? TASK_REDRIVE : TASK_DROP);
    count_changed(w, by);
    if (redriven && g->is.failures != 0)
        world_fail(w, "message %llu was redriven in group %d with %u failures", (unsigned long long)m->id,
                   group, g->is.failures);
    g->park_known = true;
    g->parked_by_client = false;
    g->redriven = redriven;
    g->dropped = !redriven;
    present_again(w, g, by);
    w->totals->redriven += redriven;
    w->totals->dropped += !redriven;
    w->totals->replayed_parked += by->row.act == TASK_REPLAY;
}

void model_replayed(struct world *w, int group, struct message *m)
{
    struct model *o = w->model;
    struct group_view *g = model_view(m, group);
    struct task_view *by = NULL;
    int candidates = 0;
    for (size_t i = 0; i < o->tasks_n; i++)
        if (may_replay(w, &o->tasks[i], group, m)) {
            by = &o->tasks[i];
            by->unsure |= ++candidates > 1;
        }
    if (by == NULL) {
        world_fail(w, "message %llu was done in group %d and is present, and no replay did it", (unsigned long long)m->id, group);
        return;
    }
    for (size_t i = 0; i < o->tasks_n && candidates > 1; i++)
        o->tasks[i].unsure |= may_replay(w, &o->tasks[i], group, m);
    count_changed(w, by);
    if (g->is.failures != 0 || (g->is.token == 0 && g->is.grants != 0))
        world_fail(w, "message %llu was replayed in group %d with %u failures, %u grants", (unsigned long long)m->id, group,
                   g->is.failures, g->is.grants);
    g->redriven = true;
    g->acked = g->dropped = g->given_back = false;
    present_again(w, g, by);
    w->totals->replayed++;
    w->totals->replayed_failed += by->row.replay.source != REPLAY_LOG;
}

bool model_perhaps_replayed(struct world *w, int group, struct message *m)
{
    struct group_view *g = model_view(m, group);
    const struct task_view *by = NULL;
    for (size_t i = 0; i < w->model->tasks_n; i++)
        if (may_replay(w, &w->model->tasks[i], group, m)) {
            w->model->tasks[i].unsure = true;
            by = &w->model->tasks[i];
        }
    if (by == NULL || (!done_has_reason(w, group, m) && !park_may_have_reason(w, group, m)))
        return false;
    g->redriven = true;
    g->acked = g->dropped = false;
    present_again(w, g, by);
    g->perhaps_present = true;
    return true;
}

void model_replay_order(struct world *w, int group, const struct message *m)
{
    struct model *o = w->model;
    const struct task_view *t = task_find(o, model_view((struct message *)m, group)->replayed_by);
    const struct part_view *p = &o->parts[m->part];
    for (int64_t at = 0; t != NULL && at < m->offset; at++) {
        struct message *other = &o->messages[p->log[at]];
        const struct group_view *g = model_view(other, group);
        bool absent = spot_absent(&g->is) && (!g->touched || spot_absent(&g->was)); /* not only since this list */
        if (other->key == m->key && absent && g->absent_turn < t->began_turn && is_running(w, t) && t->row.limit == 0 &&
            must_replay(w, t, other))
            world_fail(w, "message %llu of key %d came before %llu, by the same replay %llu of group %d", (unsigned long long)m->id, m->key,
                       (unsigned long long)other->id, (unsigned long long)t->id, group);
    }
}

/* What a task meant when it began, and it is parked still. */
static void left_check(struct world *w, const struct task_view *t)
{
    for (size_t i = 0; i < w->model->messages_n; i++) {
        struct message *m = &w->model->messages[i];
        const struct spot *s = &model_view(m, t->group)->is;
        const struct group_view *g = model_view(m, t->group);
        if (t->row.act == TASK_REPLAY) {
            if (m->offset >= 0 && m->topic == t->group / GROUPS_PER_TOPIC && spot_absent(s) && g->absent_turn < t->began_turn &&
                must_replay(w, t, m))
                world_fail(w, "replay %llu is done, and message %llu is absent in group %d", (unsigned long long)t->id,
                           (unsigned long long)m->id, t->group);
            continue;
        }
        if (m->offset >= 0 && m->topic == t->group / GROUPS_PER_TOPIC && s->held == HELD_PARKED &&
            s->held_ms < t->row.started_ms && fits(&t->filter, m, s))
            world_fail(w, "task %llu is done, and left message %llu of group %d as it was",
                       (unsigned long long)t->id, (unsigned long long)m->id, t->group);
    }
}

void model_tasks_check(struct world *w)
{
    for (size_t i = 0; i < w->model->tasks_n && !w->failed; i++) {
        const struct task_view *t = &w->model->tasks[i];
        if (t->end_turn != w->model->turn || t->row.state == TASK_RUNNING)
            continue;
        if (!t->unsure && t->row.changed != t->changed)
            world_fail(w, "task %llu changed %llu messages, and says %llu", (unsigned long long)t->id,
                       (unsigned long long)t->changed, (unsigned long long)t->row.changed);
        if (t->row.state == TASK_DONE && !t->row.dry_run && t->row.limit == 0)
            left_check(w, t);
        if (t->row.state == TASK_FAILED)
            world_fail(w, "task %llu failed", (unsigned long long)t->id);
        w->totals->tasks += t->row.state == TASK_DONE;
        w->totals->replays += t->row.state == TASK_DONE && t->row.act == TASK_REPLAY;
    }
}

bool model_tasks_idle(const struct world *w)
{
    for (size_t i = 0; i < w->model->tasks_n; i++)
        if (w->model->tasks[i].row.state == TASK_RUNNING)
            return false;
    return model_intos_idle(w);
}

/* Those that nobody was told of may be gone; the others go on from where their rows say. */
void model_tasks_cut(struct world *w)
{
    struct model *o = w->model;
    for (size_t i = 0; i < o->tasks_n; i++) {
        o->tasks[i].unsure = true;
        o->tasks[i].row.seen = o->tasks[i].row.matched = o->tasks[i].row.changed = 0;
        o->tasks[i].row.state = TASK_RUNNING;
        o->tasks[i].end_turn = 0;
    }
}

void model_tasks_again(struct world *w)
{
    struct model *o = w->model;
    for (size_t i = 0; i < o->tasks_n;) {
        struct task_view *t = &o->tasks[i];
        struct key k = key_task(o->group_ids[t->group], t->id);
        struct buf row = {0};
        struct err e = {0};
        bool found = false;
        if (store_get(w->mem, FAM_GROUPS, key_view(&k), &row, &found, &e) != E_OK)
            world_fail(w, "a task's row does not read: %s", e.text);
        buf_free(&row);
        if (!found && t->told)
            world_fail(w, "task %llu was answered, and is gone after the crash", (unsigned long long)t->id);
        if (found)
            i++;
        else
            *t = o->tasks[--o->tasks_n];
    }
}

void model_tasks_list(struct world *w)
{
    struct model *o = w->model;
    uint64_t turn = o->turn;
    struct op *op = world_ask(w, &(struct wire_request){.verb = VERB_TASK_LIST});
    if (op == NULL)
        return;
    if (!world_all_written(w)) /* it may speak of what is not written */
        turn = UINT64_MAX;
    if (turn == o->turn && op->reply.tasks.tasks_n != o->tasks_n + model_intos_there(o))
        world_fail(w, "%u tasks are listed, and there are %zu", op->reply.tasks.tasks_n, o->tasks_n + model_intos_there(o));
    for (uint32_t i = 0; i < op->reply.tasks.tasks_n && turn == o->turn && !w->failed; i++) {
        const struct wire_task_row *row = &op->reply.tasks.tasks[i];
        const struct task_view *t = task_find(o, row->id);
        if (t == NULL && model_into_listed(w, row))
            continue;
        if (t == NULL || t->row.state != row->state || t->row.changed != row->changed ||
            t->row.matched != row->matched || t->row.seen != row->seen)
            world_fail(w, "task %llu is listed otherwise than its row says", (unsigned long long)row->id);
    }
    world_answered(op);
}

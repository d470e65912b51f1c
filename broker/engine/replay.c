/* Replay: messages that are absent in a group - done, or parked - are present again at their old offsets, without a copy of the log.
 *
 *     source: the log ── pick (a reader, outside): the next that fit, in order of (partition, offset) ─┐
 *             parked, failed of a group ── the walk of task.c over its rows ──────────────────────────┴─> present again, or left
 *
 * It is a task (task.c): paced, resting while many wait, with its place in its row. A replay of the log ends where each partition was scanned
 * when it began: what was not looked at by then comes anyway, and what is done after it began behind that place is not meant. What
 * is present already, in whatever state, is left as it is, and counted.
 *
 * A group that is made by a replay begins with everything done, so the same walk fills it. If it goes on with what is produced from then on,
 * it reads nothing of that before the replay ended, or a key could go on before what is older was brought.
 */
#include "engine/task.h"

void pick_free(struct pick *p)
{
    if (p == NULL)
        return;
    ref_drop(p->hold);
    mem_free(p);
}

/* ---------------------------------------------------------------- one message */

enum presence { PRESENT, ABSENT_DONE, ABSENT_PARKED };

/* A held row says more than an entry: what is away has nothing else. */
static enum presence presence_of(struct engine *en, struct group_part *p, uint64_t offset, struct held_row *row)
{
    const struct group *g = p->group;
    const struct entry *e = map_get(&p->entries, offset);
    if (e != NULL && e->state != ENTRY_BLOCKED)
        return PRESENT;
    if ((p->parked > 0 || g->redriven > 0) && held_read(en, g, p->partition->id, offset, row) && !away_purged(g, row))
        return row->state == HELD_PARKED ? ABSENT_PARKED : PRESENT;
    return e == NULL && done_has(&p->done, offset) ? ABSENT_DONE : PRESENT;
}

bool replay_in_range(const struct task *t, uint32_t partition, uint64_t offset)
{
    const struct replay_row *r = &t->row.replay;
    return (!r->has_partition || r->partition == partition) && offset >= r->from_offset && (r->to_offset == 0 || offset < r->to_offset);
}

/* Everything is absent in a group that is not there. */
static bool would_make_group(const struct task *t) { return t->row.replay.into && t->row.dry_run; }

static bool log_has(const struct engine *en, uint32_t partition, uint64_t offset)
{
    return offset >= ((const struct partition *)table_get(&en->partitions, partition))->row.start;
}

bool replay_wants_copy(const struct engine *en, const struct task *t, uint32_t partition, uint64_t offset)
{
    return t->row.act == TASK_REPLAY && (t->row.replay.of != t->group->id || would_make_group(t)) && !log_has(en, partition, offset);
}

bool replay_message(struct engine *en, struct task *t, uint32_t partition, uint64_t offset, const struct held_row *what, struct view copy)
{
    struct group_part *p = group_part(t->group, table_get(&en->partitions, partition));
    struct held_row parked;
    enum presence is = would_make_group(t) ? ABSENT_DONE : presence_of(en, p, offset, &parked);
    if (is == PRESENT) {
        t->row.replay.left += !PLANTED(replay_left_uncounted);
        return false;
    }
    bool copied = is == ABSENT_DONE && !log_has(en, partition, offset); /* a dead letter has a copy of its own */
    if (copied && copy.size == 0) {
        t->row.replay.lost++;
        return false;
    }
    t->row.matched++;
    if (!task_changes(t))
        return true;
    task_count(t);
    if (is == ABSENT_PARKED)
        entry_redrive(en, p, offset, &parked);
    else
        entry_replay(en, p, offset, what);
    if (copied && !PLANTED(replay_copy_forgotten))
        copy_bring(en, p, offset, copy);
    return true;
}

/* ---------------------------------------------------------------- over the log */

static void apply_picked(struct engine *en, struct task *t, uint64_t may)
{
    struct pick *m = t->picked;
    uint64_t start = ((const struct partition *)table_get(&en->partitions, m->partition))->row.start; /* retention may have been here meanwhile */
    for (; t->looked_at < m->messages_n && may > 0 && !task_limit_reached(t); t->looked_at++) {
        const struct picked *x = &m->messages[PLANTED(replay_backwards) ? m->messages_n - 1 - t->looked_at : t->looked_at];
        const struct held_row what = {.has_key = x->has_key, .key_hash = x->key_hash, .size = x->size, .priority = x->priority};
        if (x->offset < start)
            t->row.replay.lost++;
        else
            may -= replay_message(en, t, m->partition, x->offset, &what, (struct view){0});
        t->row.seen += x->skipped + 1;
        t->row.at_offset = x->offset + 1;
    }
    if (PLANTED(replay_skips_at_bound) && t->looked_at < m->messages_n)
        t->row.at_offset = m->messages[t->looked_at++].offset + 1;
    if (t->looked_at < m->messages_n || task_limit_reached(t))
        return;
    t->row.seen += m->trailing;
    t->row.replay.lost += m->lost;
    t->row.at_offset = m->next;
    t->picked = NULL;
    pick_free(m);
}

/* Asks for what comes next; false: nothing does. What retention took before the replay came to it is lost, if it was asked for. */
static bool ask(struct engine *en, struct task *t)
{
    struct task_row *r = &t->row;
    for (; r->at_partition < t->ends_n; r->at_partition++, r->at_offset = r->replay.from_offset) {
        const struct partition *p = t->group->topic->partitions[r->at_partition];
        uint64_t end = PLANTED(replay_end_forgotten) ? t->group->parts[r->at_partition]->scanned : t->ends[r->at_partition];
        bool first = r->at_offset == r->replay.from_offset;
        if (r->at_offset < end && r->at_offset < p->row.start) {
            uint64_t to = p->row.start < end ? p->row.start : end;
            if (!first || r->replay.has_from)
                r->replay.lost += to - r->at_offset;
            r->at_offset = to;
        }
        if (r->at_offset >= end)
            continue;
        struct pick *m = mem_zalloc(sizeof *m + TASK_STEP_ROWS * sizeof m->messages[0]);
        m->task = t->id;
        m->filter = r->filter;
        m->hold = t->text != NULL ? ref_take(t->text) : NULL;
        m->from_ms = r->replay.from_ms;
        m->to_ms = PLANTED(replay_time_ignored) ? 0 : r->replay.to_ms;
        m->partition = p->id;
        m->seek = first && m->from_ms != 0;
        m->from = r->at_offset;
        m->end = end;
        m->messages_max = TASK_STEP_ROWS;
        buf_append(&en->picks, &m, sizeof(struct pick *));
        t->looking = true;
        return true;
    }
    return false;
}

bool replay_step(struct engine *en, struct task *t, uint64_t may)
{
    if (t->picked != NULL)
        apply_picked(en, t, may);
    return t->picked == NULL && !task_limit_reached(t) && !ask(en, t);
}

/* ---------------------------------------------------------------- where it ends */

void replay_ends_set(struct engine *en, struct task *t)
{
    const struct replay_row *r = &t->row.replay;
    const struct topic *topic = t->group->topic;
    t->ends_n = topic->config.partitions;
    t->ends = mem_array(t->ends_n, sizeof *t->ends);
    for (uint32_t i = 0; i < t->ends_n; i++) {
        uint64_t end = would_make_group(t) ? topic->partitions[i]->row.end : t->group->parts[i]->scanned;
        if (r->has_partition && topic->partitions[i]->id != r->partition)
            end = 0;
        t->ends[i] = r->to_offset != 0 && r->to_offset < end ? r->to_offset : end;
    }
    struct key k = key_task_ends(t->group->id, t->id);
    buf_clear(&en->row);
    task_ends_row_put(&en->row, t->ends, t->ends_n);
    row_put(en, FAM_GROUPS, &k);
}

int replay_ends_load(struct engine *en, struct task *t, struct err *e)
{
    struct key k = key_task_ends(t->group->id, t->id);
    struct view value;
    struct task_ends_row row;
    if (!row_read(en, FAM_GROUPS, &k, &value))
        return en->failed.code != E_OK ? err_set(e, en->failed.code, "%s", en->failed.text)
                                       : err_set(e, E_DAMAGED, "where replay %llu ends is gone", (unsigned long long)t->id);
    int code = task_ends_row_get(value, &row, e);
    if (code != E_OK)
        return code;
    if (row.n > t->group->topic->config.partitions)
        return err_set(e, E_DAMAGED, "replay %llu ends in %u partitions, its topic has %u", (unsigned long long)t->id, row.n,
                       t->group->topic->config.partitions);
    t->ends_n = row.n;
    t->ends = mem_array(row.n, sizeof *t->ends);
    for (uint32_t i = 0; i < row.n; i++)
        t->ends[i] = task_ends_next(&row.raw);
    return E_OK;
}

void replay_ends_remove(struct engine *en, const struct task *t)
{
    struct key k = key_task_ends(t->group->id, t->id);
    row_remove(en, FAM_GROUPS, &k);
}

/* ---------------------------------------------------------------- the request */

static struct group *into(struct engine *en, struct op *op, struct group *g)
{
    const struct wire_held_change *w = &op->request.held_change;
    for (size_t i = 0; i < g->topic->groups_n; i++)
        if (view_eq(w->into, view_of_str(g->topic->groups[i]->name))) {
            answer(en, op, E_EXISTS, "group '%.*s' of topic '%s'; replay into it with: sluice group replay %.*s --topic %s --of %s",
                   (int)w->into.size, (const char *)w->into.data, g->topic->name, (int)w->into.size, (const char *)w->into.data, g->topic->name,
                   g->name);
            return NULL;
        }
    if (w->dry_run)
        return g;
    struct wire_group_config config = g->config;
    config.from = w->follow ? FROM_END : FROM_REPLAY;
    return group_new(en, op, g->topic, w->into, &config);
}

struct group *replay_begin(struct engine *en, struct op *op, struct group *g, struct task_row *row)
{
    const struct wire_held_change *w = &op->request.held_change;
    const struct group *of = w->of.size > 0 ? group_find(en, op, w->topic, w->of) : g;
    if (of == NULL)
        return NULL;
    if (g->config.mode != MODE_QUEUE || of->config.mode != MODE_QUEUE) {
        answer(en, op, E_WRONG_MODE, "a replay is for groups of mode queue; move one of mode stream with: sluice group seek");
        return NULL;
    }
    const struct partition *p = w->has_partition ? table_get(&en->partitions, w->partition) : NULL;
    if (w->has_partition && (p == NULL || p->topic != g->topic)) {
        answer(en, op, E_PARTITION_NOT_FOUND, "id %u of topic '%s'", w->partition, g->topic->name);
        return NULL;
    }
    row->replay = (struct replay_row){.source = w->source, .into = w->into.size > 0, .has_partition = w->has_partition, .has_from = w->has_from,
                                      .of = of->id, .partition = w->partition, .from_offset = w->from_offset, .to_offset = w->to_offset,
                                      .from_ms = w->from_ms, .to_ms = w->to_ms};
    if (replays_log(row)) {
        row->has_at = true;
        row->at_offset = w->from_offset;
    }
    struct group *made = row->replay.into ? into(en, op, g) : g;
    return PLANTED(replay_into_source) && made != NULL ? g : made;
}

/* How far a stream group is: commits, seeks, and the row of each of its partitions.
 *
 *      start . . . . . . . committed . . . . . . . end
 *               done           |   not done
 *
 * What is committed only rises, but for a seek. At the topic's hard cap it is raised without anybody's having read so far: whoever has the
 * partition then, or gets it later, begins where the group was, below the start of the log, and so is told what is gone; until that is
 * committed, or what comes behind it. A restart takes it from the rows (why the log's beginning went, how many the group lost): it may begin earlier then.
 *
 * A commit names the generation under which its partition is owned; a seek gives the owner a
 * new one, so that what it was about to commit is refused, and it reads anew from where it was set.
 */
#include "engine/memory.h"
#include "base/planted.h"

#include <stdarg.h>

#include "schemas/records.h"

static struct claim *claim_of(const struct group_part *p) { return p->group->stream->claims[p->partition->index]; }

void commit_set(struct engine *en, struct group_part *p, uint64_t offset)
{
    done_all(&p->done, offset);
    p->cursor = p->scanned = offset;
    lag_scanned(p, offset == p->partition->row.end ? p->partition->row.end_bytes : UINT64_MAX);
    claim_of(p)->committed_ms = en->wall_ms;
    claim_of(p)->gap = 0;
    mark_dirty(&en->dirty_parts, &p->dirty);
    members_moved(en, p);
}

uint64_t commit_begin(const struct group_part *p) { return p->done.floor - claim_of(p)->gap; }

void commit_lost(struct engine *en, struct group_part *p, uint64_t to)
{
    uint64_t gap = to - commit_begin(p), when = claim_of(p)->committed_ms;
    commit_set(en, p, to);
    claim_of(p)->gap = PLANTED(loss_untold) ? 0 : gap;
    claim_of(p)->committed_ms = when; /* nobody committed it */
}

void commit_load_gap(struct group_part *p)
{
    const struct trims_row *t = p->partition->trims;
    uint32_t i = t != NULL ? t->n : 0;
    if (i == 0 || t->at[i - 1].why != GAP_HARD_CAP || t->at[i - 1].to != p->done.floor)
        return;
    while (i > 0 && t->at[i - 1].why == GAP_HARD_CAP)
        i--;
    uint64_t most = p->done.floor - (i > 0 ? t->at[i - 1].to : 0);
    claim_of(p)->gap = p->lost < most ? p->lost : most;
}

void commit_write(struct engine *en, struct group_part *p)
{
    const struct claim *c = claim_of(p);
    const struct member *kept = c->target != NULL && c->target->state == MEMBER_AWAY ? c->target : NULL;
    const struct member *m = c->owner != NULL ? c->owner : kept;
    struct claim_row row = {.committed = p->done.floor, .committed_ms = c->committed_ms, .generation = c->generation};
    if (m != NULL) {
        row.held = c->owner != NULL ? CLAIM_OWNED : CLAIM_KEPT;
        row.session = m->session_id;
        row.member = m->number;
    }
    struct key k = key_claim(p->group->id, p->partition->id);
    buf_clear(&en->row);
    claim_row_put(&en->row, &row);
    if (!PLANTED(commit_row_lost))
        row_put(en, FAM_GROUPS, &k);
    retention_floor_moved(en, p->partition);
    lost_write(en, p);
}

/* The part of a group that an item speaks of; NULL: its topic has no such partition. */
static struct group_part *part_of(struct engine *en, struct group *g, uint32_t partition)
{
    struct group_part *p = group_part_of(en, g, partition);
    return p != NULL && p->partition->index < g->stream->claims_n ? p : NULL;
}

static int commit_one(struct engine *en, struct group *g, const struct session *s, const struct wire_place *item)
{
    struct group_part *p = part_of(en, g, item->partition);
    if (p == NULL)
        return partition_missing(en, item->partition);
    struct claim *c = claim_of(p);
    if ((!claim_is_of(c, s) || c->generation != item->generation) && !PLANTED(commit_unfenced)) {
        en->counters.stale_commits++;
        return E_STALE_GENERATION;
    }
    if (item->offset > p->partition->row.end)
        return E_OFFSET_OUT_OF_RANGE;
    if (item->offset == p->done.floor)
        c->gap = 0; /* it was heard of */
    if (item->offset <= p->done.floor && !PLANTED(commit_goes_back))
        return E_OK;
    uint64_t n = item->offset - p->done.floor;
    en->counters.committed_messages += n;
    rate_count(&g->acks, en->now.mono_ms, n < UINT32_MAX ? (uint32_t)n : UINT32_MAX);
    commit_set(en, p, item->offset);
    return E_OK;
}

void commit_request(struct engine *en, struct op *op, struct session *s)
{
    const struct wire_group_commit *w = &op->request.commit;
    struct group *g = map_get(&en->groups, w->group);
    if (g == NULL) {
        answer(en, op, group_missing(en, w->group), "group id %u", w->group);
        return;
    }
    if (!group_is(en, op, g, MODE_STREAM))
        return;
    uint16_t *codes = op_take(en, op, w->items_n, sizeof *codes);
    bool all = true;
    for (uint32_t i = 0; i < w->items_n; i++) {
        codes[i] = (uint16_t)commit_one(en, g, s, &w->items[i]);
        all &= codes[i] == E_OK;
    }
    en->counters.commits++;
    group_used(en, g);
    op->reply.body = BODY_COMMIT;
    op->reply.commit = (struct wire_commit_reply){.codes = all ? NULL : codes, .codes_n = all ? 0 : w->items_n};
    answer_change(en, op, g->topic->config.durability);
}

/* ---------------------------------------------------------------- seeking */

static void seek_one(struct engine *en, struct group_part *p, uint64_t to)
{
    struct claim *c = claim_of(p);
    commit_set(en, p, to);
    if (c->owner == NULL)
        return;
    c->generation = claim_generation(en);
    claim_told(en, c);
}

static uint64_t within(const struct partition_row *row, uint64_t offset)
{
    return offset < row->start ? row->start : offset > row->end ? row->end : offset;
}

static uint64_t seek_place(const struct wire_group_seek *w, const struct group_part *p, const struct wire_place *item, const struct group *other)
{
    const struct partition_row *row = &p->partition->row;
    switch ((enum seek_to)w->to) {
    case SEEK_TO_START:
        return row->start;
    case SEEK_TO_END:
        return row->end;
    case SEEK_TO_OFFSETS:
        return within(row, item->offset);
    case SEEK_TO_GROUP:
        break;
    }
    return within(row, group_floor(other, p->partition->index));
}

static bool seek_items_known(struct engine *en, struct op *op, struct group *g)
{
    const struct wire_group_seek *w = &op->request.seek;
    for (uint32_t i = 0; i < w->items_n; i++)
        if (part_of(en, g, w->items[i].partition) == NULL) {
            partition_gone(en, op, w->items[i].partition);
            return false;
        }
    return true;
}

void commit_seek(struct engine *en, struct op *op, struct session *s)
{
    (void)s;
    const struct wire_group_seek *w = &op->request.seek;
    struct group *g = group_find(en, op, w->topic, w->group), *other = NULL;
    if (g == NULL || !group_is(en, op, g, MODE_STREAM) || !seek_items_known(en, op, g) ||
        (w->to == SEEK_TO_GROUP && (other = group_find(en, op, w->topic, w->other)) == NULL))
        return;
    uint32_t n = w->items_n > 0 ? w->items_n : g->stream->claims_n;
    struct wire_seek_row *rows = op_take(en, op, n, sizeof *rows);
    for (uint32_t i = 0; i < n; i++) {
        struct group_part *p = w->items_n > 0 ? part_of(en, g, w->items[i].partition) : g->parts[i];
        rows[i] = (struct wire_seek_row){.from = p->done.floor, .to = seek_place(w, p, w->items_n > 0 ? &w->items[i] : NULL, other),
                                         .partition = p->partition->id, .index = p->partition->index};
        if (!w->dry_run)
            seek_one(en, p, rows[i].to);
    }
    en->counters.seeks += !w->dry_run;
    group_used(en, g);
    op->reply.body = BODY_SEEK;
    op->reply.seek = (struct wire_seek_reply){.rows = rows, .rows_n = n};
    answer_change(en, op, DURABILITY_DISK);
}

uint64_t commit_purge(struct engine *en, struct group *g)
{
    uint64_t skipped = 0;
    for (uint32_t i = 0; i < g->stream->claims_n; i++) {
        skipped += g->parts[i]->partition->row.end - g->parts[i]->done.floor;
        seek_one(en, g->parts[i], g->parts[i]->partition->row.end);
    }
    en->counters.purged_messages += skipped;
    return skipped;
}

/* ---------------------------------------------------------------- why does it not come? */

#define N(x) (unsigned long long)(x)

static void say(struct op *op, enum explain_fact fact, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void say(struct op *op, enum explain_fact fact, const char *fmt, ...)
{
    struct err e = {0};
    va_list args;
    va_start(args, fmt);
    err_vset(&e, E_OK, fmt, args);
    va_end(args);
    op->reply.explain.fact = (uint8_t)fact;
    op->reply.explain.text = op_text(op, e.text);
}

/* Of what a partition has from its committed offset up to `to`. */
static void explain_part(struct op *op, const struct group_part *p, uint64_t to)
{
    struct wire_explain_reply *r = &op->reply.explain;
    const struct claim *c = claim_of(p);
    const char *name = c->owner != NULL ? c->owner->session != NULL ? c->owner->session->name : c->owner->name : "";
    r->partition = p->partition->id;
    r->depth = to - p->done.floor;
    r->session = op_text(op, name);
    if (c->owner == NULL)
        say(op, EXPLAIN_NO_RECEIVER, "nobody owns partition %u: %llu messages before it are not committed; members of the group: %u",
            p->partition->index, N(r->depth), p->group->stream->members_n);
    else
        say(op, EXPLAIN_BACKLOG, "partition %u is read by '%s', who committed up to offset %llu: %llu messages of it are before it%s",
            p->partition->index, name, N(p->done.floor), N(r->depth), c->revoked ? "; it is to give the partition up" : "");
}

static void explain_group(struct op *op, const struct group *g)
{
    uint64_t behind = 0;
    uint32_t orphans = 0;
    const struct stream *st = g->stream;
    for (uint32_t i = 0; i < st->claims_n; i++) {
        behind += g->parts[i]->partition->row.end - g->parts[i]->done.floor;
        orphans += st->claims[i]->owner == NULL;
    }
    op->reply.explain.depth = behind;
    if (behind == 0)
        say(op, EXPLAIN_EMPTY, "the group has committed up to the end of its topic");
    else if (orphans > 0)
        say(op, EXPLAIN_NO_RECEIVER, "%u of %u partitions have no owner; members of the group: %u; behind by %llu messages", orphans, st->claims_n,
            st->members_n, N(behind));
    else
        say(op, EXPLAIN_BACKLOG, "behind by %llu messages; every partition has an owner, members of the group: %u", N(behind), st->members_n);
}

void commit_explain(struct engine *en, struct op *op, struct group *g)
{
    const struct wire_explain *w = &op->request.explain;
    struct group_part *p = NULL;
    if (w->has_key)
        p = g->parts[key_partition(key_hash(w->key), g->stream->claims_n)];
    else if (w->has_offset && (p = part_of(en, g, w->partition)) == NULL) {
        partition_gone(en, op, w->partition);
        return;
    }
    uint64_t at = p == NULL ? 0 : w->has_key ? p->partition->row.end : w->offset;
    op->reply.explain.offset = w->has_offset ? w->offset : 0;
    if (p == NULL)
        explain_group(op, g);
    else if (w->has_offset && at >= p->partition->row.end)
        say(op, EXPLAIN_NO_SUCH_OFFSET, "partition %u ends at offset %llu", p->partition->index, N(p->partition->row.end));
    else if (w->has_offset && lost_explain(op, p, at))
        op->reply.explain.partition = p->partition->id;
    else if (at < p->done.floor || (w->has_key && at == p->done.floor))
        say(op, EXPLAIN_DONE, "committed: partition %u up to offset %llu", p->partition->index, N(p->done.floor));
    else if (at < p->partition->row.start)
        say(op, EXPLAIN_NO_SUCH_OFFSET, "gone with retention: partition %u begins at offset %llu", p->partition->index, N(p->partition->row.start));
    else
        explain_part(op, p, at);
    answer_now(en, op);
}

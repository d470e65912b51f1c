/* Settling: what receivers say of the messages they were granted, and what they made of them.
 *
 * A settle is a list of units: acks, nacks, produced messages and state of one piece of work. Each unit is first looked at as a whole; if
 * anything in it cannot be done, none of it is, and its code says why. The others go on. Codes come back in order: singles first (units
 * of one item), then units. A unit without items is a producer's transaction.
 */
#include "engine/memory.h"
#include "base/planted.h"

/* Where an item's message is, or NULL and why not. What was received together lies together: mostly where the item before was. */
static struct group_part *item_part(struct engine *en, const struct wire_settle_item *i, int *code)
{
    struct group_part *last = en->settling;
    if (last != NULL && last->group->id == i->group && last->partition->id == i->partition)
        return last;
    const struct partition *p = table_get(&en->partitions, i->partition);
    struct group *g = map_get(&en->groups, i->group);
    if (g != NULL && p != NULL && p->topic == g->topic)
        return en->settling = group_part(g, p);
    *code = p == NULL && partition_missing(en, i->partition) == E_TOPIC_DELETED ? E_TOPIC_DELETED : group_missing(en, i->group);
    return NULL;
}

/* The message that an item speaks of, or NULL and why not. */
static struct entry *item_entry(struct engine *en, const struct wire_settle_item *i, int *code)
{
    struct group_part *p = item_part(en, i, code);
    if (p == NULL)
        return NULL;
    struct entry *e = entry_find(en, p, i->offset, i->token);
    bool good = e != NULL && i->token != 0 && e->token == i->token && e->state != ENTRY_BLOCKED;
    if (PLANTED(fence_forgotten) && e != NULL)
        good = e->state != ENTRY_BLOCKED;
    /* what has come back already can still be done or parked by its last holder, but no longer be held on to */
    if (good && i->verb == SETTLE_EXTEND && e->state != ENTRY_LEASED)
        good = false;
    *code = good ? E_OK : p->group->stream != NULL ? E_WRONG_MODE : E_LEASE_LOST;
    return good ? e : NULL;
}

static int item_check(struct engine *en, const struct wire_settle *w, const struct wire_settle_item *i, struct entry **out)
{
    int code;
    if (i->verb < SETTLE_ACK || i->verb > SETTLE_EXTEND || i->note > w->notes_n)
        return E_INVALID_ARGUMENT;
    struct entry *e = *out = item_entry(en, i, &code);
    if (code == E_OK && i->verb != SETTLE_EXTEND && key_run_before(e) != NULL && !PLANTED(run_out_of_order))
        return E_OUT_OF_ORDER; /* a run is settled from its beginning */
    return code;
}

static uint64_t bounded_delay(const struct engine *en, const struct wire_settle_item *i)
{
    if ((i->flags & SETTLE_HAS_DELAY) == 0)
        return UINT64_MAX;
    if (PLANTED(nack_delay_ignored))
        return 0;
    return i->delay_ms < en->limits->delay_ms_max ? i->delay_ms : en->limits->delay_ms_max;
}

static void extend(struct engine *en, struct entry *e, uint32_t lease_ms)
{
    uint64_t term = lease_ms != 0 ? lease_ms : e->lease->lease_ms;
    if (!PLANTED(extension_forgotten))
        lease_extend(en, e, en->now.mono_ms + (term < en->limits->lease_ms_max ? term : en->limits->lease_ms_max));
    en->counters.extended_leases++;
}

static void item_apply(struct engine *en, const struct wire_settle *w, const struct wire_settle_item *i, struct entry *e)
{
    group_used(en, e->part->group);
    struct wire_note note = {0};
    if (i->note > 0)
        note = w->notes[i->note - 1];
    switch ((enum settle_verb)i->verb) {
    case SETTLE_ACK:
        rate_count(&e->part->group->acks, en->now.mono_ms, 1);
        en->counters.acked_messages++;
        entry_done(en, e);
        break;
    case SETTLE_NACK:
        if (e->state != ENTRY_LEASED && !PLANTED(late_nack_counted))
            break; /* its failure was counted when the lease ran out */
        en->counters.nacked_messages++;
        entry_failed(en, e, bounded_delay(en, i), note.reason, note.error);
        break;
    case SETTLE_PARK:
        e->failures += e->state == ENTRY_LEASED; /* the attempt that ended in this counts */
        entry_park(en, e, note.reason.size > 0 ? note.reason : VIEW_LIT("parked"), note.error);
        break;
    case SETTLE_RELEASE:
        if (e->state != ENTRY_LEASED)
            break;
        en->counters.released_messages++;
        e->grants -= e->grants > 0;
        e->token = 0;
        entry_retry(en, e, 0);
        break;
    case SETTLE_EXTEND:
        extend(en, e, i->delay_ms);
        break;
    }
}

static int single(struct engine *en, const struct wire_settle *w, const struct wire_settle_item *i)
{
    struct entry *e;
    int code = item_check(en, w, i, &e);
    if (code == E_OK)
        item_apply(en, w, i, e);
    return code;
}

/* ---------------------------------------------------------------- units */

/* What a unit says beside its messages: its outputs, and room for what is answered of them. */
struct outputs { const struct op_batch *batches; struct wire_produced *produced; };

/* What a unit does to a message, as the mark that it leaves on it while it is looked at. */
enum { UNIT_EXTENDS = 1, UNIT_PASSES /* the next of its run may be settled too */, UNIT_GIVES_BACK, UNIT_MARKS };

static uint64_t unit_mark(const struct wire_settle_item *i, const struct entry *e)
{
    if (i->verb == SETTLE_EXTEND)
        return UNIT_EXTENDS;
    bool passes = i->verb == SETTLE_ACK || (i->verb == SETTLE_PARK && e->part->group->config.park == PARK_MESSAGE);
    return passes ? UNIT_PASSES : UNIT_GIVES_BACK;
}

/* Its predecessor in the run is settled by the same unit; or given back, and so is this. */
static bool unit_goes_on(const struct wire_settle_item *i, const struct entry *before, uint64_t mark)
{
    return before->mark == mark + UNIT_PASSES || (before->mark == mark + UNIT_GIVES_BACK && i->verb == SETTLE_RELEASE);
}

static int items_check(struct engine *en, const struct wire_settle *w, const struct wire_unit *u)
{
    int code = E_OK;
    uint64_t mark = en->mark;
    en->mark += UNIT_MARKS;
    for (uint32_t i = 0; i < u->items_n && code == E_OK; i++) {
        struct entry *e;
        code = item_check(en, w, &u->items[i], &e);
        if (code == E_OUT_OF_ORDER && unit_goes_on(&u->items[i], key_run_before(e), mark))
            code = E_OK;
        if (code == E_OK && e->mark > mark)
            code = E_INVALID_ARGUMENT; /* the same message twice */
        if (code == E_OK)
            e->mark = mark + unit_mark(&u->items[i], e);
    }
    return code;
}

static int outputs_check(struct engine *en, struct op *op, const struct session *s, const struct wire_unit *u, struct outputs o)
{
    dedup_begin(en);
    for (uint32_t i = 0; i < u->produces_n; i++) {
        const struct wire_produce *w = &u->produces[i];
        struct partition *p = table_get(&en->partitions, w->partition);
        struct refusal refused;
        if (p == NULL)
            return partition_missing(en, w->partition);
        if (growth_misfit(p, &o.batches[i]))
            return E_WRONG_PARTITION;
        struct err e = {0};
        if (log_check(p->topic, &o.batches[i], &e) != E_OK || compact_check(p->topic, &o.batches[i], &e) != E_OK ||
            (sched_asked(w) && sched_check(en, w, &e) != E_OK))
            return e.code;
        enum dedup_step step = dedup_check(en, op, p->topic, w->count, &o.batches[i], &o.produced[i]);
        if (step == DEDUP_SOME)
            return E_DUPLICATE;
        if (step == DEDUP_ALL || !quota_refuses(en, s, p, w->count, w->batch.size, &refused))
            continue;
        refusal_put(op, &refused);
        return refused.e.code;
    }
    return E_OK;
}

static void outputs_apply(struct engine *en, struct op *op, struct session *s, const struct wire_unit *u, struct outputs o)
{
    for (uint32_t i = 0; i < u->produces_n; i++) {
        const struct wire_produce *w = &u->produces[i];
        if (!o.produced[i].duplicate)
            log_take(en, op, s, w, &o.batches[i], &o.produced[i]);
    }
}

/* Everything is looked at before anything is done: so a unit is whole or absent. */
static int unit(struct engine *en, struct op *op, struct session *s, const struct wire_unit *u, struct outputs o)
{
    const struct wire_settle *w = &op->request.settle;
    int code = items_check(en, w, u);
    if (code == E_OK)
        code = state_check(en, u->state, u->state_n);
    if (code == E_OK)
        code = outputs_check(en, op, s, u, o);
    if (code != E_OK && !PLANTED(unit_in_part))
        return code;
    for (uint32_t i = 0; i < u->items_n; i++) {
        int ignored;
        struct entry *e = item_entry(en, &u->items[i], &ignored);
        if (e != NULL) /* else it went back with its predecessor */
            item_apply(en, w, &u->items[i], e);
    }
    if (!PLANTED(unit_without_outputs))
        outputs_apply(en, op, s, u, o);
    for (uint32_t i = 0; i < u->state_n && !PLANTED(state_not_written); i++)
        state_put(en, &u->state[i]);
    en->counters.units++;
    return E_OK;
}

static enum durability level_of(const struct engine *en, const struct wire_settle *w)
{
    for (uint32_t i = 0; i < w->singles_n; i++) {
        if (i > 0 && w->singles[i].group == w->singles[i - 1].group)
            continue;
        const struct group *g = map_get(&en->groups, w->singles[i].group);
        if (g == NULL || g->topic->config.durability == DURABILITY_DISK)
            return DURABILITY_DISK;
    }
    return w->units_n > 0 ? DURABILITY_DISK : DURABILITY_OS;
}

/* All units in order, each with its own code. */
static void units(struct engine *en, struct op *op, struct session *s, uint16_t *codes)
{
    const struct wire_settle *w = &op->request.settle;
    uint32_t produces = 0;
    for (uint32_t i = 0; i < w->units_n; i++)
        produces += w->units[i].produces_n;
    struct wire_produced *produced = produces > 0 ? op_take(en, op, produces, sizeof *produced) : NULL;
    op->reply.settle.outputs = produced;
    op->reply.settle.outputs_n = produces;
    for (uint32_t i = 0, at = 0; i < w->units_n; at += w->units[i++].produces_n) {
        struct outputs o = {0};
        if (w->units[i].produces_n > 0)
            o = (struct outputs){.batches = &op->unit_batches[at], .produced = &produced[at]};
        codes[i] = (uint16_t)unit(en, op, s, &w->units[i], o);
        en->counters.conflicts += codes[i] == E_CONFLICT;
    }
}

void settle_request(struct engine *en, struct op *op, struct session *s)
{
    const struct wire_settle *w = &op->request.settle;
    uint32_t n = w->singles_n + w->units_n;
    uint16_t *codes = op_take(en, op, n, sizeof *codes);
    bool all_ok = true;
    enum durability level = level_of(en, w); /* before a group may go */
    op->reply.body = BODY_SETTLE;
    en->settling = NULL;
    for (uint32_t i = 0; i < w->singles_n; i++)
        codes[i] = (uint16_t)single(en, w, &w->singles[i]);
    units(en, op, s, codes + w->singles_n);
    for (uint32_t i = 0; i < n; i++) {
        all_ok &= codes[i] == E_OK;
        en->counters.late_units += codes[i] == E_LEASE_LOST;
    }
    op->reply.settle.codes = all_ok ? NULL : codes;
    op->reply.settle.codes_n = all_ok ? 0 : n;
    queue_receive_carried(en, op, s, &level);
    answer_change(en, op, level);
}

/* Leaving the flow: done, retrying, parked. A held message has a row; one that waits for its time has a second one in `sched`, so
 * that a restart finds what waits without looking at what is parked. What waits for long goes away (away.c): that is seen at the end of the turn.
 */
#include "engine/memory.h"
#include "base/planted.h"

/* ---------------------------------------------------------------- rows */

static void row_write(struct engine *en, struct entry *e, uint8_t state, bool blocking, struct view reason, struct view error)
{
    struct group_part *p = e->part;
    struct key k = key_held(p->group->id, p->partition->id, e->offset);
    copies_held(en, p, e->offset);
    buf_clear(&en->row);
    held_row_put(&en->row, &(struct held_row){.state = state, .due_ms = e->due_ms, .at_ms = en->wall_ms, .token = e->token,
                                              .key_hash = e->key_hash, .has_key = e->has_key, .blocking = blocking, .size = e->size,
                                              .grants = e->grants, .failures = e->failures, .reason = reason, .error = error, .priority = e->priority,
                                              .expires_ms = e->ttl_until_ms, .purges = p->group->away.purges});
    if (!PLANTED(held_row_lost))
        row_put(en, FAM_HELD, &k);
    e->has_row = state == HELD_RETRYING || blocking;
}

void entry_row_remove(struct engine *en, struct entry *e)
{
    if (!e->has_row)
        return;
    const struct group_part *p = e->part;
    struct key k = key_held(p->group->id, p->partition->id, e->offset);
    row_remove(en, FAM_HELD, &k);
    if (e->has_time) {
        k = key_sched_retry(e->due_ms, p->group->id, p->partition->id, e->offset);
        row_remove(en, FAM_SCHED, &k);
    }
    e->has_row = e->has_time = false;
}

void entry_row_write(struct engine *en, struct entry *e)
{
    e->due_ms = en->wall_ms;
    row_write(en, e, HELD_RETRYING, false, (struct view){0}, (struct view){0});
    entry_time(en, e);
}

static void out_of_list(struct engine *en, const struct entry *e)
{
    if (e->key != NULL && e->key->head == e && e->key->list.head_in_list)
        key_list_pop(en, e->part->group, e->key);
}

void entry_stand(struct engine *en, struct entry *e)
{
    if (e->has_row || e->state == ENTRY_LEASED)
        return;
    out_of_list(en, e);
    entry_row_write(en, e);
}

/* ---------------------------------------------------------------- out of the state it is in */

void entry_leave_state(struct engine *en, struct entry *e)
{
    struct group *g = e->part->group;
    switch ((enum entry_state)e->state) {
    case ENTRY_READY:
        entry_unready(en, e);
        break;
    case ENTRY_LEASED:
        lease_leave(en, e);
        break;
    case ENTRY_RETRYING:
        timer_clear(en, &e->timer);
        list_remove(&e->link);
        g->retrying--;
        break;
    case ENTRY_BLOCKED:
        list_remove(&e->link);
        g->blocked--;
        break;
    case ENTRY_WAITING:
        g->waiting--;
        break;
    case ENTRY_THROTTLED:
        g->throttled--;
        break;
    }
    list_remove(&e->of_key);
    entry_row_remove(en, e);
}

static void entry_leave(struct engine *en, struct entry *e)
{
    bool may_be_listed = e->state == ENTRY_READY || e->state == ENTRY_THROTTLED;
    entry_leave_state(en, e);
    if (may_be_listed)
        out_of_list(en, e);
}

/* The message is absent from now on: the next of its key may go. */
static void entry_absent(struct engine *en, struct entry *e)
{
    struct group_part *p = e->part;
    struct key_queue *k = e->key;
    done_set(&p->done, e->offset);
    p->group->redriven -= e->redriven;
    entry_unpace(e);
    mark_dirty(&en->dirty_parts, &p->dirty);
    e->key = NULL;
    if (k != NULL)
        key_left(en, k, e);
    entry_forget(en, e);
    group_stir(en, p->group);
}

void entry_done(struct engine *en, struct entry *e)
{
    if (e->redriven)
        copy_remove(en, e->part, e->offset);
    entry_leave(en, e);
    entry_absent(en, e);
}

/* ---------------------------------------------------------------- retrying */

static void retry_due(struct engine *en, struct timer *t)
{
    struct entry *e = container_of(t, struct entry, timer);
    e->part->group->retrying--;
    lag_changed(en, e->part->group);
    if (list_linked(&e->of_key)) {
        e->state = ENTRY_WAITING;
        e->part->group->waiting++;
    } else {
        entry_ready(en, e);
    }
}

void entry_retry_arm(struct engine *en, struct entry *e, uint64_t delay_ms)
{
    e->state = ENTRY_RETRYING;
    e->part->group->retrying++;
    lag_changed(en, e->part->group);
    if (PLANTED(retry_early))
        delay_ms /= 2;
    timer_set(en, &e->timer, en->now.mono_ms + delay_ms, retry_due);
}

static void retry(struct engine *en, struct entry *e, uint64_t delay_ms, struct view why, struct view error)
{
    assert(e->key == NULL || e->key->head == e);
    key_run_cut(en, e);
    bool yields = key_yields(e);
    entry_leave(en, e);
    e->due_ms = en->wall_ms + delay_ms;
    row_write(en, e, HELD_RETRYING, false, why, error);
    if (delay_ms > 0) {
        entry_retry_arm(en, e, delay_ms);
    } else if (yields) {
        e->state = ENTRY_WAITING;
        e->part->group->waiting++;
    } else {
        entry_ready(en, e);
    }
    entry_time(en, e);
    if (yields)
        key_yield(en, e);
}

void entry_retry(struct engine *en, struct entry *e, uint64_t delay_ms) { retry(en, e, delay_ms, (struct view){0}, (struct view){0}); }

/* Exponential with full jitter: a function of message and attempt, so that a repeat of this turn would choose the same. */
static uint64_t backoff(const struct entry *e)
{
    const struct wire_group_config *c = &e->part->group->config;
    uint64_t most = c->backoff_min_ms;
    for (uint32_t i = 1; i < e->failures && most < c->backoff_max_ms; i++)
        most *= 2;
    if (most > c->backoff_max_ms)
        most = c->backoff_max_ms;
    struct rng r;
    rng_seed(&r, e->offset * 31 + e->part->partition->id + ((uint64_t)e->failures << 48) + ((uint64_t)e->part->group->id << 32));
    return rng_between(&r, 1, most);
}

void entry_failed(struct engine *en, struct entry *e, uint64_t delay_ms, struct view why, struct view error)
{
    e->failures += !PLANTED(failure_uncounted);
    key_run_cut(en, e); /* also when it is the last failure and lets its key go on: who failed does not go on with the next */
    if (e->failures >= e->part->group->config.max_deliveries)
        entry_park(en, e, why.size > 0 ? why : VIEW_LIT("max_deliveries"), error);
    else
        retry(en, e, delay_ms == UINT64_MAX ? backoff(e) : delay_ms, why, error);
}

/* ---------------------------------------------------------------- parking */

void entry_park(struct engine *en, struct entry *e, struct view reason, struct view error)
{
    struct group_part *p = e->part;
    bool blocks = p->group->config.park == PARK_KEY && e->key != NULL && group_keeps_order(p->group);
    if (PLANTED(key_passes_parked))
        blocks = false;
    if (blocks)
        key_run_cut(en, e);
    bool yields = blocks && key_yields(e);
    entry_leave(en, e);
    if (blocks && e->key->head != e)
        key_front_add(e);
    e->due_ms = blocks ? UINT64_MAX : 0; /* a row that is never due: it is found again at a restart, and blocks */
    e->token = 0;
    row_write(en, e, HELD_PARKED, blocks, reason, error);
    en->counters.parked_messages++;
    p->parked += 1 + PLANTED(parked_counted_twice);
    mark_dirty(&en->dirty_parts, &p->dirty);
    if (blocks) {
        e->state = ENTRY_BLOCKED;
        p->group->blocked++;
        entry_unpace(e);
        entry_time(en, e);
        if (yields)
            key_yield(en, e);
        group_stir(en, p->group);
    } else {
        entry_absent(en, e);
    }
}

/* ---------------------------------------------------------------- present again */

static struct entry *parked_entry(struct engine *en, struct group_part *p, uint64_t offset, const struct held_row *row)
{
    struct entry *e = entry_new(en, p, offset);
    e->has_key = row->has_key;
    e->key_hash = row->key_hash;
    e->size = row->size;
    e->priority = priority_bounded(row->priority);
    if (done_has(&p->done, offset))
        entry_present(e);
    p->group->redriven += e->redriven;
    if (e->has_key && p->group->config.order == ORDER_KEY)
        e->key = key_find(en, p->group, e->key_hash, true);
    return e;
}

/* Its entry, if it is a dead letter that blocks its key. NULL also if the engine failed. */
static struct entry *blocked_entry(struct engine *en, struct group_part *p, uint64_t offset, const struct held_row *row)
{
    struct entry *e = map_get(&p->entries, offset);
    return e == NULL && row->state == HELD_PARKED && row->blocking ? away_back(en, p, offset, row) : e;
}

static void stand_again(struct engine *en, struct entry *e)
{
    e->state = ENTRY_WAITING;
    entry_row_write(en, e);
    e->paced = true;
    e->part->group->paced++;
    mark_dirty(&en->dirty_parts, &e->part->dirty);
}

bool entry_redrive(struct engine *en, struct group_part *p, uint64_t offset, const struct held_row *row)
{
    struct group *g = p->group;
    struct entry *e = blocked_entry(en, p, offset, row);
    if (row->state != HELD_PARKED || (e != NULL && e->state != ENTRY_BLOCKED))
        return false;
    bool blocked = e != NULL;
    if (blocked) {
        g->blocked--;
        list_remove(&e->link);
        entry_row_remove(en, e);
    } else {
        e = parked_entry(en, p, offset, row);
    }
    if (!PLANTED(redrive_keeps_counts))
        e->grants = e->failures = 0;
    e->token = 0;
    e->ttl_until_ms = 0; /* who redrives it wants it delivered */
    stand_again(en, e);
    p->parked--;
    en->counters.redriven_messages++;
    if (blocked && list_linked(&e->of_key)) {
        g->waiting++;
    } else if (blocked || e->key == NULL) {
        entry_ready(en, e);
    } else {
        key_enter(en, e);
    }
    return true;
}

void entry_replay(struct engine *en, struct group_part *p, uint64_t offset, const struct held_row *what)
{
    struct entry *e = parked_entry(en, p, offset, what);
    stand_again(en, e);
    if (p->partition->compact != NULL && offset < p->partition->compact->back_low)
        p->partition->compact->back_low = offset; /* a round that is under way did not see it */
    en->counters.replayed_messages++;
    if (e->key == NULL)
        entry_ready(en, e);
    else
        key_enter(en, e);
}

void entry_drop_parked(struct engine *en, struct group_part *p, uint64_t offset, const struct held_row *row)
{
    struct entry *e = blocked_entry(en, p, offset, row);
    if (row->state != HELD_PARKED || (e != NULL && e->state != ENTRY_BLOCKED))
        return;
    p->parked--;
    en->counters.dropped_messages++;
    mark_dirty(&en->dirty_parts, &p->dirty);
    if (e != NULL) {
        entry_done(en, e);
        return;
    }
    struct key k = key_held(p->group->id, p->partition->id, offset);
    if (!PLANTED(dropped_row_kept))
        row_remove(en, FAM_HELD, &k);
    copy_remove(en, p, offset);
}

uint64_t group_waiting(const struct group *g) { return g->paced; }

void entry_unpace(struct entry *e)
{
    e->part->group->paced -= e->paced;
    e->paced = false;
}

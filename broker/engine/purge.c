/* Purging a group: everything up to the end of its topic is done, but what is parked.
 *
 *      before   floor . . done chunks . . entries . . behind keys . . cursor . . . . end
 *      after    everything done ─────────────────────────────────────────────────── floor = cursor = end
 *
 * Parked messages stay. Those that block their key are entries, and so are from now on what a redriven message is: present at an offset
 * that is done. What costs is what is in memory; rows go by ranges, but for those of retries, which stand in order of time.
 *
 * What is away is not walked over: the group counts its purges, and a retry or a list with an older count is not there any more. A sweep removes
 * those rows, a bounded number in a turn; a restart begins it again.
 */
#include "engine/memory.h"
#include "base/planted.h"

/* Out of what holds it, without anybody taking its place. What goes by ranges is not removed here. */
static void take_out(struct engine *en, struct entry *e)
{
    entry_leave_state(en, e);
    list_remove(&e->present);
    if (e->redriven)
        copy_remove(en, e->part, e->offset);
    if (e->key != NULL && e->key->head == e)
        e->key->head = NULL;
    e->key = NULL;
    e->part->group->redriven -= e->redriven;
    entry_unpace(e);
}

static uint64_t purge_entries(struct engine *en, struct group_part *p)
{
    uint64_t redriven = 0;
    struct map kept = {0};
    for (struct map_it it = map_iter(&p->entries); map_next(&it);) {
        struct entry *e = it.value;
        if (e->state == ENTRY_BLOCKED) {
            p->group->redriven += !e->redriven;
            if (!e->redriven)
                entry_present(e);
            map_put(&kept, e->offset, e);
            continue;
        }
        redriven += e->redriven;
        take_out(en, e);
        pool_give(&en->entries, e);
    }
    map_free(&p->entries);
    p->entries = kept;
    return redriven;
}

/* A key without dead letters is forgotten; one with some waits for them, the oldest first. */
static void purge_keys(struct engine *en, struct group *g)
{
    struct map kept = {0};
    for (struct map_it it = map_iter(&g->keys); map_next(&it);) {
        struct key_queue *k = it.value;
        if (k->head == NULL && list_empty(&k->front)) {
            key_queue_free(en, k);
            continue;
        }
        list_remove(&k->unsure);
        key_list_clear(k);
        if (k->head == NULL)
            key_advance(en, g, k);
        mark_dirty(&en->dirty_keys, &k->dirty);
        map_put(&kept, k->hash, k);
    }
    map_free(&g->keys);
    g->keys = kept;
}

/* ---------------------------------------------------------------- the sweep of what was away */

enum { SWEEP_ROWS = 256 };

static void sweep_held(struct engine *en, struct group *g, uint32_t partition, uint64_t offset, struct view value)
{
    struct group_part *p = group_part_of(en, g, partition);
    struct key held = key_held(g->id, partition, offset);
    struct held_row row;
    struct err e = {0};
    if (p == NULL)
        err_set(&e, E_DAMAGED, "it names no partition of topic '%s'", g->topic->name);
    if (p == NULL || held_row_get(value, &row, &e) != E_OK) {
        row_fail(en, FAM_HELD, key_view(&held), &e);
        return;
    }
    if (!away_purged(g, &row) || map_get(&p->entries, offset) != NULL)
        return;
    struct key time = key_sched_away(row.due_ms, g->id, partition, offset);
    row_remove(en, FAM_HELD, &held);
    row_remove(en, FAM_SCHED, &time);
    copy_remove(en, p, offset);
}

static void sweep_key(struct engine *en, struct group *g, uint64_t hash, struct view value)
{
    struct key key = key_away(g->id, hash);
    struct away_row row;
    struct err e = {0};
    if (away_row_get(value, &row, &e) != E_OK)
        row_fail(en, FAM_KEYS, key_view(&key), &e);
    else if (row.purges != g->away.purges)
        key_find(en, g, hash, false); /* what is left of it is written, or nothing */
}

static void sweep_row(struct engine *en, struct group *g, enum store_family f, struct view k, struct view value)
{
    uint32_t group, partition;
    uint64_t at;
    if (puts_find(&en->fx.puts, f, k, &value) == PUTS_REMOVED) /* an iterator does not see what the turn changed */
        return;
    if (f == FAM_HELD && key_read_held(k, &group, &partition, &at))
        sweep_held(en, g, partition, at, value);
    else if (f == FAM_KEYS && key_read_away(k, &group, &at))
        sweep_key(en, g, at, value);
    else
        row_fail(en, f, k, &(struct err){.code = E_DAMAGED, .text = "its key does not read"});
}

/* Rows of a family from the place of the sweep on. False: there are no more. */
static bool sweep_some(struct engine *en, struct group *g, enum store_family f, const struct key *prefix)
{
    struct store_iter *it = store_iter(en->store, f);
    struct err e = {0};
    bool there = true;
    store_iter_seek(it, key_view(&g->sweep_at));
    for (int i = 0; i < SWEEP_ROWS && there; i++) {
        there = store_iter_valid(it) && key_has_prefix(store_iter_key(it), prefix);
        if (!there)
            break;
        struct view k = store_iter_key(it);
        sweep_row(en, g, f, k, store_iter_value(it));
        if (engine_failed(en) != NULL)
            break;
        g->sweep_at.size = (uint8_t)k.size;
        memcpy(g->sweep_at.bytes, k.data, k.size);
        g->sweep_at = key_after(&g->sweep_at);
        store_iter_next(it);
    }
    if (store_iter_status(it, &e) != E_OK)
        engine_fail(en, &e);
    store_iter_close(it);
    return there;
}

static void sweep(struct engine *en, struct timer *t)
{
    struct group *g = container_of(t, struct group, sweep);
    struct key held = key_group_prefix(g->id), keys = key_away_prefix(g->id);
    if (!g->sweeps_keys) {
        g->sweeps_keys = !sweep_some(en, g, FAM_HELD, &held);
        if (g->sweeps_keys)
            g->sweep_at = keys;
    }
    if (!g->sweeps_keys || sweep_some(en, g, FAM_KEYS, &keys)) {
        timer_set(en, t, en->now.mono_ms + 1, sweep);
        return;
    }
    timer_clear(en, t);
    g->away.swept = g->away.purges;
    for (uint32_t i = 0; i < g->topic->config.partitions; i++) /* the counts, and what the rows kept in the logs */
        mark_dirty(&en->dirty_parts, &g->parts[i]->dirty);
}

void group_sweep(struct engine *en, struct group *g)
{
    g->sweeps_keys = false;
    g->sweep_at = key_group_prefix(g->id);
    timer_set(en, &g->sweep, en->now.mono_ms, sweep);
}

/* ---------------------------------------------------------------- all of it */

/* Dead letters that block stay, and their keys. How many messages are done by it. */
static uint64_t purge_away(struct engine *en, struct group *g)
{
    struct away_counts *a = &g->away;
    uint64_t n = a->retrying + a->waiting;
    if (n + a->keys == 0)
        return 0;
    g->retrying -= a->retrying;
    g->waiting -= a->waiting;
    g->redriven -= n;
    a->retrying = a->waiting = a->behind = 0;
    a->purges++;
    mark_dirty(&en->dirty_parts, &g->parts[0]->dirty);
    group_sweep(en, g);
    sweep(en, &g->sweep); /* of few that is all */
    return n;
}

uint64_t group_purge(struct engine *en, struct group *g)
{
    uint64_t purged = 0, blocked = 0;
    for (uint32_t i = 0; i < g->topic->config.partitions; i++) {
        struct group_part *p = g->parts[i];
        uint64_t end = p->partition->row.end;
        for (struct map_it it = map_iter(&p->entries); map_next(&it);) {
            const struct entry *e = it.value;
            blocked += e->state == ENTRY_BLOCKED && !e->redriven;
        }
        purged += end - p->done.floor - p->done.count + purge_entries(en, p);
        load_end(en, p); /* what comes of it is not looked at */
        p->lost_changed |= p->stale != 0; /* the lists go */
        p->stale = 0;
        done_all(&p->done, end);
        p->cursor = p->scanned = end;
        lag_scanned(p, p->partition->row.end_bytes);
        mark_dirty(&en->dirty_parts, &p->dirty);
    }
    for (struct map_it it = map_iter(&g->leases); map_next(&it);)
        lease_free(en, it.value);
    map_free(&g->leases);
    g->behind = 0;
    group_rows_remove(en, FAM_GROUPS, key_done_prefix(g->id));
    purge_keys(en, g);
    group_rows_remove(en, FAM_LEASES, key_group_prefix(g->id));
    if (!PLANTED(purge_keeps_lists))
        group_rows_remove(en, FAM_KEYS, key_group_prefix(g->id));
    group_rows_remove(en, FAM_KEYS, key_list_header_prefix(g->id));
    purged += purge_away(en, g);
    purged -= blocked;
    en->counters.purged_messages += purged;
    group_stir(en, g);
    return purged;
}

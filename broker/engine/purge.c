/* Purging a group: everything up to the end of its topic is done, but what is parked.
 *
 *      before   floor . . done chunks . . entries . . behind keys . . cursor . . . . end
 *      after    everything done ─────────────────────────────────────────────────── floor = cursor = end
 *
 * Parked messages stay. Those that block their key are entries, and so are from now on what a redriven message is: present at an offset
 * that is done. What costs is what is in memory; rows go by ranges, but for those of retries, which stand in order of time.
 */
#include "engine/memory.h"

/* Out of what holds it, without anybody taking its place. What goes by ranges is not removed here. */
static void take_out(struct engine *en, struct entry *e)
{
    entry_leave_state(en, e);
    list_remove(&e->present);
    if (e->key != NULL && e->key->head == e)
        e->key->head = NULL;
    e->key = NULL;
    e->part->group->redriven -= e->redriven;
}

static uint64_t purge_entries(struct engine *en, struct group_part *p)
{
    uint64_t redriven = 0;
    struct map kept = {0};
    for (struct map_it it = map_iter(&p->entries); map_next(&it);) {
        struct entry *e = it.value;
        if (e->state == ENTRY_BLOCKED) {
            p->group->redriven += !e->redriven;
            p->group->redriven_blocked += !e->redriven;
            if (!e->redriven)
                entry_present(e);
            map_put(&kept, e->offset, e);
            continue;
        }
        redriven += e->redriven;
        take_out(en, e);
        mem_free(e);
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
        map_put(&kept, k->hash, k);
    }
    map_free(&g->keys);
    g->keys = kept;
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
    group_rows_remove(en, FAM_KEYS, key_group_prefix(g->id));
    purged -= blocked;
    en->counters.purged_messages += purged;
    group_stir(en, g);
    return purged;
}

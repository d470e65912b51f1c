/* The ready messages of a group, and which of them goes next.
 *
 * They stand in one list for each priority: what came back, or follows in its key, in the group's; what the scan found in its
 * partition's, so that the lowest of them says where a restart has to scan from. Next is the highest of priority + waited /
 * priority_age_ms, so whoever waits long enough goes before everybody; at the same priority what came back goes first, then each
 * partition in turn: a receive takes what it can from one before it goes on to the next, as what lies together is read together, and the
 * next receive begins at the next (ready_turn). Where keys have limits but no order the next of a key follows as soon as one is granted: there who waits
 * longest goes first, or one key could keep all others waiting. A group whose messages all have one priority does not look at the others.
 */
#include "engine/memory.h"
#include "base/planted.h"

struct entry *entry_new(struct engine *en, struct group_part *p, uint64_t offset)
{
    struct entry *e = pool_take(&en->entries);
    e->part = p;
    e->offset = offset;
    map_put(&p->entries, offset, e);
    return e;
}

void entry_present(struct entry *e)
{
    e->redriven = true;
    list_push_back(&e->part->present, &e->present);
}

void entry_forget(struct engine *en, struct entry *e)
{
    assert(!list_linked(&e->link) && !list_linked(&e->of_key) && e->lease == NULL && e->key == NULL);
    list_remove(&e->present);
    map_del(&e->part->entries, e->offset);
    pool_give(&en->entries, e);
}

static void ready(struct engine *en, struct entry *e, struct list *where)
{
    struct group *g = e->part->group;
    e->state = ENTRY_READY;
    e->ready_ms = en->now.mono_ms;
    list_push_back(where, &e->link);
    g->ready++;
    g->ready_at[e->priority]++;
    g->ready_mask |= (uint16_t)(1u << e->priority);
    en->ready++;
    group_stir(en, g);
}

void entry_ready(struct engine *en, struct entry *e)
{
    if (!flow_throttles(en, e))
        ready(en, e, &e->part->group->again[e->priority]);
}

void entry_ready_fresh(struct engine *en, struct entry *e) { ready(en, e, &e->part->fresh[e->priority]); }

void entry_unready(struct engine *en, struct entry *e)
{
    struct group *g = e->part->group;
    assert(e->state == ENTRY_READY);
    list_remove(&e->link);
    g->ready--;
    if (--g->ready_at[e->priority] == 0)
        g->ready_mask &= (uint16_t)~(1u << e->priority);
    en->ready--;
}

uint64_t part_ready_low(const struct group_part *p)
{
    uint64_t low = p->cursor;
    if (PLANTED(ready_forgotten))
        return low;
    for (int i = 0; i < PRIORITIES; i++) {
        const struct list_node *n = list_first(&p->fresh[i]);
        uint64_t offset = n != NULL ? container_of(n, struct entry, link)->offset : low;
        low = offset < low ? offset : low;
    }
    return low;
}

/* ---------------------------------------------------------------- next */

/* The next of one priority, which there is; `turn`: its partition, or the one whose turn it is if it came back. */
static struct entry *next_at(const struct group *g, int priority, uint32_t *turn)
{
    uint32_t parts = g->topic->config.partitions;
    bool compares = group_limits_keys(g);
    struct list_node *n = list_first(&g->again[priority]);
    *turn = g->next_part;
    for (uint32_t i = 0; i < parts && (n == NULL || compares); i++) {
        struct list_node *fresh = list_first(&g->parts[(g->next_part + i) % parts]->fresh[priority]);
        if (fresh == NULL)
            continue;
        if (n == NULL || container_of(fresh, struct entry, link)->ready_ms <= container_of(n, struct entry, link)->ready_ms) {
            n = fresh;
            *turn = (g->next_part + i) % parts;
        }
        compares = false;
    }
    return container_of(n, struct entry, link);
}

void ready_turn(struct group *g) { g->next_part = (g->next_part + 1) % g->topic->config.partitions; }

struct entry *ready_next(const struct engine *en, struct group *g)
{
    struct entry *best = NULL;
    uint64_t best_rank = 0;
    uint32_t best_turn = 0, turn;
    for (unsigned left = g->ready_mask; left != 0;) {
        int i = 31 - __builtin_clz(left);
        left &= ~(1u << i);
        struct entry *e = next_at(g, i, &turn);
        uint64_t above = (uint64_t)i * en->limits->priority_age_ms, waited = en->now.mono_ms - e->ready_ms;
        if (PLANTED(priority_ignored))
            above = 0;
        if (PLANTED(waiting_does_not_age))
            waited = 0;
        uint64_t rank = above + waited;
        if (best == NULL || rank > best_rank) {
            best = e;
            best_rank = rank;
            best_turn = turn;
        }
    }
    if (best != NULL)
        g->next_part = best_turn;
    return best;
}

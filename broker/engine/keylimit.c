/* Limits by key in a group of order none: at most so many messages of one key leased at once, and no faster than the key's rate.
 *
 *     scan ──> head ──> leased, leased, ...        head: the one of its key that is ready, or throttled
 *                ^ ^                               list: positions in rows (keylist.c), as in a group that keeps order
 *         front ─┘ └─ list                         front: entries with rows, in no order: they came back while there was a head
 *
 * A key's messages stand where those of an ordered one do, so that a key at its limit hides no other, and one with a million messages
 * costs disk. But there is no order: who is granted is the head no longer, and the next of the front, then of the list, takes its place at
 * once, as long as the key has room. What is leased, or waits for its retry, belongs to no key (entry.key is NULL); the key counts what is
 * leased, and when one leaves the head is looked at again.
 *
 * The limits can be altered. One that is set holds back what is ready already when it is about to be granted, and does not count what was
 * leased before; after a restart that counts. One that is taken away leaves keys with lists: they drain, one head after another, and until
 * they are empty what is new goes behind them. Else a restart could not tell what stands in a list (queue.c).
 */
#include "engine/memory.h"
#include "base/planted.h"

bool group_limits_keys(const struct group *g)
{
    return !group_keeps_order(g) && (g->config.key_rate_milli != 0 || g->config.key_in_flight_max != 0);
}

static bool limited(const struct entry *e) { return e->has_key && group_limits_keys(e->part->group); }

struct key_queue *limit_key(struct group *g, uint64_t hash)
{
    bool limits = group_limits_keys(g);
    return limits || map_count(&g->keys) > 0 ? key_queue_get(g, hash, limits) : NULL;
}

/* A head that is in the list and not made yet, at a restart, is that nevertheless. */
bool limit_enter(struct engine *en, struct entry *e)
{
    (void)en;
    struct group *g = e->part->group;
    if (e->key != NULL || !limited(e))
        return false;
    struct key_queue *k = e->key = key_queue_get(g, e->key_hash, true);
    if (k->head == NULL && !k->list.head_in_list) {
        k->head = e;
        return false;
    }
    assert(e->has_row);
    e->state = ENTRY_WAITING;
    g->waiting++;
    list_push_back(&k->front, &e->of_key);
    return true;
}

bool limit_holds_back(const struct engine *en, const struct entry *e)
{
    if (!limited(e))
        return false;
    const struct key_queue *k = e->key != NULL ? e->key : key_queue_get(e->part->group, e->key_hash, false);
    return k != NULL && flow_wait_key(en, k) > 0;
}

/* Nothing else may stand for it. */
void limit_step_aside(struct engine *en, struct entry *e)
{
    entry_unready(en, e);
    if (!e->has_row && (e->key == NULL || !e->key->list.head_in_list))
        entry_row_write(en, e);
    entry_ready(en, e);
}

struct key_queue *limit_taken(struct engine *en, struct entry *e)
{
    if (!limited(e))
        return NULL;
    struct key_queue *k = key_queue_get(e->part->group, e->key_hash, true);
    k->leased += !PLANTED(key_limit_uncounted);
    e->counted = true;
    if (k->head != NULL && k->head->state == ENTRY_READY && flow_wait_key(en, k) > 0)
        limit_step_aside(en, k->head);
    return k;
}

void limit_left(struct engine *en, struct entry *e)
{
    if (!e->counted)
        return;
    struct key_queue *k = key_queue_get(e->part->group, e->key_hash, false);
    e->counted = false;
    k->leased--;
    if (k->head != NULL && k->head->state == ENTRY_THROTTLED)
        flow_look(en, k);
    else
        key_settle(en, k);
}

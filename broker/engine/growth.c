/* Growing a topic: more partitions, by a whole factor.
 *
 *      partition 0   ....... fence ........        keys whose hash mod 2 is 0, then those whose hash mod 4 is 0
 *      partition 2                   ........      born at the fence: keys whose hash mod 4 is 2, all of them from partition 0
 *
 * A key's hash mod N is its partition, so with k times N partitions a key either stays or goes to a child of the partition where it was. Each
 * child knows its parent and the fence: where the parent ended when the child was born. What a key has below the fence is older than all it has
 * in the child; so a group reads a child once it has passed the fence in the parent, and the parent's in the grandparent: a parent that had
 * nothing yet when it was split has its fence at 0, which says nothing of what is before the parent itself. So partition id and offset order
 * the messages of one key over all growths.
 *
 * A batch that was checked against the smaller number is refused by the engine once there are more: its producer asks again, and sends its
 * records to where they belong now.
 */
#include "engine/memory.h"
#include "base/planted.h"

bool part_open(const struct group_part *p)
{
    if (PLANTED(fence_passed))
        return true;
    for (const struct partition *x = p->partition; x->parent != NULL; x = x->parent) {
        if (p->group->parts[x->parent->index]->cursor < x->row.fence)
            return false;
        if (PLANTED(fence_of_parent_only))
            return true;
    }
    return true;
}

/* A key may have messages where it belongs now, and where it belonged: the parents. The newest is scanned last, as what comes before its fence
 * is scanned first. */
struct group_part *key_rescanned(const struct key_queue *k)
{
    const struct group *g = k->group;
    const struct topic *t = g->topic;
    for (const struct partition *p = t->partitions[key_partition(k->hash, t->config.partitions)]; p != NULL; p = p->parent)
        if (part_rescans(g->parts[p->index]))
            return g->parts[p->index];
    return NULL;
}

int growth_check(const struct engine *en, const struct topic *t, uint32_t partitions, struct err *e)
{
    uint32_t now = t->config.partitions;
    const struct engine_limits *l = en->limits;
    if (partitions < now || partitions % now != 0)
        return err_set(e, E_UNSUPPORTED, "partitions grow by a whole factor, so that a key stays or goes to one new partition: %u can become %u or %u, not %u",
                       now, 2 * now, 3 * now, partitions);
    if (t->config.compacted && partitions != now)
        return err_set(e, E_UNSUPPORTED, "partitions of a compacted topic do not grow: the last value of a key could be in two of them");
    if (partitions > l->topic_partitions_max)
        return err_set(e, E_LIMIT, "limit topic_partitions_max = %llu", (unsigned long long)l->topic_partitions_max);
    if (table_count(&en->partitions) + (partitions - now) > l->partitions_max)
        return err_set(e, E_LIMIT, "limit partitions_max = %llu", (unsigned long long)l->partitions_max);
    if (UINT32_MAX - en->next.partition < partitions - now)
        return err_set(e, E_LIMIT, "every id of a partition was used once");
    return E_OK;
}

void topic_grow(struct engine *en, struct topic *t, uint32_t partitions)
{
    uint32_t before = t->config.partitions;
    if (partitions == before)
        return;
    t->partitions = mem_resize(t->partitions, partitions, sizeof(struct partition *));
    for (uint32_t i = before; i < partitions; i++) {
        struct partition *p = partition_new(en, t, i, en->next.partition++);
        p->parent = t->partitions[i % before];
        p->row.parent = p->parent->id;
        p->row.fence = p->parent->row.end;
        t->partitions[i] = p;
        mark_dirty(&en->dirty_partitions, &p->dirty);
    }
    t->config.partitions = partitions;
    for (size_t i = 0; i < t->groups_n; i++)
        group_grow(en, t->groups[i], before);
    for (uint32_t i = 0; i < partitions; i++) /* the number of all has changed */
        log_partition_publish(en, t->partitions[i], false);
}

bool growth_misfit(const struct partition *p, const struct op_batch *b)
{
    return b->partitions != 0 && !PLANTED(grown_unlooked) && (b->misfit != 0 || b->partitions != p->topic->config.partitions);
}

void growth_answer(struct engine *en, struct op *op, const struct partition *p, const struct op_batch *b)
{
    uint32_t partitions = p->topic->config.partitions;
    if (b->partitions == partitions)
        answer(en, op, E_WRONG_PARTITION, "record %u: its key does not belong to partition %u of %u (id %u) of topic '%s'", b->misfit - 1,
               p->index, partitions, p->id, p->topic->name);
    else
        answer(en, op, E_WRONG_PARTITION, "topic '%s' has %u partitions now", p->topic->name, partitions);
}

struct partition *growth_partition(struct partition *p, uint64_t key_hash)
{
    return p->topic->partitions[key_partition(key_hash, p->topic->config.partitions)];
}

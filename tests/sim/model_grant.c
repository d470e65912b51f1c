/* What must hold when a message is granted, looked at in the lease rows of the turn: see model.h. */
#include "model.h"

/* Of a key one receiver has messages, in order: those before this one are out of the way, or in the same lease. */
static void check_key(struct world *w, int group, const struct message *m, uint64_t token)
{
    const struct part_view *p = &w->model->parts[m->part];
    for (size_t o = 0; o < p->end; o++) {
        struct message *other = &w->model->messages[p->log[o]];
        const struct spot *s = &model_view(other, group)->is;
        if (other->key != m->key || other == m || s->token == token || model_view(other, group)->redriven_turn == w->model->turn)
            continue; /* what is redriven in this turn may come after the grant */
        if (s->token != 0)
            world_fail(w, "message %llu of key %d was granted in group %d while %llu of the same key is leased", (unsigned long long)m->id,
                       m->key, group, (unsigned long long)other->id);
        if ((int64_t)o < m->offset && !spot_absent(s))
            world_fail(w, "message %llu (offset %lld) of key %d was granted in group %d before %llu (offset %zu)%s", (unsigned long long)m->id,
                       (long long)m->offset, m->key, group, (unsigned long long)other->id, o, s->blocking ? ", which is parked" : "");
    }
}

void model_granted(struct world *w, int group, struct message *m)
{
    struct group_view *g = model_view(m, group);
    const struct wire_group_config *c = &w->model->group_config[group];
    unsigned long long id = (unsigned long long)m->id;
    if (g->acked)
        world_fail(w, "message %llu was acked in group %d and is granted again", id, group);
    if (g->dropped)
        world_fail(w, "message %llu was dropped in group %d and is granted", id, group);
    if (g->was.held == HELD_PARKED && g->redriven_turn != w->model->turn)
        world_fail(w, "message %llu is parked in group %d and was granted", id, group);
    if (g->is.failures >= c->max_deliveries)
        world_fail(w, "message %llu was granted in group %d after %u failures", id, group, g->is.failures);
    if (m->key != NONE && c->order == ORDER_KEY)
        check_key(w, group, m, g->is.token);
}

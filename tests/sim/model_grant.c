/* What must hold when a message is granted, looked at in the lease rows of the turn: see model.h. */
#include "base/mem.h"
#include "model.h"

/* What a key has in a partition comes before what it has in those that its topic got later. */
static bool older(const struct message *a, const struct message *b)
{
    return a->part != b->part ? a->part < b->part : a->offset < b->offset;
}

static void check_against(struct world *w, int group, const struct message *m, struct message *other, uint64_t token)
{
    const struct group_view *g = model_view(other, group);
    const struct spot *s = &g->is;
    bool back = g->redriven_turn == w->model->turn || (g->touched && spot_absent(&g->was));
    if (other->key != m->key || other == m || s->token == token || back)
        return; /* what is present again in this turn may be so after the grant */
    if (s->token != 0)
        world_fail(w, "message %llu of key %d was granted in group %d while %llu of the same key is leased",
                   (unsigned long long)m->id, m->key, group, (unsigned long long)other->id);
    if (older(other, m) && !spot_absent(s))
        world_fail(w, "message %llu (%d/%lld) of key %d was granted in group %d before %llu (%d/%lld)%s",
                   (unsigned long long)m->id, m->part, (long long)m->offset, m->key, group,
                   (unsigned long long)other->id, other->part, (long long)other->offset,
                   s->blocking ? ", which is parked" : "");
}

/* Of a key one receiver has messages, in order: those before this one are out of the way, or in the same lease. */
static void check_key(struct world *w, int group, const struct message *m, uint64_t token)
{
    uint32_t run = 0;
    for (int part = m->part / PARTITIONS * PARTITIONS; part / PARTITIONS == m->part / PARTITIONS; part++) {
        const struct part_view *p = &w->model->parts[part];
        for (size_t o = 0; o < p->end; o++) {
            struct message *other = &w->model->messages[p->log[o]];
            run += other->key == m->key && model_view(other, group)->is.token == token;
            check_against(w, group, m, other, token);
        }
    }
    w->totals->runs += run > 1;
    if (run > w->model->group_config[group].run_max && w->model->group_turn[group] != w->model->turn)
        world_fail(w, "%u messages of key %d are leased together in group %d", run, m->key, group);
}

static bool first_of_key(struct world *w, int group, const struct message *m)
{
    for (int part = m->part / PARTITIONS * PARTITIONS; m->key != NONE && part <= m->part; part++) {
        const struct part_view *p = &w->model->parts[part];
        for (size_t o = 0; o < p->end; o++) {
            struct message *other = &w->model->messages[p->log[o]];
            const struct group_view *g = model_view(other, group);
            if (other->key == m->key && other != m &&
                (g->touched || g->is.token != 0 || (older(other, m) && !spot_absent(&g->is))))
                return false;
        }
    }
    return true;
}

/* Another of a higher priority was ready before this turn, and would stay ahead however long this one had waited. */
static void check_priority(struct world *w, int group, const struct message *m)
{
    struct model *o = w->model;
    uint64_t waited = w->now.mono_ms - turn_time(w, m->append_turn),
             least = m->priority + 2 + waited / w->limits.priority_age_ms;
    bool throttles = o->group_config[group].key_rate_milli != 0 || o->limited_keys[group];
    for (int part = 0; part < PARTS && o->scanned[group] && least <= BATCH_PRIORITY_MAX; part++)
        for (size_t at = 0; o->parts[part].topic == m->topic && at < o->rows[group][part % PARTITIONS].before;
             at++) {
            const struct message *other = &o->messages[o->parts[part].log[at]];
            const struct group_view *g = model_view((struct message *)other, group);
            if (other->priority < least || (throttles && other->key != NONE) || g->touched ||
                spot_absent(&g->is) || g->is.token != 0 || g->is.held != 0 ||
                model_expiry(w, group, other) <= o->wall_ms || !first_of_key(w, group, other))
                continue;
            world_fail(
                w, "message %llu of priority %u was granted in group %d, and %llu of priority %u is ready",
                (unsigned long long)m->id, m->priority, group, (unsigned long long)other->id,
                other->priority);
        }
    w->totals->priorities += m->priority > 0;
}

void model_flow_begins(struct world *w)
{
    for (int g = 0; g < GROUPS; g++)
        for (int k = 0; k <= KEYS; k++)
            w->model->flow[g][k].n = 0;
}

void model_flow_free(struct model *o)
{
    for (int g = 0; g < GROUPS; g++)
        for (int k = 0; k <= KEYS; k++)
            mem_free(o->flow[g][k].at);
}

/* In no time that ends now more than its rate allows: a second's worth at once, one message in any case, and a run as one. */
static void check_flow(struct world *w, int group, struct flow_log *f, uint32_t rate_milli, const char *what)
{
    uint64_t now = turn_time(w, w->model->turn),
             burst = (uint64_t)rate_milli * 1000 > 1000000 ? (uint64_t)rate_milli * 1000 : 1000000;
    if (rate_milli == 0)
        return;
    if (f->n == f->cap) {
        f->cap = f->cap > 0 ? 2 * f->cap : 32;
        f->at = mem_resize(f->at, f->cap, sizeof *f->at);
    }
    f->at[f->n++] = now;
    burst += (w->model->group_config[group].run_max - 1) * UINT64_C(1000000);
    for (size_t i = f->n; i > 0; i--)
        if ((f->n - i + 1) * 1000000 > burst + rate_milli * (now - f->at[i - 1]) + 1000) {
            world_fail(w,
                       "group %d: %zu messages of a %s were granted in %llu ms, at a rate of %u in 1,000 s",
                       group, f->n - i + 1, what, (unsigned long long)(now - f->at[i - 1]), rate_milli);
            return;
        }
    w->totals->paced++;
}

/* Of a key without order no more are leased than its limit, in whatever partition. What was leased before it
 * was set does not count. */
static void check_key_limit(struct world *w, int group, const struct message *m)
{
    const struct model *o = w->model;
    uint32_t n = 0, most = o->group_config[group].key_in_flight_max;
    for (int part = 0; part < PARTS; part++)
        for (size_t at = 0; o->parts[part].topic == m->topic && at < o->parts[part].end; at++) {
            struct message *other = &o->messages[o->parts[part].log[at]];
            n += other->key == m->key && model_view(other, group)->is.token > o->limit_token[group];
        }
    w->totals->full_keys += n == most;
    if (n > most)
        world_fail(w, "%u messages of key %d are leased in group %d, which allows %u", n, m->key, group,
                   most);
}

void model_limits(struct world *w, int group, const struct wire_group_config *to)
{
    struct model *o = w->model;
    const struct wire_group_config *was = &o->group_config[group];
    bool limits = to->order == ORDER_NONE && (to->key_in_flight_max != 0 || to->key_rate_milli != 0);
    bool limited = was->key_in_flight_max != 0 || was->key_rate_milli != 0;
    if (limits && !limited)
        o->limit_turn[group] = o->turn;
    o->limited_keys[group] |= limits;
    for (int k = 0; k < KEYS && to->key_rate_milli != was->key_rate_milli; k++)
        o->flow[group][k].n = 0;
}

void model_limits_set(struct world *w)
{
    struct model *o = w->model;
    for (int g = 0; g < GROUPS; g++)
        if (o->limit_turn[g] == o->turn)
            o->limit_token[g] = o->token_last;
}

/* The broker does not believe its wall clock: what goes by it pauses. */
static bool clock_stepped(const struct world *w)
{
    struct engine_totals t;
    engine_totals(loop_engine(w->loop), &t);
    return t.clock_stepped;
}

void model_granted(struct world *w, int group, struct message *m)
{
    struct group_view *g = model_view(m, group);
    const struct wire_group_config *c = &w->model->group_config[group];
    unsigned long long id = (unsigned long long)m->id;
    check_flow(w, group, &w->model->flow[group][KEYS], c->rate_milli, "group");
    if (m->key != NONE)
        check_flow(w, group, &w->model->flow[group][m->key], c->key_rate_milli, "key");
    if (w->model->paused[group] && w->model->was_paused[group])
        world_fail(w, "message %llu was granted in group %d, which is paused", id, group);
    if (g->acked)
        world_fail(w, "message %llu was acked in group %d and is granted again", id, group);
    if (g->dropped)
        world_fail(w, "message %llu was dropped in group %d and is granted", id, group);
    if (g->was.held == HELD_PARKED && g->redriven_turn != w->model->turn)
        world_fail(w, "message %llu is parked in group %d and was granted", id, group);
    if (g->was.held == HELD_RETRYING && g->was.due_ms > w->model->wall_ms && w->clock_jumped_at == 0)
        world_fail(w, "message %llu was granted in group %d at %llu, and its retry is due at %llu", id, group,
                   (unsigned long long)w->model->wall_ms, (unsigned long long)g->was.due_ms);
    if (g->is.failures >= c->max_deliveries)
        world_fail(w, "message %llu was granted in group %d after %u failures", id, group, g->is.failures);
    if (model_expiry(w, group, m) <= w->model->wall_ms && !clock_stepped(w))
        world_fail(w, "message %llu was granted in group %d at %llu, and expired at %llu", id, group,
                   (unsigned long long)w->model->wall_ms, (unsigned long long)model_expiry(w, group, m));
    if (c->order == ORDER_NONE || m->key == NONE || first_of_key(w, group, m))
        check_priority(w, group, m);
    if (m->key != NONE && c->order == ORDER_KEY)
        check_key(w, group, m, g->is.token);
    if (m->key != NONE && c->order == ORDER_NONE && c->key_in_flight_max != 0 &&
        w->model->group_turn[group] != w->model->turn)
        check_key_limit(w, group, m);
    if (g->replayed_by != 0 && m->key != NONE && c->order == ORDER_KEY)
        model_replay_order(w, group, m);
}

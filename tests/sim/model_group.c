/* What receivers see of queue groups: see model.h. */
#include "model.h"

/* While a message of a key is leased no other of it goes out, but in the same lease. */
static void check_alone(struct world *w, int group, const struct message *m, uint64_t token,
                        uint64_t granted_at)
{
    const struct part_view *p = &w->model->parts[m->part];
    for (size_t o = 0; o < p->end; o++) {
        struct message *other = &w->model->messages[p->log[o]];
        const struct group_view *g = model_view(other, group);
        if (other->key == m->key && other != m && g->token != token && g->until > granted_at &&
            g->token < token)
            world_fail(w,
                       "message %llu of key %d was delivered in group %d, granted at %llu, while client %d "
                       "holds %llu until %llu",
                       (unsigned long long)m->id, m->key, group, (unsigned long long)granted_at, g->holder,
                       (unsigned long long)other->id, (unsigned long long)g->until);
    }
}

bool model_delivered(struct world *w, int client, int group, const struct wire_record *r, struct view key,
                     struct view value, uint64_t token, uint64_t turn, uint32_t lease_ms)
{
    uint64_t granted_at = turn_time(w, turn);
    int64_t id = model_id_of(value, r->timestamp_ms);
    int part = model_part(w, r->partition);
    struct message *m = part != NONE && r->offset < w->model->parts[part].end
                            ? model_message(w, (uint64_t)w->model->parts[part].log[r->offset])
                            : NULL;
    if (m == NULL || group == NONE || m->value != (uint64_t)id) {
        world_fail(
            w, "client %d was given partition %u offset %llu with message %lld, which the log has not there",
            client, r->partition, (unsigned long long)r->offset, (long long)id);
        return false;
    }
    if ((m->key == NONE) != (key.data == NULL))
        world_fail(w, "message %llu was delivered with another key", (unsigned long long)m->id);
    struct group_view *g = model_view(m, group);
    world_trace(w,
                "client %d has message %llu of group %d (failures %u, grants %u), token %llx granted at %llu "
                "for %u ms",
                client, (unsigned long long)m->id, group, r->failures, r->grants, (unsigned long long)token,
                (unsigned long long)granted_at, lease_ms);
    if (token > g->row_token &&
        g->row_turn != turn) /* one that was given back in the turn that granted it has none */
        world_fail(w, "message %llu was delivered under a lease that has no row", (unsigned long long)m->id);
    if (turn < g->redriven_turn)
        return true;      /* of a grant before it was parked and redriven */
    if (token < g->token) /* the reply of an older grant, overtaken by a newer one's: its lease is over */
        return true;
    if (g->acked)
        world_fail(w, "message %llu was acked in group %d and was delivered again", (unsigned long long)m->id,
                   group);
    if (g->until > granted_at && g->token != token)
        world_fail(w, "message %llu was granted to client %d while client %d holds it until %llu (now %llu)",
                   (unsigned long long)m->id, client, g->holder, (unsigned long long)g->until,
                   (unsigned long long)granted_at);
    if (token > g->token && granted_at < g->not_before)
        world_fail(w, "message %llu was granted at %llu, its delay ends at %llu", (unsigned long long)m->id,
                   (unsigned long long)granted_at, (unsigned long long)g->not_before);
    if (r->failures > g->failures && r->grants == g->grants + 1 && !g->given_back &&
        granted_at < g->lease_end)
        world_fail(w, "message %llu: failures rose to %u, and nothing failed", (unsigned long long)m->id,
                   r->failures);
    if (r->failures < g->failures)
        world_fail(w, "message %llu: failures fell from %u to %u", (unsigned long long)m->id, g->failures,
                   r->failures);
    if (m->key != NONE && w->model->group_config[group].order == ORDER_KEY)
        check_alone(w, group, m, token, granted_at);
    if (token > g->token) {
        g->given_back = false;
        g->not_before = 0;
    }
    w->totals->copies_delivered += r->offset < w->model->parts[part].start;
    g->failures = r->failures;
    g->grants = r->grants;
    g->holder = client;
    g->token = token;
    g->granted_at = granted_at;
    g->lease_ms = lease_ms;
    g->until = g->lease_end = g->is.token == token ? granted_at + lease_ms : 0; /* it may be over already */
    return true;
}

void model_controlled(struct world *w, int group, uint8_t act, uint64_t turn)
{
    struct model *o = w->model;
    if (act != GROUP_PURGE) {
        if (o->group_turn[group] <= turn && o->paused[group] != (act == GROUP_PAUSE))
            world_fail(w, "group %d was told to %s, and its row says otherwise", group,
                       act == GROUP_PAUSE ? "pause" : "go on");
        return;
    }
    o->purged_turn[group] = turn;
    for (size_t i = 0; i < o->messages_n; i++) {
        struct message *m = &o->messages[i];
        const struct group_view *g = model_view(m, group);
        if (m->offset >= 0 && m->topic == group / GROUPS_PER_TOPIC && m->append_turn < turn &&
            g->redriven_turn < turn && !g->is.done && g->is.held != HELD_PARKED)
            world_fail(w, "group %d was purged, and message %llu waits", group, (unsigned long long)m->id);
    }
}

void model_clock_jumped(struct world *w)
{
    for (size_t i = 0; i < w->model->messages_n; i++)
        for (int g = 0; g < GROUPS_PER_TOPIC; g++)
            w->model->messages[i].group[g].not_before = 0;
}

void model_nacked(struct world *w, int group, struct message *m, uint64_t token, uint64_t since, uint64_t at,
                  uint64_t delay_ms)
{
    struct group_view *g = model_view(m, group);
    if (g->token == token && g->granted_at > since && at < g->lease_end && at > w->clock_jumped_at &&
        turn_time(w, g->row_turn) >= at) /* else the nack may have changed nothing */
        g->not_before = at + delay_ms;
    (void)w;
}

/* Another of the same key came in the same lease. */
static bool in_run(struct world *w, int group, const struct message *m, uint64_t token)
{
    for (int i = 0; i < PARTS && m->key != NONE; i++) {
        const struct part_view *p = &w->model->parts[i];
        for (size_t o = 0; o < p->end && p->topic == m->topic; o++) {
            struct message *other = &w->model->messages[p->log[o]];
            if (other != m && other->key == m->key && model_view(other, group)->token == token)
                return true;
        }
    }
    return false;
}

void model_run_ends(struct world *w, int group, const struct message *m, uint64_t token)
{
    for (int i = 0; i < PARTS && m->key != NONE; i++) { /* of a topic that grew a run may span two */
        const struct part_view *p = &w->model->parts[i];
        for (size_t o = 0; o < p->end && p->topic == m->topic; o++) {
            struct message *other = &w->model->messages[p->log[o]];
            struct group_view *g = model_view(other, group);
            if (other->key == m->key && g->token == token) {
                g->until = 0;
                g->given_back = true;
            }
        }
    }
}

void model_extended(struct world *w, int group, struct message *m, uint64_t token, uint64_t since,
                    uint64_t at)
{
    struct group_view *g = model_view(m, group);
    uint64_t end = at + g->lease_ms;
    if (g->token == token && g->granted_at > since && g->until != 0 && g->until < end &&
        !in_run(w, group, m, token)) /* a run ends with the first of its leases */
        g->until = g->lease_end = end;
}

void model_end(struct world *w)
{
    const struct model *o = w->model;
    for (int i = 0; i < GROUPS && !w->failed; i++) {
        bool key_blocked[KEYS] = {0};
        for (int p = 0; p < PARTS; p++) {
            if (o->parts[p].topic != i / GROUPS_PER_TOPIC)
                continue;
            for (size_t at = 0; at < o->parts[p].end && !w->failed; at++) {
                struct message *m = &o->messages[o->parts[p].log[at]];
                const struct group_view *g = model_view(m, i);
                bool parked = g->is.held == HELD_PARKED,
                     behind_parked = m->key != NONE && key_blocked[m->key];
                w->totals->parked += parked;
                if (parked && g->acked)
                    world_fail(w, "message %llu is acked and parked in group %d", (unsigned long long)m->id,
                               i);
                if (!spot_absent(&g->is) && !parked && !behind_parked)
                    world_fail(w, "message %llu (part %d offset %zu) never reached an end in group %d",
                               (unsigned long long)m->id, p, at, i);
                if (m->key != NONE)
                    key_blocked[m->key] |= g->is.blocking;
            }
        }
    }
}

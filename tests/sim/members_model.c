/* What must be true of a stream group, looked at in every millisecond. */
#include "members.h"

/* How long a live member may be without a partition that nobody live has: the session timeout of whoever had it, and the ways of messages. */
enum { SLACK_MS = 1500 };

struct stream *world_stream(const struct world *w)
{
    const struct group *g = map_get(&loop_engine(w->loop)->groups, w->group);
    return g->stream;
}

static const struct client *client_of(const struct world *w, struct id128 session)
{
    for (int i = 0; i < MEMBERS; i++)
        if (id128_eq(w->clients[i].session, session))
            return &w->clients[i];
    return NULL;
}

static bool healthy(const struct client *c) { return c != NULL && c->life == RUNNING && c->ready && c->joined; }

static struct id128 with(const struct claim *c)
{
    const struct member *m = c->owner != NULL ? c->owner : c->target;
    return m != NULL ? m->session_id : (struct id128){0};
}

void model_failed(struct world *w, const struct client *c)
{
    for (int p = 0; p < PARTITIONS && w->loop != NULL; p++)
        if (id128_eq(w->with[p], c->session))
            w->failed_ms[p] = world_ms(w);
}

void model_broker_began(struct world *w, bool cut)
{
    const struct stream *st = world_stream(w);
    for (int p = 0; p < PARTITIONS; p++) {
        uint64_t floor = st->group->parts[p]->done.floor;
        w->failed_ms[p] = world_ms(w);
        if (floor < w->acked[p])
            world_fail(w, "partition %d: committed %llu was confirmed, after the %s it is %llu", p, (unsigned long long)w->acked[p],
                       cut ? "power cut" : "restart", (unsigned long long)floor);
        w->seen[p] = floor;
    }
}

void model_given(struct client *c, int p, const struct wire_place *place)
{
    struct world *w = c->world;
    w->totals->given++;
    world_trace(w, "member %d has %d from %llu", c->index, p, (unsigned long long)place->offset);
    if (place->offset > w->done[p])
        world_fail(w, "partition %d: a new owner begins at %llu, messages from %llu on were done by nobody", p,
                   (unsigned long long)place->offset, (unsigned long long)w->done[p]);
}

void model_processed(struct client *c, int p, uint64_t to)
{
    struct world *w = c->world;
    if (!client_owns(c, p))
        world_fail(w, "member %d works on %d, which it does not own", c->index, p);
    w->totals->processed += to - c->parts[p].position;
    if (to <= w->done[p])
        w->totals->again += to - c->parts[p].position;
    else
        w->done[p] = to;
}

void model_committed(struct world *w, const struct op *op)
{
    const struct wire_group_commit *commit = &op->request.commit;
    for (uint32_t i = 0; op->reply.code == E_OK && i < commit->items_n; i++) {
        uint32_t p = commit->items[i].partition - w->partition;
        bool ok = op->reply.commit.codes_n == 0 || op->reply.commit.codes[i] == E_OK;
        if (ok && op->turn > w->sought_turn[p] && commit->items[i].offset > w->acked[p])
            w->acked[p] = commit->items[i].offset;
    }
}

void model_sought(struct world *w, int p, uint64_t offset, uint64_t turn)
{
    w->acked[p] = w->seen[p] = offset;
    w->sought_turn[p] = turn;
}

static void check_owners(struct world *w, int p)
{
    int owner = -1;
    for (int i = 0; i < MEMBERS; i++) {
        if (!client_owns(&w->clients[i], p))
            continue;
        if (owner >= 0)
            world_fail(w, "partition %d is owned by members %d and %d at once", p, owner, i);
        owner = i;
        if (w->clients[i].life == RUNNING)
            w->owned_ms[p] = world_ms(w);
    }
}

static void check_gap(struct world *w, int p, bool anybody, const struct claim *claim)
{
    struct id128 now_with = with(claim);
    if (!id128_eq(now_with, w->with[p]) && !healthy(client_of(w, now_with)))
        w->failed_ms[p] = world_ms(w); /* who follows has failed too */
    w->with[p] = now_with;
    if (!anybody)
        w->failed_ms[p] = world_ms(w);
    uint64_t from = w->owned_ms[p] > w->failed_ms[p] ? w->owned_ms[p] : w->failed_ms[p], gap = world_ms(w) - from;
    if (gap > w->totals->longest_gap_ms)
        w->totals->longest_gap_ms = gap;
    if (gap > TIMEOUT_MS + SLACK_MS)
        world_fail(w, "partition %d: nobody live owns it for %llu ms", p, (unsigned long long)gap);
}

static void check_commit(struct world *w, int p, uint64_t floor)
{
    if (floor < w->seen[p] || floor < w->acked[p])
        world_fail(w, "partition %d: the committed offset fell from %llu to %llu", p, (unsigned long long)w->seen[p], (unsigned long long)floor);
    if (floor > w->done[p])
        world_fail(w, "partition %d: %llu is committed, done is only %llu", p, (unsigned long long)floor, (unsigned long long)w->done[p]);
    w->seen[p] = floor;
}

void model_step(struct world *w)
{
    const struct stream *st = world_stream(w);
    bool anybody = false;
    for (int i = 0; i < MEMBERS; i++)
        anybody |= healthy(&w->clients[i]);
    for (int p = 0; p < PARTITIONS && !w->failed; p++) {
        check_owners(w, p);
        check_gap(w, p, anybody, st->claims[p]);
        check_commit(w, p, st->group->parts[p]->done.floor);
    }
}

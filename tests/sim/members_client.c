/* A member, as the library is one: see docs/protocol.md, Stream groups. */
#include "members.h"

#include <stdio.h>

static struct wire_request request(const struct client *c, enum wire_verb verb)
{
    return (struct wire_request){.session = c->session, .verb = verb};
}

bool client_owns(const struct client *c, int partition)
{
    return c->life != DEAD && c->parts[partition].owned && world_ms(c->world) < c->deadline_ms;
}

static void drop_all(struct client *c)
{
    for (int p = 0; p < PARTITIONS; p++)
        c->parts[p].owned = c->parts[p].revoked = false;
    c->told = false;
}

static void session_anew(struct client *c)
{
    c->session = (struct id128){rng_next(&c->world->rng), rng_next(&c->world->rng)};
    c->known = c->joined = c->beating = c->leaving = c->commit_sent = false;
    c->version = c->seq = c->deadline_ms = 0;
    c->items_n = 0;
    memset(c->parts, 0, sizeof c->parts);
    c->told = false;
}

void client_init(struct world *w, int index)
{
    struct client *c = &w->clients[index];
    c->world = w;
    c->index = index;
    c->wants = true;
    if (index % 4 == 3)
        snprintf(c->name, sizeof c->name, "s%d", index);
    session_anew(c);
    c->reconnect_at = world_ms(w) + rng_below(&w->rng, 500);
}

/* ---------------------------------------------------------------- what happens to it */

void client_lose_pipe(struct client *c, bool tell)
{
    struct world *w = c->world;
    if (c->pipe == 0)
        return;
    model_failed(w, c);
    if (tell && w->loop != NULL)
        loop_pipe_lost(w->loop, c->pipe);
    c->pipe = 0;
    c->ready = c->beating = c->commit_sent = false;
    c->reconnect_at = world_ms(w) + rng_below(&w->rng, rng_chance(&w->rng, 1, 4) ? 5000 : 200);
}

void client_hang(struct client *c, uint64_t ms)
{
    model_failed(c->world, c);
    c->life = HUNG;
    c->life_until = world_ms(c->world) + ms;
}

void client_die(struct client *c, uint64_t ms)
{
    client_lose_pipe(c, rng_chance(&c->world->rng, 3, 4)); /* else the broker does not hear of it */
    model_failed(c->world, c);
    c->life = DEAD;
    c->life_until = world_ms(c->world) + ms;
}

void client_leave(struct client *c, uint64_t ms)
{
    if (!c->joined || !c->ready)
        return;
    c->leaving = true;
    c->life_until = world_ms(c->world) + ms;
}

/* ---------------------------------------------------------------- what it is told */

static int index_of(const struct client *c, uint32_t partition)
{
    int p = (int)(partition - c->world->partition);
    if (p < 0 || p >= PARTITIONS)
        world_fail(c->world, "partition %u was assigned", partition);
    return c->world->failed ? 0 : p;
}

/* A generation that was given up is not taken up again: the answer may be older than that. It is named once more. */
static void assigned(struct client *c, const struct wire_member_reply *r)
{
    bool still[PARTITIONS] = {0};
    for (uint32_t i = 0; i < r->assigned_n; i++) {
        const struct wire_place *a = &r->assigned[i];
        int p = index_of(c, a->partition);
        struct part *part = &c->parts[p];
        if (a->generation <= part->given_up)
            continue;
        still[p] = true;
        if (!part->owned || part->generation != a->generation) {
            model_given(c, p, a);
            *part = (struct part){.owned = true, .generation = a->generation, .position = a->offset, .committed = a->offset,
                                  .given_up = part->given_up};
        }
        bool revoked = (a->flags & PLACE_REVOKED) != 0;
        if (revoked && !part->revoked) {
            c->world->totals->revoked++;
            part->finish_ms = world_ms(c->world) + rng_below(&c->world->rng, 200);
        }
        part->revoked = revoked;
    }
    for (int p = 0; p < PARTITIONS; p++)
        if (!still[p])
            c->parts[p].owned = c->parts[p].revoked = false;
    c->told = true;
}

static void member_reply(struct client *c, const struct op *op, uint64_t sent_ms)
{
    const struct wire_reply *r = &op->reply;
    c->beating = false;
    if (r->code == E_UNKNOWN_MEMBER) {
        c->world->totals->rejoins++;
        drop_all(c);
        c->joined = false;
        return;
    }
    if (r->code == E_MEMBER_FENCED) {
        c->world->totals->fenced++;
        drop_all(c);
        c->joined = false;
        struct wire_request leave = request(c, VERB_GROUP_LEAVE);
        leave.leave = (struct wire_group_leave){.group = c->world->group, .member = c->number};
        world_send(c, &leave);
        c->number++;
        c->name[0] = '\0';
        return;
    }
    if (r->code != E_OK)
        return;
    c->joined = true;
    uint64_t until = sent_ms + TIMEOUT_MS - MARGIN_MS;
    c->deadline_ms = until > c->deadline_ms ? until : c->deadline_ms;
    if (world_ms(c->world) >= c->deadline_ms)
        return; /* it came too late: it is asked again */
    c->version = r->member.version;
    if (r->member.changed)
        assigned(c, &r->member);
}

static void commit_reply(struct client *c, const struct op *op)
{
    c->commit_sent = false;
    if (op->reply.code != E_OK)
        return; /* it keeps its number and is sent again */
    c->seq++;
    for (uint32_t i = 0; i < c->items_n; i++) {
        uint16_t code = op->reply.commit.codes_n > 0 ? op->reply.commit.codes[i] : E_OK;
        int p = index_of(c, c->items[i].partition);
        if (code == E_OK) {
            c->world->totals->commits++;
            if (c->parts[p].generation == c->items[i].generation && c->parts[p].committed < c->items[i].offset)
                c->parts[p].committed = c->items[i].offset;
        } else if (code == E_STALE_GENERATION) {
            c->world->totals->stale_commits++;
        } else {
            world_fail(c->world, "a commit was answered %s", error_name(code));
        }
    }
    c->items_n = 0;
}

void client_reply(struct client *c, const struct op *op, uint64_t sent_ms)
{
    switch (op->request.verb) {
    case VERB_HELLO:
        if (op->reply.code == E_SESSION_EXPIRED) {
            session_anew(c);
            client_lose_pipe(c, true);
        } else if (op->reply.code == E_OK) {
            c->known = c->ready = true;
        }
        break;
    case VERB_GROUP_JOIN:
    case VERB_GROUP_HEARTBEAT:
        if (op->reply.code != E_AGAIN) /* else a newer one is out */
            member_reply(c, op, sent_ms);
        break;
    case VERB_GROUP_COMMIT:
        commit_reply(c, op);
        break;
    default:
        break;
    }
}

/* ---------------------------------------------------------------- what it does */

static void say_hello(struct client *c)
{
    c->pipe = ++c->world->pipes;
    c->last_out = c->last_in = 0;
    struct wire_request r = request(c, VERB_HELLO);
    r.hello = (struct wire_hello){.version_min = 1, .version_max = 1, .resume = c->known, .name = VIEW_LIT("member")};
    world_send(c, &r);
}

static void join(struct client *c)
{
    struct wire_request r = request(c, VERB_GROUP_JOIN);
    r.join = (struct wire_group_join){.topic = VIEW_LIT("t"), .group = VIEW_LIT("g"), .member = c->number, .timeout_ms = TIMEOUT_MS,
                                      .name = c->name[0] != '\0' ? view_of_str(c->name) : (struct view){0}};
    c->world->totals->joins++;
    c->world->totals->static_joins += c->name[0] != '\0';
    c->world->totals->allowed_moves += PARTITIONS / (world_stream(c->world)->members_n + 1) + 1;
    drop_all(c);
    c->version = 0;
    c->beating = true;
    world_send(c, &r);
}

static void beat(struct client *c)
{
    struct wire_place released[PARTITIONS];
    uint32_t n = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        if (c->parts[p].given_up != 0)
            released[n++] = (struct wire_place){.partition = c->world->partition + p, .generation = c->parts[p].given_up};
    struct wire_request r = request(c, VERB_GROUP_HEARTBEAT);
    r.heartbeat = (struct wire_group_heartbeat){.group = c->world->group, .member = c->number, .version = c->told ? c->version : 0,
                                                .wait_ms = TIMEOUT_MS, .released = released, .released_n = n};
    c->beating = true;
    world_send(c, &r);
}

static void commit(struct client *c)
{
    if (c->items_n == 0) {
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            const struct part *part = &c->parts[p];
            if (!part->owned || part->position <= part->committed)
                continue;
            uint64_t older = rng_chance(&c->world->rng, 1, 10) ? rng_below(&c->world->rng, part->position + 1) : 0; /* overtaken by a newer one */
            c->items[c->items_n++] = (struct wire_place){.partition = c->world->partition + p, .generation = part->generation,
                                                         .offset = part->position - older};
        }
        if (c->items_n == 0)
            return;
    }
    struct wire_request r = request(c, VERB_GROUP_COMMIT);
    r.seq = c->seq + 1;
    r.replies_seen = c->seq;
    r.commit = (struct wire_group_commit){.group = c->world->group, .items = c->items, .items_n = c->items_n};
    c->commit_sent = true;
    world_send(c, &r);
}

static void process(struct client *c)
{
    struct world *w = c->world;
    for (int p = 0; p < PARTITIONS; p++) {
        struct part *part = &c->parts[p];
        if (!part->owned || part->revoked || part->position >= w->ends[p])
            continue;
        uint64_t n = 1 + rng_below(&w->rng, w->ends[p] - part->position);
        model_processed(c, p, part->position + n);
        part->position += n;
    }
}

/* What it is to give up it gives up when it has committed what it did, or its time there is over. */
static bool gives_up(struct client *c)
{
    bool any = false;
    for (int p = 0; p < PARTITIONS; p++) {
        struct part *part = &c->parts[p];
        if (!part->owned || !part->revoked || world_ms(c->world) < part->finish_ms)
            continue;
        if (part->position > part->committed && c->items_n == 0)
            commit(c);
        if (part->position > part->committed && world_ms(c->world) < part->finish_ms + 500)
            continue;
        part->owned = part->revoked = false;
        part->given_up = part->generation;
        any = true;
    }
    return any;
}

static void leave(struct client *c)
{
    struct world *w = c->world;
    bool keep = c->name[0] != '\0' && rng_chance(&w->rng, 3, 4);
    struct wire_request r = request(c, VERB_GROUP_LEAVE);
    drop_all(c); /* before it says so */
    if (rng_chance(&w->rng, 1, 4)) {
        r = request(c, VERB_BYE);
        c->known = false;
    } else {
        r.leave = (struct wire_group_leave){.group = w->group, .member = c->number, .keep = keep};
    }
    world_send(c, &r);
    w->totals->leaves++;
    w->totals->kept_leaves += keep;
    uint64_t until = c->life_until;
    client_lose_pipe(c, true);
    c->life = DEAD;
    c->life_until = until;
}

void client_step(struct client *c)
{
    struct world *w = c->world;
    uint64_t now = world_ms(w);
    if (c->life == DEAD && now >= c->life_until) {
        c->life = RUNNING;
        c->pipe = 0;
        c->ready = false;
        session_anew(c);
        c->reconnect_at = now;
    }
    if (c->life == HUNG && now >= c->life_until)
        c->life = RUNNING;
    if (c->life != RUNNING)
        return;
    if (c->told && now >= c->deadline_ms) {
        w->totals->lost_by_time++;
        drop_all(c);
    }
    if (c->pipe == 0 && now >= c->reconnect_at && w->loop != NULL)
        say_hello(c);
    if (!c->ready)
        return;
    if (c->leaving) {
        leave(c);
        return;
    }
    bool released = gives_up(c);
    if (!c->joined && !c->beating)
        join(c);
    else if (c->joined && (released || !c->beating))
        beat(c);
    if (rng_chance(&w->rng, 1, 20))
        process(c);
    if (!c->commit_sent && (c->items_n > 0 || rng_chance(&w->rng, 1, 300)))
        commit(c);
}

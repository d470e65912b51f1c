/* Clients: see client.h. Sessions, their lanes, and requests that are sent until they are answered. */
#include "client.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* ---------------------------------------------------------------- requests */

struct request *client_request(struct client *c, enum request_kind kind, enum wire_verb verb)
{
    struct request *r = mem_zalloc(sizeof *r);
    r->kind = kind;
    r->verb = verb;
    list_push_back(&c->requests, &r->link);
    return r;
}

static void request_free(struct request *r)
{
    if (r->refs > 0 || list_linked(&r->link))
        return;
    ref_drop(r->bytes);
    mem_free(r);
}

void request_end(struct request *r)
{
    list_remove(&r->link);
    request_free(r);
}

static struct lane_view *lane_of(struct client *c, const struct request *r)
{
    return r->kind == R_PRODUCE ? &c->lanes[r->batch.part] : &c->lanes[PARTS];
}

/* What the engine is given lives as long as the operation. */
static struct view text_copy(struct arena *a, const char *text)
{
    size_t size = strlen(text);
    char *copy = arena_take(a, size + 1);
    memcpy(copy, text, size);
    return size > 0 ? view_of(copy, size) : (struct view){0};
}

static struct wire_produce wire_of(const struct client *c, const struct request *r, const struct batch *b,
                                   struct arena *a)
{
    struct wire_produce w = {.partition = c->world->model->parts[b->part].id,
                             .count = b->count,
                             .batch_hash = b->hash,
                             .batch = view_of(ref_view(r->bytes).data + b->at, b->size)};
    if (b->sched != NONE) {
        const struct sched *s = model_sched(c->world, b->sched);
        w.delay_ms = s->delay_ms;
        w.at_ms = s->at_ms;
        w.cron = s->cron ? VIEW_LIT("* * * * *") : (struct view){0};
        w.name = text_copy(a, s->name);
    }
    return w;
}

static struct wire_receive *receive_of(const struct request *r, struct arena *a)
{
    struct wire_receive *out = arena_take(a, sizeof *out);
    *out = (struct wire_receive){.slot = r->slot,
                                 .counter = r->counter,
                                 .groups = r->groups,
                                 .groups_n = r->groups_n,
                                 .max_messages = r->max_messages,
                                 .wait_ms = r->wait_ms};
    return out;
}

static const struct id128 *ids_of(const struct client *c, const struct batch *b, struct arena *a)
{
    struct id128 *ids = arena_take(a, BATCH_MAX * sizeof *ids);
    bool any = false;
    for (uint32_t i = 0; i < b->count; i++) {
        char value[32];
        if (!model_message(c->world, b->ids[i])->has_id)
            continue;
        int size = snprintf(value, sizeof value, "m%llu", (unsigned long long)b->ids[i]);
        ids[i] = message_id_hash(view_of(value, (size_t)size));
        any = true;
    }
    return any ? ids : NULL;
}

/* As the broker's checks see it, which know as much of the topic as the client does. */
static struct op_batch checked_of(const struct client *c, const struct batch *b, struct arena *a)
{
    struct world *w = c->world;
    struct op_batch out = {.last_delta = b->count - 1, .message_ids = ids_of(c, b, a)};
    for (uint32_t i = 0; i < b->count; i++) {
        if (model_message(w, b->ids[i])->key == NONE)
            continue;
        out.partitions = w->model->topic_config[w->model->parts[b->part].topic].partitions;
        if (out.misfit == 0 && !batch_fits(w, b, i))
            out.misfit = i + 1;
    }
    return out;
}

static void unit_fill(const struct client *c, const struct request *r, const struct unit *u,
                      struct wire_unit *out, struct op_batch *checked, struct arena *a)
{
    struct wire_settle_item *items = arena_take(a, UNIT_ITEMS * sizeof *items);
    struct wire_produce *produces = arena_take(a, UNIT_BATCHES * sizeof *produces);
    struct wire_state_put *puts = arena_take(a, UNIT_PUTS * sizeof *puts);
    for (uint32_t i = 0; i < u->items_n; i++)
        items[i] = u->items[i].wire;
    for (uint32_t i = 0; i < u->batches_n; i++) {
        produces[i] = wire_of(c, r, &u->batches[i], a);
        checked[i] = checked_of(c, &u->batches[i], a);
    }
    for (uint32_t i = 0; i < u->puts_n; i++)
        puts[i] = (struct wire_state_put){.group = c->world->model->group_ids[u->puts[i].group],
                                          .key = key_name(u->puts[i].key),
                                          .version = u->puts[i].version,
                                          .value = view_of_str(u->puts[i].text),
                                          .remove = u->puts[i].remove};
    *out = (struct wire_unit){.items = items,
                              .items_n = u->items_n,
                              .produces = produces,
                              .produces_n = u->batches_n,
                              .state = puts,
                              .state_n = u->puts_n};
}

static void settle_fill(const struct client *c, const struct request *r, struct op *op)
{
    struct wire_settle *s = &op->request.settle;
    struct wire_settle_item *singles = arena_take(&op->arena, SETTLE_MAX * sizeof *singles);
    struct wire_unit *units = arena_take(&op->arena, UNITS_MAX * sizeof *units);
    struct op_batch *checked = arena_take(&op->arena, UNITS_MAX * UNIT_BATCHES * sizeof *checked);
    for (uint32_t i = 0; i < r->items_n; i++)
        singles[i] = r->items[i].wire;
    op->unit_batches = checked;
    for (uint32_t i = 0; i < r->units_n; i++) {
        const struct unit *u = model_unit(c->world, r->units[i]);
        unit_fill(c, r, u, &units[i], checked, &op->arena);
        checked += u->batches_n;
    }
    *s = (struct wire_settle){
        .singles = singles, .singles_n = r->items_n, .units = units, .units_n = r->units_n};
    if (r->carries)
        s->receive = receive_of(r, &op->arena);
}

static void fill(struct client *c, struct request *r, struct op *op)
{
    struct wire_request *w = &op->request;
    *w = (struct wire_request){.session = c->session, .verb = r->verb, .lane = r->lane, .seq = r->seq};
    if (r->seq != 0)
        w->replies_seen = lane_of(c, r)->seen;
    switch (r->kind) {
    case R_HELLO:
        w->hello = (struct wire_hello){
            .version_min = 1, .version_max = 1, .name = VIEW_LIT("sim"), .resume = c->known};
        break;
    case R_PRODUCE:
        w->produce = wire_of(c, r, &r->batch, &op->arena);
        op->batch = checked_of(c, &r->batch, &op->arena);
        break;
    case R_RECEIVE:
        w->receive = *receive_of(r, &op->arena);
        break;
    case R_SETTLE:
        settle_fill(c, r, op);
        break;
    case R_ADMIN:
        if (r->group[0] == '\0')
            w->topic = (struct wire_topic_set){.name = view_of_str(r->topic), .config = r->topic_config, .mask = r->mask};
        else
            w->group = (struct wire_group_set){
                .topic = view_of_str(r->topic), .name = view_of_str(r->group), .config = r->group_config};
        break;
    case R_LOOK:
        w->list = (struct wire_list){.name = view_of_str(r->topic), .limit = 1};
        break;
    case R_FETCH:
        w->fetch =
            (struct wire_fetch){.from = &r->from, .from_n = 1, .max_bytes = 100000, .wait_ms = r->wait_ms};
        break;
    case R_TASK:
        if (r->verb == VERB_TASK_CANCEL) {
            w->task = (struct wire_task){.id = r->task};
            break;
        }
        w->held_change = r->change;
        setup_names(r->change_group, &w->held_change.topic, &w->held_change.group);
        if (r->change.filter != NULL)
            w->held_change.filter = &r->filter;
        break;
    case R_CONTROL:
        if (r->verb == VERB_GROUP_ALTER) {
            w->group = (struct wire_group_set){.config = r->group_config, .mask = r->mask};
            setup_names(r->change_group, &w->group.topic, &w->group.name);
        } else {
            w->control.act = r->control;
            setup_names(r->change_group, &w->control.topic, &w->control.name);
        }
        break;
    case R_SCHED:
        w->sched = r->move;
        setup_names(model_sched(c->world, r->sched)->topic * GROUPS_PER_TOPIC, &w->sched.topic,
                    &w->sched.name);
        w->sched.name = text_copy(&op->arena, model_sched(c->world, r->sched)->name);
        break;
    case R_STATE:
        w->state_get = (struct wire_state_get){.group = c->world->model->group_ids[r->state_group],
                                               .key = key_name(r->state_key)};
        break;
    case R_BYE:
        break;
    }
}

/* Two copies of a receive that were stepped in one turn have the same leases, whoever sees their replies. */
static void check_repeat(struct world *w, struct request *r, const struct op *op)
{
    if (op->reply.code != E_OK || op->reply.receive.deliveries_n == 0 || op->turn == 0)
        return;
    uint64_t token = op->reply.receive.deliveries[0].token;
    bool same_epoch = r->first_token >> 40 == token >> 40; /* turns that a power cut took are counted again */
    if (r->first_turn == op->turn && r->first_token != token && same_epoch)
        world_fail(w, "a receive and its repeat in turn %llu were given tokens %llx and %llx",
                   (unsigned long long)op->turn, (unsigned long long)r->first_token,
                   (unsigned long long)token);
    r->first_turn = op->turn;
    r->first_token = token;
}

static void on_done(struct op *op)
{
    struct sim_op *so = container_of(op, struct sim_op, op);
    struct client *c = so->client;
    struct world *w = c->world;
    if (op->level == DURABILITY_DISK && op->turn > w->synced && !w->broker_down)
        world_fail(w, "a reply left before its turn %llu was synced (synced %llu)",
                   (unsigned long long)op->turn, (unsigned long long)w->synced);
    if (so->request->kind == R_RECEIVE && !w->broker_down)
        check_repeat(w, so->request, op);
    bool lost = w->broker_down || c->pipe != so->pipe;
    if (!lost && !w->draining && rng_chance(&w->rng, 1, 60)) {
        client_lose_pipe(w, c, true);
        lost = true;
    }
    if (!lost && list_linked(&so->request->link))
        reply_arrived(so);
    so->request->refs--; /* kept so far, whatever became of it */
    request_free(so->request);
    ref_drop(op->hold);
    buf_free(&op->payload);
    arena_free(&op->arena);
    mem_free(so);
}

/* Leases of a session without a pipe return after the grace: from then on somebody else may hold them. */
static void leases_until(struct client *c, uint64_t most)
{
    for (size_t i = 0; i < c->held_n; i++) {
        struct message *m = model_message(c->world, c->held[i].id);
        struct group_view *g = model_view(m, c->held[i].group);
        if (g->token == c->held[i].token && g->until > most)
            g->until = most;
    }
}

static void send_one(struct client *c, struct request *r)
{
    struct sim_op *so = mem_zalloc(sizeof *so);
    so->client = c;
    so->request = r;
    so->pipe = c->pipe;
    so->hash = r->batch.hash;
    arena_init(&so->op.arena, 1 << 20);
    fill(c, r, &so->op);
    so->op.pipe = c->pipe;
    so->op.bytes = 100;
    so->op.done = on_done;
    if (r->bytes != NULL)
        so->op.hold = ref_take(r->bytes);
    r->refs++;
    r->sent = true;
    if (r->kind == R_BYE)
        leases_until(c, client_now(c));
    if (loop_submit(c->world->loop, &so->op) != E_OK)
        world_fail(c->world, "the inbox is full");
}

/* Sends what was not sent on this pipe; a lane's requests in order, none past one that waits. */
void client_send_due(struct world *w, struct client *c)
{
    bool lane_waits[PARTS + 1] = {0};
    if (c->pipe == 0 || w->loop == NULL)
        return;
    LIST_EACH_SAFE (n, &c->requests) {
        struct request *r = container_of(n, struct request, link);
        if (r->sent || (!c->ready && r->kind != R_HELLO))
            continue;
        if (r->kind == R_PRODUCE) {
            int part = r->batch.part;
            if (r->not_before > client_now(c) || lane_waits[part]) {
                lane_waits[part] = true;
                continue;
            }
            if (!w->draining && rng_chance(&w->rng, 1, 20))
                r->late_until = client_now(c) + rng_below(&w->rng, 1000);
            if (r->late_until > client_now(c))
                continue; /* its successors go first, and are out of order */
        } else if (r->not_before > client_now(c)) {
            continue;
        }
        send_one(c, r);
        if (r->kind != R_HELLO && r->kind != R_BYE && rng_chance(&w->rng, 1, 12))
            send_one(c, r); /* a repeat on the heels of the first */
    }
}

/* ---------------------------------------------------------------- connecting */

void client_connect(struct world *w, struct client *c)
{
    c->pipe = ++w->pipes;
    c->pipe_since = w->now.mono_ms;
    c->ready = false;
    LIST_EACH_SAFE (n, &c->requests) {
        struct request *r = container_of(n, struct request, link);
        r->sent = false;
        r->not_before = 0;
        if (r->kind == R_HELLO || r->kind == R_BYE)
            request_end(r);
    }
    struct request *hello = client_request(c, R_HELLO, VERB_HELLO);
    list_remove(&hello->link);
    list_push_front(&c->requests, &hello->link);
    client_send_due(w, c);
}

void client_lose_pipe(struct world *w, struct client *c, bool tell)
{
    if (c->pipe == 0)
        return;
    world_trace(w, "client %d loses its pipe %llu", c->index, (unsigned long long)c->pipe);
    if (tell && w->loop != NULL)
        loop_pipe_lost(w->loop, c->pipe);
    c->pipe = 0;
    c->ready = false;
    leases_until(c, client_now(c) + w->limits.session_grace_ms);
    c->reconnect_at = client_now(c) + rng_below(&w->rng, 3000);
    w->totals->client_crashes++;
}

void client_forget_session(struct world *w, struct client *c)
{
    while (!list_empty(&c->requests)) {
        struct request *r = container_of(list_first(&c->requests), struct request, link);
        if (r->kind == R_ADMIN)
            w->admin_busy = false;
        for (uint32_t i = 0; r->kind == R_PRODUCE && i < r->batch.count && c->again_n < AGAIN_MAX; i++)
            if (model_message(w, r->batch.ids[i])->has_id)
                c->again[c->again_n++] = r->batch.ids[i];
        request_end(r);
    }
    leases_until(c, client_now(c));
    c->held_n = 0;
    c->session = (struct id128){rng_next(&w->rng), rng_next(&w->rng)};
    c->known = false;
    memset(c->lanes, 0, sizeof c->lanes);
    for (int i = 0; i <= PARTS; i++)
        c->lanes[i].next = 1;
    memset(c->slot_counter, 0, sizeof c->slot_counter);
    memset(c->slot_busy, 0, sizeof c->slot_busy);
    memset(c->state, 0, sizeof c->state);
}

void client_crash(struct world *w, struct client *c)
{
    client_lose_pipe(w, c, true);
    client_forget_session(w, c);
    w->totals->clients_anew++;
}

/* ---------------------------------------------------------------- what is known */

void client_lane_answered(struct client *c, const struct request *r)
{
    struct lane_view *l = lane_of(c, r);
    if (r->seq <= l->seen)
        return;
    l->answered |= UINT64_C(1) << (r->seq - l->seen - 1);
    while ((l->answered & 1) != 0) {
        l->seen++;
        l->answered >>= 1;
    }
}

void client_hold(struct client *c, struct held h)
{
    for (size_t i = 0; i < c->held_n; i++)
        if (c->held[i].id == h.id && c->held[i].group == h.group) {
            if (h.token > c->held[i].token) /* else an older reply was overtaken */
                c->held[i] = h;
            return;
        }
    if (c->held_n == c->held_cap) {
        c->held_cap = c->held_cap > 0 ? 2 * c->held_cap : 16;
        c->held = mem_resize(c->held, c->held_cap, sizeof *c->held);
    }
    c->held[c->held_n++] = h;
}

void clients_init(struct world *w)
{
    w->clients = mem_array(CLIENTS, sizeof *w->clients);
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &w->clients[i];
        c->index = i;
        c->world = w;
        list_init(&c->requests);
        client_forget_session(w, c);
    }
}

void clients_free(struct world *w)
{
    for (int i = 0; i < CLIENTS; i++) {
        client_forget_session(w, &w->clients[i]);
        mem_free(w->clients[i].held);
    }
    mem_free(w->clients);
}

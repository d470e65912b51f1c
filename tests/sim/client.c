/* Clients: see sim.h. Each behaves as the protocol asks, over pipes that are lost and brokers that die. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "schemas/stored.h"
#include "sim.h"

struct sim_op {
    struct op op;
    struct client *client;
    struct request *request;
    uint64_t pipe;
    bool told; /* the first of two copies */
};

static uint64_t now_ms(const struct client *c) { return c->world->now.mono_ms; }

/* ---------------------------------------------------------------- requests */

struct request *client_request(struct client *c, enum request_kind kind, enum wire_verb verb)
{
    struct request *r = mem_zalloc(sizeof *r);
    r->kind = kind;
    r->verb = verb;
    r->first_offset = -1;
    list_push_back(&c->requests, &r->link);
    return r;
}

static void request_free(struct request *r)
{
    if (r->refs > 0 || list_linked(&r->link))
        return;
    ref_drop(r->batch);
    mem_free(r);
}

static void request_end(struct request *r)
{
    list_remove(&r->link);
    request_free(r);
}

static struct lane_view *lane_of(struct client *c, const struct request *r)
{
    return r->kind == R_PRODUCE ? &c->lanes[model_part(c->world, r->partition)] : &c->lanes[PARTS];
}

static void fill(struct client *c, struct request *r, struct wire_request *w)
{
    *w = (struct wire_request){.session = c->session, .verb = r->verb, .lane = r->lane, .seq = r->seq};
    if (r->seq != 0)
        w->replies_seen = lane_of(c, r)->seen;
    switch (r->kind) {
    case R_HELLO:
        w->hello = (struct wire_hello){.version_min = 1, .version_max = 1, .name = VIEW_LIT("sim"), .resume = c->known};
        break;
    case R_PRODUCE:
        w->produce = (struct wire_produce){.partition = r->partition, .count = r->count, .batch_hash = r->hash, .batch = ref_view(r->batch)};
        break;
    case R_RECEIVE:
        w->receive = (struct wire_receive){.slot = r->slot, .counter = r->counter, .groups = r->groups, .groups_n = r->groups_n,
                                           .max_messages = r->max_messages, .wait_ms = r->wait_ms};
        break;
    case R_SETTLE:
        r->unit = (struct wire_unit){.items = r->items, .items_n = r->items_n};
        if (r->as_unit)
            w->settle = (struct wire_settle){.units = &r->unit, .units_n = 1};
        else
            w->settle = (struct wire_settle){.singles = r->items, .singles_n = r->items_n};
        break;
    case R_ADMIN:
        if (r->group[0] == '\0')
            w->topic = (struct wire_topic_set){.name = view_of_str(r->topic), .config = r->topic_config};
        else
            w->group = (struct wire_group_set){.topic = view_of_str(r->topic), .name = view_of_str(r->group), .config = r->group_config};
        break;
    case R_FETCH:
        w->fetch = (struct wire_fetch){.from = &r->from, .from_n = 1, .max_bytes = 100000, .wait_ms = r->wait_ms};
        break;
    case R_BYE:
        break;
    }
}

static void reply_arrived(struct sim_op *so);

/* Two copies of a receive that were stepped in one turn have the same leases, whoever sees their replies. */
static void check_repeat(struct world *w, struct request *r, const struct op *op)
{
    if (op->reply.code != E_OK || op->reply.receive.deliveries_n == 0 || op->turn == 0)
        return;
    uint64_t token = op->reply.receive.deliveries[0].token;
    if (r->first_turn == op->turn && r->first_token != token)
        world_fail(w, "a receive and its repeat in turn %llu were given tokens %llx and %llx", (unsigned long long)op->turn,
                   (unsigned long long)r->first_token, (unsigned long long)token);
    r->first_turn = op->turn;
    r->first_token = token;
}

static void on_done(struct op *op)
{
    struct sim_op *so = container_of(op, struct sim_op, op);
    struct client *c = so->client;
    struct world *w = c->world;
    if (op->level == DURABILITY_DISK && op->turn > w->synced && !w->broker_down)
        world_fail(w, "a reply left before its turn %llu was synced (synced %llu)", (unsigned long long)op->turn, (unsigned long long)w->synced);
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
        struct group_view *g = &m->group[c->held[i].group % GROUPS_PER_TOPIC];
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
    arena_init(&so->op.arena, 1 << 20);
    fill(c, r, &so->op.request);
    so->op.pipe = c->pipe;
    so->op.bytes = 100;
    so->op.done = on_done;
    if (r->kind == R_PRODUCE) {
        so->op.hold = ref_take(r->batch);
        so->op.batch.last_delta = r->count - 1;
    }
    r->refs++;
    r->sent = true;
    if (r->kind == R_BYE)
        leases_until(c, now_ms(c));
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
            int part = model_part(w, r->partition);
            if (r->not_before > now_ms(c) || lane_waits[part]) {
                lane_waits[part] = true;
                continue;
            }
            if (!w->draining && rng_chance(&w->rng, 1, 20))
                r->late_until = now_ms(c) + rng_below(&w->rng, 1000);
            if (r->late_until > now_ms(c))
                continue; /* its successors go first, and are out of order */
        } else if (r->not_before > now_ms(c)) {
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
    leases_until(c, now_ms(c) + w->limits.session_grace_ms);
    c->reconnect_at = now_ms(c) + rng_below(&w->rng, 3000);
    w->totals->client_crashes++;
}

void client_forget_session(struct world *w, struct client *c)
{
    while (!list_empty(&c->requests)) {
        struct request *r = container_of(list_first(&c->requests), struct request, link);
        if (r->kind == R_ADMIN)
            w->admin_busy = false;
        request_end(r);
    }
    leases_until(c, now_ms(c));
    c->held_n = 0;
    c->session = (struct id128){rng_next(&w->rng), rng_next(&w->rng)};
    c->known = false;
    memset(c->lanes, 0, sizeof c->lanes);
    for (int i = 0; i <= PARTS; i++)
        c->lanes[i].next = 1;
    memset(c->slot_counter, 0, sizeof c->slot_counter);
    memset(c->slot_busy, 0, sizeof c->slot_busy);
}

/* ---------------------------------------------------------------- replies */

static void lane_answered(struct client *c, const struct request *r)
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

static void hello_reply(struct client *c, struct request *r, const struct wire_reply *reply)
{
    if (reply->code == E_OK) {
        c->ready = true;
        c->known = true;
        request_end(r);
    } else if (reply->code == E_SESSION_EXPIRED) {
        c->world->totals->sessions_expired++;
        client_forget_session(c->world, c);
        c->pipe = 0;
        c->reconnect_at = 0;
    } else {
        r->sent = false;
        r->not_before = now_ms(c) + 200;
    }
}

static void produce_reply(struct client *c, struct request *r, const struct wire_reply *reply)
{
    struct world *w = c->world;
    for (uint32_t i = 0; i < r->count; i++)
        model_acked(w, model_message(w, r->ids[i]), (int64_t)reply->produce.base_offset + i);
    w->totals->produced += r->count;
    lane_answered(c, r);
    request_end(r);
}

static void hold(struct client *c, uint64_t id, int group, uint64_t token, uint64_t until)
{
    for (size_t i = 0; i < c->held_n; i++)
        if (c->held[i].id == id && c->held[i].group == group) {
            c->held[i].token = token;
            c->held[i].until = until;
            return;
        }
    if (c->held_n == c->held_cap) {
        c->held_cap = c->held_cap > 0 ? 2 * c->held_cap : 16;
        c->held = mem_resize(c->held, c->held_cap, sizeof *c->held);
    }
    c->held[c->held_n++] = (struct held){.id = id, .token = token, .group = group, .until = until};
}

static void receive_reply(struct client *c, struct request *r, const struct wire_reply *reply, const struct op *op)
{
    struct world *w = c->world;
    uint64_t granted_at = turn_time(w, op->turn);
    if (reply->receive.counter != r->counter)
        world_fail(w, "a receive with counter %llu was answered for %llu", (unsigned long long)r->counter, (unsigned long long)reply->receive.counter);
    for (uint32_t d = 0; d < reply->receive.deliveries_n; d++) {
        const struct wire_delivery *delivery = &reply->receive.deliveries[d];
        int group = model_group(w, delivery->group);
        const uint8_t *at = delivery->data.data;
        for (uint32_t i = 0; i < delivery->records_n; i++) {
            const struct wire_record *x = &delivery->records[i];
            size_t key_size = x->key_size > 0 ? x->key_size - 1 : 0, value_size = x->value_size > 0 ? x->value_size - 1 : 0;
            struct view key = x->key_size > 0 ? view_of(at, key_size) : (struct view){0};
            struct view value = view_of(at + key_size + x->headers_size, value_size);
            if (record_sum(x->key_size, x->headers_size, x->value_size, at, at + key_size, value.data) != x->sum)
                world_fail(w, "a delivered record does not fit its sum");
            at += key_size + x->headers_size + value_size;
            model_delivered(w, c->index, group, x, key, value, delivery->token, granted_at, delivery->lease_ms);
            if (w->failed)
                return;
            hold(c, (uint64_t)w->parts[model_part(w, x->partition)].log[x->offset], group, delivery->token, granted_at + delivery->lease_ms);
            w->totals->delivered++;
            w->totals->redelivered += x->failures > 0;
        }
        if (delivery->records_n > 0 && at != delivery->data.data + delivery->data.size)
            world_fail(w, "a delivery has %zu bytes too many", (size_t)(delivery->data.data + delivery->data.size - at));
    }
    c->slot_busy[r->slot] = false;
    request_end(r);
}

static void item_settled(struct client *c, const struct request *r, uint32_t i, int code, uint64_t at)
{
    struct world *w = c->world;
    struct message *m = model_message(w, r->item_ids[i]);
    struct group_view *g = &m->group[r->item_groups[i] % GROUPS_PER_TOPIC];
    uint8_t verb = r->items[i].verb;
    bool ends = verb == SETTLE_ACK || verb == SETTLE_PARK;
    if (ends)
        g->pending_done--;
    w->totals->late_units += code == E_LEASE_LOST;
    if (code != E_OK) {
        if (code != E_LEASE_LOST && !(code == E_INVALID_ARGUMENT && r->as_unit))
            world_fail(w, "a settle item was answered %d", code);
        return;
    }
    if (verb == SETTLE_ACK)
        g->done = true;
    if (verb == SETTLE_NACK && (r->items[i].flags & SETTLE_HAS_DELAY) != 0)
        model_nacked(w, r->item_groups[i], m, r->items[i].token, c->pipe_since, at, r->items[i].delay_ms);
    if (verb == SETTLE_EXTEND)
        model_extended(w, r->item_groups[i], m, r->items[i].token, c->pipe_since, at);
    w->totals->acked += verb == SETTLE_ACK;
    w->totals->nacked += verb == SETTLE_NACK;
    w->totals->released += verb == SETTLE_RELEASE;
    w->totals->parked_by_client += verb == SETTLE_PARK;
    w->totals->extended += verb == SETTLE_EXTEND;
    if (verb == SETTLE_PARK && !model_parked(w, r->item_groups[i], m))
        world_fail(w, "message %llu was parked and is not", (unsigned long long)m->id);
}

static void settle_reply(struct client *c, struct request *r, const struct wire_reply *reply, const struct op *op)
{
    const struct wire_settle_reply *s = &reply->settle;
    uint32_t expected = r->as_unit ? 1 : r->items_n;
    if (s->codes != NULL && s->codes_n != expected)
        world_fail(c->world, "a settle of %u units was answered with %u codes", expected, s->codes_n);
    for (uint32_t i = 0; i < r->items_n && !c->world->failed; i++)
        item_settled(c, r, i, s->codes == NULL ? E_OK : s->codes[r->as_unit ? 0 : i], turn_time(c->world, op->turn));
    c->world->totals->units += r->as_unit;
    lane_answered(c, r);
    request_end(r);
}

static void fetch_reply(struct client *c, struct request *r, const struct wire_reply *reply)
{
    struct world *w = c->world;
    const struct wire_fetch_part *part = &reply->fetch.parts[0];
    int index = model_part(w, part->partition);
    const struct part_view *p = &w->parts[index];
    struct err e = {0};
    model_follow_log(w);
    if (part->code != E_OK && part->code != E_OFFSET_OUT_OF_RANGE)
        world_fail(w, "a fetch was answered %u", part->code);
    for (struct view rest = part->data; rest.size > 0 && !w->failed;) {
        struct stored_header h;
        struct view batch;
        struct batch_reader reader;
        if (stored_next(&rest, &h, &batch, &e) != E_OK || batch_reader_open(&reader, batch, &e) != E_OK) {
            world_fail(w, "fetched bytes do not read: %s", e.text);
            return;
        }
        size_t bound = w->durability[p->topic] == DURABILITY_DISK ? p->synced_end : p->end;
        if (h.base_offset + h.count > bound)
            world_fail(w, "a fetch showed offset %llu of part %d, which may be seen up to %zu", (unsigned long long)h.base_offset, index, bound);
        for (uint32_t i = 0; i < h.count && !w->failed; i++) {
            struct record record;
            char text[32];
            int n = snprintf(text, sizeof text, "m%lld", (long long)p->log[h.base_offset + i]);
            if (batch_reader_get(&reader, i, &record, &e) != E_OK || !view_eq(record.value, view_of(text, (size_t)n)))
                world_fail(w, "a fetch gave another message at offset %llu", (unsigned long long)(h.base_offset + i));
            w->totals->fetched++;
        }
        batch_reader_close(&reader);
    }
    request_end(r);
}

static void admin_reply(struct client *c, struct request *r, const struct wire_reply *reply)
{
    struct world *w = c->world;
    if (r->verb == VERB_TOPIC_CREATE && strcmp(r->topic, "scratch") != 0) {
        int topic = r->topic[1] - '0';
        for (int i = 0; i < PARTITIONS && reply->topics.topics_n == 1; i++) {
            w->parts[topic * PARTITIONS + i] = (struct part_view){.id = reply->topics.topics[0].partitions[i].id, .topic = topic};
        }
        w->topic_ids[topic] = reply->topics.topics_n == 1 ? reply->topics.topics[0].id : w->topic_ids[topic];
    }
    if (r->verb == VERB_GROUP_CREATE && strcmp(r->topic, "scratch") != 0 && reply->groups.groups_n == 1) {
        int group = (r->topic[1] - '0') * GROUPS_PER_TOPIC + r->group[1] - '0';
        w->group_ids[group] = reply->groups.groups[0].id;
        w->group_config[group] = reply->groups.groups[0].config;
    }
    w->totals->topics_deleted += r->verb == VERB_TOPIC_DELETE;
    w->totals->groups_deleted += r->verb == VERB_GROUP_DELETE;
    w->admin_busy = false;
    w->scratch++;
    lane_answered(c, r);
    request_end(r);
}

static void reply_arrived(struct sim_op *so)
{
    struct client *c = so->client;
    struct request *r = so->request;
    const struct wire_reply *reply = &so->op.reply;
    world_trace(c->world, "client %d: verb %d lane %u seq %llu answered %u", c->index, r->verb, r->lane, (unsigned long long)r->seq, reply->code);
    if (r->kind == R_HELLO) {
        hello_reply(c, r, reply);
        return;
    }
    if (reply->code == E_OUT_OF_ORDER || error_retriable(reply->code) || reply->code == E_CLOSED) {
        c->world->totals->disk_full += reply->code == E_DISK_FULL;
        if (r->kind == R_RECEIVE || r->kind == R_FETCH) { /* asked anew */
            if (r->kind == R_RECEIVE && reply->code != E_AGAIN)
                c->slot_busy[r->slot] = false;
            if (r->kind == R_RECEIVE && reply->code == E_AGAIN) {
                if (r->refs == 1)
                    c->slot_busy[r->slot] = false;
                else
                    return; /* a repeat took its place: its reply counts */
            }
            request_end(r);
            return;
        }
        r->sent = false;
        r->not_before = now_ms(c) + rng_between(&c->world->rng, 1, 300);
        if (reply->code == E_NO_SESSION) {
            c->pipe = 0;
            c->ready = false;
            c->reconnect_at = 0;
        }
        return;
    }
    if (reply->code != E_OK && !(r->kind == R_ADMIN && (reply->code == E_TOPIC_NOT_FOUND || reply->code == E_GROUP_NOT_FOUND))) {
        world_fail(c->world, "client %d: verb %d lane %u seq %llu was answered %s: %.*s", c->index, r->verb, r->lane, (unsigned long long)r->seq,
                   error_name(reply->code), (int)reply->detail.size, (const char *)reply->detail.data);
        return;
    }
    switch (r->kind) {
    case R_PRODUCE:
        produce_reply(c, r, reply);
        break;
    case R_RECEIVE:
        receive_reply(c, r, reply, &so->op);
        break;
    case R_SETTLE:
        settle_reply(c, r, reply, &so->op);
        break;
    case R_ADMIN:
        admin_reply(c, r, reply);
        break;
    case R_FETCH:
        fetch_reply(c, r, reply);
        break;
    case R_BYE:
        client_forget_session(c->world, c);
        c->pipe = 0;
        c->reconnect_at = 0;
        break;
    case R_HELLO:
        break;
    }
}

/* ---------------------------------------------------------------- acting */

static void produce(struct world *w, struct client *c)
{
    int part = (int)rng_below(&w->rng, PARTS);
    if (c->lanes[part].next - c->lanes[part].seen > 8)
        return;
    struct request *r = client_request(c, R_PRODUCE, VERB_PRODUCE);
    struct batch_builder *b = batch_builder_new();
    struct buf bytes = {0};
    struct err e = {0};
    r->partition = w->parts[part].id;
    r->lane = r->partition;
    r->seq = c->lanes[part].next++;
    r->count = (uint32_t)rng_between(&w->rng, 1, 5);
    for (uint32_t i = 0; i < r->count; i++) {
        int key = (int)rng_below(&w->rng, KEYS + 1);
        char key_text[8], value[32];
        int key_size = snprintf(key_text, sizeof key_text, "k%d", key);
        struct record record = {.timestamp_ms = w->now.wall_ms};
        bool fits = key < KEYS && key_partition(key_hash(view_of(key_text, (size_t)key_size)), PARTITIONS) == (uint32_t)(part % PARTITIONS);
        struct message *m = model_new_message(w, w->parts[part].topic, part, fits ? key : NONE);
        r->ids[i] = m->id;
        int value_size = snprintf(value, sizeof value, "m%llu", (unsigned long long)m->id);
        record.key = fits ? view_of(key_text, (size_t)key_size) : (struct view){0};
        record.value = view_of(value, (size_t)value_size);
        if (batch_builder_add(b, &record, &e) != E_OK)
            world_fail(w, "a batch does not build: %s", e.text);
    }
    batch_builder_finish(b, rng_chance(&w->rng, 1, 2) ? BATCH_LZ4 : BATCH_NONE, &bytes, &r->hash, &e);
    batch_builder_free(b);
    r->batch = ref_new_copy(bytes.data, bytes.size);
    buf_free(&bytes);
}

static void receive(struct world *w, struct client *c)
{
    uint32_t slot = (uint32_t)rng_below(&w->rng, 2);
    if (c->slot_busy[slot])
        return;
    struct request *r = client_request(c, R_RECEIVE, VERB_RECEIVE);
    r->slot = slot;
    r->counter = ++c->slot_counter[slot];
    r->groups_n = (uint32_t)rng_between(&w->rng, 1, 3);
    uint32_t first = (uint32_t)rng_below(&w->rng, GROUPS);
    for (uint32_t i = 0; i < r->groups_n; i++)
        r->groups[i] = w->group_ids[(first + i) % GROUPS];
    r->max_messages = (uint32_t)rng_between(&w->rng, 1, 8);
    r->wait_ms = rng_chance(&w->rng, 1, 3) ? 0 : (uint32_t)rng_below(&w->rng, 3000);
    c->slot_busy[slot] = true;
}

static uint8_t settle_verb(struct world *w)
{
    uint64_t x = rng_below(&w->rng, 100);
    if (w->draining)
        return SETTLE_ACK;
    return x < 62 ? SETTLE_ACK : x < 78 ? SETTLE_NACK : x < 86 ? SETTLE_RELEASE : x < 92 ? SETTLE_PARK : SETTLE_EXTEND;
}

static void settle(struct world *w, struct client *c)
{
    if (c->held_n == 0 || c->lanes[PARTS].next - c->lanes[PARTS].seen > 20)
        return;
    struct request *r = client_request(c, R_SETTLE, VERB_SETTLE);
    r->seq = c->lanes[PARTS].next++;
    r->as_unit = rng_chance(&w->rng, 1, 4);
    uint32_t n = (uint32_t)rng_between(&w->rng, 1, 8);
    for (uint32_t i = 0; i < n && c->held_n > 0; i++) {
        size_t at = (size_t)rng_below(&w->rng, c->held_n);
        struct held h = c->held[at];
        struct message *m = model_message(w, h.id);
        struct group_view *g = &m->group[h.group % GROUPS_PER_TOPIC];
        if (m->offset < 0) { /* lost with the power, in an `os` topic */
            c->held[at] = c->held[--c->held_n];
            continue;
        }
        struct wire_settle_item *item = &r->items[r->items_n];
        *item = (struct wire_settle_item){.token = h.token, .offset = (uint64_t)m->offset, .group = w->group_ids[h.group],
                                          .partition = w->parts[m->part].id, .verb = settle_verb(w)};
        if (item->verb == SETTLE_NACK && rng_chance(&w->rng, 2, 3)) {
            item->flags = SETTLE_HAS_DELAY;
            item->delay_ms = rng_chance(&w->rng, 1, 3) ? 0 : (uint32_t)rng_below(&w->rng, 8000);
        }
        world_trace(w, "client %d: verb %u for message %llu of group %d", c->index, item->verb, (unsigned long long)h.id, h.group);
        r->item_ids[r->items_n] = h.id;
        r->item_groups[r->items_n++] = h.group;
        g->pending_done += item->verb == SETTLE_ACK || item->verb == SETTLE_PARK;
        if (item->verb != SETTLE_EXTEND) {
            if (g->token == h.token) {
                g->until = 0;
                g->given_back |= item->verb == SETTLE_NACK || item->verb == SETTLE_RELEASE;
            }
            c->held[at] = c->held[--c->held_n];
        }
    }
    if (r->items_n == 0) {
        c->lanes[PARTS].next--;
        request_end(r);
    }
}

static void admin(struct world *w, struct client *c)
{
    static const enum wire_verb steps[] = {VERB_TOPIC_CREATE, VERB_GROUP_CREATE, VERB_GROUP_DELETE, VERB_TOPIC_DELETE};
    if (w->admin_busy)
        return;
    struct request *r = client_request(c, R_ADMIN, steps[w->scratch % 4]);
    r->seq = c->lanes[PARTS].next++;
    snprintf(r->topic, sizeof r->topic, "scratch");
    if (r->verb == VERB_GROUP_CREATE || r->verb == VERB_GROUP_DELETE)
        snprintf(r->group, sizeof r->group, "g");
    r->topic_config.partitions = 2;
    w->admin_busy = true;
}

static void fetch(struct world *w, struct client *c)
{
    struct request *r = client_request(c, R_FETCH, VERB_FETCH);
    int part = (int)rng_below(&w->rng, PARTS);
    r->from = (struct wire_fetch_from){.partition = w->parts[part].id, .offset = rng_below(&w->rng, w->parts[part].end + 1)};
    r->wait_ms = rng_chance(&w->rng, 1, 2) ? 0 : (uint32_t)rng_below(&w->rng, 2000);
}

void client_act(struct world *w, struct client *c)
{
    if (c->pipe == 0) {
        if (c->reconnect_at <= now_ms(c))
            client_connect(w, c);
        return;
    }
    if (!c->ready)
        client_send_due(w, c);
    if (!c->ready || c->paused_until > now_ms(c))
        return;
    uint64_t x = rng_below(&w->rng, 1000);
    if (w->draining)
        x = x < 500 ? 400 : 600;
    if (x < 300)
        produce(w, c);
    else if (x < 500)
        receive(w, c);
    else if (x < 900)
        settle(w, c);
    else if (x < 940)
        fetch(w, c);
    else if (x < 960 && c->index == 0)
        admin(w, c);
    else if (x < 975)
        c->paused_until = now_ms(c) + rng_below(&w->rng, 20000);
    else if (x < 980 && list_empty(&c->requests))
        client_request(c, R_BYE, VERB_BYE);
    else if (x >= 980 && x < 990)
        client_lose_pipe(w, c, true);
    client_send_due(w, c);
}

bool client_idle(const struct client *c) { return list_empty(&c->requests) && c->held_n == 0 && c->ready; }

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

/* What clients make of the answers: see client.h. */
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "schemas/stored.h"

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
        r->not_before = client_now(c) + 200;
    }
}

static void produce_reply(struct client *c, struct request *r, const struct wire_reply *reply)
{
    struct world *w = c->world;
    for (uint32_t i = 0; i < r->count; i++)
        model_acked(w, model_message(w, r->ids[i]), (int64_t)reply->produce.base_offset + i);
    w->totals->produced += r->count;
    client_lane_answered(c, r);
    request_end(r);
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
            if (!model_delivered(w, c->index, group, x, key, value, delivery->token, granted_at, delivery->lease_ms) || w->failed)
                return;
            client_hold(c, (struct held){.id = (uint64_t)w->model->parts[model_part(w, x->partition)].log[x->offset], .group = group,
                                         .token = delivery->token, .until = granted_at + delivery->lease_ms});
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
    struct group_view *g = model_view(m, r->item_groups[i]);
    uint8_t verb = r->items[i].verb;
    g->asked_done -= verb == SETTLE_ACK;
    g->asked_park -= verb == SETTLE_PARK;
    w->totals->late_units += code == E_LEASE_LOST;
    if (code != E_OK) {
        if (code != E_LEASE_LOST && !(code == E_INVALID_ARGUMENT && r->as_unit))
            world_fail(w, "a settle item was answered %d", code);
        return;
    }
    g->acked |= verb == SETTLE_ACK;
    g->parked_by_client |= verb == SETTLE_PARK;
    if (verb == SETTLE_NACK && (r->items[i].flags & SETTLE_HAS_DELAY) != 0)
        model_nacked(w, r->item_groups[i], m, r->items[i].token, c->pipe_since, at, r->items[i].delay_ms);
    if (verb == SETTLE_EXTEND)
        model_extended(w, r->item_groups[i], m, r->items[i].token, c->pipe_since, at);
    w->totals->acked += verb == SETTLE_ACK;
    w->totals->nacked += verb == SETTLE_NACK;
    w->totals->released += verb == SETTLE_RELEASE;
    w->totals->parked_by_client += verb == SETTLE_PARK;
    w->totals->extended += verb == SETTLE_EXTEND;
    if (verb == SETTLE_ACK && !g->is.done)
        world_fail(w, "message %llu was acked and its rows do not say so", (unsigned long long)m->id);
    if (verb == SETTLE_PARK && g->is.held != HELD_PARKED)
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
    client_lane_answered(c, r);
    request_end(r);
}

static void fetch_reply(struct client *c, struct request *r, const struct wire_reply *reply)
{
    struct world *w = c->world;
    const struct wire_fetch_part *part = &reply->fetch.parts[0];
    int index = model_part(w, part->partition);
    const struct part_view *p = &w->model->parts[index];
    struct err e = {0};
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
        size_t bound = model_disk(w, p->topic) ? p->synced_end : p->end;
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
            w->model->parts[topic * PARTITIONS + i] = (struct part_view){.id = reply->topics.topics[0].partitions[i].id, .topic = topic};
        }
        if (reply->topics.topics_n == 1) {
            w->model->topic_ids[topic] = reply->topics.topics[0].id;
            w->model->topic_config[topic] = reply->topics.topics[0].config;
        }
    }
    if (r->verb == VERB_GROUP_CREATE && strcmp(r->topic, "scratch") != 0 && reply->groups.groups_n == 1) {
        int group = (r->topic[1] - '0') * GROUPS_PER_TOPIC + r->group[1] - '0';
        w->model->group_ids[group] = reply->groups.groups[0].id;
        w->model->group_config[group] = reply->groups.groups[0].config;
    }
    w->totals->topics_deleted += r->verb == VERB_TOPIC_DELETE;
    w->totals->groups_deleted += r->verb == VERB_GROUP_DELETE;
    w->admin_busy = false;
    w->scratch++;
    client_lane_answered(c, r);
    request_end(r);
}

void reply_arrived(struct sim_op *so)
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
        r->not_before = client_now(c) + rng_between(&c->world->rng, 1, 300);
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

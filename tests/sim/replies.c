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

static void batch_acked(struct world *w, const struct batch *b, const struct wire_produced *p)
{
    if (p->partition != w->model->parts[b->part].id || p->count != b->count)
        world_fail(w, "a batch of %u messages was answered as %u in partition %u", b->count, p->count,
                   p->partition);
    if (b->sched != NONE && p->due_ms != 0) {
        model_sched_told(w, b->sched, p);
        return;
    }
    w->totals->duplicates += p->duplicate;
    w->totals->produced += p->duplicate ? 0 : b->count;
    for (uint32_t i = 0; i < b->count && !w->failed; i++) {
        if (p->duplicate && !model_message(w, b->ids[i])->has_id)
            world_fail(w, "message %llu has no id and was answered as produced before",
                       (unsigned long long)b->ids[i]);
        if (i == 0 || !p->duplicate)
            model_acked(w, b->part, b->ids[i], p->base_offset + i);
        else
            model_duplicate(w, b->ids[i]);
    }
}

/* Some were produced before: the others are sent under the same number. */
static void produce_rest(struct client *c, struct request *r, const struct wire_produced *p)
{
    struct world *w = c->world;
    uint32_t n = 0;
    w->totals->duplicate_parts++;
    for (uint32_t i = 0, k = 0; i < r->batch.count && !w->failed; i++) {
        if (k == p->duplicates_n || p->duplicates[k] != i)
            r->batch.ids[n++] = r->batch.ids[i];
        else if (!model_message(w, r->batch.ids[i])->has_id)
            world_fail(w, "message %llu has no id and was answered as produced before",
                       (unsigned long long)r->batch.ids[i]);
        else
            model_duplicate(w, r->batch.ids[i]), k++;
    }
    if (n == 0 || n == r->batch.count) {
        world_fail(w, "%u of %u messages were produced before", r->batch.count - n, r->batch.count);
        return;
    }
    r->batch.count = n;
    request_batch(w, r);
    r->sent = false;
}

/* Its topic has grown, or is about to: what belongs elsewhere is given up, the rest is sent under the same number. */
static void produce_elsewhere(struct client *c, struct request *r)
{
    struct world *w = c->world;
    uint32_t n = 0;
    bool again = false;
    w->totals->misplaced++;
    for (uint32_t i = 0; i < r->batch.count; i++) {
        if (r->batch.sched != NONE && !batch_fits(w, &r->batch, i)) /* new in any case */
            model_message(w, r->batch.ids[i])->key = NONE, again = true;
        if (batch_fits(w, &r->batch, i))
            r->batch.ids[n++] = r->batch.ids[i];
    }
    if (n < r->batch.count || again) {
        r->batch.count = n;
        if (n == 0)
            batch_add_new(w, &r->batch, 1, NONE);
        request_batch(w, r);
    }
    r->sent = false;
    r->not_before = client_now(c) + rng_between(&w->rng, 1, 300);
    int topic = w->model->parts[r->batch.part].topic;
    if (w->model->topic_config[topic].partitions == PARTITIONS)
        return;
    struct request *look = client_request(c, R_LOOK, VERB_TOPIC_LIST);
    snprintf(look->topic, sizeof look->topic, "t%d", topic);
}

static void produce_reply(struct client *c, struct request *r, const struct wire_reply *reply)
{
    batch_acked(c->world, &r->batch, &reply->produce);
    client_lane_answered(c, r);
    request_end(r);
}

static void state_told(struct client *c, int group, int key, bool found, uint64_t version, struct view value)
{
    uint64_t count = 0;
    model_state_told(c->world, group, key, found, version, value, &count);
    c->state[group][key].known = true;
    c->state[group][key].version = version;
    c->state[group][key].count = count;
}

/* Each record of a key comes with the key's state row, if there is one. */
static void delivery_state(struct client *c, int group, const struct wire_delivery *d, const uint64_t *ids)
{
    struct world *w = c->world;
    for (uint32_t i = 0; i < d->state_n; i++) {
        const struct message *m =
            d->state[i].index < d->records_n ? model_message(w, ids[d->state[i].index]) : NULL;
        if (m == NULL || m->key == NONE)
            world_fail(w, "a delivery has state for a record without a key");
        else
            state_told(c, group, m->key, true, d->state[i].version, d->state[i].value);
    }
    w->totals->state_delivered += d->state_n;
}

static void delivered(struct client *c, const struct wire_delivery *d, uint64_t turn)
{
    struct world *w = c->world;
    int group = model_group(w, d->group);
    const uint8_t *at = d->data.data;
    uint64_t ids[LEASE_IDS];
    if (d->records_n > LEASE_IDS) {
        world_fail(w, "a delivery of %u records", d->records_n);
        return;
    }
    for (uint32_t i = 0; i < d->records_n; i++) {
        const struct wire_record *x = &d->records[i];
        size_t key_size = x->key_size > 0 ? x->key_size - 1 : 0,
               value_size = x->value_size > 0 ? x->value_size - 1 : 0;
        struct view key = x->key_size > 0 ? view_of(at, key_size) : (struct view){0};
        struct view value = x->value_size > 0 ? view_of(at + key_size + x->headers_size, value_size) : (struct view){0};
        if (record_sum(x->key_size, x->headers_size, x->value_size, at, at + key_size, value.data) != x->sum)
            world_fail(w, "a delivered record does not fit its sum");
        at += key_size + x->headers_size + value_size;
        if (!model_delivered(w, c->index, group, x, key, value, d->token, turn, d->lease_ms) || w->failed)
            return;
        ids[i] = (uint64_t)w->model->parts[model_part(w, x->partition)].log[x->offset];
        client_hold(c, (struct held){.id = ids[i],
                                     .group = group,
                                     .token = d->token,
                                     .until = turn_time(w, turn) + d->lease_ms});
        w->totals->delivered++;
        w->totals->redelivered += x->failures > 0;
    }
    if (d->records_n > 0 && at != d->data.data + d->data.size)
        world_fail(w, "a delivery has %zu bytes too many", (size_t)(d->data.data + d->data.size - at));
    delivery_state(c, group, d, ids);
}

static void received(struct client *c, struct request *r, const struct wire_receive_reply *reply,
                     const struct op *op)
{
    if (reply->counter != r->counter)
        world_fail(c->world, "a receive with counter %llu was answered for %llu",
                   (unsigned long long)r->counter, (unsigned long long)reply->counter);
    for (uint32_t i = 0; i < reply->deliveries_n && !c->world->failed; i++)
        delivered(c, &reply->deliveries[i], op->turn);
}

static void receive_reply(struct client *c, struct request *r, const struct wire_reply *reply,
                          const struct op *op)
{
    received(c, r, &reply->receive, op);
    c->slot_busy[r->slot] = false;
    request_end(r);
}

static void item_ok(struct client *c, const struct item *i, uint64_t at)
{
    struct world *w = c->world;
    struct message *m = model_message(w, i->id);
    struct group_view *g = model_view(m, i->group);
    uint8_t verb = i->wire.verb;
    if (i->wire.token <= g->replayed_token)
        return; /* that was before it was replayed or redriven */
    g->acked |= verb == SETTLE_ACK;
    g->parked_by_client |= verb == SETTLE_PARK && g->is.held == HELD_PARKED;
    if (verb == SETTLE_NACK && (i->wire.flags & SETTLE_HAS_DELAY) != 0)
        model_nacked(w, i->group, m, i->wire.token, c->pipe_since, at, i->wire.delay_ms);
    if (verb == SETTLE_EXTEND)
        model_extended(w, i->group, m, i->wire.token, c->pipe_since, at);
    w->totals->acked += verb == SETTLE_ACK;
    w->totals->nacked += verb == SETTLE_NACK;
    w->totals->released += verb == SETTLE_RELEASE;
    w->totals->parked_by_client += verb == SETTLE_PARK;
    w->totals->extended += verb == SETTLE_EXTEND;
    if (verb == SETTLE_ACK && !g->is.done)
        world_fail(w, "message %llu was acked and its rows do not say so", (unsigned long long)m->id);
    if (verb == SETTLE_PARK && g->is.held != HELD_PARKED &&
        !g->park_known) /* else it may be redriven or dropped by now */
        world_fail(w, "message %llu was parked and is not", (unsigned long long)m->id);
}

/* Its outcome is known now. */
static void item_answered(struct world *w, const struct item *i)
{
    struct group_view *g = model_view(model_message(w, i->id), i->group);
    g->asked_done -= i->wire.verb == SETTLE_ACK;
    g->asked_park -= i->wire.verb == SETTLE_PARK;
}

/* It stands in a run behind one that is not settled. */
static void item_again(struct client *c, const struct item *i)
{
    const struct group_view *g = model_view(model_message(c->world, i->id), i->group);
    c->world->totals->run_refused++;
    if (model_message(c->world, i->id)->key == NONE)
        world_fail(c->world, "message %llu has no key, and was refused as if it stood in a run",
                   (unsigned long long)i->id);
    if (g->token == i->wire.token)
        client_hold(c, (struct held){.id = i->id, .group = i->group, .token = g->token});
}

static void single_settled(struct client *c, const struct item *i, int code, uint64_t at)
{
    item_answered(c->world, i);
    c->world->totals->late_units += code == E_LEASE_LOST;
    if (code == E_OK)
        item_ok(c, i, at);
    else if (code == E_OUT_OF_ORDER)
        item_again(c, i);
    else if (code != E_LEASE_LOST)
        world_fail(c->world, "a settle item was answered %s", error_name(code));
}

/* A unit that met a conflict, or a run out of order, leaves its messages leased: they are settled some other way. */
static void unit_conflict(struct client *c, const struct unit *u)
{
    for (uint32_t i = 0; i < u->items_n; i++) {
        const struct group_view *g = model_view(model_message(c->world, u->items[i].id), u->items[i].group);
        if (g->token == u->items[i].wire.token)
            client_hold(c,
                        (struct held){.id = u->items[i].id, .group = u->items[i].group, .token = g->token});
    }
    for (uint32_t i = 0; i < u->puts_n; i++)
        c->state[u->puts[i].group][u->puts[i].key].known = false;
}

static bool unit_may_answer(const struct unit *u, int code)
{
    return code == E_OK || code == E_LEASE_LOST || (code == E_OUT_OF_ORDER && u->items_n > 0) ||
           (code == E_INVALID_ARGUMENT && u->items_n > 1) || (code == E_CONFLICT && u->puts_n > 0) ||
           (u->batches_n > 0 && (code == E_DISK_FULL || code == E_OVERLOADED || code == E_WRONG_PARTITION));
}

static void unit_settled(struct client *c, int unit, int code, const struct wire_produced *outputs,
                         uint64_t at)
{
    struct world *w = c->world;
    const struct unit *u = model_unit(w, unit);
    w->totals->late_units += code == E_LEASE_LOST;
    w->totals->conflicts += code == E_CONFLICT;
    if (!unit_may_answer(u, code))
        world_fail(w, "unit %d was answered %s", unit, error_name(code));
    model_unit_answered(w, unit, code);
    for (uint32_t i = 0; i < u->items_n && !unit_shows(u); i++)
        item_answered(w, &u->items[i]);
    if (code == E_CONFLICT || code == E_OUT_OF_ORDER || code == E_WRONG_PARTITION)
        unit_conflict(c, u);
    if (code != E_OK)
        return;
    for (uint32_t i = 0; i < u->items_n; i++)
        item_ok(c, &u->items[i], at);
    for (uint32_t i = 0; i < u->batches_n; i++)
        batch_acked(w, &u->batches[i], &outputs[i]);
    w->totals->units++;
    w->totals->unit_outputs += u->batches_n;
    w->totals->state_puts += u->puts_n;
    w->totals->transactions += u->items_n == 0;
}

static void settle_reply(struct client *c, struct request *r, const struct wire_reply *reply,
                         const struct op *op)
{
    struct world *w = c->world;
    const struct wire_settle_reply *s = &reply->settle;
    uint64_t at = turn_time(w, op->turn);
    uint32_t outputs = 0, ok = 0;
    if (s->codes != NULL && s->codes_n != r->items_n + r->units_n)
        world_fail(w, "a settle of %u units was answered with %u codes", r->items_n + r->units_n, s->codes_n);
    for (uint32_t i = 0; i < r->items_n && !w->failed; i++)
        single_settled(c, &r->items[i], s->codes == NULL ? E_OK : s->codes[i], at);
    for (uint32_t i = 0; i < r->units_n && !w->failed; i++) {
        int code = s->codes == NULL ? E_OK : s->codes[r->items_n + i];
        uint32_t n = model_unit(w, r->units[i])->batches_n;
        if (outputs + n > s->outputs_n && code == E_OK)
            world_fail(w, "unit %d was answered with too few outputs", r->units[i]);
        else
            unit_settled(c, r->units[i], code, s->outputs + outputs, at);
        outputs += n;
        ok += code == E_OK;
    }
    w->totals->refused_alone += ok > 0 && ok < r->units_n;
    if (r->carries) {
        c->slot_busy[r->slot] = false;
        w->totals->carried += s->has_receive && s->receive.deliveries_n > 0;
        if (s->has_receive && !w->failed)
            received(c, r, &s->receive, op);
    }
    client_lane_answered(c, r);
    request_end(r);
}

static void task_reply(struct client *c, struct request *r, const struct wire_reply *reply)
{
    if (reply->code == E_OK && reply->tasks.tasks_n != 1)
        world_fail(c->world, "a task was answered with %u rows", reply->tasks.tasks_n);
    else if (reply->code == E_OK)
        model_task_told(c->world, reply->tasks.tasks[0].id, r->change.act);
    c->world->totals->tasks_cancelled += r->verb == VERB_TASK_CANCEL && reply->code == E_OK;
    client_lane_answered(c, r);
    request_end(r);
}

static void sched_reply(struct client *c, struct request *r, const struct wire_reply *reply,
                        const struct op *op)
{
    if (reply->code == E_OK)
        model_sched_changed(c->world, r->sched, r->move.act, op->turn);
    client_lane_answered(c, r);
    request_end(r);
}

static void control_reply(struct client *c, struct request *r, const struct wire_reply *reply,
                          const struct op *op)
{
    struct world *w = c->world;
    bool purge = r->verb == VERB_GROUP_CONTROL && r->control == GROUP_PURGE;
    if (r->verb == VERB_GROUP_CONTROL && reply->code == E_OK)
        model_controlled(w, r->change_group, r->control, op->turn);
    w->model->purges_asked[r->change_group] -= purge;
    w->totals->purges += purge;
    w->totals->pauses += r->verb == VERB_GROUP_CONTROL && r->control == GROUP_PAUSE;
    w->totals->alters += r->verb == VERB_GROUP_ALTER;
    client_lane_answered(c, r);
    request_end(r);
}

static void state_reply(struct client *c, struct request *r, const struct wire_reply *reply)
{
    state_told(c, r->state_group, r->state_key, reply->state.found, reply->state.version, reply->state.value);
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
    if (part->code == E_OK)
        model_gap(w, index, r->from.offset, part);
    uint64_t next = r->from.offset > part->start ? r->from.offset : part->start;
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
            world_fail(w, "a fetch showed offset %llu of part %d, which may be seen up to %zu",
                       (unsigned long long)h.base_offset, index, bound);
        for (uint32_t i = 0; i < reader.c.count && !w->failed; i++) {
            struct record record;
            uint64_t offset = h.base_offset + batch_offset_delta(&reader.c, i);
            const struct message *m = model_message(w, (uint64_t)p->log[offset]);
            model_skipped(w, index, next, offset);
            next = offset >= next ? offset + 1 : next;
            if (batch_reader_get(&reader, i, &record, &e) != E_OK || (record.value.data == NULL) != m->tombstone ||
                model_id_of(record.value, record.timestamp_ms) != (int64_t)m->value)
                world_fail(w, "a fetch gave another message at offset %llu", (unsigned long long)offset);
            w->totals->fetched++;
        }
        model_skipped(w, index, next, h.base_offset + h.count);
        next = h.base_offset + h.count > next ? h.base_offset + h.count : next;
        batch_reader_close(&reader);
    }
    request_end(r);
}

static void topic_told(struct world *w, int topic, const struct wire_reply *reply)
{
    if (reply->topics.topics_n != 1)
        return;
    const struct wire_topic *t = &reply->topics.topics[0];
    for (uint32_t i = 0; i < t->partitions_n; i++)
        w->model->parts[topic * PARTITIONS + (int)i].id = t->partitions[i].id;
    w->model->topic_config[topic] = t->config;
}

/* A topic has more partitions now. The next growth may follow at once, when the new ones have nothing yet. */
static void grow_reply(struct client *c, struct request *r, const struct wire_reply *reply)
{
    struct world *w = c->world;
    int topic = r->topic[1] - '0';
    topic_told(w, topic, reply);
    w->totals->growths++;
    w->admin_busy = false;
    client_lane_answered(c, r);
    request_end(r);
    if (w->model->topic_config[topic].partitions < PARTITIONS && rng_chance(&w->rng, 1, 2))
        client_grow(c, topic);
}

static void admin_reply(struct client *c, struct request *r, const struct wire_reply *reply)
{
    struct world *w = c->world;
    if (r->verb == VERB_TOPIC_CREATE && strcmp(r->topic, "scratch") != 0) {
        int topic = r->topic[1] - '0';
        topic_told(w, topic, reply);
        if (reply->topics.topics_n == 1) {
            w->model->topic_ids[topic] = reply->topics.topics[0].id;
        }
    }
    if (r->verb == VERB_GROUP_CREATE && strcmp(r->topic, "scratch") != 0 && reply->groups.groups_n == 1) {
        int group = (r->topic[1] - '0') * GROUPS_PER_TOPIC + r->group[1] - '0';
        w->model->group_ids[group] = reply->groups.groups[0].id;
        model_limits(w, group, &reply->groups.groups[0].config);
        w->model->group_config[group] = reply->groups.groups[0].config;
    }
    w->totals->topics_deleted += r->verb == VERB_TOPIC_DELETE;
    w->totals->groups_deleted += r->verb == VERB_GROUP_DELETE;
    w->admin_busy = false;
    w->scratch += strcmp(r->group, "again") != 0;
    client_lane_answered(c, r);
    request_end(r);
}

/* What a request names may be gone by then. */
static bool may_be_refused(const struct request *r, int code)
{
    return (r->kind == R_SCHED && code == E_SCHEDULE_NOT_FOUND) ||
           (r->kind == R_TASK && (code == E_TASK_NOT_FOUND || (r->change.into.size > 0 && code == E_EXISTS))) ||
           (r->kind == R_ADMIN && (code == E_TOPIC_NOT_FOUND || code == E_GROUP_NOT_FOUND));
}

void reply_arrived(struct sim_op *so)
{
    struct client *c = so->client;
    struct request *r = so->request;
    const struct wire_reply *reply = &so->op.reply;
    world_trace(c->world, "client %d: verb %d lane %u seq %llu answered %u", c->index, r->verb, r->lane,
                (unsigned long long)r->seq, reply->code);
    if (r->kind == R_HELLO) {
        hello_reply(c, r, reply);
        return;
    }
    if (reply->code == E_OUT_OF_ORDER || error_retriable(reply->code) || reply->code == E_CLOSED) {
        c->world->totals->disk_full += reply->code == E_DISK_FULL;
        if (r->kind == R_RECEIVE || r->kind == R_LOOK || r->kind == R_FETCH || r->kind == R_STATE) { /* asked anew */
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
    if (r->kind == R_PRODUCE && reply->code == E_DUPLICATE) {
        if (so->hash == r->batch.hash) /* else the rest is on its way already */
            produce_rest(c, r, &reply->produce);
        return;
    }
    if (r->kind == R_PRODUCE && reply->code == E_WRONG_PARTITION) {
        if (so->hash == r->batch.hash)
            produce_elsewhere(c, r);
        return;
    }
    if (reply->code != E_OK && !may_be_refused(r, reply->code)) {
        world_fail(c->world, "client %d: verb %d lane %u seq %llu was answered %s: %.*s", c->index, r->verb,
                   r->lane, (unsigned long long)r->seq, error_name(reply->code), (int)reply->detail.size,
                   (const char *)reply->detail.data);
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
        if (r->verb == VERB_TOPIC_ALTER)
            grow_reply(c, r, reply);
        else
            admin_reply(c, r, reply);
        break;
    case R_LOOK:
        topic_told(c->world, r->topic[1] - '0', reply);
        request_end(r);
        break;
    case R_FETCH:
        fetch_reply(c, r, reply);
        break;
    case R_TASK:
        task_reply(c, r, reply);
        break;
    case R_SCHED:
        sched_reply(c, r, reply, &so->op);
        break;
    case R_CONTROL:
        control_reply(c, r, reply, &so->op);
        break;
    case R_STATE:
        state_reply(c, r, reply);
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

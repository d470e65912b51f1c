/* What clients do: see client.h. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "client.h"

static void produce(struct world *w, struct client *c)
{
    int part = (int)rng_below(&w->rng, PARTS);
    if (c->lanes[part].next - c->lanes[part].seen > 8)
        return;
    struct request *r = client_request(c, R_PRODUCE, VERB_PRODUCE);
    struct batch_builder *b = batch_builder_new();
    struct buf bytes = {0};
    struct err e = {0};
    r->partition = w->model->parts[part].id;
    r->lane = r->partition;
    r->seq = c->lanes[part].next++;
    r->count = (uint32_t)rng_between(&w->rng, 1, 5);
    for (uint32_t i = 0; i < r->count; i++) {
        int key = (int)rng_below(&w->rng, KEYS + 1);
        char key_text[8], value[32];
        int key_size = snprintf(key_text, sizeof key_text, "k%d", key);
        struct record record = {.timestamp_ms = w->now.wall_ms};
        bool fits = key < KEYS && key_partition(key_hash(view_of(key_text, (size_t)key_size)), PARTITIONS) == (uint32_t)(part % PARTITIONS);
        struct message *m = model_new_message(w, w->model->parts[part].topic, part, fits ? key : NONE);
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
        r->groups[i] = w->model->group_ids[(first + i) % GROUPS];
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
        struct group_view *g = model_view(m, h.group);
        if (m->offset < 0) { /* lost with the power, in an `os` topic */
            c->held[at] = c->held[--c->held_n];
            continue;
        }
        struct wire_settle_item *item = &r->items[r->items_n];
        *item = (struct wire_settle_item){.token = h.token, .offset = (uint64_t)m->offset, .group = w->model->group_ids[h.group],
                                          .partition = w->model->parts[m->part].id, .verb = settle_verb(w)};
        if (item->verb == SETTLE_NACK && rng_chance(&w->rng, 2, 3)) {
            item->flags = SETTLE_HAS_DELAY;
            item->delay_ms = rng_chance(&w->rng, 1, 3) ? 0 : (uint32_t)rng_below(&w->rng, 8000);
        }
        world_trace(w, "client %d: verb %u for message %llu of group %d", c->index, item->verb, (unsigned long long)h.id, h.group);
        r->item_ids[r->items_n] = h.id;
        r->item_groups[r->items_n++] = h.group;
        g->asked_done += item->verb == SETTLE_ACK;
        g->asked_park += item->verb == SETTLE_PARK;
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
    r->from = (struct wire_fetch_from){.partition = w->model->parts[part].id, .offset = rng_below(&w->rng, w->model->parts[part].end + 1)};
    r->wait_ms = rng_chance(&w->rng, 1, 2) ? 0 : (uint32_t)rng_below(&w->rng, 2000);
}

void client_act(struct world *w, struct client *c)
{
    if (c->pipe == 0) {
        if (c->reconnect_at <= client_now(c))
            client_connect(w, c);
        return;
    }
    if (!c->ready)
        client_send_due(w, c);
    if (!c->ready || c->paused_until > client_now(c))
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
        c->paused_until = client_now(c) + rng_below(&w->rng, 20000);
    else if (x < 980 && list_empty(&c->requests))
        client_request(c, R_BYE, VERB_BYE);
    else if (x >= 980 && x < 990)
        client_lose_pipe(w, c, true);
    client_send_due(w, c);
}

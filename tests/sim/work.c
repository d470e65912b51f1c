/* What clients settle: acks and the like, and units with outputs and state. See client.h. */
#include <stdio.h>

#include "client.h"

static uint8_t settle_verb(struct world *w)
{
    uint64_t x = rng_below(&w->rng, 100);
    if (w->draining)
        return SETTLE_ACK;
    return x < 62   ? SETTLE_ACK
           : x < 78 ? SETTLE_NACK
           : x < 86 ? SETTLE_RELEASE
           : x < 92 ? SETTLE_PARK
                    : SETTLE_EXTEND;
}

/* Says something of one message that is held; false: there is none, or the power took it. */
static bool item_make(struct world *w, struct client *c, struct item *out)
{
    if (c->held_n == 0)
        return false;
    size_t at = (size_t)rng_below(&w->rng, c->held_n);
    struct held h = c->held[at];
    struct message *m = model_message(w, h.id);
    struct group_view *g = model_view(m, h.group);
    if (m->offset < 0) { /* lost with the power, in an `os` topic */
        c->held[at] = c->held[--c->held_n];
        return false;
    }
    struct wire_settle_item item = {.token = h.token,
                                    .offset = (uint64_t)m->offset,
                                    .group = w->model->group_ids[h.group],
                                    .partition = w->model->parts[m->part].id,
                                    .verb = settle_verb(w)};
    if (item.verb == SETTLE_NACK && rng_chance(&w->rng, 2, 3)) {
        item.flags = SETTLE_HAS_DELAY;
        item.delay_ms = rng_chance(&w->rng, 1, 3) ? 0 : (uint32_t)rng_below(&w->rng, 8000);
    }
    *out = (struct item){.wire = item, .id = h.id, .group = h.group};
    if (item.verb != SETTLE_EXTEND && item.verb != SETTLE_ACK)
        model_run_ends(w, h.group, m, h.token);
    if (item.verb != SETTLE_EXTEND) {
        if (g->token == h.token) {
            g->until = 0;
            g->given_back |= item.verb == SETTLE_NACK || item.verb == SETTLE_RELEASE;
        }
        c->held[at] = c->held[--c->held_n];
    }
    world_trace(w, "client %d: verb %u for message %llu of group %d", c->index, item.verb,
                (unsigned long long)h.id, h.group);
    return true;
}

/* Nothing else will show that it was done. */
static void item_asked(struct world *w, const struct item *i)
{
    struct group_view *g = model_view(model_message(w, i->id), i->group);
    g->asked_done += i->wire.verb == SETTLE_ACK;
    g->asked_park += i->wire.verb == SETTLE_PARK;
}

/* ---------------------------------------------------------------- units */

/* One more in the counter of a key, as it was read. */
static void put_make(struct world *w, struct client *c, int unit, struct unit *u)
{
    int group = (int)rng_below(&w->rng, GROUPS_PER_TOPIC),
        key = (int)rng_below(&w->rng, KEYS);           /* few, so that they meet */
    if (u->items_n > 0 && rng_chance(&w->rng, 2, 3)) { /* of the message that is settled */
        const struct message *m = model_message(w, u->items[0].id);
        group = u->items[0].group;
        key = m->key != NONE ? m->key : key;
    }
    if (!c->state[group][key].known) {
        client_state_get(c, group, key);
        return;
    }
    for (uint32_t i = 0; i < u->puts_n; i++)
        if (u->puts[i].group == group && u->puts[i].key == key)
            return;
    struct state_ask *p = &u->puts[u->puts_n++];
    *p = (struct state_ask){.group = group,
                            .key = key,
                            .version = c->state[group][key].version,
                            .count = c->state[group][key].count + 1};
    p->remove = p->version != 0 && u->batches_n > 0 &&
                rng_chance(&w->rng, 1, 5); /* the outputs show that it was done */
    if (!p->remove)
        snprintf(p->text, sizeof p->text, "c%llu u%d", (unsigned long long)p->count, unit);
    c->state[group][key].known = rng_chance(&w->rng, 1, 4); /* and again with what is old by then */
}

static int unit_make(struct world *w, struct client *c, struct buf *bytes)
{
    int unit = model_new_unit(w);
    struct unit *u = model_unit(w, unit);
    uint32_t items = (uint32_t)rng_below(&w->rng, UNIT_ITEMS + 1),
             batches = rng_chance(&w->rng, 1, 2) ? (uint32_t)rng_between(&w->rng, 1, UNIT_BATCHES) : 0;
    uint32_t puts = rng_chance(&w->rng, 1, 2) ? (uint32_t)rng_between(&w->rng, 1, UNIT_PUTS) : 0;
    for (uint32_t i = 0; i < items; i++)
        u->items_n += item_make(w, c, &u->items[u->items_n]);
    if (u->items_n == 0 && batches == 0)
        batches = 1; /* a producer's transaction */
    if (w->draining)
        batches = puts = 0;
    for (uint32_t left = BATCH_MAX; u->batches_n < batches && left > 0; u->batches_n++) {
        struct batch *b = &u->batches[u->batches_n];
        uint32_t n = (uint32_t)rng_between(&w->rng, 1, left);
        b->part = client_part(w);
        b->sched = NONE;
        batch_add_new(w, b, n, unit);
        if (rng_chance(&w->rng, 1, 6))
            batch_delay(w, b, unit);
        batch_encode(w, b, bytes);
        left -= n;
    }
    for (uint32_t i = 0; i < puts; i++)
        put_make(w, c, unit, u);
    if (!unit_shows(u))
        for (uint32_t i = 0; i < u->items_n; i++)
            item_asked(w, &u->items[i]);
    world_trace(w, "client %d: unit %d of %u items, %u batches, %u puts", c->index, unit, u->items_n,
                u->batches_n, u->puts_n);
    return unit;
}

void client_settle(struct world *w, struct client *c)
{
    if (c->lanes[PARTS].next - c->lanes[PARTS].seen > 20 ||
        (c->held_n == 0 && (w->draining || !rng_chance(&w->rng, 1, 8))))
        return;
    struct request *r = client_request(c, R_SETTLE, VERB_SETTLE);
    struct buf bytes = {0};
    bool units = c->held_n == 0 || rng_chance(&w->rng, 2, 5),
         singles = c->held_n > 0 && (!units || rng_chance(&w->rng, 1, 4));
    for (uint64_t n = singles ? rng_between(&w->rng, 1, SETTLE_MAX) : 0; n > 0; n--)
        if (item_make(w, c, &r->items[r->items_n]))
            item_asked(w, &r->items[r->items_n++]);
    for (uint64_t n = units ? rng_between(&w->rng, 1, UNITS_MAX) : 0;
         n > 0 && (c->held_n > 0 || !w->draining); n--)
        r->units[r->units_n++] = unit_make(w, c, &bytes);
    if (r->items_n + r->units_n == 0) {
        request_end(r);
        return;
    }
    if (bytes.size > 0)
        r->bytes = ref_new_copy(bytes.data, bytes.size);
    buf_free(&bytes);
    r->carries = client_free_slot(c) != NONE && rng_chance(&w->rng, 1, 8);
    if (r->carries)
        client_receive_begin(w, c, r);
    r->seq = c->lanes[PARTS].next++;
}

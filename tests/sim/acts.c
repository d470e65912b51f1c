/* What clients do: see client.h. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "client.h"

void batch_encode(struct world *w, struct batch *out, struct buf *bytes)
{
    struct batch_builder *b = batch_builder_new();
    struct err e = {0};
    out->at = bytes->size;
    for (uint32_t i = 0; i < out->count; i++) {
        const struct message *m = model_message(w, out->ids[i]);
        char value[32];
        int value_size = snprintf(value, sizeof value, "m%llu", (unsigned long long)m->value);
        struct view text = view_of(value, (size_t)value_size);
        struct record record = {.timestamp_ms = m->tombstone ? TOMBSTONE_STAMP + m->value : w->now.wall_ms,
                                .value = m->tombstone ? (struct view){0} : text,
                                .priority = m->priority,
                                .ttl_ms = m->ttl_ms};
        if (m->key != NONE)
            record.key = key_name(m->key);
        if (m->header != NONE)
            record.headers = header_bytes(m->header);
        if (m->has_id)
            record.message_id = message_id_hash(text);
        if (batch_builder_add(b, &record, &e) != E_OK)
            world_fail(w, "a batch does not build: %s", e.text);
    }
    batch_builder_finish(b, rng_chance(&w->rng, 1, 2) ? BATCH_LZ4 : BATCH_NONE, bytes, &out->hash, &e);
    batch_builder_free(b);
    out->size = bytes->size - out->at;
}

int client_part(struct world *w)
{
    int part;
    do
        part = (int)rng_below(&w->rng, PARTS);
    while ((uint32_t)(part % PARTITIONS) >= w->model->topic_config[part / PARTITIONS].partitions);
    return part;
}

static bool key_fits(const struct world *w, int part, int key)
{
    const struct model *o = w->model;
    return key == NONE || key_partition(key_hash(key_name(key)), o->topic_config[o->parts[part].topic].partitions) ==
                              (uint32_t)(part % PARTITIONS);
}

bool batch_fits(struct world *w, const struct batch *b, uint32_t i)
{
    return key_fits(w, b->part, model_message(w, b->ids[i])->key);
}

void batch_add_new(struct world *w, struct batch *b, uint32_t count, int unit)
{
    bool ids = rng_chance(&w->rng, 1, 2);
    for (uint32_t i = 0; i < count; i++) {
        bool compacted = w->model->topic_config[w->model->parts[b->part].topic].compacted, keyed;
        int key;
        do { /* each partition has a key that belongs to it */
            key = (int)rng_below(&w->rng, KEYS + 1);
            keyed = key < KEYS && key_fits(w, b->part, key);
        } while (compacted && !keyed);
        struct message *m = model_new_message(w, b->part, keyed ? key : NONE);
        m->unit = unit;
        m->header = (int)rng_below(&w->rng, HEADERS) - 1;
        m->priority = rng_chance(&w->rng, 1, 4) ? (uint8_t)rng_between(&w->rng, 1, BATCH_PRIORITY_MAX) : 0;
        m->ttl_ms = rng_chance(&w->rng, 1, 10) ? (uint32_t)rng_between(&w->rng, 1000, 30000) : 0;
        m->tombstone = compacted && rng_chance(&w->rng, 1, 4);
        m->has_id = ids && rng_chance(&w->rng, 9, 10);
        b->ids[b->count++] = m->id;
    }
}

/* The name of one that may wait in the topic, to replace it. */
static const char *taken_name(struct world *w, int topic)
{
    for (int i = 0; i < 4 && w->model->scheds_n > 0; i++) {
        struct sched *s = model_sched(w, (int)rng_below(&w->rng, w->model->scheds_n));
        if (s->topic == topic && s->unit == NONE && s->name[0] != '\0')
            return s->name;
    }
    return NULL;
}

void batch_delay(struct world *w, struct batch *b, int unit)
{
    int sched = model_new_sched(w), topic = w->model->parts[b->part].topic;
    struct sched *s = model_sched(w, sched);
    const char *taken = unit == NONE && rng_chance(&w->rng, 1, 6) ? taken_name(w, topic) : NULL;
    s->topic = topic;
    s->unit = unit;
    s->first = b->ids[0];
    s->count = b->count;
    if (taken != NULL)
        snprintf(s->name, sizeof s->name, "%s", taken);
    s->cron = unit == NONE && rng_chance(&w->rng, 1, 12);
    if (taken == NULL && (s->cron || rng_chance(&w->rng, 2, 3)))
        snprintf(s->name, sizeof s->name, "d%d", sched);
    for (size_t i = 0; i < w->model->scheds_n && taken != NULL; i++)
        if ((int)i != sched && w->model->scheds[i].topic == topic &&
            strcmp(w->model->scheds[i].name, taken) == 0)
            s->ending = w->model->scheds[i].ending = true; /* whichever comes second replaces the other */
    if (s->cron)
        s->due_min = w->model->wall_ms + 1;
    else if (rng_chance(&w->rng, 1, 4))
        s->due_min = s->at_ms = w->now.wall_ms + rng_below(&w->rng, 20000);
    else
        s->due_min = w->model->wall_ms + (s->delay_ms = rng_between(&w->rng, 1, 20000));
    b->sched = sched;
    world_trace(w, "batch %d of %u messages is to wait in topic %d as '%s'", sched, b->count, topic, s->name);
    for (uint32_t i = 0; i < b->count; i++) {
        model_message(w, b->ids[i])->key = model_message(w, b->ids[0])->key; /* of one key: its topic may grow meanwhile */
        model_message(w, b->ids[i])->sched = sched;
        model_message(w, b->ids[i])->has_id = false;
    }
}

void request_batch(struct world *w, struct request *r)
{
    struct buf bytes = {0};
    batch_encode(w, &r->batch, &bytes);
    ref_drop(r->bytes);
    r->bytes = ref_new_copy(bytes.data, bytes.size);
    buf_free(&bytes);
}

static bool batch_has(const struct batch *b, uint64_t id)
{
    for (uint32_t i = 0; i < b->count; i++)
        if (b->ids[i] == id)
            return true;
    return false;
}

/* What an earlier session of this client produced, and does not know whether it was appended. */
static void add_again(struct world *w, struct client *c, struct batch *b)
{
    for (size_t i = 0; i < c->again_n && b->count < BATCH_MAX - 1;) {
        const struct message *m = model_message(w, c->again[i]);
        if (m->part != b->part) {
            i++;
            continue;
        }
        if (!batch_has(b, m->id))
            b->ids[b->count++] = m->id;
        c->again[i] = c->again[--c->again_n];
    }
}

/* What somebody produced already. */
static void add_old(struct world *w, struct batch *b)
{
    for (int i = 0; i < 8 && w->model->messages_n > 0 && b->count < 3; i++) {
        const struct message *m = model_message(w, rng_below(&w->rng, w->model->messages_n));
        if (m->sched != NONE)
            continue;
        bool known = m->unit == NONE || model_unit(w, m->unit)->outcome == OUTCOME_OK;
        if (m->has_id && m->value == m->id && m->part == b->part && known && !batch_has(b, m->id))
            b->ids[b->count++] = m->id;
    }
}

static void produce(struct world *w, struct client *c)
{
    int part = client_part(w);
    if (c->again_n > 0 && rng_chance(&w->rng, 1, 2))
        part = model_message(w, c->again[0])->part;
    if (c->lanes[part].next - c->lanes[part].seen > 8)
        return;
    struct request *r = client_request(c, R_PRODUCE, VERB_PRODUCE);
    r->batch.part = part;
    r->batch.sched = NONE;
    add_again(w, c, &r->batch);
    if (rng_chance(&w->rng, 1, 12))
        add_old(w, &r->batch);
    bool fresh = r->batch.count == 0;
    if (fresh || rng_chance(&w->rng, 1, 3))
        batch_add_new(w, &r->batch, (uint32_t)rng_between(&w->rng, 1, BATCH_MAX - r->batch.count), NONE);
    if (fresh && rng_chance(&w->rng, 1, 5))
        batch_delay(w, &r->batch, NONE);
    r->lane = w->model->parts[part].id;
    r->seq = c->lanes[part].next++;
    request_batch(w, r);
}

int client_free_slot(const struct client *c)
{
    return !c->slot_busy[0] ? 0 : !c->slot_busy[1] ? 1 : NONE;
}

void client_receive_begin(struct world *w, struct client *c, struct request *r)
{
    r->slot = (uint32_t)client_free_slot(c);
    r->counter = ++c->slot_counter[r->slot];
    r->groups_n = (uint32_t)rng_between(&w->rng, 1, 3);
    uint32_t first = (uint32_t)rng_below(&w->rng, GROUPS);
    for (uint32_t i = 0; i < r->groups_n; i++)
        r->groups[i] = w->model->group_ids[(first + i) % GROUPS];
    r->max_messages = (uint32_t)rng_between(&w->rng, 1, 8);
    r->wait_ms = rng_chance(&w->rng, 1, 3) ? 0 : (uint32_t)rng_below(&w->rng, 3000);
    c->slot_busy[r->slot] = true;
}

static void receive(struct world *w, struct client *c)
{
    if (client_free_slot(c) != NONE)
        client_receive_begin(w, c, client_request(c, R_RECEIVE, VERB_RECEIVE));
}

void client_state_get(struct client *c, int group, int key)
{
    struct request *r = client_request(c, R_STATE, VERB_STATE_GET);
    r->state_group = group;
    r->state_key = key;
}

static void admin(struct world *w, struct client *c)
{
    static const enum wire_verb steps[] = {VERB_TOPIC_CREATE, VERB_GROUP_CREATE, VERB_GROUP_DELETE,
                                           VERB_TOPIC_DELETE};
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

/* A group that a replay made goes, when the replay has ended or before. */
static void into_end(struct world *w, struct client *c)
{
    int topic = (int)rng_below(&w->rng, TOPICS);
    const struct into_view *v = model_into_of(w, topic);
    if (w->admin_busy || v == NULL || (v->task.row.state == TASK_RUNNING && !rng_chance(&w->rng, 1, 8)))
        return;
    struct request *r = client_request(c, R_ADMIN, VERB_GROUP_DELETE);
    r->seq = c->lanes[PARTS].next++;
    snprintf(r->topic, sizeof r->topic, "t%d", topic);
    snprintf(r->group, sizeof r->group, "again");
    w->admin_busy = true;
}

/* A topic that was made with fewer partitions gets others: one all at once, the others half of them. (Which, is of the topic: an answer may be
 * lost, and to ask for what is there is no error.) */
void client_grow(struct client *c, int topic)
{
    struct world *w = c->world;
    struct request *r = client_request(c, R_ADMIN, VERB_TOPIC_ALTER);
    r->seq = c->lanes[PARTS].next++;
    snprintf(r->topic, sizeof r->topic, "t%d", topic);
    r->topic_config.partitions = topic == 0 ? PARTITIONS : 2 * w->model->topic_config[topic].partitions;
    r->mask = TOPIC_SET_PARTITIONS;
    w->admin_busy = true;
    world_trace(w, "topic %d is to grow", topic);
}

static void grow(struct world *w, struct client *c)
{
    int topic = (int)rng_below(&w->rng, TOPICS);
    if (!w->admin_busy && w->model->topic_config[topic].partitions < PARTITIONS)
        client_grow(c, topic);
}

static void fetch(struct world *w, struct client *c)
{
    struct request *r = client_request(c, R_FETCH, VERB_FETCH);
    int part = client_part(w);
    r->from = (struct wire_fetch_from){.partition = w->model->parts[part].id,
                                       .offset = rng_below(&w->rng, w->model->parts[part].end + 1)};
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
        client_end_crons(w, c), client_resume(w, c);
    if (w->draining)
        x = x < 500 ? 400 : 600;
    if (x < 220)
        produce(w, c);
    else if (x < 450)
        receive(w, c);
    else if (x < 900)
        client_settle(w, c);
    else if (x < 915)
        client_state_get(c, (int)rng_below(&w->rng, GROUPS_PER_TOPIC), (int)rng_below(&w->rng, KEYS));
    else if (x < 940)
        fetch(w, c);
    else if (x < 945)
        client_operate(w, c);
    else if (x < 955 && c->index == 0)
        admin(w, c);
    else if (x < 963 && c->index == 0)
        grow(w, c);
    else if (x < 970 && c->index == 0)
        into_end(w, c);
    else if (x < 975)
        c->paused_until = client_now(c) + rng_below(&w->rng, 20000);
    else if (x < 980 && list_empty(&c->requests))
        client_request(c, R_BYE, VERB_BYE);
    else if (x >= 980 && x < 990)
        client_lose_pipe(w, c, true);
    else if (x >= 990 && x < 995)
        client_crash(w, c);
    client_send_due(w, c);
}

/*
 * Units: what is to be done whole or not at all, gathered here and given to the settler at its commit.
 *
 *     unit_ack, ..        -> items of a settling            messages are claimed, their batches held
 *     unit_publish        -> outputs: one builder each      [t/0: records]  [t/1: records]  [due tomorrow: one record]
 *     unit_state_put, ..  -> state rows
 *     unit_commit         -> builders become batches; settling + body -> settler -> settle request, beside other units
 *
 * Records of one partition share an output, in order. What is due later has one of its own, and so has what has a message id: an
 * output is a duplicate as a whole, or not at all.
 */
#include <string.h>

#include "base/mem.h"
#include "sdk/batch.h"
#include "sdk/client.h"
#include "sdk/growth.h"

enum {
    OUTPUT_BYTES = 512, /* what an output costs in a request beside its batch */
    ITEM_BYTES = 64,    /* and an item, or a state row */
    MOVES_MAX = 3, /* how often what it publishes is looked at anew, as a topic has grown */
    MEMORY_PART =
        4, /* of the memory, at most one in so many bytes: while it is sent there are three of each */
};

struct output {
    struct topic *topic;
    uint32_t index; /* of the partition */
    bool whole;     /* takes no more */
    struct due due; /* its texts are the output's */
    struct batch_builder *builder;
    struct buf batch; /* once committed */
    uint64_t hash;
    uint32_t count;
};

/* Where a published message is. */
struct written {
    uint32_t output, record;
};

/* A message that it settles. */
struct mine {
    struct sluice_batch *batch;
    size_t index;
};

struct sluice_unit {
    struct sluice *client;
    struct settling *settling; /* NULL: handed over */
    struct mine *mine;
    struct output *outputs;
    struct written *written;
    struct wire_state_put *state; /* keys and values are the unit's */
    const struct group **groups;  /* of the state rows */
    size_t mine_n, mine_cap, outputs_n, outputs_cap, written_n, written_cap, state_n, state_cap;
    size_t bytes, charged; /* of keys, values, texts so far; and what of them was taken from the budget */
    /* the commit */
    struct wire_produce *produces;
    struct unit_body body;
    sluice_unit_fn *fn;
    void *user;
    /* the loop's thread: what it publishes is to go elsewhere */
    unsigned moves, asking; /* topics that are being asked for, and one more until all are */
    struct sluice_error trouble;
};

/* Room for one more in an array. */
#define ONE_MORE(array, n, cap)                                    \
    do {                                                           \
        if ((n) == (cap)) {                                        \
            (cap) = (cap) != 0 ? 2 * (cap) : 4;                    \
            (array) = mem_resize((array), (cap), sizeof *(array)); \
        }                                                          \
    } while (0)

int sluice_unit_begin(struct sluice *s, struct sluice_unit **out, struct sluice_error *err)
{
    *out = NULL;
    int code = client_fatal(s, err);
    if (code != 0)
        return code;
    struct sluice_unit *u = mem_zalloc(sizeof *u);
    client_take(s);
    u->client = s;
    u->settling = settling_new(s, 0);
    u->settling->atomic = true;
    *out = u;
    return 0;
}

static void outputs_free(struct output *outputs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct output *o = &outputs[i];
        batch_builder_free(o->builder);
        buf_free(&o->batch);
        mem_free((char *)o->due.cron);
        mem_free((char *)o->due.name);
    }
    mem_free(outputs);
}

/* Everything but the settling. `undone`: its messages are as they were. */
static void unit_end(struct sluice_unit *u, bool undone)
{
    struct sluice *s = u->client;
    for (size_t i = 0; i < u->mine_n; i++) {
        if (undone)
            batch_unclaim(u->mine[i].batch, u->mine[i].index);
        batch_drop(u->mine[i].batch);
    }
    outputs_free(u->outputs, u->outputs_n);
    for (size_t i = 0; i < u->state_n; i++) {
        mem_free((void *)u->state[i].key.data);
        mem_free((void *)u->state[i].value.data);
    }
    mem_free(u->mine);
    mem_free(u->written);
    mem_free(u->state);
    mem_free(u->groups);
    mem_free(u->produces);
    budget_give(&s->budget, u->charged);
    mem_free(u);
    client_drop(s);
}

void sluice_unit_free(struct sluice_unit *u)
{
    if (u == NULL)
        return;
    settling_free(u->settling);
    unit_end(u, true);
}

/* ---------------------------------------------------------------- what it settles */

static int settle(struct sluice_unit *u, const struct sluice_settle *item, struct sluice_error *err)
{
    int code = client_fatal(u->client, err);
    if (code == 0)
        code = batch_check_item(u->client, item, u->mine_n, err);
    if (code == 0)
        code = batch_claim(item, 1, err);
    if (code != 0)
        return code;
    ONE_MORE(u->mine, u->mine_n, u->mine_cap);
    u->mine[u->mine_n++] = (struct mine){item->batch, item->index};
    batch_take(item->batch);
    batch_put_item(u->settling, item);
    return 0;
}

int sluice_unit_ack(struct sluice_unit *u, struct sluice_batch *b, size_t i, struct sluice_error *err)
{
    return settle(u, &(struct sluice_settle){.batch = b, .index = i, .verb = SLUICE_ACK}, err);
}

int sluice_unit_nack(struct sluice_unit *u, struct sluice_batch *b, size_t i, uint32_t delay_ms,
                     const char *error, struct sluice_error *err)
{
    return settle(u,
                  &(struct sluice_settle){
                      .batch = b, .index = i, .verb = SLUICE_NACK, .delay_ms = delay_ms, .error = error},
                  err);
}

int sluice_unit_park(struct sluice_unit *u, struct sluice_batch *b, size_t i, const char *reason,
                     const char *error, struct sluice_error *err)
{
    return settle(u,
                  &(struct sluice_settle){
                      .batch = b, .index = i, .verb = SLUICE_PARK, .reason = reason, .error = error},
                  err);
}

/* ---------------------------------------------------------------- what it publishes */

/* Counts bytes that the unit is to hold, and takes them from the budget. */
static int take_bytes(struct sluice_unit *u, size_t bytes, struct sluice_error *err)
{
    if (!budget_take(&u->client->budget, bytes))
        return fail(err, E_QUEUE_FULL, "the client's memory limit is reached: memory_max is %zu",
                    u->client->budget.max);
    u->bytes += bytes;
    u->charged += bytes;
    return 0;
}

/* What has no key and no id goes where the unit's first such message of the topic went. */
static uint32_t partition_of(const struct sluice_unit *u, const struct prepared *p)
{
    bool chosen = p->record.key.data != NULL || !id128_is_zero(p->record.message_id);
    for (size_t i = 0; !chosen && i < u->outputs_n; i++) {
        if (u->outputs[i].topic == p->topic)
            return u->outputs[i].index;
    }
    uint32_t index = message_partition(p), turn = index;
    if (!chosen)
        atomic_compare_exchange_strong(&p->topic->turn, &turn, (index + 1) % p->topic->partitions_n);
    return index;
}

/* The output that takes a message: one that is there, or a new one. */
static struct output *output_of(struct sluice_unit *u, const struct prepared *p)
{
    uint32_t index = partition_of(u, p);
    bool whole = is_due_later(&p->due) || !id128_is_zero(p->record.message_id);
    for (size_t i = u->outputs_n; i > 0; i--) {
        struct output *o = &u->outputs[i - 1];
        if (o->topic->partitions[o->index] != p->topic->partitions[index] || is_due_later(&o->due))
            continue;
        if (!whole && !o->whole)
            return o;
        break; /* what comes later in a partition stands later in it */
    }
    ONE_MORE(u->outputs, u->outputs_n, u->outputs_cap);
    struct output *o = &u->outputs[u->outputs_n++];
    *o = (struct output){.topic = p->topic,
                         .index = index,
                         .whole = whole,
                         .due = p->due,
                         .builder = builder_take(&u->client->producer)};
    o->due.cron = p->due.cron != NULL ? mem_strdup(p->due.cron) : NULL;
    o->due.name = p->due.name != NULL ? mem_strdup(p->due.name) : NULL;
    return o;
}

static int publish(struct sluice_unit *u, const struct sluice_message *m, struct prepared *p,
                   struct sluice_error *err)
{
    int code = message_prepare(u->client, m, p, err);
    if (code == 0)
        code = take_bytes(u, p->bytes, err);
    if (code != 0)
        return code;
    struct err e;
    struct output *o = output_of(u, p);
    code = batch_builder_add(o->builder, &p->record, &e);
    if (code == E_LIMIT && o->count > 0) { /* a timestamp too far from the others, say */
        o->whole = true;
        o = output_of(u, p);
        code = batch_builder_add(o->builder, &p->record, &e);
    }
    if (code != 0)
        return fail_below(err, code, &e, m->topic); /* an output of no records is left out later */
    ONE_MORE(u->written, u->written_n, u->written_cap);
    u->written[u->written_n++] = (struct written){.output = (uint32_t)(o - u->outputs), .record = o->count++};
    return 0;
}

int sluice_unit_publish(struct sluice_unit *u, const struct sluice_message *m, struct sluice_error *err)
{
    struct sluice_message copy;
    int code = TAKE_STRUCT(&copy, m, sluice_message, delay_ms, err);
    if (code == 0)
        code = client_fatal(u->client, err);
    if (code != 0)
        return code;
    struct prepared p = {.headers = {0}};
    code = publish(u, &copy, &p, err);
    buf_free(&p.headers);
    return code;
}

size_t sluice_unit_published(const struct sluice_unit *u)
{
    return u->written_n;
}

/* ---------------------------------------------------------------- the state it changes */

static int change_state(struct sluice_unit *u, const char *topic, const char *group,
                        struct wire_state_put *row, struct sluice_error *err)
{
    struct group *g;
    bool asked;
    if (row->key.data == NULL)
        return fail(err, E_INVALID_ARGUMENT, "state: the key is absent");
    if (row->key.size > WIRE_KEY_MAX)
        return fail(err, E_TOO_LARGE, "key: %zu bytes, at most %d are accepted", row->key.size, WIRE_KEY_MAX);
    int code = client_fatal(u->client, err);
    if (code == 0)
        code = catalog_group(u->client, topic, group, &g, &asked, err);
    if (code == 0)
        code = take_bytes(u, row->key.size + row->value.size + ITEM_BYTES, err);
    if (code != 0)
        return code;
    ONE_MORE(u->state, u->state_n, u->state_cap);
    u->groups = mem_resize(u->groups, u->state_cap, sizeof *u->groups);
    u->groups[u->state_n] = g;
    row->group = g->id;
    row->key = view_of(mem_dup(row->key.data, row->key.size), row->key.size);
    if (row->value.data != NULL)
        row->value = view_of(mem_dup(row->value.data, row->value.size), row->value.size);
    u->state[u->state_n++] = *row;
    return 0;
}

int sluice_unit_state_put(struct sluice_unit *u, const char *topic, const char *group,
                          struct sluice_bytes key, uint64_t version, struct sluice_bytes value,
                          struct sluice_error *err)
{
    if (value.data == NULL)
        return fail(err, E_INVALID_ARGUMENT,
                    "state: the value is absent; sluice_unit_state_remove takes a row away");
    return change_state(u, topic, group,
                        &(struct wire_state_put){.key = view_of(key.data, key.size),
                                                 .version = version,
                                                 .value = view_of(value.data, value.size)},
                        err);
}

int sluice_unit_state_remove(struct sluice_unit *u, const char *topic, const char *group,
                             struct sluice_bytes key, uint64_t version, struct sluice_error *err)
{
    return change_state(
        u, topic, group,
        &(struct wire_state_put){.key = view_of(key.data, key.size), .version = version, .remove = true},
        err);
}

/* ---------------------------------------------------------------- commit */

/* Builders become batches. Once; again it finds nothing to do. */
static int finish_outputs(struct sluice_unit *u, size_t *bytes, struct sluice_error *err)
{
    struct producer *p = &u->client->producer;
    for (size_t i = 0; i < u->outputs_n; i++) {
        struct output *o = &u->outputs[i];
        struct err e;
        int code = 0;
        if (o->builder != NULL && o->count > 0)
            code = batch_builder_finish(o->builder, batch_codec_of(&u->client->options), &o->batch, &o->hash,
                                        &e);
        if (code != 0)
            return fail_below(err, code, &e, o->topic->name);
        if (o->builder != NULL)
            builder_give(p, o->builder, o->batch.size <= 2 * (size_t)u->client->options.batch_bytes_max);
        o->builder = NULL;
        o->whole = true;
        *bytes += o->batch.size + OUTPUT_BYTES;
    }
    return 0;
}

static int check_size(const struct sluice_unit *u, size_t bytes, struct sluice_error *err)
{
    const struct settling *x = u->settling;
    size_t max = atomic_load(&u->client->producer.message_bytes_max);
    if (max > u->client->budget.max / MEMORY_PART)
        max = u->client->budget.max / MEMORY_PART;
    if (x->items_n + u->written_n + u->state_n == 0)
        return fail(err, E_INVALID_ARGUMENT, "the unit is empty");
    if (x->items_n + u->state_n + u->outputs_n >= WIRE_ITEMS_MAX)
        return fail(err, E_TOO_LARGE, "the unit has %zu items, at most %d are accepted",
                    x->items_n + u->state_n + u->outputs_n, WIRE_ITEMS_MAX - 1);
    bytes += x->notes_bytes + ((size_t)x->items_n + u->state_n) * ITEM_BYTES;
    for (size_t i = 0; i < u->state_n; i++)
        bytes += u->state[i].key.size + u->state[i].value.size;
    if (bytes > max)
        return fail(err, E_TOO_LARGE, "the unit has %zu bytes, this broker and memory_max allow %zu", bytes,
                    max);
    return 0;
}

/* What the settler and the request need of it. */
static void make_body(struct sluice_unit *u, size_t bytes)
{
    mem_free(u->produces);
    u->produces = mem_array(u->outputs_n, sizeof *u->produces);
    uint32_t n = 0;
    for (size_t i = 0; i < u->outputs_n; i++) {
        const struct output *o = &u->outputs[i];
        if (o->count > 0)
            u->produces[n++] = (struct wire_produce){.partition = o->topic->partitions[o->index],
                                                     .count = o->count,
                                                     .batch_hash = o->hash,
                                                     .batch = buf_view(&o->batch),
                                                     .delay_ms = o->due.delay_ms,
                                                     .at_ms = o->due.at_ms,
                                                     .cron = view_of_str(o->due.cron),
                                                     .name = view_of_str(o->due.name)};
    }
    u->body = (struct unit_body){.produces = u->produces,
                                 .produces_n = n,
                                 .state = u->state,
                                 .state_n = (uint32_t)u->state_n,
                                 .bytes = bytes};
}

/* What became of each message, in the order in which they were published. */
static struct sluice_receipt *receipts_of(const struct sluice_unit *u, const struct wire_produced *outputs,
                                          int durability)
{
    struct sluice_receipt *receipts = mem_array(u->written_n, sizeof *receipts);
    uint32_t *place = mem_array(u->outputs_n, sizeof *place); /* of an output among those that were sent */
    for (size_t i = 0, n = 0; i < u->outputs_n; i++)
        place[i] = (uint32_t)(u->outputs[i].count > 0 ? n++ : 0);
    for (size_t i = 0; i < u->written_n; i++) {
        const struct written *w = &u->written[i];
        uint32_t index = u->outputs[w->output].index;
        if (outputs != NULL)
            receipt_of(&receipts[i], &outputs[place[w->output]], w->record, u->outputs[w->output].topic,
                       index, durability);
        else
            receipts[i] =
                (struct sluice_receipt){.partition = index, .offset = UINT64_MAX, .durability = durability};
    }
    mem_free(place);
    return receipts;
}

/* What the broker does not know is asked for again at its next use. */
static void forget(struct sluice_unit *u, int code)
{
    struct catalog *c = &u->client->catalog;
    if (code == E_PARTITION_NOT_FOUND || code == E_WRONG_PARTITION || code == E_TOPIC_NOT_FOUND ||
        code == E_TOPIC_DELETED) {
        for (size_t i = 0; i < u->outputs_n; i++)
            catalog_forget_topic(c, u->outputs[i].topic);
    }
    if (code == E_GROUP_NOT_FOUND) {
        for (size_t i = 0; i < u->state_n; i++)
            catalog_forget_group(c, u->groups[i]);
    }
}

static void unit_settled(void *user, const struct sluice_error *error, bool unknown,
                         const struct wire_produced *outputs, int durability)
{
    struct sluice_unit *u = user;
    struct client_counters *c = &u->client->counters;
    struct sluice_receipt *receipts = error == NULL ? receipts_of(u, outputs, durability) : NULL;
    atomic_fetch_add(error == NULL ? &c->confirmed : &c->failed, u->written_n);
    if (error != NULL)
        forget(u, error->code);
    if (error != NULL && !unknown) { /* before it is told, so that who hears it can settle otherwise */
        for (size_t i = 0; i < u->mine_n; i++)
            batch_unclaim(u->mine[i].batch, u->mine[i].index);
    }
    if (u->fn != NULL)
        u->fn(u->user, error, receipts, receipts != NULL ? u->written_n : 0);
    mem_free(receipts);
    unit_end(u, false);
}

/* ---------------------------------------------------------------- when a topic has grown meanwhile */

/* The topic of an output as it is now, by its name. */
static struct topic *topic_now(const struct sluice_unit *u, struct topic *t)
{
    struct topic *now = catalog_known_topic(&u->client->catalog, t->name);
    return now != NULL && now->id == t->id ? now : t;
}

/* Every message is put where it belongs by now, in the order in which they were published. */
static int place_anew(struct sluice_unit *u, struct sluice_error *err)
{
    struct output *old = u->outputs;
    size_t old_n = u->outputs_n, bytes = 0;
    struct batch_reader *readers = mem_array(old_n, sizeof *readers);
    struct err e;
    int code = 0;
    u->outputs = NULL;
    u->outputs_n = u->outputs_cap = 0;
    for (size_t i = 0; i < old_n && code == 0; i++) {
        if (old[i].count > 0)
            code = batch_reader_open(&readers[i], buf_view(&old[i].batch), &e);
    }
    for (size_t i = 0; i < u->written_n && code == 0; i++) {
        struct written *w = &u->written[i];
        struct prepared p = {.topic = topic_now(u, old[w->output].topic), .due = old[w->output].due};
        code = batch_reader_get(&readers[w->output], w->record, &p.record, &e);
        if (code != 0)
            break;
        struct output *o = output_of(u, &p);
        code = batch_builder_add(o->builder, &p.record, &e);
        *w = (struct written){.output = (uint32_t)(o - u->outputs), .record = o->count++};
    }
    if (code != 0)
        fail_below(err, code, &e, "unit");
    for (size_t i = 0; i < old_n; i++)
        batch_reader_close(&readers[i]);
    mem_free(readers);
    outputs_free(old, old_n);
    if (code == 0)
        code = finish_outputs(u, &bytes, err);
    if (code == 0)
        make_body(u, bytes);
    return code;
}

static void topics_asked(struct sluice_unit *u)
{
    struct settling *x = u->settling;
    struct sluice_error error = u->trouble;
    u->settling = NULL;
    if (error.code == 0 && place_anew(u, &error) == 0) {
        settler_submit(&u->client->settler, x);
        return;
    }
    settling_free(x);
    unit_settled(u, &error, false, NULL, 0);
}

static void topic_asked(void *user, struct topic *now, const struct sluice_error *error)
{
    struct sluice_unit *u = user;
    if (now == NULL)
        u->trouble = *error;
    if (--u->asking == 0)
        topics_asked(u);
}

/* Nothing was done. It is the settler's no longer, and comes back there once the topics are known as they are now. */
static bool unit_misplaced(void *user, struct settling *x)
{
    struct sluice_unit *u = user;
    if (u->moves++ == MOVES_MAX)
        return false;
    u->settling = x;
    u->asking = 1;
    u->trouble.code = 0;
    for (size_t i = 0; i < u->outputs_n; i++) {
        struct topic *t = u->outputs[i].topic;
        size_t k = 0;
        while (u->outputs[k].topic != t)
            k++;
        if (k < i)
            continue;
        u->asking++;
        topic_ask(u->client, t->name, topic_asked, u);
    }
    u->asking--;
    return true;
}

int sluice_unit_commit_async(struct sluice_unit *u, sluice_unit_fn *fn, void *user, struct sluice_error *err)
{
    struct sluice *s = u->client;
    size_t bytes = 0;
    int code = client_fatal(s, err);
    if (code == 0)
        code = finish_outputs(u, &bytes, err);
    if (code == 0)
        code = check_size(u, bytes, err);
    if (code != 0)
        return code;
    make_body(u, bytes);
    struct settling *x = u->settling;
    x->body = &u->body;
    x->settled = unit_settled;
    x->misplaced = unit_misplaced;
    x->user = u;
    u->settling = NULL;
    u->fn = fn;
    u->user = user;
    atomic_fetch_add(&s->counters.published, u->written_n);
    settler_post(&s->settler, x);
    return 0;
}

struct commit_call {
    struct waiter waiter;
    struct sluice_receipt *receipts;
    struct sluice_error error;
};

static void commit_told(void *user, const struct sluice_error *error, const struct sluice_receipt *receipts,
                        size_t count)
{
    struct commit_call *c = user;
    if (error != NULL)
        c->error = *error;
    else if (c->receipts != NULL && count > 0)
        memcpy(c->receipts, receipts, count * sizeof *receipts);
    waiter_done(&c->waiter);
}

int sluice_unit_commit(struct sluice_unit *u, struct sluice_receipt *receipts, struct sluice_error *err)
{
    if (u == NULL)
        return fail(err, E_INVALID_ARGUMENT, "sluice_unit_commit: the unit is NULL");
    struct commit_call call = {.receipts = receipts, .error.code = 0};
    int code = client_may_block(u->client, "sluice_unit_commit", err);
    waiter_init(&call.waiter);
    u->settling->waited = true;
    if (code == 0)
        code = sluice_unit_commit_async(u, commit_told, &call, err);
    if (code != 0) {
        waiter_free(&call.waiter);
        sluice_unit_free(u);
        return code;
    }
    waiter_wait(&call.waiter);
    return call.error.code != 0 ? fail_same(err, &call.error) : 0;
}

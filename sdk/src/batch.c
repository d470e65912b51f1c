#include "sdk/batch.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "schemas/records.h"
#include "sdk/client.h"

/* ---------------------------------------------------------------- making */

struct sluice_batch *batch_new(struct sluice *s)
{
    struct sluice_batch *b = mem_zalloc(sizeof *b);
    client_take(s);
    atomic_init(&b->refs, 1);
    b->client = s;
    return b;
}

size_t record_bytes(const struct wire_record *r)
{
    if (r->flags & RECORD_DAMAGED)
        return 0;
    size_t key = r->key_size != 0 ? r->key_size - 1 : 0;
    return key + r->headers_size + (r->value_size != 0 ? r->value_size - 1 : 0);
}

void record_views(const struct wire_record *r, const uint8_t *data, struct sluice_delivery *out)
{
    size_t key = r->key_size != 0 ? r->key_size - 1 : 0;
    if (r->key_size != 0)
        out->key = (struct sluice_bytes){data, key};
    if (r->headers_size != 0)
        out->headers_raw = (struct sluice_bytes){data + key, r->headers_size};
    if (r->value_size != 0)
        out->value = (struct sluice_bytes){data + key + r->headers_size, r->value_size - 1};
}

/* Whether the bytes are those that the producer wrote. */
static bool is_sound(const struct wire_record *r, const struct sluice_delivery *d)
{
    return (r->flags & RECORD_DAMAGED) == 0 &&
           record_sum(r->key_size, r->headers_size, r->value_size, d->key.data, d->headers_raw.data,
                      d->value.data) == r->sum;
}

/* The index of a partition; one that is not known belongs to a topic that grew. */
static uint32_t index_of(struct sluice *s, const struct topic *t, uint32_t partition)
{
    uint32_t index = topic_index(t, partition);
    struct topic *grown;
    if (index == UINT32_MAX) {
        catalog_forget_topic(&s->catalog, t);
        if (catalog_topic(s, t->name, &grown, NULL) == 0)
            index = topic_index(grown, partition);
    }
    return index;
}

static void park_damaged(struct settling *x, const struct wire_delivery *d, const struct wire_record *r)
{
    settling_add(x, (struct wire_settle_item){.token = d->token,
                                              .offset = r->offset,
                                              .group = d->group,
                                              .partition = r->partition,
                                              .verb = SETTLE_PARK});
    settling_note(x, "damaged", "the sum of the delivered bytes is wrong");
}

/* The state row that came with a record, if one did. Rows are in the order of their records. */
static const struct wire_state_row *state_of(const struct wire_delivery *d, uint32_t record)
{
    uint32_t low = 0, high = d->state_n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (d->state[middle].index < record)
            low = middle + 1;
        else
            high = middle;
    }
    return low < d->state_n && d->state[low].index == record ? &d->state[low] : NULL;
}

static void add_portion(struct sluice_batch *b, const struct portion *p, struct settling *damaged)
{
    const struct wire_delivery *d = p->delivery;
    const struct group *g = p->group;
    const uint8_t *at = d->data.data + p->at;
    for (uint32_t i = p->first; i < p->first + p->count; i++) {
        const struct wire_record *r = &d->records[i];
        const struct wire_state_row *state = state_of(d, i);
        struct sluice_delivery *m = &b->messages[b->count];
        *m = (struct sluice_delivery){.topic = g->topic->name,
                                      .group = g->name,
                                      .offset = r->offset,
                                      .timestamp_ms = r->timestamp_ms,
                                      .append_time_ms = r->append_time_ms,
                                      .attempt = r->failures + 1,
                                      .grants = r->grants,
                                      .redelivered = r->grants > 1 || r->failures > 0};
        if (state != NULL) {
            m->state_version = state->version;
            m->state = bytes_of(state->value);
        }
        if ((r->flags & RECORD_DAMAGED) == 0) {
            record_views(r, at, m);
            at += record_bytes(r);
        }
        if (!is_sound(r, m)) {
            park_damaged(damaged, d, r);
            continue;
        }
        m->partition = index_of(b->client, g->topic, r->partition);
        b->leases[b->count].group = g;
        b->leases[b->count].token = d->token;
        b->leases[b->count].partition = r->partition;
        b->count++;
    }
}

struct sluice_batch *batch_of_portions(struct sluice *s, struct taker *t)
{
    struct sluice_batch *b = batch_new(s);
    b->leased = true;
    b->answer = t->answer;
    b->messages = mem_array(t->messages, sizeof *b->messages);
    b->leases = mem_array(t->messages, sizeof *b->leases);
    b->charged = sizeof *b + t->messages * (sizeof *b->messages + sizeof *b->leases);
    budget_charge(&s->budget, b->charged);
    struct settling *damaged = settling_new(s, t->messages);
    for (size_t i = 0; i < t->portions_n; i++)
        add_portion(b, &t->portions[i], damaged);
    if (damaged->items_n > 0)
        settler_post(&s->settler, damaged);
    else
        settling_free(damaged);
    atomic_fetch_add(&s->counters.received, b->count);
    return b;
}

/* ---------------------------------------------------------------- looking */

size_t sluice_idempotency_key(const struct sluice_delivery *d, char *out, size_t size)
{
    int n = snprintf(out, size, "%s/%u/%llu/%s", d->topic, d->partition, (unsigned long long)d->offset,
                     d->group != NULL ? d->group : "");
    return n > 0 ? (size_t)n : 0;
}

size_t sluice_batch_count(const struct sluice_batch *b)
{
    return b->count;
}

const struct sluice_delivery *sluice_batch_message(const struct sluice_batch *b, size_t i)
{
    return i < b->count ? &b->messages[i] : NULL;
}

bool sluice_header_next(const struct sluice_delivery *d, size_t *pos, struct sluice_bytes *name,
                        struct sluice_bytes *value)
{
    if (*pos >= d->headers_raw.size)
        return false;
    const uint8_t *raw = d->headers_raw.data;
    struct view rest = view_of(raw + *pos, d->headers_raw.size - *pos);
    struct header h;
    bool bad;
    if (!headers_next(&rest, &h, &bad)) {
        *pos = d->headers_raw.size;
        return false;
    }
    *pos = d->headers_raw.size - rest.size;
    *name = bytes_of(h.name);
    *value = bytes_of(h.value);
    return true;
}

struct sluice_bytes sluice_header_get(const struct sluice_delivery *d, const char *name)
{
    struct view value;
    if (!headers_find(view_of(d->headers_raw.data, d->headers_raw.size), view_of_str(name), &value))
        return (struct sluice_bytes){NULL, 0};
    return bytes_of(value);
}

/* ---------------------------------------------------------------- giving back */

static struct wire_settle_item item_of(const struct sluice_batch *b, size_t i, enum settle_verb verb)
{
    return (struct wire_settle_item){.token = b->leases[i].token,
                                     .offset = b->messages[i].offset,
                                     .group = b->leases[i].group->id,
                                     .partition = b->leases[i].partition,
                                     .verb = verb};
}

/* Marks a message as settled. False: it was already. */
static bool claim(struct sluice_batch *b, size_t i)
{
    return !atomic_exchange(&b->leases[i].settled, true);
}

void batch_unclaim(struct sluice_batch *b, size_t i)
{
    atomic_store(&b->leases[i].settled, false);
}

/* Gives back what nobody settled. */
static void release_unsettled(struct sluice_batch *b)
{
    struct sluice *s = b->client;
    if (!b->leased || atomic_load(&s->dead))
        return;
    struct settling *x = NULL;
    for (size_t i = 0; i < b->count; i++) {
        if (!claim(b, i))
            continue;
        if (x == NULL)
            x = settling_new(s, b->count - i);
        settling_add(x, item_of(b, i, SETTLE_RELEASE));
        settling_group(x, b->leases[i].group);
    }
    if (x != NULL)
        settler_post(&s->settler, x);
}

void batch_take(struct sluice_batch *b)
{
    atomic_fetch_add(&b->refs, 1);
}

void sluice_batch_free(struct sluice_batch *b)
{
    if (b == NULL)
        return;
    release_unsettled(b);
    batch_drop(b);
}

void batch_drop(struct sluice_batch *b)
{
    if (atomic_fetch_sub(&b->refs, 1) != 1)
        return;
    struct sluice *s = b->client;
    release_unsettled(b); /* of units that were refused after it was freed */
    answer_drop(b->answer);
    for (struct chunk *c = b->chunks, *next; c != NULL; c = next) {
        next = c->next;
        mem_free(c);
    }
    mem_free(b->messages);
    mem_free(b->leases);
    budget_give(&s->budget, b->charged);
    mem_free(b);
    client_drop(s);
}

/* ---------------------------------------------------------------- settling */

int batch_check_item(struct sluice *s, const struct sluice_settle *x, size_t n, struct sluice_error *err)
{
    const struct sluice_batch *b = x->batch;
    if (b == NULL || !b->leased || b->client != s)
        return fail(err, E_INVALID_ARGUMENT, "item %zu: its batch was not received by this client", n);
    if (x->index >= b->count)
        return fail(err, E_INVALID_ARGUMENT, "item %zu: message %zu of a batch of %zu", n, x->index,
                    b->count);
    if (x->verb < SLUICE_ACK || x->verb > SLUICE_EXTEND)
        return fail(err, E_INVALID_ARGUMENT, "item %zu: verb %d is none of enum sluice_settle_verb", n,
                    x->verb);
    return 0;
}

static int settled_twice(const struct sluice_settle *x, size_t n, struct sluice_error *err)
{
    return fail(err, E_INVALID_ARGUMENT,
                "item %zu: the message was settled before: topic '%s', partition %u, offset %llu", n,
                x->batch->leases[x->index].group->topic->name, x->batch->messages[x->index].partition,
                (unsigned long long)x->batch->messages[x->index].offset);
}

int batch_claim(const struct sluice_settle *items, size_t count, struct sluice_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct sluice_settle *x = &items[i];
        bool ends = x->verb != SLUICE_EXTEND;
        if (ends ? claim(x->batch, x->index) : !atomic_load(&x->batch->leases[x->index].settled))
            continue;
        int code = settled_twice(x, i, err);
        for (size_t j = 0; j < i; j++) {
            if (items[j].verb != SLUICE_EXTEND)
                batch_unclaim(items[j].batch, items[j].index);
        }
        return code;
    }
    return 0;
}

void batch_put_item(struct settling *to, const struct sluice_settle *from)
{
    struct wire_settle_item item = item_of(from->batch, from->index, (enum settle_verb)from->verb);
    item.delay_ms = from->verb == SLUICE_NACK || from->verb == SLUICE_EXTEND ? from->delay_ms : 0;
    if (from->verb == SLUICE_NACK && from->delay_ms == SLUICE_BACKOFF)
        item.delay_ms = 0;
    else if (from->verb == SLUICE_NACK || from->verb == SLUICE_EXTEND)
        item.flags = SETTLE_HAS_DELAY;
    settling_add(to, item);
    settling_group(to, from->batch->leases[from->index].group);
    if (from->verb == SLUICE_NACK || from->verb == SLUICE_PARK)
        settling_note(to, from->reason, from->error);
}

static struct settling *settling_of(struct sluice *s, const struct sluice_settle *items, size_t count)
{
    struct settling *x = settling_new(s, count);
    for (size_t i = 0; i < count; i++)
        batch_put_item(x, &items[i]);
    return x;
}

int sluice_settle_async(struct sluice *s, const struct sluice_settle *items, size_t count, bool atomic,
                        sluice_settle_fn *fn, void *user, struct sluice_error *err)
{
    if (count == 0)
        return 0;
    if (count > WIRE_ITEMS_MAX - 1)
        return fail(err, E_INVALID_ARGUMENT, "count: %zu items, at most %d are accepted", count,
                    WIRE_ITEMS_MAX - 1);
    int code = client_fatal(s, err);
    for (size_t i = 0; code == 0 && i < count; i++)
        code = batch_check_item(s, &items[i], i, err);
    if (code == 0 && settler_full(&s->settler))
        code = fail(err, E_QUEUE_FULL,
                    "the client's memory limit is reached: too much is being settled, memory_max is %zu",
                    s->budget.max);
    if (code == 0)
        code = batch_claim(items, count, err);
    if (code != 0)
        return code;
    struct settling *x = settling_of(s, items, count);
    x->atomic = atomic;
    x->fn = fn;
    x->user = user;
    settler_post(&s->settler, x);
    return 0;
}

struct settle_call {
    struct waiter waiter;
    struct sluice_error error;
};

static void settle_told(void *user, size_t index, const struct sluice_error *error)
{
    (void)index;
    struct settle_call *c = user;
    if (error != NULL)
        c->error = *error;
    waiter_done(&c->waiter);
}

static int settle_one(const struct sluice_settle *item, struct sluice_error *err)
{
    struct sluice *s = item->batch->client;
    int code = client_may_block(s, "settling one message and waiting for it", err);
    if (code == 0)
        code = batch_check_item(s, item, 0, err);
    if (code == 0)
        code = batch_claim(item, 1, err);
    if (code != 0)
        return code;
    struct settle_call call = {.error.code = 0};
    struct settling *x = settling_of(s, item, 1);
    x->waited = true;
    waiter_init(&call.waiter);
    x->fn = settle_told;
    x->user = &call;
    settler_post(&s->settler, x);
    waiter_wait(&call.waiter);
    if (call.error.code == 0)
        return 0;
    if (settle_was_refused(call.error.code) && item->verb != SLUICE_EXTEND)
        batch_unclaim(item->batch, item->index);
    return fail_same(err, &call.error);
}

int sluice_ack(struct sluice_batch *b, size_t i, struct sluice_error *err)
{
    return settle_one(&(struct sluice_settle){.batch = b, .index = i, .verb = SLUICE_ACK}, err);
}

int sluice_nack(struct sluice_batch *b, size_t i, uint32_t delay_ms, const char *error,
                struct sluice_error *err)
{
    return settle_one(
        &(struct sluice_settle){
            .batch = b, .index = i, .verb = SLUICE_NACK, .delay_ms = delay_ms, .error = error},
        err);
}

int sluice_park(struct sluice_batch *b, size_t i, const char *reason, const char *error,
                struct sluice_error *err)
{
    return settle_one(
        &(struct sluice_settle){
            .batch = b, .index = i, .verb = SLUICE_PARK, .reason = reason, .error = error},
        err);
}

int sluice_release(struct sluice_batch *b, size_t i, struct sluice_error *err)
{
    return settle_one(&(struct sluice_settle){.batch = b, .index = i, .verb = SLUICE_RELEASE}, err);
}

int sluice_extend(struct sluice_batch *b, size_t i, uint32_t lease_ms, struct sluice_error *err)
{
    return settle_one(
        &(struct sluice_settle){.batch = b, .index = i, .verb = SLUICE_EXTEND, .delay_ms = lease_ms}, err);
}

#include "sdk/producer.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sdk/client.h"
#include "sdk/growth.h"

enum {
    RECORD_BYTES = 48,   /* what a record costs beside its bytes: columns, note */
    DRAFT_BYTES = 256,   /* and a draft */
    REQUEST_BYTES = 512, /* and a request around a batch */
    DRAFT_AGES =
        16, /* a draft gathers for at most this part of the request timeout, so that one deadline is true for all */
    NOTES_MIN = 16,
    PRIORITY_MAX = 9,
};

static const char message_id_header[] = "message-id";

/* ---------------------------------------------------------------- builders */

struct batch_builder *builder_take(struct producer *p)
{
    struct batch_builder *b = NULL;
    pthread_mutex_lock(&p->lock);
    if (p->builders_n > 0)
        b = p->builders[--p->builders_n];
    pthread_mutex_unlock(&p->lock);
    return b != NULL ? b : batch_builder_new();
}

/* An empty builder, kept warm if there are few. One that held a huge message is not worth its memory. */
void builder_give(struct producer *p, struct batch_builder *b, bool keep)
{
    pthread_mutex_lock(&p->lock);
    if (keep && p->builders_n < BUILDERS_KEPT) {
        p->builders[p->builders_n++] = b;
        b = NULL;
    }
    pthread_mutex_unlock(&p->lock);
    batch_builder_free(b);
}

/* ---------------------------------------------------------------- drafts */

static struct draft *draft_new(struct outlet *o, uint64_t opened_ns)
{
    struct draft *d = mem_zalloc(sizeof *d);
    d->outlet = o;
    d->builder = builder_take(&o->client->producer);
    d->opened_ns = opened_ns;
    return d;
}

void draft_free(struct draft *d)
{
    batch_builder_free(d->builder);
    mem_free((char *)d->due.cron);
    mem_free((char *)d->due.name);
    mem_free(d->notes);
    mem_free(d);
}

void receipt_of(struct sluice_receipt *to, const struct wire_produced *w, uint32_t i, const struct topic *t,
                uint32_t index, int durability)
{
    bool waits = w->due_ms != 0 || w->name.size > 0;
    *to = (struct sluice_receipt){.partition = index,
                                  .offset = waits ? UINT64_MAX : w->base_offset + i,
                                  .durability = durability,
                                  .duplicate = w->duplicate,
                                  .due_ms = w->due_ms};
    text_copy(to->schedule, sizeof to->schedule, w->name);
    if (w->duplicate && i > 0)
        to->offset = UINT64_MAX; /* only of the first record is it said */
    else if (w->duplicate && w->partition != 0)
        to->partition = topic_index(t, w->partition);
}

void note_tell_duplicate(const struct outlet *o, const struct note *n)
{
    const struct sluice_receipt receipt = {
        .partition = o->index, .offset = UINT64_MAX, .durability = SLUICE_DISK, .duplicate = true};
    if (n->fn != NULL)
        n->fn(n->user, NULL, &receipt);
}

/* Tells all messages of a draft, in order. Success: `produced` says where they are that were not left out; NULL: all were. */
static void draft_tell(struct draft *d, const struct wire_produced *produced, int durability,
                       const struct sluice_error *error)
{
    struct client_counters *c = &d->outlet->client->counters;
    uint32_t good = error == NULL ? d->notes_n : d->left_out, at = 0;
    struct sluice_receipt receipt = {.partition = d->outlet->index};
    atomic_fetch_add(&c->confirmed, good);
    atomic_fetch_add(&c->failed, d->notes_n - good);
    for (uint32_t i = 0; i < d->notes_n; i++) {
        struct note *n = &d->notes[i];
        if (n->duplicate) {
            note_tell_duplicate(d->outlet, n);
            continue;
        }
        if (error == NULL)
            receipt_of(&receipt, produced, at++, d->outlet->topic, d->outlet->index, durability);
        if (n->fn != NULL)
            n->fn(n->user, error, error == NULL ? &receipt : NULL);
    }
    d->outlet->told++;
}

static uint64_t draft_deadline(const struct draft *d)
{
    return d->opened_ns + d->outlet->client->options.request_timeout_ms * NS_PER_MS;
}

/* How long a draft may gather. */
static uint64_t gather_ns_max(const struct sluice *s)
{
    return s->options.request_timeout_ms * NS_PER_MS / DRAFT_AGES;
}

/* ---------------------------------------------------------------- requests */

static void look_at(struct outlet *o)
{
    struct producer *p = &o->client->producer;
    if (!list_linked(&o->dirty))
        list_push_back(&p->dirty, &o->dirty);
}

static void lane_progress(struct lane *l)
{
    struct outlet *o = container_of(l, struct outlet, lane);
    struct topic *t = o->topic;
    look_at(o);
    if (o == t->turn_last && l->count == 0) {
        struct outlet *next = atomic_load(&t->outlets[atomic_load(&t->turn) % t->partitions_n]);
        if (next != NULL && list_linked(&next->known))
            look_at(next);
    }
}

static void body_free(struct ref *r)
{
    mem_free(r->owner);
}

/* What a builder gathered becomes the body of a request. Its errors are the builder's, which has everything then. */
static int request_batch(struct request *r, struct batch_builder *b, enum batch_codec codec, struct err *e)
{
    struct wire_produce *w = &r->wire.produce;
    struct buf bytes = {0};
    struct view batch;
    uint64_t hash;
    int code = batch_builder_take(b, codec, &bytes, &batch, &hash, e);
    if (code != 0) {
        buf_free(&bytes);
        return code;
    }
    ref_drop(r->body);
    r->body = ref_wrap(bytes.data, bytes.size, body_free, bytes.data);
    w->batch = batch;
    w->batch_hash = hash;
    return 0;
}

/* Whether they can be places in a batch of `count`. */
static bool are_places(const uint32_t *at, uint32_t n, uint32_t count)
{
    for (uint32_t i = 0; i < n; i++) {
        if (at[i] >= count || (i > 0 && at[i] <= at[i - 1]))
            return false;
    }
    return n > 0;
}

/* Builds the batch of a request anew without some of its records. False: it does not read, which cannot be. */
static bool rebuild(struct request *r, struct producer *p, const uint32_t *without, uint32_t without_n)
{
    struct wire_produce *w = &r->wire.produce;
    struct batch_builder *builder = builder_take(p);
    struct batch_reader reader;
    int code = batch_reader_open(&reader, w->batch, NULL);
    for (uint32_t i = 0, next = 0; code == 0 && i < w->count; i++) {
        struct record record;
        if (next < without_n && without[next] == i) {
            next++;
            continue;
        }
        code = batch_reader_get(&reader, i, &record, NULL);
        if (code == 0)
            code = batch_builder_add(builder, &record, NULL);
    }
    batch_reader_close(&reader);
    if (code == 0)
        code = request_batch(r, builder, batch_codec_of(&p->client->options), NULL);
    builder_give(p, builder, code == 0);
    w->count -= code == 0 ? without_n : 0;
    return code == 0;
}

/* Some of a batch were produced before, and the broker did nothing: it is sent again without them. False: nothing is left of it. */
static bool leave_out(struct request *r, const struct answer *a)
{
    struct draft *d = r->owner;
    const struct wire_produced *w = &a->reply.produce;
    uint32_t count = r->wire.produce.count;
    if (a->reply.code != E_DUPLICATE || a->reply.body != BODY_PRODUCE ||
        !are_places(w->duplicates, w->duplicates_n, count))
        return false;
    bool rest = w->duplicates_n < count;
    if (rest && !rebuild(r, &d->outlet->client->producer, w->duplicates, w->duplicates_n))
        return false;
    for (uint32_t i = 0, at = 0, next = 0; i < d->notes_n && next < w->duplicates_n; i++) {
        if (d->notes[i].duplicate)
            continue; /* left out before */
        if (w->duplicates[next] == at++) {
            d->notes[i].duplicate = true;
            d->left_out++;
            next++;
        }
    }
    return rest;
}

/* It was refused, and nothing of it done: whether it is to be sent again, once it is what it should be. */
static bool amend(struct request *r, const struct answer *a)
{
    return a->reply.code == E_WRONG_PARTITION ? growth_refused(r->owner) : leave_out(r, a);
}

static void produce_done(struct request *r, struct answer *a, const struct sluice_error *error)
{
    struct draft *d = r->owner;
    struct outlet *o = d->outlet;
    struct sluice_error odd;
    if (error == NULL &&
        (a->reply.body != BODY_PRODUCE || a->reply.produce.count != d->notes_n - d->left_out)) {
        fail(&odd, E_BAD_FRAME, "%s: the broker's answer makes no sense", r->about);
        error = &odd;
    }
    if (error != NULL && (error->code == E_TOPIC_DELETED || error->code == E_PARTITION_NOT_FOUND ||
                          error->code == E_WRONG_PARTITION || error->code == E_TOPIC_NOT_FOUND))
        catalog_forget_topic(&o->client->catalog, o->topic);
    o->client->producer.unconfirmed -= d->notes_n;
    draft_tell(d, error == NULL ? &a->reply.produce : NULL, error == NULL ? a->reply.durability : 0, error);
    draft_free(d);
}

enum batch_codec batch_codec_of(const struct sluice_options *o)
{
    switch (o->compression) {
    case SLUICE_COMPRESSION_NONE:
        return BATCH_NONE;
    case SLUICE_COMPRESSION_ZSTD:
        return BATCH_ZSTD;
    default:
        return BATCH_LZ4;
    }
}

/* A draft that is in no list any more becomes a request. */
static void draft_send(struct draft *d)
{
    struct outlet *o = d->outlet;
    struct sluice *s = o->client;
    struct request *r = request_new(VERB_PRODUCE);
    struct err e;
    bool usual = d->bytes <= 2 * (size_t)s->options.batch_bytes_max;
    s->producer.unconfirmed += d->notes_n;
    r->lane = &o->lane;
    r->done = produce_done;
    r->amend = amend;
    r->owner = d;
    r->charged = d->bytes;
    r->deadline_ns = draft_deadline(d);
    int code = request_batch(r, d->builder, batch_codec_of(&s->options), &e);
    if (code != 0) {
        struct sluice_error error;
        fail_below(&error, code, &e, o->topic->name);
        produce_done(r, NULL, &error);
        request_free(r, &s->budget);
        return;
    }
    builder_give(&s->producer, d->builder, usual);
    d->builder = NULL;
    struct buf about = {0};
    buf_putf(&about, "topic '%s', partition %u", o->topic->name, o->index);
    r->about = (const char *)request_keep(r, buf_view(&about)).data;
    buf_free(&about);
    struct wire_produce *w = &r->wire.produce;
    w->partition = o->partition;
    w->count = d->notes_n;
    w->delay_ms = d->due.delay_ms;
    w->at_ms = d->due.at_ms;
    w->cron = request_keep(r, view_of_str(d->due.cron));
    w->name = request_keep(r, view_of_str(d->due.name));
    session_submit(&s->session, r);
}

/* ---------------------------------------------------------------- outlets, the loop's side */

/* Messages without a key go on to the next partition with the next batch. */
static void turn_on(struct outlet *o)
{
    uint32_t turn = o->index;
    atomic_compare_exchange_strong(&o->topic->turn, &turn, (o->index + 1) % o->topic->partitions_n);
}

/* Whether messages that take turns wait for more of their kind: whichever partition the batch before them went to, they gather while it is
 * out, as those of one partition do. Else batches would be the smaller the more partitions a topic has. Where the turn has passed on no more
 * will come. */
static bool turn_waits(const struct outlet *o, const struct draft *d)
{
    const struct topic *t = o->topic;
    return d->turns && atomic_load(&t->turn) % t->partitions_n == o->index && t->turn_last != NULL && t->turn_last->lane.count > 0;
}

/* What to do with the first draft. Under lock. `*again_ns`: when to look again if nothing else happens. */
static bool first_is_due(struct outlet *o, const struct draft *d, uint64_t *again_ns)
{
    struct sluice *s = o->client;
    uint64_t now = s->loop.now_ns;
    *again_ns = draft_deadline(d);
    if (o->moving || o->lane.count >= LANE_WINDOW)
        return false;
    if (d->full)
        return true;
    if (o->lane.count > 0 || turn_waits(o, d))
        return false; /* gathers while a request is out */
    uint64_t linger_ns = s->options.linger_ms * NS_PER_MS;
    uint64_t lingered = d->opened_ns + (linger_ns < gather_ns_max(s) ? linger_ns : gather_ns_max(s));
    if (d->urgent || lingered <= now)
        return true;
    if (lingered < *again_ns)
        *again_ns = lingered;
    return false;
}

/* The first draft if it is to be sent now, or if it is `late`: nobody took it in time. */
static struct draft *take_draft(struct outlet *o, uint64_t *again_ns, bool *late)
{
    *again_ns = UINT64_MAX;
    *late = false;
    pthread_mutex_lock(&o->lock);
    struct list_node *n = list_first(&o->drafts);
    struct draft *d = n != NULL ? container_of(n, struct draft, node) : NULL;
    if (d != NULL && !first_is_due(o, d, again_ns)) {
        *late = draft_deadline(d) <= o->client->loop.now_ns;
        if (!*late)
            d = NULL;
    }
    if (d != NULL) {
        list_remove(&d->node);
        o->taken++;
        turn_on(o);
        if (d->turns)
            o->topic->turn_last = o;
    }
    o->watched = n != NULL && d == NULL;
    pthread_mutex_unlock(&o->lock);
    return d;
}

/* A draft that was never sent. */
static void draft_fail(struct draft *d, const struct sluice_error *why)
{
    draft_tell(d, NULL, 0, why);
    budget_give(&d->outlet->client->budget, d->bytes);
    draft_free(d);
}

/* Not even sent by its deadline: its messages were not published. */
static void draft_late(struct draft *d)
{
    struct sluice *s = d->outlet->client;
    struct sluice_error why = d->outlet->lane.why;
    struct buf about = {0};
    buf_putf(&about, "topic '%s', partition %u", d->outlet->topic->name, d->outlet->index);
    if (why.code == 0 || s->session.state != SESSION_READY)
        session_never_sent(&s->session, buf_str(&about), &why);
    buf_free(&about);
    draft_fail(d, &why);
}

/* Tells all that was not told, in order, and returns how many messages that were. */
static uint64_t outlet_fail(struct outlet *o, const struct sluice_error *why)
{
    struct sluice *s = o->client;
    uint64_t before = s->producer.unconfirmed;
    lane_tell(&o->lane, why);
    uint64_t messages = before - s->producer.unconfirmed;
    timer_stop(&s->loop, &o->timer);
    for (;;) {
        pthread_mutex_lock(&o->lock);
        struct list_node *n = list_pop_front(&o->drafts);
        o->taken += n != NULL;
        pthread_mutex_unlock(&o->lock);
        if (n == NULL)
            return messages;
        struct draft *d = container_of(n, struct draft, node);
        messages += d->notes_n;
        draft_fail(d, why);
    }
}

static void outlet_step(struct outlet *o)
{
    struct sluice *s = o->client;
    uint64_t again_ns;
    bool late;
    struct draft *d;
    if (s->session.state == SESSION_DEAD) {
        outlet_fail(o, &s->session.fatal);
        return;
    }
    while ((d = take_draft(o, &again_ns, &late)) != NULL) {
        if (late)
            draft_late(d);
        else
            draft_send(d);
    }
    timer_set(&s->loop, &o->timer, again_ns);
}

static void outlet_timer(struct timer *t)
{
    look_at(container_of(t, struct outlet, timer));
}

static void outlet_knocked(struct event *e)
{
    struct outlet *o = container_of(e, struct outlet, knock);
    pthread_mutex_lock(&o->lock);
    o->posted = false;
    pthread_mutex_unlock(&o->lock);
    outlet_known(o);
}

void outlet_known(struct outlet *o)
{
    struct sluice *s = o->client;
    if (!list_linked(&o->known)) {
        lane_init(&o->lane, &s->session, LANE_ORDERED, o->partition);
        o->lane.progress = lane_progress;
        list_push_back(&s->producer.outlets, &o->known);
    }
    look_at(o);
}

/* ---------------------------------------------------------------- outlets, the callers' side */

int outlet_put(struct outlet *o, const struct prepared *p, struct note note, bool urgent, uint64_t opened_ns,
               bool *knock, struct err *e)
{
    struct sluice *s = o->client;
    const struct record *record = &p->record;
    bool later = is_due_later(&p->due);
    size_t bytes = p->bytes;
    size_t bytes_max = atomic_load(&s->producer.batch_bytes_max);
    bool told = false;
    struct list_node *last = list_last(&o->drafts);
    struct draft *d = last != NULL ? container_of(last, struct draft, node) : NULL;
    if (d != NULL && !d->full &&
        (d->bytes + bytes > bytes_max || (opened_ns > d->opened_ns && opened_ns - d->opened_ns > gather_ns_max(s)) || later)) {
        d->full = true;
        told = true;
    }
    bool fresh = d == NULL || d->full;
    if (fresh)
        d = draft_new(o, opened_ns);
    int code = batch_builder_add(d->builder, record, e);
    if (code == E_LIMIT && !fresh) { /* a timestamp too far from the others: it begins a draft of its own */
        d->full = fresh = told = true;
        d = draft_new(o, opened_ns);
        code = batch_builder_add(d->builder, record, e);
    }
    if (code == 0) {
        if (fresh)
            list_push_back(&o->drafts, &d->node);
        if (d->notes_n == d->notes_cap) {
            d->notes_cap = d->notes_cap != 0 ? 2 * d->notes_cap : NOTES_MIN;
            d->notes = mem_resize(d->notes, d->notes_cap, sizeof *d->notes);
        }
        d->turns = (d->turns || d->notes_n == 0) && record->key.data == NULL && id128_is_zero(record->message_id);
        d->notes[d->notes_n++] = note;
        d->bytes += bytes;
        if (later) {
            d->due = p->due;
            d->due.cron = p->due.cron != NULL ? mem_strdup(p->due.cron) : NULL;
            d->due.name = p->due.name != NULL ? mem_strdup(p->due.name) : NULL;
        }
        bool full =
            later || d->bytes >= bytes_max || d->notes_n >= atomic_load(&s->producer.batch_records_max);
        told = told || !o->watched || full || (urgent && !d->urgent);
        d->full = full;
        d->urgent = d->urgent || urgent;
        if (full)
            turn_on(o);
    } else if (fresh) {
        draft_free(d);
    }
    *knock = told && !o->posted;
    o->posted = o->posted || *knock;
    return code;
}

/* As outlet_put, for a caller's message. AGAIN: it may not belong here any more, as its topic has grown since it was looked at. */
static int outlet_add(struct outlet *o, const struct prepared *p, struct note note, bool urgent, struct err *e)
{
    bool knock = false;
    pthread_mutex_lock(&o->lock);
    int code = o->topic == p->topic ? outlet_put(o, p, note, urgent, clock_mono_ns(), &knock, e) : E_AGAIN;
    pthread_mutex_unlock(&o->lock);
    if (knock)
        loop_post(&o->client->loop, &o->knock);
    return code;
}

struct outlet *outlet_new(struct sluice *s, struct topic *t, uint32_t index)
{
    struct outlet *o = mem_zalloc(sizeof *o);
    o->client = s;
    o->topic = t;
    o->index = index;
    o->partition = t->partitions[index];
    pthread_mutex_init(&o->lock, NULL);
    list_init(&o->drafts);
    o->knock.run = outlet_knocked;
    o->timer.fire = outlet_timer;
    return o;
}

void outlet_free(struct outlet *o)
{
    assert(list_empty(&o->drafts));
    pthread_mutex_destroy(&o->lock);
    mem_free(o);
}

/* ---------------------------------------------------------------- publish */

static struct view bytes_view(struct sluice_bytes b)
{
    return view_of(b.data, b.size);
}

static int put_headers(struct prepared *p, const struct sluice_message *m, struct sluice_error *err)
{
    struct err e;
    for (size_t i = 0; i < m->headers_count; i++) {
        const struct sluice_header *h = &m->headers[i];
        if (h->name == NULL)
            return fail(err, E_INVALID_ARGUMENT, "header %zu: its name is missing (NULL)", i);
        int code = headers_put(&p->headers, view_of_str(h->name), bytes_view(h->value), &e);
        if (code != 0)
            return fail_below(err, code, &e, h->name);
    }
    if (m->message_id != NULL) {
        int code = headers_put(&p->headers, view_of_str(message_id_header), view_of_str(m->message_id), &e);
        if (code != 0)
            return fail_below(err, code, &e, message_id_header);
    }
    return 0;
}

static int check_text(const char *field, const char *text, struct sluice_error *err)
{
    size_t n = text != NULL ? strnlen(text, SLUICE_NAME_MAX + 1) : 1;
    if (n > 0 && n <= SLUICE_NAME_MAX)
        return 0;
    return fail(err, E_INVALID_ARGUMENT, "%s: %s, 1 to %d bytes are accepted", field,
                n == 0 ? "is empty" : "is longer", SLUICE_NAME_MAX);
}

static int check_due(const struct sluice_message *m, struct sluice_error *err)
{
    unsigned times = (m->delay_ms != 0) + (m->at_ms != 0) + (m->cron != NULL);
    if (times > 1)
        return fail(err, E_INVALID_ARGUMENT, "only one of delay_ms, at_ms and cron can be given");
    if (times == 0 && m->schedule != NULL)
        return fail(err, E_INVALID_ARGUMENT,
                    "schedule: '%.60s' names what waits, and neither delay_ms nor at_ms nor cron is given",
                    m->schedule);
    int code = check_text("cron", m->cron, err);
    return code == 0 ? check_text("schedule", m->schedule, err) : code;
}

size_t message_bytes(const struct record *r)
{
    return r->key.size + r->value.size + r->headers.size + RECORD_BYTES + DRAFT_BYTES / NOTES_MIN;
}

int message_prepare(struct sluice *s, const struct sluice_message *m, struct prepared *p,
                    struct sluice_error *err)
{
    if (m->key.size > WIRE_KEY_MAX)
        return fail(err, E_TOO_LARGE, "key: %zu bytes, at most %d are accepted", m->key.size, WIRE_KEY_MAX);
    if (m->priority > PRIORITY_MAX)
        return fail(err, E_INVALID_ARGUMENT, "priority: %u, 0 to %d are accepted", m->priority, PRIORITY_MAX);
    if (m->message_id != NULL && m->message_id[0] == '\0')
        return fail(err, E_INVALID_ARGUMENT, "message_id: is empty");
    if (m->headers_count > WIRE_HEADERS_MAX)
        return fail(err, E_LIMIT, "headers: %zu, at most %d are accepted", m->headers_count,
                    WIRE_HEADERS_MAX);
    int code = check_due(m, err);
    if (code == 0)
        code = put_headers(p, m, err);
    if (code != 0)
        return code;
    code = catalog_topic(s, m->topic, &p->topic, err);
    if (code != 0)
        return code;
    size_t size = m->key.size + m->value.size + p->headers.size;
    size_t max = p->topic->message_bytes_max;
    if (max != 0 && size > max)
        return fail(err, E_TOO_LARGE, "topic '%s': a message of %zu bytes, its message_bytes_max is %zu",
                    m->topic, size, max);
    max = atomic_load(&s->producer.message_bytes_max);
    if (size > max)
        return fail(err, E_TOO_LARGE,
                    "topic '%s': a message of %zu bytes, this broker and memory_max allow %zu", m->topic,
                    size, max);
    p->record = (struct record){.key = bytes_view(m->key),
                                .value = bytes_view(m->value),
                                .headers = p->headers.size > 0 ? buf_view(&p->headers) : view_of(NULL, 0),
                                .timestamp_ms = m->timestamp_ms != 0 ? m->timestamp_ms : clock_wall_ms(),
                                .ttl_ms = m->ttl_ms,
                                .priority = m->priority};
    if (m->message_id != NULL)
        p->record.message_id = message_id_hash(view_of_str(m->message_id));
    p->due = (struct due){.delay_ms = m->delay_ms, .at_ms = m->at_ms, .cron = m->cron, .name = m->schedule};
    p->bytes = message_bytes(&p->record);
    return 0;
}

uint32_t message_partition(const struct prepared *p)
{
    uint32_t n = p->topic->partitions_n;
    if (p->record.key.data != NULL)
        return key_partition(key_hash(p->record.key), n);
    if (!id128_is_zero(p->record.message_id))
        return key_partition(p->record.message_id.lo, n);
    return atomic_load(&p->topic->turn) % n;
}

static int publish(struct sluice *s, const struct sluice_message *given, struct note note, bool urgent,
                   uint64_t wait_until_ns, struct sluice_error *err)
{
    struct sluice_message m;
    int code = TAKE_STRUCT(&m, given, sluice_message, delay_ms, err);
    if (code == 0)
        code = client_fatal(s, err);
    if (code != 0)
        return code;
    struct prepared p = {.headers = {0}};
    code = message_prepare(s, &m, &p, err);
    if (code == 0 && !(wait_until_ns != 0 ? budget_wait(&s->budget, p.bytes, wait_until_ns)
                                          : budget_take(&s->budget, p.bytes)))
        code =
            fail(err, E_QUEUE_FULL, "the client's memory limit is reached: memory_max is %zu", s->budget.max);
    if (code == 0) {
        struct err e;
        atomic_fetch_add(&s->counters.published, 1); /* before it can be confirmed */
        do {
            p.topic = catalog_route(s, p.topic);
            code = outlet_add(catalog_outlet(s, p.topic, message_partition(&p)), &p, note, urgent, &e);
        } while (code == E_AGAIN);
        if (code != 0) {
            atomic_fetch_sub(&s->counters.published, 1);
            budget_give(&s->budget, p.bytes);
            fail_below(err, code, &e, m.topic);
        }
    }
    buf_free(&p.headers);
    return code;
}

int sluice_publish_async(struct sluice *s, const struct sluice_message *m, sluice_publish_fn *fn, void *user,
                         struct sluice_error *err)
{
    return publish(s, m, (struct note){.fn = fn, .user = user}, false, 0, err);
}

struct publish_call {
    struct waiter waiter;
    struct sluice_receipt receipt;
    struct sluice_error error;
};

static void publish_told(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    struct publish_call *c = user;
    if (error != NULL)
        c->error = *error;
    else
        c->receipt = *receipt;
    waiter_done(&c->waiter);
}

int sluice_publish(struct sluice *s, const struct sluice_message *m, struct sluice_receipt *receipt,
                   struct sluice_error *err)
{
    int code = client_may_block(s, "sluice_publish", err);
    if (code != 0)
        return code;
    struct publish_call call = {.error.code = 0};
    waiter_init(&call.waiter);
    code = publish(s, m, (struct note){.fn = publish_told, .user = &call}, true, client_deadline(s), err);
    if (code != 0) {
        waiter_free(&call.waiter);
        return code;
    }
    waiter_wait(&call.waiter);
    if (call.error.code != 0)
        return fail_same(err, &call.error);
    if (receipt != NULL)
        *receipt = call.receipt;
    return 0;
}

/* ---------------------------------------------------------------- flush */

/* What one flush waits for: of each outlet that had something, the number of drafts told. Outlets before `at` are there. */
struct flush {
    struct list_node node;
    struct producer *producer;
    struct waiter waiter;
    struct event arrived;
    struct timer timer;
    uint64_t deadline_ns;
    struct {
        struct outlet *outlet;
        uint64_t told;
    } * marks;
    size_t marks_n, at;
    bool timed_out;
    struct sluice_error error;
};

/* Closes what the outlet gathered, and says how many drafts will have been told when all of that was. */
static uint64_t hurry(struct outlet *o)
{
    uint64_t ahead = 0;
    pthread_mutex_lock(&o->lock);
    LIST_EACH (n, &o->drafts) {
        struct draft *d = container_of(n, struct draft, node);
        d->urgent = true;
        d->full = true;
        ahead++;
    }
    pthread_mutex_unlock(&o->lock);
    look_at(o);
    return o->taken + ahead;
}

static void flush_end(struct flush *f)
{
    list_remove(&f->node);
    timer_stop(&f->producer->client->loop, &f->timer);
    waiter_done(&f->waiter);
}

static void flush_timer(struct timer *t)
{
    struct flush *f = container_of(t, struct flush, timer);
    f->timed_out = true;
    flush_end(f);
}

static void flush_step(struct flush *f)
{
    while (f->at < f->marks_n && f->marks[f->at].outlet->told >= f->marks[f->at].told)
        f->at++;
    if (f->at == f->marks_n)
        flush_end(f);
}

/* What was published up to now. */
static void flush_mark(struct flush *f)
{
    struct producer *p = f->producer;
    size_t n_max = 0;
    LIST_EACH (n, &p->outlets)
        n_max++;
    mem_free(f->marks);
    f->marks = mem_array(n_max, sizeof *f->marks);
    f->marks_n = f->at = 0;
    LIST_EACH (n, &p->outlets) {
        struct outlet *o = container_of(n, struct outlet, known);
        uint64_t told = hurry(o);
        if (told > o->told) {
            f->marks[f->marks_n].outlet = o;
            f->marks[f->marks_n++].told = told;
        }
    }
}

static void flush_arrived(struct event *e)
{
    struct flush *f = container_of(e, struct flush, arrived);
    flush_mark(f);
    list_push_back(&f->producer->flushes, &f->node);
    timer_set(&f->producer->client->loop, &f->timer, f->deadline_ns);
}

void producer_moved(struct producer *p)
{
    LIST_EACH (n, &p->flushes)
        flush_mark(container_of(n, struct flush, node));
}

int sluice_flush(struct sluice *s, uint32_t timeout_ms, struct sluice_error *err)
{
    int code = client_may_block(s, "sluice_flush", err);
    if (code != 0)
        return code;
    struct flush f = {.producer = &s->producer,
                      .arrived.run = flush_arrived,
                      .timer.fire = flush_timer,
                      .deadline_ns = deadline_in(timeout_ms)};
    waiter_init(&f.waiter);
    loop_post(&s->loop, &f.arrived);
    waiter_wait(&f.waiter);
    mem_free(f.marks);
    if (f.timed_out)
        return fail(err, E_TIMEOUT, "timed out: some messages are still unconfirmed after %u ms", timeout_ms);
    return 0;
}

/* ---------------------------------------------------------------- the whole */

void producer_init(struct producer *p, struct sluice *s)
{
    *p = (struct producer){.client = s};
    pthread_mutex_init(&p->lock, NULL);
    list_init(&p->outlets);
    list_init(&p->dirty);
    list_init(&p->flushes);
    list_init(&p->growths);
    producer_limits(p, &(struct wire_limits){0});
}

void producer_free(struct producer *p)
{
    growths_free(p);
    while (p->builders_n > 0)
        batch_builder_free(p->builders[--p->builders_n]);
    pthread_mutex_destroy(&p->lock);
}

void producer_limits(struct producer *p, const struct wire_limits *l)
{
    const struct sluice_options *o = &p->client->options;
    size_t request = l->request_bytes_max != 0 ? l->request_bytes_max : WIRE_MESSAGE_MAX;
    request = request > 2 * REQUEST_BYTES ? request - REQUEST_BYTES : REQUEST_BYTES;
    size_t memory = p->client->budget.bulk_max - RECORD_BYTES - DRAFT_BYTES;
    atomic_store(&p->message_bytes_max, request < memory ? request : memory);
    uint32_t records = l->batch_records_max != 0 ? l->batch_records_max : WIRE_BATCH_RECORDS_MAX;
    atomic_store(&p->batch_records_max, records < o->batch_records_max ? records : o->batch_records_max);
    atomic_store(&p->batch_bytes_max, request < o->batch_bytes_max ? request : o->batch_bytes_max);
}

void producer_step(struct producer *p)
{
    struct list_node *n;
    growth_step(p);
    while ((n = list_pop_front(&p->dirty)) != NULL)
        outlet_step(container_of(n, struct outlet, dirty));
    LIST_EACH_SAFE (f, &p->flushes)
        flush_step(container_of(f, struct flush, node));
}

void producer_hurry(struct producer *p)
{
    LIST_EACH (n, &p->outlets)
        hurry(container_of(n, struct outlet, known));
}

static bool has_drafts(struct outlet *o)
{
    pthread_mutex_lock(&o->lock);
    bool some = !list_empty(&o->drafts);
    pthread_mutex_unlock(&o->lock);
    return some;
}

bool producer_idle(struct producer *p)
{
    if (p->unconfirmed > 0)
        return false;
    LIST_EACH (n, &p->outlets) {
        if (has_drafts(container_of(n, struct outlet, known)))
            return false;
    }
    return true;
}

uint64_t producer_fail(struct producer *p, const struct sluice_error *why)
{
    uint64_t messages = 0;
    LIST_EACH (n, &p->outlets)
        messages += outlet_fail(container_of(n, struct outlet, known), why);
    return messages;
}

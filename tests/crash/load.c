#include "load.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sluice/sluice.h>

#include "base/clock.h"
#include "base/rng.h"
#include "crash.h"

enum {
    LEASE_MS = 60000,        /* longer than the test: what comes again was given back */
    MAX_DELIVERIES = 200,    /* nothing is to be parked by the nacks below */
    WAIT_MS = 200,           /* of a receive */
    CLOSE_MS = 20000,
    READ_MS = 20000,
};

struct worker {
    struct load *load;
    uint32_t index;
    struct rng rng;
    pthread_t thread;
    bool running;
    atomic_uint_fast64_t reconnects, repeated;
};

struct load {
    struct load_options options;
    struct ledger *ledger;
    struct worker *producers, *consumers;
    struct sluice *reader;     /* of the log */
    atomic_bool no_more, quit; /* for producers; for consumers */
};

static void complain(struct load *l, const char *who, const struct sluice_error *err)
{
    ledger_violate(l->ledger, "%s: %s: %s", who, sluice_code_name(err->code), err->text);
}

/* ---------------------------------------------------------------- clients */

static struct sluice *open_client(struct load *l, const char *who)
{
    struct sluice *s = NULL;
    struct sluice_error err;
    struct sluice_options o = {.size = sizeof o, .broker = l->options.broker, .name = who};
    if (sluice_open(&s, &o, &err) != 0)
        complain(l, who, &err);
    return s;
}

static void close_client(struct worker *w, struct sluice *s, const char *who)
{
    struct sluice_error err;
    struct sluice_stats st = {.size = sizeof st};
    sluice_stats(s, &st);
    atomic_fetch_add(&w->reconnects, st.reconnects);
    atomic_fetch_add(&w->repeated, st.repeated);
    if (sluice_close(s, CLOSE_MS, NULL, &err) != 0)
        complain(w->load, who, &err);
}

/* ---------------------------------------------------------------- producers */

struct published {
    struct load *load;
    struct ledger_id id;
};

static void on_published(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    struct published *p = user;
    struct load *l = p->load;
    if (error != NULL)
        complain(l, "publish", error);
    else if (receipt->durability != l->options.durability)
        ledger_violate(l->ledger, "acknowledged with durability %d", receipt->durability);
    else
        ledger_acked(l->ledger, p->id, receipt->partition, receipt->offset);
    free(p);
}

static void publish_one(struct worker *w, struct sluice *s)
{
    struct load *l = w->load;
    uint32_t mine = LEDGER_KEYS / l->options.producers;
    struct ledger_bytes bytes;
    struct published *p = malloc(sizeof *p);
    p->load = l;
    p->id = ledger_publish(l->ledger, w->index * mine + (uint32_t)rng_below(&w->rng, mine), &bytes);
    struct sluice_message m = {.size = sizeof m,
                               .topic = l->options.topic,
                               .key = {bytes.key, bytes.key_size},
                               .value = {bytes.value, bytes.value_size}};
    struct sluice_error err;
    if (sluice_publish_async(s, &m, on_published, p, &err) != 0) {
        complain(l, "publish", &err);
        free(p);
    }
}

static void *produce(void *arg)
{
    struct worker *w = arg;
    struct load *l = w->load;
    struct sluice_error err;
    struct sluice *s = open_client(l, "producer");
    while (s != NULL && !atomic_load(&l->no_more) && ledger_violation(l->ledger) == NULL) {
        ledger_wait_backlog(l->ledger, !load_consumes(l), l->options.backlog_max, WAIT_MS);
        for (uint64_t n = rng_between(&w->rng, 1, 64); n > 0; n--)
            publish_one(w, s);
    }
    if (s != NULL && sluice_flush(s, CLOSE_MS, &err) != 0)
        complain(l, "flush", &err);
    if (s != NULL)
        close_client(w, s, "producer");
    return NULL;
}

/* ---------------------------------------------------------------- consumers */

/* Settles under way together, and which messages they are. */
struct settling {
    struct load *load;
    atomic_size_t left;
    struct { struct ledger_id id; int verb; } items[];
};

static void on_settled(void *user, size_t index, const struct sluice_error *error)
{
    struct settling *s = user;
    if (error != NULL)
        complain(s->load, s->items[index].verb == SLUICE_ACK ? "ack" : "nack or release", error);
    else if (s->items[index].verb == SLUICE_ACK)
        ledger_confirmed(s->load->ledger, s->items[index].id);
    if (atomic_fetch_sub(&s->left, 1) == 1)
        free(s);
}

/* Mostly done; now and then a failure, given back, or (0) forgotten until the batch is freed. */
static int choose_verb(struct rng *rng)
{
    uint64_t x = rng_below(rng, 100);
    return x < 94 ? SLUICE_ACK : x < 97 ? SLUICE_NACK : x < 99 ? SLUICE_RELEASE : 0;
}

/* Takes note of a batch and says what becomes of its messages: the batch's end does not wait for the answers. */
static void settle_batch(struct worker *w, struct sluice *s, struct sluice_batch *b)
{
    struct load *l = w->load;
    size_t count = sluice_batch_count(b), n = 0;
    struct sluice_settle *settles = calloc(count + 1, sizeof *settles);
    struct settling *note = calloc(1, sizeof *note + count * sizeof note->items[0]);
    note->load = l;
    for (size_t i = 0; i < count; i++) {
        const struct sluice_delivery *d = sluice_batch_message(b, i);
        struct ledger_id id;
        if (!ledger_delivered(l->ledger, d->key.data, d->key.size, d->value.data, d->value.size, d->partition, d->offset, d->attempt,
                              &id))
            continue;
        int verb = choose_verb(&w->rng);
        if (verb == SLUICE_ACK)
            ledger_acking(l->ledger, id);
        else
            ledger_back(l->ledger, id, verb == SLUICE_NACK ? LEDGER_NACK : LEDGER_RELEASE);
        if (verb == 0)
            continue;
        note->items[n].id = id;
        note->items[n].verb = verb;
        settles[n++] = (struct sluice_settle){.batch = b, .index = i, .verb = verb, .error = "as the test likes"};
    }
    struct sluice_error err;
    atomic_init(&note->left, n);
    if (n == 0 || sluice_settle_async(s, settles, n, rng_chance(&w->rng, 1, 4), on_settled, note, &err) != 0) {
        if (n > 0)
            complain(l, "settle", &err);
        free(note);
    }
    free(settles);
    sluice_batch_free(b);
}

static void *consume(void *arg)
{
    struct worker *w = arg;
    struct load *l = w->load;
    struct sluice *s = open_client(l, "consumer");
    while (s != NULL && !atomic_load(&l->quit) && ledger_violation(l->ledger) == NULL) {
        struct sluice_receive_options o = {.size = sizeof o, .max_messages = (uint32_t)rng_between(&w->rng, 1, 50), .wait_ms = WAIT_MS};
        struct sluice_batch *b;
        struct sluice_error err;
        if (sluice_receive(s, l->options.topic, LOAD_GROUP, &o, &b, &err) != 0) {
            complain(l, "receive", &err);
            break;
        }
        settle_batch(w, s, b);
        if (rng_chance(&w->rng, 1, 500)) { /* another takes its place */
            close_client(w, s, "consumer");
            s = open_client(l, "consumer");
        }
    }
    if (s != NULL)
        close_client(w, s, "consumer");
    return NULL;
}

/* ---------------------------------------------------------------- life */

static void make_topic(struct sluice *s, const struct load_options *o)
{
    struct sluice_topic_options t = {.size = sizeof t, .partitions = o->partitions, .durability = o->durability};
    struct sluice_group_options g = {
        .size = sizeof g, .lease_ms = LEASE_MS, .max_deliveries = MAX_DELIVERIES, .backoff_min_ms = 1, .backoff_max_ms = 50};
    struct sluice_error err;
    crash_ok(sluice_topic_create(s, o->topic, &t, NULL, &err), &err);
    crash_ok(sluice_group_create(s, o->topic, LOAD_GROUP, &g, NULL, &err), &err);
}

static struct worker *start_workers(struct load *l, uint32_t count, void *(*run)(void *), uint64_t seed)
{
    struct worker *all = calloc(count, sizeof *all);
    for (uint32_t i = 0; i < count; i++) {
        all[i].load = l;
        all[i].index = i;
        rng_seed(&all[i].rng, seed + i);
        assert_int_equal(pthread_create(&all[i].thread, NULL, run, &all[i]), 0);
        all[i].running = true;
    }
    return all;
}

static void join_workers(struct worker *all, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (all[i].running)
            pthread_join(all[i].thread, NULL);
        all[i].running = false;
    }
}

struct load *load_start(const struct load_options *options)
{
    struct load *l = calloc(1, sizeof *l);
    l->options = *options;
    l->reader = crash_open(options->broker);
    make_topic(l->reader, options);
    l->ledger = ledger_new(options->topic, options->partitions);
    l->producers = start_workers(l, options->producers, produce, options->seed);
    l->consumers = start_workers(l, options->consumers, consume, options->seed + 1000);
    return l;
}

struct ledger *load_ledger(struct load *l)
{
    return l->ledger;
}

bool load_consumes(const struct load *l)
{
    return l->options.consumers > 0;
}

void load_finish(struct load *l, uint32_t timeout_ms)
{
    atomic_store(&l->no_more, true);
    join_workers(l->producers, l->options.producers);
    uint64_t published = ledger_totals(l->ledger).published;
    if (!ledger_wait(l->ledger, published, load_consumes(l) ? published : 0, timeout_ms)) {
        struct ledger_totals t = ledger_totals(l->ledger);
        ledger_violate(l->ledger, "of %" PRIu64 " messages %" PRIu64 " were acknowledged and %" PRIu64 " done after %" PRIu32 " ms", t.published,
                       t.acked, t.confirmed, timeout_ms);
    }
    atomic_store(&l->quit, true);
    join_workers(l->consumers, l->options.consumers);
}

struct load_totals load_totals(const struct load *l)
{
    struct load_totals t = {0};
    for (uint32_t i = 0; i < l->options.producers + l->options.consumers; i++) {
        const struct worker *w = i < l->options.producers ? &l->producers[i] : &l->consumers[i - l->options.producers];
        t.reconnects += atomic_load(&w->reconnects);
        t.repeated += atomic_load(&w->repeated);
    }
    return t;
}

void load_free(struct load *l)
{
    if (l == NULL)
        return;
    atomic_store(&l->no_more, true);
    atomic_store(&l->quit, true);
    join_workers(l->producers, l->options.producers);
    join_workers(l->consumers, l->options.consumers);
    sluice_close(l->reader, 0, NULL, NULL);
    ledger_free(l->ledger);
    free(l->producers);
    free(l->consumers);
    free(l);
}

/* ---------------------------------------------------------------- reading the log */

/* What one read gives; false: nothing. */
static bool read_some(struct load *l, struct sluice_reader *r, uint32_t wait_ms)
{
    struct sluice_batch *b;
    struct sluice_error err;
    crash_ok(sluice_reader_read(r, wait_ms, &b, &err), &err);
    size_t count = sluice_batch_count(b);
    for (size_t i = 0; i < count; i++) {
        const struct sluice_delivery *d = sluice_batch_message(b, i);
        ledger_read(l->ledger, d->partition, d->offset, d->key.data, d->key.size, d->value.data, d->value.size);
    }
    sluice_batch_free(b);
    return count > 0;
}

void load_read(struct load *l, bool all)
{
    ledger_mark(l->ledger);
    if (all)
        ledger_read_again(l->ledger);
    struct sluice_reader *readers[LEDGER_PARTITIONS_MAX];
    struct sluice_error err;
    for (uint32_t p = 0; p < l->options.partitions; p++) {
        struct sluice_reader_options o = {.size = sizeof o, .from = SLUICE_FROM_OFFSET, .offset = ledger_read_from(l->ledger, p)};
        crash_ok(sluice_reader_open(l->reader, l->options.topic, p, &o, &readers[p], &err), &err);
    }
    uint64_t until = clock_mono_ms() + READ_MS;
    while (!ledger_read_enough(l->ledger) && ledger_violation(l->ledger) == NULL && clock_mono_ms() < until) {
        bool more = false;
        for (uint32_t p = 0; p < l->options.partitions; p++)
            more |= read_some(l, readers[p], 0);
        if (!more)
            read_some(l, readers[0], 10);
    }
    ledger_expect_read(l->ledger);
    for (uint32_t p = 0; p < l->options.partitions; p++)
        sluice_reader_close(readers[p]);
}

void load_expect_drained(struct load *l)
{
    if (!load_consumes(l))
        return;
    struct sluice_lag_list *lag;
    struct sluice_dlq *dlq;
    struct sluice_error err;
    crash_ok(sluice_group_lag(l->reader, l->options.topic, LOAD_GROUP, &lag, &err), &err);
    assert_int_equal(lag->count, 1);
    assert_int_equal(lag->rows[0].lag_messages, 0);
    assert_int_equal(lag->rows[0].in_flight, 0);
    assert_int_equal(lag->rows[0].parked, 0);
    sluice_lag_free(lag);
    crash_ok(sluice_dlq_list(l->reader, l->options.topic, LOAD_GROUP, NULL, &dlq, &err), &err);
    assert_int_equal(sluice_dlq_count(dlq), 0);
    sluice_dlq_free(dlq);
}

/* See script.h. */
#include "script.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/rng.h"
#include "crash.h"
#include "disk.h"

enum {
    ROUNDS = 60,
    RECEIVE_MAX = 12,
    KEPT_MAX = 6,            /* batches that are held on to for some rounds, with what is leased in them */
    FAILURES_MAX = 3,        /* of group "work" */
    SYNC_MS = 2,             /* so that turns are written while others are synced, */
    SLOW_SYNC_MS = 40,       /* and now and then so much that the store begins another log meanwhile */
    BURST = 24,              /* large messages at once */
    FLUSH_MS = 60000,
    LATER_MS = 3600000,      /* due only after the run */
};

const char *const script_topic_names[SCRIPT_TOPICS] = {"jobs", "strict", "fast", "out", "bulk"};
static const uint32_t partitions_of[SCRIPT_TOPICS] = {3, 1, 2, 2, 1};

struct run {
    struct tape *tape;
    struct script_ledger *l;
    struct rng rng;
    struct broker_proc broker;
    struct syncshim *shim;
    struct sluice *client;
    atomic_uint open; /* settles under way */
    struct sluice_batch *kept[KEPT_MAX];
    uint32_t round;
};

static struct run run; /* callbacks know it */

/* ---------------------------------------------------------------- what is written down */

static uint64_t now_at(void) { return atomic_load(&run.tape->ops); }
static void asked(struct script_act *a) { a->asked = now_at(); }
static void acked(struct script_act *a) { a->acked = now_at(); }

void script_key(uint32_t key, char to[16]) { snprintf(to, 16, "key-%" PRIu32, key); }

void script_value(uint32_t id, uint32_t size, char *to)
{
    char head[16];
    size_t n = (size_t)snprintf(head, sizeof head, "%" PRIu32 ":", id);
    for (uint32_t i = 0; i < size; i++)
        to[i] = i < n ? head[i] : (char)(' ' + ((id * 8191 + i) * 2654435761U >> 16) % 95); /* so that nothing is compressed */
}

static struct script_message *message_of(const struct sluice_delivery *d)
{
    char text[12] = "";
    memcpy(text, d->value.data, d->value.size < sizeof text - 1 ? d->value.size : sizeof text - 1);
    unsigned long id = strtoul(text, NULL, 10);
    assert_true(id < run.l->messages_n);
    return &run.l->messages[id];
}

static uint32_t new_message(enum script_topic topic, uint32_t key, uint32_t size)
{
    const struct script_act never = {SCRIPT_NEVER, SCRIPT_NEVER};
    uint32_t id = run.l->messages_n++;
    assert_true(id < SCRIPT_MESSAGES_MAX && size <= SCRIPT_VALUE_MAX);
    run.l->messages[id] = (struct script_message){.topic = topic, .key = key, .size = size < 16 ? 16 : size, .publish = never, .done = never,
                                                  .parked = never, .redriven = never, .dropped = never, .unit = never, .may_park = SCRIPT_NEVER};
    return id;
}

/* ---------------------------------------------------------------- publishing */

static void on_published(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    struct script_message *m = user;
    if (error != NULL)
        fail_msg("a message was refused: %s", error->text);
    acked(&m->publish);
    if (receipt->offset != UINT64_MAX) {
        m->placed = true;
        m->partition = receipt->partition;
        m->offset = receipt->offset;
    }
}

static void fill(uint32_t id, struct sluice_message *m, char key[16], char value[SCRIPT_VALUE_MAX])
{
    const struct script_message *x = &run.l->messages[id];
    script_key(x->key, key);
    script_value(id, x->size, value);
    *m = (struct sluice_message){.size = sizeof *m, .topic = script_topic_names[x->topic], .key = sluice_str(key), .value = {value, x->size}};
}

static void publish(enum script_topic topic, uint32_t size, uint64_t delay_ms)
{
    static char value[SCRIPT_VALUE_MAX];
    char key[16];
    struct sluice_message m;
    struct sluice_error err;
    uint32_t id = new_message(topic, (uint32_t)rng_below(&run.rng, SCRIPT_KEYS), size);
    struct script_message *x = &run.l->messages[id];
    fill(id, &m, key, value);
    m.delay_ms = delay_ms;
    x->delayed = delay_ms > 0;
    x->waits = delay_ms >= LATER_MS;
    asked(&x->publish);
    crash_ok(sluice_publish_async(run.client, &m, on_published, x, &err), &err);
}

static void publish_some(void)
{
    for (int i = 0; i < 12; i++)
        publish(JOBS, 20 + (uint32_t)rng_below(&run.rng, 900), 0);
    for (int i = 0; i < 4; i++)
        publish(STRICT, 20, 0);
    for (int i = 0; i < 4; i++)
        publish(FAST, 60, 0);
    publish(BULK, SCRIPT_VALUE_MAX / 2, 0);
    publish(JOBS, 700, 20);
    bool slow = run.round % 8 == 5;
    atomic_store(&run.shim->delay_ms, slow ? SLOW_SYNC_MS : SYNC_MS);
    for (int i = 0; i < BURST && slow; i++)
        publish(BULK, SCRIPT_VALUE_MAX, 0);
    if (run.round % 4 == 0)
        publish(JOBS, 5000, LATER_MS);
}

/* ---------------------------------------------------------------- settling */

struct pending { struct script_message *m; struct script_act *act; };

static void on_settled(void *user, size_t index, const struct sluice_error *error)
{
    struct pending *p = user;
    (void)index;
    if (error == NULL && p->act != NULL)
        acked(p->act);
    else if (error != NULL && error->code != SLUICE_LEASE_LOST)
        fail_msg("a settle was refused: %s", error->text);
    run.l->settled += error == NULL;
    free(p);
    atomic_fetch_sub(&run.open, 1);
}

static struct pending *pending_new(struct script_message *m, struct script_act *act)
{
    struct pending *p = malloc(sizeof *p);
    *p = (struct pending){m, act};
    if (act != NULL)
        asked(act);
    atomic_fetch_add(&run.open, 1);
    return p;
}

static void settle(struct sluice_batch *b, size_t i, int verb, struct script_act *act, uint32_t delay_ms)
{
    struct sluice_error err;
    struct sluice_settle item = {.batch = b, .index = i, .verb = verb, .delay_ms = delay_ms, .reason = "bad", .error = "no good"};
    struct pending *p = pending_new(message_of(sluice_batch_message(b, i)), act);
    crash_ok(sluice_settle_async(run.client, &item, 1, false, on_settled, p, &err), &err);
}

static void ack(struct sluice_batch *b, size_t i)
{
    struct script_message *m = message_of(sluice_batch_message(b, i));
    settle(b, i, SLUICE_ACK, m->done.asked == SCRIPT_NEVER ? &m->done : NULL, 0);
}

static void nack(struct sluice_batch *b, size_t i)
{
    struct script_message *m = message_of(sluice_batch_message(b, i));
    if (++m->failures >= FAILURES_MAX && m->may_park == SCRIPT_NEVER)
        m->may_park = now_at();
    settle(b, i, SLUICE_NACK, NULL, (uint32_t)rng_below(&run.rng, 60));
    run.l->nacks++;
}

static void park(struct sluice_batch *b, size_t i)
{
    struct script_message *m = message_of(sluice_batch_message(b, i));
    if (m->may_park == SCRIPT_NEVER)
        m->may_park = now_at();
    settle(b, i, SLUICE_PARK, &m->parked, 0);
    run.l->parked++;
}

static void on_unit(void *user, const struct sluice_error *error, const struct sluice_receipt *receipts, size_t count)
{
    struct pending *p = user;
    if (error != NULL && error->code != SLUICE_LEASE_LOST && error->code != SLUICE_CONFLICT)
        fail_msg("a unit was refused: %s", error->text);
    if (error == NULL)
        acked(&p->m->unit);
    for (size_t i = 0; i < count; i++) {
        struct script_message *out = &run.l->messages[p->m->output[i]];
        out->placed = true;
        out->partition = receipts[i].partition;
        out->offset = receipts[i].offset;
        out->publish = p->m->unit;
    }
    free(p);
    atomic_fetch_sub(&run.open, 1);
}

static void unit(struct sluice_batch *b, size_t i)
{
    static char value[SCRIPT_VALUE_MAX];
    char key[16], number[16];
    struct sluice_error err;
    struct sluice_unit *u;
    const struct sluice_delivery *d = sluice_batch_message(b, i);
    struct script_message *m = message_of(d);
    m->unit_number = ++run.l->units;
    snprintf(number, sizeof number, "%" PRIu32, m->unit_number);
    crash_ok(sluice_unit_begin(run.client, &u, &err), &err);
    crash_ok(sluice_unit_ack(u, b, i, &err), &err);
    crash_ok(sluice_unit_state_put(u, script_topic_names[m->topic], SCRIPT_GROUP, d->key, d->state_version, sluice_str(number), &err), &err);
    for (int k = 0; k < SCRIPT_OUTPUTS; k++) {
        struct sluice_message out;
        m->output[k] = new_message(OUT, (uint32_t)rng_below(&run.rng, SCRIPT_KEYS), 600);
        fill(m->output[k], &out, key, value);
        crash_ok(sluice_unit_publish(u, &out, &err), &err);
    }
    struct pending *p = pending_new(m, &m->unit);
    for (int k = 0; k < SCRIPT_OUTPUTS; k++)
        run.l->messages[m->output[k]].publish.asked = m->unit.asked;
    crash_ok(sluice_unit_commit_async(u, on_unit, p, &err), &err);
}

/* What is left of the batch when it is freed is given back. */
static void work_on(struct sluice_batch *b)
{
    for (size_t i = 0; i < sluice_batch_count(b); i++) {
        const struct script_message *m = message_of(sluice_batch_message(b, i));
        uint64_t dice = rng_below(&run.rng, 100);
        bool again = m->parked.asked != SCRIPT_NEVER || m->unit.asked != SCRIPT_NEVER;
        if (again || dice < 45)
            ack(b, i);
        else if (dice < 65)
            unit(b, i);
        else if (dice < 85)
            nack(b, i);
        else if (dice < 93)
            park(b, i);
    }
}

static struct sluice_batch *receive(enum script_topic topic)
{
    struct sluice_receive_options o = {.size = sizeof o, .max_messages = RECEIVE_MAX, .wait_ms = topic == JOBS ? 10 : 0};
    struct sluice_batch *b;
    struct sluice_error err;
    crash_ok(sluice_receive(run.client, script_topic_names[topic], SCRIPT_GROUP, &o, &b, &err), &err);
    return b;
}

/* Some are kept for a few rounds, so that there are leases at every instant. */
static void receive_some(enum script_topic topic)
{
    struct sluice_batch *b = receive(topic), **place = &run.kept[run.round % KEPT_MAX];
    if (topic == JOBS && run.round % 3 == 0) {
        struct sluice_batch *old = *place;
        *place = b;
        b = old;
    }
    if (b != NULL)
        work_on(b);
    sluice_batch_free(b);
}

/* ---------------------------------------------------------------- dead letters */

static void change_one(struct script_message *m)
{
    struct sluice_error err;
    struct sluice_dlq_filter one = {.size = sizeof one, .one = true, .partition = m->partition, .offset = m->offset};
    struct sluice_dlq_change c = {.size = sizeof c, .filter = &one};
    uint64_t task;
    const char *topic = script_topic_names[m->topic];
    bool drop = rng_chance(&run.rng, 1, 2);
    struct script_act *act = drop ? &m->dropped : &m->redriven;
    asked(act);
    crash_ok((drop ? sluice_dlq_drop : sluice_dlq_redrive)(run.client, topic, SCRIPT_GROUP, &c, &task, &err), &err);
    acked(act);
    run.l->dropped += drop;
    run.l->redriven += !drop;
}

static void look_after_dead_letters(void)
{
    for (uint32_t i = 0, n = 0; i < run.l->messages_n && n < 2; i++) {
        struct script_message *m = &run.l->messages[i];
        if (m->parked.acked == SCRIPT_NEVER || !m->placed || m->redriven.asked != SCRIPT_NEVER || m->dropped.asked != SCRIPT_NEVER ||
            rng_chance(&run.rng, 1, 2))
            continue;
        change_one(m);
        n++;
    }
}

/* ---------------------------------------------------------------- the run */

static void make_all(void)
{
    struct sluice_error err;
    asked(&run.l->made);
    for (int t = 0; t < SCRIPT_TOPICS; t++) {
        struct sluice_topic_options o = {.size = sizeof o, .partitions = partitions_of[t], .durability = t == FAST ? SLUICE_OS : SLUICE_DISK};
        struct sluice_group_options g = {.size = sizeof g, .max_deliveries = FAILURES_MAX + 1,
                                         .park = t == STRICT ? SLUICE_PARK_KEY : SLUICE_PARK_MESSAGE};
        crash_ok(sluice_topic_create(run.client, script_topic_names[t], &o, NULL, &err), &err);
        if (script_has_group((enum script_topic)t))
            crash_ok(sluice_group_create(run.client, script_topic_names[t], SCRIPT_GROUP, &g, NULL, &err), &err);
    }
    acked(&run.l->made);
}

/* Between two calls of the broker, so that what it did is what was recorded. */
static void kill_between_calls(void)
{
    pthread_mutex_lock(&run.tape->lock);
    broker_kill(&run.broker);
    pthread_mutex_unlock(&run.tape->lock);
    broker_restart(&run.broker);
    run.l->kills++;
}

static void restart(void)
{
    assert_int_equal(broker_stop(&run.broker), 0);
    broker_restart(&run.broker);
    run.l->restarts++;
}

static void work(void)
{
    make_all();
    for (run.round = 0; run.round < ROUNDS; run.round++) {
        publish_some();
        receive_some(JOBS);
        receive_some(STRICT);
        receive_some(FAST);
        if (run.round % 4 == 3)
            look_after_dead_letters();
        if (run.round == ROUNDS / 4)
            kill_between_calls();
        if (run.round == 3 * ROUNDS / 4)
            restart();
    }
    struct sluice_error err;
    crash_ok(sluice_flush(run.client, FLUSH_MS, &err), &err);
    EVENTUALLY (FLUSH_MS, atomic_load(&run.open) == 0)
        ;
    for (int i = 0; i < KEPT_MAX; i++)
        sluice_batch_free(run.kept[i]);
}

static void tape_prepare(const struct broker_proc *b)
{
    pthread_mutexattr_t shared;
    pthread_mutexattr_init(&shared);
    pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&run.tape->lock, &shared);
    pthread_mutexattr_destroy(&shared);
    char *dir = realpath(b->dir, NULL);
    snprintf(run.tape->directory, sizeof run.tape->directory, "%s", dir);
    free(dir);
}

void script_run(struct tape *tape, const char *tape_path, struct script_ledger *l, uint64_t seed)
{
    static const char *const args[] = {"--no-publish", "--no-http", "--set", "limits.store_memory_bytes=16MiB",
                                       "--set", "limits.wal_bytes_max=16MiB", "--set", "limits.reserve_file_bytes=0", NULL};
    static char word[512];
    run = (struct run){.tape = tape, .l = l};
    rng_seed(&run.rng, seed);
    *l = (struct script_ledger){.began_ms = clock_wall_ms()};
    broker_prepare(&run.broker, args);
    run.shim = crash_shim(&run.broker);
    tape_prepare(&run.broker);
    snprintf(word, sizeof word, "%s=%s", TAPE_ENV, tape_path);
    const char *const env[] = {run.broker.env[0], run.broker.env[1], word, NULL};
    run.broker.env = env;
    atomic_store(&run.shim->skip, true); /* what is synced is known from the recording */
    broker_restart(&run.broker);
    run.client = crash_open(run.broker.url);
    work();
    crash_close(run.client);
    assert_int_equal(broker_stop(&run.broker), 0);
    l->ended_ms = clock_wall_ms();

    struct disk *d = disk_read(tape);
    const char *differs = disk_differs(d, run.broker.dir);
    if (differs != NULL)
        fail_msg("the recording does not say what is in %s", differs);
    disk_free(d);
    crash_shim_off(&run.broker, run.shim);
    broker_end(&run.broker);
}

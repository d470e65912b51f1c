#include "ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"

enum state { NEW, OUT, BACK, ACKING, DONE };
static const char *const state_names[] = {"new", "out", "given back", "being acked", "done"};

#define OFFSET_UNKNOWN UINT64_MAX

struct message {
    uint64_t offset;    /* as the broker said first, in an answer, a delivery or the log */
    uint8_t state;      /* enum state */
    uint8_t failures;
};

struct key_page {
    struct message *messages;
    size_t room;
    uint32_t partition; /* UINT32_MAX: not known yet */
    uint32_t published, acked, delivered, read, marked;
};

struct ledger {
    const char *topic;
    uint32_t partitions;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    struct key_page keys[LEDGER_KEYS];
    uint64_t read_from[LEDGER_PARTITIONS_MAX];
    struct ledger_totals totals;
    bool violated;
    char violation[512];
};

struct ledger *ledger_new(const char *topic, uint32_t partitions)
{
    struct ledger *l = calloc(1, sizeof *l);
    pthread_condattr_t attributes;
    l->topic = topic;
    l->partitions = partitions;
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&l->moved, &attributes);
    for (uint32_t k = 0; k < LEDGER_KEYS; k++)
        l->keys[k].partition = UINT32_MAX;
    return l;
}

void ledger_free(struct ledger *l)
{
    if (l == NULL)
        return;
    for (uint32_t k = 0; k < LEDGER_KEYS; k++)
        free(l->keys[k].messages);
    pthread_cond_destroy(&l->moved);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* ---------------------------------------------------------------- violations; the lock is held */

static void violate(struct ledger *l, const char *fmt, va_list args)
{
    if (l->violated)
        return;
    int n = snprintf(l->violation, sizeof l->violation, "%s: ", l->topic);
    vsnprintf(l->violation + n, sizeof l->violation - (size_t)n, fmt, args);
    l->violated = true;
    pthread_cond_broadcast(&l->moved);
}

static void wrong(struct ledger *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void wrong(struct ledger *l, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    violate(l, fmt, args);
    va_end(args);
}

void ledger_violate(struct ledger *l, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    pthread_mutex_lock(&l->lock);
    violate(l, fmt, args);
    pthread_mutex_unlock(&l->lock);
    va_end(args);
}

const char *ledger_violation(struct ledger *l)
{
    pthread_mutex_lock(&l->lock);
    const char *text = l->violated ? l->violation : NULL;
    pthread_mutex_unlock(&l->lock);
    return text;
}

/* ---------------------------------------------------------------- bytes */

static void bytes_of(struct ledger_id id, struct ledger_bytes *out)
{
    struct rng rng;
    rng_seed(&rng, (uint64_t)id.key << 32 | id.number);
    out->key_size = (size_t)snprintf(out->key, sizeof out->key, "key-%" PRIu32, id.key);
    size_t head = (size_t)snprintf((char *)out->value, sizeof out->value, "%" PRIu32 " ", id.number);
    out->value_size = head + rng_below(&rng, LEDGER_VALUE_MAX - head);
    for (size_t i = head; i < out->value_size; i++)
        out->value[i] = (uint8_t)rng_next(&rng);
}

/* Which message of ours this is; false with a violation: none. */
static bool recognise(struct ledger *l, const char *where, const void *key, size_t key_size, const void *value,
                      size_t value_size, struct ledger_id *out)
{
    char k[LEDGER_KEY_MAX] = "", v[16] = "";
    struct ledger_bytes expected;
    memcpy(k, key, key_size < sizeof k ? key_size : sizeof k - 1);
    memcpy(v, value, value_size < sizeof v ? value_size : sizeof v - 1);
    if (sscanf(k, "key-%" SCNu32, &out->key) == 1 && sscanf(v, "%" SCNu32 " ", &out->number) == 1 &&
        out->key < LEDGER_KEYS && out->number < l->keys[out->key].published) {
        bytes_of(*out, &expected);
        if (key_size == expected.key_size && memcmp(key, expected.key, key_size) == 0 &&
            value_size == expected.value_size && memcmp(value, expected.value, value_size) == 0)
            return true;
    }
    wrong(l, "%s: key '%s' with a value '%.12s' of %zu bytes was never published", where, k, v, value_size);
    return false;
}

/* ---------------------------------------------------------------- messages; the lock is held */

static struct message *message_of(struct ledger *l, struct ledger_id id)
{
    return &l->keys[id.key].messages[id.number];
}

static void placed(struct ledger *l, const char *where, struct ledger_id id, uint32_t partition, uint64_t offset)
{
    struct key_page *k = &l->keys[id.key];
    struct message *m = message_of(l, id);
    if (k->partition == UINT32_MAX)
        k->partition = partition;
    if (m->offset == OFFSET_UNKNOWN)
        m->offset = offset;
    if (k->partition != partition || m->offset != offset)
        wrong(l,
              "%s: message %" PRIu32 " of key %" PRIu32 " is at %" PRIu32 ":%" PRIu64 ", and was said to be at %" PRIu32
              ":%" PRIu64,
              where, id.number, id.key, partition, offset, k->partition, m->offset);
}

/* ---------------------------------------------------------------- producers */

struct ledger_id ledger_publish(struct ledger *l, uint32_t key, struct ledger_bytes *out)
{
    pthread_mutex_lock(&l->lock);
    struct key_page *k = &l->keys[key];
    if (k->published == k->room) {
        k->room = k->room == 0 ? 1024 : 2 * k->room;
        k->messages = realloc(k->messages, k->room * sizeof *k->messages);
    }
    struct ledger_id id = {.key = key, .number = k->published++};
    *message_of(l, id) = (struct message){.offset = OFFSET_UNKNOWN};
    l->totals.published++;
    pthread_mutex_unlock(&l->lock);
    bytes_of(id, out);
    return id;
}

void ledger_acked(struct ledger *l, struct ledger_id id, uint32_t partition, uint64_t offset)
{
    pthread_mutex_lock(&l->lock);
    struct key_page *k = &l->keys[id.key];
    if (id.number != k->acked)
        wrong(l, "message %" PRIu32 " of key %" PRIu32 " was acknowledged when %" PRIu32 " was next", id.number, id.key, k->acked);
    k->acked++;
    placed(l, "acknowledged", id, partition, offset);
    l->totals.acked++;
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->lock);
}

/* ---------------------------------------------------------------- consumers */

static void deliver(struct ledger *l, struct ledger_id id, uint32_t attempt)
{
    struct key_page *k = &l->keys[id.key];
    struct message *m = message_of(l, id), *before = id.number > 0 ? m - 1 : NULL;
    l->totals.delivered++;
    if (m->state == NEW) {
        if (id.number != k->delivered)
            wrong(l, "message %" PRIu32 " of key %" PRIu32 " was delivered when %" PRIu32 " was next", id.number, id.key, k->delivered);
        k->delivered++;
    } else {
        l->totals.again++;
        if (m->state != BACK)
            wrong(l, "message %" PRIu32 " of key %" PRIu32 " was delivered again when it was %s", id.number, id.key,
                  state_names[m->state]);
    }
    if (before != NULL && before->state != ACKING && before->state != DONE)
        wrong(l, "message %" PRIu32 " of key %" PRIu32 " was delivered when the one before it was %s", id.number, id.key,
              state_names[before->state]);
    if (attempt != m->failures + 1u)
        wrong(l, "message %" PRIu32 " of key %" PRIu32 " was delivered as attempt %" PRIu32 " after %u failures", id.number, id.key,
              attempt, m->failures);
    m->state = OUT;
}

bool ledger_delivered(struct ledger *l, const void *key, size_t key_size, const void *value, size_t value_size,
                      uint32_t partition, uint64_t offset, uint32_t attempt, struct ledger_id *out)
{
    pthread_mutex_lock(&l->lock);
    bool ours = recognise(l, "delivered", key, key_size, value, value_size, out);
    if (ours) {
        placed(l, "delivered", *out, partition, offset);
        deliver(l, *out, attempt);
    }
    pthread_mutex_unlock(&l->lock);
    return ours;
}

void ledger_back(struct ledger *l, struct ledger_id id, enum ledger_back how)
{
    pthread_mutex_lock(&l->lock);
    struct message *m = message_of(l, id);
    m->state = BACK;
    m->failures += how == LEDGER_NACK;
    pthread_mutex_unlock(&l->lock);
}

void ledger_acking(struct ledger *l, struct ledger_id id)
{
    pthread_mutex_lock(&l->lock);
    message_of(l, id)->state = ACKING;
    pthread_mutex_unlock(&l->lock);
}

void ledger_confirmed(struct ledger *l, struct ledger_id id)
{
    pthread_mutex_lock(&l->lock);
    message_of(l, id)->state = DONE;
    l->totals.confirmed++;
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->lock);
}

/* ---------------------------------------------------------------- the log */

void ledger_read_again(struct ledger *l)
{
    pthread_mutex_lock(&l->lock);
    for (uint32_t k = 0; k < LEDGER_KEYS; k++)
        l->keys[k].read = 0;
    memset(l->read_from, 0, sizeof l->read_from);
    pthread_mutex_unlock(&l->lock);
}

uint64_t ledger_read_from(struct ledger *l, uint32_t partition)
{
    return l->read_from[partition];
}

void ledger_read(struct ledger *l, uint32_t partition, uint64_t offset, const void *key, size_t key_size, const void *value,
                 size_t value_size)
{
    struct ledger_id id;
    pthread_mutex_lock(&l->lock);
    if (offset != l->read_from[partition])
        wrong(l, "the log of partition %" PRIu32 " goes on at %" PRIu64 " instead of %" PRIu64, partition, offset,
              l->read_from[partition]);
    l->read_from[partition] = offset + 1;
    if (recognise(l, "in the log", key, key_size, value, value_size, &id)) {
        struct key_page *k = &l->keys[id.key];
        if (id.number != k->read)
            wrong(l, "the log at %" PRIu32 ":%" PRIu64 " has message %" PRIu32 " of key %" PRIu32 " where %" PRIu32 " is next", partition,
                  offset, id.number, id.key, k->read);
        k->read = id.number + 1;
        placed(l, "in the log", id, partition, offset);
    }
    pthread_mutex_unlock(&l->lock);
}

void ledger_mark(struct ledger *l)
{
    pthread_mutex_lock(&l->lock);
    for (uint32_t k = 0; k < LEDGER_KEYS; k++)
        l->keys[k].marked = l->keys[k].acked;
    pthread_mutex_unlock(&l->lock);
}

/* A key of which less was read than is marked, or LEDGER_KEYS. */
static uint32_t unread(const struct ledger *l)
{
    uint32_t k = 0;
    while (k < LEDGER_KEYS && l->keys[k].read >= l->keys[k].marked)
        k++;
    return k;
}

bool ledger_read_enough(struct ledger *l)
{
    pthread_mutex_lock(&l->lock);
    bool enough = unread(l) == LEDGER_KEYS;
    pthread_mutex_unlock(&l->lock);
    return enough;
}

void ledger_expect_read(struct ledger *l)
{
    pthread_mutex_lock(&l->lock);
    uint32_t key = unread(l);
    if (key < LEDGER_KEYS) {
        const struct key_page *k = &l->keys[key];
        wrong(l, "lost: the log ends with message %" PRId64 " of key %" PRIu32 ", and %" PRIu32 " were acknowledged",
              (int64_t)k->read - 1, key, k->marked);
    }
    pthread_mutex_unlock(&l->lock);
}

/* ---------------------------------------------------------------- waiting */

struct ledger_totals ledger_totals(struct ledger *l)
{
    pthread_mutex_lock(&l->lock);
    struct ledger_totals t = l->totals;
    pthread_mutex_unlock(&l->lock);
    return t;
}

static struct timespec deadline(uint32_t timeout_ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t ns = (uint64_t)t.tv_nsec + (uint64_t)timeout_ms * 1000000;
    t.tv_sec += (time_t)(ns / 1000000000);
    t.tv_nsec = (long)(ns % 1000000000);
    return t;
}

bool ledger_wait(struct ledger *l, uint64_t acked, uint64_t confirmed, uint32_t timeout_ms)
{
    struct timespec until = deadline(timeout_ms);
    bool in_time = true;
    pthread_mutex_lock(&l->lock);
    while (in_time && !l->violated && (l->totals.acked < acked || l->totals.confirmed < confirmed))
        in_time = pthread_cond_timedwait(&l->moved, &l->lock, &until) != ETIMEDOUT;
    pthread_mutex_unlock(&l->lock);
    return in_time;
}

void ledger_wait_backlog(struct ledger *l, bool acked, uint64_t most, uint32_t timeout_ms)
{
    const uint64_t *done = acked ? &l->totals.acked : &l->totals.confirmed;
    struct timespec until = deadline(timeout_ms);
    bool in_time = true;
    pthread_mutex_lock(&l->lock);
    while (in_time && !l->violated && l->totals.published - *done > most)
        in_time = pthread_cond_timedwait(&l->moved, &l->lock, &until) != ETIMEDOUT;
    pthread_mutex_unlock(&l->lock);
}

#include "later.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/rng.h"
#include "blame.h"
#include "crash.h"

enum {
    PARTITIONS = 2,
    AT_ONCE = 8,       /* messages published every PACE_MS */
    PACE_MS = 10,
    UNACKED_MAX = 200, /* each is a request of its own */
    DELAY_MS_MAX = 1500,
    CHANGE_EVERY = 12, /* rounds, in one of so many one is cancelled or moved */
    CHANGE_LAST = 400, /* it is one of the last so many */
    CLOSE_MS = 20000,
};

#define TOPIC "later"

struct waiting {
    bool acked, cancelled, seen;
    uint64_t due_ms;      /* wall, as far as is known: 0 until it was acknowledged */
    uint64_t appended_ms; /* once it was seen */
};

struct later {
    struct sluice *client, *reader;
    struct blame wrong;
    struct rng rng;
    pthread_t thread;
    bool runs;
    atomic_bool no_more;
    struct sluice_reader *logs[PARTITIONS];

    pthread_mutex_t lock;
    struct waiting *all;
    uint64_t n, cap, acked, seen, cancelled, moved;
};

struct published { struct later *l; uint64_t number; };

/* Under lock: what is known of one fits together. */
static void look_at(struct later *l, uint64_t number)
{
    const struct waiting *w = &l->all[number];
    if (w->seen && w->cancelled)
        blame(&l->wrong, TOPIC ": message %" PRIu64 " was cancelled and came", number);
    if (w->seen && w->due_ms > w->appended_ms)
        blame(&l->wrong, TOPIC ": message %" PRIu64 " came %" PRIu64 " ms early", number, w->due_ms - w->appended_ms);
}

/* ---------------------------------------------------------------- publishing and changing */

static void on_published(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    struct published *p = user;
    struct later *l = p->l;
    if (error != NULL) {
        blame(&l->wrong, TOPIC ": publish: %s: %s", sluice_code_name(error->code), error->text);
    } else {
        pthread_mutex_lock(&l->lock);
        struct waiting *w = &l->all[p->number];
        w->acked = true;
        if (receipt->due_ms > w->due_ms)
            w->due_ms = receipt->due_ms;
        l->acked++;
        look_at(l, p->number);
        pthread_mutex_unlock(&l->lock);
    }
    free(p);
}

static uint64_t add(struct later *l, uint64_t due_ms)
{
    pthread_mutex_lock(&l->lock);
    if (l->n == l->cap) {
        l->cap = l->cap > 0 ? 2 * l->cap : 4096;
        l->all = realloc(l->all, l->cap * sizeof *l->all);
    }
    l->all[l->n] = (struct waiting){.due_ms = due_ms};
    uint64_t number = l->n++;
    pthread_mutex_unlock(&l->lock);
    return number;
}

static void publish_one(struct later *l)
{
    uint64_t delay_ms = rng_between(&l->rng, 1, DELAY_MS_MAX), at_ms = rng_chance(&l->rng, 1, 5) ? clock_wall_ms() + delay_ms : 0;
    struct published *p = malloc(sizeof *p);
    *p = (struct published){.l = l, .number = add(l, at_ms)};
    char text[24], name[24];
    struct sluice_error err;
    snprintf(text, sizeof text, "%" PRIu64, p->number);
    snprintf(name, sizeof name, "n%" PRIu64, p->number);
    struct sluice_message m = {.size = sizeof m, .topic = TOPIC, .key = sluice_str(text), .value = sluice_str(text), .schedule = name,
                               .delay_ms = at_ms == 0 ? delay_ms : 0, .at_ms = at_ms};
    if (sluice_publish_async(l->client, &m, on_published, p, &err) != 0) {
        blame(&l->wrong, TOPIC ": publish: %s: %s", sluice_code_name(err.code), err.text);
        free(p);
    }
}

/* Cancels or moves one that was acknowledged and may still wait. */
static void change_one(struct later *l)
{
    pthread_mutex_lock(&l->lock);
    uint64_t last = l->n < CHANGE_LAST ? l->n : CHANGE_LAST, number = last > 0 ? l->n - 1 - rng_below(&l->rng, last) : 0;
    bool good = last > 0 && l->all[number].acked && !l->all[number].cancelled;
    pthread_mutex_unlock(&l->lock);
    if (!good)
        return;
    char name[24];
    struct sluice_error err;
    snprintf(name, sizeof name, "n%" PRIu64, number);
    uint64_t at_ms = clock_wall_ms() + rng_between(&l->rng, 1, DELAY_MS_MAX);
    bool move = rng_chance(&l->rng, 1, 2);
    int code = move ? sluice_schedule_move(l->client, TOPIC, name, at_ms, 0, &err) : sluice_schedule_cancel(l->client, TOPIC, name, &err);
    if (code == SLUICE_SCHEDULE_NOT_FOUND)
        return; /* it came before */
    if (code != 0) {
        blame(&l->wrong, TOPIC ": %s: %s: %s", move ? "move" : "cancel", sluice_code_name(code), err.text);
        return;
    }
    pthread_mutex_lock(&l->lock);
    struct waiting *w = &l->all[number];
    if (move)
        w->due_ms = at_ms;
    w->cancelled = !move;
    l->cancelled += !move;
    l->moved += move;
    look_at(l, number);
    pthread_mutex_unlock(&l->lock);
}

static void *produce(void *arg)
{
    struct later *l = arg;
    struct sluice_error err;
    while (!atomic_load(&l->no_more) && blamed(&l->wrong) == NULL) {
        pthread_mutex_lock(&l->lock);
        bool behind = l->n - l->acked > UNACKED_MAX;
        pthread_mutex_unlock(&l->lock);
        for (int i = 0; i < AT_ONCE && !behind; i++)
            publish_one(l);
        if (rng_chance(&l->rng, 1, CHANGE_EVERY))
            change_one(l);
        poll(NULL, 0, PACE_MS);
    }
    if (sluice_flush(l->client, CLOSE_MS, &err) != 0)
        blame(&l->wrong, TOPIC ": flush: %s: %s", sluice_code_name(err.code), err.text);
    return NULL;
}

/* ---------------------------------------------------------------- the log */

static void came(struct later *l, const struct sluice_delivery *d)
{
    char text[24];
    uint64_t number;
    snprintf(text, sizeof text, "%.*s", (int)d->value.size, (const char *)d->value.data);
    pthread_mutex_lock(&l->lock);
    if (sscanf(text, "%" SCNu64, &number) != 1 || number >= l->n) {
        blame(&l->wrong, TOPIC ": '%s' came, which was never published", text);
    } else {
        struct waiting *w = &l->all[number];
        if (w->seen)
            blame(&l->wrong, TOPIC ": message %" PRIu64 " came twice", number);
        w->seen = true;
        w->appended_ms = d->append_time_ms;
        l->seen++;
        look_at(l, number);
    }
    pthread_mutex_unlock(&l->lock);
}

void later_read(struct later *l)
{
    for (int p = 0; p < PARTITIONS; p++)
        for (size_t n = 1; n > 0;) {
            struct sluice_batch *b;
            struct sluice_error err;
            crash_ok(sluice_reader_read(l->logs[p], 0, &b, &err), &err);
            n = sluice_batch_count(b);
            for (size_t i = 0; i < n; i++)
                came(l, sluice_batch_message(b, i));
            sluice_batch_free(b);
        }
}

/* ---------------------------------------------------------------- life */

struct later *later_start(const char *url, uint64_t seed)
{
    struct later *l = calloc(1, sizeof *l);
    struct sluice_error err;
    struct sluice_topic_options t = {.size = sizeof t, .partitions = PARTITIONS, .durability = SLUICE_DISK};
    pthread_mutex_init(&l->lock, NULL);
    rng_seed(&l->rng, seed);
    l->client = crash_open(url);
    l->reader = crash_open(url);
    crash_ok(sluice_topic_create(l->reader, TOPIC, &t, NULL, &err), &err);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        crash_ok(sluice_reader_open(l->reader, TOPIC, p, NULL, &l->logs[p], &err), &err);
    assert_int_equal(pthread_create(&l->thread, NULL, produce, l), 0);
    l->runs = true;
    return l;
}

static void join(struct later *l)
{
    atomic_store(&l->no_more, true);
    if (l->runs)
        pthread_join(l->thread, NULL);
    l->runs = false;
}

/* Nothing that is promised is missing. */
static bool all_came(struct later *l)
{
    later_read(l);
    pthread_mutex_lock(&l->lock);
    bool all = l->acked == l->n && l->seen + l->cancelled == l->n;
    pthread_mutex_unlock(&l->lock);
    return all;
}

void later_finish(struct later *l, uint32_t timeout_ms)
{
    join(l);
    for (uint64_t until = clock_mono_ms() + timeout_ms; !all_came(l) && blamed(&l->wrong) == NULL;) {
        if (clock_mono_ms() > until) {
            blame(&l->wrong, TOPIC ": lost: of %" PRIu64 " messages %" PRIu64 " were acknowledged, %" PRIu64 " came and %" PRIu64 " were cancelled",
                  l->n, l->acked, l->seen, l->cancelled);
            return;
        }
        poll(NULL, 0, PACE_MS);
    }
    struct sluice_schedule_list *rest;
    struct sluice_error err;
    crash_ok(sluice_schedules(l->reader, TOPIC, NULL, NULL, &rest, &err), &err);
    if (rest->count > 0)
        blame(&l->wrong, TOPIC ": '%s' still waits", rest->rows[0].name);
    sluice_schedules_free(rest);
}

const char *later_wrong(struct later *l) { return blamed(&l->wrong); }

struct later_totals later_totals(const struct later *l)
{
    return (struct later_totals){.published = l->n, .cancelled = l->cancelled, .moved = l->moved};
}

void later_free(struct later *l)
{
    if (l == NULL)
        return;
    join(l);
    for (int p = 0; p < PARTITIONS; p++)
        sluice_reader_close(l->logs[p]);
    sluice_close(l->reader, 0, NULL, NULL);
    sluice_close(l->client, 0, NULL, NULL);
    pthread_mutex_destroy(&l->lock);
    free(l->all);
    free(l);
}

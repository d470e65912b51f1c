#include "letters.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/rng.h"
#include "blame.h"
#include "crash.h"

enum {
    CONSUMERS = 2,
    KEYS = 64,
    PACE_MS = 10,
    AT_ONCE = 3,
    BACKLOG_MAX = 500,
    WAIT_MS = 100,
    DELAY_MS_MAX = 600,
    HOLD_MS_MAX = 400,
    REDRIVE_EVERY_MS = 300,
    LEASE_MS = 60000, /* longer than the test: what comes again was given back */
    CLOSE_MS = 20000,
    TURN_MS = 50, /* a turn's time is that of its beginning: what comes while it begins was asked for later */
};

#define TOPIC "letters"
#define GROUP "g"

/* What is done with a message the first time; then it is acknowledged. */
enum act { ACK, PARK, DELAY, HOLD };

enum state { NEW, OUT, WAITS, PARKING, PARKED, ACKING, DONE };
static const char *const state_names[] = {"new", "out", "waiting for its delay", "being parked", "parked", "being acknowledged", "done"};

struct letter {
    uint8_t state;
    bool redriven;         /* since it was parked, a redrive was asked for */
    bool was_aside;        /* parked or delayed before: now it is acknowledged */
    uint64_t not_before_ms;
};

struct letters {
    const char *url;
    struct sluice *producer, *admin;
    struct blame wrong;
    uint64_t seed;
    pthread_t producer_thread, redrive_thread, consuming[CONSUMERS];
    bool runs;
    atomic_int consumers;  /* that were started */
    atomic_bool no_more, no_parking, quit;

    pthread_mutex_t lock;
    struct letter *all;
    bool redriving;        /* what is parked now may be meant by a redrive that is being asked for */
    uint64_t n, cap, done;
    struct letters_totals totals;
};

static void complain(struct letters *l, const char *what, const struct sluice_error *err)
{
    blame(&l->wrong, TOPIC ": %s: %s: %s", what, sluice_code_name(err->code), err->text);
}

/* ---------------------------------------------------------------- publishing */

static void on_published(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    (void)receipt;
    if (error != NULL)
        complain(user, "publish", error);
}

static void publish_one(struct letters *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->n == l->cap) {
        l->cap = l->cap > 0 ? 2 * l->cap : 4096;
        l->all = realloc(l->all, l->cap * sizeof *l->all);
    }
    l->all[l->n] = (struct letter){0};
    uint64_t number = l->n++;
    pthread_mutex_unlock(&l->lock);
    char key[24], value[24];
    struct sluice_error err;
    snprintf(key, sizeof key, "k%" PRIu64, number % KEYS);
    snprintf(value, sizeof value, "%" PRIu64, number);
    struct sluice_message m = {.size = sizeof m, .topic = TOPIC, .key = sluice_str(key), .value = sluice_str(value)};
    if (sluice_publish_async(l->producer, &m, on_published, l, &err) != 0)
        complain(l, "publish", &err);
}

static void *produce(void *arg)
{
    struct letters *l = arg;
    struct sluice_error err;
    while (!atomic_load(&l->no_more) && blamed(&l->wrong) == NULL) {
        pthread_mutex_lock(&l->lock);
        bool behind = l->n - l->done > BACKLOG_MAX;
        pthread_mutex_unlock(&l->lock);
        for (int i = 0; i < AT_ONCE && !behind; i++)
            publish_one(l);
        poll(NULL, 0, PACE_MS);
    }
    if (sluice_flush(l->producer, CLOSE_MS, &err) != 0)
        complain(l, "flush", &err);
    return NULL;
}

/* ---------------------------------------------------------------- receiving */

static bool number_of(struct letters *l, struct sluice_bytes value, uint64_t *number)
{
    char text[24];
    snprintf(text, sizeof text, "%.*s", (int)value.size, (const char *)value.data);
    if (sscanf(text, "%" SCNu64, number) == 1 && *number < l->n)
        return true;
    blame(&l->wrong, TOPIC ": '%s' was never published", text);
    return false;
}

static enum act act_of(struct letters *l, uint64_t number, const struct letter *x)
{
    static const enum act acts[] = {PARK, DELAY, HOLD, ACK, ACK, ACK, ACK};
    enum act act = acts[number % 7];
    if (x->was_aside || (act == PARK && atomic_load(&l->no_parking)))
        return ACK;
    return act;
}

/* Enters a delivery; what is to be done with it now. False: it is none of ours. */
static bool delivered(struct letters *l, const struct sluice_delivery *d, uint64_t *number, enum act *act)
{
    pthread_mutex_lock(&l->lock);
    bool ours = number_of(l, d->value, number);
    if (ours) {
        struct letter *x = &l->all[*number];
        uint64_t now = clock_mono_ms();
        bool may = x->state == NEW || x->state == WAITS || ((x->state == PARKING || x->state == PARKED) && x->redriven);
        if (!may)
            blame(&l->wrong, TOPIC ": message %" PRIu64 " was delivered when it was %s", *number, state_names[x->state]);
        if (x->state == WAITS && now + TURN_MS < x->not_before_ms)
            blame(&l->wrong, TOPIC ": message %" PRIu64 " came %" PRIu64 " ms before its delay was over", *number, x->not_before_ms - now);
        *act = act_of(l, *number, x);
        x->state = *act == PARK ? PARKING : *act == DELAY ? WAITS : *act == HOLD ? OUT : ACKING;
        x->was_aside |= *act == PARK || *act == DELAY;
        x->redriven = l->redriving;
        l->totals.parked += *act == PARK;
        l->totals.delayed += *act == DELAY;
    }
    pthread_mutex_unlock(&l->lock);
    return ours;
}

static void now_is(struct letters *l, uint64_t number, enum state state)
{
    pthread_mutex_lock(&l->lock);
    struct letter *x = &l->all[number];
    if (state != PARKED || (x->state == PARKING && !x->redriven)) /* else it may be out already */
        x->state = (uint8_t)state;
    l->done += state == DONE;
    pthread_mutex_unlock(&l->lock);
}

static void settle(struct letters *l, struct sluice_batch *b, size_t i, struct rng *rng)
{
    uint64_t number;
    enum act act;
    struct sluice_error err;
    if (!delivered(l, sluice_batch_message(b, i), &number, &act))
        return;
    if (act == PARK) {
        if (sluice_park(b, i, "aside", "as the test likes", &err) != 0)
            complain(l, "park", &err);
        now_is(l, number, PARKED);
        return;
    }
    if (act == DELAY) {
        uint32_t ms = (uint32_t)rng_between(rng, 1, DELAY_MS_MAX);
        pthread_mutex_lock(&l->lock);
        l->all[number].not_before_ms = clock_mono_ms() + ms;
        pthread_mutex_unlock(&l->lock);
        if (sluice_nack(b, i, ms, "later", &err) != 0)
            complain(l, "nack", &err);
        return;
    }
    if (act == HOLD) {
        poll(NULL, 0, (int)rng_below(rng, HOLD_MS_MAX));
        now_is(l, number, ACKING);
    }
    if (sluice_ack(b, i, &err) != 0)
        complain(l, "ack", &err);
    else
        now_is(l, number, DONE);
}

static void *consume(void *arg)
{
    struct letters *l = arg;
    struct sluice_options o = {.size = sizeof o, .broker = l->url};
    struct sluice_error err;
    struct sluice *s;
    struct rng rng;
    rng_seed(&rng, l->seed + (uint64_t)atomic_fetch_add(&l->consumers, 1));
    if (sluice_open(&s, &o, &err) != 0) {
        complain(l, "open", &err);
        return NULL;
    }
    while (!atomic_load(&l->quit) && blamed(&l->wrong) == NULL) {
        struct sluice_receive_options r = {.size = sizeof r, .max_messages = (uint32_t)rng_between(&rng, 1, 10), .wait_ms = WAIT_MS};
        struct sluice_batch *b;
        if (sluice_receive(s, TOPIC, GROUP, &r, &b, &err) != 0) {
            complain(l, "receive", &err);
            break;
        }
        for (size_t i = 0; i < sluice_batch_count(b); i++)
            settle(l, b, i, &rng);
        sluice_batch_free(b);
    }
    if (sluice_close(s, CLOSE_MS, NULL, &err) != 0)
        complain(l, "close", &err);
    return NULL;
}

/* ---------------------------------------------------------------- dead letters */

static void redrive(struct letters *l)
{
    struct sluice_error err;
    pthread_mutex_lock(&l->lock);
    for (uint64_t i = 0; i < l->n; i++) {
        struct letter *x = &l->all[i];
        x->redriven |= x->state == PARKING || x->state == PARKED;
    }
    l->redriving = true;
    l->totals.redrives++;
    pthread_mutex_unlock(&l->lock);
    if (sluice_dlq_redrive(l->admin, TOPIC, GROUP, NULL, NULL, &err) != 0)
        complain(l, "redrive", &err);
    poll(NULL, 0, PACE_MS); /* it means what was parked up to its millisecond */
    pthread_mutex_lock(&l->lock);
    l->redriving = false;
    pthread_mutex_unlock(&l->lock);
}

static void *redrives(void *arg)
{
    struct letters *l = arg;
    while (!atomic_load(&l->quit) && blamed(&l->wrong) == NULL) {
        poll(NULL, 0, REDRIVE_EVERY_MS);
        redrive(l);
    }
    return NULL;
}

/* Marks what is listed, and says how many that are. */
static uint64_t list(struct letters *l, bool *listed, uint64_t n)
{
    struct sluice_dlq *page = NULL, *before = NULL;
    struct sluice_error err;
    uint64_t count = 0;
    do {
        struct sluice_dlq_options o = {.size = sizeof o, .limit = 1000, .after = before};
        crash_ok(sluice_dlq_list(l->admin, TOPIC, GROUP, &o, &page, &err), &err);
        for (size_t i = 0; i < sluice_dlq_count(page); i++, count++) {
            const struct sluice_dead_letter *d = sluice_dlq_at(page, i);
            uint64_t number;
            pthread_mutex_lock(&l->lock);
            bool ours = number_of(l, d->message.value, &number);
            pthread_mutex_unlock(&l->lock);
            if (ours && strcmp(d->reason, "aside") != 0)
                blame(&l->wrong, TOPIC ": message %" PRIu64 " was parked with the reason '%s'", number, d->reason);
            if (ours && number < n)
                listed[number] = true;
        }
        sluice_dlq_free(before);
        before = page;
    } while (sluice_dlq_more(page));
    sluice_dlq_free(page);
    return count;
}

void letters_look(struct letters *l)
{
    pthread_mutex_lock(&l->lock);
    uint64_t n = l->n;
    bool *listed = calloc(n + 1, sizeof *listed), *parked = calloc(n + 1, sizeof *parked), *done = calloc(n + 1, sizeof *done);
    for (uint64_t i = 0; i < n; i++) {
        parked[i] = l->all[i].state == PARKED && !l->all[i].redriven;
        done[i] = l->all[i].state == DONE;
    }
    pthread_mutex_unlock(&l->lock);
    list(l, listed, n);
    pthread_mutex_lock(&l->lock);
    for (uint64_t i = 0; i < n; i++) {
        bool still = parked[i] && l->all[i].state == PARKED && !l->all[i].redriven;
        if (still && !listed[i])
            blame(&l->wrong, TOPIC ": lost: message %" PRIu64 " was parked, and is no dead letter", i);
        if (listed[i] && done[i])
            blame(&l->wrong, TOPIC ": message %" PRIu64 " is a dead letter, and was done", i);
    }
    pthread_mutex_unlock(&l->lock);
    free(listed);
    free(parked);
    free(done);
}

/* ---------------------------------------------------------------- life */

struct letters *letters_start(const char *url, uint64_t seed)
{
    struct letters *l = calloc(1, sizeof *l);
    struct sluice_error err;
    struct sluice_topic_options t = {.size = sizeof t, .partitions = 2, .durability = SLUICE_DISK};
    struct sluice_group_options g = {.size = sizeof g, .lease_ms = LEASE_MS};
    pthread_mutex_init(&l->lock, NULL);
    l->url = url;
    l->seed = seed;
    l->producer = crash_open(url);
    l->admin = crash_open(url);
    crash_ok(sluice_topic_create(l->admin, TOPIC, &t, NULL, &err), &err);
    crash_ok(sluice_group_create(l->admin, TOPIC, GROUP, &g, NULL, &err), &err);
    assert_int_equal(pthread_create(&l->producer_thread, NULL, produce, l), 0);
    assert_int_equal(pthread_create(&l->redrive_thread, NULL, redrives, l), 0);
    for (int i = 0; i < CONSUMERS; i++)
        assert_int_equal(pthread_create(&l->consuming[i], NULL, consume, l), 0);
    l->runs = true;
    return l;
}

static void join(struct letters *l)
{
    atomic_store(&l->no_more, true);
    atomic_store(&l->quit, true);
    if (!l->runs)
        return;
    pthread_join(l->producer_thread, NULL);
    pthread_join(l->redrive_thread, NULL);
    for (int i = 0; i < CONSUMERS; i++)
        pthread_join(l->consuming[i], NULL);
    l->runs = false;
}

static bool all_done(struct letters *l, bool *published)
{
    pthread_mutex_lock(&l->lock);
    bool all = l->done == l->n;
    *published = l->n > 0;
    pthread_mutex_unlock(&l->lock);
    return all;
}

void letters_finish(struct letters *l, uint32_t timeout_ms)
{
    bool published, one = false;
    struct sluice_lag_list *lag;
    struct sluice_error err;
    atomic_store(&l->no_more, true);
    atomic_store(&l->no_parking, true);
    for (uint64_t until = clock_mono_ms() + timeout_ms; !all_done(l, &published) && blamed(&l->wrong) == NULL; poll(NULL, 0, PACE_MS))
        if (clock_mono_ms() > until)
            blame(&l->wrong, TOPIC ": lost: of %" PRIu64 " messages %" PRIu64 " are done", l->n, l->done);
    join(l);
    if (blamed(&l->wrong) != NULL)
        return;
    if (list(l, &one, 1) > 0)
        blame(&l->wrong, TOPIC ": there are dead letters, and everything was done");
    crash_ok(sluice_group_lag(l->admin, TOPIC, GROUP, &lag, &err), &err);
    if (lag->rows[0].lag_messages + lag->rows[0].in_flight + lag->rows[0].parked > 0)
        blame(&l->wrong, TOPIC ": %" PRIu64 " messages wait, %" PRIu64 " are held, %" PRIu64 " are parked, and everything was done",
              lag->rows[0].lag_messages, lag->rows[0].in_flight, lag->rows[0].parked);
    sluice_lag_free(lag);
}

const char *letters_wrong(struct letters *l) { return blamed(&l->wrong); }

struct letters_totals letters_totals(const struct letters *l)
{
    struct letters_totals t = l->totals;
    t.published = l->n;
    t.done = l->done;
    return t;
}

void letters_free(struct letters *l)
{
    if (l == NULL)
        return;
    join(l);
    sluice_close(l->admin, 0, NULL, NULL);
    sluice_close(l->producer, 0, NULL, NULL);
    pthread_mutex_destroy(&l->lock);
    free(l->all);
    free(l);
}

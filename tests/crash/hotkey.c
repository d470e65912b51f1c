/*
 * One key with a million messages and a slow handler hides no other key: beside it 10,000 other keys are worked on at their rate, and
 * what waits behind it costs disk, not memory.
 *
 * Two brokers have the same messages behind them; a group reads the hot key's on one of them only. Rounds of the others' work are run on
 * one and the other in turn, and the median of their ratios is printed. It is not judged here: a test that is timed says more of its
 * machine than of the code. SLUICE_HOT_MESSAGES and SLUICE_HOT_ROUNDS make it longer or shorter.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "crash.h"

enum {
    OTHER_KEYS = 10000,
    ROUND_MESSAGES = 100000,
    VALUE_SIZE = 100,
    HANDLERS = 3,
    RECEIVE_MAX = 1000,
    HOT_MS = 100, /* its handler takes so long for each */
    MEMORY_MAX = 64 << 20,
    DEADLINE_MS = 120000,
    ROUNDS_MAX = 64,
};

struct side {
    struct broker_proc broker;
    struct sluice *client;
    pthread_t handlers[HANDLERS];
    atomic_uint_fast64_t others, hot; /* acknowledged */
    atomic_bool stop;
    size_t peak;                      /* bytes resident */
    uint64_t rates[ROUNDS_MAX];
};

/* ---------------------------------------------------------------- producing */

static void publish(struct sluice *s, const char *topic, const char *key, const char *value)
{
    struct sluice_message m = {.size = sizeof m, .topic = topic, .key = sluice_str(key), .value = {value, VALUE_SIZE}};
    struct sluice_error err;
    int code;
    while ((code = sluice_publish_async(s, &m, NULL, NULL, &err)) == SLUICE_QUEUE_FULL)
        crash_ok(sluice_flush(s, DEADLINE_MS, &err), &err);
    crash_ok(code, &err);
}

static void publish_all(struct sluice *s, const char *topic, uint64_t n, uint32_t keys)
{
    char key[32] = "hot", value[VALUE_SIZE];
    struct sluice_error err;
    memset(value, 'v', sizeof value);
    for (uint64_t i = 0; i < n; i++) {
        if (keys > 1)
            snprintf(key, sizeof key, "key %" PRIu64, i % keys);
        publish(s, topic, key, value);
    }
    crash_ok(sluice_flush(s, DEADLINE_MS, &err), &err);
}

/* ---------------------------------------------------------------- handling */

struct hot_message { struct sluice_batch *batch; size_t index; uint64_t done_at; };

static void settled(void *user, size_t index, const struct sluice_error *error)
{
    (void)index;
    crash_ok(error != NULL ? error->code : 0, error);
    atomic_fetch_add((atomic_uint_fast64_t *)user, 1);
}

static void settle(struct sluice *s, struct sluice_settle *items, size_t n, atomic_uint_fast64_t *count)
{
    struct sluice_error err;
    int code;
    while (n > 0 && (code = sluice_settle_async(s, items, n, false, settled, count, &err)) != 0)
        if (code != SLUICE_QUEUE_FULL)
            crash_ok(code, &err);
        else
            crash_ok(sluice_flush(s, DEADLINE_MS, &err), &err);
}

/* Others are done at once. The hot one takes its time, and its handler goes on with others meanwhile, as a pool of them would. */
static void *handle(void *arg)
{
    struct side *side = arg;
    struct sluice *s = crash_open(side->broker.url);
    struct sluice_settle *items = calloc(RECEIVE_MAX, sizeof *items);
    struct hot_message hot = {0};
    while (!atomic_load(&side->stop)) {
        struct sluice_receive_options o = {.size = sizeof o, .max_messages = RECEIVE_MAX, .wait_ms = HOT_MS / 10};
        struct sluice_batch *b;
        struct sluice_error err;
        crash_ok(sluice_receive(s, "work", "g", &o, &b, &err), &err);
        size_t n = 0;
        bool kept = false;
        for (size_t i = 0; i < sluice_batch_count(b); i++) {
            const struct sluice_delivery *d = sluice_batch_message(b, i);
            if (d->key.size == 3) {
                assert_null(hot.batch); /* at most one of a key */
                hot = (struct hot_message){b, i, clock_mono_ms() + HOT_MS};
                kept = true;
            } else {
                items[n++] = (struct sluice_settle){.batch = b, .index = i, .verb = SLUICE_ACK};
            }
        }
        settle(s, items, n, &side->others);
        if (!kept)
            sluice_batch_free(b);
        if (hot.batch != NULL && clock_mono_ms() >= hot.done_at) {
            settle(s, &(struct sluice_settle){.batch = hot.batch, .index = hot.index, .verb = SLUICE_ACK}, 1, &side->hot);
            sluice_batch_free(hot.batch);
            hot.batch = NULL;
        }
    }
    sluice_batch_free(hot.batch);
    free(items);
    crash_close(s);
    return NULL;
}

/* ---------------------------------------------------------------- two brokers */

static void look(struct side *side)
{
    size_t now = broker_resident(&side->broker);
    side->peak = now > side->peak ? now : side->peak;
}

/* `hot_topic`: where the hot key's messages are. */
static void begin(struct side *side, const char *hot_topic, uint64_t hot)
{
    static const char *const args[] = {"--no-publish", NULL};
    struct sluice_error err;
    broker_start(&side->broker, args);
    side->client = crash_open(side->broker.url);
    crash_topic(side->client, "work", SLUICE_DISK);
    crash_topic(side->client, "aside", SLUICE_DISK);
    struct sluice_group_options o = {.size = sizeof o};
    crash_ok(sluice_group_create(side->client, "work", "g", &o, NULL, &err), &err);
    publish_all(side->client, hot_topic, hot, 1);
    for (int i = 0; i < HANDLERS; i++)
        assert_int_equal(pthread_create(&side->handlers[i], NULL, handle, side), 0);
}

/* One round of the others: messages per second from the first published to the last acknowledged. */
static uint64_t others(struct side *side)
{
    uint64_t began = clock_mono_ms(), wanted = atomic_load(&side->others) + ROUND_MESSAGES;
    publish_all(side->client, "work", ROUND_MESSAGES, OTHER_KEYS);
    EVENTUALLY(DEADLINE_MS, (look(side), atomic_load(&side->others) >= wanted));
    uint64_t ms = clock_mono_ms() - began;
    return (uint64_t)ROUND_MESSAGES * 1000 / (ms > 0 ? ms : 1);
}

static void finish(struct side *side)
{
    atomic_store(&side->stop, true);
    for (int i = 0; i < HANDLERS; i++)
        pthread_join(side->handlers[i], NULL);
    crash_close(side->client);
    broker_end(&side->broker);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t median(uint64_t *n, size_t count)
{
    qsort(n, count, sizeof *n, ascending);
    return n[count / 2];
}

static struct sluice_lag lag_of(struct side *side)
{
    struct sluice_lag_list *l;
    struct sluice_error err;
    crash_ok(sluice_group_lag(side->client, "work", "g", &l, &err), &err);
    struct sluice_lag lag = l->rows[0];
    sluice_lag_free(l);
    return lag;
}

static void a_hot_key_hides_no_other_key_and_costs_no_memory(void **state)
{
    (void)state;
    static struct side with, without;
    uint64_t hot = crash_number("SLUICE_HOT_MESSAGES", 1000000), rounds = crash_number("SLUICE_HOT_ROUNDS", 8);
    assert_in_range(rounds, 1, ROUNDS_MAX);
    begin(&with, "work", hot);
    begin(&without, "aside", hot);
    uint64_t began = clock_mono_ms();
    others(&with); /* behind a million of the other: found all the same */
    printf("the first %d of the others, behind %" PRIu64 " of the hot key: %" PRIu64 " ms\n", ROUND_MESSAGES, hot, clock_mono_ms() - began);
    others(&without);
    for (uint64_t i = 0; i < rounds; i++) {
        struct side *first = i % 2 == 0 ? &with : &without, *second = i % 2 == 0 ? &without : &with;
        first->rates[i] = others(first);
        second->rates[i] = others(second);
    }
    struct sluice_lag lag = lag_of(&with);
    uint64_t done = atomic_load(&with.hot);
    printf("hot key: %" PRIu64 " done, %" PRIu64 " wait\n", done, lag.lag_messages);
    uint64_t percent[ROUNDS_MAX];
    for (uint64_t i = 0; i < rounds; i++) /* of each pair of rounds, which ran one after the other on the same machine */
        percent[i] = with.rates[i] * 100 / without.rates[i];
    uint64_t ratio = median(percent, rounds), a = median(with.rates, rounds), b = median(without.rates, rounds);
    printf("others: %" PRIu64 "/s beside the hot key, %" PRIu64 "/s without it (medians); %" PRIu64 " %% (median of %" PRIu64 " pairs of rounds)\n",
           a, b, ratio, rounds);
    assert_true(done > 0);                                  /* its handler worked all the while */
    assert_in_range(lag.lag_messages + lag.in_flight, hot - done - HANDLERS, hot); /* and the others all were done */
    assert_int_equal(lag.parked, 0);
    printf("resident: %zu MB with, %zu MB without\n", with.peak / 1000000, without.peak / 1000000);
    assert_true(with.peak < without.peak + MEMORY_MAX);
    finish(&with);
    finish(&without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_hot_key_hides_no_other_key_and_costs_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

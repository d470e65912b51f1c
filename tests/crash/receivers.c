/*
 * 64 receivers on a topic of one partition: each has work as long as there are keys enough, and every key keeps its order.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "crash.h"

enum { RECEIVERS = 64, PER_CLIENT = 1, KEYS = 512, PER_KEY = 6, MESSAGES = KEYS * PER_KEY, WORK_MS = 100, DEADLINE_MS = 120000 };

static struct broker_proc broker;
static atomic_uint busy, most_busy, done, busy_seen, looks;
static atomic_uint next_of[KEYS];      /* the message of this key that must come next */
static atomic_uint holders_of[KEYS];   /* receivers that hold one */
static atomic_bool stop;

struct receiver { struct sluice *client; pthread_t thread; uint32_t handled; };

static void work(const struct sluice_delivery *d)
{
    unsigned key, number;
    char text[32] = "";
    memcpy(text, d->value.data, d->value.size < sizeof text ? d->value.size : sizeof text - 1);
    assert_int_equal(sscanf(text, "%u %u", &key, &number), 2);
    assert_int_equal(atomic_fetch_add(&holders_of[key], 1), 0);
    assert_int_equal(atomic_load(&next_of[key]), number);
    unsigned now = atomic_fetch_add(&busy, 1) + 1, most = atomic_load(&most_busy);
    while (now > most && !atomic_compare_exchange_weak(&most_busy, &most, now))
        continue;
    struct timespec t = {.tv_nsec = WORK_MS * 1000000L};
    nanosleep(&t, NULL);
    if (atomic_load(&done) < MESSAGES - KEYS) { /* as long as there is work for all */
        atomic_fetch_add(&busy_seen, atomic_load(&busy));
        atomic_fetch_add(&looks, 1);
    }
    atomic_fetch_sub(&busy, 1);
    atomic_store(&next_of[key], number + 1);
    atomic_fetch_sub(&holders_of[key], 1);
    atomic_fetch_add(&done, 1);
}

static void *receive(void *arg)
{
    struct receiver *r = arg;
    while (!atomic_load(&stop)) {
        struct sluice_receive_options o = {.size = sizeof o, .max_messages = 1, .wait_ms = 500};
        struct sluice_batch *b;
        struct sluice_error err;
        crash_ok(sluice_receive(r->client, "t", "g", &o, &b, &err), &err);
        for (size_t i = 0; i < sluice_batch_count(b); i++, r->handled++) {
            work(sluice_batch_message(b, i));
            crash_ok(sluice_ack(b, i, &err), &err);
        }
        sluice_batch_free(b);
    }
    return NULL;
}

static void publish_all(struct sluice *s)
{
    char key[16], value[32];
    struct sluice_error err;
    for (unsigned n = 0; n < PER_KEY; n++)
        for (unsigned k = 0; k < KEYS; k++) {
            snprintf(key, sizeof key, "k%u", k);
            snprintf(value, sizeof value, "%u %u", k, n);
            struct sluice_message m = {.size = sizeof m, .topic = "t", .key = sluice_str(key), .value = sluice_str(value)};
            crash_ok(sluice_publish_async(s, &m, NULL, NULL, &err), &err);
        }
    crash_ok(sluice_flush(s, DEADLINE_MS, &err), &err);
}

static void all_receivers_of_one_partition_are_busy_and_each_key_keeps_its_order(void **state)
{
    (void)state;
    static struct receiver receivers[RECEIVERS];
    static const char *const args[] = {"--no-publish", "--no-http", NULL};
    struct sluice *clients[RECEIVERS / PER_CLIENT];
    struct sluice_error err;
    broker_start(&broker, args);
    for (size_t i = 0; i < RECEIVERS / PER_CLIENT; i++)
        clients[i] = crash_open(broker.url);
    crash_topic(clients[0], "t", SLUICE_DISK);
    struct sluice_group_options o = {.size = sizeof o};
    crash_ok(sluice_group_create(clients[0], "t", "g", &o, NULL, &err), &err);
    publish_all(clients[0]);
    uint64_t began = clock_mono_ms();
    for (size_t i = 0; i < RECEIVERS; i++) {
        receivers[i].client = clients[i / PER_CLIENT];
        assert_int_equal(pthread_create(&receivers[i].thread, NULL, receive, &receivers[i]), 0);
    }
    EVENTUALLY(DEADLINE_MS, atomic_load(&done) == MESSAGES);
    uint64_t ms = clock_mono_ms() - began;
    atomic_store(&stop, true);
    uint32_t least = UINT32_MAX, most = 0;
    for (size_t i = 0; i < RECEIVERS; i++) {
        pthread_join(receivers[i].thread, NULL);
        least = receivers[i].handled < least ? receivers[i].handled : least;
        most = receivers[i].handled > most ? receivers[i].handled : most;
    }
    printf("%d messages of %d keys by %d receivers of %d ms each: %" PRIu64 " ms; most at once %u, %.1f seen busy; each handled %u to %u\n",
           MESSAGES, KEYS, RECEIVERS, WORK_MS, ms, atomic_load(&most_busy), (double)atomic_load(&busy_seen) / atomic_load(&looks), least, most);
    assert_int_equal(atomic_load(&most_busy), RECEIVERS);
    assert_true(least >= MESSAGES / RECEIVERS / 2);
    for (size_t i = 0; i < RECEIVERS / PER_CLIENT; i++)
        crash_close(clients[i]);
    broker_end(&broker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_receivers_of_one_partition_are_busy_and_each_key_keeps_its_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

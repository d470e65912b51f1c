/* A topic gets more partitions while programs publish to it and read from it, and the broker is killed: nobody notices. */
#include <inttypes.h>
#include <pthread.h>
#include <sluice/sluice.h>
#include <stdatomic.h>

#include "talk.h"

enum { PUBLISHERS = 2, KEYS = 40, EACH = 15000, UNITS = 300, CONSUMERS = 2 };

static struct broker_proc b;
static struct sluice *client;
static struct sluice_error err;

static struct sluice *open_client(void)
{
    struct sluice *s;
    struct sluice_options o = {
        .size = sizeof o, .broker = b.url, .connect_timeout_ms = 30000, .request_timeout_ms = 60000};
    assert_int_equal(sluice_open(&s, &o, &err), 0);
    return s;
}

static int begin(void **state)
{
    (void)state;
    broker_start(&b, NULL);
    client = open_client();
    assert_int_equal(sluice_topic_create(client, "work", NULL, NULL, &err), 0);
    assert_int_equal(sluice_group_create(client, "work", "g", NULL, NULL, &err), 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    sluice_close(client, 1000, NULL, NULL);
    broker_end(&b);
    return 0;
}

static void grow(uint32_t partitions)
{
    struct sluice_topic_options o = {.size = sizeof o, .partitions = partitions};
    if (sluice_topic_alter(client, "work", &o, SLUICE_TOPIC_PARTITIONS, &err) != 0)
        fail_msg("%s", err.text);
}

/* Messages in all partitions; and how many partitions have some. */
static uint64_t in_the_log(uint32_t *used)
{
    struct sluice_topic_list *list;
    uint64_t sum = 0;
    assert_int_equal(sluice_topics(client, "work", &list, &err), 0);
    *used = 0;
    for (uint32_t i = 0; i < list->topics[0].options.partitions; i++) {
        sum += list->topics[0].partitions[i].end;
        *used += list->topics[0].partitions[i].end > 0;
    }
    sluice_topics_free(list);
    return sum;
}

/* ---------------------------------------------------------------- who publishes */

static atomic_uint confirmed, failed;
static atomic_bool grown; /* for the last time: a sixth of the messages is kept back for that, however fast the others went */

static void wait_if_last_sixth(unsigned i, unsigned of)
{
    if (i == of / 6 * 5) {
        EVENTUALLY(120000, atomic_load(&grown));
    }
}

static void told(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    (void)user;
    (void)receipt;
    if (error != NULL)
        fprintf(stderr, "not published: %s\n", error->text);
    atomic_fetch_add(error == NULL ? &confirmed : &failed, 1);
}

/* Keys "a0".. or "b0".., each with the values 0, 1, 2, .. */
static void *publisher(void *arg)
{
    const char *name = arg;
    struct sluice *s = open_client();
    for (unsigned i = 0; i < EACH; i++) {
        wait_if_last_sixth(i, EACH);
        char key[16], value[16];
        struct sluice_error e;
        snprintf(key, sizeof key, "%s%u", name, i % KEYS);
        snprintf(value, sizeof value, "%u", i / KEYS);
        const struct sluice_message m = {
            .size = sizeof m, .topic = "work", .key = sluice_str(key), .value = sluice_str(value)};
        int code;
        while ((code = sluice_publish_async(s, &m, told, NULL, &e)) == SLUICE_QUEUE_FULL)
            sluice_flush(s, 60000, NULL);
        if (code != 0)
            fail_msg("%s", e.text);
        if (i % 500 == 0) /* not all at once */
            sluice_flush(s, 60000, NULL);
    }
    assert_int_equal(sluice_flush(s, 60000, NULL), 0);
    sluice_close(s, 10000, NULL, NULL);
    return NULL;
}

/* Units of one message to each of three keys, which have values of their own: "u0", "u1", "u2". */
static void *committer(void *arg)
{
    (void)arg;
    struct sluice *s = open_client();
    for (unsigned i = 0; i < UNITS; i++) {
        wait_if_last_sixth(i, UNITS);
        struct sluice_unit *u;
        struct sluice_error e;
        assert_int_equal(sluice_unit_begin(s, &u, &e), 0);
        for (unsigned k = 0; k < 3; k++) {
            char key[16], value[16];
            snprintf(key, sizeof key, "u%u", k);
            snprintf(value, sizeof value, "%u", i);
            const struct sluice_message m = {
                .size = sizeof m, .topic = "work", .key = sluice_str(key), .value = sluice_str(value)};
            assert_int_equal(sluice_unit_publish(u, &m, &e), 0);
        }
        struct sluice_receipt receipts[3];
        if (sluice_unit_commit(u, receipts, &e) != 0)
            fail_msg("%s", e.text);
        atomic_fetch_add(&confirmed, 3);
    }
    sluice_close(s, 10000, NULL, NULL);
    return NULL;
}

/* ---------------------------------------------------------------- who works */

static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned next[3][KEYS]; /* by the key's letter: the value that comes next */
static atomic_uint seen;
static atomic_bool stop;

static void look_at(const struct sluice_delivery *d)
{
    char key[16] = "", value[16] = "";
    memcpy(key, d->key.data, d->key.size);
    memcpy(value, d->value.data, d->value.size);
    unsigned *expected = &next[key[0] == 'u' ? 2 : key[0] - 'a'][atoi(key + 1)], got = (unsigned)atoi(value);
    pthread_mutex_lock(&seen_lock);
    if (got > *expected || (got < *expected && !d->redelivered))
        fail_msg("%s: %u came where %u was expected, from partition %u", key, got, *expected, d->partition);
    if (got == *expected) {
        ++*expected;
        atomic_fetch_add(&seen, 1);
    }
    pthread_mutex_unlock(&seen_lock);
}

static void *consumer(void *arg)
{
    (void)arg;
    struct sluice *s = open_client();
    const struct sluice_receive_options o = {.size = sizeof o, .max_messages = 200, .wait_ms = 200};
    while (!atomic_load(&stop)) {
        struct sluice_batch *batch;
        struct sluice_error e;
        if (sluice_receive(s, "work", "g", &o, &batch, &e) != 0)
            fail_msg("%s", e.text);
        size_t n = sluice_batch_count(batch);
        struct sluice_settle items[200];
        for (size_t i = 0; i < n; i++) {
            look_at(sluice_batch_message(batch, i));
            items[i] = (struct sluice_settle){.batch = batch, .index = i, .verb = SLUICE_ACK};
        }
        if (n > 0 && sluice_settle_async(s, items, n, false, NULL, NULL, &e) != 0)
            fail_msg("%s", e.text);
        sluice_batch_free(batch);
    }
    sluice_close(s, 10000, NULL, NULL);
    return NULL;
}

static void order_is_kept_and_nothing_is_lost_or_twice(bool kill)
{
    pthread_t publishers[PUBLISHERS], units, consumers[CONSUMERS];
    static char names[PUBLISHERS][2] = {"a", "b"};
    const unsigned all = PUBLISHERS * EACH + 3 * UNITS;
    const uint32_t partitions[] = {2, 6, 12, 24};
    uint32_t used;
    for (int i = 0; i < CONSUMERS; i++)
        assert_int_equal(pthread_create(&consumers[i], NULL, consumer, NULL), 0);
    for (int i = 0; i < PUBLISHERS; i++)
        assert_int_equal(pthread_create(&publishers[i], NULL, publisher, names[i]), 0);
    assert_int_equal(pthread_create(&units, NULL, committer, NULL), 0);
    for (unsigned i = 0; i < ARRAY_LEN(partitions); i++) {
        EVENTUALLY(120000, atomic_load(&confirmed) >= all / 6 * (i + 1));
        grow(partitions[i]);
        atomic_store(&grown, i + 1 == ARRAY_LEN(partitions));
        if (kill && i % 2 == 1) {
            broker_kill(&b);
            broker_restart(&b);
        }
    }
    for (int i = 0; i < PUBLISHERS; i++)
        pthread_join(publishers[i], NULL);
    pthread_join(units, NULL);
    EVENTUALLY(120000, atomic_load(&seen) == all);
    atomic_store(&stop, true);
    for (int i = 0; i < CONSUMERS; i++)
        pthread_join(consumers[i], NULL);
    assert_int_equal(atomic_load(&failed), 0);
    assert_int_equal(atomic_load(&confirmed), all);
    assert_int_equal(in_the_log(&used), all);
    assert_true(used > 12); /* they are used, too */
}

static void while_a_topic_grows_keys_keep_their_order_and_nothing_is_lost_or_twice(void **state)
{
    (void)state;
    order_is_kept_and_nothing_is_lost_or_twice(false);
}

static void nor_when_the_broker_is_killed_meanwhile(void **state)
{
    (void)state;
    memset(next, 0, sizeof next);
    atomic_store(&seen, 0);
    atomic_store(&confirmed, 0);
    atomic_store(&grown, false);
    atomic_store(&stop, false);
    order_is_kept_and_nothing_is_lost_or_twice(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(while_a_topic_grows_keys_keep_their_order_and_nothing_is_lost_or_twice, begin, end),
        cmocka_unit_test_setup_teardown(nor_when_the_broker_is_killed_meanwhile, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

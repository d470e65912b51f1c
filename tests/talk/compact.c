/* What a compacted topic promises to a user of libsluice, with the broker killed while it compacts. */
#include <inttypes.h>
#include <sluice/sluice.h>

#include "base/clock.h"
#include "base/rng.h"
#include "talk.h"

enum { KEYS = 100 };

static struct broker_proc b;
static struct sluice *client;
static struct sluice_error err;

static const char *const eager[] = {"--set", "limits.compact_bytes_min=1",   "--set", "limits.compact_lag_ms=0ms",
                                    "--set", "limits.compact_interval_ms=100ms", "--set", "limits.tombstone_ms=500ms",
                                    "--set", "limits.compact_dirty_min=10", NULL};

static int begin(void **state)
{
    (void)state;
    broker_start(&b, eager);
    struct sluice_options o = {.size = sizeof o, .broker = b.url, .connect_timeout_ms = 30000, .request_timeout_ms = 60000};
    assert_int_equal(sluice_open(&client, &o, &err), 0);
    struct sluice_topic_options t = {.size = sizeof t, .compacted = true};
    assert_int_equal(sluice_topic_create(client, "state", &t, NULL, &err), 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    sluice_close(client, 1000, NULL, NULL);
    broker_end(&b);
    return 0;
}

static void publish(int key, const char *value)
{
    char name[16];
    snprintf(name, sizeof name, "key%d", key);
    struct sluice_message m = {.size = sizeof m, .topic = "state", .key = sluice_str(name)};
    if (value != NULL)
        m.value = sluice_str(value);
    if (sluice_publish_async(client, &m, NULL, NULL, &err) != 0)
        fail_msg("%s", err.text);
}

static void flush(void)
{
    if (sluice_flush(client, 60000, &err) != 0)
        fail_msg("%s", err.text);
}

static int number(struct sluice_bytes text, size_t skip)
{
    char digits[64];
    snprintf(digits, sizeof digits, "%.*s", (int)(text.size - skip), (const char *)text.data + skip);
    return atoi(digits);
}

/* What a reader from the start finds: of each key the last value (-1: none, or a tombstone), and how many messages that are. Offsets ascend,
 * values of a key never go back. */
struct found { int value[KEYS]; uint64_t offset[KEYS]; size_t messages, tombstones; uint64_t next; };

static struct found read_all(void)
{
    struct found f = {0};
    struct sluice_reader *r;
    struct sluice_reader_options o = {.size = sizeof o, .max_bytes = 4096};
    for (int k = 0; k < KEYS; k++)
        f.value[k] = -1;
    assert_int_equal(sluice_reader_open(client, "state", 0, &o, &r, &err), 0);
    for (size_t n = 1; n > 0;) {
        struct sluice_batch *batch;
        if (sluice_reader_read(r, 0, &batch, &err) != 0)
            fail_msg("%s", err.text);
        n = sluice_batch_count(batch);
        for (size_t i = 0; i < n; i++) {
            const struct sluice_delivery *d = sluice_batch_message(batch, i);
            int key = number(d->key, 3);
            assert_in_range(key, 0, KEYS - 1);
            assert_true(d->offset >= f.next);
            f.next = d->offset + 1;
            f.messages++;
            f.tombstones += d->value.data == NULL;
            int value = d->value.data == NULL ? -1 : number(d->value, 0);
            if (value != -1 && value <= f.value[key])
                fail_msg("key%d is %d at offset %" PRIu64 ", behind %d at %" PRIu64, key, value, d->offset, f.value[key], f.offset[key]);
            f.value[key] = value;
            f.offset[key] = d->offset;
        }
        sluice_batch_free(batch);
    }
    f.next = sluice_reader_offset(r);
    sluice_reader_close(r);
    return f;
}

static bool compacted_to(size_t messages) { return read_all().messages <= messages; }

static void look_at(const struct found *f, const int *expected)
{
    for (int k = 0; k < KEYS; k++)
        assert_int_equal(f->value[k], expected[k]);
}

static void of_10000_updates_the_last_of_each_key_is_left(void **state)
{
    (void)state;
    int expected[KEYS];
    char value[64];
    for (int i = 0; i < 10000; i++) {
        snprintf(value, sizeof value, "%d and some more bytes", i);
        publish(i % KEYS, value);
        expected[i % KEYS] = i;
        if (i % 500 == 499)
            flush();
    }
    publish(0, "10000"); /* the newest batch is not looked at */
    expected[0] = 10000;
    flush();
    EVENTUALLY(30000, compacted_to(KEYS + 1));
    struct found f = read_all();
    look_at(&f, expected);
    assert_int_equal(f.next, 10001);
    assert_int_equal(broker_stop(&b), 0);
    broker_restart(&b);
    f = read_all();
    look_at(&f, expected);
    assert_true(f.messages <= KEYS + 1);
    struct sluice_topic_list *list;
    assert_int_equal(sluice_topics(client, "state", &list, &err), 0);
    assert_int_equal(list->topics[0].partitions[0].end, 10001);
    assert_true(list->topics[0].partitions[0].bytes < 30000);
    sluice_topics_free(list);

    for (int k = 50; k < KEYS; k++) {
        publish(k, NULL);
        expected[k] = -1;
    }
    flush();
    publish(0, "10001");
    expected[0] = 10001;
    flush();
    EVENTUALLY(30000, compacted_to(50 + 1));
    f = read_all();
    look_at(&f, expected);
    assert_int_equal(f.tombstones, 0);
}

static void a_message_without_a_key_is_refused_with_the_topics_name(void **state)
{
    (void)state;
    struct sluice_message m = {.size = sizeof m, .topic = "state", .value = sluice_str("x")};
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "topic 'state' is compacted");
}

/* Each round: updates go in while passes run, the broker is killed at some instant, and what was confirmed must be there. */
static void a_kill_while_it_compacts_loses_no_last_value(void **state)
{
    (void)state;
    int confirmed[KEYS], tried[KEYS], next = 20000;
    struct rng rng;
    rng_seed(&rng, 7);
    struct found f = read_all();
    memcpy(confirmed, f.value, sizeof confirmed);
    for (int round = 0; round < 12; round++) {
        uint64_t until = clock_mono_ms() + 150 + rng_below(&rng, 400);
        while (clock_mono_ms() < until || broker_metric(&b, "sluice_compactions_total") < 2) { /* for some time at least it compacts */
            memcpy(tried, confirmed, sizeof tried);
            for (int i = 0; i < 200; i++) {
                char value[64];
                int key = (int)rng_below(&rng, KEYS);
                snprintf(value, sizeof value, "%d", next);
                tried[key] = next++;
                publish(key, value);
            }
            flush();
            memcpy(confirmed, tried, sizeof confirmed);
        }
        broker_kill(&b);
        broker_restart(&b);
        f = read_all();
        look_at(&f, confirmed);
    }
    char last[64];
    snprintf(last, sizeof last, "%d", next);
    publish(0, last); /* the newest batch is not looked at */
    confirmed[0] = next;
    flush();
    EVENTUALLY(30000, compacted_to(KEYS + 1));
    f = read_all();
    look_at(&f, confirmed);
    assert_int_equal((int)broker_metric(&b, "sluice_damaged_messages_total"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_10000_updates_the_last_of_each_key_is_left),
        cmocka_unit_test(a_message_without_a_key_is_refused_with_the_topics_name),
        cmocka_unit_test(a_kill_while_it_compacts_loses_no_last_value),
    };
    return cmocka_run_group_tests(tests, begin, end);
}

#include "sdk_fake.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "schemas/errors.h"
#include "schemas/stored.h"

static struct fake *fake;
static struct sluice *client;
static struct sluice_error err;

static int setup(void **state)
{
    (void)state;
    fake = fake_open(NULL);
    fake_topic(fake, "t", 2);
    client = NULL;
    struct sluice_options o = {.size = sizeof o,
                               .broker = fake_url(fake),
                               .request_timeout_ms = 20000,
                               .batch_records_max = 10,
                               .linger_ms = 1000};
    return sluice_open(&client, &o, &err);
}

static int teardown(void **state)
{
    (void)state;
    fake_set_script(fake, NULL, NULL); /* what it uses is gone with the test */
    sluice_close(client, 0, NULL, NULL);
    fake_close(fake);
    return 0;
}

/* A key of partition 0, so that what is published lies in one row. */
static const char *key_of_0(void)
{
    static char key[16];
    for (int i = 0; key[0] == '\0' || key_partition(key_hash(view_of_str(key)), 2) != 0; i++)
        snprintf(key, sizeof key, "%d", i);
    return key;
}

/* Messages whose values are their offsets, in batches of 10. */
static void fill(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char value[64];
        int size = snprintf(value, sizeof value, "%zu", i);
        struct sluice_message m = {
            .size = sizeof m, .topic = "t", .key = sluice_str(key_of_0()), .value = {value, (size_t)size}};
        assert_int_equal(sluice_publish_async(client, &m, NULL, NULL, &err), 0);
        if (i % 10 == 9)
            assert_int_equal(sluice_flush(client, 20000, &err), 0);
    }
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
}

static struct sluice_reader *open_reader(int from, uint64_t offset, uint32_t max_bytes)
{
    struct sluice_reader *r;
    struct sluice_reader_options o = {
        .size = sizeof o, .from = from, .offset = offset, .max_bytes = max_bytes};
    assert_int_equal(sluice_reader_open(client, "t", 0, &o, &r, &err), 0);
    return r;
}

/* Reads until nothing comes, checks that values are offsets from `from` on, and returns how many there were. */
static size_t read_all(struct sluice_reader *r, uint64_t from)
{
    size_t total = 0;
    for (;;) {
        struct sluice_batch *b;
        assert_int_equal(sluice_reader_read(r, 0, &b, &err), 0);
        size_t n = sluice_batch_count(b);
        for (size_t i = 0; i < n; i++) {
            const struct sluice_delivery *d = sluice_batch_message(b, i);
            char value[64];
            snprintf(value, sizeof value, "%llu", (unsigned long long)(from + total));
            assert_int_equal(d->offset, from + total);
            assert_int_equal(d->value.size, strlen(value));
            assert_memory_equal(d->value.data, value, d->value.size);
            assert_memory_equal(d->key.data, key_of_0(), d->key.size);
            assert_int_equal(d->attempt, 0);
            assert_int_equal(d->partition, 0);
            total++;
        }
        sluice_batch_free(b);
        if (n == 0)
            return total;
        assert_int_equal(sluice_reader_offset(r), from + total);
    }
}

static void a_log_is_read_from_its_start_in_order(void **state)
{
    (void)state;
    fill(95);
    struct sluice_reader *r = open_reader(0, 0, 0);
    assert_int_equal(read_all(r, 0), 95);
    sluice_reader_close(r);
}

static void small_reads_give_the_same_messages(void **state)
{
    (void)state;
    fill(95);
    struct sluice_reader *r = open_reader(SLUICE_FROM_START, 0, 20);
    assert_int_equal(read_all(r, 0), 95);
    sluice_reader_close(r);
}

static void reading_begins_at_any_offset_within_a_batch(void **state)
{
    (void)state;
    fill(30);
    for (uint64_t from = 0; from <= 30; from++) {
        struct sluice_reader *r = open_reader(SLUICE_FROM_OFFSET, from, 0);
        assert_int_equal(sluice_reader_offset(r), from);
        assert_int_equal(read_all(r, from), 30 - from);
        sluice_reader_close(r);
    }
}

static void reading_from_the_end_gives_what_comes_later(void **state)
{
    (void)state;
    fill(10);
    struct sluice_reader *r = open_reader(SLUICE_FROM_END, 0, 0);
    assert_int_equal(read_all(r, 10), 0);
    sluice_reader_close(r);
}

static void *publish_one(void *arg)
{
    (void)arg;
    fake_await(fake, VERB_FETCH, 1);
    struct sluice_message m = {
        .size = sizeof m, .topic = "t", .key = sluice_str(key_of_0()), .value = SLUICE_STR("0")};
    sluice_publish(client, &m, NULL, NULL);
    return NULL;
}

static void a_reader_that_waits_is_woken_by_a_message(void **state)
{
    (void)state;
    struct sluice_reader *r = open_reader(SLUICE_FROM_END, 0, 0);
    key_of_0();
    pthread_t thread;
    pthread_create(&thread, NULL, publish_one, NULL);
    struct sluice_batch *b;
    assert_int_equal(sluice_reader_read(r, 60000, &b, &err), 0);
    assert_int_equal(sluice_batch_count(b), 1);
    pthread_join(thread, NULL);
    sluice_batch_free(b);
    assert_int_equal(sluice_reader_read(r, 20, &b, &err), 0);
    assert_int_equal(sluice_batch_count(b), 0);
    sluice_batch_free(b);
    sluice_reader_close(r);
}

static void what_is_gone_is_a_gap_that_says_how_much(void **state)
{
    (void)state;
    fill(30);
    struct sluice_reader *r = open_reader(SLUICE_FROM_OFFSET, 5, 0);
    fake_trim(fake, "t", 0, 20);
    struct sluice_batch *b;
    assert_int_equal(sluice_reader_read(r, 0, &b, &err), SLUICE_GAP);
    assert_int_equal(err.depth, 15);
    assert_has(err.text, "messages 5 to 19 are gone, by retention");
    assert_null(b);
    assert_int_equal(sluice_reader_offset(r), 20);
    struct sluice_gap gap = {.size = sizeof gap};
    assert_true(sluice_reader_gap(r, &gap));
    assert_true(gap.from == 5 && gap.to == 20 && gap.count == 15 && gap.partition == 0);
    assert_true(gap.from_ms == 1000 && gap.to_ms == 2000 && gap.reason == SLUICE_GAP_RETENTION);
    assert_int_equal(read_all(r, 20), 10);
    assert_false(sluice_reader_gap(r, &gap)); /* not of the reads behind it */
    assert_true(gap.size == sizeof gap && gap.to == 0);
    sluice_reader_close(r);
}

static void who_was_compiled_with_less_of_a_gap_gets_what_he_knows(void **state)
{
    (void)state;
    fill(30);
    struct sluice_reader *r = open_reader(SLUICE_FROM_OFFSET, 5, 0);
    fake_trim(fake, "t", 0, 20);
    struct sluice_batch *b;
    assert_int_equal(sluice_reader_read(r, 0, &b, NULL), SLUICE_GAP);
    struct sluice_gap gap = {.size = offsetof(struct sluice_gap, count), .count = 77, .to_ms = 88};
    assert_true(sluice_reader_gap(r, &gap));
    assert_true(gap.size == offsetof(struct sluice_gap, count) && gap.from == 5 && gap.to == 20);
    assert_true(gap.count == 77 && gap.to_ms == 88);
    sluice_reader_close(r);
}

/* A reader meets `what` in the third batch of five: it gets what is before, then DAMAGED, then what is behind. */
static void meet_damage(size_t at, const char *what)
{
    fill(50);
    fake_damage(fake, "t", 0, 2, at);
    struct sluice_reader *r = open_reader(SLUICE_FROM_START, 0, 0);
    struct sluice_batch *b;
    assert_int_equal(sluice_reader_read(r, 0, &b, &err), 0);
    assert_int_equal(sluice_batch_count(b), 20);
    sluice_batch_free(b);
    assert_int_equal(sluice_reader_read(r, 0, &b, &err), SLUICE_DAMAGED);
    assert_has(err.text, "topic 't', partition 0, offset 20");
    assert_has(err.text, what);
    assert_int_equal(sluice_reader_offset(r), 30);
    struct sluice_gap gap = {.size = sizeof gap};
    assert_true(sluice_reader_gap(r, &gap));
    assert_true(gap.from == 20 && gap.to == 30 && gap.reason == SLUICE_GAP_DAMAGED && gap.to_ms == 0);
    assert_int_equal(read_all(r, 30), 20);
    sluice_reader_close(r);
}

static void a_damaged_batch_is_reported_and_passed(void **state)
{
    (void)state;
    meet_damage(STORED_HEADER_SIZE + 50, "hash");
}

static void a_damaged_header_is_reported_and_passed(void **state)
{
    (void)state;
    meet_damage(24, "checksum");
}

static void an_offset_beyond_the_end_is_an_error(void **state)
{
    (void)state;
    fill(10);
    struct sluice_reader *r = open_reader(SLUICE_FROM_OFFSET, 11, 0);
    struct sluice_batch *b;
    assert_int_equal(sluice_reader_read(r, 0, &b, &err), SLUICE_OFFSET_OUT_OF_RANGE);
    assert_has(err.text, "ends at 10, the reader stands at 11");
    sluice_reader_close(r);
}

static void a_partition_that_is_not_there_is_named_with_those_that_are(void **state)
{
    (void)state;
    struct sluice_reader *r;
    assert_int_equal(sluice_reader_open(client, "t", 2, NULL, &r, &err), SLUICE_PARTITION_NOT_FOUND);
    assert_has(err.text, "partitions 0 to 1, not 2");
    assert_int_equal(sluice_reader_open(client, "u", 0, NULL, &r, &err), SLUICE_TOPIC_NOT_FOUND);
}

static void a_topic_made_anew_is_read_under_its_new_ids(void **state)
{
    (void)state;
    fill(10);
    fake_forget_topic(fake, "t");
    fake_topic(fake, "t", 2);
    struct sluice_reader *r = open_reader(SLUICE_FROM_START, 0, 0);
    assert_int_equal(read_all(r, 0), 0);
    sluice_reader_close(r);
}

static enum fake_action lose_every_third(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    atomic_int *n = user;
    (void)reply;
    return r->verb == VERB_FETCH && atomic_fetch_add(n, 1) % 3 == 0 ? FAKE_LOSE : FAKE_DO;
}

static void a_read_survives_lost_connections(void **state)
{
    (void)state;
    fill(100);
    static atomic_int n = 0;
    fake_set_script(fake, lose_every_third, &n);
    struct sluice_reader *r = open_reader(SLUICE_FROM_START, 0, 300);
    assert_int_equal(read_all(r, 0), 100);
    sluice_reader_close(r);
}

static void publish_value(const char *value)
{
    struct sluice_message m = {
        .size = sizeof m, .topic = "t", .key = sluice_str(key_of_0()), .value = sluice_str(value)};
    assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
}

/* One call that waits brings so many messages, of which the first is `value`. */
static void read_waiting(struct sluice_reader *r, uint32_t wait_ms, size_t n, const char *value)
{
    struct sluice_batch *b;
    assert_int_equal(sluice_reader_read(r, wait_ms, &b, &err), 0);
    assert_int_equal(sluice_batch_count(b), n);
    if (n > 0) {
        struct sluice_bytes v = sluice_batch_message(b, 0)->value;
        assert_int_equal(v.size, strlen(value));
        assert_memory_equal(v.data, value, v.size);
    }
    sluice_batch_free(b);
}

static void the_next_fetch_is_out_before_a_reader_that_waited_asks_again(void **state)
{
    (void)state;
    struct sluice_reader *r = open_reader(SLUICE_FROM_END, 0, 0);
    pthread_t thread;
    key_of_0();
    pthread_create(&thread, NULL, publish_one, NULL);
    read_waiting(r, 60000, 1, "0");
    pthread_join(thread, NULL);
    fake_await(fake, VERB_FETCH, 2); /* nobody called */
    publish_value("1");
    read_waiting(r, 60000, 1, "1");
    publish_value("2");
    publish_value("3");
    read_waiting(r, 60000, 1, "2"); /* what was out brought one */
    read_waiting(r, 60000, 1, "3");
    sluice_reader_close(r); /* while one is out */
}

static void who_does_not_wait_is_told_how_it_is_now(void **state)
{
    (void)state;
    struct sluice_reader *r = open_reader(SLUICE_FROM_START, 0, 0);
    publish_value("0");
    read_waiting(r, 60000, 1, "0");
    read_waiting(r, 0, 0, NULL);
    publish_value("1");
    read_waiting(r, 0, 1, "1");
    read_waiting(r, 0, 0, NULL);
    sluice_reader_close(r);
}

static void a_shorter_wait_ends_in_its_time_whatever_a_longer_one_left_behind(void **state)
{
    (void)state;
    struct sluice_reader *r = open_reader(SLUICE_FROM_START, 0, 0);
    publish_value("0");
    read_waiting(r, 600000, 1, "0");
    fake_await(fake, VERB_FETCH, 2); /* waits ten minutes */
    uint64_t began = clock_mono_ms();
    read_waiting(r, 20, 0, NULL);
    assert_true(clock_mono_ms() - began < 60000);
    publish_value("1");
    read_waiting(r, 600000, 1, "1");
    sluice_reader_close(r);
}

static void what_is_fetched_ahead_comes_once_and_in_order(void **state)
{
    (void)state;
    fill(500);
    for (int cut = 0; cut < 2; cut++) { /* also over connections that are lost */
        atomic_int n = 0;
        struct sluice_reader *r = open_reader(SLUICE_FROM_START, 0, 300);
        if (cut)
            fake_set_script(fake, lose_every_third, &n);
        size_t total = 0;
        while (total < 500) {
            struct sluice_batch *b;
            assert_int_equal(sluice_reader_read(r, 20000, &b, &err), 0);
            for (size_t i = 0; i < sluice_batch_count(b); i++)
                assert_int_equal(sluice_batch_message(b, i)->offset, total++);
            sluice_batch_free(b);
        }
        fake_set_script(fake, NULL, NULL);
        sluice_reader_close(r);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_log_is_read_from_its_start_in_order),
        TEST(small_reads_give_the_same_messages),
        TEST(reading_begins_at_any_offset_within_a_batch),
        TEST(reading_from_the_end_gives_what_comes_later),
        TEST(a_reader_that_waits_is_woken_by_a_message),
        TEST(what_is_gone_is_a_gap_that_says_how_much),
        TEST(who_was_compiled_with_less_of_a_gap_gets_what_he_knows),
        TEST(a_damaged_batch_is_reported_and_passed),
        TEST(a_damaged_header_is_reported_and_passed),
        TEST(an_offset_beyond_the_end_is_an_error),
        TEST(a_partition_that_is_not_there_is_named_with_those_that_are),
        TEST(a_topic_made_anew_is_read_under_its_new_ids),
        TEST(a_read_survives_lost_connections),
        TEST(the_next_fetch_is_out_before_a_reader_that_waited_asks_again),
        TEST(who_does_not_wait_is_told_how_it_is_now),
        TEST(a_shorter_wait_ends_in_its_time_whatever_a_longer_one_left_behind),
        TEST(what_is_fetched_ahead_comes_once_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

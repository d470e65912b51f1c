#include "sdk_fake.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/macros.h"
#include "schemas/errors.h"

enum { TOLD_MAX = 4096 };

static struct fake *fake;
static struct sluice *client;
static struct sluice_error err;

/* What callbacks said, in order. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t n;
    struct {
        uintptr_t user;
        int code;
        struct sluice_receipt receipt;
    } at[TOLD_MAX];
} told = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void tell(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    pthread_mutex_lock(&told.lock);
    assert_true(told.n < TOLD_MAX);
    told.at[told.n].user = (uintptr_t)user;
    told.at[told.n].code = error != NULL ? error->code : 0;
    if (receipt != NULL)
        told.at[told.n].receipt = *receipt;
    told.n++;
    pthread_cond_broadcast(&told.changed);
    pthread_mutex_unlock(&told.lock);
}

static void await_told(size_t n)
{
    pthread_mutex_lock(&told.lock);
    while (told.n < n)
        pthread_cond_wait(&told.changed, &told.lock);
    pthread_mutex_unlock(&told.lock);
}

static int setup(void **state)
{
    (void)state;
    fake = fake_open(NULL);
    fake_topic(fake, "t", 1);
    fake_topic(fake, "wide", 4);
    client = NULL;
    told.n = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_set_script(fake, NULL, NULL); /* what it uses is gone with the test */
    sluice_close(client, 0, NULL, NULL);
    fake_close(fake);
    return 0;
}

static void open_with(struct sluice_options o)
{
    o.size = sizeof o;
    o.broker = fake_url(fake);
    if (o.request_timeout_ms == 0)
        o.request_timeout_ms = 20000;
    assert_int_equal(sluice_open(&client, &o, &err), 0);
    /* The topics are known from here on, so that what follows does not ask for them. */
    struct sluice_message m = {
        .size = sizeof m, .topic = "t", .key = SLUICE_STR("warm"), .value = SLUICE_STR("up")};
    assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
}

static struct sluice_message message(const char *value)
{
    return (struct sluice_message){
        .size = sizeof(struct sluice_message), .topic = "t", .value = sluice_str(value)};
}

static void publish_async(const char *value, uintptr_t user)
{
    struct sluice_message m = message(value);
    assert_int_equal(sluice_publish_async(client, &m, tell, (void *)user, &err), 0);
}

static bool value_is(const char *topic, uint32_t partition, size_t i, const char *value)
{
    struct record r = fake_record(fake, topic, partition, i);
    return view_eq(r.value, view_of_str(value));
}

/* A script that does something to the first `times` produces. */
struct trouble {
    atomic_int times;
    enum fake_action action;
    int code;
    uint32_t retry_after_ms;
};

static enum fake_action make_trouble(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    struct trouble *t = user;
    if (r->verb != VERB_PRODUCE || atomic_fetch_sub(&t->times, 1) <= 0)
        return FAKE_DO;
    reply->code = (uint16_t)t->code;
    reply->retry_after_ms = t->retry_after_ms;
    return t->action;
}

/* ---- what a message becomes */

static void publishing_returns_where_the_message_is_and_on_what_it_stands(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    struct sluice_receipt receipt;
    struct sluice_message m = message("hello");
    assert_int_equal(sluice_publish(client, &m, &receipt, &err), 0);
    assert_int_equal(receipt.partition, 0);
    assert_int_equal(receipt.offset, 1);
    assert_int_equal(receipt.durability, SLUICE_DISK);
    assert_true(value_is("t", 0, 1, "hello"));
}

static void a_message_arrives_with_all_its_fields(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    struct sluice_header headers[] = {{"colour", SLUICE_STR("blue")}, {"empty", SLUICE_STR("")}};
    struct sluice_message m = {.size = sizeof m,
                               .topic = "t",
                               .key = SLUICE_STR("4711"),
                               .value = SLUICE_STR("paid"),
                               .headers = headers,
                               .headers_count = 2,
                               .timestamp_ms = 12345,
                               .ttl_ms = 60,
                               .priority = 7,
                               .message_id = "id-1"};
    assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
    struct record r = fake_record(fake, "t", 0, 1);
    assert_true(view_eq(r.key, VIEW_LIT("4711")));
    assert_true(view_eq(r.value, VIEW_LIT("paid")));
    assert_int_equal(r.timestamp_ms, 12345);
    assert_int_equal(r.ttl_ms, 60);
    assert_int_equal(r.priority, 7);
    assert_true(id128_eq(r.message_id, message_id_hash(VIEW_LIT("id-1"))));
    struct view v;
    assert_true(headers_find(r.headers, VIEW_LIT("colour"), &v) && view_eq(v, VIEW_LIT("blue")));
    assert_true(headers_find(r.headers, VIEW_LIT("empty"), &v) && view_eq(v, VIEW_LIT("")));
    assert_true(headers_find(r.headers, VIEW_LIT("message-id"), &v) && view_eq(v, VIEW_LIT("id-1")));
}

static void an_absent_value_and_an_empty_one_stay_different(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    struct sluice_message m = {.size = sizeof m, .topic = "t", .key = SLUICE_STR("")};
    assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
    m = (struct sluice_message){.size = sizeof m, .topic = "t", .value = SLUICE_STR("")};
    assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
    struct record tombstone = fake_record(fake, "t", 0, 1), empty = fake_record(fake, "t", 0, 2);
    assert_non_null(tombstone.key.data);
    assert_null(tombstone.value.data);
    assert_null(empty.key.data);
    assert_non_null(empty.value.data);
}

static void a_key_has_its_partition_and_messages_without_one_go_round(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    for (int i = 0; i < 20; i++) {
        char key[16];
        int size = snprintf(key, sizeof key, "key %d", i % 10);
        struct sluice_receipt receipt;
        struct sluice_message m = {.size = sizeof m, .topic = "wide", .key = {key, (size_t)size}};
        assert_int_equal(sluice_publish(client, &m, &receipt, &err), 0);
        assert_int_equal(receipt.partition, key_partition(key_hash(view_of(key, (size_t)size)), 4));
    }
    uint32_t seen = 0;
    for (int i = 0; i < 4; i++) {
        struct sluice_receipt receipt;
        struct sluice_message m = {.size = sizeof m, .topic = "wide", .value = SLUICE_STR("x")};
        assert_int_equal(sluice_publish(client, &m, &receipt, &err), 0);
        seen |= 1u << receipt.partition;
    }
    assert_int_equal(seen, 0xf);
}

static void a_delayed_message_goes_alone_with_its_delay(void **state)
{
    (void)state;
    open_with((struct sluice_options){.linger_ms = 10000});
    struct sluice_message m = message("a");
    publish_async("a", 1);
    m.delay_ms = 5000;
    assert_int_equal(sluice_publish_async(client, &m, tell, (void *)2, &err), 0);
    publish_async("c", 3);
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
    assert_int_equal(fake_count(fake, VERB_PRODUCE), 4); /* one to warm up */
}

static void what_no_broker_would_take_is_refused_before_it_is_sent(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    static char big[2 << 20];
    struct sluice_message m = message("x");
    m.key = (struct sluice_bytes){big, 5000};
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_TOO_LARGE);
    assert_has(err.text, "key");
    m = message("x");
    m.value = (struct sluice_bytes){big, sizeof big};
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_TOO_LARGE);
    assert_has(err.text, "message_bytes_max");
    m = message("x");
    m.priority = 10;
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_INVALID_ARGUMENT);
    struct sluice_header headers[65] = {{0}};
    m = message("x");
    m.headers = headers;
    m.headers_count = 65;
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_LIMIT);
    m.headers_count = 1;
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_INVALID_ARGUMENT);
    assert_int_equal(fake_count(fake, VERB_PRODUCE), 1);
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
    struct sluice_stats stats = {.size = sizeof stats};
    sluice_stats(client, &stats);
    assert_int_equal(stats.memory_bytes, 0);
}

/* ---- batches */

static void callbacks_come_in_order_with_consecutive_offsets(void **state)
{
    (void)state;
    open_with((struct sluice_options){.batch_records_max = 10});
    for (uintptr_t i = 0; i < 1000; i++)
        publish_async("x", i);
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
    assert_int_equal(told.n, 1000);
    for (uintptr_t i = 0; i < 1000; i++) {
        assert_int_equal(told.at[i].user, i);
        assert_int_equal(told.at[i].code, 0);
        assert_int_equal(told.at[i].receipt.offset, i + 1);
    }
}

static void what_comes_while_a_request_is_out_goes_in_the_next_one(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    static struct trouble hold = {.times = 1, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    publish_async("first", 0);
    fake_await(fake, VERB_PRODUCE, 2);
    for (uintptr_t i = 1; i <= 100; i++)
        publish_async("later", i);
    assert_int_equal(fake_count(fake, VERB_PRODUCE), 2);
    fake_release(fake);
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
    assert_int_equal(fake_count(fake, VERB_PRODUCE), 3);
    assert_int_equal(fake_seen(fake, VERB_PRODUCE, 2).produce.count, 100);
}

static void publish_wide(const char *key, uintptr_t user)
{
    struct sluice_message m = {.size = sizeof m, .topic = "wide", .value = SLUICE_STR("x")};
    if (key != NULL)
        m.key = sluice_str(key);
    assert_int_equal(sluice_publish_async(client, &m, tell, (void *)user, &err), 0);
}

static void many_partitions_do_not_make_smaller_batches_of_messages_without_keys(void **state)
{
    (void)state;
    open_with((struct sluice_options){.request_timeout_ms = 1000000}); /* nothing is sent because its time is up */
    publish_wide(NULL, 0); /* the topic is known */
    await_told(1);
    static struct trouble hold = {.times = 1, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    publish_wide(NULL, 0);
    fake_await(fake, VERB_PRODUCE, 3);
    for (uintptr_t i = 1; i <= 100; i++)
        publish_wide(NULL, i);
    publish_async("of another topic", 101); /* what comes later was sent and answered: so what came before would have been sent */
    await_told(2);
    assert_int_equal(told.at[1].user, 101);
    assert_int_equal(fake_count(fake, VERB_PRODUCE), 4);
    fake_release(fake);
    await_told(103);
    assert_int_equal(fake_count(fake, VERB_PRODUCE), 5);
    struct fake_seen before = fake_seen(fake, VERB_PRODUCE, 2), seen = fake_seen(fake, VERB_PRODUCE, 4);
    assert_int_equal(seen.produce.count, 100);
    assert_int_not_equal(seen.produce.partition, before.produce.partition);
}

/* In the library's thread, so that nothing leaves meanwhile. */
static void publish_twenty(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    tell(user, error, receipt);
    for (uintptr_t i = 1; i <= 20; i++)
        publish_wide(NULL, i);
}

static void the_turn_is_the_next_partitions_as_soon_as_a_batch_is_full(void **state)
{
    (void)state;
    open_with((struct sluice_options){.batch_records_max = 5});
    struct sluice_message m = {.size = sizeof m, .topic = "wide", .value = SLUICE_STR("x")};
    assert_int_equal(sluice_publish_async(client, &m, publish_twenty, NULL, &err), 0);
    await_told(21);
    assert_int_equal(fake_count(fake, VERB_PRODUCE), 6);
    uint32_t partitions = 0;
    for (size_t i = 2; i < 6; i++) {
        struct fake_seen seen = fake_seen(fake, VERB_PRODUCE, i);
        assert_int_equal(seen.produce.count, 5);
        partitions |= 1u << (seen.produce.partition & 31);
    }
    assert_int_equal(__builtin_popcount(partitions), 4);
}

static void a_message_with_a_key_waits_for_those_of_its_partition_only(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    publish_wide(NULL, 0);
    await_told(1);
    static struct trouble hold = {.times = 1, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    publish_wide(NULL, 1);
    fake_await(fake, VERB_PRODUCE, 3);
    uint32_t busy = fake_seen(fake, VERB_PRODUCE, 2).produce.partition - fake_seen(fake, VERB_PRODUCE, 1).produce.partition;
    const char *const keys[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    size_t free = 0;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (key_partition(key_hash(view_of_str(keys[i])), 4) == busy)
            continue;
        publish_wide(keys[i], 2);
        free++;
    }
    assert_true(free > 0);
    await_told(1 + free);
    for (size_t i = 1; i <= free; i++)
        assert_int_equal(told.at[i].user, 2);
    fake_release(fake);
}

static void messages_linger_until_their_batch_is_full_or_flushed(void **state)
{
    (void)state;
    open_with(
        (struct sluice_options){.linger_ms = 1000000, .batch_records_max = 5, .request_timeout_ms = 1000000});
    for (uintptr_t i = 0; i < 7; i++)
        publish_async("x", i);
    await_told(5);
    assert_int_equal(fake_count(fake, VERB_PRODUCE), 2);
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
    assert_int_equal(fake_seen(fake, VERB_PRODUCE, 2).produce.count, 2);
}

static void messages_linger_for_their_time_and_no_longer(void **state)
{
    (void)state;
    enum { LINGER_MS = 30 };
    open_with((struct sluice_options){.linger_ms = LINGER_MS});
    uint64_t began;
    size_t n = 0, before;
    do { /* until nothing held us up between the two */
        before = fake_count(fake, VERB_PRODUCE);
        began = clock_mono_ms();
        publish_async("x", n++);
        publish_async("y", n++);
        began = clock_mono_ms() - began;
        await_told(n);
    } while (began >= LINGER_MS);
    assert_int_equal(fake_count(fake, VERB_PRODUCE), before + 1);
}

static atomic_int sync_failures;

static void *publish_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50; i++) {
        struct sluice_message m = message("x");
        if (sluice_publish(client, &m, NULL, NULL) != 0)
            atomic_fetch_add(&sync_failures, 1);
    }
    return NULL;
}

static void many_threads_that_publish_at_once_share_batches(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    pthread_t threads[8];
    atomic_store(&sync_failures, 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_create(&threads[i], NULL, publish_many, NULL);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&sync_failures), 0);
    assert_int_equal(fake_stored(fake, "t", 0), 401);
    assert_true(fake_count(fake, VERB_PRODUCE) < 400);
}

/* ---- numbers */

static void a_request_repeated_after_a_lost_connection_carries_the_same_number(void **state)
{
    (void)state;
    enum fake_action losses[] = {FAKE_LOSE, FAKE_DO_LOSE,
                                 FAKE_GARBLE}; /* before it was done, after, and by damage */
    for (size_t i = 0; i < ARRAY_LEN(losses); i++) {
        open_with((struct sluice_options){0});
        size_t produces = fake_count(fake, VERB_PRODUCE), stored = fake_stored(fake, "t", 0);
        struct trouble lose = {.times = 1, .action = losses[i]};
        fake_set_script(fake, make_trouble, &lose);
        struct sluice_message m = message("once");
        struct sluice_receipt receipt;
        assert_int_equal(sluice_publish(client, &m, &receipt, &err), 0);
        assert_int_equal(receipt.offset, stored);
        assert_int_equal(fake_stored(fake, "t", 0), stored + 1);
        struct fake_seen first = fake_seen(fake, VERB_PRODUCE, produces),
                         again = fake_seen(fake, VERB_PRODUCE, produces + 1);
        assert_int_equal(fake_count(fake, VERB_PRODUCE), produces + 2);
        assert_int_equal(first.seq, again.seq);
        assert_int_equal(first.produce.hash, again.produce.hash);
        assert_int_not_equal(first.pipe, again.pipe);
        struct sluice_stats stats = {.size = sizeof stats};
        sluice_stats(client, &stats);
        assert_int_equal(stats.repeated, 1);
        sluice_close(client, 1000, NULL, NULL);
        client = NULL;
        fake_set_script(fake, NULL, NULL);
    }
}

static void a_client_says_which_replies_it_has_seen(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    for (uint64_t i = 1; i <= 3; i++) {
        struct sluice_message m = message("x");
        assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
        struct fake_seen s = fake_seen(fake, VERB_PRODUCE, i);
        assert_int_equal(s.seq, i + 1);
        assert_int_equal(s.replies_seen, i);
    }
}

static void check_in_order(size_t first, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char value[24];
        snprintf(value, sizeof value, "%zu", i);
        assert_true(value_is("t", 0, first + i, value));
        assert_int_equal(told.at[i].user, i);
    }
}

static void publish_numbers(size_t n)
{
    for (uintptr_t i = 0; i < n; i++) {
        char value[24];
        snprintf(value, sizeof value, "%zu", (size_t)i);
        publish_async(value, i);
    }
}

static void a_window_cut_anywhere_is_repeated_in_order_and_done_once(void **state)
{
    (void)state;
    open_with((struct sluice_options){.batch_records_max = 1});
    for (int cut = 0; cut < 5; cut++) {
        size_t stored = fake_stored(fake, "t", 0);
        told.n = 0;
        struct trouble lose = {.times = cut, .action = FAKE_DO_LOSE};
        fake_set_script(fake, make_trouble, &lose);
        publish_numbers(40);
        assert_int_equal(sluice_flush(client, 20000, &err), 0);
        assert_int_equal(told.n, 40);
        assert_int_equal(fake_stored(fake, "t", 0), stored + 40);
        check_in_order(stored, 40);
        fake_set_script(fake, NULL, NULL);
    }
}

/* ---- refusals */

static void what_is_refused_for_load_is_sent_again_and_order_is_kept(void **state)
{
    (void)state;
    int codes[] = {E_OVERLOADED, E_DISK_FULL, E_SHUTTING_DOWN, E_OUT_OF_ORDER};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        open_with((struct sluice_options){.batch_records_max = 1});
        size_t stored = fake_stored(fake, "t", 0);
        told.n = 0;
        struct trouble refuse = {.times = 3, .action = FAKE_ANSWER, .code = codes[i], .retry_after_ms = 2};
        fake_set_script(fake, make_trouble, &refuse);
        publish_numbers(30);
        assert_int_equal(sluice_flush(client, 20000, &err), 0);
        assert_int_equal(told.n, 30);
        check_in_order(stored, 30);
        sluice_close(client, 0, NULL, NULL);
        client = NULL;
        fake_set_script(fake, NULL, NULL);
    }
}

/* Both are under way; then the first is refused, and the second goes on being held. */
static enum fake_action hold_then_refuse_first(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    const bool *released = user;
    if (r->verb != VERB_PRODUCE)
        return FAKE_DO;
    if (!*released || r->seq != 2) /* 1 was the first, when the client was opened */
        return FAKE_HOLD;
    *reply = (struct wire_reply){.code = E_OVERLOADED, .retry_after_ms = 2};
    return FAKE_ANSWER;
}

/* The lane goes on when nobody in it has a number. The second has one, and is not asked about again if the first, which has none and waits for
 * that, is in its way. */
static void behind_one_that_was_refused_what_was_under_way_when_the_connection_was_lost_is_repeated(void **state)
{
    (void)state;
    static bool released = false;
    open_with((struct sluice_options){.batch_records_max = 1});
    size_t stored = fake_stored(fake, "t", 0);
    fake_set_script(fake, hold_then_refuse_first, &released);
    publish_numbers(2);
    fake_await(fake, VERB_PRODUCE, 3);
    released = true;
    fake_release(fake);
    struct sluice_health health = {.size = sizeof health};
    assert_int_equal(sluice_health(client, 20000, &health, &err), 0); /* answered behind the refusal, which has arrived then */
    fake_set_script(fake, NULL, NULL);
    fake_cut(fake);
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
    assert_int_equal(told.n, 2);
    check_in_order(stored, 2);
}

static void a_batch_refused_for_good_fails_alone_and_gives_its_number_to_the_next(void **state)
{
    (void)state;
    open_with((struct sluice_options){.batch_records_max = 1});
    static struct trouble refuse = {.times = 1, .action = FAKE_ANSWER, .code = E_LIMIT};
    fake_set_script(fake, make_trouble, &refuse);
    publish_numbers(10);
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
    assert_int_equal(told.n, 10);
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(told.at[i].user, i);
        assert_int_equal(told.at[i].code, i == 0 ? SLUICE_LIMIT : 0);
    }
    assert_int_equal(fake_stored(fake, "t", 0), 10);
    struct fake_seen refused = fake_seen(fake, VERB_PRODUCE, 1);
    assert_int_equal(refused.seq, 2);
    struct sluice_message m = message("x");
    assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
    assert_int_equal(fake_seen(fake, VERB_PRODUCE, fake_count(fake, VERB_PRODUCE) - 1).seq, 11);
}

static void a_refusal_that_lasts_is_the_error_when_time_is_up(void **state)
{
    (void)state;
    open_with((struct sluice_options){.request_timeout_ms = 1000});
    static struct trouble refuse = {
        .times = 1000000, .action = FAKE_ANSWER, .code = E_DISK_FULL, .retry_after_ms = 2400};
    fake_set_script(fake, make_trouble, &refuse);
    struct sluice_message m = message("x");
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_DISK_FULL); /* in the rest, which takes half of that at least */
    assert_has(err.text, "topic 't'");
    assert_int_equal(err.retry_after_ms, 2400);
    fake_set_script(fake, NULL, NULL);
    poll(NULL, 0, 700); /* or the rest might end with the time of a call, which then does not know what became of it */
    int code;
    while ((code = sluice_publish(client, &m, NULL, &err)) == SLUICE_DISK_FULL)
        assert_has(err.text, "topic 't'");
    assert_int_equal(code, 0);
    assert_int_equal(fake_seen(fake, VERB_PRODUCE, fake_count(fake, VERB_PRODUCE) - 1).seq, 2);
    assert_int_equal(fake_stored(fake, "t", 0), 2);
}

static void a_timeout_leaves_the_outcome_unknown_and_the_lane_goes_on_once_it_is_known(void **state)
{
    (void)state;
    open_with((struct sluice_options){.request_timeout_ms = 1000});
    static struct trouble hold = {.times = 1, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    struct sluice_message m = message("slow");
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_TIMEOUT);
    assert_has(err.text, "outcome is unknown");
    fake_release(fake);
    int code;
    while ((code = sluice_publish(
                client, &(struct sluice_message){.size = sizeof m, .topic = "t", .value = SLUICE_STR("next")},
                NULL, &err)) == SLUICE_TIMEOUT)
        ;
    assert_int_equal(code, 0);
    assert_true(value_is("t", 0, 1, "slow"));
    assert_int_equal(fake_seen(fake, VERB_PRODUCE, 1).seq, 2);
}

static void a_topic_made_anew_is_found_again(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_forget_topic(fake, "t");
    struct sluice_message m = message("x");
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_PARTITION_NOT_FOUND);
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_TOPIC_NOT_FOUND);
    fake_topic(fake, "t", 1);
    assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
    assert_int_equal(fake_stored(fake, "t", 0), 1);
}

/* ---- the memory cap */

static void the_memory_cap_refuses_and_recovers(void **state)
{
    (void)state;
    enum { CAP = 1 << 20 };
    open_with((struct sluice_options){.memory_max = CAP});
    static struct trouble hold = {.times = 1000000, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    static char value[10000];
    struct sluice_message m = message("x");
    m.value = (struct sluice_bytes){value, sizeof value};
    size_t taken = 0;
    int code;
    while ((code = sluice_publish_async(client, &m, tell, (void *)taken, &err)) == 0)
        taken++;
    assert_int_equal(code, SLUICE_QUEUE_FULL);
    assert_has(err.text, "memory_max");
    assert_true(taken >= CAP / sizeof value / 2 && taken <= CAP / sizeof value);
    struct sluice_stats stats = {.size = sizeof stats};
    sluice_stats(client, &stats);
    assert_true(stats.memory_bytes <= CAP);
    fake_set_script(fake, NULL, NULL);
    fake_release(fake);
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
    assert_int_equal(told.n, taken);
    assert_int_equal(sluice_publish_async(client, &m, tell, NULL, &err), 0);
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
    assert_int_equal(fake_stored(fake, "t", 0), taken + 2);
}

static void *release_when_asked(void *arg)
{
    (void)arg;
    fake_set_script(fake, NULL, NULL);
    fake_release(fake);
    return NULL;
}

static void blocking_publish_waits_at_the_memory_cap(void **state)
{
    (void)state;
    open_with((struct sluice_options){.memory_max = 1 << 20});
    static struct trouble hold = {.times = 1000000, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    static char value[10000];
    struct sluice_message m = message("x");
    m.value = (struct sluice_bytes){value, sizeof value};
    while (sluice_publish_async(client, &m, NULL, NULL, &err) == 0)
        ;
    pthread_t thread;
    pthread_create(&thread, NULL, release_when_asked, NULL);
    assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
    pthread_join(thread, NULL);
}

static void blocking_publish_gives_up_at_the_memory_cap_when_its_time_is_up(void **state)
{
    (void)state;
    open_with(
        (struct sluice_options){.memory_max = 1 << 20, .request_timeout_ms = 1000, .batch_records_max = 1});
    static struct trouble hold = {.times = 1000000, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    static char value[400000];
    struct sluice_message m = message("x");
    m.value = (struct sluice_bytes){value, sizeof value};
    int code;
    do /* what is sent may have been done, so it is kept until that is known */
        code = sluice_publish(client, &m, NULL, &err);
    while (code == SLUICE_TIMEOUT);
    assert_int_equal(code, SLUICE_QUEUE_FULL);
}

/* ---- the end */

static void close_sends_what_is_waiting(void **state)
{
    (void)state;
    open_with((struct sluice_options){.linger_ms = 1000000});
    for (uintptr_t i = 0; i < 100; i++)
        publish_async("x", i);
    uint64_t undelivered = 77;
    assert_int_equal(sluice_close(client, 20000, &undelivered, &err), 0);
    client = NULL;
    assert_int_equal(undelivered, 0);
    assert_int_equal(told.n, 100);
    assert_int_equal(fake_stored(fake, "t", 0), 101);
    assert_int_equal(fake_count(fake, VERB_BYE), 1);
}

static void close_reports_what_was_not_delivered_and_tells_each(void **state)
{
    (void)state;
    open_with((struct sluice_options){.batch_records_max = 3});
    static struct trouble hold = {.times = 1000000, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    for (uintptr_t i = 0; i < 100; i++)
        publish_async("x", i);
    uint64_t undelivered = 0;
    assert_int_equal(sluice_close(client, 50, &undelivered, &err), SLUICE_NOT_DELIVERED);
    client = NULL;
    assert_int_equal(undelivered, 100);
    assert_has(err.text, "100");
    assert_int_equal(told.n, 100);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(told.at[i].user, i);
        assert_int_equal(told.at[i].code, SLUICE_NOT_DELIVERED);
    }
}

static void close_does_not_wait_for_a_broker_that_is_gone(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_deaf(fake);
    publish_async("x", 0);
    uint64_t undelivered;
    assert_int_equal(sluice_close(client, 20, &undelivered, &err), SLUICE_NOT_DELIVERED);
    client = NULL;
    assert_int_equal(undelivered, 1);
    fake_hear(fake);
}

static void flush_says_when_some_is_still_out(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    static struct trouble hold = {.times = 1, .action = FAKE_HOLD};
    fake_set_script(fake, make_trouble, &hold);
    publish_async("x", 0);
    assert_int_equal(sluice_flush(client, 20, &err), SLUICE_TIMEOUT);
    fake_release(fake);
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
    assert_int_equal(told.n, 1);
}

/* ---- what waits for its time */

static void a_message_with_a_time_is_told_under_which_name_it_waits(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    struct sluice_receipt receipt;
    struct sluice_message m = message("tomorrow");
    m.at_ms = 1900000000000;
    m.schedule = "wake-up";
    assert_int_equal(sluice_publish(client, &m, &receipt, &err), 0);
    assert_string_equal(receipt.schedule, "wake-up");
    assert_true(receipt.due_ms == 1900000000000 && receipt.offset == UINT64_MAX);
    m.at_ms = 0;
    m.schedule = NULL;
    m.cron = "0 3 * * 1";
    assert_int_equal(sluice_publish(client, &m, &receipt, &err), 0);
    assert_string_equal(receipt.schedule, "made-up");
    struct fake_seen at = fake_seen(fake, VERB_PRODUCE, 1), cron = fake_seen(fake, VERB_PRODUCE, 2);
    assert_true(at.produce.at_ms == 1900000000000);
    assert_string_equal(at.produce.name, "wake-up");
    assert_string_equal(cron.produce.cron, "0 3 * * 1");
    assert_int_equal(fake_stored(fake, "t", 0), 1); /* neither has an offset yet */
    m = message("now");
    assert_int_equal(sluice_publish(client, &m, &receipt, &err), 0);
    assert_string_equal(receipt.schedule, "");
    assert_true(receipt.due_ms == 0 && receipt.offset == 1);
}

static void times_that_contradict_each_other_are_refused_here(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    size_t before = fake_count(fake, VERB_PRODUCE);
    struct sluice_message m = message("x");
    m.delay_ms = 1;
    m.at_ms = 1;
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_INVALID_ARGUMENT);
    m.delay_ms = m.at_ms = 0;
    m.schedule = "a-name";
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "a-name");
    m.schedule = NULL;
    m.cron = "";
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "cron");
    assert_int_equal(fake_count(fake, VERB_PRODUCE), before);
}

/* ---- duplicates */

/* Refuses the first produce of more than `below` records as a broker that knows some of their ids. */
struct known {
    uint32_t at[8], n, times;
};

static enum fake_action some_are_known(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    struct known *k = user;
    if (r->verb != VERB_PRODUCE || r->produce.count <= k->n || k->times == 0)
        return FAKE_DO;
    k->times--;
    reply->code = E_DUPLICATE;
    reply->body = BODY_PRODUCE;
    reply->produce = (struct wire_produced){.duplicates = k->at, .duplicates_n = k->n};
    return FAKE_ANSWER;
}

static void duplicates_are_left_out_of_their_batch_and_the_rest_is_sent_under_its_number(void **state)
{
    (void)state;
    open_with((struct sluice_options){.linger_ms = 60000});
    static struct known known = {.at = {0, 3, 4}, .n = 3, .times = 1};
    fake_set_script(fake, some_are_known, &known);
    for (uintptr_t i = 0; i < 6; i++) {
        char value[16], id[16];
        snprintf(value, sizeof value, "value %d", (int)i);
        snprintf(id, sizeof id, "id-%d", (int)i);
        struct sluice_message m = message(value);
        struct sluice_header header = {"n", sluice_str(value)};
        m.key = SLUICE_STR("k");
        m.headers = &header;
        m.headers_count = 1;
        m.message_id = id;
        m.priority = 3;
        assert_int_equal(sluice_publish_async(client, &m, tell, (void *)i, &err), 0);
    }
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
    await_told(6);
    struct fake_seen refused = fake_seen(fake, VERB_PRODUCE, 1), rest = fake_seen(fake, VERB_PRODUCE, 2);
    assert_int_equal(refused.produce.count, 6);
    assert_int_equal(rest.produce.count, 3);
    assert_int_equal(rest.seq, refused.seq);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(told.at[i].user, i);
        assert_int_equal(told.at[i].code, 0);
        assert_int_equal(told.at[i].receipt.duplicate, i == 0 || i == 3 || i == 4);
    }
    assert_int_equal(told.at[1].receipt.offset, 1);
    assert_int_equal(told.at[2].receipt.offset, 2);
    assert_int_equal(told.at[5].receipt.offset, 3);
    struct record r = fake_record(fake, "t", 0, 3);
    struct view header;
    assert_true(view_eq(r.value, VIEW_LIT("value 5")) && view_eq(r.key, VIEW_LIT("k")) && r.priority == 3);
    assert_true(headers_find(r.headers, VIEW_LIT("n"), &header) && view_eq(header, VIEW_LIT("value 5")));
    assert_true(id128_eq(r.message_id, message_id_hash(VIEW_LIT("id-5"))));
}

static void what_follows_a_batch_with_duplicates_stays_behind_it(void **state)
{
    (void)state;
    open_with((struct sluice_options){.batch_records_max = 4});
    static struct known known = {.at = {1}, .n = 1, .times = 3}; /* the rest of a batch may have more of them */
    fake_set_script(fake, some_are_known, &known);
    for (uintptr_t i = 0; i < 40; i++) {
        char value[16];
        snprintf(value, sizeof value, "%02d", (int)i);
        struct sluice_message m = message(value);
        m.message_id = value;
        assert_int_equal(sluice_publish_async(client, &m, tell, (void *)i, &err), 0);
    }
    assert_int_equal(sluice_flush(client, 20000, &err), 0);
    await_told(40);
    size_t duplicates = 0, last = 0;
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(told.at[i].user, i);
        assert_int_equal(told.at[i].code, 0);
        duplicates += told.at[i].receipt.duplicate;
    }
    assert_int_equal(duplicates, 3 - known.times);
    assert_int_equal(fake_stored(fake, "t", 0), 1 + 40 - duplicates);
    for (size_t i = 1; i < fake_stored(fake, "t", 0); i++) {
        struct view v = fake_record(fake, "t", 0, i).value;
        size_t n = (size_t)(v.data[0] - '0') * 10 + (size_t)(v.data[1] - '0');
        assert_true(i == 1 || n > last);
        last = n;
    }
}

static enum fake_action whole_is_known(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    (void)user;
    if (r->verb != VERB_PRODUCE)
        return FAKE_DO;
    reply->body = BODY_PRODUCE;
    reply->durability = DURABILITY_DISK;
    reply->produce = (struct wire_produced){.count = r->produce.count, .base_offset = 17, .duplicate = true};
    return FAKE_ANSWER;
}

static void a_message_id_that_was_there_is_confirmed_as_a_duplicate(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    fake_set_script(fake, whole_is_known, NULL);
    struct sluice_message m = message("x");
    struct sluice_receipt receipt;
    m.message_id = "id-1";
    assert_int_equal(sluice_publish(client, &m, &receipt, &err), 0);
    assert_true(receipt.duplicate);
    assert_int_equal(receipt.offset, 17);
}

static void an_own_repeat_after_a_lost_answer_is_no_duplicate(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    static struct trouble lose = {.times = 1, .action = FAKE_DO_LOSE};
    fake_set_script(fake, make_trouble, &lose);
    struct sluice_message m = message("x");
    struct sluice_receipt receipt;
    m.message_id = "id-1";
    assert_int_equal(sluice_publish(client, &m, &receipt, &err), 0);
    assert_false(receipt.duplicate);
    assert_int_equal(receipt.offset, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(publishing_returns_where_the_message_is_and_on_what_it_stands),
        TEST(a_message_arrives_with_all_its_fields),
        TEST(an_absent_value_and_an_empty_one_stay_different),
        TEST(a_key_has_its_partition_and_messages_without_one_go_round),
        TEST(a_delayed_message_goes_alone_with_its_delay),
        TEST(a_message_with_a_time_is_told_under_which_name_it_waits),
        TEST(times_that_contradict_each_other_are_refused_here),
        TEST(duplicates_are_left_out_of_their_batch_and_the_rest_is_sent_under_its_number),
        TEST(what_follows_a_batch_with_duplicates_stays_behind_it),
        TEST(a_message_id_that_was_there_is_confirmed_as_a_duplicate),
        TEST(an_own_repeat_after_a_lost_answer_is_no_duplicate),
        TEST(what_no_broker_would_take_is_refused_before_it_is_sent),
        TEST(callbacks_come_in_order_with_consecutive_offsets),
        TEST(what_comes_while_a_request_is_out_goes_in_the_next_one),
        TEST(many_partitions_do_not_make_smaller_batches_of_messages_without_keys),
        TEST(the_turn_is_the_next_partitions_as_soon_as_a_batch_is_full),
        TEST(a_message_with_a_key_waits_for_those_of_its_partition_only),
        TEST(messages_linger_until_their_batch_is_full_or_flushed),
        TEST(messages_linger_for_their_time_and_no_longer),
        TEST(many_threads_that_publish_at_once_share_batches),
        TEST(a_request_repeated_after_a_lost_connection_carries_the_same_number),
        TEST(a_client_says_which_replies_it_has_seen),
        TEST(a_window_cut_anywhere_is_repeated_in_order_and_done_once),
        TEST(what_is_refused_for_load_is_sent_again_and_order_is_kept),
        TEST(behind_one_that_was_refused_what_was_under_way_when_the_connection_was_lost_is_repeated),
        TEST(a_batch_refused_for_good_fails_alone_and_gives_its_number_to_the_next),
        TEST(a_refusal_that_lasts_is_the_error_when_time_is_up),
        TEST(a_timeout_leaves_the_outcome_unknown_and_the_lane_goes_on_once_it_is_known),
        TEST(a_topic_made_anew_is_found_again),
        TEST(the_memory_cap_refuses_and_recovers),
        TEST(blocking_publish_waits_at_the_memory_cap),
        TEST(blocking_publish_gives_up_at_the_memory_cap_when_its_time_is_up),
        TEST(close_sends_what_is_waiting),
        TEST(close_reports_what_was_not_delivered_and_tells_each),
        TEST(close_does_not_wait_for_a_broker_that_is_gone),
        TEST(flush_says_when_some_is_still_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

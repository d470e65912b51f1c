/* Messages that are leased before a call asks for them (receive option prefetch). */
#include "sdk_fake.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/macros.h"
#include "schemas/errors.h"

static struct fake *fake;
static struct sluice *client;
static struct sluice_error err;

static int setup(void **state)
{
    (void)state;
    fake = fake_open(NULL);
    fake_topic(fake, "t", 1);
    fake_group(fake, "t", "g");
    fake_group(fake, "t", "h");
    struct sluice_options o = {.size = sizeof o, .broker = fake_url(fake), .request_timeout_ms = 20000};
    assert_int_equal(sluice_open(&client, &o, &err), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_set_script(fake, NULL, NULL);
    sluice_close(client, 0, NULL, NULL);
    fake_close(fake);
    return 0;
}

static void give(const char *group, unsigned from, unsigned to)
{
    char value[16];
    for (; from < to; from++) {
        snprintf(value, sizeof value, "%u", from);
        fake_give(fake, group, value, false);
    }
}

static struct sluice_batch *receive(const char *group, struct sluice_receive_options o)
{
    struct sluice_batch *b = NULL;
    o.size = sizeof o;
    if (sluice_receive(client, "t", group, &o, &b, &err) != 0)
        fail_msg("%s", err.text);
    return b;
}

/* They are these, in order; acknowledged, if it is asked for, else given back. */
static void are(struct sluice_batch *b, unsigned from, unsigned to, bool ack)
{
    assert_int_equal(sluice_batch_count(b), to - from);
    for (unsigned i = 0; from + i < to; i++) {
        char value[16];
        snprintf(value, sizeof value, "%u", from + i);
        const struct sluice_delivery *d = sluice_batch_message(b, i);
        if (d->value.size != strlen(value) || memcmp(d->value.data, value, d->value.size) != 0)
            fail_msg("'%.*s' came instead of '%s'", (int)d->value.size, (const char *)d->value.data, value);
        if (ack)
            assert_int_equal(sluice_ack(b, i, &err), 0);
    }
    sluice_batch_free(b);
}

/* How many there were so far, also those that a settle took along. */
static unsigned polls(void)
{
    unsigned n = (unsigned)fake_count(fake, VERB_RECEIVE);
    for (size_t i = 0; i < fake_count(fake, VERB_SETTLE); i++)
        n += fake_seen(fake, VERB_SETTLE, i).settle.carries;
    return n;
}

static unsigned released(void)
{
    unsigned n = 0;
    for (size_t i = 0; i < fake_count(fake, VERB_SETTLE); i++)
        n += fake_seen(fake, VERB_SETTLE, i).settle.verbs[SETTLE_RELEASE];
    return n;
}

/* No poll is answered any more. */
static enum fake_action hold_polls(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    (void)user;
    (void)reply;
    return r->verb == VERB_RECEIVE ? FAKE_HOLD : FAKE_DO;
}

/* Until the client has taken in what was answered. */
static void settle_down(void)
{
    struct sluice_health h = {.size = sizeof h};
    assert_int_equal(sluice_health(client, 10000, &h, &err), 0);
}

/* One message was received, and so many are here ahead of calls. */
static void stock(const char *group, uint32_t prefetch, uint32_t lease_ms)
{
    are(receive(group, (struct sluice_receive_options){.max_messages = 1, .wait_ms = 20000, .prefetch = prefetch, .lease_ms = lease_ms}),
        0, 1, false);
    fake_await(fake, VERB_RECEIVE, 2);
    struct fake_seen s = fake_seen(fake, VERB_RECEIVE, 1);
    assert_int_equal(s.receive.max_messages, prefetch);
    assert_int_equal(s.receive.wait_ms, 0);
    settle_down();
}

static void calls_find_what_was_leased_ahead_without_asking_the_broker(void **state)
{
    (void)state;
    give("g", 0, 9);
    stock("g", 8, 0);
    fake_set_script(fake, hold_polls, NULL);
    for (unsigned i = 1; i < 9; i += 2)
        are(receive("g", (struct sluice_receive_options){.max_messages = 2, .wait_ms = 20000, .prefetch = 8}), i, i + 2, true);
}

static void without_prefetch_nothing_is_leased_that_no_call_asked_for(void **state)
{
    (void)state;
    give("g", 0, 20);
    for (unsigned i = 0; i < 20; i++)
        are(receive("g", (struct sluice_receive_options){.max_messages = 1, .wait_ms = 20000}), i, i + 1, true);
    settle_down();
    assert_int_equal(polls(), 20);
    assert_int_equal(released(), 0);
}

static void never_more_than_prefetch_is_leased_beyond_what_calls_took(void **state)
{
    (void)state;
    enum { PREFETCH = 10, MESSAGES = 200 };
    give("g", 0, MESSAGES);
    for (unsigned i = 0; i < MESSAGES;) {
        struct sluice_batch *b = receive("g", (struct sluice_receive_options){.max_messages = 3, .wait_ms = 20000, .prefetch = PREFETCH});
        unsigned n = (unsigned)sluice_batch_count(b);
        assert_in_range(n, 1, 3);
        are(b, i, i + n, false);
        i += n;
        settle_down();
        uint64_t asked = 0;
        for (size_t k = 0; k < fake_count(fake, VERB_RECEIVE); k++)
            asked += fake_seen(fake, VERB_RECEIVE, k).receive.max_messages;
        for (size_t k = 0; k < fake_count(fake, VERB_SETTLE); k++)
            asked += fake_seen(fake, VERB_SETTLE, k).settle.max_messages;
        assert_true(asked <= i + PREFETCH + 3);
    }
}

static void an_empty_group_is_not_asked_again_and_again(void **state)
{
    (void)state;
    give("g", 0, 3);
    stock("g", 2, 0);
    are(receive("g", (struct sluice_receive_options){.max_messages = 2, .wait_ms = 20000, .prefetch = 2}), 1, 3, true);
    /* one poll ahead finds nothing; then the call waits at the broker as any other */
    are(receive("g", (struct sluice_receive_options){.max_messages = 2, .wait_ms = 500, .prefetch = 2}), 0, 0, false);
    settle_down();
    assert_in_range(polls(), 3, 4);
    assert_int_equal(fake_seen(fake, VERB_RECEIVE, fake_count(fake, VERB_RECEIVE) - 1).receive.wait_ms > 0, 1);
}

static void what_no_call_took_for_half_of_its_lease_is_given_back_and_nothing_more_is_leased(void **state)
{
    (void)state;
    give("g", 0, 50);
    stock("g", 4, 200);
    for (int i = 0; released() < 1 + 4; i++) { /* the first, which it gives back itself, and these */
        assert_in_range(i, 0, 100000);
        settle_down();
    }
    settle_down();
    assert_int_equal(released(), 1 + 4);
    assert_int_equal(polls(), 2);
}

static void closing_gives_back_what_was_leased_ahead_before_it_says_bye(void **state)
{
    (void)state;
    give("g", 0, 9);
    stock("g", 8, 0);
    unsigned before = released();
    assert_int_equal(sluice_close(client, 20000, NULL, &err), 0);
    client = NULL;
    assert_int_equal(released(), before + 8);
    assert_int_equal(fake_count(fake, VERB_BYE), 1);
    assert_int_equal(fake_seen(fake, VERB_NONE, fake_count(fake, VERB_NONE) - 1).verb, VERB_BYE);
}

static void groups_have_stocks_of_their_own(void **state)
{
    (void)state;
    give("g", 0, 4);
    give("h", 100, 104);
    stock("g", 3, 0);
    are(receive("h", (struct sluice_receive_options){.max_messages = 4, .wait_ms = 0}), 100, 104, true);
    fake_set_script(fake, hold_polls, NULL);
    are(receive("g", (struct sluice_receive_options){.max_messages = 10, .wait_ms = 20000}), 1, 4, true);
}

static void a_prefetch_that_is_too_large_is_refused_by_name(void **state)
{
    (void)state;
    struct sluice_batch *b;
    struct sluice_receive_options o = {.size = sizeof o, .prefetch = 65537};
    assert_int_equal(sluice_receive(client, "t", "g", &o, &b, &err), SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "prefetch: 65537");
}

/* ---- several threads */

enum { THREADS = 4, EACH = 500 };
static atomic_uint taken[THREADS * EACH];

static void *take_all(void *arg)
{
    atomic_uint *left = arg;
    while (atomic_load(left) > 0) {
        struct sluice_receive_options o = {.size = sizeof o, .max_messages = 7, .wait_ms = 20, .prefetch = 50};
        struct sluice_batch *b;
        if (sluice_receive(client, "t", "g", &o, &b, NULL) != 0)
            return arg;
        for (size_t i = 0; i < sluice_batch_count(b); i++) {
            if (sluice_ack(b, i, NULL) != 0)
                return arg;
            atomic_fetch_add(&taken[sluice_batch_message(b, i)->offset], 1);
            atomic_fetch_sub(left, 1);
        }
        sluice_batch_free(b);
    }
    return NULL;
}

static void each_message_comes_to_one_call_however_many_take_from_a_stock(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    atomic_uint left = THREADS * EACH;
    give("g", 0, THREADS * EACH);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_all, &left), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    for (int i = 0; i < THREADS * EACH; i++)
        assert_int_equal(taken[i], 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(calls_find_what_was_leased_ahead_without_asking_the_broker),
        TEST(without_prefetch_nothing_is_leased_that_no_call_asked_for),
        TEST(never_more_than_prefetch_is_leased_beyond_what_calls_took),
        TEST(an_empty_group_is_not_asked_again_and_again),
        TEST(what_no_call_took_for_half_of_its_lease_is_given_back_and_nothing_more_is_leased),
        TEST(closing_gives_back_what_was_leased_ahead_before_it_says_bye),
        TEST(groups_have_stocks_of_their_own),
        TEST(a_prefetch_that_is_too_large_is_refused_by_name),
        TEST(each_message_comes_to_one_call_however_many_take_from_a_stock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A settle takes the next receive along: one request for two, and everything that can go wrong with it.
 *
 * Whether a settle and a call that wants messages meet in one round of the client is a matter of microseconds: they mostly do when a
 * thread settles without waiting and receives right after. So each test goes on with that until it happened as often as it needs.
 */
#include "sdk_fake.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "base/macros.h"
#include "schemas/errors.h"

enum { ROUNDS_MAX = 3000 };

static struct fake *fake;
static struct sluice *client;
static struct sluice_error err;
static atomic_uint settled, failed;

static void open_with(struct sluice_options o)
{
    o.size = sizeof o;
    o.broker = fake_url(fake);
    assert_int_equal(sluice_open(&client, &o, &err), 0);
}

static int setup(void **state)
{
    (void)state;
    fake = fake_open(NULL);
    fake_topic(fake, "t", 1);
    fake_group(fake, "t", "g");
    settled = failed = 0;
    client = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_set_script(fake, NULL, NULL);
    sluice_close(client, 1000, NULL, NULL);
    fake_close(fake);
    return 0;
}

static void tell(void *user, size_t index, const struct sluice_error *error)
{
    (void)user;
    (void)index;
    atomic_fetch_add(error == NULL ? &settled : &failed, 1);
}

static struct sluice_batch *receive(uint32_t wait_ms)
{
    struct sluice_batch *b;
    struct sluice_receive_options o = {.size = sizeof o, .max_messages = 1, .wait_ms = wait_ms};
    if (sluice_receive(client, "t", "g", &o, &b, &err) != 0)
        fail_msg("%s", err.text);
    return b;
}

/* Acknowledges the message of a batch without waiting. */
static void ack(struct sluice_batch *b)
{
    struct sluice_settle item = {.batch = b, .index = 0, .verb = SLUICE_ACK};
    assert_int_equal(sluice_settle_async(client, &item, 1, false, tell, NULL, &err), 0);
    sluice_batch_free(b);
}

/* One message, which must be the next that was given. */
static struct sluice_batch *receive_next(unsigned *next)
{
    struct sluice_batch *b = receive(20000);
    char value[16];
    snprintf(value, sizeof value, "%u", (*next)++);
    assert_int_equal(sluice_batch_count(b), 1);
    const struct sluice_delivery *d = sluice_batch_message(b, 0);
    if (d->value.size != strlen(value) || memcmp(d->value.data, value, d->value.size) != 0)
        fail_msg("'%.*s' came instead of '%s'", (int)d->value.size, (const char *)d->value.data, value);
    return b;
}

static void give(unsigned *given)
{
    char value[16];
    snprintf(value, sizeof value, "%u", (*given)++);
    fake_give(fake, "g", value, false);
}

static unsigned carried(void)
{
    unsigned n = 0;
    for (size_t i = 0; i < fake_count(fake, VERB_SETTLE); i++)
        n += fake_seen(fake, VERB_SETTLE, i).settle.carries;
    return n;
}

/* What becomes of settles that carry a receive: the first `times` of them. */
struct fate {
    atomic_int times;
    enum fake_action action;
    int code;
    sem_t *over; /* posted when it happened to all of them; NULL: nobody waits for that */
};

static enum fake_action befall(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    struct fate *f = user;
    if (r->verb != VERB_SETTLE || r->settle.receive == NULL || atomic_load(&f->times) <= 0)
        return FAKE_DO;
    if (atomic_fetch_sub(&f->times, 1) == 1 && f->over != NULL)
        sem_post(f->over);
    reply->code = (uint16_t)f->code;
    reply->retry_after_ms = 5;
    return f->action;
}

/* Receives and acknowledges, one after another, until all of that happened, and some more. How many messages there were. */
static unsigned go_on_until(struct fate *f)
{
    unsigned given = 0, next = 0;
    fake_set_script(fake, befall, f);
    give(&given);
    struct sluice_batch *b = receive_next(&next);
    for (unsigned more = 20; more > 0; more -= atomic_load(&f->times) <= 0) {
        assert_in_range(given, 0, ROUNDS_MAX);
        give(&given);
        ack(b);
        b = receive_next(&next);
    }
    ack(b);
    return given;
}

static void await_settled(unsigned n)
{
    for (unsigned i = 0; atomic_load(&settled) + atomic_load(&failed) < n; i++) {
        struct sluice_health h = {.size = sizeof h};
        assert_in_range(i, 0, 10000);
        assert_int_equal(sluice_health(client, 20000, &h, &err), 0);
    }
    assert_int_equal(atomic_load(&failed), 0);
    assert_int_equal(atomic_load(&settled), n);
}

/* ---------------------------------------------------------------- */

static void a_settle_takes_the_next_receive_along(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    static struct fate nothing = {.times = 50, .action = FAKE_DO};
    unsigned n = go_on_until(&nothing);
    await_settled(n);
    assert_true(fake_count(fake, VERB_RECEIVE) + fake_count(fake, VERB_SETTLE) <= 2 * n - 50);
    uint64_t counter = 0;
    for (size_t i = 0; i < fake_count(fake, VERB_SETTLE); i++) { /* a slot's counter rises, whoever carries it */
        struct fake_seen s = fake_seen(fake, VERB_SETTLE, i);
        if (!s.settle.carries)
            continue;
        assert_int_equal(s.settle.slot, 0);
        assert_true(s.settle.counter > counter);
        counter = s.settle.counter;
    }
}

static void one_that_finds_nothing_is_followed_by_a_poll_of_its_own(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    for (unsigned i = 0, empty = 0, given = 0; empty < 5; i++) {
        assert_in_range(i, 0, ROUNDS_MAX / 2);
        for (int k = 0; k < 2; k++) {
            give(&given);
            struct sluice_batch *b = receive(0);
            assert_int_equal(sluice_batch_count(b), 1);
            unsigned before = carried();
            size_t polls = fake_count(fake, VERB_RECEIVE);
            ack(b);
            if (k == 0)
                continue; /* there is one more */
            sluice_batch_free(receive(0));
            assert_true(fake_count(fake, VERB_RECEIVE) > polls);
            empty += carried() > before;
        }
    }
}

/* Receives and acknowledges, and waits for each. */
static void *receive_and_wait(void *n)
{
    for (int i = 0; i < *(int *)n; i++) {
        struct sluice_batch *b = receive(20000);
        assert_int_equal(sluice_ack(b, 0, NULL), 0);
        sluice_batch_free(b);
    }
    return NULL;
}

/* Else an answer that is awaited would come with the bytes of messages. */
static void what_a_call_waits_for_carries_nothing(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    unsigned given = 0;
    int each = 200;
    while (given < THREADS * 200)
        give(&given);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, receive_and_wait, &each), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(carried(), 0);
}

static void a_refused_one_goes_on_without_the_receive_which_goes_alone(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    static struct fate refused = {.times = 10, .action = FAKE_ANSWER, .code = E_OVERLOADED};
    unsigned n = go_on_until(&refused);
    await_settled(n);
    for (size_t i = 0, left = 10; i < fake_count(fake, VERB_SETTLE) && left > 0; i++) {
        struct fake_seen s = fake_seen(fake, VERB_SETTLE, i), again;
        if (!s.settle.carries)
            continue;
        size_t k = i + 1;
        while (fake_seen(fake, VERB_SETTLE, k).seq != s.seq)
            k++;
        again = fake_seen(fake, VERB_SETTLE, k);
        assert_false(again.settle.carries);
        assert_int_equal(again.settle.items, s.settle.items);
        left--;
    }
}

static void a_lost_one_is_repeated_as_it_was(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    static struct fate lost = {.times = 3, .action = FAKE_LOSE};
    unsigned n = go_on_until(&lost);
    await_settled(n);
    unsigned repeated = 0;
    for (size_t i = 0; i + 1 < fake_count(fake, VERB_SETTLE); i++) {
        struct fake_seen s = fake_seen(fake, VERB_SETTLE, i), again = fake_seen(fake, VERB_SETTLE, i + 1);
        if (again.seq != s.seq)
            continue;
        assert_true(s.settle.carries && again.settle.carries);
        assert_int_equal(again.settle.slot, s.settle.slot);
        assert_int_equal(again.settle.counter, s.settle.counter);
        repeated++;
    }
    assert_int_equal(repeated, 3);
}

/* Whoever settled was told that it took too long; who asked for messages gets them when the answer comes after all. */
static void messages_of_an_answer_that_comes_too_late_for_the_settle_are_delivered(void **state)
{
    (void)state;
    open_with((struct sluice_options){.request_timeout_ms = 1500}); /* once it is waited for */
    static struct fate held = {.times = 1, .action = FAKE_HOLD};
    unsigned given = 0, next = 0;
    fake_set_script(fake, befall, &held);
    give(&given);
    struct sluice_batch *b = receive_next(&next); /* the others as they come */
    while (atomic_load(&held.times) > 0) {
        assert_in_range(given, 0, ROUNDS_MAX);
        unsigned before = atomic_load(&failed);
        give(&given);
        ack(b);
        struct sluice_receive_options o = {.size = sizeof o, .max_messages = 1, .wait_ms = 1500};
        int code = sluice_receive(client, "t", "g", &o, &b, &err);
        bool was_held = atomic_load(&held.times) == 0;
        assert_int_equal(code, was_held ? SLUICE_TIMEOUT : 0);
        assert_int_equal(atomic_load(&failed), before + was_held);
    }
    fake_set_script(fake, NULL, NULL);
    fake_release(fake);
    for (size_t i = 0;; i++) { /* what nobody takes any more is released */
        struct fake_seen s = fake_seen(fake, VERB_SETTLE, fake_count(fake, VERB_SETTLE) - 1);
        if (s.settle.verbs[SETTLE_RELEASE] == 1)
            break;
        assert_in_range(i, 0, 10000);
        struct sluice_health h = {.size = sizeof h};
        assert_int_equal(sluice_health(client, 20000, &h, &err), 0);
    }
}

/* Ends the session once a settle that carries is held back. */
static void *end_session(void *arg)
{
    assert_int_equal(sem_wait(arg), 0);
    fake_forget_sessions(fake);
    fake_cut(fake);
    return NULL;
}

static void with_the_session_all_of_it_ends(void **state)
{
    (void)state;
    open_with((struct sluice_options){0});
    static sem_t over;
    static struct fate held = {.times = 1, .action = FAKE_HOLD, .over = &over};
    unsigned given = 0, next = 0;
    pthread_t thread;
    assert_int_equal(sem_init(&over, 0, 0), 0);
    fake_set_script(fake, befall, &held);
    give(&given);
    struct sluice_batch *b = receive_next(&next);
    assert_int_equal(pthread_create(&thread, NULL, end_session, &over), 0);
    int code = 0;
    while (code == 0) {
        struct sluice_receive_options o = {.size = sizeof o, .max_messages = 1, .wait_ms = 20000};
        assert_in_range(given, 0, ROUNDS_MAX);
        give(&given);
        ack(b);
        code = sluice_receive(client, "t", "g", &o, &b, &err);
    }
    pthread_join(thread, NULL);
    sem_destroy(&over);
    assert_int_equal(code, SLUICE_SESSION_EXPIRED);
    sluice_close(client, 1000, NULL, NULL);
    client = NULL;
    assert_int_equal(atomic_load(&failed), 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_settle_takes_the_next_receive_along),
        TEST(one_that_finds_nothing_is_followed_by_a_poll_of_its_own),
        TEST(what_a_call_waits_for_carries_nothing),
        TEST(a_refused_one_goes_on_without_the_receive_which_goes_alone),
        TEST(a_lost_one_is_repeated_as_it_was),
        TEST(messages_of_an_answer_that_comes_too_late_for_the_settle_are_delivered),
        TEST(with_the_session_all_of_it_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

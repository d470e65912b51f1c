#include "unit.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/inbox.h"
#include "base/macros.h"
#include "base/mem.h"

#define MS UINT64_C(1000000)

struct item {
    struct inbox_node node;
    int producer;
    int number;
};

static struct inbox in;

static int open_inbox(void **state)
{
    (void)state;
    return inbox_init(&in, 100, NULL);
}

static int close_inbox(void **state)
{
    (void)state;
    inbox_drain(&in);
    inbox_free(&in);
    return 0;
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void draining_takes_everything_in_the_order_of_pushes(void **state)
{
    (void)state;
    struct inbox_node a, b, c;
    assert_null(inbox_drain(&in));
    inbox_push(&in, &a, 0);
    inbox_push(&in, &b, 0);
    inbox_push(&in, &c, 0);
    assert_ptr_equal(inbox_drain(&in), &a);
    assert_ptr_equal(a.next, &b);
    assert_ptr_equal(b.next, &c);
    assert_null(c.next);
    assert_null(inbox_drain(&in));
    inbox_push(&in, &b, 0); /* and it works again after a drain */
    assert_ptr_equal(inbox_drain(&in), &b);
    assert_null(b.next);
}

static void bytes_are_those_pushed_and_not_drained(void **state)
{
    (void)state;
    struct inbox_node a, b;
    inbox_push(&in, &a, 30);
    inbox_push(&in, &b, 12);
    assert_int_equal(inbox_bytes(&in), 42);
    inbox_drain(&in);
    assert_int_equal(inbox_bytes(&in), 0);
}

static void an_offer_beyond_the_bound_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct inbox_node a, b, c;
    assert_true(inbox_offer(&in, &a, 60));
    assert_false(inbox_offer(&in, &b, 41));
    assert_false(inbox_offer(&in, &b, SIZE_MAX));
    assert_int_equal(inbox_bytes(&in), 60);
    assert_true(inbox_offer(&in, &b, 40));
    assert_false(inbox_offer(&in, &c, 1));
    inbox_push(&in, &c, 1000); /* a push is never refused */
    assert_ptr_equal(inbox_drain(&in), &a);
    assert_ptr_equal(b.next, &c);
    assert_true(inbox_offer(&in, &a, 1000)); /* alone, however large */
}

static void a_wait_ends_at_its_deadline_and_not_before(void **state)
{
    (void)state;
    uint64_t start = clock_mono_ns();
    assert_false(inbox_wait(&in, start + 30 * MS));
    assert_true(clock_mono_ns() >= start + 30 * MS);
    assert_false(inbox_wait(&in, 0)); /* long past: a look */
}

static void a_wait_with_something_there_returns_at_once(void **state)
{
    (void)state;
    struct inbox_node a;
    inbox_push(&in, &a, 0);
    assert_true(inbox_wait(&in, UINT64_MAX));
    assert_true(inbox_wait(&in, UINT64_MAX)); /* as long as it is not drained */
}

static void *push_soon(void *arg)
{
    sleep_ms(20);
    inbox_push(&in, arg, 0);
    return NULL;
}

static void a_push_gets_the_sleeper_up(void **state)
{
    (void)state;
    struct inbox_node a;
    pthread_t thread;
    pthread_create(&thread, NULL, push_soon, &a);
    assert_true(inbox_wait(&in, UINT64_MAX));
    assert_ptr_equal(inbox_drain(&in), &a);
    pthread_join(thread, NULL);
    /* Nothing is left over that would end the next wait early. */
    uint64_t start = clock_mono_ns();
    assert_false(inbox_wait(&in, start + 20 * MS));
    assert_true(clock_mono_ns() >= start + 20 * MS);
}

static void *wake_soon(void *arg)
{
    (void)arg;
    sleep_ms(20);
    inbox_wake(&in);
    return NULL;
}

static void a_wake_ends_the_present_wait_or_else_the_next_one(void **state)
{
    (void)state;
    pthread_t thread;
    pthread_create(&thread, NULL, wake_soon, NULL);
    assert_false(inbox_wait(&in, UINT64_MAX));
    pthread_join(thread, NULL);

    inbox_wake(&in);
    assert_false(inbox_wait(&in, UINT64_MAX));

    uint64_t start = clock_mono_ns();
    assert_false(inbox_wait(&in, start + 20 * MS)); /* one wake, one wait */
    assert_true(clock_mono_ns() >= start + 20 * MS);
}

static void on_signal(int signal_number)
{
    (void)signal_number;
}

static void *interrupt_soon(void *arg)
{
    sleep_ms(10);
    pthread_kill(*(pthread_t *)arg, SIGUSR1);
    return NULL;
}

static void a_signal_does_not_end_a_wait(void **state)
{
    (void)state;
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_signal}, NULL);
    pthread_t self = pthread_self(), thread;
    uint64_t start = clock_mono_ns();
    pthread_create(&thread, NULL, interrupt_soon, &self);
    assert_false(inbox_wait(&in, start + 50 * MS));
    assert_true(clock_mono_ns() >= start + 50 * MS);
    pthread_join(thread, NULL);
}

static void only_the_push_that_finds_a_sleeper_makes_the_descriptor_readable(void **state)
{
    (void)state;
    struct inbox_node a, b;
    struct pollfd p = {.fd = inbox_fd(&in), .events = POLLIN};
    inbox_push(&in, &a, 0);
    assert_int_equal(poll(&p, 1, 0), 0); /* nobody sleeps */
    assert_false(inbox_arm(&in));        /* and nobody may go to sleep now */
    inbox_disarm(&in);
    inbox_drain(&in);

    assert_true(inbox_arm(&in));
    assert_int_equal(poll(&p, 1, 0), 0);
    inbox_push(&in, &b, 0);
    assert_int_equal(poll(&p, 1, 0), 1);
    inbox_disarm(&in);
    assert_int_equal(poll(&p, 1, 0), 0);
}

enum { PRODUCERS = 4, EACH = 20000 };

static void *produce(void *arg)
{
    int producer = (int)(intptr_t)arg;
    for (int i = 0; i < EACH; i++) {
        struct item *item = mem_zalloc(sizeof *item);
        item->producer = producer;
        item->number = i;
        inbox_push(&in, &item->node, 1);
        if (i % 1000 == 0)
            sleep_ms(1); /* so that the consumer does sleep now and then */
    }
    return NULL;
}

static void from_many_threads_each_ones_order_is_kept_and_nothing_is_lost(void **state)
{
    (void)state;
    pthread_t threads[PRODUCERS];
    for (int i = 0; i < PRODUCERS; i++)
        pthread_create(&threads[i], NULL, produce, (void *)(intptr_t)i);
    int next[PRODUCERS] = {0};
    for (int got = 0; got < PRODUCERS * EACH;) {
        if (!inbox_wait(&in, clock_mono_ns() + 20000 * MS))
            fail_msg("asleep with %d of %d", got, PRODUCERS * EACH);
        for (struct inbox_node *n = inbox_drain(&in), *after; n != NULL; n = after, got++) {
            after = n->next;
            struct item *item = container_of(n, struct item, node);
            assert_int_equal(item->number, next[item->producer]++);
            mem_free(item);
        }
    }
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    assert_null(inbox_drain(&in));
    assert_int_equal(inbox_bytes(&in), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_inbox, close_inbox)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(draining_takes_everything_in_the_order_of_pushes),
        TEST(bytes_are_those_pushed_and_not_drained),
        TEST(an_offer_beyond_the_bound_is_refused_and_changes_nothing),
        TEST(a_wait_ends_at_its_deadline_and_not_before),
        TEST(a_wait_with_something_there_returns_at_once),
        TEST(a_push_gets_the_sleeper_up),
        TEST(a_wake_ends_the_present_wait_or_else_the_next_one),
        TEST(a_signal_does_not_end_a_wait),
        TEST(only_the_push_that_finds_a_sleeper_makes_the_descriptor_readable),
        TEST(from_many_threads_each_ones_order_is_kept_and_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

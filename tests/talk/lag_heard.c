/* The lag as the broker publishes it, heard by the library. */
#include "talk.h"

#include <pthread.h>

#include <sluice/sluice.h>

#include "base/clock.h"

static struct broker_proc b;
static struct sluice *client;
static struct sluice_error err;

/* What one subscription heard of group g of topic t. */
static struct ear {
    pthread_mutex_t lock;
    struct sluice_lag_subscription *sub;
    uint64_t lag, heard_ms;
    unsigned rows, lost, calls;
    bool leaves; /* at the next call */
} ear = {.lock = PTHREAD_MUTEX_INITIALIZER}, other = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void heard(void *user, const struct sluice_lag *rows, size_t count)
{
    struct ear *e = user;
    pthread_mutex_lock(&e->lock);
    e->calls++;
    e->lost += rows == NULL;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].topic, "t") == 0 && strcmp(rows[i].group, "g") == 0) {
            e->lag = rows[i].lag_messages;
            e->heard_ms = clock_mono_ms();
            e->rows++;
        }
    }
    if (e->leaves)
        sluice_lag_unsubscribe(e->sub);
    pthread_mutex_unlock(&e->lock);
}

#define LOOK(type, name)                          \
    static type name##_of(struct ear *e)          \
    {                                             \
        pthread_mutex_lock(&e->lock);             \
        type value = e->name;                     \
        pthread_mutex_unlock(&e->lock);           \
        return value;                             \
    }
LOOK(uint64_t, lag)
LOOK(uint64_t, heard_ms)
LOOK(unsigned, rows)
LOOK(unsigned, lost)
LOOK(unsigned, calls)
#undef LOOK

static void must(int code)
{
    if (code != 0)
        fail_msg("%s: %s", sluice_code_name(code), err.text);
}

static void publish(unsigned n)
{
    const struct sluice_message m = {.size = sizeof m, .topic = "t", .value = SLUICE_STR("x")};
    for (unsigned i = 0; i < n; i++)
        must(sluice_publish_async(client, &m, NULL, NULL, &err));
    must(sluice_flush(client, 10000, &err));
}

static void subscribe(struct ear *e)
{
    e->lag = e->heard_ms = 0;
    e->rows = e->lost = e->calls = 0;
    e->leaves = false;
    must(sluice_lag_subscribe(client, heard, e, &e->sub, &err));
}

static void open_at(const char *url)
{
    must(sluice_open(&client, &(struct sluice_options){.size = sizeof(struct sluice_options), .broker = url}, &err));
    must(sluice_topic_create(client, "t", NULL, NULL, &err));
    must(sluice_group_create(client, "t", "g", NULL, NULL, &err));
}

static void open_with(const char *const *args)
{
    broker_start(&b, args);
    open_at(b.url);
}

static int begin(void **state)
{
    (void)state;
    open_with(NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    sluice_close(client, 1000, NULL, NULL);
    client = NULL;
    broker_end(&b);
    return 0;
}

static void who_subscribes_hears_of_all_groups_and_then_of_changes(void **state)
{
    (void)state;
    subscribe(&ear);
    EVENTUALLY(60000, rows_of(&ear) > 0); /* nothing had changed */
    assert_int_equal(lag_of(&ear), 0);
    for (unsigned i = 1; i <= 3; i++) {
        publish(5);
        uint64_t began = clock_mono_ms();
        EVENTUALLY(60000, lag_of(&ear) == 5 * i);
        uint64_t at = heard_ms_of(&ear);
        print_message("heard %d ms after it was acknowledged\n", at > began ? (int)(at - began) : 0);
    }
    assert_int_equal(lost_of(&ear), 0);
    sluice_lag_unsubscribe(ear.sub);
    EVENTUALLY(60000, broker_metric(&b, "sluice_subscribers") == 0); /* the connection went with the last */
}

static void it_is_heard_again_when_the_broker_comes_again(void **state)
{
    (void)state;
    subscribe(&ear);
    publish(3);
    EVENTUALLY(60000, lag_of(&ear) == 3);
    for (int round = 0; round < 2; round++) {
        broker_kill(&b);
        EVENTUALLY(60000, lost_of(&ear) == (unsigned)round + 1);
        unsigned before = rows_of(&ear);
        if (round == 1) /* and this time it publishes somewhere else, which the session hears */
            snprintf(b.publish, sizeof b.publish, "tcp://127.0.0.1:0");
        broker_restart(&b);
        EVENTUALLY(30000, rows_of(&ear) > before);
        assert_int_equal(lag_of(&ear), 3 + round);
        publish(1);
        EVENTUALLY(60000, lag_of(&ear) == 4 + (uint64_t)round);
    }
    sluice_lag_unsubscribe(ear.sub);
}

static void a_session_by_ipc_hears_by_tcp(void **state)
{
    (void)state;
    sluice_close(client, 1000, NULL, NULL);
    open_at(b.ipc);
    subscribe(&ear);
    publish(2);
    EVENTUALLY(60000, lag_of(&ear) == 2);
    sluice_lag_unsubscribe(ear.sub);
}

static void who_left_is_called_no_more(void **state)
{
    (void)state;
    subscribe(&ear);
    EVENTUALLY(60000, rows_of(&ear) > 0);
    subscribe(&other);
    EVENTUALLY(60000, rows_of(&other) > 0); /* who comes later hears of all, too */
    sluice_lag_unsubscribe(other.sub);
    unsigned calls = calls_of(&other);
    publish(2);
    EVENTUALLY(60000, lag_of(&ear) == 2);
    assert_int_equal(calls_of(&other), calls);
    pthread_mutex_lock(&ear.lock);
    ear.leaves = true; /* in its own call */
    calls = ear.calls;
    pthread_mutex_unlock(&ear.lock);
    publish(2);
    EVENTUALLY(60000, calls_of(&ear) > calls);
    EVENTUALLY(60000, broker_metric(&b, "sluice_subscribers") == 0);
    assert_int_equal(calls_of(&ear), calls + 1);
}

static void closing_the_client_ends_its_subscriptions(void **state)
{
    (void)state;
    subscribe(&ear);
    subscribe(&other);
    EVENTUALLY(60000, rows_of(&ear) > 0 && rows_of(&other) > 0);
    sluice_close(client, 1000, NULL, NULL);
    client = NULL;
    EVENTUALLY(60000, broker_metric(&b, "sluice_subscribers") == 0);
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    struct sluice_lag_subscription *s = (void *)&ear;
    assert_int_equal(sluice_lag_subscribe(client, NULL, NULL, &s, &err), SLUICE_INVALID_ARGUMENT);
    assert_int_equal(sluice_lag_subscribe(client, heard, NULL, NULL, &err), SLUICE_INVALID_ARGUMENT);
    sluice_lag_unsubscribe(NULL);
}

static int begin_silent(void **state)
{
    (void)state;
    static const char *const args[] = {"--no-publish", NULL};
    open_with(args);
    return 0;
}

static void a_broker_that_publishes_nothing_is_no_error(void **state)
{
    (void)state;
    subscribe(&ear);
    publish(2);
    struct sluice_lag_list *l;
    must(sluice_group_lag(client, "t", "g", &l, &err)); /* what is left to do */
    assert_int_equal(l->rows[0].lag_messages, 2);
    sluice_lag_free(l);
    sluice_lag_unsubscribe(ear.sub);
    assert_int_equal(calls_of(&ear), 0);
}

#define TALK(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TALK(who_subscribes_hears_of_all_groups_and_then_of_changes),
        TALK(it_is_heard_again_when_the_broker_comes_again),
        TALK(a_session_by_ipc_hears_by_tcp),
        TALK(who_left_is_called_no_more),
        TALK(closing_the_client_ends_its_subscriptions),
        TALK(wrong_calls_are_refused),
        cmocka_unit_test_setup_teardown(a_broker_that_publishes_nothing_is_no_error, begin_silent, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

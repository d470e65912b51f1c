/* A broker inside the process that uses it, by way of libsluice-embed alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <sluice/embed.h>

static struct sluice_error err;

static struct sluice_broker *start(const char *data)
{
    struct sluice_broker *b = NULL;
    struct sluice_broker_options o = {.size = sizeof o, .data = data, .listen = "inproc://embedded"};
    assert_int_equal(sluice_broker_start(&b, &o, &err), 0);
    return b;
}

static struct sluice *open_client(void)
{
    struct sluice *s = NULL;
    struct sluice_options o = {.size = sizeof o, .broker = "inproc://embedded"};
    assert_int_equal(sluice_open(&s, &o, &err), 0);
    return s;
}

static void publish(struct sluice *s, const char *value)
{
    struct sluice_message m = {.size = sizeof m, .topic = "t", .key = SLUICE_STR("k"), .value = sluice_str(value)};
    assert_int_equal(sluice_publish(s, &m, NULL, &err), 0);
}

/* Receives one message, which has this value, and acknowledges it. */
static void expect(struct sluice *s, const char *value)
{
    struct sluice_batch *b;
    struct sluice_receive_options o = {.size = sizeof o, .max_messages = 1, .wait_ms = 10000};
    assert_int_equal(sluice_receive(s, "t", "g", &o, &b, &err), 0);
    assert_int_equal(sluice_batch_count(b), 1);
    const struct sluice_delivery *d = sluice_batch_message(b, 0);
    assert_int_equal(d->value.size, strlen(value));
    assert_memory_equal(d->value.data, value, d->value.size);
    assert_int_equal(sluice_ack(b, 0, &err), 0);
    sluice_batch_free(b);
}

static void a_service_can_be_tested_with_a_broker_in_its_own_process(void **state)
{
    (void)state;
    struct sluice_broker *b = start(NULL);
    struct sluice *s = open_client();
    assert_int_equal(sluice_topic_create(s, "t", NULL, NULL, &err), 0);
    assert_int_equal(sluice_group_create(s, "t", "g", NULL, NULL, &err), 0);
    publish(s, "one");
    publish(s, "two");
    expect(s, "one");
    expect(s, "two");
    assert_int_equal(sluice_close(s, 1000, NULL, &err), 0);
    sluice_broker_stop(b);
}

static void with_a_directory_it_finds_again_what_it_kept(void **state)
{
    (void)state;
    char dir[] = "/tmp/sluice-embed-XXXXXX", command[64];
    assert_non_null(mkdtemp(dir));
    struct sluice_broker *b = start(dir);
    struct sluice *s = open_client();
    assert_int_equal(sluice_topic_create(s, "t", NULL, NULL, &err), 0);
    assert_int_equal(sluice_group_create(s, "t", "g", NULL, NULL, &err), 0);
    publish(s, "one");
    publish(s, "two");
    expect(s, "one");
    assert_int_equal(sluice_close(s, 1000, NULL, &err), 0);
    sluice_broker_stop(b);
    b = start(dir);
    s = open_client();
    expect(s, "two");
    assert_int_equal(sluice_close(s, 1000, NULL, &err), 0);
    sluice_broker_stop(b);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

static void lag_came(void *user, const struct sluice_lag *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        atomic_store((atomic_uint *)user, (unsigned)rows[i].lag_messages + 1);
}

static void await(atomic_uint *value, unsigned wanted)
{
    for (int ms = 0; atomic_load(value) != wanted && ms < 10000; ms++)
        usleep(1000);
    assert_int_equal(atomic_load(value), wanted);
}

static void the_lag_is_heard_within_the_process(void **state)
{
    (void)state;
    struct sluice_broker *b = NULL;
    struct sluice_broker_options o = {.size = sizeof o, .listen = "inproc://embedded", .publish = "inproc://published"};
    assert_int_equal(sluice_broker_start(&b, &o, &err), 0);
    struct sluice *s = open_client();
    struct sluice_lag_subscription *sub;
    atomic_uint lag = 0; /* and one */
    assert_int_equal(sluice_topic_create(s, "t", NULL, NULL, &err), 0);
    assert_int_equal(sluice_group_create(s, "t", "g", NULL, NULL, &err), 0);
    for (unsigned i = 0; i < 3; i++) { /* one goes, and another comes */
        atomic_store(&lag, 0);
        assert_int_equal(sluice_lag_subscribe(s, lag_came, &lag, &sub, &err), 0);
        await(&lag, i + 1);
        publish(s, "x");
        await(&lag, i + 2);
        if (i < 2)
            sluice_lag_unsubscribe(sub);
    }
    assert_int_equal(sluice_close(s, 1000, NULL, &err), 0);
    sluice_broker_stop(b);
}

static void a_second_broker_in_the_process_is_refused(void **state)
{
    (void)state;
    struct sluice_broker *b = start(NULL), *second = NULL;
    struct sluice_broker_options o = {.size = sizeof o, .listen = "inproc://other"};
    assert_int_equal(sluice_broker_start(&second, &o, &err), SLUICE_EXISTS);
    sluice_broker_stop(b);
}

static void a_setting_that_is_not_known_is_refused_by_name(void **state)
{
    (void)state;
    const char *const set[] = {"limits.sesion_grace_ms=1s", NULL};
    struct sluice_broker *b = NULL;
    struct sluice_broker_options o = {.size = sizeof o, .set = set};
    assert_int_equal(sluice_broker_start(&b, &o, &err), SLUICE_CONFIG);
    assert_non_null(strstr(err.text, "sesion_grace_ms"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_service_can_be_tested_with_a_broker_in_its_own_process),
        cmocka_unit_test(with_a_directory_it_finds_again_what_it_kept),
        cmocka_unit_test(the_lag_is_heard_within_the_process),
        cmocka_unit_test(a_second_broker_in_the_process_is_refused),
        cmocka_unit_test(a_setting_that_is_not_known_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

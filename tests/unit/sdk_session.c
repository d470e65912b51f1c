#include "sdk_fake.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "schemas/errors.h"

static struct fake *fake;
static struct sluice *client;
static struct sluice_error err;

static int setup(void **state)
{
    (void)state;
    fake = fake_open(NULL);
    fake_topic(fake, "t", 1);
    client = NULL;
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

static int open_at(const char *url, uint32_t connect_timeout_ms)
{
    return sluice_open(&client,
                       &(struct sluice_options){.size = sizeof(struct sluice_options),
                                                .broker = url,
                                                .connect_timeout_ms = connect_timeout_ms,
                                                .request_timeout_ms = 10000},
                       &err);
}

static void open_client(void)
{
    assert_int_equal(open_at(fake_url(fake), 10000), 0);
}

static struct sluice_message message(const char *value)
{
    return (struct sluice_message){
        .size = sizeof(struct sluice_message), .topic = "t", .value = sluice_str(value)};
}

/* ---- opening */

static void opening_says_hello_with_a_new_session_each_time(void **state)
{
    (void)state;
    open_client();
    sluice_close(client, 0, NULL, NULL);
    open_client();
    struct fake_seen first = fake_seen(fake, VERB_HELLO, 0), second = fake_seen(fake, VERB_HELLO, 1);
    assert_false(first.hello.resume);
    assert_false(second.hello.resume);
    assert_false(id128_is_zero(first.session));
    assert_false(id128_eq(first.session, second.session));
    assert_int_equal(fake_count(fake, VERB_BYE), 1);
}

static void opening_fails_when_nobody_listens_and_says_where(void **state)
{
    (void)state;
    fake_deaf(fake);
    assert_int_equal(open_at(fake_url(fake), 500), SLUICE_UNREACHABLE);
    assert_has(err.text, fake_url(fake));
    assert_has(err.text, "nobody listens there");
    assert_null(client);
    fake_hear(fake);
}

static void who_wants_one_attempt_hears_at_once_that_nobody_listens(void **state)
{
    (void)state;
    fake_deaf(fake);
    struct sluice_options o = {
        .size = sizeof o, .broker = fake_url(fake), .connect_timeout_ms = 3600000, .connect_once = true};
    assert_int_equal(sluice_open(&client, &o, &err), SLUICE_UNREACHABLE);
    assert_has(err.text, "nobody listens there");
    fake_hear(fake);
    assert_int_equal(sluice_open(&client, &o, &err), 0);
    fake_cut(fake); /* once it is open it dials again as ever */
    struct sluice_message m = message("x");
    assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
}

static void an_address_for_everywhere_becomes_the_host_that_was_dialled(void **state)
{
    (void)state;
    static const char *const said[] = {"0.0.0.0:7480", "[::]:7480", "10.1.2.3:7480", ""};
    static const char *const meant[] = {"127.0.0.1:7480", "127.0.0.1:7480", "10.1.2.3:7480", ""};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        struct fake *everywhere = fake_open(&(struct fake_options){.http = said[i]});
        assert_int_equal(open_at(fake_url(everywhere), 10000), 0);
        struct sluice_health h = {.size = sizeof h};
        assert_int_equal(sluice_health(client, 10000, &h, &err), 0);
        assert_string_equal(h.http, meant[i]);
        sluice_close(client, 0, NULL, NULL);
        client = NULL;
        fake_close(everywhere);
    }
}

static void opening_an_address_that_is_none_fails_at_once(void **state)
{
    (void)state;
    assert_int_equal(open_at("carrier-pigeon://roof", 10000), SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "carrier-pigeon://roof");
}

static void *hear_later(void *arg)
{
    (void)arg;
    fake_hear(fake);
    return NULL;
}

static void opening_waits_for_a_broker_that_is_about_to_start(void **state)
{
    (void)state;
    fake_deaf(fake);
    pthread_t thread;
    pthread_create(&thread, NULL, hear_later, NULL);
    open_client();
    pthread_join(thread, NULL);
}

static enum fake_action hold_hello(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    (void)user;
    (void)reply;
    return r->verb == VERB_HELLO ? FAKE_HOLD : FAKE_DO;
}

static void opening_times_out_when_hello_is_not_answered(void **state)
{
    (void)state;
    fake_set_script(fake, hold_hello, NULL);
    assert_int_equal(open_at(fake_url(fake), 1000), SLUICE_TIMEOUT);
    assert_has(err.text, "hello");
}

static enum fake_action refuse_hello(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    atomic_int *times = user;
    if (r->verb != VERB_HELLO || atomic_fetch_sub(times, 1) <= 0)
        return FAKE_DO;
    reply->code = E_OVERLOADED;
    reply->retry_after_ms = 1;
    return FAKE_ANSWER;
}

static void a_hello_that_is_refused_for_load_is_said_again(void **state)
{
    (void)state;
    static atomic_int times = 3;
    fake_set_script(fake, refuse_hello, &times);
    open_client();
    assert_int_equal(fake_count(fake, VERB_HELLO), 4);
}

static enum fake_action refuse_hello_for_long(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    enum fake_action what = refuse_hello(user, r, reply);
    reply->retry_after_ms = 400;
    return what;
}

static void who_is_asked_to_stay_away_stays_away_for_half_of_it_at_least(void **state)
{
    (void)state;
    static atomic_int times = 1;
    fake_set_script(fake, refuse_hello_for_long, &times);
    uint64_t asked = clock_mono_ms();
    open_client();
    assert_true(clock_mono_ms() - asked >= 200);
    assert_int_equal(fake_count(fake, VERB_HELLO), 2);
}

static enum fake_action wrong_version(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    (void)user;
    if (r->verb != VERB_HELLO)
        return FAKE_DO;
    reply->code = E_BAD_VERSION;
    reply->detail = VIEW_LIT("this broker speaks 7");
    return FAKE_ANSWER;
}

static void opening_fails_at_once_when_the_broker_speaks_another_version(void **state)
{
    (void)state;
    fake_set_script(fake, wrong_version, NULL);
    assert_int_equal(open_at(fake_url(fake), 60000), SLUICE_BAD_VERSION);
    assert_has(err.text, "this broker speaks 7");
}

static void brokers_are_reached_over_ipc_and_inproc_too(void **state)
{
    (void)state;
    char ipc[128];
    snprintf(ipc, sizeof ipc, "ipc:///tmp/sluice-unit-%ld.sock", (long)getpid());
    const char *urls[] = {ipc, "inproc://unit"};
    for (size_t i = 0; i < 2; i++) {
        struct fake *other = fake_open(&(struct fake_options){.url = urls[i]});
        fake_topic(other, "t", 1);
        assert_int_equal(open_at(fake_url(other), 10000), 0);
        struct sluice_message m = message("x");
        assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
        sluice_close(client, 0, NULL, NULL);
        client = NULL;
        fake_close(other);
    }
}

/* ---- structs and names */

static void a_struct_whose_size_was_not_set_is_refused_by_name(void **state)
{
    (void)state;
    struct sluice *s;
    assert_int_equal(sluice_open(&s, &(struct sluice_options){.broker = "x"}, &err), SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "struct sluice_options");
    open_client();
    assert_int_equal(sluice_publish(client, &(struct sluice_message){.topic = "t"}, NULL, &err),
                     SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "struct sluice_message");
    assert_int_equal(sluice_topic_create(client, "n", &(struct sluice_topic_options){.size = 9}, NULL, &err),
                     SLUICE_INVALID_ARGUMENT);
    assert_has(err.text, "struct sluice_topic_options");
}

static void a_field_of_a_newer_caller_is_refused_unless_it_is_zero(void **state)
{
    (void)state;
    struct {
        struct sluice_options known;
        uint64_t newer;
    } o = {.known = {.size = sizeof o, .broker = fake_url(fake)}};
    assert_int_equal(sluice_open(&client, &o.known, &err), 0);
    sluice_close(client, 0, NULL, NULL);
    client = NULL;
    o.newer = 1;
    assert_int_equal(sluice_open(&client, &o.known, &err), SLUICE_UNSUPPORTED);
    assert_has(err.text, "struct sluice_options");
}

static void an_unknown_topic_is_named_with_the_command_that_makes_it(void **state)
{
    (void)state;
    open_client();
    struct sluice_message m = message("x");
    m.topic = "photo";
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_TOPIC_NOT_FOUND);
    assert_string_equal(err.text, "no such topic: 'photo'; create it with: sluice topic create photo");
    m.topic = "no such name";
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_INVALID_ARGUMENT);
    m.topic = NULL;
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_INVALID_ARGUMENT);
}

/* ---- losing the connection */

static void a_lost_connection_is_dialled_again_and_the_session_resumed(void **state)
{
    (void)state;
    open_client();
    for (size_t i = 1; i <= 3; i++) {
        fake_cut(fake);
        fake_await(fake, VERB_HELLO, i + 1);
        struct sluice_message m = message("x");
        assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
        struct fake_seen again = fake_seen(fake, VERB_HELLO, i);
        assert_true(again.hello.resume);
        assert_true(id128_eq(again.session, fake_seen(fake, VERB_HELLO, 0).session));
    }
    struct sluice_stats stats = {.size = sizeof stats};
    sluice_stats(client, &stats);
    assert_int_equal(stats.reconnects, 3);
    assert_true(stats.connected);
}

static void a_broker_that_comes_back_finds_the_client_waiting(void **state)
{
    (void)state;
    open_client();
    fake_deaf(fake);
    pthread_t thread;
    pthread_create(&thread, NULL, hear_later, NULL);
    struct sluice_health h = {.size = sizeof h};
    assert_int_equal(sluice_health(client, 10000, &h, &err), 0);
    assert_string_equal(h.status, "ok");
    pthread_join(thread, NULL);
}

static void a_call_gives_up_at_its_time_while_nobody_listens(void **state)
{
    (void)state;
    open_client();
    fake_deaf(fake);
    struct sluice_health h = {.size = sizeof h};
    int code;
    do /* until the client knows too, the request counts as sent */
        code = sluice_health(client, 50, &h, &err);
    while (code == SLUICE_TIMEOUT);
    assert_int_equal(code, SLUICE_UNREACHABLE);
    assert_has(err.text, fake_url(fake));
    fake_hear(fake);
}

/* ---- a session that expired */

static atomic_int told_code;

static void told(void *user, const struct sluice_error *error, const struct sluice_receipt *receipt)
{
    (void)user;
    (void)receipt;
    atomic_store(&told_code, error != NULL ? error->code : 0);
}

static enum fake_action hold_produce(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    (void)user;
    (void)reply;
    return r->verb == VERB_PRODUCE ? FAKE_HOLD : FAKE_DO;
}

static void when_the_session_expired_what_was_unanswered_fails_so_and_the_client_stays_dead(void **state)
{
    (void)state;
    fake_set_script(fake, hold_produce, NULL);
    open_client();
    struct sluice_message m = message("x");
    assert_int_equal(sluice_publish_async(client, &m, told, NULL, &err), 0);
    fake_await(fake, VERB_PRODUCE, 1);
    fake_forget_sessions(fake);
    struct fake_seen hello = fake_seen(fake, VERB_HELLO, 0);
    atomic_store(&told_code, -1);
    fake_set_script(fake, NULL, NULL);
    fake_close_pipe(fake, hello.pipe);
    fake_await(fake, VERB_HELLO, 2);
    struct sluice_batch *b;
    struct sluice_health h = {.size = sizeof h};
    assert_int_equal(sluice_health(client, 10000, &h, &err), SLUICE_SESSION_EXPIRED);
    assert_true(sluice_code_fatal(SLUICE_SESSION_EXPIRED));
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_SESSION_EXPIRED);
    assert_int_equal(sluice_publish_async(client, &m, told, NULL, &err), SLUICE_SESSION_EXPIRED);
    assert_int_equal(sluice_receive(client, "t", "g", NULL, &b, &err), SLUICE_SESSION_EXPIRED);
    uint64_t undelivered;
    assert_int_equal(sluice_close(client, 1000, &undelivered, &err), 0);
    assert_int_equal(undelivered, 0); /* it was told already */
    assert_int_equal(atomic_load(&told_code), SLUICE_SESSION_EXPIRED);
    client = NULL;
}

/* ---- callbacks */

static atomic_int codes_in_callback[4];

static void call_what_blocks(void *user, const struct sluice_error *error,
                             const struct sluice_receipt *receipt)
{
    (void)user;
    (void)error;
    (void)receipt;
    struct sluice_message m = message("x");
    struct sluice_batch *b;
    atomic_store(&codes_in_callback[0], sluice_publish(client, &m, NULL, NULL));
    atomic_store(&codes_in_callback[1], sluice_receive(client, "t", "g", NULL, &b, NULL));
    atomic_store(&codes_in_callback[2], sluice_flush(client, 0, NULL));
    atomic_store(&codes_in_callback[3], sluice_publish_async(client, &m, NULL, NULL, NULL));
}

static void what_blocks_is_refused_in_a_callback_and_the_rest_is_not(void **state)
{
    (void)state;
    open_client();
    struct sluice_message m = message("x");
    assert_int_equal(sluice_publish_async(client, &m, call_what_blocks, NULL, &err), 0);
    assert_int_equal(sluice_flush(client, 10000, &err), 0);
    assert_int_equal(atomic_load(&codes_in_callback[0]), SLUICE_INVALID_ARGUMENT);
    assert_int_equal(atomic_load(&codes_in_callback[1]), SLUICE_INVALID_ARGUMENT);
    assert_int_equal(atomic_load(&codes_in_callback[2]), SLUICE_INVALID_ARGUMENT);
    assert_int_equal(atomic_load(&codes_in_callback[3]), 0);
    assert_int_equal(sluice_flush(client, 10000, &err), 0);
    assert_int_equal(fake_stored(fake, "t", 0), 2);
}

/* ---- answers of an ill broker */

static enum fake_action nonsense(void *user, const struct wire_request *r, struct wire_reply *reply)
{
    (void)user;
    (void)reply;
    return r->verb == VERB_HELLO ? FAKE_DO : FAKE_ANSWER; /* success without a body */
}

static void an_answer_without_sense_is_an_error_and_no_crash(void **state)
{
    (void)state;
    open_client();
    struct sluice_message m = message("x");
    assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
    fake_set_script(fake, nonsense, NULL);
    struct sluice_health h = {.size = sizeof h};
    struct sluice_topic_list *topics;
    struct sluice_group_list *groups;
    struct sluice_lag_list *lag;
    struct sluice_dlq *dlq;
    struct sluice_reader *reader;
    struct sluice_batch *b;
    assert_int_equal(sluice_publish(client, &m, NULL, &err), SLUICE_BAD_FRAME);
    assert_int_equal(sluice_health(client, 1000, &h, &err), SLUICE_BAD_FRAME);
    assert_int_equal(sluice_topics(client, NULL, &topics, &err), SLUICE_BAD_FRAME);
    assert_int_equal(sluice_groups(client, NULL, NULL, &groups, &err), SLUICE_BAD_FRAME);
    assert_int_equal(sluice_group_lag(client, NULL, NULL, &lag, &err), SLUICE_BAD_FRAME);
    assert_int_equal(sluice_dlq_list(client, "t", "g", NULL, &dlq, &err), SLUICE_BAD_FRAME);
    assert_int_equal(sluice_reader_open(client, "t", 0, NULL, &reader, &err), SLUICE_BAD_FRAME);
    assert_int_equal(sluice_receive(client, "t", "g", NULL, &b, &err), SLUICE_BAD_FRAME);
}

static void clients_come_and_go_without_a_trace(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        open_client();
        if (i % 2 == 0) {
            struct sluice_message m = message("x");
            assert_int_equal(sluice_publish(client, &m, NULL, &err), 0);
        }
        assert_int_equal(sluice_close(client, 1000, NULL, &err), 0);
    }
    client = NULL;
    assert_int_equal(fake_count(fake, VERB_BYE), 100);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(opening_says_hello_with_a_new_session_each_time),
        TEST(opening_fails_when_nobody_listens_and_says_where),
        TEST(who_wants_one_attempt_hears_at_once_that_nobody_listens),
        TEST(an_address_for_everywhere_becomes_the_host_that_was_dialled),
        TEST(opening_an_address_that_is_none_fails_at_once),
        TEST(opening_waits_for_a_broker_that_is_about_to_start),
        TEST(opening_times_out_when_hello_is_not_answered),
        TEST(a_hello_that_is_refused_for_load_is_said_again),
        TEST(who_is_asked_to_stay_away_stays_away_for_half_of_it_at_least),
        TEST(opening_fails_at_once_when_the_broker_speaks_another_version),
        TEST(brokers_are_reached_over_ipc_and_inproc_too),
        TEST(a_struct_whose_size_was_not_set_is_refused_by_name),
        TEST(a_field_of_a_newer_caller_is_refused_unless_it_is_zero),
        TEST(an_unknown_topic_is_named_with_the_command_that_makes_it),
        TEST(a_lost_connection_is_dialled_again_and_the_session_resumed),
        TEST(a_broker_that_comes_back_finds_the_client_waiting),
        TEST(a_call_gives_up_at_its_time_while_nobody_listens),
        TEST(when_the_session_expired_what_was_unanswered_fails_so_and_the_client_stays_dead),
        TEST(what_blocks_is_refused_in_a_callback_and_the_rest_is_not),
        TEST(an_answer_without_sense_is_an_error_and_no_crash),
        TEST(clients_come_and_go_without_a_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

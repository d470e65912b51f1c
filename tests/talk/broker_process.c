/* sluice-broker as a process: its command line, how it starts, how it ends. */
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "talk.h"

static char said[1 << 16];

static int run(const char *const *args)
{
    return broker_run(args, said, sizeof said);
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

/* ---------------------------------------------------------------- the command line */

static void an_unknown_key_is_refused_with_the_nearest_one(void **state)
{
    (void)state;
    assert_int_equal(RUN("--data", "/nowhere", "--set", "limits.topics_mox=3"), 2);
    assert_has(said, "unknown key 'limits.topics_mox'; did you mean 'limits.topics_max'?");
}

static void a_value_that_is_none_is_refused_by_its_key(void **state)
{
    (void)state;
    assert_int_equal(RUN("--data", "/nowhere", "--set", "limits.drain_ms=10"), 2);
    assert_has(said, "limits.drain_ms");
    assert_has(said, "unit");
}

static void a_configuration_file_is_refused_by_its_line(void **state)
{
    (void)state;
    char path[] = "/tmp/sluice-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(dprintf(fd, "data: /nowhere\nlimits:\n  drain_msx: 1s\n") > 0);
    close(fd);
    assert_int_equal(RUN("-c", path), 2);
    assert_has(said, path);
    assert_has(said, "line 3");
    assert_has(said, "did you mean 'limits.drain_ms'?");
    unlink(path);
}

static void a_command_that_says_nothing_usable_is_refused(void **state)
{
    (void)state;
    assert_int_equal(RUN("--nonsense"), 2);
    assert_int_equal(RUN("--listen", "tcp://127.0.0.1:0"), 2);
    assert_has(said, "--data");
    assert_int_equal(RUN("--data", "/nowhere", "--listen", "http://x"), 2);
    assert_has(said, "'http://x'");
    assert_int_equal(RUN("--data", "/nowhere", "surplus"), 2);
    assert_has(said, "surplus");
    assert_int_equal(RUN("--data", "/nowhere", "--listen", "tls+tcp://127.0.0.1:0"), 2);
    assert_has(said, "tls.cert");
}

static void it_tells_its_version_its_options_and_its_configuration(void **state)
{
    (void)state;
    assert_int_equal(RUN("--version"), 0);
    assert_has(said, "sluice-broker ");
    assert_int_equal(RUN("--help"), 0);
    assert_has(said, "--data DIR");
    assert_int_equal(RUN("--print-config", "--set", "limits.drain_ms=90s"), 0);
    assert_has(said, "  drain_ms: 90s");
    assert_int_equal(RUN("--data", "/nowhere", "--check"), 0);
    assert_int_equal(access("/nowhere", F_OK), -1);
}

static void options_override_the_file_wherever_they_stand(void **state)
{
    (void)state;
    char path[] = "/tmp/sluice-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(dprintf(fd, "data: /from-file\nlimits:\n  drain_ms: 1s\n  topics_max: 5\n") > 0);
    close(fd);
    assert_int_equal(RUN("--set", "limits.drain_ms=2s", "--print-config", "-c", path), 0);
    assert_has(said, "data: '/from-file'");
    assert_has(said, "  drain_ms: 2s");
    assert_has(said, "  topics_max: 5");
    unlink(path);
}

/* ---------------------------------------------------------------- starting */

static void port_0_becomes_a_port_that_serves(void **state)
{
    (void)state;
    struct broker_proc b;
    broker_start(&b, NULL);
    assert_null(strstr(b.url, ":0"));
    assert_null(strstr(b.publish, ":0"));
    assert_true(talker_is_served(b.url));
    broker_end(&b);
}

static void a_second_broker_on_the_same_data_is_refused(void **state)
{
    (void)state;
    struct broker_proc b;
    char pid[16];
    broker_start(&b, NULL);
    assert_int_equal(RUN("--data", b.data, "--listen", "tcp://127.0.0.1:0", "--no-publish", "--no-http"), 1);
    assert_has(said, "STORE_LOCKED");
    assert_has(said, b.data);
    snprintf(pid, sizeof pid, "%d", (int)b.pid);
    assert_has(said, pid);
    assert_true(talker_is_served(b.url));
    broker_end(&b);
}

static void an_address_in_use_is_named(void **state)
{
    (void)state;
    struct broker_proc b;
    char other[128];
    broker_start(&b, NULL);
    snprintf(other, sizeof other, "%s-2", b.data);
    assert_int_equal(RUN("--data", other, "--listen", b.url, "--no-publish", "--no-http"), 1);
    assert_has(said, b.url);
    assert_int_equal(RUN("--data", other, "--listen", "tcp://127.0.0.1:0", "--no-publish", "--http", b.http),
                     1);
    assert_has(said, b.http);
    remove_tree(other);
    assert_true(talker_is_served(b.url));
    broker_end(&b);
}

static void the_service_manager_is_told_when_it_is_ready(void **state)
{
    (void)state;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "/tmp/sluice-notify-%d", (int)getpid());
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    setenv("NOTIFY_SOCKET", at.sun_path, 1);
    struct broker_proc b;
    broker_start(&b, NULL);
    unsetenv("NOTIFY_SOCKET");
    char text[64] = "";
    assert_true(recv(fd, text, sizeof text - 1, 0) > 0);
    assert_string_equal(text, "READY=1");
    broker_end(&b);
    close(fd);
    unlink(at.sun_path);
}

/* ---------------------------------------------------------------- ending */

static uint64_t end_of(struct talker *t, const char *topic)
{
    struct wire_request r = {.verb = VERB_TOPIC_LIST, .list = {.name = view_of_str(topic)}};
    struct heard h;
    assert_int_equal(talker_call(t, &r, &h), E_OK);
    uint64_t end = h.reply.topics.topics[0].partitions[0].end;
    heard_free(&h);
    return end;
}

static void what_was_acked_is_there_after_kill_9(void **state)
{
    (void)state;
    struct broker_proc b;
    struct talker t;
    broker_start(&b, NULL);
    talker_open(&t, b.url);
    talker_hello(&t);
    uint32_t partition = talker_topic(&t, "t", 1, DURABILITY_DISK);
    for (uint64_t seq = 1; seq <= 20; seq++)
        assert_int_equal(talker_produce(&t, partition, seq, 5, 100), E_OK);
    broker_kill(&b);
    talker_close(&t);
    broker_restart(&b);
    talker_open(&t, b.url);
    talker_hello(&t);
    assert_int_equal(end_of(&t, "t"), 100);
    talker_close(&t);
    broker_end(&b);
}

static void term_answers_who_waits_and_ends_with_0(void **state)
{
    (void)state;
    struct broker_proc b;
    struct talker t;
    struct heard h;
    broker_start(&b, NULL);
    talker_open(&t, b.url);
    talker_hello(&t);
    uint32_t partition = talker_topic(&t, "t", 1, DURABILITY_DISK);
    uint32_t group = talker_group(&t, "t", "g");
    struct wire_request r = {
        .verb = VERB_RECEIVE,
        .receive = {.counter = 1, .groups = &group, .groups_n = 1, .max_messages = 1, .wait_ms = 60000}};
    uint32_t id = talker_send(&t, &r);
    EVENTUALLY(60000, broker_metric(&b, "sluice_waiting_requests") == 1);
    uint64_t begin = clock_mono_ms();
    assert_int_equal(broker_stop(&b), 0);
    assert_in_range(clock_mono_ms() - begin, 0, 8000);
    assert_true(talker_hear(&t, 30000, &h)); /* it was sent before the connection went */
    assert_int_equal(h.id, id);
    assert_int_equal(h.reply.code, E_SHUTTING_DOWN);
    assert_true(h.reply.retry_after_ms > 0);
    heard_free(&h);
    talker_close(&t);
    (void)partition;
    broker_end(&b);
}

static void what_was_acked_by_os_is_there_after_term(void **state)
{
    (void)state;
    struct broker_proc b;
    struct talker t;
    broker_start(&b, NULL);
    talker_open(&t, b.url);
    talker_hello(&t);
    uint32_t partition = talker_topic(&t, "t", 1, DURABILITY_OS);
    for (uint64_t seq = 1; seq <= 20; seq++)
        assert_int_equal(talker_produce(&t, partition, seq, 5, 100), E_OK);
    assert_int_equal(broker_stop(&b), 0);
    talker_close(&t);
    broker_restart(&b);
    talker_open(&t, b.url);
    talker_hello(&t);
    assert_int_equal(end_of(&t, "t"), 100);
    talker_close(&t);
    broker_end(&b);
}

static void it_ends_ten_times_in_a_row_without_hanging(void **state)
{
    (void)state;
    struct broker_proc b;
    broker_start(&b, NULL);
    for (int i = 0; i < 10; i++) {
        struct talker t[8];
        for (size_t k = 0; k < 8; k++) {
            talker_open(&t[k], k % 2 == 0 ? b.url : b.ipc);
            talker_hello(&t[k]);
        }
        assert_int_equal(i % 2 == 0 ? broker_stop(&b) : (broker_signal(&b, SIGINT), broker_wait(&b)), 0);
        for (size_t k = 0; k < 8; k++)
            talker_close(&t[k]);
        broker_restart(&b);
    }
    broker_end(&b);
}

/* A message that is leased keeps the broker draining, so there is time for the second signal. */
static void a_second_signal_ends_it_at_once(void **state)
{
    (void)state;
    struct broker_proc b;
    broker_start(&b, (const char *const[]){"--set", "limits.drain_ms=1h", NULL});
    broker_signal(&b, SIGSTOP); /* both signals are there when it goes on */
    broker_signal(&b, SIGTERM);
    broker_signal(&b, SIGINT);
    broker_signal(&b, SIGCONT);
    int status = broker_wait(&b);
    assert_true(status == 0 || status == 1);
    broker_end(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unknown_key_is_refused_with_the_nearest_one),
        cmocka_unit_test(a_value_that_is_none_is_refused_by_its_key),
        cmocka_unit_test(a_configuration_file_is_refused_by_its_line),
        cmocka_unit_test(a_command_that_says_nothing_usable_is_refused),
        cmocka_unit_test(it_tells_its_version_its_options_and_its_configuration),
        cmocka_unit_test(options_override_the_file_wherever_they_stand),
        cmocka_unit_test(port_0_becomes_a_port_that_serves),
        cmocka_unit_test(a_second_broker_on_the_same_data_is_refused),
        cmocka_unit_test(an_address_in_use_is_named),
        cmocka_unit_test(the_service_manager_is_told_when_it_is_ready),
        cmocka_unit_test(what_was_acked_is_there_after_kill_9),
        cmocka_unit_test(term_answers_who_waits_and_ends_with_0),
        cmocka_unit_test(what_was_acked_by_os_is_there_after_term),
        cmocka_unit_test(it_ends_ten_times_in_a_row_without_hanging),
        cmocka_unit_test(a_second_signal_ends_it_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

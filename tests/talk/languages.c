/*
 * Handlers that are no C, through the real daemon and broker: a shell script by `exec:`, and the examples in C++ and Rust.
 */
#include "talk.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "workerd_proc.h"

static struct broker_proc broker;
static struct workerd_proc daemon_proc, *w = &daemon_proc;
static struct sluice *client;
static char dir[] = "/tmp/sluice-talk-XXXXXX";

static void must(int code, const struct sluice_error *e)
{
    if (code != 0)
        fail_msg("%s: %s", sluice_code_name(code), e->text);
}

/* ---- files beside the configuration ---- */

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* A file's text; "" if it is not there. */
static const char *text_of(const char *name)
{
    static char text[1024];
    FILE *f = fopen(path_of(name), "r");
    size_t n = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = '\0';
    if (f != NULL)
        fclose(f);
    return text;
}

static const char script[] = "read -r what rest\n"
                             "case $what in\n"
                             "ack) echo \"said $rest\" ;;\n"
                             "once) [ \"$SLUICE_ATTEMPT\" -ge 2 ] || exit 75; echo \"$SLUICE_ATTEMPT\" >once ;;\n"
                             "park) echo first >&2; echo 'too blue' >&2; exit 65 ;;\n"
                             "fail) echo 'the last words' >&2; exit 3 ;;\n"
                             "hang) (trap '' TERM; sleep 60; sleep 60) & echo $! >pid; echo hanging >&2; wait ;;\n"
                             "kill) kill -9 $$ ;;\n"
                             "env) env | sed -n 's/^SLUICE_//p' | grep -v -e ^BROKER -e ^BIN -e ^FAMILY | sort >env; sluice topic show exec >topic ;;\n"
                             "esac\n";

/* Whether a process has ended; who its parent is now may not have asked yet. */
static bool gone(pid_t pid)
{
    char path[32], state = 'Z';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return true;
    if (fscanf(f, "%*d %*s %c", &state) != 1)
        state = 'Z';
    fclose(f);
    return state == 'Z';
}

/* ---- the broker and what is in it ---- */

static void publish(const char *topic, const char *key, const char *value)
{
    struct sluice_error e;
    const struct sluice_header header = {"content-type", sluice_str("text/plain")};
    must(sluice_publish(client,
                        &(struct sluice_message){.size = sizeof(struct sluice_message),
                                                 .topic = topic,
                                                 .key = sluice_str(key),
                                                 .value = sluice_str(value),
                                                 .headers = &header,
                                                 .headers_count = 1},
                        NULL, &e),
         &e);
}

static uint64_t undone(const char *topic)
{
    struct sluice_error e;
    struct sluice_lag_list *l;
    must(sluice_group_lag(client, topic, "g", &l, &e), &e);
    uint64_t n = l->rows[0].lag_messages;
    sluice_lag_free(l);
    return n;
}

#define UNTIL_DONE(topic) EVENTUALLY(60000, undone(topic) == 0)

/* The dead letters are these, in their order: OFFSET REASON: ERROR, with how often each was tried. Of the last one the beginning will do,
   but none is none. */
static void assert_dead(const char *topic, const char *expected)
{
    struct sluice_error e;
    struct sluice_dlq *d;
    char text[2048] = "";
    size_t n = 0;
    must(sluice_dlq_list(client, topic, "g", NULL, &d, &e), &e);
    for (size_t i = 0; i < sluice_dlq_count(d); i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%d %s: %s (%u)\n", (int)sluice_dlq_at(d, i)->message.offset,
                              sluice_dlq_at(d, i)->reason, sluice_dlq_at(d, i)->last_error,
                              (unsigned)sluice_dlq_at(d, i)->message.attempt);
    sluice_dlq_free(d);
    if (strncmp(text, expected, strlen(expected)) != 0 || (expected[0] == '\0' && text[0] != '\0'))
        assert_string_equal(text, expected);
}

static int set_up(void **state)
{
    (void)state;
    static const char *const topics[] = {"exec", "cpp", "rust"};
    struct sluice_error e;
    broker_start(&broker, NULL);
    must(sluice_open(&client, &(struct sluice_options){.size = sizeof(struct sluice_options), .broker = broker.url}, &e), &e);
    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++) {
        must(sluice_topic_create(client, topics[i], NULL, NULL, &e), &e);
        must(sluice_group_create(client, topics[i], "g",
                                 &(struct sluice_group_options){.size = sizeof(struct sluice_group_options),
                                                                .max_deliveries = i == 0 ? 2 : 1000,
                                                                .backoff_min_ms = 10,
                                                                .backoff_max_ms = 20},
                                 NULL, &e),
             &e);
    }
    w->pid = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    workerd_proc_kill(w);
    sluice_close(client, 1000, NULL, NULL);
    broker_end(&broker);
    return 0;
}

/* ---- the daemon ---- */

static void start_daemon(const char *const *arguments, const char *handlers)
{
    char text[2048];
    snprintf(text, sizeof text, "broker: %s\ngrace: 30s\nhandlers:\n%s", broker.url, handlers);
    write_file("workerd.yaml", text);
    workerd_proc_start(w, arguments);
}

static char config_path[64];
#define RUN ((const char *const[]){"-c", config_path, NULL})
#define CHECK ((const char *const[]){"-c", config_path, "--check", NULL})

static void start_ready(const char *handlers)
{
    start_daemon(RUN, handlers);
    workerd_proc_ready(w);
}

static void stop_daemon(void)
{
    kill(w->pid, SIGTERM);
    assert_int_equal(workerd_proc_end(w), 0);
}

#define SCRIPT "  - {name: script, exec: [sh, work.sh], topic: exec, group: g}\n"

/* ---- */

static void a_scripts_exit_status_settles_its_messages(void **state)
{
    (void)state;
    publish("exec", NULL, "ack hello");
    publish("exec", NULL, "once");
    publish("exec", NULL, "park");
    publish("exec", NULL, "fail");
    publish("exec", NULL, "kill");
    start_ready(SCRIPT);
    UNTIL_DONE("exec");
    assert_string_equal(text_of("once"), "2\n");
    assert_dead("exec", "2 data-error: too blue (1)\n"
                        "3 max_deliveries: the last words (2)\n"
                        "4 max_deliveries: killed by SIGKILL (2)\n");
    stop_daemon();
    assert_non_null(strstr(w->said, "said hello"));
    assert_non_null(strstr(w->said, "the last words"));
    assert_null(strstr(w->said, "child cannot start"));
}

/* What the command started ignores SIGTERM, and is killed with it. */
static void a_script_that_hangs_is_ended_with_all_it_started_at_its_timeout(void **state)
{
    (void)state;
    publish("exec", NULL, "hang");
    start_ready("  - {name: script, exec: [sh, work.sh], topic: exec, group: g, timeout: 2s}\n");
    UNTIL_DONE("exec");
    assert_dead("exec", "0 max_deliveries: timeout after 2s");
    pid_t pid = atoi(text_of("pid"));
    assert_true(pid > 1);
    EVENTUALLY(60000, gone(pid));
    stop_daemon();
}

static void a_script_knows_its_message_and_the_broker(void **state)
{
    (void)state;
    publish("exec", "k 1", "env");
    start_ready("  - name: script\n"
                "    exec: exec sh work.sh\n"
                "    topic: exec\n"
                "    group: g\n"
                "    config: {colour: blue}\n");
    UNTIL_DONE("exec");
    assert_dead("exec", "");
    assert_string_equal(text_of("env"), "ATTEMPT=1\n"
                                        "CONFIG={\"colour\":\"blue\"}\n"
                                        "GROUP=g\n"
                                        "HEADER_CONTENT_TYPE=text/plain\n"
                                        "IDEMPOTENCY_KEY=exec/0/0/g\n"
                                        "KEY=k 1\n"
                                        "OFFSET=0\n"
                                        "PARTITION=0\n"
                                        "TOPIC=exec\n");
    assert_non_null(strstr(text_of("topic"), "exec"));
    stop_daemon();
}

/* The daemon is killed, not asked. */
static void no_command_outlives_the_daemon(void **state)
{
    (void)state;
    publish("exec", NULL, "hang");
    unlink(path_of("pid"));
    start_ready("  - {name: script, exec: sh work.sh, topic: exec, group: g, timeout: 1m}\n");
    EVENTUALLY(60000, strchr(text_of("pid"), '\n') != NULL);
    pid_t pid = atoi(text_of("pid"));
    assert_false(gone(pid));
    workerd_proc_kill(w);
    EVENTUALLY(60000, gone(pid));
}

static void what_cannot_be_found_is_told_by_the_check_and_at_the_start(void **state)
{
    (void)state;
    static const char *const handlers = "  - {name: script, exec: [./not-there.sh], topic: exec}\n";
    char expected[256];
    snprintf(expected, sizeof expected, "handler 'script': %s/./not-there.sh: No such file or directory", dir);
    start_daemon(CHECK, handlers);
    assert_int_equal(workerd_proc_end(w), 1);
    assert_has(w->said, expected);
    start_daemon(RUN, handlers);
    assert_int_equal(workerd_proc_end(w), 1);
    assert_has(w->said, "not-there.sh: No such file or directory");
}

/* A script that goes while the daemon runs fails its messages, and says what is missing. */
static void what_is_gone_later_fails_its_messages_with_its_name(void **state)
{
    (void)state;
    write_file("once.sh", "#!/bin/sh\n");
    chmod(path_of("once.sh"), 0700);
    start_ready("  - {name: script, exec: [./once.sh], topic: exec, group: g}\n");
    publish("exec", NULL, "a");
    UNTIL_DONE("exec");
    unlink(path_of("once.sh"));
    publish("exec", NULL, "b");
    UNTIL_DONE("exec");
    assert_dead("exec", "1 max_deliveries: ./once.sh: No such file or directory (2)\n");
    stop_daemon();
}

static void handlers_in_cpp_and_rust_ack_retry_and_park(void **state)
{
    (void)state;
    char handlers[512], photo[160];
    snprintf(handlers, sizeof handlers,
             "  - {name: receipt, file: %s/receipt.so, topic: cpp, group: g, config: {out: %s/receipts}}\n"
             "  - {name: verify, file: %s/verify.so, topic: rust, group: g}\n",
             getenv("EXAMPLES"), dir, getenv("EXAMPLES"));
    publish("cpp", NULL, "no order");
    publish("cpp", "order-1", "2 tea 350\n1 pot 2400");
    start_ready(handlers);
    EVENTUALLY(60000, broker_metric(&broker, "sluice_nacked_messages_total") >= 1); /* there is no directory yet */
    assert_int_equal(mkdir(path_of("receipts"), 0700), 0);
    UNTIL_DONE("cpp");
    EVENTUALLY(60000, broker_metric(&broker, "sluice_acked_messages_total") == 1); /* counted, and so is what was before */
    double before = broker_metric(&broker, "sluice_nacked_messages_total");
    snprintf(photo, sizeof photo, "14b78418 %s", path_of("photo"));
    publish("rust", NULL, "what");
    publish("rust", NULL, photo);
    EVENTUALLY(60000, broker_metric(&broker, "sluice_nacked_messages_total") > before); /* there is no photo yet */
    write_file("photo", "photo");
    UNTIL_DONE("rust");
    assert_string_equal(text_of("receipts/order-1"), "2 tea 700\n1 pot 2400\ntotal 3100\n");
    assert_dead("cpp", "0 bad-order: 'no order' is not: how many, what, cents for one (1)\n");
    assert_dead("rust", "0 bad-message: the message is not: CRC32 PATH (1)\n");
    stop_daemon();
    assert_non_null(strstr(w->said, "photo: 5 bytes, as they were sent"));
}

/* ---- */

static int make_dir(void **state)
{
    (void)state;
    char path[4096];
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(config_path, sizeof config_path, "%s/workerd.yaml", dir);
    write_file("work.sh", script);
    snprintf(path, sizeof path, "%s:%s", getenv("SLUICE_BIN"), getenv("PATH"));
    setenv("PATH", path, 1); /* the script uses the command */
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    static const char *const files[] = {"receipts/order-1", "receipts", "photo", "work.sh", "workerd.yaml", "once", "pid",
                                        "env",              "topic",    "once.sh"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        remove(path_of(files[i]));
    return rmdir(dir);
}

#define TALK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TALK(a_scripts_exit_status_settles_its_messages),
        TALK(a_script_that_hangs_is_ended_with_all_it_started_at_its_timeout),
        TALK(a_script_knows_its_message_and_the_broker),
        TALK(no_command_outlives_the_daemon),
        TALK(what_cannot_be_found_is_told_by_the_check_and_at_the_start),
        TALK(what_is_gone_later_fails_its_messages_with_its_name),
        TALK(handlers_in_cpp_and_rust_ack_retry_and_park),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

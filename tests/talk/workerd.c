/*
 * The worker daemon with the real broker: what becomes of messages when handlers fail, processes are
 * killed and brokers come and go. The handler does what its messages say (tests/unit/workerd_handler.c).
 */
#include "talk.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "workerd_gate.h"
#include "workerd_proc.h"

static struct broker_proc broker;
static struct workerd_proc daemon_proc, *w = &daemon_proc, second;
static struct gate gate;
static struct sluice *client;
static char config_path[64];
static const char *handler_file;

/* ---- the broker and what is in it ---- */

static void must(int code, const struct sluice_error *e)
{
    if (code != 0)
        fail_msg("%s: %s", sluice_code_name(code), e->text);
}

static void open_client(void)
{
    struct sluice_error e;
    must(sluice_open(&client,
                     &(struct sluice_options){.size = sizeof(struct sluice_options), .broker = broker.url},
                     &e),
         &e);
}

static void make_group(void)
{
    struct sluice_error e;
    must(sluice_group_create(client, "t", "g",
                             &(struct sluice_group_options){.size = sizeof(struct sluice_group_options),
                                                            .max_deliveries = 2,
                                                            .backoff_min_ms = 10,
                                                            .backoff_max_ms = 20},
                             NULL, &e),
         &e);
}

static int set_up_with(const char *const *args)
{
    struct sluice_error e;
    broker_start(&broker, args);
    open_client();
    must(sluice_topic_create(client, "t", NULL, NULL, &e), &e);
    gate_reset(&gate);
    handler_file = "obedient.so";
    w->pid = 0;
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    set_up_with(NULL);
    make_group();
    return 0;
}

/* A session without a pipe lasts only as long as it must. */
static int set_up_short_grace(void **state)
{
    (void)state;
    static const char *const args[] = {"--set", "limits.session_grace_ms=300ms", "--set",
                                       "limits.session_ttl_ms=1s", NULL};
    set_up_with(args);
    make_group();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    workerd_proc_kill(w);
    workerd_proc_kill(&second);
    sluice_close(client, 1000, NULL, NULL);
    broker_end(&broker);
    return 0;
}

static void publish(const char *key, const char *value)
{
    struct sluice_error e;
    must(sluice_publish(client,
                        &(struct sluice_message){.size = sizeof(struct sluice_message),
                                                 .topic = "t",
                                                 .key = sluice_str(key),
                                                 .value = sluice_str(value)},
                        NULL, &e),
         &e);
}

static struct sluice_lag lag(void)
{
    struct sluice_error e;
    struct sluice_lag_list *l;
    must(sluice_group_lag(client, "t", "g", &l, &e), &e);
    struct sluice_lag row = l->rows[0];
    sluice_lag_free(l);
    return row;
}

#define UNTIL_DONE() EVENTUALLY(60000, lag().lag_messages == 0)

static double counted(const char *name)
{
    return broker_metric(&broker, name);
}

/* The broker's counters are of one moment, but not of this one: what came last is waited for, then the
   others are right too. */
#define UNTIL_COUNTED(name, n) EVENTUALLY(60000, counted(name) >= (n))

/* ---- the daemon ---- */

static void start_daemon(const char *more)
{
    FILE *f = fopen(config_path, "w");
    assert_non_null(f);
    fprintf(f,
            "broker: %s\n"
            "grace: 30s\n"
            "handlers:\n"
            "  - name: tester\n"
            "    file: %s/%s\n"
            "    topic: t\n"
            "    group: g\n"
            "%s",
            broker.url, getenv("TEST_HANDLERS"), handler_file, more);
    fclose(f);
    workerd_proc_start(w, (const char *const[]){"-c", config_path, NULL});
}

static void start_ready(const char *more)
{
    start_daemon(more);
    workerd_proc_ready(w);
}

static void stop_daemon(void)
{
    kill(w->pid, SIGTERM);
    assert_int_equal(workerd_proc_end(w), 0);
}

static const char *hold(void)
{
    static char value[80];
    snprintf(value, sizeof value, "hold %s", gate.path);
    return value;
}

/* ---- */

static void it_says_when_it_is_ready(void **state)
{
    (void)state;
    start_ready("    processes: 2\n");
    assert_string_equal(w->printed,
                        "{\"ready\":true,\"handlers\":[{\"name\":\"tester\",\"processes\":2}]}\n");
    stop_daemon();
}

/* ---- seen from outside ---- */

static char http[64];

static bool http_says(const char *path, int status, const char *part)
{
    struct http_reply r;
    http_get(http, "GET", path, &r);
    bool found = r.status == status && strstr(r.body, part) != NULL;
    http_reply_free(&r);
    return found;
}

static void who_looks_sees_how_it_goes(void **state)
{
    (void)state;
    start_ready("    processes: 2\nhttp: 127.0.0.1:0\n");
    const char *at = strstr(w->printed, "\"http\":\"");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "\"http\":\"%63[^\"]", http), 1);
    EVENTUALLY(60000, http_says("/readyz", 200, "ready\n"));
    for (int i = 0; i < 3; i++)
        publish(NULL, "ack");
    publish(NULL, "park too-blue");
    EVENTUALLY(60000, http_says("/metrics", 200, "sluice_worker_tasks_total{handler=\"tester\",outcome=\"done\"} 3\n"));
    EVENTUALLY(60000, http_says("/metrics", 200, "sluice_worker_tasks_total{handler=\"tester\",outcome=\"parked\"} 1\n"));
    assert_true(http_says("/metrics", 200, "handler=\"tester\",topic=\"t\",group=\"g\",version=\"1.2.3\",part=\"all\"} 1\n"));
    assert_true(http_says("/scale.json", 200, "\"wanted\":2,\"up\":2"));
    broker_kill(&broker);
    EVENTUALLY(60000, http_says("/readyz", 503, "not ready: the broker is not reached\n"));
    assert_true(http_says("/livez", 200, "ok\n")); /* no reason to be started again */
    broker_restart(&broker);
    EVENTUALLY(60000, http_says("/readyz", 200, "ready\n"));
    stop_daemon();
}

static void every_message_is_worked_on_once_if_nothing_fails(void **state)
{
    (void)state;
    char key[8];
    start_ready("    processes: 3\n");
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "%d", i % 7);
        publish(i % 3 == 0 ? NULL : key, "ack");
    }
    UNTIL_DONE();
    UNTIL_COUNTED("sluice_acked_messages_total", 300);
    assert_true(counted("sluice_delivered_messages_total") == 300);
    stop_daemon();
    assert_non_null(
        strstr(w->said, "drained handler=tester done=300 retried=0 parked=0 crashed=0 given_back=0 lost=0"));
}

static void a_parked_message_keeps_its_reason(void **state)
{
    (void)state;
    struct sluice_error e;
    struct sluice_dlq *d;
    start_ready("");
    publish("k", "park too-blue");
    UNTIL_DONE();
    must(sluice_dlq_list(client, "t", "g", NULL, &d, &e), &e);
    assert_int_equal(sluice_dlq_count(d), 1);
    assert_string_equal(sluice_dlq_at(d, 0)->reason, "too-blue");
    assert_string_equal(sluice_dlq_at(d, 0)->last_error, "because the message says so");
    sluice_dlq_free(d);
    UNTIL_COUNTED("sluice_parked_messages_total", 1);
    assert_true(counted("sluice_delivered_messages_total") == 1); /* at its first delivery */
}

static void a_crash_costs_its_message_one_delivery_and_the_others_none(void **state)
{
    (void)state;
    struct sluice_error e;
    struct sluice_dlq *d;
    for (int i = 0; i < 20; i++)
        publish(NULL, i == 5 ? "segv" : "ack");
    start_ready("");
    UNTIL_DONE();
    must(sluice_dlq_list(client, "t", "g", NULL, &d, &e), &e);
    assert_int_equal(sluice_dlq_count(d), 1);
    assert_int_equal(sluice_dlq_at(d, 0)->message.offset, 5);
    assert_string_equal(sluice_dlq_at(d, 0)->last_error, "killed by SIGSEGV (version 1.2.3)");
    sluice_dlq_free(d);
    UNTIL_COUNTED("sluice_acked_messages_total", 19);
    UNTIL_COUNTED("sluice_nacked_messages_total", 2); /* max_deliveries */
    assert_true(counted("sluice_redelivered_messages_total") == 1);
}

/* Everything that this group gave up. */
static size_t dead_letters(char *error, size_t size)
{
    struct sluice_error e;
    struct sluice_dlq *d;
    must(sluice_dlq_list(client, "t", "g", NULL, &d, &e), &e);
    size_t n = sluice_dlq_count(d);
    if (n > 0)
        snprintf(error, size, "%s", sluice_dlq_at(d, 0)->last_error);
    sluice_dlq_free(d);
    return n;
}

static void remake_group(int park)
{
    struct sluice_error e;
    must(sluice_group_delete(client, "t", "g", &e), &e);
    must(sluice_group_create(client, "t", "g",
                             &(struct sluice_group_options){.size = sizeof(struct sluice_group_options),
                                                            .park = park,
                                                            .max_deliveries = 3,
                                                            .backoff_min_ms = 10,
                                                            .backoff_max_ms = 20},
                             NULL, &e),
         &e);
}

/* ---- a message that kills its handler until it is mended: the first of key "bad", whose others are
   logged */

static char fix_path[96], log_path[96];

static void publish_bad_and_good(void)
{
    char key[8], value[300];
    snprintf(fix_path, sizeof fix_path, "%s/fix", gate.dir);
    snprintf(log_path, sizeof log_path, "%s/log", gate.dir);
    unlink(fix_path);
    unlink(log_path);
    snprintf(value, sizeof value, "broken %s %s 0", fix_path, log_path);
    publish("bad", value);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "%d", i % 10);
        publish(key, "ack");
        if (i % 25 == 0) {
            snprintf(value, sizeof value, "log %s %d", log_path, i / 25 + 1);
            publish("bad", value);
        }
    }
}

static void assert_logged(const char *expected)
{
    char text[256];
    FILE *f = fopen(log_path, "r");
    size_t n = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = '\0';
    if (f != NULL)
        fclose(f);
    assert_string_equal(text, expected);
}

static void mend_and_redrive(void)
{
    struct sluice_error e;
    struct sluice_task_list *l;
    uint64_t task;
    bool done = false;
    close(open(fix_path, O_CREAT | O_WRONLY, 0666));
    must(sluice_dlq_redrive(client, "t", "g", NULL, &task, &e), &e);
    while (!done) {
        must(sluice_tasks(client, task, &l, &e), &e);
        done = l->tasks[0].state == SLUICE_TASK_DONE;
        sluice_tasks_free(l);
    }
}

static void a_key_whose_message_crashes_its_handler_waits_and_comes_in_order_after_the_fix(void **state)
{
    (void)state;
    char error[256] = "";
    remake_group(SLUICE_PARK_KEY);
    publish_bad_and_good();
    start_ready("    processes: 2\n");
    UNTIL_COUNTED("sluice_parked_messages_total", 1);
    UNTIL_COUNTED("sluice_acked_messages_total", 100);
    assert_int_equal(dead_letters(error, sizeof error), 1);
    assert_string_equal(error, "killed by SIGSEGV (version 1.2.3)");
    assert_true(counted("sluice_nacked_messages_total") == 3);
    assert_logged(""); /* the rest of its key waits */
    mend_and_redrive();
    UNTIL_COUNTED("sluice_acked_messages_total", 105);
    assert_logged("0\n1\n2\n3\n4\n");
    assert_int_equal(dead_letters(error, sizeof error), 0);
    stop_daemon();
}

static void a_key_goes_on_past_a_message_that_crashes_its_handler(void **state)
{
    (void)state;
    char error[256] = "";
    remake_group(SLUICE_PARK_MESSAGE);
    publish_bad_and_good();
    start_ready("    processes: 2\n");
    UNTIL_COUNTED("sluice_acked_messages_total", 104);
    assert_int_equal(dead_letters(error, sizeof error), 1);
    assert_logged("1\n2\n3\n4\n");
    mend_and_redrive();
    UNTIL_COUNTED("sluice_acked_messages_total", 105);
    assert_logged("1\n2\n3\n4\n0\n");
    stop_daemon();
}

static void one_of_a_batch_that_crashes_costs_itself_deliveries_and_the_others_none(void **state)
{
    (void)state;
    struct sluice_error e;
    struct sluice_dlq *d;
    handler_file = "batches.so";
    for (int i = 0; i < 64; i++)
        publish(NULL, i == 41 ? "segv" : "ack");
    start_ready("    processes: 2\n");
    UNTIL_DONE();
    must(sluice_dlq_list(client, "t", "g", NULL, &d, &e), &e);
    assert_int_equal(sluice_dlq_count(d), 1);
    assert_int_equal(sluice_dlq_at(d, 0)->message.offset, 41);
    assert_non_null(strstr(sluice_dlq_at(d, 0)->last_error, "killed by SIGSEGV"));
    sluice_dlq_free(d);
    UNTIL_COUNTED("sluice_acked_messages_total", 63);
    UNTIL_COUNTED("sluice_nacked_messages_total", 2); /* max_deliveries */
    assert_true(counted("sluice_redelivered_messages_total") == 1);
    assert_true(counted("sluice_delivered_messages_total") == 65);
    stop_daemon();
    assert_non_null(strstr(w->said, "crashed=2 given_back=0 lost=0"));
}

/* Of a key the runs are 0 1 2 .., again from somewhere before after a crash, and none is left out. */
static void assert_runs_in_order(const char *key, int last)
{
    char at[8];
    int number, before = -1;
    FILE *f = fopen(log_path, "r");
    assert_non_null(f);
    while (fscanf(f, "%1s%d", at, &number) == 2) {
        if (strcmp(at, key) != 0)
            continue;
        assert_true(number <= before + 1);
        before = number;
    }
    fclose(f);
    assert_int_equal(before, last);
}

static void runs_of_a_key_stay_in_order_in_several_processes_that_crash(void **state)
{
    (void)state;
    struct sluice_error e;
    char value[300], key[2] = "";
    snprintf(log_path, sizeof log_path, "%s/log", gate.dir);
    unlink(log_path);
    handler_file = "batches.so";
    must(sluice_group_alter(
             client, "t", "g",
             &(struct sluice_group_options){.size = sizeof(struct sluice_group_options), .run_max = 4},
             SLUICE_GROUP_RUN_MAX, &e),
         &e);
    for (int i = 0; i < 90; i++) {
        key[0] = (char)('a' + i % 3);
        snprintf(value, sizeof value, "log %s %s%d", log_path, key, i / 3);
        publish(key, value);
        if (i == 40)
            publish("b", "segv");
    }
    start_ready("    processes: 3\n    batch_max: 8\n");
    UNTIL_DONE();
    UNTIL_COUNTED("sluice_acked_messages_total", 90);
    assert_runs_in_order("a", 29);
    assert_runs_in_order("b", 29);
    assert_runs_in_order("c", 29);
    stop_daemon();
}

/* ---- with threads ---- */

static unsigned reached; /* how many came to the gate, if the test begins with 0 */

static bool come(unsigned n)
{
    while (gate_reached(&gate))
        reached++;
    return reached >= n;
}

/* Lets through whoever comes to the gate. */
static bool done_behind_the_gate(void)
{
    while (gate_reached(&gate))
        gate_pass(&gate);
    return lag().lag_messages == 0;
}

static size_t lines_logged(void)
{
    size_t n = 0;
    FILE *f = fopen(log_path, "r");
    for (int c; f != NULL && (c = getc(f)) != EOF;)
        n += c == '\n';
    if (f != NULL)
        fclose(f);
    return n;
}

static void threads_work_at_once_and_keep_the_order_of_keys(void **state)
{
    (void)state;
    struct sluice_error e;
    char value[300], key[2] = "";
    snprintf(log_path, sizeof log_path, "%s/log", gate.dir);
    unlink(log_path);
    must(sluice_group_alter(
             client, "t", "g",
             &(struct sluice_group_options){.size = sizeof(struct sluice_group_options), .run_max = 4},
             SLUICE_GROUP_RUN_MAX, &e),
         &e);
    start_ready("    threads: 4\n");
    reached = 0;
    for (int i = 0; i < 4; i++)
        publish(NULL, hold());
    EVENTUALLY(60000, come(4)); /* all of them in the one process */
    for (int i = 0; i < 4; i++)
        gate_pass(&gate);
    for (int i = 0; i < 90; i++) {
        key[0] = (char)('a' + i % 3);
        snprintf(value, sizeof value, "log %s %s%d", log_path, key, i / 3);
        publish(key, value);
    }
    UNTIL_DONE();
    UNTIL_COUNTED("sluice_acked_messages_total", 94);
    assert_int_equal(lines_logged(), 90);
    assert_runs_in_order("a", 29);
    assert_runs_in_order("b", 29);
    assert_runs_in_order("c", 29);
    stop_daemon();
}

/* Three that run beside a fourth, which ends their process twice: it is parked with this error, and no other has failed. */
static void assert_only_it_pays(const char *neighbour, const char *culprit, const char *error)
{
    struct sluice_error e;
    struct sluice_dlq *d;
    reached = 0;
    for (int i = 0; i < 3; i++)
        publish(NULL, neighbour);
    EVENTUALLY(60000, come(3));
    publish(NULL, culprit);
    for (int i = 0; i < 20; i++)
        publish(NULL, "ack");
    assert_non_null(workerd_proc_says(w, NULL, "child down"));
    EVENTUALLY(60000, done_behind_the_gate());
    must(sluice_dlq_list(client, "t", "g", NULL, &d, &e), &e);
    assert_int_equal(sluice_dlq_count(d), 1);
    assert_int_equal(sluice_dlq_at(d, 0)->message.offset, 3);
    assert_string_equal(sluice_dlq_at(d, 0)->last_error, error);
    sluice_dlq_free(d);
    UNTIL_COUNTED("sluice_acked_messages_total", 23);
    UNTIL_COUNTED("sluice_nacked_messages_total", 2); /* max_deliveries */
    assert_true(counted("sluice_redelivered_messages_total") == 1);
}

static void a_crash_in_a_thread_costs_its_message_deliveries_and_its_neighbours_none(void **state)
{
    (void)state;
    start_ready("    threads: 4\n");
    assert_only_it_pays(hold(), "segv", "killed by SIGSEGV (version 1.2.3)");
    assert_non_null(workerd_proc_says(w, NULL, "its halves are tried apart handler=tester tasks=4"));
    stop_daemon();
}

static void a_thread_that_hangs_costs_its_message_deliveries_and_its_neighbours_none(void **state)
{
    (void)state;
    char value[100];
    snprintf(value, sizeof value, "extend %s", gate.path);
    start_ready("    threads: 4\n    timeout: 1s\n");
    assert_only_it_pays(value, "hang", "timeout after 1s (version 1.2.3)");
    stop_daemon();
    assert_null(strstr(w->said, "tried apart")); /* it was known */
}

static void twenty_kills_of_the_broker_park_no_task_that_is_good(void **state)
{
    (void)state;
    char error[256] = "";
    for (int i = 0; i < 100; i++)
        publish(NULL, "nap 250");
    start_ready("    processes: 4\n");
    for (int i = 0; i < 20; i++) {
        uint64_t before = lag().lag_messages;
        broker_kill(&broker);
        broker_restart(&broker);
        EVENTUALLY(60000, lag().lag_messages < before || before == 0); /* tasks end between any two */
    }
    UNTIL_DONE();
    assert_int_equal(dead_letters(error, sizeof error), 0);
    assert_true(counted("sluice_redelivered_messages_total") == 0); /* nothing failed */
    stop_daemon();
    assert_non_null(strstr(w->said, "drained handler=tester done=100 retried=0 parked=0 crashed=0"));
}

static void a_lease_outlives_its_term_while_its_child_works(void **state)
{
    (void)state;
    publish(NULL, hold());
    start_ready("    lease: 3s\n"); /* extended each second, which a slow machine can do */
    EVENTUALLY(60000, gate_reached(&gate));
    EVENTUALLY(60000, counted("sluice_extended_leases_total") >= 5); /* more than a term later */
    assert_true(counted("sluice_expired_leases_total") == 0);
    gate_pass(&gate);
    UNTIL_DONE();
    UNTIL_COUNTED("sluice_acked_messages_total", 1);
    assert_true(counted("sluice_delivered_messages_total") == 1);
}

static void a_killed_broker_is_met_again_and_nothing_is_done_twice(void **state)
{
    (void)state;
    publish("a", hold());
    publish("b", "ack");
    start_ready("");
    EVENTUALLY(60000, gate_reached(&gate));
    broker_kill(&broker);
    broker_restart(&broker);
    gate_pass(&gate);
    UNTIL_DONE();
    UNTIL_COUNTED("sluice_acked_messages_total", 1);
    assert_true(counted("sluice_delivered_messages_total") == 0); /* since the restart */
    publish("a", "ack");
    UNTIL_DONE();
    stop_daemon();
    assert_non_null(strstr(w->said, "drained handler=tester done=3 "));
}

static void a_daemon_that_was_away_too_long_opens_a_new_session(void **state)
{
    (void)state;
    publish("a", hold());
    start_ready("");
    EVENTUALLY(60000, gate_reached(&gate));
    kill(w->pid, SIGSTOP);
    sluice_close(client, 1000, NULL, NULL); /* our own session would be as short */
    broker_kill(&broker);
    broker_restart(&broker);
    EVENTUALLY(60000, counted("sluice_sessions_expired_total") >= 1);
    open_client();
    kill(w->pid, SIGCONT);
    /* The message comes a second time, as nobody knew that its work went on. */
    gate_pass(&gate);
    gate_pass(&gate);
    UNTIL_DONE();
    publish("a", "ack");
    UNTIL_DONE();
    stop_daemon();
    assert_non_null(strstr(w->said, "lost=1"));
}

static void what_a_killed_daemon_held_goes_to_another(void **state)
{
    (void)state;
    publish("a", hold());
    publish("b", "ack");
    start_ready("    pipeline: 1\n");
    EVENTUALLY(60000, gate_reached(&gate));
    workerd_proc_kill(w);
    start_ready("");
    EVENTUALLY(60000, gate_reached(&gate));
    gate_pass(&gate);
    UNTIL_DONE();
    assert_true(lag().parked == 0);
    stop_daemon();
}

/* The first fetches ahead, as all is quick, until it meets what is not. */
static void two_daemons_share_what_takes_long_though_one_fetched_it_ahead(void **state)
{
    (void)state;
    enum { QUICK = 5000, SLOW = 6 };
    struct sluice_error e;
    char quick[] = "ack";
    for (int i = 0; i < QUICK + SLOW; i++) {
        const struct sluice_message m = {.size = sizeof(struct sluice_message),
                                         .topic = "t",
                                         .value = sluice_str(i < QUICK ? quick : hold())};
        must(sluice_publish_async(client, &m, NULL, NULL, &e), &e);
    }
    must(sluice_flush(client, 60000, &e), &e);
    start_ready("    pipeline: 1\n    timeout: 5m\n");
    EVENTUALLY(60000, gate_reached(&gate)); /* what was given back in a hiccup may still be behind it */
    workerd_proc_start(&second, (const char *const[]){"-c", config_path, NULL});
    workerd_proc_ready(&second);
    EVENTUALLY(60000, gate_reached(&gate)); /* it got one of them, */
    EVENTUALLY(60000, lag().in_flight == 2); /* and nobody keeps another back */
    assert_in_range(lag().lag_messages, SLOW, QUICK);
    for (int i = 0; i < SLOW; i++)
        gate_pass(&gate);
    UNTIL_DONE();
    UNTIL_COUNTED("sluice_acked_messages_total", QUICK + SLOW);
    assert_true(counted("sluice_nacked_messages_total") == 0);
    kill(second.pid, SIGTERM);
    assert_int_equal(workerd_proc_end(&second), 0);
    stop_daemon();
}

static void sigterm_finishes_what_runs_and_gives_back_the_rest(void **state)
{
    (void)state;
    publish("a", hold());
    publish("b", "ack");
    publish("c", "ack");
    start_ready("");
    EVENTUALLY(60000, gate_reached(&gate));
    EVENTUALLY(60000, lag().in_flight == 3);
    kill(w->pid, SIGTERM);
    EVENTUALLY(60000, lag().in_flight == 1);
    gate_pass(&gate);
    assert_int_equal(workerd_proc_end(w), 0);
    assert_int_equal(lag().lag_messages, 2);
    assert_int_equal(lag().in_flight, 0);
    UNTIL_COUNTED("sluice_released_messages_total", 2);
    start_ready("");
    UNTIL_DONE();
    UNTIL_COUNTED("sluice_acked_messages_total", 3);
    assert_true(counted("sluice_nacked_messages_total") == 0);
    assert_true(counted("sluice_redelivered_messages_total") == 0); /* not started, not counted */
    stop_daemon();
}

static void a_second_signal_ends_it_at_once(void **state)
{
    (void)state;
    start_ready("    processes: 2\n"); /* both are there before the messages: one takes the first, the other the second */
    publish("a", "hang");
    publish("b", hold());
    EVENTUALLY(60000, gate_reached(&gate)); /* said once */
    EVENTUALLY(60000, lag().in_flight == 2);
    kill(w->pid, SIGTERM);
    assert_non_null(workerd_proc_says(w, NULL, "draining"));
    kill(w->pid, SIGINT);
    assert_int_equal(workerd_proc_end(w), 1);
}

static void a_missing_group_is_named_and_waited_for(void **state)
{
    (void)state;
    set_up_with(NULL);
    start_ready("");
    const char *line = workerd_proc_says(w, NULL, "cannot receive");
    assert_non_null(line);
    assert_has(line, "sluice group create g");
    make_group();
    publish(NULL, "ack");
    UNTIL_DONE();
    stop_daemon();
}

static void it_waits_for_a_broker_that_comes_later(void **state)
{
    (void)state;
    broker_kill(&broker);
    start_daemon("");
    assert_non_null(workerd_proc_says(w, NULL, "cannot reach the broker"));
    broker_restart(&broker);
    workerd_proc_ready(w);
    publish(NULL, "ack");
    UNTIL_DONE();
    stop_daemon();
}

/* ---- */

static int make_gate(void **state)
{
    (void)state;
    int code = gate_make(&gate);
    snprintf(config_path, sizeof config_path, "%s/workerd.yaml", gate.dir);
    return code;
}

static int remove_gate(void **state)
{
    (void)state;
    unlink(config_path);
    unlink(fix_path);
    unlink(log_path);
    return gate_remove(&gate);
}

#define TALK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define TALK_SHORT_GRACE(test) cmocka_unit_test_setup_teardown(test, set_up_short_grace, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TALK(it_says_when_it_is_ready),
        TALK(who_looks_sees_how_it_goes),
        TALK(every_message_is_worked_on_once_if_nothing_fails),
        TALK(a_parked_message_keeps_its_reason),
        TALK(a_crash_costs_its_message_one_delivery_and_the_others_none),
        TALK(a_key_whose_message_crashes_its_handler_waits_and_comes_in_order_after_the_fix),
        TALK(a_key_goes_on_past_a_message_that_crashes_its_handler),
        TALK(one_of_a_batch_that_crashes_costs_itself_deliveries_and_the_others_none),
        TALK(runs_of_a_key_stay_in_order_in_several_processes_that_crash),
        TALK(threads_work_at_once_and_keep_the_order_of_keys),
        TALK(a_crash_in_a_thread_costs_its_message_deliveries_and_its_neighbours_none),
        TALK(a_thread_that_hangs_costs_its_message_deliveries_and_its_neighbours_none),
        TALK(twenty_kills_of_the_broker_park_no_task_that_is_good),
        TALK(a_lease_outlives_its_term_while_its_child_works),
        TALK(a_killed_broker_is_met_again_and_nothing_is_done_twice),
        TALK_SHORT_GRACE(a_daemon_that_was_away_too_long_opens_a_new_session),
        TALK_SHORT_GRACE(what_a_killed_daemon_held_goes_to_another),
        TALK(two_daemons_share_what_takes_long_though_one_fetched_it_ahead),
        TALK(sigterm_finishes_what_runs_and_gives_back_the_rest),
        TALK(a_second_signal_ends_it_at_once),
        cmocka_unit_test_teardown(a_missing_group_is_named_and_waited_for, tear_down),
        TALK(it_waits_for_a_broker_that_comes_later),
    };
    return cmocka_run_group_tests(tests, make_gate, remove_gate);
}

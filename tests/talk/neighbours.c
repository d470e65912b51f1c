/*
 * A good handler beside one that leaks 10 MB a task, one that hangs and one that crashes now and then, in one
 * daemon with the real broker. (How much slower the good one gets is measured: sluice-bench neighbours.)
 */
#include "talk.h"

#include <signal.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "workerd_proc.h"

enum { GOOD, LEAK, HANG, CRASH, KINDS, PATIENCE_MS = 60000 };

/* Each `bad_each`-th message is `bad`, and is never done. */
static const struct kind {
    const char *name, *value, *bad;
    unsigned count, bad_each, deliveries;
    const char *limits, *error;
} kinds[KINDS] = {
    [GOOD] = {"good", "ack", NULL, 400, 0, 2, "", NULL},
    /* Each sixth or so finds no memory, and is done at a later delivery. */
    [LEAK] = {"leak", "drip", NULL, 30, 0, 20, "    memory: 80MiB\n", NULL},
    [HANG] = {"hang", "ack", "hang", 40, 20, 2, "    timeout: 1s\n", "timeout after 1s (version 6.6.6, at 40 % halfway)"},
    [CRASH] = {"crash", "ack", "segv", 300, 100, 2, "", "killed by SIGSEGV (version 6.6.6)"},
};

static struct broker_proc broker;
static struct workerd_proc daemon_proc, *w = &daemon_proc;
static struct sluice *client;
static char config_path[] = "/tmp/sluice-talk-XXXXXX";

static void must(int code, const struct sluice_error *e)
{
    if (code != 0)
        fail_msg("%s: %s", sluice_code_name(code), e->text);
}

static int set_up(void **state)
{
    (void)state;
    struct sluice_error e;
    broker_start(&broker, NULL);
    must(sluice_open(&client, &(struct sluice_options){.size = sizeof(struct sluice_options), .broker = broker.url}, &e), &e);
    for (int k = 0; k < KINDS; k++) {
        struct sluice_group_options o = {.size = sizeof o, .max_deliveries = kinds[k].deliveries, .backoff_min_ms = 10, .backoff_max_ms = 20};
        must(sluice_topic_create(client, kinds[k].name, NULL, NULL, &e), &e);
        must(sluice_group_create(client, kinds[k].name, "g", &o, NULL, &e), &e);
    }
    w->pid = 0;
    close(mkstemp(config_path));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    workerd_proc_kill(w);
    unlink(config_path);
    sluice_close(client, 1000, NULL, NULL);
    broker_end(&broker);
    return 0;
}

static void start_daemon(void)
{
    FILE *f = fopen(config_path, "w");
    assert_non_null(f);
    fprintf(f, "broker: %s\nhandlers:\n", broker.url);
    for (int k = 0; k < KINDS; k++)
        fprintf(f, "  - name: %s\n    file: %s/rogue.so\n    topic: %s\n    group: g\n%s", kinds[k].name,
                getenv("TEST_HANDLERS"), kinds[k].name, kinds[k].limits);
    fclose(f);
    workerd_proc_start(w, (const char *const[]){"-c", config_path, NULL});
    workerd_proc_ready(w);
}

static bool is_bad(int kind, unsigned i)
{
    return kinds[kind].bad_each != 0 && i % kinds[kind].bad_each == kinds[kind].bad_each / 2;
}

static void publish(int kind, unsigned i)
{
    struct sluice_error e;
    struct sluice_message m = {.size = sizeof m,
                               .topic = kinds[kind].name,
                               .value = sluice_str(is_bad(kind, i) ? kinds[kind].bad : kinds[kind].value)};
    must(sluice_publish_async(client, &m, NULL, NULL, &e), &e);
}

static uint64_t left(int kind)
{
    struct sluice_error e;
    struct sluice_lag_list *l;
    must(sluice_group_lag(client, kinds[kind].name, "g", &l, &e), &e);
    uint64_t n = l->rows[0].lag_messages;
    sluice_lag_free(l);
    return n;
}

/* Exactly the bad ones are dead letters, each with the reason of its kind. Returns how many. */
static unsigned check_letters(int kind)
{
    struct sluice_error e;
    struct sluice_dlq *d;
    must(sluice_dlq_list(client, kinds[kind].name, "g", NULL, &d, &e), &e);
    size_t n = sluice_dlq_count(d);
    unsigned expected = 0;
    for (unsigned i = 0; i < kinds[kind].count; i++)
        expected += is_bad(kind, i);
    assert_int_equal(n, expected);
    for (size_t i = 0; i < n; i++) {
        assert_true(is_bad(kind, (unsigned)sluice_dlq_at(d, i)->message.offset));
        assert_string_equal(sluice_dlq_at(d, i)->last_error, kinds[kind].error);
    }
    sluice_dlq_free(d);
    return expected;
}

static void harm_next_door_costs_a_good_handler_nothing_and_everything_is_done_or_parked(void **state)
{
    (void)state;
    struct sluice_error e;
    char line[96];
    start_daemon();
    for (unsigned i = 0; i < kinds[GOOD].count; i++) {
        for (int k = 0; k < KINDS; k++) {
            if (i < kinds[k].count)
                publish(k, i);
        }
    }
    must(sluice_flush(client, PATIENCE_MS, &e), &e);
    for (int k = 0; k < KINDS; k++) {
        EVENTUALLY(PATIENCE_MS, left(k) == 0);
    }
    kill(w->pid, SIGTERM);
    assert_int_equal(workerd_proc_end(w), 0);
    for (int k = 0; k < KINDS; k++) {
        unsigned bad = check_letters(k);
        snprintf(line, sizeof line, "drained handler=%s done=%u ", kinds[k].name, kinds[k].count - bad);
        assert_has(w->said, line);
    }
    assert_has(w->said, "drained handler=good done=400 retried=0 parked=0 crashed=0 given_back=0 lost=0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            harm_next_door_costs_a_good_handler_nothing_and_everything_is_done_or_parked, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The worker daemon with the real broker: processes come with a backlog and go with it.
 */
#include "talk.h"

#include <signal.h>
#include <unistd.h>

#include <sluice/sluice.h>

#include "base/clock.h"
#include "workerd_gate.h"
#include "workerd_proc.h"

enum { TARGET_MS = 3000, BURST = 1500, BURST_NAP_MS = 10, PROCESSES_MAX = 8 };

static struct broker_proc broker;
static struct workerd_proc daemon_proc, *w = &daemon_proc;
static struct gate gate;
static struct sluice *client;
static char config_path[64];

static void must(int code, const struct sluice_error *e)
{
    if (code != 0)
        fail_msg("%s: %s", sluice_code_name(code), e->text);
}

static int set_up_with(const char *const *args)
{
    struct sluice_error e;
    broker_start(&broker, args);
    must(sluice_open(&client,
                     &(struct sluice_options){.size = sizeof(struct sluice_options), .broker = broker.url},
                     &e),
         &e);
    must(sluice_topic_create(client, "t", NULL, NULL, &e), &e);
    must(sluice_group_create(client, "t", "g", NULL, NULL, &e), &e);
    gate_reset(&gate);
    w->pid = 0;
    FILE *f = fopen(config_path, "w");
    assert_non_null(f);
    fprintf(f,
            "broker: %s\n"
            "http: 127.0.0.1:0\n"
            "handlers:\n"
            "  - name: tester\n"
            "    file: %s/obedient.so\n"
            "    topic: t\n"
            "    group: g\n"
            "    processes_min: 0\n"
            "    processes_max: %d\n"
            "    target_drain: %dms\n"
            "    scale_down_after: 1s\n",
            broker.url, getenv("TEST_HANDLERS"), PROCESSES_MAX, TARGET_MS);
    fclose(f);
    workerd_proc_start(w, (const char *const[]){"-c", config_path, NULL});
    workerd_proc_ready(w);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    return set_up_with(NULL);
}

static int set_up_silent(void **state)
{
    (void)state;
    static const char *const args[] = {"--no-publish", NULL};
    return set_up_with(args);
}

static int tear_down(void **state)
{
    (void)state;
    workerd_proc_kill(w);
    sluice_close(client, 1000, NULL, NULL);
    broker_end(&broker);
    return 0;
}

static void publish(const char *value, unsigned times)
{
    struct sluice_error e;
    const struct sluice_message m = {
        .size = sizeof(struct sluice_message), .topic = "t", .value = sluice_str(value)};
    for (unsigned i = 0; i < times; i++)
        must(sluice_publish_async(client, &m, NULL, NULL, &e), &e);
    must(sluice_flush(client, 10000, &e), &e);
}

static uint64_t lag(void)
{
    struct sluice_error e;
    struct sluice_lag_list *l;
    must(sluice_group_lag(client, "t", "g", &l, &e), &e);
    uint64_t n = l->rows[0].lag_messages;
    sluice_lag_free(l);
    return n;
}

/* The next decision behind `from` that changed something and left no process. */
static const char *zero(const char *from)
{
    const char *line = workerd_proc_says(w, from, "scale handler=tester wanted=0 ");
    assert_non_null(line);
    return strchr(line, '\n');
}

static void from_zero_the_first_message_is_handled_soon(void **state)
{
    (void)state;
    char value[80];
    snprintf(value, sizeof value, "hold %s", gate.path);
    const char *at = zero(NULL);
    for (int i = 0; i < 2; i++) {
        publish(value, 1);
        uint64_t began = clock_mono_ms();
        while (!gate_reached(&gate)) {
            usleep(1000); /* not to wait, but not to take the time of those who work */
            assert_true(clock_mono_ms() - began < 60000);
        }
        unsigned took = (unsigned)(clock_mono_ms() - began);
        print_message("from zero to the handler: %u ms\n", took);
        assert_in_range(took, 0, 5000);
        gate_pass(&gate);
        EVENTUALLY(60000, lag() == 0);
        at = zero(at);
    }
}

/* How often the lag was told in that way. */
static unsigned told(const char *way)
{
    char http[64], name[80];
    struct http_reply r;
    const char *at = strstr(w->printed, "\"http\":\"");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "\"http\":\"%63[^\"]", http), 1);
    http_get(http, "GET", "/metrics", &r);
    assert_int_equal(r.status, 200);
    snprintf(name, sizeof name, "\nsluice_worker_lag_%s_total{handler=\"tester\"} ", way);
    assert_non_null(at = strstr(r.body, name));
    unsigned n = (unsigned)strtoul(at + strlen(name), NULL, 10);
    http_reply_free(&r);
    return n;
}

/* A decision as the log has it. */
struct said {
    unsigned wanted, had, enough;
    double backlog, service_ms, target_ms;
};

static const char *next_said(const char *from, struct said *out)
{
    char line[512], *at;
    from = strstr(from, "scale handler=tester ");
    if (from == NULL || strchr(from, '\n') == NULL)
        return NULL;
    snprintf(line, sizeof line, "%.*s", (int)strcspn(from, "\n"), from);
    assert_int_equal(sscanf(line, "scale handler=tester wanted=%u had=%u", &out->wanted, &out->had), 2);
    assert_non_null(at = strstr(line, " enough="));
    assert_int_equal(sscanf(at, " enough=%u backlog=%lf", &out->enough, &out->backlog), 2);
    assert_non_null(at = strstr(line, " service_ms="));
    assert_int_equal(sscanf(at, " service_ms=%lf target_ms=%lf", &out->service_ms, &out->target_ms), 2);
    return strchr(from, '\n');
}

static void a_burst_is_met_and_gone_with_one_change_of_direction(void **state)
{
    (void)state;
    char value[16];
    struct said s;
    unsigned most = 0, ups = 0, changes = 0;
    int direction = 0;
    snprintf(value, sizeof value, "nap %d", BURST_NAP_MS);
    const char *at = zero(NULL);
    publish(value, BURST / 100); /* the usual */
    EVENTUALLY(60000, lag() == 0);
    at = zero(at);
    publish(value, BURST);
    uint64_t began = clock_mono_ms();
    assert_non_null(workerd_proc_says(w, at, "why=lag"));
    unsigned reaction = (unsigned)(clock_mono_ms() - began);
    EVENTUALLY(60000, lag() == 0);
    print_message("told %u times by publications, %u times when asked\n", told("published"), told("asked"));
    assert_in_range(told("published"), 3, 1000000); /* it changed for seconds */
    assert_non_null(strstr(w->said, "lag from=publications"));
    unsigned drained = (unsigned)(clock_mono_ms() - began);
    print_message("burst of %d, %d ms each: reaction after %u ms, drained after %u ms of %d\n", BURST,
                  BURST_NAP_MS, reaction, drained, TARGET_MS);
    assert_in_range(drained, 0,
                    5 * TARGET_MS); /* one process alone takes as long, and what is between two tasks */
    zero(at);
    for (const char *line = at; (line = next_said(line, &s)) != NULL;) {
        print_message("  %u -> %u (enough %u)\n", s.had, s.wanted, s.enough);
        if (s.wanted > s.had) {
            double formula = s.backlog * s.service_ms / s.target_ms;
            assert_true(s.target_ms >= TARGET_MS * 0.75 && s.target_ms <= TARGET_MS);
            assert_true(s.enough >= formula - 0.1 && s.enough <= formula + 1.1); /* it is printed rounded */
            assert_true(s.wanted <= s.enough);
        }
        int moved = s.wanted > s.had ? 1 : s.wanted < s.had ? -1 : 0;
        changes += moved != 0 && moved == -direction;
        direction = moved != 0 ? moved : direction;
        ups += moved > 0;
        most = s.wanted > most ? s.wanted : most;
    }
    /* 15 seconds of work for 3; the first second of them goes by with one process. */
    assert_in_range(most, 3, PROCESSES_MAX);
    assert_in_range(ups, 1, 4);
    assert_int_equal(changes, 1);
    kill(w->pid, SIGTERM);
    assert_int_equal(workerd_proc_end(w), 0);
    assert_non_null(strstr(w->said, "retried=0 parked=0 crashed=0 given_back=0 lost=0"));
}

static void where_nothing_is_published_the_broker_is_asked(void **state)
{
    (void)state;
    char value[16];
    snprintf(value, sizeof value, "nap %d", BURST_NAP_MS);
    const char *at = zero(NULL);
    publish(value, BURST / 100);
    EVENTUALLY(60000, lag() == 0);
    at = zero(at);
    publish(value, BURST);
    uint64_t began = clock_mono_ms();
    assert_non_null(workerd_proc_says(w, at, "why=lag"));
    print_message("nothing published: reaction after %u ms\n", (unsigned)(clock_mono_ms() - began));
    EVENTUALLY(60000, told("asked") > 0);
    assert_int_equal(told("published"), 0);
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
    return gate_remove(&gate);
}

#define TALK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TALK(from_zero_the_first_message_is_handled_soon),
        TALK(a_burst_is_met_and_gone_with_one_change_of_direction),
        cmocka_unit_test_setup_teardown(where_nothing_is_published_the_broker_is_asked, set_up_silent, tear_down),
    };
    return cmocka_run_group_tests(tests, make_gate, remove_gate);
}

/* What the daemon says of itself: over HTTP, and to the service manager. */
#include "unit.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/macros.h"
#include "http_get.h"
#include "schemas/errors.h"
#include "workerd/figures.h"
#include "workerd/service.h"
#include "workerd/watch.h"

static struct figures_handler handlers[2];
static struct figures figures;
static struct watch *watch;

static void publish(void)
{
    figures_describe(&figures);
    watch_publish(watch, &figures);
}

static int set_up(void **state)
{
    (void)state;
    handlers[0] = (struct figures_handler){
        .name = "email", .topic = "orders", .group = "mail", .wanted = 2, .why = "steady", .moved = "first"};
    handlers[1] = (struct figures_handler){
        .name = "bill", .topic = "orders", .group = "bill", .wanted = 1, .why = "first", .moved = "first"};
    figures = (struct figures){.state = RUN_STARTING, .handlers_n = 2, .handlers = handlers};
    return watch_start(&watch, "127.0.0.1:0", NULL);
}

static int tear_down(void **state)
{
    (void)state;
    watch_stop(watch);
    return 0;
}

static void assert_get(const char *path, int status, const char *body)
{
    struct http_reply r;
    http_get(watch_address(watch), "GET", path, &r);
    if (r.status != status || strcmp(r.body, body) != 0)
        fail_msg("%s: %d %s", path, r.status, r.body);
    http_reply_free(&r);
}

/* ---- health ---- */

static void readyz_says_why_it_is_not_and_what_is_paused(void **state)
{
    (void)state;
    assert_get("/readyz", 503,
               "not ready: starting: the broker is not reached\n"); /* nothing was published yet */
    figures.reachable = true;
    handlers[1].up = 1;
    publish();
    assert_get("/readyz", 503, "not ready: starting: handler 'email' has 0 of 2 processes up\n");
    figures.state = RUN_READY;
    handlers[0].up = 2;
    publish();
    assert_get("/readyz", 200, "ready\n");
    handlers[0].breaker = BREAKER_OPEN;
    handlers[1].breaker = BREAKER_HALF_OPEN;
    publish();
    assert_get("/readyz", 200, "ready; breaker open: email, bill\n");
    figures.reachable = false;
    publish();
    assert_get("/readyz", 503, "not ready: the broker is not reached\n");
    figures.state = RUN_DRAINING;
    publish();
    assert_get("/readyz", 503, "not ready: stopping\n");
}

static void livez_says_that_the_process_runs(void **state)
{
    (void)state;
    assert_get("/livez", 200, "ok\n");
}

static void a_path_that_is_not_there_names_those_that_are(void **state)
{
    (void)state;
    assert_get("/", 404,
               "{\"error\":{\"status\":404,\"text\":\"no such path: there are /livez, /readyz, /metrics and "
               "/scale.json\"}}\n");
}

static void many_long_names_fit_into_one_line(void **state)
{
    (void)state;
    struct figures_handler many[256] = {{.name = ""}};
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        memset(many[i].name, 'n', NAME_MAX_BYTES);
        many[i].breaker = BREAKER_OPEN;
    }
    struct figures f = {.state = RUN_READY, .reachable = true, .handlers_n = 256, .handlers = many};
    figures_describe(&f);
    assert_int_equal(strlen(f.text), FIGURES_TEXT_MAX - 1);
    watch_publish(watch, &f);
    publish(); /* fewer again */
    assert_get("/readyz", 503, "not ready: starting: the broker is not reached\n");
}

/* ---- metrics ---- */

static void metrics_are_those_that_were_published_last(void **state)
{
    (void)state;
    handlers[0].counts =
        (struct run_counts){.done = 1, .retried = 2, .parked = 3, .crashed = 4, .given_back = 5, .lost = 6, .halved = 13,
                            .conflicts = 15};
    handlers[0].restarts = 7;
    handlers[0].up = 8;
    handlers[0].busy = 9;
    handlers[0].calls = 31;
    handlers[0].wanted = 10;
    handlers[0].had = 14;
    handlers[0].moved = "lag";
    handlers[0].held = 11;
    handlers[0].breaker = BREAKER_OPEN;
    handlers[0].breaker_opened = 12;
    strcpy(handlers[0].version, "1.2.3");
    strcpy(handlers[0].canary_version, "1.3.0");
    handlers[0].canary_percent = 10;
    handlers[0].versions_dropped = 2;
    figures_time(&handlers[0].times, 0);
    figures_time(&handlers[0].times, 1);
    figures_time(&handlers[0].times, 3);
    figures_time(&handlers[0].times, 500000);
    figures.reachable = true;
    figures.state = RUN_READY;
    publish();
    handlers[0].counts.done = 99; /* and this was not */

    static const char *const lines[] = {
        "sluice_worker_ready 1\n",
        "sluice_worker_broker_reachable 1\n",
        "sluice_worker_handler_info{handler=\"email\",topic=\"orders\",group=\"mail\",version=\"1.2.3\",part=\"all\"} 1\n",
        "group=\"mail\",version=\"1.3.0\",part=\"canary\"} 1\n",
        "sluice_worker_canary_percent{handler=\"email\"} 10\n",
        "sluice_worker_versions_dropped_total{handler=\"email\"} 2\n",
        "# TYPE sluice_worker_tasks_total counter\n",
        "sluice_worker_tasks_total{handler=\"email\",outcome=\"done\"} 1\n",
        "sluice_worker_tasks_total{handler=\"email\",outcome=\"retried\"} 2\n",
        "sluice_worker_tasks_total{handler=\"email\",outcome=\"parked\"} 3\n",
        "sluice_worker_tasks_total{handler=\"email\",outcome=\"crashed\"} 4\n",
        "sluice_worker_tasks_total{handler=\"email\",outcome=\"given_back\"} 5\n",
        "sluice_worker_tasks_total{handler=\"email\",outcome=\"lost\"} 6\n",
        "sluice_worker_tasks_total{handler=\"email\",outcome=\"conflicts\"} 15\n",
        "sluice_worker_tasks_total{handler=\"bill\",outcome=\"done\"} 0\n",
        "sluice_worker_restarts_total{handler=\"email\"} 7\n",
        "sluice_worker_processes{handler=\"email\"} 8\n",
        "sluice_worker_busy_processes{handler=\"email\"} 9\n",
        "sluice_worker_running_calls{handler=\"email\"} 31\n",
        "sluice_worker_wanted_processes{handler=\"email\"} 10\n",
        "sluice_worker_had_processes{handler=\"email\"} 14\n",
        "sluice_worker_scale_info{handler=\"email\",why=\"steady\",moved=\"lag\"} 1\n",
        "sluice_worker_held_tasks{handler=\"email\"} 11\n",
        "sluice_worker_breaker_opened_total{handler=\"email\"} 12\n",
        "sluice_worker_halved_batches_total{handler=\"email\"} 13\n",
        "sluice_worker_breaker{handler=\"email\",state=\"closed\"} 0\n",
        "sluice_worker_breaker{handler=\"email\",state=\"open\"} 1\n",
        "sluice_worker_breaker{handler=\"bill\",state=\"closed\"} 1\n",
        "# TYPE sluice_worker_service_seconds histogram\n",
        "sluice_worker_service_seconds_bucket{handler=\"email\",le=\"0.001\"} 2\n",
        "sluice_worker_service_seconds_bucket{handler=\"email\",le=\"0.002\"} 2\n",
        "sluice_worker_service_seconds_bucket{handler=\"email\",le=\"0.005\"} 3\n",
        "sluice_worker_service_seconds_bucket{handler=\"email\",le=\"300\"} 3\n",
        "sluice_worker_service_seconds_bucket{handler=\"email\",le=\"+Inf\"} 4\n",
        "sluice_worker_service_seconds_sum{handler=\"email\"} 500.004\n",
        "sluice_worker_service_seconds_count{handler=\"email\"} 4\n",
        "process_resident_memory_bytes ",
    };
    struct http_reply r;
    http_get(watch_address(watch), "GET", "/metrics", &r);
    assert_int_equal(r.status, 200);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        assert_has(r.body, lines[i]);
    http_reply_free(&r);
}

static void scalers_of_pods_read_what_is_wanted(void **state)
{
    (void)state;
    handlers[0].up = 1;
    handlers[0].busy = 1;
    publish();
    assert_get("/scale.json", 200,
               "{\"wanted\":3,\"handlers\":{"
               "\"email\":{\"topic\":\"orders\",\"group\":\"mail\",\"wanted\":2,\"up\":1,\"busy\":1,\"had\":0,\"why\":\"steady\",\"moved\":\"first\"},"
               "\"bill\":{\"topic\":\"orders\",\"group\":\"bill\",\"wanted\":1,\"up\":0,\"busy\":0,\"had\":0,\"why\":\"first\",\"moved\":\"first\"}}}");
}

static void an_address_that_cannot_be_had_is_named(void **state)
{
    (void)state;
    struct watch *other;
    struct err e;
    assert_int_equal(watch_start(&other, watch_address(watch), &e), E_UNREACHABLE);
    assert_has(e.text, watch_address(watch));
    assert_int_equal(watch_start(&other, "nonsense", &e), E_CONFIG);
    assert_has(e.text, "'nonsense' is not an HTTP address");
}

/* ---- the service manager ---- */

static int manager = -1;

static void open_manager(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int n = snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "sluice-unit-service-%d", (int)getpid());
    char name[sizeof at.sun_path];
    snprintf(name, sizeof name, "@%s", at.sun_path + 1);
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(manager, (struct sockaddr *)&at,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)),
                     0);
    setenv("NOTIFY_SOCKET", name, 1);
}

static void assert_told(const char *expected)
{
    char text[512] = "";
    ssize_t n = recv(manager, text, sizeof text - 1, 0);
    if (n < 0)
        assert_int_equal(errno, EAGAIN);
    assert_string_equal(text, expected);
}

static void the_service_manager_hears_each_change_once(void **state)
{
    (void)state;
    struct service s;
    open_manager();
    unsetenv("WATCHDOG_USEC");
    service_init(&s);
    figures_describe(&figures);
    service_tell(&s, &figures);
    assert_told("STATUS=starting: the broker is not reached");
    service_tell(&s, &figures);
    assert_told("");
    figures.reachable = true;
    figures.state = RUN_READY;
    figures_describe(&figures);
    service_tell(&s, &figures);
    assert_told("READY=1\nSTATUS=ready");
    figures.reachable = false;
    figures_describe(&figures);
    service_tell(&s, &figures);
    assert_told("STATUS=the broker is not reached");
    figures.state = RUN_DRAINING;
    figures_describe(&figures);
    service_tell(&s, &figures);
    assert_told("STOPPING=1\nSTATUS=stopping");
    figures.state = RUN_DONE;
    service_tell(&s, &figures);
    assert_told("");
    figures.reloads++;
    service_tell(&s, &figures);
    char text[128] = "";
    assert_true(recv(manager, text, sizeof text - 1, 0) > 0);
    assert_int_equal(strncmp(text, "RELOADING=1\nMONOTONIC_USEC=", 27), 0);
    assert_told("READY=1");
    service_beat(&s, 1000000); /* nobody watches */
    assert_told("");
    close(manager);
}

static void the_watchdog_is_fed_by_turns_and_by_nothing_else(void **state)
{
    (void)state;
    struct service s;
    open_manager();
    setenv("WATCHDOG_USEC", "2000000", 1);
    service_init(&s);
    assert_int_equal(s.every_ms, 1000);
    service_beat(&s, 5000);
    assert_told("WATCHDOG=1");
    service_beat(&s, 5999);
    assert_told("");
    service_beat(&s, 6000);
    assert_told("WATCHDOG=1");
    assert_told("");
    unsetenv("WATCHDOG_USEC");
    close(manager);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(readyz_says_why_it_is_not_and_what_is_paused),
        RUN(livez_says_that_the_process_runs),
        RUN(a_path_that_is_not_there_names_those_that_are),
        RUN(many_long_names_fit_into_one_line),
        RUN(metrics_are_those_that_were_published_last),
        RUN(scalers_of_pods_read_what_is_wanted),
        RUN(an_address_that_cannot_be_had_is_named),
        RUN(the_service_manager_hears_each_change_once),
        RUN(the_watchdog_is_fed_by_turns_and_by_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

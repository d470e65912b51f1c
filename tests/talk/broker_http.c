/* The HTTP side: health, metrics, and requests that are not quite right. */
#include <sys/socket.h>
#include <unistd.h>

#include "talk.h"

static struct broker_proc b;

static int begin(void **state)
{
    (void)state;
    broker_start(&b, (const char *const[]){"--set", "limits.http_idle_ms=3s", NULL});
    return 0;
}

static int end(void **state)
{
    (void)state;
    assert_true(broker_runs(&b));
    broker_end(&b);
    return 0;
}

static int status(const char *method, const char *path)
{
    struct http_reply r;
    http_get(b.http, method, path, &r);
    int code = r.status;
    http_reply_free(&r);
    return code;
}

static int status_of(const char *request)
{
    struct http_reply r;
    http_send(b.http, request, strlen(request), &r);
    int code = r.status;
    http_reply_free(&r);
    return code;
}

/* ---- health */

static void a_broker_that_serves_is_alive_and_ready(void **state)
{
    (void)state;
    struct http_reply r;
    http_get(b.http, "GET", "/livez", &r);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "ok\n");
    http_reply_free(&r);
    http_get(b.http, "GET", "/readyz", &r);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "ready\n");
    http_reply_free(&r);
}

static void head_has_no_body(void **state)
{
    (void)state;
    static const char *const paths[] = {"/livez", "/readyz", "/metrics"};
    for (size_t i = 0; i < 3; i++) {
        struct http_reply r;
        char length[256];
        http_get(b.http, "HEAD", paths[i], &r);
        assert_int_equal(r.status, 200);
        assert_string_equal(r.body, "");
        assert_true(atoi(http_header(&r, "Content-Length", length)) > 0);
        http_reply_free(&r);
    }
}

/* ---- requests that are not quite right */

static void percent_codes_in_a_path_are_what_they_stand_for(void **state)
{
    (void)state;
    assert_int_equal(status("GET", "/%6c%69vez"), 200);
    assert_int_equal(status("GET", "/livez%2"), 400);
    assert_int_equal(status("GET", "/livez%zz"), 400);
    assert_int_equal(status("GET", "/livez%00"), 400);
    assert_int_equal(status("GET", "/%"), 400);
    assert_int_equal(status("GET", "/livez%20"), 404);
    assert_int_equal(status("GET", "/livez?x=%zz"), 200);
}

static void other_paths_are_not_found_as_json(void **state)
{
    (void)state;
    struct http_reply r;
    char type[256];
    http_get(b.http, "GET", "/", &r);
    assert_int_equal(r.status, 404);
    assert_string_equal(http_header(&r, "Content-Type", type), "application/json");
    assert_has(r.body, "{\"error\":{\"status\":404,");
    http_reply_free(&r);
    assert_int_equal(status("GET", "/livez/"), 404);
    assert_int_equal(status("GET", "//livez"), 404);
    assert_int_equal(status("GET", "/../livez"), 404);
}

static void other_methods_are_not_allowed(void **state)
{
    (void)state;
    struct http_reply r;
    char allow[256];
    http_get(b.http, "DELETE", "/livez", &r);
    assert_int_equal(r.status, 405);
    assert_string_equal(http_header(&r, "Allow", allow), "GET, HEAD");
    http_reply_free(&r);
    assert_int_equal(status_of("POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"), 405);
}

static void a_body_is_refused_before_it_comes(void **state)
{
    (void)state;
    assert_int_equal(status_of("GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"), 413);
    assert_int_equal(
        status_of("GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n"), 413);
}

static void a_head_that_is_too_long_or_no_head_is_refused(void **state)
{
    (void)state;
    size_t size = 200000;
    char *request = malloc(size);
    memset(request, 'x', size);
    memcpy(request, "GET /", 5);
    request[size - 1] = '\0';
    struct http_reply r;
    http_send(b.http, request, size - 1, &r);
    assert_true(r.status == 0 || r.status >= 400);
    http_reply_free(&r);
    free(request);
    assert_true(status_of("\r\n\r\n\r\nnonsense\r\n\r\n") != 200);
    assert_int_equal(status("GET", "/livez"), 200);
}

static void a_connection_serves_several_requests_and_is_closed_when_idle(void **state)
{
    (void)state;
    int fd = tcp_connect(b.http);
    char text[1024];
    for (int i = 0; i < 3; i++) {
        static const char request[] = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_true(send(fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0);
        ssize_t n = recv(fd, text, sizeof text - 1, 0);
        assert_true(n > 0);
        text[n] = '\0';
        assert_has(text, "200 OK");
    }
    assert_true(tcp_closed_by(fd, 15000));
    close(fd);
}

static void connections_that_say_nothing_do_not_keep_health_out_for_good(void **state)
{
    (void)state;
    int fds[100];
    for (size_t i = 0; i < 100; i++)
        fds[i] = tcp_connect(b.http);
    assert_int_equal(status("GET", "/livez"), 200);
    for (size_t i = 0; i < 100; i++)
        close(fds[i]);
}

/* ---- metrics */

static void every_limit_and_counter_stands_in_the_metrics(void **state)
{
    (void)state;
    struct http_reply r;
    char type[256];
    http_get(b.http, "GET", "/metrics", &r);
    assert_int_equal(r.status, 200);
    assert_string_equal(http_header(&r, "Content-Type", type), "text/plain; version=0.0.4; charset=utf-8");
    assert_has(r.body, "\nsluice_limit{name=\"topics_max\",unit=\"count\"} 10000\n");
    assert_has(r.body, "\nsluice_limit{name=\"session_grace_ms\",unit=\"ms\"} 10000\n");
    assert_has(r.body, "\nsluice_limit{name=\"request_bytes_max\",unit=\"bytes\"} 16777216\n");
    assert_has(r.body, "\nsluice_limit{name=\"http_idle_ms\",unit=\"ms\"} 3000\n");
    assert_has(r.body, "\nsluice_limit{name=\"inbox_bytes_max\",unit=\"bytes\"} 268435456\n");
    assert_has(r.body, "\nsluice_turns_total ");
    assert_has(r.body, "\nsluice_wire_requests_total ");
    assert_has(r.body, "\nsluice_durable_turn ");
    assert_has(r.body, "\nsluice_disk_free_bytes ");
    assert_has(r.body, "\nprocess_resident_memory_bytes ");
    http_reply_free(&r);
}

/* Each family: one HELP, one TYPE, then its samples, and nowhere else. */
static void the_metrics_are_in_prometheus_format(void **state)
{
    (void)state;
    struct http_reply r;
    http_get(b.http, "GET", "/metrics", &r);
    char family[128] = "", *save = NULL;
    unsigned families = 0;
    for (char *line = strtok_r(r.body, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        char name[128], kind[16];
        double value;
        if (sscanf(line, "# HELP %127s", name) == 1) {
            assert_string_not_equal(name, family);
            continue;
        }
        if (sscanf(line, "# TYPE %127s %15s", name, kind) == 2) {
            snprintf(family, sizeof family, "%s", name);
            assert_true(strcmp(kind, "counter") == 0 || strcmp(kind, "gauge") == 0);
            assert_true((strcmp(kind, "counter") == 0) ==
                        (strlen(name) > 6 && strcmp(name + strlen(name) - 6, "_total") == 0));
            families++;
            continue;
        }
        size_t n = strcspn(line, "{ ");
        assert_int_equal(n, strlen(family));
        assert_memory_equal(line, family, n);
        assert_int_equal(sscanf(strrchr(line, ' '), " %lf", &value), 1);
    }
    assert_true(families > 50);
    http_reply_free(&r);
}

static void the_lag_of_every_group_stands_in_the_metrics(void **state)
{
    (void)state;
    struct talker t;
    talker_open(&t, b.url);
    talker_hello(&t);
    uint32_t partition = talker_topic(&t, "photos", 1, DURABILITY_OS);
    talker_group(&t, "photos", "thumbnail");
    talker_group(&t, "photos", "filter");
    assert_int_equal(talker_produce(&t, partition, 1, 7, 100), E_OK);
    assert_int_equal(
        (int)broker_metric(&b, "sluice_group_lag_messages{topic=\"photos\",group=\"thumbnail\"}"), 7);
    assert_int_equal((int)broker_metric(&b, "sluice_group_lag_messages{topic=\"photos\",group=\"filter\"}"),
                     7);
    assert_int_equal((int)broker_metric(&b, "sluice_group_parked{topic=\"photos\",group=\"filter\"}"), 0);
    EVENTUALLY(60000, broker_metric(&b, "sluice_produced_messages_total") == 7);
    talker_close(&t);
}

static void more_groups_than_a_page_are_all_shown(void **state)
{
    (void)state;
    struct broker_proc small;
    struct talker t;
    broker_start(&small, (const char *const[]){"--set", "limits.page_max=3", NULL});
    talker_open(&t, small.url);
    talker_hello(&t);
    talker_topic(&t, "a", 1, DURABILITY_OS);
    talker_topic(&t, "b", 1, DURABILITY_OS);
    for (int i = 0; i < 10; i++) {
        char name[16];
        snprintf(name, sizeof name, "g%d", i);
        talker_group(&t, i % 2 == 0 ? "a" : "b", name);
    }
    for (int i = 0; i < 10; i++) {
        char name[128];
        snprintf(name, sizeof name, "sluice_group_lag_messages{topic=\"%s\",group=\"g%d\"}",
                 i % 2 == 0 ? "a" : "b", i);
        assert_int_equal((int)broker_metric(&small, name), 0);
    }
    talker_close(&t);
    broker_end(&small);
}

static void without_http_there_is_none(void **state)
{
    (void)state;
    struct broker_proc without;
    broker_start(&without, (const char *const[]){"--no-http", NULL});
    assert_string_equal(without.http, "");
    assert_true(talker_is_served(without.url));
    broker_end(&without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broker_that_serves_is_alive_and_ready),
        cmocka_unit_test(head_has_no_body),
        cmocka_unit_test(percent_codes_in_a_path_are_what_they_stand_for),
        cmocka_unit_test(other_paths_are_not_found_as_json),
        cmocka_unit_test(other_methods_are_not_allowed),
        cmocka_unit_test(a_body_is_refused_before_it_comes),
        cmocka_unit_test(a_head_that_is_too_long_or_no_head_is_refused),
        cmocka_unit_test(a_connection_serves_several_requests_and_is_closed_when_idle),
        cmocka_unit_test(connections_that_say_nothing_do_not_keep_health_out_for_good),
        cmocka_unit_test(every_limit_and_counter_stands_in_the_metrics),
        cmocka_unit_test(the_metrics_are_in_prometheus_format),
        cmocka_unit_test(the_lag_of_every_group_stands_in_the_metrics),
        cmocka_unit_test(more_groups_than_a_page_are_all_shown),
        cmocka_unit_test(without_http_there_is_none),
    };
    return cmocka_run_group_tests(tests, begin, end);
}

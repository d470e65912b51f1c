/* sluice-bench with a broker that it starts: its lines are whole, and nothing is void. How fast that was says nobody here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

/* Its lines as an array; freed by the caller. */
static json_t *bench(const char *args, int *status)
{
    char command[1024], line[4096];
    const char *bin = getenv("SLUICE_BIN");
    assert_non_null(bin);
    snprintf(command, sizeof command, "%s/sluice-bench %s -o json", bin, args);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    json_t *lines = json_array();
    while (fgets(line, sizeof line, f) != NULL) {
        json_error_t e;
        json_t *object = json_loads(line, 0, &e);
        if (!json_is_object(object))
            fail_msg("%s: %s", e.text, line);
        json_array_append_new(lines, object);
    }
    int code = pclose(f);
    *status = WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code);
    return lines;
}

static double number(const json_t *line, const char *field)
{
    const json_t *n = json_object_get(line, field);
    if (!json_is_number(n))
        fail_msg("%s is no number", field);
    return json_number_value(n);
}

static void check_latencies(const json_t *line)
{
    static const char *const names[] = {"p50", "p90", "p99", "p99.9", "p99.99", "max"};
    const json_t *l = json_object_get(line, "latency_us");
    double before = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_true(number(l, names[i]) >= before);
        before = number(l, names[i]);
    }
    assert_true(before > 0);
}

/* A machine that stands still for half a second has nothing to measure: then it is measured again. */
static json_t *measured(const char *args, int *status)
{
    for (int left = 10;; left--) {
        json_t *all = bench(args, status);
        size_t i, idle = 0;
        json_t *line;
        json_array_foreach(all, i, line)
            idle += json_integer_value(json_object_get(line, "messages")) == 0;
        if (*status != 0 || idle == 0 || left == 0)
            return all;
        json_decref(all);
    }
}

static void check_measured(const char *args, size_t lines)
{
    int status;
    json_t *all = measured(args, &status);
    assert_int_equal(status, 0);
    assert_int_equal(json_array_size(all), lines);
    for (size_t i = 0; i < lines; i++) {
        const json_t *line = json_array_get(all, i);
        assert_true(json_is_false(json_object_get(line, "void")));
        assert_true(number(line, "verified") > 0);
        assert_true(number(line, "messages") > 0);
        assert_true(number(line, "messages_per_s") > 0);
        assert_true(number(line, "server_rss_mb") > 0);
        assert_true(number(line, "client_cpu_s_per_million") >= 0);
        assert_true(number(line, "server_cpu_s_per_million") >= 0);
        assert_true(number(line, "written_per_byte") >= 0);
        check_latencies(line);
    }
    json_decref(all);
}

#define SHORT " --seconds 0.5 --warmup 0.2"

static void publishing_is_measured_and_verified(void **state)
{
    (void)state;
    check_measured("produce" SHORT, 1);
    check_measured("produce --durability os --size 1kB --batch 10 --window 2 --partitions 3 --connections 2" SHORT, 1);
    check_measured("produce --keys 20 --partitions 3 --rate 1000 --batch 1 --compressible" SHORT, 1);
}

static void leasing_is_measured_and_verified(void **state)
{
    (void)state;
    check_measured("queue" SHORT, 1);
    check_measured("queue --keys 50 --batch 5 --window 1 --connections 3 --durability os" SHORT, 1);
}

static void reading_is_measured_and_verified(void **state)
{
    (void)state;
    check_measured("consume" SHORT, 1);
}

static void messages_that_go_through_are_measured_and_verified(void **state)
{
    (void)state;
    check_measured("latency --rate 500" SHORT, 2);
}

static void minutes_of_load_with_backups_are_measured_and_verified(void **state)
{
    (void)state;
    int status;
    json_t *all = measured("steady --seconds 2.5 --warmup 0.2 --checkpoint-every 0.5", &status);
    assert_int_equal(status, 0);
    assert_int_equal(json_array_size(all), 1);
    const json_t *line = json_array_get(all, 0);
    assert_true(json_is_false(json_object_get(line, "void")));
    assert_true(number(line, "checkpoints") >= 2);
    assert_true(number(line, "checkpoint_mean_ms") > 0);
    assert_true(number(line, "checkpoint_longest_ms") >= number(line, "checkpoint_mean_ms"));
    assert_true(number(line, "checkpoint_bytes") > 0);
    assert_true(number(line, "longest_gap_ms") > 0);
    json_decref(all);
}

static void the_histogram_that_a_run_wrote_is_drawn(void **state)
{
    (void)state;
    char path[] = "/tmp/talk-bench-XXXXXX", args[256], line[256];
    int status;
    close(mkstemp(path));
    snprintf(args, sizeof args, "produce --messages 20000 --hist %s", path);
    json_decref(bench(args, &status));
    assert_int_equal(status, 0);
    snprintf(args, sizeof args, "%s/sluice-bench plot --hist %s", getenv("SLUICE_BIN"), path);
    FILE *f = popen(args, "r");
    bool lines = false;
    assert_non_null(fgets(line, sizeof line, f));
    assert_ptr_equal(strstr(line, "<svg "), line);
    while (fgets(line, sizeof line, f) != NULL)
        lines |= strstr(line, "<polyline ") != NULL;
    assert_int_equal(pclose(f), 0);
    assert_true(lines);
    unlink(path);
}

static void a_row_of_the_suite_has_its_floor_and_its_aim(void **state)
{
    (void)state;
    int status;
    json_t *all = bench("suite --quick --only P4 --runs 3 --seconds 0.5", &status);
    assert_int_equal(status, 0);
    assert_int_equal(json_array_size(all), 1);
    const json_t *row = json_array_get(all, 0);
    assert_string_equal(json_string_value(json_object_get(row, "id")), "P4");
    assert_true(number(row, "value") > 0);
    assert_true(number(row, "floor") == 1000);
    assert_true(number(row, "aim") == 200);
    assert_true(json_is_boolean(json_object_get(row, "ok")));
    json_decref(all);
}

static void a_wrong_command_line_is_told_from_a_failure(void **state)
{
    (void)state;
    int status;
    json_decref(bench("produce --size 1 2>/dev/null", &status));
    assert_int_equal(status, 2);
    json_decref(bench("no-such-command 2>/dev/null", &status));
    assert_int_equal(status, 2);
    json_decref(bench("produce --seconds soon 2>/dev/null", &status));
    assert_int_equal(status, 2);
    json_decref(bench("produce --dir /dev/shm 2>/dev/null", &status));
    assert_int_equal(status, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publishing_is_measured_and_verified),
        cmocka_unit_test(leasing_is_measured_and_verified),
        cmocka_unit_test(reading_is_measured_and_verified),
        cmocka_unit_test(messages_that_go_through_are_measured_and_verified),
        cmocka_unit_test(minutes_of_load_with_backups_are_measured_and_verified),
        cmocka_unit_test(the_histogram_that_a_run_wrote_is_drawn),
        cmocka_unit_test(a_row_of_the_suite_has_its_floor_and_its_aim),
        cmocka_unit_test(a_wrong_command_line_is_told_from_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

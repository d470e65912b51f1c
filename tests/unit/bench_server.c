/* Programs under measurement (tests/bench/server.c, tree.c, workdir.c). */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include "bench/server.h"
#include "unit.h"

static char dir[PATH_MAX];

static int make_dir(void **state)
{
    (void)state;
    struct err e = {0};
    return workdir_make(NULL, dir, &e);
}

static int remove_dir(void **state)
{
    (void)state;
    workdir_remove(dir);
    struct stat st;
    return stat(dir, &st) == 0;
}

static void start(struct server *s, const char *script)
{
    struct err e = {0};
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct server_spec spec = {.name = "sh", .argv = argv, .dir = dir, .ready_line = true};
    if (server_start(s, &spec, &e) != 0)
        fail_msg("%s", e.text);
}

static void its_first_line_says_that_it_is_ready(void **state)
{
    (void)state;
    struct server s;
    start(&s, "echo ready $PWD; exec sleep 100");
    assert_has(s.line, "ready ");
    assert_has(s.line, dir);
    assert_true(server_runs(&s));
    server_stop(&s);
    assert_int_equal(s.pid, 0);
}

static void who_ends_before_it_is_ready_leaves_its_last_words(void **state)
{
    (void)state;
    struct err e = {0};
    struct server s;
    const char *const argv[] = {"sh", "-c", "echo 'no such port' >&2; exit 3", NULL}, *const nowhere[] = {"no-such-program", NULL};
    struct server_spec spec = {.name = "sh", .argv = argv, .dir = dir, .ready_line = true};
    assert_int_not_equal(server_start(&s, &spec, &e), 0);
    assert_has(e.text, "no such port");
    assert_int_equal(s.pid, 0);
    spec.argv = nowhere;
    assert_int_equal(server_start(&s, &spec, &e), ENOENT);
    assert_has(e.text, "no-such-program");
}

static void processor_time_of_children_counts_those_that_ended_too(void **state)
{
    (void)state;
    struct server s;
    struct usage u;
    start(&s, "sh -c 'i=0; while [ $i -lt 600000 ]; do i=$((i+1)); done'; echo ready; exec sleep 100");
    usage_of(s.pid, &u);
    assert_true(u.cpu_seconds > 0.05);
    assert_true(u.rss_bytes > 100000);
    server_stop(&s);

    start(&s, "(i=0; while [ $i -lt 600000 ]; do i=$((i+1)); done; echo ready; sleep 100) & wait");
    usage_of(s.pid, &u); /* it lives */
    assert_true(u.cpu_seconds > 0.05);
    server_stop(&s);
    usage_of(0, &u);
    assert_true(u.cpu_seconds == 0);
}

static void a_kill_meets_its_descendants(void **state)
{
    (void)state;
    struct server s;
    start(&s, "setsid sleep 100 & echo $!; wait");
    pid_t child = (pid_t)strtol(s.line, NULL, 10);
    assert_int_equal(kill(child, 0), 0);
    server_kill(&s);
    for (int i = 0; i < 5000 && kill(child, 0) == 0; i++) {
        char path[64], text[256] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", (int)child);
        FILE *f = fopen(path, "r"); /* nobody may be there to reap it */
        if (f != NULL && fgets(text, sizeof text, f) != NULL && strstr(text, ") Z ") != NULL) {
            fclose(f);
            return;
        }
        if (f != NULL)
            fclose(f);
        poll(NULL, 0, 1);
    }
    assert_int_not_equal(kill(child, 0), 0);
}

static void what_is_in_memory_is_no_disk(void **state)
{
    (void)state;
    char path[PATH_MAX];
    struct err e = {0};
    assert_int_equal(workdir_make("/dev/shm", path, &e), ENOTSUP);
    assert_has(e.text, "--dir");
}

static void a_directory_below_begins_empty(void **state)
{
    (void)state;
    char path[PATH_MAX], file[PATH_MAX + 8];
    struct err e = {0};
    assert_int_equal(workdir_below(dir, "x", path, &e), 0);
    snprintf(file, sizeof file, "%s/file", path);
    FILE *f = fopen(file, "w");
    assert_true(fputs("12345", f) >= 0);
    fclose(f);
    assert_true(workdir_bytes(dir) >= 512);
    assert_int_equal(workdir_below(dir, "x", path, &e), 0);
    struct stat st;
    assert_int_not_equal(stat(file, &st), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_first_line_says_that_it_is_ready),
        cmocka_unit_test(who_ends_before_it_is_ready_leaves_its_last_words),
        cmocka_unit_test(processor_time_of_children_counts_those_that_ended_too),
        cmocka_unit_test(a_kill_meets_its_descendants),
        cmocka_unit_test(what_is_in_memory_is_no_disk),
        cmocka_unit_test(a_directory_below_begins_empty),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

/* The program from outside, as far as it goes without a broker. */
#include "unit.h"

#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "workerd_proc.h"

static char dir[] = "/tmp/sluice-unit-XXXXXX";
static char path[64];

static struct workerd_proc daemon_proc, *w = &daemon_proc;

static void write_config(const char *handler)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    /* Nobody listens at port 1. */
    fprintf(f,
            "broker: tcp://127.0.0.1:1\n"
            "handlers:\n"
            "  - name: tester\n"
            "    file: %s/%s\n"
            "    topic: t\n"
            "    processes: 2\n",
            getenv("TEST_HANDLERS"), handler);
    fclose(f);
}

#define START(...) workerd_proc_start(w, (const char *const[]){__VA_ARGS__, NULL})

/* ---- */

static void it_explains_itself(void **state)
{
    (void)state;
    START("--version");
    assert_int_equal(workerd_proc_end(w), 0);
    assert_has(w->printed, "sluice-workerd ");
    START("--help");
    assert_int_equal(workerd_proc_end(w), 0);
    assert_has(w->printed, "usage: sluice-workerd -c FILE");
    workerd_proc_start(w, (const char *const[]){NULL});
    assert_int_equal(workerd_proc_end(w), 2);
    assert_has(w->said, "usage: sluice-workerd -c FILE");
    START("--what");
    assert_int_equal(workerd_proc_end(w), 2);
    assert_has(w->said, "--what");
}

static void check_reads_the_file_and_loads_every_handler(void **state)
{
    (void)state;
    write_config("obedient.so");
    START("--check", "-c", path);
    assert_int_equal(workerd_proc_end(w), 0);
    assert_has(w->printed, "workerd.yaml: ok");
    write_config("no-symbol.so");
    START("--check", "-c", path);
    assert_int_equal(workerd_proc_end(w), 1);
    assert_has(w->said, "handler 'tester': ");
    assert_has(w->said, "no-symbol.so: no symbol 'sluice_handler'");
    write_config("missing.so\n    topic: t\n  - name: other\n    file: missing-too.so");
    START("--check", "-c", path);
    assert_int_equal(workerd_proc_end(w), 1);
    assert_has(w->said, "handler 'tester': "); /* each that is at fault */
    assert_has(w->said, "handler 'other': ");
    START("--check", "-c", "/nowhere.yaml");
    assert_int_equal(workerd_proc_end(w), 1);
    assert_has(w->said, "/nowhere.yaml: No such file or directory");
}

static void it_does_not_start_with_a_handler_that_cannot_be_loaded(void **state)
{
    (void)state;
    write_config("other-abi.so");
    START("-c", path);
    assert_int_equal(workerd_proc_end(w), 1);
    assert_string_equal(w->printed, "");
    assert_has(w->said, "handler 'tester': ");
    assert_has(w->said, "other-abi.so: made for version 2 of handler.h");
}

static void without_a_broker_it_tries_again_says_so_and_is_not_ready(void **state)
{
    (void)state;
    write_config("obedient.so");
    START("-c", path);
    assert_non_null(workerd_proc_says(w, NULL, "cannot reach the broker"));
    kill(w->pid, SIGTERM);
    assert_int_equal(workerd_proc_end(w), 0);
    assert_string_equal(w->printed, "");
    assert_has(w->said, "drained handler=tester done=0");
}

static void the_service_manager_hears_that_it_lives_and_why_it_is_not_ready(void **state)
{
    (void)state;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char text[512], said[4096] = "";
    snprintf(at.sun_path, sizeof at.sun_path, "%s/manager", dir);
    int manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(manager, (struct sockaddr *)&at, sizeof at), 0);
    setenv("NOTIFY_SOCKET", at.sun_path, 1);
    setenv("WATCHDOG_USEC", "40000", 1);
    write_config("obedient.so");
    START("-c", path);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    for (int beats = 0; beats < 20 || strstr(said, "STATUS=starting: the broker is not reached") == NULL;) {
        ssize_t n = recv(manager, text, sizeof text - 1, 0);
        assert_true(n > 0);
        text[n] = '\0';
        beats += strcmp(text, "WATCHDOG=1") == 0;
        if (strcmp(text, "WATCHDOG=1") != 0)
            strcat(said, text);
    }
    assert_null(strstr(said, "READY=1"));
    kill(w->pid, SIGTERM);
    assert_int_equal(workerd_proc_end(w), 0);
    while (recv(manager, text, sizeof text, MSG_DONTWAIT) > 0) {
        if (strncmp(text, "STOPPING=1", 10) == 0)
            strcat(said, "STOPPING=1");
    }
    assert_has(said, "STOPPING=1");
    close(manager);
    unlink(at.sun_path);
}

static void sighup_reads_the_configuration_again(void **state)
{
    (void)state;
    write_config("obedient.so");
    START("-c", path);
    assert_non_null(workerd_proc_says(w, NULL, "child up"));
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    fputs("    proceses: 3\n", f);
    fclose(f);
    kill(w->pid, SIGHUP);
    assert_non_null(workerd_proc_says(w, NULL, "reload refused"));
    assert_has(w->said, "did you mean 'processes'?");
    write_config("obedient.so");
    kill(w->pid, SIGHUP);
    assert_non_null(workerd_proc_says(w, NULL, "new version in force handler=tester"));
    kill(w->pid, SIGINT);
    assert_int_equal(workerd_proc_end(w), 0);
}

static void no_child_outlives_a_killed_daemon(void **state)
{
    (void)state;
    write_config("obedient.so");
    START("-c", path);
    const char *from = NULL;
    int children[2];
    for (int i = 0; i < 2; i++) {
        int pid;
        const char *line = workerd_proc_says(w, from, "child up handler=");
        assert_non_null(line);
        from = line + 1;
        assert_int_equal(sscanf(line, "child up handler=tester pid=%d", &pid), 1);
        children[i] = pidfd_open(pid, 0);
        assert_true(children[i] >= 0);
    }
    kill(w->pid, SIGKILL);
    assert_int_equal(workerd_proc_end(w), -SIGKILL);
    for (int i = 0; i < 2; i++) {
        struct pollfd p = {.fd = children[i], .events = POLLIN};
        assert_int_equal(poll(&p, 1, 30000), 1); /* it is dead */
        close(children[i]);
    }
}

static int make_dir(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/workerd.yaml", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_explains_itself),
        cmocka_unit_test(check_reads_the_file_and_loads_every_handler),
        cmocka_unit_test(it_does_not_start_with_a_handler_that_cannot_be_loaded),
        cmocka_unit_test(without_a_broker_it_tries_again_says_so_and_is_not_ready),
        cmocka_unit_test(the_service_manager_hears_that_it_lives_and_why_it_is_not_ready),
        cmocka_unit_test(sighup_reads_the_configuration_again),
        cmocka_unit_test(no_child_outlives_a_killed_daemon),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

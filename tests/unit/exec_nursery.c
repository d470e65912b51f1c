#include "unit.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>

#include "exec/nursery.h"

enum { SLOTS = 4, WAIT_MS = 10000 };

/* A file that holds these bytes, to be read from its beginning. */
static int file_of(const void *bytes, size_t size)
{
    int fd = memfd_create("value", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

/* Runs the command in a slot and returns the end of its standard error that is read. */
static int run(struct nursery *n, uint32_t slot, const char *env, size_t env_size, const char *input,
               size_t size)
{
    int ends[2], value = file_of(input, size);
    struct buf b = {0};
    struct err e = {0};
    buf_append(&b, env, env_size);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    if (nursery_run(n, slot, &b, value, ends[1], &e) != 0)
        fail_msg("%s", e.text);
    buf_free(&b);
    close(ends[1]);
    close(value);
    return ends[0];
}

/* Waits for the next command that ends. */
static int wait_ended(struct nursery *n, uint32_t slot)
{
    uint32_t ended = UINT32_MAX;
    int status = -1;
    struct pollfd fd = {.fd = n->fd, .events = POLLIN};
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_int_equal(nursery_next(n, &ended, &status), NURSERY_ENDED);
    assert_int_equal(ended, slot);
    return status;
}

static void expect_said(int fd, const char *expected)
{
    char text[4096];
    size_t size = 0;
    for (ssize_t n; (n = read(fd, text + size, sizeof text - 1 - size)) > 0;)
        size += (size_t)n;
    text[size] = '\0';
    close(fd);
    assert_string_equal(text, expected);
}

static void start_words(struct nursery *n, const char *const *argv, const char *dir)
{
    struct err e = {0};
    if (nursery_start(n, argv, dir, SLOTS, &e) != 0)
        fail_msg("%s", e.text);
}

static void start(struct nursery *n, const char *command)
{
    start_words(n, (const char *const[]){"/bin/sh", "-c", command, NULL}, NULL);
}

static void a_command_gets_its_input_and_environment_and_its_status_comes_back(void **state)
{
    (void)state;
    struct nursery n;
    setenv("SLUICE_KEY", "of the caller", 1);
    setenv("SLUICE_HEADER_OLD", "of the caller", 1);
    setenv("OTHER", "stays", 1);
    start(&n,
          "cat >&2; echo \" $SLUICE_TOPIC ${SLUICE_KEY-none} ${SLUICE_HEADER_OLD-none} $OTHER\" >&2; exit 7");
    static const char env[] = "SLUICE_TOPIC=photos";
    int err_fd = run(&n, 2, env, sizeof env, "value", 5);
    expect_said(err_fd, "value photos none none stays\n");
    int status = wait_ended(&n, 2);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    nursery_stop(&n);
}

static void a_command_that_reads_nothing_ends_all_the_same(void **state)
{
    (void)state;
    enum { SIZE = 4 << 20 };
    char *large = calloc(1, SIZE);
    struct nursery n;
    start(&n, "exit 0");
    close(run(&n, 0, "", 0, large, SIZE));
    assert_int_equal(wait_ended(&n, 0), 0);
    nursery_stop(&n);
    free(large);
}

static void slots_run_beside_each_other(void **state)
{
    (void)state;
    struct nursery n;
    start(&n, "read x; [ \"$x\" = wait ] && sleep 30; exit 0");
    int waiting = run(&n, 0, "", 0, "wait\n", 5), going = run(&n, 1, "", 0, "go\n", 3);
    assert_int_equal(wait_ended(&n, 1), 0);
    nursery_kill(&n, 0, SIGTERM);
    int status = wait_ended(&n, 0);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
    close(waiting);
    close(going);
    nursery_stop(&n);
}

static void words_are_run_as_they_are_in_their_directory(void **state)
{
    (void)state;
    struct nursery n;
    start_words(&n, (const char *const[]){"sh", "-c", "printf '%s|' \"$@\" $(pwd) >&2", "sh", "a b", "$HOME", NULL}, "/usr");
    expect_said(run(&n, 0, "", 0, "", 0), "a b|$HOME|/usr|");
    assert_int_equal(wait_ended(&n, 0), 0);
    nursery_stop(&n);
}

static void what_cannot_be_run_says_its_name_and_why(void **state)
{
    (void)state;
    static const struct {
        const char *word, *dir, *said;
    } cases[] = {{"no-such-program", NULL, "no-such-program: No such file or directory\n"},
                 {"/etc/passwd", NULL, "/etc/passwd: Permission denied\n"},
                 {"true", "/nowhere", "/nowhere: No such file or directory\n"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct nursery n;
        start_words(&n, (const char *const[]){cases[i].word, NULL}, cases[i].dir);
        expect_said(run(&n, 0, "", 0, "", 0), cases[i].said);
        int status = wait_ended(&n, 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 127);
        nursery_stop(&n);
    }
}

static void a_signal_that_the_parent_ignores_ends_a_command(void **state)
{
    (void)state;
    struct nursery n;
    signal(SIGTERM, SIG_IGN);
    start(&n, "echo there >&2; sleep 30");
    signal(SIGTERM, SIG_DFL);
    int err_fd = run(&n, 0, "", 0, "", 0);
    char there[6];
    assert_int_equal(read(err_fd, there, 6), 6);
    nursery_kill(&n, 0, SIGTERM);
    assert_int_equal(wait_ended(&n, 0), SIGTERM);
    close(err_fd);
    nursery_stop(&n);
}

/* Its standard error is open until the last of them is dead. */
static void what_does_not_listen_does_not_outlive_a_command_that_was_told_to_end(void **state)
{
    (void)state;
    struct nursery n;
    start(&n, "(trap '' TERM; echo there >&2; sleep 30; sleep 30) & wait");
    int err_fd = run(&n, 0, "", 0, "", 0);
    char there[6];
    assert_int_equal(read(err_fd, there, 6), 6);
    nursery_kill(&n, 0, SIGTERM);
    assert_int_equal(wait_ended(&n, 0), SIGTERM);
    struct pollfd fd = {.fd = err_fd, .events = POLLIN};
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    expect_said(err_fd, "");
    nursery_stop(&n);
}

/* A grandchild counts: it holds standard error open, which ends only when it is dead too. */
static void a_signal_reaches_everything_that_the_command_started(void **state)
{
    (void)state;
    struct nursery n;
    start(&n, "sleep 30 & echo there >&2; sleep 30; true");
    int err_fd = run(&n, 0, "", 0, "", 0);
    char there[6];
    assert_int_equal(read(err_fd, there, 6), 6);
    nursery_kill(&n, 0, SIGKILL);
    assert_true(WIFSIGNALED(wait_ended(&n, 0)));
    struct pollfd fd = {.fd = err_fd, .events = POLLIN};
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    expect_said(err_fd, "");
    nursery_stop(&n);
}

/* The parent is killed, not asked, and with its process group: what it ran, and what that started, dies with it. */
static void nothing_runs_on_without_the_parent(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t parent = fork();
    if (parent == 0) {
        struct nursery n;
        struct buf env = {0};
        setpgid(0, 0);
        start(&n, "sleep 30 & echo there >&2; sleep 30; true");
        if (nursery_run(&n, 0, &env, file_of("", 0), ends[1], NULL) != 0)
            _exit(1);
        close(ends[1]);
        pause();
    }
    close(ends[1]);
    char there[6];
    assert_int_equal(read(ends[0], there, 6), 6);
    kill(-parent, SIGKILL);
    waitpid(parent, NULL, 0);
    struct pollfd fd = {.fd = ends[0], .events = POLLIN};
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    expect_said(ends[0], "");
}

static void a_nursery_that_dies_is_noticed(void **state)
{
    (void)state;
    struct nursery n;
    uint32_t slot;
    int status;
    start(&n, "exit 0");
    assert_int_equal(nursery_next(&n, &slot, &status), NURSERY_QUIET);
    kill(n.pid, SIGKILL);
    struct pollfd fd = {.fd = n.fd, .events = POLLIN};
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_int_equal(nursery_next(&n, &slot, &status), NURSERY_GONE);
    nursery_stop(&n);
}

static void an_environment_that_is_too_large_is_refused(void **state)
{
    (void)state;
    struct nursery n;
    struct buf env = {0};
    struct err e = {0};
    start(&n, "exit 0");
    memset(buf_reserve(&env, NURSERY_ENV_MAX + 1), 'x', NURSERY_ENV_MAX + 1);
    env.size = NURSERY_ENV_MAX + 1;
    assert_true(nursery_run(&n, 0, &env, STDIN_FILENO, STDERR_FILENO, &e) != 0);
    assert_has(e.text, "bytes of environment");
    buf_free(&env);
    nursery_stop(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_gets_its_input_and_environment_and_its_status_comes_back),
        cmocka_unit_test(a_command_that_reads_nothing_ends_all_the_same),
        cmocka_unit_test(slots_run_beside_each_other),
        cmocka_unit_test(words_are_run_as_they_are_in_their_directory),
        cmocka_unit_test(what_cannot_be_run_says_its_name_and_why),
        cmocka_unit_test(a_signal_that_the_parent_ignores_ends_a_command),
        cmocka_unit_test(what_does_not_listen_does_not_outlive_a_command_that_was_told_to_end),
        cmocka_unit_test(a_signal_reaches_everything_that_the_command_started),
        cmocka_unit_test(nothing_runs_on_without_the_parent),
        cmocka_unit_test(a_nursery_that_dies_is_noticed),
        cmocka_unit_test(an_environment_that_is_too_large_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

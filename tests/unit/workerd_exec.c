/* A handler that is a command, run in this process with a host of the test's own making. */
#include "unit.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/macros.h"
#include "schemas/errors.h"
#include "workerd/exec.h"

/* ---- a host ---- */

static bool is_cancelled;
static uint64_t deadline_ms; /* monotonic */

static uint64_t deadline(const struct sluice_host *host, const struct sluice_task *task)
{
    (void)host, (void)task;
    uint64_t now = clock_mono_ms();
    return deadline_ms > now ? deadline_ms - now : 0;
}

static bool cancelled(const struct sluice_host *host, const struct sluice_task *task)
{
    return is_cancelled || deadline(host, task) == 0;
}

static bool headers(const struct sluice_host *host, const struct sluice_task *task, size_t *pos, struct sluice_slice *name,
                    struct sluice_slice *value)
{
    (void)host, (void)task;
    *name = (struct sluice_slice){"colour", 6};
    *value = (struct sluice_slice){"blue", 4};
    return (*pos)++ == 0;
}

static void *function(const struct sluice_host *host, const char *name)
{
    (void)host;
    return strcmp(name, "deadline") == 0    ? (void *)deadline
           : strcmp(name, "cancelled") == 0 ? (void *)cancelled
           : strcmp(name, "headers") == 0   ? (void *)headers
                                            : NULL;
}

static const struct sluice_host host = {.size = sizeof host, .function = function, .config = "{\"a\":1}", .name = "tester"};

/* ---- the handler ---- */

enum { TIMEOUT_MS = 10000 };

static struct sluice_handler handler;
static struct jail jail; /* none */
static struct sluice_verdict verdict;

static void load(const char *line)
{
    struct buf words = {0};
    struct err e;
    void *process;
    buf_putf(&words, "/bin/sh%c-c%c%s%c", 0, 0, line, 0);
    if (exec_load(buf_view(&words), "/usr", TIMEOUT_MS, &jail, &handler, &e) != 0)
        fail_msg("%s", e.text);
    buf_free(&words);
    assert_int_equal(handler.process_init(&host, &process, e.text, sizeof e.text), 0);
    is_cancelled = false;
}

static void unload(void)
{
    handler.process_fini(&host, NULL);
}

static int run_value(const void *value, size_t size)
{
    const struct sluice_task task = {.size = sizeof task,
                                     .topic = "photos",
                                     .group = "small",
                                     .partition = 3,
                                     .offset = 99,
                                     .attempt = 2,
                                     .key = {"k1", 2},
                                     .value = {value, size}};
    verdict = (struct sluice_verdict){.size = sizeof verdict};
    deadline_ms = clock_mono_ms() + TIMEOUT_MS;
    return handler.handle(&host, NULL, NULL, &task, &verdict);
}

static int run(const char *value)
{
    return run_value(value, strlen(value));
}

/* ---- */

static void an_exit_status_is_the_verdict(void **state)
{
    (void)state;
    load("read -r status words; echo $words >&2; exit $status");
    assert_int_equal(run("0 fine\n"), SLUICE_VERDICT_ACK);
    assert_int_equal(run("75 not yet\n"), SLUICE_VERDICT_RETRY);
    assert_string_equal(verdict.error, "not yet");
    assert_false(verdict.has_delay);
    assert_int_equal(run("65 too blue\n"), SLUICE_VERDICT_PARK);
    assert_string_equal(verdict.reason, "data-error");
    assert_string_equal(verdict.error, "too blue");
    assert_int_equal(run("3\n"), SLUICE_VERDICT_RETRY);
    assert_string_equal(verdict.error, "exit status 3");
    unload();
    load("kill -SEGV $$");
    assert_int_equal(run(""), SLUICE_VERDICT_RETRY);
    assert_string_equal(verdict.error, "killed by SIGSEGV");
    unload();
}

/* Each command has the time for itself; the limit is by whole seconds. */
static void a_command_that_computes_for_too_long_is_ended_with_the_reason(void **state)
{
    (void)state;
    struct rlimit before;
    getrlimit(RLIMIT_CPU, &before);
    jail.cpu_ms = 1000;
    load("read -r go; [ $go = on ] || exit 0; while :; do :; done");
    setrlimit(RLIMIT_CPU, &before); /* this process goes on */
    assert_int_equal(run("on\n"), SLUICE_VERDICT_RETRY);
    assert_string_equal(verdict.error, "killed by SIGXCPU (its cpu_time of 1s was over)");
    assert_int_equal(run("no\n"), SLUICE_VERDICT_ACK);
    unload();
    jail.cpu_ms = 0;
}

static void it_knows_its_task_its_configuration_and_its_directory(void **state)
{
    (void)state;
    load("echo $SLUICE_TOPIC $SLUICE_GROUP $SLUICE_PARTITION $SLUICE_OFFSET $SLUICE_ATTEMPT $SLUICE_KEY "
         "$SLUICE_IDEMPOTENCY_KEY $SLUICE_HEADER_COLOUR $SLUICE_CONFIG $(pwd) >&2; exit 65");
    assert_int_equal(run(""), SLUICE_VERDICT_PARK);
    assert_string_equal(verdict.error, "photos small 3 99 2 k1 photos/3/99/small blue {\"a\":1} /usr");
    unload();
}

/* As large as a message can be; what it prints meanwhile is more than a pipe holds. */
static void a_large_value_is_read_while_the_command_talks(void **state)
{
    (void)state;
    enum { SIZE = 64 << 20 };
    char *value = malloc(SIZE);
    memset(value, 'x', SIZE);
    int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);
    fflush(NULL);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    load("head -c 300000 /dev/zero; head -c 300000 /dev/zero | tr '\\0' '\\n' >&2; wc -c >&2; exit 65");
    int code = run_value(value, SIZE);
    char said[sizeof verdict.error];
    snprintf(said, sizeof said, "%s", verdict.error);
    unload();
    load("exit 0");
    int unread = run_value(value, SIZE);
    unload();
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close(out);
    close(err);
    close(null);
    free(value);
    assert_int_equal(code, SLUICE_VERDICT_PARK);
    assert_string_equal(said, "67108864");
    assert_int_equal(unread, SLUICE_VERDICT_ACK);
}

/* The command says when it runs, and is cancelled then: the host is asked by the handler itself. */
static void a_cancelled_command_is_told_to_end_and_the_next_one_runs(void **state)
{
    (void)state;
    load("read -r what; [ $what = go ] && exit 0; trap 'echo told >&2; exit 1' TERM; sleep 30 & wait");
    is_cancelled = true;
    assert_int_equal(run("stay\n"), SLUICE_VERDICT_RETRY);
    assert_true(strncmp(verdict.error, "cancelled", 9) == 0);
    is_cancelled = false;
    assert_int_equal(run("go\n"), SLUICE_VERDICT_ACK);
    unload();
}

static void one_that_does_not_listen_is_killed(void **state)
{
    (void)state;
    load("read -r what; [ $what = go ] && exit 0; trap '' TERM; sleep 30");
    is_cancelled = true;
    uint64_t began = clock_mono_ms();
    assert_int_equal(run("stay\n"), SLUICE_VERDICT_RETRY);
    assert_true(clock_mono_ms() - began < TIMEOUT_MS);
    assert_true(strncmp(verdict.error, "cancelled", 9) == 0);
    is_cancelled = false;
    assert_int_equal(run("go\n"), SLUICE_VERDICT_ACK);
    unload();
}

static const struct {
    const char *words[4], *label;
} labels[] = {
    {{"true"}, "true"},
    {{"/bin/true", "secret"}, "true"},
    {{"/bin/sh", "/etc/passwd", "secret"}, "sh passwd"},
    {{"/bin/sh", "-c", "/bin/cat secret"}, "cat"},
    {{"/bin/sh", "-c", "exit 3"}, "exit"},
    {{"/bin/sh", "-c", "sh /etc/passwd secret"}, "sh passwd"},
    {{"/bin/sh", "-c", "true; secret"}, "true"},
    {{"/bin/sh", "-c", "TOKEN=secret cat"}, "sh"},
};

static void it_is_called_by_its_program(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        struct buf words = {0};
        for (const char *const *word = labels[i].words; *word != NULL; word++)
            buf_append(&words, *word, strlen(*word) + 1);
        assert_int_equal(exec_load(buf_view(&words), "/usr", TIMEOUT_MS, &jail, &handler, NULL), 0);
        assert_string_equal(handler.version, labels[i].label);
        assert_string_equal(handler.name, labels[i].label);
        handler.process_fini(&host, NULL);
        buf_free(&words);
    }
}

static const struct {
    const char *words[4], *error; /* error NULL: it is there */
} checks[] = {
    {{"true"}, NULL},
    {{"/bin/sh", "script"}, NULL},
    {{"sh", "-c", "no-such-program"}, NULL}, /* what it does with its words is its own affair */
    {{"no-such-program"}, "no-such-program: not found in $PATH"},
    {{"./no-such-program"}, "/usr/./no-such-program: No such file or directory"},
    {{"bin"}, "bin: not found in $PATH"},
    {{"./bin"}, "/usr/./bin: Is a directory"},
    {{"/etc/passwd"}, "/etc/passwd: Permission denied"},
    {{"/bin/sh", "-c", "true"}, NULL},
    {{"/bin/sh", "-c", "  cd /tmp && no-such-program"}, NULL}, /* only the first word is looked at */
    {{"/bin/sh", "-c", "A=1 no-such-program"}, NULL},
    {{"/bin/sh", "-c", "[ -e x ]"}, NULL},
    {{"/bin/sh", "-c", "no-such-program x"}, "no-such-program: the shell finds no such command"},
    {{"/bin/sh", "-c", "./no-such-script"}, "/usr/./no-such-script: No such file or directory"},
};

static void what_is_missing_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        struct buf words = {0};
        struct err e = {0};
        for (const char *const *word = checks[i].words; *word != NULL; word++)
            buf_append(&words, *word, strlen(*word) + 1);
        int code = exec_check(buf_view(&words), "/usr", &e);
        if ((code == 0) != (checks[i].error == NULL))
            fail_msg("%zu: %d %s", i, code, e.text);
        if (checks[i].error != NULL) {
            assert_int_equal(code, E_CONFIG);
            assert_has(e.text, checks[i].error);
        }
        buf_free(&words);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exit_status_is_the_verdict),
        cmocka_unit_test(a_command_that_computes_for_too_long_is_ended_with_the_reason),
        cmocka_unit_test(it_knows_its_task_its_configuration_and_its_directory),
        cmocka_unit_test(a_large_value_is_read_while_the_command_talks),
        cmocka_unit_test(a_cancelled_command_is_told_to_end_and_the_next_one_runs),
        cmocka_unit_test(one_that_does_not_listen_is_killed),
        cmocka_unit_test(it_is_called_by_its_program),
        cmocka_unit_test(what_is_missing_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

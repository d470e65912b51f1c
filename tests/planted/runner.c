/*
 * Switches on one planted bug after the other and runs the tests that planted.def names for it, until one fails. First all of these
 * tests run without a bug, and must pass: else that one fails with a bug would say nothing.
 *
 *     planted-runner             all bugs; the last line: "planted bugs: N of N caught"
 *     planted-runner BUG ...     these
 *     planted-runner --every ..  does not end with the first test that fails, and takes every test that planted.def names for any
 *
 * The programs stand beside this one. A test that does not end is one that fails.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/planted.h"

enum { JOBS_MAX = 16, TESTS_MAX = 128, NAME = 64, REASON = 200 };

/* Of one test. The whole has a limit of its own, that of ctest. */
enum { TEST_MS_MAX = 60000, LOOK_MS = 100 };

static const struct bug { const char *name, *part, *what, *tests; } bugs[PLANTED_COUNT] = {
#define X(name, part, what, tests) {#name, part, what, tests},
#include "planted.def"
#undef X
};

/* The tests that are run for one bug, or for none. */
struct run {
    const struct bug *bug;        /* NULL: none is planted */
    uint8_t tests[TESTS_MAX];
    int tests_n, next;
    int caught_by;                /* how many failed */
    bool runs, over;
};

/* A test that runs. */
struct job { pid_t pid; struct run *run; int test; uint64_t began_ms, until_ms; FILE *out; bool late; };

static char tests[TESTS_MAX][NAME];
static int tests_n;
static const char *bin;
static bool every;
static sigset_t child;        /* SIGCHLD */
static struct job jobs[JOBS_MAX];
static int jobs_max, failures;

static int test_of(const char *name, size_t n)
{
    for (int i = 0; i < tests_n; i++)
        if (strlen(tests[i]) == n && memcmp(tests[i], name, n) == 0)
            return i;
    if (tests_n == TESTS_MAX || n >= NAME) {
        fprintf(stderr, "planted: too many tests, or the name of one is too long: %s\n", name);
        exit(2);
    }
    memcpy(tests[tests_n], name, n);
    return tests_n++;
}

static void tests_add(struct run *r, const char *names)
{
    for (const char *at = names; *at != '\0';) {
        size_t n = strcspn(at, " ");
        uint8_t test = (uint8_t)test_of(at, n);
        if (memchr(r->tests, test, (size_t)r->tests_n) == NULL)
            r->tests[r->tests_n++] = test;
        at += n;
        at += strspn(at, " ");
    }
}

/* ---------------------------------------------------------------- one test */

static void start(struct job *j, struct run *r)
{
    j->run = r;
    r->runs = true;
    j->test = r->tests[r->next++];
    j->late = false;
    j->out = tmpfile();
    fcntl(fileno(j->out), F_SETFL, O_APPEND); /* it is read while the test writes */
    j->began_ms = clock_mono_ms();
    j->until_ms = j->began_ms + TEST_MS_MAX;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", bin, tests[j->test]);
    fflush(stdout);
    j->pid = fork();
    if (j->pid == 0) {
        int in = open("/dev/null", O_RDONLY);
        setpgid(0, 0);
        sigprocmask(SIG_UNBLOCK, &child, NULL);
        dup2(in, STDIN_FILENO);
        dup2(fileno(j->out), STDOUT_FILENO);
        dup2(fileno(j->out), STDERR_FILENO);
        if (r->bug != NULL)
            setenv("SLUICE_PLANTED", r->bug->name, 1);
        execl(path, path, (char *)NULL);
        perror(path);
        _Exit(126);
    }
}

/* What a test said when it failed: the first line that speaks of it. */
static void reason_of(FILE *out, char *text)
{
    static const char *const marks[] = {"[  FAILED  ] ", "seed ", ": Assertion `"};
    char line[1024];
    *text = '\0';
    for (size_t i = 0; i < ARRAY_LEN(marks) && *text == '\0'; i++)
        for (rewind(out); *text == '\0' && fgets(line, sizeof line, out) != NULL;) {
            const char *at = strstr(line, marks[i]);
            if (at == NULL || strstr(at, "test(s), listed below") != NULL)
                continue;
            at += i == 0 ? strlen(marks[0]) : i == 2 ? strlen(": ") : 0;
            snprintf(text, REASON, ": %.*s", (int)strcspn(at, "\n"), at);
        }
}

static void copy_out(FILE *out)
{
    char line[1024];
    for (rewind(out); fgets(line, sizeof line, out) != NULL;)
        fputs(line, stdout);
}

static void ended(struct job *j, int status)
{
    struct run *r = j->run;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    bool failed = code != 0;
    char reason[REASON];
    unsigned long long took = clock_mono_ms() - j->began_ms;
    reason_of(j->out, reason);
    if (*reason == '\0' && WIFSIGNALED(status))
        snprintf(reason, sizeof reason, ": signal %d", WTERMSIG(status));
    if (code == 125 || code == 126 || (r->bug == NULL && failed)) {
        printf("%s failed with no bug planted%s\n", tests[j->test], j->late ? ": it did not end" : reason);
        copy_out(j->out);
        failures++;
    } else if (r->bug != NULL && failed) {
        r->caught_by++;
        printf("%-24s caught by %s%s (%llu ms)\n", r->bug->name, tests[j->test], j->late ? ": it does not end" : reason, took);
    } else if (r->bug == NULL && every) {
        printf("%s takes %llu ms\n", tests[j->test], took);
    }
    fclose(j->out);
    j->pid = 0;
    r->runs = false;
    r->over = r->next == r->tests_n || (r->caught_by > 0 && !every);
    if (r->over && r->bug != NULL && r->caught_by == 0) {
        printf("%-24s NOT CAUGHT (%s: %s)\n", r->bug->name, r->bug->part, r->bug->what);
        failures++;
    }
}

/* ---------------------------------------------------------------- many */

/* One that is late, or has failed already, need not go on. */
static void look(struct job *j)
{
    char reason[REASON];
    if (j->late)
        return;
    reason_of(j->out, reason);
    j->late = clock_mono_ms() > j->until_ms;
    if (j->late || (j->run->bug != NULL && *reason != '\0'))
        kill(-j->pid, SIGKILL);
}

/* Waits until a test ends, or it is time to look at those that should have. */
static void wait_for_one(void)
{
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid == 0) {
        sigtimedwait(&child, NULL, &(struct timespec){.tv_nsec = LOOK_MS * 1000000});
        for (int i = 0; i < jobs_max; i++)
            if (jobs[i].pid != 0)
                look(&jobs[i]);
        return;
    }
    for (int i = 0; pid > 0 && i < jobs_max; i++)
        if (jobs[i].pid == pid)
            ended(&jobs[i], status);
}

/* What measures time runs alone. */
static bool alone(int test) { return strncmp(tests[test], "crash-", 6) == 0; }

/* Where the next test of a run may start now, or NULL. */
static struct job *place_for(const struct run *r)
{
    struct job *place = NULL;
    for (int i = 0; i < jobs_max; i++) {
        if (jobs[i].pid == 0)
            place = &jobs[i];
        else if (alone(jobs[i].test) || alone(r->tests[r->next]))
            return NULL;
    }
    return place;
}

static void run_all(struct run *runs, int n)
{
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < n; i++) {
            struct job *j = runs[i].runs || runs[i].over ? NULL : place_for(&runs[i]);
            if (j != NULL)
                start(j, &runs[i]);
            more |= !runs[i].over;
        }
        if (more)
            wait_for_one();
    }
}

/* Every test without a bug, each a run of its own. */
static void control(void)
{
    static struct run runs[TESTS_MAX];
    for (int i = 0; i < tests_n; i++)
        runs[i] = (struct run){.tests = {(uint8_t)i}, .tests_n = 1};
    run_all(runs, tests_n);
    if (failures > 0)
        exit(1);
    printf("no bug planted: %d of %d tests pass\n", tests_n, tests_n);
}

/* What tests that are killed leave behind stands in one place, and goes. */
static char tmp[] = "/tmp/sluice-planted-XXXXXX";

static void tmp_remove(void)
{
    if (system("rm -rf \"$TMPDIR\"") != 0)
        fprintf(stderr, "planted: %s is not removed\n", tmp);
}

static bool wanted(const struct bug *b, char **names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], b->name) == 0)
            return true;
    return n == 0;
}

int main(int argc, char **argv)
{
    static struct run runs[PLANTED_COUNT];
    static char dir[4096], programs[4200];
    char *slash = strrchr(argv[0], '/');
    snprintf(dir, sizeof dir, "%.*s", slash != NULL ? (int)(slash - argv[0]) : 1, slash != NULL ? argv[0] : ".");
    bin = dir;
    every = argc > 1 && strcmp(argv[1], "--every") == 0;
    char **names = argv + 1 + every;
    int names_n = argc - 1 - every, n = 0;
    jobs_max = (int)sysconf(_SC_NPROCESSORS_ONLN);
    jobs_max = jobs_max < 1 ? 1 : jobs_max > JOBS_MAX ? JOBS_MAX : jobs_max;
    for (int i = 0; i < PLANTED_COUNT; i++) {
        if (!wanted(&bugs[i], names, names_n))
            continue;
        runs[n].bug = &bugs[i];
        tests_add(&runs[n++], bugs[i].tests);
    }
    for (int i = 0; i < PLANTED_COUNT && every; i++)
        for (int k = 0; k < n; k++)
            tests_add(&runs[k], bugs[i].tests);
    if (n == 0) {
        fprintf(stderr, "planted: no bug of this name\n");
        return 2;
    }
    if (mkdtemp(tmp) == NULL) {
        perror(tmp);
        return 2;
    }
    setenv("TMPDIR", tmp, 1);
    atexit(tmp_remove);
    unsetenv("SLUICE_PLANTED");
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    snprintf(programs, sizeof programs, "%s/../bin", dir);
    setenv("SLUICE_BIN", programs, 0);
    setenv("SLUICE_SIM_SEEDS", "49", 0); /* from 100 on, what never happened fails the run */
    setenv("SLUICE_CRASH_CYCLES", "5", 0);
    setenv("SLUICE_UNIT_KILLS", "3", 0);
    control();
    run_all(runs, n);
    int caught = 0;
    for (int i = 0; i < n; i++)
        caught += runs[i].caught_by > 0;
    printf("planted bugs: %d of %d caught\n", caught, n);
    return failures > 0 || caught < n ? 1 : 0;
}

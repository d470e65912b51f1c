#include "broker_proc.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/entropy.h"
#include "base/macros.h"
#include "talk.h"

enum { ARGS_MAX = 64, LINE_MAX_BYTES = 4096, LOOK_MS = 2, LOG_TAIL = 4096 };

extern char **environ;

/* ---------------------------------------------------------------- waiting for what can only be asked for */

static _Thread_local uint64_t eventually_until;

void eventually_begin(unsigned ms)
{
    eventually_until = clock_mono_ms() + ms;
}

void eventually_again(const char *what, const char *file, int line)
{
    if (clock_mono_ms() > eventually_until)
        _fail(file, line);
    (void)what;
    poll(NULL, 0, LOOK_MS);
}

/* ---------------------------------------------------------------- processes */

static const char *program(char path[512])
{
    const char *bin = getenv("SLUICE_BIN");
    if (bin == NULL)
        fail_msg("SLUICE_BIN is not set: run the tests by ctest, or set it to the directory of the programs");
    snprintf(path, 512, "%s/sluice-broker", bin);
    return path;
}

static bool same_name(const char *word, const char *other)
{
    size_t size = strcspn(word, "=");
    return strncmp(word, other, size) == 0 && other[size] == '=';
}

/* Ours with `more` in place of what has the same names. The words stay with their owners. */
static const char **environment_with(const char *const *more)
{
    size_t count = 0, n = 0;
    while (environ[count] != NULL)
        count++;
    for (; more != NULL && more[n] != NULL; n++)
        ;
    const char **all = calloc(count + n + 1, sizeof *all);
    if (all == NULL)
        fail_msg("no memory");
    for (size_t i = 0; i < n; i++)
        all[i] = more[i];
    for (size_t i = 0, added = n; i < count; i++) {
        size_t k = 0;
        while (k < added && !same_name(more[k], environ[i]))
            k++;
        if (k == added)
            all[n++] = environ[i];
    }
    return all;
}

/* Between fork and exec only what a signal handler may do: the test may have threads. The broker dies with the test. */
static pid_t spawn(const char *const *argv, const char *const *env, int out, int err)
{
    const char **environment = environment_with(env);
    pid_t parent = getpid(), child = fork();
    if (child != 0) {
        free(environment);
        return child;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (getppid() == parent && dup2(out, STDOUT_FILENO) >= 0 && dup2(err, STDERR_FILENO) >= 0)
        execve(argv[0], (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)environment);
    _exit(127);
}

static int status_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Reaps the process when it ends, by a deadline. */
static int reap(pid_t pid, bool kill_late)
{
    int status;
    for (uint64_t until = clock_mono_ms() + BROKER_DEADLINE_MS; clock_mono_ms() < until;) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return status_of(status);
        poll(NULL, 0, LOOK_MS);
    }
    if (kill_late)
        kill(pid, SIGKILL);
    fail_msg("the broker does not end");
    return -1;
}

/* ---------------------------------------------------------------- what a failed test leaves behind */

static char dirs[64][sizeof((struct broker_proc *)NULL)->dir];

/* The brokers themselves die with the test. */
static void remove_dirs(void)
{
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (dirs[i][0] != '\0')
            remove_tree(dirs[i]);
}

static void remember_dir(const char *dir)
{
    static bool registered;
    if (!registered)
        atexit(remove_dirs);
    registered = true;
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        if (dirs[i][0] == '\0') {
            snprintf(dirs[i], sizeof dirs[i], "%s", dir);
            return;
        }
    }
}

static void forget_dir(const char *dir)
{
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (strcmp(dirs[i], dir) == 0)
            dirs[i][0] = '\0';
}

/* ---------------------------------------------------------------- the ready line */

static void copy_text(char *to, const json_t *text)
{
    snprintf(to, BROKER_URL_MAX, "%s", json_is_string(text) ? json_string_value(text) : "");
}

static bool take_ready(struct broker_proc *b, const char *line)
{
    json_t *ready = json_loads(line, 0, NULL);
    bool good = json_is_true(json_object_get(ready, "ready"));
    const json_t *listen = json_object_get(ready, "listen");
    copy_text(b->url, json_array_get(listen, 0));
    copy_text(b->ipc, json_array_get(listen, 1));
    copy_text(b->other, json_array_get(listen, 2));
    copy_text(b->publish, json_array_get(json_object_get(ready, "publish"), 0));
    copy_text(b->http, json_object_get(ready, "http"));
    json_decref(ready);
    return good;
}

/* One line, by a deadline; false when the process closed its stdout before. */
static bool read_line(int fd, char *line, size_t size)
{
    size_t n = 0;
    for (uint64_t until = clock_mono_ms() + BROKER_DEADLINE_MS; n + 1 < size && clock_mono_ms() < until;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 100) <= 0)
            continue;
        ssize_t got = read(fd, line + n, 1);
        if (got <= 0)
            return false;
        if (line[n] == '\n') {
            line[n] = '\0';
            return true;
        }
        n++;
    }
    return false;
}

void broker_spawn(struct broker_proc *b)
{
    char path[512];
    const char *argv[ARGS_MAX] = {program(path), "--data",    b->data,    "--listen", b->url, "--listen",
                                  b->ipc,        "--publish", b->publish, "--http",   b->http};
    size_t n = 11;
    for (size_t i = 0; b->args != NULL && b->args[i] != NULL && n + 1 < ARGS_MAX; i++)
        argv[n++] = b->args[i];
    int out[2], log = open(b->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0 || pipe2(out, O_CLOEXEC) != 0)
        fail_msg("%s: %s", b->log, strerror(errno));
    assert_int_equal(b->pid, 0);
    b->pid = spawn(argv, b->env, out[1], log);
    b->out = out[0];
    close(out[1]);
    close(log);
}

void broker_ready(struct broker_proc *b)
{
    char line[LINE_MAX_BYTES];
    bool ready = read_line(b->out, line, sizeof line) && take_ready(b, line);
    close(b->out);
    b->out = -1;
    if (!ready) {
        char *said = broker_log(b);
        print_error("%s\n", said);
        free(said);
        broker_end(b);
        fail_msg("the broker does not start");
    }
}

/* A port that is still free when the broker was killed and comes again: not one of those that the system gives to whoever connects, and
   bound by us, which keeps out who does not listen there with SO_REUSEADDR, as other tests when they look for one. */
static unsigned lasting_port(int *bound)
{
    enum { FIRST = 20000, COUNT = 12000 };
    for (int tries = 0; tries < 100; tries++) {
        uint16_t n;
        entropy_fill(&n, sizeof n);
        const struct sockaddr_in at = {.sin_family = AF_INET,
                                       .sin_port = htons((uint16_t)(FIRST + n % COUNT)),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool is_free = fd >= 0 && bind(fd, (const struct sockaddr *)&at, sizeof at) == 0;
        if (is_free && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) == 0) {
            *bound = fd;
            return ntohs(at.sin_port);
        }
        close(fd);
    }
    fail_msg("no port is free");
    return 0;
}

void broker_prepare(struct broker_proc *b, const char *const *args)
{
    *b = (struct broker_proc){.args = args, .out = -1};
    const char *tmp = getenv("TMPDIR");
    snprintf(b->dir, sizeof b->dir, "%s/sluice-talk-XXXXXX", tmp != NULL && strlen(tmp) < 32 ? tmp : "/tmp");
    if (mkdtemp(b->dir) == NULL)
        fail_msg("%s: %s", b->dir, strerror(errno));
    remember_dir(b->dir);
    snprintf(b->data, sizeof b->data, "%s/data", b->dir);
    snprintf(b->log, sizeof b->log, "%s/log", b->dir);
    snprintf(b->url, sizeof b->url, "tcp://127.0.0.1:%u", lasting_port(&b->ports[0]));
    snprintf(b->ipc, sizeof b->ipc, "ipc://%s/socket", b->dir);
    snprintf(b->publish, sizeof b->publish, "tcp://127.0.0.1:%u", lasting_port(&b->ports[1]));
    snprintf(b->http, sizeof b->http, "127.0.0.1:%u", lasting_port(&b->ports[2]));
}

void broker_restart(struct broker_proc *b)
{
    broker_spawn(b);
    broker_ready(b);
}

void broker_start(struct broker_proc *b, const char *const *args)
{
    broker_prepare(b, args);
    broker_restart(b);
}

void broker_signal(struct broker_proc *b, int signal_number)
{
    assert_int_not_equal(b->pid, 0);
    kill(b->pid, signal_number);
}

/* A test that did not expect it says no more than that. */
static void tell_why_it_failed(const struct broker_proc *b, int status)
{
    char *said = broker_log(b);
    size_t size = strlen(said);
    print_error("the broker ended with %d, and said last:\n%s\n", status, said + (size > LOG_TAIL ? size - LOG_TAIL : 0));
    free(said);
}

int broker_wait(struct broker_proc *b)
{
    assert_int_not_equal(b->pid, 0);
    int status = reap(b->pid, true);
    if (status != 0 && status != 128 + SIGKILL)
        tell_why_it_failed(b, status);
    b->pid = 0;
    if (b->out >= 0)
        close(b->out);
    b->out = -1;
    return status;
}

void broker_kill(struct broker_proc *b)
{
    broker_signal(b, SIGKILL);
    broker_wait(b);
}

int broker_stop(struct broker_proc *b)
{
    broker_signal(b, SIGTERM);
    return broker_wait(b);
}

bool broker_runs(struct broker_proc *b)
{
    int status;
    if (b->pid != 0 && waitpid(b->pid, &status, WNOHANG) == b->pid)
        b->pid = 0;
    return b->pid != 0;
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *at)
{
    (void)s;
    (void)type;
    (void)at;
    return remove(path);
}

void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void broker_end(struct broker_proc *b)
{
    if (b->pid != 0)
        broker_kill(b);
    if (b->dir[0] == '\0')
        return;
    for (size_t i = 0; i < ARRAY_LEN(b->ports); i++)
        close(b->ports[i]);
    remove_tree(b->dir);
    forget_dir(b->dir);
    b->dir[0] = '\0';
}

int broker_run(const char *const *args, char *said, size_t size)
{
    char path[512];
    const char *argv[ARGS_MAX] = {program(path)};
    for (size_t n = 0; args[n] != NULL && n + 2 < ARGS_MAX; n++)
        argv[n + 1] = args[n];
    FILE *out = tmpfile();
    if (out == NULL)
        fail_msg("tmpfile: %s", strerror(errno));
    int status = reap(spawn(argv, NULL, fileno(out), fileno(out)), true);
    rewind(out);
    said[fread(said, 1, size - 1, out)] = '\0';
    fclose(out);
    return status;
}

/* ---------------------------------------------------------------- looking at it */

char *broker_log(const struct broker_proc *b)
{
    enum { LOG_BYTES_MAX = 1 << 20 };
    char *text = calloc(1, LOG_BYTES_MAX);
    FILE *f = fopen(b->log, "re");
    if (text == NULL)
        fail_msg("no memory");
    if (f != NULL) {
        text[fread(text, 1, LOG_BYTES_MAX - 1, f)] = '\0';
        fclose(f);
    }
    return text;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = true };
#else
enum { SANITIZED = false };
#endif

size_t broker_resident(const struct broker_proc *b)
{
    if (SANITIZED)
        return 0;
    char path[64];
    unsigned long size = 0, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)b->pid);
    FILE *f = fopen(path, "re");
    if (f == NULL || fscanf(f, "%lu %lu", &size, &resident) != 2)
        fail_msg("%s does not read", path);
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

double broker_metric(const struct broker_proc *b, const char *name)
{
    struct http_reply r;
    http_get(b->http, "GET", "/metrics", &r);
    assert_int_equal(r.status, 200);
    char want[256];
    snprintf(want, sizeof want, "\n%s ", name);
    const char *at = strstr(r.body, want);
    if (at == NULL)
        fail_msg("no metric %s", name);
    double value = strtod(at + strlen(want), NULL);
    http_reply_free(&r);
    return value;
}

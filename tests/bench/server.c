/* See server.h. */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tree.h"

enum { STOP_MS = 30000, READY_MS = 120000, LOOK_MS = 2, SERVERS_MAX = 64, ENV_MAX = 512 };

extern char **environ;

/* ---------------------------------------------------------------- what runs */

static pthread_mutex_t running_lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t running[SERVERS_MAX];

static void running_change(pid_t from, pid_t to)
{
    pthread_mutex_lock(&running_lock);
    size_t i = 0;
    while (i < SERVERS_MAX && running[i] != from)
        i++;
    if (i < SERVERS_MAX)
        running[i] = to;
    pthread_mutex_unlock(&running_lock);
}

static void kill_all(void)
{
    pthread_mutex_lock(&running_lock);
    for (size_t i = 0; i < SERVERS_MAX; i++) {
        if (running[i] > 0) {
            tree_kill(running[i]);
            waitpid(running[i], NULL, 0);
        }
        running[i] = 0;
    }
    pthread_mutex_unlock(&running_lock);
}

static void *await_signal(void *unused)
{
    sigset_t set;
    int number = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigwait(&set, &number);
    kill_all();
    workdirs_remove();
    _exit(128 + number);
    return unused;
}

void servers_begin(void)
{
    sigset_t set;
    pthread_t thread;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (pthread_create(&thread, NULL, await_signal, NULL) == 0)
        pthread_detach(thread);
    atexit(workdirs_remove);
    atexit(kill_all); /* first: the last that is registered */
}

/* ---------------------------------------------------------------- start */

static bool same_name(const char *word, const char *other)
{
    size_t size = strcspn(word, "=");
    return strncmp(word, other, size) == 0 && other[size] == '=';
}

static void environment_with(const char *const *more, const char *all[ENV_MAX])
{
    size_t n = 0;
    for (size_t i = 0; more != NULL && more[i] != NULL && n + 1 < ENV_MAX; i++)
        all[n++] = more[i];
    for (size_t i = 0, added = n; environ[i] != NULL && n + 1 < ENV_MAX; i++) {
        size_t k = 0;
        while (k < added && !same_name(more[k], environ[i]))
            k++;
        if (k == added)
            all[n++] = environ[i];
    }
    all[n] = NULL;
}

static int spawn(struct server *s, const struct server_spec *spec, int out)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, defaults;
    const char *env[ENV_MAX];
    environment_with(spec->env, env);
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, s->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&files, out < 0 ? STDERR_FILENO : out, STDOUT_FILENO);
    posix_spawn_file_actions_addchdir_np(&files, spec->dir);
    int code = posix_spawnp(&s->pid, spec->argv[0], &files, &attr, (char *const *)(uintptr_t)spec->argv, (char *const *)(uintptr_t)env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    return code;
}

/* The first line; false when there was none in time. The pipe is closed after it, so a server must not need its stdout. */
static bool read_line(int fd, char *line, size_t size)
{
    size_t n = 0;
    for (uint64_t until = clock_mono_ms() + READY_MS; n + 1 < size && clock_mono_ms() < until;) {
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

static int last_words(const struct server *s, const char *name, struct err *e)
{
    char said[160] = "";
    FILE *f = fopen(s->log, "re");
    if (f != NULL) {
        if (fseek(f, -(long)sizeof said + 1, SEEK_END) != 0)
            rewind(f);
        said[fread(said, 1, sizeof said - 1, f)] = '\0';
        fclose(f);
    }
    for (char *c = said; *c != '\0'; c++)
        if (*c == '\n')
            *c = ' ';
    return err_set(e, ECHILD, "%s does not start: %s", name, said);
}

int server_start(struct server *s, const struct server_spec *spec, struct err *e)
{
    int out[2] = {-1, -1};
    *s = (struct server){0};
    if (snprintf(s->log, sizeof s->log, "%s/%s.log", spec->dir, spec->name) >= (int)sizeof s->log)
        return err_set(e, ENAMETOOLONG, "%s: the path is too long", spec->dir);
    if (spec->ready_line && pipe2(out, O_CLOEXEC) != 0)
        return err_set(e, errno, "pipe: %s", strerror(errno));
    int code = spawn(s, spec, out[1]);
    if (out[1] >= 0)
        close(out[1]);
    if (code != 0) {
        s->pid = 0;
        err_set(e, code, "%s: %s", spec->argv[0], strerror(code));
    } else {
        running_change(0, s->pid);
        if (spec->ready_line && !read_line(out[0], s->line, sizeof s->line)) {
            server_kill(s);
            code = last_words(s, spec->name, e);
        }
    }
    if (out[0] >= 0)
        close(out[0]);
    return code;
}

/* ---------------------------------------------------------------- stop */

bool server_runs(struct server *s)
{
    if (s->pid != 0 && waitpid(s->pid, NULL, WNOHANG) == s->pid) {
        running_change(s->pid, 0);
        s->pid = 0;
    }
    return s->pid != 0;
}

void server_stop(struct server *s)
{
    if (!server_runs(s))
        return;
    kill(s->pid, SIGTERM);
    for (uint64_t until = clock_mono_ms() + STOP_MS; clock_mono_ms() < until && server_runs(s);)
        poll(NULL, 0, LOOK_MS);
    server_kill(s);
}

void server_kill(struct server *s)
{
    if (!server_runs(s))
        return;
    tree_kill(s->pid);
    waitpid(s->pid, NULL, 0);
    running_change(s->pid, 0);
    s->pid = 0;
}

/* ---------------------------------------------------------------- ports */

static int loopback(uint16_t port, struct sockaddr_in *a)
{
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

uint16_t server_free_port(void)
{
    struct sockaddr_in a;
    socklen_t size = sizeof a;
    int fd = loopback(0, &a);
    bool good = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && getsockname(fd, (struct sockaddr *)&a, &size) == 0;
    if (fd >= 0)
        close(fd);
    return good ? ntohs(a.sin_port) : 0;
}

static bool accepts(uint16_t port)
{
    struct sockaddr_in a;
    int fd = loopback(port, &a);
    bool good = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

int server_wait_port(struct server *s, uint16_t port, double seconds, struct err *e)
{
    for (uint64_t until = clock_mono_ms() + (uint64_t)(seconds * 1000); clock_mono_ms() < until;) {
        if (accepts(port))
            return 0;
        if (!server_runs(s))
            return last_words(s, "the server", e);
        poll(NULL, 0, 20);
    }
    return err_set(e, ETIMEDOUT, "nobody accepts at 127.0.0.1:%u", port);
}

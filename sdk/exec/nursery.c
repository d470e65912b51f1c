#include "exec/nursery.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "exec/env.h"

enum {
    CANNOT_RUN = 126 << 8, /* the status of a shell that could not run what it was told to */
    NOT_FOUND = 127,       /* what it exits with if there is no such command */
};

enum order_kind { ORDER_RUN, ORDER_KILL };

/* What goes down the socket; behind an ORDER_RUN stands the environment. */
struct order {
    uint32_t kind, slot;
    int32_t signal_number;
};

/* What comes up. */
struct news {
    uint32_t slot;
    int32_t status;
};

/* ---- in the nursery ---- */

struct nurse {
    int fd, signals_fd;
    const char *const *argv;
    const char *dir;
    sigset_t mask;      /* of the commands */
    struct rlimit cpu;  /* of the commands: our own soft limit the kernel moves on when it is reached */
    struct place {
        pid_t pid;      /* 0: free */
        bool signalled; /* it was told to end */
    } *places;          /* by slot */
    uint32_t slots;
    char **env; /* what all commands have, and room for the message's */
    size_t env_count;
    uint8_t packet[sizeof(struct order) + NURSERY_ENV_MAX];
};

/* What this process has in its environment and passes on. */
static void keep_env(struct nurse *n)
{
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    n->env =
        mem_array(count + NURSERY_ENV_MAX / 2 + 1, sizeof *n->env); /* a variable has two bytes or more */
    for (size_t i = 0; i < count; i++) {
        if (!env_is_about_message(environ[i]))
            n->env[n->env_count++] = environ[i];
    }
}

static void add_env(struct nurse *n, char *strings, size_t size)
{
    size_t count = n->env_count;
    for (size_t at = 0; at < size; at += strlen(strings + at) + 1)
        n->env[count++] = strings + at;
    n->env[count] = NULL;
}

/* What this process does not listen to a command does. */
static void listen_to_signals(const struct nurse *n)
{
    static const int signals[] = {SIGPIPE, SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        signal(signals[i], SIG_DFL);
    sigprocmask(SIG_SETMASK, &n->mask, NULL);
}

/* In the child: becomes the command. */
static _Noreturn void become(const struct nurse *n, pid_t nurse_pid, const int fds[2])
{
    const char *what = n->argv[0];
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != nurse_pid)
        _exit(NOT_FOUND); /* it died before the line above */
    setrlimit(RLIMIT_CPU, &n->cpu);
    if (dup2(fds[0], STDIN_FILENO) >= 0 && dup2(fds[1], STDERR_FILENO) >= 0) {
        if (n->dir == NULL || chdir(n->dir) == 0) {
            listen_to_signals(n);
            execvpe(n->argv[0], (char *const *)n->argv, n->env);
        } else {
            what = n->dir;
        }
    }
    dprintf(STDERR_FILENO, "%s: %s\n", what, strerror(errno));
    _exit(NOT_FOUND);
}

static void tell(const struct nurse *n, uint32_t slot, int status)
{
    struct news news = {slot, status};
    while (send(n->fd, &news, sizeof news, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

static void run_command(struct nurse *n, uint32_t slot, size_t env_size, const int fds[2])
{
    add_env(n, (char *)n->packet + sizeof(struct order), env_size);
    pid_t self = getpid(), pid = fork();
    if (pid == 0)
        become(n, self, fds);
    if (pid < 0) {
        dprintf(fds[1], "cannot start a process: %s\n", strerror(errno));
        tell(n, slot, CANNOT_RUN);
        return;
    }
    setpgid(pid, pid); /* whoever is first */
    n->places[slot] = (struct place){.pid = pid};
}

static void signal_command(struct nurse *n, uint32_t slot, int signal_number)
{
    if (n->places[slot].pid == 0)
        return;
    n->places[slot].signalled = true;
    kill(-n->places[slot].pid, signal_number);
}

/* Takes one order; false when the parent is gone. */
static bool take_order(struct nurse *n)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec bytes = {n->packet, sizeof n->packet};
    struct msghdr m = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t size = recvmsg(n->fd, &m, MSG_CMSG_CLOEXEC);
    if (size < 0)
        return errno == EINTR;
    if ((size_t)size < sizeof(struct order))
        return false;
    struct order o;
    memcpy(&o, n->packet, sizeof o);
    if (o.kind == ORDER_KILL) {
        signal_command(n, o.slot, o.signal_number);
        return true;
    }
    struct cmsghdr *rights = CMSG_FIRSTHDR(&m);
    if (rights == NULL || rights->cmsg_len != CMSG_LEN(2 * sizeof(int))) {
        tell(n, o.slot, CANNOT_RUN); /* there was no room for the descriptors */
        return true;
    }
    int fds[2];
    memcpy(fds, CMSG_DATA(rights), sizeof fds);
    run_command(n, o.slot, (size_t)size - sizeof o, fds);
    close(fds[0]);
    close(fds[1]);
    return true;
}

/* A command that has ended: until it is waited for, its pid and its group are nobody else's. */
static void clear_away(struct nurse *n, pid_t pid)
{
    uint32_t slot = 0;
    int status = 0;
    while (slot < n->slots && n->places[slot].pid != pid)
        slot++;
    if (slot < n->slots && n->places[slot].signalled)
        kill(-pid, SIGKILL);
    waitpid(pid, &status, 0);
    if (slot == n->slots)
        return;
    n->places[slot].pid = 0;
    tell(n, slot, status);
}

static void reap(struct nurse *n)
{
    struct signalfd_siginfo ignored;
    if (read(n->signals_fd, &ignored, sizeof ignored) < 0)
        return;
    for (siginfo_t ended = {0}; waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid != 0;
         ended.si_pid = 0)
        clear_away(n, ended.si_pid);
}

/* What else the parent has open is not ours to hold. */
static void close_others(int fd)
{
    if (fd > STDERR_FILENO + 1)
        close_range(STDERR_FILENO + 1, (unsigned)fd - 1, 0);
    close_range((unsigned)fd + 1, ~0u, 0);
}

static _Noreturn void nurse(struct nurse *n)
{
    prctl(PR_SET_NAME, "sluice-exec");
    setpgid(0, 0);
    close_others(n->fd);
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    n->signals_fd = signalfd(-1, &ended, SFD_CLOEXEC | SFD_NONBLOCK);
    getrlimit(RLIMIT_CPU, &n->cpu);
    keep_env(n);
    struct pollfd fds[] = {{.fd = n->fd, .events = POLLIN}, {.fd = n->signals_fd, .events = POLLIN}};
    for (bool parent = true; parent;) {
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[1].revents != 0)
            reap(n);
        if (fds[0].revents != 0)
            parent = take_order(n);
    }
    for (uint32_t slot = 0; slot < n->slots; slot++)
        signal_command(n, slot, SIGKILL);
    _exit(0);
}

/* ---- in the parent ---- */

int nursery_start(struct nursery *n, const char *const *argv, const char *dir, uint32_t slots, struct err *e)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return err_set(e, errno, "cannot make a socket: %s", strerror(errno));
    /* Nothing but its parent's end ends the nursery, so Ctrl-C in the terminal is the parent's to handle. */
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        struct nurse *me = mem_zalloc(sizeof *me);
        *me = (struct nurse){.fd = ends[1], .argv = argv, .dir = dir, .mask = before, .slots = slots};
        me->places = mem_array(slots, sizeof *me->places);
        nurse(me);
    }
    int code = pid < 0 ? errno : 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    if (code != 0) {
        close(ends[0]);
        return err_set(e, code, "cannot start a process: %s", strerror(code));
    }
    *n = (struct nursery){.fd = ends[0], .pid = pid};
    return 0;
}

static int send_order(struct nursery *n, struct msghdr *m, struct err *e)
{
    ssize_t sent;
    while ((sent = sendmsg(n->fd, m, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    return sent < 0 ? err_set(e, errno, "cannot run a command: %s", strerror(errno)) : 0;
}

int nursery_run(struct nursery *n, uint32_t slot, const struct buf *env, int stdin_fd, int stderr_fd,
                struct err *e)
{
    if (env->size > NURSERY_ENV_MAX)
        return err_set(e, E2BIG, "cannot run a command: key and headers make %zu bytes of environment",
                       env->size);
    struct order o = {.kind = ORDER_RUN, .slot = slot};
    struct iovec bytes[] = {{&o, sizeof o}, {env->data, env->size}};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control = {{0}};
    struct msghdr m = {
        .msg_iov = bytes, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(c), (int[]){stdin_fd, stderr_fd}, 2 * sizeof(int));
    return send_order(n, &m, e);
}

void nursery_kill(struct nursery *n, uint32_t slot, int signal_number)
{
    struct order o = {.kind = ORDER_KILL, .slot = slot, .signal_number = signal_number};
    struct iovec bytes = {&o, sizeof o};
    send_order(n, &(struct msghdr){.msg_iov = &bytes, .msg_iovlen = 1}, NULL);
}

enum nursery_news nursery_next(struct nursery *n, uint32_t *slot, int *status)
{
    struct news news;
    ssize_t size;
    while ((size = recv(n->fd, &news, sizeof news, MSG_DONTWAIT)) < 0 && errno == EINTR)
        ;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return NURSERY_QUIET;
    if (size != sizeof news)
        return NURSERY_GONE;
    *slot = news.slot;
    *status = news.status;
    return NURSERY_ENDED;
}

void nursery_stop(struct nursery *n)
{
    if (n->fd < 0)
        return;
    close(n->fd);
    while (waitpid(n->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    *n = NURSERY_NONE;
}

#include "cli/nursery.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/mem.h"

enum { CANNOT_RUN = 126 << 8 }; /* the status of a shell that could not run what it was told to */

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
    const char *command;
    sigset_t mask; /* of the commands */
    pid_t *pids;   /* by slot; 0: free */
    uint32_t slots;
    char **env; /* what all commands have, and room for the message's */
    size_t env_count;
    uint8_t packet[sizeof(struct order) + NURSERY_ENV_MAX];
};

static bool is_about_message(const char *variable)
{
    static const char *const ours[] = {
        "SLUICE_BROKER=", "SLUICE_TOPIC=",      "SLUICE_PARTITION=", "SLUICE_OFFSET=",
        "SLUICE_KEY=",    "SLUICE_KEY_BASE64=", "SLUICE_ATTEMPT=",   "SLUICE_HEADER_"};
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        if (strncmp(variable, ours[i], strlen(ours[i])) == 0)
            return true;
    }
    return false;
}

/* What this process has in its environment and passes on. */
static void keep_env(struct nurse *n)
{
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    n->env =
        mem_array(count + NURSERY_ENV_MAX / 2 + 1, sizeof *n->env); /* a variable has two bytes or more */
    for (size_t i = 0; i < count; i++) {
        if (!is_about_message(environ[i]))
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

/* In the child: becomes the command. */
static _Noreturn void become(const struct nurse *n, pid_t nurse_pid, const int fds[2])
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != nurse_pid)
        _exit(127); /* it died before the line above */
    if (dup2(fds[0], STDIN_FILENO) >= 0 && dup2(fds[1], STDERR_FILENO) >= 0) {
        signal(SIGPIPE, SIG_DFL);
        sigprocmask(SIG_SETMASK, &n->mask, NULL);
        execve("/bin/sh", (char *[]){(char *)"sh", (char *)"-c", (char *)n->command, NULL}, n->env);
    }
    dprintf(STDERR_FILENO, "/bin/sh: %s\n", strerror(errno));
    _exit(127);
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
    n->pids[slot] = pid;
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
        if (n->pids[o.slot] != 0)
            kill(-n->pids[o.slot], o.signal_number);
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

static void reap(struct nurse *n)
{
    struct signalfd_siginfo ignored;
    if (read(n->signals_fd, &ignored, sizeof ignored) < 0)
        return;
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        for (uint32_t slot = 0; slot < n->slots; slot++) {
            if (n->pids[slot] == pid) {
                n->pids[slot] = 0;
                tell(n, slot, status);
            }
        }
    }
}

static _Noreturn void nurse(struct nurse *n)
{
    prctl(PR_SET_NAME, "sluice-exec");
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
    for (uint32_t slot = 0; slot < n->slots; slot++) {
        if (n->pids[slot] != 0)
            kill(-n->pids[slot], SIGKILL);
    }
    _exit(0);
}

/* ---- in the parent ---- */

int nursery_start(struct nursery *n, const char *command, uint32_t slots, struct err *e)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return err_set(e, errno, "cannot make a socket: %s", strerror(errno));
    /* Nothing but its parent's end ends the nursery, so Ctrl-C in the terminal is the parent's to handle. */
    sigset_t all, before, child;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        struct nurse *me = mem_zalloc(sizeof *me);
        *me = (struct nurse){.fd = ends[1], .command = command, .mask = before, .slots = slots};
        me->signals_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
        me->pids = mem_array(slots, sizeof *me->pids);
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

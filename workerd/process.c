#include "workerd/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workerd/child.h"

extern char **environ;

/* What is open between the two: [0] is ours, [1] the child's. */
struct ends {
    int pipe[2], output[2];
};

static void close_both(int fds[2])
{
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

static int open_ends(struct ends *ends)
{
    *ends = (struct ends){{-1, -1}, {-1, -1}};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends->pipe) != 0 ||
        pipe2(ends->output, O_CLOEXEC) != 0 || fcntl(ends->output[0], F_SETFL, O_NONBLOCK) != 0)
        return errno;
    return 0;
}

/* The child begins as if from a shell, whatever we did to signals. */
static int spawn(pid_t *pid, const char *exe, const char *name, int file, const struct ends *ends)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, ends->output[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, ends->output[1], STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&files, ends->pipe[1], CHILD_PIPE_FD);
    if (file >= 0) /* last: nothing that is still to be handed over is at its number */
        posix_spawn_file_actions_adddup2(&files, file, CHILD_FILE_FD);
    else
        posix_spawn_file_actions_addclose(&files, CHILD_FILE_FD);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    const char *argv[] = {"sluice-workerd", "--child", name, NULL};
    int code = posix_spawn(pid, exe, &files, &attributes, (char *const *)argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return code;
}

int process_start(struct process *p, const char *exe, const char *name, int file, struct err *e)
{
    struct ends ends;
    pid_t pid = 0;
    int pidfd = -1;
    int code = open_ends(&ends);
    if (code == 0)
        code = spawn(&pid, exe, name, file, &ends);
    if (code == 0 && (pidfd = pidfd_open(pid, 0)) < 0) {
        code = errno;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    if (code != 0) {
        close_both(ends.pipe);
        close_both(ends.output);
        return err_set(e, code, "%s: %s", exe, strerror(code));
    }
    close(ends.pipe[1]);
    close(ends.output[1]);
    *p = (struct process){.pid = pid, .pidfd = pidfd, .pipe = ends.pipe[0], .output = ends.output[0]};
    return 0;
}

/* The pid cannot be anybody else's before it is reaped, nor can the group's. */
void process_kill(const struct process *p)
{
    if (p->pid > 0)
        kill(-p->pid, SIGKILL);
}

static void describe(char text[PROCESS_END_TEXT_MAX], const siginfo_t *info)
{
    if (info->si_code == CLD_EXITED) {
        snprintf(text, PROCESS_END_TEXT_MAX, "exited with %d", info->si_status);
        return;
    }
    const char *name = sigabbrev_np(info->si_status);
    if (name != NULL)
        snprintf(text, PROCESS_END_TEXT_MAX, "killed by SIG%s", name);
    else
        snprintf(text, PROCESS_END_TEXT_MAX, "killed by signal %d", info->si_status);
}

bool process_reap(const struct process *p, char text[PROCESS_END_TEXT_MAX], bool *clean)
{
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
        return false;
    process_kill(p);
    waitid(P_PID, (id_t)p->pid, &info, WEXITED);
    describe(text, &info);
    *clean = info.si_code == CLD_EXITED && info.si_status == 0;
    return true;
}

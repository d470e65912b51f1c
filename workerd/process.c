#include "workerd/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "workerd/child.h"
#include "workerd/family.h"

extern char **environ;

enum { SHORT_SLICE_NS = 100000 }; /* the shortest there is */

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

/* Our environment with a mark of its own. The array is the caller's to free, the strings are not. */
static char **marked_environment(char *mark)
{
    static const char name[] = FAMILY_ENV "=";
    size_t n = 0, kept = 0;
    while (environ[n] != NULL)
        n++;
    char **all = mem_array(n + 2, sizeof *all);
    for (size_t i = 0; i < n; i++) {
        if (strncmp(environ[i], name, sizeof name - 1) != 0)
            all[kept++] = environ[i];
    }
    all[kept] = mark;
    return all;
}

/* The child begins as if from a shell, whatever we did to signals. */
static int spawn(pid_t *pid, const char *exe, const char *name, const char *mark, int file,
                 const struct ends *ends)
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
    char variable[sizeof FAMILY_ENV "=" + FAMILY_MARK_MAX];
    snprintf(variable, sizeof variable, FAMILY_ENV "=%s", mark);
    char **environment = marked_environment(variable);
    int code = posix_spawn(pid, exe, &files, &attributes, (char *const *)argv, environment);
    mem_free(environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return code;
}

static uint64_t peak(const struct rusage *usage)
{
    return (uint64_t)usage->ru_maxrss * 1024;
}

int process_start(struct process *p, const char *exe, const char *name, int file, struct err *e)
{
    struct ends ends;
    char mark[FAMILY_MARK_MAX];
    pid_t pid = 0;
    int pidfd = -1;
    int code = open_ends(&ends);
    family_mark(mark);
    if (code == 0)
        code = spawn(&pid, exe, name, mark, file, &ends);
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
    struct rusage ours = {0};
    getrusage(RUSAGE_SELF, &ours);
    family_join(pid, mark);
    *p = (struct process){.pid = pid,
                          .pidfd = pidfd,
                          .pipe = ends.pipe[0],
                          .output = ends.output[0],
                          .born_bytes = peak(&ours)};
    return 0;
}

/* The kernel lets who runs go on for a slice, however nice it is, while others wait; of some milliseconds by default. Linux before 6.12
   does not know of others, which is no loss worth a word. (The layout is the kernel's; not every libc has it.) */
static void ask_for_slice(pid_t thread, int nice, uint64_t slice_ns)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime_ns, deadline_ns, period_ns;
    } attributes = {.size = sizeof attributes, .policy = SCHED_OTHER, .nice = nice, .runtime_ns = slice_ns};
    syscall(SYS_sched_setattr, thread, &attributes, 0);
}

static bool nice_thread(pid_t thread, int nice, bool shortly)
{
    if (setpriority(PRIO_PROCESS, (id_t)thread, nice) != 0)
        return false;
    ask_for_slice(thread, getpriority(PRIO_PROCESS, (id_t)thread), shortly ? SHORT_SLICE_NS : 0);
    return true;
}

bool process_nice(const struct process *p, int by)
{
    char path[32];
    int nice = getpriority(PRIO_PROCESS, 0) + by;
    snprintf(path, sizeof path, "/proc/%d/task", (int)p->pid);
    DIR *dir = opendir(path);
    bool done = dir != NULL;
    for (const struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        if (d->d_name[0] != '.')
            done &= nice_thread((pid_t)strtol(d->d_name, NULL, 10), nice, by > 0);
    }
    if (dir != NULL)
        closedir(dir);
    return done;
}

/* The pid cannot be anybody else's before it is reaped, nor can the group's. The process may have left it. */
void process_kill(const struct process *p)
{
    if (p->pid <= 0)
        return;
    kill(-p->pid, SIGKILL);
    kill(p->pid, SIGKILL);
}

static void describe(struct process_end *end, int status)
{
    end->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    end->clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (end->signal == 0) {
        snprintf(end->text, sizeof end->text, "exited with %d", WEXITSTATUS(status));
        return;
    }
    const char *name = sigabbrev_np(end->signal);
    if (name != NULL)
        snprintf(end->text, sizeof end->text, "killed by SIG%s", name);
    else
        snprintf(end->text, sizeof end->text, "killed by signal %d", end->signal);
}

bool process_ended(const struct process *p)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

bool process_reap(const struct process *p, struct process_end *end)
{
    struct rusage usage = {0};
    int status = 0;
    if (!process_ended(p))
        return false;
    process_kill(p);
    wait4(p->pid, &status, 0, &usage);
    family_leave(p->pid);
    describe(end, status);
    end->peak_bytes = peak(&usage) > p->born_bytes ? peak(&usage) : 0;
    return true;
}

void process_drop(const struct process *p)
{
    process_kill(p);
    waitpid(p->pid, NULL, 0);
    family_leave(p->pid);
}

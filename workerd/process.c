#include "workerd/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "workerd/child.h"
#include "workerd/family.h"
#include "workerd/reaper.h"

extern char **environ;

static const ino_t FIRST_NAMESPACE = 0xEFFFFFFD; /* of users: the kernel's PROC_USER_INIT_INO */

enum {
    SHORT_SLICE_NS = 100000, /* the shortest there is */
    NICE_MOST = 19,
    STAND_ROUNDS = 8, /* looks at the threads of a process until none is new */
};

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

/* ---- how it stands beside others ---- */

/* As the kernel lays it out; not every libc has it. */
struct sched_attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

/* The kernel lets who runs go on for a slice, however nice it is, while others wait; of some milliseconds by default. Linux before
   6.12 does not know of others, which is no loss worth a word. */
static struct sched_attributes attributes_of(enum process_rank rank)
{
    int nice = getpriority(PRIO_PROCESS, 0) + (rank == PROCESS_EQUAL ? 0 : PROCESS_NICE);
    return (struct sched_attributes){.size = sizeof(struct sched_attributes),
                                     .policy = rank == PROCESS_LAST ? SCHED_IDLE : SCHED_OTHER,
                                     .nice = nice < NICE_MOST ? nice : NICE_MOST,
                                     .runtime_ns = rank == PROCESS_BEHIND ? SHORT_SLICE_NS : 0};
}

struct stand {
    struct sched_attributes wanted;
    bool refused;
};

/* Niceness by itself too: a policy of SCHED_IDLE has none, but keeps it for later. Returns whether anything was to do. */
static bool stand_thread(pid_t thread, struct stand *s)
{
    if (sched_getscheduler(thread) == (int)s->wanted.policy && getpriority(PRIO_PROCESS, (id_t)thread) == s->wanted.nice)
        return false;
    bool done = setpriority(PRIO_PROCESS, (id_t)thread, s->wanted.nice) == 0 &&
                syscall(SYS_sched_setattr, thread, &s->wanted, 0) == 0;
    s->refused |= !done && errno != ESRCH;
    return done;
}

/* A thread that was started meanwhile by one that was not reached yet is found in the next round. */
static void stand_process(pid_t pid, void *user)
{
    struct stand *s = user;
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    bool found = true;
    for (int round = 0; found && round < STAND_ROUNDS; round++) {
        found = false;
        DIR *dir = opendir(path);
        for (const struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
            if (d->d_name[0] != '.')
                found |= stand_thread((pid_t)strtol(d->d_name, NULL, 10), s);
        }
        if (dir != NULL)
            closedir(dir);
    }
}

bool process_stand(const struct process *p, enum process_rank rank)
{
    struct stand s = {.wanted = attributes_of(rank)};
    family_each(p->pid, stand_process, &s);
    return !s.refused;
}

/* In another namespace of users, as that of a container may be, root has all privileges but this one. */
static bool is_first_namespace(void)
{
    struct stat s;
    return stat("/proc/self/ns/user", &s) == 0 && s.st_ino == FIRST_NAMESPACE;
}

static bool has_privilege(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    return is_first_namespace() && syscall(SYS_capget, &header, sets) == 0 &&
           (sets[CAP_TO_INDEX(CAP_SYS_NICE)].effective & CAP_TO_MASK(CAP_SYS_NICE)) != 0;
}

bool process_may_raise(bool stranger)
{
    struct rlimit least; /* counted from the other end: 1 for the nicest, 40 */
    return has_privilege() || (!stranger && getrlimit(RLIMIT_NICE, &least) == 0 &&
                               least.rlim_cur >= (rlim_t)(NICE_MOST + 1 - getpriority(PRIO_PROCESS, 0)));
}

/* The pid cannot be anybody else's before it is reaped, nor can the group's. The process may have left it. */
void process_kill(const struct process *p)
{
    if (p->pid <= 0)
        return;
    kill(-p->pid, SIGKILL);
    kill(p->pid, SIGKILL);
}

/* If it has ended: how, and what it took; it stays to be waited for. */
static bool look_at_end(const struct process *p, siginfo_t *info, struct rusage *usage)
{
    *info = (siginfo_t){0};
    return syscall(SYS_waitid, P_PID, p->pid, info, WEXITED | WNOHANG | WNOWAIT, usage) == 0 && info->si_pid != 0;
}

static void describe(struct process_end *end, const siginfo_t *info)
{
    bool exited = info->si_code == CLD_EXITED;
    end->signal = exited ? 0 : info->si_status;
    end->clean = exited && info->si_status == 0;
    if (exited) {
        snprintf(end->text, sizeof end->text, "exited with %d", info->si_status);
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
    siginfo_t info;
    return look_at_end(p, &info, NULL);
}

bool process_reap(const struct process *p, struct process_end *end)
{
    siginfo_t info;
    struct rusage usage = {0};
    if (!look_at_end(p, &info, &usage))
        return false;
    process_kill(p);
    reaper_take(p->pid);
    family_leave(p->pid);
    describe(end, &info);
    end->peak_bytes = peak(&usage) > p->born_bytes ? peak(&usage) : 0;
    return true;
}

void process_drop(const struct process *p)
{
    process_kill(p);
    waitpid(p->pid, NULL, 0);
    family_leave(p->pid);
}

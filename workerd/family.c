#include "workerd/family.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "workerd/reaper.h"

enum {
    PATH_BYTES = 96,
    ENVIRON_BYTES_MAX = 256 * 1024, /* looked through for a mark */
    STATUS_BYTES_MAX = 4096,
    END_ROUNDS = 100,
    SWEEP_ROUNDS = 8, /* what is killed leaves us its children, who are killed in the next */
};

struct member {
    pid_t pid;
    char mark[FAMILY_MARK_MAX];
};

struct pids {
    pid_t *of;
    size_t n, cap;
};

/* What a process cannot put off, nor keep from those below it: how many seccomp filters it has (before Linux 5.9
   not known) and whether it can gain rights. */
struct fences {
    unsigned filters, no_new_privs;
};

/* One per process, as there is one list of children in the kernel. */
static struct {
    struct member *children, *adopted; /* adopted: strays of children that live */
    size_t children_n, children_cap, adopted_n, adopted_cap;
    struct pids suspects, suspected; /* strays without a mark: of this sweep, of the one before */
    uint64_t last_mark;
    struct fences fences; /* of this process */
    bool adopts;
} self;

static void pids_add(struct pids *p, pid_t pid)
{
    if (p->n == p->cap) {
        p->cap = p->cap != 0 ? 2 * p->cap : 32;
        p->of = mem_resize(p->of, p->cap, sizeof *p->of);
    }
    p->of[p->n++] = pid;
}

static bool pids_has(const struct pids *p, pid_t pid)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->of[i] == pid)
            return true;
    }
    return false;
}

static void member_add(struct member **list, size_t *n, size_t *cap, pid_t pid, const char *mark)
{
    if (*n == *cap) {
        *cap = *cap != 0 ? 2 * *cap : 32;
        *list = mem_resize(*list, *cap, sizeof **list);
    }
    struct member *m = &(*list)[(*n)++];
    m->pid = pid;
    snprintf(m->mark, sizeof m->mark, "%s", mark);
}

static const struct member *child_of_mark(const char *mark)
{
    for (size_t i = 0; i < self.children_n; i++) {
        if (strcmp(self.children[i].mark, mark) == 0)
            return &self.children[i];
    }
    return NULL;
}

static struct member *child_of_pid(pid_t pid)
{
    for (size_t i = 0; i < self.children_n; i++) {
        if (self.children[i].pid == pid)
            return &self.children[i];
    }
    return NULL;
}

/* ---- what the kernel knows of a process ---- */

/* Reads a file of /proc/PID as a string; the number of bytes, 0 if it cannot be read. */
static size_t read_proc(pid_t pid, const char *name, char *text, size_t size)
{
    char path[PATH_BYTES];
    size_t n = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (ssize_t got; fd >= 0 && n + 1 < size && (got = read(fd, text + n, size - 1 - n)) > 0;)
        n += (size_t)got;
    if (fd >= 0)
        close(fd);
    text[n] = '\0';
    return n;
}

/* A whole list of children is as long as it likes, so it is read by lines of a stream. */
static void add_children(pid_t pid, const char *thread, struct pids *out)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "/proc/%d/task/%.16s/children", (int)pid, thread);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    for (int child; out->n < FAMILY_TASKS_MAX && fscanf(f, "%d", &child) == 1;)
        pids_add(out, child);
    fclose(f);
}

/* Adds the children of all threads of a process. Returns how many threads it has; 0: it is gone. */
static uint32_t children_of(pid_t pid, struct pids *out)
{
    char path[PATH_BYTES];
    uint32_t threads = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    for (const struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        if (d->d_name[0] == '.')
            continue;
        threads++;
        add_children(pid, d->d_name, out);
    }
    if (dir != NULL)
        closedir(dir);
    return threads;
}

/* Whether the process has a mark of ours; what hides it has none. */
static bool read_mark(pid_t pid, char mark[FAMILY_MARK_MAX])
{
    static const char name[] = FAMILY_ENV "=";
    char *text = mem_alloc(ENVIRON_BYTES_MAX);
    size_t size = read_proc(pid, "environ", text, ENVIRON_BYTES_MAX);
    bool found = false;
    for (size_t at = 0; at < size && !found; at += strlen(text + at) + 1) {
        found = strncmp(text + at, name, sizeof name - 1) == 0;
        if (found)
            snprintf(mark, FAMILY_MARK_MAX, "%s", text + at + sizeof name - 1);
    }
    mem_free(text);
    return found;
}

static struct fences read_fences(pid_t pid)
{
    static const char filters[] = "\nSeccomp_filters:", no_new_privs[] = "\nNoNewPrivs:";
    char text[STATUS_BYTES_MAX];
    struct fences f = {0};
    if (read_proc(pid, "status", text, sizeof text) == 0)
        return f;
    const char *at = strstr(text, filters), *other = strstr(text, no_new_privs);
    if (at != NULL)
        f.filters = (unsigned)strtoul(at + sizeof filters - 1, NULL, 10);
    if (other != NULL)
        f.no_new_privs = (unsigned)strtoul(other + sizeof no_new_privs - 1, NULL, 10);
    return f;
}

/* Whether it has fences that we have not, as all have that come from a child under a seccomp profile. */
static bool is_fenced(pid_t pid)
{
    struct fences f = read_fences(pid);
    return f.filters > self.fences.filters || f.no_new_privs > self.fences.no_new_privs;
}

static uint64_t own_memory(pid_t pid)
{
    char text[128];
    unsigned long long all, resident, shared;
    if (read_proc(pid, "statm", text, sizeof text) == 0 ||
        sscanf(text, "%llu %llu %llu", &all, &resident, &shared) != 3 || shared > resident)
        return 0;
    return (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- children ---- */

void family_mark(char out[FAMILY_MARK_MAX])
{
    if (!self.adopts) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        self.fences = read_fences(getpid());
    }
    self.adopts = true;
    snprintf(out, FAMILY_MARK_MAX, "%d.%llu", (int)getpid(), (unsigned long long)++self.last_mark);
}

void family_join(pid_t child, const char *mark)
{
    member_add(&self.children, &self.children_n, &self.children_cap, child, mark);
}

void family_leave(pid_t child)
{
    struct member *m = child_of_pid(child);
    if (m != NULL)
        *m = self.children[--self.children_n];
    if (self.children_n > 0)
        return;
    mem_free(self.children);
    self.children = NULL;
    self.children_cap = 0;
}

/* Where all below a child begins: it, and its strays. */
static struct pids family_roots(pid_t child)
{
    struct pids roots = {0};
    const struct member *m = child_of_pid(child);
    pids_add(&roots, child);
    for (size_t i = 0; m != NULL && i < self.adopted_n; i++) {
        if (strcmp(self.adopted[i].mark, m->mark) == 0)
            pids_add(&roots, self.adopted[i].pid);
    }
    return roots;
}

void family_each(pid_t child, void (*each)(pid_t pid, void *user), void *user)
{
    struct pids all = family_roots(child);
    for (size_t i = 0; i < all.n && i < FAMILY_TASKS_MAX; i++) {
        each(all.of[i], user);
        children_of(all.of[i], &all);
    }
    mem_free(all.of);
}

struct family_size family_size(pid_t child)
{
    struct family_size size = {0};
    struct pids all = family_roots(child);
    for (size_t i = 0; i < all.n && size.tasks < FAMILY_TASKS_MAX; i++) {
        uint32_t threads = children_of(all.of[i], &all);
        size.tasks += threads;
        size.processes += i > 0 && threads > 0;
        size.memory_bytes += own_memory(all.of[i]);
    }
    mem_free(all.of);
    return size;
}

/* ---- strays ---- */

/* It, and all below it: they would be ours next. */
static void kill_tree(pid_t root)
{
    struct pids all = {0};
    pids_add(&all, root);
    for (size_t i = 0; i < all.n; i++) {
        children_of(all.of[i], &all);
        kill(all.of[i], SIGKILL);
    }
    mem_free(all.of);
}

/* Looks at one that we did not start. Returns whether it was killed and is not gone. One without a mark that is
   fenced as children are hides it; in the middle of an exec a process has no environment, so only who is found
   so twice. One that is not may be anybody's: of the script that became this daemon, of whoever else is in its
   container. */
static bool judge(pid_t pid)
{
    char mark[FAMILY_MARK_MAX] = "";
    if (waitpid(pid, NULL, WNOHANG) == pid)
        return false;
    bool marked = read_mark(pid, mark);
    if (marked && child_of_mark(mark) != NULL) {
        member_add(&self.adopted, &self.adopted_n, &self.adopted_cap, pid, mark);
        return false;
    }
    if (!marked && !is_fenced(pid))
        return false;
    if (!marked && !pids_has(&self.suspected, pid)) {
        if (!pids_has(&self.suspects, pid))
            pids_add(&self.suspects, pid);
        return false;
    }
    log_info("stray killed pid=%d mark=%s", (int)pid, LOG_STR(mark));
    kill_tree(pid);
    return waitpid(pid, NULL, WNOHANG) != pid;
}

/* One look at our children. Returns how many were killed. */
static size_t sweep_once(void)
{
    struct pids ours = {0};
    size_t killed = 0;
    self.adopted_n = 0;
    children_of(getpid(), &ours);
    for (size_t i = 0; i < ours.n; i++)
        killed += child_of_pid(ours.of[i]) == NULL && !reaper_has(ours.of[i]) && judge(ours.of[i]);
    mem_free(ours.of);
    return killed;
}

/* Who had itself traced (PTRACE_TRACEME, where no profile refuses that) made us its tracer, thread by thread; and a
   process is not seen to have ended before its tracer has waited for each of them. */
static void let_traced_go(void)
{
    siginfo_t info = {0};
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 && info.si_pid != 0 &&
           child_of_pid(info.si_pid) == NULL && !reaper_has(info.si_pid) && waitpid(info.si_pid, NULL, WNOHANG | __WALL) == info.si_pid)
        info.si_pid = 0;
}

uint32_t family_sweep(void)
{
    size_t killed = 0;
    if (self.adopts)
        let_traced_go();
    mem_free(self.suspected.of);
    self.suspected = self.suspects;
    self.suspects = (struct pids){0};
    for (int i = 0; self.adopts && i < SWEEP_ROUNDS; i++) {
        killed = sweep_once();
        if (killed == 0)
            break;
    }
    if (self.adopted_n == 0) {
        mem_free(self.adopted);
        self.adopted = NULL;
        self.adopted_cap = 0;
    }
    return killed + self.suspects.n > 0 ? FAMILY_AGAIN_MS : FAMILY_SWEEP_MS;
}

void family_end(void)
{
    for (int i = 0; i < END_ROUNDS && family_sweep() == FAMILY_AGAIN_MS; i++)
        nanosleep(&(struct timespec){.tv_nsec = FAMILY_AGAIN_MS * 1000000L}, NULL);
}

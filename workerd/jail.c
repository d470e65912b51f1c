#include "workerd/jail.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/units.h"
#include "schemas/errors.h"

/* AddressSanitizer maps its shadow as private writable memory: all of it, at once. */
#ifdef __SANITIZE_ADDRESS__
enum { MEMORY_CAN_BE_LIMITED = 0 };
#else
enum { MEMORY_CAN_BE_LIMITED = 1 };
#endif

enum {
    PATH_BYTES = 300,
    CHILDREN_ROOM = 8, /* RLIMIT_NPROC lets a user have so many times the limit of one child */
};

/* ---- profiles by name ---- */

static const char *const profiles[] = {
    [JAIL_OFF] = "off", [JAIL_DEFAULT] = "default", [JAIL_STRICT] = "strict"};

int jail_profile_parse(const char *text, enum jail_profile *out, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(profiles); i++) {
        if (strcmp(profiles[i], text) != 0)
            continue;
        *out = (enum jail_profile)i;
        return 0;
    }
    return err_set(e, E_CONFIG, "'%s' is no profile: strict, default or off", text);
}

const char *jail_profile_name(enum jail_profile profile)
{
    return profiles[profile];
}

/* ---- limits ---- */

/* Lower only: what was a limit to the daemon stays one. */
static int limit(int resource, const char *name, uint64_t value, struct err *e)
{
    struct rlimit now;
    if (getrlimit((__rlimit_resource_t)resource, &now) == 0) {
        rlim_t most = now.rlim_max < value ? now.rlim_max : value;
        if (setrlimit((__rlimit_resource_t)resource, &(struct rlimit){most, most}) == 0)
            return 0;
    }
    return err_set(e, E_CONFIG, "%s cannot be limited: %s", name, strerror(errno));
}

static int take_limits(const struct jail *j, struct err *e)
{
    const struct {
        int resource;
        const char *name;
        uint64_t value;
    } limits[] = {{RLIMIT_NOFILE, "open_files", j->open_files},
                  {RLIMIT_FSIZE, "file_size", j->file_bytes},
                  {RLIMIT_DATA, "memory", MEMORY_CAN_BE_LIMITED ? j->memory_bytes : 0}};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        if (limits[i].value != 0 && limit(limits[i].resource, limits[i].name, limits[i].value, e) != 0)
            return E_CONFIG;
    }
    return limit(RLIMIT_CORE, "the size of core files", 0, e);
}

/* The kernel counts CPU time from the start of the process and by whole seconds; the hard limit stays
   where it is, so that the soft one can be moved on. */
void jail_task(const struct jail *j)
{
    struct rlimit cpu;
    struct timespec used;
    if (j->cpu_ms == 0 || getrlimit(RLIMIT_CPU, &cpu) != 0 ||
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) != 0)
        return;
    cpu.rlim_cur = (rlim_t)used.tv_sec + 1 + (j->cpu_ms + 999) / 1000;
    if (cpu.rlim_cur < cpu.rlim_max)
        setrlimit(RLIMIT_CPU, &cpu);
}

/* ---- a user of its own ---- */

int jail_user_check(const char *user, struct err *e)
{
    if (geteuid() != 0)
        return err_set(e, E_CONFIG, "'%s': only root can run handlers as another user; this is user %u", user,
                       (unsigned)geteuid());
    errno = 0;
    if (getpwnam(user) == NULL)
        return err_set(e, E_CONFIG, "'%s': %s", user, errno != 0 ? strerror(errno) : "there is no such user");
    return 0;
}

/* Processes and threads that a user has, as RLIMIT_NPROC counts them. */
static uint64_t tasks_of(uid_t uid)
{
    uint64_t n = 0;
    DIR *dir = opendir("/proc");
    for (const struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        char path[PATH_BYTES];
        struct stat s;
        snprintf(path, sizeof path, "%s/task", d->d_name);
        if (fstatat(dirfd(dir), path, &s, 0) == 0 && s.st_uid == uid && s.st_nlink > 2)
            n += s.st_nlink - 2;
    }
    if (dir != NULL)
        closedir(dir);
    return n;
}

static int become(const struct jail *j, struct err *e)
{
    const char *user = j->user;
    if (jail_user_check(user, e) != 0)
        return E_CONFIG;
    const struct passwd *p = getpwnam(user);
    if (p->pw_uid != 0 && j->tasks != 0 &&
        limit(RLIMIT_NPROC, "processes_limit", tasks_of(p->pw_uid) + CHILDREN_ROOM * (uint64_t)j->tasks, e) !=
            0)
        return E_CONFIG;
    setenv("USER", user, 1);
    setenv("LOGNAME", user, 1);
    setenv("HOME", p->pw_dir, 1);
    if (initgroups(user, p->pw_gid) != 0 || setresgid(p->pw_gid, p->pw_gid, p->pw_gid) != 0 ||
        setresuid(p->pw_uid, p->pw_uid, p->pw_uid) != 0)
        return err_set(e, E_CONFIG, "cannot become user '%s': %s", user, strerror(errno));
    /* Both went with the old user: to die with the daemon, and to find oneself in /proc. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 1);
    return 0;
}

/* ---- */

int jail_enter(const struct jail *j, struct err *e)
{
    if (take_limits(j, e) != 0)
        return E_CONFIG;
    if (j->user != NULL && j->user[0] != '\0' && become(j, e) != 0)
        return E_CONFIG;
    if (j->profile == JAIL_OFF)
        return 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_set(e, E_CONFIG, "no_new_privs: %s", strerror(errno));
    return jail_filter(j->profile, e);
}

/* ---- how it ended ---- */

/* Whether the memory that a process had at its most is so near to the limit that what ended it had to do
   with that. Stacks count for the limit as a whole, but are there only as far as they were used. */
static bool was_full(const struct jail *j, const struct process_end *end)
{
    return j->memory_bytes != 0 && !end->clean && end->peak_bytes >= j->memory_bytes / 4 * 3;
}

void jail_explain(const struct jail *j, const struct process_end *end, struct buf *out)
{
    char limit_text[UNITS_TEXT_MAX];
    switch (end->signal) {
    case SIGXCPU:
        buf_putf(out, " (its cpu_time of %s was over)", duration_format(limit_text, j->cpu_ms));
        return;
    case SIGXFSZ:
        buf_putf(out, " (a file became larger than file_size, %s)", size_format(limit_text, j->file_bytes));
        return;
    case SIGSYS:
        buf_putf(out, " (a system call that the seccomp profile %s refuses)", profiles[j->profile]);
        return;
    default:
        if (was_full(j, end))
            buf_putf(out, " (it had %llu MiB of its memory limit, %s)",
                     (unsigned long long)(end->peak_bytes >> 20), size_format(limit_text, j->memory_bytes));
    }
}

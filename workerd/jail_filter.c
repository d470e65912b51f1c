/* The seccomp profiles of jail.h, as filters of libseccomp. The calls by name are in jail_calls.def. */
#include "workerd/jail.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macros.h"
#include "schemas/errors.h"

/* What looks for leaks at the end of a process stops its threads by ptrace, from a process of its own. */
#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum { NO_CALL = __NR_SCMP_ERROR };

/* One in the list that makes a profile. */
struct rule {
    const char *call;
    uint32_t action;
};

#define NOTHING(name)
#define EPERM_RULE(name) {#name, SCMP_ACT_ERRNO(EPERM)},
#define TRAP_RULE(name) {#name, SCMP_ACT_TRAP},
#define ALLOW_RULE(name) {#name, SCMP_ACT_ALLOW},

#define DENY EPERM_RULE
#define KILL NOTHING
#define ALLOW NOTHING
static const struct rule denied[] = {
#include "workerd/jail_calls.def"
};
#undef DENY
#undef KILL
#undef ALLOW
#define DENY NOTHING
#define KILL TRAP_RULE
#define ALLOW NOTHING
static const struct rule killed[] = {
#include "workerd/jail_calls.def"
};
#undef KILL
#undef ALLOW
#define KILL NOTHING
#define ALLOW ALLOW_RULE
static const struct rule allowed[] = {
#include "workerd/jail_calls.def"
};
#undef DENY
#undef KILL
#undef ALLOW

static int numbers[ARRAY_LEN(killed)]; /* of `killed`, looked up before anything can be refused */
static int clone_number;

/* ---- the name of a call that was refused ---- */

/* Runs in the thread that made the call, in which nothing is known to work. */
static void on_refused(int signal_number, siginfo_t *info, void *unused)
{
    (void)unused;
    const char *name = info->si_syscall == clone_number ? "a new process" : "a system call";
    char line[128];
    for (size_t i = 0; i < ARRAY_LEN(killed); i++) {
        if (numbers[i] == info->si_syscall)
            name = killed[i].call;
    }
    strcpy(line, "the seccomp profile strict refuses ");
    strncat(line, name, 32);
    strcat(line, "\n");
    if (write(STDERR_FILENO, line, strlen(line)) < 0)
        raise(SIGKILL);
    raise(signal_number);
}

static void listen_for_refusals(void)
{
    struct sigaction action = {.sa_sigaction = on_refused,
                               .sa_flags = SA_SIGINFO | SA_RESETHAND | SA_NODEFER};
    for (size_t i = 0; i < ARRAY_LEN(killed); i++)
        numbers[i] = seccomp_syscall_resolve_name(killed[i].call);
    clone_number = seccomp_syscall_resolve_name("clone");
    sigaction(SIGSYS, &action, NULL);
}

/* ---- rules ---- */

/* Names that this machine does not know are left out; negative numbers are calls that it does not have. */
static int add(scmp_filter_ctx filter, const char *call, uint32_t action, unsigned count,
               struct scmp_arg_cmp compare)
{
    int number = seccomp_syscall_resolve_name(call);
    if (number == NO_CALL || number < 0)
        return 0;
    int code = seccomp_rule_add_array(filter, action, number, count, &compare);
    return code == -EEXIST ? 0 : code;
}

static int add_list(scmp_filter_ctx filter, const struct rule *rules, size_t count)
{
    int code = 0;
    for (size_t i = 0; i < count && code == 0; i++) {
        if (!SANITIZED || strcmp(rules[i].call, "ptrace") != 0)
            code = add(filter, rules[i].call, rules[i].action, 0, (struct scmp_arg_cmp){0});
    }
    return code;
}

/* A pid is an int; what stands above it in the register is anybody's guess. */
static struct scmp_arg_cmp pid_is(pid_t pid)
{
    return SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)pid);
}

static struct scmp_arg_cmp has_flag(uint64_t flag, bool set)
{
    return SCMP_A0(SCMP_CMP_MASKED_EQ, flag, set ? flag : 0);
}

/* No signal to the daemon, its group, or to everybody. */
static int spare_the_daemon(scmp_filter_ctx filter)
{
    static const char *const calls[] = {"kill",       "tgkill",   "rt_sigqueueinfo", "rt_tgsigqueueinfo",
                                        "pidfd_open", "prlimit64"};
    const pid_t spared[] = {getppid(), -getpgid(getppid()), -1};
    int code = 0;
    for (size_t c = 0; c < ARRAY_LEN(calls); c++) {
        for (size_t i = 0; i < ARRAY_LEN(spared) && code == 0; i++)
            code = add(filter, calls[c], SCMP_ACT_ERRNO(EPERM), 1, pid_is(spared[i]));
    }
    return code;
}

/* Pipes with a name may be made, devices may not. */
static int no_devices(scmp_filter_ctx filter)
{
    static const mode_t kinds[] = {S_IFCHR, S_IFBLK};
    int code = 0;
    for (size_t i = 0; i < ARRAY_LEN(kinds) && code == 0; i++) {
        code = add(filter, "mknod", SCMP_ACT_ERRNO(EPERM), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, S_IFMT, kinds[i]));
        if (code == 0)
            code = add(filter, "mknodat", SCMP_ACT_ERRNO(EPERM), 1,
                       SCMP_A2(SCMP_CMP_MASKED_EQ, S_IFMT, kinds[i]));
    }
    return code;
}

/* What clone3 is asked for stands in memory, where no filter looks; told that there is none, everybody
   takes clone. */
static int default_rules(scmp_filter_ctx filter)
{
    static const uint64_t namespaces[] = {CLONE_NEWNS,  CLONE_NEWUTS, CLONE_NEWIPC,   CLONE_NEWUSER,
                                          CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP};
    int code = add_list(filter, denied, ARRAY_LEN(denied));
    for (size_t i = 0; i < ARRAY_LEN(namespaces) && code == 0; i++)
        code = add(filter, "clone", SCMP_ACT_ERRNO(EPERM), 1, has_flag(namespaces[i], true));
    if (code == 0)
        code = add(filter, "clone3", SCMP_ACT_ERRNO(ENOSYS), 0, (struct scmp_arg_cmp){0});
    if (code == 0)
        code = no_devices(filter);
    return code == 0 ? spare_the_daemon(filter) : code;
}

static int strict_rules(scmp_filter_ctx filter)
{
    static const char *const to_itself[] = {"kill", "tgkill", "prlimit64", "rt_sigqueueinfo",
                                            "rt_tgsigqueueinfo"};
    int code = add_list(filter, denied, ARRAY_LEN(denied));
    if (code == 0)
        code = add_list(filter, killed, ARRAY_LEN(killed));
    if (code == 0)
        code = add_list(filter, allowed, ARRAY_LEN(allowed));
    for (size_t i = 0; i < ARRAY_LEN(to_itself) && code == 0; i++) {
        code = add(filter, to_itself[i], SCMP_ACT_ALLOW, 1, pid_is(getpid()));
        if (code == 0)
            code = add(filter, to_itself[i], SCMP_ACT_ALLOW, 1, pid_is(0));
    }
    if (code == 0)
        code = add(filter, "clone", SCMP_ACT_ALLOW, 1, has_flag(CLONE_THREAD, true));
    if (code == 0)
        code = add(filter, "clone", SANITIZED ? SCMP_ACT_ALLOW : SCMP_ACT_TRAP, 1,
                   has_flag(CLONE_THREAD, false));
    if (code == 0 && SANITIZED)
        code = add(filter, "ptrace", SCMP_ACT_ALLOW, 0, (struct scmp_arg_cmp){0});
    return code;
}

int jail_filter(enum jail_profile profile, struct err *e)
{
    bool strict = profile == JAIL_STRICT;
    scmp_filter_ctx filter = seccomp_init(strict ? SCMP_ACT_ERRNO(ENOSYS) : SCMP_ACT_ALLOW);
    if (filter == NULL)
        return err_set(e, E_CONFIG, "seccomp: no memory");
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree: there are many rules */
    int code = strict ? strict_rules(filter) : default_rules(filter);
    if (code == 0 && strict)
        listen_for_refusals();
    if (code == 0)
        code = seccomp_load(filter);
    seccomp_release(filter);
    return code == 0 ? 0
                     : err_set(e, E_CONFIG, "the seccomp profile %s cannot be set: %s",
                               jail_profile_name(profile), strerror(-code));
}

/*
 * What a child takes upon itself between its exec and the handler's file, and cannot put off again: limits,
 * a user, a seccomp profile. The file's constructors and process_init run under it already.
 *
 * memory      RLIMIT_DATA: what a process may have of private writable memory, its heap and stacks. Not
 *             RLIMIT_AS, which counts addresses: runtimes (Go, Java, arenas of malloc) reserve far more of
 *             those than they ever use. When it is reached malloc says NULL and mmap ENOMEM. Each process
 *             below a child has the limit too; what all of them take together the daemon looks at now and
 *             then (family.h) and ends. Memory that is shared, and files that are mapped, are counted by
 *             neither: for those there is the daemon's own cgroup.
 * cpu_ms      RLIMIT_CPU, in whole seconds, set anew before each task: SIGXCPU.
 * open_files  RLIMIT_NOFILE. file_bytes: RLIMIT_FSIZE, SIGXFSZ.
 * tasks       processes and threads of a child and all below it. The daemon looks (family.h) and ends what
 *             has more. RLIMIT_NPROC counts what a user has anywhere, the daemon and the login shell among
 *             it, and does not hold for root at all: so only a `user` of the handler's own gets it, as a
 *             second fence that holds at once, with room for other children.
 *
 * No core files in any case. `default` and `strict` also bring no_new_privs.
 *
 *     default   EPERM for what no handler needs: ptrace, mount, modules, namespaces, clocks, and signals to
 *               the daemon
 *     strict    computing, memory, files and threads. A new socket, process or program is SIGSYS, with its
 *               name on stderr before: it is a mistake or an attack, and EPERM would be swallowed by some
 *               library. What else is not known is ENOSYS, as on a kernel without it
 */
#ifndef WORKERD_JAIL_H
#define WORKERD_JAIL_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "workerd/process.h"

enum jail_profile { JAIL_OFF, JAIL_DEFAULT, JAIL_STRICT };

/* 0, or NULL, is no limit. */
struct jail {
    uint64_t memory_bytes, file_bytes;
    uint32_t cpu_ms, open_files, tasks;
    char *user;
    enum jail_profile profile;
};

/* "strict", "default" or "off". */
int jail_profile_parse(const char *text, enum jail_profile *out, struct err *e);
const char *jail_profile_name(enum jail_profile profile);

/* Whether this process can make a child of that user: only root can, and the user must exist. CONFIG and a
   text if not. */
int jail_user_check(const char *user, struct err *e);

/* In the child, while it has one thread. Returns 0, or CONFIG with what is refused and why; nothing of the
   handler may run then. */
int jail_enter(const struct jail *j, struct err *e);

/* In the child, before each task: its CPU time begins. */
void jail_task(const struct jail *j);

/* Appends what an end says of the limits, " (its cpu_time of 10s was over)", if it does. */
void jail_explain(const struct jail *j, const struct process_end *end, struct buf *out);

/* jail_filter.c: the seccomp profile, for this process and all that it starts. As jail_enter. */
int jail_filter(enum jail_profile profile, struct err *e);

#endif

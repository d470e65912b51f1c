/*
 * All that a child started, and what that started in turn.
 *
 * A child is ended with its process group, at one stroke. What left the group (setsid, a shell with jobs, a
 * daemon that forks twice) is found in two ways that need no privilege: the daemon adopts every process
 * below it whose parent ended (PR_SET_CHILD_SUBREAPER), and each child has a mark of its own in its
 * environment, which all its descendants inherit. A process that the daemon did not start itself and whose
 * mark is that of no living child is killed, and so is one that has no mark but a seccomp filter more than the
 * daemon: that it cannot hide. (Without a profile, seccomp: off, there is nothing to tell it by.) One that has
 * ended is reaped. So nothing that a handler starts outlives its process, and no zombies stay. What else comes to
 * be a child of the daemon is left alone.
 *
 * One thread, that which starts children. Where the kernel does not list children (CONFIG_PROC_CHILDREN)
 * only groups are known.
 */
#ifndef WORKERD_FAMILY_H
#define WORKERD_FAMILY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FAMILY_ENV "SLUICE_FAMILY"

enum {
    FAMILY_MARK_MAX = 32,     /* bytes of a mark's text */
    FAMILY_SWEEP_MS = 1000,   /* between two sweeps */
    FAMILY_AGAIN_MS = 10,     /* while something that was killed is not gone */
    FAMILY_TASKS_MAX = 65536, /* counting ends there */
};

/* A mark for the next child: PID.N of this daemon. */
void family_mark(char out[FAMILY_MARK_MAX]);

/* A child that was started with this mark lives from now on; it was reaped. */
void family_join(pid_t child, const char *mark);
void family_leave(pid_t child);

struct family_size {
    uint32_t tasks;        /* processes and threads, the child's among them */
    uint32_t processes;    /* but for the child itself */
    uint64_t memory_bytes; /* resident and their own: not of files, not shared */
};

/* What a child and all below it, as far as it has not ended, take now. */
struct family_size family_size(pid_t child);

/* Calls `each` for a child and all below it; for whom, before it is looked whom it started: what is done to a process is so inherited
   by, or done to, all that come from it. */
void family_each(pid_t child, void (*each)(pid_t pid, void *user), void *user);

/* Kills the strays and reaps those that ended. Returns when to call it again, in ms from now. */
uint32_t family_sweep(void);

/* When no child is left: sweeps until nothing is, for a second at most. */
void family_end(void);

#endif

/*
 * One child process as the system sees it: started with the pipe at descriptor 3, its output caught and a
 * mark in its environment (family.h), watched by descriptor, killed with all it started, and asked how it
 * ended.
 *
 * It is started by posix_spawn: a process with threads and sockets of a messaging library in it must not
 * fork.
 */
#ifndef WORKERD_PROCESS_H
#define WORKERD_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct process {
    pid_t pid;           /* 0: none */
    int pidfd;           /* readable once it ended */
    int pipe;            /* the supervisor's end of a stream socket; does not wait */
    int output;          /* what it writes to stdout and stderr; does not wait */
    uint64_t born_bytes; /* memory that is on its account from before its exec: ours */
};

/* Starts `exe --child NAME` in a process group of its own; `file` (-1: none) is lent and becomes its CHILD_FILE_FD. Returns 0, or an errno with a text. The
   descriptors are the caller's to close, after process_reap. */
int process_start(struct process *p, const char *exe, const char *name, int file, struct err *e);

/* How it stands when others want the processor too. */
enum process_rank {
    PROCESS_EQUAL,  /* as we do */
    PROCESS_BEHIND, /* nicer by PROCESS_NICE (nice(2)), and interrupted sooner */
    PROCESS_LAST,   /* runs while nobody else wants to (SCHED_IDLE): on a full machine not at all */
};

enum { PROCESS_NICE = 10 };

/* From now on it and all that it started, and what they start, stand so. False: this system does not let us, of which some may stand
   as before. To raise a rank takes privilege or an RLIMIT_NICE. */
bool process_stand(const struct process *p, enum process_rank rank);

/* Whether the rank of a process can be raised again by us: else who is LAST stays it. `stranger`: it runs as another user. */
bool process_may_raise(bool stranger);

/* Sends SIGKILL to its whole group. */
void process_kill(const struct process *p);

enum { PROCESS_END_TEXT_MAX = 64 };

struct process_end {
    char text[PROCESS_END_TEXT_MAX]; /* "killed by SIGSEGV", "exited with 3" */
    bool clean;                      /* exited with 0 */
    int signal;                      /* that killed it; 0: it exited */
    uint64_t peak_bytes; /* the most memory that it, or one it waited for, had at once; 0: not known */
};

/* Whether it has ended; nothing of it is touched. */
bool process_ended(const struct process *p);

/* If it has ended: kills what is left of its group, tells how it was, leaves it to reaper.h, and returns true; the pid is then
   nobody's for the caller. What left its group is for family_sweep. */
bool process_reap(const struct process *p, struct process_end *end);

/* SIGKILL, waits, and it is nobody's. */
void process_drop(const struct process *p);

#endif

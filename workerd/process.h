/*
 * One child process as the system sees it: started with the pipe at descriptor 3 and its output caught,
 * watched by descriptor, killed with all it started, and asked how it ended.
 *
 * It is started by posix_spawn: a process with threads and sockets of a messaging library in it must not
 * fork.
 */
#ifndef WORKERD_PROCESS_H
#define WORKERD_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

struct process {
    pid_t pid;  /* 0: none */
    int pidfd;  /* readable once it ended */
    int pipe;   /* the supervisor's end of a stream socket; does not wait */
    int output; /* what it writes to stdout and stderr; does not wait */
};

/* Starts `exe --child NAME` in a process group of its own; `file` (-1: none) is lent and becomes its CHILD_FILE_FD. Returns 0, or an errno with a text. The
   descriptors are the caller's to close, after process_reap. */
int process_start(struct process *p, const char *exe, const char *name, int file, struct err *e);

/* Sends SIGKILL to its whole group. */
void process_kill(const struct process *p);

enum { PROCESS_END_TEXT_MAX = 64 };

/* If it has ended: kills what is left of its group, tells how in `text` ("killed by SIGSEGV", "exited with
   3"), and returns true; the pid is then nobody's. `clean`: it exited with 0. */
bool process_reap(const struct process *p, char text[PROCESS_END_TEXT_MAX], bool *clean);

#endif

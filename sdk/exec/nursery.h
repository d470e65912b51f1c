/*
 * Where commands run: a process forked before any thread was started, whose only work is to fork.
 *
 *     who has messages             nursery                     a command each, in a process group of its own
 *       run(slot, env, fds)  ---->  fork, exec  ------------>   [slot 0] [slot 1] ...
 *       ended(slot, status)  <----  wait        <------------
 *
 * A process with threads must not fork, this one may; and it outlives its parent for the moment that it takes to kill every
 * process group: when the parent is gone, however it went, its end of the socket closes. So commands never run on without somebody
 * who holds their messages. It is in a process group of its own too, so that what kills the parent's does not kill it. If the
 * nursery itself is killed, the kernel kills the commands.
 *
 * One thread.
 */
#ifndef EXEC_NURSERY_H
#define EXEC_NURSERY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

struct nursery {
    int fd; /* readable when a command ended; -1: there is no nursery */
    pid_t pid;
};

#define NURSERY_NONE ((struct nursery){.fd = -1})

enum { NURSERY_ENV_MAX = 128 * 1024 }; /* bytes of environment for one command */

/*
 * Starts it, for up to `slots` commands at once. `argv` ends with a NULL; its first word is looked for in $PATH unless it has a
 * slash. `dir`: where commands run; NULL: where we do. To be called while the process has one thread; argv and dir may go
 * afterwards. Returns 0, or an errno with a text.
 */
int nursery_start(struct nursery *n, const char *const *argv, const char *dir, uint32_t slots, struct err *e);

/*
 * Runs the command in a free slot. `env`: strings "NAME=value", each with its closing zero, beside the environment of this
 * process, in which the variables of exec/env.h are left out. The two descriptors become its
 * standard input and error; they stay the caller's, who may close them at once. Returns 0, or an errno with a text.
 */
int nursery_run(struct nursery *n, uint32_t slot, const struct buf *env, int stdin_fd, int stderr_fd,
                struct err *e);

/* Sends a signal to everything that runs in the slot's process group; what of it outlives the command then is killed. */
void nursery_kill(struct nursery *n, uint32_t slot, int signal_number);

enum nursery_news { NURSERY_ENDED, NURSERY_QUIET, NURSERY_GONE };

/* The next command that ended, without waiting: its slot, and its status as waitpid gives it. NURSERY_GONE: the nursery died. */
enum nursery_news nursery_next(struct nursery *n, uint32_t *slot, int *status);

/* Kills what still runs and ends it. Fine without one. */
void nursery_stop(struct nursery *n);

#endif

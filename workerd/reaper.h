/*
 * Takes processes that ended out of the system's table, in a thread of its own that runs last.
 *
 * For who waits for a process the kernel drops all that /proc had of it, and turns in circles, working, while a thread of
 * that process, which is over for everybody else, drops its own part. If that thread stands last (SCHED_IDLE), or is only
 * nicer than others, and the processors are busy, that takes a tenth of a second and longer. The loop of the daemon must not stand still for that: it
 * learns how a process ended without waiting for it (WNOWAIT), and leaves the rest to this.
 *
 * Any thread. It begins with the first and stays. If it cannot be started, or has 256 to wait for, the caller waits.
 */
#ifndef WORKERD_REAPER_H
#define WORKERD_REAPER_H

#include <stdbool.h>
#include <sys/types.h>

/* A child of this process that has ended; nobody else may wait for it. Its pid is nobody else's while reaper_has it. */
void reaper_take(pid_t pid);
bool reaper_has(pid_t pid);

#endif

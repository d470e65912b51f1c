/*
 * Tasks over dead letters, followed until they end.
 */
#ifndef CLI_TASK_H
#define CLI_TASK_H

#include <sluice/sluice.h>

#include "cli/args.h"

/* To be called before a session is opened: from now on an interrupt ends the waiting, not the task. False: said why not. */
bool task_begin(void);

/* Waits for a task that was begun, with progress, and prints what became of it; or only its number with --detach. Returns the
   status to end with. */
int task_follow(const struct args *a, struct sluice *s, uint64_t id);

#endif

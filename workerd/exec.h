/*
 * A handler that is a command: `exec:` instead of `file:` in the daemon's configuration.
 *
 * To everything above it it is a handler like any other: a struct whose `handle` runs the command for one message, in a nursery
 * (exec/nursery.h) that was forked before the child had threads. It asks its host whether the task should stop, and then ends the
 * command with all that it started; so a command that takes too long costs its message one delivery, and not even the child.
 *
 *     running --exit--> 0: ack   65: park   others, a signal: retry, with the last line of standard error
 *        |
 *     time is up, lease lost
 *        v
 *     SIGTERM --exit--> 0: ack   others: retry, "timeout after 30s: last line"
 *        |
 *     half of what the supervisor allows later: SIGKILL
 */
#ifndef WORKERD_EXEC_H
#define WORKERD_EXEC_H

#include <sluice/handler.h>

#include "base/buf.h"
#include "base/err.h"
#include "workerd/jail.h"

/* Whether the command can be run, as far as that can be said without running it. `words`: each with its closing zero; `dir`: where it
   will run. Of a line for the shell ("/bin/sh", "-c", LINE) the first word is looked for, if it is plain. Returns 0, or CONFIG with a
   text that names what is missing. Starts a shell for a moment. */
int exec_check(struct view words, const char *dir, struct err *e);

/* Fills in the handler that runs it. One per process. `jail`: under which this process is already, as each command will be, whose CPU
   time is its own; it stays the caller's and where it is. Returns as exec_check. */
int exec_load(struct view words, const char *dir, uint32_t timeout_ms, const struct jail *jail, struct sluice_handler *out,
              struct err *e);

#endif

/*
 * A command that works on one message: how it is begun, and what its end says about the message.
 *
 *     exit 0                 done
 *     exit 75, EX_TEMPFAIL   a failure that asks for a retry
 *     exit 65, EX_DATAERR    the message is at fault: to the dead letters at once
 *     any other, a signal    a failure
 */
#ifndef EXEC_EXEC_H
#define EXEC_EXEC_H

#include "exec/nursery.h"
#include "exec/speech.h"

enum exec_verdict { EXEC_DONE, EXEC_AGAIN, EXEC_PARK, EXEC_FAILED };

/* The reason of what is parked, by which dead letters are found; the error says more. */
#define EXEC_PARK_REASON "data-error"

enum {
    EXEC_ERROR_MAX = SPEECH_LAST_MAX + 100, /* room for what went wrong */
};

/*
 * Runs the nursery's command in a free slot on a value; `env` as in nursery_run. The value is copied to a file of no name, so it
 * cannot fill a pipe, and nobody has to feed a command that does not read. What the command says on standard error is read at
 * *stderr_fd, without waiting; it is the caller's to close. Returns 0, or an errno with a text.
 */
int exec_start(struct nursery *n, uint32_t slot, const struct buf *env, struct view value, int *stderr_fd, struct err *e);

/* What an end means; `status` is waitpid's. */
enum exec_verdict exec_verdict(int status);

/* "killed by SIGSEGV: last words", or the last words, or else "exit status 3". Returns `out`. */
char *exec_error(char out[EXEC_ERROR_MAX], int status, const char *last);

#endif

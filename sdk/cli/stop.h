/*
 * Ending on request: SIGINT, SIGTERM and SIGHUP ask a long-running command to put down what it holds and end; a second one,
 * half a second later or more, ends it where it stands.
 */
#ifndef CLI_STOP_H
#define CLI_STOP_H

#include <stdbool.h>

#include "base/err.h"

/* From now on those signals ask. To be called before any other thread is started, as threads inherit what it blocks. Returns 0, or
   an errno with a text. */
int stop_begin(struct err *e);

/* Whether it was asked to end. Any thread. */
bool stop_asked(void);

/* Asks without a signal: the work is done. Any thread. */
void stop_ask(void);

/* The signal that asked; 0: none did. */
int stop_signal(void);

/* Readable once asked; for poll, never to be read. */
int stop_fd(void);

/* Sleeps until asked, at most `ms`. Returns stop_asked(). */
bool stop_wait(int ms);

#endif

/*
 * What a handler process says, line by line into the log: what it prints, what it logs, how far it says it is. It may say only so
 * much in a second; what is beyond that is counted and left out, then not even read. The last of it is kept, to stand with the
 * error of a message.
 *
 * One thread, that of the supervisor.
 */
#ifndef WORKERD_WORDS_H
#define WORKERD_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/log.h"

struct words {
    const char *handler; /* lent: whose they are, for the log */
    pid_t pid;
    uint64_t tally_ms;          /* when the tallies below begin anew */
    size_t bytes;               /* that were read */
    uint32_t lines, lines_lost; /* of the log, and for which there was no room */
    struct buf line;            /* of what it prints, not yet whole */
    struct buf last;            /* the end of it, since words_forget */
};

/* A process begins to speak. */
void words_begin(struct words *w, const char *handler, pid_t pid, uint64_t now_ms);
void words_free(struct words *w);

/* Reads once from what it prints to. False: there is nothing more now, or ever: then the descriptor is closed, and *fd -1. */
bool words_read(struct words *w, int *fd);
/* It prints no more: what has no end of line gets one. */
void words_end(struct words *w);
/* It logs a line. */
void words_log(struct words *w, enum log_level level, const char *text);

/* Whether one more line of it may go into the log in this second; counted, either way. */
bool words_may_say(struct words *w);
/* Whether it is not to be read until tally_ms. */
bool words_too_much(const struct words *w);
/* When words_tally is to be called; UINT64_MAX: it need not be. */
uint64_t words_due_ms(const struct words *w);
/* At tally_ms, or before its last words: says what was left out, and a new second begins. */
void words_tally(struct words *w, uint64_t now_ms);

/* Nothing runs that what it said could be about. */
void words_forget(struct words *w);

#endif

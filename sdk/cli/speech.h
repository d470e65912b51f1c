/*
 * What a command says on its standard error: passed on to ours by whole lines, so that those of several commands do not mix, and
 * its last line kept, which is the reason if the command fails.
 */
#ifndef CLI_SPEECH_H
#define CLI_SPEECH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

enum {
    SPEECH_LINE_MAX = 8192,              /* bytes; a longer line is passed on in pieces */
    SPEECH_LAST_MAX = 500,               /* bytes of the last line that are kept */
    FAILURE_MAX = SPEECH_LAST_MAX + 100, /* room for a description of a failure */
};

/* All zero is a good empty one. */
struct speech {
    struct buf waiting;             /* said, and not passed on yet */
    char last[SPEECH_LAST_MAX + 1]; /* the last line that was not empty, as UTF-8 */
};

void speech_add(struct speech *s, const void *bytes, size_t size);

/* Passes on what there is of whole lines; at the `end` also what is none, made whole. */
void speech_pass(struct speech *s, bool end);

void speech_clear(struct speech *s);
void speech_free(struct speech *s);

/* "killed by SIGSEGV: last words", or the last words, or else "exit status 3". `status` is waitpid's. Returns `out`. */
char *describe_failure(char out[FAILURE_MAX], int status, const char *last);

#endif

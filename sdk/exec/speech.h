/*
 * What a command says on its standard error: passed on to ours by whole lines, so that those of several commands do not mix, and
 * its last line kept, which is the reason if the command fails.
 */
#ifndef EXEC_SPEECH_H
#define EXEC_SPEECH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

enum {
    SPEECH_LINE_MAX = 8192, /* bytes; a longer line is passed on in pieces */
    SPEECH_LAST_MAX = 500,  /* bytes of the last line that are kept */
};

/* All zero is a good empty one. */
struct speech {
    struct buf waiting;             /* said, and not passed on yet */
    char last[SPEECH_LAST_MAX + 1]; /* the last line that was not empty, as UTF-8 */
};

void speech_add(struct speech *s, const void *bytes, size_t size);

/* Passes on what there is of whole lines; at the `end` also what is none, made whole. */
void speech_pass(struct speech *s, bool end);

/* Takes what is to be read without waiting and passes it on: at least what a pipe holds, but not for ever, for one that never stops
   talking must not keep us from others. Returns false when there will be no more. */
bool speech_read(struct speech *s, int fd);

void speech_clear(struct speech *s);
void speech_free(struct speech *s);

#endif

/*
 * An error is a code and a sentence.
 *
 * A function that can fail returns 0 or a code, and takes a `struct err *` for the sentence, which
 * may be NULL when the caller does not want it. 0 is success. Functions of this layer use errno's
 * numbers; the layers above have a table of their own. Whoever passes an error up puts its own
 * context in front, so that the reader sees "config broker.yaml: topics.photos.retention: '7' has
 * no unit, ...".
 *
 * A struct err belongs to whoever declared it; nothing in it is allocated. Not shared between threads.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>

#include "base/macros.h"

BASE_BEGIN

enum { ERR_TEXT_MAX = 256 };

struct err {
    int code;                /* 0: no error */
    char text[ERR_TEXT_MAX]; /* a longer text is cut between two characters and ends with "..." */
};

/* Stores code and text, replacing what was there, and returns `code`. `e` may be NULL; the
   arguments of `fmt` may point into e->text. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
int err_vset(struct err *e, int code, const char *fmt, va_list args) PRINTF_LIKE(3, 0);

/* Puts "CONTEXT: " in front of the text, keeps the code and returns it; on NULL does nothing and
   returns 0. */
int err_prefix(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Back to no error. */
void err_clear(struct err *e);

BASE_END

#endif

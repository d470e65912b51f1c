#include "base/err.h"

#include <stdio.h>
#include <string.h>

#define CUT "..."

/* The length of `text` cut to at most `max` bytes, between two UTF-8 characters. */
static size_t cut_length(const char *text, size_t max)
{
    size_t length = max;
    while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
        length--;
    return length;
}

/* Stores `text` of `length` bytes; "..." takes the place of what has no room. */
static void store(struct err *e, const char *text, size_t length)
{
    if (length >= ERR_TEXT_MAX) {
        length = cut_length(text, ERR_TEXT_MAX - sizeof CUT);
        memcpy(e->text + length, CUT, sizeof CUT);
    } else {
        e->text[length] = '\0';
    }
    memcpy(e->text, text, length);
}

int err_vset(struct err *e, int code, const char *fmt, va_list args)
{
    if (e == NULL)
        return code;
    char text[2 * ERR_TEXT_MAX]; /* arguments may point into e->text */
    vsnprintf(text, sizeof text, fmt, args);
    e->code = code;
    store(e, text, strlen(text));
    return code;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    err_vset(e, code, fmt, args);
    va_end(args);
    return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    if (e == NULL)
        return 0;
    char context[ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(context, sizeof context, fmt, args);
    va_end(args);
    return err_set(e, e->code, "%s: %s", context, e->text);
}

void err_clear(struct err *e)
{
    if (e == NULL)
        return;
    e->code = 0;
    e->text[0] = '\0';
}

/*
 * The log: one line of logfmt to stderr per event, for people and for machines.
 *
 *     2026-11-22T04:32:39.123Z info broker listening url=tcp://127.0.0.1:7400 topics=3
 *
 * Time (UTC), level, program, then words that say what happened, then key=value pairs. The caller
 * writes the words and the pairs as one format; a value that may hold blanks or was chosen by
 * somebody else goes through LOG_STR.
 *
 *     log_info("topic created topic=%s partitions=%u", LOG_STR(name), count);
 *
 * Any thread may log. A line is one write(2) of at most LOG_LINE_MAX bytes, so lines of threads
 * never mix; longer ones are cut. Control characters that slipped into the text are escaped: one
 * call is one line, always.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/macros.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

enum { LOG_LINE_MAX = 2048 };

/* Names the program and sets the lowest level that is written. Call it before other threads start;
   without it the program is "-" and the level info. `program` is copied and cut at 31 bytes. */
void log_setup(const char *program, enum log_level lowest);

/* "debug", "info", "warn" or "error". Returns 0, or EINVAL with the accepted words in the text. */
int log_level_parse(const char *text, enum log_level *out, struct err *e);

/* Whether a line of this level would be written: for work that only feeds the log. */
bool log_wants(enum log_level level);

/* Writes one line if the level is wanted. Keeps errno. */
void log_line(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_debug(...) (log_wants(LOG_DEBUG) ? log_line(LOG_DEBUG, __VA_ARGS__) : (void)0)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

/* Room for one value made safe. */
struct log_text {
    char text[256];
};

/* `size` bytes of `data` as a logfmt value: as they are if plain, else in double quotes with
   escapes; cut with "..." when too long; "" when empty and "-" when NULL. Returns t->text. */
const char *log_value(struct log_text *t, const void *data, size_t size);

/* As log_value for a string; the room lives until the end of the enclosing block. */
#define LOG_STR(s) log_str(&(struct log_text){{0}}, (s))
const char *log_str(struct log_text *t, const char *s);

#endif

#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/units.h"

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static char program_name[32] = "-";
static atomic_int lowest_level = LOG_INFO;

void log_setup(const char *program, enum log_level lowest)
{
    snprintf(program_name, sizeof program_name, "%s", program);
    atomic_store(&lowest_level, lowest);
}

int log_level_parse(const char *text, enum log_level *out, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return 0;
        }
    }
    struct log_text shown;
    return err_set(e, EINVAL, "%s is not a log level; write debug, info, warn or error",
                   log_str(&shown, text));
}

bool log_wants(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&lowest_level, memory_order_relaxed);
}

/* ---- text that stays on its line ---- */

/* Text that grows into a fixed room and says when it did not fit. */
struct room {
    char *text;
    size_t size, max; /* bytes used and there, a closing zero not counted */
    bool full;
};

/* All of it or nothing, so that an escape is never cut. */
static void put(struct room *r, const char *text, size_t size)
{
    if (r->full || size > r->max - r->size) {
        r->full = true;
        return;
    }
    memcpy(r->text + r->size, text, size);
    r->size += size;
}

static bool is_control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

static void put_escaped(struct room *r, unsigned char c)
{
    char escape[8];
    if (c == '\n')
        put(r, "\\n", 2);
    else if (c == '\t')
        put(r, "\\t", 2);
    else
        put(r, escape, (size_t)snprintf(escape, sizeof escape, "\\x%02x", c));
}

/* ---- values ---- */

static bool is_plain(const unsigned char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (is_control(data[i]) || strchr(" \"=\\", data[i]) != NULL)
            return false;
    }
    return size > 0;
}

const char *log_value(struct log_text *t, const void *data, size_t size)
{
    static const char cut[] = "...";
    const unsigned char *at = data;
    const char *quote = data == NULL || is_plain(at, size) ? "" : "\"";
    /* Kept free for what must follow: the mark of a cut, the closing quote, the zero. */
    struct room r = {.text = t->text, .max = sizeof t->text - sizeof cut - 1};

    if (data == NULL)
        put(&r, "-", 1);
    put(&r, quote, strlen(quote));
    for (size_t i = 0; data != NULL && i < size; i++) {
        if (is_control(at[i])) {
            put_escaped(&r, at[i]);
        } else {
            const char pair[2] = {'\\', (char)at[i]};
            bool escaped = at[i] == '"' || at[i] == '\\';
            put(&r, escaped ? pair : pair + 1, escaped ? 2 : 1);
        }
    }
    snprintf(t->text + r.size, sizeof t->text - r.size, "%s%s", r.full ? cut : "", quote);
    return t->text;
}

const char *log_str(struct log_text *t, const char *s)
{
    return log_value(t, s, s != NULL ? strlen(s) : 0);
}

/* ---- lines ---- */

void log_line(enum log_level level, const char *fmt, ...)
{
    if (!log_wants(level))
        return;
    int kept_errno = errno;

    char text[LOG_LINE_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);

    char line[LOG_LINE_MAX], when[UNITS_TEXT_MAX];
    int head = snprintf(line, sizeof line, "%s %s %s ", time_format(when, clock_wall_ms()),
                        level_names[level], program_name);
    struct room r = {.text = line, .size = (size_t)head, .max = sizeof line - 1};
    for (const char *at = text; *at != '\0'; at++) {
        if (is_control((unsigned char)*at))
            put_escaped(&r, (unsigned char)*at);
        else
            put(&r, at, 1);
    }
    line[r.size++] = '\n';

    ssize_t written = write(STDERR_FILENO, line, r.size);
    (void)written; /* a log that cannot be written has nowhere to say so */
    errno = kept_errno;
}

#include "cli/out.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/command.h"

/* ---- data ---- */

enum { OUT_BYTES_MAX = 64 * 1024 }; /* gathered before it is written */

static struct {
    struct buf waiting;
    int broken; /* the errno of the write that failed */
} out;

/* Writes everything, however small the steps the system takes. */
static int write_all(const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(STDOUT_FILENO, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

bool out_flush(void)
{
    if (out.broken == 0 && out.waiting.size > 0) {
        out.broken = write_all(out.waiting.data, out.waiting.size);
        if (out.broken != 0 && out.broken != EPIPE)
            talk("standard output: %s", strerror(out.broken));
    }
    buf_clear(&out.waiting);
    return out.broken == 0;
}

static void flush_if_full(void)
{
    if (out.waiting.size >= OUT_BYTES_MAX)
        out_flush();
}

void out_bytes(const void *data, size_t size)
{
    buf_append(&out.waiting, data, size);
    flush_if_full();
}

void out_text(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    int size = vasprintf(&text, fmt, args);
    va_end(args);
    if (size > 0)
        out_bytes(text, (size_t)size);
    mem_free(text);
}

static int put_json(const char *data, size_t size, void *to)
{
    buf_append(to, data, size);
    return 0;
}

void out_json(json_t *object)
{
    assert(object != NULL);
    json_dump_callback(object, put_json, &out.waiting, JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_decref(object);
    buf_put_u8(&out.waiting, '\n');
    flush_if_full();
}

size_t out_waiting(void)
{
    return out.waiting.size;
}

int out_end(int status)
{
    bool whole = out_flush();
    buf_free(&out.waiting);
    return !whole && out.broken != EPIPE && status == STATUS_OK ? STATUS_ERROR : status;
}

/* ---- tables and sheets ---- */

enum { SHOWN_MAX = 200 };

void put_shown(struct buf *to, const void *data, size_t size)
{
    if (data == NULL) {
        buf_put_u8(to, '-');
        return;
    }
    const uint8_t *bytes = data;
    size_t shown = size < SHOWN_MAX ? size : SHOWN_MAX;
    while (shown < size && (bytes[shown] & 0xc0) == 0x80)
        shown++; /* not in the middle of a character */
    for (size_t i = 0; i < shown; i++) {
        if (bytes[i] == '\n')
            buf_putf(to, "\\n");
        else if (bytes[i] == '\t')
            buf_putf(to, "\\t");
        else if (bytes[i] < 0x20 || bytes[i] == 0x7f)
            buf_putf(to, "\\x%02x", bytes[i]);
        else
            buf_put_u8(to, bytes[i]);
    }
    if (shown < size)
        buf_putf(to, "...");
}

/* Characters, not bytes, which is what columns count: every byte that does not continue one. */
static size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static const char *title(const struct table *t, size_t column)
{
    return t->titles[column] + (t->titles[column][0] == '>');
}

void table_begin(struct table *t, size_t columns, const char *const *titles)
{
    assert(columns <= TABLE_COLUMNS_MAX);
    memset(t, 0, sizeof *t);
    t->columns = columns;
    t->titles = titles;
    for (size_t i = 0; i < columns; i++)
        t->width[i] = text_width(title(t, i));
}

void table_cell(struct table *t, const char *fmt, ...)
{
    struct buf shown = {0};
    va_list args;
    va_start(args, fmt);
    char *plain = NULL;
    if (vasprintf(&plain, fmt, args) < 0)
        plain = NULL;
    va_end(args);
    put_shown(&shown, plain, plain != NULL ? strlen(plain) : 0);
    mem_free(plain);

    if (t->cells_count == t->cells_cap) {
        t->cells_cap = t->cells_cap != 0 ? 2 * t->cells_cap : 64;
        t->cells = mem_resize(t->cells, t->cells_cap, sizeof *t->cells);
    }
    buf_str(&shown); /* its closing zero */
    char *cell = (char *)buf_take(&shown);
    size_t column = t->cells_count % t->columns, width = text_width(cell);
    t->cells[t->cells_count++] = cell;
    if (width > t->width[column])
        t->width[column] = width;
}

static void print_cell(const struct table *t, size_t column, const char *text)
{
    bool right = t->titles[column][0] == '>', last = column + 1 == t->columns;
    int pad = (int)(t->width[column] - text_width(text));
    if (right)
        out_text("%*s", pad, "");
    out_text("%s", text);
    if (!right && !last)
        out_text("%*s", pad, "");
    out_text(last ? "\n" : "  ");
}

void table_print(struct table *t)
{
    assert(t->cells_count % t->columns == 0);
    for (size_t i = 0; i < t->columns && !t->titled && t->cells_count > 0; i++)
        print_cell(t, i, title(t, i));
    t->titled = t->titled || t->cells_count > 0;
    for (size_t i = 0; i < t->cells_count; i++) {
        print_cell(t, i % t->columns, t->cells[i]);
        mem_free(t->cells[i]);
    }
    t->cells_count = 0;
}

void table_end(struct table *t)
{
    table_print(t);
    mem_free(t->cells);
}

void sheet_line(const char *name, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    if (vasprintf(&text, fmt, args) >= 0) {
        struct buf shown = {0};
        put_shown(&shown, text, strlen(text));
        out_text("%s:%*s%s\n", name, (int)(20 - strlen(name)), "", buf_str(&shown));
        buf_free(&shown);
        mem_free(text);
    }
    va_end(args);
}

/* ---- quantities ---- */

char *short_bytes(char text[UNITS_TEXT_MAX], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double n = (double)bytes;
    size_t unit = 0;
    for (; n >= 1024 && unit < ARRAY_LEN(units) - 1; unit++)
        n /= 1024;
    snprintf(text, UNITS_TEXT_MAX, unit == 0 || n >= 100 ? "%.0f %s" : "%.1f %s", n, units[unit]);
    return text;
}

char *short_seconds(char text[UNITS_TEXT_MAX], double seconds)
{
    if (seconds < 0 || seconds > 3e9) { /* a century is never */
        snprintf(text, UNITS_TEXT_MAX, "never");
        return text;
    }
    uint64_t s = (uint64_t)(seconds + 0.5);
    if (seconds == 0)
        snprintf(text, UNITS_TEXT_MAX, "0s");
    else if (seconds < 0.9995)
        snprintf(text, UNITS_TEXT_MAX, "%.0fms", seconds * 1000);
    else if (seconds < 59.95)
        snprintf(text, UNITS_TEXT_MAX, "%.1fs", seconds);
    else if (s < 3600)
        snprintf(text, UNITS_TEXT_MAX, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(text, UNITS_TEXT_MAX, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
    else
        snprintf(text, UNITS_TEXT_MAX, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
    return text;
}

char *term_text(char text[UNITS_TEXT_MAX], uint64_t ms)
{
    if (ms != UINT64_MAX)
        return duration_format(text, ms);
    snprintf(text, UNITS_TEXT_MAX, "forever");
    return text;
}

/* ---- talk ---- */

enum { PROGRESS_EVERY_MS = 200 };

static struct {
    pthread_mutex_t lock;
    bool showing; /* a line of progress stands on the terminal, without a newline */
    uint64_t shown_ms;
} line = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* One write, so that lines of several processes do not mix. */
static void write_line(const char *start, const char *fmt, va_list args, const char *end)
{
    char *text = NULL;
    if (vasprintf(&text, fmt, args) < 0)
        return;
    struct buf whole = {0};
    buf_putf(&whole, "%s%s%s", start, text, end);
    fwrite(whole.data, 1, whole.size, stderr);
    buf_free(&whole);
    mem_free(text);
}

void talk(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    pthread_mutex_lock(&line.lock);
    write_line(line.showing ? "\r\033[Ksluice: " : "sluice: ", fmt, args, "\n");
    line.showing = false;
    pthread_mutex_unlock(&line.lock);
    va_end(args);
}

void progress(const char *fmt, ...)
{
    uint64_t now_ms = clock_mono_ms();
    if (isatty(STDERR_FILENO) == 0)
        return;
    va_list args;
    va_start(args, fmt);
    pthread_mutex_lock(&line.lock);
    if (now_ms - line.shown_ms >= PROGRESS_EVERY_MS) {
        write_line("\r\033[K", fmt, args, "");
        line.showing = true;
        line.shown_ms = now_ms;
    }
    pthread_mutex_unlock(&line.lock);
    va_end(args);
}

void progress_end(void)
{
    pthread_mutex_lock(&line.lock);
    if (line.showing)
        fputs("\r\033[K", stderr);
    line.showing = false;
    pthread_mutex_unlock(&line.lock);
}

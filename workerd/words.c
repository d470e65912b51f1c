#include "workerd/words.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE_MAX_BYTES = 1800, /* what fits a line of the log; longer ones are continued on the next */
    LAST_BYTES = 300,
    READ_BYTES = 65536,
    TALLY_MS = 1000,
    /* What may be said in that time: what is beyond does not get into the log, then is not read. */
    LINES_MAX = 1000,
    BYTES_MAX = 4 << 20,
};

void words_begin(struct words *w, const char *handler, pid_t pid, uint64_t now_ms)
{
    w->handler = handler;
    w->pid = pid;
    words_tally(w, now_ms);
    words_forget(w);
}

void words_free(struct words *w)
{
    buf_free(&w->line);
    buf_free(&w->last);
}

/* Keeps the end of what it said, for the text of an error. */
static void remember(struct words *w, const char *line)
{
    struct buf *b = &w->last;
    buf_putf(b, "%s%s", b->size > 0 ? " | " : "", line);
    if (b->size <= LAST_BYTES)
        return;
    size_t cut = b->size - LAST_BYTES;
    while (cut < b->size && (b->data[cut] & 0xc0) == 0x80) /* not inside a character */
        cut++;
    memmove(b->data, b->data + cut, b->size - cut);
    b->size -= cut;
}

void words_forget(struct words *w)
{
    buf_clear(&w->last);
}

bool words_may_say(struct words *w)
{
    bool may = w->lines < LINES_MAX;
    w->lines += may;
    w->lines_lost += !may;
    return may;
}

bool words_too_much(const struct words *w)
{
    return w->bytes >= BYTES_MAX;
}

uint64_t words_due_ms(const struct words *w)
{
    return words_too_much(w) || w->lines_lost > 0 ? w->tally_ms : UINT64_MAX;
}

void words_tally(struct words *w, uint64_t now_ms)
{
    if (w->lines_lost > 0)
        log_warn("output left out handler=%s pid=%d lines=%" PRIu32, w->handler, (int)w->pid, w->lines_lost);
    w->lines = w->lines_lost = 0;
    w->bytes = 0;
    w->tally_ms = now_ms + TALLY_MS;
}

void words_end(struct words *w)
{
    if (w->line.size == 0)
        return;
    const char *line = buf_str(&w->line);
    if (words_may_say(w))
        log_info("output handler=%s pid=%d %s", w->handler, (int)w->pid, line);
    remember(w, line);
    buf_clear(&w->line);
}

static void take(struct words *w, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != '\n' && bytes[i] != '\0')
            buf_put_u8(&w->line, (uint8_t)bytes[i]);
        if (bytes[i] == '\n' || w->line.size == LINE_MAX_BYTES)
            words_end(w);
    }
}

bool words_read(struct words *w, int *fd)
{
    char bytes[READ_BYTES];
    ssize_t n = read(*fd, bytes, sizeof bytes);
    if (n > 0) {
        w->bytes += (size_t)n;
        take(w, bytes, (size_t)n);
        return true;
    }
    if (n == 0) {
        close(*fd);
        *fd = -1;
    }
    return false;
}

void words_log(struct words *w, enum log_level level, const char *text)
{
    if (words_may_say(w))
        log_line(level, "log handler=%s pid=%d %s", w->handler, (int)w->pid, text);
    remember(w, text);
}

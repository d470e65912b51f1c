#include "exec/speech.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"

enum { READS = 8, READ_BYTES = 16 * 1024 };

void speech_add(struct speech *s, const void *bytes, size_t size)
{
    buf_append(&s->waiting, bytes, size);
}

static void keep_last(struct speech *s, const uint8_t *line, size_t size)
{
    while (size > 0 && (line[size - 1] == '\r' || line[size - 1] == ' '))
        size--;
    if (size == 0)
        return;
    size_t kept = size < SPEECH_LAST_MAX ? size : SPEECH_LAST_MAX;
    while (kept > 0 && kept < size && (line[kept] & 0xc0) == 0x80)
        kept--; /* not in the middle of a character */
    char *text = utf8_text(line, kept);
    snprintf(s->last, sizeof s->last, "%s", text);
    mem_free(text);
}

void speech_pass(struct speech *s, bool end)
{
    struct buf *b = &s->waiting;
    size_t whole = 0;
    if (b->size == 0)
        return;
    for (const uint8_t *newline; (newline = memchr(b->data + whole, '\n', b->size - whole)) != NULL;) {
        keep_last(s, b->data + whole, (size_t)(newline - b->data) - whole);
        whole = (size_t)(newline - b->data) + 1;
    }
    if (whole < b->size && (end || b->size - whole > SPEECH_LINE_MAX)) {
        keep_last(s, b->data + whole, b->size - whole);
        if (end)
            buf_put_u8(b, '\n');
        whole = b->size;
    }
    fwrite(b->data, 1, whole, stderr);
    memmove(b->data, b->data + whole, b->size - whole);
    b->size -= whole;
}

bool speech_read(struct speech *s, int fd)
{
    char bytes[READ_BYTES];
    for (int reads = 0; reads < READS; reads++) {
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            return false;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n > 0) {
            speech_add(s, bytes, (size_t)n);
            speech_pass(s, false);
        }
    }
    return true;
}

void speech_clear(struct speech *s)
{
    buf_clear(&s->waiting);
    s->last[0] = '\0';
}

void speech_free(struct speech *s)
{
    buf_free(&s->waiting);
}

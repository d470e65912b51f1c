#include "cli/speech.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "cli/message.h"
#include "cli/out.h"

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
    progress_end();
    fwrite(b->data, 1, whole, stderr);
    memmove(b->data, b->data + whole, b->size - whole);
    b->size -= whole;
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

char *describe_failure(char out[FAILURE_MAX], int status, const char *last)
{
    const char *colon = last[0] != '\0' ? ": " : "";
    const char *name = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : NULL;
    if (name != NULL)
        snprintf(out, FAILURE_MAX, "killed by SIG%s%s%s", name, colon, last);
    else if (WIFSIGNALED(status))
        snprintf(out, FAILURE_MAX, "killed by signal %d%s%s", WTERMSIG(status), colon, last);
    else if (last[0] != '\0')
        snprintf(out, FAILURE_MAX, "%s", last);
    else
        snprintf(out, FAILURE_MAX, "exit status %d", WEXITSTATUS(status));
    return out;
}

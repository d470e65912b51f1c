#include "cli/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "cli/help.h"
#include "cli/out.h"

enum { READ_BYTES = 256 * 1024 };

int lines_open(struct lines *l, const struct args *a, size_t operand)
{
    const char *file = args_operand(a, operand);
    l->fd = STDIN_FILENO;
    if (file == NULL && isatty(STDIN_FILENO) != 0)
        return help_refuse(a, "give a FILE, or - to type messages");
    if (file == NULL || strcmp(file, "-") == 0)
        return STATUS_OK;
    l->fd = open(file, O_RDONLY | O_CLOEXEC);
    if (l->fd >= 0)
        return STATUS_OK;
    talk("%s: %s", file, strerror(errno));
    return STATUS_ERROR;
}

/* Waits until there is something to read, or a reason not to. */
static bool wait_readable(const struct lines *l)
{
    struct pollfd fds[] = {
        {.fd = l->fd, .events = POLLIN},
        {.fd = l->wake_fd[0], .events = POLLIN},
        {.fd = l->wake_fd[1], .events = POLLIN},
    };
    while (poll(fds, 3, -1) < 0 && errno == EINTR)
        ;
    return fds[1].revents == 0 && fds[2].revents == 0;
}

/* Reads some more; what was given out makes room first. LINES_LINE: there may be a line now. */
static enum lines_result read_more(struct lines *l)
{
    struct buf *b = &l->bytes;
    if (l->at > 0) {
        memmove(b->data, b->data + l->at, b->size - l->at);
        b->size -= l->at;
        l->scanned -= l->at;
        l->at = 0;
    }
    if (b->size > LINE_BYTES_MAX)
        return LINES_LONG;
    if (!wait_readable(l))
        return LINES_WOKEN;
    ssize_t n = read(l->fd, buf_reserve(b, READ_BYTES), READ_BYTES);
    if (n < 0 && errno != EINTR && errno != EAGAIN)
        return LINES_ERROR;
    if (n > 0)
        b->size += (size_t)n;
    l->ended = n == 0;
    return LINES_LINE;
}

enum lines_result lines_next(struct lines *l, struct view *line)
{
    for (;;) {
        const uint8_t *from = l->bytes.data + l->scanned;
        size_t left = l->bytes.size - l->scanned;
        const uint8_t *newline = left > 0 ? memchr(from, '\n', left) : NULL;
        size_t end = newline != NULL ? (size_t)(newline - l->bytes.data) : l->bytes.size;
        if (newline != NULL || (l->ended && end > l->at)) {
            *line = view_of(l->bytes.data + l->at, end - l->at);
            l->at = l->scanned = end + (newline != NULL);
            return LINES_LINE;
        }
        l->scanned = end;
        if (l->ended)
            return LINES_END;
        enum lines_result result = read_more(l);
        if (result != LINES_LINE)
            return result;
    }
}

void lines_free(struct lines *l)
{
    buf_free(&l->bytes);
}

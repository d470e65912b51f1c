/*
 * Lines of a file or a pipe, of any bytes, read as they come.
 */
#ifndef CLI_LINES_H
#define CLI_LINES_H

#include "base/buf.h"
#include "cli/args.h"

enum {
    LINE_BYTES_MAX = (64 << 20) + (64 << 10), /* the largest message there can be, and room for its key */
};

struct lines {
    int fd;
    int wake_fd[2];     /* reading ends when one of these becomes readable; -1: none */
    struct buf bytes;   /* read and not given out yet, from `at` on */
    size_t at, scanned; /* up to `scanned` there is no newline */
    bool ended;
};

enum lines_result {
    LINES_END, /* there are no more */
    LINES_LINE,
    LINES_WOKEN, /* a wake_fd became readable while waiting for more */
    LINES_LONG,  /* longer than LINE_BYTES_MAX */
    LINES_ERROR, /* errno says why */
};

/* Opens the file that an operand names; "-", or nothing where that is no terminal, is standard input. Returns 0, or says why not and
   returns the status. */
int lines_open(struct lines *l, const struct args *a, size_t operand);

/* The next line without its newline, borrowed until the next call. The last one needs no newline. */
enum lines_result lines_next(struct lines *l, struct view *line);

void lines_free(struct lines *l);

#endif

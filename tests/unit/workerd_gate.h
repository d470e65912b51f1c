/*
 * A gate at which a handler waits, so that a test knows where it is: two FIFOs, PATH and PATH.in. The
 * handler writes a byte to the second when it has come to the gate and reads one from the first to pass.
 */
#ifndef TESTS_WORKERD_GATE_H
#define TESTS_WORKERD_GATE_H

#include "unit.h"

#include <fcntl.h>
#include <sys/stat.h>

struct gate {
    char dir[32], path[64], in[80];
    int fd, in_fd;
};

/* Makes it in a directory of its own, with which other files of a test may share it. */
static inline int gate_make(struct gate *g)
{
    snprintf(g->dir, sizeof g->dir, "/tmp/sluice-unit-XXXXXX");
    if (mkdtemp(g->dir) == NULL)
        return -1;
    snprintf(g->path, sizeof g->path, "%s/gate", g->dir);
    snprintf(g->in, sizeof g->in, "%s.in", g->path);
    if (mkfifo(g->path, 0600) != 0 || mkfifo(g->in, 0600) != 0)
        return -1;
    /* For both, so that nobody waits for the other end to be opened. */
    g->fd = open(g->path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    g->in_fd = open(g->in, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    return g->fd >= 0 && g->in_fd >= 0 ? 0 : -1;
}

static inline int gate_remove(struct gate *g)
{
    close(g->fd);
    close(g->in_fd);
    unlink(g->path);
    unlink(g->in);
    return rmdir(g->dir);
}

/* Nobody is at it and nobody may pass. */
static inline void gate_reset(struct gate *g)
{
    char byte;
    while (read(g->fd, &byte, 1) == 1 || read(g->in_fd, &byte, 1) == 1)
        continue;
}

/* Whether somebody (more) has come to the gate. */
static inline bool gate_reached(struct gate *g)
{
    char byte;
    return read(g->in_fd, &byte, 1) == 1;
}

/* Lets one through, now or when it comes. */
static inline void gate_pass(struct gate *g)
{
    assert_int_equal(write(g->fd, "x", 1), 1);
}

#endif

/*
 * What people ask of a running daemon (sluice worker scale, pause, resume): brought by registry.c, taken by the loop.
 */
#ifndef WORKERD_COMMAND_H
#define WORKERD_COMMAND_H

#include "base/err.h"
#include "base/units.h"
#include "workerd/source.h"

enum command_act { COMMAND_SCALE = 1, COMMAND_PAUSE, COMMAND_RESUME };

/* In the inbox; the loop frees it with mem_free. */
struct command {
    struct event event; /* COMMAND */
    uint64_t number;    /* rises; the loop says in its figures up to which it went */
    char handler[NAME_MAX_BYTES + 1];
    enum command_act act;
    bool has_least, has_most; /* SCALE: what is not there stays */
    uint32_t least, most;
};

/* What the last command came to, for those who gave it. */
struct command_taken {
    uint64_t number; /* 0: there was none */
    struct err why;  /* code 0: it was done */
};

/* The limits that a SCALE leads to, from those there are. OK, or INVALID_ARGUMENT that says why not, and they are as they were. */
int command_limits(const struct command *c, uint32_t *min, uint32_t *max, struct err *e);

#endif

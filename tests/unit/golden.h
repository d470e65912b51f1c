/*
 * Golden bytes: what was once written and must be read, and written the same way, for ever. A file of them is text: a line with the
 * name and the size in bytes, then the bytes in hex; lines that begin with # are for people.
 */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"

struct golden {
    char name[64];
    uint8_t *bytes; /* 16-aligned, in memory of its own of exactly `size` bytes */
    size_t size;
};

/* All of a file; ends the process with a message if it is not there or not good. */
struct golden *golden_load(const char *path, size_t *n);
void golden_free(struct golden *g, size_t n);

/* The one of that name, or NULL. */
const struct golden *golden_find(const struct golden *g, size_t n, const char *name);

void golden_put(FILE *to, const char *name, struct view bytes);

#endif

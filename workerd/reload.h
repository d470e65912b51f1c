/*
 * The configuration again, and handlers' files that changed.
 *
 * What is wrong is logged and changes nothing. What cannot change while the daemon runs is refused as a whole, so that what is in force is
 * always what one file said: the broker, the daemon's name, memory, log level and HTTP address, and of the
 * handlers which there are, in their order, where their messages come from, and for how long.
 */
#ifndef WORKERD_RELOAD_H
#define WORKERD_RELOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "workerd/config.h"

/* Reads the file again. NULL: the one in force stays, and the log says why. Freed with reload_free. */
struct config *reload_config(const char *path, const struct config *in_force);
void reload_free(struct config *c);

/* What a file is known by. */
struct file_mark {
    uint64_t device, inode, size, changed_ns;
};

/* A file that is looked at now and then. */
struct file_watch {
    struct file_mark known, seen;
};

/* What is there now is known. */
void file_watch_begin(struct file_watch *w, const char *path);
/* True once for each change, when two looks after it found the same: somebody may still be writing. A file that is missing is about to be
   there again. */
bool file_watch_look(struct file_watch *w, const char *path);

#endif

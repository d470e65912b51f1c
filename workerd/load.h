/*
 * A handler's file: opened, and its one symbol understood.
 *
 * The struct that a handler exports begins with its size. An older one is shorter: what it does not have
 * counts as NULL. A newer one is longer: what we do not know is not looked at.
 */
#ifndef WORKERD_LOAD_H
#define WORKERD_LOAD_H

#include <sluice/handler.h>

#include "base/err.h"

/* Opens the file and copies what it exports to `out`. It stays open as long as the process. Returns 0, or
   CONFIG with a text that names the file: it cannot be opened, lacks a symbol, was made for another ABI, or
   has no entry point. */
int handler_load(const char *path, struct sluice_handler *out, struct err *e);

#endif

/*
 * Handlers of the worker daemon, looked at and tried without a broker.
 */
#ifndef CLI_HANDLER_H
#define CLI_HANDLER_H

#include <limits.h>

#include "cli/args.h"

/* The file that the first operand names, absolute. Returns 0, or says that there is none and returns the status. */
int handler_path(const struct args *a, char path[PATH_MAX]);

#endif

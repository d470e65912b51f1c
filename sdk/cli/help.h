/*
 * Help, from the table of commands.
 */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include "base/buf.h"
#include "cli/args.h"

/* "usage: sluice topic create NAME [--partitions N] ...", in as many lines as it takes. Appended to `to`. */
void help_usage(struct buf *to, const struct command *c);

/* The page of a command, of a noun (its verbs), or of all (noun NULL), to standard output. */
void help_page(const char *noun, const struct command *c);

/* Refuses what the parser could not: "sluice: consume: ..." and the usage to standard error. Returns STATUS_USAGE. */
int help_refuse(const struct args *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* What follows the error of a line that was not understood, to standard error: the usage of the command, or the words there are. */
void help_after_error(const struct args *a);

#endif

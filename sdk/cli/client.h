/*
 * A session at the broker that the options name, and what its errors mean to a person and to a script.
 */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include <sluice/sluice.h>

#include "cli/args.h"

enum { TIMEOUT_MS = 10000 };

/* The broker's address, by -b, the environment, or the default. */
const char *client_broker(const struct args *a);

/* --timeout, or the default. */
uint32_t client_timeout_ms(const struct args *a);

/* Opens a session. Returns 0, or says why not and returns the status to end with. */
int client_open(const struct args *a, struct sluice **out);

/* Ends a session: waits up to the timeout for what is still out. NULL is fine. */
void client_close(const struct args *a, struct sluice *s);

/* What the process ends with for an error of the library. */
int status_of(int code);

/* Says what went wrong, and how to make what was not found; returns status_of its code. `topic` and `group` are those that
   the call named; NULL: none. */
int client_fail(const struct sluice_error *err, const char *topic, const char *group);

/* Says what a refusal for load tells beside its text: what waits there, how long that takes, when to come again. */
void client_say_when(const struct sluice_error *err);

/* Whether a long-running command asks again: the broker refused for the moment, and is there. Waits as long as it said. */
bool client_again(const struct sluice_error *err);

/*
 * Finds the topic of a group that may have been named without one. `*found` is the list that holds the group as its only row; the
 * caller frees it. Returns 0, or says that there is none, or several, and returns the status.
 */
int client_find_group(struct sluice *s, const char *topic, const char *group,
                      struct sluice_group_list **found);

/*
 * Before something is destroyed: true if it may be. --yes says so; otherwise a person at a terminal is asked `question`.
 * Without both nothing is done: says so and sets *status.
 */
bool confirm(const struct args *a, int *status, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* "1 message", "2 messages": for a count in a sentence. */
#define PLURAL(n) ((n) == 1 ? "" : "s")

#endif

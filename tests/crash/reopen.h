/* A directory that something happened to, opened with the real store, engine and loop, and held against what was promised (script.h). */
#ifndef TESTS_REOPEN_H
#define TESTS_REOPEN_H

#include <stddef.h>

#include "script.h"

/* As numbers of records on the tape: what may have happened, and what must have. */
struct reopen_promise { uint64_t asked_before, acked_by; };

/* Opens the data directory `path`, reads every row, and lets time pass until everything that is to be delivered was. NULL: all that was
 * acknowledged is so, and nothing is half. Else what is wrong, with what the store said where it refused; static. Not to be called twice
 * in a process: nothing is closed. */
const char *reopen_check(const char *path, const struct script_ledger *l, struct reopen_promise promise);

#endif

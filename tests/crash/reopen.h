/* A directory that something happened to, opened with the real store, engine and loop, and held against what was promised (script.h). */
#ifndef TESTS_REOPEN_H
#define TESTS_REOPEN_H

#include <stddef.h>

#include "script.h"

/* Opens the data directory `path`, looks at its logs, and lets time pass until everything that is to be delivered was. NULL: whatever was
 * acknowledged while the tape had at most `at` records is so, and nothing is half. Else what is wrong, static. Not to be called twice in a
 * process: nothing is closed. `error`: what the store or the engine said when it did not open. */
const char *reopen_check(const char *path, const struct script_ledger *l, uint64_t at);

#endif

/*
 * A run that was recorded (script.h), and states of its directory that are opened, each in a process of its own: what the
 * tests of power cuts and of damaged files share.
 *
 *   SLUICE_POWER_RECORDING  a file: the recording that is there is used, or the one that is made is left there
 *   SLUICE_CRASH_SEED
 */
#ifndef TESTS_RECORDING_H
#define TESTS_RECORDING_H

#include "reopen.h"
#include "script.h"

/* Mapped from a file, by the broker too, which knows the tape alone. */
struct recording { struct tape tape; struct script_ledger ledger; bool whole; uint64_t seed; };

/* Before anything else: it forks, and the run has threads. Fails the test when the run does. */
struct recording *recording_begin(void);
void recording_end(struct recording *r);

/* Where directories are fast: in RAM, if there is room. */
const char *recording_scratch(void);
/* A new directory there; the caller removes it. */
void recording_make_dir(char dir[64]);

/* Opens `dir`/data and holds it against what was promised (reopen.h). False: `why` says what is wrong. */
bool recording_try(const struct script_ledger *l, const char *dir, struct reopen_promise promise, char *why, size_t why_size);

#endif

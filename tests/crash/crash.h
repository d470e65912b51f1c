/*
 * What the crash tests share beside the broker as a process of talk.h: a client that must not fail, the disk shim, and numbers from
 * the environment.
 */
#ifndef TESTS_CRASH_H
#define TESTS_CRASH_H

#include <sluice/sluice.h>

#include "syncshim.h"
#include "talk.h"

/* Fails the test, with the error's text, when `code` is not 0. */
#define crash_ok(code, err) crash_ok_at((code), (err), #code, __FILE__, __LINE__)
void crash_ok_at(int code, const struct sluice_error *err, const char *what, const char *file, int line);

/* A client of the broker at this url. */
struct sluice *crash_open(const char *url);
void crash_close(struct sluice *s);
/* One partition, unless said otherwise. */
void crash_topic(struct sluice *s, const char *topic, int durability);
int crash_publish(struct sluice *s, const char *topic, const char *value, struct sluice_error *err);

/* The first `count` messages of a topic's first partition have the values PREFIX0, PREFIX1 and so on. */
void crash_expect_log(const char *url, const char *topic, const char *prefix, uint32_t count);

/* A number from the environment, or `otherwise`. */
uint64_t crash_number(const char *name, uint64_t otherwise);
/* $SLUICE_CRASH_SEED, or one by chance; printed, so that a run can be had again. */
uint64_t crash_seed(void);

/* From now on the broker starts with the shim in front of its data directory: nothing is delayed, fails or is short yet. The broker
 * is prepared, and its `env` is ours. */
struct syncshim *crash_shim(struct broker_proc *b);
/* And now without. NULL is fine. */
void crash_shim_off(struct broker_proc *b, struct syncshim *shim);

#endif

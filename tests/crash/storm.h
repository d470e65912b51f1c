/*
 * A broker under load that dies again and again. What happens between its death and its next start is the test's.
 *
 *     storm_begin(&s, seed, topics, n);
 *     each cycle: storm_work(&s); broker_kill(&s.broker); broker_restart(&s.broker); storm_read(&s, false);
 *     storm_finish(&s);
 *
 * Every call but storm_end fails the test when the ledger of a topic has a violation.
 */
#ifndef TESTS_STORM_H
#define TESTS_STORM_H

#include "base/rng.h"
#include "crash.h"
#include "load.h"

enum { STORM_TOPICS_MAX = 2 };

struct storm {
    struct broker_proc broker;
    struct load *loads[STORM_TOPICS_MAX];
    size_t loads_n;
    struct rng rng;
    uint64_t acked_max; /* messages of a topic that storm_work waits for, at most; 0: 8,000 */
};

/* Sum over all topics. */
struct storm_totals {
    struct ledger_totals ledger;
    struct load_totals clients;
};

/* The broker is running. `topics` say all but broker and seed. */
void storm_begin(struct storm *s, uint64_t seed, const struct load_options *topics, size_t n);
/* Until every topic got somewhere: some more is acknowledged (how much is chosen at random), and some of it done. */
void storm_work(struct storm *s);
/* Reads the logs, all of them or what is new. */
void storm_read(struct storm *s, bool all);
/* Everything published is acknowledged, done, and in the logs. */
struct storm_totals storm_finish(struct storm *s);
/* The first violation, or NULL. */
const char *storm_violation(struct storm *s);
/* In any state. */
void storm_end(struct storm *s);

#endif

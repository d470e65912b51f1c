/*
 * Load on a broker that comes and goes: producers and consumers of one topic, each a thread with a client of its own, that enter
 * what they see into the topic's ledger. An error that reaches them is a violation: a client is to get over a restart by itself.
 *
 * The producers stop for a while when the consumers are behind, so that both have work at every instant.
 */
#ifndef TESTS_LOAD_H
#define TESTS_LOAD_H

#include <stdint.h>

#include "ledger.h"

#define LOAD_GROUP "work"

struct load;

struct load_options {
    const char *broker;   /* url */
    const char *topic;
    uint32_t partitions;
    int durability;       /* enum sluice_durability */
    uint32_t producers;
    uint32_t consumers;   /* 0: what is acknowledged counts as done */
    uint32_t backlog_max; /* messages published and not done at which producers wait */
    uint64_t seed;
};

struct load_totals {
    uint64_t reconnects, repeated; /* of all clients */
};

/* Makes topic and group, and starts the threads. Fails the test when it cannot. */
struct load *load_start(const struct load_options *options);
struct ledger *load_ledger(struct load *l);
bool load_consumes(const struct load *l);
/* Producers end, and what they published is confirmed. Then consumers go on until all is done, and end. */
void load_finish(struct load *l, uint32_t timeout_ms);
struct load_totals load_totals(const struct load *l); /* after load_finish */
void load_free(struct load *l);

/* Reads the log up to what was acked when the call began, and enters it into the ledger: from where the last call ended, or all of
 * it. Its client is the same from beginning to end. */
void load_read(struct load *l, bool all);
/* Nothing waits, is in flight or parked, if there are consumers. */
void load_expect_drained(struct load *l);

#endif

/*
 * The ledger of one topic, kept outside of the broker: what was published, what was acknowledged to its producers, what its
 * consumers were given and what was confirmed to them. It knows what may follow what, and remembers the first thing that may not.
 *
 * A message is a key and its number of that key, counted from 0 in the order of publishing; its value follows from these two. So
 *
 *      the log                  has each key's numbers one by one: a repeat that was done twice, a hole, a change of order would show
 *      an acknowledgement       names the partition and offset where the log has the message
 *      first deliveries         come in the order of a key's numbers, each when the one before it is settled
 *      a further delivery       comes only of what was given back, never of what was confirmed
 *
 *      new --delivered--> out --ack--> acking --confirmed--> done
 *                         ^ |
 *              delivered  | | nack, release, left behind by a client that closed
 *                         | v
 *                         back
 *
 * Any thread, but for the reading of the log: one thread.
 */
#ifndef TESTS_LEDGER_H
#define TESTS_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LEDGER_KEYS = 96, LEDGER_PARTITIONS_MAX = 16, LEDGER_KEY_MAX = 16, LEDGER_VALUE_MAX = 600 };

struct ledger;

struct ledger_id { uint32_t key, number; };

/* A message's bytes. */
struct ledger_bytes {
    char key[LEDGER_KEY_MAX];
    size_t key_size;
    uint8_t value[LEDGER_VALUE_MAX];
    size_t value_size;
};

enum ledger_back { LEDGER_NACK, LEDGER_RELEASE };

struct ledger_totals {
    uint64_t published, acked;  /* by producers */
    uint64_t delivered, again;  /* to consumers; of these, not for the first time */
    uint64_t confirmed;         /* acks of consumers */
};

/* `topic` is for messages and lent. */
struct ledger *ledger_new(const char *topic, uint32_t partitions);
void ledger_free(struct ledger *l);

/* ---- producers: those of one key are one thread */

/* The next message of a key, which is published now. */
struct ledger_id ledger_publish(struct ledger *l, uint32_t key, struct ledger_bytes *out);
void ledger_acked(struct ledger *l, struct ledger_id id, uint32_t partition, uint64_t offset);

/* ---- consumers */

/* False: this is no message of ours, and a violation. */
bool ledger_delivered(struct ledger *l, const void *key, size_t key_size, const void *value, size_t value_size,
                      uint32_t partition, uint64_t offset, uint32_t attempt, struct ledger_id *out);
void ledger_back(struct ledger *l, struct ledger_id id, enum ledger_back how); /* before it is said to the broker */
void ledger_acking(struct ledger *l, struct ledger_id id);                     /* before it is said to the broker */
void ledger_confirmed(struct ledger *l, struct ledger_id id);

/* ---- the log, read from its start or further from where the last reading ended */

void ledger_read_again(struct ledger *l); /* the next record is the partition's first */
uint64_t ledger_read_from(struct ledger *l, uint32_t partition);
void ledger_read(struct ledger *l, uint32_t partition, uint64_t offset, const void *key, size_t key_size, const void *value,
                 size_t value_size);
/* Everything that was acked when `ledger_mark` was called has been read. */
void ledger_mark(struct ledger *l);
bool ledger_read_enough(struct ledger *l);
/* As ledger_read_enough, and says what is missing as a violation. */
void ledger_expect_read(struct ledger *l);

/* ---- what came of it */

struct ledger_totals ledger_totals(struct ledger *l);
/* The first violation, or NULL. Good as long as the ledger. */
const char *ledger_violation(struct ledger *l);
void ledger_violate(struct ledger *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Waits until so much was acked to producers and confirmed to consumers, or there is a violation. False: the time is over. */
bool ledger_wait(struct ledger *l, uint64_t acked, uint64_t confirmed, uint32_t timeout_ms);
/* Waits until at most `most` published messages are not confirmed to consumers, or, with `acked`, not acked to producers; but no
 * longer than `timeout_ms`. */
void ledger_wait_backlog(struct ledger *l, bool acked, uint64_t most, uint32_t timeout_ms);

#endif

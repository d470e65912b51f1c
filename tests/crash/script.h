/*
 * A mixed run of the real broker, the same in its kinds of work every time, and what was promised in it: told apart by where the
 * recording of its files (tape.h) stood when something was asked for, and when it was acknowledged.
 *
 * Topics: "jobs" (disk; dead letters let their key go on), "strict" (disk; a dead letter blocks its key), "fast" (os), "out" (disk; what
 * units produce), "bulk" (disk; large values, so that the store flushes). All but the last two have a queue group "work".
 */
#ifndef TESTS_SCRIPT_H
#define TESTS_SCRIPT_H

#include "tape.h"

enum script_topic { JOBS, STRICT, FAST, OUT, BULK, SCRIPT_TOPICS };
enum { SCRIPT_MESSAGES_MAX = 4096, SCRIPT_KEYS = 12, SCRIPT_OUTPUTS = 2, SCRIPT_VALUE_MAX = 40000 };
#define SCRIPT_GROUP "work"
#define SCRIPT_NEVER UINT64_MAX

extern const char *const script_topic_names[SCRIPT_TOPICS];
static inline bool script_has_group(enum script_topic t) { return t != OUT && t != BULK; }

/* Something that was asked for, and its acknowledgement: how many records the tape had. NEVER: it was not. */
struct script_act { uint64_t asked, acked; };

struct script_message {
    enum script_topic topic;
    uint32_t key, size;          /* of its value */
    bool delayed, waits;         /* its place is known only when it is due; waits: it is not due before the run ends */
    struct script_act publish;   /* of an output: that of its unit */
    bool placed;
    uint32_t partition;          /* index */
    uint64_t offset;             /* as acknowledged, if placed */
    struct script_act done, parked, redriven, dropped;
    uint64_t may_park;           /* asked for something that may have parked it */
    uint32_t failures;           /* asked for */
    struct script_act unit;      /* an ack with outputs and state */
    uint32_t output[SCRIPT_OUTPUTS];
    uint32_t unit_number;        /* rising; the state of the key says it */
};

struct script_ledger {
    struct script_act made;      /* topics and groups */
    uint32_t messages_n, units;
    struct script_message messages[SCRIPT_MESSAGES_MAX];
    uint64_t began_ms, ended_ms; /* wall */
    uint64_t kills, restarts, settled, parked, redriven, dropped, nacks;
};

/* The value of a message: begins with its number. At most SCRIPT_VALUE_MAX bytes. */
void script_value(uint32_t id, uint32_t size, char *to);
void script_key(uint32_t key, char to[16]);

/* Runs a broker with its files recorded; it is killed once and restarted once in it. Fails the test when something is refused. */
void script_run(struct tape *tape, const char *tape_path, struct script_ledger *l, uint64_t seed);

#endif

/*
 * A new version of a handler on a part of the keys, until it is known whether it fails more than the one before.
 *
 *     percent of the keys --> new version ---+
 *                                            +--> as good for long enough, by enough tasks: PROMOTE
 *     the other keys -------> old version ---+--> fails more than chance explains:          ROLL_BACK
 *
 * A key is with one of the two for the whole time, so its messages stay in order. Failures are what the breaker
 * counts, to be retried and crashed, and parked: a version that gives up what the other one does is worse. Both versions work at the same time on the same kind of messages, so what
 * fails in both (a database that is out) speaks against neither.
 *
 * Chance: with p the share of failures in the old version, n tasks of the new one fail n p times, give or take
 * sqrt(n p (1 - p)). Four times that is not chance, also not for who looks after each task.
 *
 * Pure: time is an argument.
 */
#ifndef WORKERD_CANARY_H
#define WORKERD_CANARY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum {
    CANARY_TASKS_MIN = 20, /* fewer of the new version say nothing good */
    CANARY_FAILED_MIN = 5, /* fewer failures say nothing bad */
    CANARY_TIMES_MAX = 10, /* if too few tasks come it is promoted after so many times its time */
};

enum canary_decision { CANARY_WAIT, CANARY_PROMOTE, CANARY_ROLL_BACK };

struct canary {
    uint32_t percent; /* of the keys, 1 to 99 */
    uint32_t time_ms; /* how long it is looked at, at least */
    uint64_t since_ms;
    struct {
        uint64_t n, failed;
    } old_one, new_one;
};

/* Whether the new version is to have this message. Without a key its place stands for it. */
bool canary_takes(uint32_t percent, struct view key, uint32_t partition, uint64_t offset);

void canary_verdict(struct canary *c, bool of_new, bool failed);

enum canary_decision canary_decide(const struct canary *c, uint64_t now_ms);
/* When canary_decide may say something else although nothing was counted. */
uint64_t canary_due_ms(const struct canary *c, uint64_t now_ms);

#endif

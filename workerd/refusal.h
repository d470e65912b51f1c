/*
 * What becomes of a task whose outcome the broker did not take.
 *
 *     refused for now: load, a full disk   AGAIN     given again, its lease kept meanwhile
 *     another has changed its state        RELEASE   run again with the state as it is then, uncounted;
 *                                          FAIL      after CONFLICTS_MAX times in a row a failure
 *     what it publishes cannot be          FAIL      a failure that says why: no such topic, too large
 *     its lease is lost, or nobody knows   LOST      the broker gives it to somebody else
 *
 * A conflict is no failure, but somebody who writes the same state all the time must not make a task spin:
 * conflicts are counted by message, in a small table in which messages may push each other out. One that is
 * pushed out begins to count anew.
 */
#ifndef WORKERD_REFUSAL_H
#define WORKERD_REFUSAL_H

#include <stdint.h>

#include "workerd/source.h"

enum { CONFLICTS_MAX = 16, CONFLICTS_PLACES = 256 };

struct conflicts {
    struct {
        uint32_t handler, partition;
        uint64_t offset;
        uint32_t n; /* in a row; 0: a free place */
    } places[CONFLICTS_PLACES];
};

enum refusal { REFUSAL_AGAIN, REFUSAL_RELEASE, REFUSAL_FAIL, REFUSAL_LOST };

/* `code` is not 0, and answers the outcome `verb` of the task. Counts a conflict. */
enum refusal refusal_judge(struct conflicts *c, const struct task *t, enum outcome_verb verb, int code);

/* The task is over: its conflicts are forgotten. */
void conflicts_forget(struct conflicts *c, const struct task *t);

#endif

/*
 * What was heard of a group's lag by the broker's publications, and whether it does for an answer. Pure: time is an argument.
 *
 * Published is what changed, so silence says that nothing did, or that nobody publishes, or that it got lost: only asking tells which. Who
 * asked, and was told what was heard last, may trust the silence for as long again; who was told something else asks until a publication comes.
 *
 *     published --> good while it is young --> silence: ask --> the same: young again
 *         ^                                        |
 *         +----------------------------------------+--> not the same, or the connection is lost: each question is asked
 *
 * What was not told yet is told at once. Who was told it waits a little for the next: publications come as often as there are questions, and so
 * what is answered is what was just published. The first question after a silence does not wait.
 */
#ifndef WORKERD_HEARD_H
#define WORKERD_HEARD_H

#include <stdbool.h>
#include <stdint.h>

#include "workerd/source.h"

enum {
    HEARD_WAIT_MS = 300,  /* for the next publication: what lies between two, and a little (the broker's limits.lag_publish_ms) */
    HEARD_YOUNG_MS = 500, /* as old may be what is answered in silence */
};

/* All zero: nothing was heard. */
struct heard {
    bool good;      /* what was heard last was right when it was last looked at */
    bool any;       /* since the connection was lost */
    bool told;      /* it was an answer */
    uint64_t at_ms; /* when that was */
    struct lag lag;
};

void heard_published(struct heard *h, const struct lag *lag, uint64_t now_ms);
void heard_lost(struct heard *h);                                             /* the connection */
static inline void heard_tell(struct heard *h) /* h->lag is answered */
{
    h->told = true;
}
void heard_asked(struct heard *h, const struct lag *lag, uint64_t now_ms); /* the broker said this when it was asked */

enum heard_way {
    HEARD_ANSWER, /* h->lag */
    HEARD_WAIT,   /* until heard_due_ms, or a publication */
    HEARD_ASK,    /* the broker */
};
enum heard_way heard_judge(const struct heard *h, uint64_t asked_ms, uint64_t now_ms);

static inline uint64_t heard_due_ms(uint64_t asked_ms)
{
    return asked_ms + HEARD_WAIT_MS;
}

#endif

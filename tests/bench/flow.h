/* Messages that are produced and consumed at once: how many, and how long from when each was meant to be sent to when it was there. */
#ifndef BENCH_FLOW_H
#define BENCH_FLOW_H

#include "stage.h"

struct flow {
    double rate;                  /* messages per second that came through, from the first that counts to the last consumed */
    struct outcome produced, consumed; /* consumed.latency: end to end, the caller's; produced.latency: to the acknowledgement, or NULL */
    struct verdict verdict;
};

/* `w` is the producers'; who consumes is as many connections: of the log, or of the stage's group if `queue`, a batch of w->batch, but
 * at least 100, at a time. BENCH_VOID as ever. */
int flow_run(struct stage *s, const struct work *w, bool queue, struct flow *f, struct err *e);

#endif

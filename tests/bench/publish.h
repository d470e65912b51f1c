/*
 * Publishing to Sluice by a load: lanes of a client each. A stream is a lane, or a key where there are keys. In the closed loop a batch
 * is one request; what is offered at a rate the library gathers as it does for anybody.
 */
#ifndef BENCH_PUBLISH_H
#define BENCH_PUBLISH_H

#include "load.h"
#include "rival.h"

struct publish {
    const char *url, *topic;
    const struct work *work;
    const struct server *server;  /* whose usage is counted; may be NULL */
    uint64_t keys;                /* 0: messages have none. Else streams are keys, and each key is one lane's; at least as many as lanes */
    bool timed;                   /* payloads carry when they were meant to be sent, but for those of the warm-up */
    uint64_t *numbers;            /* of each stream the next number, in and out: all below it were acknowledged */
};

uint32_t publish_streams(const struct publish *p);
int publish_run(struct publish *p, struct outcome *out, struct err *e);

#endif

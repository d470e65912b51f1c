/* Lease and ack at Sluice by a load: lanes of a client each, of one group. */
#ifndef BENCH_LEASE_H
#define BENCH_LEASE_H

#include <stdatomic.h>

#include "load.h"
#include "rival.h"
#include "verify.h"

struct lease {
    const char *url, *topic, *group;
    const struct work *work;      /* batch: messages asked for at once; messages: ends after so many, 0: by time */
    const struct server *server;
    struct verify *verify;        /* gets every message before it is acknowledged; NULL: only each payload's checksum is looked at */
    const atomic_uint_fast64_t *until; /* ends when so many were acknowledged, which may not be known at first; NULL: as `work` says */
    uint32_t handler_us;          /* how long each message is worked on, one after the other */
    uint64_t taken;               /* out: acknowledged, the warm-up too */
    bool end_to_end;              /* only messages with a time count, and their latency is from then to here */
};

int lease_run(struct lease *c, struct outcome *out, struct err *e);

#endif

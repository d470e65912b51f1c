/* Lease and ack at Sluice by a load: lanes of a client each, of one group. */
#ifndef BENCH_LEASE_H
#define BENCH_LEASE_H

#include "load.h"
#include "rival.h"
#include "verify.h"

struct lease {
    const char *url, *topic, *group;
    const struct work *work;      /* batch: messages asked for at once; messages: ends after so many, 0: by time */
    const struct server *server;
    struct verify *verify;        /* gets every message before it is acknowledged; NULL: only each payload's checksum is looked at */
    uint32_t handler_us;          /* how long each message is worked on, one after the other */
    bool end_to_end;              /* the latency is that from payload's intended_ns to here, not that of receive and ack */
};

int lease_run(struct lease *c, struct outcome *out, struct err *e);

#endif

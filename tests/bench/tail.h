/* Reading Sluice's log by a load: a lane reads one partition, from its start. */
#ifndef BENCH_TAIL_H
#define BENCH_TAIL_H

#include <stdatomic.h>

#include "load.h"
#include "rival.h"
#include "verify.h"

struct tail {
    const char *url, *topic;
    const struct work *work;      /* connections: lane i reads partition i modulo partitions */
    uint32_t partitions;
    const struct server *server;
    struct verify *verify;        /* gets every message; NULL: nobody looks at them */
    const atomic_uint_fast64_t *until; /* ends when so many were seen, which may not be known at first; NULL: as `work` says */
    bool again;                   /* at the end from the start again */
    bool end_to_end;              /* only messages with a time count, and their latency is from then to here */
};

int tail_run(struct tail *t, struct outcome *out, struct err *e);

#endif

/* Sluice and its peers side by side: see docs/performance.md. */
#ifndef BENCH_COMPARE_H
#define BENCH_COMPARE_H

#include "../bench.h"

/* The rows of the suite that are against a peer: P1.redis, P1.rabbitmq, P7.rabbitmq, P7.redis. A peer that is not there is a row
 * without a value, and its note says why. */
int compare_rows(struct bench *b, struct err *e);

#endif

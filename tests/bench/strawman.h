/*
 * The straw-man: the simplest log that keeps the same promise. Receive over nng, check a checksum, pwrite to one file, one fdatasync
 * for all that came while the last one ran, acknowledge. It has no topics, offsets, groups, sessions, index, and what it wrote
 * nobody reads. What it reaches on a machine is a limit for what a broker can.
 *
 * A request is the XXH3-64 of what follows it, and a batch of messages; the reply is empty.
 */
#ifndef BENCH_STRAWMAN_H
#define BENCH_STRAWMAN_H

#include "bench.h"

enum { STRAWMAN_WINDOW_MAX = 60 }; /* nng's raw REP drops replies beyond 64 of a connection */

/* Rows of suite. Durable produce against the straw-man's, in interleaved pairs, at 100 B, 1 KB and 16 KB: P2, P2.1k, P2.16k. */
int rows_strawman(struct bench *b, struct err *e);
/* One message at a time, durable, against an nng round trip and an fdatasync: P5. */
int rows_single(struct bench *b, struct err *e);

#endif

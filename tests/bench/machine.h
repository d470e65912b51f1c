/*
 * What this machine can do, without any queue: the limits that bound our figures. Each measures for about `seconds`, in a file of
 * its own in `dir`, which is on the disk that the data would be on, or on loopback; the latencies go into `h`, and the median, in
 * us, is returned; NaN and an error when it could not be.
 */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stddef.h>

#include "base/err.h"
#include "hist.h"

/* pwrite of so many bytes at the end of a file, then fdatasync. */
double machine_fdatasync(const char *dir, size_t bytes, double seconds, struct hist *h, struct err *e);
/* A request of so many bytes and a reply of 64, over tcp on loopback between two threads' nng sockets, one at a time. */
double machine_round(size_t bytes, double seconds, struct hist *h, struct err *e);

#endif

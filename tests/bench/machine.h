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
/* A request of so many bytes and a reply of 64, over tcp on loopback between the nng sockets of two processes, one at a time. */
double machine_round(size_t bytes, double seconds, struct hist *h, struct err *e);
/* That, and one pwrite at the end of a file in `dir` and fdatasync before the reply. */
double machine_round_synced(const char *dir, size_t bytes, double seconds, struct hist *h, struct err *e);
/* A round without nng: 64 bytes each way over a connection. */
double machine_tcp_round(double seconds, struct hist *h, struct err *e);

/* Bytes per second; NaN and an error when it could not be measured. Of memory and loopback the best tenth of the time: what others do
 * meanwhile makes the rest less than what the machine can. */
double machine_write(const char *dir, double seconds, struct err *e);  /* one file from its start, synced at the end */
double machine_memcpy(double seconds);                                 /* more than caches hold */
double machine_tcp(double seconds, struct err *e);                     /* one connection, to another process */

/* What share of the limit that bounds it a figure takes. Limits are measured when they are first asked for, for a second each. */
struct share {
    double share;   /* 1: the limit; NaN: not known */
    const char *of; /* "loopback tcp"; NULL: not known */
};
/* Of messages that come or go at so many bytes per second. `dir`: where their data is, if that must reach the disk; else NULL or "". */
struct share machine_share(const char *dir, double bytes_per_s);
/* Of a latency at this percentile: the share of it that an nng round trip of 100 bytes takes. */
struct share machine_share_round(double percentile, double us);

#endif

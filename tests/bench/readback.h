/* Reads a topic from its start, for verification: until the end that each partition has now. */
#ifndef BENCH_READBACK_H
#define BENCH_READBACK_H

#include "base/err.h"
#include "verify.h"

int readback(const char *url, const char *topic, struct verify *v, struct err *e);

#endif

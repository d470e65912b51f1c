/* Those who measure rows of rows.def: suite.def says which. Each starts and stops what it needs, and reports its rows by itself. */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include "bench.h"
#include "pairs.h"

typedef int rows_fn(struct bench *b, struct err *e);

#define ROWS(ids, function) rows_fn function;
#include "suite.def"
#undef ROWS

#endif

/* What rival_sluice is told by the command line. */
#ifndef BENCH_OURS_H
#define BENCH_OURS_H

extern const char *ours_bin; /* where sluice-broker is; NULL: beside this program */

#endif

/* The options of every command, from one table; what a command does not use it ignores. 0 or NULL: the command's default. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct options {
    const char *broker;           /* -b: one that runs; NULL: the bench starts its own */
    const char *dir;              /* below which data is put; NULL: /var/tmp */
    const char *bin;              /* where sluice-broker is; NULL: beside the bench */
    const char *hist;             /* a file for the histogram; of plot: histograms, comma separated */
    const char *points, *title;   /* of plot */
    const char *peers;            /* of compare and suite, comma separated; NULL: all */
    const char *only;             /* of suite: ids of rows, comma separated, "P3,P6"; of neighbours: "leak,segv"; NULL: all */
    bool json, quick, compressible;
    int durability;               /* enum sluice_durability; 0: disk */
    uint64_t size, batch, window, connections, partitions, keys, messages, runs, seed;
    double seconds, warmup, rate, checkpoint_every; /* below 0: the command's default; rate 0 */
};

/* argv[0] is the command. EINVAL with a text that names the option. */
int options_read(struct options *o, int argc, char **argv, struct err *e);
void options_help(FILE *out);

#endif

/* The broker under measurement: our own process with data in a directory of its own, or one that runs elsewhere (-b). */
#ifndef BENCH_BROKER_H
#define BENCH_BROKER_H

#include "server.h"

struct broker {
    struct server server;         /* pid 0: it runs elsewhere, so nothing is known of its process */
    char dir[PATH_MAX];           /* its directory; in it `data` */
    char url[128], http[128];     /* as it said when it was ready; http "": not known */
};

/* Starts one in `dir`, which exists, on loopback and free ports. `bin`: where sluice-broker is; NULL: beside this program. `more`:
 * further arguments, NULL-terminated; NULL: none. */
int broker_start(struct broker *b, const char *bin, const char *dir, const char *const *more, struct err *e);
void broker_stop(struct broker *b);

/* Where a program is that stands beside the broker: in `bin`, NULL: beside this program. */
int broker_program(const char *bin, const char *name, char path[PATH_MAX], struct err *e);

/* A sample of /metrics by its whole name, labels included, or without them the sum over all that differ in labels only; NaN when
 * there is none. */
double broker_metric(const struct broker *b, const char *name);

#endif

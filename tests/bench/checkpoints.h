/* Backups of a broker under load, one after another: asked for, timed, and removed, so that the disk holds no more than one. */
#ifndef BENCH_CHECKPOINTS_H
#define BENCH_CHECKPOINTS_H

#include "load.h"

enum { CHECKPOINTS_MAX = 1024 };

struct checkpoints;

/* A thread with a client of its own asks for one every `seconds`, counted from now. */
int checkpoints_start(struct checkpoints **out, const char *url, double seconds, struct err *e);

struct checkpoints_made {
    size_t count;
    struct gap list[CHECKPOINTS_MAX]; /* when each was asked for, until it was answered */
    uint64_t bytes;                   /* of the last */
};
/* Ends it, after the one that is under way. The error of the first that was refused. */
int checkpoints_stop(struct checkpoints *c, struct checkpoints_made *made, struct err *e);

uint64_t checkpoints_longest_ns(const struct checkpoints_made *made);
double checkpoints_mean_ns(const struct checkpoints_made *made);
/* Whether one was being made in a part of it. */
bool checkpoints_meet(const struct checkpoints_made *made, const struct gap *g);

#endif

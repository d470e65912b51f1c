/*
 * Acks with effects, as units of libsluice: the acknowledgement, what the task publishes and the state of its
 * key in one commit, whole or absent, fenced by the lease.
 *
 *     daemon's thread          unit thread                       a thread of the library
 *       units_give --queue-->    begin, ack, publish.., state,
 *                                commit, without waiting   --->    answered: the outcome, into the inbox
 *
 * A thread of its own, because the first message to a topic asks the broker for its partitions, which waits.
 */
#ifndef WORKERD_UNIT_H
#define WORKERD_UNIT_H

#include <sluice/sluice.h>

#include "base/err.h"
#include "base/inbox.h"
#include "base/list.h"
#include "workerd/source.h"

/* One ack with effects; lies in what its owner has of the task. Everything but node and units is set by the
   owner, and good until the outcome is answered. */
struct unit {
    struct list_node node;
    struct units *units; /* of units_give */
    struct outcome *outcome;
    struct sluice *sluice;
    struct sluice_batch *batch;
    size_t index;
    const char *topic, *group;
};

struct units;

/* NULL, with a text: no thread. The inbox is lent. */
struct units *units_new(struct inbox *inbox, struct err *e);
/* Commits it, and puts the outcome's event into the inbox: code, and a text if something was refused. Any
   thread. */
void units_give(struct units *u, struct unit *one);
/* When everything given was answered. NULL is good. */
void units_free(struct units *u);

#endif

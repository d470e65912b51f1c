/*
 * Tasks of one key that are held at once, in the order in which they came: none is worked on before the one
 * in front of it has its verdict, unless one process has both, which runs them in order.
 *
 * So it is in groups that keep the order of keys, as the source says of a task. Several are held of those that
 * hand out runs (`run_max` above 1), or if a lease was lost and the message came again while it was worked on.
 */
#ifndef WORKERD_ORDER_H
#define WORKERD_ORDER_H

#include "base/map.h"
#include "workerd/source.h"

/* All zero is a good empty one. */
struct order {
    struct map lines; /* by hash of the key; two keys of one hash are in one line, which does no harm */
};

/* Everything that stands in it must be taken out before. */
void order_free(struct order *o);

/* Puts a task at the end of its key's line, if it is ordered and has a key. */
void order_add(struct order *o, struct task *t);
/* It has its verdict; if it stands in no line, nothing happens. */
void order_remove(struct order *o, struct task *t);

/* The one in front of it, and the last of its line; NULL: none. */
struct task *order_before(const struct task *t);
struct task *order_last(const struct task *t);

#endif

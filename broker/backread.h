/* Finding the retries that are away and due: the rows of `sched`, for the engine to bring back. What readers do, without their threads.
 */
#ifndef BROKER_BACKREAD_H
#define BROKER_BACKREAD_H

#include "engine/engine.h"

/* In order of time; out->places stand in `places`. The rows that the engine will ask for are read, so that they are not cold then. Rows that do
 * not read: that code, `e` filled. */
int back_read(struct store *s, const struct effect_back *want, struct back *out, struct buf *places, struct err *e);

#endif

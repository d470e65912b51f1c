/* Reading what is due: the batches of `sched` whose time has come, for the engine to append. What readers do, without their threads.
 */
#ifndef BROKER_DUEREAD_H
#define BROKER_DUEREAD_H

#include "engine/engine.h"

/* In order of time. out->hold, the caller's to drop, keeps `batches` and their bytes. A batch that does not fit its hash has the code DAMAGED;
 * rows that do not read at all: that code, `e` filled, nothing in `out`. */
int due_read(struct store *s, const struct effect_due *want, struct due *out, struct err *e);

#endif

/* The bytes of held messages: whether a filter fits them, a page of them, their copies. */
#ifndef BROKER_HELDREAD_H
#define BROKER_HELDREAD_H

#include "broker/slicer.h"

/* Filtering by bytes. `code`: what kept a message from being looked at. All zero but src and s.group: new; slicer_stop(&x.s) ends it. */
struct fitting { const struct log_source *src; struct slicer s; int code; };

/* What is damaged or gone does not fit; whether the rest does is not known when x->code says so. `user`: a struct fitting. */
bool fits(void *user, uint32_t partition, uint64_t offset, const struct wire_held_filter *f);

/* Which places of `m` fit its filter, and copies of those that want one. What does not read as a message does not fit; m->code: what kept it from being looked at now. */
void log_match(const struct log_source *src, struct match *m);
/* Fills in the bytes of held messages that are to be copied. c->code: what kept them from being read now. */
void log_copy(const struct log_source *src, struct copies *c);
/* A page of dead letters, into the reply of `op`. */
void held_fill(const struct log_source *src, struct op *op);

#endif

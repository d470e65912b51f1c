/* Reading the logs: what readers do, without their threads. The tail cache first, then the store.
 *
 * Everything that comes from the store is checked (row chain, header, batch hash) and refused as DAMAGED when it does not fit.
 */
#ifndef BROKER_LOGREAD_H
#define BROKER_LOGREAD_H

#include "broker/tail.h"

struct log_source { struct store *store; struct tail *tail; };

/* Read-ahead for a queue group. `out->records` is in `records`. A store that fails otherwise than by damage: that code, `e` filled. */
int log_load(const struct log_source *src, const struct effect_load *load, struct loaded *out, struct buf *records, struct err *e);

/* Which places of `m` fit its filter. What does not read as a message does not fit; m->code: what kept it from being looked at now. */
void log_match(const struct log_source *src, struct match *m);

/* The next messages of a partition that fit, at most p->messages_max, looking at a bounded number. What does not read is skipped over, alone: a
 * pick that says that something is lost has no messages. */
void log_pick(const struct log_source *src, struct pick *p);
/* Fills in the bytes of held messages that are to be copied. c->code: what kept them from being read now. */
void log_copy(const struct log_source *src, struct copies *c);

/* What a granted message turned out to be unreadable as. */
struct log_unreadable { uint32_t group, partition; uint64_t offset, token; int code; struct err error; };
typedef void log_unreadable_fn(void *user, const struct log_unreadable *u);

/* Fills in the bytes that op->read asks for. Records that cannot be read are taken out of their delivery and reported, with DAMAGED, GAP
 * (the partition is gone), or what kept them from being read now: NO_MEMORY, STORE_FAILED. */
void log_fill(const struct log_source *src, struct op *op, log_unreadable_fn *unreadable, void *user);

#endif

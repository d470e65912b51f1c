/* Reading the logs: what readers do, without their threads. The tail cache first, then the store.
 *
 * Everything that comes from the store is checked (logwalk.h) and refused as DAMAGED when it does not fit.
 */
#ifndef BROKER_LOGREAD_H
#define BROKER_LOGREAD_H

#include "broker/deliveryread.h"

/* Read-ahead for a queue group. `out->records` is in `records`. A store that fails otherwise than by damage: that code, `e` filled. */
int log_load(const struct log_source *src, const struct effect_load *load, struct loaded *out, struct buf *records, struct err *e);

/* The first offset in [low, high] whose message was appended at or after a time; high if none was. Errors: those of reading the log. */
int log_offset_at(const struct log_source *src, uint32_t partition, uint64_t low, uint64_t high, uint64_t time_ms, uint64_t *offset,
                  struct err *e);

/* Fills in the bytes that op->read asks for. Records that cannot be read are taken out of their delivery and reported, with DAMAGED, GAP
 * (the partition is gone), or what kept them from being read now: NO_MEMORY, STORE_FAILED. */
void log_fill(const struct log_source *src, struct op *op, log_unreadable_fn *unreadable, void *user);

#endif

/* The bytes of messages that are handed out by ids: to receivers with the state rows of their keys, or as a page of dead letters. */
#ifndef BROKER_DELIVERYREAD_H
#define BROKER_DELIVERYREAD_H

#include "broker/logwalk.h"

/* What a granted message turned out to be unreadable as. */
struct log_unreadable { uint32_t group, partition; uint64_t offset, token; int code; struct err error; };
typedef void log_unreadable_fn(void *user, const struct log_unreadable *u);

/* Fills one delivery, in the order in which its messages were granted, behind what is in `out`. With `unreadable`, what does not read is
 * taken out and reported; else it stays, marked as damaged. */
void delivery_fill(const struct log_source *src, struct wire_delivery *d, struct buf *out, log_unreadable_fn *unreadable, void *user);
/* All deliveries of a receive, into op->payload; and where it asks for them the state rows. */
void receive_fill(const struct log_source *src, struct op *op, struct wire_receive_reply *r, log_unreadable_fn *unreadable, void *user);

#endif

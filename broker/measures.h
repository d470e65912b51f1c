/* What /metrics says of the broker. Names and help come from the tables that define the things themselves. */
#ifndef BROKER_MEASURES_H
#define BROKER_MEASURES_H

#include "broker/config.h"
#include "broker/loop.h"

void measures_limits(const struct config *c, struct buf *out);
void measures_loop(const struct loop_status *s, struct buf *out);
void measures_wire(const struct wire_stats *s, struct buf *out);

#endif

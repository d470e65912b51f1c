/* Picking messages of the log for a replay. */
#ifndef BROKER_PICKREAD_H
#define BROKER_PICKREAD_H

#include "broker/logwalk.h"

/* The next messages of a partition that fit, at most p->messages_max, looking at a bounded number. What does not read is skipped over, alone: a
 * pick that says that something is lost has no messages. */
void log_pick(const struct log_source *src, struct pick *p);

#endif

/*
 * How far groups are behind: as the broker publishes it, or, where that is silent, asked of it, in a thread of its own, one question after
 * the other. heard.h says which.
 */
#ifndef WORKERD_GAUGE_H
#define WORKERD_GAUGE_H

#include <stdint.h>

#include "base/err.h"
#include "base/inbox.h"
#include "workerd/client.h"
#include "workerd/config.h"

struct gauge;

/* Starts the thread. All are lent for the gauge's life; questions go over the client's session. Returns NULL, with a
   text, if there is no memory for a thread. */
struct gauge *gauge_new(struct client *client, const struct config *config, struct inbox *inbox,
                        struct err *e);

/* The answer, a struct lagged, comes to the inbox. Any thread. */
void gauge_ask(struct gauge *g, uint32_t handler);

/* Every question is answered then. NULL is good. */
void gauge_free(struct gauge *g);

#endif

/*
 * Says to the broker once a second, and at once when something changed, who this daemon is and what it runs; and brings the loop what people asked
 * of it meanwhile.
 *
 *     loop --- registry_publish ---> [ a copy of the figures ] ---> its thread --- worker_report ---> broker
 *     loop <--------- struct command in the inbox ----------------- its thread <--- commands --------
 *
 * A command is brought once. It is confirmed by the first report whose figures say that the loop took it, and until then the broker
 * goes on naming it.
 */
#ifndef WORKERD_REGISTRY_H
#define WORKERD_REGISTRY_H

#include "base/err.h"
#include "base/inbox.h"
#include "workerd/client.h"
#include "workerd/config.h"
#include "workerd/figures.h"

struct registry;

/* Starts the thread, which reports from the first figures on. All are lent for its life; `inbox` gets commands. NULL, with a text: no memory
   for a thread. */
struct registry *registry_start(const struct config *config, struct client *client, struct inbox *inbox,
                                struct err *e);

/* Copies the figures. The loop's thread. */
void registry_publish(struct registry *r, const struct figures *f);

/* Tells the broker, if it was reached, that we leave, and ends the thread: it takes 3 s at most. After the loop has ended and the source was
   stopped, before client_free.
   NULL is fine. */
void registry_stop(struct registry *r);

#endif

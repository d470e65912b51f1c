/*
 * The order system: what its services share. README.md beside this file tells what it is and how to run it.
 *
 * An order is a sequence of events on the topic `orders`, under the order's id as key, so each service sees the events of one order
 * in their order, however many copies of the service run:
 *
 *     placed QUANTITY PRICE      price of one, in cents
 *     changed QUANTITY
 *     confirmed
 */
#ifndef ORDERS_H
#define ORDERS_H

#include <sluice/sluice.h>

#define ORDERS "orders"

/* An order as a service remembers it: the group's state of its key. */
struct order { unsigned long quantity, price; };
enum event_kind { EVENT_PLACED, EVENT_CHANGED, EVENT_CONFIRMED };
struct event { enum event_kind kind; unsigned long quantity, price; };

enum { WHY_SIZE = 128 };

/* What one event means for a service. `before` and `after` are the order without and with the event. Outputs go into `u`, which also
 * acknowledges the event and remembers the order: all of it happens, or nothing. 0, or not, with `why`: nothing happens, and the event
 * counts as failed. It may be called again for an event whose unit did not come through. */
typedef int order_fn(struct sluice_unit *u, const struct sluice_delivery *d, const struct event *event,
                     const struct order *before, const struct order *after, char why[WHY_SIZE]);

/* Reads a quantity. -1: not a number. */
typedef int quantity_fn(const char *text, unsigned long *out);
int quantity_read(const char *text, unsigned long *out);

/* Publishes `value` under `key` with the unit. */
int order_publish(struct sluice_unit *u, const char *topic, struct sluice_bytes key, const char *value, char why[WHY_SIZE]);

/* Works on the events for the group of this name until SIGINT or SIGTERM. Returns the exit status. */
int order_service(const char *group, quantity_fn *quantity, order_fn *handle);

#endif

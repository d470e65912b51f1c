/*
 * Inventory: what an event takes from the stock, or gives back, goes to the topic `stock`, in the same commit that remembers how
 * much of the order is reserved. So the movements of an order always add up to its quantity.
 */
#include <stdio.h>

#include "orders.h"

static int reserve(struct sluice_unit *u, const struct sluice_delivery *d, const struct event *event,
                   const struct order *before, const struct order *after, char why[WHY_SIZE])
{
    (void)event;
    char movement[32];
    if (after->quantity == before->quantity)
        return 0;
    snprintf(movement, sizeof movement, "%ld", (long)before->quantity - (long)after->quantity);
    return order_publish(u, "stock", d->key, movement, why);
}

int main(void) { return order_service("inventory", quantity_read, reserve); }

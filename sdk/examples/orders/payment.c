/*
 * Payment: when an order is confirmed, its price goes to the topic `ledger`, in the same commit that acknowledges the event: each
 * order is charged once, whatever is killed meanwhile.
 *
 *     orders-payment [--old]
 *
 * --old is the version that was written when nobody ordered a hundred of anything. Its group parks the whole key (`--park key`): an
 * order of which a change could not be read must not be confirmed with what it was before.
 */
#include <stdio.h>
#include <string.h>

#include "orders.h"

static int two_digits(const char *text, unsigned long *out) { return strlen(text) > 2 ? -1 : quantity_read(text, out); }

static int charge(struct sluice_unit *u, const struct sluice_delivery *d, const struct event *event,
                  const struct order *before, const struct order *after, char why[WHY_SIZE])
{
    (void)before;
    char amount[32];
    if (event->kind != EVENT_CONFIRMED)
        return 0;
    snprintf(amount, sizeof amount, "%lu", after->quantity * after->price);
    return order_publish(u, "ledger", d->key, amount, why);
}

int main(int argc, char **argv)
{
    bool old = argc == 2 && strcmp(argv[1], "--old") == 0;
    if (argc > 1 && !old) {
        fprintf(stderr, "usage: %s [--old]\n", argv[0]);
        return 2;
    }
    return order_service("payment", old ? two_digits : quantity_read, charge);
}

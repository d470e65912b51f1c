/*
 * Places orders: three events each, in one transaction, so that nobody ever sees half an order. Each event has a message id, so
 * that placing the same orders again, because one does not know how it ended, places nothing twice.
 *
 *     orders-place FIRST LAST
 *
 * Orders whose number divides by 20 are changed to a three-digit quantity.
 */
#include <stdio.h>
#include <stdlib.h>

#include "orders.h"

static int event(struct sluice_unit *u, unsigned long order, const char *name, const char *value, struct sluice_error *err)
{
    char key[24], id[48];
    snprintf(key, sizeof key, "order-%lu", order);
    snprintf(id, sizeof id, "%s-%s", key, name);
    return sluice_unit_publish(u, &(struct sluice_message){.size = sizeof(struct sluice_message), .topic = ORDERS, .key = sluice_str(key),
                                                           .value = sluice_str(value), .message_id = id}, err);
}

static int place(struct sluice *s, unsigned long order, struct sluice_error *err)
{
    struct sluice_unit *u;
    char placed[64], changed[64];
    snprintf(placed, sizeof placed, "placed %lu %lu", 1 + order % 9, 100 + order);
    snprintf(changed, sizeof changed, "changed %lu", order % 20 == 0 ? 100 + order % 7 : 1 + order % 5);
    int code = sluice_unit_begin(s, &u, err);
    if (code != 0)
        return code;
    if ((code = event(u, order, "placed", placed, err)) == 0 && (code = event(u, order, "changed", changed, err)) == 0 &&
        (code = event(u, order, "confirmed", "confirmed", err)) == 0)
        return sluice_unit_commit(u, NULL, err);
    sluice_unit_free(u);
    return code;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s FIRST LAST\n", argv[0]);
        return 2;
    }
    struct sluice *s;
    struct sluice_error err;
    unsigned long first = strtoul(argv[1], NULL, 10), last = strtoul(argv[2], NULL, 10);
    int code = sluice_open(&s, NULL, &err);
    if (code == 0) {
        for (unsigned long order = first; code == 0 && order <= last; order++)
            code = place(s, order, &err);
        sluice_close(s, 5000, NULL, NULL);
    }
    if (code != 0)
        fprintf(stderr, "%s\n", err.text);
    return code != 0;
}

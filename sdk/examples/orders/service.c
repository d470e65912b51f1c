/*
 * A service: receives events of its group, one unit for each. What is read, remembered and acknowledged here is the same for all.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orders.h"

static volatile sig_atomic_t stopping;

static void stop(int signal)
{
    (void)signal;
    stopping = 1;
}

/* ---- events and orders as text ---- */

int quantity_read(const char *text, unsigned long *out)
{
    char *end;
    *out = strtoul(text, &end, 10);
    return end == text || *end != '\0' ? -1 : 0;
}

static int text_of(struct sluice_bytes b, char *out, size_t size)
{
    if (b.size >= size)
        return -1;
    if (b.size > 0)
        memcpy(out, b.data, b.size);
    out[b.size] = '\0';
    return 0;
}

static int event_read(struct sluice_bytes value, quantity_fn *quantity, struct event *out, char why[WHY_SIZE])
{
    char text[64], name[16] = "", number[16] = "";
    *out = (struct event){0};
    int words = text_of(value, text, sizeof text) == 0 ? sscanf(text, "%15s %15s %lu", name, number, &out->price) : 0;
    if (words >= 2 && quantity(number, &out->quantity) != 0) {
        snprintf(why, WHY_SIZE, "'%s' is no quantity", number);
        return -1;
    }
    if (words == 3 && strcmp(name, "placed") == 0)
        out->kind = EVENT_PLACED;
    else if (words == 2 && strcmp(name, "changed") == 0)
        out->kind = EVENT_CHANGED;
    else if (words == 1 && strcmp(name, "confirmed") == 0)
        out->kind = EVENT_CONFIRMED;
    else {
        snprintf(why, WHY_SIZE, "not an event of an order: '%.*s'", (int)value.size, value.data != NULL ? (const char *)value.data : "");
        return -1;
    }
    return 0;
}

static struct order order_with(struct order o, const struct event *e)
{
    if (e->kind == EVENT_PLACED)
        o.price = e->price;
    if (e->kind != EVENT_CONFIRMED)
        o.quantity = e->quantity;
    return o;
}

int order_publish(struct sluice_unit *u, const char *topic, struct sluice_bytes key, const char *value, char why[WHY_SIZE])
{
    const struct sluice_message m = {.size = sizeof m, .topic = topic, .key = key, .value = sluice_str(value)};
    struct sluice_error err;
    if (sluice_unit_publish(u, &m, &err) == 0)
        return 0;
    snprintf(why, WHY_SIZE, "%.*s", WHY_SIZE - 1, err.text);
    return -1;
}

/* ---- one event ---- */

/* Fills the unit: what the service does, the order as it is now, the acknowledgement. */
static int fill(struct sluice_unit *u, struct sluice_batch *b, size_t i, const char *group, quantity_fn *quantity,
                order_fn *handle, char why[WHY_SIZE])
{
    const struct sluice_delivery *d = sluice_batch_message(b, i);
    struct order before = {0}; /* the state of a message's key comes with the message */
    struct event event;
    char text[64];
    if (text_of(d->state, text, sizeof text) == 0)
        sscanf(text, "%lu %lu", &before.quantity, &before.price);
    if (event_read(d->value, quantity, &event, why) != 0)
        return -1;
    struct order after = order_with(before, &event);
    if (handle(u, d, &event, &before, &after, why) != 0)
        return -1;
    struct sluice_error err;
    snprintf(text, sizeof text, "%lu %lu", after.quantity, after.price);
    if (sluice_unit_state_put(u, ORDERS, group, d->key, d->state_version, sluice_str(text), &err) == 0 &&
        sluice_unit_ack(u, b, i, &err) == 0)
        return 0;
    snprintf(why, WHY_SIZE, "%.*s", WHY_SIZE - 1, err.text);
    return -1;
}

/* 0, or an error that ends the service. */
static int work(struct sluice *s, struct sluice_batch *b, size_t i, const char *group, quantity_fn *quantity, order_fn *handle,
                struct sluice_error *err)
{
    struct sluice_unit *u;
    char why[WHY_SIZE] = "";
    int code = sluice_unit_begin(s, &u, err);
    if (code != 0)
        return code;
    if (fill(u, b, i, group, quantity, handle, why) == 0) {
        code = sluice_unit_commit(u, NULL, err);
    } else {
        sluice_unit_free(u);
        fprintf(stderr, "%s: %s\n", group, why);
        code = sluice_nack(b, i, SLUICE_BACKOFF, why, err);
    }
    /* Of these nothing happened. The event comes again, here or to another copy of the service. */
    return code == SLUICE_LEASE_LOST || code == SLUICE_CONFLICT ? 0 : code;
}

int order_service(const char *group, quantity_fn *quantity, order_fn *handle)
{
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    struct sluice *s;
    struct sluice_error err;
    const struct sluice_receive_options options = {.size = sizeof options, .max_messages = 16, .wait_ms = 500};
    int code = sluice_open(&s, NULL, &err);
    if (code != 0) {
        fprintf(stderr, "%s: %s\n", group, err.text);
        return 1;
    }
    while (code == 0 && !stopping) {
        struct sluice_batch *b;
        code = sluice_receive(s, ORDERS, group, &options, &b, &err);
        if (code != 0)
            break;
        for (size_t i = 0; code == 0 && !stopping && i < sluice_batch_count(b); i++)
            code = work(s, b, i, group, quantity, handle, &err);
        sluice_batch_free(b); /* gives back what was not settled */
    }
    if (code != 0)
        fprintf(stderr, "%s: %s\n", group, err.text);
    return sluice_close(s, 5000, NULL, NULL) == 0 && code == 0 ? 0 : 1;
}

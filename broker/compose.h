/* A whole broker from a configuration: store, loop, api, wire, http, put together and taken apart in the right order.
 *
 *     http    answers from the beginning: /livez at once, /readyz when the rest is there
 *     store   opened, or given
 *     loop    engine, sync thread, readers
 *     wire    listens last
 *
 * Thread: compose_start and compose_stop by one; the rest any.
 */
#ifndef BROKER_COMPOSE_H
#define BROKER_COMPOSE_H

#include "broker/config.h"
#include "store/store.h"

struct compose;

struct compose_options {
    const struct config *config; /* checked; outlives the broker */
    struct store
        *store; /* NULL: RocksDB in config->data. Given: the broker closes it, also when it does not start */
    /* The store failed: nothing that was not answered will be. Called once, in any thread; the process should end. */
    void (*fatal)(void *user, const struct err *why);
    void *user;
};

/* OK: it serves. Errors: those of the store (STORE_LOCKED, FORMAT_NEWER, DAMAGED, DISK_FULL, STORE_FAILED), UNREACHABLE and CONFIG
 * for an address. Nothing is left behind then. */
int compose_start(struct compose **out, const struct compose_options *o, struct err *e);

/* No new connections; what waits is answered, settles go through until limits.drain_ms; synced; closed. NULL is fine. */
void compose_stop(struct compose *c);

/* Where it listens, ports as they really are. compose_http: "" for none. */
const struct wire *compose_wire(const struct compose *c);
const char *compose_http(const struct compose *c);

#endif

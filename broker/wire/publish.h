/* The publisher: hints and lag, on PUB, for whoever listens. A subscriber that misses all of it loses time, never a message.
 *
 * One thread, so that neither the loop nor nng waits for subscribers. The lag is asked for page by page from the engine, only
 * while there are subscribers, and only rows that changed since they were last published go out; when a subscriber came, and once
 * a minute, all do.
 */
#ifndef WIRE_PUBLISH_H
#define WIRE_PUBLISH_H

#include "api/api.h"
#include "wire/listen.h"
#include "wire/stats.h"

struct publisher;

struct publisher_options {
    struct api *api;
    struct wire_counters *counters;
    const char *const *urls;
    size_t urls_n;
    const struct wire_tls *tls; /* borrowed for the call */
    uint64_t lag_ms;
};

/* OK with the socket and the thread there; nothing listens. INTERNAL. */
int publisher_open(struct publisher **out, const struct publisher_options *o, struct err *e);
/* No operation may be on its way in the loop any more. */
void publisher_close(struct publisher *p);

struct listeners *publisher_listeners(struct publisher *p);
uint32_t publisher_subscribers(struct publisher *p);

/* Any thread; drops the hint when the publisher is behind. */
void publisher_hint(struct publisher *p, uint32_t group, const char *topic, const char *name);

#endif

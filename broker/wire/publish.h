/* The publisher: hints and lag, on PUB, for whoever listens. A subscriber that misses all of it loses time, never a message.
 *
 * One thread, so that the loop does not wait for subscribers. A subscriber that does not read loses what comes while 16 wait for it. The lag is
 * asked for page by page from the engine, only while there are subscribers, of groups that changed since, and only rows that say something else
 * than when they were last published go out; when a subscriber came, and once a minute, all do. So a group that rests costs nothing.
 */
#ifndef WIRE_PUBLISH_H
#define WIRE_PUBLISH_H

#include "api/api.h"
#include "wire/bounds.h"
#include "wire/listen.h"
#include "wire/stats.h"

struct publisher;

struct publisher_options {
    struct api *api;
    struct wire_counters *counters;
    const struct wire_bounds *bounds; /* outlives it */
};

/* OK with the thread there. INTERNAL. */
int publisher_open(struct publisher **out, const struct publisher_options *o, struct err *e);
/* What listener_new needs for an address of the publisher. */
struct listener_options publisher_listening(struct publisher *p);
/* An address within the process. INTERNAL, UNREACHABLE. */
int publisher_listen_local(struct publisher *p, const char *url, struct err *e);
/* Its listeners are closed, and no operation is on its way in the loop any more. */
void publisher_close(struct publisher *p);

uint32_t publisher_subscribers(struct publisher *p);

/* Any thread; drops the hint when the publisher is behind. */
void publisher_hint(struct publisher *p, uint32_t group, const char *topic, const char *name);

#endif

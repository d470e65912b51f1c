/* The HTTP side of the broker: /livez, /readyz and /metrics, over web/.
 *
 *     /livez     200 while the process runs
 *     /readyz    200, or 503 with the reason: starting, stopping, read only
 *     /metrics   Prometheus' text format
 *
 * A request for /metrics is laid aside while the engine answers, page by
 * page, what each group's lag is.
 */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include "api/api.h"

struct http_bounds {
#define X(name, unit, def, min, max, help) uint64_t name;
#include "http/limits.def"
#undef X
};
extern const struct http_bounds http_bounds_default;

enum { HTTP_REASON_MAX = 128 };

struct http_options {
    const char *address;              /* "127.0.0.1:7480", "[::1]:0", "localhost:7480" */
    const struct http_bounds *bounds; /* outlives the server */
    /* Called in the server's thread; they must not wait. */
    bool (*ready)(void *user, char reason[HTTP_REASON_MAX]);
    void (*metrics)(void *user, struct buf *out); /* everything but the lag of groups */
    void *user;
};

struct http;

/* OK: it serves. CONFIG or UNREACHABLE naming the address. */
int http_start(struct http **out, const struct http_options *o, struct err *e);
/* From now on /metrics shows the lag of groups; NULL: no more. `api` outlives the server, or the call with NULL and http_stop. */
void http_use(struct http *h, struct api *api);
/* Operations that it asked for must be answered still. NULL is fine. */
void http_stop(struct http *h);

/* "127.0.0.1:7480", with the port it really has. */
const char *http_address(const struct http *h);

#endif

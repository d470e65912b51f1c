/* An HTTP server for what people and machines look at: a table of paths, each with who answers it, by libmicrohttpd.
 *
 * One thread serves all connections and waits for nothing: who cannot answer at once lays the request aside, and is called again when it is
 * resumed. Only GET and HEAD, and no bodies.
 */
#ifndef WEB_WEB_H
#define WEB_WEB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct web_request;

struct web_route {
    const char *path;
    /* In the server's thread; it must not wait. It answers by one web_reply, or lays the request aside. */
    void (*get)(struct web_request *r);
    /* NULL: nothing to do. The request is over; its state, if there is one, is the callee's. In the server's thread. */
    void (*end)(void *state);
};

struct web_options {
    const char *address; /* "127.0.0.1:7480", "[::1]:0", "localhost:7480" */
    const struct web_route *routes;
    size_t routes_n;
    void *user;
    uint64_t connections_max;      /* one more waits to be accepted */
    uint64_t idle_ms;              /* a connection that does nothing for so long is closed; whole seconds */
    uint64_t connection_bytes_max; /* the request's head included */
};

struct web;

/* OK: it serves. CONFIG or UNREACHABLE naming the address. The routes outlive it. */
int web_start(struct web **out, const struct web_options *o, struct err *e);
/* No request may be laid aside. NULL is fine. */
void web_stop(struct web *w);
/* "127.0.0.1:7480", with the port it really has. */
const char *web_address(const struct web *w);

void *web_user(struct web_request *r);
/* What `get` keeps of a request, NULL at first. */
void **web_state(struct web_request *r);

/* The bytes are copied. */
void web_reply(struct web_request *r, unsigned status, const char *type, const void *body, size_t size);
void web_text(struct web_request *r, unsigned status, const char *text);
/* `text` is one of ours: it holds nothing that JSON escapes. */
void web_error(struct web_request *r, unsigned status, const char *text);

/* `get` returns without an answer, and is called again after web_resume, which any thread may call once. */
void web_lay_aside(struct web_request *r);
void web_resume(struct web_request *r);

#endif

/* The server: connections, routes, and requests that were laid aside. */
#include <assert.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "web/listen.h"
#include "web/path.h"
#include "web/web.h"

enum { PATH_MAX_BYTES = 1024 };

struct web {
    const struct web_route *routes;
    size_t routes_n;
    void *user;
    struct MHD_Daemon *daemon;
    char address[WEB_ADDRESS_MAX];
};

/* From the end of its head to the end of its reply. */
struct web_request {
    struct web *web;
    struct MHD_Connection *connection;
    const struct web_route *route;
    void *state;
    enum MHD_Result queued; /* its reply; MHD_YES too while it is laid aside */
};

/* ---------------------------------------------------------------- replies */

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, const char *type, const void *body,
                             size_t size)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(size, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
    if (r == NULL)
        return MHD_NO;
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result queued = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return queued;
}

static enum MHD_Result reply_error(struct MHD_Connection *c, unsigned status, const char *text)
{
    char body[512];
    int n = snprintf(body, sizeof body, "{\"error\":{\"status\":%u,\"text\":\"%s\"}}\n", status, text);
    assert(n > 0 && (size_t)n < sizeof body);
    return reply(c, status, "application/json", body, (size_t)n);
}

void web_reply(struct web_request *r, unsigned status, const char *type, const void *body, size_t size)
{
    r->queued = reply(r->connection, status, type, body, size);
}

void web_text(struct web_request *r, unsigned status, const char *text)
{
    web_reply(r, status, "text/plain; charset=utf-8", text, strlen(text));
}

void web_error(struct web_request *r, unsigned status, const char *text)
{
    r->queued = reply_error(r->connection, status, text);
}

/* "no such path: there are /livez, /readyz and /metrics" */
static enum MHD_Result reply_not_found(const struct web *w, struct MHD_Connection *c)
{
    char text[256] = "no such path: there are ";
    size_t n = strlen(text);
    for (size_t i = 0; i < w->routes_n && n < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s",
                              i == 0                ? ""
                              : i + 1 < w->routes_n ? ", "
                                                    : " and ",
                              w->routes[i].path);
    return reply_error(c, MHD_HTTP_NOT_FOUND, text);
}

/* ---------------------------------------------------------------- requests */

void *web_user(struct web_request *r)
{
    return r->web->user;
}

void **web_state(struct web_request *r)
{
    return &r->state;
}

void web_lay_aside(struct web_request *r)
{
    r->queued = MHD_YES;
    MHD_suspend_connection(r->connection);
}

void web_resume(struct web_request *r)
{
    MHD_resume_connection(r->connection);
}

/* MHD_NO, for one that was neither answered nor laid aside, closes the connection. A resumed one is taken up by this thread, after this call. */
static enum MHD_Result get(struct web_request *r)
{
    r->queued = MHD_NO;
    r->route->get(r);
    return r->queued;
}

static bool has_body(struct MHD_Connection *c)
{
    const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL ||
           (length != NULL && strcmp(length, "0") != 0);
}

static enum MHD_Result on_whole_request(struct web *w, struct MHD_Connection *c, const char *url,
                                        void **state)
{
    char path[PATH_MAX_BYTES];
    *state = NULL;
    if (!path_decode(url, path, sizeof path))
        return reply_error(c, MHD_HTTP_BAD_REQUEST, "the path is not well formed");
    for (size_t i = 0; i < w->routes_n; i++) {
        if (strcmp(path, w->routes[i].path) != 0)
            continue;
        struct web_request *r = mem_zalloc(sizeof *r);
        *r = (struct web_request){.web = w, .connection = c, .route = &w->routes[i]};
        *state = r;
        return get(r);
    }
    return reply_not_found(w, c);
}

/* The state of a request whose head has been seen and not yet its end: answered earlier, its connection would have to be closed. */
static char head_only;

/* Called when the head is there, when the rest is, and when a request goes on. What has a body is refused before it comes. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *body, size_t *body_size, void **state)
{
    (void)version;
    (void)body;
    (void)body_size;
    if (*state == &head_only)
        return on_whole_request(arg, c, url, state);
    if (*state != NULL)
        return get(*state);
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return reply_error(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD");
    if (has_body(c))
        return reply_error(c, MHD_HTTP_CONTENT_TOO_LARGE, "a request here has no body");
    *state = &head_only;
    return MHD_YES;
}

static void on_end(void *arg, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why)
{
    (void)arg;
    (void)c;
    (void)why;
    if (*state != NULL && *state != &head_only) {
        struct web_request *r = *state;
        if (r->route->end != NULL && r->state != NULL)
            r->route->end(r->state);
        mem_free(r);
    }
    *state = NULL;
}

/* Left as it came: path_decode knows %00 from the end of the string. */
static size_t unescape_nothing(void *arg, struct MHD_Connection *c, char *text)
{
    (void)arg;
    (void)c;
    return strlen(text);
}

static void on_log(void *arg, const char *fmt, va_list args) PRINTF_LIKE(2, 0);
static void on_log(void *arg, const char *fmt, va_list args)
{
    (void)arg;
    char text[256];
    vsnprintf(text, sizeof text, fmt, args);
    log_debug("http text=%s", LOG_STR(text));
}

/* ---------------------------------------------------------------- a life */

static struct MHD_Daemon *serve(struct web *w, const struct web_options *o, int fd)
{
    const struct MHD_OptionItem options[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_log, NULL},
        {MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)o->connections_max, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)(o->idle_ms / 1000), NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)o->connection_bytes_max, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_end, w},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)unescape_nothing, w},
        {MHD_OPTION_END, 0, NULL},
    };
    return MHD_start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                                MHD_USE_ERROR_LOG,
                            0, NULL, NULL, on_request, w, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
}

int web_start(struct web **out, const struct web_options *o, struct err *e)
{
    struct web *w = mem_zalloc(sizeof *w);
    *w = (struct web){.routes = o->routes, .routes_n = o->routes_n, .user = o->user};
    int fd = -1;
    int code = web_listen(o->address, &fd, w->address, e);
    if (code == E_OK && (w->daemon = serve(w, o, fd)) == NULL) {
        close(fd);
        code = err_set(e, E_INTERNAL, "http %s: the server does not start", o->address);
    }
    if (code == E_OK)
        *out = w;
    else
        web_stop(w);
    return code;
}

void web_stop(struct web *w)
{
    if (w == NULL)
        return;
    if (w->daemon != NULL)
        MHD_stop_daemon(w->daemon);
    mem_free(w);
}

const char *web_address(const struct web *w)
{
    return w->address;
}

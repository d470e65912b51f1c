/* The server: connections, routes, and requests for /metrics that wait for the engine. */
#include <assert.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "http/http.h"
#include "http/lag.h"
#include "http/listen.h"
#include "http/path.h"
#include "schemas/errors.h"

const struct http_bounds http_bounds_default = {
#define X(name, unit, def, min, max, help) .name = def,
#include "http/limits.def"
#undef X
};

enum { PATH_MAX_BYTES = 1024 };

struct http {
    const struct http_bounds *bounds;
    bool (*ready)(void *user, char reason[HTTP_REASON_MAX]);
    void (*metrics)(void *user, struct buf *out);
    void *user;
    struct MHD_Daemon *daemon;
    char address[HTTP_ADDRESS_MAX];
    atomic_uint scrapes; /* from their request to their end */

    pthread_mutex_t lock;
    pthread_cond_t idle;
    struct api *api;    /* under lock */
    unsigned suspended; /* scrapes that wait for the engine; under lock */
};

/* A request for /metrics, from its head to the end of its reply. */
struct scrape {
    struct http *http;
    struct MHD_Connection *connection;
    struct lag_walk walk;
    struct lag_metrics lag;
    bool walking;
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

static enum MHD_Result reply_text(struct MHD_Connection *c, unsigned status, const char *text)
{
    return reply(c, status, "text/plain; charset=utf-8", text, strlen(text));
}

/* `text` is one of ours: it holds nothing that JSON escapes. */
static enum MHD_Result reply_error(struct MHD_Connection *c, unsigned status, const char *text)
{
    char body[256];
    int n = snprintf(body, sizeof body, "{\"error\":{\"status\":%u,\"text\":\"%s\"}}\n", status, text);
    return reply(c, status, "application/json", body, (size_t)n);
}

/* ---------------------------------------------------------------- routes that answer at once */

static enum MHD_Result get_livez(struct http *h, struct MHD_Connection *c, void **state)
{
    (void)h;
    (void)state;
    return reply_text(c, MHD_HTTP_OK, "ok\n");
}

static enum MHD_Result get_readyz(struct http *h, struct MHD_Connection *c, void **state)
{
    (void)state;
    char reason[HTTP_REASON_MAX], text[HTTP_REASON_MAX + 16];
    if (h->ready(h->user, reason))
        return reply_text(c, MHD_HTTP_OK, "ready\n");
    snprintf(text, sizeof text, "not ready: %s\n", reason);
    return reply_text(c, MHD_HTTP_SERVICE_UNAVAILABLE, text);
}

/* ---------------------------------------------------------------- metrics */

static void resume(struct scrape *s)
{
    struct http *h = s->http;
    MHD_resume_connection(s->connection);
    pthread_mutex_lock(&h->lock);
    if (--h->suspended == 0)
        pthread_cond_broadcast(&h->idle);
    pthread_mutex_unlock(&h->lock);
}

/* Any thread. The walk is the scrape's again once it is resumed. */
static void page_came(struct lag_walk *w)
{
    struct scrape *s = container_of(w, struct scrape, walk);
    const struct wire_reply *r = &w->op.reply;
    bool room = r->code == E_OK && r->body == BODY_LAG &&
                lag_metrics_add(&s->lag, &r->lag, s->http->bounds->http_lag_groups_max);
    if (room && api_lag_more(w))
        api_lag_next(w);
    else
        resume(s);
}

static enum MHD_Result scrape_reply(struct scrape *s)
{
    struct buf out = {0};
    s->http->metrics(s->http->user, &out);
    if (s->walking)
        lag_metrics_put(&s->lag, &out);
    enum MHD_Result queued =
        reply(s->connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", out.data, out.size);
    buf_free(&out);
    return queued;
}

static enum MHD_Result get_metrics(struct http *h, struct MHD_Connection *c, void **state)
{
    if (atomic_fetch_add(&h->scrapes, 1) >= h->bounds->http_scrapes_max) {
        atomic_fetch_sub(&h->scrapes, 1);
        return reply_error(c, MHD_HTTP_SERVICE_UNAVAILABLE, "too many requests for /metrics at once");
    }
    struct scrape *s = mem_zalloc(sizeof *s);
    *state = s;
    s->http = h;
    s->connection = c;
    pthread_mutex_lock(&h->lock);
    struct api *api = h->api;
    h->suspended += api != NULL;
    pthread_mutex_unlock(&h->lock);
    if (api == NULL)
        return scrape_reply(s);
    s->walking = true;
    MHD_suspend_connection(c);
    api_lag_begin(api, &s->walk, page_came);
    api_lag_next(&s->walk);
    return MHD_YES;
}

static void scrape_free(struct scrape *s)
{
    if (s->walking)
        api_lag_end(&s->walk);
    lag_metrics_free(&s->lag);
    atomic_fetch_sub(&s->http->scrapes, 1);
    mem_free(s);
}

/* ---------------------------------------------------------------- the server */

static const struct route {
    const char *path;
    enum MHD_Result (*get)(struct http *h, struct MHD_Connection *c, void **state);
} routes[] = {
    {"/livez", get_livez},
    {"/readyz", get_readyz},
    {"/metrics", get_metrics},
};

static bool has_body(struct MHD_Connection *c)
{
    const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL ||
           (length != NULL && strcmp(length, "0") != 0);
}

static enum MHD_Result on_whole_request(struct http *h, struct MHD_Connection *c, const char *url,
                                        void **state)
{
    char path[PATH_MAX_BYTES];
    *state = NULL;
    if (!path_decode(url, path, sizeof path))
        return reply_error(c, MHD_HTTP_BAD_REQUEST, "the path is not well formed");
    for (size_t i = 0; i < ARRAY_LEN(routes); i++)
        if (strcmp(path, routes[i].path) == 0)
            return routes[i].get(h, c, state);
    return reply_error(c, MHD_HTTP_NOT_FOUND, "no such path: there are /livez, /readyz and /metrics");
}

/* The state of a request whose head has been seen and not yet its end: answered earlier, its connection would have to be closed. */
static char head_only;

/* Called when the head is there, when the rest is, and when a scrape goes on. What has a body is refused before it comes. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *body, size_t *body_size, void **state)
{
    (void)version;
    (void)body;
    (void)body_size;
    if (*state == &head_only)
        return on_whole_request(arg, c, url, state);
    if (*state != NULL)
        return scrape_reply(*state);
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
    if (*state != NULL && *state != &head_only)
        scrape_free(*state);
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

static struct MHD_Daemon *serve(struct http *h, int fd)
{
    const struct MHD_OptionItem options[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_log, NULL},
        {MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)h->bounds->http_connections_max, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)(h->bounds->http_idle_ms / 1000), NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)h->bounds->http_connection_bytes_max, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_end, h},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)unescape_nothing, h},
        {MHD_OPTION_END, 0, NULL},
    };
    return MHD_start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                                MHD_USE_ERROR_LOG,
                            0, NULL, NULL, on_request, h, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
}

int http_start(struct http **out, const struct http_options *o, struct err *e)
{
    struct http *h = mem_zalloc(sizeof *h);
    h->bounds = o->bounds;
    h->ready = o->ready;
    h->metrics = o->metrics;
    h->user = o->user;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->idle, NULL);
    int fd = -1;
    int code = http_listen(o->address, &fd, h->address, e);
    if (code == E_OK && (h->daemon = serve(h, fd)) == NULL) {
        close(fd);
        code = err_set(e, E_INTERNAL, "http %s: the server does not start", o->address);
    }
    if (code == E_OK)
        *out = h;
    else
        http_stop(h);
    return code;
}

void http_use(struct http *h, struct api *api)
{
    pthread_mutex_lock(&h->lock);
    h->api = api;
    pthread_mutex_unlock(&h->lock);
}

void http_stop(struct http *h)
{
    if (h == NULL)
        return;
    pthread_mutex_lock(&h->lock);
    h->api = NULL; /* nothing is laid aside from here on */
    while (h->suspended > 0)
        pthread_cond_wait(&h->idle, &h->lock);
    pthread_mutex_unlock(&h->lock);
    if (h->daemon != NULL)
        MHD_stop_daemon(h->daemon);
    pthread_cond_destroy(&h->idle);
    pthread_mutex_destroy(&h->lock);
    mem_free(h);
}

const char *http_address(const struct http *h)
{
    return h->address;
}

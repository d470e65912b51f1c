/* The broker's paths, and requests for /metrics that wait for the engine. */
#include "http/http.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/mem.h"
#include "http/lag.h"
#include "schemas/errors.h"
#include "web/web.h"

const struct http_bounds http_bounds_default = {
#define X(name, unit, def, min, max, help) .name = def,
#include "http/limits.def"
#undef X
};

enum { STATUS_OK = 200, STATUS_UNAVAILABLE = 503 };

struct http {
    const struct http_bounds *bounds;
    bool (*ready)(void *user, char reason[HTTP_REASON_MAX]);
    void (*metrics)(void *user, struct buf *out);
    void *user;
    struct web *web;
    atomic_uint scrapes; /* from their request to their end */

    pthread_mutex_t lock;
    pthread_cond_t idle;
    struct api *api;    /* under lock */
    unsigned suspended; /* scrapes that wait for the engine; under lock */
};

/* A request for /metrics, from its head to the end of its reply. */
struct scrape {
    struct http *http;
    struct web_request *request;
    struct lag_walk walk;
    struct lag_metrics lag;
    bool walking;
};

/* ---------------------------------------------------------------- paths that answer at once */

static void get_livez(struct web_request *r)
{
    web_text(r, STATUS_OK, "ok\n");
}

static void get_readyz(struct web_request *r)
{
    struct http *h = web_user(r);
    char reason[HTTP_REASON_MAX], text[HTTP_REASON_MAX + 16];
    if (h->ready(h->user, reason)) {
        web_text(r, STATUS_OK, "ready\n");
        return;
    }
    snprintf(text, sizeof text, "not ready: %s\n", reason);
    web_text(r, STATUS_UNAVAILABLE, text);
}

/* ---------------------------------------------------------------- metrics */

static void resume(struct scrape *s)
{
    struct http *h = s->http;
    web_resume(s->request);
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

static void scrape_reply(struct scrape *s)
{
    struct buf out = {0};
    s->http->metrics(s->http->user, &out);
    if (s->walking)
        lag_metrics_put(&s->lag, &out);
    web_reply(s->request, STATUS_OK, "text/plain; version=0.0.4; charset=utf-8", out.data, out.size);
    buf_free(&out);
}

/* Called once more when the engine has answered. */
static void get_metrics(struct web_request *r)
{
    struct http *h = web_user(r);
    if (*web_state(r) != NULL) {
        scrape_reply(*web_state(r));
        return;
    }
    if (atomic_fetch_add(&h->scrapes, 1) >= h->bounds->http_scrapes_max) {
        atomic_fetch_sub(&h->scrapes, 1);
        web_error(r, STATUS_UNAVAILABLE, "too many requests for /metrics at once");
        return;
    }
    struct scrape *s = mem_zalloc(sizeof *s);
    *web_state(r) = s;
    s->http = h;
    s->request = r;
    pthread_mutex_lock(&h->lock);
    struct api *api = h->api;
    h->suspended += api != NULL;
    pthread_mutex_unlock(&h->lock);
    if (api == NULL) {
        scrape_reply(s);
        return;
    }
    s->walking = true;
    web_lay_aside(r);
    api_lag_begin(api, &s->walk, page_came);
    api_lag_next(&s->walk);
}

static void scrape_free(void *state)
{
    struct scrape *s = state;
    if (s->walking)
        api_lag_end(&s->walk);
    lag_metrics_free(&s->lag);
    atomic_fetch_sub(&s->http->scrapes, 1);
    mem_free(s);
}

static const struct web_route routes[] = {
    {"/livez", get_livez, NULL},
    {"/readyz", get_readyz, NULL},
    {"/metrics", get_metrics, scrape_free},
};

/* ---------------------------------------------------------------- a life */

int http_start(struct http **out, const struct http_options *o, struct err *e)
{
    struct http *h = mem_zalloc(sizeof *h);
    h->bounds = o->bounds;
    h->ready = o->ready;
    h->metrics = o->metrics;
    h->user = o->user;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->idle, NULL);
    int code = web_start(&h->web,
                         &(struct web_options){.address = o->address,
                                               .routes = routes,
                                               .routes_n = ARRAY_LEN(routes),
                                               .user = h,
                                               .connections_max = h->bounds->http_connections_max,
                                               .idle_ms = h->bounds->http_idle_ms,
                                               .connection_bytes_max = h->bounds->http_connection_bytes_max},
                         e);
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
    web_stop(h->web);
    pthread_cond_destroy(&h->idle);
    pthread_mutex_destroy(&h->lock);
    mem_free(h);
}

const char *http_address(const struct http *h)
{
    return web_address(h->web);
}

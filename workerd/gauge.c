#include "workerd/gauge.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include <sluice/sluice.h>

#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/source.h"

struct gauge {
    struct client *client;
    const struct config *config;
    struct inbox *inbox;
    struct lagged *answers; /* one per handler */
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* any of the below */
    bool *asked;            /* one per handler */
    bool stopping;
};

/* What the broker says of one group. Why it says nothing is told by the receiver of that handler, who meets the same. */
static bool measure(struct gauge *g, const struct handler_config *h, struct lag *out)
{
    struct session *s = client_hold(g->client);
    if (s == NULL)
        return false;
    struct sluice_lag_list *list = NULL;
    int code = sluice_group_lag(client_sluice(s), h->topic, h->group, &list, NULL);
    bool known = code == 0 && list->count > 0;
    if (known)
        *out = (struct lag){.backlog = list->rows[0].scale_value, .in_flight = list->rows[0].in_flight};
    sluice_lag_free(list);
    client_give_back(g->client, s);
    return known;
}

/* Under lock, which is released meanwhile. */
static void answer(struct gauge *g, uint32_t handler)
{
    struct lagged *a = &g->answers[handler];
    g->asked[handler] = false;
    pthread_mutex_unlock(&g->lock);
    a->known = measure(g, &g->config->handlers[handler], &a->lag);
    inbox_push(g->inbox, &a->event.node, 0);
    pthread_mutex_lock(&g->lock);
}

static void *work(void *arg)
{
    struct gauge *g = arg;
    pthread_mutex_lock(&g->lock);
    for (;;) {
        bool any = false;
        for (uint32_t i = 0; i < g->config->handlers_n; i++) {
            if (!g->asked[i])
                continue;
            any = true;
            answer(g, i);
        }
        if (!any && g->stopping)
            break;
        if (!any)
            pthread_cond_wait(&g->changed, &g->lock);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

void gauge_ask(struct gauge *g, uint32_t handler)
{
    pthread_mutex_lock(&g->lock);
    g->asked[handler] = true;
    pthread_cond_signal(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static void dispose(struct gauge *g)
{
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    mem_free(g->answers);
    mem_free(g->asked);
    mem_free(g);
}

struct gauge *gauge_new(struct client *client, const struct config *config, struct inbox *inbox,
                        struct err *e)
{
    struct gauge *g = mem_zalloc(sizeof *g);
    *g = (struct gauge){.client = client, .config = config, .inbox = inbox};
    g->answers = mem_array(config->handlers_n, sizeof *g->answers);
    g->asked = mem_array(config->handlers_n, sizeof *g->asked);
    for (uint32_t i = 0; i < config->handlers_n; i++)
        g->answers[i] = (struct lagged){.event.kind = EVENT_LAGGED, .handler = i};
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    int code = pthread_create(&g->thread, NULL, work, g);
    if (code == 0)
        return g;
    err_set(e, E_NO_MEMORY, "cannot start a thread: %s", strerror(code));
    dispose(g);
    return NULL;
}

void gauge_free(struct gauge *g)
{
    if (g == NULL)
        return;
    pthread_mutex_lock(&g->lock);
    g->stopping = true;
    pthread_cond_signal(&g->changed);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    dispose(g);
}

/* See checkpoints.h. */
#include "checkpoints.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "client.h"
#include "server.h"

struct checkpoints {
    struct sluice *client;
    uint64_t every_ns;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping;
    int code;
    struct err err;
    struct checkpoints_made made;
};

/* False: it is over. */
static bool sleep_until(struct checkpoints *c, uint64_t ns)
{
    const struct timespec at = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    pthread_mutex_lock(&c->lock);
    while (!c->stopping && clock_mono_ns() < ns)
        pthread_cond_timedwait(&c->changed, &c->lock, &at);
    bool more = !c->stopping;
    pthread_mutex_unlock(&c->lock);
    return more;
}

static void *make_all(void *arg)
{
    struct checkpoints *c = arg;
    struct checkpoints_made *m = &c->made;
    for (uint64_t at = clock_mono_ns() + c->every_ns; c->code == 0 && m->count < CHECKPOINTS_MAX && sleep_until(c, at); at += c->every_ns) {
        struct sluice_backup b = {.size = sizeof b};
        struct sluice_error err;
        uint64_t from = clock_mono_ns();
        if (sluice_backup(c->client, NULL, CLIENT_TIMEOUT_MS, &b, &err) != 0) {
            c->code = client_err(&c->err, "backup", &err);
            break;
        }
        m->list[m->count++] = (struct gap){from, clock_mono_ns()};
        m->bytes = b.bytes;
        workdir_remove(b.path);
    }
    return NULL;
}

int checkpoints_start(struct checkpoints **out, const char *url, double seconds, struct err *e)
{
    struct checkpoints *c = calloc(1, sizeof *c);
    pthread_condattr_t mono;
    if (c == NULL)
        abort();
    int code = client_open(&c->client, url, 0, 0, 0, e);
    if (code != 0) {
        free(c);
        return code;
    }
    c->every_ns = (uint64_t)(seconds * 1e9);
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&mono);
    pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &mono);
    pthread_condattr_destroy(&mono);
    if (pthread_create(&c->thread, NULL, make_all, c) != 0)
        abort();
    *out = c;
    return 0;
}

int checkpoints_stop(struct checkpoints *c, struct checkpoints_made *made, struct err *e)
{
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    *made = c->made;
    int code = c->code != 0 ? err_set(e, c->code, "%s", c->err.text) : 0;
    client_close(c->client);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->changed);
    free(c);
    return code;
}

uint64_t checkpoints_longest_ns(const struct checkpoints_made *made)
{
    uint64_t longest = 0;
    for (size_t i = 0; i < made->count; i++) {
        uint64_t ns = made->list[i].to_ns - made->list[i].from_ns;
        longest = ns > longest ? ns : longest;
    }
    return longest;
}

double checkpoints_mean_ns(const struct checkpoints_made *made)
{
    double sum = 0;
    for (size_t i = 0; i < made->count; i++)
        sum += (double)(made->list[i].to_ns - made->list[i].from_ns);
    return made->count > 0 ? sum / (double)made->count : 0;
}

bool checkpoints_meet(const struct checkpoints_made *made, const struct gap *g)
{
    for (size_t i = 0; i < made->count; i++)
        if (made->list[i].from_ns < g->to_ns && g->from_ns < made->list[i].to_ns)
            return true;
    return false;
}

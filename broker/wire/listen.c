#include "wire/listen.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "wire/secure.h"
#include "wire/socket.h"

static const struct scheme {
    const char *prefix;
    bool tls, unix_socket, local;
} schemes[] = {
    {"tcp://", false, false, false},     {"tcp4://", false, false, false},
    {"tcp6://", false, false, false},    {"tls+tcp://", true, false, false},
    {"tls+tcp4://", true, false, false}, {"tls+tcp6://", true, false, false},
    {"ipc://", false, true, false},      {"inproc://", false, false, true},
};

struct listener {
    const struct scheme *scheme;
    struct stream_hooks hooks; /* the owner's, and ours around them */
    const struct stream_hooks *owner;
    void *user;
    struct stream_kind kind;
    uint64_t greeting_max, greeting_ms;
    struct pollers *pollers;
    char *url;
    struct socket_listener *socket; /* one of these two, once it listens */
    struct secure_listener *secure;

    pthread_mutex_t lock;
    pthread_cond_t emptied;
    struct list alive, dead; /* of struct stream, by their links; under lock */
    size_t alive_n, greeting_n;
    bool shut; /* under lock */
};

static const struct scheme *scheme_of(const char *url)
{
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
        if (strncmp(url, schemes[i].prefix, strlen(schemes[i].prefix)) == 0)
            return &schemes[i];
    return NULL;
}

bool listen_is_local(const char *url)
{
    const struct scheme *s = scheme_of(url);
    return s != NULL && s->local;
}

int listen_check(const char *url, const struct wire_tls *tls, struct err *e)
{
    const struct scheme *s = scheme_of(url);
    if (s == NULL)
        return err_set(e, E_CONFIG,
                       "'%s' is not an address: write tcp://HOST:PORT, tls+tcp://HOST:PORT, ipc:///PATH or "
                       "inproc://NAME",
                       url);
    if (s->tls && (tls->cert == NULL || tls->key == NULL))
        return err_set(e, E_CONFIG, "'%s' needs tls.cert and tls.key", url);
    return E_OK;
}

/* ---------------------------------------------------------------- connections */

static void greeting_over(struct listener *l)
{
    pthread_mutex_lock(&l->lock);
    l->greeting_n--;
    pthread_mutex_unlock(&l->lock);
}

static bool on_opened(void *user, struct stream *s)
{
    struct listener *l = user;
    greeting_over(l);
    return l->owner->opened(l->user, s);
}

static void on_message(void *user, struct stream *s, struct ref *bytes)
{
    struct listener *l = user;
    l->owner->message(l->user, s, bytes);
}

static void on_written(void *user, struct stream *s, size_t packets, size_t bytes)
{
    struct listener *l = user;
    l->owner->written(l->user, s, packets, bytes);
}

static void on_closed(void *user, struct stream *s)
{
    struct listener *l = user;
    l->owner->closed(l->user, s);
}

static void on_done(void *user, struct stream *s)
{
    struct listener *l = user;
    bool greeted = stream_greeted(s);
    pthread_mutex_lock(&l->lock);
    l->greeting_n -= !greeted;
    struct list_node *n = &stream_link(s)->node;
    list_remove(n);
    list_push_back(&l->dead, n);
    if (--l->alive_n == 0)
        pthread_cond_broadcast(&l->emptied);
    pthread_mutex_unlock(&l->lock);
}

/* ---------------------------------------------------------------- accepting */

static void take(void *user, struct bytes *bytes)
{
    struct listener *l = user;
    struct stream *s = stream_new(bytes, &l->kind, clock_mono_ms());
    pthread_mutex_lock(&l->lock);
    bool room = !l->shut && l->greeting_n < l->greeting_max;
    if (room) {
        list_push_back(&l->alive, &stream_link(s)->node);
        l->alive_n++;
        l->greeting_n++;
    } else {
        list_push_back(&l->dead, &stream_link(s)->node);
    }
    pthread_mutex_unlock(&l->lock);
    if (room)
        stream_begin(s);
}

/* ---------------------------------------------------------------- life */

struct listener *listener_new(const char *url, const struct listener_options *o)
{
    struct listener *l = mem_zalloc(sizeof *l);
    l->scheme = scheme_of(url);
    assert(l->scheme != NULL && !l->scheme->local); /* listen_check looked */
    l->owner = o->hooks;
    l->user = o->user;
    l->pollers = o->pollers;
    l->hooks = (struct stream_hooks){on_opened, on_message, on_written, on_closed, on_done};
    l->kind = (struct stream_kind){.hooks = &l->hooks,
                                   .user = l,
                                   .self = o->self,
                                   .peer = o->peer,
                                   .hears = o->hears,
                                   .length_after_1 = l->scheme->unix_socket,
                                   .receive_bytes_max = o->receive_bytes_max,
                                   .trusted_bytes_max = o->trusted_bytes_max};
    l->greeting_max = o->greeting_max;
    l->greeting_ms = o->greeting_ms;
    l->url = mem_strdup(url);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->emptied, NULL);
    list_init(&l->alive);
    list_init(&l->dead);
    return l;
}

/* "tcp://host:0" with the port it became. */
static void learn_port(struct listener *l, uint16_t port)
{
    char *colon = strrchr(l->url, ':');
    if (l->scheme->unix_socket || colon == NULL)
        return;
    size_t size = strlen(l->url) + 16;
    char *url = mem_alloc(size);
    snprintf(url, size, "%.*s:%u", (int)(colon - l->url), l->url, port);
    mem_free(l->url);
    l->url = url;
}

int listener_start(struct listener *l, const struct wire_tls *tls, struct err *e)
{
    uint16_t port;
    int code = l->scheme->tls ? secure_listen(&l->secure, l->url, tls, &port, e)
                              : socket_listen(&l->socket, l->url, l->pollers, &port, e);
    if (code != E_OK)
        return code;
    learn_port(l, port);
    if (l->socket != NULL)
        return socket_accept(l->socket, take, l, e);
    secure_accept(l->secure, take, l);
    return E_OK;
}

const char *listener_url(const struct listener *l)
{
    return l->url;
}

/* ---------------------------------------------------------------- tending and the end */

/* Takes what is done off the list, and frees it without the lock, as threads may have to be waited for. */
static void bury(struct listener *l)
{
    struct list dead;
    list_init(&dead);
    pthread_mutex_lock(&l->lock);
    list_splice(&dead, &l->dead);
    pthread_mutex_unlock(&l->lock);
    for (struct list_node *n; (n = list_pop_front(&dead)) != NULL;)
        stream_free(stream_of_link(container_of(n, struct stream_link, node)));
}

/* Closes those that `late` names, in two steps: closing may end a stream, which wants the lock. */
static size_t close_all(struct listener *l, bool (*late)(struct stream *s, uint64_t before_ms),
                        uint64_t before_ms)
{
    struct stream **found = NULL;
    size_t n = 0;
    pthread_mutex_lock(&l->lock);
    found = mem_array(l->alive_n, sizeof(struct stream *));
    LIST_EACH (node, &l->alive) {
        struct stream *s = stream_of_link(container_of(node, struct stream_link, node));
        if (late(s, before_ms) && stream_try_take(s))
            found[n++] = s;
    }
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < n; i++) {
        stream_close(found[i]);
        stream_drop(found[i]);
    }
    mem_free(found);
    return n;
}

static bool is_late(struct stream *s, uint64_t before_ms)
{
    return stream_since_ms(s) <= before_ms && !stream_greeted(s);
}

static bool is_any(struct stream *s, uint64_t before_ms)
{
    (void)s;
    (void)before_ms;
    return true;
}

size_t listener_tend(struct listener *l, uint64_t now_ms)
{
    size_t n = now_ms >= l->greeting_ms ? close_all(l, is_late, now_ms - l->greeting_ms) : 0;
    bury(l);
    if (l->socket != NULL)
        socket_tend(l->socket);
    return n;
}

void listener_shut(struct listener *l)
{
    pthread_mutex_lock(&l->lock);
    l->shut = true;
    pthread_mutex_unlock(&l->lock);
}

void listener_close(struct listener *l)
{
    if (l == NULL)
        return;
    listener_shut(l);
    socket_unlisten(l->socket);
    secure_unlisten(l->secure);
    close_all(l, is_any, 0);
    pthread_mutex_lock(&l->lock);
    while (l->alive_n > 0)
        pthread_cond_wait(&l->emptied, &l->lock);
    pthread_mutex_unlock(&l->lock);
    bury(l);
    pthread_cond_destroy(&l->emptied);
    pthread_mutex_destroy(&l->lock);
    mem_free(l->url);
    mem_free(l);
}

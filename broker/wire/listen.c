#include "wire/listen.h"

#include <assert.h>
#include <nng/supplemental/tls/tls.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "wire/greet.h"

/* What is known of each kind of address. */
static const struct scheme {
    const char *prefix;
    bool mortal;   /* can be killed by a rude client, and is watched */
    bool measured; /* nng counts bytes written per connection */
    bool tls;
} schemes[] = {
    {"tcp://", true, true, false},      {"tcp4://", true, true, false},     {"tcp6://", true, true, false},
    {"ipc://", true, true, false},      {"tls+tcp://", false, true, true},  {"tls+tcp4://", false, true, true},
    {"tls+tcp6://", false, true, true}, {"inproc://", false, false, false},
};

struct listener {
    const struct scheme *scheme;
    char *url;            /* as configured; once it listened, with its port */
    nng_listener nng;     /* id 0: does not listen; under lock */
    nng_sockaddr address; /* of a mortal one: where the watch connects to */
    uint64_t added;       /* connections that the socket was given; under lock */
};

struct listeners {
    nng_socket socket;
    size_t receive_bytes_max;
    struct wire_tls files; /* owned */
    nng_tls_config *tls;   /* made when the first address wants it */
    pthread_mutex_t lock;
    pthread_cond_t came; /* on the monotonic clock */
    size_t count;
    struct listener at[];
};

static const struct scheme *scheme_of(const char *url)
{
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
        if (strncmp(url, schemes[i].prefix, strlen(schemes[i].prefix)) == 0)
            return &schemes[i];
    return NULL;
}

int listeners_check(const char *url, const struct wire_tls *tls, struct err *e)
{
    const struct scheme *s = scheme_of(url);
    if (s == NULL)
        return err_set(e, E_CONFIG,
                       "'%s' is not an address: write tcp://HOST:PORT, tls+tcp://HOST:PORT, ipc:///PATH or inproc://NAME", url);
    if (s->tls && (tls->cert == NULL || tls->key == NULL))
        return err_set(e, E_CONFIG, "'%s' needs tls.cert and tls.key", url);
    return E_OK;
}

/* ---------------------------------------------------------------- life */

struct listeners *listeners_new(nng_socket socket, const char *const *urls, size_t n, const struct wire_tls *tls,
                                size_t receive_bytes_max)
{
    struct listeners *l = mem_zalloc(sizeof *l + n * sizeof l->at[0]);
    l->socket = socket;
    l->receive_bytes_max = receive_bytes_max;
    l->files = (struct wire_tls){mem_strdup(tls->cert), mem_strdup(tls->key), mem_strdup(tls->ca)};
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&l->came, &monotonic);
    pthread_condattr_destroy(&monotonic);
    l->count = n;
    for (size_t i = 0; i < n; i++) {
        l->at[i].scheme = scheme_of(urls[i]);
        assert(l->at[i].scheme != NULL); /* listeners_check looked */
        l->at[i].url = mem_strdup(urls[i]);
    }
    return l;
}

static void set_nng(struct listeners *l, struct listener *one, nng_listener nng)
{
    pthread_mutex_lock(&l->lock);
    one->nng = nng;
    pthread_mutex_unlock(&l->lock);
}

static void unlisten(struct listeners *l, struct listener *one)
{
    nng_listener nng = one->nng;
    set_nng(l, one, (nng_listener)NNG_LISTENER_INITIALIZER);
    if (nng_listener_id(nng) > 0)
        nng_listener_close(nng);
}

void listeners_close(struct listeners *l)
{
    if (l == NULL)
        return;
    for (size_t i = 0; i < l->count; i++) {
        unlisten(l, &l->at[i]);
        mem_free(l->at[i].url);
    }
    if (l->tls != NULL)
        nng_tls_config_free(l->tls);
    pthread_cond_destroy(&l->came);
    pthread_mutex_destroy(&l->lock);
    mem_free((char *)l->files.cert);
    mem_free((char *)l->files.key);
    mem_free((char *)l->files.ca);
    mem_free(l);
}

/* ---------------------------------------------------------------- listening */

/* Known by its id before the first connection comes, and bounded before the first byte. */
static int listen_at(struct listeners *l, struct listener *one)
{
    nng_listener nng;
    int rv = nng_listener_create(&nng, l->socket, one->url);
    if (rv != 0)
        return rv;
    set_nng(l, one, nng);
    if (one->scheme->tls)
        rv = nng_listener_set_ptr(nng, NNG_OPT_TLS_CONFIG, l->tls);
    if (rv == 0 && one->scheme->measured)
        rv = nng_listener_set_size(nng, NNG_OPT_RECVMAXSZ, l->receive_bytes_max);
    if (rv == 0)
        rv = nng_listener_start(nng, 0);
    if (rv != 0)
        unlisten(l, one);
    return rv;
}

/* Where it really listens: port 0 became a number. */
static void learn_address(struct listener *one)
{
    char *url;
    if (nng_listener_get_string(one->nng, NNG_OPT_URL, &url) == 0) {
        mem_free(one->url);
        one->url = mem_strdup(url);
        nng_strfree(url);
    }
    if (one->scheme->mortal && nng_listener_get_addr(one->nng, NNG_OPT_LOCADDR, &one->address) != 0)
        one->address.s_family = NNG_AF_UNSPEC;
}

int listeners_start(struct listeners *l, struct err *e)
{
    int code = E_OK;
    for (size_t i = 0; i < l->count && code == E_OK; i++) {
        struct listener *one = &l->at[i];
        if (one->scheme->tls && l->tls == NULL)
            code = tls_open(&l->tls, &l->files, e);
        int rv = code == E_OK ? listen_at(l, one) : 0;
        if (rv != 0)
            code = err_set(e, rv == NNG_EADDRINVAL ? E_CONFIG : E_UNREACHABLE, "cannot listen at %s: %s", one->url,
                           nng_strerror(rv));
        if (code == E_OK)
            learn_address(one);
    }
    for (size_t i = 0; i < l->count && code != E_OK; i++)
        unlisten(l, &l->at[i]);
    return code;
}

size_t listeners_count(const struct listeners *l)
{
    return l->count;
}

const char *listeners_url(const struct listeners *l, size_t i)
{
    return l->at[i].url;
}

bool listeners_added(struct listeners *l, nng_pipe pipe, bool *measured)
{
    int id = nng_listener_id(nng_pipe_listener(pipe));
    bool found = false;
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < l->count && id > 0 && !found; i++) {
        struct listener *one = &l->at[i];
        if (nng_listener_id(one->nng) != id)
            continue;
        found = true;
        *measured = one->scheme->measured;
        one->added++;
        pthread_cond_broadcast(&l->came);
    }
    pthread_mutex_unlock(&l->lock);
    return found;
}

/* ---------------------------------------------------------------- the watch */

static uint64_t added(struct listeners *l, const struct listener *one)
{
    pthread_mutex_lock(&l->lock);
    uint64_t n = one->added;
    pthread_mutex_unlock(&l->lock);
    return n;
}

/* Waits until the socket was given a connection after the first `before`. Any will do: it shows that accepting goes on. */
static bool wait_added(struct listeners *l, const struct listener *one, uint64_t before, uint64_t deadline_ms)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ms / 1000), .tv_nsec = (long)(deadline_ms % 1000) * 1000000};
    pthread_mutex_lock(&l->lock);
    int rv = 0;
    while (one->added == before && rv == 0)
        rv = pthread_cond_timedwait(&l->came, &l->lock, &until);
    bool came = one->added != before;
    pthread_mutex_unlock(&l->lock);
    return came;
}

static bool is_alive(struct listeners *l, const struct listener *one, uint64_t timeout_ms)
{
    uint64_t before = added(l, one), deadline_ms = clock_mono_ms() + timeout_ms;
    int fd;
    switch (greet(&one->address, deadline_ms, &fd)) {
    case GREET_CANNOT: /* no descriptor of our own: says nothing about the listener */
        return true;
    case GREET_SILENT:
        return false;
    case GREET_DONE:
        break;
    }
    bool alive = wait_added(l, one, before, deadline_ms);
    greet_end(fd);
    return alive;
}

static bool replace(struct listeners *l, struct listener *one)
{
    unlisten(l, one);
    int rv = listen_at(l, one);
    if (rv != 0)
        log_error("cannot listen again url=%s error=%s", LOG_STR(one->url), LOG_STR(nng_strerror(rv)));
    else
        log_warn("listener was dead and is replaced, its connections are closed url=%s", LOG_STR(one->url));
    return rv == 0;
}

unsigned listeners_watch(struct listeners *l, uint64_t timeout_ms)
{
    unsigned replaced = 0;
    for (size_t i = 0; i < l->count; i++) {
        struct listener *one = &l->at[i];
        if (!one->scheme->mortal || one->address.s_family == NNG_AF_UNSPEC)
            continue;
        if (nng_listener_id(one->nng) <= 0 || !is_alive(l, one, timeout_ms))
            replaced += replace(l, one);
    }
    return replaced;
}

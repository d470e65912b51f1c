#include "wire/socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "schemas/errors.h"

enum {
    BACKLOG = 1024,
    ACCEPTS_AT_ONCE = 16, /* then other descriptors have their turn */
    READS_AT_ONCE = 16
};

/* ---------------------------------------------------------------- one connection */

struct socket {
    struct bytes bytes;
    struct watch watch;
    struct pollers *pollers;
    bool watched;      /* of whoever receives first, then never changes */
    atomic_bool stuck; /* a send waits for room */
    /* of the poller's thread, once it is watched: where the next bytes go; NULL: nobody wants any */
    uint8_t *want;
    size_t want_size;
};

static struct socket *of(struct bytes *b)
{
    return container_of(b, struct socket, bytes);
}

static bool socket_receive(struct bytes *b, void *at, size_t size)
{
    struct socket *s = of(b);
    s->want = at;
    s->want_size = size;
    if (s->watched)
        return true; /* it is the poller's thread that calls, and looks again */
    s->watched = true; /* before it is: what comes at once is received in the poller's thread, and asks for more */
    if (watch_add(s->pollers, &s->watch, EPOLLIN) == 0)
        return true;
    s->watched = false;
    return false;
}

static ssize_t socket_send(struct bytes *b, struct iovec *pieces, unsigned n)
{
    struct socket *s = of(b);
    const struct msghdr m = {.msg_iov = pieces, .msg_iovlen = n};
    for (;;) {
        ssize_t sent = sendmsg(s->watch.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0)
            return sent;
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            return -1;
        atomic_store(&s->stuck, true);
        watch_change(&s->watch, EPOLLIN | EPOLLOUT);
        return 0;
    }
}

static void socket_close(struct bytes *b)
{
    shutdown(of(b)->watch.fd, SHUT_RDWR); /* its poller is told, and hears that nothing comes any more */
}

static void watched_free(struct watch *w)
{
    struct socket *s = container_of(w, struct socket, watch);
    close(w->fd);
    s->bytes.freed(s->bytes.owner);
    mem_free(s);
}

static void socket_free(struct bytes *b)
{
    struct socket *s = of(b);
    if (s->watched)
        watch_free(&s->watch);
    else
        watched_free(&s->watch);
}

static const struct bytes_ops ops = {
    .receive = socket_receive, .send = socket_send, .close = socket_close, .free = socket_free};

/* What came, into the place for it; again and again while it fills. */
static void read_some(struct socket *s)
{
    for (int i = 0; i < READS_AT_ONCE && s->want != NULL; i++) {
        size_t size = s->want_size;
        ssize_t n = recv(s->watch.fd, s->want, size, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return;
        s->want = NULL;
        s->bytes.received(s->bytes.owner, n <= 0, n > 0 ? (size_t)n : 0);
        if (n <= 0 || (size_t)n < size)
            return; /* that was all */
    }
}

static void ready(struct watch *w, uint32_t events)
{
    struct socket *s = container_of(w, struct socket, watch);
    bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
    if (((events & EPOLLOUT) != 0 || broken) && atomic_exchange(&s->stuck, false)) {
        watch_change(w, EPOLLIN);
        s->bytes.sent(s->bytes.owner, broken, 0);
    }
    if (s->want != NULL)
        read_some(s);
    else if (s->bytes.over(s->bytes.owner))
        watch_remove(w);
}

static struct bytes *socket_new(int fd, struct pollers *pollers)
{
    struct socket *s = mem_zalloc(sizeof *s);
    s->bytes.ops = &ops;
    s->bytes.polled = true;
    s->watch = (struct watch){.fd = fd, .ready = ready, .free = watched_free};
    s->pollers = pollers;
    return &s->bytes;
}

/* ---------------------------------------------------------------- addresses */

struct address {
    struct sockaddr_storage at;
    socklen_t size;
};

static int address_of_path(const char *path, struct address *a, struct err *e)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&a->at;
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof un->sun_path)
        return err_set(e, E_CONFIG, "the path of a socket has 1 to %zu bytes", sizeof un->sun_path - 1);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, size + 1);
    a->size = sizeof *un;
    return E_OK;
}

/* "host:port", "[v6]:port", ":port", "*:port". */
static int address_of_host(const char *text, int family, struct address *a, struct err *e)
{
    char host[256];
    const char *colon = strrchr(text, ':');
    size_t size = colon != NULL ? (size_t)(colon - text) : 0;
    if (colon == NULL || colon[1] == 0 || size >= sizeof host)
        return err_set(e, E_CONFIG, "it wants a host and a port");
    bool v6 = size >= 2 && text[0] == '[' && text[size - 1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(v6 ? size - 2 : size), v6 ? text + 1 : text);
    bool any = host[0] == 0 || strcmp(host, "*") == 0;
    const struct addrinfo hints = {.ai_family = any && family == AF_UNSPEC ? AF_INET : family,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    int rv = getaddrinfo(any ? NULL : host, colon + 1, &hints, &found);
    if (rv != 0)
        return err_set(e, E_CONFIG, "%s", gai_strerror(rv));
    memcpy(&a->at, found->ai_addr, found->ai_addrlen);
    a->size = found->ai_addrlen;
    freeaddrinfo(found);
    return E_OK;
}

static int address_of(const char *url, struct address *a, struct err *e)
{
    *a = (struct address){.size = 0};
    const char *rest = strstr(url, "://") + 3;
    if (strncmp(url, "ipc:", 4) == 0)
        return address_of_path(rest, a, e);
    int family = strncmp(url, "tcp4:", 5) == 0 ? AF_INET : strncmp(url, "tcp6:", 5) == 0 ? AF_INET6 : AF_UNSPEC;
    return address_of_host(rest, family, a, e);
}

/* ---------------------------------------------------------------- listening */

struct socket_listener {
    struct watch watch;
    struct pollers *pollers;
    char *url;
    char *path; /* of the socket file, or NULL */
    socket_accepted_fn *accepted;
    void *user;
    bool watched;
    atomic_bool resting; /* the system had nothing for a connection */
    pthread_mutex_t lock;
    pthread_cond_t freed;
    bool gone; /* under lock */
};

static void accept_some(struct watch *w, uint32_t events)
{
    struct socket_listener *l = container_of(w, struct socket_listener, watch);
    (void)events;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue; /* who wanted to come has gone */
        if (fd < 0) {
            log_warn("cannot accept a connection url=%s error=%s", LOG_STR(l->url), LOG_STR(strerror(errno)));
            watch_change(w, 0);
            atomic_store(&l->resting, true);
            return;
        }
        if (l->path == NULL) {
            /* or a small reply waits until the client has acknowledged the one before: 40 ms */
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
            /* a peer that vanished without a word is noticed one day */
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
        }
        l->accepted(l->user, socket_new(fd, l->pollers));
    }
}

/* A file whose socket nobody listens at was left by a broker that was killed. */
static void remove_stale(const struct address *a, const char *path)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)&a->at, a->size) != 0 && errno == ECONNREFUSED)
        unlink(path);
    close(fd);
}

static int bind_and_listen(const struct address *a, const char *path)
{
    int fd = socket(a->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (path == NULL) /* a port whose last connections are still being forgotten is free */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    int rv = bind(fd, (const struct sockaddr *)&a->at, a->size);
    if (rv != 0 && errno == EADDRINUSE && path != NULL) {
        remove_stale(a, path);
        rv = bind(fd, (const struct sockaddr *)&a->at, a->size);
    }
    if (rv == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage at = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof at;
    getsockname(fd, (struct sockaddr *)&at, &size);
    return at.ss_family == AF_INET    ? ntohs(((struct sockaddr_in *)&at)->sin_port)
           : at.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&at)->sin6_port)
                                      : 0;
}

static void listener_freed(struct watch *w)
{
    struct socket_listener *l = container_of(w, struct socket_listener, watch);
    pthread_mutex_lock(&l->lock);
    l->gone = true;
    pthread_cond_signal(&l->freed);
    pthread_mutex_unlock(&l->lock);
}

int socket_listen(struct socket_listener **out, const char *url, struct pollers *pollers, uint16_t *port, struct err *e)
{
    struct address a;
    struct err why;
    int code = address_of(url, &a, &why);
    if (code != E_OK)
        return err_set(e, code, "cannot listen at %s: %s", url, why.text);
    const char *path = a.at.ss_family == AF_UNIX ? ((const struct sockaddr_un *)&a.at)->sun_path : NULL;
    int fd = bind_and_listen(&a, path);
    if (fd < 0)
        return err_set(e, E_UNREACHABLE, "cannot listen at %s: %s", url, strerror(errno));
    struct socket_listener *l = mem_zalloc(sizeof *l);
    l->watch = (struct watch){.fd = fd, .ready = accept_some, .free = listener_freed};
    l->pollers = pollers;
    l->url = mem_strdup(url);
    l->path = path != NULL ? mem_strdup(path) : NULL;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->freed, NULL);
    *port = port_of(fd);
    *out = l;
    return E_OK;
}

int socket_accept(struct socket_listener *l, socket_accepted_fn *accepted, void *user, struct err *e)
{
    l->accepted = accepted;
    l->user = user;
    int code = watch_add(l->pollers, &l->watch, EPOLLIN);
    l->watched = code == 0;
    return code == 0 ? E_OK : err_set(e, E_UNREACHABLE, "cannot listen at %s: %s", l->url, strerror(code));
}

void socket_tend(struct socket_listener *l)
{
    if (atomic_exchange(&l->resting, false))
        watch_change(&l->watch, EPOLLIN);
}

void socket_unlisten(struct socket_listener *l)
{
    if (l == NULL)
        return;
    if (l->watched) {
        watch_remove(&l->watch);
        watch_free(&l->watch);
        pthread_mutex_lock(&l->lock);
        while (!l->gone)
            pthread_cond_wait(&l->freed, &l->lock);
        pthread_mutex_unlock(&l->lock);
    }
    close(l->watch.fd);
    if (l->path != NULL)
        unlink(l->path);
    pthread_cond_destroy(&l->freed);
    pthread_mutex_destroy(&l->lock);
    mem_free(l->path);
    mem_free(l->url);
    mem_free(l);
}

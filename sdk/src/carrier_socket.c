/*
 * Frames over sockets of our own: tcp, ipc.
 *
 *               the name's addresses      one is connected          both said "SP"
 *      asking -----------------> connecting ------------> greeting ----------------> up -----+
 *        ^                           | none is               |                        |      | an error, drop
 *        |      pause, growing       v                       v                        v      |
 *        +------------------------- idle <----------------------------------------- lost <---+
 *
 * Why not nng's streams: they take two hand-overs between threads for each receive, its poller's and its task's, and then there is
 * ours to the loop. At 20,000 messages a second that was a quarter of a client's processor time. Here the loop's thread polls the
 * socket itself, reads, answers and writes, and nobody else is woken.
 *
 * Nothing in this file blocks. Only a name may: it is looked up in a thread of its own, which may outlive the client.
 */
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nng/nng.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/entropy.h"
#include "base/mem.h"
#include "base/rng.h"
#include "sdk/carrier.h"
#include "sdk/error.h"
#include "sdk/framing.h"

enum {
    SEND_AT_ONCE = 64, /* pieces of one write */
    ROUND_BYTES =
        1
        << 20, /* read in one round at most, give or take a frame; so that the loop gets to the rest of its work */
};

enum state { IDLE, ASKING, CONNECTING, GREETING, UP };

struct socket {
    struct carrier carrier;
    bool ipc, named; /* the host is a name, to be asked for each time */
    char *host, *port;
    int family;
    struct sockaddr_un path;
    struct addrinfo path_address;
    struct event gone;
    /* the loop's thread, or before it runs and when it has ended */
    enum state state;
    struct lookup *lookup;       /* one that is under way, or NULL */
    struct addrinfo *found;      /* addresses, of getaddrinfo; NULL of ipc */
    const struct addrinfo *next; /* to be tried */
    uint64_t each_ms;            /* for each of them */
    int fd;                      /* -1: none */
    struct watch watch;
    struct timer timer; /* IDLE: the next attempt; else this state's time is up */
    struct outlet out;
    struct inlet in;
    bool lost; /* `gone` is in the inbox */
    bool stopped, closed;
    uint32_t pause_ms;
    const char *trouble;
    struct rng rng;
};

static struct socket *of(const struct carrier *c)
{
    return container_of(c, struct socket, carrier);
}

static void time_is_up_in(struct socket *s, uint64_t ms)
{
    timer_set(s->carrier.loop, &s->timer, s->carrier.loop->now_ns + ms * NS_PER_MS);
}

/* ---------------------------------------------------------------- a name's addresses */

/* One question, in a thread of its own. Who of the two comes last frees it: the answer's event, or a thread that nobody waits for. */
struct lookup {
    struct event answered;
    pthread_mutex_t lock;
    struct socket *asker; /* under lock; NULL: was closed */
    bool posted;          /* under lock */
    struct addrinfo question, *found;
    int failed; /* what getaddrinfo says */
    char *host, *port;
};

static void lookup_free(struct lookup *l)
{
    if (l->found != NULL)
        freeaddrinfo(l->found);
    pthread_mutex_destroy(&l->lock);
    mem_free(l->host);
    mem_free(l->port);
    mem_free(l);
}

static void *lookup_main(void *arg)
{
    struct lookup *l = arg;
    l->failed = getaddrinfo(l->host, l->port, &l->question, &l->found);
    pthread_mutex_lock(&l->lock);
    bool asked = l->asker != NULL;
    l->posted = asked;
    if (asked) /* under the lock: the loop is there as long as the asker is */
        loop_post(l->asker->carrier.loop, &l->answered);
    pthread_mutex_unlock(&l->lock);
    if (!asked)
        lookup_free(l);
    return NULL;
}

static void lookup_answered(struct event *e);

/* NULL: there is no thread for it. */
static struct lookup *lookup_new(struct socket *s)
{
    struct lookup *l = mem_zalloc(sizeof *l);
    l->answered.run = lookup_answered;
    pthread_mutex_init(&l->lock, NULL);
    l->asker = s;
    l->question = (struct addrinfo){.ai_family = s->family, .ai_socktype = SOCK_STREAM};
    l->host = mem_strdup(s->host);
    l->port = mem_strdup(s->port);
    pthread_attr_t detached;
    pthread_t thread;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    int rv = pthread_create(&thread, &detached, lookup_main, l);
    pthread_attr_destroy(&detached);
    if (rv == 0)
        return l;
    lookup_free(l);
    return NULL;
}

/* The asker is about to go. */
static void lookup_leave(struct lookup *l)
{
    pthread_mutex_lock(&l->lock);
    if (!l->posted) /* else the event, which the loop runs before it goes, frees it */
        l->asker = NULL;
    pthread_mutex_unlock(&l->lock);
}

/* ---------------------------------------------------------------- connecting */

/* Why a socket failed. Static. */
static const char *why(int code)
{
    switch (code) {
    case ECONNREFUSED:
    case ENOENT: /* of ipc */
        return "nobody listens there";
    case ETIMEDOUT:
        return "connecting timed out";
    case EADDRNOTAVAIL:
        return "there is no such address";
    case EAGAIN: /* of ipc */
        return "too many wait there to be accepted";
    default: {
        const char *text = strerrordesc_np(code);
        return text != NULL ? text : "connecting failed";
    }
    }
}

static void end_socket(struct socket *s)
{
    if (s->fd < 0)
        return;
    watch_end(s->carrier.loop, &s->watch);
    close(s->fd);
    s->fd = -1;
}

/* The next attempt comes after a pause, from half to all of what it may be. */
static void dial_later(struct socket *s)
{
    s->state = IDLE;
    timer_stop(s->carrier.loop, &s->timer);
    if (s->stopped)
        return;
    time_is_up_in(s, rng_between(&s->rng, s->pause_ms / 2, s->pause_ms));
    uint32_t most = carrier_pause_max(&s->carrier);
    s->pause_ms = 2 * s->pause_ms < most ? 2 * s->pause_ms : most;
}

static void missed(struct socket *s)
{
    s->carrier.events->missed(s->carrier.user);
    dial_later(s);
}

static void write_out(struct socket *s);

static void connected(struct socket *s)
{
    s->state = GREETING;
    s->trouble = "what listens there does not answer";
    s->watch.events = POLLIN;
    time_is_up_in(s, GREET_MS);
    outlet_init(&s->out, s->ipc, s->carrier.hears);
    inlet_init(&s->in, s->ipc, s->carrier.hears);
    write_out(s);
}

/* -1: there is none. */
static int socket_for(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd >= 0 && a->ai_family != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    return fd;
}

/* Tries what is left of the addresses, until one has to be waited for. */
static void connect_next(struct socket *s)
{
    while (s->next != NULL) {
        const struct addrinfo *a = s->next;
        s->next = a->ai_next;
        int fd = socket_for(a);
        int code = fd < 0 || connect(fd, a->ai_addr, a->ai_addrlen) != 0 ? errno : 0;
        if (code == 0 || code == EINPROGRESS) {
            s->fd = fd;
            watch_begin(s->carrier.loop, &s->watch, fd, POLLOUT);
            s->state = CONNECTING;
            time_is_up_in(s, s->each_ms);
            if (code == 0)
                connected(s);
            return;
        }
        if (fd >= 0)
            close(fd);
        s->trouble = why(code);
        if (code == EAGAIN) { /* somebody listens, and is busy */
            dial_later(s);
            return;
        }
    }
    missed(s);
}

static void connect_to(struct socket *s, const struct addrinfo *addresses)
{
    uint64_t n = 0;
    for (const struct addrinfo *a = addresses; a != NULL; a = a->ai_next)
        n++;
    s->each_ms = n > 0 ? CONNECT_MS / n : CONNECT_MS;
    s->next = addresses;
    connect_next(s);
}

/* Also an answer that comes late, while the next attempt is waited for. */
static void lookup_answered(struct event *e)
{
    struct lookup *l = container_of(e, struct lookup, answered);
    pthread_mutex_lock(&l->lock); /* when we have it, its thread has let go of it */
    struct socket *s = l->asker;
    pthread_mutex_unlock(&l->lock);
    s->lookup = NULL;
    if (s->closed || s->stopped) {
        lookup_free(l);
        return;
    }
    assert(s->state == ASKING || s->state == IDLE);
    if (s->found != NULL)
        freeaddrinfo(s->found);
    s->found = l->found;
    l->found = NULL;
    if (l->failed != 0)
        s->trouble = l->failed == EAI_NONAME || l->failed == EAI_NODATA || l->failed == EAI_SERVICE ||
                             l->failed == EAI_ADDRFAMILY
                         ? "there is no such address"
                         : gai_strerror(l->failed);
    if (l->failed == 0)
        connect_to(s, s->found);
    else if (s->state == ASKING)
        missed(s);
    lookup_free(l);
}

static void dial(struct socket *s)
{
    if (!s->named) {
        connect_to(s, s->ipc ? &s->path_address : s->found);
        return;
    }
    s->state = ASKING;
    time_is_up_in(s, CONNECT_MS);
    if (s->lookup == NULL) /* else it takes long, and still goes on */
        s->lookup = lookup_new(s);
    if (s->lookup == NULL) {
        s->trouble = "there is no thread to look up its name";
        missed(s);
    }
}

/* What there is to connect, if it failed or came about. */
static void look_at_attempt(struct socket *s, int revents)
{
    struct pollfd asked = {.fd = s->fd, .events = POLLOUT};
    if (revents == 0 && poll(&asked, 1, 0) <= 0)
        return;
    int code = 0;
    socklen_t size = sizeof code;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &code, &size) != 0)
        code = errno;
    if (code == 0) {
        connected(s);
        return;
    }
    s->trouble = why(code);
    end_socket(s);
    connect_next(s);
}

/* ---------------------------------------------------------------- a connection */

/* It is of no use any more; the loop hears of it in its next round, for who finds out may be in the midst of something. */
static void lose(struct socket *s)
{
    if (s->lost)
        return;
    s->lost = true;
    watch_end(s->carrier.loop, &s->watch);
    loop_post(s->carrier.loop, &s->gone);
}

static void socket_gone(struct event *e)
{
    struct socket *s = container_of(e, struct socket, gone);
    s->lost = false;
    if (s->closed)
        return;
    bool was_up = s->state == UP;
    end_socket(s);
    outlet_clear(&s->out);
    inlet_free(&s->in);
    s->state = IDLE;
    if (was_up) {
        s->trouble = "the connection was lost";
        s->carrier.events->down(s->carrier.user);
    }
    dial_later(s);
}

/* Writes what there is, until the socket takes no more: then it is polled for that too. */
static void write_out(struct socket *s)
{
    struct iovec pieces[SEND_AT_ONCE];
    struct msghdr m = {.msg_iov = pieces};
    s->watch.events = POLLIN;
    while ((m.msg_iovlen = outlet_pieces(&s->out, pieces, SEND_AT_ONCE)) > 0) {
        size_t size = 0;
        for (size_t i = 0; i < m.msg_iovlen; i++)
            size += pieces[i].iov_len;
        ssize_t n = sendmsg(s->fd, &m, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            lose(s);
            return;
        }
        if (n > 0)
            outlet_went(&s->out, (size_t)n);
        if (n < 0 || (size_t)n < size) {
            s->watch.events = POLLIN | POLLOUT;
            return;
        }
    }
}

/* Passes on what came. False: no more is wanted. */
static bool take_frames(struct socket *s)
{
    while (!s->lost) {
        struct inbound *in;
        switch (inlet_take(&s->in, &in)) {
        case INLET_GREETING:
            s->state = UP;
            if (!s->carrier.hears) /* who hears has nothing yet */
                s->pause_ms = RECONNECT_MIN_MS;
            timer_stop(s->carrier.loop, &s->timer);
            s->carrier.events->up(s->carrier.user);
            break;
        case INLET_FRAME:
            s->pause_ms = RECONNECT_MIN_MS;
            s->carrier.events->frame(s->carrier.user, in->tag, inbound_ref(in));
            break;
        case INLET_NOTHING:
            return true;
        case INLET_NONSENSE:
            lose(s);
            break;
        }
    }
    return false;
}

/* Reads until there was less than there was room for, which saves the question whether there is more. */
static void read_in(struct socket *s)
{
    size_t room = 0;
    for (size_t got = 0, n = 0; got < ROUND_BYTES && n == room; got += n) {
        struct iovec pieces[2];
        size_t pieces_n = inlet_room(&s->in, pieces);
        room = pieces[0].iov_len + (pieces_n > 1 ? pieces[1].iov_len : 0);
        ssize_t rv = readv(s->fd, pieces, (int)pieces_n);
        if (rv < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (rv > 0) {
            n = (size_t)rv;
            inlet_came(&s->in, n);
        }
        if (rv <= 0 || !take_frames(s)) {
            lose(s);
            return;
        }
    }
}

static void ready(struct watch *w, int revents)
{
    struct socket *s = container_of(w, struct socket, watch);
    if (s->state == CONNECTING) {
        look_at_attempt(s, revents);
        return;
    }
    if ((w->events & POLLOUT) != 0 && (revents == 0 || (revents & ~POLLIN) != 0))
        write_out(s);
    if (!s->lost && (revents == 0 || (revents & ~POLLOUT) != 0))
        read_in(s);
    if (s->lost && s->state == GREETING)
        s->trouble = "what listens there is no broker, or refuses us";
}

static void time_is_up(struct timer *t)
{
    struct socket *s = container_of(t, struct socket, timer);
    switch (s->state) {
    case IDLE:
        dial(s);
        break;
    case ASKING:
        s->trouble = why(ETIMEDOUT);
        missed(s);
        break;
    case CONNECTING:
        s->trouble = why(ETIMEDOUT);
        end_socket(s);
        connect_next(s);
        break;
    case GREETING:
        lose(s);
        break;
    case UP:
        break;
    }
}

/* ---------------------------------------------------------------- the carrier */

static void socket_send(struct carrier *c, struct packet *p)
{
    if (of(c)->state == UP)
        outlet_push(&of(c)->out, p);
    else /* lost meanwhile; the session is about to hear of it */
        packet_free(p);
}

static void socket_flush(struct carrier *c)
{
    struct socket *s = of(c);
    if (s->state == UP && !s->lost && (s->watch.events & POLLOUT) == 0)
        write_out(s);
}

static void socket_reset(struct carrier *c)
{
    (void)c; /* what was not sent went with its connection */
}

static void socket_drop(struct carrier *c)
{
    if (of(c)->state == GREETING || of(c)->state == UP)
        lose(of(c));
}

static void socket_stop(struct carrier *c)
{
    struct socket *s = of(c);
    s->stopped = true;
    if (s->state == GREETING || s->state == UP) {
        lose(s);
        return;
    }
    end_socket(s);
    dial_later(s);
}

static void socket_close(struct carrier *c)
{
    struct socket *s = of(c);
    s->closed = true;
    timer_stop(c->loop, &s->timer);
    end_socket(s);
    if (s->lookup != NULL)
        lookup_leave(s->lookup);
}

static void socket_free(struct carrier *c)
{
    struct socket *s = of(c);
    outlet_clear(&s->out);
    inlet_free(&s->in);
    if (s->found != NULL)
        freeaddrinfo(s->found);
    mem_free(s->host);
    mem_free(s->port);
    mem_free(s);
}

static const char *socket_trouble(const struct carrier *c)
{
    return of(c)->trouble;
}

static const struct carrier_ops ops = {
    .send = socket_send,
    .flush = socket_flush,
    .reset = socket_reset,
    .drop = socket_drop,
    .stop = socket_stop,
    .close = socket_close,
    .free = socket_free,
    .trouble = socket_trouble,
};

static int use_path(struct socket *s, const char *path)
{
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof s->path.sun_path)
        return NNG_EADDRINVAL;
    s->path.sun_family = AF_UNIX;
    memcpy(s->path.sun_path, path, size);
    s->path_address = (struct addrinfo){
        .ai_family = AF_UNIX, .ai_addr = (struct sockaddr *)&s->path, .ai_addrlen = sizeof s->path};
    return 0;
}

/* Host and port; whether they are numbers, which are known at once, or names. */
static int use_host(struct socket *s, const nng_url *u)
{
    char last = u->u_scheme[strlen(u->u_scheme) - 1];
    s->family = last == '4' ? AF_INET : last == '6' ? AF_INET6 : AF_UNSPEC;
    char *end;
    if (u->u_hostname[0] == '\0' || u->u_port[0] == '\0' ||
        (strtoul(u->u_port, &end, 10) > UINT16_MAX && *end == '\0'))
        return NNG_EADDRINVAL;
    s->host = mem_strdup(u->u_hostname);
    s->port = mem_strdup(u->u_port);
    struct addrinfo numbers = {
        .ai_family = s->family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    s->named = getaddrinfo(s->host, s->port, &numbers, &s->found) != 0;
    return 0;
}

int carrier_socket_open(struct carrier **out, const struct carrier_options *o, struct sluice_error *err)
{
    nng_url *u;
    int rv = nng_url_parse(&u, o->url);
    if (rv != 0)
        return carrier_failed(err, rv, o->url);
    struct socket *s = mem_zalloc(sizeof *s);
    s->carrier = (struct carrier){.ops = &ops, .events = o->events, .user = o->user, .loop = o->loop, .hears = o->hears};
    s->ipc = strcmp(u->u_scheme, "ipc") == 0;
    s->fd = -1;
    s->gone.run = socket_gone;
    s->watch.ready = ready;
    s->timer.fire = time_is_up;
    s->pause_ms = RECONNECT_MIN_MS;
    s->trouble = "no connection";
    uint64_t seed;
    entropy_fill(&seed, sizeof seed);
    rng_seed(&s->rng, seed);
    rv = s->ipc ? use_path(s, u->u_path) : use_host(s, u);
    nng_url_free(u);
    if (rv != 0) {
        socket_free(&s->carrier);
        return carrier_failed(err, rv, o->url);
    }
    timer_set(o->loop, &s->timer, o->loop->now_ns); /* the first round dials */
    *out = &s->carrier;
    return 0;
}

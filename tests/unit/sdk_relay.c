#include "sdk_relay.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/macros.h"
#include "base/mem.h"
#include "unit.h"

enum { PAIRS = 16, ROOM = 4096 };

struct address {
    struct sockaddr_storage at;
    socklen_t size;
};

/* A connection to the relay and its own to the broker; fds[way] is where bytes of that way come from. -1: none. */
struct pair {
    int fds[2];
    size_t passed[2];
    bool cut; /* it is one of those that end */
};

struct relay {
    char url[160];
    struct address to;
    int listener, kick[2];
    pthread_t thread;
    pthread_mutex_t lock;
    bool closing;
    struct relay_rules rules;
    unsigned connections;
    uint64_t passed[2];
    struct pair pairs[PAIRS];
};

static struct address address_of(const char *url)
{
    struct address a = {.size = 0};
    const char *port = strrchr(url, ':');
    if (strncmp(url, "ipc://", 6) == 0) {
        struct sockaddr_un *un = (struct sockaddr_un *)&a.at;
        un->sun_family = AF_UNIX;
        snprintf(un->sun_path, sizeof un->sun_path, "%s", url + 6);
        a.size = sizeof *un;
    } else if (strstr(url, "[::1]") != NULL) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a.at;
        *in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        a.size = sizeof *in6;
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)&a.at;
        *in = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                   .sin_port = htons((uint16_t)atoi(port + 1))};
        a.size = sizeof *in;
    }
    return a;
}

static void end_pair(struct pair *p)
{
    for (int way = 0; way < 2; way++) {
        if (p->fds[way] >= 0)
            close(p->fds[way]);
        p->fds[way] = -1;
    }
}

static void accept_one(struct relay *r)
{
    int client = accept(r->listener, NULL, NULL);
    int broker = socket(r->to.at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pair *p = NULL;
    for (size_t i = 0; i < PAIRS; i++) {
        if (r->pairs[i].fds[0] < 0)
            p = &r->pairs[i];
    }
    assert_true(client >= 0 && broker >= 0 && p != NULL);
    *p = (struct pair){.fds = {client, broker}};
    if (connect(broker, (struct sockaddr *)&r->to.at, r->to.size) != 0) {
        end_pair(p);
        return;
    }
    if (r->to.at.ss_family != AF_UNIX) {
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        setsockopt(broker, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    }
    r->connections++;
    p->cut = r->rules.cuts > 0;
    r->rules.cuts -= p->cut;
}

/* Passes on a piece of what came. False: the pair has ended. */
static bool pass_on(struct relay *r, struct pair *p, int way)
{
    char bytes[ROOM];
    size_t n = r->rules.piece[way] != 0 && r->rules.piece[way] < ROOM ? r->rules.piece[way] : ROOM;
    bool cuts = p->cut && r->rules.cut_way == way;
    if (cuts && n > r->rules.cut_at - p->passed[way])
        n = r->rules.cut_at - p->passed[way];
    ssize_t got = n > 0 ? read(p->fds[way], bytes, n) : 0;
    for (ssize_t at = 0, put = 0; at < got; at += put) {
        put = send(p->fds[1 - way], bytes + at, (size_t)(got - at), MSG_NOSIGNAL);
        if (put <= 0)
            got = put = 0; /* who is to have it is gone */
    }
    if (got > 0) {
        p->passed[way] += (size_t)got;
        r->passed[way] += (uint64_t)got;
    }
    if (got <= 0 || (cuts && p->passed[way] >= r->rules.cut_at)) {
        end_pair(p);
        return false;
    }
    return true;
}

static void *relay_main(void *arg)
{
    struct relay *r = arg;
    for (;;) {
        struct pollfd fds[2 + 2 * PAIRS] = {{.fd = r->kick[0], .events = POLLIN},
                                            {.fd = r->listener, .events = POLLIN}};
        pthread_mutex_lock(&r->lock);
        bool closing = r->closing;
        for (size_t i = 0; i < PAIRS; i++) {
            for (int way = 0; way < 2; way++) {
                bool held = r->rules.held[way];
                fds[2 + 2 * i + (size_t)way] =
                    (struct pollfd){.fd = held ? -1 : r->pairs[i].fds[way], .events = POLLIN};
            }
        }
        pthread_mutex_unlock(&r->lock);
        if (closing)
            return NULL;
        poll(fds, ARRAY_LEN(fds), -1);
        char kicks[16];
        if (fds[0].revents != 0 && read(r->kick[0], kicks, sizeof kicks) < 0)
            fail_msg("read");
        pthread_mutex_lock(&r->lock);
        for (size_t i = 0; i < PAIRS; i++) {
            bool there = true;
            for (int way = 0; way < 2 && there; way++) {
                if (fds[2 + 2 * i + (size_t)way].revents != 0 && !r->rules.held[way])
                    there = pass_on(r, &r->pairs[i], way);
            }
        }
        if (fds[1].revents != 0)
            accept_one(r);
        pthread_mutex_unlock(&r->lock);
    }
}

static void kick(struct relay *r)
{
    if (write(r->kick[1], "", 1) != 1)
        fail_msg("write");
}

struct relay *relay_open(const char *listen_at, const char *to)
{
    struct relay *r = mem_zalloc(sizeof *r);
    struct address at = address_of(listen_at);
    if (at.at.ss_family == AF_INET)
        ((struct sockaddr_in *)&at.at)->sin_port = 0;
    r->to = address_of(to);
    for (size_t i = 0; i < PAIRS; i++)
        r->pairs[i] = (struct pair){.fds = {-1, -1}};
    r->listener = socket(at.at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* little fits into what is not read */
    setsockopt(r->listener, SOL_SOCKET, SO_RCVBUF, &(int){16384}, sizeof(int));
    if (r->listener < 0 || bind(r->listener, (struct sockaddr *)&at.at, at.size) != 0) {
        close(r->listener);
        mem_free(r);
        return NULL;
    }
    assert_int_equal(listen(r->listener, PAIRS), 0);
    assert_int_equal(getsockname(r->listener, (struct sockaddr *)&at.at, &at.size), 0);
    if (at.at.ss_family == AF_UNIX)
        snprintf(r->url, sizeof r->url, "%s", listen_at);
    else /* the port stands at the same place in both */
        snprintf(r->url, sizeof r->url, "%s:%d", listen_at, ntohs(((struct sockaddr_in *)&at.at)->sin_port));
    assert_int_equal(pipe(r->kick), 0);
    pthread_mutex_init(&r->lock, NULL);
    assert_int_equal(pthread_create(&r->thread, NULL, relay_main, r), 0);
    return r;
}

void relay_close(struct relay *r)
{
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    r->closing = true;
    pthread_mutex_unlock(&r->lock);
    kick(r);
    pthread_join(r->thread, NULL);
    for (size_t i = 0; i < PAIRS; i++)
        end_pair(&r->pairs[i]);
    if (strncmp(r->url, "ipc://", 6) == 0)
        unlink(r->url + 6);
    close(r->listener);
    close(r->kick[0]);
    close(r->kick[1]);
    pthread_mutex_destroy(&r->lock);
    mem_free(r);
}

const char *relay_url(const struct relay *r)
{
    return r->url;
}

void relay_set(struct relay *r, struct relay_rules rules)
{
    pthread_mutex_lock(&r->lock);
    r->rules = rules;
    pthread_mutex_unlock(&r->lock);
    kick(r);
}

unsigned relay_connections(struct relay *r)
{
    pthread_mutex_lock(&r->lock);
    unsigned n = r->connections;
    pthread_mutex_unlock(&r->lock);
    return n;
}

uint64_t relay_passed(struct relay *r, int way)
{
    pthread_mutex_lock(&r->lock);
    uint64_t n = r->passed[way];
    pthread_mutex_unlock(&r->lock);
    return n;
}

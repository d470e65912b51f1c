#include "wire/local.h"

#include <assert.h>
#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "schemas/errors.h"

enum {
    ROUTE_SIZE = 8, /* nng's head of a raw request: pipe, request id; a reply carries the same */
    ID_SIZE = 4,
    SEND_QUEUE = 8192 /* replies on their way to the queues of their connections */
};

struct local {
    nng_socket socket;
    nng_aio *receive;
    const struct local_hooks *hooks;
    void *user;
    pthread_mutex_t lock;
    struct map
        conns; /* by nng's number of the pipe; under lock, as every hook: so none comes after `closed` */
};

struct local_conn {
    struct local *local;
    uint32_t pipe;
    atomic_uint refs;
    void *owner;
};

/* ---------------------------------------------------------------- connections */

struct local_conn *local_conn_take(struct local_conn *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void local_conn_drop(struct local_conn *c)
{
    if (atomic_fetch_sub(&c->refs, 1) == 1)
        mem_free(c);
}

void local_conn_set_owner(struct local_conn *c, void *owner)
{
    c->owner = owner;
}

void *local_conn_owner(const struct local_conn *c)
{
    return c->owner;
}

void local_conn_close(struct local_conn *c)
{
    nng_pipe_close((nng_pipe){.id = c->pipe});
}

/* nng drops the reply if the pipe is gone. It takes the message at once: what it waits for is only its own queue. */
void local_conn_send(struct local_conn *c, struct packet *p)
{
    nng_msg *m;
    uint8_t pipe[ID_SIZE];
    put_u32be(pipe, c->pipe);
    if (nng_msg_alloc(&m, p->size - ID_SIZE) == 0) {
        memcpy(nng_msg_body(m), p->data + ID_SIZE, p->size - ID_SIZE);
        if (nng_msg_header_append(m, pipe, ID_SIZE) != 0 || nng_msg_header_append(m, p->data, ID_SIZE) != 0 ||
            nng_sendmsg(c->local->socket, m, 0) != 0)
            nng_msg_free(m);
    }
    packet_drop(p);
}

static void add(struct local *l, nng_pipe pipe)
{
    struct local_conn *c = mem_zalloc(sizeof *c);
    *c = (struct local_conn){.local = l, .pipe = (uint32_t)nng_pipe_id(pipe), .refs = 1};
    if (l->hooks->opened(l->user, c)) {
        map_put(&l->conns, c->pipe, c);
    } else {
        local_conn_drop(c);
        nng_pipe_close(pipe);
    }
}

static void removed(struct local *l, nng_pipe pipe)
{
    struct local_conn *c = map_del(&l->conns, (uint64_t)nng_pipe_id(pipe));
    if (c == NULL)
        return; /* was refused */
    l->hooks->closed(l->user, c);
    local_conn_drop(c);
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct local *l = arg;
    pthread_mutex_lock(&l->lock);
    if (event == NNG_PIPE_EV_ADD_PRE)
        add(l, pipe);
    else
        removed(l, pipe);
    pthread_mutex_unlock(&l->lock);
}

/* ---------------------------------------------------------------- requests */

static void free_owner(struct ref *r)
{
    mem_free(r->owner);
}

/* Id and frame in one piece, as they are on a stream: copied, for nng keeps them apart. */
static struct ref *joined(nng_msg *m)
{
    size_t size = nng_msg_len(m);
    uint8_t *bytes = mem_try(ID_SIZE + size);
    if (bytes == NULL)
        return NULL;
    memcpy(bytes, (uint8_t *)nng_msg_header(m) + ID_SIZE, ID_SIZE);
    memcpy(bytes + ID_SIZE, nng_msg_body(m), size);
    return ref_wrap(bytes, ID_SIZE + size, free_owner, bytes);
}

/* nng may hand over what a connection sent before it went. */
static void message(struct local *l, nng_msg *m)
{
    pthread_mutex_lock(&l->lock);
    struct local_conn *c = map_get(&l->conns, (uint64_t)nng_pipe_id(nng_msg_get_pipe(m)));
    struct ref *bytes = c != NULL && nng_msg_header_len(m) == ROUTE_SIZE ? joined(m) : NULL;
    if (bytes != NULL)
        l->hooks->message(l->user, c, bytes);
    else if (c != NULL)
        local_conn_close(c);
    pthread_mutex_unlock(&l->lock);
    nng_msg_free(m);
}

static void on_message(void *arg)
{
    struct local *l = arg;
    int rv = nng_aio_result(l->receive);
    if (rv == NNG_ECLOSED || rv == NNG_ECANCELED)
        return;
    if (rv == 0)
        message(l, nng_aio_get_msg(l->receive));
    nng_recv_aio(l->socket, l->receive);
}

/* ---------------------------------------------------------------- life */

/* Requests come straight from clients: a route of more hops would be a device that mixes sessions. */
static int open_socket(struct local *l, size_t receive_bytes_max)
{
    int rv = nng_rep0_open_raw(&l->socket);
    if (rv != 0)
        return rv;
    if ((rv = nng_socket_set_int(l->socket, NNG_OPT_MAXTTL, 1)) == 0 &&
        (rv = nng_socket_set_int(l->socket, NNG_OPT_SENDBUF, SEND_QUEUE)) == 0 &&
        (rv = nng_socket_set_size(l->socket, NNG_OPT_RECVMAXSZ, receive_bytes_max)) == 0 &&
        (rv = nng_pipe_notify(l->socket, NNG_PIPE_EV_ADD_PRE, on_pipe, l)) == 0 &&
        (rv = nng_pipe_notify(l->socket, NNG_PIPE_EV_REM_POST, on_pipe, l)) == 0)
        rv = nng_aio_alloc(&l->receive, on_message, l);
    if (rv != 0)
        nng_close(l->socket);
    return rv;
}

int local_open(struct local **out, const struct local_hooks *hooks, void *user, size_t receive_bytes_max,
               struct err *e)
{
    struct local *l = mem_zalloc(sizeof *l);
    l->hooks = hooks;
    l->user = user;
    pthread_mutex_init(&l->lock, NULL);
    int rv = open_socket(l, receive_bytes_max);
    if (rv != 0) {
        pthread_mutex_destroy(&l->lock);
        mem_free(l);
        return err_set(e, E_INTERNAL, "REP socket: %s", nng_strerror(rv));
    }
    nng_recv_aio(l->socket, l->receive);
    *out = l;
    return E_OK;
}

static int listen_at(nng_socket socket, const char *url, struct err *e)
{
    int rv = nng_listen(socket, url, NULL, 0);
    return rv == 0 ? E_OK : err_set(e, E_UNREACHABLE, "cannot listen at %s: %s", url, nng_strerror(rv));
}

int local_listen(struct local *l, const char *url, struct err *e)
{
    return listen_at(l->socket, url, e);
}

void local_close(struct local *l)
{
    if (l == NULL)
        return;
    nng_close(l->socket); /* returns when the last pipe is gone */
    nng_aio_free(l->receive);
    assert(map_count(&l->conns) == 0);
    map_free(&l->conns);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}

/* ---------------------------------------------------------------- PUB */

struct local_pub {
    nng_socket socket;
    void (*subscribed)(void *user, int change);
    void *user;
};

/* ADD_PRE and REM_POST come in pairs. */
static void on_subscriber(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    (void)pipe;
    struct local_pub *l = arg;
    l->subscribed(l->user, event == NNG_PIPE_EV_ADD_PRE ? 1 : -1);
}

int local_pub_open(struct local_pub **out, void (*subscribed)(void *user, int change), void *user,
                   struct err *e)
{
    struct local_pub *l = mem_zalloc(sizeof *l);
    l->subscribed = subscribed;
    l->user = user;
    int rv = nng_pub0_open(&l->socket);
    if (rv != 0) {
        mem_free(l);
        return err_set(e, E_INTERNAL, "PUB socket: %s", nng_strerror(rv));
    }
    nng_pipe_notify(l->socket, NNG_PIPE_EV_ADD_PRE, on_subscriber, l);
    nng_pipe_notify(l->socket, NNG_PIPE_EV_REM_POST, on_subscriber, l);
    *out = l;
    return E_OK;
}

int local_pub_listen(struct local_pub *l, const char *url, struct err *e)
{
    return listen_at(l->socket, url, e);
}

void local_pub_send(struct local_pub *l, const struct packet *p)
{
    nng_msg *m;
    if (nng_msg_alloc(&m, p->size) != 0)
        return;
    memcpy(nng_msg_body(m), p->data, p->size);
    if (nng_sendmsg(l->socket, m, NNG_FLAG_NONBLOCK) != 0)
        nng_msg_free(m);
}

void local_pub_close(struct local_pub *l)
{
    if (l == NULL)
        return;
    nng_close(l->socket);
    mem_free(l);
}

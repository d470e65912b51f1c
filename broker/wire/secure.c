#include "wire/secure.h"

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include "base/log.h"
#include "base/mem.h"
#include "schemas/errors.h"

enum { PAUSE_MS = 100 }; /* when the system has no descriptor or memory for a connection */

/* ---------------------------------------------------------------- one connection */

struct secure {
    struct bytes bytes;
    nng_stream *conn;
    nng_aio *receive, *send;
};

static struct secure *of(struct bytes *b)
{
    return container_of(b, struct secure, bytes);
}

static void on_received(void *arg)
{
    struct secure *s = arg;
    s->bytes.received(s->bytes.owner, nng_aio_result(s->receive) != 0, nng_aio_count(s->receive));
}

static void on_sent(void *arg)
{
    struct secure *s = arg;
    s->bytes.sent(s->bytes.owner, nng_aio_result(s->send) != 0, nng_aio_count(s->send));
}

static bool secure_receive(struct bytes *b, void *at, size_t size)
{
    struct secure *s = of(b);
    nng_aio_set_iov(s->receive, 1, &(nng_iov){.iov_buf = at, .iov_len = size});
    nng_stream_recv(s->conn, s->receive);
    return true;
}

static ssize_t secure_send(struct bytes *b, struct iovec *pieces, unsigned n)
{
    struct secure *s = of(b);
    nng_iov iov[BYTES_PIECES_MAX];
    for (unsigned i = 0; i < n; i++)
        iov[i] = (nng_iov){.iov_buf = pieces[i].iov_base, .iov_len = pieces[i].iov_len};
    nng_aio_set_iov(s->send, n, iov);
    nng_stream_send(s->conn, s->send);
    return 0;
}

static void secure_close(struct bytes *b)
{
    nng_stream_close(of(b)->conn);
}

static void secure_free(struct bytes *b)
{
    struct secure *s = of(b);
    nng_aio_free(s->receive);
    nng_aio_free(s->send);
    nng_stream_free(s->conn);
    s->bytes.freed(s->bytes.owner);
    mem_free(s);
}

static const struct bytes_ops ops = {
    .receive = secure_receive, .send = secure_send, .close = secure_close, .free = secure_free};

/* Takes the connection. NULL: no memory. */
static struct bytes *secure_new(nng_stream *conn)
{
    struct secure *s = mem_zalloc(sizeof *s);
    s->bytes.ops = &ops;
    s->conn = conn;
    if (nng_aio_alloc(&s->receive, on_received, s) == 0 && nng_aio_alloc(&s->send, on_sent, s) == 0)
        return &s->bytes;
    secure_free(&s->bytes);
    return NULL;
}

/* ---------------------------------------------------------------- listening */

struct secure_listener {
    char *url;
    nng_stream_listener *nng;
    nng_aio *accept;
    nng_tls_config *tls;
    bool pausing; /* of the accept callback */
    secure_accepted_fn *accepted;
    void *user;
};

static void on_accept(void *arg)
{
    struct secure_listener *l = arg;
    int rv = nng_aio_result(l->accept);
    bool paused = l->pausing;
    l->pausing = false;
    if (rv == NNG_ECLOSED || rv == NNG_ECANCELED)
        return;
    struct bytes *b = rv == 0 && !paused ? secure_new(nng_aio_get_output(l->accept, 0)) : NULL;
    if (b != NULL)
        l->accepted(l->user, b);
    if (rv != 0) {
        log_warn("cannot accept a connection url=%s error=%s", LOG_STR(l->url), LOG_STR(nng_strerror(rv)));
        l->pausing = true;
        nng_sleep_aio(PAUSE_MS, l->accept);
        return;
    }
    nng_stream_listener_accept(l->nng, l->accept);
}

static int listen(struct secure_listener *l, uint16_t *port)
{
    int bound = 0;
    int rv = nng_stream_listener_alloc(&l->nng, l->url);
    if (rv == 0)
        rv = nng_stream_listener_set_ptr(l->nng, NNG_OPT_TLS_CONFIG, l->tls);
    if (rv == 0) /* a peer that vanished without a word is noticed one day */
        rv = nng_stream_listener_set_bool(l->nng, NNG_OPT_TCP_KEEPALIVE, true);
    if (rv == 0) /* or a small reply waits until the client has acknowledged the one before: 40 ms */
        rv = nng_stream_listener_set_bool(l->nng, NNG_OPT_TCP_NODELAY, true);
    if (rv == 0)
        rv = nng_aio_alloc(&l->accept, on_accept, l);
    if (rv == 0)
        rv = nng_stream_listener_listen(l->nng);
    if (rv == 0)
        rv = nng_stream_listener_get_int(l->nng, NNG_OPT_TCP_BOUND_PORT, &bound);
    *port = (uint16_t)bound;
    return rv;
}

int secure_listen(struct secure_listener **out, const char *url, const struct wire_tls *tls, uint16_t *port, struct err *e)
{
    struct secure_listener *l = mem_zalloc(sizeof *l);
    l->url = mem_strdup(url);
    int code = tls_open(&l->tls, tls, e);
    int rv = code == E_OK ? listen(l, port) : 0;
    if (rv != 0)
        code = err_set(e, rv == NNG_EADDRINVAL ? E_CONFIG : E_UNREACHABLE, "cannot listen at %s: %s", url, nng_strerror(rv));
    if (code == E_OK)
        *out = l;
    else
        secure_unlisten(l);
    return code;
}

void secure_accept(struct secure_listener *l, secure_accepted_fn *accepted, void *user)
{
    l->accepted = accepted;
    l->user = user;
    nng_stream_listener_accept(l->nng, l->accept);
}

void secure_unlisten(struct secure_listener *l)
{
    if (l == NULL)
        return;
    if (l->nng != NULL)
        nng_stream_listener_close(l->nng);
    nng_aio_free(l->accept); /* waits for its callback */
    if (l->nng != NULL)
        nng_stream_listener_free(l->nng);
    if (l->tls != NULL)
        nng_tls_config_free(l->tls);
    mem_free(l->url);
    mem_free(l);
}

/* The addresses at which one kind of socket listens, and the connections that came by them: TCP, TLS, Unix sockets.
 *
 * Connections are kept here from accept to their end, so that all can be closed, those who do not greet can be found, and what is
 * done can be freed in a thread that may wait.
 *
 * Threads: start, close: one. tend: one, not during these. The rest any.
 */
#ifndef WIRE_LISTEN_H
#define WIRE_LISTEN_H

#include "wire/stream.h"
#include "wire/tls.h"

/* OK, or CONFIG naming the address: a scheme that is not served, tls+tcp without a certificate. */
int listen_check(const char *url, const struct wire_tls *tls, struct err *e);
/* inproc:// is nng's own affair (local.h), all else comes as a stream: over sockets (socket.h) or TLS (secure.h). */
bool listen_is_local(const char *url);

struct listener;

struct listener_options {
    const struct stream_hooks *hooks; /* but `done`, which is ours */
    void *user;
    struct pollers *pollers; /* outlive the listener */
    uint16_t self, peer;
    bool hears;
    size_t receive_bytes_max, trusted_bytes_max;
    uint64_t greeting_max, greeting_ms; /* how many may not have greeted, and for how long */
};

/* One address, which was checked. Copied, as is what `o` says; `tls` is borrowed for listener_start. */
struct listener *listener_new(const char *url, const struct listener_options *o);
/* OK; UNREACHABLE or CONFIG naming the address. */
int listener_start(struct listener *l, const struct wire_tls *tls, struct err *e);
/* The address with the port it really has, once it listens. */
const char *listener_url(const struct listener *l);
/* Now and then: closes who does not greet in time, frees what is done. Returns how many it closed. */
size_t listener_tend(struct listener *l, uint64_t now_ms);
/* Connections are accepted no more; those that are open stay. */
void listener_shut(struct listener *l);
/* Closes all connections and waits until they have ended and nobody holds them; frees. */
void listener_close(struct listener *l);

#endif

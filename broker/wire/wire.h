/* The broker's sockets: requests come in by REP, replies go out by it, hints by PUB.
 *
 *     stream.c, local.c ----> on_message: pipes, frame ----> api_request ....> loop
 *                                                                                |
 *     stream.c, local.c <---- packet <---- frame, pipes <---- op->done  <........+
 *
 *     publisher thread  hints that the loop leaves, and the lag of groups, to PUB
 *     tending thread    closes who does not greet or say hello in time, frees connections that are done
 *
 * Requests of one connection keep their order; those of several are decoded and checked side by side, in the threads that poll
 * (under TLS in nng's). Who is connected and what may be out per connection: pipes.h. Why these are not nng's own sockets: stream.h.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include "api/api.h"
#include "wire/bounds.h"
#include "wire/pipes.h"
#include "wire/tls.h"

struct wire;

struct wire_options {
    struct api *api;                    /* outlives the wire */
    const struct wire_bounds *bounds;   /* likewise */
    const struct engine_limits *limits; /* likewise; hello tells them to clients */
    uint64_t message_bytes_max;
    const char *const *listen, *const
                                   *publish; /* addresses, checked with wire_check; borrowed for wire_open */
    size_t listen_n, publish_n;
    struct wire_tls tls;
    void (*pipe_lost)(void *user, uint64_t pipe); /* any thread, must not block */
    void (*help)(void *user); /* all requests that came with one look at the connections were submitted, those that `help`. Any thread; may take a while */
    void *user;
};

/* An address: OK, or CONFIG naming it. */
int wire_check(const char *url, const struct wire_tls *tls, struct err *e);

/* Sockets and threads are there, nothing listens. NO_MEMORY, INTERNAL. */
int wire_open(struct wire **out, const struct wire_options *o, struct err *e);
/* Listens. `http`: what hello tells clients, "" for none; copied. UNREACHABLE or CONFIG naming the address; then nothing listens. */
int wire_listen(struct wire *w, const char *http, struct err *e);
/* No new connections. */
void wire_close_door(struct wire *w);
/* To be called when no operation is on its way any more. Waits up to `flush_ms` until replies have been written, closes everything. */
void wire_close(struct wire *w, uint32_t flush_ms);

/* The addresses with their real ports, in the order given. */
size_t wire_listen_count(const struct wire *w);
const char *wire_listen_url(const struct wire *w, size_t i);
size_t wire_publish_count(const struct wire *w);
const char *wire_publish_url(const struct wire *w, size_t i);

/* A group that had nothing to give has something. Any thread; never blocks, and drops the hint when it would have to. */
void wire_hint(struct wire *w, uint32_t group, const char *topic, const char *name);
/* Another connection took this one's session. Any thread. */
void wire_drop_pipe(struct wire *w, uint64_t pipe);

struct wire_stats {
#define X(name, help) uint64_t name;
#include "wire/counters.def"
#undef X
    struct pipes_totals pipes;
    uint32_t subscribers;
};
void wire_stats(struct wire *w, struct wire_stats *out);

#endif

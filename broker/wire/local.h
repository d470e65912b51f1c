/* The sockets within the process, inproc://: nng's own, as nothing but nng knows such an address. For a broker that is embedded.
 *
 * Messages are handed over, not written, so nothing is measured: a reply is taken when it is sent. One connection's requests keep
 * their order, as there is one receiver.
 *
 * Threads as in stream.h.
 */
#ifndef WIRE_LOCAL_H
#define WIRE_LOCAL_H

#include "base/err.h"
#include "base/ref.h"
#include "wire/packet.h"

struct local;      /* REP at some addresses */
struct local_conn; /* one connection of it */

struct local_hooks {
    bool (*opened)(void *user, struct local_conn *c); /* false: refused, no other hook comes */
    void (*message)(void *user, struct local_conn *c,
                    struct ref *bytes); /* takes `bytes`: id and frame, 8-aligned */
    void (*closed)(void *user, struct local_conn *c);
};

/* `hooks` outlive it. INTERNAL. */
int local_open(struct local **out, const struct local_hooks *hooks, void *user, size_t receive_bytes_max,
               struct err *e);
/* UNREACHABLE or CONFIG naming the address. */
int local_listen(struct local *l, const char *url, struct err *e);
/* Closes all connections and waits for their hooks. NULL is fine. */
void local_close(struct local *l);

/* A connection is held by itself until its hook `closed`, and by who took it. */
struct local_conn *local_conn_take(struct local_conn *c);
void local_conn_drop(struct local_conn *c);
void local_conn_send(struct local_conn *c, struct packet *p); /* takes the packet */
void local_conn_close(struct local_conn *c);
void local_conn_set_owner(struct local_conn *c, void *owner);
void *local_conn_owner(const struct local_conn *c);

/* ---------------------------------------------------------------- PUB, the same way */

struct local_pub;
int local_pub_open(struct local_pub **out, void (*subscribed)(void *user, int change), void *user,
                   struct err *e);
int local_pub_listen(struct local_pub *l, const char *url, struct err *e);
void local_pub_send(struct local_pub *l, const struct packet *p); /* never waits; borrows */
void local_pub_close(struct local_pub *l);

#endif

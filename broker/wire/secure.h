/* Connections over TLS: nng's streams, which have mbedTLS below them. */
#ifndef WIRE_SECURE_H
#define WIRE_SECURE_H

#include <stdint.h>

#include "base/err.h"
#include "wire/bytes.h"
#include "wire/tls.h"

struct secure_listener;

/* Takes a connection, in a thread of nng's. */
typedef void secure_accepted_fn(void *user, struct bytes *b);

/* Listens at tls+tcp://HOST:PORT. OK; CONFIG or UNREACHABLE naming the address or the file. */
int secure_listen(struct secure_listener **out, const char *url, const struct wire_tls *tls, uint16_t *port, struct err *e);
/* From now on connections are accepted. */
void secure_accept(struct secure_listener *l, secure_accepted_fn *accepted, void *user);
/* No more connections: none is being accepted when it returns. Not in a thread of nng's. NULL is fine. */
void secure_unlisten(struct secure_listener *l);

#endif

/* Connections over the system's own sockets: tcp and Unix. They are accepted and read in the threads of a poller, and written by
 * whoever sends; what a socket does not take at once waits until its poller says that there is room. */
#ifndef WIRE_SOCKET_H
#define WIRE_SOCKET_H

#include "base/err.h"
#include "wire/bytes.h"
#include "wire/poller.h"

struct socket_listener;

/* Takes a connection, in a thread of the poller. */
typedef void socket_accepted_fn(void *user, struct bytes *b);

/* Listens at tcp://HOST:PORT (tcp4, tcp6; an empty host or * is every address) or ipc:///PATH. A socket file that nobody listens at
 * is replaced. `port` is the one it got, 0 of a Unix socket. OK; CONFIG or UNREACHABLE naming the address. */
int socket_listen(struct socket_listener **out, const char *url, struct pollers *pollers, uint16_t *port, struct err *e);
/* From now on connections are accepted. OK, or UNREACHABLE. */
int socket_accept(struct socket_listener *l, socket_accepted_fn *accepted, void *user, struct err *e);
/* Accepts again after the system had no descriptor or memory for a connection. Now and then, any thread. */
void socket_tend(struct socket_listener *l);
/* No more connections: none is being accepted when it returns. Removes the socket file. Not in a thread of the poller. NULL is fine. */
void socket_unlisten(struct socket_listener *l);

#endif

/* The addresses at which one nng socket listens, and the watch over them.
 *
 * A client that connects to a tcp or ipc listener of nng 1.5 and hangs up in the middle of the greeting can end its accepting for
 * good (nng #1518): connections are still greeted by the transport, but never given to the socket. So the watch greets each such
 * listener as a client would and waits for the socket to say that a connection came. One that stays silent is closed, with its
 * connections, and the address is listened at anew; clients reconnect. tls+tcp and inproc are not affected.
 *
 * Threads: listeners_start, _watch, _close from one at a time; the others any.
 */
#ifndef WIRE_LISTEN_H
#define WIRE_LISTEN_H

#include <nng/nng.h>
#include <stdbool.h>
#include <stdint.h>

#include "wire/tls.h"

struct listeners;

/* OK, or CONFIG naming the address: a scheme that is not served, tls+tcp without a certificate. */
int listeners_check(const char *url, const struct wire_tls *tls, struct err *e);

/* `tls` is borrowed for the call. Strings are copied. */
struct listeners *listeners_new(nng_socket socket, const char *const *urls, size_t n, const struct wire_tls *tls,
                                size_t receive_bytes_max);
/* Closes those that listen, and frees. */
void listeners_close(struct listeners *l);

/* OK: all listen. UNREACHABLE or CONFIG naming the address: none does. */
int listeners_start(struct listeners *l, struct err *e);

size_t listeners_count(const struct listeners *l);
/* The address with the port it really has, once it listens. */
const char *listeners_url(const struct listeners *l, size_t i);

/* To be called when nng announces a connection (ADD_PRE). *measured: nng counts what it writes to it. False: of none of these. */
bool listeners_added(struct listeners *l, nng_pipe pipe, bool *measured);

/* Tries each listener that can die, one after the other; returns how many it replaced. Lasts timeout_ms per dead one. */
unsigned listeners_watch(struct listeners *l, uint64_t timeout_ms);

#endif

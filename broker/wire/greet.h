/* A connection made as a client of nng makes it, without nng: connect, exchange the eight bytes of the SP greeting, hang up. */
#ifndef WIRE_GREET_H
#define WIRE_GREET_H

#include <nng/nng.h>
#include <stdint.h>

enum greeting {
    GREET_DONE,   /* greeted; *fd is open until greet_end */
    GREET_SILENT, /* refused, or no greeting by the deadline */
    GREET_CANNOT  /* this process could not even try */
};

/* `address`: of a listener on this machine; one on all interfaces is reached by loopback. The greeting announces no protocol, so nng
 * turns the connection away as soon as it has taken it. */
enum greeting greet(const nng_sockaddr *address, uint64_t deadline_mono_ms, int *fd);
void greet_end(int fd);

#endif

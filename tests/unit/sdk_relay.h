/*
 * A relay between a client and a broker, for tests of what connections can do: bytes go through in small pieces, or not at all for
 * a while, or the connection ends after any of them.
 */
#ifndef TESTS_SDK_RELAY_H
#define TESTS_SDK_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct relay;

enum { RELAY_UP, RELAY_DOWN }; /* to the broker, to the client */

struct relay_rules {
    size_t piece[2]; /* bytes passed on at a time; 0: as many as come */
    bool held[2];    /* nothing is read from that side */
    unsigned cuts;   /* so many connections, from now on, end .. */
    size_t cut_at;   /* .. when this many bytes have passed .. */
    int cut_way;     /* .. in this direction */
};

/* Relays from `listen` ("tcp://127.0.0.1", "tcp://[::1]" or "ipc://PATH") to `to`, a broker's URL of the same kind. NULL: there is no
 * such address on this machine. */
struct relay *relay_open(const char *listen, const char *to);
void relay_close(struct relay *r);
const char *relay_url(const struct relay *r);

/* From now on; connections stay. */
void relay_set(struct relay *r, struct relay_rules rules);

/* Connections that were made so far. Bytes that passed in a direction. */
unsigned relay_connections(struct relay *r);
uint64_t relay_passed(struct relay *r, int way);

#endif

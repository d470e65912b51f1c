/* One message on its way out: bytes that never change, held by each connection that still has to send them.
 *
 *     room for the length    | id u32 BE | frame ...
 *     of the SP transport    |<---------- data ----->|
 *
 * What stands before `data` is what SP puts before each message: on TCP and TLS its length as u64 BE, on Unix sockets a byte 1 and
 * that. packet_seal writes both, so that one packet can go to connections of either kind.
 *
 * Thread: any that holds it; written to only before packet_seal.
 */
#ifndef WIRE_PACKET_H
#define WIRE_PACKET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PACKET_LENGTH_SIZE = 8,
    PACKET_HEADROOM = 64
}; /* what may stand before the FlatBuffer, at a multiple of 16 */

struct packet {
    atomic_uint refs;
    bool bare; /* nothing stands before it: the greeting of a connection */
    size_t size;
    uint8_t *data;
    _Alignas(16) uint8_t room[];
};

/* With `cap` bytes behind the headroom, not cleared; held once. NULL: no memory. */
struct packet *packet_new(size_t cap);
/* data and size are set; data is at least 9 bytes into the room. */
void packet_seal(struct packet *p);
struct packet *packet_take(struct packet *p);
void packet_drop(struct packet *p); /* NULL is fine */

#endif

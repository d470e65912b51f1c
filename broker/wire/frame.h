/* Between bytes and operations: a request is taken apart, a reply is put together. No sockets.
 *
 * Nothing is copied: a request's FlatBuffer is read where it was received, and a reply is built in the packet that leaves. Both begin
 * with the request's id, 4 bytes that belong to the socket, so that behind the 12 of the frame's head the FlatBuffer is aligned.
 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include "base/ref.h"
#include "schemas/codec.h"
#include "wire/packet.h"

enum {
    FRAME_ID_SIZE = 4,
    FRAME_ID_FLAG = 0x80000000
}; /* the flag: this is the id, not the hop of a device before it */

struct frame_request {
    uint32_t id;
    struct frame head;
    bool answerable;  /* its first bytes make sense, so a refusal can be answered */
    struct view body; /* the FlatBuffer, 8-aligned if the message is */
};

/* `message`: id, then the frame. OK; BAD_FRAME or BAD_VERSION with head filled if answerable. The body is borrowed. */
int frame_open(struct view message, struct frame_request *out, struct err *e);

/* A reply as a packet, held once, sealed. NULL: no memory. */
struct packet *frame_reply(const struct wire_reply *reply, uint8_t verb, uint32_t id);

/* Published messages: a reply (lag), or the id of a group (avail). NULL: no memory. */
struct packet *frame_publish(const struct wire_reply *reply, enum pub_kind kind, struct view channel);
struct packet *frame_hint(uint32_t group, struct view channel);

#endif

/* Between nng's messages and operations: a request is taken apart, a reply is put together. No sockets.
 *
 * Nothing is copied: a request's FlatBuffer is read where nng received it (12 bytes of head bring it from 4 mod 16 to a multiple of
 * 16), and a reply is built in the message that leaves.
 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include <nng/nng.h>

#include "base/ref.h"
#include "schemas/codec.h"

enum { FRAME_ROUTE_SIZE = 8 }; /* nng's head of a raw request: pipe, request id; a reply carries the same */

/* What of a message is not there when frame_open refuses it. */
struct frame_request {
    struct frame head;
    bool answerable;                 /* its first four bytes make sense, so a refusal can be answered */
    uint8_t route[FRAME_ROUTE_SIZE];
    struct view body;                /* the FlatBuffer, 8-aligned */
    struct ref *hold;                /* owns the message, or a copy where it lay askew (inproc hands on what a client built) */
};

/* Takes `m` in every case. OK: `hold` is the caller's. BAD_FRAME, BAD_VERSION: hold is NULL, head filled if answerable. */
int frame_open(nng_msg *m, struct frame_request *out, struct err *e);

/* The message of a reply, its head and route in place. OK, or NO_MEMORY. */
int frame_reply(const struct wire_reply *reply, uint8_t verb, const uint8_t route[FRAME_ROUTE_SIZE], nng_msg **out);

/* Published messages: head, then a reply (lag), or the id of a group (avail). OK, or NO_MEMORY. */
int frame_publish(const struct wire_reply *reply, enum pub_kind kind, struct view channel, nng_msg **out);
int frame_hint(uint32_t group, struct view channel, nng_msg **out);

#endif

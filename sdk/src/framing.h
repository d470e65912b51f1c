/*
 * The bytes around frames on a connection, which are nng's, so that the other side may be any REP socket: eight each way that name
 * the protocol, then messages, each its length and a request id before the frame. Over ipc a byte 1 stands before the length. Of a
 * PUB, which we hear as a SUB, there is no id.
 *
 *     0 'S' 'P' 0  protocol u16 BE  0 0       [1]  length of the rest u64 BE   request id u32 BE   frame
 *
 *     packets -> outlet -> pieces to write            room to read into -> inlet -> the greeting, frames
 *
 * Neither knows a socket: whoever has one asks for pieces, or room, and says how many bytes went, or came. No locks.
 */
#ifndef SDK_FRAMING_H
#define SDK_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/ref.h"
#include "schemas/codec.h"
#include "sdk/carrier.h"
#include "sdk/loop.h"

enum {
    SP_SIZE = 8,            /* the greeting */
    READ_AHEAD = 64 * 1024, /* bytes; so small frames come many at once */
};

/* ---------------------------------------------------------------- out */

struct outlet {
    bool ipc, hears;
    size_t greeted; /* bytes of the greeting that went */
    struct packet *first, **last;
    size_t went; /* bytes of the first packet, and its head */
};

/* A new connection's: the greeting is to go first. */
void outlet_init(struct outlet *o, bool ipc, bool hears);

/* Frees what did not go. All zero is good. */
void outlet_clear(struct outlet *o);

/* Takes a packet. */
void outlet_push(struct outlet *o, struct packet *p);

/* What is to be written next, up to `max` pieces; they are good until outlet_went. 0: nothing. */
size_t outlet_pieces(struct outlet *o, struct iovec *pieces, size_t max);

/* `bytes` of it were written; frees packets that went whole. */
void outlet_went(struct outlet *o, size_t bytes);

/* ---------------------------------------------------------------- in */

/* A frame that is coming in, or has come. */
struct inbound {
    struct event event; /* for who hands it to another thread */
    void *to;
    uint32_t tag;
    size_t size, got;
    uint8_t *frame; /* its FlatBuffer is aligned */
    uint8_t bytes[];
};

/* Its bytes; it is freed with them. */
struct ref *inbound_ref(struct inbound *in);

struct inlet {
    bool ipc, hears;
    bool heard;         /* their greeting */
    uint64_t pass;      /* bytes to come of a message that is too large to be heard */
    uint8_t *ahead;     /* READ_AHEAD bytes */
    size_t at, end;     /* what is in it */
    struct inbound *in; /* the frame that is coming, or NULL */
};

/* A new connection's; frees what is left of the one before. All zero is a good one before. */
void inlet_init(struct inlet *i, bool ipc, bool hears);
void inlet_free(struct inlet *i);

/* Where the next bytes are to go: 1 or 2 pieces. A large frame goes right to its place. */
size_t inlet_room(const struct inlet *i, struct iovec pieces[2]);

/* `bytes` came there; inlet_take is to be called until there is nothing. */
void inlet_came(struct inlet *i, size_t bytes);

enum inlet_got {
    INLET_NOTHING,  /* that is whole */
    INLET_GREETING, /* once, first */
    INLET_FRAME,    /* *frame, which the caller frees, or gives to inbound_ref */
    INLET_NONSENSE, /* not our protocol, larger than REPLY_BYTES_MAX, or than memory: the connection is of no use */
};
enum inlet_got inlet_take(struct inlet *i, struct inbound **frame);

#endif

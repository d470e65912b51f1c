/* A client of the protocol without the SDK and without nng, so that any frame can be sent, any number of requests can be out, and
 * replies come in whatever order. One thread. */
#ifndef TALK_TALKER_H
#define TALK_TALKER_H

#include "schemas/codec.h"
#include "schemas/errors.h"

struct talker {
    int fd;
    struct id128 session;
    uint64_t seq; /* last used of lane 0 */
    uint32_t id;  /* last request */
};

/* A reply, and what keeps its bytes. */
struct heard {
    uint32_t id; /* of the request that it answers */
    struct frame frame;
    struct wire_reply reply;
    struct arena arena;
    void *bytes;
};
void heard_free(struct heard *h);

/* Connects; a new session's id is drawn. */
void talker_open(struct talker *t, const char *url);
void talker_close(struct talker *t);
/* Whether the broker has closed the connection by `ms` from now; replies that come meanwhile are thrown away. */
bool talker_is_lost_by(struct talker *t, int ms);

/* Sends. The session is filled in. Returns the id of the request. */
uint32_t talker_send(struct talker *t, struct wire_request *r);
/* Any bytes in place of a frame. On a connection that is gone they go nowhere. */
uint32_t talker_send_bytes(struct talker *t, const void *bytes, size_t size);
/* The frame of a request; freed with free(). */
uint8_t *talker_frame(const struct talker *t, struct wire_request *r, size_t *size);

/* The next reply, within `ms`. False: none came, or the connection is gone. */
bool talker_hear(struct talker *t, int ms, struct heard *out);
/* Sends and waits for that reply; the only request out. Returns its code. Without `out` the rest is thrown away. */
int talker_call(struct talker *t, struct wire_request *r, struct heard *out);

/* Says hello and is let in. */
void talker_hello(struct talker *t);
/* Whether a new client is let in and answered within a second. */
bool talker_is_served(const char *url);
/* Makes a topic; the id of its first partition. */
uint32_t talker_topic(struct talker *t, const char *name, uint32_t partitions, enum durability durability);
/* Makes a queue group; its id. */
uint32_t talker_group(struct talker *t, const char *topic, const char *name);
/* Produces `count` messages without key of `size` bytes each, as number `seq` of the partition's lane; the code. */
int talker_produce(struct talker *t, uint32_t partition, uint64_t seq, uint32_t count, size_t size);

#endif

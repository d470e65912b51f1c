#include "wire/frame.h"

#include <assert.h>

#include "schemas/errors.h"

/* ---------------------------------------------------------------- requests */

int frame_open(struct view message, struct frame_request *out, struct err *e)
{
    *out = (struct frame_request){.answerable = false};
    if (message.size < FRAME_ID_SIZE)
        return err_set(e, E_BAD_FRAME, "a message of %zu bytes", message.size);
    out->id = get_u32be(message.data);
    if ((out->id & FRAME_ID_FLAG) == 0)
        return err_set(e, E_BAD_FRAME, "a message that came through a device");
    const uint8_t *data = message.data + FRAME_ID_SIZE;
    size_t size = message.size - FRAME_ID_SIZE;
    out->answerable = size >= FRAME_SIZE && data[0] == FRAME_MAGIC && (data[3] & FRAME_REPLY) == 0;
    int code = frame_check(data, size, &out->head, e);
    if (code == E_OK && out->head.flags != 0)
        return err_set(e, E_BAD_FRAME, "flags 0x%02x are not known", out->head.flags);
    if (code == E_OK)
        out->body = view_of(data + FRAME_SIZE, size - FRAME_SIZE);
    return code;
}

/* ---------------------------------------------------------------- replies */

/* A packet with the reply's FlatBuffer, and room for `head` bytes before it from data on. */
static struct packet *encode(const struct wire_reply *reply, size_t head)
{
    size_t cap = codec_reply_bound(reply);
    struct packet *p = packet_new(cap);
    if (p == NULL)
        return NULL;
    struct codec_space space = {.data = p->room + PACKET_HEADROOM, .cap = cap};
    int code = codec_reply_encode(reply, &space);
    assert(code == E_OK);
    (void)code;
    p->data = space.data + space.at - head;
    p->size = head + space.size;
    return p;
}

struct packet *frame_reply(const struct wire_reply *reply, uint8_t verb, uint32_t id)
{
    struct packet *p = encode(reply, FRAME_ID_SIZE + FRAME_SIZE);
    if (p == NULL)
        return NULL;
    uint8_t *head = p->data + FRAME_ID_SIZE, *body = head + FRAME_SIZE;
    put_u32be(p->data, id);
    frame_put(head, (struct frame){.version = WIRE_VERSION, .verb = verb, .flags = FRAME_REPLY}, body,
              p->size - FRAME_ID_SIZE - FRAME_SIZE);
    packet_seal(p);
    return p;
}

/* ---------------------------------------------------------------- publications */

static void publish_put(struct packet *p, enum pub_kind kind, struct view channel)
{
    pub_frame_put(p->data, kind, channel, p->data + PUB_FRAME_SIZE, p->size - PUB_FRAME_SIZE);
    packet_seal(p);
}

struct packet *frame_publish(const struct wire_reply *reply, enum pub_kind kind, struct view channel)
{
    struct packet *p = encode(reply, PUB_FRAME_SIZE);
    if (p != NULL)
        publish_put(p, kind, channel);
    return p;
}

struct packet *frame_hint(uint32_t group, struct view channel)
{
    struct packet *p = packet_new(PUB_FRAME_SIZE + sizeof group);
    if (p == NULL)
        return NULL;
    p->data = p->room + PACKET_HEADROOM;
    p->size = PUB_FRAME_SIZE + sizeof group;
    put_u32(p->data + PUB_FRAME_SIZE, group);
    publish_put(p, PUB_AVAIL, channel);
    return p;
}

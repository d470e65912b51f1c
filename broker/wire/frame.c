#include "wire/frame.h"

#include <assert.h>

#include "schemas/errors.h"

/* ---------------------------------------------------------------- requests */

enum { BODY_ALIGN = 8 }; /* what decoders ask for; see codec_aligned */

static void message_free(struct ref *r)
{
    nng_msg_free(r->owner);
}

static struct ref *hold(nng_msg *m, struct view body)
{
    if ((uintptr_t)body.data % BODY_ALIGN == 0)
        return ref_wrap(body.data, body.size, message_free, m);
    static_assert(sizeof(struct ref) % BODY_ALIGN == 0, "the bytes of a copy lie behind its struct");
    struct ref *copy = ref_new_copy(body.data, body.size);
    nng_msg_free(m);
    return copy;
}

static int check(nng_msg *m, struct frame_request *out, struct err *e)
{
    const uint8_t *data = nng_msg_body(m);
    size_t size = nng_msg_len(m);
    if (nng_msg_header_len(m) != FRAME_ROUTE_SIZE)
        return err_set(e, E_BAD_FRAME, "a route of %zu bytes", nng_msg_header_len(m));
    memcpy(out->route, nng_msg_header(m), FRAME_ROUTE_SIZE);
    out->answerable = size >= FRAME_SIZE && data[0] == FRAME_MAGIC && (data[3] & FRAME_REPLY) == 0;
    int code = frame_check(data, size, &out->head, e);
    if (code == E_OK && out->head.flags != 0)
        return err_set(e, E_BAD_FRAME, "flags 0x%02x are not known", out->head.flags);
    return code;
}

int frame_open(nng_msg *m, struct frame_request *out, struct err *e)
{
    *out = (struct frame_request){.answerable = false};
    int code = check(m, out, e);
    if (code != E_OK) {
        nng_msg_free(m);
        return code;
    }
    out->hold = hold(m, view_of((uint8_t *)nng_msg_body(m) + FRAME_SIZE, nng_msg_len(m) - FRAME_SIZE));
    out->body = ref_view(out->hold);
    return E_OK;
}

/* ---------------------------------------------------------------- replies */

/* A message of `head` bytes, to be filled, and the reply behind them. nng_msg_alloc zeroes, so it is asked for what is needed, and
 * what the bound was too large by is cut off at both ends. */
static int encode(const struct wire_reply *reply, size_t head, nng_msg **out)
{
    size_t cap = codec_reply_bound(reply);
    nng_msg *m;
    if (nng_msg_alloc(&m, head + cap) != 0)
        return E_NO_MEMORY;
    struct codec_space space = {.data = (uint8_t *)nng_msg_body(m) + head, .cap = cap};
    int code = codec_reply_encode(reply, &space);
    assert(code == E_OK);
    (void)code;
    nng_msg_trim(m, space.at);
    nng_msg_chop(m, cap - space.at - space.size);
    *out = m;
    return E_OK;
}

int frame_reply(const struct wire_reply *reply, uint8_t verb, const uint8_t route[FRAME_ROUTE_SIZE], nng_msg **out)
{
    nng_msg *m;
    if (encode(reply, FRAME_SIZE, &m) != E_OK || nng_msg_header_append(m, route, FRAME_ROUTE_SIZE) != 0)
        return E_NO_MEMORY;
    uint8_t *data = nng_msg_body(m);
    frame_put(data, (struct frame){.version = WIRE_VERSION, .verb = verb, .flags = FRAME_REPLY}, data + FRAME_SIZE,
              nng_msg_len(m) - FRAME_SIZE);
    *out = m;
    return E_OK;
}

/* ---------------------------------------------------------------- publications */

int frame_publish(const struct wire_reply *reply, enum pub_kind kind, struct view channel, nng_msg **out)
{
    if (encode(reply, PUB_FRAME_SIZE, out) != E_OK)
        return E_NO_MEMORY;
    uint8_t *data = nng_msg_body(*out);
    pub_frame_put(data, kind, channel, data + PUB_FRAME_SIZE, nng_msg_len(*out) - PUB_FRAME_SIZE);
    return E_OK;
}

int frame_hint(uint32_t group, struct view channel, nng_msg **out)
{
    uint8_t id[sizeof group];
    if (nng_msg_alloc(out, PUB_FRAME_SIZE + sizeof id) != 0)
        return E_NO_MEMORY;
    put_u32(id, group);
    uint8_t *data = nng_msg_body(*out);
    memcpy(data + PUB_FRAME_SIZE, id, sizeof id);
    pub_frame_put(data, PUB_AVAIL, channel, data + PUB_FRAME_SIZE, sizeof id);
    return E_OK;
}

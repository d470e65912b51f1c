/* The few bytes before a message that say what it is and that it arrived whole. */
#include "base/hash.h"
#include "schemas/codec.h"
#include "schemas/errors.h"

/* The seed ties the head to the body: a flipped verb is noticed as a flipped byte of the body is. */
static uint64_t frame_hash(const uint8_t head[FRAME_SIZE], const uint8_t *body, size_t size)
{
    return hash_bytes(body, size, get_u32(head));
}

static void head_put(uint8_t head[FRAME_SIZE], struct frame f)
{
    head[0] = FRAME_MAGIC;
    head[1] = f.version;
    head[2] = f.verb;
    head[3] = f.flags;
}

void frame_put(uint8_t head[FRAME_SIZE], struct frame f, const uint8_t *body, size_t size)
{
    head_put(head, f);
    put_u64(head + 4, frame_hash(head, body, size));
}

void frame_put_apart(uint8_t head[FRAME_SIZE], struct frame f, struct view body, struct view end)
{
    const struct view pieces[] = {body, end};
    head_put(head, f);
    put_u64(head + 4, hash_pieces(pieces, ARRAY_LEN(pieces), get_u32(head)));
}

int frame_check(const uint8_t *data, size_t size, struct frame *f, struct err *e)
{
    if (size < FRAME_SIZE)
        return err_set(e, E_BAD_FRAME, "frame of %zu bytes, its head alone has %d", size, FRAME_SIZE);
    if (data[0] != FRAME_MAGIC)
        return err_set(e, E_BAD_FRAME, "frame begins with 0x%02x, not with 0x%02x", data[0], FRAME_MAGIC);
    *f = (struct frame){.version = data[1], .verb = data[2], .flags = data[3]};
    if (get_u64(data + 4) != frame_hash(data, data + FRAME_SIZE, size - FRAME_SIZE))
        return err_set(e, E_BAD_FRAME, "frame of %zu bytes has the wrong checksum", size);
    if (f->version != WIRE_VERSION)
        return err_set(e, E_BAD_VERSION, "frame of version %u, this is version %d", f->version, WIRE_VERSION);
    return E_OK;
}

static uint64_t pub_frame_hash(const uint8_t head[PUB_FRAME_SIZE], const uint8_t *body, size_t size)
{
    return hash_bytes(body, size, get_u64(head));
}

void pub_frame_put(uint8_t head[PUB_FRAME_SIZE], enum pub_kind kind, struct view channel, const uint8_t *body,
                   size_t size)
{
    head[0] = (uint8_t)kind;
    head[1] = WIRE_VERSION;
    put_u16(head + 2, 0);
    put_u32(head + 4, pub_channel_hash(channel));
    put_u64(head + 8, pub_frame_hash(head, body, size));
}

int pub_frame_check(const uint8_t *data, size_t size, enum pub_kind *kind, uint32_t *channel, struct err *e)
{
    if (size < PUB_FRAME_SIZE)
        return err_set(e, E_BAD_FRAME, "published frame of %zu bytes, its head alone has %d", size,
                       PUB_FRAME_SIZE);
    if (get_u64(data + 8) != pub_frame_hash(data, data + PUB_FRAME_SIZE, size - PUB_FRAME_SIZE))
        return err_set(e, E_BAD_FRAME, "published frame of %zu bytes has the wrong checksum", size);
    if (data[1] != WIRE_VERSION)
        return err_set(e, E_BAD_VERSION, "published frame of version %u, this is version %d", data[1],
                       WIRE_VERSION);
    if (data[0] < PUB_AVAIL || data[0] > PUB_LIVE)
        return err_set(e, E_BAD_FRAME, "published frame of unknown kind %u", data[0]);
    *kind = (enum pub_kind)data[0];
    *channel = get_u32(data + 4);
    return E_OK;
}

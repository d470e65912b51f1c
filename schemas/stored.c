/* The broker's header before a stored batch: see stored.h. */
#include "schemas/stored.h"

#include <xxhash.h>

#include "schemas/errors.h"

static const uint8_t magic[4] = {'S', 'L', 'G', 'B'};

/* The header without its sum field. */
static uint32_t header_sum(const uint8_t *at)
{
    uint8_t rest[STORED_HEADER_SIZE - 4];
    memcpy(rest, at, 52);
    memcpy(rest + 52, at + 56, 8);
    return (uint32_t)XXH3_64bits(rest, sizeof rest);
}

void stored_header_put(uint8_t to[STORED_HEADER_SIZE], const struct stored_header *h)
{
    memcpy(to, magic, sizeof magic);
    to[4] = STORED_FORMAT;
    to[5] = h->level;
    put_u16(to + 6, 0);
    put_u32(to + 8, h->epoch);
    put_u32(to + 12, h->count);
    put_u64(to + 16, h->turn);
    put_u64(to + 24, h->base_offset);
    put_u64(to + 32, h->append_time_ms);
    put_u64(to + 40, h->cumulative_bytes);
    put_u32(to + 48, h->size);
    put_u64(to + 56, h->batch_hash);
    put_u32(to + 52, header_sum(to));
}

int stored_header_get(struct view from, struct stored_header *h, struct err *e)
{
    if (from.size < STORED_HEADER_SIZE)
        return err_set(e, E_DAMAGED, "batch header is cut at %zu bytes", from.size);
    const uint8_t *at = from.data;
    if (memcmp(at, magic, sizeof magic) != 0)
        return err_set(e, E_DAMAGED, "batch header has no magic");
    if (get_u32(at + 52) != header_sum(at))
        return err_set(e, E_DAMAGED, "batch header does not fit its checksum");
    if (at[4] != STORED_FORMAT)
        return err_set(e, E_DAMAGED, "batch header has format %u, this version reads %u", at[4], STORED_FORMAT);
    h->level = at[5];
    h->epoch = get_u32(at + 8);
    h->count = get_u32(at + 12);
    h->turn = get_u64(at + 16);
    h->base_offset = get_u64(at + 24);
    h->append_time_ms = get_u64(at + 32);
    h->cumulative_bytes = get_u64(at + 40);
    h->size = get_u32(at + 48);
    h->batch_hash = get_u64(at + 56);
    return E_OK;
}

int stored_next(struct view *rest, struct stored_header *h, struct view *batch, struct err *e)
{
    int code = stored_header_get(*rest, h, e);
    if (code != E_OK)
        return code;
    size_t whole = stored_entry_size(h->size);
    if (whole > rest->size)
        return err_set(e, E_DAMAGED, "batch at offset %llu is cut", (unsigned long long)h->base_offset);
    *batch = view_of(rest->data + STORED_HEADER_SIZE, h->size);
    *rest = view_of(rest->data + whole, rest->size - whole);
    return E_OK;
}

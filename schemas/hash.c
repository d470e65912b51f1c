/* The hashes that are part of the contract: they are stored and compared across machines and versions, so none may change. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/hash.h"
#include "schemas/records.h"

uint64_t key_hash(struct view key)
{
    return XXH3_64bits(key.data, key.size);
}

static struct id128 hash128(struct view bytes)
{
    XXH128_hash_t hash = XXH3_128bits(bytes.data, bytes.size);
    return (struct id128){.lo = hash.low64, .hi = hash.high64};
}

struct id128 message_id_hash(struct view text) { return hash128(text); }
struct id128 state_key_hash(struct view key) { return hash128(key); }

uint32_t key_partition(uint64_t hash, uint32_t partitions)
{
    return (uint32_t)(hash % partitions);
}

uint64_t batch_hash(struct view bytes)
{
    return hash_bytes(bytes.data, bytes.size, 0);
}

uint32_t pub_channel_hash(struct view channel)
{
    return (uint32_t)XXH3_64bits(channel.data, channel.size);
}

static void gather(uint8_t **to, const uint8_t *from, size_t size)
{
    if (size != 0)
        memcpy(*to, from, size);
    *to += size;
}

/* Gathering a small record and hashing it in one go is several times as fast as feeding its parts to a streaming hash. What is longer than
 * XXH3 does without a loop is left to wider registers than this file may use. */
enum { GATHER_MAX = 1024, SIZES = 3 * sizeof(uint32_t), XXH3_SHORT = 240 };

uint32_t record_sum(uint32_t key_size, uint32_t headers_size, uint32_t value_size, const uint8_t *key,
                    const uint8_t *headers, const uint8_t *value)
{
    size_t key_bytes = key_size != 0 ? key_size - 1 : 0;
    size_t value_bytes = value_size != 0 ? value_size - 1 : 0;

    uint8_t small[SIZES + GATHER_MAX];
    put_u32(small, key_size);
    put_u32(small + 4, headers_size);
    put_u32(small + 8, value_size);

    if (key_bytes + headers_size + value_bytes <= GATHER_MAX) {
        uint8_t *end = small + SIZES;
        gather(&end, key, key_bytes);
        gather(&end, headers, headers_size);
        gather(&end, value, value_bytes);
        size_t size = (size_t)(end - small);
        return (uint32_t)(size <= XXH3_SHORT ? XXH3_64bits(small, size) : hash_bytes(small, size, 0));
    }

    const struct view pieces[] = {view_of(small, SIZES), view_of(key, key_bytes), view_of(headers, headers_size),
                                  view_of(value, value_bytes)};
    return (uint32_t)hash_pieces(pieces, ARRAY_LEN(pieces), 0);
}

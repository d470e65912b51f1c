#include "base/hash.h"

#define XXH_STATIC_LINKING_ONLY /* the size of a state */
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

uint64_t hash_bytes(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}

uint64_t hash_pieces(const struct view *pieces, size_t n, uint64_t seed)
{
    /* A state wants 64-aligned memory, which GCC's address sanitizer does not give to a local. */
    uint8_t room[sizeof(XXH3_state_t) + 63];
    XXH3_state_t *state = (XXH3_state_t *)(((uintptr_t)room + 63) / 64 * 64);
    XXH3_INITSTATE(state);
    XXH3_64bits_reset_withSeed(state, seed);
    for (size_t i = 0; i < n; i++) {
        if (pieces[i].size != 0)
            XXH3_64bits_update(state, pieces[i].data, pieces[i].size);
    }
    return XXH3_64bits_digest(state);
}

/* XXH3-64 of many bytes, with the widest registers that this CPU has. The value is the same everywhere: it is XXH3's.
 *
 * For what is small, such as keys, <xxhash.h> compiled in is faster than the call. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/buf.h"

uint64_t hash_bytes(const void *data, size_t size, uint64_t seed); /* seed 0: as without one */

/* Of all of them as if they lay one behind the other. */
uint64_t hash_pieces(const struct view *pieces, size_t n, uint64_t seed);

#endif

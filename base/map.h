/*
 * From a number to a pointer: open addressing, linear probing, deletion by shifting back, so there
 * are no tombstones and a map that lived long is as fast as a new one. Keys are mixed, any numbers
 * will do. 16 bytes a slot, filled to at most 3/4; it shrinks when less than 1/8 is used. A value
 * is never NULL: NULL means "not there".
 *
 * One thread. All zero is a good empty map. The map owns its slots, never what values point at.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct map_slot {
    uint64_t key;
    void *value; /* NULL: free */
};

struct map {
    struct map_slot *slots;
    size_t count;
    size_t cap;       /* a power of two, or 0 */
    uint64_t changes; /* how many times keys were added or removed */
};

/* The value of a key, or NULL. */
void *map_get(const struct map *m, uint64_t key);

/* Sets the value (not NULL) of a key and returns the old one, or NULL if the key is new. */
void *map_put(struct map *m, uint64_t key, void *value);

/* Removes a key and returns its value, or NULL if it was not there. */
void *map_del(struct map *m, uint64_t key);

size_t map_count(const struct map *m);

/*
 * Visits every key once:
 *
 *     for (struct map_it it = map_iter(&m); map_next(&it);)
 *         use(it.key, it.value);
 *
 * The order is the same for the same history of calls, and otherwise means nothing. While visiting,
 * keys must not be added or removed (asserted); replacing a value and freeing what it pointed at is
 * fine.
 */
struct map_it {
    const struct map *map;
    size_t at;
    uint64_t changes;
    uint64_t key;
    void *value;
};

struct map_it map_iter(const struct map *m);
bool map_next(struct map_it *it);

/* Forgets all keys and gives the slots back; `m` is a good empty map again. */
void map_free(struct map *m);

#endif

#include "base/map.h"

#include <assert.h>

#include "base/mem.h"

/*
 * Linear probing. Invariant: from the home of a key to the slot it lies in, no slot is free; so a
 * search ends at the first free slot, and a deletion moves back what it would cut off from its
 * home.
 */
enum { CAP_MIN = 8 };

/* The finalizer of splitmix64: every bit of the key moves every bit of the result. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static size_t home(const struct map *m, uint64_t key)
{
    return (size_t)mix(key) & (m->cap - 1);
}

static size_t after(const struct map *m, size_t at)
{
    return (at + 1) & (m->cap - 1);
}

/* The slot of a key, or the free one where it would go. The map has slots. */
static size_t find(const struct map *m, uint64_t key)
{
    size_t at = home(m, key);
    while (m->slots[at].value != NULL && m->slots[at].key != key)
        at = after(m, at);
    return at;
}

static void rehash(struct map *m, size_t cap)
{
    struct map old = *m;
    m->slots = mem_array(cap, sizeof *m->slots);
    m->cap = cap;
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].value != NULL)
            m->slots[find(m, old.slots[i].key)] = old.slots[i];
    }
    mem_free(old.slots);
}

void *map_get(const struct map *m, uint64_t key)
{
    return m->cap != 0 ? m->slots[find(m, key)].value : NULL;
}

void *map_put(struct map *m, uint64_t key, void *value)
{
    assert(value != NULL);
    if (m->cap == 0)
        rehash(m, CAP_MIN);
    size_t at = find(m, key);
    void *old = m->slots[at].value;
    if (old == NULL) {
        m->count++;
        m->changes++;
        if (m->count > m->cap / 4 * 3) {
            rehash(m, 2 * m->cap);
            at = find(m, key);
        }
    }
    m->slots[at] = (struct map_slot){key, value};
    return old;
}

void *map_del(struct map *m, uint64_t key)
{
    if (m->cap == 0)
        return NULL;
    size_t hole = find(m, key);
    void *old = m->slots[hole].value;
    if (old == NULL)
        return NULL;

    /* What lies behind the hole moves into it unless that would put it before its home. */
    for (size_t at = after(m, hole); m->slots[at].value != NULL; at = after(m, at)) {
        size_t from_home = (at - home(m, m->slots[at].key)) & (m->cap - 1);
        size_t from_hole = (at - hole) & (m->cap - 1);
        if (from_home >= from_hole) {
            m->slots[hole] = m->slots[at];
            hole = at;
        }
    }
    m->slots[hole] = (struct map_slot){0};
    m->count--;
    m->changes++;
    if (m->cap > CAP_MIN && m->count < m->cap / 8)
        rehash(m, m->cap / 2);
    return old;
}

size_t map_count(const struct map *m)
{
    return m->count;
}

struct map_it map_iter(const struct map *m)
{
    return (struct map_it){.map = m, .changes = m->changes};
}

bool map_next(struct map_it *it)
{
    assert(it->changes == it->map->changes);
    while (it->at < it->map->cap) {
        const struct map_slot *slot = &it->map->slots[it->at++];
        if (slot->value != NULL) {
            it->key = slot->key;
            it->value = slot->value;
            return true;
        }
    }
    return false;
}

void map_free(struct map *m)
{
    mem_free(m->slots);
    *m = (struct map){0};
}

/* Memory for one decoded message: chunks that are filled from their front and freed together. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "schemas/codec.h"

enum {
    ARENA_ALIGN = 16,
    ARENA_CHUNK_MIN = 1024,     /* the first chunk; each next one is twice as large, up to ... */
    ARENA_CHUNK_MAX = 64 * 1024 /* ... this, or to what one request needs */
};

struct arena_chunk {
    struct arena_chunk *next; /* the one filled before it */
    size_t size, used;        /* bytes after the head */
    _Alignas(ARENA_ALIGN) uint8_t bytes[];
};

void arena_init(struct arena *a, size_t limit)
{
    *a = (struct arena){.limit = limit};
}

/* A chunk with room for `size` bytes, put in front; NULL if it would pass the limit or there is no memory. `used` counts
 * chunks with their heads, so the limit bounds what is really taken. */
static struct arena_chunk *chunk_add(struct arena *a, size_t size)
{
    size_t left = a->limit - a->used;
    if (left < sizeof(struct arena_chunk) || size > left - sizeof(struct arena_chunk))
        return NULL;
    size_t wish = a->chunks != NULL ? 2 * a->chunks->size : ARENA_CHUNK_MIN - sizeof(struct arena_chunk);
    if (wish > ARENA_CHUNK_MAX)
        wish = ARENA_CHUNK_MAX;
    if (wish > left - sizeof(struct arena_chunk))
        wish = left - sizeof(struct arena_chunk);
    if (wish < size)
        wish = size;
    struct arena_chunk *chunk = mem_try(sizeof *chunk + wish);
    if (chunk == NULL)
        return NULL;
    *chunk = (struct arena_chunk){.next = a->chunks, .size = wish};
    a->chunks = chunk;
    a->used += sizeof *chunk + wish;
    return chunk;
}

void *arena_take(struct arena *a, size_t size)
{
    assert(a->used <= a->limit);
    if (size > SIZE_MAX - ARENA_ALIGN)
        return NULL;
    size = (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    struct arena_chunk *chunk = a->chunks;
    if (chunk == NULL || chunk->size - chunk->used < size)
        chunk = chunk_add(a, size);
    if (chunk == NULL)
        return NULL;
    void *p = chunk->bytes + chunk->used;
    chunk->used += size;
    return memset(p, 0, size);
}

void arena_free(struct arena *a)
{
    while (a->chunks != NULL) {
        struct arena_chunk *chunk = a->chunks;
        a->chunks = chunk->next;
        mem_free(chunk);
    }
    a->used = 0;
}

struct view codec_aligned(struct view bytes, struct buf *copy)
{
    if ((uintptr_t)bytes.data % 8 == 0)
        return bytes;
    buf_clear(copy);
    buf_append(copy, bytes.data, bytes.size);
    return buf_view(copy);
}

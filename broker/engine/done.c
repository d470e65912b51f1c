/* Floor and done chunks: which messages of a partition a group is through with.
 *
 *     offset   0 . . . . . . floor . . . . . . . . . cursor . . . end
 *              all done      |  chunks of 4,096 bits  |  not looked at
 *
 * Chunks between floor and cursor are in memory: a bit a message, none for a chunk that is empty or full.
 */
#include "engine/memory.h"
#include "base/planted.h"

/* Stands for every chunk whose offsets are all done. Never written to. */
static struct done_chunk done_full = {.count = DONE_CHUNK_OFFSETS, .stored = true};

static struct done_chunk *chunk_at(const struct done *d, uint64_t chunk)
{
    return chunk < d->first || chunk - d->first >= d->n ? NULL : d->chunks[chunk - d->first];
}

static bool bit_of(const struct done_chunk *c, uint64_t offset)
{
    uint32_t i = offset % DONE_CHUNK_OFFSETS;
    return c == &done_full || (c->bits[i / 8] >> (i % 8) & 1) != 0;
}

bool done_has(const struct done *d, uint64_t offset)
{
    if (offset < d->floor)
        return true;
    const struct done_chunk *c = chunk_at(d, offset / DONE_CHUNK_OFFSETS);
    return c != NULL && bit_of(c, offset);
}

/* Makes room for a chunk at or above the first. */
static struct done_chunk **chunk_slot(struct done *d, uint64_t chunk)
{
    if (d->n == 0)
        d->first = d->floor / DONE_CHUNK_OFFSETS;
    assert(chunk >= d->first);
    size_t at = chunk - d->first;
    if (at >= d->cap) {
        size_t cap = d->cap > 0 ? d->cap : 4;
        while (cap <= at)
            cap *= 2;
        d->chunks = mem_resize(d->chunks, cap, sizeof(struct done_chunk *));
        d->cap = cap;
    }
    while (d->n <= at)
        d->chunks[d->n++] = NULL;
    return &d->chunks[at];
}

static void bit_set(struct done_chunk *c, uint32_t i)
{
    c->bits[i / 8] |= (uint8_t)(1u << (i % 8));
    c->count++;
}

/* In a chunk that holds the floor, everything below the floor is set: so its count says whether anything above is. */
static void fill_below_floor(const struct done *d, uint64_t chunk, struct done_chunk *c)
{
    if (chunk == d->floor / DONE_CHUNK_OFFSETS)
        for (uint32_t i = 0; i < d->floor % DONE_CHUNK_OFFSETS; i++)
            if (!bit_of(c, i))
                bit_set(c, i);
}

static struct done_chunk *chunk_make(struct done *d, uint64_t chunk)
{
    struct done_chunk **slot = chunk_slot(d, chunk);
    if (*slot == NULL) {
        *slot = mem_zalloc(sizeof **slot);
        fill_below_floor(d, chunk, *slot);
    }
    return *slot;
}

static void chunk_dirty(struct done *d, struct done_chunk *c, uint64_t chunk)
{
    bool none = d->dirty_from == d->dirty_to;
    c->dirty = true;
    d->dirty_from = none || chunk < d->dirty_from ? chunk : d->dirty_from;
    d->dirty_to = none || chunk >= d->dirty_to ? chunk + 1 : d->dirty_to;
}

static void chunk_drop(struct done_chunk *c)
{
    if (c != &done_full)
        mem_free(c);
}

/* Moves the floor over everything that is done behind it. */
static void floor_advance(struct done *d)
{
    for (struct done_chunk *c; (c = chunk_at(d, d->floor / DONE_CHUNK_OFFSETS)) != NULL && bit_of(c, d->floor);) {
        if (c == &done_full) {
            uint64_t next = (d->floor / DONE_CHUNK_OFFSETS + 1) * DONE_CHUNK_OFFSETS;
            d->count -= next - d->floor;
            d->floor = next;
        } else {
            d->floor++;
            d->count--;
        }
    }
}

bool done_set(struct done *d, uint64_t offset)
{
    if (done_has(d, offset))
        return false;
    struct done_chunk *c = chunk_make(d, offset / DONE_CHUNK_OFFSETS);
    bit_set(c, offset % DONE_CHUNK_OFFSETS);
    chunk_dirty(d, c, offset / DONE_CHUNK_OFFSETS);
    d->count += 1 + PLANTED(done_counted_twice);
    if (offset == d->floor)
        floor_advance(d);
    return true;
}

void done_load(struct done *d, uint64_t chunk, const uint8_t bits[DONE_CHUNK_BYTES])
{
    if (chunk < d->floor / DONE_CHUNK_OFFSETS)
        return;
    struct done_chunk *c = chunk_make(d, chunk);
    memcpy(c->bits, bits, DONE_CHUNK_BYTES);
    c->stored = true;
    c->count = 0;
    for (uint32_t i = 0; i < DONE_CHUNK_OFFSETS; i++)
        if (bit_of(c, i)) {
            c->count++;
            d->count += chunk * DONE_CHUNK_OFFSETS + i >= d->floor;
        }
    fill_below_floor(d, chunk, c);
    floor_advance(d);
}

void done_raise(struct done *d, uint64_t floor)
{
    while (d->floor < floor) {
        struct done_chunk *c = chunk_at(d, d->floor / DONE_CHUNK_OFFSETS);
        uint64_t next = (d->floor / DONE_CHUNK_OFFSETS + 1) * DONE_CHUNK_OFFSETS;
        if (next > floor)
            next = floor;
        for (; c != NULL && d->floor < next; d->floor++) {
            if (bit_of(c, d->floor)) {
                d->count--;
            } else {
                bit_set(c, d->floor % DONE_CHUNK_OFFSETS);
                chunk_dirty(d, c, d->floor / DONE_CHUNK_OFFSETS);
            }
        }
        d->floor = next;
    }
    floor_advance(d);
}

void done_all(struct done *d, uint64_t floor)
{
    done_free(d);
    d->floor = floor;
}

/* The cursor's row, the chunks that changed, and the removal of chunks that fell below the floor. */
void done_write(struct engine *en, struct group_part *p)
{
    if (p->group->stream != NULL) {
        commit_write(en, p);
        return;
    }
    struct done *d = &p->done;
    uint32_t group = p->group->id, partition = p->partition->id;
    size_t below = 0, floor_chunk = d->floor / DONE_CHUNK_OFFSETS;
    for (; below < d->n && d->first + below < floor_chunk; below++) {
        struct done_chunk *c = d->chunks[below];
        if (c != NULL && c->stored && !PLANTED(done_chunk_kept)) {
            struct key k = key_done(group, partition, d->first + below);
            row_remove(en, FAM_GROUPS, &k);
        }
        if (c != NULL)
            chunk_drop(c);
    }
    if (below > 0) {
        memmove(d->chunks, d->chunks + below, (d->n - below) * sizeof(struct done_chunk *));
        d->n -= below;
        d->first += below;
    }
    for (uint64_t chunk = d->dirty_from > d->first ? d->dirty_from : d->first; chunk < d->dirty_to && chunk < d->first + d->n; chunk++) {
        size_t i = chunk - d->first;
        struct done_chunk *c = d->chunks[i];
        if (c == NULL || c == &done_full || !c->dirty)
            continue;
        struct key k = key_done(group, partition, chunk);
        uint64_t base = chunk * DONE_CHUNK_OFFSETS;
        c->dirty = false;
        if (base + c->count == d->floor) { /* all of it lies below the floor */
            if (c->stored)
                row_remove(en, FAM_GROUPS, &k);
            c->stored = false;
            continue;
        }
        buf_clear(&en->row);
        done_row_put(&en->row, c->bits);
        if (!PLANTED(done_chunk_lost))
            row_put(en, FAM_GROUPS, &k);
        c->stored = true;
        if (c->count == DONE_CHUNK_OFFSETS) {
            d->chunks[i] = &done_full;
            mem_free(c);
        }
    }
    d->dirty_from = d->dirty_to = 0;
    retention_floor_moved(en, p->partition);
    lost_write(en, p);
    struct key k = key_cursor(group, partition);
    buf_clear(&en->row);
    cursor_row_put(&en->row, &(struct cursor_row){
                                 .floor = d->floor + PLANTED(floor_ahead),
                                 .cursor = p->cursor > p->scanned ? p->cursor : p->scanned,
                                 .ready_low = part_ready_low(p),
                                 .parked = p->parked,
                                 .away = p->partition->index == 0 ? p->group->away : (struct away_counts){0}});
    row_put(en, FAM_GROUPS, &k);
}

void done_free(struct done *d)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->chunks[i] != NULL)
            chunk_drop(d->chunks[i]);
    mem_free(d->chunks);
    *d = (struct done){0};
}

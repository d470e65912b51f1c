/* A list of puts.
 *
 * Entries stand in the order in which they apply. An index over (family, key) finds the entry of a row, so that a row is in the
 * list once: a later put takes the place of the earlier one. That keeps the meaning, as puts of different rows commute; only
 * when a range removal between the two covers the row is the earlier put taken out and the later one appended.
 *
 * Bytes are copied into chunks that never move; clearing rewinds them.
 */
#include "store/puts.h"

#include <assert.h>
#include <stdalign.h>
#include <xxhash.h>

#include "base/mem.h"
#include "base/planted.h"
#include "schemas/errors.h"

enum { CHUNK_BYTES = 64 << 10, INDEX_MIN = 64 };
enum { KEPT_BYTES = 1 << 20, KEPT_ENTRIES = 16 << 10 }; /* what a list that was cleared keeps; what a burst took beyond goes back */

struct chunk {
    struct chunk *next;
    size_t used, cap;
    alignas(16) uint8_t bytes[];
};

struct entry {
    uint64_t hash; /* of (family, key); 0 for ranges, which are in no index */
    enum put_kind kind;
    enum store_family family;
    struct view key;
    struct view value;         /* copied: a value of puts_row, the end of a range */
    const struct view *pieces; /* borrowed: a value of puts_pieces, else NULL */
    size_t pieces_n;
};

struct puts_private {
    struct entry *entries;
    size_t count, cap;
    uint32_t *index;  /* entry + 1 of a row, 0: free; linear probing */
    size_t index_cap; /* a power of two, at least twice the rows */
    size_t *ranges;   /* the entries that remove ranges, ascending */
    size_t ranges_count, ranges_cap;
    struct chunk *first, *current;
};

/* ---------------------------------------------------------------- memory */

static struct chunk *chunk_new(size_t size)
{
    size_t cap = size > CHUNK_BYTES ? size : CHUNK_BYTES;
    struct chunk *c = mem_alloc(sizeof *c + cap);
    c->next = NULL;
    c->used = 0;
    c->cap = cap;
    return c;
}

/* `size` bytes, aligned for anything, good until the list is cleared. */
static void *take(struct puts_private *p, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    struct chunk *c = p->current;
    while (c->cap - c->used < size) {
        if (c->next == NULL)
            c->next = chunk_new(size);
        c = c->next;
    }
    p->current = c;
    void *at = c->bytes + c->used;
    c->used += size;
    return at;
}

static struct view copy(struct puts_private *p, struct view v)
{
    uint8_t *to = take(p, v.size);
    if (v.size != 0)
        memcpy(to, v.data, v.size);
    return view_of(to, v.size);
}

void puts_init(struct puts *l)
{
    struct puts_private *p = mem_zalloc(sizeof *p);
    p->first = p->current = chunk_new(0);
    p->index_cap = INDEX_MIN;
    p->index = mem_array(p->index_cap, sizeof *p->index);
    *l = (struct puts){.p = p};
}

void puts_free(struct puts *l)
{
    if (l->p == NULL)
        return;
    for (struct chunk *c = l->p->first, *next; c != NULL; c = next) {
        next = c->next;
        mem_free(c);
    }
    mem_free(l->p->entries);
    mem_free(l->p->index);
    mem_free(l->p->ranges);
    mem_free(l->p);
    *l = (struct puts){0};
}

/* ---------------------------------------------------------------- the index */

/* Where the row is in the index, or the free place where it would go. */
static uint32_t *find(const struct puts_private *p, uint64_t hash, enum store_family f, struct view key)
{
    size_t at = (size_t)hash & (p->index_cap - 1);
    for (;; at = (at + 1) & (p->index_cap - 1)) {
        uint32_t *place = &p->index[at];
        if (*place == 0)
            return place;
        const struct entry *x = &p->entries[*place - 1];
        if (x->hash == hash && x->family == f && view_cmp(x->key, key) == 0)
            return place;
    }
}

static uint64_t row_hash(enum store_family f, struct view key)
{
    return XXH3_64bits_withSeed(key.data, key.size, (XXH64_hash_t)f);
}

/* Builds the index again, over the entries as they stand. */
static void reindex(struct puts_private *p, size_t cap)
{
    if (cap != p->index_cap) {
        mem_free(p->index);
        p->index = mem_array(cap, sizeof *p->index);
        p->index_cap = cap;
    } else {
        memset(p->index, 0, cap * sizeof *p->index);
    }
    p->ranges_count = 0;
    for (size_t i = 0; i < p->count; i++) {
        const struct entry *x = &p->entries[i];
        if (x->kind == PUT_REMOVE_RANGE)
            p->ranges[p->ranges_count++] = i;
        else
            *find(p, x->hash, x->family, x->key) = (uint32_t)i + 1;
    }
}

void puts_clear(struct puts *l)
{
    struct puts_private *p = l->p;
    size_t kept = 0;
    for (struct chunk **at = &p->first, *c; (c = *at) != NULL;) {
        kept += c->cap;
        if (kept > KEPT_BYTES && c != p->first) {
            *at = c->next;
            mem_free(c);
            continue;
        }
        c->used = 0;
        at = &c->next;
    }
    p->current = p->first;
    if (p->cap > KEPT_ENTRIES) {
        p->cap = KEPT_ENTRIES;
        p->entries = mem_resize(p->entries, p->cap, sizeof *p->entries);
    }
    bool roomy = p->index_cap > INDEX_MIN && 16 * p->count < p->index_cap; /* after a burst */
    p->count = 0;
    reindex(p, roomy ? p->index_cap / 2 : p->index_cap);
    l->count = l->bytes = 0;
}

/* Whether a range removal covers the row, of those that stand at `from` or behind. */
static bool removed_since(const struct puts_private *p, size_t from, enum store_family f, struct view key)
{
    for (size_t i = p->ranges_count; i-- > 0 && p->ranges[i] >= from;) {
        const struct entry *r = &p->entries[p->ranges[i]];
        if (r->family == f && view_cmp(r->key, key) <= 0 && view_cmp(key, r->value) < 0)
            return true;
    }
    return false;
}

/* ---------------------------------------------------------------- putting */

static size_t entry_bytes(const struct entry *x)
{
    size_t bytes = x->key.size + x->value.size;
    for (size_t i = 0; i < x->pieces_n; i++)
        bytes += x->pieces[i].size;
    return bytes;
}

static struct entry *append(struct puts_private *p)
{
    if (p->count == p->cap) {
        p->cap = p->cap != 0 ? 2 * p->cap : 64;
        assert(p->cap < UINT32_MAX);
        p->entries = mem_resize(p->entries, p->cap, sizeof *p->entries);
    }
    return &p->entries[p->count++];
}

static void drop(struct puts_private *p, size_t at)
{
    memmove(&p->entries[at], &p->entries[at + 1], (p->count - at - 1) * sizeof *p->entries);
    p->count--;
    reindex(p, p->index_cap);
}

/* The entry of a row, as of a removal: the one it has, or a new one at the end. */
static struct entry *entry_of(struct puts *l, enum store_family f, struct view key)
{
    assert((unsigned)f < FAM_COUNT);
    struct puts_private *p = l->p;
    uint64_t hash = row_hash(f, key);
    uint32_t place = *find(p, hash, f, key);
    if (place != 0) {
        struct entry *x = &p->entries[place - 1];
        l->bytes -= entry_bytes(x);
        if (!removed_since(p, place, f, key) || PLANTED(put_before_range)) {
            *x = (struct entry){.hash = hash, .kind = PUT_REMOVE, .family = f, .key = x->key};
            return x;
        }
        drop(p, place - 1);
    }
    if (2 * (p->count + 1) > p->index_cap)
        reindex(p, 2 * p->index_cap);
    struct entry *x = append(p);
    *x = (struct entry){.hash = hash, .kind = PUT_REMOVE, .family = f, .key = copy(p, key)};
    *find(p, hash, f, key) = (uint32_t)p->count;
    return x;
}

static void finish(struct puts *l, const struct entry *x)
{
    l->count = l->p->count;
    l->bytes += entry_bytes(x);
}

void puts_row(struct puts *l, enum store_family f, struct view key, struct view value)
{
    struct entry *x = entry_of(l, f, key);
    x->kind = PUT_ROW;
    x->value = copy(l->p, value);
    finish(l, x);
}

void puts_pieces(struct puts *l, enum store_family f, struct view key, const struct view *pieces, size_t n)
{
    struct entry *x = entry_of(l, f, key);
    struct view *array = take(l->p, n * sizeof *array);
    for (size_t i = 0; i < n; i++)
        array[i] = pieces[i];
    x->kind = PUT_ROW;
    x->pieces = array;
    x->pieces_n = n;
    finish(l, x);
}

void puts_remove(struct puts *l, enum store_family f, struct view key)
{
    finish(l, entry_of(l, f, key));
}

void puts_remove_range(struct puts *l, enum store_family f, struct view begin, struct view end)
{
    assert((unsigned)f < FAM_COUNT);
    struct puts_private *p = l->p;
    if (view_cmp(begin, end) >= 0)
        return;
    if (p->ranges_count == p->ranges_cap) {
        p->ranges_cap = p->ranges_cap != 0 ? 2 * p->ranges_cap : 16;
        p->ranges = mem_resize(p->ranges, p->ranges_cap, sizeof *p->ranges);
    }
    p->ranges[p->ranges_count++] = p->count;
    struct entry *x = append(p);
    *x = (struct entry){
        .kind = PUT_REMOVE_RANGE,
        .family = f,
        .key = copy(p, begin),
        .value = copy(p, end),
    };
    finish(l, x);
}

/* ---------------------------------------------------------------- asking */

enum puts_found puts_find(const struct puts *l, enum store_family f, struct view key, struct view *value)
{
    const struct puts_private *p = l->p;
    uint32_t place = *find(p, row_hash(f, key), f, key);
    if (removed_since(p, place, f, key) && !PLANTED(range_unseen))
        return PUTS_REMOVED;
    if (place == 0)
        return PUTS_UNKNOWN;
    const struct entry *x = &p->entries[place - 1];
    if (x->kind == PUT_REMOVE)
        return PUTS_REMOVED;
    if (x->pieces != NULL)
        return PUTS_UNKNOWN;
    *value = x->value;
    return PUTS_ROW;
}

void puts_at(const struct puts *l, size_t i, struct put *out)
{
    assert(i < l->p->count);
    const struct entry *x = &l->p->entries[i];
    *out = (struct put){.kind = x->kind, .family = x->family, .key = x->key};
    if (x->pieces != NULL) {
        out->pieces = x->pieces;
        out->pieces_n = x->pieces_n;
    } else if (x->kind != PUT_REMOVE) {
        out->pieces = &x->value;
        out->pieces_n = 1;
    }
}

/* ---------------------------------------------------------------- as bytes */

void puts_encode(const struct puts *l, struct buf *out)
{
    assert(l->count <= UINT32_MAX);
    buf_put_u32(out, l->epoch);
    buf_put_u64(out, l->turn);
    buf_put_u32(out, (uint32_t)l->count);
    for (size_t i = 0; i < l->p->count; i++) {
        const struct entry *x = &l->p->entries[i];
        buf_put_u8(out, (uint8_t)x->kind);
        buf_put_u8(out, (uint8_t)x->family);
        buf_put_bytes(out, x->key);
        if (x->kind == PUT_REMOVE)
            continue;
        buf_put_varint(out, entry_bytes(x) - x->key.size);
        buf_append(out, x->value.data, x->value.size);
        for (size_t k = 0; k < x->pieces_n; k++)
            buf_append(out, x->pieces[k].data, x->pieces[k].size);
    }
}

/* The next put, borrowed; its value, or the end of a range, in `value`. */
static struct put put_next(struct cur *c, struct view *value)
{
    struct put put = {0};
    put.kind = cur_u8(c);
    put.family = cur_u8(c);
    put.key = cur_bytes(c);
    *value = view_of(NULL, 0);
    if (put.kind == PUT_ROW || put.kind == PUT_REMOVE_RANGE)
        *value = cur_bytes(c);
    else if (put.kind != PUT_REMOVE)
        c->bad = true;
    if (put.kind == PUT_REMOVE_RANGE && view_cmp(put.key, *value) >= 0)
        c->bad = true;
    if ((unsigned)put.family >= FAM_COUNT)
        c->bad = true;
    return put;
}

static int puts_check(struct cur c, uint32_t count, struct err *e)
{
    struct view value;
    for (uint32_t i = 0; i < count; i++) {
        put_next(&c, &value);
        if (c.bad)
            return err_set(e, E_DAMAGED, "list of puts: put %u of %u is damaged", i + 1, count);
    }
    if (!cur_done(&c))
        return err_set(e, E_DAMAGED, "list of puts: %zu bytes behind its %u puts", cur_left(&c), count);
    return E_OK;
}

int puts_decode(struct puts *l, struct view bytes, struct err *e)
{
    struct cur c = cur_of(bytes);
    uint32_t epoch = cur_u32(&c);
    uint64_t turn = cur_u64(&c);
    uint32_t count = cur_u32(&c);
    if (c.bad)
        return err_set(e, E_DAMAGED, "list of puts is cut at %zu bytes", bytes.size);
    int code = puts_check(c, count, e);
    if (code != E_OK)
        return code;

    l->epoch = epoch;
    l->turn = turn;
    for (uint32_t i = 0; i < count; i++) {
        struct view value;
        struct put put = put_next(&c, &value);
        switch (put.kind) {
        case PUT_ROW:
            puts_row(l, put.family, put.key, value);
            break;
        case PUT_REMOVE:
            puts_remove(l, put.family, put.key);
            break;
        case PUT_REMOVE_RANGE:
            puts_remove_range(l, put.family, put.key, value);
            break;
        }
    }
    return E_OK;
}

/* What waits behind the head of a key: positions only, in rows of up to 256, so that one key with a million messages costs disk.
 *
 *     header row   first | skip | last | count | head_in_list          of a key that is away a part of its row (away.c)
 *     chunk rows   first: [ p p p . . . ]  ...  last: [ . . . p ]
 *                           ^ skip                       ^ appended here
 *
 * Every message of the list is younger than the head. When the head is out of the way, the first of the list becomes the head and
 * stays in the list (head_in_list) until it is granted: until then no other row would stand for it.
 */
#include "engine/memory.h"
#include "base/planted.h"

enum { CHUNK_POSITIONS = 256 };

static bool damaged(struct engine *en, const struct key_queue *k, uint32_t chunk, const char *why)
{
    struct err e = {0};
    err_set(&e, E_DAMAGED, "list of key %016llx of group %u: chunk %u %s", (unsigned long long)k->hash, k->group->id, chunk, why);
    engine_fail(en, &e);
    return false;
}

/* Reads a chunk into `to` and counts its positions; the last one into `at`. False: the engine failed. */
static bool chunk_read(struct engine *en, struct key_queue *k, uint32_t chunk, struct buf *to, uint32_t *n, struct list_position *at)
{
    struct key key = key_list(k->group->id, k->hash, chunk);
    struct view v, rest;
    bool bad = false;
    buf_clear(to);
    *n = 0;
    *at = (struct list_position){0};
    if (row_read(en, FAM_KEYS, &key, &v)) {
        buf_append(to, v.data, v.size);
        rest = buf_view(to);
        while (list_chunk_next(&rest, at, &bad))
            ++*n;
    }
    return *n > 0 && !bad ? true : damaged(en, k, chunk, "does not read");
}

void key_list_append(struct engine *en, struct group *g, struct key_queue *k, struct list_position p)
{
    if (k->list.count == 0) {
        k->list = (struct list_header_row){.first = 1, .last = 1};
        buf_clear(&k->last_bytes);
        k->last_n = 0;
        k->last_cached = true;
    } else if (!k->last_cached) {
        if (!chunk_read(en, k, k->list.last, &k->last_bytes, &k->last_n, &k->last_at))
            return;
        k->last_cached = true;
    }
    if (k->last_n == CHUNK_POSITIONS) {
        if (!PLANTED(spill_chunk_lost))
            key_chunk_write(en, k); /* the full chunk is written, a new one begins */
        if (k->list.first == k->list.last++) {
            buf_free(&k->first_bytes);
            k->first_bytes = k->last_bytes;
            k->first_n = k->last_n;
            k->last_bytes = (struct buf){0};
        }
        buf_clear(&k->last_bytes);
        k->last_n = 0;
    }
    if (k->last_n == 0)
        k->last_at = (struct list_position){0};
    list_chunk_append(&k->last_bytes, &k->last_at, p);
    k->last_at = p;
    k->last_n++;
    k->list.count++;
    k->dirty_last = true;
    mark_dirty(&en->dirty_keys, &k->dirty);
    if (k->members_n > 0) {
        g->away.behind++;
        away_key_changed(en, k);
    }
}

bool key_list_first(struct engine *en, struct group *g, struct key_queue *k, struct list_position *p)
{
    (void)g;
    if (k->list.count == 0)
        return false;
    struct list_position at;
    const struct buf *chunk = &k->last_bytes;
    if (k->list.first != k->list.last || !k->last_cached) {
        if (k->first_n == 0 && !chunk_read(en, k, k->list.first, &k->first_bytes, &k->first_n, &at))
            return false;
        chunk = &k->first_bytes;
    }
    struct view rest = buf_view(chunk);
    bool bad = false;
    at = (struct list_position){0};
    uint32_t last = k->list.skip + (PLANTED(spill_swapped) && k->list.first == k->list.last && k->list.count > 1);
    for (uint32_t i = 0; i <= last; i++)
        if (!list_chunk_next(&rest, &at, &bad))
            return damaged(en, k, k->list.first, "ends before the place of its header");
    *p = at;
    return true;
}

void key_header_remove(struct engine *en, struct key_queue *k)
{
    struct key header = key_list_header(k->group->id, k->hash);
    if (k->has_header)
        row_remove(en, FAM_KEYS, &header);
    k->has_header = false;
}

static void rows_remove(struct engine *en, struct key_queue *k)
{
    struct key last = key_list(k->group->id, k->hash, k->list.last);
    key_header_remove(en, k);
    row_remove(en, FAM_KEYS, &last);
    k->has_rows = false;
    k->dirty_last = false;
}

static void list_forget(struct key_queue *k)
{
    k->list = (struct list_header_row){0};
    k->last_cached = false;
    k->last_n = k->first_n = 0;
    buf_free(&k->first_bytes);
    buf_free(&k->last_bytes);
}

void key_list_clear(struct key_queue *k)
{
    list_forget(k);
    list_remove(&k->dirty);
    k->has_rows = k->has_header = k->dirty_last = false;
}

void key_list_pop(struct engine *en, struct group *g, struct key_queue *k)
{
    (void)g;
    assert(k->list.count > 0);
    uint32_t in_first = k->list.first == k->list.last && k->last_cached ? k->last_n : k->first_n;
    k->list.head_in_list = false;
    k->list.skip++;
    k->list.count--;
    mark_dirty(&en->dirty_keys, &k->dirty);
    if (k->list.count == 0) {
        if (k->has_rows)
            rows_remove(en, k);
        list_forget(k);
    } else if (k->list.skip == in_first) {
        struct key key = key_list(k->group->id, k->hash, k->list.first);
        row_remove(en, FAM_KEYS, &key);
        k->list.first++;
        k->list.skip = 0;
        k->first_n = 0;
        buf_free(&k->first_bytes);
    }
}

static struct entry *entry_of(struct engine *en, struct key_queue *k, const struct list_position *p)
{
    struct entry *e = entry_new(en, group_part(k->group, table_get(&en->partitions, p->partition)), p->offset);
    e->key = k;
    e->key_hash = k->hash;
    e->has_key = true;
    e->size = p->size;
    e->priority = priority_bounded(p->priority);
    e->ttl_until_ms = p->expires_ms;
    k->group->behind--;
    return e;
}

/* As key_list_first; what was lost at the hard cap is passed over. */
bool key_list_next(struct engine *en, struct key_queue *k, struct list_position *p)
{
    while (key_list_first(en, k->group, k, p)) {
        struct group_part *part = group_part_of(en, k->group, p->partition);
        if (part == NULL)
            return damaged(en, k, k->list.first, "names a partition that is none of its topic");
        if (part->stale == 0 || !done_has(&part->done, p->offset))
            return true;
        part->stale--;
        part->lost_changed = true;
        mark_dirty(&en->dirty_parts, &part->dirty);
        key_list_pop(en, k->group, k);
    }
    return false;
}

struct entry *key_list_take(struct engine *en, struct key_queue *k, const struct list_position *first)
{
    struct entry *e = entry_of(en, k, first);
    key_list_pop(en, k->group, k);
    return e;
}

/* The first of the list becomes the head and is ready; it stays in the list until it is granted. */
void key_head_from_list(struct engine *en, struct group *g, struct key_queue *k)
{
    struct list_position p;
    (void)g;
    if (!key_list_next(en, k, &p))
        return;
    struct entry *e = entry_of(en, k, &p);
    k->head = e;
    k->list.head_in_list = true;
    mark_dirty(&en->dirty_keys, &k->dirty);
    entry_ready(en, e);
}

void key_chunk_write(struct engine *en, struct key_queue *k)
{
    struct key key = key_list(k->group->id, k->hash, k->list.last);
    if (!k->dirty_last || k->list.count == 0)
        return;
    puts_row(&en->fx.puts, FAM_KEYS, key_view(&key), buf_view(&k->last_bytes));
    en->counters.puts++;
    k->dirty_last = false;
    k->has_rows = true;
}

void key_write(struct engine *en, struct group *g, struct key_queue *k)
{
    struct key key = key_list_header(g->id, k->hash);
    if (k->list.count == 0)
        return;
    buf_clear(&en->row);
    list_header_put(&en->row, &k->list);
    row_put(en, FAM_KEYS, &key);
    k->has_header = true;
    key_chunk_write(en, k);
}

/* Reading and rewriting for compaction: see compactread.h. */
#include "broker/compactread.h"

#include "base/mem.h"
#include "base/planted.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "schemas/stored.h"
#include "store/keys.h"

enum {
    ROUND_READ = 8 << 20,       /* bytes of the log that one round reads, */
    ROUND_WRITE = 2 << 20,      /* ... and rewrites: they are one turn's puts */
    ROUND_ROWS = 1024,
    CHUNK = 64 << 10            /* keys are allocated so many bytes at a time */
};

/* ---------------------------------------------------------------- keys, and the last offset of each */

struct known { uint64_t hash, offset; uint32_t size; uint8_t key[]; };
struct chunk { struct chunk *next; size_t used, size; uint8_t bytes[]; };
struct keys {
    struct known **slots;
    size_t n, cap;              /* cap: 0 or a power of two */
    struct chunk *chunks;
    uint64_t bytes;             /* of all this */
};

static void keys_free(struct keys *k)
{
    for (struct chunk *c = k->chunks, *next; c != NULL; c = next) {
        next = c->next;
        mem_free(c);
    }
    mem_free(k->slots);
    *k = (struct keys){0};
}

static struct known **slot_of(const struct keys *k, uint64_t hash, struct view key)
{
    size_t at = hash & (k->cap - 1);
    for (const struct known *x; (x = k->slots[at]) != NULL; at = (at + 1) & (k->cap - 1))
        if (x->hash == hash && x->size == key.size && memcmp(x->key, key.data, key.size) == 0)
            break;
    return &k->slots[at];
}

static void keys_grow(struct keys *k)
{
    struct known **old = k->slots;
    size_t cap = k->cap;
    k->cap = cap > 0 ? 2 * cap : 1024;
    k->slots = mem_array(k->cap, sizeof(struct known *));
    k->bytes += (k->cap - cap) * sizeof(struct known *);
    for (size_t i = 0; i < cap; i++)
        if (old[i] != NULL)
            *slot_of(k, old[i]->hash, view_of(old[i]->key, old[i]->size)) = old[i];
    mem_free(old);
}

static struct known *known_new(struct keys *k, struct view key)
{
    size_t size = (sizeof(struct known) + key.size + 7) & ~(size_t)7;
    struct chunk *c = k->chunks;
    if (c == NULL || c->size - c->used < size) {
        size_t room = size > CHUNK ? size : CHUNK;
        c = mem_alloc(sizeof *c + room);
        *c = (struct chunk){.next = k->chunks, .size = room};
        k->chunks = c;
        k->bytes += sizeof *c + room;
    }
    struct known *x = (struct known *)(void *)(c->bytes + c->used);
    c->used += size;
    x->size = (uint32_t)key.size;
    memcpy(x->key, key.data, key.size);
    return x;
}

static void keys_put(struct keys *k, struct view key, uint64_t offset)
{
    if (4 * (k->n + 1) > 3 * k->cap)
        keys_grow(k);
    uint64_t hash = key_hash(key);
    struct known **slot = slot_of(k, hash, key);
    if (*slot == NULL) {
        *slot = known_new(k, key);
        (*slot)->hash = hash;
        k->n++;
    }
    (*slot)->offset = offset;
}

/* A message of this key stands behind the offset. */
static bool superseded(const struct keys *k, struct view key, uint64_t offset)
{
    if (k->n == 0)
        return false;
    const struct known *x = *slot_of(k, key_hash(key), key);
    return x != NULL && (x->offset > offset || PLANTED(compact_drops_last));
}

/* ---------------------------------------------------------------- a pass */

/* Offsets of which nothing is left, not yet written as a hole: those of the row that is looked at, and of whole rows before it. */
struct hole { struct stored_header h; bool any; };

struct work {
    struct keys keys;
    bool rewriting;             /* the second part */
    bool full;                  /* the keys fill their memory */
    uint64_t at;                /* where the next round begins */
    uint64_t covered;           /* the entries that were rewritten end here; UINT64_MAX: none was */
    struct hole hole;
    bool carried;               /* of rows that are to go: */
    bool changed;               /* they were not one hole already */
    uint64_t carried_first, carried_last, carried_base, carried_bytes, carried_removed; /* keys of their rows */
    uint64_t kept_bytes, tombstones;
    uint32_t left_at;           /* in c->left: those before were met */
    struct buf left;            /* of uint64_t: superseded, and left where they are */
    struct keys left_keys;
    uint64_t left_from;         /* the first for which there was no room */
    struct batch_builder *builder;
};

/* What a round rewrites; the rows' bytes still move. */
struct round { struct buf bytes, rows; };

static void work_free(void *work)
{
    struct work *w = work;
    keys_free(&w->keys);
    keys_free(&w->left_keys);
    buf_free(&w->left);
    batch_builder_free(w->builder);
    mem_free(w);
}

static void round_free(struct ref *r)
{
    struct round *x = r->owner;
    buf_free(&x->bytes);
    buf_free(&x->rows);
    mem_free(x);
}

/* ---------------------------------------------------------------- rows of the log */

struct rows { struct store_iter *it; uint32_t partition; struct buf copy; uint64_t last; struct view value; };

static void rows_open(struct rows *r, struct store *s, const struct compaction *c, uint64_t from)
{
    struct key k = key_log(c->partition, from);
    *r = (struct rows){.it = store_iter(s, c->family), .partition = c->partition};
    store_iter_seek(r->it, key_view(&k));
}

static void rows_close(struct rows *r)
{
    store_iter_close(r->it);
    buf_free(&r->copy);
}

/* The row where the walk is. *found false: the partition has no more. */
static int row_get(struct rows *r, bool *found, struct err *e)
{
    uint32_t partition;
    *found = false;
    if (!store_iter_valid(r->it))
        return store_iter_status(r->it, e);
    if (!key_read_log(store_iter_key(r->it), &partition, &r->last))
        return err_set(e, E_DAMAGED, "a key of the log does not read");
    if (partition != r->partition)
        return E_OK;
    r->value = store_iter_value(r->it);
    int code = store_iter_status(r->it, e);
    if (code != E_OK)
        return code;
    if ((uintptr_t)r->value.data % STORED_ALIGN != 0) {
        buf_clear(&r->copy);
        buf_append(&r->copy, r->value.data, r->value.size);
        r->value = buf_view(&r->copy);
    }
    *found = true;
    return E_OK;
}

/* The next entry of a row, whole and as it was written; of a hole the batch is empty. */
static int entry_next(struct view *rest, struct stored_header *h, struct view *batch, struct err *e)
{
    int code = stored_next(rest, h, batch, e);
    if (code == E_OK && !stored_is_hole(h) && batch_hash(*batch) != h->batch_hash)
        code = err_set(e, E_DAMAGED, "offset %llu: the batch does not fit its checksum", (unsigned long long)h->base_offset);
    return code;
}

/* ---------------------------------------------------------------- the first part: the last offset of each key */

static int note_batch(struct keys *keys, const struct stored_header *h, struct view batch, struct err *e)
{
    struct batch_reader r;
    int code = batch_reader_open(&r, batch, e);
    if (code != E_OK)
        return code;
    for (uint32_t i = 0; i < r.c.count && code == E_OK; i++) {
        struct view key;
        code = batch_reader_key(&r, i, &key, e);
        if (code == E_OK && key.data != NULL)
            keys_put(keys, key, h->base_offset + batch_offset_delta(&r.c, i));
    }
    batch_reader_close(&r);
    return code;
}

/* *more false: the pass does not look at this row any more, and so at none behind it. */
static int note_row(struct work *w, struct compaction *c, const struct rows *row, bool *more, struct err *e)
{
    struct stored_header h = {0};
    int code = E_OK;
    bool within = row->last < c->end && row->last + 1 < c->log_end;
    w->full = within && c->to > c->clean && w->keys.bytes >= c->memory_max; /* one row is taken, however much it is */
    *more = within && !w->full;
    for (struct view rest = row->value, batch; rest.size > 0 && code == E_OK && *more;) {
        code = entry_next(&rest, &h, &batch, e);
        if (code == E_OK && h.append_time_ms >= c->before_ms)
            *more = false;
        else if (code == E_OK && !stored_is_hole(&h))
            code = note_batch(&w->keys, &h, batch, e);
    }
    if (code == E_OK && *more) {
        c->to = row->last + 1;
        c->to_bytes = h.cumulative_bytes;
    }
    return code;
}

/* Whether what was found is worth that the whole log is read. A piece of what is, is. */
static bool worth(const struct work *w, const struct compaction *c)
{
    if (w->full)
        return true;
    uint64_t dirty = c->to > c->passed && c->to_bytes > c->passed_bytes ? c->to_bytes - c->passed_bytes : 0;
    return c->worth_bytes == 0 ? c->to > c->passed || c->tombstones_to > 0 : dirty >= c->worth_bytes;
}

static int note_round(struct work *w, struct store *s, struct compaction *c, struct err *e)
{
    struct rows rows;
    size_t read = 0;
    bool more = true;
    int code = E_OK;
    rows_open(&rows, s, c, w->at);
    while (code == E_OK && more && read < ROUND_READ) {
        code = row_get(&rows, &more, e);
        if (code == E_OK && more)
            code = note_row(w, c, &rows, &more, e);
        if (code == E_OK && more) {
            read += rows.value.size;
            w->at = rows.last + 1;
            store_iter_next(rows.it);
        }
    }
    rows_close(&rows);
    if (code == E_OK && !more) {
        w->rewriting = true;
        w->at = c->start;
        c->worth = worth(w, c);
        c->over = !c->worth;
    }
    return code;
}

/* ---------------------------------------------------------------- messages that are held: their records stay */

struct pins { struct store_iter *it; const struct compaction *c; uint64_t next; };

/* The first offset at or behind `from` of which some group has a held row; UINT64_MAX: none. */
static int pins_find(struct pins *p, uint64_t from, struct err *e)
{
    int code = E_OK;
    p->next = UINT64_MAX;
    for (uint32_t i = 0; i < p->c->groups_n && code == E_OK; i++) {
        struct key k = key_held(p->c->groups[i], p->c->partition, from);
        uint32_t group, partition;
        uint64_t offset;
        store_iter_seek(p->it, key_view(&k));
        if (store_iter_valid(p->it) && key_read_held(store_iter_key(p->it), &group, &partition, &offset) && group == p->c->groups[i] &&
            partition == p->c->partition && offset < p->next)
            p->next = offset;
        code = store_iter_status(p->it, e);
    }
    return code;
}

/* Offsets are asked for in order. */
static int pinned(struct pins *p, uint64_t offset, bool *yes, struct err *e)
{
    int code = p->next < offset ? pins_find(p, offset, e) : E_OK;
    *yes = p->next == offset && !PLANTED(compact_drops_held);
    return code;
}

/* ---------------------------------------------------------------- the second part: what is left of each row */

/* It stays though it is superseded: the next passes know, and its tombstone stays as long. */
static void leave(struct work *w, struct view key, uint64_t offset)
{
    if (w->left.size < COMPACTION_LEFT_MAX * sizeof offset) {
        buf_append(&w->left, &offset, sizeof offset);
        keys_put(&w->left_keys, key, offset);
    } else if (w->left_from == UINT64_MAX) {
        w->left_from = offset;
    }
}

/* Offsets are asked for in order. */
static bool was_left(struct work *w, const struct compaction *c, uint64_t offset)
{
    while (w->left_at < c->left_n && c->left[w->left_at] < offset)
        w->left_at++;
    return w->left_at < c->left_n && c->left[w->left_at] == offset;
}

static bool knows(const struct keys *k, struct view key) { return k->n > 0 && *slot_of(k, key_hash(key), key) != NULL; }

/* Which records of a batch stay. */
struct choice { struct batch_reader r; uint8_t *stays; uint32_t n; uint64_t tombstones; };

static int choose(struct work *w, const struct compaction *c, struct pins *pins, const struct stored_header *h, struct view batch,
                  struct choice *x, struct err *e)
{
    *x = (struct choice){0};
    int code = batch_reader_open(&x->r, batch, e);
    if (code != E_OK)
        return code;
    x->stays = mem_array(x->r.c.count, 1);
    for (uint32_t i = 0; i < x->r.c.count && code == E_OK; i++) {
        uint64_t offset = h->base_offset + batch_offset_delta(&x->r.c, i);
        struct view key;
        code = batch_reader_key(&x->r, i, &key, e);
        if (code != E_OK)
            break;
        bool tombstone = x->r.c.value_size[i] == 0;
        bool old = key.data != NULL && (superseded(&w->keys, key, offset) || was_left(w, c, offset));
        bool over = !old && tombstone && key.data != NULL && offset < c->tombstones_to && offset < c->clean && !knows(&w->left_keys, key);
        bool held = false;
        if (old || over)
            code = pinned(pins, offset, &held, e);
        if (held && old)
            leave(w, key, offset);
        x->stays[i] = (!old && !over) || held;
        x->n += x->stays[i];
        x->tombstones += x->stays[i] && tombstone;
    }
    return code;
}

static void choice_free(struct choice *x)
{
    mem_free(x->stays);
    batch_reader_close(&x->r);
}

static void entry_put(struct buf *out, const struct stored_header *h, struct view batch)
{
    static const uint8_t zeros[STORED_ALIGN];
    stored_header_put(buf_reserve(out, STORED_HEADER_SIZE), h);
    out->size += STORED_HEADER_SIZE;
    buf_append(out, batch.data, batch.size);
    buf_append(out, zeros, stored_entry_size((uint32_t)batch.size) - STORED_HEADER_SIZE - batch.size);
}

static void hole_put(struct work *w, struct buf *out)
{
    if (w->hole.any)
        entry_put(out, &w->hole.h, view_of(NULL, 0));
    w->hole.any = false;
}

/* Nothing of this entry is left: it is a part of the hole. One that would be too long is written, and another begins. */
static void hole_add(struct work *w, const struct stored_header *h, struct buf *out)
{
    struct stored_header to = *h;
    to.size = 0;
    to.batch_hash = 0;
    if (w->hole.any && w->hole.h.count > UINT32_MAX - h->count)
        hole_put(w, out);
    if (w->hole.any) {
        to.base_offset = w->hole.h.base_offset;
        to.count += w->hole.h.count;
    }
    w->hole.h = to;
    w->hole.any = true;
}

/* A batch of the records that stay. False: it cannot be built of them, and is left as it is. */
static bool batch_put(struct work *w, const struct stored_header *h, struct choice *x, struct buf *out, int *code, struct err *e)
{
    struct stored_header to = *h;
    if (w->builder == NULL)
        w->builder = batch_builder_new();
    for (uint32_t i = 0; i < x->r.c.count; i++) {
        struct record record;
        if (!x->stays[i])
            continue;
        if ((*code = batch_reader_get(&x->r, i, &record, e)) == E_OK)
            *code = batch_builder_add_at(w->builder, &record, batch_offset_delta(&x->r.c, i), e);
        if (*code != E_OK)
            break;
    }
    size_t at = out->size;
    buf_reserve(out, STORED_HEADER_SIZE);
    out->size += STORED_HEADER_SIZE;
    if (*code == E_OK)
        *code = batch_builder_finish(w->builder, x->r.c.codec, out, &to.batch_hash, e);
    if (*code != E_OK) { /* one whose timestamps lie too far apart is no damage */
        out->size = at;
        batch_builder_free(w->builder);
        w->builder = NULL;
        *code = *code == E_LIMIT ? E_OK : *code;
        return false;
    }
    static const uint8_t zeros[STORED_ALIGN];
    to.size = (uint32_t)(out->size - at - STORED_HEADER_SIZE);
    stored_header_put(out->data + at, &to);
    buf_append(out, zeros, stored_entry_size(to.size) - (out->size - at));
    return true;
}

static uint64_t lower(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* The entry goes into `out`, or into the hole. *removed counts. */
static int entry_rewrite(struct work *w, const struct compaction *c, struct pins *pins, const struct stored_header *h, struct view batch,
                         struct buf *out, uint64_t *removed, struct err *e)
{
    struct choice x;
    int code = choose(w, c, pins, h, batch, &x, e);
    if (code != E_OK) {
        choice_free(&x);
        return code;
    }
    uint32_t gone = x.r.c.count - x.n;
    if (x.n == 0) {
        hole_add(w, h, out);
    } else {
        hole_put(w, out);
        if (gone == 0) {
            entry_put(out, h, batch);
        } else if (!batch_put(w, h, &x, out, &code, e) && code == E_OK) {
            entry_put(out, h, batch);
            w->left_from = lower(w->left_from, h->base_offset);
            gone = 0;
        }
    }
    *removed += gone;
    w->tombstones += x.tombstones;
    choice_free(&x);
    return code;
}

static void row_put(struct round *round, struct compacted_row row, size_t begin)
{
    row.value.size = round->bytes.size - begin; /* its place is set when the bytes no longer move */
    buf_append(&round->rows, &row, sizeof row);
}

static int row_rewrite(struct work *w, const struct compaction *c, struct pins *pins, const struct rows *row, struct round *round, struct err *e)
{
    struct buf *out = &round->bytes;
    size_t begin = out->size;
    uint64_t removed = 0, base = UINT64_MAX;
    bool carried = w->carried;
    int code = E_OK;
    for (struct view rest = row->value, batch; rest.size > 0 && code == E_OK;) {
        struct stored_header h;
        code = entry_next(&rest, &h, &batch, e);
        if (code != E_OK)
            break;
        if (w->covered != UINT64_MAX && w->covered != h.base_offset)
            return err_set(e, E_DAMAGED, "offset %llu: the log has a hole before it", (unsigned long long)h.base_offset);
        w->covered = h.base_offset + h.count;
        base = lower(base, h.base_offset);
        if (stored_is_hole(&h))
            hole_add(w, &h, out);
        else
            code = entry_rewrite(w, c, pins, &h, batch, out, &removed, e);
    }
    if (code != E_OK)
        return code;
    if (out->size == begin) { /* nothing is left of it: it becomes a part of the next */
        if (!carried) {
            w->carried_first = row->last;
            w->carried_base = base;
        }
        w->changed |= carried || removed > 0;
        w->carried = true;
        w->carried_last = row->last;
        w->carried_bytes += row->value.size;
        w->carried_removed += removed;
        return E_OK;
    }
    hole_put(w, out);
    if (!carried && removed == 0) { /* as it was */
        out->size = begin;
        w->kept_bytes += row->value.size;
        return E_OK;
    }
    row_put(round, (struct compacted_row){.base = carried ? w->carried_base : base, .first = carried ? w->carried_first : row->last,
                                          .last = row->last, .bytes = w->carried_bytes + row->value.size,
                                          .removed = (uint32_t)(w->carried_removed + removed)}, begin);
    w->kept_bytes += out->size - begin;
    w->carried = w->changed = false;
    w->carried_bytes = w->carried_removed = 0;
    return E_OK;
}

/* Rows of which nothing is left, and no other behind them that would take their hole. */
static void carried_put(struct work *w, struct round *round)
{
    size_t begin = round->bytes.size;
    if (!w->carried)
        return;
    if (!w->changed) {
        w->kept_bytes += w->carried_bytes;
        return;
    }
    hole_put(w, &round->bytes);
    row_put(round, (struct compacted_row){.base = w->carried_base, .first = w->carried_first, .last = w->carried_last,
                                          .bytes = w->carried_bytes, .removed = (uint32_t)w->carried_removed}, begin);
    w->kept_bytes += round->bytes.size - begin;
}

static void round_give(struct compaction *c, struct round *round)
{
    c->hold = ref_wrap(round->bytes.data, round->bytes.size, round_free, round);
    c->rows = (const struct compacted_row *)(void *)round->rows.data;
    c->rows_n = (uint32_t)(round->rows.size / sizeof *c->rows);
    size_t at = 0;
    for (uint32_t i = 0; i < c->rows_n; i++) {
        struct compacted_row *row = (struct compacted_row *)(void *)round->rows.data + i;
        row->value.data = round->bytes.data + at;
        at += row->value.size;
    }
}

static int rewrite_round(struct work *w, struct store *s, struct compaction *c, struct err *e)
{
    struct rows rows;
    struct pins pins = {.it = store_iter(s, FAM_HELD), .c = c};
    struct round *round = mem_zalloc(sizeof *round);
    size_t read = 0;
    bool more = true;
    rows_open(&rows, s, c, w->at);
    int code = pins_find(&pins, w->at, e);
    while (code == E_OK && more && read < ROUND_READ && round->bytes.size < ROUND_WRITE && round->rows.size < ROUND_ROWS * sizeof *c->rows) {
        code = row_get(&rows, &more, e);
        more = more && rows.last < c->to;
        if (code != E_OK || !more)
            break;
        code = row_rewrite(w, c, &pins, &rows, round, e);
        read += rows.value.size;
        w->at = rows.last + 1;
        store_iter_next(rows.it);
    }
    if (code == E_OK && !more) {
        carried_put(w, round);
        c->over = true;
        c->kept_bytes = w->kept_bytes;
        c->tombstones = w->tombstones;
        c->left_from = w->left_from;
        c->left_n = (uint32_t)(w->left.size / sizeof c->left[0]);
        if (c->left_n > 0)
            memcpy(c->left, w->left.data, w->left.size);
    }
    rows_close(&rows);
    store_iter_close(pins.it);
    round_give(c, round);
    if (code != E_OK)
        c->rows_n = 0;
    return code;
}

int compact_round(struct store *s, struct compaction *c, struct err *e)
{
    struct work *w = c->work;
    struct err why = {0};
    if (w == NULL) {
        w = c->work = mem_zalloc(sizeof *w);
        w->at = c->clean;
        w->left_from = w->covered = UINT64_MAX;
        c->to = c->clean;
        c->to_bytes = c->passed_bytes;
        c->work_free = work_free;
    }
    c->rows_n = 0;
    c->code = w->rewriting ? rewrite_round(w, s, c, &why) : note_round(w, s, c, &why);
    if (c->code == E_OK)
        return E_OK;
    c->over = true;
    err_set(&c->error, c->code, "%s", why.text);
    return c->code == E_DAMAGED || c->code == E_NO_MEMORY ? E_OK : err_set(e, c->code, "%s", why.text);
}

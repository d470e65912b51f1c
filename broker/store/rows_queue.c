/* Rows of what a queue group has in its hands: leases, lists behind keys, what is held. */
#include "store/rows.h"

#include <assert.h>

/* ---------------------------------------------------------------- positions
 *
 * A place in a partition and the size of what is there, against the one before:
 *
 *     varint size << n | flags      flags: bit 0 the partition is another, the others are the caller's
 *     varint partition, zigzag      only if it is another
 *     varint offset, zigzag
 *     priority, varint expires_ms   only if the top bit of the size is set
 *
 * In a run of one partition that is 3 to 5 bytes.
 */
enum { POSITION_MOVED = 1 };
#define POSITION_MORE (UINT64_C(1) << 31) /* in the size, which is less */

static void position_put(struct buf *b, const struct list_position *before, struct list_position p,
                         unsigned bits, unsigned flags)
{
    if (p.partition != before->partition)
        flags |= POSITION_MOVED;
    bool more = p.priority != 0 || p.expires_ms != 0;
    assert(p.size < POSITION_MORE);
    buf_put_varint(b, (p.size | (more ? POSITION_MORE : 0)) << bits | flags);
    if (flags & POSITION_MOVED)
        buf_put_varint(b, zigzag(before->partition, p.partition));
    buf_put_varint(b, zigzag(before->offset, p.offset));
    if (more) {
        buf_put_u8(b, p.priority);
        buf_put_varint(b, p.expires_ms);
    }
}

static unsigned cur_position(struct cur *c, struct list_position *p, unsigned bits)
{
    uint64_t head = cur_varint(c);
    unsigned flags = (unsigned)head & ((1u << bits) - 1);
    uint64_t partition = p->partition;
    if (flags & POSITION_MOVED)
        partition = unzigzag(partition, cur_varint(c));
    uint64_t offset = unzigzag(p->offset, cur_varint(c));
    bool still = (flags & POSITION_MOVED) && partition == p->partition;
    if (head >> bits > UINT32_MAX || partition > UINT32_MAX || still)
        c->bad = true;
    struct list_position is = {.partition = (uint32_t)partition, .offset = offset, .size = (uint32_t)(head >> bits & (POSITION_MORE - 1))};
    if (head >> bits & POSITION_MORE) {
        is.priority = cur_u8(c);
        is.expires_ms = cur_varint(c);
        if (is.priority == 0 && is.expires_ms == 0)
            c->bad = true;
    }
    if (!c->bad)
        *p = is;
    return flags;
}

/* ---------------------------------------------------------------- leases */

enum { LEASE_HAS_KEY = 2, LEASE_BITS = 2 };

static void lease_entry_put(struct buf *b, const struct lease_entry *before, const struct lease_entry *x)
{
    struct list_position was = {.partition = before->partition, .offset = before->offset};
    struct list_position is = {x->partition, x->offset, x->size, x->expires_ms, x->priority};
    position_put(b, &was, is, LEASE_BITS, x->has_key ? LEASE_HAS_KEY : 0);
    if (x->has_key)
        buf_put_u64(b, x->key_hash);
    buf_put_varint(b, x->grants);
    buf_put_varint(b, x->failures);
}

void lease_row_put(struct buf *b, const struct lease_row *r)
{
    row_begin(b);
    put_id128(b, r->session);
    buf_put_varint(b, r->slot);
    buf_put_varint(b, r->lease_ms);
    buf_put_varint(b, r->counter);
    buf_put_varint(b, r->granted_ms);
    buf_put_varint(b, r->entries_n);
    struct lease_entry before = {0};
    for (uint32_t i = 0; i < r->entries_n; i++) {
        lease_entry_put(b, &before, &r->entries[i]);
        before = r->entries[i];
    }
}

bool lease_row_next(struct view *entries_raw, struct lease_entry *state, bool *bad)
{
    *bad = false;
    if (entries_raw->size == 0)
        return false;
    struct cur c = cur_of(*entries_raw);
    struct list_position p = {.partition = state->partition, .offset = state->offset};
    unsigned flags = cur_position(&c, &p, LEASE_BITS);
    struct lease_entry x = {.partition = p.partition, .offset = p.offset, .size = p.size, .expires_ms = p.expires_ms, .priority = p.priority};
    x.has_key = (flags & LEASE_HAS_KEY) != 0;
    if (x.has_key)
        x.key_hash = cur_u64(&c);
    x.grants = cur_varint32(&c);
    x.failures = cur_varint32(&c);
    if (!walk_step(&c, entries_raw, bad))
        return false;
    *state = x;
    return true;
}

/* Walks all entries once, so that whoever walks them later meets no surprise. */
static bool lease_entries_good(struct view raw, uint32_t n)
{
    struct lease_entry x = {0};
    uint32_t seen = 0;
    bool bad = false;
    while (lease_row_next(&raw, &x, &bad))
        seen++;
    return !bad && seen == n;
}

int lease_row_get(struct view v, struct lease_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "lease", e);
    if (code != E_OK)
        return code;
    r->session = cur_id128(&c);
    r->slot = cur_varint32(&c);
    r->lease_ms = cur_varint32(&c);
    r->counter = cur_varint(&c);
    r->granted_ms = cur_varint(&c);
    r->entries = NULL;
    r->entries_n = cur_varint32(&c);
    r->entries_raw = cur_rest(&c);
    if (!c.bad && !lease_entries_good(r->entries_raw, r->entries_n))
        c.bad = true;
    return row_close(&c, "lease", e);
}

/* ---------------------------------------------------------------- the list behind a key
 * The header's format covers the chunks too: they are positions and nothing else, so that appending is appending. */

static void header_put(struct buf *b, const struct list_header_row *r)
{
    buf_put_varint(b, r->first);
    buf_put_varint(b, r->skip);
    buf_put_varint(b, r->last);
    buf_put_varint(b, r->count);
    buf_put_u8(b, r->head_in_list);
}

static void cur_header(struct cur *c, struct list_header_row *r)
{
    r->first = cur_varint32(c);
    r->skip = cur_varint32(c);
    r->last = cur_varint32(c);
    r->count = cur_varint(c);
    r->head_in_list = cur_bool(c);
}

void list_header_put(struct buf *b, const struct list_header_row *r)
{
    row_begin(b);
    header_put(b, r);
}

int list_header_get(struct view v, struct list_header_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "key list", e);
    if (code != E_OK)
        return code;
    cur_header(&c, r);
    return row_close(&c, "key list", e);
}

/* ---------------------------------------------------------------- a key that is away: its members are positions, their size is their state */

void away_row_put(struct buf *b, const struct away_row *r)
{
    row_begin(b);
    header_put(b, &r->list);
    buf_put_varint(b, r->purges);
    buf_put_varint(b, r->members_n);
    struct list_position before = {0};
    for (uint32_t i = 0; i < r->members_n; i++) {
        const struct key_member *m = &r->members[i];
        list_chunk_append(b, &before, (struct list_position){.partition = m->partition, .offset = m->offset, .size = m->state});
    }
}

bool away_row_next(struct view *members_raw, struct key_member *member, bool *bad)
{
    struct list_position p = {.partition = member->partition, .offset = member->offset};
    if (!list_chunk_next(members_raw, &p, bad))
        return false;
    *bad = p.size < AWAY_RETRYING || p.size > AWAY_WAITING;
    *member = (struct key_member){.partition = p.partition, .offset = p.offset, .state = (uint8_t)p.size};
    return !*bad;
}

/* Walks all members once, so that whoever walks them later meets no surprise. */
static bool members_good(struct view raw, uint32_t n)
{
    struct key_member m = {0};
    uint32_t seen = 0;
    bool bad = false;
    while (away_row_next(&raw, &m, &bad))
        seen++;
    return !bad && seen == n && n > 0;
}

int away_row_get(struct view v, struct away_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "away key", e);
    if (code != E_OK)
        return code;
    cur_header(&c, &r->list);
    r->purges = cur_varint(&c);
    r->members = NULL;
    r->members_n = cur_varint32(&c);
    r->members_raw = cur_rest(&c);
    if (!c.bad && !members_good(r->members_raw, r->members_n))
        c.bad = true;
    return row_close(&c, "away key", e);
}

void list_chunk_append(struct buf *b, struct list_position *before, struct list_position p)
{
    position_put(b, before, p, 1, 0);
    *before = p;
}

bool list_chunk_next(struct view *chunk, struct list_position *before, bool *bad)
{
    *bad = false;
    if (chunk->size == 0)
        return false;
    struct cur c = cur_of(*chunk);
    cur_position(&c, before, 1);
    return walk_step(&c, chunk, bad);
}

/* ---------------------------------------------------------------- held */

enum { HELD_HAS_KEY = 1, HELD_BLOCKING = 2, HELD_MORE = 4 /* priority and expiry follow */, HELD_PURGED = 8 /* so does purges */ };

void held_row_put(struct buf *b, const struct held_row *r)
{
    row_begin(b);
    buf_put_u8(b, r->state);
    bool more = r->priority != 0 || r->expires_ms != 0;
    buf_put_u8(b, (uint8_t)((r->has_key ? HELD_HAS_KEY : 0) | (r->blocking ? HELD_BLOCKING : 0) | (more ? HELD_MORE : 0) |
                            (r->purges != 0 ? HELD_PURGED : 0)));
    buf_put_varint(b, r->due_ms);
    buf_put_varint(b, r->at_ms);
    buf_put_varint(b, r->token);
    if (r->has_key)
        buf_put_u64(b, r->key_hash);
    buf_put_varint(b, r->size);
    buf_put_varint(b, r->grants);
    buf_put_varint(b, r->failures);
    buf_put_bytes(b, r->reason);
    buf_put_bytes(b, r->error);
    if (more) {
        buf_put_u8(b, r->priority);
        buf_put_varint(b, r->expires_ms);
    }
    if (r->purges != 0)
        buf_put_varint(b, r->purges);
}

int held_row_get(struct view v, struct held_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "held", e);
    if (code != E_OK)
        return code;
    r->state = cur_u8(&c);
    if (r->state != HELD_RETRYING && r->state != HELD_PARKED)
        c.bad = true;
    uint8_t flags = cur_flags(&c, HELD_HAS_KEY | HELD_BLOCKING | HELD_MORE | HELD_PURGED);
    r->has_key = (flags & HELD_HAS_KEY) != 0;
    r->blocking = (flags & HELD_BLOCKING) != 0;
    r->due_ms = cur_varint(&c);
    r->at_ms = cur_varint(&c);
    r->token = cur_varint(&c);
    r->key_hash = r->has_key ? cur_u64(&c) : 0;
    r->size = cur_varint32(&c);
    r->grants = cur_varint32(&c);
    r->failures = cur_varint32(&c);
    r->reason = cur_bytes(&c);
    r->error = cur_bytes(&c);
    bool more = (flags & HELD_MORE) != 0;
    r->priority = more ? cur_u8(&c) : 0;
    r->expires_ms = more ? cur_varint(&c) : 0;
    r->purges = (flags & HELD_PURGED) != 0 ? cur_varint(&c) : 0;
    return row_close(&c, "held", e);
}

/* Rows: what the values are. Each pair of functions here, a _put and its _get, is one row's format, field by field. */
#include "store/keys.h"

#include <assert.h>
#include <xxhash.h>

#include "schemas/errors.h"

/* ---------------------------------------------------------------- what all rows share */

static void row_begin(struct buf *b)
{
    buf_put_u8(b, ROW_FORMAT);
}

/* OK with the cursor behind the format byte. */
static int row_open(struct view v, struct cur *c, const char *what, struct err *e)
{
    *c = cur_of(v);
    uint8_t format = cur_u8(c);
    if (c->bad || format == 0)
        return err_set(e, E_DAMAGED, "%s row has no format", what);
    if (format > ROW_FORMAT)
        return err_set(e, E_FORMAT_NEWER, "%s row has format %u, this version reads %u", what, format,
                       ROW_FORMAT);
    return E_OK;
}

/* Everything was read, all of it good, nothing left. */
static int row_close(const struct cur *c, const char *what, struct err *e)
{
    if (!cur_done(c))
        return err_set(e, E_DAMAGED, "%s row is damaged", what);
    return E_OK;
}

static uint32_t cur_varint32(struct cur *c)
{
    uint64_t v = cur_varint(c);
    if (v > UINT32_MAX)
        c->bad = true;
    return c->bad ? 0 : (uint32_t)v;
}

/* Bits of which only those in `known` may be set. */
static uint8_t cur_flags(struct cur *c, uint8_t known)
{
    uint8_t v = cur_u8(c);
    if ((v & ~known) != 0)
        c->bad = true;
    return v;
}

static bool cur_bool(struct cur *c)
{
    return cur_flags(c, 1) != 0;
}

static void put_id128(struct buf *b, struct id128 id)
{
    buf_put_u64(b, id.lo);
    buf_put_u64(b, id.hi);
}

static struct id128 cur_id128(struct cur *c)
{
    struct id128 id;
    id.lo = cur_u64(c);
    id.hi = cur_u64(c);
    return id;
}

static struct view cur_rest(struct cur *c)
{
    return cur_take(c, cur_left(c));
}

/* What a walk over delta-coded entries has left, given back to its view; false, and an empty view, when the entry was bad. */
static bool walk_step(const struct cur *c, struct view *rest, bool *bad)
{
    *bad = c->bad;
    *rest = c->bad ? view_of(NULL, 0) : view_of(c->at, (size_t)(c->end - c->at));
    return !c->bad;
}

/* A difference that may be negative, small numbers short: 0, -1, 1, -2 are 0, 1, 2, 3. Wraps, so any two numbers have one. */
static uint64_t zigzag(uint64_t from, uint64_t to)
{
    uint64_t d = to - from;
    return d << 1 ^ (0 - (d >> 63));
}

static uint64_t unzigzag(uint64_t from, uint64_t v)
{
    return from + (v >> 1 ^ (0 - (v & 1)));
}

/* ---------------------------------------------------------------- positions
 *
 * A place in a partition and the size of what is there, against the one before:
 *
 *     varint size << n | flags      flags: bit 0 the partition is another, the others are the caller's
 *     varint partition, zigzag      only if it is another
 *     varint offset, zigzag
 *
 * In a run of one partition that is 3 to 5 bytes.
 */
enum { POSITION_MOVED = 1 };

static void position_put(struct buf *b, const struct list_position *before, struct list_position p,
                         unsigned bits, unsigned flags)
{
    if (p.partition != before->partition)
        flags |= POSITION_MOVED;
    buf_put_varint(b, (uint64_t)p.size << bits | flags);
    if (flags & POSITION_MOVED)
        buf_put_varint(b, zigzag(before->partition, p.partition));
    buf_put_varint(b, zigzag(before->offset, p.offset));
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
    if (!c->bad)
        *p = (struct list_position){(uint32_t)partition, offset, (uint32_t)(head >> bits)};
    return flags;
}

/* ---------------------------------------------------------------- meta */

void format_row_put(struct buf *b, const struct format_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->format);
    buf_put_varint(b, r->created_ms);
    put_id128(b, r->broker);
}

int format_row_get(struct view v, struct format_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "format", e);
    if (code != E_OK)
        return code;
    r->format = cur_varint32(&c);
    if (!c.bad && r->format > META_FORMAT) /* then nothing behind it is ours to judge */
        return err_set(e, E_FORMAT_NEWER, "data directory has format %u, this version reads %u", r->format,
                       META_FORMAT);
    r->created_ms = cur_varint(&c);
    r->broker = cur_id128(&c);
    return row_close(&c, "format", e);
}

void epoch_row_put(struct buf *b, const struct epoch_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->epoch);
    buf_put_varint(b, r->turn);
    buf_put_varint(b, r->wall_ms);
}

int epoch_row_get(struct view v, struct epoch_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "epoch", e);
    if (code != E_OK)
        return code;
    r->epoch = cur_varint32(&c);
    r->turn = cur_varint(&c);
    r->wall_ms = cur_varint(&c);
    return row_close(&c, "epoch", e);
}

void next_row_put(struct buf *b, const struct next_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->topic);
    buf_put_varint(b, r->partition);
    buf_put_varint(b, r->group);
}

int next_row_get(struct view v, struct next_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "next ids", e);
    if (code != E_OK)
        return code;
    r->topic = cur_varint32(&c);
    r->partition = cur_varint32(&c);
    r->group = cur_varint32(&c);
    return row_close(&c, "next ids", e);
}

static void topic_config_put(struct buf *b, const struct wire_topic_config *t)
{
    buf_put_varint(b, t->partitions);
    buf_put_varint(b, t->retention_ms);
    buf_put_varint(b, t->retention_bytes);
    buf_put_varint(b, t->hard_cap_ms);
    buf_put_u8(b, t->durability);
    buf_put_u8(b, t->compacted);
    buf_put_varint(b, t->message_bytes_max);
    buf_put_varint(b, t->backlog_bytes_max);
}

static void cur_topic_config(struct cur *c, struct wire_topic_config *t)
{
    t->partitions = cur_varint32(c);
    t->retention_ms = cur_varint(c);
    t->retention_bytes = cur_varint(c);
    t->hard_cap_ms = cur_varint(c);
    t->durability = cur_u8(c);
    t->compacted = cur_bool(c);
    t->message_bytes_max = cur_varint32(c);
    t->backlog_bytes_max = cur_varint(c);
}

/* The ids stand in fixed size, so that any of them can be asked for. */
void topic_row_put(struct buf *b, const struct topic_row *r)
{
    row_begin(b);
    buf_put_bytes(b, r->name);
    buf_put_varint(b, r->created_ms);
    topic_config_put(b, &r->config);
    buf_put_u8(b, r->log_class);
    for (uint32_t i = 0; i < r->config.partitions; i++)
        buf_put_u32(b, r->partitions[i]);
}

int topic_row_get(struct view v, struct topic_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "topic", e);
    if (code != E_OK)
        return code;
    r->name = cur_bytes(&c);
    r->created_ms = cur_varint(&c);
    cur_topic_config(&c, &r->config);
    r->log_class = cur_u8(&c);
    if (r->log_class >= LOG_CLASS_COUNT)
        c.bad = true;
    r->partitions = NULL;
    r->partitions_raw = cur_take(&c, (size_t)r->config.partitions * sizeof(uint32_t));
    return row_close(&c, "topic", e);
}

uint32_t topic_row_partition(const struct topic_row *r, uint32_t index)
{
    assert(index < r->partitions_raw.size / sizeof(uint32_t));
    return get_u32(r->partitions_raw.data + (size_t)index * sizeof(uint32_t));
}

void group_row_put(struct buf *b, const struct group_row *r)
{
    row_begin(b);
    buf_put_bytes(b, r->name);
    buf_put_varint(b, r->topic);
    buf_put_varint(b, r->created_ms);
    buf_put_u8(b, r->config.mode);
    buf_put_u8(b, r->config.order);
    buf_put_u8(b, r->config.park);
    buf_put_u8(b, r->config.from);
    buf_put_varint(b, r->config.lease_ms);
    buf_put_varint(b, r->config.max_deliveries);
    buf_put_varint(b, r->config.backoff_min_ms);
    buf_put_varint(b, r->config.backoff_max_ms);
    buf_put_varint(b, r->config.run_max);
    buf_put_varint(b, r->config.in_flight_max);
    buf_put_u8(b, r->paused);
}

int group_row_get(struct view v, struct group_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "group", e);
    if (code != E_OK)
        return code;
    r->name = cur_bytes(&c);
    r->topic = cur_varint32(&c);
    r->created_ms = cur_varint(&c);
    r->config.mode = cur_u8(&c);
    r->config.order = cur_u8(&c);
    r->config.park = cur_u8(&c);
    r->config.from = cur_u8(&c);
    r->config.lease_ms = cur_varint32(&c);
    r->config.max_deliveries = cur_varint32(&c);
    r->config.backoff_min_ms = cur_varint32(&c);
    r->config.backoff_max_ms = cur_varint32(&c);
    r->config.run_max = cur_varint32(&c);
    r->config.in_flight_max = cur_varint32(&c);
    r->paused = cur_bool(&c);
    return row_close(&c, "group", e);
}

void partition_row_put(struct buf *b, const struct partition_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->start);
    buf_put_varint(b, r->end);
    buf_put_varint(b, r->start_bytes);
    buf_put_varint(b, r->end_bytes);
    buf_put_varint(b, r->first_time_ms);
    buf_put_varint(b, r->last_time_ms);
    buf_put_varint(b, r->epoch);
    buf_put_varint(b, r->turn);
}

int partition_row_get(struct view v, struct partition_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "partition", e);
    if (code != E_OK)
        return code;
    r->start = cur_varint(&c);
    r->end = cur_varint(&c);
    r->start_bytes = cur_varint(&c);
    r->end_bytes = cur_varint(&c);
    r->first_time_ms = cur_varint(&c);
    r->last_time_ms = cur_varint(&c);
    r->epoch = cur_varint32(&c);
    r->turn = cur_varint(&c);
    return row_close(&c, "partition", e);
}

/* ---------------------------------------------------------------- groups */

void cursor_row_put(struct buf *b, const struct cursor_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->floor);
    buf_put_varint(b, r->cursor);
    buf_put_varint(b, r->ready_low);
    buf_put_varint(b, r->parked);
}

int cursor_row_get(struct view v, struct cursor_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "cursor", e);
    if (code != E_OK)
        return code;
    r->floor = cur_varint(&c);
    r->cursor = cur_varint(&c);
    r->ready_low = cur_varint(&c);
    r->parked = cur_varint(&c);
    return row_close(&c, "cursor", e);
}

/* A chunk fills from its beginning: bytes of ones in front are only counted, zeros behind are left out.
 *
 *     format | sum u32: low half of XXH3-64 over all 512 bytes | varint bytes of ones | bytes up to the last that is not 0
 */
static uint32_t done_sum(const uint8_t bits[DONE_CHUNK_BYTES])
{
    return (uint32_t)XXH3_64bits(bits, DONE_CHUNK_BYTES);
}

void done_row_put(struct buf *b, const uint8_t bits[DONE_CHUNK_BYTES])
{
    size_t ones = 0, end = DONE_CHUNK_BYTES;
    while (ones < DONE_CHUNK_BYTES && bits[ones] == 0xff)
        ones++;
    while (end > ones && bits[end - 1] == 0)
        end--;
    row_begin(b);
    buf_put_u32(b, done_sum(bits));
    buf_put_varint(b, ones);
    buf_append(b, bits + ones, end - ones);
}

int done_row_get(struct view v, uint8_t bits[DONE_CHUNK_BYTES], struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "done", e);
    if (code != E_OK)
        return code;
    uint32_t sum = cur_u32(&c);
    uint64_t ones = cur_varint(&c);
    if (ones > DONE_CHUNK_BYTES || cur_left(&c) > DONE_CHUNK_BYTES - ones)
        c.bad = true;
    if (c.bad)
        return row_close(&c, "done", e);
    struct view rest = cur_rest(&c);
    memset(bits, 0, DONE_CHUNK_BYTES);
    memset(bits, 0xff, ones);
    memcpy(bits + ones, rest.data, rest.size);
    if (done_sum(bits) != sum)
        return err_set(e, E_DAMAGED, "done row does not fit its checksum");
    return E_OK;
}

/* ---------------------------------------------------------------- leases */

enum { LEASE_HAS_KEY = 2, LEASE_BITS = 2 };

static void lease_entry_put(struct buf *b, const struct lease_entry *before, const struct lease_entry *x)
{
    struct list_position was = {before->partition, before->offset, 0};
    struct list_position is = {x->partition, x->offset, x->size};
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
    struct list_position p = {state->partition, state->offset, 0};
    unsigned flags = cur_position(&c, &p, LEASE_BITS);
    struct lease_entry x = {.partition = p.partition, .offset = p.offset, .size = p.size};
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

void list_header_put(struct buf *b, const struct list_header_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->first);
    buf_put_varint(b, r->skip);
    buf_put_varint(b, r->last);
    buf_put_varint(b, r->count);
    buf_put_u8(b, r->head_in_list);
}

int list_header_get(struct view v, struct list_header_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "key list", e);
    if (code != E_OK)
        return code;
    r->first = cur_varint32(&c);
    r->skip = cur_varint32(&c);
    r->last = cur_varint32(&c);
    r->count = cur_varint(&c);
    r->head_in_list = cur_bool(&c);
    return row_close(&c, "key list", e);
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

enum { HELD_HAS_KEY = 1, HELD_BLOCKING = 2 };

void held_row_put(struct buf *b, const struct held_row *r)
{
    row_begin(b);
    buf_put_u8(b, r->state);
    buf_put_u8(b, (uint8_t)((r->has_key ? HELD_HAS_KEY : 0) | (r->blocking ? HELD_BLOCKING : 0)));
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
    uint8_t flags = cur_flags(&c, HELD_HAS_KEY | HELD_BLOCKING);
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
    return row_close(&c, "held", e);
}

/* ---------------------------------------------------------------- sessions */

void session_row_put(struct buf *b, const struct session_row *r)
{
    row_begin(b);
    buf_put_bytes(b, r->name);
    buf_put_varint(b, r->created_ms);
    buf_put_varint(b, r->seen_ms);
}

int session_row_get(struct view v, struct session_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "session", e);
    if (code != E_OK)
        return code;
    r->name = cur_bytes(&c);
    r->created_ms = cur_varint(&c);
    r->seen_ms = cur_varint(&c);
    return row_close(&c, "session", e);
}

void lane_row_put(struct buf *b, uint64_t base, uint64_t done, const struct result *results, uint32_t n)
{
    row_begin(b);
    buf_put_varint(b, base);
    buf_put_u64(b, done);
    buf_put_varint(b, n);
    for (uint32_t i = 0; i < n; i++) {
        buf_put_varint(b, results[i].seq);
        buf_put_varint(b, results[i].turn);
        buf_put_u8(b, results[i].level);
        buf_put_u8(b, results[i].verb);
        buf_put_bytes(b, results[i].body);
    }
}

bool lane_row_next(struct view *results_raw, struct result *out, bool *bad)
{
    *bad = false;
    if (results_raw->size == 0)
        return false;
    struct cur c = cur_of(*results_raw);
    out->seq = cur_varint(&c);
    out->turn = cur_varint(&c);
    out->level = cur_u8(&c);
    out->verb = cur_u8(&c);
    out->body = cur_bytes(&c);
    return walk_step(&c, results_raw, bad);
}

static bool lane_results_good(struct view raw, uint32_t n)
{
    struct result x;
    uint32_t seen = 0;
    bool bad = false;
    while (lane_row_next(&raw, &x, &bad))
        seen++;
    return !bad && seen == n;
}

int lane_row_get(struct view v, struct lane_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "lane", e);
    if (code != E_OK)
        return code;
    r->base = cur_varint(&c);
    r->done = cur_u64(&c);
    r->results_n = cur_varint32(&c);
    r->results_raw = cur_rest(&c);
    if (!c.bad && !lane_results_good(r->results_raw, r->results_n))
        c.bad = true;
    return row_close(&c, "lane", e);
}

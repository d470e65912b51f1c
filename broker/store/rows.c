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

/* OK with the cursor behind the format byte, which is at most `newest`. */
static int row_open_up_to(struct view v, struct cur *c, const char *what, uint8_t newest, uint8_t *format, struct err *e)
{
    *c = cur_of(v);
    *format = cur_u8(c);
    if (c->bad || *format == 0)
        return err_set(e, E_DAMAGED, "%s row has no format", what);
    if (*format > newest)
        return err_set(e, E_FORMAT_NEWER, "%s row has format %u, this version reads %u", what, *format, newest);
    return E_OK;
}

/* Of a row that has had one format only. */
static int row_open(struct view v, struct cur *c, const char *what, struct err *e)
{
    uint8_t format;
    return row_open_up_to(v, c, what, ROW_FORMAT, &format, e);
}

/* Rows that have had more than one. What came with a format stands behind what was there before, so that an older row is read by the same
 * lines up to there; and a row of the newest that ends early is damage, not an older one. */
enum { NEXT_FORMAT = 2, TOPIC_FORMAT = 2, GROUP_FORMAT = 2 };

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
    buf_put_u8(b, NEXT_FORMAT);
    buf_put_varint(b, r->topic);
    buf_put_varint(b, r->partition);
    buf_put_varint(b, r->group);
    buf_put_varint(b, r->task);
}

int next_row_get(struct view v, struct next_row *r, struct err *e)
{
    struct cur c;
    uint8_t format;
    int code = row_open_up_to(v, &c, "next ids", NEXT_FORMAT, &format, e);
    if (code != E_OK)
        return code;
    r->topic = cur_varint32(&c);
    r->partition = cur_varint32(&c);
    r->group = cur_varint32(&c);
    r->task = format >= 2 ? cur_varint(&c) : 1;
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
    buf_put_u8(b, TOPIC_FORMAT);
    buf_put_bytes(b, r->name);
    buf_put_varint(b, r->created_ms);
    topic_config_put(b, &r->config);
    buf_put_u8(b, r->log_class);
    for (uint32_t i = 0; i < r->config.partitions; i++)
        buf_put_u32(b, r->partitions[i]);
    buf_put_varint(b, r->config.backlog_age_max_ms);
    buf_put_varint(b, r->config.dedup_ms);
    buf_put_varint(b, r->config.ttl_ms);
}

int topic_row_get(struct view v, struct topic_row *r, struct err *e)
{
    struct cur c;
    uint8_t format;
    int code = row_open_up_to(v, &c, "topic", TOPIC_FORMAT, &format, e);
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
    bool more = format >= 2;
    r->config.backlog_age_max_ms = more ? cur_varint(&c) : 0;
    r->config.dedup_ms = more ? cur_varint(&c) : 0;
    r->config.ttl_ms = more ? cur_varint(&c) : 0;
    return row_close(&c, "topic", e);
}

uint32_t topic_row_partition(const struct topic_row *r, uint32_t index)
{
    assert(index < r->partitions_raw.size / sizeof(uint32_t));
    return get_u32(r->partitions_raw.data + (size_t)index * sizeof(uint32_t));
}

void group_row_put(struct buf *b, const struct group_row *r)
{
    buf_put_u8(b, GROUP_FORMAT);
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
    buf_put_u8(b, r->config.expired);
    buf_put_varint(b, r->config.rate_milli);
    buf_put_varint(b, r->config.key_rate_milli);
    buf_put_varint(b, r->config.key_in_flight_max);
    buf_put_varint(b, r->config.idle_expiry_ms);
    buf_put_varint(b, r->used_ms);
}

int group_row_get(struct view v, struct group_row *r, struct err *e)
{
    struct cur c;
    uint8_t format;
    int code = row_open_up_to(v, &c, "group", GROUP_FORMAT, &format, e);
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
    bool more = format >= 2;
    r->config.expired = more ? cur_u8(&c) : EXPIRED_DROP;
    r->config.rate_milli = more ? cur_varint32(&c) : 0;
    r->config.key_rate_milli = more ? cur_varint32(&c) : 0;
    r->config.key_in_flight_max = more ? cur_varint32(&c) : 0;
    r->config.idle_expiry_ms = more ? cur_varint(&c) : 0;
    r->used_ms = more ? cur_varint(&c) : 0;
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

enum { HELD_HAS_KEY = 1, HELD_BLOCKING = 2, HELD_MORE = 4 /* priority and expiry follow */ };

void held_row_put(struct buf *b, const struct held_row *r)
{
    row_begin(b);
    buf_put_u8(b, r->state);
    bool more = r->priority != 0 || r->expires_ms != 0;
    buf_put_u8(b, (uint8_t)((r->has_key ? HELD_HAS_KEY : 0) | (r->blocking ? HELD_BLOCKING : 0) | (more ? HELD_MORE : 0)));
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
    uint8_t flags = cur_flags(&c, HELD_HAS_KEY | HELD_BLOCKING | HELD_MORE);
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
    return row_close(&c, "held", e);
}

/* ---------------------------------------------------------------- what waits for its time */

void sched_batch_row_put(struct buf *b, const struct sched_batch_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->partition);
    buf_put_varint(b, r->count);
    buf_put_varint(b, r->last_delta);
    buf_put_u64(b, r->batch_hash);
    buf_put_bytes(b, r->batch);
}

int sched_batch_row_get(struct view v, struct sched_batch_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "scheduled batch", e);
    if (code != E_OK)
        return code;
    r->partition = cur_varint32(&c);
    r->count = cur_varint32(&c);
    r->last_delta = cur_varint(&c);
    r->batch_hash = cur_u64(&c);
    r->batch = cur_bytes(&c);
    return row_close(&c, "scheduled batch", e);
}

void sched_name_row_put(struct buf *b, const struct sched_name_row *r)
{
    row_begin(b);
    buf_put_bytes(b, r->name);
    buf_put_bytes(b, r->cron);
    buf_put_varint(b, r->due_ms);
    buf_put_varint(b, r->created_ms);
    buf_put_varint(b, r->bytes);
    buf_put_varint(b, r->partition);
    buf_put_varint(b, r->count);
}

int sched_name_row_get(struct view v, struct sched_name_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "scheduled name", e);
    if (code != E_OK)
        return code;
    r->name = cur_bytes(&c);
    r->cron = cur_bytes(&c);
    r->due_ms = cur_varint(&c);
    r->created_ms = cur_varint(&c);
    r->bytes = cur_varint(&c);
    r->partition = cur_varint32(&c);
    r->count = cur_varint32(&c);
    return row_close(&c, "scheduled name", e);
}

/* ---------------------------------------------------------------- tasks */

enum { TASK_DRY_RUN = 1, TASK_HAS_FILTER = 2, TASK_HAS_AT = 4, FILTER_KEY = 1, FILTER_HEADER_VALUE = 2, FILTER_OFFSET = 4 };

static void filter_put(struct buf *b, const struct wire_held_filter *f)
{
    buf_put_u8(b, (uint8_t)((f->has_key ? FILTER_KEY : 0) | (f->has_header_value ? FILTER_HEADER_VALUE : 0) |
                            (f->has_offset ? FILTER_OFFSET : 0)));
    buf_put_bytes(b, f->key);
    buf_put_bytes(b, f->header);
    buf_put_bytes(b, f->header_value);
    buf_put_bytes(b, f->reason);
    buf_put_varint(b, f->after_ms);
    buf_put_varint(b, f->before_ms);
    buf_put_varint(b, f->attempts_min);
    buf_put_varint(b, f->attempts_max);
    buf_put_varint(b, f->partition);
    buf_put_varint(b, f->offset);
}

static void cur_filter(struct cur *c, struct wire_held_filter *f)
{
    uint8_t flags = cur_flags(c, FILTER_KEY | FILTER_HEADER_VALUE | FILTER_OFFSET);
    f->has_key = (flags & FILTER_KEY) != 0;
    f->has_header_value = (flags & FILTER_HEADER_VALUE) != 0;
    f->has_offset = (flags & FILTER_OFFSET) != 0;
    f->key = cur_bytes(c);
    f->header = cur_bytes(c);
    f->header_value = cur_bytes(c);
    f->reason = cur_bytes(c);
    f->after_ms = cur_varint(c);
    f->before_ms = cur_varint(c);
    f->attempts_min = cur_varint32(c);
    f->attempts_max = cur_varint32(c);
    f->partition = cur_varint32(c);
    f->offset = cur_varint(c);
}

void task_row_put(struct buf *b, const struct task_row *r)
{
    row_begin(b);
    buf_put_u8(b, r->act);
    buf_put_u8(b, r->state);
    buf_put_u8(b, (uint8_t)((r->dry_run ? TASK_DRY_RUN : 0) | (r->has_filter ? TASK_HAS_FILTER : 0) | (r->has_at ? TASK_HAS_AT : 0)));
    buf_put_varint(b, r->rate_milli);
    buf_put_varint(b, r->limit);
    buf_put_varint(b, r->at_partition);
    buf_put_varint(b, r->at_offset);
    buf_put_varint(b, r->seen);
    buf_put_varint(b, r->matched);
    buf_put_varint(b, r->changed);
    buf_put_varint(b, r->started_ms);
    buf_put_varint(b, r->ended_ms);
    buf_put_bytes(b, r->error);
    if (r->has_filter)
        filter_put(b, &r->filter);
}

int task_row_get(struct view v, struct task_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "task", e);
    if (code != E_OK)
        return code;
    *r = (struct task_row){0};
    r->act = cur_u8(&c);
    r->state = cur_u8(&c);
    uint8_t flags = cur_flags(&c, TASK_DRY_RUN | TASK_HAS_FILTER | TASK_HAS_AT);
    r->dry_run = (flags & TASK_DRY_RUN) != 0;
    r->has_filter = (flags & TASK_HAS_FILTER) != 0;
    r->has_at = (flags & TASK_HAS_AT) != 0;
    r->rate_milli = cur_varint32(&c);
    r->limit = cur_varint(&c);
    r->at_partition = cur_varint32(&c);
    r->at_offset = cur_varint(&c);
    r->seen = cur_varint(&c);
    r->matched = cur_varint(&c);
    r->changed = cur_varint(&c);
    r->started_ms = cur_varint(&c);
    r->ended_ms = cur_varint(&c);
    r->error = cur_bytes(&c);
    if (r->act < TASK_REDRIVE || r->act > TASK_DROP || r->state < TASK_RUNNING || r->state > TASK_FAILED)
        c.bad = true;
    if (r->has_filter)
        cur_filter(&c, &r->filter);
    return row_close(&c, "task", e);
}

/* ---------------------------------------------------------------- message ids, state */

void dedup_generation_row_put(struct buf *b, const struct dedup_generation_row *r)
{
    row_begin(b);
    buf_put_u8(b, r->current);
    buf_put_varint(b, r->began_ms);
    buf_put_varint(b, r->count);
    buf_put_varint(b, r->before_began_ms);
}

int dedup_generation_row_get(struct view v, struct dedup_generation_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "dedup generation", e);
    if (code != E_OK)
        return code;
    r->current = cur_flags(&c, 1);
    r->began_ms = cur_varint(&c);
    r->count = cur_varint(&c);
    r->before_began_ms = cur_varint(&c);
    return row_close(&c, "dedup generation", e);
}

void dedup_row_put(struct buf *b, const struct dedup_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->partition);
    buf_put_varint(b, r->offset);
    buf_put_varint(b, r->time_ms);
}

int dedup_row_get(struct view v, struct dedup_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "dedup", e);
    if (code != E_OK)
        return code;
    r->partition = cur_varint32(&c);
    r->offset = cur_varint(&c);
    r->time_ms = cur_varint(&c);
    return row_close(&c, "dedup", e);
}

void state_row_put(struct buf *b, const struct state_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->version);
    buf_put_bytes(b, r->key);
    buf_put_bytes(b, r->value);
}

int state_row_get(struct view v, struct state_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "state", e);
    if (code != E_OK)
        return code;
    r->version = cur_varint(&c);
    r->key = cur_bytes(&c);
    r->value = cur_bytes(&c);
    return row_close(&c, "state", e);
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

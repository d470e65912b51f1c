/* Rows: what the values are. Each pair of functions, a _put and its _get, is one row's format, field by field. Here: what is known of topics,
 * groups and sessions. */
#include "store/rows.h"

#include <assert.h>
#include <xxhash.h>

/* Rows that have had more than one. What came with a format stands behind what was there before, so that an older row is read by the same
 * lines up to there; and a row of the newest that ends early is damage, not an older one. */
enum { NEXT_FORMAT = 2, TOPIC_FORMAT = 2, GROUP_FORMAT = 2, PARTITION_FORMAT = 2, CURSOR_FORMAT = 2 };

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
    buf_put_u8(b, PARTITION_FORMAT);
    buf_put_varint(b, r->start);
    buf_put_varint(b, r->end);
    buf_put_varint(b, r->start_bytes);
    buf_put_varint(b, r->end_bytes);
    buf_put_varint(b, r->first_time_ms);
    buf_put_varint(b, r->last_time_ms);
    buf_put_varint(b, r->epoch);
    buf_put_varint(b, r->turn);
    buf_put_varint(b, r->parent);
    buf_put_varint(b, r->fence);
}

int partition_row_get(struct view v, struct partition_row *r, struct err *e)
{
    struct cur c;
    uint8_t format;
    int code = row_open_up_to(v, &c, "partition", PARTITION_FORMAT, &format, e);
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
    r->parent = format >= 2 ? cur_varint32(&c) : 0;
    r->fence = format >= 2 ? cur_varint(&c) : 0;
    return row_close(&c, "partition", e);
}

void trims_row_put(struct buf *b, const struct trims_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->n);
    for (uint32_t i = 0; i < r->n; i++) {
        buf_put_varint(b, r->at[i].to);
        buf_put_varint(b, r->at[i].first_ms);
        buf_put_varint(b, r->at[i].last_ms);
        buf_put_u8(b, r->at[i].why);
    }
}

int trims_row_get(struct view v, struct trims_row *r, struct err *e)
{
    struct cur c;
    *r = (struct trims_row){0};
    int code = row_open(v, &c, "trims", e);
    if (code != E_OK)
        return code;
    r->n = cur_varint32(&c);
    if (r->n > TRIMS_MAX)
        c.bad = true;
    for (uint32_t i = 0; !c.bad && i < r->n; i++) {
        struct trim *t = &r->at[i];
        t->to = cur_varint(&c);
        t->first_ms = cur_varint(&c);
        t->last_ms = cur_varint(&c);
        t->why = cur_u8(&c);
        if (t->why != GAP_RETENTION && t->why != GAP_HARD_CAP)
            c.bad = true;
    }
    return row_close(&c, "trims", e);
}

/* ---------------------------------------------------------------- groups */

void lost_row_put(struct buf *b, const struct lost_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->lost);
    buf_put_varint(b, r->stale);
}

int lost_row_get(struct view v, struct lost_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "lost", e);
    if (code != E_OK)
        return code;
    r->lost = cur_varint(&c);
    r->stale = cur_varint(&c);
    return row_close(&c, "lost", e);
}

void compaction_row_put(struct buf *b, const struct compaction_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->clean);
    buf_put_varint(b, r->passed);
    buf_put_varint(b, r->passed_bytes);
    buf_put_varint(b, r->removed_bytes);
    buf_put_varint(b, r->tombstones);
    buf_put_varint(b, r->last_ms);
    buf_put_varint(b, r->marks_n);
    for (uint32_t i = 0; i < r->marks_n; i++) {
        buf_put_varint(b, r->marks[i].offset);
        buf_put_varint(b, r->marks[i].ms);
    }
    buf_put_varint(b, r->left_n);
    for (uint32_t i = 0; i < r->left_n; i++)
        buf_put_varint(b, r->left[i] - (i > 0 ? r->left[i - 1] : 0));
}

int compaction_row_get(struct view v, struct compaction_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "compaction", e);
    if (code != E_OK)
        return code;
    r->clean = cur_varint(&c);
    r->passed = cur_varint(&c);
    r->passed_bytes = cur_varint(&c);
    r->removed_bytes = cur_varint(&c);
    r->tombstones = cur_varint(&c);
    r->last_ms = cur_varint(&c);
    r->marks_n = cur_varint32(&c);
    if (r->marks_n > COMPACTION_MARKS_MAX)
        c.bad = true;
    for (uint32_t i = 0; i < r->marks_n && !c.bad; i++) {
        r->marks[i].offset = cur_varint(&c);
        r->marks[i].ms = cur_varint(&c);
    }
    r->left_n = cur_varint32(&c);
    if (r->left_n > COMPACTION_LEFT_MAX)
        c.bad = true;
    for (uint32_t i = 0; i < r->left_n && !c.bad; i++)
        r->left[i] = cur_varint(&c) + (i > 0 ? r->left[i - 1] : 0);
    return row_close(&c, "compaction", e);
}

/* A group that has nothing away keeps the shorter format. */
void cursor_row_put(struct buf *b, const struct cursor_row *r)
{
    const struct away_counts *a = &r->away;
    bool any = (a->retrying | a->blocked | a->waiting | a->behind | a->keys | a->purges | a->swept) != 0;
    buf_put_u8(b, any ? CURSOR_FORMAT : ROW_FORMAT);
    buf_put_varint(b, r->floor);
    buf_put_varint(b, r->cursor);
    buf_put_varint(b, r->ready_low);
    buf_put_varint(b, r->parked);
    if (!any)
        return;
    buf_put_varint(b, a->retrying);
    buf_put_varint(b, a->blocked);
    buf_put_varint(b, a->waiting);
    buf_put_varint(b, a->behind);
    buf_put_varint(b, a->keys);
    buf_put_varint(b, a->purges);
    buf_put_varint(b, a->swept);
}

int cursor_row_get(struct view v, struct cursor_row *r, struct err *e)
{
    struct cur c;
    uint8_t format;
    int code = row_open_up_to(v, &c, "cursor", CURSOR_FORMAT, &format, e);
    if (code != E_OK)
        return code;
    r->floor = cur_varint(&c);
    r->cursor = cur_varint(&c);
    r->ready_low = cur_varint(&c);
    r->parked = cur_varint(&c);
    r->away = (struct away_counts){0};
    if (format >= 2) {
        r->away.retrying = cur_varint(&c);
        r->away.blocked = cur_varint(&c);
        r->away.waiting = cur_varint(&c);
        r->away.behind = cur_varint(&c);
        r->away.keys = cur_varint(&c);
        r->away.purges = cur_varint(&c);
        r->away.swept = cur_varint(&c);
    }
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

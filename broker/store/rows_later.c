/* Rows of what is done later: batches that wait for their time, tasks. */
#include "store/rows.h"

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

void sched_count_row_put(struct buf *b, const struct sched_count_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->batches);
    buf_put_varint(b, r->messages);
}

int sched_count_row_get(struct view v, struct sched_count_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "scheduled count", e);
    if (code != E_OK)
        return code;
    r->batches = cur_varint(&c);
    r->messages = cur_varint(&c);
    return row_close(&c, "scheduled count", e);
}

void sched_low_row_put(struct buf *b, const struct sched_low_row *r)
{
    row_begin(b);
    buf_put_varint(b, r->low_ms);
}

int sched_low_row_get(struct view v, struct sched_low_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "first due time", e);
    if (code != E_OK)
        return code;
    r->low_ms = cur_varint(&c);
    return row_close(&c, "first due time", e);
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

enum { REPLAY_INTO = 1, REPLAY_HAS_PARTITION = 2, REPLAY_HAS_FROM = 4 };

static void replay_put(struct buf *b, const struct replay_row *r)
{
    buf_put_u8(b, r->source);
    buf_put_u8(b, (uint8_t)((r->into ? REPLAY_INTO : 0) | (r->has_partition ? REPLAY_HAS_PARTITION : 0) | (r->has_from ? REPLAY_HAS_FROM : 0)));
    buf_put_varint(b, r->of);
    buf_put_varint(b, r->partition);
    buf_put_varint(b, r->from_offset);
    buf_put_varint(b, r->to_offset);
    buf_put_varint(b, r->from_ms);
    buf_put_varint(b, r->to_ms);
    buf_put_varint(b, r->left);
    buf_put_varint(b, r->lost);
}

static void cur_replay(struct cur *c, struct replay_row *r)
{
    r->source = cur_u8(c);
    uint8_t flags = cur_flags(c, REPLAY_INTO | REPLAY_HAS_PARTITION | REPLAY_HAS_FROM);
    r->into = (flags & REPLAY_INTO) != 0;
    r->has_partition = (flags & REPLAY_HAS_PARTITION) != 0;
    r->has_from = (flags & REPLAY_HAS_FROM) != 0;
    r->of = cur_varint32(c);
    r->partition = cur_varint32(c);
    r->from_offset = cur_varint(c);
    r->to_offset = cur_varint(c);
    r->from_ms = cur_varint(c);
    r->to_ms = cur_varint(c);
    r->left = cur_varint(c);
    r->lost = cur_varint(c);
    if (r->source < REPLAY_LOG || r->source > REPLAY_FAILED)
        c->bad = true;
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
    if (r->act == TASK_REPLAY)
        replay_put(b, &r->replay);
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
    if (r->act < TASK_REDRIVE || r->act > TASK_REPLAY || r->state < TASK_RUNNING || r->state > TASK_FAILED)
        c.bad = true;
    if (r->has_filter)
        cur_filter(&c, &r->filter);
    if (r->act == TASK_REPLAY)
        cur_replay(&c, &r->replay);
    return row_close(&c, "task", e);
}

void task_ends_row_put(struct buf *b, const uint64_t *ends, uint32_t n)
{
    row_begin(b);
    buf_put_varint(b, n);
    for (uint32_t i = 0; i < n; i++)
        buf_put_varint(b, ends[i]);
}

int task_ends_row_get(struct view v, struct task_ends_row *r, struct err *e)
{
    struct cur c;
    int code = row_open(v, &c, "ends of a replay", e);
    if (code != E_OK)
        return code;
    r->n = cur_varint32(&c);
    r->raw = view_of(c.at, cur_left(&c));
    for (uint32_t i = 0; i < r->n && !c.bad; i++)
        cur_varint(&c);
    return row_close(&c, "ends of a replay", e);
}

uint64_t task_ends_next(struct view *raw)
{
    struct cur c = cur_of(*raw);
    uint64_t end = cur_varint(&c);
    *raw = view_of(c.at, cur_left(&c));
    return end;
}

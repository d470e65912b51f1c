/* Lag: how far a group is behind, and whether it will catch up. */
#include "engine/memory.h"

void rate_count(struct rate *r, uint64_t mono_ms, uint32_t n)
{
    uint64_t now = mono_ms / 1000;
    if (now - r->second >= RATE_SECONDS) {
        memset(r->bucket, 0, sizeof r->bucket);
        r->second = now;
    }
    while (r->second < now)
        r->bucket[++r->second % RATE_SECONDS] = 0;
    r->bucket[now % RATE_SECONDS] += n;
}

uint64_t rate_milli(const struct rate *r, uint64_t mono_ms)
{
    uint64_t now = mono_ms / 1000, sum = 0;
    for (uint64_t back = 0; back < RATE_SECONDS && back <= now; back++) {
        uint64_t second = now - back;
        if (second <= r->second && r->second - second < RATE_SECONDS)
            sum += r->bucket[second % RATE_SECONDS];
    }
    return sum * 1000 / RATE_SECONDS;
}

/* ---------------------------------------------------------------- when what was appended
 *
 *      (offset, time) . . (offset, time) . (offset, time) (offset, time)      at most 32, the closer to each other the newer they are
 *
 * Kept from the oldest on that some group has not done. So the time of an offset is known to a third of its age without reading the log.
 * After a restart what was appended before is not known.
 */
enum { TIMES_MAX = 32, TIMES_SPACING_MS = 100 };
struct times { uint32_t n; struct { uint64_t offset, time_ms; } at[TIMES_MAX]; };

static uint64_t floor_of_all(const struct partition *p)
{
    uint64_t floor = p->topic->groups_n > 0 ? UINT64_MAX : p->row.start;
    for (size_t i = 0; i < p->topic->groups_n; i++)
        if (group_part(p->topic->groups[i], p)->done.floor < floor)
            floor = group_part(p->topic->groups[i], p)->done.floor;
    return floor;
}

/* How much is lost without the i-th: the time between its neighbours, against their age. */
static double worth(const struct times *t, uint32_t i, uint64_t now_ms)
{
    return (double)(t->at[i + 1].time_ms - t->at[i - 1].time_ms) / (double)(now_ms - t->at[i + 1].time_ms + TIMES_SPACING_MS);
}

static void times_drop(struct times *t, uint32_t from, uint32_t n)
{
    t->n -= n;
    memmove(t->at + from, t->at + from + n, (t->n - from) * sizeof t->at[0]);
}

static void times_thin(const struct partition *p, struct times *t, uint64_t now_ms)
{
    uint64_t floor = floor_of_all(p);
    uint32_t old = 0, least = 1;
    while (old + 1 < t->n && t->at[old + 1].offset <= floor)
        old++;
    if (old > 0) {
        times_drop(t, 0, old);
        return;
    }
    for (uint32_t i = 2; i + 1 < t->n; i++)
        if (worth(t, i, now_ms) < worth(t, least, now_ms))
            least = i;
    times_drop(t, least, 1);
}

void times_mark(struct partition *p, uint64_t offset, uint64_t time_ms)
{
    if (p->times == NULL)
        p->times = mem_zalloc(sizeof *p->times);
    struct times *t = p->times;
    if (t->n > 0 && time_ms - t->at[t->n - 1].time_ms < TIMES_SPACING_MS)
        return;
    if (t->n == TIMES_MAX)
        times_thin(p, t, time_ms);
    t->at[t->n].offset = offset;
    t->at[t->n++].time_ms = time_ms;
}

/* Not before it: the first time that is known at or after the offset. */
static uint64_t time_at(const struct partition *p, uint64_t offset)
{
    for (uint32_t i = 0; p->times != NULL && i < p->times->n; i++)
        if (p->times->at[i].offset >= offset)
            return p->times->at[i].time_ms;
    return p->row.last_time_ms;
}

/* ---------------------------------------------------------------- of a group */

/* Append time of the oldest message that is not done, or a later one where that is not known without reading the log. */
static uint64_t oldest_time(const struct group_part *p)
{
    const struct partition *log = p->partition;
    if (p->done.floor >= log->row.end)
        return UINT64_MAX;
    if (p->done.floor <= log->row.start)
        return log->row.first_time_ms;
    const struct entry *e = map_get(&p->entries, p->done.floor);
    if (e != NULL && e->append_time_ms != 0)
        return e->append_time_ms;
    uint64_t time = time_at(log, p->done.floor);
    return p->cursor > p->done.floor && p->cursor_time_ms != 0 && p->cursor_time_ms < time ? p->cursor_time_ms : time;
}

static uint64_t drain_of(const struct engine *en, const struct group *g, uint64_t waiting)
{
    uint64_t held = g->retrying + g->blocked, drainable = waiting > held ? waiting - held : 0, rate = rate_milli(&g->acks, en->now.mono_ms);
    return drainable == 0 ? 0 : rate == 0 ? UINT64_MAX : drainable * 1000 * 1000 / rate;
}

void group_backlog(const struct engine *en, const struct group *g, struct group_backlog *out)
{
    *out = (struct group_backlog){.oldest_ms = UINT64_MAX, .waiting = g->redriven /* done once, and to be delivered again */};
    for (uint32_t i = 0; i < g->topic->config.partitions; i++) {
        const struct group_part *p = &g->parts[i];
        uint64_t waiting = p->partition->row.end - p->done.floor - p->done.count, time = waiting > 0 ? oldest_time(p) : UINT64_MAX;
        out->waiting += waiting;
        if (time < out->oldest_ms)
            out->oldest_ms = time;
    }
    out->drain_ms = drain_of(en, g, out->waiting);
}

static void lag_of(const struct engine *en, struct op *op, const struct group *g, struct wire_lag *out)
{
    const uint64_t minute = 60000;
    uint64_t bytes = 0, parked = 0;
    struct group_backlog b;
    group_backlog(en, g, &b);
    for (uint32_t i = 0; i < g->topic->config.partitions; i++) {
        const struct group_part *p = &g->parts[i];
        const struct partition_row *row = &p->partition->row;
        uint64_t waiting = row->end - p->done.floor - p->done.count;
        parked += p->parked;
        if (row->end > row->start)
            bytes += (uint64_t)((double)waiting * (double)(row->end_bytes - row->start_bytes) / (double)(row->end - row->start));
    }
    uint64_t lag = b.waiting, held = g->retrying + g->blocked, drainable = lag > held ? lag - held : 0,
             rate = rate_milli(&g->acks, en->now.mono_ms), age = b.oldest_ms < en->wall_ms ? en->wall_ms - b.oldest_ms : 0;
    *out = (struct wire_lag){.topic = op_text(op, g->topic->name), .group = op_text(op, g->name), .group_id = g->id,
                             .lag_messages = lag, .lag_bytes = bytes, .in_flight = g->leased, .delayed = g->retrying,
                             .parked = parked, .oldest_age_ms = age, .ack_rate_milli = rate, .scale_value = drainable,
                             .mode = g->config.mode};
    out->drain_eta_ms = b.drain_ms;
    if (drainable > 0 && age >= minute)
        out->status = rate == 0 ? LAG_STALL : LAG_WARN;
}

void lag_list(struct engine *en, struct op *op)
{
    size_t n;
    bool more;
    struct group **page = groups_page(en, op, &n, &more);
    if (page == NULL)
        return;
    struct wire_lag *rows = op_take(en, op, n, sizeof *rows);
    for (size_t i = 0; i < n; i++)
        lag_of(en, op, page[i], &rows[i]);
    op->reply.body = BODY_LAG;
    op->reply.lag = (struct wire_lag_reply){.rows = rows, .rows_n = (uint32_t)n, .more = more};
    answer_now(en, op);
}

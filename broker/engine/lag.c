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

/* Append time of the oldest message that is not done, as well as it is known without reading the log. */
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
    return p->cursor_time_ms > log->row.first_time_ms ? p->cursor_time_ms : log->row.first_time_ms;
}

static void lag_of(const struct engine *en, struct op *op, const struct group *g, struct wire_lag *out)
{
    const uint64_t minute = 60000;
    uint64_t lag = g->redriven /* done once, and to be delivered again */, bytes = 0, parked = 0, oldest = UINT64_MAX;
    for (uint32_t i = 0; i < g->topic->config.partitions; i++) {
        const struct group_part *p = &g->parts[i];
        const struct partition_row *row = &p->partition->row;
        uint64_t waiting = row->end - p->done.floor - p->done.count;
        lag += waiting;
        parked += p->parked;
        if (row->end > row->start)
            bytes += (uint64_t)((double)waiting * (double)(row->end_bytes - row->start_bytes) / (double)(row->end - row->start));
        uint64_t time = waiting > 0 ? oldest_time(p) : UINT64_MAX;
        if (time < oldest)
            oldest = time;
    }
    uint64_t held = g->retrying + g->blocked, drainable = lag > held ? lag - held : 0, rate = rate_milli(&g->acks, en->now.mono_ms);
    uint64_t age = oldest < en->wall_ms ? en->wall_ms - oldest : 0;
    *out = (struct wire_lag){.topic = op_text(op, g->topic->name), .group = op_text(op, g->name), .group_id = g->id,
                             .lag_messages = lag, .lag_bytes = bytes, .in_flight = g->leased, .delayed = g->retrying,
                             .parked = parked, .oldest_age_ms = age, .ack_rate_milli = rate, .scale_value = drainable,
                             .mode = g->config.mode};
    out->drain_eta_ms = drainable == 0 ? 0 : rate == 0 ? UINT64_MAX : drainable * 1000 * 1000 / rate;
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

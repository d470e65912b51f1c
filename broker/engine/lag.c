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
    if (now - r->second >= RATE_SECONDS) /* most groups of many rest */
        return 0;
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
enum { TIMES_MIN = 2, TIMES_MAX = 32, TIMES_SPACING_MS = 100 };
struct times { uint32_t n, cap; struct { uint64_t offset, time_ms; } at[]; };

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
    struct times *t = p->times;
    if (t != NULL && t->n > 0 && time_ms - t->at[t->n - 1].time_ms < TIMES_SPACING_MS)
        return;
    if (t == NULL || (t->n == t->cap && t->cap < TIMES_MAX)) { /* most partitions of many have few */
        uint32_t n = t != NULL ? t->n : 0, cap = t != NULL ? 2 * t->cap : TIMES_MIN;
        t = p->times = mem_realloc(t, sizeof *t + cap * sizeof t->at[0]);
        t->n = n;
        t->cap = cap;
    }
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

/* ---------------------------------------------------------------- what is known, and what the log must be asked for */

enum { MINUTE_MS = 60000, ASKS_MAX = 4096 }; /* of one request; what is beyond is estimated */

void lag_scanned(struct group_part *p, uint64_t bytes) { p->cursor_bytes = bytes; }

static uint64_t not_done(const struct group_part *p) { return p->partition->row.end - p->done.floor - p->done.count; }

/* Append time of the message at the floor, the oldest that is not done. False: only the log knows. */
static bool oldest_time(const struct group_part *p, uint64_t *time)
{
    const struct partition *log = p->partition;
    const struct entry *e = map_get(&p->entries, p->done.floor);
    if (p->done.floor <= log->row.start)
        *time = log->row.first_time_ms;
    else if (e != NULL && e->append_time_ms != 0)
        *time = e->append_time_ms;
    else if (p->low_at == p->done.floor)
        *time = p->low_time_ms;
    else
        return false;
    return true;
}

/* Append time of the oldest message that is not done, or a later one where that is not known without reading the log. */
static uint64_t oldest_or_later(const struct group_part *p)
{
    uint64_t time;
    if (oldest_time(p, &time))
        return time;
    time = time_at(p->partition, p->done.floor);
    return p->cursor > p->done.floor && p->cursor_time_ms != 0 && p->cursor_time_ms < time ? p->cursor_time_ms : time;
}

/* Of the part that was not scanned: the difference of two cumulative counts of the log. */
static bool unscanned_bytes(const struct group_part *p, uint64_t *bytes)
{
    const struct partition_row *row = &p->partition->row;
    bool known = p->cursor >= row->end || p->cursor_bytes != UINT64_MAX;
    *bytes = p->cursor >= row->end || !known || p->cursor_bytes > row->end_bytes ? 0 : row->end_bytes - p->cursor_bytes;
    return known;
}

static double mean_bytes(const struct partition_row *row)
{
    return row->end > row->start ? (double)(row->end_bytes - row->start_bytes) / (double)(row->end - row->start) : 0;
}

static void ask(struct buf *asks, const struct group_part *p, uint64_t offset)
{
    size_t n = asks->size / sizeof(struct op_ask);
    const struct op_ask *last = n > 0 ? (const struct op_ask *)(const void *)asks->data + n - 1 : NULL;
    const struct op_ask a = {.group = p->group->id, .partition = p->partition->id, .offset = offset};
    bool same = last != NULL && last->group == a.group && last->partition == a.partition && last->offset == a.offset;
    if (n < ASKS_MAX && !same)
        buf_append(asks, &a, sizeof a);
}

static void ask_unknown(struct buf *asks, const struct group *g)
{
    for (uint32_t i = 0; i < g->topic->config.partitions; i++) {
        const struct group_part *p = g->parts[i];
        uint64_t known;
        if (not_done(p) == 0)
            continue;
        if (!oldest_time(p, &known))
            ask(asks, p, p->done.floor);
        if (!unscanned_bytes(p, &known))
            ask(asks, p, p->cursor);
    }
}

/* What the log said is remembered as long as floor and cursor stand where they did. */
static void learn(struct engine *en, const struct op_ask *a)
{
    struct group *g = map_get(&en->groups, a->group);
    const struct partition *partition = table_get(&en->partitions, a->partition);
    if (g == NULL || partition == NULL || !a->found)
        return;
    struct group_part *p = group_part(g, partition);
    if (p->done.floor == a->offset) {
        p->low_at = a->offset;
        p->low_time_ms = a->append_time_ms;
    }
    if (p->cursor == a->offset)
        p->cursor_bytes = a->bytes;
}

/* ---------------------------------------------------------------- a row */

/* What receivers could do now, and do. `waiting` includes what waits for a retry or holds back its key. */
static uint64_t drainable_of(const struct group *g, uint64_t waiting)
{
    uint64_t held = g->retrying + g->blocked;
    return waiting > held ? waiting - held : 0;
}

static uint64_t drain_of(const struct engine *en, const struct group *g, uint64_t waiting)
{
    uint64_t drainable = drainable_of(g, waiting), rate = rate_milli(&g->acks, en->now.mono_ms);
    return drainable == 0 ? 0 : rate == 0 ? UINT64_MAX : drainable * 1000 * 1000 / rate;
}

void group_backlog(const struct engine *en, const struct group *g, struct group_backlog *out)
{
    *out = (struct group_backlog){.oldest_ms = UINT64_MAX, .waiting = g->redriven /* done once, and to be delivered again */};
    uint64_t log_messages = 0;
    double bytes = 0, log_bytes = 0;
    for (uint32_t i = 0; i < g->topic->config.partitions; i++) {
        const struct group_part *p = g->parts[i];
        const struct partition_row *row = &p->partition->row;
        uint64_t waiting = not_done(p), time = waiting > 0 ? oldest_or_later(p) : UINT64_MAX;
        uint64_t unscanned = row->end > p->cursor ? row->end - p->cursor : 0, exact;
        out->waiting += waiting;
        if (time < out->oldest_ms)
            out->oldest_ms = time;
        log_messages += row->end - row->start;
        log_bytes += (double)(row->end_bytes - row->start_bytes);
        if (waiting > 0 && unscanned_bytes(p, &exact))
            bytes += (double)exact + mean_bytes(row) * (double)(waiting > unscanned ? waiting - unscanned : 0);
        else
            bytes += mean_bytes(row) * (double)waiting;
    }
    if (log_messages > 0)
        bytes += log_bytes / (double)log_messages * (double)g->redriven;
    out->bytes = (uint64_t)bytes;
    out->drain_ms = drain_of(en, g, out->waiting);
}

/* Nothing was acknowledged for a minute, or for the length of a lease while somebody works, though there is something to do. */
static uint8_t status_of(const struct engine *en, const struct group *g, const struct wire_lag *l)
{
    if (l->scale_value == 0 || l->oldest_age_ms < MINUTE_MS)
        return LAG_OK;
    uint64_t acked_ms = g->acks.second * 1000 > en->began_ms ? g->acks.second * 1000 : en->began_ms;
    uint64_t quiet_ms = en->now.mono_ms > acked_ms ? en->now.mono_ms - acked_ms : 0;
    uint64_t most_ms = l->in_flight > 0 && g->config.lease_ms > MINUTE_MS ? g->config.lease_ms : MINUTE_MS;
    return !g->paused && quiet_ms >= most_ms && l->oldest_age_ms >= most_ms ? LAG_STALL : LAG_WARN;
}

static void lag_of(const struct engine *en, struct op *op, const struct group *g, struct wire_lag *out)
{
    struct group_backlog b;
    uint64_t parked = 0;
    group_backlog(en, g, &b);
    for (uint32_t i = 0; i < g->topic->config.partitions; i++)
        parked += g->parts[i]->parked;
    *out = (struct wire_lag){.topic = op_text(op, g->topic->name), .group = op_text(op, g->name), .group_id = g->id,
                             .lag_messages = b.waiting > g->blocked ? b.waiting - g->blocked : 0, .lag_bytes = b.bytes,
                             .in_flight = g->leased, .delayed = g->retrying + g->topic->waiting.messages, .parked = parked,
                             .oldest_age_ms = b.oldest_ms < en->wall_ms ? en->wall_ms - b.oldest_ms : 0,
                             .ack_rate_milli = rate_milli(&g->acks, en->now.mono_ms), .drain_eta_ms = b.drain_ms,
                             .scale_value = drainable_of(g, b.waiting), .mode = g->config.mode, .lost = group_lost(g)};
    out->status = status_of(en, g, out);
}

/* What only the log knows is asked of readers first; the operation comes back with it. */
static bool asked(struct engine *en, struct op *op, struct group **page, size_t n)
{
    struct buf asks = {0};
    for (size_t i = 0; i < n; i++)
        ask_unknown(&asks, page[i]);
    bool any = asks.size > 0;
    if (any) {
        op->asks_n = (uint32_t)(asks.size / sizeof *op->asks);
        op->asks = op_take(en, op, op->asks_n, sizeof *op->asks);
        memcpy(op->asks, asks.data, asks.size);
        op->read = READ_INDEX;
        answer_now(en, op);
    }
    buf_free(&asks);
    return any;
}

/* ---------------------------------------------------------------- who changed
 *
 *      group (3)  group (7)  group (8) | group (11)  group (12)        by their numbers, which rise; those before | somebody was told of
 *
 * Who asks for changes says up to which number it knows all and is told of those behind, so it costs what changed and not what there is; several may
 * ask. A group that changes goes to the end, unless nobody was told of it since it went there last: so a message costs a comparison. One whose
 * rate falls by itself changes whenever it is told, until that is 0.
 */
void lag_changed(struct engine *en, struct group *g)
{
    if (g->change > en->lag_told)
        return;
    list_remove(&g->changed);
    list_push_back(&en->lag_changed, &g->changed);
    g->change = ++en->lag_changes;
}

void lag_changed_topic(struct engine *en, const struct topic *t)
{
    for (size_t i = 0; i < t->groups_n; i++)
        lag_changed(en, t->groups[i]);
}

static struct group *before(const struct engine *en, const struct list_node *n)
{
    return n->prev != &en->lag_changed.head ? container_of(n->prev, struct group, changed) : NULL;
}

static struct group **changes_page(struct engine *en, struct op *op, size_t *n, bool *more)
{
    uint32_t limit = op->request.list.limit;
    size_t most = limit == 0 || limit > en->limits->page_max ? en->limits->page_max : limit;
    struct group **page = op_take(en, op, most < en->groups_n ? most : en->groups_n, sizeof(struct group *));
    const struct list_node *at = &en->lag_changed.head;
    if (op->changed_end == 0)
        op->changed_end = en->lag_changes;
    for (const struct group *g; (g = before(en, at)) != NULL && g->change > op->changed;)
        at = &g->changed;
    for (*n = 0; at != &en->lag_changed.head && *n < most; at = at->next) {
        struct group *g = container_of(at, struct group, changed);
        if (g->change > op->changed_end)
            break;
        page[(*n)++] = g;
    }
    *more = at != &en->lag_changed.head && container_of(at, struct group, changed)->change <= op->changed_end;
    return page;
}

/* The rows of these groups leave. */
static void told(struct engine *en, struct op *op, struct group **page, const struct wire_lag *rows, size_t n, bool more)
{
    op->changed = more ? page[n - 1]->change : op->changed_end;
    if (op->changed > en->lag_told)
        en->lag_told = op->changed;
    for (size_t i = 0; i < n; i++) {
        if (rows[i].ack_rate_milli > 0)
            lag_changed(en, page[i]);
    }
}

void lag_list(struct engine *en, struct op *op)
{
    size_t n;
    bool more;
    struct group **page = op->changes ? changes_page(en, op, &n, &more) : groups_page(en, op, &n, &more);
    if (page == NULL || (op->asks == NULL && asked(en, op, page, n)))
        return;
    for (uint32_t i = 0; i < op->asks_n; i++)
        learn(en, &op->asks[i]);
    struct wire_lag *rows = op_take(en, op, n, sizeof *rows);
    for (size_t i = 0; i < n; i++)
        lag_of(en, op, page[i], &rows[i]);
    if (op->changes)
        told(en, op, page, rows, n, more);
    op->reply.body = BODY_LAG;
    op->reply.lag = (struct wire_lag_reply){.rows = rows, .rows_n = (uint32_t)n, .more = more};
    answer_now(en, op);
}

/* The one fact that keeps a message, a key or a group from being delivered, in words.
 *
 *     of a message   not in the log | done | lost | an entry: its state | behind its key: the state of the key's head | not scanned yet
 *     of a key       the state of its head
 *     of a group     the state of most of what it has
 *
 * Nothing is changed. Of a message that is no entry only the log knows which key it has: readers are asked (READ_INDEX), and the operation
 * comes back.
 */
#include "engine/memory.h"
#include "schemas/records.h"

enum { NOBODY_ASKS_MS = 5000 }; /* without a receive for so long there is no receiver */

typedef struct { char text[64]; } words;

#define N(x) (unsigned long long)(x)
#define TEXT(v) (int)(v).size, (const char *)(v).data

/* ---------------------------------------------------------------- words */

/* "2026-11-22T04:32:39Z": the days of a year that begins in March, so that a leap day is its last. */
static words when(uint64_t ms)
{
    uint64_t days = ms / 86400000 + 719468, s = ms / 1000 % 86400;
    uint64_t era = days / 146097, of_era = days % 146097;
    uint64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100), month = (5 * of_year + 2) / 153;
    uint64_t day = of_year - (153 * month + 2) / 5 + 1, year = year_of_era + era * 400 + (month >= 10);
    struct err e = {0};
    words w;
    err_set(&e, E_OK, "%04llu-%02llu-%02lluT%02llu:%02llu:%02lluZ", N(year), N(month < 10 ? month + 3 : month - 9), N(day), N(s / 3600),
            N(s / 60 % 60), N(s % 60));
    memcpy(w.text, e.text, sizeof w.text);
    w.text[sizeof w.text - 1] = '\0';
    return w;
}

static words how_long(uint64_t ms)
{
    struct err e = {0};
    words w;
    if (ms < 120000)
        err_set(&e, E_OK, "%llu.%llu s", N(ms / 1000), N(ms / 100 % 10));
    else if (ms < 7200000)
        err_set(&e, E_OK, "%llu min", N(ms / 60000));
    else
        err_set(&e, E_OK, "%llu h", N(ms / 3600000));
    memcpy(w.text, e.text, sizeof w.text);
    return w;
}

static void say(struct op *op, enum explain_fact fact, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void say(struct op *op, enum explain_fact fact, const char *fmt, ...)
{
    struct err e = {0};
    va_list args;
    va_start(args, fmt);
    err_vset(&e, E_OK, fmt, args);
    va_end(args);
    op->reply.explain.fact = (uint8_t)fact;
    op->reply.explain.text = op_text(op, e.text);
}

/* ---------------------------------------------------------------- limits of handing out */

static uint64_t in_flight_max(const struct engine *en, const struct group *g)
{
    return g->config.in_flight_max != 0 ? g->config.in_flight_max : en->limits->group_in_flight_max;
}

static bool nobody_asks(const struct engine *en, const struct group *g)
{
    return list_empty(&g->waiters) && (g->asked_ms == 0 || en->now.mono_ms - g->asked_ms >= NOBODY_ASKS_MS);
}

static words last_asked(const struct engine *en, const struct group *g)
{
    return how_long(en->now.mono_ms - (g->asked_ms != 0 ? g->asked_ms : en->began_ms));
}

/* Its ttl ended at `until_ms`; 0: it has none. False: it lives. */
static bool expired(const struct engine *en, struct op *op, const struct group *g, uint64_t until_ms)
{
    if (until_ms == 0 || until_ms > en->wall_ms)
        return false;
    op->reply.explain.until_ms = until_ms;
    say(op, EXPLAIN_EXPIRED, "its ttl ended at %s: it is %s when its turn comes", when(until_ms).text,
        g->config.expired == EXPIRED_PARK ? "parked" : "dropped");
    return true;
}

/* Why nothing of what is ready is handed out. False: it is, to the next that asks. */
static bool group_holds_back(struct engine *en, struct op *op, const struct group *g)
{
    uint64_t most = in_flight_max(en, g);
    if (g->paused)
        say(op, EXPLAIN_PAUSED, "the group is paused");
    else if (g->leased >= most)
        say(op, EXPLAIN_THROTTLED, "group limit: %llu of %llu in flight", N(g->leased), N(most));
    else if (flow_wait(en, g) > 0)
        say(op, EXPLAIN_THROTTLED, "group rate: %u messages per 1,000 seconds", g->config.rate_milli);
    else if (nobody_asks(en, g))
        say(op, EXPLAIN_NO_RECEIVER, "nobody asks for messages of this group: no receive for %s", last_asked(en, g).text);
    else
        return false;
    return true;
}

/* ---------------------------------------------------------------- entries */

/* The held row, its texts copied into the operation's arena. */
static bool held_row_of(struct engine *en, struct op *op, const struct group_part *p, uint64_t offset, struct held_row *row)
{
    struct key k = key_held(p->group->id, p->partition->id, offset);
    struct view v;
    struct err e = {0};
    if (!row_read(en, FAM_HELD, &k, &v))
        return false;
    char *copy = op_take(en, op, v.size, 1);
    memcpy(copy, v.data, v.size);
    if (held_row_get(view_of(copy, v.size), row, &e) == E_OK)
        return true;
    row_fail(en, FAM_HELD, key_view(&k), &e);
    return false;
}

static const char *attempts(uint32_t n) { return n == 1 ? "attempt" : "attempts"; }

static void say_parked(struct op *op, const struct held_row *row, const char *before)
{
    struct wire_explain_reply *r = &op->reply.explain;
    r->since_ms = row->at_ms;
    r->attempts = row->failures;
    r->reason = row->reason;
    say(op, EXPLAIN_PARKED, "%sparked since %s after %u failed %s (%.*s%s%.*s): redrive or drop it", before, when(row->at_ms).text,
        row->failures, attempts(row->failures), TEXT(row->reason), row->error.size > 0 ? ": " : "", TEXT(row->error));
}

static void say_leased(struct engine *en, struct op *op, const struct entry *e, const char *before)
{
    struct wire_explain_reply *r = &op->reply.explain;
    const struct lease *l = e->lease;
    const char *name = l->session != NULL ? l->session->name : "";
    uint64_t left = e->lease_until_ms > en->now.mono_ms ? e->lease_until_ms - en->now.mono_ms : 0;
    r->session = op_text(op, name);
    r->attempts = e->failures + 1;
    r->since_ms = l->granted_ms;
    r->until_ms = en->wall_ms + left;
    say(op, EXPLAIN_LEASED, "%sleased to '%s' until %s (attempt %u of %u), held %s so far", before, name, when(r->until_ms).text,
        e->failures + 1, e->part->group->config.max_deliveries, how_long(en->wall_ms - l->granted_ms).text);
}

static void say_retrying(struct op *op, const struct held_row *row, const char *before)
{
    struct wire_explain_reply *r = &op->reply.explain;
    r->attempts = row->failures;
    r->until_ms = row->due_ms;
    r->since_ms = row->at_ms;
    r->reason = row->reason;
    say(op, EXPLAIN_RETRYING, "%sretrying after %u failed %s, next at %s%s%.*s%s%.*s", before, row->failures, attempts(row->failures),
        when(row->due_ms).text, row->reason.size > 0 ? ": " : "", TEXT(row->reason), row->error.size > 0 ? ": " : "", TEXT(row->error));
}

static void say_throttled(struct engine *en, struct op *op, const struct key_queue *k, const char *before)
{
    const struct wire_group_config *c = &k->group->config;
    uint64_t ms = flow_wait_rate(en, k);
    if (c->key_in_flight_max != 0 && k->leased >= c->key_in_flight_max) {
        say(op, EXPLAIN_THROTTLED, "%sready when one of its key comes back: %u of %u in flight", before, k->leased, c->key_in_flight_max);
        return;
    }
    op->reply.explain.until_ms = en->wall_ms + ms;
    say(op, EXPLAIN_THROTTLED, "%sready when its key may go on: key rate %u messages per 1,000 seconds", before, c->key_rate_milli);
}

static void say_held(struct op *op, const struct held_row *row, const char *before)
{
    if (row->state == HELD_PARKED)
        say_parked(op, row, before);
    else
        say_retrying(op, row, before);
}

static void say_behind(struct engine *en, struct op *op, const struct entry *head);

static void say_entry(struct engine *en, struct op *op, const struct entry *e, const char *before)
{
    struct held_row row;
    op->reply.explain.attempts = e->failures + 1;
    switch ((enum entry_state)e->state) {
    case ENTRY_READY:
        if (!expired(en, op, e->part->group, e->ttl_until_ms) && !group_holds_back(en, op, e->part->group))
            say(op, EXPLAIN_READY, "%sready: the next receive gets it", before);
        break;
    case ENTRY_LEASED:
        say_leased(en, op, e, before);
        break;
    case ENTRY_RETRYING:
    case ENTRY_BLOCKED:
        if (held_row_of(en, op, e->part, e->offset, &row))
            say_held(op, &row, before);
        break;
    case ENTRY_THROTTLED:
        say_throttled(en, op, e->key, before);
        break;
    case ENTRY_WAITING:
        if (e->key->head != NULL)
            say_behind(en, op, e->key->head);
        else
            say(op, EXPLAIN_BACKLOG, "%swaits until the log was read again up to where it was before the restart", before);
        break;
    }
}

/* It waits for the head of its key; what the head waits for is said with it. */
static void say_behind(struct engine *en, struct op *op, const struct entry *head)
{
    struct err before = {0};
    err_set(&before, E_OK, "behind partition %u offset %llu of the same key, which is ", head->part->partition->index, N(head->offset));
    say_entry(en, op, head, before.text);
    uint8_t fact = op->reply.explain.fact;
    if (fact == EXPLAIN_PAUSED || fact == EXPLAIN_NO_RECEIVER || fact == EXPLAIN_THROTTLED)
        return; /* what holds back the head holds back everything */
    op->reply.explain.fact = EXPLAIN_BEHIND;
    op->reply.explain.partition = head->part->partition->id;
    op->reply.explain.offset = head->offset;
}

/* ---------------------------------------------------------------- of a message */

/* How many messages of its partition are not done and stand before one that was not scanned: all that is done does. Of one that is scanned
 * again after a restart it is the least there can be. */
static uint64_t depth_of(const struct group_part *p, uint64_t offset)
{
    uint64_t before = offset - p->done.floor;
    return before > p->done.count ? before - p->done.count : 0;
}

static void say_unscanned(struct engine *en, struct op *op, const struct group_part *p, uint64_t offset)
{
    op->reply.explain.depth = depth_of(p, offset);
    if (offset >= p->partition->visible)
        say(op, EXPLAIN_NOT_VISIBLE, "appended and not yet on disk");
    else if (!group_holds_back(en, op, p->group))
        say(op, EXPLAIN_BACKLOG, "%llu messages of its partition are before it", N(op->reply.explain.depth));
}

/* It waits for the head of its key, which is away. */
static bool say_behind_away(struct engine *en, struct op *op, struct group *g, const struct key_member *head)
{
    const struct group_part *p = group_part_of(en, g, head->partition);
    struct held_row row;
    struct err before = {0};
    if (p == NULL || !held_row_of(en, op, p, head->offset, &row))
        return false;
    err_set(&before, E_OK, "behind partition %u offset %llu of the same key, which is ", p->partition->index, N(head->offset));
    say_held(op, &row, before.text);
    op->reply.explain.fact = EXPLAIN_BEHIND;
    op->reply.explain.partition = head->partition;
    op->reply.explain.offset = head->offset;
    return true;
}

/* Neither done nor an entry: what the index said of it decides. */
static void explain_indexed(struct engine *en, struct op *op, struct group_part *p, uint64_t offset)
{
    const struct op_ask *a = &op->asks[0];
    struct group *g = p->group;
    if (!a->found) {
        say(op, EXPLAIN_NO_SUCH_OFFSET, "no message can be read at this offset: it is compacted away or damaged");
        return;
    }
    uint64_t ttl = a->ttl_ms != 0 ? a->ttl_ms : g->topic->config.ttl_ms;
    if (expired(en, op, g, ttl != 0 && ttl <= UINT64_MAX - a->append_time_ms ? a->append_time_ms + ttl : 0))
        return;
    const struct key_queue *k = a->has_key ? key_queue_get(g, a->key_hash, false) : NULL;
    bool scanned = offset < p->cursor;
    struct key_member head;
    uint64_t behind;
    if (a->has_key && g->config.order == ORDER_KEY && away_key_look(en, g, a->key_hash, &head, &behind) &&
        (scanned || head.state == AWAY_BLOCKED) && say_behind_away(en, op, g, &head))
        return;
    if (k != NULL && k->head != NULL && k->head->offset != offset && (scanned || k->head->state == ENTRY_BLOCKED))
        say_behind(en, op, k->head);
    else
        say_unscanned(en, op, p, offset);
}

static void explain_message(struct engine *en, struct op *op, struct group *g)
{
    const struct wire_explain *w = &op->request.explain;
    const struct partition *partition = table_get(&en->partitions, w->partition);
    if (partition == NULL || partition->topic != g->topic) {
        partition_gone(en, op, w->partition);
        return;
    }
    struct group_part *p = group_part(g, partition);
    const struct entry *e = map_get(&p->entries, w->offset);
    struct held_row row;
    op->reply.explain.partition = w->partition;
    op->reply.explain.offset = w->offset;
    if (e != NULL) {
        say_entry(en, op, e, "");
    } else if (w->offset >= partition->row.end) {
        say(op, EXPLAIN_NO_SUCH_OFFSET, "partition %u ends at offset %llu", partition->index, N(partition->row.end));
    } else if (held_row_of(en, op, p, w->offset, &row) && !away_purged(g, &row)) {
        struct key_member head;
        uint64_t behind;
        if (!row.has_key || g->config.order != ORDER_KEY || (row.state == HELD_PARKED && !row.blocking) ||
            !away_key_look(en, g, row.key_hash, &head, &behind) || (head.partition == w->partition && head.offset == w->offset) ||
            !say_behind_away(en, op, g, &head))
            say_held(op, &row, "");
    } else if (lost_explain(op, p, w->offset)) {
        ;
    } else if (done_has(&p->done, w->offset)) {
        say(op, EXPLAIN_DONE, "acknowledged or dropped");
    } else if (w->offset < partition->row.start) {
        say(op, EXPLAIN_NO_SUCH_OFFSET, "gone with retention: partition %u begins at offset %llu", partition->index,
            N(partition->row.start));
    } else if (op->asks == NULL) {
        op->asks = op_take(en, op, 1, sizeof *op->asks);
        op->asks_n = 1;
        op->asks[0] = (struct op_ask){.group = g->id, .partition = w->partition, .offset = w->offset};
        op->read = READ_INDEX;
    } else {
        explain_indexed(en, op, p, w->offset);
    }
    answer_now(en, op);
}

/* ---------------------------------------------------------------- of a key, of a group */

static uint64_t unscanned(const struct group *g)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < g->topic->config.partitions; i++)
        n += g->parts[i]->partition->row.end - g->parts[i]->cursor;
    return n;
}

static void explain_key(struct engine *en, struct op *op, struct group *g)
{
    const struct key_queue *k = key_queue_get(g, key_hash(op->request.explain.key), false);
    struct wire_explain_reply *r = &op->reply.explain;
    struct key_member head;
    struct held_row row;
    uint64_t behind;
    if (g->config.order == ORDER_KEY && away_key_look(en, g, key_hash(op->request.explain.key), &head, &behind)) {
        const struct group_part *p = group_part_of(en, g, head.partition);
        r->partition = head.partition;
        r->offset = head.offset;
        r->depth = behind;
        if (p != NULL && held_row_of(en, op, p, head.offset, &row))
            say_held(op, &row, "");
        answer_now(en, op);
        return;
    }
    bool nothing = k == NULL || (k->head == NULL && list_empty(&k->front) && k->list.count == 0);
    if (nothing && group_limits_keys(g)) {
        r->depth = unscanned(g);
        say(op, k != NULL && k->leased > 0 ? EXPLAIN_LEASED : EXPLAIN_EMPTY,
            "no message of this key is held back by its limit, leased: %u; not read ahead yet in the group: %llu",
            k != NULL ? k->leased : 0, N(r->depth));
    } else if (nothing && !group_keeps_order(g)) {
        say(op, EXPLAIN_EMPTY, "the group keeps no order of keys: ask by offset");
    } else if (nothing) {
        r->depth = unscanned(g);
        say(op, EXPLAIN_EMPTY, "no message of this key is ready, leased, retrying or holds it back; not read ahead yet in the group: %llu",
            N(r->depth));
    } else if (k->head != NULL) {
        r->partition = k->head->part->partition->id;
        r->offset = k->head->offset;
        r->depth = k->list.count - k->list.head_in_list;
        LIST_EACH (n, &k->front)
            r->depth++;
        say_entry(en, op, k->head, "");
    } else {
        r->depth = k->list.count;
        if (!group_holds_back(en, op, g))
            say(op, EXPLAIN_BACKLOG, "its oldest message is being read again, %llu are behind it", N(k->list.count));
    }
    answer_now(en, op);
}

static void explain_group(struct engine *en, struct op *op, const struct group *g)
{
    struct wire_explain_reply *r = &op->reply.explain;
    uint64_t backlog = unscanned(g), parked = 0;
    for (uint32_t i = 0; i < g->topic->config.partitions; i++)
        parked += g->parts[i]->parked;
    r->depth = g->ready + g->behind + backlog;
    if (g->ready + backlog > 0) {
        if (group_holds_back(en, op, g))
            ;
        else if (g->ready > 0)
            say(op, EXPLAIN_READY, "ready: %llu; the next receive gets them", N(g->ready));
        else
            say(op, EXPLAIN_BACKLOG, "not read ahead yet: %llu", N(backlog));
    } else if (g->paused) {
        say(op, EXPLAIN_PAUSED, "the group is paused");
    } else if (g->throttled > 0) {
        say(op, EXPLAIN_THROTTLED, "keys at their limit: %llu, behind them: %llu; leased: %llu", N(g->throttled), N(g->behind + g->waiting),
            N(g->leased));
    } else if (g->leased > 0) {
        say(op, EXPLAIN_LEASED, "leased: %llu, behind their keys: %llu, nothing else is there", N(g->leased), N(g->behind));
    } else if (g->retrying > 0) {
        say(op, EXPLAIN_RETRYING, "waiting for their retry: %llu, behind their keys: %llu", N(g->retrying), N(g->behind));
    } else if (g->blocked > 0) {
        say(op, EXPLAIN_PARKED, "parked and holding back their keys: %llu, behind them: %llu; redrive or drop them", N(g->blocked),
            N(g->behind));
    } else if (g->topic->waiting.messages > 0) {
        say(op, EXPLAIN_SCHEDULED, "the group is through with its topic; waiting for their time to be appended: %llu",
            N(g->topic->waiting.messages));
    } else {
        say(op, EXPLAIN_EMPTY, "the group is through with its topic; parked: %llu", N(parked));
    }
    answer_now(en, op);
}

void explain(struct engine *en, struct op *op)
{
    const struct wire_explain *w = &op->request.explain;
    struct group *g = group_find(en, op, w->topic, w->group);
    if (g == NULL)
        return;
    op->reply.body = BODY_EXPLAIN;
    if (g->stream != NULL)
        commit_explain(en, op, g);
    else if (w->has_offset)
        explain_message(en, op, g);
    else if (w->has_key)
        explain_key(en, op, g);
    else
        explain_group(en, op, g);
}

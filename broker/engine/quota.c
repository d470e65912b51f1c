/* What a produce is refused for, before anything is taken: disk, the topic's backlog in bytes and in age, the client's rate. A refusal
 * says when to try again, how deep the backlog is and how long it takes to drain. Nothing else stops: acks, reads, other topics go on.
 */
#include "engine/memory.h"
#include "base/planted.h"

/* ---------------------------------------------------------------- a client's rate */

/* What was spent and has not come back, in thousandths. All zero is a full bucket; it holds what a second brings. */
static uint64_t bucket_spent(const struct bucket *b, uint64_t per_second, uint64_t now_ms)
{
    uint64_t passed = now_ms - b->at_ms;
    return passed > b->spent_milli / per_second ? 0 : b->spent_milli - passed * per_second;
}

/* More than a second brings passes when the bucket is full, and is paid off after. 0: now; else in so many ms. */
static uint64_t bucket_wait(const struct bucket *b, uint64_t per_second, uint64_t n, uint64_t now_ms)
{
    uint64_t full = 1000 * per_second, need = n < per_second ? 1000 * n : full, spent = bucket_spent(b, per_second, now_ms);
    return spent + need <= full ? 0 : (spent + need - full + per_second - 1) / per_second;
}

static void bucket_take(struct bucket *b, uint64_t per_second, uint64_t n, uint64_t now_ms)
{
    *b = (struct bucket){.spent_milli = bucket_spent(b, per_second, now_ms) + 1000 * n, .at_ms = now_ms};
}

static bool rate_refuses(const struct engine *en, const struct session *s, uint64_t messages, uint64_t bytes, struct refusal *out)
{
    const struct engine_limits *l = en->limits;
    uint64_t now = en->now.mono_ms;
    uint64_t by_messages = l->client_messages_per_s > 0 ? bucket_wait(&s->messages, l->client_messages_per_s, messages, now) : 0;
    uint64_t by_bytes = l->client_bytes_per_s > 0 ? bucket_wait(&s->bytes, l->client_bytes_per_s, bytes, now) : 0;
    if (by_messages == 0 && by_bytes == 0)
        return false;
    uint64_t wait = by_messages > by_bytes ? by_messages : by_bytes;
    out->retry_after_ms = wait < UINT32_MAX ? (uint32_t)wait : UINT32_MAX;
    if (by_messages >= by_bytes)
        err_set(&out->e, E_OVERLOADED, "client '%s' is too fast, limit client_messages_per_s = %llu", s->name,
                (unsigned long long)l->client_messages_per_s);
    else
        err_set(&out->e, E_OVERLOADED, "client '%s' is too fast, limit client_bytes_per_s = %llu", s->name,
                (unsigned long long)l->client_bytes_per_s);
    return true;
}

void quota_take(struct engine *en, struct session *s, uint64_t messages, uint64_t bytes)
{
    const struct engine_limits *l = en->limits;
    if (l->client_messages_per_s > 0 && !PLANTED(rate_not_spent))
        bucket_take(&s->messages, l->client_messages_per_s, messages, en->now.mono_ms);
    if (l->client_bytes_per_s > 0)
        bucket_take(&s->bytes, l->client_bytes_per_s, bytes, en->now.mono_ms);
}

/* ---------------------------------------------------------------- a topic's backlog */

enum { BACKLOG_LOOK_MS = 100 };

/* What its groups have not done: of the one that takes longest, and the oldest of all. Looked at ten times a second at most, as it is a
 * walk over all partitions. */
static const struct backlog *backlog_of(struct engine *en, struct topic *t)
{
    struct backlog *b = &t->backlog;
    if (b->looked && en->now.mono_ms - b->looked_ms < BACKLOG_LOOK_MS)
        return b;
    *b = (struct backlog){.looked = true, .looked_ms = en->now.mono_ms, .oldest_ms = UINT64_MAX, .drain_ms = UINT64_MAX};
    for (size_t i = 0; i < t->groups_n; i++) {
        struct group_backlog g;
        group_backlog(en, t->groups[i], &g);
        if (g.oldest_ms < b->oldest_ms)
            b->oldest_ms = g.oldest_ms;
        if (g.bytes > b->bytes)
            b->bytes = g.bytes;
        if (i == 0 || g.drain_ms > b->drain_ms || (g.drain_ms == b->drain_ms && g.waiting > b->depth)) {
            b->depth = g.waiting;
            b->drain_ms = g.drain_ms;
        }
    }
    for (uint32_t i = 0; t->groups_n == 0 && i < t->config.partitions; i++) {
        const struct partition_row *row = &t->partitions[i]->row;
        b->depth += row->end - row->start;
        b->bytes += row->end_bytes - row->start_bytes;
    }
    return b;
}

static bool backlog_refuses(struct engine *en, struct partition *p, struct refusal *out)
{
    struct topic *t = p->topic;
    if (PLANTED(backlog_ignored) || (t->config.backlog_bytes_max == UINT64_MAX && t->config.backlog_age_max_ms == 0))
        return false;
    const struct backlog *b = backlog_of(en, t);
    if (b->added_bytes > 0 && b->bytes + b->added_bytes >= t->config.backlog_bytes_max) { /* what is refused is told how it is now */
        t->backlog.looked = false;
        b = backlog_of(en, t);
    }
    uint64_t bytes = b->bytes + b->added_bytes, age = b->oldest_ms < en->wall_ms ? en->wall_ms - b->oldest_ms : 0;
    if (bytes >= t->config.backlog_bytes_max) {
        err_set(&out->e, E_OVERLOADED, "topic '%s' has a backlog of %llu bytes, backlog-bytes-max = %llu", t->name, (unsigned long long)bytes,
                (unsigned long long)t->config.backlog_bytes_max);
    } else if (t->config.backlog_age_max_ms != 0 && age > t->config.backlog_age_max_ms) {
        err_set(&out->e, E_OVERLOADED, "topic '%s' waits for a message of %llu ms ago to be done, backlog-age-max = %llu", t->name,
                (unsigned long long)age, (unsigned long long)t->config.backlog_age_max_ms);
    } else {
        return false;
    }
    out->retry_after_ms = 1000;
    out->depth = b->depth;
    out->drain_ms = b->drain_ms;
    return true;
}

/* ---------------------------------------------------------------- the whole */

bool quota_refuses(struct engine *en, const struct session *s, struct partition *p, uint64_t messages, uint64_t bytes, struct refusal *out)
{
    *out = (struct refusal){0};
    if (en->disk_free < en->limits->disk_reserve_bytes && !PLANTED(reserve_ignored)) {
        out->retry_after_ms = 1000;
        err_set(&out->e, E_DISK_FULL, "%llu bytes free, limit disk_reserve_bytes = %llu", (unsigned long long)en->disk_free,
                (unsigned long long)en->limits->disk_reserve_bytes);
    } else if (!backlog_refuses(en, p, out) && !rate_refuses(en, s, messages, bytes, out)) {
        return false;
    }
    en->counters.produce_refused++;
    return true;
}

void refusal_put(struct op *op, const struct refusal *r)
{
    op->reply.retry_after_ms = r->retry_after_ms;
    op->reply.depth = r->depth;
    op->reply.drain_ms = r->drain_ms;
}

void quota_answer(struct engine *en, struct op *op, const struct refusal *r)
{
    refusal_put(op, r);
    answer(en, op, r->e.code, "%s", r->e.text);
}

/* ---------------------------------------------------------------- what a client holds */

uint32_t quota_in_flight_left(const struct engine *en, const struct session *s, uint32_t wanted)
{
    uint64_t most = en->limits->client_in_flight_max, left = s->leased < most ? most - s->leased : 0;
    return wanted < left ? wanted : (uint32_t)left;
}

void quota_leased(struct session *s)
{
    s->leased++;
}

/* One that was at the limit can be given to again: by any of the groups that its receives wait for. */
void quota_settled(struct engine *en, struct session *s)
{
    if (s->leased-- < en->limits->client_in_flight_max)
        return;
    LIST_EACH (n, &s->waiting) {
        const struct op *op = container_of(n, struct op, wait);
        for (uint32_t i = 0; op->request.verb == VERB_RECEIVE && i < op->request.receive.groups_n; i++) {
            struct group *g = map_get(&en->groups, op->request.receive.groups[i]);
            if (g != NULL)
                group_stir(en, g);
        }
    }
}

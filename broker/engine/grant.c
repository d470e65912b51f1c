/* Granting: ready messages become leased, one lease row for each group and receive. A receive that is repeated gets the same again. */
#include "engine/memory.h"
#include "base/planted.h"

/* ---------------------------------------------------------------- one message */

static void record_of(const struct entry *e, struct wire_record *r)
{
    *r = (struct wire_record){.offset = e->offset, .partition = e->part->partition->id, .grants = e->grants, .failures = e->failures,
                              .append_time_ms = e->append_time_ms};
}

/* ---------------------------------------------------------------- what its time passed */

enum { EXPIRED_PER_TURN = 1024 };

/* Not while the wall clock is not believed. */
bool entry_passed(const struct engine *en, const struct entry *e)
{
    return e->ttl_until_ms != 0 && !PLANTED(expired_delivered) && e->ttl_until_ms <= en->wall_ms && !en->wall_suspect;
}
bool entry_worn(const struct entry *e) { return e->grants >= 4 * e->part->group->config.max_deliveries; }

static void expire(struct engine *en, struct entry *e)
{
    en->counters.expired_messages++;
    if (e->part->group->config.expired == EXPIRED_PARK)
        entry_park(en, e, VIEW_LIT("expired"), VIEW_LIT("its time to live passed before it was delivered"));
    else
        entry_done(en, e);
}

/* ---------------------------------------------------------------- from a group */

static void look_again(struct engine *en, struct timer *t)
{
    struct group *g = container_of(t, struct group, later);
    g->expiring = false;
    group_stir(en, g);
}

static void group_later(struct engine *en, struct group *g, uint64_t mono_ms)
{
    if (!heap_contains(&en->timers, &g->later.node) || mono_ms < g->later.node.due)
        timer_set(en, &g->later, mono_ms, look_again);
}

/* What one receive is given from one group. */
struct giving {
    struct group *g;
    struct op *op;              /* what it is given in; a receive that waits is looked at often, so only then */
    struct session *s;
    const struct wire_receive *r;
    uint64_t lease_ms, bytes_left;
    uint32_t most, n;           /* messages */
    struct wire_record *records;
    struct lease *l;            /* NULL: nothing so far */
};

/* From now on the lease's row stands for it. */
static void give(struct engine *en, struct giving *w, struct entry *e)
{
    if (w->l == NULL) {
        w->records = op_take(en, w->op, w->most, sizeof *w->records);
        w->l = lease_new(en, w->g, w->s, (PLANTED(token_reused) ? 0 : (uint64_t)en->epoch << 40) | ++en->token_last);
        w->l->slot = w->r->slot;
        w->l->counter = w->r->counter;
        w->l->lease_ms = (uint32_t)w->lease_ms;
        w->l->granted_ms = en->wall_ms;
    }
    if (!PLANTED(held_row_kept))
        entry_row_remove(en, e);
    e->grants += !PLANTED(grant_uncounted);
    e->token = w->l->token;
    lease_take(en, w->l, e, en->now.mono_ms + w->lease_ms);
    struct key_queue *counts = limit_taken(en, e);
    flow_take(en, w->g, counts != NULL ? counts : e->key);
    w->bytes_left -= e->size < w->bytes_left ? e->size : w->bytes_left;
    record_of(e, &w->records[w->n++]);
    en->counters.delivered_messages++;
    en->counters.redelivered_messages += e->failures > 0;
}

bool group_gives(const struct engine *en, const struct group *g)
{
    uint64_t in_flight_max = g->config.in_flight_max != 0 ? g->config.in_flight_max : en->limits->group_in_flight_max;
    if (PLANTED(in_flight_ignored))
        in_flight_max = UINT64_MAX;
    return !g->paused && !g->expiring && g->leased < in_flight_max && flow_wait(en, g) == 0;
}

static bool may_give(const struct engine *en, const struct giving *w) { return w->n < w->most && group_gives(en, w->g); }

/* A ready message, and what of its key may go with it. */
static void give_run(struct engine *en, struct giving *w, struct entry *e)
{
    struct key_queue *k = e->key;
    entry_unready(en, e);
    if (k != NULL && k->list.head_in_list)
        key_list_pop(en, w->g, k);
    if (k != NULL && !group_keeps_order(w->g)) { /* the next of its key need not wait for it */
        k->head = NULL;
        e->key = NULL;
        give(en, w, e);
        key_advance(en, w->g, k);
        return;
    }
    give(en, w, e);
    for (uint32_t i = 1; k != NULL && i < w->g->config.run_max && may_give(en, w) && flow_wait_key(en, k) == 0; i++) {
        struct entry *next = key_run_next(en, k, w->bytes_left);
        if (next == NULL)
            return;
        give(en, w, next);
    }
}

/* One message fits whatever its size, if it is the `first` of the reply. */
static void give_ready(struct engine *en, struct giving *w, bool first)
{
    struct group *g = w->g;
    uint32_t late = 0;
    for (struct entry *e; may_give(en, w) && (e = ready_next(en, g)) != NULL;) {
        if (entry_passed(en, e) || limit_holds_back(en, e)) { /* a bounded number of them, the others in turns to come */
            if (entry_passed(en, e))
                expire(en, e);
            else
                limit_step_aside(en, e);
            g->expiring = ++late == EXPIRED_PER_TURN;
            if (g->expiring)
                group_later(en, g, en->now.mono_ms + 1);
        } else if (e->size > w->bytes_left && (w->n > 0 || !first)) {
            return;
        } else if (entry_worn(e)) {
            entry_park(en, e, VIEW_LIT("grants"), VIEW_LIT("granted too often without an answer"));
        } else {
            give_run(en, w, e);
        }
    }
}

/* A repeat of a receive that was granted: the same leases, as far as they still stand. */
static bool grant_again(struct engine *en, struct op *op, struct session *s, const struct wire_receive *r, struct wire_receive_reply *out)
{
    uint32_t n = 0, at = 0;
    LIST_EACH (node, &s->leases) {
        const struct lease *l = container_of(node, struct lease, of_session);
        n += l->slot == r->slot && l->counter == r->counter && l->entries_n > 0;
    }
    if (n == 0)
        return false;
    struct wire_delivery *deliveries = op_take(en, op, n, sizeof *deliveries);
    LIST_EACH (node, &s->leases) {
        const struct lease *l = container_of(node, struct lease, of_session);
        if (l->slot != r->slot || l->counter != r->counter || l->entries_n == 0)
            continue;
        struct wire_record *records = op_take(en, op, l->entries_n, sizeof *records);
        uint32_t k = 0;
        uint64_t left = UINT64_MAX;
        LIST_EACH (entry_node, &l->entries) {
            const struct entry *e = container_of(entry_node, struct entry, link);
            record_of(e, &records[k++]);
            if (e->lease_until_ms < left)
                left = e->lease_until_ms;
        }
        left = left > en->now.mono_ms ? left - en->now.mono_ms : 0;
        deliveries[at++] = (struct wire_delivery){.group = l->group->id, .token = l->token, .lease_ms = (uint32_t)left,
                                                  .records = records, .records_n = k};
    }
    en->counters.repeats++;
    out->deliveries = deliveries;
    out->deliveries_n = n;
    return true;
}

static uint32_t messages_wanted(const struct engine *en, const struct wire_receive *r)
{
    uint32_t n = r->max_messages != 0 ? r->max_messages : 1;
    return n < en->limits->lease_messages_max ? n : (uint32_t)en->limits->lease_messages_max;
}

static uint64_t lease_term(const struct engine *en, const struct group *g, const struct wire_receive *r)
{
    uint64_t ms = r->lease_ms != 0 ? r->lease_ms : g->config.lease_ms;
    return ms < en->limits->lease_ms_max ? ms : en->limits->lease_ms_max;
}

/* No more than this can be given now, as far as is known without looking. */
static uint32_t most_of(const struct group *g, uint32_t left)
{
    uint64_t most = group_keeps_order(g) ? g->ready * g->config.run_max : g->ready + g->waiting + g->behind;
    return most < left ? (uint32_t)most : left;
}

bool queue_grant(struct engine *en, struct op *op, struct session *s, const struct wire_receive *r, struct wire_receive_reply *out)
{
    *out = (struct wire_receive_reply){.counter = r->counter};
    bool waited = list_linked(&op->wait); /* then it is no repeat: it was looked at before */
    bool again = r->counter == s->slot_counter[r->slot] && !PLANTED(receive_granted_anew);
    if (!waited && again && grant_again(en, op, s, r, out))
        return true;
    if (!waited)
        s->slot_counter[r->slot] = r->counter;
    uint32_t wanted = messages_wanted(en, r), left = quota_in_flight_left(en, s, wanted), n = 0;
    uint64_t bytes_left = r->max_bytes == 0 || r->max_bytes > en->limits->reply_bytes_max ? en->limits->reply_bytes_max : r->max_bytes;
    struct wire_delivery *deliveries = NULL;
    for (uint32_t i = 0; i < r->groups_n && wanted > 0; i++) {
        struct group *g = map_get(&en->groups, r->groups[i]);
        if (g == NULL)
            continue;
        if (g->demand < wanted)
            g->demand = wanted;
        g->asked_ms = en->now.mono_ms;
        group_used(en, g);
        if (!waited) /* or two groups that cannot give would stir each other for ever */
            group_stir(en, g);
        if (g->paused || g->ready == 0 || left == 0)
            continue;
        struct giving w = {.g = g, .op = op, .s = s, .r = r, .lease_ms = lease_term(en, g, r), .bytes_left = bytes_left,
                           .most = most_of(g, left)};
        give_ready(en, &w, n == 0);
        uint64_t too_fast = flow_wait(en, g);
        if (too_fast > 0)
            group_later(en, g, en->now.mono_ms + too_fast);
        if (w.l == NULL)
            continue;
        lease_arm(en, w.l);
        ready_turn(g);
        group_stir(en, g);
        if (deliveries == NULL)
            deliveries = op_take(en, op, r->groups_n, sizeof *deliveries);
        deliveries[n++] = (struct wire_delivery){.group = g->id, .token = w.l->token, .lease_ms = w.l->lease_ms, .records = w.records,
                                                 .records_n = w.n};
        bytes_left = w.bytes_left;
        wanted -= w.n;
        left -= w.n;
    }
    out->deliveries = deliveries;
    out->deliveries_n = n;
    return n > 0;
}

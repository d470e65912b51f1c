/* Reading the log for queue groups, and who waits for its messages.
 *
 *      log ── load (a reader, outside) ──> scan ──> READY (ready.c) ──> grant (grant.c): one lease row per group and receive
 *                                            │
 *                                            └── its key has a head already: behind it (keylist.c)
 *
 * Read-ahead runs only while less is ready than receivers asked for, twice over; so a group without receivers costs nothing.
 */
#include "engine/memory.h"
#include "base/planted.h"

/* ---------------------------------------------------------------- the scan */

enum { LOAD_RECORDS_MIN = 64 };

void group_stir(struct engine *en, struct group *g) { mark_dirty(&en->stirred, &g->stirred); }

/* Something of this partition is not scanned. */
static bool part_has_more(const struct group_part *p) { return p->cursor < p->partition->row.end && part_open(p); }

static void load_begin(struct engine *en, struct group_part *p, uint32_t records)
{
    struct effect_load load = {.group = p->group->id, .partition = p->partition->id, .from = p->cursor, .end = p->partition->row.end,
                               .records = records, .family = p->partition->family};
    buf_append(&en->loads, &load, sizeof load);
    p->loading = records;
    p->group->loading += records;
    en->loading += records;
    en->counters.loads++;
}

void load_end(struct engine *en, struct group_part *p)
{
    p->group->loading -= p->loading;
    en->loading -= p->loading;
    p->loading = 0;
}

void queue_load(struct engine *en, struct group_part *p)
{
    uint64_t n = p->scanned - p->cursor;
    if (p->loading == 0)
        load_begin(en, p, (uint32_t)(n < en->limits->load_records_max ? n : en->limits->load_records_max));
}

/* What is being read counts as ready already, so that many partitions do not bring many times what is wanted. A group that has nothing
 * is served even when others have read up to the limit and do not take it. */
static void read_ahead(struct engine *en, struct group *g)
{
    uint64_t wanted = 2 * (uint64_t)g->demand;
    uint32_t parts = g->topic->config.partitions, first = g->next_load;
    if (g->paused || g->demand == 0 || (g->filling > 0 && !PLANTED(replay_not_waited_for)))
        return;
    for (uint32_t i = 0; i < parts && g->ready + g->loading < wanted; i++) {
        struct group_part *p = g->parts[(first + i) % parts];
        if (g->ready + g->loading > 0 && en->ready + en->loading >= en->limits->ready_max)
            return;
        if (p->loading > 0 || !part_has_more(p))
            continue;
        uint64_t n = wanted - g->ready - g->loading, there = p->partition->row.end - p->cursor;
        n = n < LOAD_RECORDS_MIN ? LOAD_RECORDS_MIN : n < en->limits->load_records_max ? n : en->limits->load_records_max;
        load_begin(en, p, (uint32_t)(n < there ? n : there));
        g->next_load = (first + i + 1) % parts;
    }
}

/* What is produced is not for this group: it is done. */
static void pass_over(struct engine *en, struct group *g)
{
    for (uint32_t i = 0; i < g->topic->config.partitions; i++) {
        struct group_part *p = g->parts[i];
        if (!part_has_more(p))
            continue;
        done_raise(&p->done, p->partition->row.end);
        p->cursor = p->scanned = p->partition->row.end;
        p->cursor_time_ms = en->wall_ms;
        lag_scanned(p, p->partition->row.end_bytes);
        mark_dirty(&en->dirty_parts, &p->dirty);
    }
}

/* The wall time from which on it is not delivered; 0: it does not expire. */
static uint64_t ttl_until(const struct group *g, const struct loaded_record *r)
{
    uint64_t ttl = r->ttl_ms != 0 ? r->ttl_ms : g->topic->config.ttl_ms;
    return ttl != 0 && ttl <= UINT64_MAX - r->append_time_ms ? r->append_time_ms + ttl : 0;
}

static void behind_key(struct engine *en, struct group *g, struct key_queue *k, const struct group_part *p,
                       const struct loaded_record *r)
{
    key_list_append(en, g, k, (struct list_position){.partition = p->partition->id, .offset = r->offset, .size = r->size,
                                                   .priority = priority_bounded(r->priority), .expires_ms = ttl_until(g, r)});
    g->behind++;
    en->counters.spilled_messages++;
}

/* A message that was scanned before stands in the list of its key if that begins at or before it. */
static bool listed(struct engine *en, struct key_queue *k, uint32_t partition, uint64_t offset)
{
    struct list_position first;
    if (k->list.count == 0 || !key_list_first(en, k->group, k, &first))
        return false;
    return partition != first.partition ? partition > first.partition : offset >= first.offset;
}

/* One message of the log, seen for the first time, or again after a restart (below p->scanned): then it may be known already. */
static void scan_record(struct engine *en, struct group_part *p, const struct loaded_record *r)
{
    struct group *g = p->group;
    if (done_has(&p->done, r->offset) || map_get(&p->entries, r->offset) != NULL)
        return;
    struct key_queue *k = NULL;
    if (r->has_key)
        k = group_keeps_order(g) ? key_find(en, g, r->key_hash, true) : limit_key(g, r->key_hash);
    if (k != NULL) {
        bool follows = k->head != NULL || k->members_n > 0 || k->list.count > 0 || !list_empty(&k->front);
        if (r->offset < p->scanned) {
            if (listed(en, k, p->partition->id, r->offset))
                return;
        } else if (follows && !PLANTED(spill_passes_head)) {
            behind_key(en, g, k, p, r);
            return;
        } else if (flow_wait_key(en, k) > 0) { /* throttled: its place in the list stands for it */
            behind_key(en, g, k, p, r);
            key_head_from_list(en, g, k);
            return;
        }
    }
    struct entry *e = entry_new(en, p, r->offset);
    e->key_hash = r->key_hash;
    e->has_key = r->has_key;
    e->size = r->size;
    e->append_time_ms = r->append_time_ms;
    e->priority = priority_bounded(r->priority);
    e->ttl_until_ms = ttl_until(g, r);
    if (k != NULL && (k->head != NULL || k->members_n > 0 || !list_empty(&k->front) || flow_wait_key(en, k) > 0)) { /* it was redriven meanwhile */
        entry_row_write(en, e);
        if (group_keeps_order(g)) {
            e->key = k;
            key_enter(en, e);
        } else {
            entry_ready(en, e);
        }
        return;
    }
    e->key = k;
    if (k != NULL)
        k->head = e;
    entry_ready_fresh(en, e);
}

/* An offset without a record: compacted or gone with retention; or what stands there is damaged, and is parked to be seen. */
static void scan_hole(struct engine *en, struct group_part *p, uint64_t offset, int code)
{
    if (done_has(&p->done, offset) || map_get(&p->entries, offset) != NULL)
        return;
    if (code == E_DAMAGED && !PLANTED(damage_passed_over)) {
        struct entry *e = entry_new(en, p, offset);
        entry_ready_fresh(en, e);
        entry_park(en, e, VIEW_LIT("damaged"), VIEW_LIT("the stored batch does not fit its checksum"));
        en->counters.damaged_messages++;
    } else {
        done_set(&p->done, offset);
    }
}

/* Offsets from `from` to `to` without a record. Where compaction left few, they are many: bits by bit only where something stands. */
static void scan_holes(struct engine *en, struct group_part *p, uint64_t from, uint64_t to, int code)
{
    if (code == E_OK && from <= p->done.floor && from < to && map_count(&p->entries) == 0) {
        done_raise(&p->done, to);
        return;
    }
    for (; from < to; from++)
        scan_hole(en, p, from, code);
}

void queue_loaded(struct engine *en, const struct loaded *l)
{
    struct group *g = map_get(&en->groups, l->group);
    struct partition *partition = table_get(&en->partitions, l->partition);
    if (g == NULL || partition == NULL)
        return;
    struct group_part *p = group_part(g, partition);
    if (p->loading == 0 || l->from != p->cursor)
        return; /* the group was purged meanwhile, and is behind what was read */
    load_end(en, p);
    group_stir(en, g);
    uint64_t at = l->from;
    for (uint32_t i = 0; i < l->records_n; i++) {
        scan_holes(en, p, at, l->records[i].offset, l->code);
        scan_record(en, p, &l->records[i]);
        p->cursor_time_ms = l->records[i].append_time_ms;
        at = l->records[i].offset + 1;
    }
    scan_holes(en, p, at, l->next, l->code);
    p->cursor = l->next;
    lag_scanned(p, l->records_n > 0 ? l->bytes : UINT64_MAX);
    if (p->cursor >= p->scanned) {
        p->scanned = p->cursor;
        keys_sure(en, p);
    }
    mark_dirty(&en->dirty_parts, &p->dirty);
}

/* ---------------------------------------------------------------- receiving */

static enum durability level_of(const struct engine *en, const struct wire_receive_reply *r)
{
    for (uint32_t i = 0; i < r->deliveries_n; i++) {
        const struct group *g = map_get(&en->groups, r->deliveries[i].group);
        if (g == NULL || g->topic->config.durability == DURABILITY_DISK)
            return DURABILITY_DISK;
    }
    return DURABILITY_OS;
}

/* Whether a reader has to look for the state rows of what was granted. */
static bool any_state(const struct engine *en, const struct wire_receive_reply *r)
{
    for (uint32_t i = 0; i < r->deliveries_n; i++) {
        const struct group *g = map_get(&en->groups, r->deliveries[i].group);
        if (g != NULL && g->has_state)
            return true;
    }
    return false;
}

static bool receive_try(struct engine *en, struct op *op, struct session *s)
{
    struct wire_receive_reply reply;
    if (!queue_grant(en, op, s, &op->request.receive, &reply))
        return false;
    wait_end(en, op);
    op->reply.body = BODY_RECEIVE;
    op->reply.receive = reply;
    op->read = READ_RECORDS;
    op->with_state = any_state(en, &reply);
    answer_change(en, op, level_of(en, &reply));
    return true;
}

void receive_empty(struct engine *en, struct op *op)
{
    en->counters.receives_empty++;
    for (uint32_t i = 0; i < op->request.receive.groups_n; i++) { /* to wait for it was to use it */
        struct group *g = map_get(&en->groups, op->request.receive.groups[i]);
        if (g != NULL)
            group_used(en, g);
    }
    op->reply.body = BODY_RECEIVE;
    op->reply.receive.counter = op->request.receive.counter;
    answer_now(en, op);
}

/* A slot has one receive outstanding: a newer one, or a repeat, takes the place of the one that waits. */
static void end_waiting_in_slot(struct engine *en, struct session *s, uint32_t slot)
{
    LIST_EACH_SAFE (n, &s->waiting) {
        struct op *op = container_of(n, struct op, wait);
        if (op->request.verb != VERB_RECEIVE || op->request.receive.slot != slot)
            continue;
        wait_end(en, op);
        answer(en, op, E_AGAIN, "slot %u was used again", slot);
    }
}

/* Something that the receive may get is in the log and not read ahead yet. Naming a group many times costs no more than once. */
static bool more_is_coming(struct engine *en, const struct wire_receive *r)
{
    uint64_t mark = ++en->mark;
    for (uint32_t i = 0; i < r->groups_n; i++) {
        struct group *g = map_get(&en->groups, r->groups[i]);
        if (g->paused || g->mark == mark)
            continue;
        g->mark = mark;
        if (g->expiring)
            return true;
        for (uint32_t k = 0; k < g->topic->config.partitions; k++)
            if (part_has_more(g->parts[k]))
                return true;
    }
    return false;
}

/* It never waits, and is left out where its slot has gone on. */
bool queue_receive_carried(struct engine *en, struct op *op, struct session *s, enum durability *level)
{
    const struct wire_receive *r = op->request.settle.receive;
    struct wire_settle_reply *reply = &op->reply.settle;
    if (r == NULL || en->stopping || r->slot >= LANE_WINDOW || r->counter < s->slot_counter[r->slot])
        return false;
    end_waiting_in_slot(en, s, r->slot);
    en->counters.receives_carried++;
    reply->has_receive = true;
    if (!queue_grant(en, op, s, r, &reply->receive))
        return false;
    op->read = READ_RECORDS;
    op->with_state = any_state(en, &reply->receive);
    if (level_of(en, &reply->receive) == DURABILITY_DISK)
        *level = DURABILITY_DISK;
    return true;
}

void queue_receive(struct engine *en, struct op *op, struct session *s)
{
    const struct wire_receive *r = &op->request.receive;
    en->counters.receives++;
    if (r->slot >= LANE_WINDOW) {
        answer(en, op, E_INVALID_ARGUMENT, "slot %u, the highest is %d", r->slot, LANE_WINDOW - 1);
        return;
    }
    if (r->counter < s->slot_counter[r->slot] && !PLANTED(late_receive_granted)) {
        answer(en, op, E_AGAIN, "slot %u is at %llu already", r->slot, (unsigned long long)s->slot_counter[r->slot]);
        return;
    }
    end_waiting_in_slot(en, s, r->slot);
    for (uint32_t i = 0; i < r->groups_n; i++) {
        const struct group *g = map_get(&en->groups, r->groups[i]);
        if (g == NULL) {
            answer(en, op, group_missing(en, r->groups[i]), "group id %u", r->groups[i]);
            return;
        }
        if (!group_is(en, op, g, MODE_QUEUE))
            return;
    }
    if (receive_try(en, op, s))
        return;
    if (r->wait_ms == 0 && !more_is_coming(en, r)) {
        for (uint32_t i = 0; i < r->groups_n; i++)
            ((struct group *)map_get(&en->groups, r->groups[i]))->hinted = false;
        receive_empty(en, op);
        return;
    }
    /* what was not read ahead yet is on its way: a receive that does not wait gives it a moment */
    wait_begin(en, op, s, r->wait_ms != 0 ? r->wait_ms : 50);
    struct place *places = op_take(en, op, r->groups_n, sizeof *places);
    for (uint32_t i = 0; i < r->groups_n; i++) {
        struct group *g = map_get(&en->groups, r->groups[i]);
        wait_at(op, &places[i], &g->waiters);
        g->hinted = false;
    }
}

static void hint(struct engine *en, struct group *g)
{
    if (g->hinted || !list_empty(&g->waiters) || !group_gives(en, g))
        return;
    bool something = g->ready > 0;
    for (uint32_t i = 0; i < g->topic->config.partitions && !something; i++)
        something = part_has_more(g->parts[i]);
    if (!something)
        return;
    g->hinted = true;
    if (PLANTED(hint_forgotten))
        return;
    struct effect_hint fx = {.group = g->id, .topic = g->topic->name, .name = g->name};
    buf_append(&en->hints, &fx, sizeof fx);
}

void queue_stirred(struct engine *en)
{
    for (struct list_node *n; (n = list_pop_front(&en->stirred)) != NULL;) {
        struct group *g = container_of(n, struct group, stirred);
        if (g->stream != NULL) {
            members_stirred(en, g->stream);
            list_remove(&g->stirred);
            continue;
        }
        if (g->config.from == FROM_REPLAY && !PLANTED(replay_passes_nothing))
            pass_over(en, g);
        for (struct list_node *w = g->waiters.head.next; g->ready > 0 && !g->paused && w != &g->waiters.head;) {
            struct op *op = container_of(w, struct place, queue)->op;
            if (quota_in_flight_left(en, op->session, 1) == 0)
                w = w->next; /* it holds all that it may; who waits behind it need not */
            else if (receive_try(en, op, op->session))
                w = g->waiters.head.next;
            else
                break;
        }
        read_ahead(en, g);
        hint(en, g);
        /* demand fades, so that what was wanted once is not read ahead for ever */
        if (list_empty(&g->waiters) && g->demand > 1 && g->ready >= 2 * (uint64_t)g->demand)
            g->demand -= g->demand / 8;
        list_remove(&g->stirred); /* granting stirs it again */
    }
}

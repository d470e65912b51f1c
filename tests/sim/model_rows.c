/* Follows the rows of groups as they are written: where each message is, and why it moved. See model.h. */
#include <string.h>

#include "base/mem.h"
#include "model.h"

/* The message at an offset of a group's partition; NULL: not one of ours, or not there. */
static struct message *message_at(struct world *w, uint32_t group_id, uint32_t partition, uint64_t offset,
                                  int *group)
{
    int part = model_part(w, partition);
    *group = model_group(w, group_id);
    if (*group == NONE)
        return NULL;
    if (part == NONE || offset >= w->model->parts[part].end) {
        world_fail(w, "group %d has a row for partition %u offset %llu, which the log has not", *group,
                   partition, (unsigned long long)offset);
        return NULL;
    }
    return model_message(w, (uint64_t)w->model->parts[part].log[offset]);
}

/* Its spot is about to change. */
static struct spot *touch(struct world *w, struct message *m, int group)
{
    struct model *o = w->model;
    struct group_view *g = model_view(m, group);
    if (!g->touched) {
        if (o->touched_n == o->touched_cap) {
            o->touched_cap = o->touched_cap > 0 ? 2 * o->touched_cap : 64;
            o->touched = mem_resize(o->touched, o->touched_cap, sizeof *o->touched);
        }
        o->touched[o->touched_n++] = (struct touched){.id = m->id, .group = group};
        g->touched = true;
        g->was = g->is;
        g->row_turn = o->turn;
    }
    return &g->is;
}

/* ---------------------------------------------------------------- rows */

static void cursor_row(struct world *w, struct view key, struct view value)
{
    uint32_t group_id, partition;
    struct cursor_row row;
    struct err e = {0};
    int group, part;
    if (!key_read_cursor(key, &group_id, &partition) || (group = model_group(w, group_id)) == NONE ||
        (part = model_part(w, partition)) == NONE)
        return;
    if (cursor_row_get(value, &row, &e) != E_OK) {
        world_fail(w, "a cursor row does not read: %s", e.text);
        return;
    }
    struct part_view *p = &w->model->parts[part];
    struct group_rows *r = &w->model->rows[group][part % PARTITIONS];
    if (row.floor > p->end || row.cursor > p->end) {
        world_fail(w, "group %d: floor %llu, cursor %llu, and the log ends at %zu", group,
                   (unsigned long long)row.floor, (unsigned long long)row.cursor, p->end);
        return;
    }
    for (uint64_t o = r->floor; o < row.floor; o++)
        touch(w, model_message(w, (uint64_t)p->log[o]), group)->done = true;
    r->floor = row.floor;
    r->cursor = row.cursor;
    r->parked = row.parked;
    r->purges = row.away.purges;
}

static void done_row(struct world *w, struct view key, struct view value)
{
    uint32_t group_id, partition;
    uint64_t chunk;
    uint8_t bits[DONE_CHUNK_BYTES];
    struct err e = {0};
    int group, part;
    if (!key_read_done(key, &group_id, &partition, &chunk) || (group = model_group(w, group_id)) == NONE ||
        (part = model_part(w, partition)) == NONE)
        return;
    if (done_row_get(value, bits, &e) != E_OK)
        world_fail(w, "a done row does not read: %s", e.text);
    struct part_view *p = &w->model->parts[part];
    for (uint64_t i = 0, o = chunk * DONE_CHUNK_OFFSETS; i < DONE_CHUNK_OFFSETS && o < p->end; i++, o++) {
        bool done = (bits[i / 8] >> i % 8 & 1) != 0 || o < w->model->rows[group][part % PARTITIONS].floor;
        struct message *m = model_message(w, (uint64_t)p->log[o]);
        if (model_view(m, group)->is.done != done)
            touch(w, m, group)->done = done;
    }
}

static struct lease_view *lease_view(struct model *o, uint32_t group_id, uint64_t token)
{
    for (size_t i = 0; i < o->leases_n; i++)
        if (o->leases[i].group_id == group_id && o->leases[i].token == token)
            return &o->leases[i];
    if (o->leases_n == o->leases_cap) {
        o->leases_cap = o->leases_cap > 0 ? 2 * o->leases_cap : 64;
        o->leases = mem_resize(o->leases, o->leases_cap, sizeof *o->leases);
    }
    o->leases[o->leases_n] = (struct lease_view){.group_id = group_id, .token = token};
    return &o->leases[o->leases_n++];
}

/* `value`: NULL when the row was removed. */
static void lease_row(struct world *w, struct view key, const struct view *value)
{
    uint32_t group_id;
    uint64_t token;
    struct model *o = w->model;
    int group;
    if (!key_read_lease(key, &group_id, &token) || (group = model_group(w, group_id)) == NONE)
        return;
    struct lease_view *l = lease_view(o, group_id, token);
    for (uint32_t i = 0; i < l->n; i++) {
        struct spot *s = touch(w, model_message(w, l->ids[i]), group);
        if (s->token == token)
            s->token = 0;
    }
    l->n = 0;
    if (value == NULL) {
        *l = o->leases[--o->leases_n];
        return;
    }
    struct lease_row row;
    struct lease_entry entry = {0};
    struct err e = {0};
    bool bad = false;
    if (lease_row_get(*value, &row, &e) != E_OK) {
        world_fail(w, "a lease row does not read: %s", e.text);
        return;
    }
    while (lease_row_next(&row.entries_raw, &entry, &bad)) {
        struct message *m = message_at(w, group_id, entry.partition, entry.offset, &group);
        if (m == NULL || l->n == LEASE_IDS) {
            world_fail(w, "a lease row of group %d does not make sense", group);
            return;
        }
        struct spot *s = touch(w, m, group);
        s->token = token;
        s->failures = entry.failures;
        s->grants = entry.grants;
        model_view(m, group)->row_token = token;
        if (token > w->model->token_last)
            w->model->token_last = token;
        l->ids[l->n++] = m->id;
    }
    if (bad)
        world_fail(w, "a lease row does not read");
}

static void held_row(struct world *w, struct view key, const struct view *value)
{
    uint32_t group_id, partition;
    uint64_t offset;
    int group;
    if (!key_read_held(key, &group_id, &partition, &offset))
        return;
    if (model_group(w, group_id) == NONE) {
        if (value != NULL)
            model_into_held(w, group_id, partition, offset);
        return;
    }
    struct message *m = message_at(w, group_id, partition, offset, &group);
    if (m == NULL)
        return;
    struct spot *s = touch(w, m, group);
    struct held_row row = {0};
    struct err e = {0};
    if (value != NULL && held_row_get(*value, &row, &e) != E_OK)
        world_fail(w, "a held row does not read: %s", e.text);
    s->held = row.state;
    s->blocking = row.blocking;
    s->due_ms = row.due_ms;
    s->held_ms = row.at_ms;
    memset(s->reason, 0, sizeof s->reason);
    if (row.reason.size > 0)
        memcpy(s->reason, row.reason.data,
               row.reason.size < sizeof s->reason ? row.reason.size : sizeof s->reason - 1);
    if (value != NULL) {
        s->failures = row.failures;
        s->grants = row.grants;
    }
}

static void group_row(struct world *w, int group, struct view value)
{
    struct group_row row;
    struct err e = {0};
    if (group_row_get(value, &row, &e) != E_OK) {
        world_fail(w, "a group's row does not read: %s", e.text);
        return;
    }
    model_limits(w, group, &row.config);
    w->model->group_config[group] = row.config;
    w->model->paused[group] = row.paused;
    w->model->group_turn[group] = w->model->turn;
}

/* Only a purge removes the rows of a group that is there: its leases are over. */
static void range_removed(struct world *w, enum store_family f, struct view begin)
{
    for (size_t i = 0; i < w->model->leases_n && f == FAM_LEASES;) {
        struct key prefix = key_group_prefix(w->model->leases[i].group_id),
                   k = key_lease(w->model->leases[i].group_id, w->model->leases[i].token);
        if (!view_eq(begin, key_view(&prefix))) {
            i++;
            continue;
        }
        for (uint32_t n = 0; n < w->model->leases[i].n; n++) {
            struct group_view *g = model_view(model_message(w, w->model->leases[i].ids[n]),
                                              model_group(w, w->model->leases[i].group_id));
            g->until = g->lease_end = 0;
        }
        lease_row(w, key_view(&k), NULL);
    }
}

static void row_put(struct world *w, enum store_family f, struct view key, struct view value)
{
    uint32_t id;
    int group;
    struct epoch_row epoch;
    struct err e = {0};
    switch (f) {
    case FAM_META:
        if (key_read_id(key, 'g', &id) && (group = model_group(w, id)) != NONE)
            group_row(w, group, value);
        if (key.data[0] == 'p')
            model_partition_row(w, key, value);
        if (key.size == 1 && key.data[0] == 'e' && epoch_row_get(value, &epoch, &e) == E_OK)
            w->model->wall_ms = epoch.wall_ms;
        break;
    case FAM_GROUPS:
        if (key.data[0] == 'c')
            cursor_row(w, key, value);
        else if (key.data[0] == 'd')
            done_row(w, key, value);
        else if (key.data[0] == 'l')
            model_lost_row(w, key, value);
        else if (key.data[0] == 'k')
            model_task_row(w, key, &value);
        break;
    case FAM_LEASES:
        lease_row(w, key, &value);
        break;
    case FAM_HELD:
        held_row(w, key, &value);
        break;
    case FAM_STATE:
        model_state_row(w, key, &value);
        break;
    case FAM_SCHED:
        model_sched_row(w, key, &value);
        break;
    default:
        break;
    }
}

static void row_removed(struct world *w, enum store_family f, struct view key)
{
    if (f == FAM_LEASES)
        lease_row(w, key, NULL);
    else if (f == FAM_HELD)
        held_row(w, key, NULL);
    else if (f == FAM_STATE)
        model_state_row(w, key, NULL);
    else if (f == FAM_SCHED)
        model_sched_row(w, key, NULL);
    else if (f == FAM_GROUPS && key.data[0] == 'k')
        model_task_row(w, key, NULL);
}

/* ---------------------------------------------------------------- why it moved */

bool spot_absent(const struct spot *s)
{
    return s->done && s->token == 0 && s->held != HELD_RETRYING && !s->blocking;
}

static uint64_t first_expiry(const struct world *w, const struct message *m)
{
    uint64_t ttl = m->ttl_ms != 0 ? m->ttl_ms : w->model->topic_config[m->topic].ttl_ms;
    return ttl == 0 ? UINT64_MAX : m->append_ms + ttl;
}

uint64_t model_expiry(const struct world *w, int group, const struct message *m)
{
    return model_view((struct message *)m, group)->redriven_turn != 0 ? UINT64_MAX : first_expiry(w, m);
}

/* Its time passed while nobody is known to hold it, and the group says so. */
static bool expired_as(const struct world *w, int group, const struct message *m, uint8_t what)
{
    const struct group_view *g = model_view((struct message *)m, group);
    bool so = w->model->group_config[group].expired == what || w->model->group_turn[group] == w->model->turn; /* it may be altered since */
    uint64_t expiry = g->perhaps_present ? first_expiry(w, m) : model_expiry(w, group, m);
    return so && expiry <= w->model->wall_ms &&
           !(g->touched && g->was.token != 0 && g->was.token == g->token &&
             g->until > turn_time(w, w->model->turn));
}

static bool unit_did(const struct world *w, const struct group_view *g, const struct message *m, int group,
                     uint8_t verb)
{
    if (g->by_unit == NONE || !(model_unit(w, g->by_unit)->applied || model_unit(w, g->by_unit)->vague))
        return false;
    const struct unit *u = model_unit(w, g->by_unit);
    for (uint32_t i = 0; i < u->items_n; i++)
        if (u->items[i].id == m->id && u->items[i].group == group && u->items[i].wire.verb == verb)
            return true;
    return false;
}

static bool purged(const struct world *w, int group, const struct message *m)
{
    return w->model->purges_asked[group] > 0 || m->append_turn <= w->model->purged_turn[group];
}

bool done_has_reason(const struct world *w, int group, const struct message *m)
{
    const struct group_view *g = model_view((struct message *)m, group);
    return g->acked || g->asked_done > 0 || g->is.held == HELD_PARKED || g->dropped || purged(w, group, m) ||
           expired_as(w, group, m, EXPIRED_DROP) || unit_did(w, g, m, group, SETTLE_ACK) || model_lost(w, group, m);
}

static bool park_has_reason(const struct world *w, int group, const struct message *m)
{
    const struct group_view *g = model_view((struct message *)m, group);
    const struct wire_group_config *c = &w->model->group_config[group];
    return g->parked_by_client || g->park_known || g->asked_park > 0 ||
           expired_as(w, group, m, EXPIRED_PARK) || unit_did(w, g, m, group, SETTLE_PARK) ||
           g->is.failures >= c->max_deliveries || g->is.grants >= 4 * c->max_deliveries;
}

bool park_may_have_reason(const struct world *w, int group, const struct message *m)
{
    const struct group_view *g = model_view((struct message *)m, group);
    const struct wire_group_config *c = &w->model->group_config[group];
    return park_has_reason(w, group, m) || g->was.failures + 1 >= c->max_deliveries || g->was.grants >= 4 * c->max_deliveries;
}

/* A run is settled from its beginning: nothing before it in the same lease is left. */
static void check_prefix(struct world *w, int group, const struct message *m)
{
    const struct part_view *p = &w->model->parts[m->part];
    uint64_t token = model_view((struct message *)m, group)->was.token;
    for (int64_t o = 0; o < m->offset && m->key != NONE && w->model->group_config[group].order == ORDER_KEY;
         o++) {
        struct message *before = &w->model->messages[p->log[o]];
        if (before->key == m->key && model_view(before, group)->is.token == token)
            world_fail(w, "message %llu of a run is done in group %d, and %llu before it is not",
                       (unsigned long long)m->id, group, (unsigned long long)before->id);
    }
}

static const char *spot_text(const struct spot *s)
{
    if (s->token != 0)
        return "leased";
    return s->held == HELD_PARKED ? "parked" : s->held != 0 ? "held" : s->done ? "done" : "ready";
}

static bool parks_key(const struct world *w, int group, const struct message *m)
{
    const struct wire_group_config *c = &w->model->group_config[group];
    return m->key != NONE && c->order == ORDER_KEY && c->park == PARK_KEY;
}

/* What is due up to then stays in memory. */
static uint64_t near_until(const struct world *w) { return w->model->wall_ms + w->limits.retry_window_ms; }

static void moved(struct world *w, int group, struct message *m)
{
    struct group_view *g = model_view(m, group);
    const struct spot *is = &g->is, *was = &g->was;
    unsigned long long id = (unsigned long long)m->id;
    bool parked = is->held == HELD_PARKED, was_parked = was->held == HELD_PARKED;
    world_trace(w,
                "    turn %llu: message %llu (part %d offset %lld key %d) of group %d is %s (token %llx, "
                "failures %u, grants %u)",
                (unsigned long long)w->model->turn, id, m->part, (long long)m->offset, m->key, group,
                spot_text(is), (unsigned long long)is->token, is->failures, is->grants);
    bool again = false;
    if (is->done && (is->blocking || is->held == HELD_RETRYING)) { /* purged, or away: done and present */
        bool same = was->held == HELD_RETRYING && is->due_ms == was->due_ms; /* as it stood: it went */
        again = !was->done && !is->blocking && !same && is->failures == 0 && model_perhaps_replayed(w, group, m);
        w->totals->away += !was->done;
        if (!was->done && !is->blocking && m->key == NONE && is->due_ms <= near_until(w) && !again && !model_past_the_cap(w, m))
            world_fail(w, "message %llu of group %d is away, and due at %llu", id, group, (unsigned long long)is->due_ms);
        g->redriven = true;
    }
    g->redriven |= is->done && !was->done && !spot_absent(is) && model_past_the_cap(w, m); /* held there, it stays, and may be granted at once */
    if (w->model->rows[group][m->part % PARTITIONS].lost_now > 0) {
        struct group_rows *r = &w->model->rows[group][m->part % PARTITIONS];
        if (was->token != 0 && is->token != was->token) { /* lost, or given back with what was */
            g->until = g->lease_end = 0;
            g->given_back = true;
        }
        uint64_t now = r->lost_now;
        r->done_now += is->done && !was->done && (spot_absent(is) || again) && model_lost(w, group, m); /* again: lost, and replayed at once */
        r->lost_now = 0;
        r->done_sure += is->done && !was->done && spot_absent(is) && !done_has_reason(w, group, m);
        r->lost_now = now;
    }
    if (spot_absent(is) && !was->done && was->token != 0 && !model_lost(w, group, m))
        check_prefix(w, group, m);
    if (was_parked && !parked)
        model_unparked(w, group, m);
    else if (is->done && !spot_absent(is) && spot_absent(was))
        model_replayed(w, group, m);
    else if (is->failures < was->failures && !is->done)
        world_fail(w, "message %llu of group %d: failures fell from %u to %u", id, group, was->failures,
                   is->failures);
    if (is->done && !g->redriven && is->token != 0) /* it was granted, too */
        model_perhaps_replayed(w, group, m);
    if (is->token != 0 && (is->held != 0 || (is->done && !g->redriven)))
        world_fail(w, "message %llu is leased in group %d, and %s", id, group, is->done ? "done" : "held");
    if ((is->token != 0 || is->held != 0) && is->failures > is->grants)
        world_fail(w, "message %llu of group %d: %u failures of %u grants", id, group, is->failures,
                   is->grants);
    if (was->done && was->token != 0 && is->token == 0 && is->held == HELD_RETRYING && is->failures == 0)
        model_perhaps_replayed(w, group, m);
    if (was->done && !is->done)
        world_fail(w, "message %llu was done in group %d and is not any more", id, group);
    if (spot_absent(is) && !spot_absent(was) && !done_has_reason(w, group, m))
        world_fail(w, "message %llu became done in group %d, and nobody settled it", id, group);
    if (parked && !was_parked && !park_has_reason(w, group, m))
        world_fail(w, "message %llu was parked in group %d after %u failures and %u grants (%.15s)", id, group,
                   is->failures, is->grants, is->reason);
    if (parked && !was_parked && is->blocking != parks_key(w, group, m) && w->model->group_turn[group] != w->model->turn)
        world_fail(w, "message %llu was parked in group %d and %s", id, group,
                   is->blocking ? "blocks its key" : "lets its key go on");
    if (spot_absent(is) && !spot_absent(was))
        g->absent_turn = w->model->turn;
    g->was_done |= spot_absent(is);
    g->was_parked |= parked;
    if (is->token != 0 && is->token != was->token)
        model_granted(w, group, m);
    w->totals->expired += model_expiry(w, group, m) <= w->model->wall_ms && is->token == 0 &&
                          was->token == 0 && !g->acked && spot_absent(is) && !spot_absent(was);
}

/* ---------------------------------------------------------------- lists */

static void clear_touched(struct world *w)
{
    struct model *o = w->model;
    for (size_t i = 0; i < o->touched_n; i++)
        model_view(model_message(w, o->touched[i].id), o->touched[i].group)->touched = false;
    o->touched_n = 0;
}

void model_written(void *world, const struct puts *p)
{
    struct world *w = world;
    struct model *o = w->model;
    struct buf joined = {0};
    o->turn = p->turn;
    memcpy(o->was_paused, o->paused, sizeof o->paused);
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; i < PARTITIONS; i++)
            o->rows[g][i].before = o->rows[g][i].cursor;
    for (size_t i = 0; i < p->count; i++) {
        struct put put;
        puts_at(p, i, &put);
        if (put.family == FAM_META && put.kind == PUT_ROW)
            model_learn_part(w, put.key, put.pieces[0]);
    }
    for (int logs = 1; logs >= 0; logs--) /* what was appended first: groups speak of it */
        for (size_t i = 0; i < p->count && !w->failed; i++) {
            struct put put;
            puts_at(p, i, &put);
            if ((put.family >= FAM_LOG_HOURS) != (logs != 0))
                continue;
            if (put.kind == PUT_REMOVE_RANGE && logs) {
                model_trim(w, put.key, put.pieces[0]);
            } else if (put.kind == PUT_REMOVE_RANGE) {
                range_removed(w, put.family, put.key);
            } else if (put.kind == PUT_REMOVE) {
                row_removed(w, put.family, put.key);
            } else if (put.kind == PUT_ROW && put.pieces_n == 1 && !logs) {
                row_put(w, put.family, put.key, put.pieces[0]);
            } else if (put.kind == PUT_ROW) {
                buf_clear(&joined);
                for (size_t k = 0; k < put.pieces_n; k++)
                    buf_append(&joined, put.pieces[k].data, put.pieces[k].size);
                model_log_row(w, put.key, buf_view(&joined));
            }
        }
    buf_free(&joined);
    model_scheds_check(w);
    for (size_t i = 0; i < o->touched_n && !w->failed; i++)
        moved(w, o->touched[i].group, model_message(w, o->touched[i].id));
    clear_touched(w);
    model_limits_set(w);
    if (!w->failed)
        model_units_check(w);
    model_tasks_check(w);
    model_intos_check(w);
    model_trims_check(w);
}

/* ---------------------------------------------------------------- after a crash */

static void family_again(struct world *w, enum store_family f)
{
    struct store_iter *it = store_iter(w->mem, f);
    for (store_iter_seek(it, (struct view){0}); store_iter_valid(it) && !w->failed; store_iter_next(it))
        row_put(w, f, store_iter_key(it), store_iter_value(it));
    store_iter_close(it);
}

/* What `os` promised is gone with the power. */
static void forget_unsynced(struct message *m)
{
    for (int i = 0; i < GROUPS_PER_TOPIC; i++) {
        struct group_view *g = &m->group[i];
        g->asked_done += g->acked;
        g->asked_park += g->parked_by_client;
        g->acked = g->parked_by_client = g->given_back = g->redriven = false;
        g->failures = g->grants = g->lease_ms = 0;
        g->holder = NONE;
        g->until = g->granted_at = g->lease_end = g->token = g->not_before = g->row_token = g->row_turn = 0;
    }
    m->acked_offset = -1;
    m->acked = false;
}

/* What the rows say after a crash must have had its reasons, and what was confirmed must be there. */
static void check_message(struct world *w, struct message *m)
{
    for (int i = 0; i < GROUPS_PER_TOPIC; i++) {
        int group = m->topic * GROUPS_PER_TOPIC + i;
        struct group_view *g = &m->group[i];
        unsigned long long id = (unsigned long long)m->id;
        g->absent_turn = w->model->turn;
        g->redriven = g->is.done && (g->is.token != 0 || g->is.held == HELD_RETRYING || g->is.blocking);
        g->dropped &= g->is.held != HELD_PARKED && spot_absent(&g->is); /* else the power took it back */
        if (g->acked && !g->is.done)
            world_fail(w, "message %llu was acked in group %d, and after the crash it is not done", id,
                       group);
        if (spot_absent(&g->is) && !g->was_done && !done_has_reason(w, group, m))
            world_fail(w, "message %llu is done in group %d after the crash, and nobody settled it", id,
                       group);
        if (g->is.held == HELD_PARKED && !g->was_parked && !park_has_reason(w, group, m))
            world_fail(w, "message %llu is parked in group %d after the crash, without a reason", id, group);
    }
}

void model_after_crash(struct world *w, bool cut)
{
    struct model *o = w->model;
    for (size_t i = 0; i < o->messages_n; i++) {
        struct message *m = &o->messages[i];
        if (cut && !model_disk(w, m->topic))
            forget_unsynced(m);
        for (int g = 0; g < GROUPS_PER_TOPIC; g++)
            m->group[g].is = (struct spot){0};
    }
    memset(o->rows, 0, sizeof o->rows);
    memset(o->scanned, 0, sizeof o->scanned);
    o->leases_n = 0;
    model_flow_begins(w);
    memset(o->limit_token, 0, sizeof o->limit_token);
    model_units_cut(w);
    model_tasks_cut(w);
    model_intos_cut(w);
    model_log_again(w);
    model_copies_again(w);
    family_again(w, FAM_META);
    family_again(w, FAM_GROUPS);
    family_again(w, FAM_LEASES);
    family_again(w, FAM_HELD);
    clear_touched(w);
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; i < PARTITIONS; i++)
            o->rows[g][i].lost_now = 0;
    model_tasks_again(w);
    model_intos_again(w);
    model_scheds_again(w);
    model_units_again(w);
    model_log_check(w);
    model_latest(w);
    for (size_t i = 0; i < o->messages_n && !w->failed; i++)
        check_message(w, &o->messages[i]);
}

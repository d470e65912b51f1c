/* What must be true, known from outside: see sim.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "schemas/stored.h"
#include "sim.h"

struct message *model_message(struct world *w, uint64_t id) { return id < w->messages_n ? &w->messages[id] : NULL; }

struct message *model_new_message(struct world *w, int topic, int part, int key)
{
    if (w->messages_n == w->messages_cap) {
        w->messages_cap = w->messages_cap > 0 ? 2 * w->messages_cap : 256;
        w->messages = mem_resize(w->messages, w->messages_cap, sizeof *w->messages);
    }
    struct message *m = &w->messages[w->messages_n];
    *m = (struct message){.id = w->messages_n++, .topic = topic, .part = part, .key = key, .offset = -1, .acked_offset = -1};
    for (int g = 0; g < GROUPS_PER_TOPIC; g++)
        m->group[g].holder = NONE;
    return m;
}

int model_part(const struct world *w, uint32_t id)
{
    for (int i = 0; i < PARTS; i++)
        if (w->parts[i].id == id)
            return i;
    return NONE;
}

int model_group(const struct world *w, uint32_t id)
{
    for (int i = 0; i < GROUPS; i++)
        if (w->group_ids[i] == id)
            return i;
    return NONE;
}

/* ---------------------------------------------------------------- the log, read from its rows */

static int64_t id_of(struct view value)
{
    char text[32];
    if (value.size < 2 || value.size >= sizeof text || value.data[0] != 'm')
        return -1;
    memcpy(text, value.data, value.size);
    text[value.size] = '\0';
    return strtoll(text + 1, NULL, 10);
}

static void log_append(struct world *w, struct part_view *p, int64_t id)
{
    if (p->end == p->cap) {
        p->cap = p->cap > 0 ? 2 * p->cap : 64;
        p->log = mem_resize(p->log, p->cap, sizeof *p->log);
    }
    struct message *m = model_message(w, (uint64_t)id);
    if (m == NULL) {
        world_fail(w, "the log holds an unknown message %lld", (long long)id);
        return;
    }
    if (m->offset >= 0)
        world_fail(w, "message %lld stands in the log twice, at %lld and %zu", (long long)id, (long long)m->offset, p->end);
    m->offset = (int64_t)p->end;
    p->log[p->end++] = id;
    if (m->acked && m->acked_offset != m->offset)
        world_fail(w, "message %lld was acked at %lld and stands at %lld", (long long)id, (long long)m->acked_offset, (long long)m->offset);
}

/* The simulated topics keep seven days. */
static enum store_family family_of(void) { return FAM_LOG_DAYS; }

static void follow(struct world *w, struct part_view *p)
{
    struct store_iter *it = store_iter(w->store, family_of());
    struct key from = key_log(p->id, p->end);
    struct err e = {0};
    for (store_iter_seek(it, key_view(&from)); store_iter_valid(it); store_iter_next(it)) {
        uint32_t partition;
        uint64_t last;
        if (!key_read_log(store_iter_key(it), &partition, &last) || partition != p->id)
            break;
        struct buf aligned = {0};
        struct view value = store_iter_value(it), batch;
        struct stored_header h;
        buf_append(&aligned, value.data, value.size);
        for (struct view rest = buf_view(&aligned); rest.size > 0;) {
            struct batch_reader r;
            if (stored_next(&rest, &h, &batch, &e) != E_OK || batch_reader_open(&r, batch, &e) != E_OK) {
                world_fail(w, "the log does not read: %s", e.text);
                break;
            }
            if (h.base_offset != p->end)
                world_fail(w, "partition %u: a batch begins at %llu, expected %zu", p->id, (unsigned long long)h.base_offset, p->end);
            for (uint32_t i = 0; i < r.c.count; i++) {
                struct record record;
                if (batch_reader_get(&r, i, &record, &e) != E_OK)
                    world_fail(w, "the log does not read: %s", e.text);
                else
                    log_append(w, p, id_of(record.value));
            }
            batch_reader_close(&r);
        }
        if (p->end != last + 1)
            world_fail(w, "partition %u: a row's key ends at %llu, its batches at %zu", p->id, (unsigned long long)last, p->end);
        buf_free(&aligned);
    }
    store_iter_close(it);
}

void model_follow_log(struct world *w)
{
    for (int i = 0; i < PARTS; i++)
        follow(w, &w->parts[i]);
}

void model_after_crash(struct world *w, bool cut)
{
    for (size_t i = 0; i < w->messages_n; i++)
        w->messages[i].offset = -1;
    for (int i = 0; i < PARTS; i++)
        w->parts[i].end = 0;
    for (size_t i = 0; i < w->messages_n && cut; i++) {
        struct message *m = &w->messages[i];
        if (w->durability[m->topic] == DURABILITY_DISK)
            continue;
        for (int g = 0; g < GROUPS_PER_TOPIC; g++) /* what `os` promised is gone with the power */
            m->group[g] = (struct group_view){.holder = NONE, .pending_done = m->group[g].pending_done + m->group[g].done};
        m->acked_offset = -1;
        m->acked = false;
    }
    model_follow_log(w);
    for (size_t i = 0; i < w->messages_n; i++) {
        const struct message *m = &w->messages[i];
        if (m->acked && m->offset != m->acked_offset)
            world_fail(w, "message %llu was acked at %lld and is lost (now %lld)", (unsigned long long)m->id, (long long)m->acked_offset,
                       (long long)m->offset);
    }
}

void model_acked(struct world *w, struct message *m, int64_t offset)
{
    if (m->acked && m->acked_offset != offset)
        world_fail(w, "message %llu was acked at %lld, and again at %lld", (unsigned long long)m->id, (long long)m->acked_offset, (long long)offset);
    m->acked = true;
    m->acked_offset = offset;
    if (m->offset >= 0 && m->offset != offset)
        world_fail(w, "message %llu acked at %lld stands at %lld", (unsigned long long)m->id, (long long)offset, (long long)m->offset);
}

/* ---------------------------------------------------------------- queue groups */

bool model_parked(struct world *w, int group, const struct message *m)
{
    struct key k = key_held(w->group_ids[group], w->parts[m->part].id, (uint64_t)m->offset);
    struct buf row = {0};
    struct err e = {0};
    struct held_row held;
    bool found = false, parked = false;
    if (store_get(w->store, FAM_HELD, key_view(&k), &row, &found, &e) == E_OK && found && held_row_get(buf_view(&row), &held, &e) == E_OK)
        parked = held.state == HELD_PARKED;
    buf_free(&row);
    return parked;
}

/* An older message of the key must be out of the way: acked as far as anybody knows, or parked. */
static void check_order(struct world *w, int group, const struct message *m)
{
    const struct part_view *p = &w->parts[m->part];
    for (int64_t o = 0; o < m->offset; o++) {
        const struct message *older = &w->messages[p->log[o]];
        if (older->key != m->key)
            continue;
        const struct group_view *g = &older->group[group % GROUPS_PER_TOPIC];
        bool blocking_park = w->group_config[group].park == PARK_KEY;
        bool parked = model_parked(w, group, older);
        if (parked && blocking_park)
            world_fail(w, "message %llu (offset %lld) was delivered to group %d though %llu parks its key", (unsigned long long)m->id,
                       (long long)m->offset, group, (unsigned long long)older->id);
        if (!g->done && g->pending_done == 0 && !parked)
            world_fail(w, "message %llu (offset %lld) of key %d was delivered to group %d before %llu (offset %lld)",
                       (unsigned long long)m->id, (long long)m->offset, m->key, group, (unsigned long long)older->id, (long long)older->offset);
    }
}

void model_delivered(struct world *w, int client, int group, const struct wire_record *r, struct view key, struct view value,
                     uint64_t token, uint64_t granted_at, uint32_t lease_ms)
{
    int64_t id = id_of(value);
    struct message *m = id >= 0 ? model_message(w, (uint64_t)id) : NULL;
    int part = model_part(w, r->partition);
    model_follow_log(w);
    if (m == NULL || part == NONE || group == NONE || w->parts[part].end <= r->offset || w->parts[part].log[r->offset] != id) {
        world_fail(w, "client %d was given partition %u offset %llu with message %lld, which the log has not there", client, r->partition,
                   (unsigned long long)r->offset, (long long)id);
        return;
    }
    if ((m->key == NONE) != (key.data == NULL))
        world_fail(w, "message %llu was delivered with another key", (unsigned long long)m->id);
    struct group_view *g = &m->group[group % GROUPS_PER_TOPIC];
    world_trace(w, "client %d has message %llu of group %d (failures %u, grants %u), token %llx granted at %llu for %u ms", client,
                (unsigned long long)m->id, group, r->failures, r->grants, (unsigned long long)token, (unsigned long long)granted_at, lease_ms);
    if (token < g->token) /* the reply of an older grant, overtaken by a newer one's: its lease is over */
        return;
    if (g->done)
        world_fail(w, "message %llu was acked in group %d and was delivered again", (unsigned long long)m->id, group);
    if (g->until > granted_at && g->token != token)
        world_fail(w, "message %llu was granted to client %d while client %d holds it until %llu (now %llu)", (unsigned long long)m->id, client,
                   g->holder, (unsigned long long)g->until, (unsigned long long)granted_at);
    if (token > g->token && granted_at < g->not_before)
        world_fail(w, "message %llu was granted at %llu, its delay ends at %llu", (unsigned long long)m->id, (unsigned long long)granted_at,
                   (unsigned long long)g->not_before);
    if (r->failures > g->failures && r->grants == g->grants + 1 && !g->given_back && granted_at < g->lease_end)
        world_fail(w, "message %llu: failures rose to %u, and nothing failed", (unsigned long long)m->id, r->failures);
    if (r->failures < g->failures)
        world_fail(w, "message %llu: failures fell from %u to %u", (unsigned long long)m->id, g->failures, r->failures);
    if (r->failures >= w->group_config[group].max_deliveries)
        world_fail(w, "message %llu was delivered after %u failures", (unsigned long long)m->id, r->failures);
    if (m->key != NONE && w->group_config[group].order == ORDER_KEY)
        check_order(w, group, m);
    if (token > g->token) {
        g->given_back = false;
        g->not_before = 0;
    }
    g->failures = r->failures;
    g->grants = r->grants;
    g->holder = client;
    g->token = token;
    g->granted_at = granted_at;
    g->until = g->lease_end = granted_at + lease_ms;
}

void model_clock_jumped(struct world *w)
{
    for (size_t i = 0; i < w->messages_n; i++)
        for (int g = 0; g < GROUPS_PER_TOPIC; g++)
            w->messages[i].group[g].not_before = 0;
}

void model_nacked(struct world *w, int group, struct message *m, uint64_t token, uint64_t since, uint64_t at, uint64_t delay_ms)
{
    struct group_view *g = &m->group[group % GROUPS_PER_TOPIC];
    if (g->token == token && g->granted_at > since && at < g->lease_end && at > w->clock_jumped_at) /* else the nack may have changed nothing */
        g->not_before = at + delay_ms;
}

void model_extended(struct world *w, int group, struct message *m, uint64_t token, uint64_t since, uint64_t at)
{
    struct group_view *g = &m->group[group % GROUPS_PER_TOPIC];
    uint64_t end = at + w->group_config[group].lease_ms;
    if (g->token == token && g->granted_at > since && g->until != 0 && g->until < end)
        g->until = g->lease_end = end;
}

static int group_of_row(const struct world *w, uint32_t id)
{
    int group = model_group(w, id);
    return group == NONE ? GROUPS : group; /* of a topic that comes and goes */
}

void model_held_rows(struct world *w)
{
    size_t waits[GROUPS + 1] = {0}, timed[GROUPS + 1] = {0};
    uint32_t group, partition;
    uint64_t offset, due;
    struct store_iter *it = store_iter(w->store, FAM_SCHED);
    for (store_iter_seek(it, (struct view){0}); store_iter_valid(it); store_iter_next(it))
        if (key_read_sched_retry(store_iter_key(it), &due, &group, &partition, &offset))
            timed[group_of_row(w, group)]++;
    store_iter_close(it);
    it = store_iter(w->store, FAM_HELD);
    for (store_iter_seek(it, (struct view){0}); store_iter_valid(it); store_iter_next(it)) {
        struct held_row row;
        struct err e = {0};
        if (!key_read_held(store_iter_key(it), &group, &partition, &offset) || held_row_get(store_iter_value(it), &row, &e) != E_OK)
            world_fail(w, "a held row does not read");
        else
            waits[group_of_row(w, group)] += row.state == HELD_RETRYING || row.blocking;
    }
    store_iter_close(it);
    for (int i = 0; i <= GROUPS; i++)
        if (waits[i] != timed[i])
            world_fail(w, "group %d: %zu held messages wait, %zu have a time", i, waits[i], timed[i]);
}

/* The engine's counts and the distance from floor to end must agree. */
void model_census(struct world *w)
{
    for (int i = 0; i < GROUPS; i++) {
        char topic[16], group[16];
        struct engine_census c;
        snprintf(topic, sizeof topic, "t%d", i / GROUPS_PER_TOPIC);
        snprintf(group, sizeof group, "g%d", i % GROUPS_PER_TOPIC);
        if (!engine_census(loop_engine(w->loop), view_of_str(topic), view_of_str(group), &c) || c.scanning_again)
            continue;
        uint64_t sum = c.done_above_floor + c.leased + c.ready + c.retrying + c.blocked + c.behind + c.unscanned;
        if (sum != c.end - c.floor)
            world_fail(w, "group %d: floor %llu end %llu, but done %llu leased %llu ready %llu retrying %llu blocked %llu behind %llu unscanned %llu",
                       i, (unsigned long long)c.floor, (unsigned long long)c.end, (unsigned long long)c.done_above_floor,
                       (unsigned long long)c.leased, (unsigned long long)c.ready, (unsigned long long)c.retrying,
                       (unsigned long long)c.blocked, (unsigned long long)c.behind, (unsigned long long)c.unscanned);
        w->totals->blocked_keys += c.blocked > 0;
    }
}

void model_nothing_leased(struct world *w)
{
    struct engine_totals t;
    engine_totals(loop_engine(w->loop), &t);
    if (t.leased > 0)
        world_fail(w, "%llu messages are leased, and every session was without a pipe for its grace", (unsigned long long)t.leased);
}

void model_end(struct world *w)
{
    for (int i = 0; i < GROUPS && !w->failed; i++) {
        int topic = i / GROUPS_PER_TOPIC;
        for (int p = 0; p < PARTS; p++) {
            if (w->parts[p].topic != topic)
                continue;
            bool key_blocked[KEYS + 1] = {0};
            for (size_t o = 0; o < w->parts[p].end; o++) {
                const struct message *m = &w->messages[w->parts[p].log[o]];
                bool parked = model_parked(w, i, m);
                w->totals->parked += parked;
                if (parked && m->group[i % GROUPS_PER_TOPIC].done)
                    world_fail(w, "message %llu is acked and parked in group %d", (unsigned long long)m->id, i);
                bool behind_parked = m->key != NONE && key_blocked[m->key];
                if (!m->group[i % GROUPS_PER_TOPIC].done && m->group[i % GROUPS_PER_TOPIC].pending_done == 0 && !parked && !behind_parked)
                    world_fail(w, "message %llu (part %d offset %zu) never reached an end in group %d", (unsigned long long)m->id, p, o, i);
                if (parked && m->key != NONE && w->group_config[i].park == PARK_KEY && w->group_config[i].order == ORDER_KEY)
                    key_blocked[m->key] = true;
            }
        }
    }
}

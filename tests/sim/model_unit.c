/* Units are whole or absent, and state rows change one step at a time: see model.h. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model.h"

int model_new_unit(struct world *w)
{
    struct model *o = w->model;
    if (o->units_n == o->units_cap) {
        o->units_cap = o->units_cap > 0 ? 2 * o->units_cap : 64;
        o->units = mem_resize(o->units, o->units_cap, sizeof(struct unit *));
    }
    o->units[o->units_n] = mem_zalloc(sizeof(struct unit));
    return (int)o->units_n++;
}

struct unit *model_unit(const struct world *w, int unit)
{
    return w->model->units[unit];
}

void model_units_free(struct model *o)
{
    for (size_t i = 0; i < o->units_n; i++)
        mem_free(o->units[i]);
    for (int g = 0; g < GROUPS; g++)
        for (int k = 0; k < KEYS; k++) {
            mem_free(o->state[g][k].at);
            mem_free(o->state[g][k].versions);
        }
    mem_free(o->units);
    mem_free(o->seen_units);
}

void model_unit_seen(struct world *w, int unit)
{
    struct model *o = w->model;
    struct unit *u = o->units[unit];
    if (u->applied)
        return;
    if (u->outcome == OUTCOME_REFUSED)
        world_fail(w, "unit %d was refused, and something of it was done", unit);
    u->applied = true;
    for (uint32_t i = 0; i < u->items_n; i++)
        if (u->items[i].wire.verb == SETTLE_ACK || u->items[i].wire.verb == SETTLE_PARK)
            model_view(model_message(w, u->items[i].id), u->items[i].group)->by_unit = unit;
    if (o->seen_n == o->seen_cap) {
        o->seen_cap = o->seen_cap > 0 ? 2 * o->seen_cap : 16;
        o->seen_units = mem_resize(o->seen_units, o->seen_cap, sizeof(int));
    }
    o->seen_units[o->seen_n++] = unit;
}

static void outputs_check(struct world *w, int unit)
{
    const struct unit *u = w->model->units[unit];
    for (uint32_t b = 0; b < u->batches_n; b++) {
        const struct sched *s = u->batches[b].sched != NONE ? model_sched(w, u->batches[b].sched) : NULL;
        if (s != NULL) {
            if (!s->waits && s->fired_turn == 0 && !s->ending)
                world_fail(w, "unit %d was done, but its output does not wait for its time", unit);
            continue;
        }
        for (uint32_t i = 0; i < u->batches[b].count; i++)
            if (model_message(w, u->batches[b].ids[i])->offset < 0)
                world_fail(w, "unit %d was done, but its output %llu is not there", unit,
                           (unsigned long long)u->batches[b].ids[i]);
    }
}

static void item_check(struct world *w, int unit, const struct item *i, bool now)
{
    struct message *m = model_message(w, i->id);
    const struct spot *s = &model_view(m, i->group)->is;
    uint8_t verb = i->wire.verb;
    bool bad = verb == SETTLE_ACK    ? !s->done
               : verb == SETTLE_PARK ? now && s->held != HELD_PARKED
                                     : now && verb != SETTLE_EXTEND && s->token == i->wire.token;
    if (bad)
        world_fail(w, "unit %d was done, but its verb %u of message %llu in group %d was not", unit, verb,
                   (unsigned long long)m->id, i->group);
}

/* What of a unit lasts; `now`: it was done in this turn. */
static void unit_check(struct world *w, int unit, bool now)
{
    const struct unit *u = w->model->units[unit];
    outputs_check(w, unit);
    for (uint32_t i = 0; i < u->items_n; i++)
        item_check(w, unit, &u->items[i], now);
    for (uint32_t i = 0; i < u->puts_n && now; i++) {
        const struct state_ask *p = &u->puts[i];
        struct state_chain *c = &w->model->state[p->group][p->key];
        struct state_step *last = c->n > 0 ? &c->at[c->n - 1] : NULL;
        bool found = false;
        if (p->remove && last != NULL && !last->present && last->unit == NONE)
            last->unit = unit;
        for (size_t k = c->n; k > 0 && c->at[k - 1].turn == w->model->turn; k--)
            found |= c->at[k - 1].unit == unit;
        if (!found)
            world_fail(w, "unit %d was done, but not its state of key %d in group %d", unit, p->key,
                       p->group);
    }
}

void model_units_check(struct world *w)
{
    struct model *o = w->model;
    for (size_t i = 0; i < o->seen_n && !w->failed; i++)
        unit_check(w, o->seen_units[i], true);
    o->seen_n = 0;
    for (int g = 0; g < GROUPS && o->state_removed; g++)
        for (int k = 0; k < KEYS; k++)
            if (o->state[g][k].n > 0 && o->state[g][k].at[o->state[g][k].n - 1].unit == NONE)
                world_fail(w, "the state of key %d in group %d was removed, and no unit did it", k, g);
    o->state_removed = false;
}

/* Something of it stays, whatever becomes of what waits for its time. */
static bool unit_lasts(const struct world *w, const struct unit *u)
{
    bool lasts = u->puts_n > 0;
    for (uint32_t i = 0; i < u->batches_n; i++)
        lasts |= u->batches[i].sched == NONE || !model_sched(w, u->batches[i].sched)->ending;
    return lasts;
}

void model_unit_answered(struct world *w, int unit, int code)
{
    struct unit *u = w->model->units[unit];
    u->outcome = code == E_OK ? OUTCOME_OK : OUTCOME_REFUSED;
    if (u->applied && code != E_OK)
        world_fail(w, "unit %d was answered %s, and something of it was done", unit, error_name(code));
    if (!u->applied && code == E_OK && unit_shows(u) && unit_lasts(w, u))
        world_fail(w, "unit %d was answered ok, and nothing of it was done", unit);
}

/* ---------------------------------------------------------------- state rows */

static bool value_read(struct view value, unsigned long long *count, int *unit)
{
    char text[32];
    if (value.size >= sizeof text)
        return false;
    memcpy(text, value.data, value.size);
    text[value.size] = '\0';
    return sscanf(text, "c%llu u%d", count, unit) == 2;
}

static bool slot_of(struct world *w, struct view key, int *group, int *k)
{
    for (*group = 0; *group < GROUPS; ++*group)
        for (*k = 0; *k < KEYS; ++*k) {
            struct key want = key_state(w->model->group_ids[*group], state_key_hash(key_name(*k)));
            if (view_eq(key, key_view(&want)))
                return true;
        }
    return false;
}

static void step_add(struct state_chain *c, struct state_step s)
{
    if (c->n == c->cap) {
        c->cap = c->cap > 0 ? 2 * c->cap : 16;
        c->at = mem_resize(c->at, c->cap, sizeof *c->at);
    }
    c->at[c->n++] = s;
}

static void version_add(struct world *w, struct state_chain *c, uint64_t version)
{
    for (size_t i = 0; i < c->versions_n; i++)
        if (c->versions[i] == version)
            world_fail(w, "version %llx of a state row was used twice", (unsigned long long)version);
    if (c->versions_n == c->versions_cap) {
        c->versions_cap = c->versions_cap > 0 ? 2 * c->versions_cap : 16;
        c->versions = mem_resize(c->versions, c->versions_cap, sizeof *c->versions);
    }
    c->versions[c->versions_n++] = version;
}

/* A put follows what stood there, as the unit had read it. */
static void step_check(struct world *w, int unit, int group, int key, uint64_t count,
                       const struct state_step *last)
{
    const struct unit *u = model_unit(w, unit);
    const struct state_ask *p = NULL;
    bool present = last != NULL && last->present;
    for (uint32_t i = 0; i < u->puts_n; i++)
        if (u->puts[i].group == group && u->puts[i].key == key && !u->puts[i].remove)
            p = &u->puts[i];
    if (p == NULL || p->count != count)
        world_fail(w, "unit %d put another state", unit);
    else if (p->version != (present ? last->version : 0))
        world_fail(w, "unit %d put the state of key %d in group %d on version %llx, and %llx stood there",
                   unit, key, group, (unsigned long long)p->version,
                   (unsigned long long)(present ? last->version : 0));
    else if (count != (present ? last->count : 0) + 1)
        world_fail(w, "the counter of key %d in group %d went from %llu to %llu", key, group,
                   (unsigned long long)(present ? last->count : 0), (unsigned long long)count);
}

static const struct state_ask *ask_of(const struct unit *u, int group, int key)
{
    for (uint32_t i = 0; i < u->puts_n; i++)
        if (u->puts[i].group == group && u->puts[i].key == key)
            return &u->puts[i];
    return NULL;
}

static bool removes(const struct world *w, int unit, int group, int key, uint64_t version)
{
    const struct state_ask *p = ask_of(model_unit(w, unit), group, key);
    return p != NULL && p->remove && p->version == version;
}

/* A row that is new may follow one that was removed in the same turn: its unit was seen in the log, or will be, as it has an output; one that
 * waits for its time is seen last. */
static void removed_before(struct world *w, int unit, int group, int key, struct state_chain *c)
{
    const struct model *o = w->model;
    const struct state_ask *put = ask_of(model_unit(w, unit), group, key);
    uint64_t version = c->at[c->n - 1].version;
    int by = NONE;
    if (put == NULL || put->version != 0)
        return;
    for (size_t i = 0; i < o->seen_n && by == NONE; i++)
        by = removes(w, o->seen_units[i], group, key, version) ? o->seen_units[i] : NONE;
    for (size_t i = 0; i < o->units_n && by == NONE; i++)
        if (o->units[i]->outcome == OUTCOME_UNKNOWN && !o->units[i]->applied && removes(w, (int)i, group, key, version))
            by = (int)i;
    if (by == NONE)
        return;
    model_unit_seen(w, by);
    step_add(c, (struct state_step){.turn = o->turn, .unit = by});
}

void model_state_row(struct world *w, struct view key, const struct view *value)
{
    int group, k, unit;
    unsigned long long count;
    struct state_row row;
    struct err e = {0};
    if (!slot_of(w, key, &group, &k))
        return;
    struct state_chain *c = &w->model->state[group][k];
    const struct state_step *last = c->n > 0 ? &c->at[c->n - 1] : NULL;
    if (value == NULL) {
        w->model->state_removed = true;
        step_add(c, (struct state_step){.turn = w->model->turn, .unit = NONE});
        return;
    }
    if (state_row_get(*value, &row, &e) != E_OK || !view_eq(row.key, key_name(k)) ||
        !value_read(row.value, &count, &unit)) {
        world_fail(w, "a state row does not read");
        return;
    }
    if (last != NULL && last->present)
        removed_before(w, unit, group, k, c);
    last = c->n > 0 ? &c->at[c->n - 1] : NULL;
    step_check(w, unit, group, k, count, last);
    version_add(w, c, row.version);
    step_add(
        c,
        (struct state_step){
            .present = true, .version = row.version, .count = count, .turn = w->model->turn, .unit = unit});
    model_unit_seen(w, unit);
}

/* What is told may be older than what stands there now, and newer than what is written while the disk is full. */
void model_state_told(struct world *w, int group, int key, bool found, uint64_t version, struct view value,
                      uint64_t *count)
{
    const struct state_chain *c = &w->model->state[group][key];
    unsigned long long n = 0;
    int unit;
    if (found && !value_read(value, &n, &unit))
        world_fail(w, "a client was told a state that nobody put");
    for (size_t i = 0; i < c->n && found; i++)
        if (c->at[i].present && c->at[i].version == version && c->at[i].count != n)
            world_fail(w, "a client was told %llu for version %llx, which is %llu", n,
                       (unsigned long long)version, (unsigned long long)c->at[i].count);
    *count = n;
}

/* ---------------------------------------------------------------- after a crash */

void model_units_cut(struct world *w)
{
    for (size_t i = 0; i < w->model->units_n; i++)
        w->model->units[i]->vague |= w->model->units[i]->applied, w->model->units[i]->applied = false;
}

/* What stands there now is what stood there once, and nothing that is known to be on disk was after it. */
static void chain_again(struct world *w, int group, int key)
{
    struct state_chain *c = &w->model->state[group][key];
    struct key k = key_state(w->model->group_ids[group], state_key_hash(key_name(key)));
    struct buf value = {0};
    struct state_row row = {0};
    struct err e = {0};
    bool found = false;
    if (store_get(w->mem, FAM_STATE, key_view(&k), &value, &found, &e) != E_OK ||
        (found && state_row_get(buf_view(&value), &row, &e) != E_OK))
        world_fail(w, "a state row does not read: %s", e.text);
    size_t n = c->n;
    while (n > 0 && (c->at[n - 1].present != found || (found && c->at[n - 1].version != row.version))) {
        int unit = c->at[--n].unit;
        if (unit != NONE && w->model->units[unit]->outcome == OUTCOME_OK)
            world_fail(w, "the state that unit %d put for key %d in group %d is gone", unit, key, group);
    }
    if (found && n == 0)
        world_fail(w, "key %d in group %d has a state that it never had", key, group);
    c->n = n;
    for (size_t i = 0; i < n; i++)
        model_unit_seen(w, c->at[i].unit);
    buf_free(&value);
}

void model_units_again(struct world *w)
{
    struct model *o = w->model;
    for (int g = 0; g < GROUPS; g++)
        for (int k = 0; k < KEYS; k++)
            chain_again(w, g, k);
    o->seen_n = 0;
    for (size_t i = 0; i < o->units_n && !w->failed; i++) {
        struct unit *u = o->units[i];
        u->vague &= !u->applied && !unit_lasts(w, u);
        if (u->applied)
            unit_check(w, (int)i, false);
        else if (u->outcome == OUTCOME_OK && unit_shows(u) && unit_lasts(w, u))
            world_fail(w, "unit %zu was answered ok, and after the crash nothing of it is there", i);
    }
}

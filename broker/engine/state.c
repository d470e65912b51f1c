/* State rows: what handlers remember between the messages of a key, written in the unit that acknowledges.
 *
 * A put is conditional on the version that was read, so two that work on the same row at once do not overwrite each other: the later
 * unit is refused whole, as a conflict. A version is never used twice, so a row that was removed and made again is another one.
 */
#include "engine/memory.h"
#include "base/planted.h"
#include "schemas/records.h"

/* The row of `key` as this turn sees it; false: there is none, or the engine failed. Its views are good until the next row is read. */
static bool state_read(struct engine *en, uint32_t group, struct view key, struct state_row *row)
{
    struct key k = key_state(group, state_key_hash(key));
    struct view v;
    struct err e = {0};
    if (!row_read(en, FAM_STATE, &k, &v))
        return false;
    if (state_row_get(v, row, &e) == E_OK)
        return true;
    row_fail(en, FAM_STATE, key_view(&k), &e);
    return false;
}

static int state_check_one(struct engine *en, const struct wire_state_put *s)
{
    struct state_row row;
    if (map_get(&en->groups, s->group) == NULL)
        return E_GROUP_NOT_FOUND;
    if (!state_read(en, s->group, s->key, &row))
        return s->version == 0 ? E_OK : E_CONFLICT;
    if (PLANTED(state_version_unchecked))
        return E_OK;
    return row.version == s->version && view_eq(row.key, s->key) ? E_OK : E_CONFLICT;
}

int state_check(struct engine *en, const struct wire_state_put *puts, uint32_t n)
{
    struct map seen = {0};
    int code = E_OK;
    for (uint32_t i = 0; i < n && code == E_OK; i++) {
        code = state_check_one(en, &puts[i]);
        if (n > 1 && code == E_OK) {
            uint64_t id = state_key_hash(puts[i].key).lo + puts[i].group;
            if (map_get(&seen, id) != NULL)
                code = E_INVALID_ARGUMENT; /* which of the two would hold? */
            map_put(&seen, id, en);
        }
    }
    map_free(&seen);
    return code;
}

void state_put(struct engine *en, const struct wire_state_put *s)
{
    struct group *g = map_get(&en->groups, s->group);
    struct key k = key_state(s->group, state_key_hash(s->key));
    if (s->remove) {
        row_remove(en, FAM_STATE, &k);
        return;
    }
    buf_clear(&en->row);
    uint64_t version = PLANTED(state_version_reused) ? s->version + 1 : (uint64_t)en->epoch << 40 | ++en->token_last;
    state_row_put(&en->row, &(struct state_row){.version = version, .key = s->key, .value = s->value});
    row_put(en, FAM_STATE, &k);
    en->counters.state_puts++;
    g->has_state = true;
}

int state_load(struct engine *en, struct group *g, struct err *e)
{
    struct key prefix = key_group_prefix(g->id);
    struct store_iter *it = store_iter(en->store, FAM_STATE);
    store_iter_seek(it, key_view(&prefix));
    g->has_state = store_iter_valid(it) && key_has_prefix(store_iter_key(it), &prefix);
    int code = store_iter_status(it, e);
    store_iter_close(it);
    return code;
}

void state_get(struct engine *en, struct op *op)
{
    const struct wire_state_get *q = &op->request.state_get;
    struct state_row row;
    if (map_get(&en->groups, q->group) == NULL) {
        answer(en, op, E_GROUP_NOT_FOUND, "group id %u", q->group);
        return;
    }
    op->reply.body = BODY_STATE;
    if (state_read(en, q->group, q->key, &row) && view_eq(row.key, q->key)) {
        uint8_t *copy = op_take(en, op, row.value.size, 1);
        if (row.value.size > 0)
            memcpy(copy, row.value.data, row.value.size);
        op->reply.state = (struct wire_state_reply){.found = true, .version = row.version, .value = view_of(copy, row.value.size)};
    }
    answer_now(en, op);
}

/* The check of settle: every item says something that can be done, before anything of the request is. */
#include <stdio.h>

#include "api/checks.h"

/* Text that is kept with a parked message. */
enum { REASON_BYTES_MAX = 200, ERROR_BYTES_MAX = 4096 };

struct items {
    const char *of; /* "singles", or "units[3].items" */
    const struct wire_settle_item *at;
    uint32_t n;
};

static int check_item(struct api *a, const struct wire_settle *s, const struct wire_settle_item *i,
                      struct err *e)
{
    const struct engine_limits *l = a->limits;
    if (i->verb < SETTLE_ACK || i->verb > SETTLE_EXTEND)
        return err_set(e, E_INVALID_ARGUMENT, "verb %u is none of 1 ack, 2 nack, 3 park, 4 release, 5 extend",
                       i->verb);
    if ((i->flags & ~SETTLE_HAS_DELAY) != 0)
        return err_set(e, E_INVALID_ARGUMENT, "flags 0x%02x are not known", i->flags);
    if (i->note > s->notes_n)
        return err_set(e, E_INVALID_ARGUMENT, "note %u of %u", i->note, s->notes_n);
    if (i->verb == SETTLE_EXTEND)
        return check_at_most("delay_ms", i->delay_ms, "lease_ms_max", l->lease_ms_max, e);
    return check_at_most("delay_ms", i->delay_ms, "delay_ms_max", l->delay_ms_max, e);
}

static int check_items(struct api *a, const struct wire_settle *s, struct items items, struct err *e)
{
    for (uint32_t i = 0; i < items.n; i++)
        if (check_item(a, s, &items.at[i], e) != E_OK)
            return err_prefix(e, "settle.%s[%u]", items.of, i);
    return E_OK;
}

static int check_state(struct api *a, const struct wire_unit *unit, struct err *e)
{
    for (uint32_t i = 0; i < unit->state_n; i++) {
        int code = check_at_most("key", unit->state[i].key.size, "of bytes", WIRE_KEY_MAX, e);
        if (code == E_OK)
            code = check_at_most("value", unit->state[i].value.size, "state_bytes_max", a->limits->state_bytes_max, e);
        if (code != E_OK)
            return err_prefix(e, "state[%u]", i);
    }
    return E_OK;
}

static int check_unit(struct api *a, struct op *op, uint32_t u, struct op_batch *batches, struct err *e)
{
    const struct wire_settle *s = &op->request.settle;
    const struct wire_unit *unit = &s->units[u];
    char of[32];
    snprintf(of, sizeof of, "units[%u].items", u);
    int code = check_items(a, s, (struct items){of, unit->items, unit->items_n}, e);
    for (uint32_t i = 0; i < unit->produces_n && code == E_OK; i++)
        if ((code = check_produced(a, op, &unit->produces[i], &batches[i], e)) != E_OK)
            err_prefix(e, "settle.units[%u].produces[%u]", u, i);
    if (code == E_OK && (code = check_state(a, unit, e)) != E_OK)
        err_prefix(e, "settle.units[%u]", u);
    return code;
}

static int check_notes(const struct wire_settle *s, struct err *e)
{
    for (uint32_t i = 0; i < s->notes_n; i++) {
        const struct wire_note *n = &s->notes[i];
        if (n->reason.size > REASON_BYTES_MAX)
            return err_set(e, E_LIMIT, "settle.notes[%u].reason has %zu bytes, the limit is %d", i,
                           n->reason.size, REASON_BYTES_MAX);
        if (n->error.size > ERROR_BYTES_MAX)
            return err_set(e, E_LIMIT, "settle.notes[%u].error has %zu bytes, the limit is %d", i,
                           n->error.size, ERROR_BYTES_MAX);
    }
    return E_OK;
}

/* The receive that a settle carries stands in decoded memory that is not ours to change. */
static int check_carried(struct api *a, struct op *op, struct err *e)
{
    struct wire_receive *copy = arena_take(&op->arena, sizeof *copy);
    if (copy == NULL)
        return err_set(e, E_NO_MEMORY, "settle.receive");
    *copy = *op->request.settle.receive;
    op->request.settle.receive = copy;
    return check_receive_args(a, copy, "settle.receive", e);
}

int check_settle(struct api *a, struct op *op, struct err *e)
{
    const struct wire_settle *s = &op->request.settle;
    uint64_t items = s->singles_n, produces = 0;
    for (uint32_t u = 0; u < s->units_n; u++)
        items += s->units[u].items_n + s->units[u].state_n, produces += s->units[u].produces_n;
    if (items + produces == 0 && s->receive == NULL)
        return err_set(e, E_INVALID_ARGUMENT, "settle has no items");
    int code = check_at_most("settle.items_n", items, "WIRE_ITEMS_MAX", WIRE_ITEMS_MAX, e);
    if (code == E_OK)
        code = check_at_most("settle.units_n", s->units_n, "WIRE_UNITS_MAX", WIRE_UNITS_MAX, e);
    if (code == E_OK)
        code = check_notes(s, e);
    if (code == E_OK)
        code = check_items(a, s, (struct items){"singles", s->singles, s->singles_n}, e);
    if (code == E_OK)
        code = check_at_most("settle.produces_n", produces, "WIRE_ITEMS_MAX", WIRE_ITEMS_MAX, e);
    struct op_batch *batches = NULL;
    if (code == E_OK && produces > 0 && (batches = arena_take(&op->arena, produces * sizeof *batches)) == NULL)
        return err_set(e, E_TOO_LARGE, "settle: %llu produces", (unsigned long long)produces);
    op->unit_batches = batches;
    for (uint32_t u = 0; code == E_OK && u < s->units_n; u++) {
        code = check_unit(a, op, u, batches, e);
        if (batches != NULL)
            batches += s->units[u].produces_n;
    }
    if (code == E_OK && s->receive != NULL)
        code = check_carried(a, op, e);
    return code;
}

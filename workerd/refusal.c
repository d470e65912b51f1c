#include "workerd/refusal.h"

#include <stdbool.h>

#include "schemas/errors.h"

static uint32_t place_of(const struct task *t)
{
    uint64_t mixed = (t->offset * UINT64_C(0x9e3779b97f4a7c15)) ^ ((uint64_t)t->handler << 32 | t->partition);
    return (uint32_t)((mixed * UINT64_C(0xff51afd7ed558ccd)) >> 32) % CONFLICTS_PLACES;
}

static bool is_of(const struct conflicts *c, uint32_t place, const struct task *t)
{
    return c->places[place].n > 0 && c->places[place].handler == t->handler &&
           c->places[place].partition == t->partition && c->places[place].offset == t->offset;
}

static enum refusal count_conflict(struct conflicts *c, const struct task *t)
{
    uint32_t at = place_of(t);
    if (!is_of(c, at, t)) {
        c->places[at].handler = t->handler;
        c->places[at].partition = t->partition;
        c->places[at].offset = t->offset;
        c->places[at].n = 0;
    }
    if (++c->places[at].n < CONFLICTS_MAX)
        return REFUSAL_RELEASE;
    c->places[at].n = 0;
    return REFUSAL_FAIL;
}

enum refusal refusal_judge(struct conflicts *c, const struct task *t, enum outcome_verb verb, int code)
{
    bool unit = verb == OUTCOME_ACK && t->effects != NULL;
    switch (code) {
    case E_QUEUE_FULL:
    case E_AGAIN:
    case E_NO_MEMORY:
    case E_OVERLOADED:
    case E_DISK_FULL:
    case E_SHUTTING_DOWN:
    case E_UNREACHABLE:
    case E_OUT_OF_ORDER: /* one before it in its run is not settled yet; that comes, or the lease is lost */
        return REFUSAL_AGAIN;
    case E_CONFLICT:
        return unit ? count_conflict(c, t) : REFUSAL_LOST;
    case E_LEASE_LOST:
    case E_TIMEOUT: /* it may have been done */
    case E_CLOSED:
        return REFUSAL_LOST;
    default:
        return unit && !error_fatal(code) ? REFUSAL_FAIL : REFUSAL_LOST;
    }
}

void conflicts_forget(struct conflicts *c, const struct task *t)
{
    uint32_t at = place_of(t);
    if (is_of(c, at, t))
        c->places[at].n = 0;
}

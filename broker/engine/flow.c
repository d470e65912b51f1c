/* Limits of handing out: how fast messages of a group, and of each of its keys, may go to receivers, and how many of a key at once.
 *
 * A rate is messages in 1,000 seconds. What was spent comes back as time passes; a second's worth may go at once, and one message in
 * any case. A group over its rate gives nothing until its time. A key at a limit has a head that is throttled: it holds back what is
 * behind it, and no room that others could use. How many of a key are leased is counted in keylimit.c. A key is remembered until nothing of it is spent, also when it has no messages. Nothing of
 * this is on disk: after a restart everything is full again.
 */
#include "engine/memory.h"

enum { MESSAGE = 1000000 /* what one message costs; a millisecond brings `rate_milli` of it */ };

/* A timer looks again at least so often: the rate may have been raised. */
enum { LOOK_AGAIN_MS = 10000 };

static uint64_t spent(const struct flow *f, uint32_t rate_milli, uint64_t now_ms)
{
    uint64_t passed = now_ms - f->at_ms;
    return passed > f->spent / rate_milli ? 0 : f->spent - passed * rate_milli;
}

static uint64_t wait_until_spent(const struct flow *f, uint32_t rate_milli, uint64_t now_ms, uint64_t most)
{
    uint64_t is = spent(f, rate_milli, now_ms);
    return is <= most ? 0 : (is - most + rate_milli - 1) / rate_milli;
}

static uint64_t wait_ms(const struct flow *f, uint32_t rate_milli, uint64_t now_ms)
{
    uint64_t second = (uint64_t)rate_milli * 1000;
    uint64_t ms = rate_milli == 0 ? 0 : wait_until_spent(f, rate_milli, now_ms, second > MESSAGE ? second - MESSAGE : 0);
    return ms < LOOK_AGAIN_MS ? ms : LOOK_AGAIN_MS;
}

static void take(struct flow *f, uint32_t rate_milli, uint64_t now_ms)
{
    if (rate_milli != 0)
        *f = (struct flow){.spent = spent(f, rate_milli, now_ms) + MESSAGE, .at_ms = now_ms};
}

uint64_t flow_wait(const struct engine *en, const struct group *g) { return wait_ms(&g->flow, g->config.rate_milli, en->now.mono_ms); }

uint64_t flow_wait_rate(const struct engine *en, const struct key_queue *k)
{
    return wait_ms(&k->flow, k->group->config.key_rate_milli, en->now.mono_ms);
}

uint64_t flow_wait_key(const struct engine *en, const struct key_queue *k)
{
    uint32_t most = k->group->config.key_in_flight_max;
    return most != 0 && k->leased >= most ? LOOK_AGAIN_MS : flow_wait_rate(en, k);
}

void flow_take(const struct engine *en, struct group *g, struct key_queue *k)
{
    take(&g->flow, g->config.rate_milli, en->now.mono_ms);
    if (k != NULL)
        take(&k->flow, g->config.key_rate_milli, en->now.mono_ms);
}

int flow_check(const struct wire_group_config *c, struct err *e)
{
    if (c->order == ORDER_KEY && c->key_in_flight_max > 1)
        return err_set(e, E_UNSUPPORTED, "key-in-flight-max is %u; in a group of order key it is 1: of a key one message, or one run, is leased at a time",
                       c->key_in_flight_max);
    return E_OK;
}

/* ---------------------------------------------------------------- keys */

void flow_look(struct engine *en, struct key_queue *k)
{
    k->group->throttled--;
    entry_ready(en, k->head);
}

static void look_at_key(struct engine *en, struct timer *t)
{
    struct key_queue *k = container_of(t, struct key_queue, timer);
    struct entry *h = k->head;
    if (h != NULL && h->state == ENTRY_THROTTLED)
        flow_look(en, k);
    else
        key_settle(en, k);
}

static void look_later(struct engine *en, struct key_queue *k, uint64_t ms)
{
    timer_set(en, &k->timer, en->now.mono_ms + (ms < LOOK_AGAIN_MS ? ms : LOOK_AGAIN_MS), look_at_key);
}

bool flow_throttles(struct engine *en, struct entry *e)
{
    if (limit_enter(en, e))
        return true;
    uint64_t ms = e->key != NULL ? flow_wait_key(en, e->key) : 0;
    if (ms == 0)
        return false;
    e->state = ENTRY_THROTTLED;
    e->part->group->throttled++;
    look_later(en, e->key, ms);
    return true;
}

bool flow_remembers(struct engine *en, struct key_queue *k)
{
    uint32_t rate = k->group->config.key_rate_milli;
    uint64_t ms = rate != 0 ? wait_until_spent(&k->flow, rate, en->now.mono_ms, 0) : 0;
    if (ms > 0)
        look_later(en, k, ms);
    return ms > 0;
}

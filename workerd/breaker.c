#include "workerd/breaker.h"

#include <assert.h>

void breaker_init(struct breaker *b, const struct breaker_config *config, uint64_t seed, uint64_t now_ms)
{
    *b = (struct breaker){.config = *config, .state = BREAKER_CLOSED, .since_ms = now_ms};
    assert(!config->on || (config->window >= 2 && config->window <= BREAKER_WINDOW_MAX));
    rng_seed(&b->rng, seed);
}

void breaker_configure(struct breaker *b, const struct breaker_config *config, uint64_t now_ms)
{
    const struct breaker_config *was = &b->config;
    uint64_t opened = b->opened;
    if (was->on == config->on && was->window == config->window && was->percent == config->percent &&
        was->pause_ms == config->pause_ms && was->pause_ms_max == config->pause_ms_max)
        return;
    breaker_init(b, config, rng_next(&b->rng), now_ms);
    b->opened = opened;
}

/* ---- the window ---- */

static void drop_first(struct breaker *b)
{
    b->failed -= b->verdicts[b->first].failed;
    b->first = (b->first + 1) % BREAKER_WINDOW_MAX;
    b->count--;
}

static void remember(struct breaker *b, bool failed, uint64_t now_ms)
{
    while (b->count > 0 && b->verdicts[b->first].at_ms + BREAKER_AGE_MS <= now_ms)
        drop_first(b);
    if (b->count == b->config.window)
        drop_first(b);
    uint32_t at = (b->first + b->count) % BREAKER_WINDOW_MAX;
    b->verdicts[at].at_ms = now_ms;
    b->verdicts[at].failed = failed;
    b->count++;
    b->failed += failed;
}

static bool nearly_all_failed(const struct breaker *b)
{
    return b->count >= (b->config.window + 1) / 2 && 100 * b->failed >= b->config.percent * b->count;
}

/* ---- the states ---- */

static void come_to(struct breaker *b, enum breaker_state state, uint64_t now_ms)
{
    b->state = state;
    b->since_ms = now_ms;
    b->probing = false;
    if (state != BREAKER_OPEN) /* why it opened may be asked while it is */
        b->first = b->count = b->failed = 0;
}

/* Half of the pause is certain, the other half is left to chance. */
static void open_breaker(struct breaker *b, uint64_t now_ms)
{
    uint64_t pause = b->config.pause_ms;
    for (uint32_t i = 0; i < b->pauses && pause < b->config.pause_ms_max; i++)
        pause *= 2;
    if (pause > b->config.pause_ms_max)
        pause = b->config.pause_ms_max;
    come_to(b, BREAKER_OPEN, now_ms);
    b->pauses++;
    b->opened++;
    b->pause_ms = (uint32_t)rng_between(&b->rng, (pause + 1) / 2, pause);
    b->until_ms = now_ms + b->pause_ms;
}

static bool verdict_in_closed(struct breaker *b, enum breaker_verdict v, uint64_t now_ms)
{
    if (v == BREAKER_MUTE)
        return false;
    /* A probe that went well may have had luck: only a good time makes the next pause a short one again. */
    if (now_ms - b->since_ms >= b->config.pause_ms_max)
        b->pauses = 0;
    remember(b, v == BREAKER_FAILED, now_ms);
    if (v == BREAKER_OK || !nearly_all_failed(b))
        return false;
    open_breaker(b, now_ms);
    return true;
}

static bool verdict_on_probe(struct breaker *b, enum breaker_verdict v, uint64_t now_ms)
{
    b->probing = false;
    if (v == BREAKER_MUTE)
        return false; /* another one is to be the probe */
    if (v == BREAKER_OK)
        come_to(b, BREAKER_CLOSED, now_ms);
    else
        open_breaker(b, now_ms);
    return true;
}

bool breaker_verdict(struct breaker *b, enum breaker_verdict v, bool probe, uint64_t now_ms)
{
    if (!b->config.on)
        return false;
    if (b->state == BREAKER_CLOSED)
        return verdict_in_closed(b, v, now_ms);
    return b->state == BREAKER_HALF_OPEN && probe && verdict_on_probe(b, v, now_ms);
}

bool breaker_step(struct breaker *b, uint64_t now_ms)
{
    if (b->state != BREAKER_OPEN || now_ms < b->until_ms)
        return false;
    come_to(b, BREAKER_HALF_OPEN, now_ms);
    return true;
}

uint64_t breaker_due_ms(const struct breaker *b)
{
    return b->state == BREAKER_OPEN ? b->until_ms : UINT64_MAX;
}

uint32_t breaker_room(const struct breaker *b)
{
    if (b->state == BREAKER_CLOSED)
        return UINT32_MAX;
    return b->state == BREAKER_HALF_OPEN && !b->probing;
}

void breaker_probe(struct breaker *b)
{
    assert(b->state == BREAKER_HALF_OPEN && !b->probing);
    b->probing = true;
}

const char *breaker_state_name(enum breaker_state s)
{
    static const char *const names[] = {"closed", "open", "half-open"};
    return names[s];
}

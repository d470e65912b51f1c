#include "workerd/heard.h"

void heard_published(struct heard *h, const struct lag *lag, uint64_t now_ms)
{
    *h = (struct heard){.good = true, .any = true, .at_ms = now_ms, .lag = *lag};
}

void heard_lost(struct heard *h)
{
    *h = (struct heard){.good = false};
}

void heard_asked(struct heard *h, const struct lag *lag, uint64_t now_ms)
{
    h->good = h->any && lag->backlog == h->lag.backlog && lag->in_flight == h->lag.in_flight;
    if (h->good)
        h->at_ms = now_ms;
}

enum heard_way heard_judge(const struct heard *h, uint64_t asked_ms, uint64_t now_ms)
{
    if (!h->good || asked_ms > h->at_ms + HEARD_YOUNG_MS)
        return HEARD_ASK;
    uint64_t age_ms = now_ms > h->at_ms ? now_ms - h->at_ms : 0;
    if (!h->told && age_ms <= HEARD_YOUNG_MS)
        return HEARD_ANSWER;
    if (now_ms < heard_due_ms(asked_ms))
        return HEARD_WAIT;
    return age_ms <= HEARD_YOUNG_MS ? HEARD_ANSWER : HEARD_ASK;
}

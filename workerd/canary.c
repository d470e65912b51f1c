#include "workerd/canary.h"

#include "base/hash.h"

/* Another than that of partitions, or the keys of one of them would be in it, all of them. */
static const uint64_t SEED = UINT64_C(0xca9a57);

bool canary_takes(uint32_t percent, struct view key, uint32_t partition, uint64_t offset)
{
    uint8_t place[12];
    put_u32(place, partition);
    put_u64(place + 4, offset);
    struct view v = key.data != NULL ? key : view_of(place, sizeof place);
    return hash_bytes(v.data, v.size, SEED) % 100 < percent;
}

void canary_verdict(struct canary *c, bool of_new, bool failed)
{
    uint64_t *n = of_new ? &c->new_one.n : &c->old_one.n;
    uint64_t *of_failed = of_new ? &c->new_one.failed : &c->old_one.failed;
    ++*n;
    *of_failed += failed;
}

/* Compared as squares: (failed - n p)^2 > 16 n p (1 - p). One failure and one success are added to what the old version did, as it may
   have done little yet. */
static bool fails_more(const struct canary *c)
{
    double n = (double)c->new_one.n, failed = (double)c->new_one.failed;
    double p = ((double)c->old_one.failed + 1) / ((double)c->old_one.n + 2);
    double more = failed - n * p;
    return c->new_one.failed >= CANARY_FAILED_MIN && more > 0 && more * more > 16 * n * p * (1 - p);
}

enum canary_decision canary_decide(const struct canary *c, uint64_t now_ms)
{
    uint64_t age = now_ms - c->since_ms;
    if (fails_more(c))
        return CANARY_ROLL_BACK;
    bool enough = c->new_one.n >= CANARY_TASKS_MIN || age >= (uint64_t)CANARY_TIMES_MAX * c->time_ms;
    return age >= c->time_ms && enough ? CANARY_PROMOTE : CANARY_WAIT;
}

uint64_t canary_due_ms(const struct canary *c, uint64_t now_ms)
{
    uint64_t first = c->since_ms + c->time_ms, last = c->since_ms + (uint64_t)CANARY_TIMES_MAX * c->time_ms;
    return now_ms < first ? first : last;
}

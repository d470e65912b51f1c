#include "sdk/budget.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

#include "base/clock.h"

enum { ASIDE_PART = 8 }; /* one in so many bytes is set aside */

void budget_init(struct budget *b, size_t max, void (*freed)(struct budget *b))
{
    *b = (struct budget){.max = max, .bulk_max = max - max / ASIDE_PART, .freed = freed};
    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&b->freed_cond, &attr);
    pthread_condattr_destroy(&attr);
}

void budget_free(struct budget *b)
{
    assert(atomic_load(&b->used) == 0);
    pthread_cond_destroy(&b->freed_cond);
    pthread_mutex_destroy(&b->lock);
}

bool budget_take(struct budget *b, size_t bytes)
{
    size_t used = atomic_load(&b->used);
    do {
        if (used > b->bulk_max || bytes > b->bulk_max - used)
            return false;
    } while (!atomic_compare_exchange_weak(&b->used, &used, used + bytes));
    return true;
}

bool budget_wait(struct budget *b, size_t bytes, uint64_t deadline_ns)
{
    if (budget_take(b, bytes))
        return true;
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                             .tv_nsec = (long)(deadline_ns % 1000000000u)};
    bool taken = false;
    pthread_mutex_lock(&b->lock);
    atomic_fetch_add(&b->waiting, 1);
    /* A give between the look and the sleep sees `waiting` and then has to wait for the lock. */
    while (!(taken = budget_take(b, bytes))) {
        if (pthread_cond_timedwait(&b->freed_cond, &b->lock, &until) == ETIMEDOUT) {
            taken = budget_take(b, bytes);
            break;
        }
    }
    atomic_fetch_sub(&b->waiting, 1);
    pthread_mutex_unlock(&b->lock);
    return taken;
}

void budget_charge(struct budget *b, size_t bytes)
{
    atomic_fetch_add(&b->used, bytes);
}

void budget_give(struct budget *b, size_t bytes)
{
    if (bytes == 0)
        return;
    size_t before = atomic_fetch_sub(&b->used, bytes);
    assert(before >= bytes);
    (void)before;
    if (atomic_load(&b->waiting) > 0) {
        pthread_mutex_lock(&b->lock);
        pthread_cond_broadcast(&b->freed_cond);
        pthread_mutex_unlock(&b->lock);
    }
    if (atomic_load(&b->wanted) && atomic_exchange(&b->wanted, false))
        b->freed(b);
}

size_t budget_room(struct budget *b)
{
    size_t used = atomic_load(&b->used);
    return used < b->bulk_max ? b->bulk_max - used : 0;
}

void budget_want(struct budget *b)
{
    atomic_store(&b->wanted, true);
}

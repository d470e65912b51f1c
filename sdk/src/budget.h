/*
 * The memory cap of a client: one counter of all bytes it holds for messages.
 *
 *     0 ............................................... bulk_max ............ max
 *     unsent and unconfirmed messages, received batches  |  set aside: settling, frames on their way, answers
 *
 * Bulk is refused beyond bulk_max, so that a client that is full of messages can still settle and send: that is how it gets
 * empty again. What has already come from the broker is counted, never refused: the asking was bounded.
 *
 * Any thread.
 */
#ifndef SDK_BUDGET_H
#define SDK_BUDGET_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct budget {
    atomic_size_t used;
    atomic_uint waiting;  /* threads in budget_wait */
    atomic_bool wanted;   /* `freed` is to be called at the next give */
    pthread_mutex_t lock; /* for sleeping only */
    pthread_cond_t freed_cond;
    /* never changes */
    size_t max, bulk_max;
    void (*freed)(struct budget *b);
};

/* `freed` is called, by any thread, after bytes were given back following budget_want. */
void budget_init(struct budget *b, size_t max, void (*freed)(struct budget *b));
void budget_free(struct budget *b);

/* Takes `bytes` of bulk, or false. */
bool budget_take(struct budget *b, size_t bytes) MUST_USE;

/* As budget_take, but sleeps for room until a monotonic time; false when that has come. */
bool budget_wait(struct budget *b, size_t bytes, uint64_t deadline_ns) MUST_USE;

/* Counts bytes that are there already. */
void budget_charge(struct budget *b, size_t bytes);

/* Gives back what was taken or charged. */
void budget_give(struct budget *b, size_t bytes);

/* Bytes of bulk that could be taken now. */
size_t budget_room(struct budget *b);

/* Asks for one call of `freed`. */
void budget_want(struct budget *b);

/* Bytes set aside for what is not bulk. */
static inline size_t budget_aside(const struct budget *b)
{
    return b->max - b->bulk_max;
}

#endif

/*
 * Messages that were leased before anybody asked for them: those that a line has in stock, in the order in which they came.
 *
 *     answer ──> shelf: [handed out | next ........ ]
 *     answer ──> shelf: [next ..................... ]
 *
 * A shelf holds its answer. What lies for half of its lease is given back: whoever gets a message has most of its time for it.
 * The loop's thread.
 */
#ifndef SDK_STOCK_H
#define SDK_STOCK_H

#include "base/list.h"
#include "sdk/answer.h"

struct sluice;

struct shelf {
    struct list_node node;
    struct answer *answer;
    const struct wire_delivery *delivery;
    uint32_t next;     /* its first record that is here */
    size_t at;         /* where that one's bytes begin */
    uint64_t until_ns; /* then it is given back */
};

struct stock {
    struct list shelves;
    uint64_t messages;
};

void stock_init(struct stock *k);

/* The records of `d`, which is part of `a`, from `next` on. */
void stock_add(struct stock *k, struct answer *a, const struct wire_delivery *d, uint32_t next, size_t at, uint64_t until_ns);

/* The first shelf; NULL: there is nothing. */
struct shelf *stock_first(const struct stock *k);

/* The first shelf's records before `next` went, and it goes with its last. */
void stock_took(struct stock *k, uint32_t next, size_t at);

/* Gives back what lies until then or for less long. False: nothing does. */
bool stock_return(struct sluice *s, struct stock *k, uint64_t until_ns);

/* Forgets everything: the session is over, and its leases with it. */
void stock_drop(struct stock *k);

/* Gives back the records of a delivery from `first` on. */
void delivery_return(struct sluice *s, const struct wire_delivery *d, uint32_t first);

#endif

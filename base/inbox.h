/*
 * From many threads to one: producers push nodes embedded in their structs, the consumer takes all
 * there are, in the order in which they were pushed.
 *
 *     producers                         consumer
 *     push push push --> [ n n n n ] --> drain: the whole chain at once
 *                                        wait:  sleep until there is something, or a deadline
 *
 * Waking a sleeper costs a system call; so it is made only by the push that finds the inbox empty
 * and the consumer asleep. Each node says how many bytes it stands for; the sum of what was pushed
 * and not drained is known, and bounded for those who use inbox_offer.
 *
 * Push, offer, leave, rouse, wake and bytes: any thread. Everything else: the consumer. A pushed node belongs to
 * the inbox until drained.
 */
#ifndef BASE_INBOX_H
#define BASE_INBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct inbox_node {
    struct inbox_node *next;
    size_t bytes;
};

struct inbox {
    /* shared, under lock */
    pthread_mutex_t lock;
    struct inbox_node *first;
    struct inbox_node **last; /* where the next node is hung in */
    size_t bytes;
    bool asleep;    /* the consumer waits, or is about to */
    bool woken;     /* inbox_wake was called and no wait has ended since */
    bool signalled; /* fd was made readable and not read since */
    /* never changes */
    size_t bytes_max;
    int fd; /* an eventfd: readable while a sleeper has a reason to get up */
};

/* `bytes_max` bounds inbox_offer; 0: no bound. Returns 0, or an errno with a text. Every call of a
   success is paired with inbox_free. */
int inbox_init(struct inbox *in, size_t bytes_max, struct err *e);

/* Nobody may use the inbox any more and it must be empty. */
void inbox_free(struct inbox *in);

/* Puts a node that stands for `bytes` bytes. Always succeeds. */
void inbox_push(struct inbox *in, struct inbox_node *n, size_t bytes);

/* As inbox_push, but false, and the node stays the caller's, if the sum would pass bytes_max. A
   node that is larger than the bound alone is taken when the inbox is empty. */
bool inbox_offer(struct inbox *in, struct inbox_node *n, size_t bytes) MUST_USE;

/* As inbox_offer, but lets a sleeping consumer sleep: whoever calls it takes the consumer's part soon, or calls inbox_rouse. */
bool inbox_leave(struct inbox *in, struct inbox_node *n, size_t bytes) MUST_USE;
void inbox_rouse(struct inbox *in); /* gets the consumer up if there is something to drain */

/* Gets the consumer up without a node: its present wait, or else its next one, returns at once. */
void inbox_wake(struct inbox *in);

/* Takes everything: the first node, the others behind it by `next`, the last one's NULL. NULL if
   there is nothing. */
struct inbox_node *inbox_drain(struct inbox *in);

/* Sleeps until there is a node, inbox_wake is called, or monotonic time reaches `deadline_ns`
   (UINT64_MAX: never). True if there is something to drain. Returns at once if there already is. */
bool inbox_wait(struct inbox *in, uint64_t deadline_ns);

/* Bytes pushed and not drained. */
size_t inbox_bytes(struct inbox *in);

/*
 * inbox_wait in pieces, for a consumer that sleeps in a poll of its own, on other descriptors too:
 *
 *     if (inbox_arm(in))        false: there is something already, do not sleep
 *         poll(...inbox_fd...)
 *     inbox_disarm(in);         always, before the next drain
 */
int inbox_fd(const struct inbox *in);
bool inbox_arm(struct inbox *in) MUST_USE;
void inbox_disarm(struct inbox *in);

#endif

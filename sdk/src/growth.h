/*
 * Topics that get more partitions while messages are on their way to them.
 *
 *     one is refused (WRONG_PARTITION)  ->  ask the broker  \
 *     a lookup finds more partitions    ------------------->  hold the topic's outlets  ->  each lane settled  ->  move
 *
 * Held, nothing new leaves, and what is out is answered: so it is known of each message whether it is in the log. Then the rest, batches that
 * were refused and drafts, is taken apart and put where it belongs now, in order; only then do callers see the new number. So the
 * messages of a key stay in the order in which they were published.
 */
#ifndef SDK_GROWTH_H
#define SDK_GROWTH_H

#include "sdk/producer.h"

/* The broker was found to have more partitions than messages are published by. Any thread. */
void growth_announce(struct sluice *s, struct topic *now);

/* ---- the loop's thread ---- */

/* Asks for the topic as it is now. `now` NULL: it could not be had, and `error` says why. */
typedef void topic_asked_fn(void *user, struct topic *now, const struct sluice_error *error);
void topic_ask(struct sluice *s, const char *name, topic_asked_fn *fn, void *user);

/* A draft's batch was refused, as some of it belongs elsewhere. True: its topic is asked for, and the draft will be moved or sent again. */
bool growth_refused(struct draft *d);

/* Moves what can be moved. */
void growth_step(struct producer *p);
void growths_free(struct producer *p);

#endif

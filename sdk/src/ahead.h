/*
 * The fetches of one reader, of which one may be under way before the reader is asked for more.
 *
 *     call: reader ---- ask ----> flight ====> broker
 *     waits                       landed <==== answer
 *       who waited will be back soon, so at once: flight ====> broker      (the loop's thread, from where the answer ended)
 *     call: finds what has landed, or waits for what is out
 *
 * So the broker nearly always has a fetch of ours to answer: a message does not wait until its reader was woken, read what came and
 * asked again, and what is read from the log's beginning is fetched while what came before is unpacked. Never more than one is out,
 * and one landed; each has its room in the budget, or does not leave by itself.
 */
#ifndef SDK_AHEAD_H
#define SDK_AHEAD_H

#include "sdk/client.h"

struct ahead;

struct ahead *ahead_new(struct sluice *s, const char *topic, uint32_t index, uint32_t partition, uint32_t max_bytes);
/* What is out lands unseen. NULL is fine. */
void ahead_close(struct ahead *a);

/* The answer to a fetch from `offset`, which the caller drops; NULL: nothing came within `wait_ms`. `*denied`: that was before its time,
 * as the broker had no place for one more that waits. Takes from `*room`, which the caller holds of the budget, what it spends. One
 * thread at a time. */
int ahead_fetch(struct ahead *a, uint64_t offset, uint32_t wait_ms, size_t *room, struct answer **out, bool *denied,
                struct sluice_error *err);

#endif

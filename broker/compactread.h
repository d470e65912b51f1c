/* A pass of compaction: what readers do of it, without their threads.
 *
 *     start . . . . . . . . clean . . . . . . . . to . . . . . end
 *       |                     | 1: the last offset of each key  |
 *       | 2: what a later one supersedes, is left out ........  |
 *
 * The keys of the first part lie in memory, as bytes: equal hashes are no equal keys. Where they fill what they may, the pass ends (`to`) and
 * the next one goes on from there. Both parts are done in rounds of some megabytes, so that a reader is never away for long.
 */
#ifndef BROKER_COMPACTREAD_H
#define BROKER_COMPACTREAD_H

#include "engine/engine.h"

/* One round. c->code says how it went: OK; DAMAGED, NO_MEMORY: the pass is over. A store that fails otherwise: that code, `e` filled. */
int compact_round(struct store *s, struct compaction *c, struct err *e);

#endif

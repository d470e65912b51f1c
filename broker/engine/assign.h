/* Who is to own which partition: a pure function. */
#ifndef ENGINE_ASSIGN_H
#define ENGINE_ASSIGN_H

#include <stdbool.h>
#include <stdint.h>

#define ASSIGN_NONE UINT32_MAX

/* `has[p]`: the member that partition p is with now, or ASSIGN_NONE; `firm[p]`: it owns it, else p was only meant for it. What is to be is
 * left in `target`. Afterwards:
 *   - without members nobody has anything; else every partition has a target,
 *   - shares of two members differ by one at most,
 *   - as few partitions as possible leave the member that owns them; of those that stay, none moves.
 * Deterministic; O(members + partitions). */
void assign(uint32_t members, uint32_t partitions, const uint32_t *has, const bool *firm, uint32_t *target);

#endif

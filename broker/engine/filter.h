/* Which held messages a filter means: what their rows say of it, and what their bytes say.
 *
 * Every condition that is given must hold. Any thread: nothing is looked at but the arguments.
 */
#ifndef ENGINE_FILTER_H
#define ENGINE_FILTER_H

#include "store/keys.h"

/* FILTER_BYTES: all that the row can say fits; whether key and headers do, only the message knows. */
enum filter_says { FILTER_NO, FILTER_YES, FILTER_BYTES };

/* NULL: no condition. */
enum filter_says filter_row(const struct wire_held_filter *f, uint32_t partition, uint64_t offset, const struct held_row *row);
bool filter_needs_bytes(const struct wire_held_filter *f);
/* Of a message whose row said FILTER_BYTES: `headers` encoded as in records.h. */
bool filter_bytes(const struct wire_held_filter *f, struct view key, struct view headers);

#endif

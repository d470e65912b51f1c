/*
 * What was probably meant: "unknown key 'retension'; did you mean 'retention'?"
 */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

#include <stddef.h>

/*
 * The one of `count` names that is fewest slips away from `word` (a slip is a letter too many,
 * missing, wrong, or swapped with its neighbour), or NULL if none is near: more than a third of the
 * word's length, at least 1, is far. Of equals the first. Borrowed from `names`. Words over 64
 * bytes have no neighbours. Any thread.
 */
const char *nearest(const char *word, const char *const *names, size_t count);

#endif

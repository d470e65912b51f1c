/*
 * Random bytes from the system, for ids that nobody may guess or meet twice.
 */
#ifndef BASE_ENTROPY_H
#define BASE_ENTROPY_H

#include <stddef.h>

/* Fills `size` bytes. Cannot fail: a system without a source of them ends the process with a
   message. Any thread; may wait early in the boot of a machine. */
void entropy_fill(void *out, size_t size);

#endif

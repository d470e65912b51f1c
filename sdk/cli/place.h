/*
 * A message by its place in a topic, as people write it: "P:O", partition and offset.
 */
#ifndef CLI_PLACE_H
#define CLI_PLACE_H

#include <stdint.h>

#include "base/err.h"

/* Returns 0, or STATUS_USAGE with a text. */
int place_parse(const char *text, uint32_t *partition, uint64_t *offset, struct err *e);

#endif

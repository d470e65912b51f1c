/*
 * What the commands of groups tell of stream groups.
 */
#ifndef CLI_GROUP_STREAM_H
#define CLI_GROUP_STREAM_H

#include <jansson.h>

#include "cli/client.h"

/* Members and partitions: as tables behind what was printed, or with -o json added to the object. Returns the status. */
int group_members(const struct args *a, struct sluice *s, const struct sluice_group *g, json_t *into);

#endif

/*
 * A filter over dead letters, as the user says it, on its way into a request.
 */
#ifndef SDK_FILTER_H
#define SDK_FILTER_H

#include "sdk/client.h"

/* `*to` is NULL if `given` is. INVALID_ARGUMENT, UNSUPPORTED; and those of catalog_topic, for a filter of one message: the wire
 * names partitions by their ids. [blocks then] */
int filter_put(struct sluice *s, struct request *r, const char *topic, const struct sluice_dlq_filter *given,
               const struct wire_held_filter **to, struct sluice_error *err);

/* The id of a partition by its index; PARTITION_NOT_FOUND. [blocks: catalog_topic] */
int partition_id(struct sluice *s, const char *topic, uint32_t index, uint32_t *id, struct sluice_error *err);

#endif

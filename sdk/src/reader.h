/*
 * A reader from the inside: for who fetches for several at once and gives each its part.
 */
#ifndef SDK_READER_H
#define SDK_READER_H

#include "sdk/client.h"

/* Of one partition, from an offset on. Freed by sluice_reader_close. */
struct sluice_reader *reader_new(struct sluice *s, struct topic *t, uint32_t index, uint64_t offset, uint32_t max_bytes);

/* Whether something that was fetched is not read yet. */
bool reader_has(const struct sluice_reader *r);

/* Takes a part of an answer to a fetch from sluice_reader_offset on; 0, or the error that sluice_reader_read would say. */
int reader_take(struct sluice_reader *r, struct answer *a, const struct wire_fetch_part *part, struct sluice_error *err);

/* What was fetched, as far as it goes into one batch; the caller owns `*out`. Errors: GAP does not come here; DAMAGED. */
int reader_read(struct sluice_reader *r, struct sluice_batch **out, struct sluice_error *err);

/* Copies as much of a gap as the caller's struct has; out->size stays. */
void gap_give(const struct sluice_gap *g, struct sluice_gap *out);

/* From now on it reads from `offset`. */
void reader_seek(struct sluice_reader *r, uint64_t offset);

/* What a fetch of `max_bytes` is at most, within the client's memory. */
uint32_t reader_bytes(const struct sluice *s, uint32_t asked);

#endif

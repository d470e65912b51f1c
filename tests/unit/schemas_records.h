/*
 * Records for tests of batches: made from a seed, kept, and compared with what a reader gives back.
 */
#ifndef TESTS_SCHEMAS_RECORDS_H
#define TESTS_SCHEMAS_RECORDS_H

#include "base/rng.h"
#include "schemas/records.h"

struct records {
    struct record *record;
    uint32_t n, cap;
    struct arena bytes;
};

void records_init(struct records *r);
void records_free(struct records *r);

/* Copies the record's bytes. */
void records_add(struct records *r, struct record record);

/* Anything valid: absent and empty keys and values, headers, all the columns or few; values below `value_max` bytes, some of
 * them easy and some impossible to compress. */
void records_random(struct records *r, struct rng *rng, uint32_t n, size_t value_max);

/* The records of the golden batches. */
void records_golden(struct records *r);

/* A batch of them, appended to `out`. Ends the test if it cannot be made. */
struct view records_batch(const struct records *r, enum batch_codec codec, struct buf *out);

bool record_eq(const struct record *a, const struct record *b);

#endif

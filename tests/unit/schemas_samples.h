/*
 * Every struct of the contract, visited field by field: to fill it with samples, or to write down what is in it.
 *
 * Written down, two messages can be compared, and every byte that a decoder let through has been touched.
 */
#ifndef TESTS_SCHEMAS_SAMPLES_H
#define TESTS_SCHEMAS_SAMPLES_H

#include "base/rng.h"
#include "schemas/codec.h"

enum see_mode {
    SEE_FULL,   /* fills every field with a value of its own; the same on every run */
    SEE_RANDOM, /* fills with anything valid, absent and empty things too */
    SEE_WRITE   /* appends a line a field to `out` */
};

struct see {
    enum see_mode mode;
    struct arena *arena; /* where samples live */
    struct rng rng;
    uint64_t n; /* fields seen */
    struct buf out;
};

/* The verb, body or kind is chosen by the caller, all the rest is visited. */
void see_request(struct see *v, struct wire_request *r);
void see_reply(struct see *v, struct wire_reply *r);
void see_packet(struct see *v, struct plugin_packet *p);
void see_columns(struct see *v, struct batch_columns *c); /* written only */

#endif

/*
 * Members of a stream group on a broker that comes and goes, one of which leaves and comes again now and then. In each partition messages are
 * handed out one by one, none is left out, and what a member has committed is handed out to nobody any more.
 */
#ifndef TESTS_STREAMS_H
#define TESTS_STREAMS_H

#include <stdint.h>

struct streams;
struct streams_totals { uint64_t handed_out, again, commits, joins; };

/* Makes the group; `topic` is there, and lent. Fails the test when it cannot. */
struct streams *streams_start(const char *url, const char *topic, uint32_t partitions, uint64_t seed);
/* Nothing more is published: everything is handed out and committed. */
void streams_finish(struct streams *x, uint32_t timeout_ms);
const char *streams_wrong(struct streams *x); /* NULL: nothing */
struct streams_totals streams_totals(const struct streams *x);
void streams_free(struct streams *x);

#endif

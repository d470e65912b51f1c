/*
 * Messages that wait for their time on a broker that comes and goes: published with a delay or a time, some of them moved, some
 * cancelled. What was acknowledged is in the log once, not before its time; what was cancelled is never there.
 */
#ifndef TESTS_LATER_H
#define TESTS_LATER_H

#include <stdint.h>

struct later;
struct later_totals { uint64_t published, cancelled, moved; };

/* Makes the topic, and starts the thread that publishes. Fails the test when it cannot. */
struct later *later_start(const char *url, uint64_t seed);
/* Reads what is new in the log. */
void later_read(struct later *l);
/* Nothing more is published, and what was comes. */
void later_finish(struct later *l, uint32_t timeout_ms);
const char *later_wrong(struct later *l); /* NULL: nothing */
struct later_totals later_totals(const struct later *l);
void later_free(struct later *l);

#endif

/*
 * Messages that are put aside, on a broker that comes and goes: some are parked and redriven, some are nacked with a delay, some are held
 * for a while, over a restart if it comes. Each is acknowledged in the end, once.
 *
 *      new --delivered--> out --ack--> acking --confirmed--> done
 *                        ^ ^ |
 *      not before a time | | | nack with a delay
 *                        | | v
 *                        | waits
 *                        |     park, and at the next redrive
 *                        parked
 */
#ifndef TESTS_LETTERS_H
#define TESTS_LETTERS_H

#include <stdint.h>

struct letters;
struct letters_totals { uint64_t published, done, parked, delayed, redrives; };

struct letters *letters_start(const char *url, uint64_t seed);
/* The dead letters are what was parked and not redriven. */
void letters_look(struct letters *l);
/* Nothing more is published or parked, everything is redriven and done. */
void letters_finish(struct letters *l, uint32_t timeout_ms);
const char *letters_wrong(struct letters *l); /* NULL: nothing */
struct letters_totals letters_totals(const struct letters *l);
void letters_free(struct letters *l);

#endif

/*
 * Units of work on a broker that comes and goes: a worker, in a process of its own that is killed too, receives messages of topic "in",
 * and for each commits a unit: the ack, 50 messages to three topics, the state of its key. In the end every message has each of its outputs
 * once and its state is there.
 *
 * A program with such workers gives its arguments to units_main first: a worker is the program itself.
 */
#ifndef TESTS_UNITS_H
#define TESTS_UNITS_H

#include <sluice/sluice.h>
#include <stdint.h>
#include <sys/types.h>

enum { UNITS_OUTPUTS = 50 };

/* Does not return where the arguments are a worker's. */
void units_main(int argc, char **argv);

/* A topic with one partition; with `group`, a group "g". */
void units_topic(struct sluice *s, const char *topic, bool group);
/* "in" and where the units write. */
void units_topics(struct sluice *s);
/* Messages `from`, `from` + 1 and so on; waits for them. */
void units_publish(struct sluice *s, const char *topic, uint64_t from, uint64_t n);
/* What is not done of "g". */
uint64_t units_lag(struct sluice *s, const char *topic);

pid_t units_start(const char *url);
/* Kills and reaps. 0 is fine. */
void units_kill(pid_t worker);

/* All of the first `messages` are done, whole and once. Fails the test if not. */
void units_expect(struct sluice *s, uint64_t messages);

#endif

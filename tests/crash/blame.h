/* The first thing that was wrong with a load, from whichever thread: there a test cannot fail, so who started the load asks. */
#ifndef TESTS_BLAME_H
#define TESTS_BLAME_H

#include <pthread.h>
#include <stdbool.h>

struct blame { pthread_mutex_t lock; bool said; char text[512]; };

/* Good when all zero. */
void blame(struct blame *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* NULL: nothing is wrong. Good as long as the load. */
const char *blamed(struct blame *b);

#endif

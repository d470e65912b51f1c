/*
 * The real store and loop within the test, turn by turn in virtual time, and one client of them. Nothing fails the test here: what goes
 * wrong is said in `wrong`, and then nothing more is asked.
 */
#ifndef TESTS_DRIVER_H
#define TESTS_DRIVER_H

#include "broker/loop.h"

struct driver {
    struct store *store;
    struct loop *loop;
    struct engine_limits limits;
    struct engine_now now;
    struct id128 session; /* of the client */
    uint64_t seq[64];     /* by lane: 0, and partitions */
    uint64_t counter;
    char wrong[512];      /* "": nothing */
};

struct call { struct op op; bool done; };

void driver_wrong(struct driver *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool driver_fine(const struct driver *d) { return d->wrong[0] == '\0'; }

void driver_open_store(struct driver *d, const char *path);
void driver_open_loop(struct driver *d);
void driver_close(struct driver *d); /* both, if they are open */

void driver_pass(struct driver *d, uint64_t ms); /* of time: nothing happens */
void driver_turns(struct driver *d);             /* until nothing is left to do at this instant; each is synced */

void driver_call(const struct driver *d, struct call *c, enum wire_verb verb);
void driver_number(struct driver *d, struct call *c, uint32_t lane);
/* NULL: it was not answered, or refused. */
const struct wire_reply *driver_ask(struct driver *d, struct call *c);
void driver_call_end(struct call *c);
void driver_hello(struct driver *d, const char *name, bool resume);

/* The next of a delivery's records: its value, lent. `at` starts at 0. */
struct view driver_value(const struct wire_delivery *x, uint32_t i, size_t *at);

#endif

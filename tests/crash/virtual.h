/* The real loop over the real store, in one thread and in virtual time: what tests of a million things share.
 *
 * Turns are synced some at a time, requests are answered when they were.
 */
#ifndef TESTS_CRASH_VIRTUAL_H
#define TESTS_CRASH_VIRTUAL_H

#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "broker/loop.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "schemas/stored.h"
#include "store/sched_walk.h"
#include "store/store_rocks.h"

struct call { struct op op; bool done; };

struct virtual {
    char dir[64];
    struct store *store;
    struct loop *loop;
    struct engine_limits limits;
    struct engine_now now;
    uint64_t turns;
};

/* A new directory, an empty broker, at a time of its own. */
void virtual_new(struct virtual *v, const char *name);
void virtual_open(struct virtual *v);
void virtual_close(struct virtual *v);
void virtual_remove(struct virtual *v); /* closed before */
/* Turns at this instant until nothing is left to do. The next deadline. */
uint64_t virtual_turns(struct virtual *v);
void virtual_sync(struct virtual *v);
/* Time passes from deadline to deadline. */
void virtual_pass(struct virtual *v, uint64_t until_wall_ms);

/* A request of session {1, 2}; the call is used again, its arrays are those of its last request. */
struct wire_request *call_prepare(struct call *c, enum wire_verb verb);
void call_give(struct virtual *v, struct call *c);
/* Until they are answered. */
void call_wait(struct virtual *v, struct call *calls, uint32_t n);
/* Gives it, and asserts that it is answered and fine. */
const struct wire_reply *call_ask(struct virtual *v, struct call *c);
void call_free(struct call *c);
void virtual_hello(struct virtual *v, struct call *c, bool resume);

/* The most memory that this process had, in kB. */
uint64_t peak_kb(void);
double seconds_since(uint64_t *ns); /* and from now on */

#endif

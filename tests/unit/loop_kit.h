/* The real loop over the store in RAM, and one client A that talks to it: what the tests of loop, readers and tail share.
 *
 *     struct kit *k = kit_new(NULL);               opened; hello said; topic "t" (disk), topic "o" (os), group "g" of each
 *     struct call *c = kit_send(k, kit_produce(k, DISK, "one two"));
 *     kit_turn(k);                                 written
 *     assert_false(c->done);
 *     loop_sync(k->loop);                          synced
 *     assert_true(c->done);
 */
#ifndef TESTS_LOOP_KIT_H
#define TESTS_LOOP_KIT_H

#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "broker/loop.h"
#include "schemas/errors.h"
#include "schemas/records.h"
#include "schemas/stored.h"
#include "store/keys.h"
#include "store/store_mem.h"

enum { DISK, OS, TOPICS };

struct call {
    struct op op;
    struct list_node link;
    atomic_bool done;
    struct ref *batch;
    uint32_t group;
    struct wire_fetch_from from;
    struct wire_settle_item items[8];
};

/* The store in RAM whose syncs can be held, as a slow disk holds them. */
struct slow_store {
    struct store base;
    struct store *mem;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool held;
    int syncing;             /* syncs that are under way */
};

struct kit {
    struct slow_store slow;
    struct store *store;     /* &slow.base */
    struct loop *loop;
    struct engine_limits limits;
    struct engine_now now;
    struct list calls;
    uint64_t seq[8];         /* by lane */
    uint64_t counter;
    uint32_t partition[TOPICS], group[TOPICS];
    struct err fatal;
    atomic_int fatals, hints, dropped;
    size_t tail_cache_bytes;
    uint32_t reader_threads;
};

struct kit *kit_new(const struct kit *options); /* limits, tail_cache_bytes, reader_threads are looked at; NULL: defaults */
void kit_free(struct kit *k);
void kit_reopen(struct kit *k);                 /* the loop ends and begins again; A resumes */
void kit_turn(struct kit *k);
void kit_round(struct kit *k);                  /* turns and syncs until nothing more happens */
void kit_pass(struct kit *k, uint64_t ms);
void kit_hold_sync(struct kit *k, bool held);

/* Requests are made, then sent. `send` hands them to the loop; `ask` sends and makes rounds until it is answered. */
struct call *kit_new_call(struct kit *k, enum wire_verb verb);
struct call *kit_hello(struct kit *k, bool resume);
struct call *kit_produce(struct kit *k, int topic, const char *values); /* keyless records, a word each */
/* To the topic of `disk`. A word is a message: "k1:red=5:value" has the key k1, the header red with value 5. "-" for none. */
struct call *kit_produce_as(struct kit *k, const char *words);
struct call *kit_receive(struct kit *k, int topic, uint32_t most, uint32_t wait_ms);
struct call *kit_fetch(struct kit *k, uint32_t partition, uint64_t offset, uint32_t wait_ms);
struct call *kit_send(struct kit *k, struct call *c);
const struct wire_reply *kit_ask(struct kit *k, struct call *c);
bool kit_wait(struct call *c, int ms);          /* with threads: until it is answered */

/* The values in a reply of receive or fetch, "0=one 1=two". */
const char *kit_values(const struct wire_reply *r);
struct buf kit_batch(const char *values, uint64_t *hash, uint32_t *count);
/* The key of the row of a log that holds an offset. */
struct key kit_log_row(struct store *s, uint32_t partition, uint64_t offset);

#endif

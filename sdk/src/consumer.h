/*
 * Receiving: all calls of a client that wait for messages share a few requests at the broker.
 *
 *     caller --taker--> line: calls for one group (and lease, and whether they wait), in order
 *     caller --taker--> line:    "                                                            \
 *                         |                                                                    > one poll for many lines
 *     caller --taker--> line                                                                  /
 *
 * A line without a poll gets one as soon as a slot is free, together with all lines like it. What comes back is handed to the
 * takers of its line in the order of their calls; what nobody is there for any more is released. A line that already has a
 * poll out does not get a second: who comes later shares it. A call for several groups stands in several lines, and leaves all of
 * them with the first answer that has something for it.
 *
 * Or a settle that leaves just then takes the poll along (`consumer_carry`): one request and one answer in place of two. Such a poll does
 * not wait at the broker, so only lines whose last poll found something at once are asked for like that; with nothing found the line sends
 * a poll of its own, as it would have. A settle that a call waits for carries nothing: its answer would come with the messages.
 *
 * A poll asks for no more than its takers want and memory has room for, and holds that room until it is answered.
 *
 * A call may let its line have some messages ahead (`prefetch`). While a line finds plenty, polls of its own then keep its stock at that:
 * several may be out, and they do not wait at the broker. A call that comes to a stock is served at once, in the order in which the
 * messages came; with none there it gets what the next of these polls brings. As soon as one brings little the line is as any other.
 */
#ifndef SDK_CONSUMER_H
#define SDK_CONSUMER_H

#include <sluice/sluice.h>

#include "base/list.h"
#include "sdk/answer.h"
#include "sdk/loop.h"
#include "sdk/session.h"
#include "sdk/stock.h"

enum {
    POLLS = 8,         /* slots of this session */
    POLLS_WAITING = 6, /* of those, for polls that wait */
    PORTIONS = 4,      /* deliveries that one call may get parts of */
    SOURCES_MAX = 64,  /* groups of one call */
};

struct group;
struct line;

/* A part of a delivery. */
struct portion {
    const struct wire_delivery *delivery;
    const struct group *group;
    uint32_t first, count;
    size_t at; /* where the first record's bytes begin in the delivery's data */
};

/* Where a call stands in a line. */
struct place {
    struct list_node node;
    struct taker *taker;
    const struct group *group;
    struct line *line;
};

/* One call, on its caller's stack. */
struct taker {
    struct sluice *client;
    struct place *places; /* one for each of its groups */
    size_t places_n;
    uint32_t lease_ms, max_messages, max_bytes, prefetch;
    bool waits;
    uint64_t until_ns;   /* when it goes away without messages */
    uint64_t give_up_ns; /* when it does not even wait for an answer any more */
    struct event arrived;
    struct waiter waiter;
    /* the loop's thread */
    struct timer timer;
    uint64_t counted; /* the last poll whose bounds it was counted for */
    uint64_t bytes;
    uint32_t messages;
    /* the result: an error, or portions (perhaps none) of an answer that the taker drops */
    struct sluice_error error;
    const struct group *at_fault; /* of the error; NULL: none */
    struct answer *answer;
    struct portion portions[PORTIONS];
    size_t portions_n;
};

struct poll {
    struct consumer *consumer;
    uint32_t slot;
    uint64_t counter;
    bool out;
    bool waits;       /* its takers do */
    bool denied;      /* but it was sent without waiting */
    uint64_t sent_ns; /* last */
    uint64_t ends_ns; /* when the broker answers at the latest */
    size_t reserved;  /* taken from the budget for its answer */
    struct line *ahead; /* whose stock it fills; NULL: it is for takers */
    uint32_t asks;      /* messages, for that */
};

struct consumer {
    struct sluice *client;
    struct list lines;
    struct poll polls[POLLS];
    uint64_t counts;    /* polls whose bounds were counted */
    struct timer again; /* a line may be polled again, or its stock has lain too long */
    bool closing;       /* nothing more is leased ahead */
};

void consumer_init(struct consumer *c, struct sluice *s);
void consumer_free(struct consumer *c);

/* Sends polls for lines that have none. */
void consumer_step(struct consumer *c);

/* A settle that is about to be submitted takes a poll along, if some line wants one and is likely to find something. */
void consumer_carry(struct consumer *c, struct request *r);
bool consumer_wants_carrier(struct consumer *c);

/* Gives back what was leased ahead, and leases no more so: the client is about to close. */
void consumer_close(struct consumer *c);

/* Answers all takers with `why`. */
void consumer_fail(struct consumer *c, const struct sluice_error *why);

#endif

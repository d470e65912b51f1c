/*
 * Publishing: messages gather in drafts, one after another per partition, and drafts become numbered produce requests.
 *
 *     publish -> outlet (one per partition)  [draft] [draft] [draft, still open]     under the outlet's lock
 *                                               |
 *                                               v  taken when full, or when it lingered and no request of the lane is out
 *     lane    -> [request] [request] ...     at most LANE_WINDOW, each with the notes of its draft
 *                   |
 *                   v  answered, refused for good, or too late
 *                notes: every message's callback, in order
 *
 * A draft holds messages of about the same time, so its first message's deadline is good for all of them.
 */
#ifndef SDK_PRODUCER_H
#define SDK_PRODUCER_H

#include <pthread.h>
#include <sluice/sluice.h>
#include <stdatomic.h>

#include "base/list.h"
#include "schemas/records.h"
#include "sdk/catalog.h"
#include "sdk/loop.h"
#include "sdk/session.h"

enum { BUILDERS_KEPT = 4 };

/* Whom to tell of one message. */
struct note {
    sluice_publish_fn *fn; /* NULL: nobody */
    void *user;
    bool duplicate; /* left out: it was produced before */
};

/* When messages are due, if not now; and under which name they wait. All zero: now. */
struct due {
    uint64_t delay_ms, at_ms;
    const char *cron, *name;
};

/* Messages on their way to one partition. */
struct draft {
    struct list_node node;
    struct outlet *outlet;
    struct batch_builder *builder;
    struct note *notes;
    uint32_t notes_n, notes_cap;
    uint32_t left_out; /* notes of duplicates */
    uint32_t refused_of; /* it was refused as misplaced when its topic was known to have so many partitions; 0: it was not */
    size_t bytes; /* taken from the budget, and about what the batch will have */
    uint64_t opened_ns;
    struct due due; /* its texts are the draft's */
    bool full;      /* takes no more */
    bool turns;     /* its messages might go to any partition: without keys and ids */
    bool urgent; /* does not linger */
};

struct outlet {
    /* never changes */
    struct sluice *client;
    uint32_t index;     /* of the partition in the topic */
    uint32_t partition; /* its id */
    /* any thread, under lock; changed by the loop's */
    pthread_mutex_t lock;
    struct topic *topic; /* the catalog's route when it took its last message */
    struct list drafts; /* the last one may be open */
    bool posted;        /* `knock` is in the inbox */
    bool watched;       /* the loop knows that there is a draft, and comes back by itself */
    struct event knock;
    /* the loop's thread */
    struct lane lane;
    struct list_node known; /* in the producer's list */
    struct list_node dirty; /* in the producer's list of outlets to be looked at */
    bool moving;            /* its topic grows: nothing leaves until it is known where everything belongs */
    struct timer timer;     /* the first draft lingered enough, or is too late */
    uint64_t told;          /* drafts finished, ever */
    uint64_t taken;         /* drafts taken out of `drafts`, ever */
};

struct producer {
    struct sluice *client;
    atomic_size_t batch_bytes_max; /* of a draft: what the options and the broker allow */
    atomic_uint batch_records_max;
    atomic_size_t message_bytes_max; /* of one message: what a request can carry */
    /* the loop's thread */
    struct list outlets; /* all that were ever used */
    struct list dirty;
    struct list flushes;
    struct list growths; /* of topics: growth.h */
    uint64_t unconfirmed; /* messages of requests not told; those of drafts are not counted */
    /* any thread, under lock */
    pthread_mutex_t lock;
    struct batch_builder *builders[BUILDERS_KEPT]; /* warm ones */
    unsigned builders_n;
};

/* A message as it goes into a batch; views and texts are those of the message, and of `headers`. */
struct prepared {
    struct record record;
    struct buf headers; /* encoded */
    struct topic *topic;
    struct due due;
    size_t bytes; /* what it takes from the budget */
};

/* Checks all that can be known here, before anything is taken. `headers` is freed by the caller in any case. [may block: catalog_topic] */
int message_prepare(struct sluice *s, const struct sluice_message *m, struct prepared *p, struct sluice_error *err);

/* The index of its partition: of a key, or of an id, always the same; others take turns. */
uint32_t message_partition(const struct prepared *p);

/* Whether it waits for its time. */
static inline bool is_due_later(const struct due *d)
{
    return d->delay_ms != 0 || d->at_ms != 0 || d->cron != NULL;
}

/* How batches of this client are compressed. */
enum batch_codec batch_codec_of(const struct sluice_options *o);

/* What the broker promised of message `i` of what it produced to the partition of that index. */
void receipt_of(struct sluice_receipt *to, const struct wire_produced *w, uint32_t i, const struct topic *t, uint32_t index,
                int durability);

/* A builder that is warm, if there is one; and back, emptied and worth `keep`ing or not. Any thread. */
struct batch_builder *builder_take(struct producer *p);
void builder_give(struct producer *p, struct batch_builder *b, bool keep);

void producer_init(struct producer *p, struct sluice *s);
void producer_free(struct producer *p);

struct outlet *outlet_new(struct sluice *s, struct topic *t, uint32_t index);
void outlet_free(struct outlet *o);

/* Puts a record into the open draft, or into a new one that is as old as `opened_ns`; what waits for its time has a draft of its own. Under the
 * outlet's lock. The prepared bytes were taken from the budget and belong to the draft on success. *knock: `knock` is to be posted. */
int outlet_put(struct outlet *o, const struct prepared *p, struct note note, bool urgent, uint64_t opened_ns, bool *knock, struct err *e);

/* What a message takes from the budget. */
size_t message_bytes(const struct record *r);

/* Everything but the bytes it took from the budget. */
void draft_free(struct draft *d);

/* Tells a message that it was produced before. */
void note_tell_duplicate(const struct outlet *o, const struct note *n);

/* ---- the loop's thread ---- */

/* The broker told its limits. */
void producer_limits(struct producer *p, const struct wire_limits *l);

/* The loop knows of the outlet and looks at it in this round. */
void outlet_known(struct outlet *o);

/* Flushes that wait go by what is where by now. */
void producer_moved(struct producer *p);

/* Looks after outlets where something changed. */
void producer_step(struct producer *p);

/* Nothing lingers any more: what there is goes out as soon as it can. */
void producer_hurry(struct producer *p);

/* Whether every message was told. */
bool producer_idle(struct producer *p);

/* Tells everything that was not told `why`, and returns how many messages that were. */
uint64_t producer_fail(struct producer *p, const struct sluice_error *why);

#endif

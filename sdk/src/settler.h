/*
 * Settling: what many threads settle at the same moment goes to the broker in one request.
 *
 *     ack, nack, ..  -> settling [item]        \
 *     settle_async   -> settling [item][item]   >  pending -> one settle request, a few at once
 *     batch_free     -> settling [item] ...    /
 *
 * A settling is what one call asked for: items that stand by themselves, told item by item, or one unit, told once if it has
 * outputs or state.
 */
#ifndef SDK_SETTLER_H
#define SDK_SETTLER_H

#include <sluice/sluice.h>
#include <stdatomic.h>

#include "base/list.h"
#include "sdk/loop.h"
#include "sdk/session.h"

struct group;
struct settling;

/* What a unit changes besides what it settles. Lives until the settling is told. */
struct unit_body {
    const struct wire_produce *produces;
    const struct wire_state_put *state;
    uint32_t produces_n, state_n;
    size_t bytes; /* that their views have */
};

/* `error` NULL: done, and `outputs` (NULL: the broker does not say) has one for each produce. `unknown`: it may be done or not. */
typedef void settled_fn(void *user, const struct sluice_error *error, bool unknown, const struct wire_produced *outputs,
                        int durability);

struct settling {
    struct sluice *client;
    struct event arrived;
    struct list_node node;
    struct wire_settle_item *items;
    struct settle_note *notes; /* of the items: `note` is a 1-based index */
    uint32_t items_n, items_cap, notes_n;
    size_t notes_bytes;
    bool atomic;               /* one unit */
    bool alone;                /* not with others: a request with it was refused */
    bool waited;               /* a call waits for it: nothing else delays its answer */
    const struct group *group; /* of the items, for error texts; NULL: not known, or several */
    const struct unit_body *body; /* what a unit has besides items; NULL: nothing */
    settled_fn *settled;          /* instead of `fn`: told once, of the whole unit */
    bool (*misplaced)(void *user, struct settling *x); /* refused, as what it publishes belongs elsewhere by now: true: it is its maker's again. May be NULL */
    sluice_settle_fn *fn;
    void *user;
    uint64_t deadline_ns;
    size_t charged;
};

struct settle_note {
    char *reason, *error;
};

struct settler {
    struct sluice *client;
    atomic_size_t held; /* bytes of settlings that were not told */
    /* the loop's thread */
    struct list pending;
    size_t pending_items, pending_apart; /* of the settlings, those that carry nothing */
    unsigned out;       /* requests */
    uint64_t untold;    /* settlings */
    struct timer timer; /* the first pending one is too late */
};

void settler_init(struct settler *x, struct sluice *s);

/* A settling with room for `items`, and more as they come. Any thread. */
struct settling *settling_new(struct sluice *s, size_t items);

/* Adds an item, and its note if there is one; texts are copied, and cut where the broker would refuse them. */
void settling_add(struct settling *x, struct wire_settle_item item);
void settling_note(struct settling *x, const char *reason, const char *error);

/* The group of the last item added. */
void settling_group(struct settling *x, const struct group *g);

/* The broker did nothing and nothing is under way: what was to be settled may be settled again. */
bool settle_was_refused(int code);

/* Frees one that was not handed over. */
void settling_free(struct settling *x);

/* Hands it over; `fn`, if any, is called once per item. Any thread; the loop's thread. */
void settler_post(struct settler *s, struct settling *x);
void settler_submit(struct settler *s, struct settling *x);

/* Whether more may be settled without waiting. Any thread. */
bool settler_full(struct settler *s);

/* ---- the loop's thread ---- */
void settler_step(struct settler *s);
bool settler_idle(struct settler *s);
void settler_fail(struct settler *s, const struct sluice_error *why);

#endif

/*
 * Batches: which tasks a process gets as one call of its handler, and how the one is found that ends it.
 *
 *     waiting:  [ a b c d e f g h ]     one call; the process ends: nobody is charged
 *               [ a b c d ][ e f g h ]  its halves are suspects: each is a call of its own
 *               [ a b ][ c d ] . . .    what ends it again is halved again; the others have their verdicts
 *               [ c ][ d ]              alone: d pays
 *
 * So one task among n that ends its process is alone after ceil(log2 n) steps. Suspects are not mixed with
 * others, and others go on beside them. A task that was found is remembered: when it comes again, it comes
 * alone.
 *
 * A process with several threads has several calls at once, and when it ends each of them may have done it.
 * Their halves are tried as they were, several at once, until it is one call, which is halved as above. There
 * suspects have a process to themselves: they go before all others, and to one that has nothing.
 *
 * Pure functions over the tasks that wait.
 */
#ifndef WORKERD_BATCH_H
#define WORKERD_BATCH_H

#include "workerd/source.h"

struct batch_limits {
    uint32_t max;       /* tasks, 1 or more */
    uint64_t bytes;     /* of keys, values, headers and states; one task always fits */
    uint32_t window_ms; /* so long the first waits for others; 0: what is there */
};

/* Tasks for one call. */
struct batch {
    struct task **tasks; /* room for `max` of them, or as many as there are suspects together: the caller's */
    bool (*is_for)(const void *of, const struct task *t); /* the caller's: others are left out; NULL: none is */
    const void *of;
    bool singles; /* the caller's: who gets it takes one task a call */
    bool several; /* the caller's: and has several calls at once, */
    bool idle;    /* but none now */
    bool others;  /* the caller's: there are no suspects, or they wait for another of that kind */
    size_t n;
    bool full;       /* waiting brings no more */
    bool alone;      /* nothing is picked, as suspects want it to be idle */
    uint64_t due_ms; /* if not full: when it goes as it is */
};

/* What of it counts towards `bytes`. */
size_t batch_bytes_of(const struct task *t);

/* Picks from those that wait (by `place`) the next call for `to`, and leaves them where they are. It
   begins with the first that may go: a task of which another of its key is in front may not, unless that
   one is in the same call, or `to` has it already and one call at a time. Suspects go with all of theirs or not at all; where they
   are of several calls (batch_call) these are for the same process. b->n is 0 if there is nothing to do. */
void batch_pick(const struct list *waiting, const struct batch_limits *l, const struct child *to,
                struct batch *b);

/* Puts the first of some suspects, and those of the same call when their process ended, in front of the others; returns how many they
   are. */
size_t batch_call(struct task **tasks, size_t n, bool singles);

/* Makes the halves of what ended its process, 2 tasks or more, suspects of their own: of the calls that it had, in their order, or if
   it was one, of that. `last` numbers them. */
void batch_halve(struct task *const *tasks, size_t n, uint32_t *last);

/* ---- those that were found ---- */

enum { BATCH_FOUND_MAX = 256 };

/* The last of them. All zero is a good empty one. */
struct batch_found {
    struct {
        uint64_t offset;
        uint32_t partition;
    } places[BATCH_FOUND_MAX];
    size_t n; /* ever */
};

void batch_found_add(struct batch_found *f, const struct task *t);
bool batch_found_has(const struct batch_found *f, const struct task *t);

#endif

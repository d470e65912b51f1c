/* Threads that read the store: read-ahead for groups, what is due, where a log may be cut, bytes for replies. They take work from one queue and hand results to the loop
 * (a load, what is due) or to the operation's maker (a reply).
 */
#ifndef BROKER_READERS_H
#define BROKER_READERS_H

#include "broker/backread.h"
#include "broker/compactread.h"
#include "broker/cutread.h"
#include "broker/dueread.h"
#include "broker/logread.h"

struct readers;

struct readers_hooks {
    /* Any reader thread. */
    void (*loaded)(void *user, const struct loaded *l);                  /* copied before it returns */
    void (*due)(void *user, const struct due *d);                        /* its hold is the hook's to drop */
    void (*cut)(void *user, const struct cut *c);
    void (*back)(void *user, const struct back *b);                      /* copied before it returns */
    void (*copied)(void *user, struct copies *c);                        /* the hook's from now on */
    void (*unreadable)(void *user, const struct log_unreadable *u);
    void (*compacted)(void *user, struct compaction *c);                 /* the hook's from now on */
    void (*matched)(void *user, struct match *m);                        /* the hook's from now on */
    void (*picked)(void *user, struct pick *p);                          /* the hook's from now on */
    void (*filled)(void *user, struct op *op);
    void (*failed)(void *user, const struct err *why);                   /* the store failed */
    void *user;
};
/* threads 0: work is done at once, in the thread that gives it. */
int readers_start(struct readers **out, const struct log_source *src, uint32_t threads, const struct readers_hooks *hooks, struct err *e);
void readers_load(struct readers *r, const struct effect_load *load);
void readers_compact(struct readers *r, struct compaction *c); /* takes it */
void readers_match(struct readers *r, struct match *m); /* takes it */
void readers_pick(struct readers *r, struct pick *p);   /* takes it */
void readers_due(struct readers *r, const struct effect_due *due);
void readers_cut(struct readers *r, const struct effect_cut *cut);
void readers_back(struct readers *r, const struct effect_back *back);
void readers_copy(struct readers *r, struct copies *c); /* takes it */
void readers_fill(struct readers *r, struct op *op);
/* A fetch whose bytes are few and in memory is filled in the thread that asks; false: it is one for readers_fill. */
bool readers_fill_here(struct readers *r, struct op *op);
/* Finishes what was given, ends the threads. NULL is fine. */
void readers_stop(struct readers *r);

#endif

/* The turn of the broker: drain the inbox, step each event, write one list of puts, hand the turn to the sync thread, release what is
 * due, sleep to the next deadline. Turns are taken one after the other, by the loop's thread or by who brought the work (loop_help);
 * "the loop's thread" is whoever is at it.
 *
 *   api, wire ---- loop_submit ---> inbox --> engine --> store_write --> sync thread --> replies --> readers / op->done
 *
 * loop_turn runs without threads or sockets: a test drives it by hand. loop_start runs it in a thread of its own, with a sync
 * thread and reader threads beside it.
 */
#ifndef BROKER_LOOP_H
#define BROKER_LOOP_H

#include "broker/backup.h"
#include "broker/workers.h"
#include "engine/engine.h"

struct loop;

struct loop_options {
    struct store *store;                 /* outlives the loop */
    const struct engine_limits *limits;  /* outlives the loop */
    uint32_t reader_threads;             /* 0: reads are done at once in the loop's thread */
    size_t tail_cache_bytes;             /* 0: 64 MiB */
    size_t inbox_bytes_max;              /* 0: 256 MiB */
    uint64_t reclaim_interval_ms;        /* 0: disk space is not given back */
    uint64_t reclaim_bytes_min;
    const char *backup_dir, *data_dir;   /* as in backup.h; NULL: none */
    uint64_t backups_max;
    const struct workers_bounds *workers; /* outlive the loop; NULL: the defaults */
    uint64_t seed;
    /* Called in the loop's thread; they must not block. NULL: not wanted. */
    void (*hint)(void *user, uint32_t group, const char *topic, const char *name);
    void (*drop_pipe)(void *user, uint64_t pipe);
    void (*partition)(void *user, const struct effect_partition *p); /* also for every partition there is, before loop_open returns */
    void (*fatal)(void *user, const struct err *why); /* the broker must stop: the store failed. Any thread, once */
    void *user;
};

/* Opens the engine and makes the first turn durable (the new epoch). Errors: those of engine_open, store_write, store_sync. */
int loop_open(struct loop **out, const struct loop_options *options, struct engine_now now, struct err *e);
/* Starts loop, sync and reader threads. */
int loop_start(struct loop *l, struct err *e);
/* Answers what waits with SHUTTING_DOWN, lets settles through until `drain_ms` passed or `loop_idle`, syncs, ends the threads. */
void loop_stop(struct loop *l, uint32_t drain_ms);
void loop_close(struct loop *l);

/* Any thread. The loop owns the operation until op->done. OVERLOADED when the inbox is full: the operation stays the caller's. */
int loop_submit(struct loop *l, struct op *op);
/* Any thread that submitted operations which `help`, and has no more at hand: it takes the loop's turn with them itself, unless
 * somebody else is at it. That saves a hand-over to the loop's thread, which on few processors costs more than the turn. It may take
 * as long as a few turns; it never waits for one. */
void loop_help(struct loop *l);
/* Any thread: the pipe is gone. */
void loop_pipe_lost(struct loop *l, uint64_t pipe);

/* A copy of what the loop last published, at most a second old. Any thread. */
struct loop_status {
    struct engine_counters counters;
    struct engine_totals totals;
    struct store_stats store;
    uint32_t epoch;
    uint64_t reclaims, reclaimed_bytes;
    struct backup_counts backups;
    struct workers_counts workers;
    uint64_t turn, durable_turn, syncs, sync_ns, writes, write_ns, tail_cache_bytes, inbox_bytes, started_wall_ms;
    bool read_only;      /* the disk is full: changes are refused, tried again by itself */
    bool below_reserve;  /* produces are refused */
    bool stopping;
};
void loop_status(struct loop *l, struct loop_status *out);

/* ---- by hand (no loop_start): one turn at the time given; returns the next deadline in mono ms. Reads are done at once. Syncing
 * is the caller's: loop_sync does what the sync thread would. */
uint64_t loop_turn(struct loop *l, struct engine_now now);
int loop_sync(struct loop *l);
struct engine *loop_engine(struct loop *l);

#endif

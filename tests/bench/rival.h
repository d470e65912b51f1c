/*
 * Who is compared: Sluice, its peers, and the straw-man, all asked for the same two things in the same words. Each is a file that
 * defines one `struct rival rival_NAME` and has a line in rivals.def.
 */
#ifndef BENCH_RIVAL_H
#define BENCH_RIVAL_H

#include <sluice/sluice.h>

#include "base/err.h"
#include "load.h"

/* What is asked for. Durability is that of an acknowledgement: SLUICE_DISK survives a power cut (fsync before the ack, shared or
 * not), SLUICE_OS survives a kill of the process. */
struct work {
    int durability;               /* enum sluice_durability */
    uint32_t size;                /* bytes of a message; its payload is made by payload.h */
    uint32_t batch;               /* messages that are sent, or leased and acknowledged, together */
    uint32_t window;              /* batches of a connection that are out at once */
    uint32_t connections;         /* lanes of load.h */
    double rate;                  /* 0: closed loop */
    double warmup, seconds;
    uint64_t messages;            /* 0: by time. Else ends after so many, or when the time is up, if there is one, and nothing is warm-up */
    uint64_t seed;
    bool compressible;
    bool progress;
    struct gaps *gaps;            /* of load_options */
};

enum rival_kind { RIVAL_OURS, RIVAL_PEER, RIVAL_STRAWMAN };

struct rival {
    const char *name;             /* "redis": --peers, the key of a row */
    const char *title;            /* "Redis streams" */
    int kind;                     /* enum rival_kind */
    bool disk, os;                /* the durabilities that it has */
    const char *lacks_durability; /* why not the other; NULL when it has both */
    const char *lacks_queue;      /* why there is no `queue` */
    uint32_t connections;         /* over how many it is fastest when it may choose; 0: one */
    uint32_t connections_os;      /* if that is another number with `os` */
    uint32_t connections_queue;   /* if it is another one for leasing */

    /* Whether its programs are on this machine; else `why` says what is missing. Starts nothing. NULL: always. */
    bool (*present)(char why[160]);

    /* Starts it with its data in `dir`, which is empty and its own, on loopback, tuned for the durability by its own guide, and
     * leaves in `run` what the other calls get. Has made what `produce` needs: topic, stream, queue. */
    int (*start)(const char *dir, const struct work *w, void **run, struct err *e);
    void (*stop)(void *run);      /* also frees `run` */
    const char *(*version)(void *run);          /* "7.0.15", asked of the program itself; lent */
    const struct server *(*server)(void *run);  /* whose CPU, memory and bytes count */

    /* Publishes by load_run: w.connections lanes of batches of w.batch, each acknowledged at w.durability. Every message is
     * a payload of stream lane.index with rising numbers. Fails when anything was refused or is unknown. */
    int (*produce)(void *run, const struct work *w, struct outcome *out, struct err *e);

    /* Lease + ack: takes what was published before by w.connections consumers of one group, a batch at a time, and acknowledges
     * each batch as durably as it has it; latency is that from asking to acknowledged. It ends when w.messages are acknowledged, or
     * the time is up; how they came there is not counted: `produce` was called before with at least as many. NULL: it cannot.
     * Checks each payload (payload_read) and fails when one is damaged. */
    int (*queue)(void *run, const struct work *w, struct outcome *out, struct err *e);

    /* Reads back all that was published, where `queue` will not be asked to, and fails when it is not all there, once, whole and in
     * order. NULL: it cannot be read. */
    int (*check)(void *run, struct err *e);
};

#define RIVAL(name) extern const struct rival rival_##name;
#include "rivals.def"
#undef RIVAL

/* All, in the order of rivals.def. NULL-terminated. */
extern const struct rival *const rivals[];
const struct rival *rival_find(const char *name); /* NULL: there is none */

/* The options of load_run that a work stands for. */
struct load_options work_load(const struct work *w, const struct server *server, load_lane_fn *fn, void *user);

#endif

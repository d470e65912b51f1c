/* An operation: one request on its way through the broker, and its reply on the way back.
 *
 *     wire/api make it -> loop steps it in the engine -> the turn is written (and synced) -> readers fetch bytes -> done()
 *
 * An operation has one owner at a time: who made it gives it to the loop, the engine keeps it while it waits (a long poll), and
 * hands it back in its effects; `done` gives it back to its maker. No layer above is named here: the completion travels along.
 */
#ifndef ENGINE_OP_H
#define ENGINE_OP_H

#include "base/buf.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/ref.h"
#include "schemas/codec.h"

/* What has to be read from the log before the reply can be encoded. */
enum op_read {
    READ_NONE,
    READ_FETCH,  /* reply.fetch.parts: data from wants[i] on, bounded by wants[i].max_bytes */
    READ_RECORDS, /* reply.receive or reply.settle.receive: fill in records and data */
    READ_OFFSET, /* reply.offset: the first offset appended at or after request.offset_for.time_ms, between start and end */
    READ_HELD,   /* reply.held: rows, then records and data (held_page) */
    READ_BACKUP, /* nothing of the log: a backup is to be made before the reply leaves */
    READ_WORKERS, /* nothing of the log: what worker daemons say of themselves, which only the loop knows */
    READ_INDEX   /* `asks` are filled in, and the operation goes back to the engine, which answers it then */
};

/* What the log's index says of one message. */
struct op_ask {
    uint32_t group, partition;   /* the group for which it is asked: the engine's note */
    uint64_t offset;
    /* filled in */
    bool found, has_key;
    uint64_t key_hash, append_time_ms, ttl_ms; /* ttl_ms 0: it names none */
    uint64_t bytes;              /* of the log before it, as end_bytes counts them; a batch that it parts counts by its share */
};

/* What api found when it checked a batch. */
struct op_batch {
    uint64_t last_delta;             /* offset of the last record minus the first's */
    const struct id128 *message_ids; /* one for each record, zero: it has none; NULL: none has one */
    uint32_t partitions;             /* how many its topic had when it was looked where its keys belong; 0: it has no keys */
    uint32_t misfit;                 /* then the first record, from 1, whose key does not belong to this partition; 0: all do */
    uint32_t largest_at;             /* the record with the most bytes, from 0 ... */
    uint64_t largest;                /* ... and how many: of key, headers and value */
    uint32_t keyless;                /* the number of the first record without a key, counted from 1; 0: each has one, or nobody looked */
};

struct op {
    /* ---- set by the maker */
    void *node[3];               /* room for the queue of whoever holds the operation; nobody else looks */
    struct wire_request request; /* borrows from `hold` and `arena` */
    struct ref *hold;            /* keeps the request's bytes; may be NULL (bytes outlive the operation) */
    struct arena arena;          /* for the decoded request and for the reply's arrays */
    uint64_t pipe;               /* the connection, unique while the broker runs; 0: the broker itself, which needs no session for reads */
    size_t bytes;                /* what it counts in the inbox */
    bool helps;                  /* the thread that submits it calls loop_help soon: nobody need be woken for it */
    struct op_batch batch;       /* produce: of its batch */
    const struct op_batch *unit_batches; /* settle: of each produce of each unit, in order */
    void (*done)(struct op *op); /* any thread; takes the operation back, reply filled */

    /* ---- the engine's while it holds the operation */
    struct list_node wait;       /* among the waiters of its session */
    struct heap_node timer;      /* when waiting ends */
    struct list waits;           /* its places in the queues of groups and partitions */
    void *session;               /* while it waits */
    void *lane;                  /* of a numbered request: its result is kept when it succeeds */

    /* ---- set by the engine for the way back */
    struct wire_reply reply;     /* arrays in `arena` */
    struct err error;            /* text behind reply.detail */
    uint64_t turn;               /* the reply may leave when this turn is written (os) or synced (disk); 0: at once */
    enum durability level;       /* which of the two; NONE: at once */
    enum op_read read;
    uint64_t purges;             /* READ_HELD: retries of another number are not there any more */
    bool with_state;             /* READ_RECORDS: with the state rows of the messages' keys */
    const struct wire_fetch_from *wants; /* READ_FETCH: beside reply.fetch.parts */
    uint32_t fetch_bytes;        /* READ_FETCH: bound over all parts */
    struct op_ask *asks;         /* READ_INDEX: in `arena`. Not NULL when the engine gets the operation: it is back with them */
    uint32_t asks_n;
    /* group_lag by the broker itself, between its maker and the engine: only groups whose lag changed, in the order in which it did */
    bool changes;
    uint64_t changed;            /* those behind this one; the engine sets it to the last of the page */
    uint64_t changed_end;        /* and up to this one; 0: as of now, which the engine sets */
    struct buf payload;          /* what was read; the reply's data points into it. The maker frees it */
};

#endif

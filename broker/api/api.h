/* The api: bytes of a request come in, a checked operation leaves.
 *
 *     wire ---- api_request ----> decode -> verbs[] -> check ----> port.submit (the loop)
 *     http ---- api_submit  -------------------^           \
 *                                                           +----> refused: op->done at once, with a reply that names the thing
 *
 * One table (verbs.c) says of each verb its name, the right it needs, whether it is numbered, and how its arguments are checked.
 * What the engine would have to look into bytes for is checked here too: that a batch is whole, and that its keys belong where they
 * are sent. The api knows neither sockets nor the loop: operations leave through a port, replies come back by op->done.
 *
 * Thread: all of it, any.
 */
#ifndef API_API_H
#define API_API_H

#include "engine/engine.h"

struct api;

/* Where checked operations go. submit: OK, and the operation is the callee's until op->done; any other code, and it is still the
 * caller's (OVERLOADED: the inbox is full; SHUTTING_DOWN). Any thread. */
struct api_port {
    int (*submit)(void *ctx, struct op *op);
    void *ctx;
};

struct api_options {
    const struct engine_limits *limits; /* outlives the api */
    uint64_t message_bytes_max; /* the highest that a topic may allow: what fits a request and a reply */
    struct api_port port;
};

struct api *api_new(const struct api_options *o);
/* No operation may be on its way. NULL is fine. */
void api_free(struct api *a);

/* An operation, all zero but `done`, `pipe`, `hold` and `bytes`, gets its arena; api_op_end drops `hold`, frees the arena and what was read. */
void api_op_begin(struct op *op);
void api_op_end(struct op *op);

/* Decodes `body`, a FlatBuffer that is 8-aligned and lives as long as op->hold, checks it and submits it.
 * op->done is called exactly once, perhaps before this returns. `verb` is what the frame's head says. */
void api_request(struct api *a, struct op *op, uint8_t verb, struct view body);

/* The same for a request that is already in op->request. */
void api_submit(struct api *a, struct op *op);

/* Answers an operation that nobody else holds: the code, and a text that names the thing. */
void api_refuse(struct op *op, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* What produces are checked against. The loop says it before any reply that names the partition leaves. */
void api_partition_set(struct api *a, uint32_t id, uint32_t index, uint32_t count);
void api_partition_gone(struct api *a, uint32_t id);

/* ---------------------------------------------------------------- the table of verbs */

enum api_right { RIGHT_NONE, RIGHT_READ, RIGHT_WRITE, RIGHT_ADMIN };

struct api_verb {
    const char *name;     /* "topic_create"; in errors and metrics */
    enum api_right right; /* what a principal must be allowed */
    bool numbered;        /* changes something: carries lane and seq (docs/protocol.md) */
    /* OK, or the code with a text in `e`. May lower what the client gave as an upper bound to the broker's own. */
    int (*check)(struct api *a, struct op *op, struct err *e);
};
/* NULL for a verb that this version does not know. */
const struct api_verb *api_verb(unsigned verb);

/* ---------------------------------------------------------------- the lag of all groups, page by page */

/* One walk at a time. `page` is called once per api_lag_next, in any thread, with op.reply filled: rows in reply.lag, or a code.
 * The rows are good until the next api_lag_next or api_lag_end. */
struct lag_walk {
    struct op op;
    struct api *api;
    void (*page)(struct lag_walk *w);
    struct buf after; /* "topic/group" of the last row */
    bool changes;     /* the maker's, before the first page: only groups that changed since the walk of changes before */
    uint64_t changed, changed_end; /* up to where that is known; where this walk ends, 0 when it begins */
};
void api_lag_begin(struct api *a, struct lag_walk *w, void (*page)(struct lag_walk *w));
void api_lag_next(struct lag_walk *w);
bool api_lag_more(const struct lag_walk *w); /* after a page: there is another */
void api_lag_end(struct lag_walk *w);        /* frees; the walk can begin again */

#endif

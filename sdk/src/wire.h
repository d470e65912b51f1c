/*
 * Requests on a pipe to the broker, and who waits for the answers.
 *
 * What is sent is sent once, into one of WIRE_SLOTS slots, and stays there until it is answered or the pipe is lost. Who repeats,
 * and under which number, is the session's business. Lost pipes are dialled again until wire_stop.
 *
 * Everything here belongs to the loop's thread, but wire_open, wire_close and wire_free, which are for when it does not run.
 */
#ifndef SDK_WIRE_H
#define SDK_WIRE_H

#include <sluice/sluice.h>

#include "base/ref.h"
#include "schemas/codec.h"
#include "sdk/loop.h"

enum { WIRE_SLOTS = 64 }; /* a broker lets 60 requests be unanswered */

struct wire;

/* Up and down take turns; answers come in between. */
struct wire_events {
    void (*up)(void *user);
    void (*down)(void *user);
    void (*missed)(void *user); /* nobody listens where we dialled; wire_trouble says more, and other attempts follow */
    void (*answer)(void *user, void *owner, struct ref *frame); /* `frame`, head and body, is given over */
};

/* Begins to dial the broker that the options name. Errors: INVALID_ARGUMENT (the URL, a file), NO_MEMORY, INTERNAL. */
int wire_open(struct wire **out, const struct sluice_options *o, struct loop *loop, const struct wire_events *events,
              void *user, struct sluice_error *err);

/* Ends everything. loop_finish comes next, then wire_free. */
void wire_close(struct wire *w);
void wire_free(struct wire *w);

/* Whether there is room for one more request. */
bool wire_ready(const struct wire *w);

/* Sends `r` if there is room (asserted); `owner` (not NULL) is who is to be told of the answer, expected by `due_ns`. `body`: where the
 * batch of a produce lies, NULL if it is to be copied. E_TOO_LARGE if it has more than `bytes_max` bytes or cannot be encoded. */
int wire_send(struct wire *w, const struct wire_request *r, struct ref *body, size_t bytes_max, void *owner, uint64_t due_ns);

/* The end of a round: what was sent in it goes out together. */
void wire_flush(struct wire *w);

/* The pipe is lost: frees all slots and forgets what was not sent yet. */
void wire_reset(struct wire *w);

/* Ends the present pipe; another is dialled. */
void wire_drop(struct wire *w);

/* No more pipes. */
void wire_stop(struct wire *w);

/* The earliest time by which an answer is expected; UINT64_MAX when nothing is out. */
uint64_t wire_due(const struct wire *w);

/* Why there is no pipe, as far as is known: "nobody listens there". Static. */
const char *wire_trouble(const struct wire *w);

#endif

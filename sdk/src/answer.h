/*
 * A reply of the broker, verified and decoded, with the bytes that its views look into. Several may hold it: the messages of
 * one receive go to several callers. Take and drop: any thread that holds it.
 */
#ifndef SDK_ANSWER_H
#define SDK_ANSWER_H

#include <stdatomic.h>

#include "base/ref.h"
#include "schemas/codec.h"
#include "sdk/budget.h"

struct answer {
    atomic_uint refs;
    struct wire_reply reply;
    struct arena arena;
    struct ref *frame; /* NULL: the body was copied to be aligned */
    uint8_t *copy;
    struct budget *budget; /* outlives the answer */
    size_t charged;
};

/* Takes over `frame`, in any case. BAD_FRAME and TOO_LARGE with a text. */
int answer_new(struct answer **out, struct ref *frame, struct budget *budget, struct err *e);

/* One more holder. */
struct answer *answer_take(struct answer *a);

/* One holder less; the last one frees. NULL is good. */
void answer_drop(struct answer *a);

/* A text of an answer as a string: in room of the caller's, cut if it must be; or in an arena. Absent is "". */
void text_copy(char *to, size_t size, struct view from);
const char *text_keep(struct arena *a, struct view from);

#endif

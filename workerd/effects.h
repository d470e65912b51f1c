/*
 * What a task wants done with its acknowledgement: outputs, and a state of its key. Gathered in the child,
 * call by call; told with the verdict; copied in the daemon, where it stays with the task until the broker
 * has taken it or refused it.
 *
 * Limits are those of a task, checked before memory is taken. They leave room in a packet (PIPE_PACKET_MAX)
 * for what a packet adds.
 */
#ifndef WORKERD_EFFECTS_H
#define WORKERD_EFFECTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schemas/codec.h"

enum {
    EFFECTS_OUTPUTS_MAX = 4096,
    EFFECTS_OUTPUT_BYTES = 256, /* what an output costs beside its bytes */
    EFFECTS_BYTES_MAX = 32 << 20,
};

struct effects {
    struct plugin_output *outputs; /* the bytes of each are one allocation, at its topic */
    uint32_t outputs_n, outputs_cap;
    bool has_state, state_remove;
    uint64_t state_version; /* over which it is written */
    struct view state;
    size_t bytes; /* of all, with EFFECTS_OUTPUT_BYTES for each output */
};

/* Takes a copy of an output, which has a topic. Returns 0, or TOO_LARGE and nothing is taken. */
int effects_publish(struct effects *x, const struct plugin_output *output);

/* What the state is to be, in place of what was said before: a copy of `value`, or absent for none. Returns
   0, or TOO_LARGE and it is as it was. */
int effects_state(struct effects *x, uint64_t version, struct view value);

static inline bool effects_any(const struct effects *x)
{
    return x->outputs_n > 0 || x->has_state;
}

/* Puts them into a verdict, which lends them. */
void effects_tell(const struct effects *x, struct plugin_packet *verdict);

/* A copy of what a verdict tells, for effects_free; NULL if that is nothing. It is not held against the
   limits: a packet has its own. */
struct effects *effects_of(const struct plugin_packet *verdict);

void effects_clear(struct effects *x);
void effects_free(struct effects *x); /* NULL is good */

#endif

/*
 * What the ways to consume share: reading the log, printing as a group, running a command as a group.
 */
#ifndef CLI_CONSUME_H
#define CLI_CONSUME_H

#include "cli/client.h"
#include "cli/message.h"
#include "exec/exec.h"

enum {
    WAIT_SLICE_MS = 500, /* one wait for messages; a request to stop is seen after it */
    END_SLICE_MS = 100,  /* the same with --exit-at-end, where the end is looked for after it */
};

/* Where reading the log begins. */
struct start {
    int from; /* SLUICE_FROM_* */
    uint64_t offset, time_ms;
};

struct consumer {
    const struct args *args;
    const char *topic, *group;
    struct sluice *client;
    uint64_t left; /* messages still to be handed out; UINT64_MAX: no end */
    bool exit_at_end;
    struct start start; /* without a group */
    uint32_t lease_ms;  /* with a queue group */
    bool stream;        /* the group is of mode stream */
    struct format format;
    struct nursery nursery; /* with --exec */
};

/* Reads --from; "end" without it. Returns 0, or refuses. */
int start_parse(const struct args *a, struct start *s);

/* Writes a message to standard output, in the form that was asked for. */
void consumer_put(const struct consumer *c, const struct sluice_delivery *d);

/* What of the log is missing, as one line of -o json. */
void consumer_put_gap(const struct consumer *c, const struct sluice_gap *g);

/* With -g and --exit-at-end: whether nothing is left that could be worked on. False, with *status set and the error said, if
   the broker did not answer. */
bool consumer_at_end(const struct consumer *c, int *status);

/* Runs the command of --exec for a message in a slot of the nursery; *stderr_fd is the caller's. Returns 0, or an errno with a text. */
int consumer_exec(struct consumer *c, uint32_t slot, const struct sluice_delivery *d, int *stderr_fd, struct err *e);

/* The ways. Each returns the status to end with, having given back what it did not finish. */
int consume_log(struct consumer *c);
int consume_group(struct consumer *c);
int consume_exec(struct consumer *c);
int consume_stream(struct consumer *c);

#endif

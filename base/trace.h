/*
 * The last things that happened: a ring of small events that costs nothing to keep and is read when
 * something went wrong.
 *
 * Time comes from the caller, the tag is a string literal, the four numbers mean what the tag says.
 * One thread.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stddef.h>
#include <stdint.h>

struct trace_event {
    uint64_t time;
    const char *tag;
    uint64_t arg[4];
};

struct trace {
    struct trace_event *ring;
    size_t cap;
    uint64_t count; /* events ever added */
};

/* Room for the last `cap` events (1 or more). The owner calls trace_free. */
void trace_init(struct trace *t, size_t cap);
void trace_free(struct trace *t);

/* Adds an event; when the ring is full the oldest goes. `tag` is kept, not copied. */
void trace_add(struct trace *t, uint64_t time, const char *tag, uint64_t a, uint64_t b, uint64_t c,
               uint64_t d);

/* Calls `fn` for every event still there, oldest first. `fn` must not add. */
void trace_each(const struct trace *t, void (*fn)(const struct trace_event *ev, void *arg), void *arg);

#endif

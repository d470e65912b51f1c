#include "base/trace.h"

#include <assert.h>

#include "base/mem.h"

void trace_init(struct trace *t, size_t cap)
{
    assert(cap > 0);
    *t = (struct trace){.ring = mem_array(cap, sizeof *t->ring), .cap = cap};
}

void trace_free(struct trace *t)
{
    mem_free(t->ring);
    *t = (struct trace){0};
}

void trace_add(struct trace *t, uint64_t time, const char *tag, uint64_t a, uint64_t b, uint64_t c,
               uint64_t d)
{
    t->ring[t->count % t->cap] = (struct trace_event){time, tag, {a, b, c, d}};
    t->count++;
}

void trace_each(const struct trace *t, void (*fn)(const struct trace_event *ev, void *arg), void *arg)
{
    for (uint64_t i = t->count > t->cap ? t->count - t->cap : 0; i < t->count; i++)
        fn(&t->ring[i % t->cap], arg);
}

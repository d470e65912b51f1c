/* Timers of the engine. */
#ifndef ENGINE_TIMER_H
#define ENGINE_TIMER_H

#include "base/heap.h"
#include "engine/engine.h"

/* A timer calls `fire` once its time (mono ms) has come; it is then in no heap. */
struct timer {
    struct heap_node node;
    void (*fire)(struct engine *en, struct timer *t);
};

void timer_set(struct engine *en, struct timer *t, uint64_t due_ms, void (*fire)(struct engine *, struct timer *));
void timer_clear(struct engine *en, struct timer *t);

#endif

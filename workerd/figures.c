#include "workerd/figures.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "base/mem.h"

/* ---- service times ---- */

const uint32_t figures_bounds_ms[FIGURES_TIMES] = {1,   2,    5,    10,   20,    50,    100,   200,
                                                   500, 1000, 2000, 5000, 10000, 30000, 300000};

void figures_time(struct figures_times *t, uint64_t ms)
{
    size_t i = 0;
    while (i < FIGURES_TIMES && ms > figures_bounds_ms[i])
        i++;
    t->counts[i]++;
    t->n++;
    t->sum_ms += ms;
}

/* ---- in words ---- */

PRINTF_LIKE(2, 3)
static void say(struct figures *f, const char *fmt, ...)
{
    size_t used = strlen(f->text);
    va_list args;
    va_start(args, fmt);
    vsnprintf(f->text + used, sizeof f->text - used, fmt, args);
    va_end(args);
}

static void describe_start(struct figures *f)
{
    for (size_t i = 0; i < f->handlers_n; i++) {
        const struct figures_handler *h = &f->handlers[i];
        if (h->up >= h->wanted)
            continue;
        say(f, "starting: handler '%s' has %" PRIu32 " of %" PRIu32 " processes up", h->name, h->up,
            h->wanted);
        return;
    }
    say(f, "starting");
}

static void describe_breakers(struct figures *f)
{
    const char *before = "; breaker open: ";
    for (size_t i = 0; i < f->handlers_n; i++) {
        if (f->handlers[i].breaker == BREAKER_CLOSED)
            continue;
        say(f, "%s%s", before, f->handlers[i].name);
        before = ", ";
    }
}

void figures_describe(struct figures *f)
{
    f->text[0] = '\0';
    if (f->state >= RUN_DRAINING) {
        say(f, "stopping");
    } else if (!f->reachable) {
        say(f, "%sthe broker is not reached", f->state == RUN_STARTING ? "starting: " : "");
    } else if (f->state == RUN_STARTING) {
        describe_start(f);
    } else {
        say(f, "ready");
        describe_breakers(f);
    }
}

bool figures_ready(const struct figures *f)
{
    return f->state == RUN_READY && f->reachable;
}

/* ---- memory ---- */

void figures_copy(struct figures *to, const struct figures *from)
{
    struct figures_handler *handlers = to->handlers;
    if (to->handlers_n != from->handlers_n)
        handlers = mem_resize(handlers, from->handlers_n, sizeof *handlers);
    *to = *from;
    to->handlers = handlers;
    if (from->handlers_n > 0)
        memcpy(handlers, from->handlers, from->handlers_n * sizeof *handlers);
}

void figures_free(struct figures *f)
{
    mem_free(f->handlers);
    *f = (struct figures){.state = RUN_STARTING};
}

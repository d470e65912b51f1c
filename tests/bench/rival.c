/* See rival.h. */
#include "rival.h"

#include <string.h>

const struct rival *const rivals[] = {
#define RIVAL(name) &rival_##name,
#include "rivals.def"
#undef RIVAL
    NULL,
};

const struct rival *rival_find(const char *name)
{
    for (size_t i = 0; rivals[i] != NULL; i++)
        if (strcmp(rivals[i]->name, name) == 0)
            return rivals[i];
    return NULL;
}

struct load_options work_load(const struct work *w, const struct server *server, load_lane_fn *fn, void *user)
{
    return (struct load_options){.lanes = w->connections, .batch = w->batch, .window = w->window, .rate = w->rate, .warmup = w->warmup,
                                 .seconds = w->seconds, .messages = w->messages, .server = server, .fn = fn, .user = user,
                                 .progress = w->progress, .gaps = w->gaps};
}

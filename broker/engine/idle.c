/* Groups that nobody uses: deleted when nobody has received from them, settled or committed for their idle_expiry_ms, with a warning in the log one
 * tenth of that time before.
 *
 * Whoever waits in a long poll, holds a lease or is a member uses the group. When it was last used is in its row, written once a minute at most, so a
 * restart makes it look a minute older than it is; the time that the broker was down does not count.
 */
#include "engine/memory.h"

enum { USED_WRITTEN_EVERY_MS = 60000 };

static void idle_look(struct engine *en, struct timer *t);

static uint64_t expiry_of(const struct group *g) { return g->config.idle_expiry_ms; }
static uint64_t warned_at(const struct group *g) { return g->used_ms + expiry_of(g) - expiry_of(g) / 10; }

static bool in_use(const struct group *g) { return g->leased > 0 || !list_empty(&g->waiters) || (g->stream != NULL && g->stream->members_n > 0); }

void group_idle_arm(struct engine *en, struct group *g)
{
    if (expiry_of(g) == 0) {
        timer_clear(en, &g->idle);
        return;
    }
    uint64_t at = g->idle_warned ? g->used_ms + expiry_of(g) : warned_at(g);
    timer_set(en, &g->idle, en->now.mono_ms + (at > en->wall_ms ? at - en->wall_ms : 0), idle_look);
}

void group_used(struct engine *en, struct group *g)
{
    if (expiry_of(g) == 0)
        return;
    uint64_t every = expiry_of(g) / 10 < USED_WRITTEN_EVERY_MS ? expiry_of(g) / 10 : USED_WRITTEN_EVERY_MS;
    g->used_ms = en->wall_ms;
    if (en->wall_ms - g->used_written_ms >= every)
        group_write(en, g);
}

/* The row is written anew with the time that the broker was down left out, or the next restart would count it. */
void group_idle_load(struct engine *en, struct group *g)
{
    g->used_ms = g->used_ms != 0 ? g->used_ms + en->down_ms : en->wall_ms;
    if (expiry_of(g) != 0)
        group_write(en, g);
    group_idle_arm(en, g);
}

/* The timer stands where it was set; what was used since is looked at when it fires. */
static void idle_look(struct engine *en, struct timer *t)
{
    struct group *g = container_of(t, struct group, idle);
    if (in_use(g))
        group_used(en, g);
    uint64_t idle = en->wall_ms - g->used_ms;
    if (idle >= expiry_of(g)) {
        notice(en, "group deleted, nobody used it for its idle expiry idle_ms=%llu topic=%s group=%s", (unsigned long long)idle,
               g->topic->name, g->name);
        en->counters.groups_expired++;
        group_drop(en, g, E_GROUP_NOT_FOUND);
        return;
    }
    bool warn = en->wall_ms >= warned_at(g);
    if (warn && !g->idle_warned)
        notice(en, "group will be deleted, nobody uses it idle_ms=%llu left_ms=%llu topic=%s group=%s", (unsigned long long)idle,
               (unsigned long long)(expiry_of(g) - idle), g->topic->name, g->name);
    g->idle_warned = warn;
    group_idle_arm(en, g);
}

/* What operators do while clients work: tasks over dead letters, changes of what waits,
 * groups that pause, are purged, change. See client.h. */
#include <string.h>

#include "client.h"

static struct request *numbered(struct client *c, enum request_kind kind, enum wire_verb verb)
{
    struct request *r = client_request(c, kind, verb);
    r->seq = c->lanes[PARTS].next++;
    return r;
}

static void filter_make(struct world *w, struct wire_held_filter *f)
{
    static const char *reasons[] = {"parked", "max_deliveries", "lease expired", "expired"};
    *f = (struct wire_held_filter){0};
    switch (rng_below(&w->rng, 5)) {
    case 0:
        f->has_key = true;
        f->key = key_name((int)rng_below(&w->rng, KEYS));
        break;
    case 1:
        f->header = VIEW_LIT("h");
        f->has_header_value = true;
        f->header_value = header_value((int)rng_below(&w->rng, HEADERS - 1));
        break;
    case 2:
        f->reason = view_of_str(reasons[rng_below(&w->rng, ARRAY_LEN(reasons))]);
        break;
    case 3:
        f->attempts_min = (uint32_t)rng_between(&w->rng, 1, 3);
        break;
    default:
        f->attempts_max = (uint32_t)rng_between(&w->rng, 1, 3);
        break;
    }
}

/* A range that some of what was appended lies in. */
static void range_make(struct world *w, struct wire_held_change *r)
{
    uint64_t most = rng_between(&w->rng, 1, 40), ago = rng_below(&w->rng, 60000);
    switch (rng_below(&w->rng, 6)) {
    case 0:
        r->from_offset = rng_below(&w->rng, most);
        r->has_from = rng_chance(&w->rng, 1, 2);
        break;
    case 1:
        r->from_offset = rng_below(&w->rng, most);
        r->to_offset = r->from_offset + rng_between(&w->rng, 1, 20);
        break;
    case 2:
        r->from_ms = w->now.wall_ms - ago;
        break;
    case 3:
        r->from_ms = w->now.wall_ms - ago;
        r->to_ms = r->from_ms + rng_between(&w->rng, 1, 20000);
        break;
    default:
        break;
    }
}

static void replay_begin(struct world *w, struct client *c)
{
    struct request *r = numbered(c, R_TASK, VERB_HELD_CHANGE);
    int topic = (int)rng_below(&w->rng, TOPICS), group = (int)rng_below(&w->rng, GROUPS_PER_TOPIC);
    r->change_group = topic * GROUPS_PER_TOPIC + group;
    r->change = (struct wire_held_change){
        .act = TASK_REPLAY,
        .source = (uint8_t)(rng_chance(&w->rng, 2, 3) ? REPLAY_LOG : rng_between(&w->rng, REPLAY_PARKED, REPLAY_FAILED)),
        .rate_milli = rng_chance(&w->rng, 1, 4) ? (uint32_t)rng_between(&w->rng, 500, 20000) : 0,
        .limit = rng_chance(&w->rng, 1, 6) ? rng_between(&w->rng, 1, 8) : 0,
        .dry_run = rng_chance(&w->rng, 1, 8)};
    if (rng_chance(&w->rng, 1, 4)) {
        r->change.has_partition = true;
        r->change.partition = w->model->parts[topic * PARTITIONS + (int)rng_below(&w->rng, w->model->topic_config[topic].partitions)].id;
    }
    if (r->change.source != REPLAY_LOG && rng_chance(&w->rng, 1, 2))
        setup_names(topic * GROUPS_PER_TOPIC + 1 - group, &(struct view){0}, &r->change.of);
    if (rng_chance(&w->rng, 1, 2) && model_into_of(w, topic) == NULL) {
        r->change.into = VIEW_LIT("again");
        r->change.follow = rng_chance(&w->rng, 1, 3);
    }
    range_make(w, &r->change);
    if (rng_chance(&w->rng, 1, 2)) {
        do
            filter_make(w, &r->filter);
        while (r->change.source == REPLAY_LOG && !r->filter.has_key && r->filter.header.size == 0);
        r->change.filter = &r->filter;
    }
}

static void task_begin(struct world *w, struct client *c)
{
    struct request *r = numbered(c, R_TASK, VERB_HELD_CHANGE);
    r->change_group = (int)rng_below(&w->rng, GROUPS);
    r->change = (struct wire_held_change){
        .act = rng_chance(&w->rng, 2, 3) ? TASK_REDRIVE : TASK_DROP,
        .rate_milli = rng_chance(&w->rng, 1, 4) ? (uint32_t)rng_between(&w->rng, 500, 20000) : 0,
        .limit = rng_chance(&w->rng, 1, 5) ? rng_between(&w->rng, 1, 3) : 0,
        .dry_run = rng_chance(&w->rng, 1, 8)};
    if (rng_chance(&w->rng, 2, 3)) {
        filter_make(w, &r->filter);
        r->change.filter = &r->filter;
    }
}

void client_drop_all(struct client *c)
{
    for (int g = 0; g < GROUPS; g++) {
        struct request *r = numbered(c, R_TASK, VERB_HELD_CHANGE);
        r->change_group = g;
        r->change = (struct wire_held_change){.act = TASK_DROP};
    }
}

static void task_cancel(struct world *w, struct client *c)
{
    if (w->model->tasks_n == 0)
        return;
    numbered(c, R_TASK, VERB_TASK_CANCEL)->task = w->model->tasks[rng_below(&w->rng, w->model->tasks_n)].id;
}

static void sched_change(struct world *w, struct client *c, int sched, uint8_t act)
{
    struct request *r = numbered(c, R_SCHED, VERB_SCHED_CHANGE);
    struct sched *s = model_sched(w, sched);
    r->sched = sched;
    r->move.act = act;
    if (act == SCHED_MOVE && rng_chance(&w->rng, 1, 2))
        r->move.delay_ms = rng_below(&w->rng, 20000);
    else if (act == SCHED_MOVE)
        r->move.at_ms = w->now.wall_ms + rng_below(&w->rng, 20000);
    uint64_t least = r->move.at_ms != 0 ? r->move.at_ms : w->model->wall_ms + r->move.delay_ms;
    for (size_t i = 0; i < w->model->scheds_n; i++) { /* whoever has the name by then */
        struct sched *other = &w->model->scheds[i];
        if (other->topic != s->topic || strcmp(other->name, s->name) != 0)
            continue;
        other->ending |= act == SCHED_CANCEL;
        if (act == SCHED_MOVE && least < other->move_min)
            other->move_min = least;
    }
}

static void sched_change_some(struct world *w, struct client *c)
{
    for (int i = 0; i < 8 && w->model->scheds_n > 0; i++) {
        int sched = (int)rng_below(&w->rng, w->model->scheds_n);
        if (!model_sched(w, sched)->waits || model_sched(w, sched)->name[0] == '\0')
            continue;
        sched_change(w, c, sched, rng_chance(&w->rng, 1, 2) ? SCHED_CANCEL : SCHED_MOVE);
        return;
    }
}

static void control(struct world *w, struct client *c, int group, uint8_t act)
{
    struct request *r = numbered(c, R_CONTROL, VERB_GROUP_CONTROL);
    r->change_group = group;
    r->control = act;
    w->model->purges_asked[group] += act == GROUP_PURGE;
    world_trace(w, "client %d: group %d is to %s", c->index, group,
                act == GROUP_PAUSE    ? "pause"
                : act == GROUP_RESUME ? "go on"
                                      : "be purged");
}

void client_resume(struct world *w, struct client *c)
{
    for (int g = 0; g < GROUPS; g++)
        if (w->model->paused[g] && c->lanes[PARTS].next - c->lanes[PARTS].seen < 10)
            control(w, c, g, GROUP_RESUME);
}

static void alter(struct world *w, struct client *c)
{
    struct request *r = numbered(c, R_CONTROL, VERB_GROUP_ALTER);
    r->change_group = (int)rng_below(&w->rng, GROUPS);
    r->mask = rng_between(&w->rng, 1, 15);
    r->mask = ((r->mask & 1) != 0 ? GROUP_SET_LEASE_MS : 0) | ((r->mask & 2) != 0 ? GROUP_SET_RUN_MAX : 0) |
              ((r->mask & 4) != 0 ? GROUP_SET_EXPIRED : 0) | ((r->mask & 8) != 0 ? GROUP_SET_PARK : 0);
    r->group_config =
        (struct wire_group_config){.lease_ms = (uint32_t)rng_between(&w->rng, 1000, 6000),
                                   .run_max = (uint32_t)rng_between(&w->rng, 1, 4),
                                   .expired = rng_chance(&w->rng, 1, 2) ? EXPIRED_DROP : EXPIRED_PARK,
                                   .park = rng_chance(&w->rng, 1, 2) ? PARK_KEY : PARK_MESSAGE};
    if (w->model->group_config[r->change_group].order == ORDER_NONE && rng_chance(&w->rng, 1, 2)) {
        r->mask |= GROUP_SET_KEY_IN_FLIGHT_MAX | GROUP_SET_KEY_RATE_MILLI;
        r->group_config.key_in_flight_max = (uint32_t)rng_below(&w->rng, 4);
        r->group_config.key_rate_milli = rng_chance(&w->rng, 1, 3) ? (uint32_t)rng_between(&w->rng, 500, 4000) : 0;
    }
}

static void control_some(struct world *w, struct client *c)
{
    uint64_t x = rng_below(&w->rng, 10);
    if (x < 3)
        control(w, c, (int)rng_below(&w->rng, GROUPS), GROUP_PAUSE);
    else if (x < 7)
        client_resume(w, c);
    else if (x < 8)
        control(w, c, (int)rng_below(&w->rng, GROUPS), GROUP_PURGE);
    else
        alter(w, c);
}

void client_end_crons(struct world *w, struct client *c)
{
    for (size_t i = 0; i < w->model->scheds_n; i++) {
        const struct sched *s = model_sched(w, (int)i);
        if (s->cron && s->waits && c->lanes[PARTS].next - c->lanes[PARTS].seen < 10) {
            sched_change(w, c, (int)i, SCHED_CANCEL);
            return;
        }
    }
}

void client_operate(struct world *w, struct client *c)
{
    if (c->lanes[PARTS].next - c->lanes[PARTS].seen > 20)
        return;
    uint64_t x = rng_below(&w->rng, 20);
    if (x < 5)
        task_begin(w, c);
    else if (x >= 16)
        replay_begin(w, c);
    else if (x < 6)
        task_cancel(w, c);
    else if (x < 10)
        control_some(w, c);
    else
        sched_change_some(w, c);
}

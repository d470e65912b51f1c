/* What operators do while clients work: tasks over dead letters. See client.h. */
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

static void task_begin(struct world *w, struct client *c)
{
    struct request *r = numbered(c, R_TASK, VERB_HELD_CHANGE);
    r->change_group = (int)rng_below(&w->rng, GROUPS);
    r->change = (struct wire_held_change){.act = rng_chance(&w->rng, 2, 3) ? TASK_REDRIVE : TASK_DROP,
                                          .rate_milli = rng_chance(&w->rng, 1, 4) ? (uint32_t)rng_between(&w->rng, 500, 20000) : 0,
                                          .limit = rng_chance(&w->rng, 1, 5) ? rng_between(&w->rng, 1, 3) : 0,
                                          .dry_run = rng_chance(&w->rng, 1, 8)};
    if (rng_chance(&w->rng, 2, 3)) {
        filter_make(w, &r->filter);
        r->change.filter = &r->filter;
    }
}

static void task_cancel(struct world *w, struct client *c)
{
    if (w->model->tasks_n == 0)
        return;
    numbered(c, R_TASK, VERB_TASK_CANCEL)->task = w->model->tasks[rng_below(&w->rng, w->model->tasks_n)].id;
}

void client_operate(struct world *w, struct client *c)
{
    if (c->lanes[PARTS].next - c->lanes[PARTS].seen > 20)
        return;
    if (rng_chance(&w->rng, 5, 6))
        task_begin(w, c);
    else
        task_cancel(w, c);
}

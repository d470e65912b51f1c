/* Tasks over dead letters: begun, looked at, cancelled. */
#include "sdk/filter.h"
#include "sdk/listing.h"

static int begin(struct sluice *s, const char *topic, const char *group, enum task_act act,
                 const struct sluice_dlq_change *given, uint64_t *task, struct sluice_error *err)
{
    struct sluice_dlq_change o;
    uint32_t rate;
    int code = TAKE_STRUCT(&o, given, sluice_dlq_change, dry_run, err);
    if (code == 0)
        code = rate_milli("rate", o.rate, &rate, err);
    if (code != 0)
        return code;
    struct request *r = group_request(s, VERB_HELD_CHANGE, LANE_FREE, topic, group, &code, err);
    if (r == NULL)
        return code;
    r->wire.held_change = (struct wire_held_change){.topic = request_keep(r, view_of_str(topic)),
                                                    .group = request_keep(r, view_of_str(group)),
                                                    .act = (uint8_t)act,
                                                    .rate_milli = rate,
                                                    .limit = o.limit,
                                                    .dry_run = o.dry_run};
    code = filter_put(s, r, topic, o.filter, &r->wire.held_change.filter, err);
    if (code != 0) {
        request_free(r, &s->budget);
        return code;
    }
    struct answer *a;
    code = call_group(s, r, topic, group, &a, err);
    if (code != 0)
        return code;
    if (a->reply.body != BODY_TASKS || a->reply.tasks.tasks_n != 1)
        code = fail(err, E_BAD_FRAME, "group '%s' of topic '%s': the broker's answer makes no sense", group,
                    topic);
    else if (task != NULL)
        *task = a->reply.tasks.tasks[0].id;
    answer_drop(a);
    return code;
}

int sluice_dlq_redrive(struct sluice *s, const char *topic, const char *group,
                       const struct sluice_dlq_change *change, uint64_t *task, struct sluice_error *err)
{
    return begin(s, topic, group, TASK_REDRIVE, change, task, err);
}

int sluice_dlq_drop(struct sluice *s, const char *topic, const char *group,
                    const struct sluice_dlq_change *change, uint64_t *task, struct sluice_error *err)
{
    return begin(s, topic, group, TASK_DROP, change, task, err);
}

static bool tasks_page(struct listing *l, const struct wire_reply *reply)
{
    if (reply->body != BODY_TASKS)
        return false;
    const struct wire_task_reply *page = &reply->tasks;
    struct sluice_task *rows = listing_rows(l, page->tasks_n, sizeof *rows);
    for (uint32_t i = 0; i < page->tasks_n; i++) {
        const struct wire_task_row *w = &page->tasks[i];
        rows[i] = (struct sluice_task){.id = w->id,
                                       .topic = text_keep(&l->memory, w->topic),
                                       .group = text_keep(&l->memory, w->group),
                                       .act = w->act,
                                       .state = w->state,
                                       .dry_run = w->dry_run,
                                       .seen = w->seen,
                                       .matched = w->matched,
                                       .changed = w->changed,
                                       .started_ms = w->started_ms,
                                       .ended_ms = w->ended_ms,
                                       .rate = w->rate_milli / 1000.0,
                                       .error = text_keep(&l->memory, w->error)};
        l->after_id = w->id;
    }
    l->more = page->more;
    return true;
}

int sluice_tasks(struct sluice *s, uint64_t id, struct sluice_task_list **out, struct sluice_error *err)
{
    struct listing *l;
    int code = listing_of_tasks(s, id, tasks_page, &l, err);
    if (code == 0)
        l->out.tasks = (struct sluice_task_list){.count = l->rows_n, .tasks = l->rows};
    *out = code == 0 ? &l->out.tasks : NULL;
    return code;
}

void sluice_tasks_free(struct sluice_task_list *l)
{
    if (l != NULL)
        listing_free(container_of(l, struct listing, out.tasks));
}

int sluice_task_cancel(struct sluice *s, uint64_t id, struct sluice_error *err)
{
    struct request *r = client_request(s, VERB_TASK_CANCEL, LANE_FREE, "task %llu", (unsigned long long)id);
    r->wire.task = (struct wire_task){.id = id};
    struct answer *a;
    int code = client_call(s, r, &a, err);
    if (code == 0)
        answer_drop(a);
    return code;
}

/* Tasks over the messages of a group - redrive, drop, replay: begun, looked at, cancelled. */
#include "sdk/filter.h"
#include "sdk/listing.h"

/* Sends what the change says, with a filter and a pace. `other`: a group that is named beside the one it is for; NULL: none. */
static int begin(struct sluice *s, struct request *r, const char *topic, const char *group, const char *other, double rate,
                 const struct sluice_dlq_filter *filter, uint64_t *task, struct sluice_error *err)
{
    struct wire_held_change *w = &r->wire.held_change;
    w->topic = request_keep(r, view_of_str(topic));
    w->group = request_keep(r, view_of_str(group));
    int code = rate_milli("rate", rate, &w->rate_milli, err);
    if (code == 0)
        code = filter_put(s, r, topic, filter, &w->filter, err);
    if (code != 0) {
        request_free(r, &s->budget);
        return code;
    }
    struct answer *a;
    code = call_group(s, r, topic, group, &a, err);
    if (code == E_GROUP_NOT_FOUND && other != NULL)
        return fail(err, code, "no such group: '%s' or '%s' of topic '%s'", group, other, topic);
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

static int letters_change(struct sluice *s, const char *topic, const char *group, enum task_act act,
                  const struct sluice_dlq_change *given, uint64_t *task, struct sluice_error *err)
{
    struct sluice_dlq_change o;
    int code = TAKE_STRUCT(&o, given, sluice_dlq_change, dry_run, err);
    if (code != 0)
        return code;
    struct request *r = group_request(s, VERB_HELD_CHANGE, LANE_FREE, topic, group, &code, err);
    if (r == NULL)
        return code;
    r->wire.held_change =
        (struct wire_held_change){.act = (uint8_t)act, .limit = o.limit, .dry_run = o.dry_run};
    return begin(s, r, topic, group, NULL, o.rate, o.filter, task, err);
}

int sluice_dlq_redrive(struct sluice *s, const char *topic, const char *group,
                       const struct sluice_dlq_change *change, uint64_t *task, struct sluice_error *err)
{
    return letters_change(s, topic, group, TASK_REDRIVE, change, task, err);
}

int sluice_dlq_drop(struct sluice *s, const char *topic, const char *group,
                    const struct sluice_dlq_change *change, uint64_t *task, struct sluice_error *err)
{
    return letters_change(s, topic, group, TASK_DROP, change, task, err);
}

/* ---- replay */

static int check_replay(const struct sluice_replay *o, struct sluice_error *err)
{
    int code = 0;
    if (o->source < 0 || o->source > SLUICE_REPLAY_FAILED)
        return fail(err, E_INVALID_ARGUMENT, "source: %d is none of enum sluice_replay_source", o->source);
    if (o->from != 0 && o->from != SLUICE_FROM_START && o->from != SLUICE_FROM_OFFSET && o->from != SLUICE_FROM_TIME)
        return fail(err, E_INVALID_ARGUMENT, "from: %d is none of SLUICE_FROM_START, _OFFSET and _TIME", o->from);
    if (o->of != NULL)
        code = check_name("of", o->of, err);
    if (code == 0 && o->into != NULL)
        code = check_name("into", o->into, err);
    return code;
}

int sluice_group_replay(struct sluice *s, const char *topic, const char *group,
                        const struct sluice_replay *replay, uint64_t *task, struct sluice_error *err)
{
    struct sluice_replay o;
    uint32_t partition = 0;
    int code = TAKE_STRUCT(&o, replay, sluice_replay, dry_run, err);
    if (code == 0)
        code = check_replay(&o, err);
    if (code == 0 && o.one_partition)
        code = partition_id(s, topic, o.partition, &partition, err);
    if (code != 0)
        return code;
    struct request *r = group_request(s, VERB_HELD_CHANGE, LANE_FREE, topic, group, &code, err);
    if (r == NULL)
        return code;
    r->wire.held_change =
        (struct wire_held_change){.act = TASK_REPLAY,
                                  .source = o.source != 0 ? (uint8_t)o.source : REPLAY_LOG,
                                  .of = request_keep(r, view_of_str(o.of)),
                                  .into = request_keep(r, view_of_str(o.into)),
                                  .follow = o.follow,
                                  .has_partition = o.one_partition,
                                  .partition = partition,
                                  .has_from = o.from == SLUICE_FROM_OFFSET,
                                  .from_offset = o.from == SLUICE_FROM_OFFSET ? o.from_offset : 0,
                                  .from_ms = o.from == SLUICE_FROM_TIME ? o.from_ms : 0,
                                  .to_offset = o.to_offset,
                                  .to_ms = o.to_ms,
                                  .limit = o.limit,
                                  .dry_run = o.dry_run};
    return begin(s, r, topic, group, o.of, o.rate, o.filter, task, err);
}

/* ---- looked at */

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
                                       .error = text_keep(&l->memory, w->error),
                                       .left = w->left,
                                       .lost = w->lost,
                                       .source = w->source,
                                       .of = text_keep(&l->memory, w->of)};
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

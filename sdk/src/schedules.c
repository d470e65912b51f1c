/* What waits for its time: looked at, cancelled, moved. */
#include "base/mem.h"
#include "sdk/listing.h"

enum { ROWS_DEFAULT = 100, ROWS_MAX = 1000 };

/* What the user gets stands first. */
struct page {
    struct sluice_schedule_list out;
    struct arena memory;
    struct id128 last; /* the id of its last row */
};

static void put_row(struct sluice *s, struct page *p, const struct wire_scheduled *w,
                    struct sluice_scheduled *out)
{
    *out = (struct sluice_scheduled){.topic = text_keep(&p->memory, w->topic),
                                     .name = text_keep(&p->memory, w->name),
                                     .cron = text_keep(&p->memory, w->cron),
                                     .partition = UINT32_MAX,
                                     .count = w->count,
                                     .due_ms = w->due_ms,
                                     .created_ms = w->created_ms,
                                     .bytes = w->bytes};
    struct topic *t;
    if (catalog_topic(s, out->topic, &t, NULL) == 0)
        out->partition = topic_index(t, w->partition);
    p->last = w->id;
}

static struct page *page_new(struct sluice *s, const struct wire_sched_reply *w)
{
    struct page *p = mem_zalloc(sizeof *p);
    arena_init(&p->memory, SIZE_MAX);
    struct sluice_scheduled *rows = arena_take(&p->memory, w->rows_n * sizeof *rows);
    for (uint32_t i = 0; i < w->rows_n; i++)
        put_row(s, p, &w->rows[i], &rows[i]);
    p->out =
        (struct sluice_schedule_list){.count = w->rows_n, .rows = rows, .more = w->more && w->rows_n > 0};
    return p;
}

/* Errors of a request about what waits in a topic, with the command that makes the topic. */
static int call(struct sluice *s, struct request *r, const char *topic, struct answer **out,
                struct sluice_error *err)
{
    int code = client_call(s, r, out, err);
    return code == E_TOPIC_NOT_FOUND && topic != NULL ? fail_no_topic(err, topic) : code;
}

static int check_schedule(const char *topic, const char *name, struct sluice_error *err)
{
    int code = check_name("topic", topic, err);
    if (code == 0 && (name == NULL || name[0] == '\0'))
        return fail(err, E_INVALID_ARGUMENT, "the name of what waits is missing");
    return code;
}

int sluice_schedules(struct sluice *s, const char *topic, const char *name,
                     const struct sluice_schedule_options *options, struct sluice_schedule_list **out,
                     struct sluice_error *err)
{
    *out = NULL;
    struct sluice_schedule_options o;
    int code = TAKE_STRUCT(&o, options, sluice_schedule_options, after, err);
    if (code == 0 && o.limit > ROWS_MAX)
        code = fail(err, E_INVALID_ARGUMENT, "limit: %zu, at most %d are accepted", o.limit, ROWS_MAX);
    if (code == 0 && name != NULL)
        code = check_schedule(topic, name, err);
    else if (code == 0 && topic != NULL)
        code = check_name("topic", topic, err);
    if (code != 0)
        return code;
    struct request *r =
        name != NULL ? client_request(s, VERB_SCHED_LIST, LANE_READS, "'%s' of topic '%s'", name, topic)
                     : client_request(s, VERB_SCHED_LIST, LANE_READS, "schedules");
    r->wire.sched = (struct wire_sched){.topic = request_keep(r, view_of_str(topic)),
                                        .name = request_keep(r, view_of_str(name)),
                                        .limit = o.limit != 0 ? (uint32_t)o.limit : ROWS_DEFAULT};
    if (o.after != NULL && o.after->count > 0) {
        r->wire.sched.after_ms = o.after->rows[o.after->count - 1].due_ms;
        r->wire.sched.after_id = container_of(o.after, struct page, out)->last;
    }
    struct answer *a;
    code = call(s, r, topic, &a, err);
    if (code != 0)
        return code;
    if (a->reply.body == BODY_SCHED)
        *out = &page_new(s, &a->reply.sched)->out;
    answer_drop(a);
    return *out != NULL ? 0 : fail(err, E_BAD_FRAME, "schedules: the broker's answer makes no sense");
}

void sluice_schedules_free(struct sluice_schedule_list *l)
{
    if (l == NULL)
        return;
    struct page *p = container_of(l, struct page, out);
    arena_free(&p->memory);
    mem_free(p);
}

static int change(struct sluice *s, const char *topic, const char *name, const struct wire_sched *how,
                  struct sluice_error *err)
{
    int code = check_schedule(topic, name, err);
    if (code != 0)
        return code;
    struct request *r = client_request(s, VERB_SCHED_CHANGE, LANE_FREE, "'%s' of topic '%s'", name, topic);
    r->wire.sched = *how;
    r->wire.sched.topic = request_keep(r, view_of_str(topic));
    r->wire.sched.name = request_keep(r, view_of_str(name));
    struct answer *a;
    code = call(s, r, topic, &a, err);
    if (code == 0)
        answer_drop(a);
    return code;
}

int sluice_schedule_cancel(struct sluice *s, const char *topic, const char *name, struct sluice_error *err)
{
    return change(s, topic, name, &(struct wire_sched){.act = SCHED_CANCEL}, err);
}

int sluice_schedule_move(struct sluice *s, const char *topic, const char *name, uint64_t at_ms,
                         uint64_t delay_ms, struct sluice_error *err)
{
    if (at_ms != 0 && delay_ms != 0)
        return fail(err, E_INVALID_ARGUMENT, "only one of at_ms and delay_ms can be given");
    return change(s, topic, name,
                  &(struct wire_sched){.act = SCHED_MOVE, .at_ms = at_ms, .delay_ms = delay_ms}, err);
}

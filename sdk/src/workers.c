/* Worker daemons: what one says of itself and hears, who there is, what people ask of them. */
#include "base/mem.h"
#include "sdk/listing.h"

/* What the header names is what the wire means. */
_Static_assert((int)SLUICE_WORKER_STARTING == (int)WORKER_STARTING && (int)SLUICE_WORKER_RUNNING == (int)WORKER_RUNNING &&
                   (int)SLUICE_WORKER_SCALE == (int)WORKER_SCALE && (int)SLUICE_WORKER_RESUME == (int)WORKER_RESUME,
               "states and acts");

enum { PAGE = 500 };

/* ---------------------------------------------------------------- a report */

static struct view text(const char *s) { return view_of_str(s != NULL ? s : ""); }

/* As much as the broker takes, whole characters. */
static struct view cut(const char *s)
{
    struct view v = text(s);
    if (v.size <= WIRE_WORKER_TEXT_MAX)
        return v;
    v.size = WIRE_WORKER_TEXT_MAX;
    while (v.size > 0 && (v.data[v.size] & 0xc0) == 0x80)
        v.size--;
    return v;
}

static uint64_t milli(double rate) { return rate > 0 ? (uint64_t)(rate * 1000 + 0.5) : 0; }

static int handler_names(const struct sluice_worker_handler *h, struct sluice_error *err)
{
    int code = check_name("handler", h->name, err);
    if (code == 0)
        code = check_name("topic", h->topic, err);
    return code == 0 ? check_name("group", h->group, err) : code;
}

static struct wire_worker_handler put_handler(struct request *r, const struct sluice_worker_handler *h)
{
    return (struct wire_worker_handler){
        .name = request_keep(r, text(h->name)),
        .topic = request_keep(r, text(h->topic)),
        .group = request_keep(r, text(h->group)),
        .version = request_keep(r, text(h->version)),
        .why = request_keep(r, cut(h->why)),
        .error = request_keep(r, cut(h->error)),
        .taken_text = request_keep(r, cut(h->taken_text)),
        .state = (uint8_t)h->state,
        .taken_code = (uint16_t)h->taken_code,
        .up = h->up,
        .busy = h->busy,
        .wanted = h->wanted,
        .least = h->least,
        .most = h->most,
        .in_flight = h->in_flight,
        .done = h->done,
        .failed = h->failed,
        .done_rate_milli = milli(h->done_rate),
        .failed_rate_milli = milli(h->failed_rate),
        .taken = h->taken,
    };
}

/* The n-th of an array whose elements are as large as their `size` says. */
static int take_handler(const struct sluice_worker *w, size_t n, struct sluice_worker_handler *out, struct sluice_error *err)
{
    const char *at = (const char *)w->handlers + n * w->handlers->size;
    int code = TAKE_STRUCT(out, (const void *)at, sluice_worker_handler, asked, err);
    if (code == 0 && ((const struct sluice_worker_handler *)(const void *)at)->size != w->handlers->size)
        code = fail(err, E_INVALID_ARGUMENT, "struct sluice_worker_handler: all of one array have the same size");
    return code == 0 ? handler_names(out, err) : code;
}

static int put_worker(struct request *r, const struct sluice_worker *w, struct sluice_error *err)
{
    struct wire_worker_handler *handlers = mem_array(w->handlers_count, sizeof *handlers);
    int code = 0;
    for (size_t i = 0; i < w->handlers_count && code == 0; i++) {
        struct sluice_worker_handler h;
        code = take_handler(w, i, &h, err);
        if (code == 0)
            handlers[i] = put_handler(r, &h);
    }
    struct view kept = request_keep(r, view_of(handlers, w->handlers_count * sizeof *handlers));
    mem_free(handlers);
    r->wire.worker_report.worker = (struct wire_worker){
        .name = request_keep(r, text(w->name)),
        .host = request_keep(r, text(w->host)),
        .version = request_keep(r, text(w->version)),
        .pid = w->pid,
        .started_ms = w->started_ms,
        .handlers = (const struct wire_worker_handler *)(const void *)kept.data,
        .handlers_n = (uint32_t)w->handlers_count,
    };
    return code;
}

/* What the user gets stands first. */
struct commands {
    struct sluice_worker_commands out;
    struct arena memory;
};

static struct sluice_worker_commands *commands_new(const struct wire_worker_report_reply *w)
{
    struct commands *c = mem_zalloc(sizeof *c);
    arena_init(&c->memory, SIZE_MAX);
    struct sluice_worker_command *rows = arena_take(&c->memory, w->commands_n * sizeof *rows);
    for (uint32_t i = 0; i < w->commands_n; i++) {
        const struct wire_worker_command *from = &w->commands[i];
        rows[i] = (struct sluice_worker_command){.number = from->number,
                                                 .handler = text_keep(&c->memory, from->handler),
                                                 .act = from->act,
                                                 .has_least = from->has_least,
                                                 .has_most = from->has_most,
                                                 .least = from->least,
                                                 .most = from->most};
    }
    c->out = (struct sluice_worker_commands){.count = w->commands_n, .rows = rows, .ttl_ms = w->ttl_ms};
    return &c->out;
}

int sluice_worker_report(struct sluice *s, const struct sluice_worker *me, bool leaving, uint32_t timeout_ms, struct sluice_worker_commands **out,
                         struct sluice_error *err)
{
    struct sluice_worker w;
    if (out != NULL)
        *out = NULL;
    int code = TAKE_STRUCT(&w, me, sluice_worker, heard_ms, err);
    if (code == 0 && (w.name == NULL || w.host == NULL || w.name[0] == '\0' || w.host[0] == '\0'))
        code = fail(err, E_INVALID_ARGUMENT, "struct sluice_worker: a daemon has a name and a host");
    if (code == 0 && w.handlers == NULL && w.handlers_count > 0)
        code = fail(err, E_INVALID_ARGUMENT, "struct sluice_worker: handlers_count is %zu, handlers is NULL", w.handlers_count);
    if (code == 0 && w.handlers_count > WIRE_ITEMS_MAX)
        code = fail(err, E_LIMIT, "struct sluice_worker: %zu handlers, at most %d are accepted", w.handlers_count, WIRE_ITEMS_MAX);
    if (code != 0)
        return code;
    struct request *r = client_request(s, VERB_WORKER_REPORT, LANE_READS, "report of '%s'", w.name);
    r->wire.worker_report.leaving = leaving;
    if (timeout_ms != 0)
        r->deadline_ns = deadline_in(timeout_ms);
    code = put_worker(r, &w, err);
    if (code != 0) {
        request_free(r, &s->budget);
        return code;
    }
    struct answer *a;
    code = client_call(s, r, &a, err);
    if (code != 0)
        return code;
    if (a->reply.body != BODY_WORKER_REPORT)
        code = fail(err, E_BAD_FRAME, "report: the broker's answer makes no sense");
    else if (out != NULL)
        *out = commands_new(&a->reply.worker_report);
    answer_drop(a);
    return code;
}

void sluice_worker_commands_free(struct sluice_worker_commands *c)
{
    if (c == NULL)
        return;
    struct commands *all = container_of(c, struct commands, out);
    arena_free(&all->memory);
    mem_free(all);
}

/* ---------------------------------------------------------------- who is meant */

static int check_filter(const struct sluice_worker_filter *f, struct sluice_error *err)
{
    int code = f->handler != NULL ? check_name("handler", f->handler, err) : 0;
    if (code == 0 && f->topic != NULL)
        code = check_name("topic", f->topic, err);
    if (code == 0 && f->group != NULL)
        code = check_name("group", f->group, err);
    if (code == 0 && f->daemon != NULL && f->daemon[0] == '\0')
        code = fail(err, E_INVALID_ARGUMENT, "the pattern of daemons is empty: '*' is all of them");
    return code;
}

/* ---------------------------------------------------------------- the list */

static void take_handlers(struct listing *l, const struct wire_worker *w, struct sluice_worker *out)
{
    struct sluice_worker_handler *rows = arena_take(&l->memory, (w->handlers_n > 0 ? w->handlers_n : 1) * sizeof *rows);
    for (uint32_t i = 0; i < w->handlers_n; i++) {
        const struct wire_worker_handler *h = &w->handlers[i];
        rows[i] = (struct sluice_worker_handler){
            .size = sizeof *rows,
            .name = text_keep(&l->memory, h->name),
            .topic = text_keep(&l->memory, h->topic),
            .group = text_keep(&l->memory, h->group),
            .version = text_keep(&l->memory, h->version),
            .state = h->state,
            .up = h->up,
            .busy = h->busy,
            .wanted = h->wanted,
            .least = h->least,
            .most = h->most,
            .in_flight = h->in_flight,
            .done = h->done,
            .failed = h->failed,
            .done_rate = (double)h->done_rate_milli / 1000,
            .failed_rate = (double)h->failed_rate_milli / 1000,
            .why = text_keep(&l->memory, h->why),
            .error = text_keep(&l->memory, h->error),
            .taken = h->taken,
            .taken_code = h->taken_code,
            .taken_text = text_keep(&l->memory, h->taken_text),
            .asked = h->asked,
        };
    }
    out->handlers = rows;
    out->handlers_count = w->handlers_n;
}

static bool workers_page(struct listing *l, const struct wire_reply *reply)
{
    if (reply->body != BODY_WORKER_LIST)
        return false;
    const struct wire_worker_list_reply *page = &reply->worker_list;
    struct sluice_worker *rows = listing_rows(l, page->workers_n, sizeof *rows);
    for (uint32_t i = 0; i < page->workers_n; i++) {
        const struct wire_worker *w = &page->workers[i];
        if (w->id <= l->after_id)
            return false; /* they rise */
        rows[i] = (struct sluice_worker){
            .size = sizeof *rows,
            .name = text_keep(&l->memory, w->name),
            .host = text_keep(&l->memory, w->host),
            .version = text_keep(&l->memory, w->version),
            .pid = w->pid,
            .started_ms = w->started_ms,
            .id = w->id,
            .gone = w->state == WORKER_GONE,
            .heard_ms = w->heard_ms,
        };
        take_handlers(l, w, &rows[i]);
        l->after_id = w->id;
    }
    l->more = page->more;
    return !l->more || page->workers_n > 0;
}

int sluice_workers(struct sluice *s, const struct sluice_worker_filter *which, struct sluice_worker_list **out, struct sluice_error *err)
{
    *out = NULL;
    struct sluice_worker_filter f;
    int code = TAKE_STRUCT(&f, which, sluice_worker_filter, group, err);
    if (code == 0)
        code = check_filter(&f, err);
    if (code != 0)
        return code;
    struct listing *l = mem_zalloc(sizeof *l);
    arena_init(&l->memory, SIZE_MAX);
    do {
        struct answer *a;
        struct request *r = client_request(s, VERB_WORKER_LIST, LANE_READS, "workers");
        r->wire.worker_list = (struct wire_worker_list){.daemon = request_keep(r, view_of_str(f.daemon)),
                                                        .handler = request_keep(r, view_of_str(f.handler)),
                                                        .topic = request_keep(r, view_of_str(f.topic)),
                                                        .group = request_keep(r, view_of_str(f.group)),
                                                        .after = l->after_id,
                                                        .limit = PAGE};
        code = client_call(s, r, &a, err);
        if (code != 0)
            break;
        if (!workers_page(l, &a->reply))
            code = fail(err, E_BAD_FRAME, "workers: the broker's answer makes no sense");
        answer_drop(a);
    } while (code == 0 && l->more);
    if (code != 0) {
        listing_free(l);
        return code;
    }
    l->out.workers = (struct sluice_worker_list){.count = l->rows_n, .rows = l->rows};
    *out = &l->out.workers;
    return 0;
}

void sluice_workers_free(struct sluice_worker_list *l)
{
    if (l != NULL)
        listing_free(container_of(l, struct listing, out.workers));
}

/* ---------------------------------------------------------------- a control */

static int check_control(const struct sluice_worker_filter *f, const struct sluice_worker_control *c, struct sluice_error *err)
{
    if (f->handler == NULL && (f->topic == NULL || f->group == NULL))
        return fail(err, E_INVALID_ARGUMENT, "which handler? by its name, or by topic and group");
    if (c->act < SLUICE_WORKER_SCALE || c->act > SLUICE_WORKER_RESUME)
        return fail(err, E_INVALID_ARGUMENT, "act: %d is none of enum sluice_worker_act", c->act);
    return 0;
}

int sluice_worker_control(struct sluice *s, const struct sluice_worker_filter *which, const struct sluice_worker_control *what, uint64_t *number,
                          uint32_t *reached, struct sluice_error *err)
{
    struct sluice_worker_filter f;
    struct sluice_worker_control c;
    int code = TAKE_STRUCT(&f, which, sluice_worker_filter, group, err);
    if (code == 0)
        code = TAKE_STRUCT(&c, what, sluice_worker_control, most, err);
    if (code == 0)
        code = check_filter(&f, err);
    if (code == 0)
        code = check_control(&f, &c, err);
    if (code != 0)
        return code;
    struct request *r = f.handler != NULL ? client_request(s, VERB_WORKER_CONTROL, LANE_READS, "handler '%s'", f.handler)
                                          : client_request(s, VERB_WORKER_CONTROL, LANE_READS, "handler of topic '%s' and group '%s'", f.topic, f.group);
    r->wire.worker_control = (struct wire_worker_control){.daemon = request_keep(r, view_of_str(f.daemon)),
                                                          .handler = request_keep(r, view_of_str(f.handler)),
                                                          .topic = request_keep(r, view_of_str(f.topic)),
                                                          .group = request_keep(r, view_of_str(f.group)),
                                                          .act = (uint8_t)c.act,
                                                          .has_least = c.has_least,
                                                          .least = c.least,
                                                          .has_most = c.has_most,
                                                          .most = c.most};
    struct answer *a;
    code = client_call(s, r, &a, err);
    if (code != 0)
        return code;
    if (a->reply.body != BODY_WORKER_CONTROL)
        code = fail(err, E_BAD_FRAME, "control: the broker's answer makes no sense");
    else if (number != NULL)
        *number = a->reply.worker_control.number;
    if (code == 0 && reached != NULL)
        *reached = a->reply.worker_control.reached;
    answer_drop(a);
    return code;
}

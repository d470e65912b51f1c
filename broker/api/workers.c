/* The checks of what worker daemons report, and of what people ask of them. */
#include "api/checks.h"

/* What daemon and host are called is not ours to say, but for its length. */
static int check_label(const char *field, struct view v, bool empty_ok, struct err *e)
{
    if (v.size == 0 && !empty_ok)
        return err_set(e, E_INVALID_ARGUMENT, "%s is missing", field);
    return check_at_most(field, v.size, "of bytes", WIRE_NAME_MAX, e);
}

static int check_handler(const struct wire_worker_handler *h, struct err *e)
{
    int code = check_name("worker_report.handlers.name", h->name, false, e);
    if (code == E_OK)
        code = check_name("topic", h->topic, false, e);
    if (code == E_OK)
        code = check_name("group", h->group, false, e);
    if (code == E_OK)
        code = check_label("worker_report.handlers.version", h->version, true, e);
    if (code == E_OK)
        code = check_at_most("worker_report.handlers.why", h->why.size, "of bytes", WIRE_WORKER_TEXT_MAX, e);
    if (code == E_OK)
        code = check_at_most("worker_report.handlers.error", h->error.size, "of bytes", WIRE_WORKER_TEXT_MAX, e);
    if (code == E_OK)
        code = check_at_most("worker_report.handlers.taken_text", h->taken_text.size, "of bytes", WIRE_WORKER_TEXT_MAX, e);
    if (code == E_OK && (h->state < WORKER_RUNNING || h->state > WORKER_STARTING))
        return err_set(e, E_INVALID_ARGUMENT, "worker_report.handlers.state is %u: 1 running, 2 paused, 3 resting, 4 stopping, 5 starting", h->state);
    return code;
}

int check_worker_report(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    const struct wire_worker *w = &op->request.worker_report.worker;
    int code = check_label("worker_report.name", w->name, false, e);
    if (code == E_OK)
        code = check_label("worker_report.host", w->host, false, e);
    if (code == E_OK)
        code = check_label("worker_report.version", w->version, true, e);
    for (uint32_t i = 0; i < w->handlers_n && code == E_OK; i++)
        code = check_handler(&w->handlers[i], e);
    return code;
}

/* Names that select are names; a pattern is any text. */
static int check_choice_of(struct view daemon, struct view handler, struct view topic, struct view group, struct err *e)
{
    int code = check_label("the pattern of daemons", daemon, daemon.data == NULL, e);
    if (code == E_OK)
        code = check_name("handler", handler, true, e);
    if (code == E_OK)
        code = check_name("topic", topic, true, e);
    return code == E_OK ? check_name("group", group, true, e) : code;
}

int check_worker_list(struct api *a, struct op *op, struct err *e)
{
    struct wire_worker_list *l = &op->request.worker_list;
    l->limit = lowered(l->limit, a->limits->page_max);
    return check_choice_of(l->daemon, l->handler, l->topic, l->group, e);
}

static int check_scale(const struct wire_worker_control *c, struct err *e)
{
    if (!c->has_least && !c->has_most)
        return err_set(e, E_INVALID_ARGUMENT, "worker_control: to scale needs the least or the most processes, or both");
    if (c->has_most && c->most == 0)
        return err_set(e, E_INVALID_ARGUMENT, "worker_control.most is 0: to run none is to pause");
    if (c->has_least && c->has_most && c->least > c->most)
        return err_set(e, E_INVALID_ARGUMENT, "worker_control.least is %u, more than most, %u", c->least, c->most);
    int code = check_at_most("worker_control.least", c->has_least ? c->least : 0, "of processes", WIRE_PROCESSES_MAX, e);
    return code == E_OK ? check_at_most("worker_control.most", c->has_most ? c->most : 0, "of processes", WIRE_PROCESSES_MAX, e) : code;
}

int check_worker_control(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    const struct wire_worker_control *c = &op->request.worker_control;
    int code = check_choice_of(c->daemon, c->handler, c->topic, c->group, e);
    if (code == E_OK && c->handler.data == NULL && (c->topic.data == NULL || c->group.data == NULL))
        return err_set(e, E_INVALID_ARGUMENT, "worker_control: which handler? by its name, or by topic and group");
    if (code == E_OK && (c->act < WORKER_SCALE || c->act > WORKER_RESUME))
        return err_set(e, E_INVALID_ARGUMENT, "worker_control.act is %u: 1 scale, 2 pause, 3 resume", c->act);
    return code == E_OK && c->act == WORKER_SCALE ? check_scale(c, e) : code;
}

#include "broker/workers.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/planted.h"
#include "schemas/errors.h"

const struct workers_bounds workers_bounds_default = {
#define X(name, unit, def, min, max, help) .name = def,
#include "broker/workers.def"
#undef X
};

/* What people asked of one handler. A number of 0: nothing. */
struct asked {
    uint64_t last;  /* the highest number, confirmed or not */
    struct wire_worker_command scale, pause; /* their `handler` is not used */
};

/* A daemon. What it reported last is one piece of memory with all its texts. */
struct daemon {
    struct list_node by_id, by_heard;
    struct id128 session;
    uint64_t id, heard_ms;
    struct wire_worker is;
    struct asked *asked; /* of each handler */
    size_t bytes;        /* of the report: what it counts */
};

struct workers {
    const struct workers_bounds *bounds;
    struct list by_id;    /* in the order of registration */
    struct list by_heard; /* the one that was not heard of for longest first */
    uint64_t daemons_n, bytes;
    uint64_t last_id, last_number;
};

/* ---------------------------------------------------------------- the rows */

struct workers *workers_new(const struct workers_bounds *bounds, uint32_t epoch)
{
    struct workers *w = mem_zalloc(sizeof *w);
    w->bounds = bounds;
    w->last_number = PLANTED(worker_numbers_anew) ? 0 : (uint64_t)epoch << 32;
    list_init(&w->by_id);
    list_init(&w->by_heard);
    return w;
}

/* The report's memory begins with the handlers. */
static void report_free(struct workers *w, struct daemon *d)
{
    w->bytes -= d->bytes;
    d->bytes = 0;
    mem_free((void *)d->is.handlers);
    mem_free(d->asked);
}

static void forget(struct workers *w, struct daemon *d)
{
    list_remove(&d->by_id);
    list_remove(&d->by_heard);
    report_free(w, d);
    mem_free(d);
    w->daemons_n--;
}

void workers_free(struct workers *w)
{
    if (w == NULL)
        return;
    for (struct list_node *n; (n = list_first(&w->by_heard)) != NULL;)
        forget(w, container_of(n, struct daemon, by_heard));
    mem_free(w);
}

static bool is_gone(const struct workers *w, const struct daemon *d, uint64_t now_ms)
{
    return now_ms - d->heard_ms > w->bounds->worker_ttl_ms;
}

static struct daemon *longest_silent(struct workers *w)
{
    struct list_node *n = list_first(&w->by_heard);
    return n != NULL ? container_of(n, struct daemon, by_heard) : NULL;
}

static void sweep(struct workers *w, uint64_t now_ms)
{
    for (struct daemon *d; (d = longest_silent(w)) != NULL && now_ms - d->heard_ms > w->bounds->worker_ttl_ms + w->bounds->worker_gone_ms;)
        forget(w, d);
}

static bool same_process(const struct wire_worker *a, const struct wire_worker *b)
{
    return a->pid == b->pid && a->started_ms == b->started_ms && view_eq(a->name, b->name) && view_eq(a->host, b->host);
}

/* The row of a session; or of the same process under a session that it had before. */
static struct daemon *find(struct workers *w, struct id128 session, const struct wire_worker *is)
{
    struct daemon *before = NULL;
    LIST_EACH (n, &w->by_id) {
        struct daemon *d = container_of(n, struct daemon, by_id);
        if (id128_eq(d->session, session))
            return d;
        if (same_process(&d->is, is))
            before = d;
    }
    return before;
}

/* ---------------------------------------------------------------- a report is kept */

static const size_t worker_texts[] = {offsetof(struct wire_worker, name), offsetof(struct wire_worker, host), offsetof(struct wire_worker, version)};
static const size_t handler_texts[] = {
    offsetof(struct wire_worker_handler, name), offsetof(struct wire_worker_handler, topic), offsetof(struct wire_worker_handler, group),
    offsetof(struct wire_worker_handler, version), offsetof(struct wire_worker_handler, why), offsetof(struct wire_worker_handler, error),
    offsetof(struct wire_worker_handler, taken_text)};

static struct view *text_at(const void *s, size_t offset) { return (struct view *)((uintptr_t)s + offset); }

static size_t texts_size(const struct wire_worker *r)
{
    size_t size = 0;
    for (size_t t = 0; t < ARRAY_LEN(worker_texts); t++)
        size += text_at(r, worker_texts[t])->size;
    for (uint32_t i = 0; i < r->handlers_n; i++)
        for (size_t t = 0; t < ARRAY_LEN(handler_texts); t++)
            size += text_at(&r->handlers[i], handler_texts[t])->size;
    return size;
}

/* Moves the bytes of a view to `at`, and says where the next go. */
static uint8_t *text_move(struct view *v, uint8_t *at)
{
    if (v->size > 0)
        memcpy(at, v->data, v->size);
    v->data = v->data != NULL ? at : NULL;
    return at + v->size;
}

/* A copy of all of it, in `memory`, which has room: for the handlers, then their texts. */
static struct wire_worker copy_worker(const struct wire_worker *r, uint8_t *memory)
{
    struct wire_worker c = *r;
    struct wire_worker_handler *handlers = (struct wire_worker_handler *)(void *)memory;
    uint8_t *at = memory + r->handlers_n * sizeof *handlers;
    if (r->handlers_n > 0)
        memcpy(handlers, r->handlers, r->handlers_n * sizeof *handlers);
    c.handlers = handlers;
    for (size_t t = 0; t < ARRAY_LEN(worker_texts); t++)
        at = text_move(text_at(&c, worker_texts[t]), at);
    for (uint32_t i = 0; i < r->handlers_n; i++)
        for (size_t t = 0; t < ARRAY_LEN(handler_texts); t++)
            at = text_move(text_at(&handlers[i], handler_texts[t]), at);
    return c;
}

static size_t worker_size(const struct wire_worker *r) { return r->handlers_n * sizeof *r->handlers + texts_size(r); }

/* What was asked of the handler of that name before this report, or nothing. The order seldom changes. */
static struct asked asked_before(const struct daemon *d, uint32_t at, struct view name)
{
    if (at < d->is.handlers_n && view_eq(d->is.handlers[at].name, name))
        return d->asked[at];
    for (uint32_t i = 0; i < d->is.handlers_n; i++)
        if (view_eq(d->is.handlers[i].name, name))
            return d->asked[i];
    return (struct asked){0};
}

static void confirm(struct asked *a, uint64_t taken)
{
    if (a->scale.number <= taken)
        a->scale.number = 0;
    if (a->pause.number <= taken)
        a->pause.number = 0;
}

static void keep_report(struct workers *w, struct daemon *d, const struct wire_worker *r, size_t size)
{
    struct asked *asked = mem_array(r->handlers_n, sizeof *asked);
    for (uint32_t i = 0; i < r->handlers_n; i++) {
        asked[i] = asked_before(d, i, r->handlers[i].name);
        confirm(&asked[i], r->handlers[i].taken);
    }
    report_free(w, d);
    d->is = copy_worker(r, mem_alloc(size));
    d->asked = asked;
    d->bytes = size + r->handlers_n * sizeof *asked;
    w->bytes += d->bytes;
}

static int check_report(struct workers *w, const struct daemon *d, const struct wire_worker *r, size_t size, struct err *e)
{
    const struct workers_bounds *b = w->bounds;
    if (r->handlers_n > b->worker_handlers_max)
        return err_set(e, E_LIMIT, "worker_report: daemon '%.*s' has %u handlers, the limit worker_handlers_max is %llu", (int)r->name.size,
                       (const char *)r->name.data, r->handlers_n, (unsigned long long)b->worker_handlers_max);
    if (d == NULL && w->daemons_n >= b->workers_max)
        return err_set(e, E_LIMIT, "worker_report: %llu daemons are registered, the limit workers_max", (unsigned long long)w->daemons_n);
    uint64_t others = w->bytes - (d != NULL ? d->bytes : 0), own = size + r->handlers_n * sizeof(struct asked);
    if (others + own > b->workers_bytes_max)
        return err_set(e, E_LIMIT, "worker_report: daemon '%.*s' with %llu bytes does not fit the limit workers_bytes_max, %llu", (int)r->name.size,
                       (const char *)r->name.data, (unsigned long long)own, (unsigned long long)b->workers_bytes_max);
    return E_OK;
}

/* A daemon that is gone makes room for one that is there. */
static void make_room(struct workers *w, const struct daemon *d, uint64_t now_ms)
{
    struct daemon *oldest = longest_silent(w);
    if (d == NULL && w->daemons_n >= w->bounds->workers_max && oldest != NULL && is_gone(w, oldest, now_ms))
        forget(w, oldest);
}

/* ---------------------------------------------------------------- answers */

/* Arrays of the reply are bounded by what is kept and by page_max. */
static void *reply_take(struct op *op, size_t size)
{
    op->arena.limit = SIZE_MAX;
    void *p = arena_take(&op->arena, size > 0 ? size : 1);
    if (p == NULL)
        abort(); /* as mem_alloc does */
    return p;
}

static struct view reply_text(struct op *op, struct view v)
{
    uint8_t *copy = reply_take(op, v.size);
    memcpy(copy, v.data != NULL ? v.data : copy, v.size);
    return view_of(copy, v.size);
}

static void refuse(struct op *op)
{
    op->reply = (struct wire_reply){.code = (uint16_t)op->error.code, .detail = view_of_str(op->error.text)};
}

static void put_command(struct op *op, struct wire_worker_report_reply *r, struct wire_worker_command *into, const struct wire_worker_command *c,
                        struct view handler)
{
    if (c->number == 0)
        return;
    into[r->commands_n] = *c;
    into[r->commands_n++].handler = reply_text(op, handler);
}

static int by_number(const void *a, const void *b)
{
    const struct wire_worker_command *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* Everything that the daemon did not confirm. */
static void answer_commands(struct workers *w, struct op *op, struct daemon *d)
{
    struct wire_worker_report_reply *r = &op->reply.worker_report;
    struct wire_worker_command *commands = reply_take(op, 2 * d->is.handlers_n * sizeof *commands);
    op->reply.body = BODY_WORKER_REPORT;
    r->ttl_ms = (uint32_t)w->bounds->worker_ttl_ms;
    for (uint32_t i = 0; i < d->is.handlers_n; i++) {
        put_command(op, r, commands, &d->asked[i].scale, d->is.handlers[i].name);
        put_command(op, r, commands, &d->asked[i].pause, d->is.handlers[i].name);
        if (PLANTED(worker_command_once))
            confirm(&d->asked[i], UINT64_MAX);
    }
    qsort(commands, r->commands_n, sizeof *commands, by_number);
    r->commands = commands;
}

static void take_report(struct workers *w, struct op *op, uint64_t now_ms)
{
    const struct wire_worker_report *report = &op->request.worker_report;
    const struct wire_worker *r = &report->worker;
    struct daemon *d = find(w, op->request.session, r);
    if (report->leaving) {
        if (d != NULL)
            forget(w, d);
        op->reply.body = BODY_WORKER_REPORT;
        op->reply.worker_report.ttl_ms = (uint32_t)w->bounds->worker_ttl_ms;
        return;
    }
    size_t size = worker_size(r);
    make_room(w, d, now_ms);
    if (check_report(w, d, r, size, &op->error) != E_OK) {
        refuse(op);
        return;
    }
    if (d == NULL) {
        d = mem_zalloc(sizeof *d);
        d->id = ++w->last_id;
        list_push_back(&w->by_id, &d->by_id);
        w->daemons_n++;
    }
    keep_report(w, d, r, size);
    d->session = op->request.session;
    d->heard_ms = now_ms;
    list_remove(&d->by_heard);
    list_push_back(&w->by_heard, &d->by_heard);
    answer_commands(w, op, d);
}

/* ---------------------------------------------------------------- who is meant */

bool workers_fits(struct view pattern, struct view text)
{
    if (pattern.data == NULL)
        return true;
    size_t p = 0, t = 0, star = SIZE_MAX, from = 0; /* what stands before the last star fits; from there it is tried further on */
    while (t < text.size) {
        if (p < pattern.size && pattern.data[p] == '*') {
            star = p++;
            from = t;
        } else if (p < pattern.size && (pattern.data[p] == '?' || pattern.data[p] == text.data[t])) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++from;
        } else {
            return false;
        }
    }
    while (p < pattern.size && pattern.data[p] == '*')
        p++;
    return p == pattern.size;
}

struct choice { struct view daemon, handler, topic, group; };

static bool daemon_fits(const struct choice *c, const struct daemon *d)
{
    return workers_fits(c->daemon, d->is.name) || workers_fits(c->daemon, d->is.host);
}

static bool is_or_any(struct view wanted, struct view name) { return wanted.data == NULL || view_eq(wanted, name); }

static bool handler_fits(const struct choice *c, const struct wire_worker_handler *h)
{
    return is_or_any(c->handler, h->name) && is_or_any(c->topic, h->topic) && is_or_any(c->group, h->group);
}

static uint32_t handlers_that_fit(const struct choice *c, const struct daemon *d)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->is.handlers_n; i++)
        n += handler_fits(c, &d->is.handlers[i]);
    return n;
}

/* ---------------------------------------------------------------- the list */

/* A row of the list, with those of its handlers that fit. */
static struct wire_worker list_row(const struct workers *w, struct op *op, const struct choice *c, const struct daemon *d, uint32_t fit, uint64_t now_ms)
{
    struct wire_worker row = d->is;
    struct wire_worker_handler *handlers = reply_take(op, fit * sizeof *handlers);
    row.handlers_n = 0;
    for (uint32_t i = 0; i < d->is.handlers_n; i++) {
        if (!handler_fits(c, &d->is.handlers[i]))
            continue;
        handlers[row.handlers_n] = d->is.handlers[i];
        handlers[row.handlers_n++].asked = d->asked[i].last;
    }
    row.handlers = handlers;
    row = copy_worker(&row, reply_take(op, worker_size(&row))); /* the row may be gone when the reply is encoded */
    row.id = d->id;
    row.state = is_gone(w, d, now_ms) ? WORKER_GONE : WORKER_LIVE;
    row.heard_ms = now_ms - d->heard_ms;
    return row;
}

/* Daemons that have none of the handlers asked for are left out. A page is full of daemons, or of handlers. */
static void take_list(struct workers *w, struct op *op, uint64_t now_ms)
{
    const struct wire_worker_list *l = &op->request.worker_list;
    const struct choice c = {l->daemon, l->handler, l->topic, l->group};
    bool any_handler = c.handler.data == NULL && c.topic.data == NULL && c.group.data == NULL;
    struct wire_worker_list_reply *r = &op->reply.worker_list;
    uint64_t room = l->limit != 0 ? l->limit : 1;
    struct wire_worker *rows = reply_take(op, (room < w->daemons_n ? room : w->daemons_n) * sizeof *rows);
    op->reply.body = BODY_WORKER_LIST;
    r->workers = rows;
    uint64_t handlers = 0;
    LIST_EACH (n, &w->by_id) {
        const struct daemon *d = container_of(n, struct daemon, by_id);
        if (d->id <= l->after || !daemon_fits(&c, d))
            continue;
        uint32_t fit = handlers_that_fit(&c, d);
        if (fit == 0 && !any_handler)
            continue;
        r->more = r->workers_n == room || handlers >= room;
        if (r->more)
            return;
        rows[r->workers_n++] = list_row(w, op, &c, d, fit, now_ms);
        handlers += fit;
    }
}

/* ---------------------------------------------------------------- a control */

static void ask(struct asked *a, const struct wire_worker_control *c, uint64_t number)
{
    a->last = number;
    if (c->act != WORKER_SCALE) {
        a->pause = (struct wire_worker_command){.number = number, .act = c->act};
        return;
    }
    if (a->scale.number == 0)
        a->scale = (struct wire_worker_command){.act = WORKER_SCALE};
    a->scale.number = number;
    if (c->has_least) {
        a->scale.has_least = true;
        a->scale.least = c->least;
    }
    if (c->has_most) {
        a->scale.has_most = true;
        a->scale.most = c->most;
    }
    if (a->scale.has_least && a->scale.has_most && a->scale.least > a->scale.most) { /* one of them is of a scale that this one replaces */
        a->scale.has_least = c->has_least;
        a->scale.has_most = c->has_most;
    }
}

#define TEXT(v) (int)(v).size, (const char *)(v).data

/* What was asked for and is not there, and whether it was. */
static void say_nobody(const struct wire_worker_control *c, uint32_t gone, struct err *e)
{
    char what[ERR_TEXT_MAX / 2], where[ERR_TEXT_MAX / 4] = "";
    if (c->handler.data != NULL)
        snprintf(what, sizeof what, "handler '%.*s'", TEXT(c->handler));
    else
        snprintf(what, sizeof what, "handler of topic '%.*s' and group '%.*s'", TEXT(c->topic), TEXT(c->group));
    if (c->daemon.data != NULL)
        snprintf(where, sizeof where, " on '%.*s'", TEXT(c->daemon));
    if (gone > 0)
        err_set(e, E_WORKER_NOT_FOUND, "%s%s: %u daemon%s had it and %s not heard of any more", what, where, gone, gone == 1 ? "" : "s",
                gone == 1 ? "is" : "are");
    else
        err_set(e, E_WORKER_NOT_FOUND, "%s%s", what, where);
}

static void take_control(struct workers *w, struct op *op, uint64_t now_ms)
{
    const struct wire_worker_control *control = &op->request.worker_control;
    const struct choice c = {control->daemon, control->handler, control->topic, control->group};
    uint64_t number = w->last_number + 1;
    uint32_t reached = 0, gone = 0;
    LIST_EACH (n, &w->by_id) {
        struct daemon *d = container_of(n, struct daemon, by_id);
        uint32_t fit = daemon_fits(&c, d) ? handlers_that_fit(&c, d) : 0;
        if (is_gone(w, d, now_ms) && !PLANTED(worker_gone_reached)) {
            gone += fit > 0;
            continue;
        }
        reached += fit;
        for (uint32_t i = 0; i < d->is.handlers_n && fit > 0; i++)
            if (handler_fits(&c, &d->is.handlers[i]))
                ask(&d->asked[i], control, number);
    }
    if (reached == 0) {
        say_nobody(control, gone, &op->error);
        refuse(op);
        return;
    }
    w->last_number = number;
    op->reply.body = BODY_WORKER_CONTROL;
    op->reply.worker_control = (struct wire_worker_control_reply){.number = number, .reached = reached};
}

/* ---------------------------------------------------------------- what the loop calls */

void workers_take(struct workers *w, struct op *op, uint64_t now_ms)
{
    op->read = READ_NONE;
    memset(&op->reply, 0, sizeof op->reply);
    sweep(w, now_ms);
    if (op->request.verb == VERB_WORKER_REPORT)
        take_report(w, op, now_ms);
    else if (op->request.verb == VERB_WORKER_LIST)
        take_list(w, op, now_ms);
    else
        take_control(w, op, now_ms);
}

void workers_counts(struct workers *w, uint64_t now_ms, struct workers_counts *out)
{
    sweep(w, now_ms);
    *out = (struct workers_counts){.bytes = w->bytes};
    LIST_EACH (n, &w->by_heard) {
        if (!is_gone(w, container_of(n, struct daemon, by_heard), now_ms))
            break; /* and so are all behind it: heard of later */
        out->gone++;
    }
    out->live = w->daemons_n - out->gone;
}

/* The checks of fetch, receive, what looks at messages and what is done with dead letters. */
#include "api/checks.h"

enum { SLOTS = 60 }; /* receives of one session that may be out (docs/protocol.md) */

int check_fetch(struct api *a, struct op *op, struct err *e)
{
    struct wire_fetch *f = &op->request.fetch;
    if (f->from_n == 0)
        return err_set(e, E_INVALID_ARGUMENT, "fetch.from is empty: no partition to read");
    f->max_bytes = lowered(f->max_bytes, a->limits->fetch_bytes_max);
    return check_at_most("fetch.from_n", f->from_n, "WIRE_ITEMS_MAX", WIRE_ITEMS_MAX, e);
}

int check_receive_args(struct api *a, struct wire_receive *r, const char *field, struct err *e)
{
    const struct engine_limits *l = a->limits;
    if (r->groups_n == 0)
        return err_set(e, E_INVALID_ARGUMENT, "%s.groups is empty: no group to receive from", field);
    if (r->slot >= SLOTS)
        return err_set(e, E_INVALID_ARGUMENT, "%s.slot is %u: slots are 0 to %d", field, r->slot, SLOTS - 1);
    if (r->counter == 0)
        return err_set(e, E_INVALID_ARGUMENT, "%s.counter is 0: it counts from 1", field);
    if (r->lease_ms != 0 && (r->lease_ms < LEASE_MS_MIN || r->lease_ms > l->lease_ms_max))
        return err_set(e, E_LIMIT, "%s.lease_ms is %u: a lease lasts %d to %llu ms, or 0 for the group's",
                       field, r->lease_ms, LEASE_MS_MIN, (unsigned long long)l->lease_ms_max);
    r->max_messages = lowered(r->max_messages, l->lease_messages_max);
    r->max_bytes = lowered(r->max_bytes, l->reply_bytes_max);
    return E_OK;
}

int check_receive(struct api *a, struct op *op, struct err *e)
{
    return check_receive_args(a, &op->request.receive, "receive", e);
}

/* As a header's value or a key of a record can be; NULL is fine. */
static int check_filter(const struct wire_held_filter *f, const char *field, struct err *e)
{
    if (f == NULL)
        return E_OK;
    int code = check_at_most(field, f->key.size, "of a key's bytes", WIRE_KEY_MAX, e);
    if (code == E_OK)
        code = check_at_most(field, f->header.size + f->header_value.size, "of headers' bytes", WIRE_HEADERS_BYTES_MAX, e);
    if (code == E_OK && f->has_header_value && f->header.size == 0)
        return err_set(e, E_INVALID_ARGUMENT, "%s.header_value is given without header", field);
    if (code == E_OK && f->before_ms != 0 && f->before_ms <= f->after_ms)
        return err_set(e, E_INVALID_ARGUMENT, "%s.before_ms is %llu, not behind after_ms, %llu", field,
                       (unsigned long long)f->before_ms, (unsigned long long)f->after_ms);
    return code;
}

static int check_names(struct view topic, struct view group, struct err *e)
{
    int code = check_name("topic", topic, false, e);
    return code == E_OK ? check_name("group", group, false, e) : code;
}

int check_held_list(struct api *a, struct op *op, struct err *e)
{
    struct wire_held_list *h = &op->request.held;
    if (h->state > HELD_PARKED)
        return err_set(e, E_INVALID_ARGUMENT, "held_list.state is %u: 0 any, 1 retrying, 2 parked", h->state);
    h->limit = lowered(h->limit, a->limits->page_max);
    h->max_bytes = lowered(h->max_bytes, a->limits->reply_bytes_max);
    int code = check_names(h->topic, h->group, e);
    return code == E_OK ? check_filter(h->filter, "held_list.filter", e) : code;
}

static int check_range(const char *field, uint64_t from, uint64_t to, struct err *e)
{
    if (to == 0 || to > from)
        return E_OK;
    return err_set(e, E_INVALID_ARGUMENT, "held_change.to_%s is %llu, not behind from_%s, %llu", field, (unsigned long long)to, field,
                   (unsigned long long)from);
}

/* What a replay asks more than a redrive. The log knows of no reason, no failures, no time of parking. */
static int check_replay(const struct wire_held_change *h, struct err *e)
{
    const struct wire_held_filter *f = h->filter;
    if (h->source < REPLAY_LOG || h->source > REPLAY_FAILED)
        return err_set(e, E_INVALID_ARGUMENT, "held_change.source is %u: 1 log, 2 parked, 3 failed", h->source);
    int code = check_name("of", h->of, true, e);
    if (code == E_OK)
        code = check_name("into", h->into, true, e);
    if (code == E_OK)
        code = check_range("offset", h->from_offset, h->to_offset, e);
    if (code == E_OK)
        code = check_range("ms", h->from_ms, h->to_ms, e);
    if (code == E_OK && h->follow && h->into.size == 0)
        return err_set(e, E_INVALID_ARGUMENT, "held_change.follow is given without into");
    if (code == E_OK && h->source == REPLAY_LOG && f != NULL &&
        (f->reason.size > 0 || f->after_ms != 0 || f->before_ms != 0 || f->attempts_min != 0 || f->attempts_max != 0))
        return err_set(e, E_INVALID_ARGUMENT, "held_change.filter: a reason, attempts and times of parking are those of held messages, not of the log");
    return code;
}

int check_held_change(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    const struct wire_held_change *h = &op->request.held_change;
    if (h->act < TASK_REDRIVE || h->act > TASK_REPLAY)
        return err_set(e, E_INVALID_ARGUMENT, "held_change.act is %u: 1 redrive, 2 drop, 3 replay", h->act);
    int code = check_names(h->topic, h->group, e);
    if (code == E_OK)
        code = check_filter(h->filter, "held_change.filter", e);
    return code == E_OK && h->act == TASK_REPLAY ? check_replay(h, e) : code;
}

int check_explain(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    const struct wire_explain *x = &op->request.explain;
    if (x->has_key && x->has_offset)
        return err_set(e, E_INVALID_ARGUMENT, "explain: of a key or of an offset, not of both");
    int code = check_names(x->topic, x->group, e);
    return code == E_OK ? check_at_most("explain.key", x->key.size, "of bytes", WIRE_KEY_MAX, e) : code;
}

int check_state_get(struct api *a, struct op *op, struct err *e)
{
    (void)a;
    return check_at_most("state_get.key", op->request.state_get.key.size, "of bytes", WIRE_KEY_MAX, e);
}

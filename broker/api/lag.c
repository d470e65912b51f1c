/* The lag of all groups, asked by the broker itself: for what it publishes and for its metrics. */
#include "api/checks.h"

static void page_done(struct op *op)
{
    struct lag_walk *w = container_of(op, struct lag_walk, op);
    if (w->changes) {
        w->changed = op->changed;
        w->changed_end = op->changed_end;
    }
    w->page(w);
}

void api_lag_begin(struct api *a, struct lag_walk *w, void (*page)(struct lag_walk *w))
{
    *w = (struct lag_walk){.api = a, .page = page};
    api_op_begin(&w->op);
}

bool api_lag_more(const struct lag_walk *w)
{
    const struct wire_reply *r = &w->op.reply;
    return r->code == E_OK && r->body == BODY_LAG && r->lag.more && r->lag.rows_n > 0;
}

/* Where the next page begins: behind the last row of this one. */
static void step(struct lag_walk *w)
{
    const struct wire_reply *r = &w->op.reply;
    if (r->body == BODY_LAG && r->lag.rows_n > 0) {
        const struct wire_lag *last = &r->lag.rows[r->lag.rows_n - 1];
        buf_clear(&w->after);
        buf_append(&w->after, last->topic.data, last->topic.size);
        buf_put_u8(&w->after, '/');
        buf_append(&w->after, last->group.data, last->group.size);
    }
    api_op_end(&w->op);
    w->op = (struct op){.done = page_done, .bytes = sizeof w->op, .request = {.verb = VERB_GROUP_LAG}};
    api_op_begin(&w->op);
    w->op.changes = w->changes;
    w->op.changed = w->changed;
    w->op.changed_end = w->changed_end;
    if (w->after.size > 0 && !w->changes)
        w->op.request.list.after = buf_view(&w->after);
}

void api_lag_next(struct lag_walk *w)
{
    step(w);
    api_submit(w->api, &w->op);
}

void api_lag_end(struct lag_walk *w)
{
    api_op_end(&w->op);
    buf_free(&w->after);
    *w = (struct lag_walk){.api = w->api, .page = w->page, .changed = w->changed};
}

/* Handing operations back, and those that wait meanwhile. */
#include "engine/memory.h"

#include <stdarg.h>

/* The reply's arrays are bounded by the limits that were checked before; memory for them is bookkeeping (base/mem.h). */
void *op_take(struct engine *en, struct op *op, size_t n, size_t size)
{
    (void)en;
    op->arena.limit = SIZE_MAX;
    void *p = arena_take(&op->arena, n * size > 0 ? n * size : 1);
    assert(p != NULL);
    return p;
}

struct view op_text(struct op *op, const char *text)
{
    size_t n = strlen(text);
    char *copy = op_take(NULL, op, n + 1, 1);
    memcpy(copy, text, n);
    return view_of(copy, n);
}

static void hand_back(struct engine *en, struct op *op)
{
    assert(!list_linked(&op->wait));
    if (op->reply.code != E_OK) {
        if (op->reply.code != E_DUPLICATE) /* which says which */
            op->reply.body = BODY_NONE;
        op->read = READ_NONE;
        if (op->error.text[0] != '\0')
            op->reply.detail = op_text(op, op->error.text);
    }
    list_push_back(&en->fx.done, &op->wait);
}

void answer(struct engine *en, struct op *op, int code, const char *fmt, ...)
{
    op->reply.code = (uint16_t)code;
    if (fmt != NULL) {
        va_list args;
        va_start(args, fmt);
        err_vset(&op->error, code, fmt, args);
        va_end(args);
    }
    op->turn = 0;
    op->level = DURABILITY_NONE;
    hand_back(en, op);
}

void answer_standing(struct engine *en, struct op *op, enum durability level, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    err_vset(&op->error, code, fmt, args);
    va_end(args);
    op->reply.code = (uint16_t)code;
    op->turn = en->turn;
    op->level = level;
    if (level == DURABILITY_DISK)
        en->fx.need_sync = true;
    hand_back(en, op);
}

void answer_now(struct engine *en, struct op *op)
{
    op->turn = 0;
    op->level = DURABILITY_NONE;
    hand_back(en, op);
}

void answer_change(struct engine *en, struct op *op, enum durability level)
{
    op->turn = en->turn;
    op->level = level;
    op->reply.durability = (uint8_t)level;
    if (level == DURABILITY_DISK)
        en->fx.need_sync = true;
    if (op->lane != NULL)
        lane_done(en, op->lane, op, level);
    hand_back(en, op);
}

void answer_on(struct engine *en, struct op *op, uint64_t turn)
{
    if (turn <= en->durable) {
        answer_now(en, op);
        return;
    }
    op->turn = turn;
    op->level = DURABILITY_DISK;
    en->fx.need_sync = true;
    hand_back(en, op);
}

/* ---------------------------------------------------------------- waiting */

void wait_at(struct op *op, struct place *p, struct list *queue)
{
    p->op = op;
    list_push_back(queue, &p->queue);
    list_push_back(&op->waits, &p->of_op);
}

void wait_end(struct engine *en, struct op *op)
{
    for (struct list_node *n; (n = list_pop_front(&op->waits)) != NULL;)
        list_remove(&container_of(n, struct place, of_op)->queue);
    if (heap_contains(&en->waits, &op->timer))
        heap_remove(&en->waits, &op->timer);
    if (op->session != NULL && list_linked(&op->wait)) {
        ((struct session *)op->session)->waiting_n--;
        list_remove(&op->wait);
    }
    op->session = NULL;
}

/* One long poll more than a session may have ends its oldest. */
void wait_begin(struct engine *en, struct op *op, struct session *s, uint32_t wait_ms)
{
    if (s->waiting_n >= en->limits->waiting_per_session_max) {
        struct op *oldest = container_of(list_first(&s->waiting), struct op, wait);
        wait_end(en, oldest);
        en->counters.waits_ended_early++;
        answer(en, oldest, E_AGAIN, "more than %llu requests of this session wait", (unsigned long long)en->limits->waiting_per_session_max);
    }
    uint64_t wait = wait_ms < en->limits->wait_ms_max ? wait_ms : en->limits->wait_ms_max;
    op->session = s;
    list_push_back(&s->waiting, &op->wait);
    s->waiting_n++;
    heap_push(&en->waits, &op->timer, en->now.mono_ms + wait, heap_seq(&en->waits));
}

void wait_over(struct engine *en, struct op *op)
{
    if (op->request.verb == VERB_GROUP_JOIN || op->request.verb == VERB_GROUP_HEARTBEAT) {
        members_wait_over(en, op);
        return;
    }
    wait_end(en, op);
    if (op->request.verb == VERB_RECEIVE)
        receive_empty(en, op);
    else
        log_fetch_try(en, op, true);
}

/*
 * What becomes of the tasks that are held: their leases are extended, their outcomes go to the source and what it answers comes back,
 * and the breaker hears of each.
 */
#include "workerd/loop.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/text.h"

enum {
    SETTLE_AGAIN_MS = 100,   /* after the source had no room for outcomes */
    SUSPECTS_MS_MAX = 30000, /* how long they are kept with no process up, */
    OTHERS_MS_MAX = 1000,    /* and others beside them */
};

/* ---- outcomes ---- */

static void push_outcome(struct outcome ***list, size_t *n, size_t *cap, struct outcome *o)
{
    if (*n == *cap) {
        *cap = *cap != 0 ? 2 * *cap : 64;
        *list = mem_resize(*list, *cap, sizeof **list);
    }
    (*list)[(*n)++] = o;
}

static void outcome_send(struct run *r, struct task *t, struct outcome *o, enum outcome_verb verb)
{
    assert(!o->under_way);
    o->event.kind = EVENT_SETTLED;
    o->task = t;
    o->verb = verb;
    o->under_way = true;
    push_outcome(&r->sending, &r->sending_n, &r->sending_cap, o);
}

static void drop_effects(struct run *r, struct task *t)
{
    if (t->effects != NULL)
        r->effects_bytes -= t->effects->bytes;
    effects_free(t->effects);
    t->effects = NULL;
}

/* What is to become of a task whose lease need not be extended any more. Takes the texts. */
static void conclude(struct handler *h, struct task *t, enum outcome_verb verb, uint64_t *counter,
                     char *reason, char *error)
{
    t->counter = counter;
    t->reason = reason;
    t->error = error;
    outcome_send(h->run, t, &t->settle, verb);
}

/* Its lease is extended in its turn, which is soon: it is among the oldest. */
static void hold(struct handler *h, struct task *t)
{
    struct list_node *at = list_first(&h->held);
    while (at != NULL && container_of(at, struct task, held)->leased_ms < t->leased_ms)
        at = list_after(&h->held, at);
    if (at != NULL)
        list_insert_before(at, &t->held);
    else
        list_push_back(&h->held, &t->held);
    h->held_n++;
    h->held_bytes += batch_bytes_of(t);
}

static void unhold(struct handler *h, struct task *t)
{
    list_remove(&t->held);
    h->held_n--;
    h->held_bytes -= batch_bytes_of(t);
}

/* Of its key's line those behind a task that was not done go back to the broker too: it would refuse what
   is said of them, and hand them out again behind this one. */
static void release_behind(struct handler *h, struct task *t)
{
    for (struct task *last; (last = order_last(t)) != NULL && last != t;) {
        last->lost = true;
        order_remove(&h->order, last);
        if (last->child != NULL)
            child_cancel(last->child, last);
        else
            task_release(h, last);
    }
}

/* The last word on a task: it is out of our hands once this is answered. Takes the texts. */
void task_settle(struct handler *h, struct task *t, enum outcome_verb verb, uint64_t *counter, char *reason,
                   char *error)
{
    list_remove(&t->place);
    if (verb != OUTCOME_ACK)
        release_behind(h, t);
    order_remove(&h->order, t);
    unhold(h, t);
    conclude(h, t, verb, counter, reason, error);
}

void task_release(struct handler *h, struct task *t)
{
    task_judge(h, t, BREAKER_MUTE);
    task_settle(h, t, OUTCOME_RELEASE, &h->counts.given_back, NULL, NULL);
}

/* The last of a key first: the broker takes a run back from its end. */
void tasks_release_waiting(struct handler *h)
{
    for (struct list_node *n; (n = list_last(&h->waiting)) != NULL;)
        task_release(h, container_of(n, struct task, place));
}

/* With no process up they go to others. But suspects would come back mixed with others, and nothing would be
   known of them; and a process that is started again for them is up so soon that others are kept too. */
void tasks_release_unless_soon(struct handler *h)
{
    uint64_t now = h->run->now_ms;
    if (h->run->state >= RUN_DRAINING || h->halved_ms == 0)
        tasks_release_waiting(h);
    for (struct list_node *n = list_last(&h->waiting), *before; n != NULL; n = before) {
        struct task *t = container_of(n, struct task, place);
        before = n->prev != &h->waiting.head ? n->prev : NULL;
        if (now >= h->halved_ms + (t->suspects != 0 ? SUSPECTS_MS_MAX : OTHERS_MS_MAX))
            task_release(h, t);
    }
}

void task_log_failure(struct handler *h, const struct task *t, const char *outcome)
{
    snprintf(h->error, sizeof h->error, "%s",
             t->error != NULL    ? t->error
             : t->reason != NULL ? t->reason
                                 : outcome);
    log_warn("task failed handler=%s topic=%s partition=%" PRIu32 " offset=%" PRIu64 " attempt=%" PRIu32
             " outcome=%s reason=%s error=%s",
             h->config->name, h->config->topic, t->partition, t->offset, t->attempt, outcome,
             LOG_STR(t->reason), LOG_STR(t->error));
}

/* ---- the breaker ---- */

/* What became of a task (NULL: of a start), for the breaker. */
void task_judge(struct handler *h, const struct task *t, enum breaker_verdict verdict)
{
    struct breaker *b = &h->breaker;
    bool probe = t != NULL && t->id == h->probe;
    if (probe)
        h->probe = 0;
    if (!breaker_verdict(b, verdict, probe, h->run->now_ms))
        return;
    if (b->state == BREAKER_CLOSED) {
        log_info("breaker closed handler=%s", h->config->name);
        return;
    }
    if (probe)
        log_warn("breaker open: the probe failed handler=%s pause_ms=%" PRIu32, h->config->name, b->pause_ms);
    else
        log_warn("breaker open: nothing is fetched handler=%s failed=%" PRIu32 " of=%" PRIu32
                 " pause_ms=%" PRIu32,
                 h->config->name, b->failed, b->count, b->pause_ms);
    for (size_t i = 0; i < h->pool.n; i++)
        child_recall(h->pool.children[i]);
}

/* Of what was fetched, or came back, only the probe may go to a child. */
static void release_but_probe(struct handler *h)
{
    struct list_node *n = list_first(&h->waiting);
    if (n != NULL && h->breaker.state == BREAKER_HALF_OPEN && breaker_room(&h->breaker) > 0) {
        breaker_probe(&h->breaker);
        h->probe = container_of(n, struct task, place)->id;
    }
    while (n != NULL) {
        struct task *t = container_of(n, struct task, place);
        bool probe = t->id == h->probe;
        if (!probe)
            task_release(h, t);
        n = probe ? list_after(&h->waiting, n) : list_first(&h->waiting);
    }
}

void tasks_step_breaker(struct handler *h)
{
    if (breaker_step(&h->breaker, h->run->now_ms))
        log_info("breaker half-open: one task as a probe handler=%s", h->config->name);
    if (h->breaker.state != BREAKER_CLOSED)
        release_but_probe(h);
}

/* ---- outcomes, to the source ---- */

static struct handler *task_handler(struct run *r, const struct task *t)
{
    return &r->handlers[t->handler];
}

void outcomes_flush(struct run *r)
{
    if (r->refused_n > 0 && r->again_ms <= r->now_ms) {
        for (size_t i = 0; i < r->refused_n; i++) {
            unhold(task_handler(r, r->refused[i]->task), r->refused[i]->task);
            push_outcome(&r->sending, &r->sending_n, &r->sending_cap, r->refused[i]);
        }
        r->refused_n = 0;
    }
    size_t n = r->sending_n;
    r->sending_n = 0;
    if (n > 0)
        r->source->settle(r->source, r->sending, n);
}

/* ---- answers of the source ---- */

void task_free_if_over(struct run *r, struct task *t)
{
    if (!t->settled || t->extend.under_way)
        return;
    mem_free(t->reason);
    mem_free(t->error);
    drop_effects(r, t);
    r->source->task_free(r->source, t);
    r->tasks_n--;
}

void task_extended(struct run *r, struct task *t, int code)
{
    if (code == 0 || code == E_QUEUE_FULL || t->settle.under_way || t->settled || t->lost)
        return;
    struct handler *h = task_handler(r, t);
    log_info("lease lost handler=%s topic=%s partition=%" PRIu32 " offset=%" PRIu64 " error=%s",
             h->config->name, h->config->topic, t->partition, t->offset, error_name(code));
    t->lost = true;
    if (t->child != NULL)
        child_cancel(t->child, t);
    else
        task_release(h, t);
}

/* Its outcome is given again soon. Until then its lease is kept, and its place: nothing is fetched in its
   stead. */
static void give_again(struct handler *h, struct task *t, int code)
{
    struct run *r = h->run;
    if (!t->refused && code != E_QUEUE_FULL)
        log_warn("outcome refused for now handler=%s topic=%s partition=%" PRIu32 " offset=%" PRIu64
                 " error=%s",
                 h->config->name, h->config->topic, t->partition, t->offset,
                 LOG_STR(t->settle.text != NULL ? t->settle.text : error_name(code)));
    t->refused = true;
    t->settle.under_way = true;
    if (r->refused_n == 0)
        r->again_ms = r->now_ms + SETTLE_AGAIN_MS;
    push_outcome(&r->refused, &r->refused_n, &r->refused_cap, &t->settle);
    hold(h, t);
}

static void run_again(struct handler *h, struct task *t)
{
    drop_effects(h->run, t);
    task_judge(h, t, BREAKER_MUTE);
    conclude(h, t, OUTCOME_RELEASE, &h->counts.conflicts, NULL, NULL);
}

/* The work was done, but not what follows from it. */
static void fail_unit(struct handler *h, struct task *t, int code)
{
    struct buf why = {0};
    if (code == E_CONFLICT)
        buf_putf(&why, "the state of its key was changed by others %d times in a row", CONFLICTS_MAX);
    else
        buf_putf(&why, "%s", t->settle.text != NULL ? t->settle.text : error_text(code));
    drop_effects(h->run, t);
    t->delay_ms = OUTCOME_BACKOFF;
    conclude(h, t, OUTCOME_NACK, &h->counts.retried, NULL, text_clean(buf_view(&why)));
    task_log_failure(h, t, "refused");
    task_judge(h, t, BREAKER_FAILED);
    buf_free(&why);
}

static void lose(struct handler *h, struct task *t, int code)
{
    t->settled = true;
    h->answered += t->counter != &h->counts.given_back;
    h->counts.lost++;
    if (t->effects != NULL)
        task_judge(h, t, BREAKER_MUTE);
    log_line(code == E_LEASE_LOST || code == E_SESSION_EXPIRED ? LOG_INFO : LOG_ERROR,
             "outcome not taken handler=%s topic=%s partition=%" PRIu32 " offset=%" PRIu64 " error=%s",
             h->config->name, h->config->topic, t->partition, t->offset, error_name(code));
}

void task_settled(struct run *r, struct task *t, int code)
{
    struct handler *h = task_handler(r, t);
    if (code == 0) {
        t->settled = true;
        h->answered += t->counter != &h->counts.given_back;
        ++*t->counter;
        if (t->effects != NULL)
            task_judge(h, t, BREAKER_OK);
        if (t->settle.verb != OUTCOME_RELEASE)
            conflicts_forget(&r->conflicts, t);
    } else {
        switch (refusal_judge(&r->conflicts, t, t->settle.verb, code)) {
        case REFUSAL_AGAIN:
            give_again(h, t, code);
            break;
        case REFUSAL_RELEASE:
            run_again(h, t);
            break;
        case REFUSAL_FAIL:
            fail_unit(h, t, code);
            break;
        case REFUSAL_LOST:
            lose(h, t, code);
        }
    }
    mem_free(t->settle.text);
    t->settle.text = NULL;
}

void tasks_fetched(struct run *r, struct fetched *f)
{
    struct handler *h = &r->handlers[f->handler];
    h->asked = false;
    h->in_flight_max = f->in_flight_max;
    for (struct list_node *n; (n = list_pop_front(&f->tasks)) != NULL;) {
        struct task *t = container_of(n, struct task, place);
        t->id = ++r->last_id;
        t->came_ms = r->now_ms;
        if (t->attempt > 1 && batch_found_has(&h->found, t))
            t->suspects = ++h->last_suspects;
        ahead_fetched(&h->ahead, batch_bytes_of(t));
        order_add(&h->order, t);
        list_push_back(&h->waiting, &t->place);
        list_push_back(&h->held, &t->held);
        h->held_n++;
        h->held_bytes += batch_bytes_of(t);
        r->tasks_n++;
        if (t->attempt > 1)
            log_info("redelivered handler=%s topic=%s partition=%" PRIu32 " offset=%" PRIu64
                     " attempt=%" PRIu32,
                     h->config->name, h->config->topic, t->partition, t->offset, t->attempt);
        if (h->pool.paused)
            task_release(h, t);
    }
}

/* ---- leases ---- */

uint64_t tasks_extension_due_ms(const struct handler *h)
{
    const struct list_node *n = list_first(&h->held);
    return n == NULL ? UINT64_MAX : container_of(n, struct task, held)->leased_ms + h->config->lease_ms / 3;
}

/* All leases of a handler have one term, so the list stays in order if the extended go to its end. */
void tasks_extend(struct handler *h)
{
    while (tasks_extension_due_ms(h) <= h->run->now_ms) {
        struct task *t = container_of(list_pop_front(&h->held), struct task, held);
        list_push_back(&h->held, &t->held);
        t->leased_ms = h->run->now_ms;
        if (!t->lost && !t->extend.under_way)
            outcome_send(h->run, t, &t->extend, OUTCOME_EXTEND);
    }
}

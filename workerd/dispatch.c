/* Which child gets which tasks, and what children say of them. */
#include "workerd/loop.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/text.h"

enum { MEMORY_SHARE = 8 }; /* of the memory for batches that may be taken by what is fetched ahead */

/* ---- what children tell ---- */

static void on_started(struct child *c, int code, const char *text)
{
    struct handler *h = c->user;
    struct run *r = h->run;
    if (code != 0)
        snprintf(h->error, sizeof h->error, "%s", text);
    pool_started(&h->pool, c, code, text, r->now_ms);
    if (code != E_CONFIG || r->state != RUN_STARTING || c->old)
        return;
    err_set(&r->error, E_CONFIG, "handler '%s': %s", h->config->name, text);
    r->state = RUN_FAILED;
}

/* Those that wait stand in the order in which they were fetched, also when they come back. */
static void on_back(struct handler *h, struct task *t)
{
    if (t->lost || h->run->state == RUN_DRAINING) {
        task_release(h, t);
        return;
    }
    struct list_node *at = h->waiting.head.next;
    while (at != &h->waiting.head && container_of(at, struct task, place)->id < t->id)
        at = at->next;
    list_insert_before(at, &t->place);
}

static void on_verdict(struct child *c, struct task *t, const struct plugin_packet *p)
{
    struct handler *h = c->user;
    if (p->verdict.verdict != PLUGIN_BACK && t->began_ms != 0)
        figures_time(&h->times, h->run->now_ms - t->began_ms);
    h->finished += p->verdict.verdict != PLUGIN_BACK;
    switch (p->verdict.verdict) {
    case PLUGIN_ACK:
        t->effects = effects_of(p);
        h->run->effects_bytes += t->effects != NULL ? t->effects->bytes : 0;
        task_settle(h, t, OUTCOME_ACK, &h->counts.done, NULL, NULL);
        if (t->effects == NULL) /* else the broker's answer is part of the verdict */
            task_judge(h, t, BREAKER_OK);
        pool_verdict(&h->pool, c, false);
        return;
    case PLUGIN_PARK:
        task_settle(h, t, OUTCOME_PARK, &h->counts.parked, text_clean(p->verdict.reason),
               text_clean(p->verdict.error));
        task_log_failure(h, t, "park");
        task_judge(h, t, BREAKER_MUTE);
        pool_verdict(&h->pool, c, true);
        return;
    case PLUGIN_BACK:
        on_back(h, t);
        return;
    default:
        t->delay_ms = p->verdict.has_delay ? p->verdict.delay_ms : OUTCOME_BACKOFF;
        task_settle(h, t, OUTCOME_NACK, &h->counts.retried, NULL, text_clean(p->verdict.error));
        task_log_failure(h, t, "retry");
        task_judge(h, t, BREAKER_FAILED);
        pool_verdict(&h->pool, c, true);
    }
}

static struct task **room_for_call(const struct handler *h)
{
    struct run *r = h->run;
    size_t n = h->held_n > CONFIG_BATCH_MAX ? h->held_n : CONFIG_BATCH_MAX;
    if (n > r->call_cap) {
        r->call_cap = 2 * n;
        r->call = mem_resize(r->call, r->call_cap, sizeof *r->call);
    }
    return r->call;
}

/* Several tasks ran, of one call or of several at once: one of them did it, and none is charged before it is known
   which. */
static void halve(struct handler *h, struct child *c, struct task *const *tasks, size_t n, const char *how)
{
    batch_halve(tasks, n, &h->last_suspects);
    h->counts.halved++;
    h->halved_ms = h->run->now_ms;
    child_again(c);
    log_warn("%s failed, its halves are tried apart handler=%s tasks=%zu error=%s",
             tasks[0]->call == tasks[n - 1]->call ? "batch" : "one of what ran at once", h->config->name, n, LOG_STR(how));
}

static void charge(struct handler *h, struct child *c, struct task *t, const char *how)
{
    h->finished++;
    if (c->batches || c->threads > 1)
        batch_found_add(&h->found, t);
    if (t->suspects != 0)
        h->halved_ms = h->run->now_ms; /* for the others */
    t->delay_ms = OUTCOME_BACKOFF;
    task_settle(h, t, OUTCOME_NACK, &h->counts.crashed, NULL, text_clean(view_of_str(how)));
    task_log_failure(h, t, "crash");
    task_judge(h, t, BREAKER_FAILED);
    pool_verdict(&h->pool, c, true);
}

/* Those to blame, in the order in which they were sent: all together, or each call by itself. */
static void accuse(struct handler *h, struct child *c, struct task *const *tasks, size_t n, bool each, const char *how)
{
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && (!each || tasks[end]->call == tasks[i]->call);)
            end++;
        if (end - i == 1)
            charge(h, c, tasks[i], how);
        else if (h->run->state < RUN_DRAINING)
            halve(h, c, tasks + i, end - i, how);
    }
}

static void on_ended(struct child *c, bool each, const char *how)
{
    struct handler *h = c->user;
    struct task **blamed = room_for_call(h);
    size_t n = 0;
    h->restarts += c->state == CHILD_DOWN;
    LIST_EACH (at, &c->tasks) {
        struct task *t = container_of(at, struct task, place);
        if (t->blamed)
            blamed[n++] = t;
    }
    if (n > 0)
        accuse(h, c, blamed, n, each, how);
    else if (c->state == CHILD_DOWN && c->was_up)
        pool_verdict(&h->pool, c, true); /* it ended with nothing to do, by itself */
    else if (c->state == CHILD_DOWN && !c->trial && !c->old)
        task_judge(h, NULL, BREAKER_FAILED);
    pool_ended(&h->pool, c, how);
    /* The others go to the head of the queue, in their order. */
    for (struct list_node *node; (node = list_last(&c->tasks)) != NULL;) {
        list_remove(node);
        on_back(h, container_of(node, struct task, place));
    }
}

const struct child_events dispatch_events = {
    .started = on_started,
    .verdict = on_verdict,
    .ended = on_ended,
};

/* ---- dispatch ---- */

/* It could not be put into the pipe. */
static void not_sent(struct handler *h, struct task *t, const struct err *e)
{
    if (e->code == E_TOO_LARGE) { /* with its state: no other child could take it either */
        h->finished++;
        t->delay_ms = OUTCOME_BACKOFF;
        task_settle(h, t, OUTCOME_NACK, &h->counts.retried, NULL, text_clean(view_of_str(e->text)));
        task_log_failure(h, t, "too large");
        task_judge(h, t, BREAKER_MUTE);
    } else {
        log_warn("cannot hand over a task handler=%s partition=%" PRIu32 " offset=%" PRIu64 " error=%s",
                 h->config->name, t->partition, t->offset, LOG_STR(e->text));
        task_release(h, t);
    }
}

/* Takes them out of those that wait; if one of them cannot be sent the others wait again. */
static void send_call(struct handler *h, struct child *c, struct task *const *tasks, size_t n)
{
    struct err e;
    size_t failed;
    for (size_t i = 0; i < n; i++)
        list_remove(&tasks[i]->place);
    if (child_send(c, tasks, n, h->run->now_ms, &failed, &e) == 0)
        return;
    for (size_t i = n; i-- > 0;) {
        if (i != failed)
            on_back(h, tasks[i]);
    }
    not_sent(h, tasks[failed], &e);
}

/* Suspects as the calls that they were. */
static void send_picked(struct handler *h, struct child *c, const struct batch *b)
{
    bool suspects = b->tasks[0]->suspects != 0;
    for (size_t i = 0, n; i < b->n; i += n) {
        n = suspects ? batch_call(b->tasks + i, b->n - i, b->singles) : b->n;
        send_call(h, c, b->tasks + i, n);
    }
}

/* Whose tasks a call is made of. */
struct version {
    const struct pool *pool;
    bool trial;
};

static bool is_for(const void *of, const struct task *t)
{
    const struct version *v = of;
    return pool_on_trial(v->pool, t) == v->trial;
}

/* So that they are not looked for again for each call. */
static bool suspects_wait(const struct handler *h)
{
    if (h->last_suspects == 0)
        return false;
    LIST_EACH (n, &h->waiting) {
        if (container_of(n, struct task, place)->suspects != 0)
            return true;
    }
    return false;
}

/* Gives calls to children of one version until there is nothing to give or no place. A child that works gets the next call before it is
   through with this one only if that call will not grow by waiting. While suspects wait for one to be idle it gets no more. */
static void dispatch_to(struct handler *h, bool trial)
{
    static const struct batch_limits single = {.max = 1, .bytes = UINT64_MAX};
    struct run *r = h->run;
    struct version v = {&h->pool, trial};
    const struct child *kept = NULL;
    struct child *c;
    bool suspects = suspects_wait(h);
    while (!list_empty(&h->waiting) && (c = pool_least_busy(&h->pool, trial, kept)) != NULL) {
        struct batch b = {.tasks = room_for_call(h),
                          .is_for = is_for,
                          .of = &v,
                          .singles = !c->batches,
                          .several = c->threads > 1,
                          .idle = c->tasks_n == 0,
                          .others = kept != NULL || !suspects};
        batch_pick(&h->waiting, c->batches ? &c->config->batch : &single, c, &b);
        if (b.alone) {
            kept = c;
            continue;
        }
        if (b.n == 0 || (!b.full && !child_is_free(c)))
            return;
        if (!b.full && b.due_ms > r->now_ms) {
            h->window_ms = b.due_ms < h->window_ms ? b.due_ms : h->window_ms;
            return;
        }
        send_picked(h, c, &b);
    }
}

void dispatch_tasks(struct handler *h)
{
    h->window_ms = UINT64_MAX;
    for (int trial = 0; trial <= 1; trial++)
        dispatch_to(h, trial != 0);
    if (!pool_hopeful(&h->pool))
        tasks_release_unless_soon(h);
}

/* ---- how many are held ---- */

/* How many may be, if there are places for so many. */
static uint32_t held_most(const struct handler *h, uint32_t places)
{
    const struct config *c = h->run->config;
    uint64_t share = c->memory_bytes_max / MEMORY_SHARE / c->handlers_n;
    uint32_t most = ahead_most(
        &h->ahead, &(struct ahead_limits){.bytes = share < AHEAD_BYTES_MAX ? share : AHEAD_BYTES_MAX,
                                          .in_flight_max = h->in_flight_max});
    return most > places ? most : places;
}

/* The last of those that wait and were in no child yet, nor are to be tried by themselves. */
static struct task *last_ahead(const struct handler *h)
{
    for (struct list_node *n = h->waiting.head.prev; n != &h->waiting.head; n = n->prev) {
        struct task *t = container_of(n, struct task, place);
        if (t->call == 0 && t->suspects == 0)
            return t;
    }
    return NULL;
}

void dispatch_trim(struct handler *h)
{
    uint64_t now = h->run->now_ms;
    uint32_t places = pool_capacity(&h->pool), most;
    struct task *t;
    h->trim_ms = UINT64_MAX;
    ahead_count(&h->ahead, h->finished, now);
    if (list_empty(&h->waiting) || h->held_n <= places)
        return;
    uint64_t long_ms = container_of(list_first(&h->waiting), struct task, place)->came_ms + AHEAD_LONG_MS;
    for (most = held_most(h, places); h->held_n > most && now >= long_ms && (t = last_ahead(h)) != NULL;)
        task_release(h, t);
    if (h->held_n > places && last_ahead(h) != NULL)
        h->trim_ms = now >= long_ms ? now + AHEAD_MS : long_ms; /* then less may be done in the time */
}

/* Asks for as many as may be held, once that is worth a request: a quarter of all, or a child has nothing to do. Not while what tasks
   publish, and the broker has not taken, fills the memory. */
void dispatch_ask(struct handler *h)
{
    uint32_t places = pool_places(&h->pool, h->held_bytes);
    uint32_t all = places > 0 && pool_takes(&h->pool) ? held_most(h, places) : places;
    if (h->asked || h->held_n >= all || h->run->effects_bytes > h->run->config->memory_bytes_max)
        return;
    uint32_t left = all - (uint32_t)h->held_n, room = breaker_room(&h->breaker);
    const struct child *c = pool_least_busy(&h->pool, false, NULL);
    if (room == 0 || (left < all / 4 && (c == NULL || !child_is_free(c))))
        return;
    h->asked = true;
    h->run->source->ask(h->run->source, h->index, left < room ? left : room);
}

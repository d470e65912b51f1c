#include "workerd/run.h"

#include <assert.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/entropy.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/mem.h"
#include "schemas/errors.h"
#include "workerd/batch.h"
#include "workerd/command.h"
#include "workerd/family.h"
#include "workerd/figures.h"
#include "workerd/order.h"
#include "workerd/pool.h"
#include "workerd/refusal.h"
#include "workerd/reload.h"
#include "workerd/supervise.h"
#include "workerd/text.h"

enum {
    FILES_MS = 1000,       /* between two looks at the files */
    SETTLE_AGAIN_MS = 100, /* after the source had no room for outcomes */
    ANSWERS_MS_MAX = 5000, /* how long after the grace answers are waited for */
    HARD_MS_MAX = 1000,    /* before its end running tasks are told to stop */
    FIGURES_MS = 100,      /* between two looks at the figures */
    OWN_FDS = 2,
    SUSPECTS_MS_MAX = 30000, /* how long they are kept with no process up, */
    OTHERS_MS_MAX = 1000,    /* and others beside them */
};

struct handler {
    struct run *run;
    const struct handler_config *config;
    uint32_t index;
    struct pool pool;    /* its children */
    struct list waiting; /* tasks without a child, by `place` */
    struct list held;    /* all tasks without an outcome, the one extended longest ago first */
    size_t held_n;
    uint64_t held_bytes; /* as batches count them */
    bool asked;
    struct breaker breaker;
    uint64_t probe; /* the id of the task that is the breaker's probe; 0: none */
    struct order order;       /* of those held */
    struct batch_found found; /* tasks that ended their process */
    uint32_t last_suspects;
    uint64_t halved_ms; /* when the last batch was; 0: never */
    uint64_t window_ms; /* when a batch that may still grow goes as it is; UINT64_MAX: there is none */
    struct run_counts counts;
    struct figures_times times;
    uint64_t restarts;
    uint32_t version; /* the pool's number of that whose configuration is in force here too */
    struct file_watch file;
    uint64_t finished, answered; /* verdicts, and those of them that the broker answered */
    char error[ERR_TEXT_MAX];    /* of the last failure */
    struct command_taken taken;
};

/* A configuration that was read again. */
struct loaded {
    struct config *config;
    struct loaded *next;
};

struct run {
    const struct config *config;
    struct source *source;
    struct inbox *inbox;
    int signals;
    enum run_state state;
    struct err error;
    struct handler *handlers;
    struct pollfd *fds; /* inbox, signals, CHILD_FDS of each child of each handler, one after the other */
    size_t fds_cap;
    bool connected;
    uint64_t last_id;
    size_t tasks_n;       /* not freed */
    size_t effects_bytes; /* of all tasks */
    struct conflicts conflicts;
    struct task *call[CONFIG_BATCH_MAX]; /* the next, while it is made */

    /* outcomes for the source, and those it had no room for */
    struct outcome **sending, **refused;
    size_t sending_n, sending_cap, refused_n, refused_cap;
    uint64_t again_ms;

    uint64_t now_ms;
    uint64_t hard_ms, grace_end_ms; /* of the drain */
    bool hard;                      /* running tasks were told to stop */
    uint64_t sweep_ms;              /* when to look for what escaped from children */

    const char *config_path;
    const struct config *in_force; /* the one that was taken last */
    struct loaded *loaded;         /* all but the first, as long as something may use them */
    struct file_watch file;
    uint64_t reloads, look_ms; /* when files are looked at */

    struct figures figures;
    uint64_t turn_ms_max;
    uint64_t figures_ms; /* when they were taken */
    bool news, stale;    /* in this turn they were taken; something happened since */
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

static void send_outcome(struct run *r, struct task *t, struct outcome *o, enum outcome_verb verb)
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
    send_outcome(h->run, t, &t->settle, verb);
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

static void release(struct handler *h, struct task *t);

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
            release(h, last);
    }
}

/* The last word on a task: it is out of our hands once this is answered. Takes the texts. */
static void settle(struct handler *h, struct task *t, enum outcome_verb verb, uint64_t *counter, char *reason,
                   char *error)
{
    list_remove(&t->place);
    if (verb != OUTCOME_ACK)
        release_behind(h, t);
    order_remove(&h->order, t);
    unhold(h, t);
    conclude(h, t, verb, counter, reason, error);
}

static void judge(struct handler *h, const struct task *t, enum breaker_verdict verdict);

static void release(struct handler *h, struct task *t)
{
    judge(h, t, BREAKER_MUTE);
    settle(h, t, OUTCOME_RELEASE, &h->counts.given_back, NULL, NULL);
}

/* The last of a key first: the broker takes a run back from its end. */
static void release_waiting(struct handler *h)
{
    for (struct list_node *n; (n = list_last(&h->waiting)) != NULL;)
        release(h, container_of(n, struct task, place));
}

/* With no process up they go to others. But suspects would come back mixed with others, and nothing would be
   known of them; and a process that is started again for them is up so soon that others are kept too. */
static void release_unless_soon(struct handler *h)
{
    uint64_t now = h->run->now_ms;
    if (h->run->state >= RUN_DRAINING || h->halved_ms == 0)
        release_waiting(h);
    for (struct list_node *n = list_last(&h->waiting), *before; n != NULL; n = before) {
        struct task *t = container_of(n, struct task, place);
        before = n->prev != &h->waiting.head ? n->prev : NULL;
        if (now >= h->halved_ms + (t->suspects != 0 ? SUSPECTS_MS_MAX : OTHERS_MS_MAX))
            release(h, t);
    }
}

static void log_failure(struct handler *h, const struct task *t, const char *outcome)
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
static void judge(struct handler *h, const struct task *t, enum breaker_verdict verdict)
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
            release(h, t);
        n = probe ? list_after(&h->waiting, n) : list_first(&h->waiting);
    }
}

static void step_breaker(struct handler *h)
{
    if (breaker_step(&h->breaker, h->run->now_ms))
        log_info("breaker half-open: one task as a probe handler=%s", h->config->name);
    if (h->breaker.state != BREAKER_CLOSED)
        release_but_probe(h);
}

/* ---- outcomes, to the source ---- */

static struct handler *handler_of(struct run *r, const struct task *t)
{
    return &r->handlers[t->handler];
}

static void flush_outcomes(struct run *r)
{
    if (r->refused_n > 0 && r->again_ms <= r->now_ms) {
        for (size_t i = 0; i < r->refused_n; i++) {
            unhold(handler_of(r, r->refused[i]->task), r->refused[i]->task);
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

static void free_if_over(struct run *r, struct task *t)
{
    if (!t->settled || t->extend.under_way)
        return;
    mem_free(t->reason);
    mem_free(t->error);
    drop_effects(r, t);
    r->source->task_free(r->source, t);
    r->tasks_n--;
}

static void on_extended(struct run *r, struct task *t, int code)
{
    if (code == 0 || code == E_QUEUE_FULL || t->settle.under_way || t->settled || t->lost)
        return;
    struct handler *h = handler_of(r, t);
    log_info("lease lost handler=%s topic=%s partition=%" PRIu32 " offset=%" PRIu64 " error=%s",
             h->config->name, h->config->topic, t->partition, t->offset, error_name(code));
    t->lost = true;
    if (t->child != NULL)
        child_cancel(t->child, t);
    else
        release(h, t);
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
    judge(h, t, BREAKER_MUTE);
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
    log_failure(h, t, "refused");
    judge(h, t, BREAKER_FAILED);
    buf_free(&why);
}

static void lose(struct handler *h, struct task *t, int code)
{
    t->settled = true;
    h->answered += t->counter != &h->counts.given_back;
    h->counts.lost++;
    if (t->effects != NULL)
        judge(h, t, BREAKER_MUTE);
    log_line(code == E_LEASE_LOST || code == E_SESSION_EXPIRED ? LOG_INFO : LOG_ERROR,
             "outcome not taken handler=%s topic=%s partition=%" PRIu32 " offset=%" PRIu64 " error=%s",
             h->config->name, h->config->topic, t->partition, t->offset, error_name(code));
}

static void on_settled(struct run *r, struct task *t, int code)
{
    struct handler *h = handler_of(r, t);
    if (code == 0) {
        t->settled = true;
        h->answered += t->counter != &h->counts.given_back;
        ++*t->counter;
        if (t->effects != NULL)
            judge(h, t, BREAKER_OK);
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

static void on_fetched(struct run *r, struct fetched *f)
{
    struct handler *h = &r->handlers[f->handler];
    h->asked = false;
    for (struct list_node *n; (n = list_pop_front(&f->tasks)) != NULL;) {
        struct task *t = container_of(n, struct task, place);
        t->id = ++r->last_id;
        t->came_ms = r->now_ms;
        if (t->attempt > 1 && batch_found_has(&h->found, t))
            t->suspects = ++h->last_suspects;
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
            release(h, t);
    }
}

/* ---- what people ask ---- */

static int carry_out(struct handler *h, const struct command *c, struct err *e)
{
    uint32_t min = h->pool.min, max = h->pool.max;
    int code = 0;
    switch (c->act) {
    case COMMAND_SCALE:
        code = command_limits(c, &min, &max, e);
        if (code == 0)
            pool_limits(&h->pool, min, max);
        break;
    case COMMAND_PAUSE:
        pool_pause(&h->pool, true);
        release_waiting(h);
        break;
    case COMMAND_RESUME:
        pool_pause(&h->pool, false);
        break;
    }
    return code;
}

/* Of an unknown handler: it went with the configuration meanwhile, and who asked sees that. */
static void on_command(struct run *r, struct command *c)
{
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        struct handler *h = &r->handlers[i];
        if (strcmp(h->config->name, c->handler) != 0)
            continue;
        h->taken = (struct command_taken){.number = c->number};
        if (carry_out(h, c, &h->taken.why) != 0)
            log_warn("not scaled handler=%s error=%s", c->handler, LOG_STR(h->taken.why.text));
    }
    mem_free(c);
}

static void on_lagged(struct run *r, const struct lagged *l)
{
    struct run_counts *c = &r->handlers[l->handler].counts;
    *(l->published ? &c->lag_published : &c->lag_asked) += l->known;
    pool_lag(&r->handlers[l->handler].pool, l->known ? &l->lag : NULL, r->now_ms);
}

static void take_answers(struct run *r)
{
    for (struct inbox_node *n = inbox_drain(r->inbox), *next; n != NULL; n = next) {
        struct event *e = container_of(n, struct event, node);
        next = n->next;
        if (e->kind == EVENT_CONNECTED) {
            r->connected = true;
        } else if (e->kind == EVENT_FETCHED) {
            on_fetched(r, container_of(e, struct fetched, event));
        } else if (e->kind == EVENT_COMMAND) {
            on_command(r, container_of(e, struct command, event));
        } else if (e->kind == EVENT_LAGGED) {
            on_lagged(r, container_of(e, struct lagged, event));
        } else {
            struct outcome *o = container_of(e, struct outcome, event);
            o->under_way = false;
            if (o->verb == OUTCOME_EXTEND)
                on_extended(r, o->task, o->code);
            else
                on_settled(r, o->task, o->code);
            free_if_over(r, o->task);
        }
    }
}

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
        release(h, t);
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
        settle(h, t, OUTCOME_ACK, &h->counts.done, NULL, NULL);
        if (t->effects == NULL) /* else the broker's answer is part of the verdict */
            judge(h, t, BREAKER_OK);
        pool_verdict(&h->pool, c, false);
        return;
    case PLUGIN_PARK:
        settle(h, t, OUTCOME_PARK, &h->counts.parked, text_clean(p->verdict.reason),
               text_clean(p->verdict.error));
        log_failure(h, t, "park");
        judge(h, t, BREAKER_MUTE);
        pool_verdict(&h->pool, c, true);
        return;
    case PLUGIN_BACK:
        on_back(h, t);
        return;
    default:
        t->delay_ms = p->verdict.has_delay ? p->verdict.delay_ms : OUTCOME_BACKOFF;
        settle(h, t, OUTCOME_NACK, &h->counts.retried, NULL, text_clean(p->verdict.error));
        log_failure(h, t, "retry");
        judge(h, t, BREAKER_FAILED);
        pool_verdict(&h->pool, c, true);
    }
}

/* The process ended in a call of several tasks: one of them did it, and none is charged before it is known
   which. */
static void halve(struct handler *h, struct child *c, size_t n, const char *how)
{
    struct task **tasks = h->run->call;
    size_t i = 0;
    LIST_EACH (at, &c->tasks) {
        if (i == n)
            break;
        tasks[i++] = container_of(at, struct task, place);
    }
    batch_halve(tasks, n, &h->last_suspects);
    h->counts.halved++;
    h->halved_ms = h->run->now_ms;
    child_again(c);
    log_warn("batch failed, its halves are tried apart handler=%s tasks=%zu error=%s", h->config->name, n,
             LOG_STR(how));
}

static void on_ended(struct child *c, struct task *blamed, const char *how)
{
    struct handler *h = c->user;
    h->restarts += c->state == CHILD_DOWN;
    size_t running = blamed != NULL ? child_running_n(c) : 0;
    if (running > 1) {
        if (h->run->state < RUN_DRAINING)
            halve(h, c, running, how);
    } else if (blamed != NULL) {
        h->finished++;
        if (c->batches)
            batch_found_add(&h->found, blamed);
        if (blamed->suspects != 0)
            h->halved_ms = h->run->now_ms; /* for the others */
        blamed->delay_ms = OUTCOME_BACKOFF;
        settle(h, blamed, OUTCOME_NACK, &h->counts.crashed, NULL, text_clean(view_of_str(how)));
        log_failure(h, blamed, "crash");
        judge(h, blamed, BREAKER_FAILED);
        pool_verdict(&h->pool, c, true);
    } else if (c->state == CHILD_DOWN && c->was_up) {
        pool_verdict(&h->pool, c, true); /* it ended with nothing to do, by itself */
    } else if (c->state == CHILD_DOWN && !c->trial && !c->old) {
        judge(h, NULL, BREAKER_FAILED);
    }
    pool_ended(&h->pool, c, how);
    /* The others go to the head of the queue, in their order. */
    for (struct list_node *n; (n = list_last(&c->tasks)) != NULL;) {
        list_remove(n);
        on_back(h, container_of(n, struct task, place));
    }
}

static const struct child_events child_events = {
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
        settle(h, t, OUTCOME_NACK, &h->counts.retried, NULL, text_clean(view_of_str(e->text)));
        log_failure(h, t, "too large");
        judge(h, t, BREAKER_MUTE);
    } else {
        log_warn("cannot hand over a task handler=%s partition=%" PRIu32 " offset=%" PRIu64 " error=%s",
                 h->config->name, t->partition, t->offset, LOG_STR(e->text));
        release(h, t);
    }
}

/* Takes them out of those that wait; if one of them cannot be sent the others wait again. */
static void send_call(struct handler *h, struct child *c, const struct batch *b)
{
    struct err e;
    size_t failed;
    for (size_t i = 0; i < b->n; i++)
        list_remove(&b->tasks[i]->place);
    if (child_send(c, b->tasks, b->n, h->run->now_ms, &failed, &e) == 0)
        return;
    for (size_t i = b->n; i-- > 0;) {
        if (i != failed)
            on_back(h, b->tasks[i]);
    }
    not_sent(h, b->tasks[failed], &e);
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

/* Gives calls to children of one version until there is nothing to give or no place. A child that works gets the next call before it is
   through with this one only if that call will not grow by waiting. */
static void dispatch_to(struct handler *h, bool trial)
{
    static const struct batch_limits single = {.max = 1, .bytes = UINT64_MAX};
    struct run *r = h->run;
    struct version v = {&h->pool, trial};
    struct child *c;
    while (!list_empty(&h->waiting) && (c = pool_least_busy(&h->pool, trial)) != NULL) {
        struct batch b = {.tasks = r->call, .is_for = is_for, .of = &v};
        batch_pick(&h->waiting, c->batches ? &c->config->batch : &single, c, &b);
        if (b.n == 0 || (!b.full && c->tasks_n > 0))
            return;
        if (!b.full && b.due_ms > r->now_ms) {
            h->window_ms = b.due_ms < h->window_ms ? b.due_ms : h->window_ms;
            return;
        }
        send_call(h, c, &b);
    }
}

static void dispatch(struct handler *h)
{
    h->window_ms = UINT64_MAX;
    for (int trial = 0; trial <= 1; trial++)
        dispatch_to(h, trial != 0);
    if (!pool_hopeful(&h->pool))
        release_unless_soon(h);
}

/* Asks for as many tasks as there are places, once that is worth a request: a quarter of all, or a child
   has nothing to do. Not while what tasks publish, and the broker has not taken, fills the memory. */
static void ask(struct handler *h)
{
    uint32_t all = pool_places(&h->pool, h->held_bytes);
    if (h->asked || h->held_n >= all || h->run->effects_bytes > h->run->config->memory_bytes_max)
        return;
    uint32_t left = all - (uint32_t)h->held_n, room = breaker_room(&h->breaker);
    const struct child *c = pool_least_busy(&h->pool, false);
    if (room == 0 || (left < all / 4 && (c == NULL || c->tasks_n > 0)))
        return;
    h->asked = true;
    h->run->source->ask(h->run->source, h->index, left < room ? left : room);
}

/* ---- processes and versions ---- */

/* What was on trial is in force. */
static void take_over(struct handler *h)
{
    h->version = h->pool.version;
    h->config = h->pool.config;
    breaker_configure(&h->breaker, &h->config->breaker, h->run->now_ms);
}

static void scale(struct handler *h)
{
    struct run *r = h->run;
    pool_scale(&h->pool,
               &(struct pool_work){.held = h->held_n,
                                   .finished = h->finished,
                                   .answered = h->answered,
                                   .done = h->counts.done + h->counts.parked},
               r->now_ms);
    if (h->version != h->pool.version)
        take_over(h);
    if (r->source->lag != NULL && pool_wants_lag(&h->pool, r->now_ms))
        r->source->lag(r->source, h->index);
}

/* ---- leases ---- */

static uint64_t extension_due_ms(const struct handler *h)
{
    const struct list_node *n = list_first(&h->held);
    return n == NULL ? UINT64_MAX : container_of(n, struct task, held)->leased_ms + h->config->lease_ms / 3;
}

/* All leases of a handler have one term, so the list stays in order if the extended go to its end. */
static void extend_leases(struct handler *h)
{
    while (extension_due_ms(h) <= h->run->now_ms) {
        struct task *t = container_of(list_pop_front(&h->held), struct task, held);
        list_push_back(&h->held, &t->held);
        t->leased_ms = h->run->now_ms;
        if (!t->lost && !t->extend.under_way)
            send_outcome(h->run, t, &t->extend, OUTCOME_EXTEND);
    }
}

/* ---- the drain ---- */

void run_drain(struct run *r)
{
    if (r->state >= RUN_DRAINING)
        return;
    r->state = RUN_DRAINING;
    r->now_ms = clock_mono_ms();
    uint32_t grace = r->in_force->grace_ms, tenth = grace / 10;
    r->grace_end_ms = r->now_ms + grace;
    r->hard_ms = r->grace_end_ms - (tenth < HARD_MS_MAX ? tenth : HARD_MS_MAX);
    log_info("draining grace_ms=%" PRIu32, grace);
    r->source->stop(r->source);
    for (size_t i = 0; i < r->config->handlers_n; i++)
        pool_stop(&r->handlers[i].pool);
}

static bool asked_any(const struct run *r)
{
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        if (r->handlers[i].asked || r->handlers[i].pool.asking)
            return true;
    }
    return false;
}

/* Nothing is ours any more. A source that never reached the broker cannot bring anything either. */
static bool at_rest(const struct run *r)
{
    return r->tasks_n == 0 && !(r->connected && asked_any(r));
}

static bool all_gone(const struct run *r)
{
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        if (!pool_is_gone(&r->handlers[i].pool))
            return false;
    }
    return true;
}

static void log_counts(const struct run *r)
{
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        const struct run_counts *n = &r->handlers[i].counts;
        log_info("drained handler=%s done=%" PRIu64 " retried=%" PRIu64 " parked=%" PRIu64 " crashed=%" PRIu64
                 " given_back=%" PRIu64 " lost=%" PRIu64 " conflicts=%" PRIu64
                 " halved=%" PRIu64,
                 r->config->handlers[i].name, n->done, n->retried, n->parked, n->crashed, n->given_back,
                 n->lost, n->conflicts, n->halved);
    }
}

/* Tells those who still run that time is over, ends them when it is, and is done when nothing is left. */
static void drain_on(struct run *r)
{
    for (size_t i = 0; i < r->config->handlers_n && !r->hard && r->now_ms >= r->hard_ms; i++)
        pool_hurry(&r->handlers[i].pool);
    r->hard = r->now_ms >= r->hard_ms;
    for (size_t i = 0; i < r->config->handlers_n && r->now_ms >= r->grace_end_ms; i++)
        pool_kill(&r->handlers[i].pool, "end of the grace");
    if (!all_gone(r) || (!at_rest(r) && r->now_ms < r->grace_end_ms + ANSWERS_MS_MAX))
        return;
    if (!at_rest(r))
        log_warn("the broker did not answer, tasks will be delivered again tasks=%zu", r->tasks_n);
    log_counts(r);
    r->state = RUN_DONE;
}

static uint64_t drain_due_ms(const struct run *r)
{
    if (r->state != RUN_DRAINING)
        return UINT64_MAX;
    if (!r->hard)
        return r->hard_ms;
    return r->now_ms < r->grace_end_ms ? r->grace_end_ms : r->grace_end_ms + ANSWERS_MS_MAX;
}

/* ---- the configuration again ---- */

static bool config_used(const struct run *r, const struct config *c)
{
    bool used = r->in_force == c;
    for (size_t i = 0; i < c->handlers_n; i++)
        used = used || r->handlers[i].config == &c->handlers[i] ||
               pool_uses(&r->handlers[i].pool, &c->handlers[i]);
    return used;
}

static void free_unused_configs(struct run *r)
{
    for (struct loaded **at = &r->loaded, *l; (l = *at) != NULL;) {
        if (config_used(r, l->config)) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        reload_free(l->config);
        mem_free(l);
    }
}

void run_reload(struct run *r)
{
    if (r->state >= RUN_DRAINING || r->config_path == NULL)
        return;
    r->reloads++;
    file_watch_begin(&r->file, r->config_path);
    free_unused_configs(r);
    struct config *c = reload_config(r->config_path, r->in_force);
    if (c == NULL)
        return;
    struct loaded *l = mem_zalloc(sizeof *l);
    *l = (struct loaded){.config = c, .next = r->loaded};
    r->loaded = l;
    r->in_force = c;
    log_info("configuration read again handlers=%zu", c->handlers_n);
    for (size_t i = 0; i < c->handlers_n; i++) {
        file_watch_begin(&r->handlers[i].file, c->handlers[i].file);
        pool_renew(&r->handlers[i].pool, &c->handlers[i], r->now_ms);
    }
}

static uint64_t files_due_ms(const struct run *r)
{
    return r->in_force->reload_on_change && r->state < RUN_DRAINING ? r->look_ms : UINT64_MAX;
}

static void look_at_files(struct run *r)
{
    if (files_due_ms(r) > r->now_ms)
        return;
    r->look_ms = r->now_ms + FILES_MS;
    if (file_watch_look(&r->file, r->config_path)) {
        log_info("file changed file=%s", LOG_STR(r->config_path));
        run_reload(r);
        return;
    }
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        const struct handler_config *c = &r->in_force->handlers[i];
        if (!file_watch_look(&r->handlers[i].file, c->file))
            continue;
        log_info("file changed handler=%s file=%s", c->name, LOG_STR(c->file));
        pool_renew(&r->handlers[i].pool, c, r->now_ms);
    }
}

/* ---- signals ---- */

static void take_signals(struct run *r)
{
    struct signalfd_siginfo s;
    while (read(r->signals, &s, sizeof s) == (ssize_t)sizeof s) {
        if (s.ssi_signo == SIGHUP) {
            run_reload(r);
        } else if (r->state < RUN_DRAINING) {
            run_drain(r);
        } else {
            err_set(&r->error, E_CANCELLED, "a second signal: stopped at once");
            r->state = RUN_FAILED;
        }
    }
}

/* ---- figures ---- */

static void look_at_handler(const struct handler *h, struct figures_handler *f)
{
    snprintf(f->name, sizeof f->name, "%s", h->config->name);
    snprintf(f->topic, sizeof f->topic, "%s", h->config->topic);
    snprintf(f->group, sizeof f->group, "%s", h->config->group);
    f->counts = h->counts;
    f->times = h->times;
    f->restarts = h->restarts;
    f->held = h->held_n;
    f->least = h->pool.min;
    f->most = h->pool.max;
    f->paused = h->pool.paused;
    f->taken = h->taken;
    memcpy(f->error, h->error, sizeof f->error);
    f->breaker = h->breaker.state;
    f->breaker_opened = h->breaker.opened;
    struct pool_figures processes;
    pool_figures(&h->pool, &processes);
    snprintf(f->version, sizeof f->version, "%s", processes.version);
    snprintf(f->canary_version, sizeof f->canary_version, "%s", processes.canary_version);
    f->canary_percent = processes.canary_percent;
    if (f->canary_percent > 0)
        snprintf(f->versions, sizeof f->versions, "%s (%" PRIu32 "%% %s)", f->version, f->canary_percent,
                 f->canary_version);
    else
        memcpy(f->versions, f->version, sizeof f->version);
    f->versions_dropped = processes.dropped;
    f->wanted = processes.wanted;
    f->had = processes.had;
    f->moved = scale_why_text(processes.moved);
    f->why = scale_why_text(processes.why);
    f->up = processes.up;
    f->busy = processes.busy;
}

static void look(struct run *r)
{
    struct figures *f = &r->figures;
    bool reachable = r->connected && !atomic_load(&r->source->away);
    r->news = r->state != f->state || r->reloads != f->reloads || reachable != f->reachable ||
              r->now_ms >= r->figures_ms + FIGURES_MS;
    r->stale = !r->news;
    if (!r->news)
        return;
    r->figures_ms = r->now_ms;
    f->state = r->state;
    f->reachable = reachable;
    f->reloads = r->reloads;
    for (size_t i = 0; i < f->handlers_n; i++)
        look_at_handler(&r->handlers[i], &f->handlers[i]);
    figures_describe(f);
}

/* Things that happen at once are looked at once, a little later. */
static uint64_t figures_due_ms(const struct run *r)
{
    return r->stale ? r->figures_ms + FIGURES_MS : UINT64_MAX;
}

const struct figures *run_figures(const struct run *r)
{
    return r->news ? &r->figures : NULL;
}

/* ---- a turn ---- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t due_ms(const struct run *r)
{
    uint64_t due = earlier(earlier(drain_due_ms(r), figures_due_ms(r)), earlier(files_due_ms(r), r->sweep_ms));
    if (r->refused_n > 0)
        due = earlier(due, r->again_ms);
    for (size_t i = 0; i < r->config->handlers_n; i++)
        due = earlier(due, earlier(earlier(extension_due_ms(&r->handlers[i]), pool_due_ms(&r->handlers[i].pool)),
                                   earlier(breaker_due_ms(&r->handlers[i].breaker), r->handlers[i].window_ms)));
    return due;
}

/* Room for what is polled; returns how much that is. */
static size_t make_fds(struct run *r)
{
    size_t n = OWN_FDS;
    for (size_t i = 0; i < r->config->handlers_n; i++)
        n += r->handlers[i].pool.n * CHILD_FDS;
    if (n > r->fds_cap) {
        r->fds_cap = 2 * n;
        r->fds = mem_resize(r->fds, r->fds_cap, sizeof *r->fds);
    }
    return n;
}

static void sleep_until_something(struct run *r)
{
    size_t n = make_fds(r);
    struct pollfd *next = r->fds + OWN_FDS;
    r->fds[0] = (struct pollfd){.fd = inbox_fd(r->inbox), .events = POLLIN};
    r->fds[1] = (struct pollfd){.fd = r->signals, .events = POLLIN};
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        pool_poll(&r->handlers[i].pool, next);
        next += r->handlers[i].pool.n * CHILD_FDS;
    }
    uint64_t now = clock_mono_ms(), due = due_ms(r);
    if (r->turn_ms_max > 0)
        due = earlier(due, now + r->turn_ms_max);
    int timeout = due == UINT64_MAX       ? -1
                  : due <= now            ? 0
                  : due - now > INT32_MAX ? INT32_MAX
                                          : (int)(due - now);
    if (!inbox_arm(r->inbox))
        timeout = 0;
    for (bool interrupted = poll(r->fds, n, timeout) < 0; interrupted && n > 0; n--)
        r->fds[n - 1].revents = 0;
    inbox_disarm(r->inbox);
}

static bool all_up(const struct run *r)
{
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        if (!pool_is_up(&r->handlers[i].pool))
            return false;
    }
    return r->connected;
}

/* None is added or freed on the way, so that each finds what was polled for it. */
static void step_children(struct run *r)
{
    const struct pollfd *next = r->fds + OWN_FDS;
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        pool_step(&r->handlers[i].pool, next, r->now_ms);
        next += r->handlers[i].pool.n * CHILD_FDS;
    }
}

void run_turn(struct run *r)
{
    sleep_until_something(r);
    r->now_ms = clock_mono_ms();
    take_answers(r);
    step_children(r);
    if (r->sweep_ms <= r->now_ms)
        r->sweep_ms = r->now_ms + family_sweep();
    if (r->fds[1].revents != 0)
        take_signals(r);
    look_at_files(r);
    if (r->state == RUN_STARTING && all_up(r))
        r->state = RUN_READY;
    if (r->state == RUN_DRAINING)
        drain_on(r);
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        step_breaker(&r->handlers[i]);
        scale(&r->handlers[i]);
        dispatch(&r->handlers[i]);
        extend_leases(&r->handlers[i]);
    }
    flush_outcomes(r);
    for (size_t i = 0; i < r->config->handlers_n && r->state < RUN_DRAINING; i++)
        ask(&r->handlers[i]); /* after the outcomes, so that their leases are not counted twice */
    for (size_t i = 0; i < r->config->handlers_n; i++)
        pool_flush(&r->handlers[i].pool);
    look(r);
}

/* ---- a life ---- */

struct run *run_new(const struct run_options *o)
{
    const struct config *config = o->config;
    struct run *r = mem_zalloc(sizeof *r);
    *r = (struct run){.config = config,
                      .source = o->source,
                      .inbox = o->inbox,
                      .signals = o->signals,
                      .config_path = o->config_path,
                      .in_force = config,
                      .turn_ms_max = o->turn_ms_max};
    r->figures.handlers_n = config->handlers_n;
    r->figures.handlers = mem_array(config->handlers_n, sizeof *r->figures.handlers);
    r->handlers = mem_array(config->handlers_n, sizeof *r->handlers);
    r->now_ms = clock_mono_ms();
    file_watch_begin(&r->file, r->config_path);
    for (size_t i = 0; i < config->handlers_n; i++) {
        struct handler *h = &r->handlers[i];
        *h = (struct handler){.run = r, .config = &config->handlers[i], .index = (uint32_t)i};
        list_init(&h->waiting);
        list_init(&h->held);
        uint64_t seed;
        entropy_fill(&seed, sizeof seed);
        breaker_init(&h->breaker, &h->config->breaker, seed, r->now_ms);
        file_watch_begin(&h->file, h->config->file);
        h->window_ms = UINT64_MAX;
        pool_init(&h->pool, h->config, o->exe, &child_events, h, r->now_ms);
    }
    return r;
}

/* Tasks that are still held go with the process: their leases end, and others get them. */
static void forget_tasks(struct handler *h)
{
    for (struct list_node *n; (n = list_pop_front(&h->held)) != NULL;) {
        struct task *t = container_of(n, struct task, held);
        list_remove(&t->place);
        order_remove(&h->order, t);
        t->settled = true;
        free_if_over(h->run, t);
    }
}

void run_free(struct run *r)
{
    for (size_t i = 0; i < r->config->handlers_n; i++) {
        forget_tasks(&r->handlers[i]);
        order_free(&r->handlers[i].order);
    }
    for (size_t i = 0; i < r->config->handlers_n; i++)
        pool_close(&r->handlers[i].pool);
    family_end();
    for (struct loaded *l; (l = r->loaded) != NULL; mem_free(l)) {
        r->loaded = l->next;
        reload_free(l->config);
    }
    figures_free(&r->figures);
    mem_free(r->handlers);
    mem_free(r->fds);
    mem_free(r->sending);
    mem_free(r->refused);
    mem_free(r);
}

enum run_state run_state(const struct run *r)
{
    return r->state;
}

const char *run_error(const struct run *r)
{
    return r->error.text;
}

bool run_cannot_start(const struct run *r)
{
    return r->error.code == E_CONFIG;
}

bool run_clean(const struct run *r)
{
    return r->tasks_n == 0 && !asked_any(r);
}

const struct run_counts *run_counts(const struct run *r, size_t handler)
{
    return &r->handlers[handler].counts;
}

const struct breaker *run_breaker(const struct run *r, size_t handler)
{
    return &r->handlers[handler].breaker;
}

struct pool *run_pool(struct run *r, size_t handler)
{
    return &r->handlers[handler].pool;
}

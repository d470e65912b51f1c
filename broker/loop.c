/* The turn of the broker: see loop.h, and docs/internals.md for the picture.
 *
 * Read loop_turn first: it is the whole of it. Above it stand the pieces that it names.
 */
#include "broker/loop.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/inbox.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/planted.h"
#include "broker/readers.h"
#include "broker/reclaim.h"
#include "schemas/errors.h"

/* ---------------------------------------------------------------- what arrives in the inbox */

enum event_kind { EVENT_OP, EVENT_PIPE_LOST, EVENT_LOADED, EVENT_DUE, EVENT_BACK, EVENT_CUT, EVENT_COPIED, EVENT_MATCHED, EVENT_COMPACTED, EVENT_PICKED, EVENT_UNREADABLE, EVENT_STOP };

struct event {
    struct inbox_node node;
    uintptr_t kind;
};
_Static_assert(sizeof(struct event) <= sizeof(((struct op *)0)->node), "an operation carries the event that brings it");

struct event_pipe { struct event event; uint64_t pipe; };
struct event_loaded { struct event event; struct loaded loaded; struct loaded_record records[]; };
struct event_matched { struct event event; struct match *match; };
struct event_compacted { struct event event; struct compaction *compaction; };
struct event_picked { struct event event; struct pick *pick; };
struct event_due { struct event event; struct due due; };
struct event_cut { struct event event; struct cut cut; };
struct event_back { struct event event; struct back back; struct back_place places[]; };
struct event_copied { struct event event; struct copies *copies; };
struct event_unreadable { struct event event; struct log_unreadable what; };

/* A turn that was written and waits for the disk, with the replies that stand on it. */
struct synced_turn {
    struct inbox_node node;
    uint64_t turn;
    struct list ops;
};

struct loop {
    struct loop_options options;
    struct engine *engine;
    struct tail *tail;
    struct readers *readers;
    struct reclaim *reclaim; /* NULL: there is none */
    struct backup *backup;   /* NULL: likewise */
    struct workers *workers;
    struct inbox inbox;
    struct event stop_event;

    /* of whoever takes a turn */
    pthread_mutex_t turns;
    uint64_t sleeps_until_ms;     /* when the loop's thread gets up by itself */
    struct inbox_node *deferred, **deferred_last; /* events that came while a write was refused */
    bool blocked;                 /* a turn's puts are refused: tried again until they are written */
    int refused_as;               /* DISK_FULL, or OVERLOADED while the store catches up */
    uint64_t refused_since_ms;
    uint64_t retry_at_ms, retry_wait_ms;
    uint64_t durable_seen, written_seen, written;
    uint64_t status_at_ms;
    uint64_t now_ms;              /* of the turn */
    bool stopped;                 /* engine_stop was called */

    /* shared */
    struct inbox sync_inbox;
    atomic_uint_fast64_t durable; /* every turn up to it is on disk */
    atomic_uint_fast64_t syncs, sync_ns, writes, write_ns;
    atomic_uint_fast64_t in_sync; /* turns given to the sync thread and not finished */
    atomic_bool running, failed;
    pthread_mutex_t status_lock;
    struct loop_status status;
    pthread_t loop_thread, sync_thread;
    bool threads;
};

static void fatal(struct loop *l, const struct err *why)
{
    if (atomic_exchange(&l->failed, true))
        return;
    log_error("store failed: %s", why->text);
    if (l->options.fatal != NULL)
        l->options.fatal(l->options.user, why);
    inbox_wake(&l->inbox);
}

/* ---------------------------------------------------------------- replies on their way out */

static void finish(struct loop *l, struct op *op)
{
    if (op->reply.body == BODY_HEALTH) {
        struct wire_health_reply *h = &op->reply.health;
        h->durable_turn = atomic_load(&l->durable);
        h->version = VIEW_LIT(SLUICE_VERSION);
        h->uptime_ms = clock_wall_ms() - l->status.started_wall_ms;
    }
    op->done(op);
}

static void answer_with(struct op *op, int code)
{
    op->reply = (struct wire_reply){.code = (uint16_t)code};
    op->read = READ_NONE;
    op->done(op);
}

/* What the reply stands on is there: fetch its bytes, if it has any, and let it go. What stands on nothing, as READ_WORKERS does, is let
 * go by who takes the turn. */
static void release(struct loop *l, struct op *op)
{
    if (op->read == READ_WORKERS) {
        workers_take(l->workers, op, l->now_ms);
        finish(l, op);
    } else if (op->read == READ_BACKUP && l->backup != NULL)
        backup_take(l->backup, op, atomic_load(&l->durable));
    else if (op->read == READ_BACKUP)
        answer_with(op, E_UNSUPPORTED);
    else if (op->read != READ_NONE)
        readers_fill(l->readers, op);
    else
        finish(l, op);
}

/* ---------------------------------------------------------------- the sync thread */

static void turn_release(struct loop *l, struct synced_turn *t)
{
    for (struct list_node *n; (n = list_pop_front(&t->ops)) != NULL;)
        release(l, container_of(n, struct op, wait));
    mem_free(t);
}

/* One sync serves every turn that was written before it began. */
static bool sync_some(struct loop *l)
{
    struct inbox_node *first = inbox_drain(&l->sync_inbox);
    if (first == NULL)
        return true;
    uint64_t began = clock_mono_ns();
    struct err e = {0};
    if (store_sync(l->options.store, &e) != E_OK && !PLANTED(sync_failure_ignored)) { /* no reply leaves any more */
        for (struct inbox_node *n = first, *next; n != NULL; n = next) {
            next = n->next;
            inbox_push(&l->sync_inbox, n, 0);
        }
        fatal(l, &e);
        return false;
    }
    atomic_fetch_add(&l->syncs, 1);
    atomic_fetch_add(&l->sync_ns, clock_mono_ns() - began);
    uint64_t last = 0;
    for (struct inbox_node *n = first; n != NULL; n = n->next)
        last = container_of(n, struct synced_turn, node)->turn;
    atomic_store(&l->durable, last + PLANTED(durable_ahead));
    for (struct inbox_node *n = first, *next; n != NULL; n = next) {
        next = n->next;
        turn_release(l, container_of(n, struct synced_turn, node));
        atomic_fetch_sub(&l->in_sync, 1);
    }
    inbox_wake(&l->inbox); /* what became durable can be seen by readers */
    return true;
}

static void *sync_main(void *arg)
{
    struct loop *l = arg;
    while (atomic_load(&l->running)) {
        inbox_wait(&l->sync_inbox, UINT64_MAX);
        if (!sync_some(l))
            return NULL;
    }
    sync_some(l);
    return NULL;
}

/* ---------------------------------------------------------------- a turn's effects */

static void publish_partitions(struct loop *l, const struct effects *fx)
{
    for (size_t i = 0; i < fx->partitions_n; i++) {
        tail_partition(l->tail, &fx->partitions[i]);
        if (l->options.partition != NULL)
            l->options.partition(l->options.user, &fx->partitions[i]);
    }
}

/* Lets go of what stands on nothing; with `all` also of what stands on the write that was just done. The rest stays. */
static void release_done(struct loop *l, struct effects *fx, enum durability most)
{
    LIST_EACH_SAFE (n, &fx->done) {
        struct op *op = container_of(n, struct op, wait);
        if (op->level != DURABILITY_NONE && op->level != most)
            continue;
        list_remove(n);
        /* few bytes that are in memory are sent in less time than a reader takes to wake; unless others wait for us */
        if (op->read != READ_FETCH || inbox_bytes(&l->inbox) > 0 || !readers_fill_here(l->readers, op))
            release(l, op);
    }
}

/* The turn is written: its effects happen. */
static void turn_written(struct loop *l)
{
    struct effects *fx = engine_effects(l->engine);
    uint64_t turn = engine_turn(l->engine);
    if (fx->shows_when_written)
        l->written = turn;
    for (size_t i = 0; i < fx->appends_n; i++)
        tail_add(l->tail, &fx->appends[i]);
    if (fx->compacted != NULL)
        tail_forget(l->tail, fx->compacted);
    publish_partitions(l, fx);
    for (size_t i = 0; i < fx->drop_pipes_n && l->options.drop_pipe != NULL; i++)
        l->options.drop_pipe(l->options.user, fx->drop_pipes[i]);
    release_done(l, fx, DURABILITY_OS);
    if (PLANTED(reply_before_commit))
        release_done(l, fx, DURABILITY_DISK);
    if (fx->need_sync) {
        struct synced_turn *t = mem_zalloc(sizeof *t);
        t->turn = turn;
        list_init(&t->ops);
        list_splice(&t->ops, &fx->done);
        atomic_fetch_add(&l->in_sync, 1);
        inbox_push(&l->sync_inbox, &t->node, 0);
    }
    assert(list_empty(&fx->done));
    for (size_t i = 0; i < fx->loads_n; i++)
        readers_load(l->readers, &fx->loads[i]);
    for (size_t i = 0; i < fx->matches_n; i++)
        readers_match(l->readers, fx->matches[i]);
    for (size_t i = 0; i < fx->picks_n; i++)
        readers_pick(l->readers, fx->picks[i]);
    if (fx->due != NULL)
        readers_due(l->readers, fx->due);
    for (size_t i = 0; i < fx->cuts_n; i++)
        readers_cut(l->readers, &fx->cuts[i]);
    for (size_t i = 0; i < fx->copies_n; i++)
        readers_copy(l->readers, fx->copies[i]);
    if (fx->compaction != NULL)
        readers_compact(l->readers, fx->compaction);
    if (fx->back != NULL)
        readers_back(l->readers, fx->back);
    for (size_t i = 0; i < fx->notices_n; i++)
        log_warn("%s", fx->notices[i].line.text);
    for (size_t i = 0; i < fx->hints_n && l->options.hint != NULL; i++)
        l->options.hint(l->options.user, fx->hints[i].group, fx->hints[i].topic, fx->hints[i].name);
    engine_effects_clear(l->engine);
}

/* Writes the turn's puts. False: refused for space or the store failed; refused puts are kept and tried again. */
static bool turn_write(struct loop *l, uint64_t now_ms)
{
    struct effects *fx = engine_effects(l->engine);
    struct err e = {0};
    int code = E_OK;
    if (fx->puts.count > 0) {
        uint64_t began = clock_mono_ns();
        code = store_write(l->options.store, &fx->puts, &e);
        atomic_fetch_add(&l->writes, 1);
        atomic_fetch_add(&l->write_ns, clock_mono_ns() - began);
    }
    if (code == E_OK || (PLANTED(refused_write_forgotten) && code == E_DISK_FULL)) {
        if (l->blocked && l->refused_as == E_DISK_FULL)
            log_info("writing again");
        l->blocked = false;
        l->retry_wait_ms = 0;
        turn_written(l);
        return true;
    }
    if (code != E_DISK_FULL && code != E_OVERLOADED) {
        fatal(l, &e);
        return false;
    }
    if (!l->blocked || l->refused_as != code) {
        l->refused_since_ms = now_ms;
        if (code == E_DISK_FULL)
            log_warn("disk full, changes are refused until there is space: %s", e.text);
    }
    l->blocked = true;
    l->refused_as = code;
    l->retry_wait_ms = code == E_OVERLOADED ? 1 : l->retry_wait_ms == 0 ? 50 : l->retry_wait_ms < 500 ? 2 * l->retry_wait_ms : 1000;
    l->retry_at_ms = now_ms + l->retry_wait_ms;
    release_done(l, fx, DURABILITY_NONE); /* reads go on, also those of this turn */
    return false;
}

/* ---------------------------------------------------------------- events */

static struct op *op_of(struct event *ev) { return container_of((void **)(void *)ev, struct op, node[0]); }

static void step(struct loop *l, struct event *ev)
{
    switch ((enum event_kind)ev->kind) {
    case EVENT_OP:
        engine_op(l->engine, op_of(ev));
        break;
    case EVENT_PIPE_LOST: {
        struct event_pipe *p = container_of(ev, struct event_pipe, event);
        engine_pipe_lost(l->engine, p->pipe);
        mem_free(p);
        break;
    }
    case EVENT_LOADED: {
        struct event_loaded *p = container_of(ev, struct event_loaded, event);
        engine_loaded(l->engine, &p->loaded);
        mem_free(p);
        break;
    }
    case EVENT_MATCHED: {
        struct event_matched *p = container_of(ev, struct event_matched, event);
        engine_matched(l->engine, p->match);
        mem_free(p);
        break;
    }
    case EVENT_COMPACTED: {
        struct event_compacted *p = container_of(ev, struct event_compacted, event);
        engine_compacted(l->engine, p->compaction);
        mem_free(p);
        break;
    }
    case EVENT_PICKED: {
        struct event_picked *p = container_of(ev, struct event_picked, event);
        engine_picked(l->engine, p->pick);
        mem_free(p);
        break;
    }
    case EVENT_DUE: {
        struct event_due *p = container_of(ev, struct event_due, event);
        engine_due(l->engine, &p->due);
        ref_drop(p->due.hold);
        mem_free(p);
        break;
    }
    case EVENT_CUT: {
        struct event_cut *p = container_of(ev, struct event_cut, event);
        engine_cut(l->engine, &p->cut);
        mem_free(p);
        break;
    }
    case EVENT_BACK: {
        struct event_back *p = container_of(ev, struct event_back, event);
        engine_back(l->engine, &p->back);
        mem_free(p);
        break;
    }
    case EVENT_COPIED: {
        struct event_copied *p = container_of(ev, struct event_copied, event);
        engine_copied(l->engine, p->copies);
        mem_free(p);
        break;
    }
    case EVENT_UNREADABLE: {
        struct event_unreadable *p = container_of(ev, struct event_unreadable, event);
        engine_unreadable(l->engine, p->what.group, p->what.partition, p->what.offset, p->what.token, p->what.code,
                          view_of_str(p->what.error.text));
        mem_free(p);
        break;
    }
    case EVENT_STOP:
        engine_stop(l->engine);
        l->stopped = true;
        break;
    }
}

/* While a turn's puts are refused only what changes nothing is stepped; other requests are answered, other events wait. */
static void step_blocked(struct loop *l, struct event *ev)
{
    if (ev->kind != EVENT_OP) {
        if (PLANTED(deferred_lost))
            return;
        *l->deferred_last = &ev->node;
        ev->node.next = NULL;
        l->deferred_last = &ev->node.next;
        return;
    }
    struct op *op = op_of(ev);
    if (!engine_reads(op->request.verb)) {
        op->reply = (struct wire_reply){.code = (uint16_t)l->refused_as, .retry_after_ms = 1000,
                                        .detail = l->refused_as == E_DISK_FULL ? VIEW_LIT("changes are refused until there is space")
                                                                               : VIEW_LIT("the store does not keep up with what is written")};
        op->read = READ_NONE;
        op->done(op);
        return;
    }
    if (op->request.verb == VERB_FETCH)
        op->request.fetch.wait_ms = 0;
    engine_op(l->engine, op);
    release_done(l, engine_effects(l->engine), DURABILITY_NONE);
}

static struct inbox_node *take_events(struct loop *l)
{
    struct inbox_node *first = inbox_drain(&l->inbox);
    if (l->blocked || l->deferred == NULL)
        return first;
    struct inbox_node *all = l->deferred; /* what waited goes first */
    *l->deferred_last = first;
    l->deferred = NULL;
    l->deferred_last = &l->deferred;
    return all;
}

static void publish_status(struct loop *l, struct engine_now now)
{
    if (now.mono_ms < l->status_at_ms)
        return;
    l->status_at_ms = now.mono_ms + 500;
    struct loop_status s = {.epoch = engine_epoch(l->engine), .turn = engine_turn(l->engine), .read_only = l->blocked && l->refused_as == E_DISK_FULL,
                            .stopping = l->stopped, .tail_cache_bytes = tail_bytes(l->tail), .inbox_bytes = inbox_bytes(&l->inbox)};
    s.counters = *engine_counters(l->engine);
    engine_totals(l->engine, &s.totals);
    store_stats(l->options.store, &s.store);
    workers_counts(l->workers, now.mono_ms, &s.workers);
    if (l->reclaim != NULL)
        reclaim_tell(l->reclaim, s.totals.log_bytes);
    if (!l->blocked)
        engine_disk(l->engine, s.store.disk_free);
    s.below_reserve = s.store.disk_free < l->options.limits->disk_reserve_bytes;
    pthread_mutex_lock(&l->status_lock);
    s.started_wall_ms = l->status.started_wall_ms;
    l->status = s;
    pthread_mutex_unlock(&l->status_lock);
}

/* The store stalls for a few milliseconds now and then, when what was written has to reach its place first: nobody is refused for
 * that. A longer one is like a full disk. */
static bool catching_up(const struct loop *l, uint64_t now_ms)
{
    return l->refused_as == E_OVERLOADED && now_ms - l->refused_since_ms < 1000;
}

static uint64_t next_deadline(const struct loop *l)
{
    uint64_t due = engine_deadline(l->engine);
    if (l->blocked)
        return l->retry_at_ms;
    if (l->written > l->written_seen)
        return 0; /* what was written can be seen by readers: one more turn, at once */
    return due < l->status_at_ms ? due : l->status_at_ms;
}

uint64_t loop_turn(struct loop *l, struct engine_now now)
{
    if (atomic_load(&l->failed))
        return UINT64_MAX;
    l->now_ms = now.mono_ms;
    publish_status(l, now);
    if (l->blocked && (now.mono_ms < l->retry_at_ms || !turn_write(l, now.mono_ms))) {
        if (catching_up(l, now.mono_ms))
            return l->retry_at_ms; /* what arrives waits in the inbox, which is bounded */
        /* turns before this one may have become durable: what was acknowledged can be read */
        engine_durable(l->engine, l->durable_seen = atomic_load(&l->durable));
        engine_written(l->engine, l->written_seen = l->written);
        release_done(l, engine_effects(l->engine), DURABILITY_NONE);
        for (struct inbox_node *n = take_events(l), *next; n != NULL; n = next) {
            next = n->next;
            step_blocked(l, container_of(n, struct event, node));
        }
        return next_deadline(l);
    }
    uint64_t durable = atomic_load(&l->durable), written = l->written;
    struct inbox_node *events = take_events(l);
    if (events == NULL && durable == l->durable_seen && written == l->written_seen && engine_deadline(l->engine) > now.mono_ms)
        return next_deadline(l);

    engine_turn_begin(l->engine, now);
    engine_durable(l->engine, l->durable_seen = durable);
    engine_written(l->engine, l->written_seen = written);
    for (struct inbox_node *n = events, *next; n != NULL; n = next) {
        next = n->next;
        step(l, container_of(n, struct event, node));
    }
    engine_turn_end(l->engine);
    if (engine_failed(l->engine) != NULL) {
        fatal(l, engine_failed(l->engine));
        return UINT64_MAX;
    }
    turn_write(l, now.mono_ms);
    return next_deadline(l);
}

static bool goes_on(const struct loop *l)
{
    return atomic_load(&l->running) && !atomic_load(&l->failed);
}

static struct engine_now clocks(void)
{
    return (struct engine_now){.mono_ms = clock_mono_ms(), .wall_ms = clock_wall_ms()};
}

static void *loop_main(void *arg)
{
    struct loop *l = arg;
    while (goes_on(l)) {
        pthread_mutex_lock(&l->turns);
        struct engine_now now = clocks();
        uint64_t due_ms = l->sleeps_until_ms = loop_turn(l, now);
        bool pause = l->blocked && catching_up(l, now.mono_ms);
        pthread_mutex_unlock(&l->turns);
        if (pause) /* the inbox is left alone, so it would not let us sleep */
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        else
            inbox_wait(&l->inbox, due_ms > UINT64_MAX / 1000000 ? UINT64_MAX : due_ms * 1000000);
    }
    return NULL;
}

void loop_help(struct loop *l)
{
    enum { TURNS_MAX = 4 }; /* then the helper has its own to do, and the loop's thread goes on */
    if (inbox_bytes(&l->inbox) == 0)
        return;
    if (pthread_mutex_trylock(&l->turns) != 0) {
        inbox_rouse(&l->inbox); /* whoever is at it may have looked already */
        return;
    }
    uint64_t due_ms = l->sleeps_until_ms;
    for (int i = 0; i < TURNS_MAX && goes_on(l) && !l->blocked && (i == 0 || due_ms == 0); i++)
        due_ms = loop_turn(l, clocks());
    bool wanted = due_ms < l->sleeps_until_ms || l->blocked;
    pthread_mutex_unlock(&l->turns);
    if (wanted)
        inbox_wake(&l->inbox);
    else
        inbox_rouse(&l->inbox);
}

/* ---------------------------------------------------------------- what others hand in */

int loop_submit(struct loop *l, struct op *op)
{
    struct event *ev = (struct event *)(void *)op->node;
    ev->kind = EVENT_OP;
    bool taken = op->helps ? inbox_leave(&l->inbox, &ev->node, op->bytes) : inbox_offer(&l->inbox, &ev->node, op->bytes);
    return taken ? E_OK : E_OVERLOADED;
}

void loop_pipe_lost(struct loop *l, uint64_t pipe)
{
    struct event_pipe *p = mem_zalloc(sizeof *p);
    p->event.kind = EVENT_PIPE_LOST;
    p->pipe = pipe;
    inbox_push(&l->inbox, &p->event.node, 0);
}

static void on_loaded(void *user, const struct loaded *loaded)
{
    struct loop *l = user;
    struct event_loaded *p = mem_alloc(sizeof *p + loaded->records_n * sizeof p->records[0]);
    p->event.kind = EVENT_LOADED;
    p->loaded = *loaded;
    if (loaded->records_n > 0)
        memcpy(p->records, loaded->records, loaded->records_n * sizeof p->records[0]);
    p->loaded.records = p->records;
    inbox_push(&l->inbox, &p->event.node, 0);
}

static void on_matched(void *user, struct match *m)
{
    struct loop *l = user;
    struct event_matched *p = mem_zalloc(sizeof *p);
    p->event.kind = EVENT_MATCHED;
    p->match = m;
    inbox_push(&l->inbox, &p->event.node, 0);
}

static void on_compacted(void *user, struct compaction *c)
{
    struct loop *l = user;
    struct event_compacted *p = mem_zalloc(sizeof *p);
    p->event.kind = EVENT_COMPACTED;
    p->compaction = c;
    inbox_push(&l->inbox, &p->event.node, 0);
}

static void on_picked(void *user, struct pick *pick)
{
    struct loop *l = user;
    struct event_picked *p = mem_zalloc(sizeof *p);
    p->event.kind = EVENT_PICKED;
    p->pick = pick;
    inbox_push(&l->inbox, &p->event.node, 0);
}

static void on_due(void *user, const struct due *d)
{
    struct loop *l = user;
    struct event_due *p = mem_zalloc(sizeof *p);
    for (uint32_t i = 0; i < d->batches_n; i++)
        if (d->batches[i].code != E_OK)
            log_error("a batch that was due at %llu for partition id %u does not fit its checksum: it is not appended, and stays listed",
                      (unsigned long long)d->batches[i].due_ms, d->batches[i].partition);
    p->event.kind = EVENT_DUE;
    p->due = *d;
    inbox_push(&l->inbox, &p->event.node, 0);
}

static void on_cut(void *user, const struct cut *c)
{
    struct loop *l = user;
    struct event_cut *p = mem_zalloc(sizeof *p);
    p->event.kind = EVENT_CUT;
    p->cut = *c;
    inbox_push(&l->inbox, &p->event.node, 0);
}

static void on_back(void *user, const struct back *b)
{
    struct loop *l = user;
    struct event_back *p = mem_alloc(sizeof *p + b->places_n * sizeof p->places[0]);
    p->event.kind = EVENT_BACK;
    p->back = *b;
    if (b->places_n > 0)
        memcpy(p->places, b->places, b->places_n * sizeof p->places[0]);
    p->back.places = p->places;
    inbox_push(&l->inbox, &p->event.node, 0);
}

static void on_copied(void *user, struct copies *c)
{
    struct loop *l = user;
    struct event_copied *p = mem_zalloc(sizeof *p);
    p->event.kind = EVENT_COPIED;
    p->copies = c;
    inbox_push(&l->inbox, &p->event.node, 0);
}

static void on_unreadable(void *user, const struct log_unreadable *u)
{
    struct loop *l = user;
    log_warn("message unreadable: %s", u->error.text);
    if (u->code == E_STORE_FAILED)
        fatal(l, &u->error);
    if (u->code != E_DAMAGED && u->code != E_GAP)
        return; /* it may be whole: it comes again when its lease has run out */
    struct event_unreadable *p = mem_zalloc(sizeof *p);
    p->event.kind = EVENT_UNREADABLE;
    p->what = *u;
    inbox_push(&l->inbox, &p->event.node, 0);
}

/* What was asked of the log for the engine goes back to it; everything else leaves. */
static void on_filled(void *user, struct op *op)
{
    struct loop *l = user;
    if (op->read != READ_INDEX) {
        finish(l, op);
        return;
    }
    struct event *ev = (struct event *)(void *)op->node;
    ev->kind = EVENT_OP;
    inbox_push(&l->inbox, &ev->node, op->bytes);
}

static void on_failed(void *user, const struct err *why) { fatal(user, why); }

void loop_status(struct loop *l, struct loop_status *out)
{
    pthread_mutex_lock(&l->status_lock);
    *out = l->status;
    pthread_mutex_unlock(&l->status_lock);
    out->durable_turn = atomic_load(&l->durable);
    out->syncs = atomic_load(&l->syncs);
    out->sync_ns = atomic_load(&l->sync_ns);
    if (l->reclaim != NULL)
        reclaim_counts(l->reclaim, &out->reclaims, &out->reclaimed_bytes);
    if (l->backup != NULL)
        backup_counts(l->backup, &out->backups);
    out->writes = atomic_load(&l->writes);
    out->write_ns = atomic_load(&l->write_ns);
}

struct engine *loop_engine(struct loop *l) { return l->engine; }

/* ---------------------------------------------------------------- life */

int loop_open(struct loop **out, const struct loop_options *options, struct engine_now now, struct err *e)
{
    struct loop *l = mem_zalloc(sizeof *l);
    int code;
    l->options = *options;
    l->deferred_last = &l->deferred;
    l->status.started_wall_ms = now.wall_ms;
    pthread_mutex_init(&l->status_lock, NULL);
    pthread_mutex_init(&l->turns, NULL);
    if (inbox_init(&l->inbox, options->inbox_bytes_max != 0 ? options->inbox_bytes_max : (size_t)256 << 20, e) != 0 ||
        inbox_init(&l->sync_inbox, 0, e) != 0) {
        mem_free(l);
        return E_INTERNAL;
    }
    l->tail = tail_new(options->tail_cache_bytes != 0 ? options->tail_cache_bytes : (size_t)64 << 20);
    code = engine_open(&l->engine, options->store, options->limits, now, options->seed, e);
    if (code != E_OK) {
        loop_close(l);
        return code;
    }
    l->workers = workers_new(options->workers != NULL ? options->workers : &workers_bounds_default, engine_epoch(l->engine));
    publish_partitions(l, engine_effects(l->engine));
    atomic_store(&l->durable, engine_turn(l->engine));
    l->written = l->written_seen = l->durable_seen = engine_turn(l->engine);
    struct log_source src = {.store = options->store, .tail = l->tail};
    struct readers_hooks hooks = {.loaded = on_loaded, .due = on_due, .back = on_back, .cut = on_cut, .copied = on_copied, .matched = on_matched,
                                  .compacted = on_compacted, .picked = on_picked, .unreadable = on_unreadable,
                                  .filled = on_filled, .failed = on_failed, .user = l};
    if (readers_start(&l->readers, &src, options->reader_threads, &hooks, e) != 0) {
        loop_close(l);
        return E_INTERNAL;
    }
    /* the new epoch is on disk before anybody is answered */
    engine_turn_begin(l->engine, now);
    engine_turn_end(l->engine);
    const struct effects *fx = engine_effects(l->engine);
    if ((code = store_write(options->store, &fx->puts, e)) != E_OK || (code = store_sync(options->store, e)) != E_OK) {
        engine_effects_clear(l->engine);
        loop_close(l);
        return code;
    }
    turn_written(l);
    atomic_store(&l->running, true);
    sync_some(l);
    *out = l;
    return E_OK;
}

int loop_start(struct loop *l, struct err *e)
{
    const struct reclaim_options reclaim = {.store = l->options.store, .interval_ms = l->options.reclaim_interval_ms,
                                            .bytes_min = l->options.reclaim_bytes_min, .failed = on_failed, .user = l};
    if (reclaim.interval_ms != 0 && reclaim_start(&l->reclaim, &reclaim, e) != 0)
        return E_INTERNAL;
    const struct backup_options backup = {.store = l->options.store, .dir = l->options.backup_dir, .data = l->options.data_dir,
                                          .kept_max = l->options.backups_max, .reserve_bytes = l->options.limits->disk_reserve_bytes};
    if (backup_start(&l->backup, &backup, e) != E_OK)
        return E_INTERNAL;
    int code = pthread_create(&l->sync_thread, NULL, sync_main, l);
    if (code == 0 && (code = pthread_create(&l->loop_thread, NULL, loop_main, l)) != 0) {
        atomic_store(&l->running, false);
        inbox_wake(&l->sync_inbox);
        pthread_join(l->sync_thread, NULL);
    }
    if (code != 0)
        return err_set(e, E_INTERNAL, "a thread of the loop: %s", strerror(code));
    pthread_setname_np(l->loop_thread, "loop"); /* as `top -H` shows them */
    pthread_setname_np(l->sync_thread, "sync");
    l->threads = true;
    return E_OK;
}

/* Nothing is under way: the inbox is empty and every turn is on disk. */
static bool idle(struct loop *l)
{
    return inbox_bytes(&l->inbox) == 0 && atomic_load(&l->in_sync) == 0;
}

void loop_stop(struct loop *l, uint32_t drain_ms)
{
    if (!l->threads)
        return;
    l->stop_event.kind = EVENT_STOP;
    inbox_push(&l->inbox, &l->stop_event.node, 1);
    uint64_t until = clock_mono_ms() + drain_ms;
    while (!idle(l) && !atomic_load(&l->failed) && clock_mono_ms() < until) {
        struct timespec pause = {.tv_nsec = 2000000};
        nanosleep(&pause, NULL);
    }
    atomic_store(&l->running, false);
    inbox_wake(&l->inbox);
    pthread_join(l->loop_thread, NULL);
    pthread_mutex_lock(&l->turns); /* a helper ends its turn before the last sync */
    pthread_mutex_unlock(&l->turns);
    inbox_wake(&l->sync_inbox);
    pthread_join(l->sync_thread, NULL);
    l->threads = false;
    struct err e = {0};
    if (!atomic_load(&l->failed) && store_sync(l->options.store, &e) != E_OK) /* turns of `os` topics alone asked for none */
        fatal(l, &e);
}

int loop_sync(struct loop *l) { return sync_some(l) ? E_OK : E_STORE_FAILED; }

/* Nothing is stepped any more. What was stepped and is not known to be on disk has an unknown outcome; what was not stepped, or whose
 * write was refused for space to the end, has none. */
static void drop_everything(struct loop *l)
{
    engine_stop(l->engine); /* nobody waits */
    struct effects *fx = engine_effects(l->engine);
    for (struct list_node *n; (n = list_pop_front(&fx->done)) != NULL;) {
        struct op *op = container_of(n, struct op, wait);
        if (op->level == DURABILITY_NONE && op->read == READ_NONE)
            finish(l, op);
        else
            answer_with(op, l->blocked || op->level == DURABILITY_NONE ? E_SHUTTING_DOWN : E_STORE_FAILED);
    }
    for (struct inbox_node *n = inbox_drain(&l->sync_inbox), *next; n != NULL; n = next) {
        struct synced_turn *t = container_of(n, struct synced_turn, node);
        next = n->next;
        for (struct list_node *o; (o = list_pop_front(&t->ops)) != NULL;)
            answer_with(container_of(o, struct op, wait), E_STORE_FAILED);
        mem_free(t);
    }
    for (size_t i = 0; i < fx->matches_n; i++)
        match_free(fx->matches[i]);
    for (size_t i = 0; i < fx->copies_n; i++)
        copies_free(fx->copies[i]);
    compaction_free(fx->compaction);
    for (size_t i = 0; i < fx->picks_n; i++)
        pick_free(fx->picks[i]);
    l->blocked = false;
    for (struct inbox_node *n = take_events(l), *next; n != NULL; n = next) {
        struct event *ev = container_of(n, struct event, node);
        next = n->next;
        if (ev->kind == EVENT_OP) {
            answer_with(op_of(ev), E_SHUTTING_DOWN);
            continue;
        }
        if (ev->kind == EVENT_MATCHED)
            match_free(container_of(ev, struct event_matched, event)->match);
        if (ev->kind == EVENT_COMPACTED)
            compaction_free(container_of(ev, struct event_compacted, event)->compaction);
        if (ev->kind == EVENT_PICKED)
            pick_free(container_of(ev, struct event_picked, event)->pick);
        if (ev->kind == EVENT_COPIED)
            copies_free(container_of(ev, struct event_copied, event)->copies);
        if (ev->kind == EVENT_DUE)
            ref_drop(container_of(ev, struct event_due, event)->due.hold);
        if (ev->kind != EVENT_STOP)
            mem_free(ev); /* the event is the first field of each */
    }
}

void loop_close(struct loop *l)
{
    if (l == NULL)
        return;
    loop_stop(l, 0);
    if (l->reclaim != NULL)
        store_reclaim_end(l->options.store);
    reclaim_stop(l->reclaim);
    backup_stop(l->backup);
    l->backup = NULL;
    readers_stop(l->readers);
    if (l->engine != NULL) {
        drop_everything(l);
        engine_close(l->engine);
    }
    workers_free(l->workers);
    tail_free(l->tail);
    inbox_free(&l->inbox);
    inbox_free(&l->sync_inbox);
    pthread_mutex_destroy(&l->status_lock);
    pthread_mutex_destroy(&l->turns);
    mem_free(l);
}

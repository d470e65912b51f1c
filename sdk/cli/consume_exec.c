/*
 * Running a command for each message of a queue group.
 *
 *      receiving thread                          this thread
 *        wait for free slots                       poll: events, commands that ended, their standard error, stop
 *        receive at most so many  -- EVENT_BATCH -->  a slot for each message: run
 *        at the end?              -- EVENT_AT_END ->  extend at a third of the lease
 *                                                     settle by exit status
 *      library's thread           -- EVENT_SETTLED ->  count, complain
 *
 * The life of a slot:
 *
 *      free --message--> running --exit--> free            exit 0: ack, 65: park, other or signal: nack with the reason
 *                           |
 *                     stop, lease lost
 *                           v
 *                        killed --exit--> free             after a stop exit 0: ack, else release; lease lost: nothing
 */
#include <assert.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/inbox.h"
#include "base/mem.h"
#include "cli/consume.h"
#include "cli/out.h"
#include "cli/stop.h"
#include "exec/env.h"

enum { KILL_AFTER_MS = 2000 }; /* from SIGTERM to SIGKILL */

/* A received batch, freed when nobody holds it any more: each of its slots does, and who fills them. */
struct load {
    struct sluice_batch *batch;
    size_t holders;
};

struct slot {
    struct load *load;    /* NULL: free */
    size_t index;         /* of the message in the batch */
    uint64_t run;         /* number of this run, so that a late answer is not taken for the next one's */
    uint64_t extend_ms;   /* when to extend the lease next, monotonic */
    uint64_t kill_ms;     /* when to send SIGKILL; 0: not killed */
    bool lost;            /* the lease is another's */
    int stderr_fd;        /* -1: closed */
    struct speech speech; /* what it says there */
};

enum event_kind { EVENT_BATCH, EVENT_AT_END, EVENT_FAILED, EVENT_RECEIVER_ENDED, EVENT_SETTLED };

struct event {
    struct inbox_node node;
    enum event_kind kind;
    struct sluice_batch *batch; /* EVENT_BATCH */
    int status;                 /* EVENT_FAILED: said already */
    int verb;                   /* EVENT_SETTLED, and all below */
    struct runner *runner;
    uint32_t slot;
    uint64_t run;
    uint64_t offset;
    uint32_t partition;
    int code; /* 0: done */
    char text[256];
};

struct runner {
    struct consumer *consumer;
    struct slot *slots;
    uint32_t slots_count, running;
    uint64_t runs;
    uint64_t unanswered; /* settles on their way */
    bool no_more;        /* nothing more is to be received */
    bool stopping;       /* what runs is being killed */
    bool receiver_ended;
    int status;
    struct inbox inbox; /* of events */
    pthread_t receiver;
    /* for the receiver, under lock */
    pthread_mutex_t lock;
    pthread_cond_t wanted;
    uint32_t demand;     /* messages there is a free slot for, and none on its way */
    uint32_t on_the_way; /* received, and not yet taken from the inbox */
    bool quit;
};

static void post(struct runner *r, enum event_kind kind, struct sluice_batch *batch, int status)
{
    struct event *ev = mem_zalloc(sizeof *ev);
    *ev = (struct event){.kind = kind, .batch = batch, .status = status};
    inbox_push(&r->inbox, &ev->node, 0);
}

/* ---- receiving ---- */

/* Waits until messages are wanted; 0: none ever will be. */
static uint32_t wait_demand(struct runner *r)
{
    pthread_mutex_lock(&r->lock);
    while (r->demand == 0 && !r->quit)
        pthread_cond_wait(&r->wanted, &r->lock);
    uint32_t demand = r->quit ? 0 : r->demand;
    pthread_mutex_unlock(&r->lock);
    return demand;
}

/* Room for so many messages, those on their way included. */
static void set_room(struct runner *r, uint32_t room)
{
    pthread_mutex_lock(&r->lock);
    r->demand = room > r->on_the_way ? room - r->on_the_way : 0;
    pthread_cond_signal(&r->wanted);
    pthread_mutex_unlock(&r->lock);
}

/* A batch sets out (more), or is there (fewer). It took its part of the demand with it. */
static void set_on_the_way(struct runner *r, uint32_t more, uint32_t fewer)
{
    pthread_mutex_lock(&r->lock);
    r->on_the_way += more - fewer;
    r->demand = r->demand > more ? r->demand - more : 0;
    pthread_mutex_unlock(&r->lock);
}

static void set_quit(struct runner *r)
{
    pthread_mutex_lock(&r->lock);
    r->quit = true;
    pthread_cond_signal(&r->wanted);
    pthread_mutex_unlock(&r->lock);
}

/* Receives once; false: there is nothing more to do. */
static bool receive_once(struct runner *r, uint32_t demand)
{
    struct consumer *c = r->consumer;
    const struct sluice_receive_options options = {.size = sizeof options,
                                                   .max_messages = demand,
                                                   .wait_ms = c->exit_at_end ? END_SLICE_MS : WAIT_SLICE_MS};
    struct sluice_batch *b = NULL;
    struct sluice_error err = {0};
    int status = STATUS_OK;
    if (sluice_receive(c->client, c->topic, c->group, &options, &b, &err) != 0) {
        if (client_again(&err))
            return true;
        post(r, EVENT_FAILED, NULL, client_fail(&err, c->topic, c->group));
        return false;
    }
    if (sluice_batch_count(b) > 0) {
        set_on_the_way(r, (uint32_t)sluice_batch_count(b), 0);
        post(r, EVENT_BATCH, b, 0);
        return true;
    }
    sluice_batch_free(b);
    bool end = c->exit_at_end && consumer_at_end(c, &status);
    if (end || status != 0)
        post(r, end ? EVENT_AT_END : EVENT_FAILED, NULL, status);
    return !end && status == 0;
}

static void *receive_messages(void *arg)
{
    struct runner *r = arg;
    for (uint32_t demand; (demand = wait_demand(r)) != 0 && receive_once(r, demand);)
        ;
    post(r, EVENT_RECEIVER_ENDED, NULL, 0);
    return NULL;
}

/* ---- settling ---- */

static const struct sluice_delivery *message_of(const struct slot *s)
{
    return sluice_batch_message(s->load->batch, s->index);
}

/* On the library's thread. */
static void on_settled(void *user, size_t index, const struct sluice_error *error)
{
    (void)index;
    struct event *ev = user;
    if (error != NULL) {
        ev->code = error->code;
        memcpy(ev->text, error->text, sizeof ev->text);
    }
    inbox_push(&ev->runner->inbox, &ev->node, 0);
}

static void settle(struct runner *r, const struct slot *s, int verb, uint32_t delay_ms, const char *error)
{
    struct event *ev = mem_zalloc(sizeof *ev);
    *ev = (struct event){
        .kind = EVENT_SETTLED,
        .verb = verb,
        .runner = r,
        .slot = (uint32_t)(s - r->slots),
        .run = s->run,
        .partition = message_of(s)->partition,
        .offset = message_of(s)->offset,
    };
    const struct sluice_settle item = {
        .batch = s->load->batch, .index = s->index, .verb = verb, .delay_ms = delay_ms, .error = error,
        .reason = verb == SLUICE_PARK ? EXEC_PARK_REASON : NULL};
    struct sluice_error err = {0};
    int code;
    r->unanswered++;
    while ((code = sluice_settle_async(r->consumer->client, &item, 1, false, on_settled, ev, &err)) ==
           SLUICE_QUEUE_FULL)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    if (code != 0)
        on_settled(ev, 0, &err);
}

static const char *verb_name(int verb)
{
    return verb == SLUICE_ACK    ? "acknowledged"
           : verb == SLUICE_NACK ? "sent back"
           : verb == SLUICE_PARK ? "parked"
                                 : "given back";
}

static void begin_kill(struct runner *r, struct slot *s)
{
    if (s->kill_ms != 0)
        return;
    s->kill_ms = clock_mono_ms() + KILL_AFTER_MS;
    nursery_kill(&r->consumer->nursery, (uint32_t)(s - r->slots), SIGTERM);
}

/* An answer came. A lease that is lost ends the work on its message: somebody else has it now. */
static void settled(struct runner *r, const struct event *ev)
{
    r->unanswered--;
    if (ev->code == 0)
        return;
    struct slot *s = &r->slots[ev->slot];
    bool current = s->load != NULL && s->run == ev->run;
    if (ev->verb != SLUICE_EXTEND) {
        talk("%s/%" PRIu32 " offset %" PRIu64 " could not be %s: %s", r->consumer->topic, ev->partition,
             ev->offset, verb_name(ev->verb), ev->text);
        if (r->status == 0)
            r->status = status_of(ev->code);
    } else if (current && !s->lost && ev->code == SLUICE_LEASE_LOST) {
        talk("%s/%" PRIu32 " offset %" PRIu64 ": the lease is lost; the command is killed",
             r->consumer->topic, ev->partition, ev->offset);
        s->lost = true;
        r->status = r->status != 0 ? r->status : status_of(ev->code);
        begin_kill(r, s);
    }
}

/* ---- standard error of a command ---- */

static bool speaks(const struct slot *s)
{
    return s->load != NULL && s->stderr_fd >= 0;
}

static void read_stderr(struct slot *s)
{
    if (speech_read(&s->speech, s->stderr_fd))
        return;
    close(s->stderr_fd);
    s->stderr_fd = -1;
}

/* ---- running ---- */

int consumer_exec(struct consumer *c, uint32_t slot, const struct sluice_delivery *d, int *stderr_fd, struct err *e)
{
    struct buf env = {0};
    struct sluice_bytes name, value;
    env_put_message(&env, &(struct exec_message){.topic = d->topic,
                                                 .group = c->group,
                                                 .partition = d->partition,
                                                 .offset = d->offset,
                                                 .attempt = d->attempt,
                                                 .key = view_of(d->key.data, d->key.size)});
    for (size_t pos = 0; sluice_header_next(d, &pos, &name, &value);)
        env_put_header(&env, view_of(name.data, name.size), view_of(value.data, value.size));
    int code = exec_start(&c->nursery, slot, &env, view_of(d->value.data, d->value.size), stderr_fd, e);
    buf_free(&env);
    return code;
}

static struct slot *free_slot(struct runner *r)
{
    for (uint32_t i = 0; i < r->slots_count; i++) {
        if (r->slots[i].load == NULL)
            return &r->slots[i];
    }
    return NULL;
}

/* One holder less; with the last one, messages that were not settled are given back. */
static void let_go(struct load *l)
{
    if (--l->holders > 0)
        return;
    sluice_batch_free(l->batch);
    mem_free(l);
}

static void clear(struct runner *r, struct slot *s)
{
    if (s->stderr_fd >= 0)
        close(s->stderr_fd);
    let_go(s->load);
    s->load = NULL;
    s->stderr_fd = -1;
    r->running--;
}

/* No more messages; if `kill_all`, what runs is ended too. */
static void stop(struct runner *r, int status, bool kill_all)
{
    if (r->status == 0)
        r->status = status;
    r->no_more = true;
    set_quit(r);
    if (!kill_all || r->stopping)
        return;
    r->stopping = true;
    for (uint32_t i = 0; i < r->slots_count; i++) {
        if (r->slots[i].load != NULL)
            begin_kill(r, &r->slots[i]);
    }
}

static void run_message(struct runner *r, struct load *l, size_t index)
{
    struct slot *s = free_slot(r);
    struct err e;
    assert(s != NULL); /* what is received has a slot */
    s->load = l;
    l->holders++;
    s->index = index;
    s->run = ++r->runs;
    s->extend_ms = clock_mono_ms() + r->consumer->lease_ms / 3;
    s->kill_ms = 0;
    s->lost = false;
    s->stderr_fd = -1;
    speech_clear(&s->speech);
    r->running++;
    if (consumer_exec(r->consumer, (uint32_t)(s - r->slots), message_of(s), &s->stderr_fd, &e) != 0) {
        talk("%s", e.text);
        settle(r, s, SLUICE_RELEASE, 0, NULL);
        clear(r, s);
        stop(r, STATUS_ERROR, true);
    }
}

static void run_batch(struct runner *r, struct sluice_batch *b)
{
    size_t count = sluice_batch_count(b);
    set_on_the_way(r, 0, (uint32_t)count);
    if (r->no_more) {
        sluice_batch_free(b); /* gives it back */
        return;
    }
    struct load *l = mem_alloc(sizeof *l);
    *l = (struct load){b, 1};
    if (r->consumer->left != UINT64_MAX)
        r->consumer->left -= count;
    for (size_t i = 0; i < count && !r->stopping; i++)
        run_message(r, l, i);
    let_go(l);
    if (r->consumer->left == 0)
        stop(r, STATUS_OK, false);
}

/* ---- the end of a command ---- */

static void ended(struct runner *r, struct slot *s, int status)
{
    if (s->stderr_fd >= 0)
        read_stderr(s);
    speech_pass(&s->speech, true);
    char error[EXEC_ERROR_MAX];
    exec_error(error, status, s->speech.last);
    enum exec_verdict verdict = exec_verdict(status);
    if (s->lost)
        ;
    else if (verdict == EXEC_DONE)
        settle(r, s, SLUICE_ACK, 0, NULL);
    else if (s->kill_ms != 0)
        settle(r, s, SLUICE_RELEASE, 0, NULL);
    else if (verdict == EXEC_PARK)
        settle(r, s, SLUICE_PARK, 0, error);
    else
        settle(r, s, SLUICE_NACK, SLUICE_BACKOFF, error);
    clear(r, s);
}

/* ---- the loop ---- */

static void take_events(struct runner *r)
{
    struct inbox_node *n = inbox_drain(&r->inbox);
    while (n != NULL) {
        struct event *ev = container_of(n, struct event, node);
        n = n->next;
        if (ev->kind == EVENT_BATCH)
            run_batch(r, ev->batch);
        else if (ev->kind == EVENT_SETTLED)
            settled(r, ev);
        else if (ev->kind == EVENT_RECEIVER_ENDED)
            r->receiver_ended = true;
        else
            stop(r, ev->status, ev->kind == EVENT_FAILED);
        mem_free(ev);
    }
}

static void take_ended(struct runner *r)
{
    uint32_t slot;
    int status;
    enum nursery_news news;
    while ((news = nursery_next(&r->consumer->nursery, &slot, &status)) == NURSERY_ENDED)
        ended(r, &r->slots[slot], status);
    if (news != NURSERY_GONE)
        return;
    /* Its commands are dead; what they worked on is given back. */
    if (!r->stopping)
        talk("the process that runs commands was killed");
    stop(r, STATUS_ERROR, true);
    for (uint32_t i = 0; i < r->slots_count; i++) {
        if (r->slots[i].load != NULL)
            ended(r, &r->slots[i], SIGKILL);
    }
    nursery_stop(&r->consumer->nursery);
}

/* Does what is due; returns how long nothing else will be, in ms, -1: ever. */
static int keep_time(struct runner *r)
{
    uint64_t now_ms = clock_mono_ms(), next_ms = UINT64_MAX;
    for (uint32_t i = 0; i < r->slots_count; i++) {
        struct slot *s = &r->slots[i];
        if (s->load == NULL)
            continue;
        if (s->kill_ms != 0 && s->kill_ms <= now_ms) {
            nursery_kill(&r->consumer->nursery, i, SIGKILL);
            s->kill_ms = now_ms + KILL_AFTER_MS;
        }
        if (s->extend_ms <= now_ms && !s->lost) {
            settle(r, s, SLUICE_EXTEND, 0, NULL);
            s->extend_ms = now_ms + r->consumer->lease_ms / 3;
        }
        if (s->kill_ms != 0 && s->kill_ms < next_ms)
            next_ms = s->kill_ms;
        if (!s->lost && s->extend_ms < next_ms)
            next_ms = s->extend_ms;
    }
    return next_ms == UINT64_MAX ? -1 : (int)(next_ms - now_ms);
}

static void ask_for_more(struct runner *r)
{
    if (r->no_more)
        return;
    uint32_t free_slots = r->slots_count - r->running;
    uint64_t left = r->consumer->left;
    set_room(r, left < free_slots ? (uint32_t)left : free_slots);
}

/* Sleeps until something happens, and takes it. `fds` has room for three more than there are slots. */
static void turn(struct runner *r, struct pollfd *fds)
{
    nfds_t count = 3;
    fds[0] = (struct pollfd){.fd = inbox_fd(&r->inbox), .events = POLLIN};
    fds[1] = (struct pollfd){.fd = r->consumer->nursery.fd, .events = POLLIN};
    fds[2] = (struct pollfd){.fd = r->stopping ? -1 : stop_fd(), .events = POLLIN};
    for (uint32_t i = 0; i < r->slots_count; i++) { /* no more than are open: poll refuses to look at more */
        if (speaks(&r->slots[i]))
            fds[count++] = (struct pollfd){.fd = r->slots[i].stderr_fd, .events = POLLIN};
    }
    int wait_ms = keep_time(r);
    bool sleep = inbox_arm(&r->inbox);
    int ready = poll(fds, count, sleep ? wait_ms : 0);
    inbox_disarm(&r->inbox);
    if (ready > 0) {
        count = 3;
        for (uint32_t i = 0; i < r->slots_count; i++) {
            if (speaks(&r->slots[i]) && fds[count++].revents != 0)
                read_stderr(&r->slots[i]);
        }
        if (fds[1].revents != 0)
            take_ended(r);
        if (fds[2].revents != 0)
            stop(r, STATUS_OK, true);
    }
    take_events(r);
}

static void run_until_done(struct runner *r)
{
    struct pollfd *fds = mem_array(r->slots_count + 3, sizeof *fds);
    while (r->running > 0 || r->unanswered > 0 || !r->receiver_ended) {
        ask_for_more(r);
        turn(r, fds);
    }
    mem_free(fds);
}

int consume_exec(struct consumer *c)
{
    struct runner r = {.consumer = c, .slots_count = (uint32_t)args_number(c->args, "parallel", 1)};
    struct err e;
    if (inbox_init(&r.inbox, 0, &e) != 0) {
        talk("%s", e.text);
        return STATUS_ERROR;
    }
    pthread_mutex_init(&r.lock, NULL);
    pthread_cond_init(&r.wanted, NULL);
    r.slots = mem_array(r.slots_count, sizeof *r.slots);
    int code = pthread_create(&r.receiver, NULL, receive_messages, &r);
    if (code == 0) {
        run_until_done(&r);
        pthread_join(r.receiver, NULL);
    } else {
        talk("cannot start a thread: %s", strerror(code));
        r.status = STATUS_ERROR;
    }
    for (uint32_t i = 0; i < r.slots_count; i++)
        speech_free(&r.slots[i].speech);
    mem_free(r.slots);
    inbox_free(&r.inbox);
    return r.status;
}
